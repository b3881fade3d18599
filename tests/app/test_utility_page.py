"""The Utility page: overview, block, pair, candidates that hurt, and runs that scored no pairs."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from delift_core import cli, figures
from delift_core.insight.overview import overview
from delift_core.runs import files
from delift_core.runs.run import Run, write_utility
from delift_core.runs.workspace import Workspace
from delift_core.scoring.shots import MultiShotUtility, ShotReading, summary_of
from delift_core.types import Dataset, Utility
from pages import _jobs
from pages._shotsview import table
from tests.app.scored import store
from tests.app.steps import HOSTILE, said, visit


def alts(app: AppTest) -> list[str]:
    return [chart.proto.alt for chart in app.get("plotly_chart")]


def test_without_a_run_the_page_says_what_it_needs(app: AppTest, no_sample: None) -> None:
    visit(app, "utility")
    assert not app.exception
    assert "it comes from a finished run" in said(app)


def test_a_method_without_utilities_says_in_one_line_what_can_be_shown_instead(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool, method="random")
    visit(app, "utility", run=run.id)
    assert not app.exception
    assert "has no pairs to show" in app.info[0].value and "Random control" in app.info[0].value
    links = [link.proto for link in app.get("page_link")]
    assert {link.label for link in links} >= {"See its picks on the map", "Audit its picks"}
    presets = [link.query_string for link in links if link.query_string]
    assert any("method=delift&" in f"{query}&" and pool.fingerprint in query for query in presets), presets


def test_the_overview_and_both_histograms_state_their_findings(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool)
    visit(app, "utility")
    assert not app.exception
    assert not app.error
    first, *rest = alts(app)
    assert "Utility of 38 candidates for 38 rows" in first
    assert f"{38 * 37:,} pairs" in first  # the diagonal is not scored
    assert any("best help a row gets" in alt for alt in rest)
    assert any("mean help a candidate gives" in alt for alt in rest)


def test_the_measure_can_be_switched(app: AppTest, no_sample: None, ws: Workspace, pool: Dataset) -> None:
    store(ws, pool)
    visit(app, "utility", kind="pmi")
    assert not app.exception
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert "nats per token" in json.dumps(figure["data"][0]["colorbar"])


@pytest.mark.parametrize("how", ["max", "share"])
def test_blocks_can_show_the_maximum_or_the_share_above_zero(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, how: str
) -> None:
    store(ws, pool)
    visit(app, "utility", cells=how)
    assert not app.exception
    assert ("share of pairs" if how == "share" else "maximum") in app.get("plotly_chart")[0].proto.spec


@pytest.mark.parametrize(
    ("part", "drawn", "rows", "columns"),
    [
        ("pool", True, "38 helped rows: by cluster on the map, then by pick", "by cluster on the map, then by pick"),
        ("pool", False, "38 helped rows: by like utility, then by pick", "by like utility, then by pick"),
        ("target", False, "5 helped rows: by like utility", "by like utility, then by pick"),
    ],
)
def test_the_axes_say_how_rows_and_columns_were_put_in_order(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, part: str, drawn: bool, rows: str, columns: str
) -> None:
    run = store(ws, pool, drawn=drawn)
    whole = run.utility("pool", "l2")
    assert isinstance(whole.values, np.ndarray)
    few = replace(whole, values=whole.values[:5], helped=whole.helped[:5], baseline=None)
    write_utility(run.folder, "target", few)  # rows of a target are never picked
    visit(app, "utility", part=part)
    assert not app.exception
    layout = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]
    assert layout["yaxis"]["title"]["text"] == rows
    assert layout["xaxis"]["title"]["text"] == f"38 candidates: {columns}"


def test_shares_of_0_are_no_gaps_on_a_dark_page() -> None:
    utility = Utility(np.zeros((3, 3), np.float32), np.arange(3), np.arange(3), "l2")
    view = overview(utility, np.arange(3), np.arange(3), "share")
    themes: tuple[figures.Theme, ...] = ("light", "dark")
    for theme, least in zip(themes, (0.0, 0.25), strict=True):
        scale = figures.heatmap(view, "l2", theme=theme).data[0].colorscale
        low, high = (sum(int(scale[end][1][at : at + 2], 16) for at in (1, 3, 5)) / 765 for end in (0, -1))
        assert least < low < high, "bright blocks help often, on both pages"


def test_a_block_opens_the_single_pairs(app: AppTest, no_sample: None, ws: Workspace, pool: Dataset) -> None:
    store(ws, pool)
    visit(app, "utility")
    before = len(alts(app))
    app.number_input(key="block_row").set_value(2)
    app.number_input(key="block_column").set_value(3).run()
    assert not app.exception
    assert len(alts(app)) == before + 1
    assert any("single pairs from" in alt for alt in alts(app))


def test_a_place_beyond_the_overview_opens_nothing(app: AppTest, no_sample: None, ws: Workspace, pool: Dataset) -> None:
    store(ws, pool)
    visit(app, "utility", block_row="9999", block_column="3")
    assert not app.exception
    assert not any("single pairs" in alt for alt in alts(app))


def test_a_pair_shows_both_texts_and_the_loss_before_and_after(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool)
    visit(app, "utility", helped=pool.ids[3], candidate=pool.ids[6])
    assert not app.exception
    shown = [(metric.label, metric.value) for metric in app.metric]
    assert shown[0] == ("distance without an example", "0.5000")
    # Rows 3 and 6 stand 2 apart among the distinct rows: 0.3 - 0.02 * 2 = 0.26.
    assert shown[1:3] == [("with the example", "0.2400"), ("utility", "+0.2600")]
    assert shown[3] == ("loss without an example, nats per token", "2.0000")
    assert shown[4:6] == [("with the example", "1.4800"), ("utility", "+0.5200")]
    texts = [element.value for element in app.text]
    assert texts.count(HOSTILE) == 2
    assert "Add 6 and 7." in texts
    for kind in ("markdown", "caption", "info", "warning"):
        assert all("<script>" not in str(element.value) for element in app.get(kind)), kind


def test_a_row_beside_itself_was_not_scored_and_the_page_says_so(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool)
    visit(app, "utility", helped=pool.ids[6], candidate=pool.ids[6])
    assert not app.exception
    assert "was not scored" in said(app)
    assert not app.metric


def test_unknown_ids_are_named(app: AppTest, no_sample: None, ws: Workspace, pool: Dataset) -> None:
    store(ws, pool)
    visit(app, "utility", helped="<i>x</i>", candidate=pool.ids[6])
    assert not app.exception
    assert "No row with the id" in said(app)


def test_candidates_that_hurt_are_listed_worst_first(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    store(ws, pool)
    visit(app, "utility")
    table = app.dataframe[0].value
    assert table["mean utility"].iloc[0] <= -0.1
    assert (table["mean utility"] < 0).all()
    assert table["mean utility"].is_monotonic_increasing
    assert pool.ids[0] in set(table["id"])


# --- sets of examples ------------------------------------------------------------------------------------------------

QUESTION = "Do pairs tell the truth about sets?"


def measured(pool: Dataset, kind: str = "l2") -> dict[str, Any]:
    """What `delift multishot` writes: 6 rows, sets of 2 and 4; one row has too few helpers for 4."""
    helped, draw = pool.unique[2:8], np.random.default_rng(0)
    together, control = (draw.normal(mean, 0.02, (6, 2)).astype(np.float32) for mean in (0.2, 0.05))
    together[3, 1] = control[3, 1] = np.nan
    best = np.full(6, 0.1, np.float32)
    readings = {}
    for unit in ("l2", "pmi"):
        told = np.where(np.isnan(together), np.nan, 0.1 if unit == kind else np.nan).astype(np.float32)
        known = [~np.isnan(together[:, c]) for c in (0, 1)]
        summary = [
            summary_of(k, [together[on, c], best[on], control[on, c], told[on, c], told[on, c]], unit == kind, "", 0)
            for c, (k, on) in enumerate(zip((2, 4), known, strict=True))
        ]
        readings[unit] = ShotReading(best + 0.3, best, together, control, told, told, tuple(summary))
    shown = np.tile(pool.unique[10:14], (6, 1))
    shown[3, 2:] = -1
    found = MultiShotUtility(helped, (2, 4), shown, kind, readings["l2"], readings["pmi"], ("2 examples were cut.",))
    return {"part": "pool", **found.to_json()}


def keep(run: Run, record: dict[str, Any]) -> None:
    files.write_json(run.folder / "multishot.json", record)


def test_sets_are_measured_only_when_somebody_asks(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []

    class Child:
        pid = os.getpid()

        def __init__(self, words: list[str], **more: Any) -> None:
            started.append((words, more))

        def poll(self) -> None: ...

    monkeypatch.setattr(_jobs.subprocess, "Popen", Child)
    run = store(ws, pool)
    visit(app, "utility")
    assert QUESTION in said(app)
    assert not started
    app.number_input(key="shots.rows").set_value(12)
    app.button(key="shots.start").click().run()
    assert not app.exception
    ((words, more),) = started
    assert more["start_new_session"]
    told = words[words.index("delift_core") + 1 :]
    options = cli._parser(told).parse_args(told)
    assert (options.command, options.id, options.rows, options.workspace) == ("multishot", run.id, 12, str(ws.root))
    assert "Measuring sets of examples" in said(app)
    _jobs.start_multishot(run.id, 50)  # by another visitor
    assert len(started) == 1
    _jobs._children.clear()


def test_a_measurement_under_way_shows_its_last_word_and_can_be_cancelled(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool)
    ws.catalogue.update_run(run.id, kind="multishot", state="running")
    (run.folder / "log_multishot.txt").write_text("multishot:  10%\nmultishot:  40%, 9 s left\n")
    visit(app, "utility")
    assert not app.exception
    assert "40%, 9 s left" in said(app).replace("\\", "")
    assert not any(button.key == "shots.start" for button in app.button)
    app.button(key="shots.cancel").click().run()
    job = ws.catalogue.job(run.id, "multishot")
    assert job is not None and job.cancel_at is not None
    assert "stopping" in said(app)


def test_a_measurement_that_failed_says_why_and_can_be_started_again(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool)
    ws.catalogue.update_run(run.id, kind="multishot", state="running", pid=2**22 - 1)  # no such process
    (run.folder / "log_multishot.txt").write_text("delift: The selection has 1 different *rows*.\n")
    visit(app, "utility")
    assert not app.exception
    assert app.warning[0].value == "The sets were not measured. The selection has 1 different \\*rows\\*\\."
    assert app.button(key="shots.start").label == "Measure sets"


def test_a_worker_that_wrote_its_file_is_done(ws: Workspace, pool: Dataset) -> None:
    run = store(ws, pool)
    ws.catalogue.update_run(run.id, kind="multishot", state="running", pid=2**22 - 1, started=time.time() - 60)
    keep(run, measured(pool))
    job = _jobs.multishot_job(run.id)
    assert job is not None and (job.state, job.error) == ("done", "")
    ws.catalogue.update_run(run.id, kind="multishot", state="running", pid=2**22 - 1, started=time.time() + 60)
    job = _jobs.multishot_job(run.id)  # of an older file nothing is to be had
    assert job is not None and job.state == "interrupted"


def test_measured_sets_are_shown_with_figure_sentences_and_rows(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool)
    record = measured(pool)
    keep(run, record)
    visit(app, "utility")
    assert not app.exception
    assert not app.error
    alt = next(alt for alt in alts(app) if "together" in alt)
    assert "2 together 0.2" in alt and "the best alone 0.1, predicted by pairs 0.1" in alt
    shown = said(app).replace("\\", "")
    for told in record["l2"]["summary"]:
        assert told["sentence"] in shown
    assert "2 examples were cut." in shown
    frame = app.dataframe[-1].value
    assert list(frame["row"]) == [pool.ids[i] for i in record["helped"]]
    assert list(frame["2 together"]) == pytest.approx([row[0] for row in record["l2"]["together"]])
    assert np.isnan(frame["4 together"].iloc[3])
    assert list(frame["examples, the best first"].iloc[3]) == [pool.ids[i] for i in pool.unique[10:12]]
    assert app.button(key="shots.start").label == "Measure again"


def test_a_reading_without_predictions_has_no_columns_of_them(pool: Dataset) -> None:
    record = measured(pool)
    assert "2 pairs predict" in table(record, pool.ids, pool.ids)
    record["kind"] = "pmi"  # whose pairs were not given
    assert not any("predict" in name for name in table(record, pool.ids, pool.ids))


@pytest.mark.parametrize(("text", "told"), [("{", "is damaged"), ('{"version": 99}', "by another version")])
def test_a_file_that_cannot_be_read_is_named_and_can_be_made_anew(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, text: str, told: str
) -> None:
    run = store(ws, pool)
    (run.folder / "multishot.json").write_text(text)
    visit(app, "utility")
    assert not app.exception
    assert told in said(app)
    assert app.button(key="shots.start").label == "Measure sets"
