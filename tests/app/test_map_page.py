"""The Map page: numbers of a budget, the focused row, the table of an outline, and a run without a map."""

from __future__ import annotations

import os

import pytest
from streamlit.testing.v1 import AppTest

from delift_core.runs import jobs
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from tests.app.scored import K, store
from tests.app.steps import HOSTILE, said, visit


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is drawn in the background; the ids that were asked for are kept."""
    asked: list[str] = []
    monkeypatch.setattr(jobs, "start_map", lambda ws, id: asked.append(id) is None)
    return asked


def test_without_a_run_the_page_says_what_it_needs(app: AppTest, no_sample: None) -> None:
    visit(app, "map")
    assert not app.exception
    assert "it shows a finished run" in said(app)


def test_the_numbers_are_those_of_the_run(app: AppTest, no_sample: None, ws: Workspace, pool: Dataset) -> None:
    run = store(ws, pool)
    visit(app, "map", run=run.id)
    assert not app.exception
    assert not app.error
    shown = metrics(app)
    assert shown["Rows kept"] == f"{K} of 38"
    assert shown["Of the full value"] == f"{100 * run.selection.head(K).share:.1f} %"
    assert shown["Tokens kept"] == f"{10 * K}"
    assert "A \\*note\\*\\." in said(app)


def test_a_new_budget_slices_the_order_and_computes_nothing(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool)
    visit(app, "map", run=run.id)
    app.slider(key="k").set_value(20).run()
    assert not app.exception
    assert metrics(app)["Rows kept"] == "20 of 38"
    assert metrics(app)["Of the full value"] == f"{100 * run.selection.head(20).share:.1f} %"
    table = app.dataframe[0].value
    assert table["selected"].sum() == 20
    assert table.loc[table["selected"], "id"].tolist() == [pool.ids[i] for i in run.selection.order[:20]]


def test_the_text_box_focuses_a_row_and_shows_its_texts_as_text(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool)
    visit(app, "map")
    app.text_input(key="row").set_value(pool.ids[3]).run()
    assert not app.exception
    assert [element.value for element in app.text].count(HOSTILE) == 2  # prompt and response
    for kind in ("markdown", "caption", "info", "warning", "error", "title", "subheader"):
        for element in app.get(kind):
            assert "<script>" not in str(element.value), kind


def test_a_row_says_where_it_stands(app: AppTest, no_sample: None, ws: Workspace, pool: Dataset) -> None:
    run = store(ws, pool)
    picked, late = run.selection.order[0], run.selection.order[K]
    visit(app, "map", row=pool.ids[picked])
    assert "Selected: pick 1 of 38" in said(app)
    app.text_input(key="row").set_value(pool.ids[late]).run()
    assert f"It enters at a budget of {K + 1} rows" in said(app)
    app.text_input(key="row").set_value(pool.ids[5]).run()
    assert f"an exact copy of row {pool.ids[4]}" in said(app)


def test_an_unknown_row_is_named_and_nothing_breaks(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool)
    visit(app, "map", row="<b>no such</b>")
    assert not app.exception
    assert "No row has the id" in said(app)
    assert "<b>" not in app.warning[0].value.replace("\\<", "")


@pytest.mark.parametrize("colour", ["gain", "cluster", "field: topic", "no such colour"])
def test_every_colour_works_and_an_unknown_one_falls_back(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, colour: str
) -> None:
    store(ws, pool)
    visit(app, "map", colour=colour)
    assert not app.exception
    assert not app.error
    assert app.selectbox(key="colour").value == ("membership" if colour == "no such colour" else colour)


def test_an_outline_narrows_the_table_to_the_rows_inside(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool)
    visit(app, "map")
    app.session_state["map.outline"] = [[-0.5, -0.5], [0.5, -0.5], [0.5, 2.5], [-0.5, 2.5]]
    app.run()
    assert not app.exception
    assert sorted(app.dataframe[0].value["id"]) == sorted(pool.ids[i] for i in range(3))
    app.button(key="map.clear").click().run()
    assert len(app.dataframe[0].value) == len(pool)


@pytest.mark.parametrize("sent", ["nonsense", [[0, 0], [1, 1]], [[0, float("nan")]] * 3])
def test_an_outline_that_is_none_is_an_error_and_is_forgotten(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, sent: object
) -> None:
    store(ws, pool)
    visit(app, "map")
    app.session_state["map.outline"] = sent
    app.run()
    assert not app.exception
    assert app.error
    app.run()
    assert not app.error


def test_a_run_without_a_map_starts_drawing_and_shows_the_rest(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, no_worker: list[str]
) -> None:
    run = store(ws, pool, drawn=False)
    visit(app, "map", run=run.id)
    assert not app.exception
    assert run.id in no_worker
    assert metrics(app)["Rows kept"] == f"{K} of 38"
    assert app.get("plotly_chart")


def test_a_map_that_is_being_drawn_shows_its_progress(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, no_worker: list[str]
) -> None:
    run = store(ws, pool, drawn=False)
    ws.catalogue.update_run(
        run.id, kind="map", state="running", pid=os.getpid(), stage="encode pool", done=3.0, total=4.0
    )
    visit(app, "map", run=run.id)
    assert not app.exception
    assert no_worker == []
    assert app.get("progress")
    assert "everything else on this page works" in said(app).lower()


def test_a_map_that_failed_says_why_and_offers_to_try_again(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, no_worker: list[str]
) -> None:
    run = store(ws, pool, drawn=False)
    ws.catalogue.update_run(run.id, kind="map", state="failed", error="The encoder is missing.")
    visit(app, "map", run=run.id)
    assert not app.exception
    assert "The encoder is missing" in said(app).replace("\\", "")
    app.button(key="map.start").click().run()
    assert no_worker == [run.id]


def test_an_order_that_is_not_nested_has_no_budget_slider_and_says_so(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool, nested=False)
    visit(app, "map")
    assert not app.exception
    assert not app.slider
    assert "not nested" in said(app)
