"""Utility: how much each row helps each other row, as a heatmap that opens down to the two texts of one pair."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from delift_core import figures
from delift_core.insight import overview as blocks
from delift_core.registry import METHODS
from delift_core.types import Dataset, Kind, Utility
from pages import _components as components
from pages import _widgets as widgets
from pages._mapview import map_view
from pages._shotsview import sets_of_examples
from pages._tokensview import where_it_helped
from pages._utilityview import UtilityView, utility_view

PART_KEY, KIND_KEY, HOW_KEY = "part", "kind", "cells"
BLOCK_KEYS = ("block_row", "block_column")  # place of the open block in the overview
HELPED_KEY, CANDIDATE_KEY = "helped", "candidate"
OVERVIEW, EXACT = "utility_overview", "utility_exact"  # also the names of their CSS classes: no dots
OVERVIEW_CLICKS, EXACT_CLICKS = "utility.overview.clicks", "utility.exact.clicks"
PARTS = {
    "pool": "How much each row of the pool helps each other one.",
    "target": "How much each row of the pool helps each row of the target.",
    "existing": "How much the rows trained on already help each row of the pool.",
}
KINDS = {
    "l2": "distance to a sure answer that the example saves, from -1 to 1.",
    "pmi": "log probability that the example adds, in nats per token of the response.",
    "cosine": "cosine of the two rows' embeddings.",
    "centred": "cosine of the two rows' embeddings, less the mean cosine of the row that is helped.",
}
HOWS = {
    "mean": "the mean of its pairs.",
    "max": "the largest of its pairs.",
    "share": "the share of its pairs that are above 0.",
}
HURT_ROWS = 100


def on_overview() -> None:
    """A block of the overview was clicked: open it."""
    cell = st.session_state[OVERVIEW_CLICKS].cell
    if isinstance(cell, dict) and view.has_block(cell.get("row"), cell.get("column")):
        st.session_state.update(zip(BLOCK_KEYS, (cell["row"], cell["column"]), strict=True))


def on_exact() -> None:
    """A single pair was clicked: put its ids into the two boxes, which are also the URL."""
    cell = st.session_state[EXACT_CLICKS].cell
    block = [st.session_state.get(key) for key in BLOCK_KEYS]
    if isinstance(cell, dict) and view.has_block(*block):
        pair = view.pair_in(block, cell.get("row"), cell.get("column"))
        if pair is not None:
            st.session_state.update(zip((HELPED_KEY, CANDIDATE_KEY), pair, strict=True))


def chart(figure: Any, key: str) -> None:
    """A plotly figure with its finding as its name."""
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=figures.alt_of(figure))


def block_picker(view: UtilityView) -> list[int] | None:
    """The open block, from a click or from the two number boxes (the keyboard path)."""
    sizes = view.overview.values.shape
    for key, size in zip(BLOCK_KEYS, sizes, strict=True):
        held = st.session_state.get(key)
        if held is not None and not 0 <= held < size:  # of another run or another part
            st.session_state[key] = None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = [
            st.number_input(label, 0, size - 1, None, step=1, key=key, bind="query-params", width=140)
            for label, key, size in zip(("Row of blocks", "Column"), BLOCK_KEYS, sizes, strict=True)
        ]
        st.caption("Click a block of the heatmap, or give its place.")
    row, column = place
    return None if row is None or column is None else [int(row), int(column)]


def show_block(view: UtilityView, block: list[int]) -> None:
    """The single pairs around one block."""
    rows, columns, values = view.exact(block)
    names = [view.helped_ids[i] for i in rows], [view.candidate_ids[j] for j in columns]
    chart(figures.exact_heatmap(values, *names, view.utility.kind, theme=widgets.theme()), EXACT)
    components.heatmap_clicks(EXACT, key=EXACT_CLICKS, on_cell=on_exact)


def show_pair(view: UtilityView, helped: Dataset, candidates: Dataset) -> None:
    """Two texts, and what the model measures on the helped row without and with the example."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        left = st.text_input("Helped row, by id", key=HELPED_KEY, bind="query-params", width=220)
        right = st.text_input("Candidate, by id", key=CANDIDATE_KEY, bind="query-params", width=220)
    if not left or not right:
        st.caption("Open a block and click one pair, or give two ids.")
        return
    i, j = widgets.row_named(view.helped_at.get, left), widgets.row_named(view.candidate_at.get, right)
    for name, found in ((left, i), (right, j)):
        if found is None:
            st.warning(widgets.escape(f"No row with the id {widgets.clip(name, 60)} in this utility."))
    if i is None or j is None:
        return
    measures = view.measures(i, j)
    if not measures:
        st.info("This pair was not scored: rows are not shown to themselves or to exact copies, and plans skip pairs.")
    for measure in measures:
        with st.container(horizontal=True):
            st.metric(measure.name, measure.before, width="content", border=True)
            st.metric("with the example", measure.after, width="content", border=True)
            st.metric("utility", measure.utility, width="content", border=True)
    pair = st.columns(2, gap="large")
    for column, title, dataset, row in (
        (pair[0], "Helped row", helped, int(view.utility.helped[i])),
        (pair[1], "Candidate, shown as the example", candidates, int(view.utility.candidates[j])),
    ):
        with column, st.container(border=True):
            st.subheader(title)
            st.text(f"Row {widgets.clip(dataset.ids[row], 80)}")
            st.caption("Prompt")
            widgets.plain(dataset.prompts[row] or "(none)")
            st.caption("Response")
            widgets.plain(dataset.responses[row] or "(none)")
    where_it_helped(view.run, view.part, int(view.utility.helped[i]), int(view.utility.candidates[j]))


