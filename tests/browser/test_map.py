"""The map in the browser: keyboard, lasso, and a budget that draws nothing anew that stays the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Locator, Page, expect

from delift_core import pipeline
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from tests.app.scored import K, store
from tests.browser.steps import settled

pytestmark = pytest.mark.browser
ROWS = 120


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Run:
    """A finished run with a map on a square grid."""
    path = tmp_path / "rows.jsonl"
    rows = ({"id": f"r{i:03}", "instruction": f"Say {i}.", "output": f"{i}.", "kind": "ab"[i % 2]} for i in range(ROWS))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ws = Workspace(home)
    return store(ws, pipeline.add_dataset(ws, path))


@pytest.fixture
def canvas(page: Page, server: str, run: Run) -> Locator:
    page.set_viewport_size({"width": 1280, "height": 1100})
    page.goto(f"{server}/map?run={run.id}")
    settled(page)
    canvas = page.locator(".st-key-map-canvas canvas")
    expect(canvas).to_have_attribute("data-drawn", str(K))
    return canvas


def focused(page: Page) -> str:
    return parse_qs(urlparse(page.url).query).get("row", [""])[0]


def test_the_whole_map_can_be_used_from_the_keyboard(page: Page, canvas: Locator, run: Run) -> None:
    ids = run.table["id"].to_pylist()
    card = page.locator(".st-key-map_card")
    canvas.focus()
    for key, wanted in (("n", ids[0]), ("n", ids[1]), ("p", ids[0])):
        canvas.press(key)
        expect(card).to_contain_text(f"Row {wanted}")
        expect(page.get_by_role("status").filter(has_text=f"row {wanted}")).to_have_count(1)
        expect(page.get_by_role("textbox", name="Focus a row, by id")).to_have_value(wanted)
        settled(page)
    assert focused(page) == ids[0]  # so that a reload finds it
    assert canvas.evaluate("(c) => c.matches(':focus-visible') && getComputedStyle(c).outlineStyle === 'solid'")
    before = canvas.evaluate("(c) => c.toDataURL()")
    for key in ("+", "ArrowLeft", "ArrowUp"):
        canvas.press(key)
    page.wait_for_timeout(300)
    assert canvas.evaluate("(c) => c.toDataURL()") != before
    canvas.press("Enter")
    expect(card).not_to_contain_text(f"Row {ids[0]}")
    lasso = page.get_by_role("button", name="Lasso")
    for pressed in ("true", "false"):
        canvas.press("l")
        expect(lasso).to_have_attribute("aria-pressed", pressed)


def test_a_lasso_shows_its_rows_in_the_table(page: Page, canvas: Locator) -> None:
    page.get_by_role("button", name="Lasso").click()
    box = canvas.bounding_box()
    assert box is not None
    corners = [(0.02, 0.98), (0.5, 0.98), (0.5, 0.02), (0.02, 0.02)]
    at = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in corners]
    page.mouse.move(*at[0])
    page.mouse.down()
    for corner in at[1:]:
        page.mouse.move(*corner, steps=10)
    page.mouse.up()
    expect(page.get_by_text(re.compile(r"^\d+ of \d\d are selected\.$"))).to_be_visible()
    expect(page.get_by_role("combobox", name="Show", exact=True)).to_have_value("inside the outline")
    page.get_by_role("button", name="Clear the outline").click()
    expect(page.get_by_text(f"{K} of {ROWS} are selected.")).to_be_visible()


def test_a_new_budget_neither_sends_the_geometry_nor_draws_the_charts_again(
    page: Page, server: str, run: Run, canvas: Locator
) -> None:
    chart = page.locator(".st-key-map_curve .js-plotly-plot")
    expect(chart).to_have_attribute("data-cut", str(K))
    chart.evaluate("(c) => { c.marked = true }")
    canvas.evaluate("(c) => { c.marked = true }")
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("ArrowRight")
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(f"{K + 1} of {ROWS}")
    expect(canvas).to_have_attribute("data-drawn", str(K + 1))
    expect(chart).to_have_attribute("data-cut", str(K + 1))
    settled(page)
    assert chart.evaluate("(c) => c.marked === true")
    assert canvas.evaluate("(c) => c.marked === true")
    assert parse_qs(urlparse(page.url).query)["k"] == [str(K + 1)]
