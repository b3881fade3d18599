"""Another choice from the same evidence: tried, made a run, compared with the first, exported."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from delift_core.data import open_dataset
from delift_core.review import whatif
from delift_core.runs.run import Run
from tests.browser.conftest import Site
from tests.browser.steps import ROW, RUN_MS, cells, choose, press, reload, save, show, shown_run, visit, write

pytestmark = pytest.mark.browser


@pytest.mark.timeout(600)
def test_what_if_becomes_a_run_that_is_compared_with_the_first(page: Page, site: Site, tmp_path: Path) -> None:
    first = site.run
    pool = open_dataset(site.ws.dataset_folder(first.config.pool))
    wanted = whatif.retry(site.ws, first, objective="round-robin", options={})
    visit(page, site.url("compare"), "Compare")
    show(page, "What if")
    choose(page, "Objective", re.compile("^round-robin"))
    press(page, "Try it")
    expect(page.get_by_role("heading", name="Tried in this session")).to_be_visible()
    own, tried = cells(page, re.compile("This run and 1 other"))
    assert [own[0], own[2]] == ["this run", f"{first.k}"]
    assert tried[0].startswith("round-robin")
    assert [float(tried[1]), int(tried[2])] == [pytest.approx(100 * wanted.share, abs=0.006), wanted.k]
    assert [int(tried[4]), int(tried[5])] == [len(wanted.entered), len(wanted.left)]

    press(page, "Make it a run")
    expect(page.get_by_text(re.compile(rf"Run {wanted.config.id[:8]} was started"))).to_be_visible()
    page.get_by_role("link", name="See its progress").click()
    expect(page.get_by_role("heading", name="Run", level=1)).to_be_visible()
    visit(page, site.url("run", wanted.config.id), "Run")
    expect(page.get_by_text("This run is finished")).to_be_visible(timeout=RUN_MS)
    second = Run.open(site.ws, wanted.config.id)

    visit(page, f"{site.address}/compare?with={first.id},{second.id}", "Compare")
    shared = set(first.picked.tolist()) & set(second.picked.tolist())
    some = len(set(first.picked.tolist()) | set(second.picked.tolist()))
    expect(page.get_by_text(f"{some:,} rows are picked by some run, {len(shared):,} by every one")).to_be_visible()
    line = cells(page, "What each two runs share, beside what chance would")[0]
    assert [int(line[1]), float(line[3])] == [len(shared), pytest.approx(len(shared) / some, abs=0.0006)]

    show(page, "maps")
    canvases = page.locator("canvas[aria-roledescription=map]")
    expect(canvases).to_have_count(2)
    row = int(first.picked[0])
    write(page, ROW, pool.ids[row])
    rings = page.get_by_role("status").filter(has_text=f"row {pool.ids[row]}")
    expect(rings).to_have_count(2)
    expect(page.get_by_text(f"pick 1 of {len(first.selection):,}").first).to_be_visible()
    canvases.first.focus()
    canvases.first.press("Enter")  # the row nearest the middle: both maps ring it
    expect(rings).to_have_count(0)
    expect(page.get_by_label(ROW, exact=True)).not_to_have_value(pool.ids[row])
    named = page.get_by_label(ROW, exact=True).input_value()
    assert named in pool.ids
    expect(page.get_by_role("status").filter(has_text=f"row {named}")).to_have_count(2)
    reload(page)
    expect(page.get_by_role("status").filter(has_text=f"row {named}")).to_have_count(2)

    show(page, "rows")
    choose(page, "Rows picked by", "every run")
    expect(page.get_by_text(f"Picked by every run: {len(shared):,} of {len(pool):,} rows.")).to_be_visible()

    visit(page, site.url("export", second.id), "Export")
    got = save(page, f"Download {second.k} rows as JSONL", tmp_path / "page.jsonl")
    ids = [json.loads(line)["id"] for line in got.read_bytes().splitlines()]
    assert ids == [pool.ids[row] for row in wanted.selection.order[: wanted.k]]
    assert shown_run(page) == second.id
