"""A run that is made from another one with something changed: its start, and the way back."""

from __future__ import annotations

import streamlit as st

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from pages import _widgets as widgets
from pages._command import command_for

FROM = "_changed.from"  # in the session: id of a run -> id of the one it was made from


def start_changed(run: Run, config: RunConfig) -> str:
    """Start the run of a changed configuration, and return its id; raises DeliftError where it cannot start."""
    new = pipeline.submit(widgets.workspace(), config, command=command_for(config))
    if new != run.id:
        st.session_state.setdefault(FROM, {})[new] = run.id
    return new


def start_from(run: Run, config: RunConfig) -> None:
    """Start the run of a changed configuration, and show it; raises DeliftError where it cannot start."""
    widgets.select_run(start_changed(run, config))
    st.rerun()


def show_way_back(run_id: str) -> None:
    """From a run to the one it was made from in this session."""
    origin = st.session_state.get(FROM, {}).get(run_id)
    if origin is not None:
        st.button(
            f"Back to run {origin[:8]}, which it was made from", key="edits.back", icon=":material/arrow_back:",
            on_click=widgets.select_run, args=(origin,),
        )  # fmt: skip
