"""Every page in every state: empty, the sample, a run that is not finished, and a pool of a hundred thousand rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from delift_core import pipeline, sample
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from pages import _jobs
from tests.app.steps import KnownCost, said, visit

ALL = ("data", "run", "map", "utility", "audit", "compare", "export")
OF_A_RUN = ("map", "utility", "audit", "compare", "export")  # pages that show a finished run
HUGE = 100_001


@pytest.fixture(autouse=True)
def known_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jobs, "estimate_of", lambda config: KnownCost())


@pytest.fixture(scope="module")
def huge_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a finished run over a hundred thousand short rows, its map drawn."""
    home = tmp_path_factory.mktemp("huge")
    path = home / "huge.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for i in range(HUGE):
            row = {"instruction": f"Add {i} and 1.", "output": f"It is {i + 1}.", "digit": str(i % 10)}
            out.write(json.dumps(row) + "\n")
    ws = Workspace(home / "workspace")
    pool = pipeline.add_dataset(ws, path)
    run = pipeline.run(ws, RunConfig(pool=pool.fingerprint, method="random", budget="30%"))
    run.write_map({"pool": np.random.default_rng(0).normal(size=(HUGE, 2)).astype(np.float32)})
    return ws.root


@pytest.mark.parametrize("page", ALL)
def test_an_empty_workspace_says_what_to_do(app: AppTest, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    monkeypatch.setattr(sample, "available", lambda: False)
    visit(app, page)
    assert not app.exception
    assert not app.error
    if page in OF_A_RUN:
        assert any("finished run" in info.value for info in app.info)


@pytest.mark.parametrize("page", ALL)
def test_the_sample_fills_every_page(app: AppTest, page: str) -> None:
    visit(app, page)
    assert not app.exception
    assert not app.error
    assert "(sample)" in said(app)


@pytest.mark.parametrize("page", ALL)
@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_run_without_a_result_is_named_by_its_state(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, ws: Workspace, pool: Dataset, page: str, state: str
) -> None:
    monkeypatch.setattr(sample, "available", lambda: False)
    record = ws.catalogue.add_run(RunConfig(pool=pool.fingerprint, method="random", budget="5"))
    ws.catalogue.update_run(
        record.id, state=state, **({"pid": os.getpid()} if state == "running" else {"error": "No."})
    )
    visit(app, page, run=record.id)
    assert not app.exception
    assert state in said(app)


@pytest.mark.parametrize("page", ALL)
def test_a_hundred_thousand_rows_are_shown(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, huge_home: Path, page: str
) -> None:
    monkeypatch.setenv("DELIFT_HOME", str(huge_home))
    monkeypatch.setattr(sample, "available", lambda: False)
    app.default_timeout = 120
    visit(app, page)
    assert not app.exception
    told = [error.value for error in app.error]
    assert all("GB of memory" in text for text in told) if page == "run" else not told  # pairs of all rows: what to do
    k = Run.open(Workspace(huge_home), Workspace(huge_home).catalogue.runs()[0].id).k
    assert f"{k:,} of {HUGE:,} rows" in said(app)
