"""What the Map page shows of a run, gathered once per run: places, pick numbers, clusters, colours, curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from numpy.typing import NDArray

from delift_core import figures
from delift_core.figures import Theme, points
from delift_core.insight import spread
from delift_core.insight.clusters import cluster
from delift_core.insight.curve import knee, running_tokens, shares
from delift_core.insight.groups import categories, levels, ranks
from delift_core.insight.region import inside
from delift_core.registry import METHODS
from delift_core.runs.run import Run
from delift_core.types import Dataset, Doubles, Floats, Indices
from pages import _knowledgeview as knowledge
from pages import _widgets as widgets
from pages._widgets import version_of

TABLE_ROWS = 500
CURVE, GAINS = "map_curve", "map_gains"  # element keys, also the names of their CSS classes: no dots
ALL, INSIDE = "all rows", "inside the outline"
STABILITY, KNOWLEDGE, FIELD = "stability", "knowledge", "field: "  # colours
_TEXT = 160


@dataclass(frozen=True, eq=False)
class MapView:
    """A run's rows as the page needs them; `places` is empty until the map is drawn."""

    run: Run
    pool: Dataset
    places: Mapping[str, Floats]
    frequency: Doubles | None = None  # (n,) share of replicates that pick each row, where that was measured

    @cached_property
    def rank(self) -> Indices:
        """(n,) pick number of each row, from 0; -1 for a row that is not in the order."""
        return ranks(self.run.selection.order, len(self.pool))

    @cached_property
    def in_pick_order(self) -> Indices:
        """(n,) all rows: in pick order, then those that were never picked."""
        late = np.where(self.rank < 0, len(self.pool), self.rank)
        return np.argsort(late, kind="stable").astype(np.int64)

    @cached_property
    def _ids(self) -> pa.ChunkedArray:
        return self.pool.table["id"]

    def id_of(self, row: int) -> str:
        """The id of a row."""
        return str(self._ids[row].as_py())

    def row_of(self, name: str) -> int | None:
        """The row with this id; None where there is none."""
        row: int = pc.index(self._ids, pa.scalar(name, self._ids.type)).as_py()
        return None if row < 0 else row

    def step(self, row: int | None, by: int) -> int | None:
        """The pick after (by 1) or before (by -1) a row; the first pick where no row of the order is given."""
        order = self.run.selection.order
        rank = -1 if row is None else int(self.rank[row])
        to = rank + by if rank >= 0 else 0
        return int(order[to]) if 0 <= to < len(order) else None

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
        return points.geometry(self.places, self.rank, self._ids, key=self.run.id)

    @cached_property
    def _spread(self) -> Indices:
        return spread.spread(self.places["pool"])

    def part(self, k: int, always: Sequence[int] | Indices) -> points.Part | None:
        """The rows that are drawn one by one where the pool is too large to draw all; None where all are."""
        if len(self.pool) <= points.MOST_ROWS:
            return None
        marked = np.asarray(always, dtype=np.int64)
        rows = spread.shown(self._spread, self.chosen(k), marked, points.MOST_SHOWN)
        return points.Part(rows, self.rank[rows], self._ids.take(pa.array(rows)))

    def chosen(self, k: int) -> NDArray[np.bool_]:
        """(n,) True for the rows that a budget of k rows keeps."""
        return (self.rank >= 0) & (self.rank < k)

    @cached_property
    def _colourings(self) -> dict[tuple[str, Theme], points.Colouring]:
        return {}

    def colouring(self, name: str, theme: Theme, k: int) -> points.Colouring:
        """Colours by one of `colour_names`; made once, but for knowledge, the only one that a budget changes."""
        if name == KNOWLEDGE and self._known:
            codes, labels, colours = knowledge.colour_codes(self.run, len(self.pool), k, theme)
            return points.by_label(codes, labels, colours, KNOWLEDGE)
        if (name, theme) not in self._colourings:
            self._colourings[name, theme] = self._colour(name, theme)
        return self._colourings[name, theme]

    def _colour(self, name: str, theme: Theme) -> points.Colouring:
        if name in ("gain", "score"):
            title = "gain of the pick" if name == "gain" else "score"
            return points.by_level(levels(self.gains, points.LEVELS), self.gains, title, theme=theme)
        if name == STABILITY and self.frequency is not None:
            found = levels(self.frequency, points.LEVELS)
            return points.by_level(found, self.frequency, "share of replicates that pick the row", theme=theme)
        if name == "cluster":
            labels = [f"cluster {i + 1}" for i in range(int(self.clusters.max(initial=-1)) + 1)]
            return points.by_category(self.clusters, labels, "cluster")
        if name.startswith(FIELD):
            codes, labels = categories(self.pool.group(name.removeprefix(FIELD)))
            return points.by_category(codes, labels, name.removeprefix(FIELD))
        return points.by_membership(len(self.pool), theme=theme)

    @cached_property
    def _known(self) -> bool:
        return any(part == "pool" for part, _ in knowledge.measures(self.run))

    def colour_names(self) -> list[str]:
        """What the map can be coloured by; the gains of a ranking are its scores."""
        method = METHODS.get(self.run.config.method)
        gain = "score" if method is not None and method.objective == "top-k" else "gain"
        measured = [*([STABILITY] if self.frequency is not None else []), *([KNOWLEDGE] if self._known else [])]
        return ["membership", gain, "cluster", *measured, *(FIELD + name for name in self.pool.fields)]

    def layer(
        self,
        name: str,
        theme: Theme,
        k: int,
        focus: int | None,
        outline: Doubles | None,
        *,
        pinned: Sequence[int] | Indices = (),
        banned: Sequence[int] | Indices = (),
    ) -> tuple[bytes, points.Part | None]:
        """The message to the browser that colours the points, and the part of the rows that it draws one by one.

        `pinned` and `banned` are row indices that get a mark on top.
        """
        part = self.part(k, [*pinned, *banned, *([] if focus is None else [focus])])
        message = points.layer(
            self.colouring(name, theme, k), self.chosen(k), key=self.run.id, focus=focus, outline=outline,
            pinned=pinned, banned=banned, part=part,
        )  # fmt: skip
        return message, part

    @cached_property
    def _curves(self) -> dict[Theme, dict[str, Any]]:
        return {}

    def curves(self, theme: Theme) -> dict[str, Any]:
        """Value and gain of the whole order by element key: the same figures for every budget."""
        if theme not in self._curves:
            order = self.run.selection
            value = figures.curve(order, None, knee=self.knee, tokens=self.tokens, theme=theme, height=330)
            self._curves[theme] = {CURVE: value, GAINS: figures.gain_curve(order, None, theme=theme, height=230)}
        return self._curves[theme]

    def cut(self, k: int) -> dict[str, float]:
        """Height of each of the curves at budget k, by element key; NaN at no rows."""
        order = self.run.selection
        if not 1 <= k <= len(order):
            return {CURVE: float("nan"), GAINS: float("nan")}
        share = float(shares(order.value[[k - 1]], order.full_value)[0])
        value = 100 * share if order.full_value > 0 else float(order.value[k - 1])
        return {CURVE: value, GAINS: float(order.gains[k - 1])}

    def filters(self, colouring: points.Colouring, outlined: bool) -> dict[str, int | None]:
        """What the table can be narrowed to: a name, and for the groups of the colouring their number."""
        groups = ("rejected", "selected") if colouring.membership else colouring.groups
        named = {f"{colouring.title}: {label}": code for code, label in enumerate(groups)}
        return {ALL: None, **({INSIDE: None} if outlined else {}), **named}

    def rows_of(
        self, name: str, code: int | None, colouring: points.Colouring, k: int, outline: Doubles | None
    ) -> Indices:
        """The rows of one of `filters`, in pick order."""
        if name == INSIDE and outline is not None:
            held = inside(self.places["pool"], outline)
        elif code is None:
            return self.in_pick_order
        elif colouring.membership:
            held = self.chosen(k) == bool(code)
        else:
            held = colouring.codes == code
        return self.in_pick_order[held[self.in_pick_order]]

    def kept(self, rows: Indices, k: int) -> int:
        """How many of the rows a budget of k rows keeps."""
        return int(self.chosen(k)[rows].sum())

    def table(self, rows: Indices, k: int) -> pa.Table:
        """The given rows as a table."""
        taken = self.pool.table.select(["id", "prompt", "response"]).take(pa.array(rows))
        rank, gains = self.rank[rows], self.gains[rows]
        return pa.table({
            "id": taken["id"],
            "selected": self.chosen(k)[rows],
            "pick": pa.array(rank + 1, mask=rank < 0),
            "gain": pa.array(gains, mask=np.isnan(gains)),
            **{name: pc.utf8_slice_codeunits(taken[name], 0, _TEXT) for name in ("prompt", "response")},
        })  # fmt: skip

    def facts(self, row: int, most: int = 6) -> list[tuple[str, str]]:
        """What stands in the first fields of one row, by name."""
        values = ((name, self.pool.table[f"field.{name}"][row].as_py()) for name in self.pool.fields[:most])
        return [(name, value) for name, value in values if value is not None]


def map_view(run: Run, pool: Dataset) -> MapView:
    """The view of a run, kept until its map is drawn anew or its stability is measured."""
    stamps = [_stamp(run, name) for name in ("map.npy", "stability.npz")]
    return _view(os.environ.get("DELIFT_HOME", ""), version_of(run), run.id, *stamps, run, pool)


def _stamp(run: Run, name: str) -> int:
    path = run.folder / name
    return path.stat().st_mtime_ns if path.is_file() else 0


@st.cache_resource(show_spinner="Reading the run", max_entries=8)
def _view(home: str, version: str, run_id: str, drawn: int, measured: int, _run: Run, _pool: Dataset) -> MapView:
    return MapView(_run, _pool, _run.map() or {}, _frequency(run_id) if measured else None)


def _frequency(run_id: str) -> Doubles | None:
    from delift_core.review import (
        stability,  # scipy and the solver behind it are only read when there is something to read
    )

    found = stability.read(widgets.workspace(), run_id)
    return None if found is None else found.frequency
