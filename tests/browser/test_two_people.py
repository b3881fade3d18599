"""Two people in two browsers: nobody sees the other's unsaved edits, and nobody loses saved ones."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from tests import small
from tests.browser.conftest import Site
from tests.browser.steps import RUN_MS, command_line, go, press, reload, save, settled, show, shown_run, visit, write

pytestmark = pytest.mark.browser
ROWS, K = 120, 12


@pytest.fixture(scope="module")
def rows(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real rows with ids."""
    path = tmp_path_factory.mktemp("rows") / "maths.jsonl"
    with (shared / "data" / "gsm8k_test.jsonl").open(encoding="utf-8") as source:
        records = [{"id": f"row-{i:03}", **json.loads(line)} for i, line in enumerate(islice(source, ROWS))]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(site: Site, rows: Path) -> list[Run]:
    pool = pipeline.add_dataset(site.ws, rows)
    configs = [RunConfig(pool=pool.fingerprint, method="delift-se", encoder="fast", budget=str(k)) for k in (K, K + 3)]
    return [pipeline.run(site.ws, config) for config in configs]


def edit(page: Page, action: str, name: str, reason: str, who: str) -> None:
    """Find a row by its id, and pin or ban it with a reason."""
    show(page, "Search and edit")
    write(page, "Search", name)
    expect(page.get_by_text(f"1 of {ROWS} rows match")).to_be_visible()
    show(page, "all that match")
    write(page, "Why", reason)
    write(page, "Your name", who)
    press(page, f"{action} 1 row")
    expect(page.get_by_text("1 unsaved edit").first).to_be_visible()


@pytest.mark.timeout(600)
def test_unsaved_edits_are_private_and_saved_ones_are_everybodys(
    people: tuple[Page, Page], site: Site, runs: list[Run], rows: Path, tmp_path: Path
) -> None:
    first, second = (f"row-{int(row):03}" for row in runs[0].picked[:2])
    out = tmp_path / "cli.jsonl"
    words = ("--encoder", "fast", "--budget", str(K), "--pin", "row-007", "--ban", first, "--out", str(out))
    other = small.give_table(Workspace(tmp_path / "other")).root
    with ThreadPoolExecutor() as meanwhile:
        told = meanwhile.submit(command_line, "select", str(rows), "--method", "delift-se", *words, home=other)
        made, got = edit_and_export(people, site, runs[0], first, tmp_path / "page.jsonl")
    assert told.result()["run"] == made
    assert got == out.read_bytes()
    ids = [json.loads(line)["id"] for line in got.splitlines()]
    assert ids[0] == "row-007"
    assert first not in ids
    assert second in ids


def edit_and_export(people: tuple[Page, Page], site: Site, run: Run, first: str, path: Path) -> tuple[str, bytes]:
    """What the two do, up to the edited run; its id, and what was downloaded."""
    anna, ben = people
    for page in people:
        visit(page, site.url("audit", run.id), "Audit")
    edit(anna, "Ban", first, "wrong answer", "Anna")
    edit(ben, "Pin", "row-007", "a model answer", "Ben")

    for page, own, other in ((anna, first, "row-007"), (ben, "row-007", first)):
        show(page, "Edits")
        expect(page.locator(".st-key-edits\\.pending, .st-key-edits-pending").get_by_text(own)).to_be_visible()
        expect(page.get_by_text(re.compile(rf"1 row \({other}\)"))).to_have_count(0)

    press(ben, "Save 1")
    expect(ben.get_by_text(re.compile("Ben: .*row-007"))).to_be_visible()
    press(anna, "Save 1")  # after Ben, who saved meanwhile
    for name in (first, "row-007"):
        expect(anna.get_by_text(re.compile(f": .*{name}"))).to_be_visible()
    reload(ben)
    expect(ben.get_by_text(re.compile(f"Anna: .*{first}"))).to_be_visible()

    ben.get_by_role("button", name="Undo").first.click()  # the newest: Anna's
    expect(ben.get_by_text(re.compile(f"UNDONE. Anna: .*{first}"))).to_be_visible()
    settled(ben)
    press(ben, "Redo")
    expect(ben.get_by_text(re.compile("UNDONE"))).to_have_count(0)

    press(ben, "What does it cost?")
    expect(ben.get_by_text(re.compile(r"costs|adds|changes")).first).to_be_visible()
    press(ben, "Make it a run")
    expect(ben).not_to_have_url(re.compile(run.id))
    made = shown_run(ben)
    back = ben.get_by_role("button", name=f"{run.id[:8]}: 0 pinned, 0 banned")  # once the new run is finished
    expect(back).to_be_visible(timeout=RUN_MS)
    settled(ben)
    go(ben, "Export")
    return made, save(ben, f"Download {K} rows as JSONL", path).read_bytes()


@pytest.mark.timeout(300)
def test_two_people_look_at_two_runs(people: tuple[Page, Page], site: Site, runs: list[Run]) -> None:
    for page, run in zip(people, runs, strict=True):
        visit(page, site.url("export", run.id), "Export")
    for name in ("Data", "Export"):
        for page, run in zip(people, runs, strict=True):
            go(page, name)
            expect(page.get_by_text(f"{run.k} of {ROWS} rows")).to_be_visible()
            assert shown_run(page) == run.id
