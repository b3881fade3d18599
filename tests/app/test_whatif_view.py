"""The What-if and Stability views, on a page that shows nothing else."""

from __future__ import annotations

import math
import os
import time
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from delift_core import pipeline
from delift_core.errors import Cancelled
from delift_core.figures import alt_of
from delift_core.figures.whatif import MOST, Series, value_curves
from delift_core.insight.stability import Stability as Estimate
from delift_core.review import stability, trying, whatif
from delift_core.runs import jobs
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from pages import _whatifview as whatifview
from pages import _widgets as widgets
from pages._changedrun import FROM
from pages._command import command_for
from tests.app.conftest import ROOT
from tests.app.scored import store
from tests.app.steps import HOSTILE, said

PAGE = """
import sys
sys.path.insert(0, {root!r})
from pages import _widgets as widgets
from pages._stabilityview import show_stability
from pages._whatifview import show_whatif
run = widgets.require_run("It needs a run.")
pool = widgets.open_dataset_cached(run.config.pool)
{view}(run, pool, widgets.current_k(run))
"""


@pytest.fixture
def run(ws: Workspace, pool: Dataset, no_sample: None) -> Run:
    return store(ws, pool)


def page(view: str, run: Run, **query: str) -> AppTest:
    app = AppTest.from_string(PAGE.format(root=str(ROOT), view=view), default_timeout=60)
    for name, value in {"run": run.id, **query}.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception
    return app


def shown(app: AppTest, column: str) -> Any:
    return next(frame.value for frame in app.dataframe if column in frame.value)


# --- what if -------------------------------------------------------------------------------------------------------


def test_a_choice_is_tried_listed_drawn_and_made_a_run(
    run: Run, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(st, "page_link", lambda *args, **more: None)
    app = page("show_whatif", run)
    assert "fl: represent the pool" in app.selectbox(key="whatif.objective").options[0]
    app.selectbox(key="whatif.objective").set_value("random").run()
    app.text_area(key=f"whatif.ban.{run.id}").set_value(pool.ids[2])
    app.button(key="whatif.try").click().run()
    assert not app.exception and not app.error
    table = shown(app, "rows shared, %")
    assert table["choice"].tolist() == ["this run", "random, 8 rows, 1 banned"]
    found = whatif.retry(ws, run, objective="random", ban=(pool.ids[2],))
    assert table["value, % of the run's"][1] == pytest.approx(100 * found.share)
    assert table["in"][1] == len(found.entered) and table["tokens"][1] == found.tokens
    (chart,) = app.get("plotly_chart")
    assert "random, 8 rows, 1 banned" in chart.proto.alt
    started: list[Any] = []
    monkeypatch.setattr(
        pipeline, "submit", lambda ws, config, *, command: started.append((config, command)) or "a" * 16
    )
    monkeypatch.setattr(jobs, "state", lambda ws, id: "queued")
    app.button(key="whatif.make").click().run()
    assert [config.id for config, _ in started] == [found.config.id]
    assert started[0][1] == command_for(found.config)  # so that the manifest names the command
    assert app.session_state[FROM] == {"a" * 16: run.id}  # and the new run's page has a way back
    assert "was started" in said(app)
    app.button(key="whatif.remove").click().run()
    assert not app.get("plotly_chart") and "Tried in this session" not in said(app)


def test_an_option_another_budget_and_a_mistake(run: Run, pool: Dataset) -> None:
    app = page("show_whatif", run, k="5")
    app.selectbox(key="whatif.objective").set_value("set-cover").run()
    assert app.slider(key=f"whatif.option.{run.id}.set-cover.cover_threshold").max == 1  # a blend is a slider
    app.selectbox(key="whatif.objective").set_value("fl").run()
    app.button(key="whatif.try").click().run()
    assert shown(app, "rows shared, %")["rows"].tolist() == [8, 5]
    app.text_area(key=f"whatif.pin.{run.id}").set_value(f"{HOSTILE}\n").run()
    app.button(key="whatif.try").click().run()
    assert not app.exception
    assert "There is no row" in app.error[0].value and "<script>" not in app.error[0].value


def test_only_the_newest_choices_are_kept_and_a_run_made_again_shows_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whatifview, "MOST_VARIANTS", 2)
    app = page("show_whatif", run)
    for rows in (3, 4, 5):
        app.number_input(key=f"whatif.rows.{run.id}.{run.k}").set_value(rows).run()
        app.button(key="whatif.try").click().run()
    assert shown(app, "rows shared, %")["rows"].tolist() == [8, 4, 5]
    assert len(app.session_state[whatifview.VARIANTS]) == 2
    monkeypatch.setattr(whatifview, "version_of", lambda run: "made again")
    assert "Tried in this session" not in said(app.run())


def test_options_of_the_solver_are_folded_away(run: Run) -> None:
    app = page("show_whatif", run)
    app.selectbox(key="whatif.objective").set_value("fl").run()
    [folded] = [e for e in app.expander if e.label == "Advanced options"]
    keys = {w.key for w in (*folded.number_input, *folded.button_group)}
    assert f"whatif.option.{run.id}.fl.accuracy" in keys
    app.number_input(key=f"whatif.option.{run.id}.fl.accuracy").set_value(0.2).run()
    app.button(key="whatif.try").click().run()
    assert not app.exception and shown(app, "rows shared, %")["choice"][1] == "fl, accuracy 0.2, 8 rows"


def test_what_is_not_possible_says_why(run: Run) -> None:
    why = dict(shown(page("show_whatif", run), "why").itertuples(index=False))
    assert "target rows" in why["fl2mi"] and "row scores" in why["top-k"] and "fl" not in why


