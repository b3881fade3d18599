"""A real server and a real browser.  Without Chromium these tests skip; in CI (environment variable CI) they fail."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from delift_core import sample
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from tests import small
from tests.browser.steps import LISTEN, WAIT_MS

ROOT = Path(__file__).parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        message = "no chromium on this machine: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def serving(home: Path, log: Path) -> Iterator[str]:
    """The app as `make run` starts it, on a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = log.open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
        cwd=ROOT, env={**os.environ, "DELIFT_HOME": str(home), "HF_HUB_OFFLINE": "1"}, stdout=out,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"{address}/_stcore/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)
        out.close()


@dataclass(frozen=True)
class Site:
    """A server with its workspace, which holds the sample: real rows, scored by the model that is shipped."""

    address: str
    ws: Workspace
    run: Run

    def url(self, page: str, run_id: str = "") -> str:
        """The address of a page that shows a run, the sample's unless another is given."""
        return f"{self.address}/{page}?run={run_id or self.run.id}"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The one server of all tests; each adds the data and runs that it needs, and looks at them by their address."""
    ws = small.give_table(Workspace(tmp_path_factory.mktemp("sample")))
    run = Run.open(ws, sample.install(ws))
    with serving(ws.root, tmp_path_factory.mktemp("server") / "server.log") as address:
        yield Site(address, ws, run)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def visiting(browser: Browser) -> Iterator[Page]:
    """A fresh visitor; anything that the page's own code throws fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.add_init_script(LISTEN)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    assert not errors, errors


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with visiting(browser) as page:
        yield page


@pytest.fixture
def people(browser: Browser) -> Iterator[tuple[Page, Page]]:
    """Two visitors, each with a browser of his own."""
    with visiting(browser) as anna, visiting(browser) as ben:
        yield anna, ben
