"""Runs as subprocesses: start, resume, look after, cancel.  The page may close, the server restart; the run goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from delift_core.config import RunConfig
from delift_core.errors import ConfigError, WorkspaceError
from delift_core.runs import files, processes
from delift_core.runs.catalogue import NEW_JOB, assign, job_record
from delift_core.runs.progress import RunProgress, working
from delift_core.runs.records import JobKind, JobRecord, RunRecord, State
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace

__all__ = [
    "RunProgress", "cancel", "job", "log_tail", "resume", "runs", "start_map", "state", "submit", "wait", "working",
]  # fmt: skip

GRACE_SECONDS = 15.0  # a cancelled worker that does not stop by itself is killed after this
_TAIL_BYTES = 1 << 18
_children: dict[int, subprocess.Popen[bytes]] = {}  # our own workers, kept so that they can be reaped when they end


def submit(
    workspace: Workspace, config: RunConfig, *, command: Sequence[str] | None = None, outdated: bool = False
) -> str:
    """Start a run in the background and return its id; `command` is the command line to note in the manifest.

    The same config is the same run: a finished one and one that is being computed are returned as they are, one that
    failed or stopped is started again and goes on at its first unfinished block.  Two calls at once start one worker.
    `outdated` says that a finished result no longer holds, since its model has changed: then it is made again.
    """
    workspace.catalogue.add_run(config, command=command or ())
    _start(workspace, config.id, "run", lambda: not outdated and _opens(workspace, config.id))
    return config.id


def resume(workspace: Workspace, id: str) -> bool:
    """Start the worker of a known run unless it is finished or being computed; True when one was started."""
    return _start(workspace, id, "run", lambda: _opens(workspace, id))


def start_map(workspace: Workspace, id: str) -> bool:
    """Draw a finished run's map in the background; True when a worker was started, False when drawn or being drawn."""
    run = Run.open(workspace, id)
    return _start(workspace, id, "map", lambda: run.map() is not None)


def start_stability(workspace: Workspace, id: str) -> bool:
    """Measure in the background how stable a finished run's choice is; False when it is being measured already."""
    return _start(workspace, id, "stability", lambda: False)


def state(workspace: Workspace, id: str, kind: JobKind = "run") -> State | None:
    """How a run stands, after looking whether its worker still lives; None where there never was such a job."""
    found = job(workspace, id, kind)
    return found.state if found else None


def job(workspace: Workspace, id: str, kind: JobKind = "run") -> JobRecord | None:
    """The job of a run with all it last said, after looking whether its worker still lives.

    A worker that died without a word (kill -9, out of memory, restart) turns `running` into `interrupted`; one that
    was asked to stop and does not within GRACE_SECONDS is killed, with its process group.
    """
    _reap()
    stored = workspace.catalogue.job(id, kind)
    if stored is None:
        workspace.catalogue.run(id)  # an unknown run raises here
        return None
    if stored.state not in ("queued", "running") or stored.owner is None:
        return stored
    if stored.is_alive():
        overdue = stored.cancel_at is not None and time.time() - stored.cancel_at > GRACE_SECONDS
        if not (overdue and stored.owner != processes.me() and stored.owner.kill_group()):
            return stored
    return _bury(workspace, stored)


def runs(workspace: Workspace, *, hidden: bool = False) -> list[RunRecord]:
    """All runs, the newest first, after looking which workers still live."""
    for record in workspace.catalogue.runs(hidden=hidden):
        if record.state in ("queued", "running"):
            job(workspace, record.id)
    return workspace.catalogue.runs(hidden=hidden)


def cancel(workspace: Workspace, id: str, kind: JobKind = "run") -> State | None:
    """Ask a worker to stop; it does at its next report of progress.  Returns how the run stands now.

    A run that nobody works on is cancelled at once; a finished one stays as it is.
    """
    current = job(workspace, id, kind)
    if current is None or current.state not in ("queued", "running"):
        return current.state if current else None
    now = time.time()
    with workspace.catalogue.transaction() as db:
        db.execute(
            "UPDATE jobs SET cancel_at = coalesce(cancel_at, ?)"
            " WHERE run = ? AND kind = ? AND state IN ('queued', 'running')",
            (now, id, kind),
        )
        db.execute(
            "UPDATE jobs SET state = 'cancelled', finished = ?"
            " WHERE run = ? AND kind = ? AND state = 'queued' AND pid IS NULL",
            (now, id, kind),
        )
    return state(workspace, id, kind)


def wait(workspace: Workspace, id: str, kind: JobKind = "run", *, seconds: float = float("inf")) -> State | None:
    """Look until the job has ended, or the time is over; returns how it stands."""
    deadline = time.monotonic() + seconds
    while (current := state(workspace, id, kind)) in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.1)
    return current


