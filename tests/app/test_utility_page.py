"""The Utility page: overview, block, pair, candidates that hurt, and runs that scored no pairs."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
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
    assert "scores no pairs; the Map shows" in app.info[0].value


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
