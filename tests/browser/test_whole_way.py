"""Upload, field mapper, run, map, budget, export in the browser; the ids are the command line's."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from delift_core import pipeline
from delift_core.runs.workspace import Workspace
from tests import small
from tests.browser.conftest import Site, serving
from tests.browser.steps import RUN_MS, choose, command_line, go, press, reload, save, settled, shown_run, visit, write

pytestmark = pytest.mark.browser
ROWS, K = 100, 10
LESS = 3  # rows that the slider gives up


@pytest.fixture
def odd_rows(shared: Path, tmp_path: Path) -> Path:
    """A hundred real rows under names that no known layout has."""
    path = tmp_path / "exercises.jsonl"
    with (shared / "data" / "gsm8k_test.jsonl").open(encoding="utf-8") as source:
        rows = [json.loads(line) for line in islice(source, ROWS)]
    odd = [{"worked": row["answer"], "exercise": row["question"], "page": i} for i, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in odd), encoding="utf-8")
    return path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def map_fields_and_load(page: Page, path: Path) -> None:
    """Upload a file whose fields must be named by hand: wrongly at first, then rightly."""
    page.locator("input[type=file]").set_input_files(path)
    expect(page.get_by_text("no known layout; map the prompt and the response by hand")).to_be_visible()
    question, answer = (json.loads(lines(path)[0])[name] for name in ("exercise", "worked"))
    first = page.get_by_test_id("stChatMessage").first
    choose(page, "Prompt", "worked")
    choose(page, "Response", "exercise")
    expect(first).to_contain_text(answer[:40])
    choose(page, "Prompt", "exercise")
    choose(page, "Response", "worked")
    expect(first).to_contain_text(question[:40])
    press(page, "Load")
    expect(page.get_by_text("Loaded as pool")).to_be_visible()


@pytest.mark.timeout(600)
def test_from_upload_to_export_with_the_ids_of_the_command_line(
    page: Page, site: Site, odd_rows: Path, tmp_path: Path
) -> None:
    smaller = K - LESS
    outs = {k: tmp_path / f"cli-{k}.jsonl" for k in (K, smaller)}
    other = small.give_table(Workspace(tmp_path / "other")).root
    with ThreadPoolExecutor(max_workers=1) as meanwhile:
        words = ("select", str(odd_rows), "--fields", "prompt=exercise,response=worked", "--encoder", "fast")
        told = [
            meanwhile.submit(
                command_line, *words, "--method", "delift-se", "--budget", "10%" if k == K else str(k),
                "--out", str(out), home=other,
            )
            for k, out in outs.items()
        ]  # fmt: skip
        run_id = upload_and_run(page, site, odd_rows)
        go(page, "Map")  # which begins to draw
        assert shown_run(page) == run_id
        full, less = export_twice(page, tmp_path)
    assert told[0].result()["run"] == run_id
    assert told[0].result()["selected"] == K
    assert lines(full) == lines(outs[K])
    assert set(lines(full)) <= set(lines(odd_rows))  # byte for byte the source's lines
    assert lines(less) == lines(outs[smaller])
    assert set(lines(less)) < set(lines(full))

    reload(page)  # the budget is in the address too
    expect(page.get_by_role("button", name=f"Download {smaller} rows as JSONL")).to_be_visible()
    manifest = save(page, "Manifest", tmp_path / "manifest.json")
    assert len(json.loads(manifest.read_text())["ids"]) == smaller
    assert pipeline.replay(site.ws, manifest).same
    rejected = [
        json.loads(line) for line in lines(save(page, "Rejected rows with reasons", tmp_path / "rejected.jsonl"))
    ]
    assert len(rejected) == ROWS - smaller
    assert all(row["reason"] for row in rejected)

    visit(page, site.url("map", run_id), "Map")
    expect(page.locator(".st-key-map-canvas canvas")).to_have_attribute("data-drawn", str(K), timeout=RUN_MS)


def upload_and_run(page: Page, site: Site, path: Path) -> str:
    """From the first page to a finished run; its id."""
    visit(page, site.address, "Data")
    map_fields_and_load(page, path)
    expect(page.get_by_test_id("stMetric").filter(has_text="Rows").first).to_contain_text(str(ROWS))
    go(page, "Run")
    expect(page.locator(".st-key-begin-delift-se").get_by_role("button", name="Chosen")).to_be_visible()
    choose(page, "Sentence encoder", "fast")
    write(page, "Budget, percent", "10")
    page.get_by_role("button", name="Score and select").and_(page.locator(":not([disabled])")).click(timeout=RUN_MS)
    settled(page)
    run_id = shown_run(page)
    current = page.locator(f".st-key-current-{run_id}")  # not a run that was finished before
    expect(current.get_by_text("This run is finished")).to_be_visible(timeout=RUN_MS)
    settled(page)
    return run_id


def export_twice(page: Page, folder: Path) -> tuple[Path, Path]:
    """Export the run as it is, and at a smaller budget."""
    go(page, "Export")
    expect(page.get_by_text(re.compile(rf"{K} of {ROWS} rows"))).to_be_visible()
    full = save(page, f"Download {K} rows as JSONL", folder / "page.jsonl")
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(LESS):
        slider.press("ArrowLeft")
    expect(page.get_by_role("button", name=f"Download {K - LESS} rows as JSONL")).to_be_visible()
    settled(page)
    return full, save(page, f"Download {K - LESS} rows as JSONL", folder / "less.jsonl")


def test_the_first_visitor_of_a_server_may_come_by_the_address_of_a_page(page: Page, tmp_path: Path) -> None:
    with serving(tmp_path / "home", tmp_path / "server.log") as address:
        visit(page, f"{address}/export", "Export")
        for name in ("Data", "Run", "Map", "Utility", "Audit", "Compare", "Export"):
            expect(page.get_by_role("link", name=name, exact=True).first).to_be_visible()
        expect(page.get_by_role("link", name="widgets")).to_have_count(0)
