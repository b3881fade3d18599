"""What a visitor does in the browser, in words of the page.  Every press waits until the page has come to rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

ROOT = Path(__file__).parents[2]
ROW = "Go to a row (id)"  # the box for the row in focus, on several pages
WAIT_MS, RUN_MS = 60_000, 150_000  # for the page; for the work of a run: two busy cores

# Before any script of the page: note when it asked the server for a run of the script (field 11 of BackMsg, so that
# the message begins with 11 * 8 + 2), and when the server last said anything.
LISTEN = """
window.talk = {asked: 0, heard: 0, calm: 0};
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener('message', () => Object.assign(window.talk, {heard: performance.now(), calm: 0}));
  }
  send(message) {
    if (message[0] === 90) Object.assign(window.talk, {asked: performance.now(), calm: 0});
    super.send(message);
  }
};
"""
# At rest: what was asked has been answered, the answer is complete, and no further one followed (as after st.rerun).
# Frames are counted beside the time: on a busy machine time passes before the page has drawn what it heard.
AT_REST = """() => {
  const {asked, heard} = window.talk;
  const state = document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state');
  const calm = asked > 0 && heard > asked && performance.now() - heard > 50 && state === 'notRunning';
  window.talk.calm = calm ? window.talk.calm + 1 : 0;
  return window.talk.calm > 3;
}"""


def settled(page: Page) -> None:
    """Wait until the server has answered and finished drawing, and no exception is on the page."""
    page.evaluate("() => { window.talk.calm = 0 }")
    page.wait_for_function(AT_REST, timeout=RUN_MS)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def visit(page: Page, url: str, heading: str) -> None:
    """Open an address."""
    page.goto(url)
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    settled(page)


def reload(page: Page) -> None:
    """Load the page again: a new session."""
    page.reload()
    settled(page)


def go(page: Page, name: str) -> None:
    """Open a page by the navigation at the top."""
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    settled(page)


def press(page: Page, name: str | re.Pattern[str]) -> None:
    """Press a button."""
    page.get_by_role("button", name=name, exact=isinstance(name, str)).click()
    settled(page)


def show(page: Page, view: str) -> None:
    """Choose one of several views."""
    choice = page.get_by_role("radio", name=view, exact=True)
    choice.click()
    expect(choice).to_be_checked()
    settled(page)


def choose(page: Page, label: str, option: str | re.Pattern[str]) -> None:
    """Choose from a list by its label, by keyboard."""
    box = page.get_by_role("combobox", name=label, exact=True)
    wanted = page.get_by_role("option", name=option, exact=True)
    box.scroll_into_view_if_needed()
    for _ in range(10):  # a list that is opened while the page scrolls closes again
        box.press("ArrowDown")
        with suppress(PlaywrightTimeout):
            wanted.wait_for(timeout=1_000)
            break
        box.press("Escape")  # a list that stayed open while its options changed
    wanted.click()
    if isinstance(option, str):
        expect(box).to_have_value(option)
    settled(page)


def write(page: Page, label: str, text: str) -> None:
    """Write into a box by its label, and leave it by Enter."""
    box = page.get_by_label(label, exact=True)
    box.fill(text)
    box.press("Enter")
    settled(page)


def shown_run(page: Page) -> str:
    """The run that the address names."""
    return parse_qs(urlparse(page.url).query)["run"][0]


def cells(page: Page, name: str | re.Pattern[str]) -> list[list[str]]:
    """What the table of this name shows, line by line: those lines that are on the screen."""
    region = page.get_by_role("region", name=name).first
    expect(region.locator("tbody tr").first).to_be_attached()
    lines: list[list[str]] = region.locator("tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent))"
    )
    return lines


def metric(page: Page, label: str) -> Locator:
    """The number under a label."""
    found = page.get_by_test_id("stMetric").filter(has=page.get_by_text(label, exact=True))
    return found.get_by_test_id("stMetricValue")


def save(page: Page, name: str, path: Path) -> Path:
    """Press a download button and keep what comes."""
    with page.expect_download(timeout=RUN_MS) as waiting:
        page.get_by_role("button", name=name).click()
    waiting.value.save_as(path)
    return path


def command_line(*words: str, home: Path) -> dict[str, Any]:
    """What `delift ... --json` prints, in a workspace of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "delift_core", *words, "--workspace", str(home), "--json"],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record
