"""Map: the rows as points, selected against rejected; a budget slider over the nested order; one row in focus."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from delift_core import figures, stages
from delift_core.errors import DeliftError
from delift_core.figures import points
from delift_core.insight.curve import ahead
from delift_core.insight.region import outline
from delift_core.review.editing import Edits, fold
from delift_core.runs import jobs
from delift_core.types import Doubles, Indices
from pages import _components as components
from pages import _widgets as widgets
from pages._groupsview import show_constraints, show_groups
from pages._mapview import ALL, INSIDE, TABLE_ROWS, MapView, map_view
from pages._whyview import show_card

COLOUR_KEY, OUTLINE_KEY, FILTER_KEY = "colour", "map.outline", "map.filter"
CANVAS, TABLE, BODY, NEXT = "map.canvas", "map.table", "map.body", "map.next"
ASK_ABOVE = 20_000  # rows; a larger map is drawn when somebody presses the button


def change(key: str, value: str) -> None:
    """Give a widget of `body` another value at its next run.

    `st.rerun` in a callback loses what the callback itself gave to widgets: the page knows it, the browser does not.
    """
    st.session_state.setdefault(NEXT, {})[key] = value


def on_focus() -> None:
    """A point was clicked: put its id into the box of ids, which is also the URL."""
    focus_index(st.session_state[CANVAS].focus)
    st.rerun(BODY)


def on_step() -> None:
    """The next or the previous pick was asked for on the keyboard."""
    by = st.session_state[CANVAS].step
    if by in (1, -1):
        focus_index(view.step(widgets.row_named(view.row_of, st.session_state.get(widgets.ROW_KEY)), by))
    st.rerun(BODY)


def on_outline() -> None:
    """A lasso was drawn: keep its outline; who is inside is decided here, not in the browser."""
    st.session_state[OUTLINE_KEY] = st.session_state[CANVAS].outline
    change(FILTER_KEY, INSIDE)
    st.rerun(BODY)


def on_table(shown: Indices) -> None:
    """A line of the table was chosen."""
    lines = st.session_state[TABLE].selection.rows
    if lines and lines[0] < len(shown):
        focus_index(int(shown[lines[0]]))


def focus_index(row: Any) -> None:
    """Focus a row by its index; what a browser sends is checked."""
    if isinstance(row, int) and 0 <= row < len(view.pool):
        change(widgets.ROW_KEY, view.id_of(row))


def unfocus() -> None:
    """No row in focus: the curves come back."""
    change(widgets.ROW_KEY, "")


def clear_outline() -> None:
    """Forget the lasso."""
    st.session_state.pop(OUTLINE_KEY, None)
    change(FILTER_KEY, ALL)


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
    st.progress(job.share, text=widgets.escape(stages.told(job.stage or "", job.done or 0, job.total or 0)))
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
        st.metric("Rows kept", f"{k:,} of {widgets.candidates(run):,}", width="content")
        if run.selection.gains.any():
            st.metric("Of the full value", widgets.percent(widgets.share_of_full(run, k)), width="content")
        if view.tokens is not None and k:
            st.metric("Tokens kept", f"{int(view.tokens[k - 1]):,}", width="content")
        more = ahead(run.selection.value, run.selection.full_value, k)
        if more is not None and run.selection.nested:
            told = "Next row adds" if more[0] == 1 else f"Next {more[0]:,} rows add"
            st.metric(told, f"{100 * more[1]:.2g} %", width="content")
        for part, found in run.fidelity.items() if k == run.k else ():
            if found["gap_closed"] is not None:
                st.metric(
                    "Of what exact scoring gains", f"{found['gap_closed']:.0%}", width="content",
                    help=f"{part}: {found['sentence']}",
                )  # fmt: skip
    if told := widgets.copies_text(run):
        st.caption(told)


def card(view: MapView, row: int, k: int) -> None:
    """The focused row: its fields, why it was chosen or why not, its texts."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.text(f"Row {widgets.clip(view.id_of(row), 60)}")
        st.button("Close", key="map.unfocus", icon=":material/close:", type="tertiary", on_click=unfocus)
    facts = [f"{name}: {widgets.clip(str(value), 60)}" for name, value in view.facts(row)]
    st.text("\n".join(facts))
    show_card(run, view.pool, row, k, on_focus=focus_index)


def current_outline() -> Doubles | None:
    """The lasso that is drawn; one that is none is named and forgotten."""
    try:
        return None if st.session_state.get(OUTLINE_KEY) is None else outline(st.session_state[OUTLINE_KEY])
    except DeliftError as error:
        widgets.error_box(error)
        clear_outline()
        return None


