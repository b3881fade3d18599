"""Finished runs side by side: which ones, and their rows matched once for maps, curves and tables of any budget."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from delift_core import pipeline
from delift_core.errors import DeliftError
from delift_core.figures import Theme, points
from delift_core.figures.comparison import Line, in_how_many, of_two
from delift_core.insight.compare import Comparison, Lineup, compare
from delift_core.insight.curve import shares
from delift_core.runs.records import RunRecord
from delift_core.runs.run import Run
from delift_core.types import Dataset, Doubles, Floats, Indices
from pages import _widgets as widgets
from pages._rulesform import rules_of, rules_text

WITH = "with"  # query parameter: ids of the compared runs, joined by commas
RUNS, WRITTEN = "compare.runs", "_compare.written"
MOST = 4
TABLE_ROWS = 200
AT_ONCE = 20_000_000  # pairs that are read without being asked for: a third of a second
_TEXT = 160


def ask_comparison() -> None:
    """On the Run page: the way to the Compare page, once there are two finished runs."""
    if len(finished_runs()) >= 2:
        st.page_link("pages/compare.py", label="Compare finished runs", icon=":material/compare_arrows:")


# --- which runs ----------------------------------------------------------------------------------------------------


def finished_runs() -> dict[str, RunRecord]:
    """Finished runs that this version can read, by id."""
    return {r.id: r for r in widgets.workspace().catalogue.runs() if r.state == "done" and _readable(r)}


def _readable(record: RunRecord) -> bool:
    try:
        return bool(record.config)
    except DeliftError:  # written by a version that is too old or too new; its card says so
        return False


def label(record: RunRecord) -> str:
    """A run in one line, as text."""
    config = record.config
    pool = widgets.clip(widgets.dataset_name(config.pool), 30)
    rules = widgets.clip(rules_text(rules_of(config)), 60)
    told = f"{config.method}, {config.budget} of {pool}, seed {config.seed}{f'; {rules}' if rules else ''}"
    return f"{record.id[:8]}: {told}"


def choose_runs(finished: Mapping[str, RunRecord]) -> list[str]:
    """Two to four runs.  The URL says which, so that a comparison can be shared; else the current run and a like one.

    What a URL names and is not there is said.
    """
    asked = st.query_params.get(WITH)
    held: list[str] | None = st.session_state.get(RUNS)
    if asked is not None and asked != st.session_state.get(WRITTEN):
        named = list(dict.fromkeys(filter(None, asked.split(","))))
        missing = [name for name in named if name not in finished]
        if missing:
            listed = ", ".join(widgets.clip(name, 20) for name in missing[:MOST])
            st.warning(widgets.escape(f"No finished run is called {listed}. It was left out."))
        st.session_state[RUNS] = [name for name in named if name in finished][:MOST]
    elif held is None:
        st.session_state[RUNS] = _first_choice(finished)
    elif any(name not in finished for name in held):
        st.session_state[RUNS] = [name for name in held if name in finished]
    chosen = st.multiselect(
        "Two to four finished runs", list(finished), format_func=lambda name: label(finished[name]), key=RUNS,
        max_selections=MOST, placeholder="Choose runs", persist_state="session", select_all=False, wrap=True,
    )  # fmt: skip
    written = ",".join(chosen)
    st.session_state[WRITTEN] = written
    if st.query_params.get(WITH) != written:
        st.query_params[WITH] = written
    return list(chosen)


def _first_choice(finished: Mapping[str, RunRecord]) -> list[str]:
    """The current run, and the newest other one over the same pool."""
    current = widgets.current_run_id()
    if current not in finished:
        return []
    pool = finished[current].config.pool
    like = [r for r in finished.values() if r.id != current and r.config.pool == pool]
    return [current, *([max(like, key=lambda r: r.created).id] if like else [])]


# --- what they come to ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CompareView:
    """Compared runs as the page needs them.  A row goes by its number in the lineup."""

    runs: list[Run]
    pools: list[Dataset]
    lineup: Lineup

    @property
    def names(self) -> list[str]:
        """What the runs are called."""
        return self.lineup.names

    @property
    def one_pool(self) -> bool:
        """Whether all runs chose from the same dataset."""
        return len({pool.fingerprint for pool in self.pools}) == 1

    @property
    def own(self) -> list[int]:
        """(E,) the budget of each run."""
        return [run.k for run in self.runs]

    @property
    def worth_at_once(self) -> bool:
        """Whether the utilities are small enough to be read without asking."""
        return self.lineup.effort <= AT_ONCE

    @property
    def valued(self) -> list[int]:
        """Places of the runs that stored how their pool helps itself."""
        return [place for place, entry in enumerate(self.lineup.entries) if entry.utility is not None]

    @cached_property
    def ids(self) -> list[str]:
        """(M,) the id of each row."""
        if self.one_pool:
            return list(self.pools[0].ids)
        found = [""] * self.lineup.count
        for pool, numbers in zip(self.pools, self.lineup.numbers, strict=True):
            for name, number in zip(pool.ids, numbers.tolist(), strict=True):
                found[number] = name
        return found

    @cached_property
    def number_of(self) -> dict[str, int]:
        """A row's number by its id."""
        return {name: number for number, name in enumerate(self.ids)}

    @cached_property
    def columns(self) -> list[str]:
        """Columns that every pool has."""
        return [name for name in self.pools[0].fields if all(name in pool.fields for pool in self.pools)]

    @cached_property
    def _labels(self) -> dict[str, list[list[str | None]]]:
        return {}

    def comparison(self, sizes: Sequence[int], by: str | None, *, worths: bool) -> Comparison:
        """What insight says of these budgets; a new one only looks things up."""
        if by is not None and by not in self._labels:
            self._labels[by] = [pool.group(by) for pool in self.pools]
        return compare(self.lineup, sizes=sizes, worths=worths, labels=None if by is None else self._labels[by])

    # maps

    @cached_property
    def places(self) -> Floats | None:
        """(N, 2) the pool's map, of the first run that has one; None where there is none, or the pools differ."""
        drawn = (run.map() for run in self.runs) if self.one_pool else ()
        return next((found["pool"] for found in drawn if found is not None), None)

    @cached_property
    def _geometries(self) -> dict[int | None, bytes]:
        return {}

    def map_key(self, place: int | None) -> str:
        """What ties a layer to its canvas: the map of one run, or of all."""
        return f"compare.{'all' if place is None else place}.{'.'.join(run.id for run in self.runs)}"

    def geometry(self, place: int | None) -> bytes:
        """The map of one run, for the browser: the shared places and the run's pick numbers; of all, the earliest."""
        assert self.places is not None
        if place not in self._geometries:
            ranks = self.lineup.earliest if place is None else self.lineup.ranks[place]
            self._geometries[place] = points.geometry(
                {"pool": self.places}, ranks, self.ids, key=self.map_key(place), lasso=False
            )  # fmt: skip
        return self._geometries[place]

    def layer_of_two(self, place: int, pair: Sequence[int], sizes: Sequence[int], theme: Theme, focus: Any) -> bytes:
        """The map of one run of a pair: colours say which of the two pick a row, size whether this one does."""
        chosen = self.lineup.chosen(sizes)
        colours = of_two(chosen[pair[0]], chosen[pair[1]], [self.names[i] for i in pair], theme)
        return points.layer(colours, chosen[place], key=self.map_key(place), focus=focus)

    def layer_of_all(self, sizes: Sequence[int], theme: Theme, focus: Any) -> bytes:
        """One map of all runs: in how many of them each row is picked."""
        held = self.lineup.chosen(sizes).sum(axis=0)
        return points.layer(in_how_many(held, len(self.runs), theme), held > 0, key=self.map_key(None), focus=focus)

    # curves

    def overlaps(self, sizes: Sequence[int]) -> tuple[list[Line], Doubles | None]:
        """For each two runs that are nested, the share of the first k picks in common; and what chance would share."""
        lines, pools = [], set()
        for one in range(len(self.runs)):
            for two in range(one + 1, len(self.runs)):
                longest = min(len(self.lineup.orders[one]), len(self.lineup.orders[two]))
                if all(self.runs[i].selection.nested for i in (one, two)) and longest:
                    y = self.lineup.overlap(one, two, np.arange(1, longest + 1))
                    name = f"{self.names[one]} and {self.names[two]}"
                    lines.append(Line(name, y, min(sizes[one], sizes[two])))
                    pools.add(self.lineup.shared_pool(one, two))
        pool = pools.pop() if len(pools) == 1 else None
        longest = max((len(line.y) for line in lines), default=0)
        return lines, np.arange(1, longest + 1) / pool if pool else None

    def values(self, sizes: Sequence[int], under: int | None) -> list[Line]:
        """Value curves: each under its own objective, or all under the utility of one run."""
        lines = []
        for place, run in enumerate(self.runs):
            if under is not None:
                y = shares(self.lineup.worth(place, under), self.lineup.whole(under))
            else:
                y = shares(run.selection.value, run.selection.full_value)
            if np.isfinite(y).any():
                lines.append(Line(self.names[place], y, sizes[place]))
        return lines

    # rows

    def text(self, number: int) -> tuple[Dataset, int]:
        """A dataset that has the row, and its index there."""
        for pool, rows in zip(self.pools, self.lineup.rows, strict=True):
            if rows[number] >= 0:
                return pool, int(rows[number])
        raise KeyError(number)

    def standing(self, number: int, sizes: Sequence[int]) -> list[str]:
        """Where a row stands in each run, a line each."""
        told = []
        for place, name in enumerate(self.names):
            rank = int(self.lineup.ranks[place, number])
            if self.lineup.rows[place][number] < 0:
                told.append(f"{name}: not in its pool")
            elif rank < 0:
                told.append(f"{name}: not among the {len(self.lineup.orders[place]):,} rows that it ranked")
            else:
                kept = "picked" if rank < sizes[place] else "rejected"
                told.append(f"{name}: {kept}, pick {rank + 1:,} of {len(self.lineup.orders[place]):,}")
        return told

    def table(self, numbers: Indices) -> pd.DataFrame:
        """Rows as a table: ids, pick number in each run, texts."""
        columns: dict[str, Any] = {"id": [self.ids[i] for i in numbers]}
        for place, name in enumerate(self.names):
            ranks = self.lineup.ranks[place, numbers]
            columns[f"pick in {name}"] = pd.array([r + 1 if r >= 0 else None for r in ranks], dtype="Int64")
        found = [self.text(int(i)) for i in numbers]
        columns["prompt"] = [(pool.prompts[row] or "")[:_TEXT] for pool, row in found]
        columns["response"] = [(pool.responses[row] or "")[:_TEXT] for pool, row in found]
        return pd.DataFrame(columns)

    def row_sets(self, sizes: Sequence[int]) -> dict[str, Indices]:
        """The always-in core, and the rows that one run alone wants, as numbers."""
        sets = {"every run": self.lineup.core(sizes)}
        return sets | {f"only {name}": self.lineup.only(i, sizes) for i, name in enumerate(self.names)}


def compare_view(ids: Sequence[str], finished: Mapping[str, RunRecord]) -> CompareView:
    """The view of these runs, kept until one of them is run again or a map is drawn; DeliftError where one is gone."""
    ws = widgets.workspace()
    maps = [ws.run_folder(name) / "map.npy" for name in ids]
    stamp = tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in maps)
    runs = [widgets.open_run_cached(finished[name]) for name in ids]
    versions = tuple(widgets.version_of(run) for run in runs)
    return _view(os.environ.get("DELIFT_HOME", ""), tuple(ids), versions, stamp, runs)


@st.cache_resource(show_spinner="Matching the rows", max_entries=4)
def _view(
    home: str, ids: tuple[str, ...], versions: tuple[str, ...], stamp: tuple[int, ...], _runs: list[Run]
) -> CompareView:
    pools = [widgets.open_dataset_cached(run.config.pool) for run in _runs]
    return CompareView(_runs, pools, pipeline.lineup(widgets.workspace(), _runs))
