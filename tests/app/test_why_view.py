"""The decision card on a page: status in words, numbers, rows that can be focused, texts as text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from tests.app.scored import K, store
from tests.app.steps import HOSTILE, said

Show = Callable[..., AppTest]


def page(run_id: str, row: int, k: int) -> None:
    """A page with nothing but the card; a press of another row's button shows that row."""
    import streamlit as st

    from delift_core.runs.run import Run
    from pages import _widgets as widgets
    from pages._whyview import show_card

    def focus(row: int) -> None:
        st.session_state["focused"] = row

    run = Run.open(widgets.workspace(), run_id)
    at = st.session_state.get("focused", row)
    show_card(run, widgets.open_dataset_cached(run.config.pool), at, k, on_focus=focus)


@pytest.fixture
def show() -> Show:
    def shown(run: Run, row: int, k: int | None = None) -> AppTest:
        app = AppTest.from_function(page, args=(run.id, row, k or run.k), default_timeout=60).run()
        assert not app.exception
        return app

    return shown


@pytest.fixture
def scored(ws: Workspace, pool: Dataset) -> Run:
    return store(ws, pool)


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_a_selected_row_shows_what_is_lost_without_it_and_who_could_take_its_place(show: Show, scored: Run) -> None:
    row = int(scored.picked[-1])  # of K neighbours the last: it serves all rows that lie before it
    app = show(scored, row)
    assert not app.error
    assert app.markdown[0].value.startswith(":material/check_circle: **Selected** · Pick 8 of the 8")
    shown = metrics(app)
    assert shown["Rank"] == "8 of 38"
    # Rows 0 to 30 of 38 get more from it than from the pick after it; nearer than 15 places a row is helped at all.
    helped = [i for i in range(31) if 0.3 - 0.02 * (30 - i) > 0 and i != 30]
    assert shown["Best for"] == f"{len(helped)} rows"
    assert [expander.label for expander in app.expander] == [
        "Rows of the pool it serves best", "Rows that could take its place",
    ]  # fmt: skip
    assert "do not add up to the value that it reports" in said(app), "this run's values are made up"


def test_a_row_outside_shows_who_stands_in_for_it_and_a_button_leads_there(
    show: Show, scored: Run, pool: Dataset
) -> None:
    row = int(scored.selection.order[K])
    app = show(scored, row)
    assert app.markdown[0].value.startswith(":material/hourglass_bottom: **Beyond the budget** · Not selected")
    shown = metrics(app)
    assert shown["Represented"] == "100 %" and {"Gain if added", "Best swap"} <= set(shown)
    best = int(scored.picked[-1])
    assert pool.prompts[row] in [text.value for text in app.text]
    assert pool.prompts[best] in [text.value for text in app.text]
    app.button(key=f"why.best.{best}").click().run()
    assert not app.exception and "**Selected**" in app.markdown[0].value


def test_another_budget_changes_the_card(show: Show, scored: Run) -> None:
    row = int(scored.selection.order[K])
    assert "**Selected**" in show(scored, row, K + 1).markdown[0].value
    app = show(scored, row, 1000)
    assert app.error and "Budget of 1000 rows" in app.error[0].value.replace("\\", "")


def test_an_exact_copy_names_the_row_it_is_a_copy_of(show: Show, scored: Run, pool: Dataset) -> None:
    copy = int(np.flatnonzero(pool.table["copy_of"].to_numpy() != np.arange(len(pool)))[0])
    app = show(scored, copy)
    assert ":material/content_copy: **Exact copy**" in app.markdown[0].value
    assert f"An exact copy of row {pool.ids[4]}" in app.markdown[0].value


def test_hostile_rows_are_shown_letter_by_letter(show: Show, scored: Run) -> None:
    app = show(scored, 3)
    assert [text.value for text in app.text].count(HOSTILE) == 2
    for kind in ("markdown", "caption", "info", "warning"):
        assert all("<script>" not in str(element.value) for element in app.get(kind)), kind
    neighbour = show(scored, int(scored.selection.order[-1]))
    assert all("<script>" not in button.label and "<script>" not in (button.help or "") for button in neighbour.button)


def test_a_run_without_utilities_says_what_its_order_knows(
    show: Show, ws: Workspace, pool: Dataset, finished: Run
) -> None:
    app = show(finished, int(finished.selection.order[20]))
    assert "drawn by lot with seed 0" in said(app) and not app.expander
    banned = pipeline.run(ws, RunConfig(pool=pool.fingerprint, method="random", budget="10", ban=(pool.ids[6],)))
    app = show(banned, 6)
    assert app.markdown[0].value == ":material/block: **Left out** · Banned by its id\\."
