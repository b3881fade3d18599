"""A retry in a process of its own, for what takes longer than a page may: progress and result pass through a folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from delift_core.config import RunConfig
from delift_core.errors import ConfigError, DeliftError, WorkspaceError
from delift_core.review.whatif import Retried, retry
from delift_core.runs import Run, Workspace, files, processes
from delift_core.types import Selection

FOLDER = "trials"  # in the workspace
IDLE_SECONDS = 180.0  # a trial that nobody looks at for so long ends: a closed browser keeps its session for a while
TELL_SECONDS = 0.5
_REQUEST, _PROGRESS, _RESULT, _LOG = "request.json", "progress.json", "result.npz", "log.txt"
_COMMAND = "import sys; from delift_core.review.trying import main; main(sys.argv[1])"
_DESERTED = 75  # exit status of a trial that nobody waited for


@dataclass(frozen=True, eq=False)
class Trial:
    """A retry that a process is working on.

    The process ends with this object, and so with the session of a browser that was closed; with the server, by the
    end of its standard input; and when `progress` was not asked for `IDLE_SECONDS`.
    """

    folder: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, ws: Workspace, run_id: str, settings: Mapping[str, Any], *, idle: float = IDLE_SECONDS) -> Trial:
        """Begin; `settings` are JSON-able arguments of `retry` (objective, options, pin, ban, quota, rows).

        Raises WorkspaceError where the workspace cannot be written.
        """
        trials = files.make_folder(ws.root / FOLDER)
        _sweep(trials)
        with files.disk_errors(trials):
            folder = Path(tempfile.mkdtemp(dir=trials))
        files.write_json(
            folder / _REQUEST,
            {
                "workspace": str(ws.root.resolve()), "run": run_id, "settings": dict(settings), "idle": idle,
                "owner": asdict(processes.me()),
            },
        )  # fmt: skip
        project = str(Path(__file__).parents[2])  # so that the process finds this very delift_core, installed or not
        paths = os.pathsep.join([project, *filter(None, [os.environ.get("PYTHONPATH")])])
        with (folder / _LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, str(folder)], stdin=subprocess.PIPE, stdout=log,
                stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": paths},
            )  # fmt: skip
        trial = cls(folder, process)
        weakref.finalize(trial, _end, process, folder)
        return trial

    @property
    def running(self) -> bool:
        """True while it is still working."""
        return self.process.poll() is None

    @property
    def progress(self) -> tuple[str, float]:
        """The stage, and its share that is done, in [0, 1].  To ask is to say that somebody still waits."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which `running` says
            self.process.stdin.write(b".")
            self.process.stdin.flush()
        path = self.folder / _PROGRESS
        if not path.is_file():
            return "starting", 0.0
        told = files.read_json(path)
        return str(told["stage"]), float(told["share"])

    def stop(self) -> None:
        """End it, and leave nothing behind."""
        _end(self.process, self.folder)

    def result(self) -> Retried:
        """What was chosen, once it is not running.  Ask once.

        Raises ConfigError where the retry was refused, WorkspaceError where it was ended before it was done.
        """
        try:
            return self._read()
        finally:
            self.stop()

    def _read(self) -> Retried:
        status, path = self.process.wait(), self.folder / _RESULT
        if status == _DESERTED or not self.folder.is_dir():
            raise WorkspaceError("This was ended, as nobody looked at it for a while. Try it again.")
        if status != 0 or not path.is_file():
            tail = (self.folder / _LOG).read_text(encoding="utf-8", errors="replace").strip()[-2_000:]
            if status < 0:
                raise WorkspaceError(
                    f"The retry was ended by the system (signal {-status}), perhaps for want of memory. Free some, or "
                    "try a smaller pool."
                )
            raise RuntimeError(f"the retry ended with status {status}: {tail}")
        with np.load(path, allow_pickle=False) as kept:
            told = json.loads(str(kept["told"]))
            if "error" in told:
                raise ConfigError(told["error"])
            order, gains, value, sizes, curve, entered, left = (kept[name] for name in _ARRAYS)
        selection = Selection(order, gains, value, told.pop("full_value"), told.pop("nested"))
        config, notes = RunConfig.from_json(told.pop("config")), tuple(told.pop("notes"))
        return Retried(
            config=config, selection=selection, notes=notes, sizes=sizes, curve=curve, entered=entered, left=left,
            **told,
        )  # fmt: skip


