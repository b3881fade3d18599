"""A workspace, a small dataset with copies and shared records, a finished run, and a disk that fills up."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from delift_core.config import RunConfig
from delift_core.runs import files, manifest
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset, Identity, Selection, Utility

POOL = "ab" * 32


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(pool=POOL, method="delift-se", budget="3")


def make_dataset(folder: Path, lines: list[bytes], rows: list[tuple[int, int]]) -> Dataset:
    """A dataset over raw JSON lines; `rows` are (source record, copy_of) pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = folder / "originals.jsonl"
    originals.write_bytes(b"".join(line + b"\n" for line in lines))
    starts = np.cumsum([0, *(len(line) + 1 for line in lines)])
    table = pa.table({
        "id": pa.array([f"r{i}" for i in range(len(rows))], pa.string()),
        "prompt": pa.array([f"prompt {i}" for i in range(len(rows))], pa.large_string()),
        "response": pa.array([f"response {i}" for i in range(len(rows))], pa.large_string()),
        "row": pa.array([record for record, _ in rows], pa.int64()),
        "copy_of": pa.array([copy for _, copy in rows], pa.int64()),
        "offset": pa.array([int(starts[record]) for record, _ in rows], pa.int64()),
        "length": pa.array([len(lines[record]) for record, _ in rows], pa.int64()),
    })  # fmt: skip
    return Dataset(table, originals, POOL, "pool.jsonl", "alpaca", True)


@pytest.fixture
def pool(tmp_path: Path) -> Dataset:
    """Eight rows of eight records; row 5 is an exact copy of row 1."""
    lines = [json.dumps({"q": f"frage {i} ä\u2028", "a": i}, ensure_ascii=False).encode() for i in range(8)]
    lines[2] = b'{"q" :  "odd   spacing", "a":1.50, "q": "said twice"}'
    return make_dataset(tmp_path / "pool", lines, [(i, 1 if i == 5 else i) for i in range(8)])


@pytest.fixture
def selection() -> Selection:
    """All seven distinct rows, in an order that is not that of the file."""
    order = np.array([6, 1, 4, 0, 2, 7, 3])
    gains = np.array([4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.25])
    return Selection(order, gains, np.cumsum(gains), 11.0, True, ("a note",))


@pytest.fixture
def utility() -> Utility:
    values = np.random.default_rng(0).normal(size=(8, 7)).astype(np.float32)
    values[3, 3] = np.nan
    return Utility(values, np.arange(8), np.array([0, 1, 2, 3, 4, 6, 7]), "l2", np.ones(8, np.float32))


def finish(ws: Workspace, config: RunConfig, pool: Dataset, selection: Selection, k: int = 3, **more: object) -> Run:
    """Write a run the way the pipeline does."""
    inputs = [manifest.Input("pool", pool.name, pool.fingerprint, "cd" * 32, len(pool), 1, "/somewhere/pool.jsonl")]
    record = manifest.build(
        config, selection, k, ids=pool.ids, inputs=inputs, encoder=Identity("minilm", "ef" * 20, "encoder"),
        timings={"encode": 1.5, "select": 0.5}, command=("delift", "select", "pool.jsonl"),
    )  # fmt: skip
    return Run.write(ws, config, selection, k, ids=pool.ids, manifest=record, **more)  # type: ignore[arg-type]


@pytest.fixture
def done(ws: Workspace, config: RunConfig, pool: Dataset, selection: Selection, utility: Utility) -> Run:
    tokens = np.arange(8) * 10
    pmi = replace(utility, kind="pmi", baseline=None)
    return finish(ws, config, pool, selection, utilities={"pool": [utility, pmi]}, tokens=tokens)


@pytest.fixture(params=["write", "fsync", "rename"])
def fill_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it with n: from then on the n-th write, fsync or rename (counted from 0) finds the disk full."""
    targets: dict[str, tuple[object, str]] = {
        "write": (files.HashingFile, "write"), "fsync": (os, "fsync"), "rename": (Path, "replace"),
    }  # fmt: skip
    owner, name = targets[request.param]
    plain = getattr(owner, name)

    def fill(after: int) -> None:
        left = [after]

        def full(*arguments: object) -> object:
            if left[0] <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= 1
            return plain(*arguments)

        monkeypatch.setattr(owner, name, full)

    return fill


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of one megabyte; only root can mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0
    if mounted:
        arguments = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        mounted = subprocess.run(arguments, capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("mounting a small disk needs root on Linux")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def leftovers(folder: Path) -> list[Path]:
    """Half-written files."""
    return list(folder.rglob(".delift-*"))
