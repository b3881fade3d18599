"""Questions about rows that a stranger may write, in SQL or as a pattern, answered by a process that can be killed.

DuckDB sees one table in a database of its own in memory: no files, no network, no extensions, no Python variables, no
settings.  Any query may still be made to fill the memory or to run for ever, so it runs in `sqlworker.py`, which limits
its own memory, processor time and files before it reads the query, and which is killed when its time is over.  Where
the system knows no such limits (Windows) those of DuckDB's buffers and of the time hold.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from delift_core.data.report import ROWS
from delift_core.errors import ConfigError
from delift_core.types import Dataset, Indices

MEMORY = 1 << 30  # bytes that DuckDB keeps tables and intermediate results in
ROOM = 1 << 29  # bytes beside them: values that a function makes, threads
THREADS = 4
AT_ONCE = 2  # processes; more questions wait for their turn
_WORKER = Path(__file__).with_name("sqlworker.py")
_turns = threading.BoundedSemaphore(AT_ONCE)


def ask(
    dataset: Dataset, query: str, how: Literal["regex", "sql"], columns: Mapping[str, Any], seconds: float
) -> Indices:
    """Indices of the rows that match, ascending (M,); M is at most the number of rows, whatever the query returns.

    Args:
        dataset: the rows (n,), which lie in a folder that `load` wrote.
        query: a condition or one SELECT, or a pattern of RE2.
        how: which of the two.
        columns: by the name in the query: a column of the dataset's table (a name), or n values.
        seconds: of wall clock, with the start of the process (about 0.2 s).

    Raises ConfigError for what cannot be read or run, and where it takes too long or too much memory.
    """
    threads = min(THREADS, os.cpu_count() or 1)
    more = _stream({name: values for name, values in columns.items() if not isinstance(values, str)})
    told = {
        "file": str(dataset.originals.with_name(ROWS)), "bytes": len(more), "how": how, "memory": MEMORY, "room": ROOM,
        "threads": threads, "processor": max(1, math.ceil(seconds * threads) + 1),
        "columns": [(name, values if isinstance(values, str) else None) for name, values in columns.items()],
    }  # fmt: skip
    line = json.dumps(told).encode() + b"\n"
    until = time.monotonic() + seconds
    if not _turns.acquire(timeout=max(seconds, 0)):
        raise ConfigError("Other searches are under way and did not end in time. Try again in a moment.")
    try:
        done = _run([line, more, query.encode(errors="replace")], seconds, until - time.monotonic())
    finally:
        _turns.release()
    return _read(done, len(dataset), seconds)


def _stream(columns: Mapping[str, Any]) -> bytes:
    found, sink = pa.table(dict(columns)), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, found.schema) as out:
        out.write_table(found)
    return bytes(sink.getvalue().to_pybytes())


def _run(parts: list[bytes], seconds: float, left: float) -> subprocess.CompletedProcess[bytes]:
    """Start the process, hand it everything, and wait; `subprocess.run` kills it when the time is over."""
    try:
        return subprocess.run(
            [sys.executable, "-P", str(_WORKER)], input=b"".join(parts), capture_output=True, check=False,
            timeout=max(left, 0), start_new_session=True, env={**os.environ, "MALLOC_ARENA_MAX": "2"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise too_long(seconds) from error


def _read(done: subprocess.CompletedProcess[bytes], rows: int, seconds: float) -> Indices:
    if done.returncode != 0:
        raise _ended(done, seconds)
    line, _, numbers = done.stdout.partition(b"\n")
    if "error" in (reply := json.loads(line)):
        raise ConfigError(reply["error"])
    found = np.frombuffer(numbers, "<i8").astype(np.int64)
    assert len(found) <= rows, (len(found), rows)
    return found


def _ended(done: subprocess.CompletedProcess[bytes], seconds: float) -> Exception:
    """Why a process gave no answer: by a signal it came to a limit of its own, else there is a fault in it."""
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
    if done.returncode < 0 and signal.Signals(-done.returncode).name == "SIGXCPU":
        return too_long(seconds)
    if done.returncode < 0 or "Memory" in last[0] or "bad_alloc" in last[0]:
        return ConfigError(
            f"The search came to the limit of its memory ({(MEMORY + ROOM) / 1e9:.1f} GB) or of its depth and was "
            "stopped. Ask for something simpler, or for less at once."
        )
    return RuntimeError(f"the search ended with status {done.returncode}: {last[0]}")


def too_long(seconds: float) -> ConfigError:
    """The error for a search that was stopped by the clock."""
    return ConfigError(f"The search took longer than {seconds:g} s and was stopped. Ask for something simpler.")
