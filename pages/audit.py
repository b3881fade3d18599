"""Audit: find rows and change the choice by hand; what that costs, whom the subset serves, what is wrong in it."""

from __future__ import annotations

import os
from collections.abc import Callable

import streamlit as st

from delift_core.errors import DeliftError
from delift_core.runs import jobs
from delift_core.runs.run import Run
from delift_core.types import Dataset
from pages import _auditview as auditview
from pages import _changedrun as changedrun
from pages import _editsview as editsview
from pages import _jobs as parts
from pages import _searchview as searchview
from pages import _widgets as widgets
from pages._knowledgeview import show_knowledge
from pages._whyview import show_card

VIEW = "audit"  # which view, also in the URL; `view` is taken by other pages, whose views have other names


def show_why(run: Run, pool: Dataset, k: int) -> None:
    """One row by its id: why it was chosen, or why not."""
    rows = numbers_of(os.environ.get("DELIFT_HOME", ""), pool.fingerprint, pool)
    first = pool.ids[int(run.selection.order[0])]
    row = widgets.ask_row(rows.get, first, st.container())
    if row is None:
        st.caption("Give the id of a row to read why it was chosen, or why not.")
        st.button(
            "Show the first pick", key="audit.first", on_click=lambda: focus_row(first), icon=":material/looks_one:"
        )
    else:
        show_card(run, pool, row, k, on_focus=lambda row: focus_row(pool.ids[row]))


@st.cache_resource(show_spinner=False, max_entries=4)
def numbers_of(home: str, fingerprint: str, _pool: Dataset) -> dict[str, int]:
    """Row index by id."""
    return {name: i for i, name in enumerate(_pool.ids)}


def focus_row(name: str) -> None:
    """Put an id into the box, which is also the URL."""
    st.session_state[widgets.ROW_KEY] = name


def show_known(run: Run, pool: Dataset, k: int) -> None:
    """The knowledge map; a row of it opens its card."""
    show_knowledge(run, pool, k, on_focus=lambda row: open_why(pool.ids[row]))


def open_why(name: str) -> None:
    """Show the card of a row."""
    focus_row(name)
    st.session_state[VIEW] = "Why"


VIEWS: dict[str, Callable[[Run, Dataset, int], None]] = {  # the name is also the URL's
    "Search and edit": searchview.show_search,
    "Edits": editsview.show_edits,
    "Why": show_why,
    "Coverage": auditview.show_coverage,
    "Knowledge": show_known,
    "Risks": auditview.show_risks,
}


def show_unfinished() -> None:
    """A run that is still being made, such as an edited one: its progress, and the way back."""
    run_id = widgets.current_run_id()
    if run_id is None:
        return
    try:
        state = jobs.state(widgets.workspace(), run_id)
    except DeliftError:  # `require_run` says what is wrong with it
        return
    if state != "done":
        parts.show_run(run_id)
        changedrun.show_way_back(run_id)
        st.stop()


st.title("Audit")
show_unfinished()
run = widgets.require_run("Nothing to audit yet: this page looks at a finished run.")
changedrun.show_way_back(run.id)
pool = widgets.open_dataset_cached(run.config.pool)
view = st.segmented_control(
    "View", list(VIEWS), default="Search and edit", required=True, key=VIEW, bind="query-params"
)
with widgets.guarded():
    VIEWS[view](run, pool, widgets.current_k(run))