def test_what_takes_long_runs_elsewhere_and_comes_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[dict[str, Any]] = []

    class Slow:
        running, progress = True, ("select", 0.25)

        def __init__(self, ws: Workspace, settings: dict[str, Any]) -> None:
            self.ws, self.settings, self.stopped = ws, settings, False
            began.append(settings)

        def stop(self) -> None:
            self.stopped = True

        def result(self) -> whatif.Retried:
            return whatif.retry(self.ws, run, **self.settings)

    monkeypatch.setattr(trying.Trial, "start", lambda ws, run_id, settings: Slow(ws, settings))
    app = page("show_whatif", run)
    app.selectbox(key="whatif.objective").set_value("graph-cut").run()
    app.button(key="whatif.try").click().run()
    assert began[0]["objective"] == "graph-cut" and app.button(key="whatif.cancel")
    assert not [frame for frame in app.dataframe if "rows shared, %" in frame.value]
    monkeypatch.setattr(Slow, "running", False)
    app.run()
    assert shown(app, "rows shared, %")["choice"].tolist() == ["this run", "graph-cut, 8 rows"]
    monkeypatch.setattr(Slow, "running", True)
    app.button(key="whatif.try").click().run()
    app.button(key="whatif.cancel").click().run()
    assert not [b for b in app.button if b.key == "whatif.cancel"] and len(shown(app, "rows shared, %")) == 2


# --- stability -----------------------------------------------------------------------------------------------------


def test_stability_is_asked_for_and_a_dead_worker_is_told(
    run: Run, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[str] = []
    monkeypatch.setattr(stability, "start", lambda ws, run_id: began.append(run_id) or True)
    app = page("show_stability", run)
    app.button(key="stability.start").click().run()
    assert began == [run.id] and not app.exception
    ws.catalogue.update_run(run.id, kind="stability", state="failed", error="No *room* left.", finished=time.time())
    text = said(app.run())
    assert "Stability was not measured" in text and r"\*room\*" in text


def test_a_measurement_under_way_can_be_cancelled(run: Run, ws: Workspace) -> None:
    ws.catalogue.update_run(
        run.id, kind="stability", state="running", pid=os.getpid(), started=time.time(), stage="choose again",
        note="bootstrap", done=3, total=20,
    )  # fmt: skip
    app = page("show_stability", run)
    assert "3 of 20 times \\(bootstrap\\)" in app.get("progress")[0].proto.text
    app.button(key="stability.cancel").click().run()
    job = jobs.job(ws, run.id, "stability")
    assert job is not None and job.cancel_at is not None


def test_a_measured_run_shows_number_words_and_rows(run: Run, ws: Workspace, pool: Dataset) -> None:
    stability.measure(ws, run.id, replicates=6)
    app = page("show_stability", run)
    found = stability.read(ws, run.id)
    assert found is not None
    (metric,) = app.metric
    assert metric.value == f"{found.estimate.value:.2f}, {found.estimate.word}"
    assert found.estimate.word in said(app) and "The seed changes nothing" in said(app)
    tables = [frame.value for frame in app.dataframe]
    luck = next(t for t in tables if set(t["id"]) <= {pool.ids[row] for row in run.picked})
    assert luck["replicates, %"].is_monotonic_increasing and luck["replicates, %"].max() < 100
    assert app.get("plotly_chart")[0].proto.alt
    with pytest.raises(Cancelled):
        stability.measure(ws, run.id, replicates=7, progress=_stop)
    assert stability.read(ws, run.id) is not None  # the older one stands


@pytest.mark.parametrize("known", [True, False])
def test_with_everything_chosen_it_says_that_nothing_can_vary(
    ws: Workspace, pool: Dataset, no_sample: None, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    run = store(ws, pool)
    if known:  # measured by an older version
        undefined = Estimate(math.nan, None, None, 6, 8, 8.0)
        measured = stability.Stability({"bootstrap": undefined}, {"bootstrap": np.ones(len(pool))}, ())
        monkeypatch.setattr(stability, "read", lambda ws, run_id: measured)
    else:
        monkeypatch.setattr(widgets, "candidates", lambda of: run.k)
    app = page("show_stability", run)
    assert "nothing can vary" in said(app) and not app.button and not app.metric
    assert "nan" not in said(app).lower().split() and "undefined" not in said(app)


def _stop(stage: str, done: float, total: float, note: str = "") -> None:
    raise Cancelled("enough")


# --- the chart -----------------------------------------------------------------------------------------------------


def test_curves_are_told_apart_without_colour_and_the_text_ranks_them() -> None:
    sizes = np.arange(1, 21)
    series = [
        Series("this run", sizes, sizes / 10),
        Series("<b>other</b>", sizes, sizes / 20),
        Series("short", sizes[:10], sizes[:10] / 12, k=6),
        Series("unknown", sizes, np.full(20, np.nan)),
    ]
    figure = value_curves(series, 10)
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert len(lines) == 3  # what has no value is not drawn
    assert len({trace.line.dash for trace in lines}) == 3
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert len({trace.marker.symbol for trace in marks}) == 3
    assert [trace.x[0] for trace in marks] == [10, 10, 6]
    assert {note.text for note in figure.layout.annotations} == {"this run", "&lt;b&gt;other&lt;/b&gt;", "short"}
    heights = sorted(note.ay for note in figure.layout.annotations if note.x == 20)
    assert all(np.diff(heights) > 0)
    alt = alt_of(figure)
    assert alt.index("this run 100.0 %") < alt.index("other</b> 50.0 %") and "short 50.0 %" in alt
    assert alt_of(value_curves(series[3:], 10)) == "No selection has a value here."
    with pytest.raises(ValueError, match="told apart"):
        value_curves(series * MOST, 10)
