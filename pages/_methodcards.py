"""The methods on the Run page: a few to begin with, by goal; all others by family; and pairs of one's own."""

from __future__ import annotations

import streamlit as st

from delift_core.errors import ConfigError
from delift_core.registry import FAMILIES, GOALS, METHODS, RECOMMENDED, SCORERS, Method, method, over_pairs
from pages import _widgets as widgets

CHOSEN, GOAL, FAMILY = "method", "goal", "family"  # the first is a query parameter as well
FIRST = "delift-se"
SCORES = {
    "icl": "icl: in-context utility, by the language model",
    "embedding": "embedding: cosine of sentence vectors",
    "rds": "rds: hidden states of the language model",
}


def choose_method() -> Method:
    """The chosen method, always in sight, a few that fit the goal, and behind them all others."""
    asked = st.query_params.pop(CHOSEN, None)  # a link of another page; from here on the session holds it
    if asked is not None:
        linked = method(asked)
        st.session_state[CHOSEN] = linked.name
        st.session_state[GOAL] = needed_by(linked) or "pool"
    st.session_state.setdefault(CHOSEN, FIRST)
    chosen = method(st.session_state[CHOSEN])
    st.session_state.setdefault(GOAL, needed_by(chosen) or _at_hand())
    goal = st.segmented_control(
        "What are the rows for?", list(GOALS), required=True, key=GOAL, format_func=lambda name: GOALS[name],
        persist_state="session",
    )  # fmt: skip
    st.markdown(f":material/check_circle: Chosen: **{chosen.title}** (`{chosen.name}`). {chosen.summary}")
    grid = st.grid(3, min_column_width=280, border=True, key="recommended")
    for name, when in RECOMMENDED[goal].items():
        with grid.cell():
            _card(METHODS[name], f"begin.{name}", when, chosen=name == chosen.name)
    with st.expander(f"All {len(METHODS)} methods", icon=":material/apps:", key="methods.all"):
        _by_family(chosen)
    with st.expander("Your own pair: a scorer and an objective", icon=":material/join_inner:", key="own"):
        _own_pair(chosen)
    return chosen


def needed_by(chosen: Method) -> str | None:
    """The role beside the pool that a method needs rows of."""
    return "target" if chosen.needs_target else "existing" if chosen.needs_existing else None


def _at_hand() -> str:
    """The role of what was loaded beside a pool; the sample's target was loaded by nobody."""
    shipped = widgets.sample_run()
    sample = widgets.workspace().catalogue.run(shipped).config.target if shipped else None
    roles = {role for r in widgets.workspace().catalogue.datasets() if r.fingerprint != sample for role in r.roles}
    return next((role for role in ("target", "existing") if role in roles), "pool")


def _by_family(chosen: Method) -> None:
    """The cards of one family."""
    family = st.segmented_control(
        "Kinds of methods", list(FAMILIES), default=METHODS[FIRST].family, required=True, key=FAMILY,
        format_func=lambda name: FAMILIES[name], label_visibility="collapsed", persist_state="session",
    )  # fmt: skip
    grid = st.grid(3, min_column_width=280, border=True, key="methods")
    for m in METHODS.values():
        if m.family == family:
            with grid.cell():
                _card(m, f"method.{m.name}", m.summary, chosen=m.name == chosen.name, paper=True)


def _choose(name: str) -> None:
    st.session_state[CHOSEN] = name


def _button(name: str, key: str, *, chosen: bool, told: str, disabled: bool = False) -> None:
    st.button(
        "Chosen" if chosen else "Choose", key=key, type="primary" if chosen else "secondary", disabled=disabled,
        icon=":material/check:" if chosen else None, help=told, on_click=_choose, args=(name,),
    )  # fmt: skip


def _card(m: Method, key: str, said: str, *, chosen: bool, paper: bool = False) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.markdown(f"**{m.title}**", width="content")
        _button(m.name, key, chosen=chosen, told=f"{m.title} ({m.name}). {m.summary}")
    needs = [word for word, needed in (("a target", m.needs_target), ("existing rows", m.needs_existing)) if needed]
    wants = f"needs {' and '.join(needs)} · " if needs else ""
    st.caption(f"{said}  \n`{m.name}` · {wants}{f'{m.cost} · {m.paper}' if paper else m.price}")


def _own_pair(chosen: Method) -> None:
    """SCORER+OBJECTIVE; a pair that cannot be says why and cannot be chosen."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scorer = st.selectbox(
            "Scorer of pairs", list(SCORERS), format_func=lambda name: SCORES.get(name, name), key="own.scorer",
            width=330, persist_state="session", help="What says how much one row helps another, or is like it.",
        )  # fmt: skip
        objective = st.selectbox(
            "Objective", over_pairs(), key="own.objective", width=230, persist_state="session",
            help="What picks rows by those numbers; the cards name the paper of each.",
        )  # fmt: skip
        name = f"{scorer}+{objective}"
        try:
            told, wrong = method(name).summary, None
        except ConfigError as error:
            told, wrong = "", error
        _button(name, "method.own", chosen=chosen.name == name, told=told, disabled=wrong is not None)
    if wrong is not None:
        widgets.error_box(wrong)