def edits() -> Edits:
    """Pins and bans: the run's own, and what people changed since."""
    return fold(run.config, view.pool, widgets.workspace().catalogue.edits(run.id))


@st.fragment(key=BODY)
def body(top: DeltaGenerator, under: DeltaGenerator, right: DeltaGenerator) -> None:
    """Everything that follows the budget, the colours, the focus and the lasso; the map's geometry stays as it is."""
    st.session_state.update(st.session_state.pop(NEXT, {}))
    with top:
        region = current_outline()
        bar, answer = st.columns([3, 2], gap="large", vertical_alignment="bottom"), st.container()
        with bar[0]:
            k = widgets.budget_slider(run, fragment=BODY)
        with bar[1], st.container(horizontal=True, vertical_alignment="bottom"):
            colour = st.selectbox("Colour by", view.colour_names(), key=COLOUR_KEY, bind="query-params", width=190)
            focus = widgets.ask_row(view.row_of, view.id_of(0), answer, width="stretch")
        numbers(view, k)
    if view.places:
        with under, st.container(gap="xxsmall"):
            marked = edits()
            layer, part = view.layer(
                colour, widgets.theme(), k, focus, region, pinned=marked.pinned, banned=marked.banned
            )
            components.map_layer(layer, key="map.layer")
            told = "" if part is None else f"**{points.shown_of(part, len(view.pool))}** "
            told += "Click a point to read its row. Drag to move the map; with Lasso or Shift, drag to outline rows."
            st.markdown(f":small[{told}]")
    with right:
        if focus is not None:
            with st.container(key="map_card"):
                card(view, focus, k)
        else:
            curves(k)
    for note in run.notes if k == run.k else run.notes_at(k):
        st.caption(widgets.escape(note))
    rows_table(colour, k, region)
    show_groups(run, view.pool, k)
    show_constraints(run, view.pool)


def curves(k: int) -> None:
    """Value and gain of the order, with a line at the budget; nothing to draw where no pick is worth anything."""
    if not run.selection.gains.any():
        st.caption("This method gives its picks no value, so there is no value curve.")
        return
    for key, chart in view.curves(widgets.theme()).items():
        st.plotly_chart(chart, key=key, config={"displayModeBar": False}, alt=figures.alt_of(chart))
    components.curve_cut(view.cut(k), k, key="map.cut")
    st.markdown(f":small[The dotted line is the budget: {k:,} rows. What lies beyond it is paler.]")


def rows_table(colour: str, k: int, region: Doubles | None) -> None:
    """Rows in pick order: all, those inside the lasso, or one group of the colouring."""
    colouring = view.colouring(colour, widgets.theme(), k)
    choices = view.filters(colouring, region is not None and bool(view.places))
    if st.session_state.get(FILTER_KEY) not in choices:
        st.session_state.pop(FILTER_KEY, None)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("Rows", width="content")
        chosen = st.selectbox(
            "Show", list(choices), key=FILTER_KEY, width=260,
            help="All rows, those inside the lasso, or one group of what the map is coloured by.",
        )  # fmt: skip
        rows = view.rows_of(chosen, choices[chosen], colouring, k, region)
        kept = view.kept(rows, k)
        st.markdown(f":small[{len(rows):,} rows, {kept:,} of them selected.]", width="content")
        if region is not None:
            st.button("Clear the outline", key="map.clear", icon=":material/close:", on_click=clear_outline)
    if not len(rows):
        st.markdown(":small[No such row.]" if chosen != INSIDE else ":small[No row lies inside the outline.]")
        return
    shown = rows[:TABLE_ROWS]
    st.dataframe(
        view.table(shown, k), hide_index=True, key=TABLE, on_select=lambda: on_table(shown),
        selection_mode="single-row", height=320,
        alt=f"{len(shown):,} rows in pick order, {kept:,} of {len(rows):,} selected",
    )  # fmt: skip
    if len(rows) > len(shown):
        st.markdown(
            f":small[The table holds the first {len(shown):,} of these {len(rows):,} rows in pick order. To see "
            "others, choose a group under Show, or outline some on the map.]"
        )


st.title("Map")
run = widgets.require_run("No map yet: it shows a finished run.")
view = map_view(run, widgets.open_dataset_cached(run.config.pool))
with st.container(key="map_page"):
    top = st.container()
    left, right = st.columns([3, 2], gap="large")
with left:
    if view.places:
        components.map_canvas(view.geometry, key=CANVAS, on_focus=on_focus, on_outline=on_outline, on_step=on_step)
    else:
        no_map(view)
body(top, left, right)
