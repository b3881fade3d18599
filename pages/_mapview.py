"""What the Map page shows of a run, gathered once per run: places, pick numbers, ids, clusters, colours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from delift_core.figures import Theme, points
from delift_core.insight.clusters import cluster
from delift_core.insight.curve import knee, running_tokens
from delift_core.insight.groups import categories, levels, ranks
from delift_core.runs.run import Run
from delift_core.types import Dataset, Doubles, Floats, Indices

TABLE_ROWS = 500
_TEXT = 160


@dataclass(frozen=True, eq=False)
class MapView:
    """A run's rows as the page needs them; `places` is empty until the map is drawn."""

    run: Run
    pool: Dataset
    places: Mapping[str, Floats]

    @cached_property
    def rank(self) -> Indices:
        """(n,) pick number of each row, from 0; -1 for a row that is not in the order."""
        return ranks(self.run.selection.order, len(self.pool))

    @cached_property
    def ids(self) -> list[str]:
        """(n,) ids."""
        return list(self.pool.ids)

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Row index by id."""
        return {name: i for i, name in enumerate(self.ids)}

    @cached_property
    def copy_of(self) -> Indices:
        """(n,) index of the first row with the same text."""
        copies: Indices = self.pool.table["copy_of"].to_numpy()
        return copies

    @cached_property
    def gains(self) -> Doubles:
        """(n,) gain of each row when it was picked; NaN where it was not."""
        gains = np.full(len(self.pool), np.nan)
        gains[self.run.selection.order] = self.run.selection.gains
        return gains

    @cached_property
    def tokens(self) -> Indices | None:
        """(K,) tokens of the first 1..K picks, where they were counted."""
        counted = self.run.tokens
        return None if counted is None else running_tokens(counted, np.arange(len(counted)))

    @cached_property
    def knee(self) -> int | None:
        """Where the value curve bends."""
        return knee(self.run.selection.value)

    @cached_property
    def clusters(self) -> Indices:
        """(n,) cluster of each row on the map."""
        return cluster(self.places["pool"], seed=self.run.config.seed)

    @cached_property
    def geometry(self) -> bytes:
        """The message to the browser that says where every point is."""
        return points.geometry(self.places, self.rank, self.ids, key=self.run.id)

    def candidates(self) -> int:
        """How many rows a percentage is of: all, or each exact copy once."""
        return len(self.pool) if self.run.config.keep_duplicates else len(self.pool.unique)

    def chosen(self, k: int) -> NDArray[np.bool_]:
        """(n,) True for the rows that a budget of k rows keeps."""
        return (self.rank >= 0) & (self.rank < k)

    @cached_property
    def _colourings(self) -> dict[tuple[str, Theme], points.Colouring]:
        return {}

    def colouring(self, name: str, theme: Theme) -> points.Colouring:
        """Colours by "membership", "gain", "cluster" or "field: NAME"; made once, as a budget changes none of them."""
        if (name, theme) not in self._colourings:
            self._colourings[name, theme] = self._colour(name, theme)
        return self._colourings[name, theme]

    def _colour(self, name: str, theme: Theme) -> points.Colouring:
        if name == "gain":
            return points.by_level(levels(self.gains, points.LEVELS), self.gains, "gain of the pick", theme=theme)
        if name == "cluster":
            labels = [f"cluster {i + 1}" for i in range(int(self.clusters.max(initial=-1)) + 1)]
            return points.by_category(self.clusters, labels, "cluster")
        if name.startswith(FIELD):
            codes, labels = categories(self.pool.group(name.removeprefix(FIELD)))
            return points.by_category(codes, labels, name.removeprefix(FIELD))
        return points.by_membership(len(self.pool))

    def colour_names(self) -> list[str]:
        """What the map can be coloured by."""
        return ["membership", "gain", "cluster", *(FIELD + name for name in self.pool.fields)]

    def layer(self, name: str, theme: Theme, k: int, focus: int | None, outline: Doubles | None) -> bytes:
        """The message to the browser that colours the points: one byte per row."""
        return points.layer(self.colouring(name, theme), self.chosen(k), key=self.run.id, focus=focus, outline=outline)

    def by_pick(self, rows: Indices) -> Indices:
        """The rows in pick order, those that were never picked last."""
        late = np.where(self.rank[rows] < 0, len(self.pool), self.rank[rows])
        return rows[np.argsort(late, kind="stable")]

    def table(self, rows: Indices, k: int) -> pd.DataFrame:
        """The given rows as a table."""
        taken = self.pool.table.select(["prompt", "response"]).take(rows)
        texts = {name: [(text or "")[:_TEXT] for text in taken[name].to_pylist()] for name in taken.column_names}
        columns: dict[str, Any] = {
            "id": [self.ids[i] for i in rows],
            "selected": self.chosen(k)[rows],
            "pick": pd.array([r + 1 if r >= 0 else None for r in self.rank[rows]], dtype="Int64"),
            "gain": self.gains[rows],
            **texts,
        }
        return pd.DataFrame(columns)

    def standing(self, row: int, k: int) -> str:
        """Where one row stands at budget k, in one sentence."""
        rank = int(self.rank[row])
        if rank < 0:
            first = int(self.copy_of[row])
            if first != row:
                return f"Rejected: an exact copy of row {self.ids[first]}."
            return f"Rejected: not among the {len(self.run.selection):,} rows that were ranked."
        where = f"pick {rank + 1:,} of {len(self.run.selection):,}, gain {self.gains[row]:.3g}"
        if rank < k:
            return f"Selected: {where}."
        if not self.run.selection.nested:
            return f"Rejected: {where}."
        return f"Rejected: {where}. It enters at a budget of {rank + 1:,} rows."


FIELD = "field: "


def map_view(run: Run, pool: Dataset) -> MapView:
    """The view of a run, kept until its map is drawn anew."""
    path = run.folder / "map.npy"
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _view(os.environ.get("DELIFT_HOME", ""), run.id, run.k, stamp, run, pool)


@st.cache_resource(show_spinner="Reading the run", max_entries=8)
def _view(home: str, run_id: str, k: int, stamp: int, _run: Run, _pool: Dataset) -> MapView:
    return MapView(_run, _pool, _run.map() or {})
