"""Upload, run, map, budget, export in the browser; the ids are the command line's."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import RUN_MS, command_line, go, save, settled, upload

pytestmark = pytest.mark.browser
ROWS = 200
LESS = 7  # rows that the slider gives up


@pytest.fixture
def real_rows(shared: Path, tmp_path: Path) -> Path:
    """A few hundred real rows."""
    path = tmp_path / "gsm8k.jsonl"
    with (shared / "data" / "gsm8k_test.jsonl").open("rb") as source:
        path.write_bytes(b"".join(islice(source, ROWS)))
    return path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


@pytest.mark.timeout(900)
def test_from_upload_to_export_with_the_ids_of_the_command_line(
    page: Page, server: str, home: Path, real_rows: Path, tmp_path: Path
) -> None:
    page.goto(server)
    settled(page)
    upload(page, real_rows)
    expect(page.get_by_test_id("stMetric").filter(has_text="Rows").first).to_contain_text(str(ROWS))

    go(page, "Run")
    expect(page.locator("[class*=st-key-method][class*=delift-se]").get_by_role("button").first).to_contain_text(
        "Chosen"
    )
    page.get_by_role("spinbutton", name="Budget, percent").fill("10")
    page.get_by_role("spinbutton", name="Budget, percent").press("Enter")
    settled(page)
    page.get_by_role("button", name="Score and select").and_(page.locator(":not([disabled])")).click(timeout=RUN_MS)
    expect(page.get_by_text("This run is finished")).to_be_visible(timeout=RUN_MS)
    run_id = parse_qs(urlparse(page.url).query)["run"][0]

    page.reload()  # a reload is a new session: the run is found again through the address
    expect(page.get_by_text("This run is finished")).to_be_visible()

    go(page, "Map")
    assert parse_qs(urlparse(page.url).query)["run"] == [run_id]
    expect(page.get_by_test_id("stException")).to_have_count(0)

    go(page, "Export")
    k = ROWS // 10
    expect(page.get_by_text(re.compile(rf"{k} of {ROWS} rows"))).to_be_visible()
    full = save(page, f"Download {k} rows as JSONL", tmp_path / "page.jsonl")

    other = tmp_path / "other"
    out = tmp_path / "cli.jsonl"
    answer = command_line(
        "select", str(real_rows), "--method", "delift-se", "--budget", "10%", "--out", str(out), home=other
    )  # fmt: skip
    assert answer["run"] == run_id
    assert answer["selected"] == k
    assert lines(full) == lines(out)
    assert set(lines(full)) <= set(lines(real_rows))  # byte for byte the source's lines

    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(LESS):
        slider.press("ArrowLeft")
    smaller = k - LESS
    expect(page.get_by_role("button", name=f"Download {smaller} rows as JSONL")).to_be_visible()
    less = save(page, f"Download {smaller} rows as JSONL", tmp_path / "less.jsonl")
    again = tmp_path / "again.jsonl"
    command_line(
        "select", str(real_rows), "--method", "delift-se", "--budget", str(smaller), "--out", str(again), home=other
    )
    assert lines(less) == lines(again)
    assert set(lines(less)) < set(lines(full))

    page.reload()  # the budget is in the address too
    expect(page.get_by_role("button", name=f"Download {smaller} rows as JSONL")).to_be_visible()

    manifest = json.loads(save(page, "Manifest", tmp_path / "manifest.json").read_text())
    assert len(manifest["ids"]) == smaller
    replayed = command_line("replay", str(tmp_path / "manifest.json"), home=home)
    assert replayed["same"]

    rejected = [
        json.loads(line) for line in lines(save(page, "Rejected rows with reasons", tmp_path / "rejected.jsonl"))
    ]
    assert len(rejected) == ROWS - smaller
    assert all(row["reason"] for row in rejected)


def test_the_first_visitor_of_a_server_may_come_by_the_address_of_a_page(page: Page, server: str) -> None:
    page.goto(f"{server}/export")
    settled(page)
    for name in ("Data", "Run", "Map", "Utility", "Export"):
        expect(page.get_by_role("link", name=name, exact=True).first).to_be_visible()
    expect(page.get_by_role("link", name="widgets")).to_have_count(0)
