"""kill -9 in the middle of scoring, then resume: finished blocks stay, and the ids are those of a calm run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.errors import DeliftError, WorkspaceError
from delift_core.runs import Run, Workspace, jobs
from delift_core.runs.blocks import DiskStore
from tests import small


def finished_blocks(ws: Workspace, kind: str = "icl") -> dict[str, int]:
    """Blocks of utilities with the time they were written; of kind "icl-pairs", those that a plan asked for."""
    return {p.name: p.stat().st_mtime_ns for p in (ws.root / "blocks").glob(f"*/{kind}-*.npz")}


def wait_for(condition: Callable[[], object], seconds: float = 200.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long prompts, so that a block holds few columns and there are many blocks."""
    return small.write(tmp_path_factory.mktemp("pool") / "pool.jsonl", small.rows(48, words=40))


@pytest.fixture(scope="module")
def calm(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Run]:
    """An undisturbed run and its workspace; the tests look at it and leave it alone."""
    ws = Workspace(tmp_path_factory.mktemp("calm"))
    return ws, pipeline.run(ws, configured(ws, pool))


def configured(ws: Workspace, pool: Path, pairs: str = "dense") -> RunConfig:
    return pipeline.configure(ws, pool, method="delift", budget="20%", model=small.model(), pairs=pairs)


def test_a_killed_worker_resumes_at_its_first_unfinished_block(
    tmp_path: Path, pool: Path, calm: tuple[Workspace, Run]
) -> None:
    whole, undisturbed = finished_blocks(calm[0]), calm[1]
    ws = Workspace(tmp_path / "killed")
    config = configured(ws, pool)
    run_id = jobs.submit(ws, config)
    wait_for(lambda: len(finished_blocks(ws)) >= 3)
    pid = ws.catalogue.run(run_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: jobs.state(ws, run_id) == "interrupted")
    survived = finished_blocks(ws)
    assert 3 <= len(survived) < len(whole), "the kill must fall into the middle of scoring"
    assert not Run.is_finished(ws, run_id)

    assert jobs.submit(ws, config) == run_id
    assert jobs.wait(ws, run_id, seconds=200) == "done"
    after = finished_blocks(ws)
    assert {name: after[name] for name in survived} == survived, "a finished block was written again"
    assert after.keys() == whole.keys()
    resumed = Run.open(ws, run_id)
    assert resumed.manifest["ids"] == undisturbed.manifest["ids"]
    assert resumed.manifest["hash"] == undisturbed.manifest["hash"]


def test_a_resumed_run_computes_only_the_blocks_that_are_missing(
    tmp_path: Path, calm: tuple[Workspace, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(calm[0].root, tmp_path / "copy")
    ws, whole = Workspace(tmp_path / "copy"), calm[1]
    blocks = sorted((ws.root / "blocks").glob("*/icl-*.npz"))
    blocks[0].unlink()
    blocks[1].write_bytes(blocks[1].read_bytes()[:-7])  # cut short by a crash: counts as missing
    written: list[str] = []
    put = DiskStore.put
    monkeypatch.setattr(DiskStore, "put", lambda self, key, arrays: (written.append(key), put(self, key, arrays))[1])
    (ws.run_folder(whole.id) / "manifest.json").unlink()
    again = pipeline.run(ws, whole.config)
    assert sorted(written) == [b.stem for b in blocks[:2]]
    assert again.manifest["hash"] == whole.manifest["hash"]


def test_a_killed_run_of_a_plan_that_learns_asks_for_the_same_pairs_again(tmp_path: Path) -> None:
    pool = small.write(tmp_path / "few.jsonl", small.rows(24, words=10))
    calm, ws = Workspace(tmp_path / "calm"), Workspace(tmp_path / "killed")
    undisturbed = pipeline.run(calm, configured(calm, pool, "adaptive:0.3"))
    whole = finished_blocks(calm, "icl-pairs")
    config = configured(ws, pool, "adaptive:0.3")
    run_id = jobs.submit(ws, config)
    wait_for(lambda: len(finished_blocks(ws, "icl-pairs")) >= 2)  # the random round, and one that has learnt from it
    pid = ws.catalogue.run(run_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: jobs.state(ws, run_id) == "interrupted")
    survived = finished_blocks(ws)
    assert 2 <= len(finished_blocks(ws, "icl-pairs")) < len(whole), "the kill must fall into the middle of the rounds"

    assert jobs.submit(ws, config) == run_id
    assert jobs.wait(ws, run_id, seconds=200) == "done"
    after = finished_blocks(ws)
    assert {name: after[name] for name in survived} == survived, "a finished block was written again"
    assert finished_blocks(ws, "icl-pairs").keys() == whole.keys(), "other pairs were asked for"
    resumed = Run.open(ws, run_id)
    assert resumed.manifest["ids"] == undisturbed.manifest["ids"]
    assert resumed.manifest["hash"] == undisturbed.manifest["hash"]
    assert resumed.manifest["fidelity"] == undisturbed.manifest["fidelity"]


def test_a_run_that_fails_says_why_and_can_be_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = Workspace(tmp_path / "ws")
    config = configured(ws, small.write(tmp_path / "few.jsonl", small.rows(15)))
    put, count = DiskStore.put, iter(range(100))

    def full(self: DiskStore, key: str, arrays: Any) -> None:
        if next(count) == 2:
            raise WorkspaceError("The disk is full")
        put(self, key, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(DiskStore, "put", full)
        with pytest.raises(DeliftError, match="disk is full"):
            pipeline.run(ws, config)
    record = ws.catalogue.run(config.id)
    assert record.state == "failed" and "disk is full" in record.error
    assert not Run.is_finished(ws, config.id)
    assert len(pipeline.run(ws, config).picked) == 3


def test_a_select_in_the_terminal_resumes_as_well(tmp_path: Path, pool: Path, calm: tuple[Workspace, Run]) -> None:
    home = tmp_path / "ws"
    words = ["select", pool, "--method", "delift", "--budget", "20%", "--model", small.model(), "--json"]
    first = small.process(*words, home=home)
    ws = Workspace(home)
    wait_for(lambda: len(finished_blocks(ws)) >= 3 or first.poll() is not None)
    first.kill()
    first.communicate()
    survived = finished_blocks(ws)
    second = small.process(*words, home=home)
    answer = json.loads(second.communicate()[0])
    assert second.returncode == 0
    assert json.loads(Path(answer["manifest"]).read_text())["hash"] == calm[1].manifest["hash"]
    after = finished_blocks(ws)
    assert survived and {name: after[name] for name in survived} == survived
