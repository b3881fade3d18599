from __future__ import annotations

from pathlib import Path

import pytest

from delift_core.errors import WorkspaceError
from delift_core.runs.workspace import Workspace

BAD = [
    "", "..", "../x", "a/b", "0" * 15, "0" * 17, "ABCDEF0123456789", "0123456789abcde\n", "0123456789abcdeg",
    "\x00" * 16,
]  # fmt: skip


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "ws")
    ws.run_folder("0" * 16), ws.dataset_folder("0" * 64), ws.blocks, ws.catalogue, ws.free_bytes()
    assert not ws.root.exists()
    assert ws.datasets.is_dir() and ws.uploads.is_dir()


def test_the_default_is_delift_home_or_a_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIFT_HOME", str(tmp_path / "home"))
    assert Workspace.default().root == tmp_path / "home"
    monkeypatch.delenv("DELIFT_HOME")
    monkeypatch.chdir(tmp_path)
    assert Workspace.default().root == tmp_path / "workspace"


def test_a_relative_workspace_stays_where_it_was_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ws = Workspace(Path("ws"))
    monkeypatch.chdir("/")
    assert ws.datasets == tmp_path / "ws" / "datasets"
    assert ws == Workspace(tmp_path / "ws") and hash(ws) == hash(Workspace(tmp_path / "ws"))


@pytest.mark.parametrize("text", BAD)
def test_only_hexadecimal_ids_become_paths(ws: Workspace, text: str) -> None:
    with pytest.raises(WorkspaceError, match="hexadecimal"):
        ws.run_folder(text)
    if not (text == "0" * 15 or text == "0" * 17):
        with pytest.raises(WorkspaceError, match="hexadecimal"):
            ws.dataset_folder(text)


def test_a_file_in_the_place_of_the_workspace_is_told(tmp_path: Path) -> None:
    (tmp_path / "ws").write_text("not a folder")
    ws = Workspace(tmp_path / "ws")
    for use in (lambda: ws.datasets, lambda: ws.catalogue.runs()):
        with pytest.raises(WorkspaceError, match=r"Move it away|Not a directory"):
            use()


def test_too_little_space_is_told_before_work_begins(ws: Workspace) -> None:
    ws.require_space(1)
    with pytest.raises(WorkspaceError, match="GB are free"):
        ws.require_space(1 << 60)
