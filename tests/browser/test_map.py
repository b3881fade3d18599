"""The map in the browser: keyboard, lasso, and a budget that draws nothing anew that stays the same."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Locator, Page, expect

from delift_core.data import open_dataset
from delift_core.runs.run import Run
from tests.browser.conftest import Site
from tests.browser.steps import ROW, choose, press, settled, visit

pytestmark = pytest.mark.browser
TABLE = "{} rows, {} of them selected."  # what the page says above the table


@pytest.fixture
def run(site: Site) -> Run:
    """The sample's run and its map."""
    return site.run


@pytest.fixture
def canvas(page: Page, site: Site) -> Locator:
    page.set_viewport_size({"width": 1280, "height": 1100})
    visit(page, site.url("map"), "Map")
    canvas = page.locator(".st-key-map-canvas canvas")
    expect(canvas).to_have_attribute("data-drawn", str(site.run.k))
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
        expect(page.get_by_role("textbox", name=ROW, exact=True)).to_have_value(wanted)
        settled(page)
    assert focused(page) == ids[0]  # so that a reload finds it
    assert canvas.evaluate("(c) => c.matches(':focus-visible') && getComputedStyle(c).outlineStyle === 'solid'")
    before = canvas.evaluate("(c) => c.toDataURL()")
    for key in ("+", "ArrowLeft", "ArrowUp"):
        canvas.press(key)
    page.wait_for_function(
        "(before) => [...document.querySelectorAll('.st-key-map-canvas *')].some((host) => {"
        " const c = host.shadowRoot?.querySelector('canvas') ?? host; return c.tagName === 'CANVAS' &&"
        " c.toDataURL() !== before })", arg=before,
    )  # fmt: skip
    canvas.press("Enter")
    expect(card).not_to_contain_text(f"Row {ids[0]}")
    lasso = page.get_by_role("button", name="Lasso")
    for pressed in ("true", "false"):
        canvas.press("l")
        expect(lasso).to_have_attribute("aria-pressed", pressed)


def drag(page: Page, canvas: Locator, corners: list[tuple[float, float]]) -> None:
    """Draw an outline with the mouse; corners in shares of the canvas."""
    box = canvas.bounding_box()
    assert box is not None
    at = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in corners]
    page.mouse.move(*at[0])
    page.mouse.down()
    for corner in at[1:]:
        page.mouse.move(*corner, steps=10)
    page.mouse.up()


def told(page: Page) -> tuple[int, int]:
    """(rows of the table, those of them that are selected)."""
    line = page.get_by_text(re.compile(TABLE.format("[\\d,]+", "[\\d,]+"))).inner_text()
    rows, kept = (int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", line)[:2])
    return rows, kept


def test_two_lassos_part_the_rows_of_the_table(page: Page, canvas: Locator, run: Run) -> None:
    every = TABLE.format(f"{len(run.selection):,}", run.k)
    expect(page.get_by_text(every, exact=True)).to_be_visible()
    page.get_by_role("button", name="Lasso").click()
    found = []
    for left, right in ((0.002, 0.5), (0.5, 0.998)):
        drag(page, canvas, [(left, 0.998), (right, 0.998), (right, 0.002), (left, 0.002)])
        expect(page.get_by_role("combobox", name="Show", exact=True)).to_have_value("inside the outline")
        expect(page.get_by_text(every, exact=True)).to_have_count(0)
        settled(page)
        found.append(told(page))
        if len(found) == 1:  # the filter can be left and taken again while the outline stays
            choose(page, "Show", "all rows")
            expect(page.get_by_text(every, exact=True)).to_be_visible()
            choose(page, "Show", "inside the outline")
            expect(page.get_by_text(TABLE.format(*(f"{number:,}" for number in found[0])), exact=True)).to_be_visible()
            press(page, "Clear the outline")
            expect(page.get_by_text(every, exact=True)).to_be_visible()
    assert [sum(numbers) for numbers in zip(*found, strict=True)] == [len(run.selection), run.k]
    assert all(rows for rows, _ in found)


def test_a_click_on_a_point_opens_its_texts(page: Page, canvas: Locator, run: Run, site: Site) -> None:
    pool = open_dataset(site.ws.dataset_folder(run.config.pool))
    box = canvas.bounding_box()
    assert box is not None
    for place in range(100):
        page.mouse.move(box["x"] + box["width"] * (0.3 + 0.004 * place), box["y"] + box["height"] / 2)
        over = canvas.get_attribute("data-over")
        if over and int(over) < len(pool):
            break
    assert over
    page.mouse.down()
    page.mouse.up()
    row = int(over)
    expect(page.get_by_role("textbox", name=ROW, exact=True)).to_have_value(pool.ids[row])
    card = page.locator(".st-key-map_card")
    expect(card).to_contain_text(f"Row {pool.ids[row]}")
    expect(card).to_contain_text("Selected" if row in run.picked else "Beyond the budget")
    expect(card.get_by_text(pool.responses[row][:60]).first).to_be_attached()


def test_a_new_budget_neither_sends_the_geometry_nor_draws_the_charts_again(
    page: Page, run: Run, canvas: Locator
) -> None:
    chart = page.locator(".st-key-map_curve .js-plotly-plot")
    expect(chart).to_have_attribute("data-cut", str(run.k))
    chart.evaluate("(c) => { c.marked = true }")
    canvas.evaluate("(c) => { c.marked = true }")
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("ArrowRight")
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(f"{run.k + 1} of {len(run.selection):,}")
    expect(canvas).to_have_attribute("data-drawn", str(run.k + 1))
    expect(chart).to_have_attribute("data-cut", str(run.k + 1))
    settled(page)
    assert chart.evaluate("(c) => c.marked === true")
    assert canvas.evaluate("(c) => c.marked === true")
    assert parse_qs(urlparse(page.url).query)["k"] == [str(run.k + 1)]
