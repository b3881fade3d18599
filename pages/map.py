"""Map: the rows as points, selected against rejected; a budget slider over the nested order; one row in focus."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from delift_core import figures
from delift_core.errors import DeliftError
from delift_core.insight.curve import ahead
from delift_core.insight.region import inside, outline
from delift_core.runs import jobs
from delift_core.types import Indices
from pages import _components as components
from pages import _widgets as widgets
from pages._groupsview import show_constraints, show_groups
from pages._mapview import TABLE_ROWS, MapView, map_view

FOCUS_KEY, COLOUR_KEY, OUTLINE_KEY = "row", "colour", "map.outline"
CANVAS, TABLE = "map.canvas", "map.table"
ASK_ABOVE = 20_000  # rows; a larger map is drawn when somebody presses the button


def on_focus() -> None:
    """A point was clicked: put its id into the search box, which is also the URL."""
    focus_index(st.session_state[CANVAS].focus)


def on_outline() -> None:
    """A lasso was drawn: keep its outline; who is inside is decided here, not in the browser."""
    st.session_state[OUTLINE_KEY] = st.session_state[CANVAS].outline


def on_table(shown: Indices) -> None:
    """A line of the table was chosen."""
    lines = st.session_state[TABLE].selection.rows
    if lines and lines[0] < len(shown):
        focus_index(int(shown[lines[0]]))


def focus_index(row: Any) -> None:
    """Focus a row by its index; what a browser sends is checked."""
    if isinstance(row, int) and 0 <= row < len(view.ids):
        st.session_state[FOCUS_KEY] = view.ids[row]


def unfocus() -> None:
    """No row in focus: the curves come back."""
    st.session_state[FOCUS_KEY] = ""


def clear_outline() -> None:
    """Forget the lasso."""
    st.session_state.pop(OUTLINE_KEY, None)


def start_map() -> None:
    """Draw the map in the background."""
    with widgets.guarded():
        jobs.start_map(widgets.workspace(), run.id)


@st.fragment(run_every=1.0)
def drawing(run_id: str) -> None:
    """Progress of the map that is being drawn; the page comes back when it is there."""
    job = jobs.job(widgets.workspace(), run_id, "map")
    if job is None or job.state not in ("queued", "running"):
        st.rerun()
    st.progress(job.share, text=f"Drawing the map: {widgets.escape(job.stage or 'starting')}")
    st.caption("The rows are being embedded and laid out. Everything else on this page works meanwhile.")


def no_map(view: MapView) -> None:
    """The run has no map yet: draw it, or say why it could not be drawn."""
    job = jobs.job(widgets.workspace(), run.id, "map")
    if job is None and len(view.pool) <= ASK_ABOVE:
        start_map()
        job = jobs.job(widgets.workspace(), run.id, "map")
    if job is not None and job.state in ("queued", "running"):
        drawing(run.id)
        return
    if job is None:
        st.info(f"This run has no map yet. For {len(view.pool):,} rows drawing one takes some minutes.")
    elif job.state != "done":
        text = f"The map was not drawn ({job.state}). {job.error}"
        st.warning(widgets.escape(text), icon=widgets.STATE_ICONS[job.state])
    else:
        st.warning("The map's file is missing or unreadable.")
    st.button("Draw the map", key="map.start", icon=":material/scatter_plot:", on_click=start_map)


def numbers(view: MapView, k: int) -> None:
    """How many of n rows, share of the full value, tokens, and what the next rows would add."""
    with st.container(horizontal=True, key="map.numbers"):
        st.metric("Rows kept", f"{k:,} of {view.candidates():,}", width="content")
        st.metric("Of the full value", widgets.percent(widgets.share_of_full(run, k)), width="content")
        if view.tokens is not None and k:
            st.metric("Tokens kept", f"{int(view.tokens[k - 1]):,}", width="content")
        more = ahead(run.selection.value, run.selection.full_value, k)
        if more is not None and run.selection.nested:
            st.metric(f"Next {more[0]:,} rows add", f"{100 * more[1]:.2g} %", width="content")
        for part, found in run.fidelity.items() if k == run.k else ():
            if found["gap_closed"] is not None:
                st.metric(
                    "Of what exact scoring gains", f"{found['gap_closed']:.0%}", width="content",
                    help=f"{part}: {found['sentence']}",
                )  # fmt: skip


def card(view: MapView, row: int, k: int) -> None:
    """The focused row: where it stands, its fields, its texts as plain text."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.text(f"Row {widgets.clip(view.ids[row], 60)}")
        st.button("Close", key="map.unfocus", icon=":material/close:", type="tertiary", on_click=unfocus)
    st.text(view.standing(row, k))
    facts = [f"{name}: {widgets.clip(str(view.pool.group(name)[row]), 60)}" for name in view.pool.fields[:6]]
    if view.places:
        facts.append(f"cluster: {view.clusters[row] + 1}")
    st.text("\n".join(facts))
    for title, text in (("Prompt", view.pool.prompts[row]), ("Response", view.pool.responses[row])):
        st.caption(title)
        with st.container(border=True, height=190 if len(text) > 400 else "content"):
            widgets.plain(text or "(none)")


