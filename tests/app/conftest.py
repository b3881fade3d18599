"""A workspace in the states that a page can meet, and the app on top of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

from delift_core import pipeline, sample
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from tests.app.steps import HOSTILE

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def router(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has drawn a page before; otherwise AppTest runs each page alone, without app.py around it."""
    begin = PagesManager.__init__

    def begin_with_navigation(self: PagesManager, *args: object, **more: object) -> None:
        begin(self, *args, **more)  # type: ignore[arg-type]
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", begin_with_navigation)


@pytest.fixture
def no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that ships no sample: the workspace is really empty."""
    monkeypatch.setattr(sample, "available", lambda: False)


@pytest.fixture
def ws() -> Workspace:
    return Workspace.default()


@pytest.fixture
def pool_file(tmp_path: Path) -> Path:
    rows = [
        {
            "instruction": f"Add {i} and {i + 1}.",
            "output": f"The sum is {2 * i + 1}.",
            "topic": "sums" if i % 2 else "more sums",
        }
        for i in range(40)
    ]
    rows[3] = {"instruction": HOSTILE, "output": HOSTILE, "topic": "hostile"}
    rows[5] = rows[4]  # an exact copy
    rows[7]["output"] = ""  # no response: refused
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def pool(ws: Workspace, pool_file: Path) -> Dataset:
    return pipeline.add_dataset(ws, pool_file)


@pytest.fixture
def finished(ws: Workspace, pool: Dataset) -> Run:
    """A finished run that needed no model."""
    return pipeline.run(ws, RunConfig(pool=pool.fingerprint, method="random", budget="10"))


@pytest.fixture
def app() -> AppTest:
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
