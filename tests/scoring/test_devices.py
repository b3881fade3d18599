"""Several devices: every block is computed once, by whoever is free, and found by the scorer afterwards."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from delift_core.errors import Cancelled, ModelError
from delift_core.models.causal import CausalModel, load_causal
from delift_core.runs.blocks import DiskStore
from delift_core.scoring import devices, job
from delift_core.scoring.icl import InContext
from delift_core.scoring.rows import Rows
from delift_core.types import MemoryStore
from tests.models.conftest import save_model

SCORER = InContext(example_tokens=20, query_tokens=20)
ROWS = Rows([f"What is {n}?" for n in range(6)], [f"It is {n}, é." for n in range(6)], np.arange(6))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CausalModel:
    monkeypatch.setattr(job, "BLOCK_COLUMNS", 1)
    return load_causal(str(save_model(tmp_path / "model")), device="cpu", dtype="float32")


def helpers() -> list[psutil.Process]:
    """Processes of ours that score for another device; a browser that a test before kept open is none."""
    ours = psutil.Process().children(recursive=True)
    alive = [p for p in ours if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if "delift_core.scoring.devices" in p.cmdline()]


def test_several_processes_share_the_blocks_of_one_store(model: CausalModel, tmp_path: Path) -> None:
    store, seen = DiskStore(tmp_path / "blocks"), []
    counts = devices.fill(
        SCORER, ROWS, ROWS, model, name=str(tmp_path / "model"), devices=["cpu", "cpu"], store=store,
        progress=lambda stage, done, total, note="": seen.append((done, total)),
    )  # fmt: skip
    assert sum(counts) == 6
    assert min(counts) >= 1, "each process took part"
    assert seen[-1] == (36.0, 36.0)
    assert seen == sorted(seen)
    found = SCORER.score(ROWS, ROWS, model, same=True, store=store)
    alone = SCORER.score(ROWS, ROWS, model, same=True, store=MemoryStore())
    assert (found.report.computed, alone.report.computed) == (0, 6)
    np.testing.assert_allclose(found.pmi.values, alone.pmi.values, atol=1e-5)
    assert not helpers(), "no process is left behind"


def test_a_finished_job_starts_no_process(model: CausalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    SCORER.score(ROWS, ROWS, model, same=True, store=store)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a process was started"))
    assert devices.fill(SCORER, ROWS, ROWS, model, name="unused", devices=["cpu"], store=store) == [0]


def test_what_goes_wrong_on_another_device_is_said_and_finished_blocks_are_kept(
    model: CausalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, name = MemoryStore(), str(tmp_path / "model")
    other = CausalModel(
        model.tokenizer, model.eos_id, model.model, replace(model.identity, hash="other"), model.context
    )
    with pytest.raises(ModelError, match="On cpu: model has changed since the run began"):
        devices.fill(SCORER, ROWS, ROWS, other, name=name, devices=["cpu"], store=store)
    assert len(store.blocks) == 5, "this process went on with the others"
    with pytest.raises(ModelError, match="On toaster: Device 'toaster' is not understood"):
        devices.fill(SCORER, ROWS, ROWS, model, name=name, devices=["toaster"], store=MemoryStore())
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match=r"scored on cpu ended \(status 1\).*Run again"):
        devices.fill(SCORER, ROWS, ROWS, model, name=name, devices=["cpu"], store=MemoryStore())


def test_a_cancelled_job_ends_its_processes(model: CausalModel, tmp_path: Path) -> None:
    def cancel(*said: object) -> None:
        raise Cancelled("by the user")

    with pytest.raises(Cancelled):
        devices.fill(
            SCORER, ROWS, ROWS, model, name=str(tmp_path / "model"), devices=["cpu"], store=MemoryStore(),
            progress=cancel,
        )  # fmt: skip
    assert not helpers()


def test_a_model_on_the_processor_has_no_other_devices(model: CausalModel) -> None:
    assert devices.others(model) == []
