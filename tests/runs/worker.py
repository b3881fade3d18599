"""A stand-in for `delift run`: the same life as a real worker, with blocks that only sleep.

    python worker.py work ROOT ID KIND       the worker
    python worker.py submit ROOT POOL        a process that submits one config when ROOT/go appears

The environment says how: BLOCKS, DELAY (seconds a block), DEAF=1 (never reports), FAIL (an error after two blocks).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from delift_core.config import RunConfig
from delift_core.errors import DataError
from delift_core.runs import jobs
from delift_core.runs.workspace import Workspace
from delift_core.types import block_key


def command(workspace: Workspace, id: str, kind: str = "run") -> list[str]:
    """What stands in for `jobs.worker_command`."""
    return [sys.executable, str(Path(__file__)), "work", str(workspace.root), id, kind]


def work(workspace: Workspace, id: str, kind: str) -> None:
    blocks, delay = int(os.environ.get("BLOCKS", "5")), float(os.environ.get("DELAY", "0.05"))
    with jobs.working(workspace, id, cast(Any, kind)) as progress:
        note(workspace, f"worker {os.getpid()}")
        print("begin", flush=True)
        for number in range(blocks):
            key = block_key("test", run=id, number=number)
            if workspace.blocks.get(key) is None:
                time.sleep(delay)
                note(workspace, f"block {number}")
                workspace.blocks.put(key, {"values": np.full(50_000, number)})
            if "DEAF" not in os.environ:
                progress("score", number + 1, blocks, f"block {number}")
            if number == 1 and "FAIL" in os.environ:
                raise {"data": DataError, "bug": RuntimeError}[os.environ["FAIL"]]("line 7 is odd")


def note(workspace: Workspace, line: str) -> None:
    with (workspace.root / "did.txt").open("a") as out:
        out.write(line + "\n")


def did(workspace: Workspace, what: str) -> list[str]:
    """What the workers noted, one entry per event."""
    path = workspace.root / "did.txt"
    return [line for line in path.read_text().splitlines() if line.startswith(what)] if path.exists() else []


if __name__ == "__main__":
    where = Workspace(Path(sys.argv[2]))
    if sys.argv[1] == "work":
        work(where, sys.argv[3], sys.argv[4])
    else:
        jobs.worker_command = cast(Any, command)
        (where.root / f"ready-{os.getpid()}").touch()
        while not (where.root / "go").exists():
            time.sleep(0.001)
        print(jobs.submit(where, RunConfig(pool=sys.argv[3])))
