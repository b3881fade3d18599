"""Compare: two to four finished runs side by side, what else one would choose, and how stable its choice is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from delift_core import figures
from delift_core.figures import comparison as drawn
from delift_core.runs.records import RunRecord
from delift_core.types import Indices
from pages import _comparetables as tables
from pages import _compareview as parts
from pages import _components as components
from pages import _widgets as widgets
from pages._stabilityview import show_stability
from pages._whatifview import show_whatif

VIEW_KEY, AT_KEY, COMMON_KEY, BY_KEY = "view", "at", "common", "by"
PAIR_KEY, UNDER_KEY, ROWS_KEY = "pair", "under", "rows"
VIEWS = ("overlap", "value", "maps", "rows", "groups")  # their own labels, so that the URL stays short
OWN, COMMON = "own budgets", "one budget"
ABOUT_KEY, SIDE_BY_SIDE = "about", "Runs side by side"
OF_ONE = {"What if": show_whatif, "Stability": show_stability}
EVERY, ITS_OWN = "in how many runs", "each its own objective"


def choose_sizes(view: parts.CompareView) -> list[int]:
    """How many first picks of each run are looked at: each run's own, or one number for all."""
    most = min(view.lineup.sizes)
    if not view.lineup.nested or most < 2:
        st.caption("Every run at its own budget: an order that is not nested cannot be cut at another one.")
        return view.own
    with st.container(horizontal=True, vertical_alignment="bottom"):
        how = st.segmented_control(
            "Look at", [OWN, COMMON], default=OWN, required=True, key=AT_KEY, bind="query-params"
        )  # fmt: skip
        if how == OWN:
            return view.own
        held = st.session_state.get(COMMON_KEY)
        if held is not None and not 1 <= held <= most:
            del st.session_state[COMMON_KEY]
        k = st.slider("Rows of each", 1, most, min(view.own), key=COMMON_KEY, bind="query-params", width="stretch")
    return [int(k)] * len(view.runs)


def chart(figure: Any, key: str) -> None:
    """A plotly figure with its finding as its name."""
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=figures.alt_of(figure))


def focus_number(number: Any) -> None:
    """Focus a row by its number; what a browser sends is checked."""
    if isinstance(number, int) and 0 <= number < len(view.ids):
        st.session_state[widgets.ROW_KEY] = view.ids[number]


def on_canvas(key: str) -> None:
    """A point was clicked on one of the maps: every map rings it."""
    focus_number(st.session_state[key].focus)


def on_table(key: str, shown: Indices) -> None:
    """A line of a table was chosen."""
    lines = st.session_state[key].selection.rows
    if lines and lines[0] < len(shown):
        focus_number(int(shown[lines[0]]))


def canvas(place: int | None, layer: bytes) -> None:
    """The map of one run, or of all, and what colours it."""
    key = f"compare.canvas.{place}"
    components.map_canvas(view.geometry(place), key=key, on_focus=lambda: on_canvas(key))
    components.map_layer(layer, key=f"compare.layer.{place}")


def show_overlap(sizes: Sequence[int]) -> None:
    """The overlap of the first picks over every budget, and what the picks share."""
    lines, chance = view.overlaps(sizes)
    if lines:
        chart(drawn.overlap(lines, chance=chance, theme=widgets.theme()), "compare.overlap")
        st.caption("Of the first k picks of two runs, the share that is in both. The mark is the budget looked at.")
    else:
        st.info("No two of these orders can be cut at a smaller budget, so their overlap is known at this one alone.")
    tables.show_table(tables.pairs_table(found), "What each two runs share, beside what chance would", "compare.pairs")
    if lines:
        with st.expander("The overlap in numbers", key="compare.numbers"):
            tables.show_table(
                tables.overlaps_table(found), "Share of the first k picks that each two runs share", "compare.first"
            )