_ARRAYS = ("order", "gains", "values", "sizes", "curve", "entered", "left")
_NUMBERS = ("k", "value", "share", "own", "overlap", "tokens", "seconds")


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    shutil.rmtree(folder, ignore_errors=True)


def _sweep(trials: Path) -> None:
    """Remove what is left of trials whose server is gone, and of those that nobody came back for."""
    for folder in trials.iterdir():
        with suppress(OSError):  # another server may sweep, too
            old = time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir())) > files.STALE_SECONDS
            if old or _orphaned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _orphaned(folder: Path) -> bool:
    """Whether the server that started a trial ran on this machine and is gone."""
    try:
        owner = processes.Owner(**files.read_json(folder / _REQUEST)["owner"])
    except (WorkspaceError, KeyError, TypeError):  # not written yet, or by another version: its age decides
        return False
    return owner.here and not owner.alive


def main(folder: str) -> None:
    """The process: work until it is done, nobody is there any more, or nobody looked for the idle time."""
    idle = float(files.read_json(Path(folder) / _REQUEST)["idle"])
    threading.Thread(target=_watch, args=(sys.stdin.fileno(), idle), name="delift-watch", daemon=True).start()
    work(folder)


def _watch(looks: int, idle: float) -> None:
    """End this process when the file `looks` is at an end, or nothing comes from it for `idle` seconds."""
    seen: SimpleQueue[bool] = SimpleQueue()

    def listen() -> None:
        while os.read(looks, 1):  # not by sys.stdin, whose lock the end of the interpreter waits for
            seen.put(True)
        os._exit(_DESERTED)

    threading.Thread(target=listen, name="delift-looks", daemon=True).start()
    with suppress(Empty):
        while True:
            seen.get(timeout=idle)
    os._exit(_DESERTED)


def work(folder: str) -> None:
    """What the process is for: read the request, choose again, write the result or the reason why not."""
    home = Path(folder)
    request = files.read_json(home / _REQUEST)
    told = _Told(home)
    try:
        ws = Workspace(Path(request["workspace"]))
        found = retry(ws, Run.open(ws, request["run"]), progress=told, **request["settings"])
    except DeliftError as error:
        _write(home, {"error": str(error)}, {})
        return
    record = {f.name: getattr(found, f.name) for f in fields(found) if f.name in _NUMBERS}
    record |= {
        "config": found.config.to_json(), "notes": found.notes, "nested": found.selection.nested,
        "full_value": found.selection.full_value,
    }  # fmt: skip
    arrays = (
        found.selection.order, found.selection.gains, found.selection.value, found.sizes, found.curve, found.entered,
        found.left,
    )  # fmt: skip
    _write(home, record, dict(zip(_ARRAYS, arrays, strict=True)))


def _write(home: Path, record: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, told=np.array(json.dumps(record)), **arrays)
    with files.atomic(home / _RESULT) as out:
        out.write(buffer.getvalue())


class _Told:
    """A `Progress` that is written to a file, twice a second at most."""

    def __init__(self, home: Path) -> None:
        self.path, self.at = home / _PROGRESS, -float("inf")

    def __call__(self, stage: str, done: float, total: float, note: str = "") -> None:
        """Write stage and share."""
        now = time.monotonic()
        if now - self.at >= TELL_SECONDS:
            self.at = now
            if not self.path.parent.is_dir():
                raise WorkspaceError(f"{self.path.parent} is gone, so nobody waits for this retry.")
            files.write_json(self.path, {"stage": stage, "share": min(1.0, done / total) if total > 0 else 0.0})
