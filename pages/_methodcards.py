"""The methods on the Run page: one family at a time as cards that say what a person wants, and pairs of one's own."""

from __future__ import annotations

import streamlit as st

from delift_core.errors import ConfigError
from delift_core.registry import FAMILIES, METHODS, SCORERS, Method, method, over_pairs
from pages import _widgets as widgets

CHOSEN, FAMILY = "method", "family"
FIRST = "delift-se"
SCORES = {
    "icl": "icl: in-context utility, by the language model",
    "embedding": "embedding: cosine of sentence vectors",
    "rds": "rds: hidden states of the language model",
}


def choose_method() -> Method:
    """The chosen method, always in sight, and the cards of one family to choose another from."""
    st.session_state.setdefault(CHOSEN, FIRST)
    chosen = method(st.session_state[CHOSEN])
    st.markdown(f":material/check_circle: **{chosen.title}** (`{chosen.name}`): {chosen.summary}")
    family = st.segmented_control(
        "Kinds of methods", list(FAMILIES), default=METHODS[FIRST].family, required=True, key=FAMILY,
        format_func=lambda name: FAMILIES[name], label_visibility="collapsed", persist_state="session",
    )  # fmt: skip
    grid = st.grid(3, min_column_width=280, border=True, key="methods")
    for m in METHODS.values():
        if m.family == family:
            with grid.cell():
                _card(m, chosen=m.name == chosen.name)
    with st.expander("Your own pair: a scorer and an objective", icon=":material/join_inner:", key="own"):
        _own_pair(chosen)
    return chosen


def _choose(name: str) -> None:
    st.session_state[CHOSEN] = name


def _button(name: str, key: str, *, chosen: bool, told: str, disabled: bool = False) -> None:
    st.button(
        "Chosen" if chosen else "Choose", key=key, type="primary" if chosen else "secondary", disabled=disabled,
        icon=":material/check:" if chosen else None, help=told, on_click=_choose, args=(name,),
    )  # fmt: skip


def _card(m: Method, *, chosen: bool) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.markdown(f"**{m.title}**", width="content")
        _button(m.name, f"method.{m.name}", chosen=chosen, told=f"{m.title} ({m.name})")
    needs = [word for word, needed in (("target", m.needs_target), ("existing rows", m.needs_existing)) if needed]
    wants = f"needs {' and '.join(needs)} · " if needs else ""
    st.caption(f"{m.summary}  \n`{m.name}` · {wants}{m.cost} · {m.paper}")


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
