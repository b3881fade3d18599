"""Each page in each state: it says what it can, offers a way on, and never shows a raw exception."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from delift_core import sample
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from pages import _jobs
from pages import _widgets as widgets
from tests.app.steps import HOSTILE, PAGES, KnownCost, choose, said, visit


@pytest.fixture
def known_cost(monkeypatch: pytest.MonkeyPatch) -> type[KnownCost]:
    monkeypatch.setattr(_jobs, "estimate_of", lambda config: KnownCost())
    return KnownCost


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_workspace_gives_a_hint_and_no_exception(app: AppTest, no_sample: None, page: str) -> None:
    visit(app, page)
    assert not app.exception
    assert not app.error
    assert "No run yet" in said(app)
    assert {"data": "Drop a file", "run": "load a dataset first", "export": "needs a finished run"}[page] in said(app)


@pytest.mark.parametrize("page", PAGES)
def test_with_a_finished_run_every_page_shows_it(
    app: AppTest, no_sample: None, finished: Run, known_cost: object, page: str
) -> None:
    visit(app, page)
    assert not app.exception
    assert not app.error
    assert "10 of 38 rows" in said(app)  # 40, less one copy and one refused
    assert app.query_params["run"] == finished.id if isinstance(app.query_params["run"], str) else [finished.id]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", ["running", "failed", "cancelled", "interrupted"])
def test_a_run_that_is_not_finished_is_named_by_its_state(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, known_cost: object, page: str, state: str
) -> None:
    record = ws.catalogue.add_run(RunConfig(pool=pool.fingerprint, method="random", budget="5"))
    if state == "running":
        changes = {"pid": os.getpid(), "stage": "score pool", "done": 3.0, "total": 10.0, "eta": 42.0}
    else:
        changes = {"error": "The model folder has no weights." if state == "failed" else ""}
    ws.catalogue.update_run(record.id, state=state, **changes)
    visit(app, page, run=record.id)
    assert not app.exception
    assert state in said(app)
    if page == "run":
        bars = "".join(bar.proto.text for bar in app.get("progress")).replace("\\", "")
        assert {
            "running": "Scoring pairs: 3 of 10, about 42 s left",
            "failed": "no weights",
            "cancelled": "was cancelled",
            "interrupted": "without a word",
        }[state] in said(app) + bars
        wanted = "Cancel" if state == "running" else "Resume"
        assert wanted in [button.label for button in app.button]
    if page == "export":
        assert "needs a finished run" in said(app)


def test_an_unknown_run_in_the_url_is_an_error_that_says_what_to_do(app: AppTest, no_sample: None) -> None:
    visit(app, "export", run="0123456789abcdef")
    assert not app.exception
    assert any("delift runs" in error.value.replace("\\", "") for error in app.error)


def test_what_is_no_run_id_opens_no_file(app: AppTest, no_sample: None) -> None:
    visit(app, "export", run="../../etc")
    assert not app.exception
    assert app.error


def test_row_text_is_shown_as_text_only(app: AppTest, no_sample: None, finished: Run) -> None:
    visit(app, "data")
    app.number_input(key="first").set_value(4).run()
    assert HOSTILE in [element.value for element in app.text]
    for kind in ("markdown", "caption", "info", "warning", "error", "success", "title", "header", "subheader"):
        for element in app.get(kind):
            assert "<script>" not in str(element.value).replace("\\<", ""), kind
    assert all("script" not in str(element.proto) for element in app.get("html"))


def test_refused_rows_come_with_line_and_reason(app: AppTest, no_sample: None, pool: Dataset) -> None:
    visit(app, "data")
    app.get_by_key("view").set_value("Refused rows").run()
    assert not app.exception
    tables = [table.value for table in app.dataframe]
    lines = next(table for table in tables if "line" in table)
    assert list(lines["line"]) == [8]
    assert all(lines["reason"].str.len() > 5)


def test_the_contents_name_groups_and_lengths(app: AppTest, no_sample: None, pool: Dataset) -> None:
    visit(app, "data")
    app.get_by_key("view").set_value("What is in it").run()
    assert not app.exception
    groups = next(table.value for table in app.dataframe if "field" in table.value)
    assert "topic" in list(groups["field"])
    assert app.get("plotly_chart")


def test_an_upload_is_previewed_with_its_schema_and_loaded(
    app: AppTest, no_sample: None, ws: Workspace, pool_file: Path
) -> None:
    visit(app, "data")
    app.file_uploader[0].upload("../../sums <b>.jsonl", pool_file.read_bytes()).run()
    assert not app.exception
    assert "alpaca" in said(app).lower()
    assert "Add 0 and 1." in [element.value for element in app.text]
    app.button(key="load").click().run()
    assert not app.exception
    [record] = ws.catalogue.datasets()
    assert (record.rows, record.refused, record.roles) == (39, 1, ("pool",))
    kept = list((ws.root / "uploads").iterdir())
    assert [p.read_bytes() for p in kept] == [pool_file.read_bytes()]
    assert ".." not in kept[0].name and "sums" not in kept[0].name


def test_a_changed_mapping_changes_what_is_read(app: AppTest, no_sample: None, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(
        "".join(
            json.dumps({"instruction": f"ask {i}", "output": f"short {i}", "other": f"long {i}"}) + "\n"
            for i in range(9)
        )
    )
    visit(app, "data")
    app.file_uploader[0].upload("odd.jsonl", path.read_bytes()).run()
    box = next(b for b in app.selectbox if str(b.key).startswith("map.response"))
    assert box.value == "output"
    box.select("other").run()
    assert not app.exception
    shown = [element.value for element in app.text]
    assert "long 0" in shown and "short 0" not in shown


def test_a_bad_file_is_refused_with_a_reason(app: AppTest, no_sample: None, ws: Workspace) -> None:
    visit(app, "data")
    app.file_uploader[0].upload("empty.jsonl", b"").run()
    assert not app.exception
    assert any("empty" in error.value for error in app.error)
    assert not ws.catalogue.datasets()


def test_the_form_makes_a_configuration_and_the_command_line_for_it(
    app: AppTest, no_sample: None, pool: Dataset, known_cost: object
) -> None:
    visit(app, "run")
    choose(app, "control", "random")
    assert not app.exception
    [command] = [element.value for element in app.code if element.value.startswith("delift select")]
    assert f"delift select {pool.fingerprint[:12]} --method random --budget 30%" in command
    assert not app.button(key="start").disabled


def test_a_method_that_needs_a_target_says_so(app: AppTest, no_sample: None, pool: Dataset, known_cost: object) -> None:
    visit(app, "run")
    choose(app, "delift", "delift-task")
    assert not app.exception
    assert any("needs a target" in info.value for info in app.info)


def test_a_long_run_wants_a_tick_first(
    app: AppTest, no_sample: None, pool: Dataset, known_cost: type[KnownCost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_cost, "seconds", 1801.0)
    visit(app, "run")
    assert app.button(key="start").disabled
    tick = next(box for box in app.checkbox if str(box.key).startswith("agreed."))
    tick.check().run()
    assert not app.button(key="start").disabled


def test_a_budget_above_the_pool_is_an_error_beside_the_form(
    app: AppTest, no_sample: None, pool: Dataset, known_cost: object
) -> None:
    visit(app, "run")
    app.get_by_key("unit").set_value("rows").run()
    app.number_input(key="budget.rows").set_value(1000.0).run()
    assert not app.exception
    assert any("1000 rows" in error.value for error in app.error)


def test_the_page_starts_the_run_that_its_command_line_names(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    """The whole way without a stand-in: the estimate and the worker are subprocesses."""
    visit(app, "run")
    choose(app, "control", "random")
    config = RunConfig(pool=pool.fingerprint, method="random", budget="30%")
    deadline = time.monotonic() + 120
    while not any(button.key == "start" for button in app.button):
        assert time.monotonic() < deadline, said(app)
        time.sleep(0.3)
        app.run()
        assert not app.exception
        assert not app.error, [error.value for error in app.error]
    app.button(key="start").click().run()
    assert not app.exception
    while ws.catalogue.run(config.id).state not in ("done", "failed", "interrupted"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert ws.catalogue.run(config.id).state == "done", ws.catalogue.run(config.id).error
    app.run()
    assert "This run is finished" in said(app)


def test_the_budget_slider_moves_the_export(app: AppTest, no_sample: None, finished: Run) -> None:
    visit(app, "export")
    assert app.metric[0].value == "10"
    app.slider(key="k").set_value(4).run()
    assert not app.exception
    assert app.metric[0].value == "4"
    assert "4 of 38 rows" in said(app)


def test_a_budget_in_the_url_is_taken_over_at_the_first_visit(app: AppTest, no_sample: None, finished: Run) -> None:
    visit(app, "export", run=finished.id, k="7")
    assert not app.exception
    assert app.metric[0].value == "7"


@pytest.mark.skipif(not sample.available(), reason="assets/sample is not built: make sample")
@pytest.mark.parametrize("page", PAGES)
def test_a_first_visit_meets_the_finished_sample_run(app: AppTest, ws: Workspace, page: str) -> None:
    visit(app, page)
    assert not app.exception
    assert not app.error
    shipped = sample.config().id
    assert ws.catalogue.run(shipped).state == "done"
    assert app.session_state["_run"] == shipped
    assert "(sample)" in said(app)


def test_a_source_with_several_splits_asks_for_one(app: AppTest, no_sample: None, tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {i}", "output": str(i)} for i in range(9)]
    both = tmp_path / "both.json"
    both.write_text(json.dumps({"train": rows[:6], "test": rows[6:]}))
    app.session_state["source"] = (str(both), "both.json")
    visit(app, "data")
    assert not app.exception and not app.error
    app.selectbox(key="split").set_value("test").run()
    app.button(key="load").click().run()
    assert not app.exception and not app.error
    (record,) = widgets.workspace().catalogue.datasets()
    assert (record.name, record.rows, record.source) == ("both.json#test", 3, f"{both}#test")
