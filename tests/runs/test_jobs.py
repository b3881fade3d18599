from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from delift_core.config import RunConfig
from delift_core.errors import Cancelled, DataError, WorkspaceError
from delift_core.runs import jobs, processes, progress, records
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace

from . import worker
from .conftest import POOL

REAL_COMMAND = jobs.worker_command


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers are those of worker.py, and none outlives its test."""
    monkeypatch.setattr(jobs, "worker_command", worker.command)
    yield
    for child in jobs._children.values():
        child.kill()
        child.wait()
    jobs._children.clear()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that would take a minute."""
    monkeypatch.setenv("BLOCKS", "600")
    monkeypatch.setenv("DELAY", "0.1")


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def started(ws: Workspace, config: RunConfig, blocks: int = 2) -> str:
    """Submit and wait until some blocks are finished."""
    id = jobs.submit(ws, config)
    until(lambda: len(worker.did(ws, "block")) >= blocks)
    return id


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_run_in_the_background_goes_from_queued_to_done(ws: Workspace, config: RunConfig) -> None:
    id = jobs.submit(ws, config, command=("delift", "submit"))
    assert id == config.id and jobs.state(ws, id) in ("queued", "running")
    assert jobs.wait(ws, id, seconds=20) == "done"
    record = ws.catalogue.run(id)
    assert (record.stage, record.done, record.total, record.note) == ("score", 5, 5, "block 4")
    assert record.command == ("delift", "submit") and record.started and record.finished and not record.error
    assert jobs.log_tail(ws, id) == ["begin"]


def test_the_worker_leads_its_own_process_group(ws: Workspace, config: RunConfig, slow: None) -> None:
    id = started(ws, config, 1)
    pid = ws.catalogue.run(id).pid
    assert pid is not None and os.getpgid(pid) == pid != os.getpgid(0)


def test_the_real_worker_is_the_command_line(ws: Workspace) -> None:
    words = REAL_COMMAND(ws, "0" * 16, "map")
    assert words[1:] == ["-P", "-m", "delift_core", "map", "--id", "0" * 16, "--workspace", str(ws.root)]


def test_a_file_of_the_current_folder_is_never_run_as_a_module(
    ws: Workspace, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path / "here")
    check = "import json, delift_core; print('right', delift_core.__file__)"
    monkeypatch.setattr(jobs, "worker_command", lambda *_: [sys.executable, "-P", "-c", check])
    jobs.submit(ws, config)
    until(lambda: jobs.log_tail(ws, config.id))
    assert jobs.log_tail(ws, config.id) == [f"right {Path(jobs.__file__).parents[1] / '__init__.py'}"]


def test_submits_of_one_config_at_the_same_moment_start_one_worker(ws: Workspace, processes_: int = 3) -> None:
    ws.root.mkdir()
    arguments = [sys.executable, str(Path(worker.__file__)), "submit", str(ws.root), POOL]
    paths = {**os.environ, "PYTHONPATH": str(Path(jobs.__file__).parents[2]), "BLOCKS": "4", "DELAY": "0.3"}
    callers = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=paths) for _ in range(processes_)]
    until(lambda: len(list(ws.root.glob("ready-*"))) == processes_)
    (ws.root / "go").touch()
    ids = {caller.communicate(timeout=30)[0].strip() for caller in callers}
    assert ids == {RunConfig(pool=POOL).id}
    assert jobs.wait(ws, ids.pop(), seconds=20) == "done"
    assert len(worker.did(ws, "worker")) == 1
    assert worker.did(ws, "block") == [f"block {n}" for n in range(4)]


def test_a_second_submit_while_it_runs_starts_nothing(ws: Workspace, config: RunConfig, slow: None) -> None:
    id = started(ws, config)
    assert jobs.submit(ws, config) == id and not jobs.resume(ws, id)
    assert len(worker.did(ws, "worker")) == 1


def test_a_finished_run_is_returned_and_a_damaged_one_computed_again(ws: Workspace, done: Run) -> None:
    for state in ("done", "interrupted"):  # the second: killed after its last file, before it could say so
        ws.catalogue.update_run(done.id, state=state)
        assert jobs.submit(ws, done.config) == done.id
        assert jobs.state(ws, done.id) == "done" and worker.did(ws, "worker") == []
    path = done.folder / "selection.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    jobs.submit(ws, done.config)
    assert jobs.wait(ws, done.id, seconds=20) == "done" and len(worker.did(ws, "worker")) == 1


