"""What the model knows before and after: each row without help, with the best chosen example, with the pool's best."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from delift_core import figures
from delift_core.figures import Theme
from delift_core.figures.knowledge import MOST_POINTS, before_after, colour, counts
from delift_core.insight import knowledge as insight
from delift_core.insight.coverage import places
from delift_core.insight.knowledge import LABELS, UNSCORED, Best, Knowledge, Thresholds
from delift_core.runs.run import Part, Run
from delift_core.types import Dataset, Indices, Kind
from pages import _widgets as widgets

TABLE_ROWS = 200
PARTS: tuple[Part, ...] = ("pool", "target")
MEASURES = {"l2": "distance", "pmi": "loss"}
MISSING = "not measured"  # of the map's colours: exact copies, and rows that a pair plan did not help
_TEXT = 160
_STEPS = 200  # of a threshold's slider


def show_knowledge(run: Run, pool: Dataset, k: int, *, on_focus: Callable[[int], None]) -> None:
    """The knowledge map of a run at budget k: chart, counts, the rows of each category, and groups.

    `on_focus` gets the pool row that a line of the table stands for: the row itself, or for a row of the target the
    pool row that teaches it best.
    """
    measured = measures(run)
    if not measured:
        st.info(
            "This run asked no language model what it knows, so there is no before and after. Run a method that scores "
            "pairs with a model: delift, delift-task or delift-continual.",
            icon=":material/info:",
        )
        return
    part, kind = _choose(run, measured)
    helped = pool if part == "pool" else widgets.open_dataset_cached(str(run.config.target))
    thresholds = _ask_thresholds(run, part, kind)
    found = knowledge_of(run, part, kind, k, thresholds)
    if plan := run.config.pairs if not run.utility(part, kind).is_dense else "":
        st.warning(
            f"Only the pairs that the plan {widgets.escape(plan)} scored count. What was not scored may teach more, "
            "so what can be taught is a lower bound below.",
            icon=":material/data_thresholding:",
        )
    st.markdown("\n".join(f"- {widgets.escape(sentence)}" for sentence in found.sentences))
    left, right = st.columns([3, 2], gap="large")
    theme = widgets.theme()
    with left:
        _chart(before_after(found, theme=theme), "knowledge.scatter")
        crowd = " More rows than can be drawn one by one are shown as a density." if _crowded(found) else ""
        st.caption(
            "On the full line the best chosen example changes nothing; the dotted line saves what counts as teaching. "
            f"An example that hurts need not be shown, so no row ends above the full line.{crowd}"
        )
    with right:
        _chart(counts(found, theme=theme), "knowledge.counts")
        st.caption(widgets.escape(thresholds.why))
        if part == "pool":
            st.caption("A row is no example for itself, so a picked row is judged by what the other picks teach it.")
    _show_rows(run, found, part, helped, pool, k, on_focus)
    _show_groups(found, helped)


def measures(run: Run) -> list[tuple[Part, Kind]]:
    """What was measured with and without examples, as (part, kind); empty for a run without a language model."""
    return [
        (part, kind)
        for part, kind in run.utilities
        if part in PARTS and kind in MEASURES and run.utility(part, kind).baseline is not None
    ]


def knowledge_of(run: Run, part: Part, kind: Kind, k: int, thresholds: Thresholds | None = None) -> Knowledge:
    """The knowledge map at budget k; without thresholds, at those that the data suggests."""
    subset, pool, usual = _bests(run, part, kind, k)
    return insight.judged(run.utility(part, kind), subset, pool, thresholds or usual)


def colour_codes(run: Run, n: int, k: int, theme: Theme) -> tuple[Indices, list[str], list[str]]:
    """For the map: a code (n,) of each pool row at budget k, what the codes mean, and their colours.

    Only for a run with a measure of its pool (see `measures`).  Rows without a pair are one group: not measured.
    """
    kinds = [kind for part, kind in measures(run) if part == "pool"]
    kind = run.config.kind if run.config.kind in kinds else kinds[0]
    codes = np.minimum(knowledge_of(run, "pool", kind, k).over(n), UNSCORED)
    return codes, [*LABELS[:UNSCORED], MISSING], [colour(category, theme) for category in range(len(LABELS))]


# --- cached reading ------------------------------------------------------------------------------------------------


def _bests(run: Run, part: Part, kind: Kind, k: int) -> tuple[Best, Best, Thresholds]:
    key = (os.environ.get("DELIFT_HOME", ""), run.id, widgets.version_of(run), part, kind)
    pool, usual = _pool_best(*key, run)
    return _subset_best(*key, k, run), pool, usual


@st.cache_resource(show_spinner="Reading what examples save", max_entries=8)
def _pool_best(home: str, run_id: str, version: str, part: Part, kind: Kind, _run: Run) -> tuple[Best, Thresholds]:
    utility = _run.utility(part, kind)
    found = insight.best(utility, same=part == "pool")
    return found, insight.usual(kind, insight.baseline(utility), found)


@st.cache_resource(show_spinner="Reading what the subset saves", max_entries=32)
def _subset_best(home: str, run_id: str, version: str, part: Part, kind: Kind, k: int, _run: Run) -> Best:
    utility = _run.utility(part, kind)
    return insight.best(utility, places(utility, _run.selection.order[:k]), same=part == "pool")


# --- what is asked -------------------------------------------------------------------------------------------------


def _choose(run: Run, measured: list[tuple[Part, Kind]]) -> tuple[Part, Kind]:
    parts = [part for part in PARTS if any(part == p for p, _ in measured)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        part: Part = parts[-1]
        if len(parts) > 1:
            part = st.segmented_control(
                "Rows of the", parts, default=part, required=True, key="knowledge.part", persist_state="session"
            )
        kinds = [kind for p, kind in measured if p == part]
        preferred: Kind = run.config.kind if run.config.kind in kinds else kinds[0]  # type: ignore[assignment]
        kind: Kind = st.segmented_control(
            "Measured as", kinds, default=preferred, required=True, key=f"knowledge.kind.{run.id}.{part}",
            format_func=lambda name: f"{name}: {MEASURES[name]}", persist_state="session",
        )  # fmt: skip
    return part, kind


def _ask_thresholds(run: Run, part: Part, kind: Kind) -> Thresholds:
    """Two sliders that start where the data suggests."""
    _, pool, usual = _bests(run, part, kind, run.k)
    before = insight.baseline(run.utility(part, kind))
    stem = f"{run.id}.{part}.{kind}"
    highest = max(1.0 if kind == "l2" else 0.0, float(np.nanmax(before, initial=0.0)), usual.known)
    most = max(float(np.nanmax(pool.value, initial=0.0)), usual.gain, 1e-6)
    with st.container(horizontal=True, gap="large"):
        known = st.slider(
            f"Known: at most this {insight.UNITS[kind]}", 0.0, highest, usual.known, highest / _STEPS, "%.3f",
            key=f"knowledge.known.{stem}", persist_state="session", width=360,
        )  # fmt: skip
        gain = st.slider(
            "Teaching: an example saves at least", 0.0, most, usual.gain, most / _STEPS, "%.4f",
            key=f"knowledge.gain.{stem}", persist_state="session", width=360,
        )  # fmt: skip
    return Thresholds(float(known), float(gain), usual.why)


# --- what is shown -------------------------------------------------------------------------------------------------


def _chart(figure: Any, key: str) -> None:
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=figures.alt_of(figure))


def _crowded(found: Knowledge) -> bool:
    return int(np.isfinite(found.after).sum()) > MOST_POINTS


def _show_rows(
    run: Run, found: Knowledge, part: Part, helped: Dataset, pool: Dataset, k: int, on_focus: Callable[[int], None]
) -> None:
    numbers = found.counts
    options = [c for c in range(len(LABELS)) if numbers[c] or c != UNSCORED]
    fullest = max(options[1:], key=lambda c: (c != UNSCORED, numbers[c]))
    category = st.selectbox(
        "Rows that", options, index=options.index(fullest), key="knowledge.category", width=420,
        format_func=lambda c: f"{LABELS[c]} ({numbers[c]:,})", persist_state="session",
    )  # fmt: skip
    at = found.rows(category)[:TABLE_ROWS]
    if not len(at):
        st.caption("No row is in this category.")
        return
    key = f"knowledge.table.{part}.{category}"
    focused = found.helped[at] if part == "pool" else np.where(found.teacher >= 0, found.teacher, found.tutor)[at]

    def choose() -> None:
        lines = st.session_state[key].selection.rows
        if lines and lines[0] < len(focused) and focused[lines[0]] >= 0:
            on_focus(int(focused[lines[0]]))

    st.dataframe(
        _table(run, found, at, part, helped, pool, k), hide_index=True, key=key, on_select=choose,
        selection_mode="single-row", height=340, alt=f"{numbers[category]:,} rows: {LABELS[category]}",
    )  # fmt: skip
    cut = len(at) < numbers[category]
    told = f"The first {len(at):,} of {numbers[category]:,}, the largest effect first. " if cut else ""
    what = "Choose a line to open the row" + ("." if part == "pool" else " of the pool that helps it most.")
    st.caption(told + what)


def _table(run: Run, found: Knowledge, at: Indices, part: Part, helped: Dataset, pool: Dataset, k: int) -> pd.DataFrame:
    rows = found.helped[at]
    columns: dict[str, Any] = {
        "id": [helped.ids[int(row)] for row in rows],
        "without help": found.before[at],
        "with the subset": found.after[at],
        "with the pool": found.reach[at],
        "best chosen example": [pool.ids[int(row)] if row >= 0 else None for row in found.teacher[at]],
        "best of the pool": [pool.ids[int(row)] if row >= 0 else None for row in found.tutor[at]],
    }
    if part == "pool":
        columns["picked itself"] = np.isin(rows, run.selection.order[:k])
    columns["prompt"] = [(helped.prompts[int(row)] or "")[:_TEXT] for row in rows]
    columns["response"] = [(helped.responses[int(row)] or "")[:_TEXT] for row in rows]
    return pd.DataFrame(columns)


def _show_groups(found: Knowledge, helped: Dataset) -> None:
    if not helped.fields:
        return
    by = st.selectbox(
        "By group", helped.fields, index=None, key="knowledge.by", placeholder="a column", width=260,
        persist_state="session",
    )  # fmt: skip
    if by not in helped.fields:
        return
    names, table = found.split(helped.group(by))
    whole = np.maximum(table.sum(axis=1), 1)
    columns: dict[str, Any] = {"group": [widgets.clip(name, 80) for name in names], "rows": table.sum(axis=1)}
    shown = [c for c in range(len(LABELS)) if table[:, c].any() or c != UNSCORED]
    columns |= {LABELS[c]: table[:, c] / whole for c in shown}
    percent = st.column_config.NumberColumn(format="percent")
    frame = pd.DataFrame(columns)
    st.dataframe(
        frame, hide_index=True, height=min(420, 40 + 35 * len(frame)), key="knowledge.groups",
        column_config={LABELS[c]: percent for c in shown}, alt=f"Share of the rows of each {by} in each category",
    )  # fmt: skip
