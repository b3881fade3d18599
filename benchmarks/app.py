"""What a visitor of the dashboard waits for, in Chromium without a graphics card, on a server of its own.

python -m benchmarks.app [--work DIR] [--only KEY,...] [--repeats 5] [--json]

Each figure is a median of repeats, beside its goal:

cold_s         start of the server, its workspace empty, until the first page can be used (the sample is installed)
page_s         click on another page until it stands there: of the seven pages the slowest
budget10k_s    key press on the budget slider until the new numbers are on the screen, 10,000 rows
budget100k_s   the same with 100,000 rows
focus_s        click on a point among 100,000 until the row's card is on the screen
map_s          the map of 100,000 points is drawn, after the heading of its page
lasso_s        a lasso around 20,000 of 100,000 points until the answer is on the screen
heatmap_s      heading of the Utility page until the overview of 5,000 x 5,000 pairs is drawn, not seen before
message_mb     the largest message of the server that any of these visits met, in megabytes
memory_growth  memory of the server after 50 more page visits over that after the first rounds

The workspaces hold real rows, repeated, and seeded orders, maps and utilities (`_browser.stored_run`).  With --work
they are built once and kept.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks._browser import ROOT, Server, Visitor, chromium, stored_run
from delift_core.runs import Run, Workspace

GOALS = {
    "cold_s": 3.0, "page_s": 0.5, "budget10k_s": 0.3, "budget100k_s": 0.6, "focus_s": 0.3, "map_s": 1.0,
    "lasso_s": 1.5, "heatmap_s": 2.0, "message_mb": 20.0, "memory_growth": 1.10,
}  # fmt: skip
PAGES = ("Data", "Run", "Map", "Utility", "Audit", "Compare", "Export")
LASSOED = 20_000
MARGIN, STRETCH = 0.94, 1.6  # of assets/map_paint.js
ROUNDS = 10  # of all pages, for the memory
CANVAS = (  # in the shadow of its component
    "[...document.querySelectorAll('[data-testid=stBidiComponentIsolated]')]"
    ".map((host) => host.shadowRoot?.querySelector('canvas')).find(Boolean)"
)
_SETTLED = "document.querySelector('[data-testid=stApp]').getAttribute('data-test-script-state') === 'notRunning'"


class Bench:
    """Workspaces, browser and what was measured."""

    def __init__(self, work: Path, data: Path, repeats: int, new_visitor: Callable[[], Visitor]) -> None:
        self.work, self.data, self.repeats, self.new_visitor = work, data, repeats, new_visitor
        self.largest = 0

    def cold_s(self) -> float:
        """From an empty workspace to the first page."""
        return median(self._cold() for _ in range(self.repeats))

    def _cold(self) -> float:
        with tempfile.TemporaryDirectory(prefix="delift-cold-") as home, Server(Path(home)) as server:
            visitor = self._visit(server, "")
            seconds = time.perf_counter() - server.begun
            self._leave(visitor)
            return seconds

    def page_s(self) -> float:
        """The slowest page to change to."""
        home, run = self._stored(10_000)
        taken: dict[str, list[float]] = {name: [] for name in PAGES}
        with Server(home) as server:
            visitor = self._visit(server, f"map?run={run}")
            for number in range(self.repeats + 1):
                for name in PAGES:
                    seconds = self._change(visitor, name)
                    if number:  # the first round reads the run
                        taken[name].append(seconds)
            self._leave(visitor)
        return max(median(times) for times in taken.values())

    def budget10k_s(self) -> float:
        """A key press on the slider, 10,000 rows."""
        return self._budget(10_000)

    def budget100k_s(self) -> float:
        """A key press on the slider, 100,000 rows."""
        return self._budget(100_000)

    def _budget(self, rows: int) -> float:
        home, run = self._stored(rows)
        taken = []
        with Server(home) as server:
            visitor = self._map(server, run)
            visitor.page.get_by_role("slider").focus()
            k = rows // 10
            for number in range(self.repeats + 1):
                k += 1
                shown = f"document.querySelector('[data-testid=stMetricValue]').innerText.startsWith('{k:,} of ')"
                watch = visitor.seconds("keydown", shown)
                visitor.page.keyboard.press("ArrowRight")
                if number:
                    taken.append(watch.read())
                visitor.page.wait_for_function(f"() => {CANVAS}.dataset.drawn === '{k}'")
                visitor.settled()
            self._leave(visitor)
        return median(taken)

    def focus_s(self) -> float:
        """A click on a point until its card."""
        home, run = self._stored(100_000)
        taken = []
        with Server(home) as server:
            visitor = self._map(server, run)
            at = self._pixels(visitor, home, run)
            card = "document.querySelector('[class*=st-key-map_card]')?.innerText"
            for number in range(self.repeats + 1):
                visitor.page.mouse.move(*at[1_000 + 7_919 * number])
                before = json.dumps(visitor.page.evaluate(card))
                watch = visitor.seconds("pointerup", f"{card} && {card} !== {before}")
                visitor.page.mouse.down()
                visitor.page.mouse.up()
                seconds = watch.read()
                if number:
                    taken.append(seconds)
                visitor.settled()
            self._leave(visitor)
        return median(taken)

    def map_s(self) -> float:
        """The map after the heading of its page."""
        home, run = self._stored(100_000)
        taken = []
        with Server(home) as server:
            for number in range(self.repeats + 1):
                visitor = self.new_visitor()
                visitor.page.goto(f"{server.address}/map?run={run}")
                visitor.page.wait_for_selector("h1")
                begin = time.perf_counter()
                visitor.page.wait_for_function(f"() => {CANVAS}?.dataset.drawn")
                if number:  # the first one reads the run
                    taken.append(time.perf_counter() - begin)
                self._leave(visitor)
        return median(taken)

    def lasso_s(self) -> float:
        """A lasso until the answer."""
        home, run = self._stored(100_000)
        taken = []
        with Server(home) as server:
            visitor = self._map(server, run)
            visitor.page.get_by_role("button", name="Lasso").click()
            for number in range(self.repeats + 1):
                at = self._pixels(visitor, home, run)
                right = float(np.sort(at[:, 0])[LASSOED]) + 0.1 * number  # another outline every time
                corners = [(at[:, 0].min() - 3, at[:, 1].min() - 3), (right, at[:, 1].min() - 3),
                           (right, at[:, 1].max() + 3), (at[:, 0].min() - 3, at[:, 1].max() + 3)]  # fmt: skip
                answered = "/\\b(19|20|21),\\d\\d\\d rows, [\\d,]+ of them selected/.test(document.body.innerText)"
                watch = visitor.seconds("pointerup", f"{answered} && {_SETTLED}")
                visitor.page.mouse.move(*corners[0])
                visitor.page.mouse.down()
                for corner in corners[1:]:
                    visitor.page.mouse.move(*corner, steps=20)
                visitor.page.mouse.up()
                seconds = watch.read()
                if number:
                    taken.append(seconds)
                visitor.page.get_by_role("button", name="Clear the outline").click()
                visitor.page.wait_for_function("() => document.body.innerText.includes('100,000 rows, ')")
                visitor.settled()
            self._leave(visitor)
        return median(taken)

    def heatmap_s(self) -> float:
        """The overview of a utility after the heading of its page."""
        home, run = self._stored(5_000, utility=True)
        return median(self._heatmap(home, run) for _ in range(self.repeats))

    def _heatmap(self, home: Path, run: str) -> float:
        with Server(home) as server:
            visitor = self._visit(server, f"export?run={run}")
            visitor.page.get_by_role("link", name="Utility", exact=True).first.click()
            visitor.page.wait_for_function("() => document.querySelector('h1')?.innerText === 'Utility'")
            begin = time.perf_counter()
            visitor.page.wait_for_selector(".st-key-utility_overview .heatmaplayer image", state="attached")
            seconds = time.perf_counter() - begin
            self._leave(visitor)
            return seconds

    def memory_growth(self) -> float:
        """Memory after many visits over that after the first ones."""
        home, run = self._stored(100_000)
        with Server(home) as server:
            visitor = self._map(server, run)
            sizes = []
            for number in range(ROUNDS + 2):  # the first two fill the caches
                visitor.open(f"{server.address}/?run={run}")
                for name in PAGES:
                    self._change(visitor, name)
                if number:
                    sizes.append(server.megabytes())
            self._leave(visitor)
        return median(sizes[-3:]) / median(sizes[:3])  # a single reading may meet a page half drawn

    # -- steps

    def _stored(self, rows: int, *, utility: bool = False) -> tuple[Path, str]:
        home = self.work / f"{rows}"
        return home, stored_run(home, rows, self.data, utility=utility)

    def _visit(self, server: Server, path: str) -> Visitor:
        visitor = self.new_visitor()
        visitor.open(f"{server.address}/{path}")
        return visitor

    def _map(self, server: Server, run: str) -> Visitor:
        visitor = self._visit(server, f"map?run={run}")
        visitor.page.wait_for_function(f"() => {CANVAS}?.dataset.drawn")
        visitor.settled()
        return visitor

    def _leave(self, visitor: Visitor) -> None:
        self.largest = max(self.largest, visitor.largest)
        visitor.page.context.close()

    def _change(self, visitor: Visitor, name: str) -> float:
        heading = f"document.querySelector('h1')?.innerText === '{name}' && {_SETTLED}"
        watch = visitor.seconds("click", heading)
        visitor.page.get_by_role("link", name=name, exact=True).first.click()
        seconds = watch.read()
        visitor.settled()
        return seconds

    def _pixels(self, visitor: Visitor, home: Path, run: str) -> np.ndarray:
        """Where every row is in the window, (n, 2), while the whole map is shown."""
        places = Run.open(Workspace(home), run).map()
        assert places is not None
        visitor.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
        xy = places["pool"].astype(np.float64)
        low, high = xy.min(axis=0), xy.max(axis=0)
        box = visitor.page.evaluate(
            f"(() => {{ const b = {CANVAS}.getBoundingClientRect(); return [b.left, b.top, b.width, b.height] }})()"
        )
        fit = MARGIN * np.array(box[2:]) / (high - low)  # as assets/map_paint.js does it
        scale = np.minimum(fit, STRETCH * fit[::-1])
        return np.array(box[:2]) + np.array(box[2:]) / 2 + (xy - (low + high) / 2) * scale * [1, -1]


def measure(work: Path, data: Path, repeats: int, only: list[str]) -> dict[str, float]:
    """The wanted figures by name."""
    with chromium() as browser:

        def new_visitor() -> Visitor:
            return Visitor(browser.new_context(viewport={"width": 1280, "height": 1100}).new_page())

        bench = Bench(work, data, repeats, new_visitor)
        report = {key: getattr(bench, key)() for key in GOALS if key in only and key != "message_mb"}
    if "message_mb" in only:
        report["message_mb"] = bench.largest / 1e6
    return {key: round(report[key], 3) for key in GOALS if key in report}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("DELIFT_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--work", type=Path, help="where workspaces are kept; a temporary folder without it")
    parser.add_argument("--only", default="", help=f"some of {', '.join(GOALS)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    only = [key.strip() for key in given.only.split(",") if key.strip()] or list(GOALS)
    if unknown := set(only) - set(GOALS):
        parser.error(f"--only {', '.join(sorted(unknown))}: not one of {', '.join(GOALS)}")
    with tempfile.TemporaryDirectory(prefix="delift-app-") as scratch:
        report = measure(given.work or Path(scratch), given.data, given.repeats, only)
    if given.json:
        print(json.dumps(report))
        return
    print(f"{'':15} {'measured':>9} {'goal':>6}")
    for key, value in report.items():
        print(f"{key:15} {value:9.3f} {GOALS[key]:6.2f} {'' if value <= GOALS[key] else 'missed'}")


if __name__ == "__main__":
    main()