def log_tail(workspace: Workspace, id: str, lines: int = 40, kind: JobKind = "run") -> list[str]:
    """The last lines of the worker's log; empty before it wrote any."""
    path = _log(workspace, id, kind)
    try:
        with files.disk_errors(path, "read"), path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    kept = text.replace("\r\n", "\n").split("\n")
    whole = [line.rsplit("\r", 1)[-1] for line in kept]  # of a progress bar that rewrites its line, the last state
    return [line for line in whole if line.strip()][-lines:] if lines > 0 else []


def worker_command(workspace: Workspace, id: str, kind: JobKind = "run") -> list[str]:
    """The command line of a worker.  -P keeps files of the current folder from being taken for modules."""
    return [sys.executable, "-P", "-m", "delift_core", kind, "--id", id, "--workspace", str(workspace.root)]


def _log(workspace: Workspace, id: str, kind: JobKind) -> Path:
    return workspace.run_folder(id) / ("log.txt" if kind == "run" else f"log_{kind}.txt")


def _start(workspace: Workspace, id: str, kind: JobKind, finished: Callable[[], bool]) -> bool:
    """Claim the job for this process, in one transaction, then start the worker that takes it over."""
    job(workspace, id, kind)  # notice a dead worker, and an unknown run
    me = processes.me()
    with workspace.catalogue.transaction() as db:
        db.execute(NEW_JOB, (id, kind))
        stored = job_record(db.execute("SELECT * FROM jobs WHERE run = ? AND kind = ?", (id, kind)).fetchone())
        if stored.state in ("queued", "running") and stored.is_alive():
            return False
        if finished():
            done = {"state": "done", "error": "", "finished": stored.finished or time.time()}
            assign(db, "jobs", done, {"run": id, "kind": kind})
            return False
        assign(
            db, "jobs",
            {
                "state": "queued", "stage": "", "done": 0, "total": 0, "eta": None, "note": "", "error": "",
                "pid": me.pid, "born": me.born, "host": me.host, "heartbeat": time.time(), "started": None,
                "finished": None, "cancel_at": None,
            },
            {"run": id, "kind": kind},
        )  # fmt: skip
    try:
        child = processes.of(_launch(workspace, id, kind))
    except BaseException as error:  # else the claim of a living process would stand for ever
        with suppress(WorkspaceError):  # the first error matters
            workspace.catalogue.update_run(id, kind=kind, state="failed", error=f"The worker did not start: {error}")
        if isinstance(error, OSError):
            raise WorkspaceError(f"The worker of run {id} did not start: {error}. Try again.") from error
        raise
    with workspace.catalogue.transaction() as db:  # unless the worker was faster and took the job over itself
        db.execute(
            "UPDATE jobs SET pid = ?, born = ?, host = ? WHERE run = ? AND kind = ? AND state = 'queued'",
            (child.pid, child.born, child.host, id, kind),
        )
    return True


def _launch(workspace: Workspace, id: str, kind: JobKind) -> int:
    log = _log(workspace, id, kind)
    files.make_folder(log.parent)
    project = str(Path(__file__).parents[2])  # so that a worker finds this very delift_core, installed or not
    paths = [project, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    with files.disk_errors(log), log.open("ab") as output:
        child = subprocess.Popen(
            worker_command(workspace, id, kind), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip
    _children[child.pid] = child
    return child.pid


def _opens(workspace: Workspace, id: str) -> bool:
    """True when the run's files are all there and whole; a damaged run is computed again."""
    try:
        Run.open(workspace, id)
    except (WorkspaceError, ConfigError):
        return False
    return True


def _reap() -> None:
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            _children.pop(pid, None)


def _bury(workspace: Workspace, dead: JobRecord) -> JobRecord | None:
    """Write down that a worker is gone, unless another one has taken over meanwhile."""
    if dead.cancel_at is not None:
        ended, error = "cancelled", ""
    else:
        last = log_tail(workspace, dead.run, 1, dead.kind)
        ended = "interrupted"
        error = "The worker stopped without a word: killed, out of memory, or the machine was restarted."
        error += f" Last line of its log: {last[0][:500]}" if last else ""
        error += " Resume it: finished blocks are kept."
    with workspace.catalogue.transaction() as db:
        db.execute(
            "UPDATE jobs SET state = ?, error = ?, finished = ?, eta = NULL"
            " WHERE run = ? AND kind = ? AND state = ? AND pid IS ? AND born IS ?",
            (ended, error, time.time(), dead.run, dead.kind, dead.state, dead.pid, dead.born),
        )
    return workspace.catalogue.job(dead.run, dead.kind)