def show_hurting(view: UtilityView, k: int) -> None:
    """Candidates that lower the utility on average."""
    worst = blocks.hurting(view.effects, HURT_ROWS)
    st.subheader("Candidates that hurt")
    if not len(worst):
        st.caption("None: every candidate helps on average.")
        return
    total = int((view.effects.given < 0).sum())
    st.caption(f"{total:,} of {view.utility.shape[1]:,} candidates lower the utility on average.")
    frame = pd.DataFrame(
        {
            "id": [view.candidate_ids[j] for j in worst],
            "mean utility": view.effects.given[worst],
            "share helped": view.effects.share[worst],
            "selected": view.chosen(k)[worst],
        }
    )
    st.dataframe(
        frame, hide_index=True, height=300, alt=f"The {len(worst)} candidates with the lowest mean utility",
        column_config={"share helped": st.column_config.NumberColumn(format="percent")},
    )  # fmt: skip


def without_pairs() -> None:
    """Say what this page would show, and go on to what there is: the other pages, and a run that scores pairs."""
    found = METHODS.get(run.config.method)
    name = widgets.escape(f"{found.title} ({found.name})" if found else run.config.method)
    st.info(
        f"This run has no pairs to show: its method, {name}, picks rows without comparing them in pairs. Of a run that "
        "scores pairs, this page shows a heatmap of how much each row helps each other one, down to the two texts of a "
        "pair, and the rows that do harm as examples.",
        icon=":material/info:",
    )
    st.markdown("**What there is of this run**")
    with st.container(horizontal=True):
        st.page_link("pages/map.py", label="See its picks on the map", icon=":material/scatter_plot:", width="content")
        st.page_link("pages/audit.py", label="Audit its picks", icon=":material/fact_check:", width="content")
    st.markdown("**Score pairs of the same rows**")
    target = "-task" if run.config.target else ""
    with st.container(horizontal=True):
        for method, told in ((f"delift-se{target}", "by likeness, fast"), (f"delift{target}", "by the language model")):
            st.page_link(
                "pages/run.py", label=f"Prepare a run with {method}: {told}", icon=":material/play_circle:",
                query_params={"method": method, "pool": run.config.pool}, width="content",
            )  # fmt: skip
    st.stop()


st.title("Utility")
run = widgets.require_run("No utility yet: it comes from a finished run.")
stored = run.utilities
if not stored:
    without_pairs()

parts = list(dict.fromkeys(part for part, _ in stored))
with st.container(horizontal=True, vertical_alignment="bottom"):
    # Options are their own labels, so that the URL stays short: it holds what is shown.
    part: Any = st.segmented_control(
        "Pairs", parts, default="target" if "target" in parts else parts[0], required=True, key=PART_KEY,
        bind="query-params",
    )  # fmt: skip
    kinds = [kind for p, kind in stored if p == part]
    preferred = run.config.kind if run.config.kind in kinds else kinds[0]
    kind: Kind = st.segmented_control(
        "Measure", kinds, default=preferred, required=True, key=KIND_KEY, bind="query-params"
    )
    how: Any = st.segmented_control(
        "Each block shows", list(HOWS), default="mean", required=True, key=HOW_KEY, bind="query-params"
    )
st.caption(f"{PARTS[part]} Measure: {KINDS[kind]} A block shows {HOWS[how]}")

k = widgets.current_k(run)
pool = widgets.open_dataset_cached(run.config.pool)
other = {"target": run.config.target, "existing": run.config.existing}.get(part)
second = widgets.open_dataset_cached(other) if other else pool
helped, candidates = (pool, second) if part == "existing" else (second, pool)
view = utility_view(run, part, kind, how, helped, candidates, map_view(run, pool))
utility: Utility = view.utility
if not all(utility.shape):
    st.info("This utility holds no pairs.")
    st.stop()

left, right = st.columns([3, 2], gap="large")
with left:
    orders = {"row_order": view.row_order, "column_order": view.column_order}
    chart(figures.heatmap(view.overview, kind, theme=widgets.theme(), **orders), OVERVIEW)
    components.heatmap_clicks(OVERVIEW, key=OVERVIEW_CLICKS, on_cell=on_overview)
    colours = "Bright blocks help often" if how == "share" else "Purple helps, orange hurts"
    st.caption(f"{colours}; a gap was not scored.")
with right:
    theme, found = widgets.theme(), view.effects
    chart(figures.histogram(found.best, label="best help a row gets", theme=theme, height=255), "utility.best")
    given = {"label": "mean help a candidate gives", "noun": "candidates", "chosen": view.chosen(k)}
    chart(figures.histogram(found.given, theme=theme, height=300, **given), "utility.given")

st.subheader("One block")
open_block = block_picker(view)
if open_block is not None:
    show_block(view, open_block)
st.subheader("One pair")
show_pair(view, helped, candidates)
show_hurting(view, k)
target = run.config.target
sets_of_examples(run, {"pool": pool, **({"target": widgets.open_dataset_cached(target)} if target else {})})
