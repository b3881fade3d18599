"""Reading a finished run on real rows: utility down to the tokens, why, coverage, knowledge, risks, the report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from delift_core.data import open_dataset
from delift_core.insight.overview import cells_of
from tests.browser.conftest import Site
from tests.browser.steps import ROW, RUN_MS, cells, choose, metric, press, reload, save, settled, show, visit, write

pytestmark = pytest.mark.browser


@pytest.mark.timeout(300)
def test_a_block_opens_its_pairs_and_a_pair_its_texts_and_tokens(page: Page, site: Site) -> None:
    run = site.run
    utility = run.utility("target", "l2")
    pool = open_dataset(site.ws.dataset_folder(run.config.pool))
    target = open_dataset(site.ws.dataset_folder(str(run.config.target)))
    visit(page, site.url("utility"), "Utility")
    rows, columns = (f"{n:,}" for n in (len(target), len(pool)))
    expect(
        page.get_by_role("figure", name=re.compile(f"Utility of {columns} candidates for {rows} rows"))
    ).to_be_visible()

    write(page, "Row of blocks", "3")
    write(page, "Column", "5")
    expect(page.get_by_role("figure", name=re.compile("1,600 single pairs"))).to_be_visible()
    exact = page.locator(".st-key-utility_exact .nsewdrag").first
    exact.click(position={"x": 60, "y": 60})
    for label in ("Helped row, by id", "Candidate, by id"):
        expect(page.get_by_label(label, exact=True)).not_to_have_value("")
    helped = page.get_by_label("Helped row, by id", exact=True).input_value()
    candidate = page.get_by_label("Candidate, by id", exact=True).input_value()
    i, j = (list(data.ids).index(name) for data, name in ((target, helped), (pool, candidate)))
    place = np.array([list(utility.helped).index(i)]), np.array([list(utility.candidates).index(j)])
    expect(metric(page, "utility").first).to_have_text(f"{float(cells_of(utility, *place)[0, 0]):+.4f}")
    for dataset, row in ((target, i), (pool, j)):
        expect(page.get_by_text(dataset.prompts[row]).first).to_be_visible()

    press(page, "Show where it helped")
    tokens = page.get_by_role("group", name=re.compile("^Response of the helped row"))
    expect(tokens).to_be_visible(timeout=RUN_MS)
    told = " ".join(tokens.inner_text().split())
    assert " ".join(target.responses[i].split())[:40] in told
    expect(page.get_by_text(re.compile(r"Distance to a sure answer .* utility [+-]0\.\d{4}"))).to_be_visible()

    reload(page)  # block and pair are in the address
    expect(metric(page, "utility").first).to_be_visible()
    expect(page.get_by_label("Helped row, by id", exact=True)).to_have_value(helped)


@pytest.mark.timeout(300)
def test_the_audit_says_why_whom_what_is_known_and_what_is_risky(page: Page, site: Site) -> None:
    run = site.run
    pool = open_dataset(site.ws.dataset_folder(run.config.pool))
    ranked, first, late = len(run.selection), pool.ids[int(run.picked[0])], pool.ids[int(run.selection.order[-1])]
    visit(page, site.url("audit"), "Audit")
    show(page, "Why")
    press(page, "Show the first pick")
    expect(page.get_by_label(ROW, exact=True)).to_have_value(first)
    expect(metric(page, "Rank")).to_have_text(f"1 of {ranked:,}")
    expect(page.get_by_text(pool.prompts[int(run.picked[0])][:60]).first).to_be_visible()
    write(page, ROW, late)
    expect(metric(page, "Rank")).to_have_text(f"{ranked:,} of {ranked:,}")
    expect(page.get_by_text("Beyond the budget").first).to_be_visible()
    write(page, ROW, "no such row")
    expect(page.get_by_text("No row has the id no such row.")).to_be_visible()

    show(page, "Coverage")
    choose(page, "Groups by", "task")
    tasks = np.array(pool.group("task"), dtype=object)
    for line in cells(page, re.compile("served|subset|group", re.IGNORECASE))[:3]:
        name, rows, picked = line[0], *(int(cell.replace(",", "")) for cell in line[1:3])
        assert rows == int((tasks == name).sum())
        assert picked == int((tasks[run.picked] == name).sum())
    press(page, "What would it cost?")
    expect(page.get_by_text(re.compile("of the objective: .* in place of"))).to_be_visible()
    expect(page.get_by_role("button", name="Start the run with task: proportional")).to_be_visible()
    expect(page.get_by_text(re.compile(r"\d+ of 48 rows get less than half"))).to_be_visible()

    show(page, "Knowledge")
    counts = page.get_by_text(re.compile("^Of 48 rows, the model knows already"))
    before = counts.inner_text()
    assert sum(int(count) for count in re.findall(r": (\d+) \(", before)) == 48
    page.get_by_role("slider", name=re.compile("^Known")).press("End")
    expect(counts).to_contain_text("the model knows already: 48 (100 %)")
    settled(page)
    choose(page, "Rows that", "the model knows already (48)")
    expect(page.get_by_role("region", name="48 rows: the model knows already")).to_be_visible()

    show(page, "Risks")
    press(page, "Look for near-copies")
    expect(page.get_by_text(re.compile(r"\d+ of 200 different rows stand in \d+ sets of near-copies"))).to_be_visible()
    press(page, "Compare")
    expect(page.get_by_text(re.compile("chosen rows also stand"))).to_be_visible()
    expect(page.get_by_text(f"No personal data was found in {run.k} rows.")).to_be_visible()


@pytest.mark.timeout(300)
def test_the_report_opens_without_a_network_and_holds_the_map(
    page: Page, browser: Browser, site: Site, tmp_path: Path
) -> None:
    run = site.run
    visit(page, site.url("export"), "Export")
    path = save(page, "HTML report", tmp_path / "report.html")
    context = browser.new_context(offline=True)
    report, asked = context.new_page(), []
    report.on("request", lambda request: asked.append(request.url))
    errors: list[str] = []
    report.on("pageerror", lambda error: errors.append(str(error)))
    report.goto(path.as_uri())
    expect(report.get_by_role("heading", level=1)).to_be_visible()
    expect(report.get_by_role("heading", name=re.compile("map", re.IGNORECASE))).to_be_visible()
    expect(report.locator(".js-plotly-plot").first).to_be_attached()
    assert run.id in report.content()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert errors == []
    context.close()
