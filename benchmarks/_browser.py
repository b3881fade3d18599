"""What `benchmarks.app` drives: workspaces with stored runs that nobody had to score, a server, and a visitor."""

from __future__ import annotations

import json
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
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, WebSocket, sync_playwright

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.runs import Run, Workspace, manifest
from delift_core.types import Floats, Selection, Utility

ROOT = Path(__file__).parents[1]
SOURCES = (  # file, field of the prompt, field of the response
    ("dolly_15k_en.jsonl", "instruction", "response"),
    ("gsm8k_train.jsonl", "question", "answer"),
    ("llm_adapters_boolq_train.jsonl", "instruction", "output"),
    ("llm_adapters_openbookqa_train.jsonl", "instruction", "output"),
)
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
WAIT_MS = 120_000
TENTH = 10  # a budget keeps one row in ten


# --- workspaces ------------------------------------------------------------------------------------------------------


def stored_run(home: Path, rows: int, data: Path, *, utility: bool = False) -> str:
    """Id of a finished run over `rows` rows in the workspace `home`; built at the first call.

    The rows are real ones from `data`, repeated with a number in front of the prompt until there are enough.  Order,
    gains, map (forty clouds of points) and, when asked for, a dense utility are seeded draws: nothing is scored.
    """
    note = home / f"{rows}{'u' if utility else ''}.json"
    if note.is_file():
        return str(json.loads(note.read_text(encoding="utf-8"))["run"])
    home.mkdir(parents=True, exist_ok=True)
    source = home / f"pool-{rows}.jsonl"
    _write_rows(source, rows, data)
    ws = Workspace(home)
    pool = pipeline.add_dataset(ws, source, name=f"{rows:,} rows")
    rng = np.random.default_rng(rows)
    n = len(pool.unique)
    gains = np.sort(rng.exponential(1.0, n) ** 3)[::-1]
    selection = Selection(pool.unique[rng.permutation(n)], gains, np.cumsum(gains), float(gains.sum()))
    config = RunConfig(pool=pool.fingerprint, method="delift" if utility else "delift-se", budget=str(rows // TENTH))
    ids = list(pool.ids)
    record = manifest.build(config, selection, rows // TENTH, ids=ids, inputs=[], timings={"total": 1.0})
    run = Run.write(
        ws, config, selection, rows // TENTH, ids=ids, manifest=record, tokens=rng.integers(40, 600, len(pool)),
        utilities={"pool": [_utility(n, rng, pool.unique)]} if utility else None,
    )  # fmt: skip
    centres = rng.normal(0, 6, (40, 2))
    run.write_map({"pool": (centres[rng.integers(0, 40, len(pool))] + rng.normal(0, 1, (len(pool), 2))).astype("f4")})
    ws.catalogue.update_run(run.id, state="done")
    source.unlink()
    note.write_text(json.dumps({"run": run.id}), encoding="utf-8")
    return run.id


def _write_rows(path: Path, rows: int, data: Path) -> None:
    known = []
    for name, prompt, response in SOURCES:
        with (data / name).open(encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                if record[prompt] and record[response]:
                    known.append((record[prompt], record[response], Path(name).stem))
    with path.open("w", encoding="utf-8") as out:
        for i in range(rows):
            prompt, response, topic = known[i % len(known)]
            text = prompt if i < len(known) else f"Task {i}. {prompt}"
            row = {"id": f"row-{i:07}", "instruction": text, "output": response, "source": topic, "part": str(i % 23)}
            out.write(json.dumps(row) + "\n")


def _utility(n: int, rng: np.random.Generator, rows: np.ndarray) -> Utility:
    sides = [rng.standard_normal((n, 4)).astype(np.float32) for _ in range(2)]
    values: Floats = sides[0] @ sides[1].T * np.float32(0.05)
    return Utility(values, rows, rows, "l2", np.full(n, 0.5, np.float32))


# --- server and visitor ----------------------------------------------------------------------------------------------


class Server:
    """The app on a free port, as `make run` starts it."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.begun = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
            cwd=ROOT, env={**os.environ, "DELIFT_HOME": str(home)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> Server:
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                sys.exit("the server did not start: try `make run`")
            time.sleep(0.02)
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=2) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def megabytes(self) -> float:
        """Resident memory of the server."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmRSS in /proc: memory is measured on Linux only")


class Visitor:
    """One browser window, and the size of the largest message that it was sent."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.largest = 0
        page.set_default_timeout(WAIT_MS)
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._weigh)

    def _weigh(self, payload: str | bytes) -> None:
        self.largest = max(self.largest, len(payload))

    def open(self, address: str) -> None:
        """Open an address as a new session and wait until the page is there."""
        self.page.goto(address)
        self.settled()

    def settled(self) -> None:
        """Wait until there is a heading and the server has nothing more to say."""
        self.page.wait_for_function(
            "() => document.querySelector('h1') && document.querySelector('[data-testid=stApp]')"
            ".getAttribute('data-test-script-state') === 'notRunning'"
        )
        if self.page.get_by_test_id("stException").count():
            sys.exit(f"an error on {self.page.url}:\n{self.page.get_by_test_id('stException').first.inner_text()}")

    def seconds(self, event: str, condition: str) -> Stopwatch:
        """A stopwatch in the page: from the next `event` until `condition` (JavaScript) holds on a drawn frame."""
        self.page.evaluate(
            """([event, condition]) => {
                const holds = new Function("return " + condition)
                window.measured = null
                window.addEventListener(event, () => {
                    const begun = performance.now()
                    const look = () => {
                        if (holds()) window.measured = (performance.now() - begun) / 1000
                        else requestAnimationFrame(look)
                    }
                    requestAnimationFrame(look)
                }, { capture: true, once: true })
            }""",
            [event, condition],
        )
        return Stopwatch(self.page)


class Stopwatch:
    """What `Visitor.seconds` started."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def read(self) -> float:
        """Wait for the end and return the seconds."""
        self.page.wait_for_function("() => window.measured !== null")
        return float(self.page.evaluate("() => window.measured"))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a graphics card; $CHROMIUM names another one."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        sys.exit("no chromium on this machine: apt-get install chromium, or name one in $CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()