def show_value(sizes: Sequence[int]) -> None:
    """Value curves: each under its own objective, or all under the utility of one run."""
    names = [view.names[i] for i in view.valued]
    under = None
    if names:
        chosen = st.selectbox("Value under", [ITS_OWN, *names], key=UNDER_KEY, bind="query-params", width=340)
        under = None if chosen == ITS_OWN else view.names.index(chosen)
    if under is not None and not worths:
        st.caption("This reads all stored pairs; turn it on above first.")
        return
    lines = view.values(sizes, under)
    told = "its own objective" if under is None else f"the utility of {view.names[under]}"
    if lines:
        chart(drawn.values(lines, under=told, theme=widgets.theme()), "compare.values")
    silent = [name for name in view.names if name not in {line.name for line in lines}]
    if silent:
        st.caption(widgets.escape(f"Without a value: {', '.join(silent)}. Such an objective gives the pool no value."))
    if under is None and len(lines) > 1:
        st.caption(
            "Objectives differ in what they count, so these shares say how far each run is, not which is better."
        )
    if found.worth:
        st.markdown("**What the picks of one run are worth to another**")
        tables.show_table(tables.worth_table(found), "Picks of one run under the utility of another", "compare.worth")
    elif not names:
        st.caption("None of these runs stored how its pool helps itself, so picks cannot be valued by another run.")


def show_maps(sizes: Sequence[int], focus: int | None) -> None:
    """The same map once for each of two runs, or once for all of three or four."""
    if not view.one_pool:
        st.info("These runs chose from different pools: rows are matched by id, and there is no map of both.")
        return
    if view.places is None:
        st.info("None of these runs has a map yet. The Map page draws it when it is opened; the other runs share it.")
        st.page_link(
            "pages/map.py", label="Draw it on the Map page", icon=":material/scatter_plot:",
            query_params={"run": view.runs[0].id},
        )  # fmt: skip
        return
    pairs = [(a, b) for a in range(len(view.runs)) for b in range(a + 1, len(view.runs))]
    labels = {f"{view.names[a]} and {view.names[b]}": (a, b) for a, b in pairs}
    pair: tuple[int, int] | None = pairs[0]
    if len(view.runs) > 2:
        which = st.selectbox("Show", [EVERY, *labels], key=PAIR_KEY, bind="query-params", width=420)
        pair = labels.get(which)
    theme = widgets.theme()
    if pair is None:
        canvas(None, view.layer_of_all(sizes, theme, focus))
        st.caption(
            "Large points are picked by some run, the colour says by how many; a pick number is the earliest of all "
            "runs. Click a point for its texts."
        )
        return
    for column, place in zip(st.columns(2, gap="medium"), pair, strict=True):
        with column:
            st.markdown(f"**{widgets.escape(view.names[place])}**: {sizes[place]:,} rows")
            canvas(place, view.layer_of_two(place, pair, sizes, theme, focus))
    st.caption("Each map draws its own run's picks large; the colour says who picks a row. A click rings it on both.")


def show_rows(sizes: Sequence[int]) -> None:
    """The always-in core, and what one run alone wants."""
    sets = view.row_sets(sizes)
    which = st.selectbox(
        "Rows picked by", list(sets), key=ROWS_KEY, bind="query-params", width=340,
    )  # fmt: skip
    rows = sets[which]
    shown, key = rows[: parts.TABLE_ROWS], f"compare.table.{which}"
    told = f"Picked by {which}: {len(rows):,} of {view.lineup.count:,} rows."
    st.caption(widgets.escape(told + (f" The first {len(shown):,} are listed." if len(shown) < len(rows) else "")))
    if len(shown):
        st.dataframe(
            view.table(shown), hide_index=True, key=key, on_select=lambda: on_table(key, shown),
            selection_mode="single-row", height=min(420, 40 + 35 * len(shown)), alt=told,
        )  # fmt: skip
        st.caption(
            "A pick number beyond a run's budget tells how close it came to taking the row. Choose a line to read it."
        )


def card(number: int, sizes: Sequence[int]) -> None:
    """The focused row: where it stands in each run, and its texts as plain text."""
    pool, row = view.text(number)
    with st.container(border=True):
        st.text(f"Row {widgets.clip(view.ids[number], 60)}")
        st.text("\n".join(view.standing(number, sizes)))
        for column, title, text in zip(
            st.columns(2), ("Prompt", "Response"), (pool.prompts[row], pool.responses[row]), strict=True
        ):
            with column:
                st.caption(title)
                widgets.plain(text or "(none)")


def of_one_run() -> None:
    """What else this run's evidence would choose, or how stable its choice is; then the page ends."""
    run = widgets.require_run("Nothing to compare yet: this page looks at finished runs.")
    pool = widgets.open_dataset_cached(run.config.pool)
    with widgets.guarded():
        OF_ONE[about](run, pool, widgets.current_k(run))
    st.stop()


