"""Fixtures that every part of the tests may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real instruction data beside the project; a missing one skips, and fails in CI."""
    folder = Path(os.environ.get("DELIFT_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        message = f"no real data at {folder}: set DELIFT_SHARED to the folder that holds data/"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(autouse=True)
def _own_workspace(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes to the user's workspace."""
    monkeypatch.setenv("DELIFT_HOME", str(tmp_path_factory.mktemp("workspace")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
