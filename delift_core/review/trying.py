"""A retry in a process of its own, for what takes longer than a page may: progress and result pass through a folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from delift_core.config import RunConfig
from delift_core.errors import ConfigError, DeliftError, WorkspaceError
from delift_core.review.whatif import Retried, retry
from delift_core.runs import Run, Workspace, files
from delift_core.types import Selection

_REQUEST, _PROGRESS, _RESULT, _LOG = "request.json", "progress.json", "result.npz", "log.txt"
_COMMAND = "import sys; from delift_core.review.trying import work; work(sys.argv[1])"
TELL_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class Trial:
    """A retry that a process is working on."""

    folder: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, ws: Workspace, run_id: str, settings: Mapping[str, Any]) -> Trial:
        """Begin; `settings` are JSON-able arguments of `retry` (objective, options, pin, ban, quota, rows)."""
        folder = Path(tempfile.mkdtemp(prefix="delift-whatif-"))
        files.write_json(
            folder / _REQUEST, {"workspace": str(ws.root.resolve()), "run": run_id, "settings": dict(settings)}
        )
        project = str(Path(__file__).parents[2])  # so that the process finds this very delift_core, installed or not
        paths = os.pathsep.join([project, *filter(None, [os.environ.get("PYTHONPATH")])])
        with (folder / _LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, str(folder)], stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": paths},
            )  # fmt: skip
        return cls(folder, process)

    @property
    def running(self) -> bool:
        """True while it is still working."""
        return self.process.poll() is None

    @property
    def progress(self) -> tuple[str, float]:
        """The stage, and its share that is done, in [0, 1]."""
        path = self.folder / _PROGRESS
        if not path.is_file():
            return "starting", 0.0
        told = files.read_json(path)
        return str(told["stage"]), float(told["share"])

    def stop(self) -> None:
        """End it, and leave nothing behind."""
        if self.running:
            self.process.terminate()
            self.process.wait(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def result(self) -> Retried:
        """What was chosen, once it is not running; raises ConfigError where the retry was refused.  Ask once."""
        try:
            return self._read()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> Retried:
        status, path = self.process.wait(), self.folder / _RESULT
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


def work(folder: str) -> None:
    """What the process does: read the request, choose again, write the result or the reason why not."""
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
