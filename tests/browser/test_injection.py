"""Row text is shown as text: nothing that stands in a row runs, and nothing of it becomes an element of the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.runs.workspace import Workspace
from tests.browser.steps import go, settled

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


@pytest.fixture
def hostile_run(home: Path, tmp_path: Path) -> str:
    """A finished run on rows that attack in every place where a row's text is shown."""
    path = tmp_path / "hostile.jsonl"
    rows = [
        {"id": f"{attack} {i}", "instruction": f"{attack} {i}", "output": f"{attack} answer {i}", "topic": attack}
        for i in range(4)
        for attack in ATTACKS
    ]
    rows.append({"id": "refused " + ATTACKS[1], "instruction": ATTACKS[1], "output": "", "topic": ATTACKS[0]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ws = Workspace(home)
    pool = pipeline.add_dataset(ws, path)
    return pipeline.run(ws, RunConfig(pool=pool.fingerprint, method="delift-se", budget="50%")).id


def unharmed(page: Page) -> None:
    settled(page)
    assert page.evaluate("() => window.injected === undefined")
    assert page.locator(TRACES).count() == 0
    for frame in page.frames:
        assert frame.evaluate("() => window.injected === undefined")


@pytest.mark.timeout(600)
def test_rows_that_hold_markup_run_nothing_on_any_page(page: Page, server: str, hostile_run: str) -> None:
    dialogs: list[str] = []
    outside: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: outside.append(request.url) if "injected.example" in request.url else None)

    page.goto(f"{server}/?run={hostile_run}")
    settled(page)
    expect(page.get_by_text("<script>window.injected=1;alert(1)</script>").first).to_be_visible()
    unharmed(page)
    box = page.get_by_role("spinbutton", name="First row")
    for first in (4, 7):
        box.fill(str(first))
        box.press("Enter")
        unharmed(page)
    for view in ("Refused rows", "What is in it"):
        page.get_by_role("radio", name=view).or_(page.get_by_role("button", name=view)).first.click()
        unharmed(page)
    for name in ("Run", "Map", "Utility", "Export"):
        go(page, name)
        unharmed(page)
        page.mouse.move(500, 500)
        page.wait_for_timeout(300)
        unharmed(page)
    assert dialogs == []
    assert outside == []
