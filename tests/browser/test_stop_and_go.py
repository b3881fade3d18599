"""A run that reads the language model: cancelled, resumed, and found again by a reload in the middle."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from tests.browser.conftest import Site
from tests.browser.steps import RUN_MS, press, reload, save, settled, visit

pytestmark = pytest.mark.browser
ROWS, K = 10, 4
STAGE = "score pool"
CANCELLED = "The run was cancelled; finished blocks are kept."


@pytest.fixture
def source(shared: Path, tmp_path: Path) -> Path:
    """A few real rows."""
    path = tmp_path / "maths.jsonl"
    with (shared / "data" / "gsm8k_test.jsonl").open("rb") as rows:
        path.write_bytes(b"".join(islice(rows, ROWS)))
    return path


@contextmanager
def halted(ws: Workspace, run_id: str) -> Iterator[str]:
    """Halt the run's worker as soon as it scores, so that it cannot end before the page was looked at.

    Yields the progress that the page has to tell meanwhile.
    """
    deadline = time.monotonic() + RUN_MS / 1_000
    while not ((job := ws.catalogue.run(run_id).job).state == "running" and job.stage == STAGE):
        assert job.state not in ("done", "failed"), f"{job.state} before it was halted: {job.error}"
        assert time.monotonic() < deadline, f"no scoring after {RUN_MS} ms: {job}"
        time.sleep(0.01)
    assert job.pid is not None
    worker = psutil.Process(job.pid)
    worker.suspend()
    while locked(ws):  # it was just writing there
        worker.resume()
        time.sleep(0.01)
        worker.suspend()
    try:
        job = ws.catalogue.run(run_id).job
        assert (job.state, job.stage) == ("running", STAGE)
        yield f"Scoring pairs: {job.done:,.0f} of {job.total:,.0f}"
    finally:
        worker.resume()


def locked(ws: Workspace) -> bool:
    """Whether somebody holds the catalogue for writing."""
    with closing(sqlite3.connect(ws.catalogue.path, timeout=0.1, isolation_level=None)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def blocks(ws: Workspace) -> dict[Path, int]:
    """Every stored block, with the time at which it was written."""
    return {path: path.stat().st_mtime_ns for path in (ws.root / "blocks").glob("*/*.npz")}


@pytest.mark.timeout(600)
def test_a_run_is_cancelled_resumed_and_outlives_a_reload(page: Page, site: Site, source: Path, tmp_path: Path) -> None:
    ws = site.ws
    before = blocks(ws)
    pool = pipeline.add_dataset(ws, source)
    run_id = pipeline.submit(ws, RunConfig(pool=pool.fingerprint, method="delift", budget=str(K)))
    with halted(ws, run_id) as told:
        visit(page, site.url("run", run_id), "Run")
        expect(page.get_by_test_id("stProgress").get_by_text(told)).to_be_visible()
        expect(page.get_by_text("You may close this page: the run goes on.")).to_be_visible()
        press(page, "Cancel")
    expect(page.get_by_text(CANCELLED)).to_be_visible()
    settled(page)
    expect(page.get_by_text(f"cancelled, {run_id[:8]}")).to_be_visible()
    kept = {path: written for path, written in blocks(ws).items() if path not in before}
    assert kept  # at least what each row costs without an example
    reload(page)
    expect(page.get_by_text(CANCELLED)).to_be_visible()

    page.locator(f".st-key-resume-{run_id}").get_by_role("button", name="Resume").click()
    with halted(ws, run_id) as told:
        expect(page.get_by_test_id("stProgress").get_by_text(told)).to_be_visible()
        reload(page)  # a new session, which finds the run by its address
        expect(page.get_by_test_id("stProgress").get_by_text(told)).to_be_visible()
        expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
    expect(page.get_by_text("This run is finished")).to_be_visible(timeout=RUN_MS)
    settled(page)
    expect(page.get_by_text(f"done, {run_id[:8]}")).to_be_visible()

    after = blocks(ws)
    assert {path: after[path] for path in kept} == kept  # nothing was computed twice
    assert len(after) > len(before) + len(kept)
    visit(page, site.url("export", run_id), "Export")
    got = save(page, f"Download {K} rows as JSONL", tmp_path / "page.jsonl")
    run = Run.open(ws, run_id)
    assert got.read_bytes().splitlines() == [source.read_bytes().splitlines()[row] for row in run.picked]