def test_a_killed_worker_is_interrupted_and_resumes_at_its_next_block(
    ws: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOCKS", "12")
    monkeypatch.setenv("DELAY", "0.1")
    id = started(ws, config, 3)
    pid = ws.catalogue.run(id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: jobs.state(ws, id) == "interrupted")
    record = ws.catalogue.run(id)
    assert "stopped without a word" in record.error and "Resume it" in record.error and "begin" in record.error
    before = worker.did(ws, "block")
    assert jobs.submit(ws, config) == id
    assert jobs.wait(ws, id, seconds=20) == "done"
    after = worker.did(ws, "block")[len(before) :]
    # At most the block at work when the signal came was done again.
    assert set(before) | set(after) == {f"block {n}" for n in range(12)}
    assert set(before) & set(after) <= {before[-1]}
    assert ws.catalogue.run(id).error == ""


def test_a_zombie_is_not_taken_for_a_living_worker(ws: Workspace, config: RunConfig) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    owner = processes.of(child.pid)
    ws.catalogue.add_run(config)
    ws.catalogue.update_run(config.id, state="running", pid=child.pid)
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert not owner.alive
    assert jobs.state(ws, config.id) == "interrupted"
    child.wait()


def test_our_own_dead_workers_are_reaped(ws: Workspace, config: RunConfig, slow: None) -> None:
    id = started(ws, config, 1)
    pid = ws.catalogue.run(id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: jobs.state(ws, id) == "interrupted")
    until(lambda: (jobs.state(ws, id), not psutil.pid_exists(pid))[1])
    assert pid not in jobs._children


def test_a_recycled_process_number_is_not_taken_for_the_worker(ws: Workspace, config: RunConfig) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as other:
        ws.catalogue.add_run(config)
        ws.catalogue.update_run(config.id, state="running", pid=other.pid)
        assert jobs.state(ws, config.id) == "running"
        with ws.catalogue.transaction() as db:  # as if an older process had had this number
            db.execute("UPDATE jobs SET born = born - 100, cancel_at = 1")
        assert jobs.state(ws, config.id) == "cancelled"  # overdue, yet the stranger was not killed for it
        assert other.poll() is None
        other.kill()


def test_a_worker_on_another_machine_is_judged_by_its_heartbeat(ws: Workspace, config: RunConfig) -> None:
    ws.catalogue.add_run(config)
    ws.catalogue.update_run(config.id, state="running")
    with ws.catalogue.transaction() as db:
        db.execute("UPDATE jobs SET host = 'elsewhere', pid = 999999999")
    assert jobs.state(ws, config.id) == "running"
    ws.catalogue.update_run(config.id, heartbeat=time.time() - records.SILENT_SECONDS - 1)
    assert jobs.state(ws, config.id) == "interrupted"


def test_cancel_stops_the_worker_at_its_next_block_and_a_new_submit_goes_on(
    ws: Workspace, config: RunConfig, slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = started(ws, config)
    pid = ws.catalogue.run(id).pid
    assert pid is not None
    jobs.cancel(ws, id)
    assert jobs.wait(ws, id, seconds=10) == "cancelled"
    until(lambda: gone(pid))
    count = len(worker.did(ws, "block"))
    monkeypatch.setenv("BLOCKS", str(count + 1))
    jobs.submit(ws, config)
    assert jobs.wait(ws, id, seconds=20) == "done"
    assert worker.did(ws, "block") == [f"block {n}" for n in range(count + 1)]


def test_a_worker_that_does_not_listen_is_killed_after_the_grace(
    ws: Workspace, config: RunConfig, slow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAF", "1")
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.5)
    id = started(ws, config, 1)
    pid = ws.catalogue.run(id).pid
    assert pid is not None
    assert jobs.cancel(ws, id) == "running"
    assert jobs.wait(ws, id, seconds=10) == "cancelled"
    until(lambda: gone(pid))


def test_cancel_of_what_is_not_running_is_harmless(ws: Workspace, config: RunConfig, done: Run) -> None:
    ws.catalogue.update_run(done.id, state="done")
    assert jobs.cancel(ws, done.id) == "done" and jobs.state(ws, done.id) == "done"
    other = ws.catalogue.add_run(config.with_(seed=5)).id
    assert jobs.cancel(ws, other) == "cancelled"
    assert jobs.cancel(ws, other, "map") is None
    with pytest.raises(WorkspaceError, match="No run"):
        jobs.cancel(ws, "0" * 16)


@pytest.mark.parametrize(("kind", "error"), [("data", "line 7 is odd"), ("bug", "RuntimeError: line 7 is odd")])
def test_a_worker_that_fails_says_why_and_can_be_started_again(
    ws: Workspace, config: RunConfig, kind: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", kind)
    id = jobs.submit(ws, config)
    assert jobs.wait(ws, id, seconds=20) == "failed"
    assert ws.catalogue.run(id).error == error
    assert any("line 7 is odd" in line for line in jobs.log_tail(ws, id))
    monkeypatch.delenv("FAIL")
    jobs.submit(ws, config)
    assert jobs.wait(ws, id, seconds=20) == "done" and ws.catalogue.run(id).error == ""


def test_a_worker_that_cannot_even_start_is_told(
    ws: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "worker_command", lambda *_: ["/no/such/program"])
    with pytest.raises(WorkspaceError, match=r"did not start.*/no/such/program"):
        jobs.submit(ws, config)
    assert jobs.state(ws, config.id) == "failed"
    monkeypatch.setattr(jobs, "worker_command", lambda *_: [sys.executable, "-c", "raise SystemExit('no module')"])
    jobs.submit(ws, config)
    assert jobs.wait(ws, config.id, seconds=20) == "interrupted"
    assert "no module" in ws.catalogue.run(config.id).error


def test_a_map_is_a_job_of_its_own(ws: Workspace, done: Run) -> None:
    ws.catalogue.update_run(done.id, state="done")
    assert jobs.state(ws, done.id, "map") is None
    assert jobs.start_map(ws, done.id) and not jobs.start_map(ws, done.id)
    assert jobs.wait(ws, done.id, "map", seconds=20) == "done" and jobs.state(ws, done.id) == "done"
    assert jobs.log_tail(ws, done.id, kind="map") == ["begin"] and jobs.log_tail(ws, done.id) == []


def test_the_list_of_runs_notices_dead_workers(ws: Workspace, config: RunConfig) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    ws.catalogue.add_run(config)
    ws.catalogue.update_run(config.id, state="running", pid=child.pid)
    assert [r.state for r in jobs.runs(ws)] == ["interrupted"]


def test_a_second_worker_of_a_running_run_is_refused(ws: Workspace, config: RunConfig, slow: None) -> None:
    id = started(ws, config, 1)
    with pytest.raises(WorkspaceError, match="already being computed by process"), jobs.working(ws, id):
        pytest.fail("two workers at once")
    assert jobs.state(ws, id) == "running"


@pytest.mark.parametrize(
    ("error", "state"),
    [(Cancelled("x"), "cancelled"), (DataError("x"), "failed"), (ZeroDivisionError("x"), "failed"),
     (KeyboardInterrupt(), "interrupted")],
)  # fmt: skip
def test_the_end_of_the_work_is_written_down_and_the_error_goes_on(
    ws: Workspace, config: RunConfig, error: BaseException, state: str
) -> None:
    ws.catalogue.add_run(config)
    with pytest.raises(type(error)), jobs.working(ws, config.id):
        raise error
    assert jobs.state(ws, config.id) == state
    with jobs.working(ws, config.id):
        assert jobs.state(ws, config.id) == "running"
    assert jobs.state(ws, config.id) == "done"


def test_on_a_full_disk_the_error_of_the_work_is_the_one_that_is_seen(
    ws: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws.catalogue.add_run(config)

    def full(*_: object, **__: object) -> None:
        raise WorkspaceError("the catalogue cannot be written")

    with pytest.raises(WorkspaceError, match="a block cannot be written"), jobs.working(ws, config.id):
        monkeypatch.setattr(type(ws.catalogue), "update_run", full)
        raise WorkspaceError("a block cannot be written")


def test_progress_is_written_at_most_twice_a_second_and_at_each_stage(
    ws: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws.catalogue.add_run(config)
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    report = jobs.RunProgress(ws, config.id)
    seen = []
    for n in range(101):  # ten units a second for ten seconds
        report("score", n, 100)
        seen.append(ws.catalogue.run(config.id).done)
        clock[0] += 0.1
    assert 18 <= len(set(seen)) <= 22 and seen[-1] == 100
    clock[0] += 1.0
    report("score", 100, 200)
    assert ws.catalogue.run(config.id).eta == pytest.approx(11.0, rel=0.05)
    report("select", 0, 7, "greedy")
    record = ws.catalogue.run(config.id)
    assert (record.stage, record.done, record.total, record.eta, record.note) == ("select", 0, 7, None, "greedy")


def test_blocks_that_were_there_already_do_not_spoil_the_time_left(
    ws: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws.catalogue.add_run(config)
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    report = jobs.RunProgress(ws, config.id)
    for n in range(900):  # found on disk at once
        report("score", n, 1000)
        clock[0] += 0.001
    for n in range(900, 970):  # then two seconds each
        report("score", n, 1000)
        clock[0] += 2.0
    assert ws.catalogue.run(config.id).eta == pytest.approx(62, rel=0.1)


def test_a_silent_stage_still_gives_signs_of_life(
    ws: Workspace, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BEAT_SECONDS", 0.05)
    ws.catalogue.add_run(config)
    with jobs.working(ws, config.id):
        first = ws.catalogue.run(config.id).heartbeat or 0.0
        until(lambda: (ws.catalogue.run(config.id).heartbeat or 0.0) > first + 0.1)


def test_the_log_tail_is_the_last_lines_of_whatever_was_written(ws: Workspace) -> None:
    id = "0" * 16
    assert jobs.log_tail(ws, id) == []
    ws.run_folder(id).mkdir(parents=True)
    log = ws.run_folder(id) / "log.txt"
    log.write_bytes(b"x" * (1 << 20) + b"\nfirst\r\n\xff\xfe\n10%\r50%\r100%\n\nlast")
    assert jobs.log_tail(ws, id, 4) == ["first", "\ufffd\ufffd", "100%", "last"]
    assert jobs.log_tail(ws, id, 1) == ["last"] and jobs.log_tail(ws, id, 0) == []
    with pytest.raises(WorkspaceError, match="16 hexadecimal"):
        jobs.log_tail(ws, "../../etc")
