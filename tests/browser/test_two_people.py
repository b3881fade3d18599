"""Two people in two browsers: nobody sees the other's unsaved edits, and nobody loses saved ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Browser, Page, expect

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from tests.browser.steps import RUN_MS, command_line, go, save, settled

pytestmark = pytest.mark.browser
ROWS, K = 120, 12


@pytest.fixture
def rows(shared: Path, tmp_path: Path) -> Path:
    """Real rows with ids."""
    path = tmp_path / "maths.jsonl"
    with (shared / "data" / "gsm8k_test.jsonl").open(encoding="utf-8") as source:
        records = [{"id": f"row-{i:03}", **json.loads(line)} for i, line in enumerate(islice(source, ROWS))]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def runs(home: Path, rows: Path) -> list[Run]:
    ws = Workspace(home)
    pool = pipeline.add_dataset(ws, rows)
    configs = [RunConfig(pool=pool.fingerprint, method="delift-se", budget=str(k)) for k in (K, K + 3)]
    return [pipeline.run(ws, config) for config in configs]


@pytest.fixture
def people(browser: Browser) -> Iterator[tuple[Page, Page]]:
    contexts = [browser.new_context(viewport={"width": 1280, "height": 900}) for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.set_default_timeout(RUN_MS)
    yield pages[0], pages[1]
    for context in contexts:
        context.close()


def open_audit(page: Page, server: str, run: Run) -> None:
    page.goto(f"{server}/audit?run={run.id}")
    expect(page.get_by_role("heading", name="Audit", level=1)).to_be_visible()
    settled(page)


def show(page: Page, view: str) -> None:
    page.get_by_role("radio", name=view, exact=True).click()
    settled(page)


def edit(page: Page, action: str, name: str, reason: str, who: str) -> None:
    """Find a row by its id, and pin or ban it with a reason."""
    show(page, "Search and edit")
    box = page.get_by_role("textbox", name="Search", exact=True)
    box.fill(name)
    box.press("Enter")
    expect(page.get_by_text(f"1 of {ROWS} rows match")).to_be_visible()
    page.get_by_role("radio", name="all that match").click()
    settled(page)
    for label, text in (("Why", reason), ("Your name", who)):
        page.get_by_role("textbox", name=label, exact=True).fill(text)
        page.get_by_role("textbox", name=label, exact=True).press("Enter")
        settled(page)
    page.get_by_role("button", name=re.compile(f"{action} 1 row")).click()
    expect(page.get_by_text("1 unsaved edit").first).to_be_visible()
    settled(page)


@pytest.mark.timeout(600)
def test_unsaved_edits_are_private_and_saved_ones_are_everybodys(
    people: tuple[Page, Page], server: str, home: Path, runs: list[Run], rows: Path, tmp_path: Path
) -> None:
    anna, ben = people
    first, second = (f"row-{int(row):03}" for row in runs[0].picked[:2])
    for page in people:
        open_audit(page, server, runs[0])
    edit(anna, "Ban", first, "wrong answer", "Anna")
    edit(ben, "Pin", "row-007", "a model answer", "Ben")

    for page, own, other in ((anna, first, "row-007"), (ben, "row-007", first)):
        show(page, "Edits")
        expect(page.locator(".st-key-edits\\.pending, .st-key-edits-pending").get_by_text(own)).to_be_visible()
        expect(page.get_by_text(re.compile(rf"1 row \({other}\)"))).to_have_count(0)

    ben.get_by_role("button", name="Save 1", exact=True).click()
    expect(ben.get_by_text(re.compile("Ben: .*row-007"))).to_be_visible()
    anna.get_by_role("button", name="Save 1", exact=True).click()  # after Ben, who saved meanwhile
    for name in (first, "row-007"):
        expect(anna.get_by_text(re.compile(f": .*{name}"))).to_be_visible()
    ben.reload()
    settled(ben)
    show(ben, "Edits")
    expect(ben.get_by_text(re.compile(f"Anna: .*{first}"))).to_be_visible()

    ben.get_by_role("button", name="Undo").first.click()  # the newest: Anna's
    expect(ben.get_by_text(re.compile(f"UNDONE. Anna: .*{first}"))).to_be_visible()
    settled(ben)
    ben.get_by_role("button", name="Redo").click()
    expect(ben.get_by_text(re.compile("UNDONE"))).to_have_count(0)
    settled(ben)

    ben.get_by_role("button", name="What does it cost?").click()
    expect(ben.get_by_text(re.compile(r"costs|adds|changes")).first).to_be_visible()
    ben.get_by_role("button", name="Make it a run").click()
    expect(ben.get_by_text(re.compile(r"Back to run"))).to_be_visible()
    made = parse_qs(urlparse(ben.url).query)["run"][0]
    assert made != runs[0].id
    expect(ben.get_by_role("heading", name="Audit", level=1)).to_be_visible()
    expect(ben.get_by_text("This run is finished").or_(ben.get_by_text(f"{K} of {ROWS} rows")).first).to_be_visible(
        timeout=RUN_MS
    )

    go(ben, "Export")
    got = save(ben, f"Download {K} rows as JSONL", tmp_path / "page.jsonl").read_bytes()
    out = tmp_path / "cli.jsonl"
    told = command_line(
        "select", str(rows), "--method", "delift-se", "--budget", str(K), "--pin", "row-007", "--ban", first,
        "--out", str(out), home=tmp_path / "other",
    )  # fmt: skip
    assert told["run"] == made
    assert got == out.read_bytes()
    ids = [json.loads(line)["id"] for line in got.splitlines()]
    assert ids[0] == "row-007"
    assert first not in ids
    assert second in ids


@pytest.mark.timeout(300)
def test_two_people_look_at_two_runs(people: tuple[Page, Page], server: str, runs: list[Run]) -> None:
    for page, run in zip(people, runs, strict=True):
        page.goto(f"{server}/export?run={run.id}")
        settled(page)
    for _ in range(2):
        for page, run in zip(people, runs, strict=True):
            expect(page.get_by_text(f"{run.k} of {ROWS} rows")).to_be_visible()
            go(page, "Map" if "export" in page.url else "Export")
            assert parse_qs(urlparse(page.url).query)["run"] == [run.id]
