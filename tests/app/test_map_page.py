"""The Map page: numbers of a budget, the focused row, the table of an outline, and a run without a map."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from delift_core import pipeline
from delift_core.figures import points
from delift_core.insight import knowledge
from delift_core.insight.knowledge import Thresholds
from delift_core.runs import jobs
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from pages._mapview import MapView
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
    assert said(app).count("39 rows: 1 is an exact copy of another, so 38 can be picked") == 1
    assert f"39 rows, {K} of them selected" in said(app)


def test_a_method_without_values_shows_no_empty_curves(app: AppTest, no_sample: None, finished: Run) -> None:
    visit(app, "map", run=finished.id)
    assert not app.exception and not app.get("plotly_chart")
    assert "no value curve" in said(app)
    assert "Of the full value" not in metrics(app)


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
    assert f"Pick 1 of the {K} that the budget keeps" in said(app)
    app.text_input(key="row").set_value(pool.ids[late]).run()
    assert f"It enters at a budget of {K + 1} rows" in said(app)
    app.text_input(key="row").set_value(pool.ids[5]).run()
    assert "**Exact copy**" in said(app)


def test_an_unknown_row_is_named_and_nothing_breaks(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool)
    visit(app, "map", row="<b>no such</b>")
    assert not app.exception
    assert "No row has the id" in said(app)
    assert f"Ids here look like {pool.ids[0]}" in said(app)
    assert "<b>" not in app.warning[0].value.replace("\\<", "")


@pytest.mark.parametrize("colour", ["gain", "cluster", "knowledge", "field: topic", "no such colour"])
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
    app.selectbox(key="map.filter").set_value("inside the outline").run()
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


def test_the_table_narrows_to_one_group_of_what_the_map_is_coloured_by(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool)
    visit(app, "map", colour="field: topic")
    topics = pool.group("topic")
    assert app.selectbox(key="map.filter").options[0] == "all rows"
    app.selectbox(key="map.filter").set_value("topic: sums").run()
    assert not app.exception
    wanted = {pool.ids[i] for i in range(len(pool)) if topics[i] == "sums"}
    assert set(app.dataframe[0].value["id"]) == wanted
    app.selectbox(key="colour").set_value("membership").run()  # a group of another colouring is let go
    assert app.selectbox(key="map.filter").value == "all rows"
    app.selectbox(key="map.filter").set_value("membership: selected").run()
    assert app.dataframe[0].value["selected"].all()
    assert len(app.dataframe[0].value) == K


def test_a_pool_too_large_to_draw_says_how_many_rows_are_points(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "MOST_ROWS", 20)
    monkeypatch.setattr(points, "MOST_SHOWN", 15)
    store(ws, pool)
    visit(app, "map")
    assert not app.exception
    assert f"15 of {len(pool)} rows are shown as points" in said(app)


@pytest.fixture
def view(ws: Workspace, pool: Dataset) -> MapView:
    return MapView(store(ws, pool), pool, {"pool": np.zeros((len(pool), 2), np.float32)})


def test_the_keyboard_steps_through_the_picks(view: MapView) -> None:
    order = view.run.selection.order
    assert view.step(None, 1) == order[0]
    assert view.step(5, 1) == order[0]  # a copy stands in no order
    assert view.step(int(order[3]), 1) == order[4]
    assert view.step(int(order[3]), -1) == order[2]
    assert view.step(int(order[0]), -1) is None
    assert view.step(int(order[-1]), 1) is None


def test_ids_are_found_and_named(view: MapView) -> None:
    for row in range(len(view.pool)):
        assert view.row_of(view.id_of(row)) == row
    assert view.row_of("no such") is None


def test_pins_and_bans_are_marked_and_always_drawn(view: MapView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "MOST_ROWS", 20)
    monkeypatch.setattr(points, "MOST_SHOWN", 10)
    message, part = view.layer("membership", "light", K, 9, None, pinned=[7], banned=[0])
    assert part is not None
    assert {0, 7, 9} <= set(part.rows)
    assert b'"pinned": [7], "banned": [0]' in message


def test_stability_colours_the_map_where_it_was_measured(view: MapView) -> None:
    assert "stability" not in view.colour_names()
    frequency = np.linspace(0, 1, len(view.pool))
    frequency[3] = np.nan
    measured = replace(view, frequency=frequency)
    assert "stability" in measured.colour_names()
    colouring = measured.colouring("stability", "light", K)
    assert colouring.codes[3] == points.LEVELS
    assert colouring.codes[-1] == points.LEVELS - 1


def test_the_curves_are_the_same_figures_at_every_budget_and_the_cut_moves(view: MapView) -> None:
    assert view.curves("light") is view.curves("light")
    selection = view.run.selection
    assert view.cut(K)["map_curve"] == pytest.approx(100 * selection.head(K).share)
    assert view.cut(K)["map_gains"] == selection.gains[K - 1]


def test_an_id_is_found_as_it_stands_before_the_space_around_it_is_taken_away(
    app: AppTest, no_sample: None, ws: Workspace, tmp_path: Path
) -> None:
    source = tmp_path / "spaces.jsonl"
    ids = ["a", " a", "b ", *(f"row {i}" for i in range(9))]
    rows = [{"id": name, "instruction": f"Add {i}.", "output": str(i)} for i, name in enumerate(ids)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    store(ws, pipeline.add_dataset(ws, source))
    visit(app, "map", row=" a")
    for typed, row in ((" a", 1), ("a", 0), ("b ", 2), (" row 3 ", 6)):
        app.text_input(key="row").set_value(typed).run()
        assert not app.exception and not app.warning
        assert f"Add {row}." in [element.value for element in app.text], typed


def test_knowledge_colours_the_map_and_follows_the_budget(view: MapView, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "knowledge" in view.colour_names()
    monkeypatch.setattr(knowledge, "usual", lambda *_: Thresholds(0.1, 0.25, "no row is known"))
    few, many = (view.colouring("knowledge", "light", k) for k in (1, len(view.run.selection)))
    assert few.groups[few.codes[5]] == "not measured"  # an exact copy
    assert not np.array_equal(few.codes, many.codes)
    assert {label for label, _ in few.legend} == {few.groups[code] for code in few.codes}
    assert (
        "knowledge" not in MapView(store(Workspace.default(), view.pool, method="random"), view.pool, {}).colour_names()
    )