def ask_of_one(name: str) -> None:
    """Show a view that one run is enough for."""
    st.session_state[ABOUT_KEY] = name


def show_alone(one: RunRecord | None, count: int) -> None:
    """Fewer than two runs: how to get a second one, and what can be asked of one alone."""
    told = "There is one finished run." if count == 1 else "Choose two to four runs above."
    if one is None:
        st.info(told, icon=":material/info:")
        return
    pool = widgets.escape(widgets.clip(widgets.dataset_name(one.config.pool), 40))
    st.info(
        f"{told} To compare it, start another run of {pool} by another method, budget or seed. Two questions need no "
        "second run: what other methods would pick from what this run has measured (What if), and how much of its "
        "choice is chance (Stability).",
        icon=":material/info:",
    )
    with st.container(horizontal=True):
        if st.button(f"Start another run of {pool}", key="compare.another", icon=":material/play_circle:"):
            for role in ("pool", "target", "existing"):
                st.session_state[f"role.{role}"] = getattr(one.config, role)
            st.session_state[widgets.TAKEN] = st.session_state.get(widgets.OPENED)  # so that Run keeps this pool
            st.switch_page("pages/run.py")
        for name in OF_ONE:
            st.button(name, key=f"compare.{name}", on_click=ask_of_one, args=(name,))


st.title("Compare")
about = st.segmented_control(
    "Compare", [SIDE_BY_SIDE, *OF_ONE], default=SIDE_BY_SIDE, required=True, key=ABOUT_KEY, bind="query-params",
    label_visibility="collapsed",
)  # fmt: skip
if about in OF_ONE:
    of_one_run()
finished = parts.finished_runs()
if not finished:
    st.info("Nothing to compare yet: this page looks at finished runs.", icon=":material/info:")
    st.page_link("pages/run.py", label="Go to Run", icon=":material/play_circle:")
    st.stop()
chosen = parts.choose_runs(finished) if len(finished) > 1 else list(finished)
if len(chosen) < 2:
    show_alone(finished[chosen[0]] if chosen else None, len(finished))
    st.stop()
with widgets.guarded():
    view = parts.compare_view(chosen, finished)
bar = st.columns([3, 2], gap="large", vertical_alignment="bottom")
with bar[0]:
    sizes = choose_sizes(view)
with bar[1]:
    by = st.selectbox(
        "Groups", view.columns, index=None, key=BY_KEY, bind="query-params", placeholder="no groups",
        disabled=not view.columns, help="A column whose groups are compared as well.",
    )  # fmt: skip
worths = view.worth_at_once
if view.valued and not worths:
    worths = st.toggle(
        "Value the picks of each run under the others' utilities", key="compare.worths", persist_state="session",
        help="Reads all stored pairs once, which takes some seconds for pools of this size.",
    )  # fmt: skip
with st.spinner("Comparing"):
    found = view.comparison(sizes, by, worths=worths)
st.markdown(f"**{tables.held_text(view.lineup.chosen(sizes))}**")
if not view.one_pool:
    st.caption("Their pools differ: rows are the same where their ids are.")
tables.show_sentences(found.headlines)
if len(found.headlines) < len(found.sentences):
    with st.expander(f"All {len(found.sentences)} findings", key="compare.findings"):
        tables.show_sentences(found.sentences)

what = st.segmented_control(
    "Show", VIEWS, default=VIEWS[0], required=True, key=VIEW_KEY, bind="query-params", label_visibility="collapsed",
)  # fmt: skip
focus = widgets.ask_row(view.number_of.get, view.ids[0], st.container()) if what in ("maps", "rows") else None
if what == "overlap":
    show_overlap(sizes)
elif what == "value":
    show_value(sizes)
elif what == "maps":
    show_maps(sizes, focus)
elif what == "rows":
    show_rows(sizes)
else:
    if by is None:
        told = "Choose a column under Groups to see the share of each group in each run."
        st.caption(told if view.columns else "These pools have no column in common to group by.")
    else:
        tables.show_table(tables.groups_table(found), "Share of each group in each run", "compare.groups")
    tables.show_table(tables.sizes_table(found), "Rows and tokens of each run", "compare.sizes")
if focus is not None:
    card(focus, sizes)
