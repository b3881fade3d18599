"""Groups and findings of constraints on the Map page, and runs side by side on the Run page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from delift_core import pipeline, reporting
from delift_core.config import RunConfig
from delift_core.models.encoder import unit
from delift_core.runs import jobs, manifest
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset, Floats, Identity, Progress, Selection, no_progress
from pages import _jobs
from tests.app.scored import store
from tests.app.steps import HOSTILE, KnownCost, said, visit


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn and nothing is priced in the background."""
    monkeypatch.setattr(jobs, "start_map", lambda ws, id: True)
    monkeypatch.setattr(_jobs, "estimate_of", lambda config: KnownCost())


@pytest.fixture
def holdout(ws: Workspace, tmp_path: Path) -> Dataset:
    """Held-out rows that share three with the pool: one word for word, one hostile, one with another answer."""
    rows = [
        {"instruction": "Nothing like the pool at all.", "output": "No."},
        {"instruction": "Add 10 and 11.", "output": "The sum is 21."},
        {"instruction": HOSTILE, "output": HOSTILE},
        {"instruction": "add 20 and 21", "output": "forty-one"},
    ]
    path = tmp_path / "holdout.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pipeline.add_dataset(ws, path, role="holdout")


def tables(app: AppTest, column: str) -> list[pd.DataFrame]:
    return [frame.value for frame in app.dataframe if column in frame.value]


# --- groups --------------------------------------------------------------------------------------------------------


def test_the_only_column_is_shown_at_once_with_the_worst_served_group(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool)
    visit(app, "map", run=run.id)
    assert not app.exception and not app.error
    found = pipeline.report(ws, run.id, "topic")
    assert found.sentence in said(app).replace("\\", "")
    [frame] = tables(app, "of the subset")
    assert list(frame["group"]) == [g.name for g in found.groups]
    assert list(frame["picked"]) == [g.picked for g in found.groups]
    assert list(frame["value covered"]) == pytest.approx([g.covered for g in found.groups])
    assert list(frame.loc[frame[" "] == "served worst", "group"]) == [found.worst]


def test_another_budget_says_that_the_groups_are_the_run_s_own(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool)
    visit(app, "map", run=run.id)
    assert "run's own" not in said(app)
    app.slider(key="k").set_value(20).run()
    assert not app.exception
    assert f"the run's own {run.k} rows" in said(app)


def test_clusters_wait_until_somebody_asks(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    class Letters:
        identity = Identity("letters", "0" * 64, "encoder")

        def encode(self, texts: Sequence[str], *, progress: Progress = no_progress) -> Floats:
            read.append(len(texts))
            return unit(np.array([np.bincount(list(t.encode()), minlength=256) for t in texts], np.float32))

    monkeypatch.setattr(reporting, "sentence_encoder", lambda name, cache: Letters())
    run = store(ws, pool)
    visit(app, "map", run=run.id)
    app.selectbox(key=f"groups.by.{run.id}").set_value("cluster").run()
    assert not app.exception and not app.error
    assert not read and not tables(app, "of the subset")
    app.number_input(key="groups.clusters").set_value(3).run()
    app.button(key="groups.go").click().run()
    assert not app.exception and not app.error
    assert sum(read) == 38
    [frame] = tables(app, "of the subset")
    assert list(frame["group"]) == ["1", "2", "3"]
    assert frame["rows"].sum() == 38
    app.run()  # another look computes nothing
    assert sum(read) == 38 and tables(app, "of the subset")


def test_a_report_that_cannot_be_made_is_an_error_on_the_page(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    config = RunConfig(pool=pool.fingerprint, method="random", budget="5", encoder="no/such-encoder")
    run = pipeline.run(ws, config)
    visit(app, "map", run=run.id)
    app.selectbox(key=f"groups.by.{run.id}").set_value("cluster").run()
    app.button(key="groups.go").click().run()
    assert not app.exception
    assert any("no/such" in error.value.replace("\\", "") for error in app.error)


# --- what the constraints found ------------------------------------------------------------------------------------


def test_rows_that_leak_are_counted_and_shown_beside_the_held_out_row_as_text(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, holdout: Dataset
) -> None:
    run = pipeline.run(
        ws, RunConfig(pool=pool.fingerprint, method="random", budget="10", holdout=holdout.fingerprint)
    )  # fmt: skip
    visit(app, "map", run=run.id)
    assert not app.exception and not app.error
    told = said(app)
    assert "3 of 39 rows are too close to one of 4 held-out rows" in told
    assert "2 as exact copies" in told and "1 as the same but for case and punctuation" in told
    texts = [element.value for element in app.text]
    assert texts.count(HOSTILE) == 4  # prompt and response, of both
    app.number_input(key="leaks.open.holdout").set_value(3).run()
    texts = [element.value for element in app.text]
    assert {"Add 20 and 21.", "add 20 and 21", "The sum is 41.", "forty-one"} <= set(texts)
    for kind in ("markdown", "caption", "info", "warning"):
        assert all("<script>" not in str(element.value).replace("\\<", "") for element in app.get(kind)), kind


def test_a_run_without_constraints_says_nothing_of_them(app: AppTest, no_sample: None, finished: Run) -> None:
    visit(app, "map", run=finished.id)
    assert not app.exception
    assert "too close" not in said(app) and "Domains" not in said(app)


def test_domains_are_listed_with_those_that_were_kept(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, holdout: Dataset
) -> None:
    rows = pool.unique[:5]
    selection = Selection(rows, np.ones(5), np.arange(1.0, 6.0), 5.0)
    config = RunConfig(
        pool=pool.fingerprint, target=holdout.fingerprint, method="got-d", budget="5", domains="topic:2"
    )  # fmt: skip
    domains = [
        {"domain": name, "rows": 9, "distance": 0.1 * rank, "rank": rank}
        for rank, name in enumerate(("sums", "<b>hostile</b>", "more sums"), 1)
    ]
    record = manifest.build(config, selection, 5, ids=pool.ids, inputs=[], constraints={"domains": domains})
    run = Run.write(ws, config, selection, 5, ids=pool.ids, manifest=record)
    ws.catalogue.update_run(run.id, state="done")
    visit(app, "map", run=run.id)
    assert not app.exception and not app.error
    [frame] = tables(app, "distance")
    assert list(frame["kept"]) == [True, True, False]
    assert list(frame["group"]) == ["sums", "<b>hostile</b>", "more sums"]
