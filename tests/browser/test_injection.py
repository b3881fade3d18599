"""Row text is shown as text: nothing that stands in a row runs, and nothing of it becomes an element of the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from tests.browser.conftest import Site
from tests.browser.steps import ROW, choose, go, press, save, settled, show, visit, write

pytestmark = pytest.mark.browser

ATTACKS = (
    "<script>window.injected=1;alert(1)</script>",
    '<img src="x" onerror="window.injected=1;alert(2)" class="injected">',
    '<svg onload="window.injected=1" class="injected"></svg>',
    "[press here](javascript:window.injected=1)",
    "[outside](https://injected.example/) ![picture](https://injected.example/pixel.png)",
    '<b class="injected">bold</b><br><a href="https://injected.example/" class="injected">plotly link</a>',
    "%{customdata}<extra></extra><a href='javascript:window.injected=1' class='injected'>hover</a>",
    "$\\href{javascript:window.injected=1}{math}$ :red[colour] :material/home: **bold** `code`",
    "</script></textarea></style><iframe src='javascript:window.parent.injected=1' class='injected'></iframe>",
)
TRACES = ", ".join(
    [
        ".injected", "[onerror]", "[onload]", "a[href^='javascript:']", "a[href*='injected.example']",
        "img[src*='injected.example']", "iframe[src^='javascript:']",
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def hostile_runs(site: Site, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two finished runs on rows that attack in every place where a row's text is shown; the first has a map."""
    path = tmp_path_factory.mktemp("rows") / "hostile.jsonl"
    rows = [
        {"id": f"{attack} {i}", "instruction": f"{attack} {i}", "output": f"{attack} answer {i}", "topic": attack}
        for i in range(4)
        for attack in ATTACKS
    ]
    rows.append({"id": "refused " + ATTACKS[1], "instruction": ATTACKS[1], "output": "", "topic": ATTACKS[0]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ws = site.ws
    pool = pipeline.add_dataset(ws, path)
    runs = [
        pipeline.run(ws, RunConfig(pool=pool.fingerprint, method=method, budget="50%", quota=quota))
        for method, quota in (("delift-se", "topic: even"), ("random", ""))
    ]
    n = np.arange(len(pool))
    runs[0].write_map({"pool": np.stack(np.divmod(n, 6), axis=1).astype(np.float32)})
    return runs


def unharmed(page: Page) -> None:
    """Nothing of a row has run or become an element, once the page is at rest."""
    settled(page)
    clean(page)


def clean(page: Page) -> None:
    assert page.evaluate("() => window.injected === undefined")
    assert page.locator(TRACES).count() == 0
    for frame in page.frames:
        assert frame.evaluate("() => window.injected === undefined")


def watch(page: Page) -> list[str]:
    """Everything that must not happen, as it happens: dialogs, and requests to the outside."""
    seen: list[str] = []
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: seen.append(request.url) if "injected.example" in request.url else None)
    return seen


@pytest.mark.timeout(300)
def test_rows_that_hold_markup_run_nothing_on_any_page(
    page: Page, site: Site, hostile_runs: list[Run], tmp_path: Path
) -> None:
    first = hostile_runs[0]
    seen = watch(page)
    visit(page, site.url("", first.id), "Data")
    expect(page.get_by_text("<script>window.injected=1;alert(1)</script>").first).to_be_visible()
    unharmed(page)
    for number in ("4", "7"):
        write(page, f"First row, of {4 * len(ATTACKS)}", number)
        unharmed(page)
    for view in ("Refused rows", "What is in it"):
        show(page, view)
        unharmed(page)
    go(page, "Run")
    unharmed(page)

    go(page, "Map")
    canvas = page.locator(".st-key-map-canvas canvas")
    expect(canvas).to_have_attribute("data-drawn", str(first.k))
    choose(page, "Colour by", "field: topic")
    canvas.press("Enter")
    card = page.locator(".st-key-map_card")
    expect(card).to_contain_text("This row")
    unharmed(page)
    for place in range(40):  # until a point tells its row
        page.mouse.move(*middle_of(canvas, 0.3 + 0.01 * place))
        if canvas.get_attribute("data-over"):
            break
    assert canvas.get_attribute("data-over")
    unharmed(page)

    go(page, "Utility")
    write(page, "Row of blocks", "0")
    write(page, "Column", "0")
    heatmap = page.locator(".st-key-utility_exact .nsewdrag").first
    heatmap.hover(position={"x": 80, "y": 80})
    expect(page.locator(".st-key-utility_exact .hovertext").first).to_be_attached()
    unharmed(page)
    heatmap.click(position={"x": 80, "y": 80})
    expect(page.get_by_label("Candidate, by id", exact=True)).not_to_have_value("")
    unharmed(page)
    go(page, "Export")
    unharmed(page)
    report = save(page, "HTML report", tmp_path / "report.html")
    page.goto(report.as_uri())
    expect(page.locator(".js-plotly-plot").first).to_be_attached()
    expect(page.get_by_text(ATTACKS[0]).first).to_be_attached()
    clean(page)
    assert seen == []


def middle_of(canvas: Locator, share: float) -> tuple[float, float]:
    """A place on the diagonal of the canvas."""
    box = canvas.bounding_box()
    assert box is not None
    return box["x"] + share * box["width"], box["y"] + share * box["height"]


@pytest.mark.timeout(300)
def test_rows_that_hold_markup_run_nothing_where_runs_are_judged(
    page: Page, site: Site, hostile_runs: list[Run]
) -> None:
    first, second = hostile_runs
    seen = watch(page)
    visit(page, site.url("audit", first.id), "Audit")
    show(page, "all that match")
    write(page, "Why", ATTACKS[1])
    write(page, "Your name", ATTACKS[0])
    press(page, re.compile(r"^Ban \d+ rows$"))
    expect(page.get_by_text("1 unsaved edit").first).to_be_visible()
    unharmed(page)
    show(page, "Edits")
    press(page, "Save 1")
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    unharmed(page)
    press(page, "Undo")
    expect(page.get_by_role("button", name="Redo")).to_be_visible()
    show(page, "Why")
    for attack in ATTACKS:
        write(page, ROW, f"{attack} 3")
        expect(page.get_by_text(f"{attack} 3", exact=True).first).to_be_visible()
        unharmed(page)
    for view in ("Coverage", "Risks", "Knowledge"):
        show(page, view)
        unharmed(page)
        if view == "Coverage":
            press(page, "What would it cost?")
            expect(page.get_by_text(re.compile("of the objective|changes nothing|same rows"))).to_be_visible()
            unharmed(page)

    visit(page, f"{site.address}/compare?with={first.id},{second.id}", "Compare")
    choose(page, "Groups", "topic")
    for view in ("overlap", "value", "rows", "groups", "maps"):
        show(page, view)
        unharmed(page)
    write(page, ROW, f"{ATTACKS[1]} 2")
    expect(page.get_by_role("status").filter(has_text="window.injected")).to_have_count(2)
    unharmed(page)
    show(page, "What if")
    choose(page, "Objective", re.compile("^random"))
    press(page, "Try it")
    expect(page.get_by_role("heading", name="Tried in this session")).to_be_visible()
    unharmed(page)
    assert seen == []
