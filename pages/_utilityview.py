"""What the Utility page shows of one stored utility, gathered once: order, overview, effects, names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from delift_core.insight.clusters import by_cluster_then_rank, cluster, profiles
from delift_core.insight.groups import ranks
from delift_core.insight.overview import Effects, Overview, cells_of, effects, overview
from delift_core.runs.run import Part, Run
from delift_core.types import Dataset, Floats, Indices, Kind, Utility
from pages._mapview import MapView, version_of

EXACT_SIDE = 40  # single pairs on each side when a block is opened


@dataclass(frozen=True)
class Measure:
    """What the model measures on one row without and with an example, as text."""

    name: str
    before: str
    after: str
    utility: str


@dataclass(frozen=True, eq=False)
class UtilityView:
    """One utility of a run, its rows and columns ordered by cluster and then by pick."""

    run: Run
    part: Part
    utility: Utility
    overview: Overview
    effects: Effects
    helped_ids: Sequence[str]  # (R,)
    candidate_ids: Sequence[str]  # (C,)
    rank: Indices  # (C,) pick number of each candidate; -1 for one that is not in the order
    row_order: str  # how rows and columns were put in order, in words
    column_order: str

    @cached_property
    def helped_at(self) -> dict[str, int]:
        """Position of a helped row by id."""
        return {name: i for i, name in enumerate(self.helped_ids)}

    @cached_property
    def candidate_at(self) -> dict[str, int]:
        """Position of a candidate by id."""
        return {name: j for j, name in enumerate(self.candidate_ids)}

    def chosen(self, k: int) -> NDArray[np.bool_]:
        """(C,) candidates that a budget of k rows keeps."""
        return (self.rank >= 0) & (self.rank < k)

    def has_block(self, row: Any, column: Any) -> bool:
        """True for the place of a block; what a browser sends is checked."""
        rows, columns = self.overview.values.shape
        return isinstance(row, int) and isinstance(column, int) and 0 <= row < rows and 0 <= column < columns

    def exact(self, block: Sequence[int]) -> tuple[Indices, Indices, Floats]:
        """Positions and values of the single pairs of a block and around it, about 40 x 40."""
        rows = around(self.overview.rows, self.overview.row_edges, block[0])
        columns = around(self.overview.columns, self.overview.column_edges, block[1])
        return rows, columns, cells_of(self.utility, rows, columns)

    def pair_in(self, block: Sequence[int], row: Any, column: Any) -> tuple[str, str] | None:
        """Ids of the pair at a place of the opened block; None for a place that is not there."""
        rows, columns, values = self.exact(block)
        whole = isinstance(row, int) and isinstance(column, int)
        if not whole or not (0 <= row < values.shape[0] and 0 <= column < values.shape[1]):
            return None
        return self.helped_ids[rows[row]], self.candidate_ids[columns[column]]

    def measures(self, i: int, j: int) -> list[Measure]:
        """Every stored measure of the pair at positions i, j; empty when the pair was not scored."""
        found = []
        for kind in (k for p, k in self.run.utilities if p == self.part):
            stored = self.run.utility(self.part, kind)
            value = float(cells_of(stored, np.array([i]), np.array([j]))[0, 0])
            if np.isnan(value):
                continue
            before = None if stored.baseline is None else float(stored.baseline[i])
            found.append(_measure(kind, value, before))
        return found


def around(order: Indices, edges: Indices, block: int, side: int = EXACT_SIDE) -> Indices:
    """The positions of a block and of its neighbourhood, `side` of them where there are as many."""
    start, stop = int(edges[block]), int(edges[block + 1])
    extra = max(0, side - (stop - start))
    start = max(0, min(start - extra // 2, len(order) - max(side, stop - start)))
    return order[start : max(stop, start + side)]


def _measure(kind: Kind, value: float, before: float | None) -> Measure:
    if kind in ("cosine", "centred") or before is None:
        return Measure(f"{kind}, no baseline", "–", "–", f"{value:+.4f}")
    if kind == "l2":
        return Measure("distance without an example", f"{before:.4f}", f"{before - value:.4f}", f"{value:+.4f}")
    # The baseline of pmi is a mean log probability; its negative is the loss that people know.
    loss = "loss without an example, nats per token"
    return Measure(loss, f"{-before:.4f}", f"{-before - value:.4f}", f"{value:+.4f}")


@dataclass(frozen=True, eq=False)
class _Ordered:
    """What does not depend on what a block shows."""

    utility: Utility
    rows: Indices  # (R,) positions, in the order shown
    columns: Indices  # (C,)
    effects: Effects
    helped_ids: Sequence[str]
    candidate_ids: Sequence[str]
    rank: Indices  # (C,)
    row_order: str
    column_order: str


def utility_view(
    run: Run, part: Part, kind: Kind, how: Any, helped: Dataset, candidates: Dataset, map_: MapView
) -> UtilityView:
    """The view of one stored utility, kept until the run's map is drawn anew."""
    home = os.environ.get("DELIFT_HOME", "")
    return _view(home, version_of(run), run.id, part, kind, how, bool(map_.places), run, helped, candidates, map_)


@st.cache_resource(show_spinner="Summarising the utility", max_entries=8)
def _view(
    home: str, version: str, run_id: str, part: Part, kind: Kind, how: Any, mapped: bool,
    _run: Run, _helped: Dataset, _candidates: Dataset, _map: MapView,
) -> UtilityView:  # fmt: skip
    found = _ordered(home, version, run_id, part, kind, mapped, _run, _helped, _candidates, _map)
    return UtilityView(
        _run, part, found.utility, overview(found.utility, found.rows, found.columns, how), found.effects,
        found.helped_ids, found.candidate_ids, found.rank, found.row_order, found.column_order,
    )  # fmt: skip


@st.cache_resource(show_spinner="Putting rows and columns in order", max_entries=8)
def _ordered(
    home: str, version: str, run_id: str, part: Part, kind: Kind, mapped: bool,
    _run: Run, _helped: Dataset, _candidates: Dataset, _map: MapView,
) -> _Ordered:  # fmt: skip
    utility = _run.utility(part, kind)
    pool_rank = ranks(_run.selection.order, len(_map.pool))
    none = np.full(len(utility.candidates), -1, np.int64)
    rank = pool_rank[utility.candidates] if part != "existing" else none
    helped_rank = pool_rank[utility.helped] if part != "target" else np.full(len(utility.helped), -1, np.int64)
    places = _map.places
    rows_of, columns_of = ("target" if part == "target" else "pool"), ("existing" if part == "existing" else "pool")
    if rows_of in places and columns_of in places:
        row_points, column_points = places[rows_of][utility.helped], places[columns_of][utility.candidates]
        grouped = "by cluster on the map"
    else:
        row_points, column_points = profiles(utility.values), profiles(utility.values.T)
        grouped = "by like utility"
    picked = f"{grouped}, then by pick"  # only rows of the pool are picked
    return _Ordered(
        utility,
        by_cluster_then_rank(cluster(row_points), helped_rank),
        by_cluster_then_rank(cluster(column_points), rank),
        effects(utility, same=part == "pool"),
        _helped.table["id"].take(utility.helped).to_pylist(),
        _candidates.table["id"].take(utility.candidates).to_pylist(),
        rank,
        grouped if part == "target" else picked,
        grouped if part == "existing" else picked,
    )
