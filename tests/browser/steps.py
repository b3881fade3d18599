"""What a visitor does in the browser, in words of the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

ROOT = Path(__file__).parents[2]
RUN_MS = 300_000  # two busy cores


def settled(page: Page) -> None:
    """Wait until the server has finished drawing, and no exception is on the page."""
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"
    )
    expect(page.get_by_test_id("stException")).to_have_count(0)


def go(page: Page, name: str) -> None:
    """Open a page by the navigation at the top."""
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    settled(page)


def upload(page: Page, path: Path) -> None:
    """Upload a file on the Data page and load it as a pool."""
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_role("button", name="Load", exact=True).click(timeout=RUN_MS)
    expect(page.get_by_text("Loaded as pool")).to_be_visible(timeout=RUN_MS)
    settled(page)


def command_line(*words: str, home: Path) -> dict[str, Any]:
    """What `delift ... --json` prints, in a workspace of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "delift_core", *words, "--workspace", str(home), "--json"],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def save(page: Page, name: str, path: Path) -> Path:
    """Press a download button and keep what comes."""
    with page.expect_download(timeout=RUN_MS) as waiting:
        page.get_by_role("button", name=name).click()
    waiting.value.save_as(path)
    return path