st.title("Map")
run = widgets.require_run("No map yet: it shows a finished run.")
pool = widgets.open_dataset_cached(run.config.pool)
view = map_view(run, pool)

region = None
if st.session_state.get(OUTLINE_KEY) is not None:
    try:
        region = outline(st.session_state[OUTLINE_KEY])
    except DeliftError as error:
        widgets.error_box(error)
        clear_outline()

bar = st.columns([3, 2], gap="large", vertical_alignment="bottom")
with bar[0]:
    k = widgets.budget_slider(run)
with bar[1], st.container(horizontal=True, vertical_alignment="bottom"):
    names = view.colour_names()
    colour = st.selectbox("Colour by", names, key=COLOUR_KEY, bind="query-params", width=190)
    st.text_input(
        "Focus a row, by id", key=FOCUS_KEY, bind="query-params", placeholder="an id, or click a point", width="stretch"
    )
    wanted = st.session_state.get(FOCUS_KEY) or ""
numbers(view, k)
focus = view.index_of.get(wanted.strip())

left, right = st.columns([3, 2], gap="large")
with left:
    if view.places:
        components.map_canvas(view.geometry, key=CANVAS, on_focus=on_focus, on_outline=on_outline)
        # Before the charts, so that the map answers first.
        components.map_layer(view.layer(colour, widgets.theme(), k, focus, region), key="map.layer")
        st.caption("Click a point for its texts. Drag moves; with Lasso or Shift, it outlines rows for the table.")
    else:
        no_map(view)
with right:
    if wanted and focus is None:
        st.warning(widgets.escape(f"No row has the id {widgets.clip(wanted, 60)}."))
    if focus is not None:
        card(view, focus, k)
    else:
        chart = figures.curve(run.selection, k, knee=view.knee, tokens=view.tokens, theme=widgets.theme(), height=330)
        st.plotly_chart(chart, key="map.curve", config={"displayModeBar": False}, alt=figures.alt_of(chart))
        chart = figures.gain_curve(run.selection, k, theme=widgets.theme(), height=230)
        st.plotly_chart(chart, key="map.gains", config={"displayModeBar": False}, alt=figures.alt_of(chart))
for note in run.notes if k == run.k else run.selection.notes:
    st.caption(widgets.escape(note))

rows = np.arange(len(pool))
if region is not None and view.places:
    rows = np.flatnonzero(inside(view.places["pool"], region))
kept = int(view.chosen(k)[rows].sum())
with st.container(horizontal=True, vertical_alignment="center"):
    st.subheader("Rows" if region is None else "Rows inside the outline", width="content")
    st.caption(f"{kept:,} of {len(rows):,} are selected.", width="content")
    if region is not None:
        st.button("Clear the outline", key="map.clear", icon=":material/close:", on_click=clear_outline)
shown = view.by_pick(rows)[:TABLE_ROWS]
if len(shown):
    st.dataframe(
        view.table(shown, k), hide_index=True, key=TABLE, on_select=lambda: on_table(shown),
        selection_mode="single-row", height=320,
        alt=f"{len(shown):,} rows in pick order, {kept:,} of {len(rows):,} selected",
    )  # fmt: skip
    if len(rows) > len(shown):
        st.caption(f"The first {len(shown):,} of {len(rows):,} in pick order. A lasso on the map narrows the table.")
else:
    st.caption("No row lies inside the outline.")

show_groups(run, pool, k)
show_constraints(run, pool)
