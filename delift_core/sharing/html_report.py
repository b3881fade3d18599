"""A run as one HTML file to hand on: what was asked, what was picked, whom it serves, what is left out."""

from __future__ import annotations

import math
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from delift_core import figures
from delift_core.data import Report, open_dataset, read_report
from delift_core.figures.scatter import scatter
from delift_core.insight import coverage, fairness
from delift_core.insight.curve import knee, running_tokens
from delift_core.insight.groups import ranks
from delift_core.quota import Quota
from delift_core.registry import METHODS
from delift_core.reporting import pool_utility
from delift_core.runs import Run, Workspace, cut, files
from delift_core.runs.run import Part
from delift_core.sharing.exporting import check_out, sources_of
from delift_core.sharing.html_parts import Figure, Html, page, pairs, section, table, tag, text
from delift_core.sharing.hubpush import public
from delift_core.types import Dataset, Indices

COLUMNS = 4  # columns that groups are taken from, besides the quota's
LEVELS = (2, 200)  # groups that such a column may have
PICKS = 25  # rows listed
TEXT = 280  # characters of a row's text
ENDINGS = (".html", ".htm")
_PLACE = re.compile(r"((?:--[\w-]+=)?@?)(.*)", re.DOTALL)  # of a word: its flag, and what may be a path


def build(ws: Workspace, run: Run, k: int | None = None, *, command: Sequence[str] = ()) -> str:
    """The report of the subset that keeps the first `k` picks (the run's own budget without one), as one HTML text.

    `command` is a command line that makes the same subset, where one is known.  Nothing is scored or drawn anew: a run
    without a map says so.  Raises ConfigError where the order has no such budget, WorkspaceError for missing files.
    """
    folder = ws.dataset_folder(run.config.pool)
    k = run.k if k is None else k
    cut.config_at(run, k)
    return _Report(ws, run, k, open_dataset(folder), read_report(folder), tuple(command)).page()


def write(
    ws: Workspace, run: Run, out: str | Path, k: int | None = None, *, command: Sequence[str] = ()
) -> int:  # fmt: skip
    """Write the report to `out`, whole or not at all; returns its bytes.  Raises as `check_out` and `build` do."""
    check_out(out, None, sources_of(run), endings=ENDINGS)
    content = build(ws, run, k, command=command).encode(errors="backslashreplace")
    with files.atomic(Path(out)) as target:
        target.write(content)
    return len(content)


@dataclass(frozen=True, eq=False)
class _Report:
    """What all sections look at."""

    ws: Workspace
    run: Run
    k: int
    pool: Dataset
    source: Report
    command: tuple[str, ...]

    @cached_property
    def picks(self) -> Indices:
        return self.run.selection.order[: self.k]

    @cached_property
    def candidates(self) -> Indices:
        return np.arange(len(self.pool), dtype=np.int64) if self.run.config.keep_duplicates else self.pool.unique

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return public(cut.manifest_at(self.run, self.k))

    @cached_property
    def method(self) -> str:
        config = self.run.config
        return METHODS[config.method].title if config.method in METHODS else config.method

    @property
    def share(self) -> float:
        selection = self.run.selection
        return (selection.head(self.k) if selection.nested else selection).share

    def page(self) -> str:
        """The whole report."""
        drawn = [self._curve(), *([points] if (points := self._map()) else [])]
        body = [
            self._head(), self._settings(), self._inputs(), self._value(drawn[0]), self._mapped(drawn[1:]),
            *self._groups(), self._uncovered(), self._left_out(), self._notes(), self._edits(), self._top(),
            self._again(),
        ]  # fmt: skip
        return page(f"Selection report: {self.pool.name}", body, drawn)

    # -------------------------------------------------------------------------------------------- what was asked

    def _head(self) -> Html:
        n = len(self.candidates)
        metrics = {
            "rows kept": f"{self.k:,}", "of rows to choose from": f"{n:,}",
            "of the rows": _percent(self.k / n if n else 0),
            "of the whole pool's value": _percent(self.share),
        }  # fmt: skip
        counted = self.run.tokens
        if counted is not None:
            metrics["tokens kept"] = f"{int(counted[: self.k].sum()):,}"
        boxes = (tag("div", tag("b", value), name) for name, value in metrics.items())
        made = (
            f"{self.method}, run {self.run.id}, made {self.run.manifest['created'].replace('T', ' ').rstrip('Z')} UTC."
        )
        return Html(
            tag("h1", f"{self.k:,} rows chosen from {self.pool.name}") + tag("p", made, class_="faint")
            + tag("div", *boxes, class_="metrics")
        )  # fmt: skip

    def _settings(self) -> Html:
        config = self.manifest["config"]
        hidden = {"format", "pool", "target", "existing", "holdout", "pin", "ban", "options"}
        rows: list[tuple[str, Any]] = [
            (name.replace("_", " "), _shown(value)) for name, value in config.items() if name not in hidden
        ]
        rows += [(f"option {name}", _shown(value)) for name, value in config.get("options", {}).items()]
        for name in ("pin", "ban"):
            if ids := getattr(self.run.config, name):
                rows.append((f"{name}: {len(ids):,} rows", _clip(", ".join(ids))))
        return section("Configuration", table(("setting", "value"), rows))

    def _inputs(self) -> Html:
        record = self.manifest
        rows = [
            (i["role"], i["name"], f"{i['rows']:,}", f"{i['refused']:,}", tag("code", i["fingerprint"]),
             ", ".join(f"{part} = {name}" for part, name in i["mapping"].items()))
            for i in record["inputs"]
        ]  # fmt: skip
        models = [*record["models"], *([record["encoder"]] if record["encoder"] else [])]
        used = [
            (m["kind"], m["name"], f"{m['parameters']:,}" if m["parameters"] else "–",
             f"{m['dtype']} on {m['device']}", tag("code", m["hash"]))
            for m in models
        ]  # fmt: skip
        head = ("role", "file", "rows", "refused", "fingerprint", "fields")
        shown = [table(head, rows) if rows else tag("p", "The manifest names no input.")]
        if used:
            shown.append(table(("model", "name", "parameters", "computed in", "hash of the weights"), used))
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        return section("Inputs", *shown, tag("p", f"Versions: {versions}.", class_="faint"))

    # -------------------------------------------------------------------------------------------- what it is worth

    def _curve(self) -> Figure:
        selection, counted = self.run.selection, self.run.tokens
        tokens = None if counted is None else running_tokens(counted, np.arange(len(counted)))
        bend = knee(selection.value) if selection.nested else None

        def made(theme: figures.Theme) -> Any:
            return figures.curve(selection, self.k, knee=bend, tokens=tokens, theme=theme, height=380)

        return Figure("curve", made("light"), made("dark"))

    def _value(self, figure: Figure) -> Html:
        selection = self.run.selection
        if not len(selection):
            return section("Value against budget", tag("p", "The selection is empty."))
        bend = knee(selection.value) if selection.nested else None
        named = {self.k: "budget", **({bend: "knee"} if bend else {})}
        if bend == self.k:
            named = {self.k: "budget and knee"}
        at = sorted({1, *named, *(int(x) for x in np.linspace(0, len(selection), 11).round() if x >= 1)})
        full = selection.full_value
        rows = [
            (f"{size:,}", _number(selection.value[size - 1]),
             _percent(selection.value[size - 1] / full if math.isfinite(full) and full else math.nan),
             _number(selection.gains[size - 1]), named.get(size, ""))
            for size in at
        ]  # fmt: skip
        told = "" if selection.nested else "The order is not nested: of another budget, other rows are the best."
        head = ("rows", "value", "of the whole pool's value", "gain of the last pick", "")
        return section("Value against budget", figure.html(), table(head, rows), tag("p", told) if told else "")

    def _map(self) -> Figure | None:
        places = self.run.map()
        if places is None or len(places["pool"]) != len(self.pool):
            return None
        chosen = np.zeros(len(self.pool), bool)
        chosen[self.picks] = True
        rank = ranks(self.run.selection.order, len(self.pool))
        return Figure("map", scatter(places, chosen, rank), scatter(places, chosen, rank, theme="dark"))

    def _mapped(self, drawn: list[Figure]) -> Html:
        if not drawn:
            how = f"delift map --id {self.run.id}"
            told = "No map was drawn of this run. To have it here, draw it and build the report again: "
            return section("Map", tag("p", told, tag("code", how)))
        told = "Rows that lie close together have similar texts. Places mean nothing beyond that."
        return section("Map", drawn[0].html(), tag("p", told, class_="faint"))

    # -------------------------------------------------------------------------------------------- whom it serves

    def _groups(self) -> Iterator[Html]:
        columns = list(self._columns())
        if not columns:
            told = "The pool has no column of short values that makes groups."
            yield section("Coverage by group", tag("p", told))
            return
        utility = pool_utility(self.run)
        shown: list[Html] = []
        for by in columns:
            values = self.pool.group(by)
            found = fairness.report(
                [values[row] for row in self.candidates], self.candidates, self.picks, by=by, utility=utility
            )
            rows = [
                (g.name, f"{g.rows:,}", _percent(g.share), f"{g.picked:,}", _percent(g.picked_share), f"{g.ratio:.2f}",
                 *([] if utility is None else [_percent(math.nan if g.covered is None else g.covered)]))
                for g in (*found.groups, *([found.other] if found.other else []))
            ]  # fmt: skip
            head = [by, "rows", "of the pool", "kept", "of the subset", "ratio"]
            head += [] if utility is None else ["value covered"]
            shown += [tag("h3", f"By {by}"), tag("p", found.sentence), table(head, rows)]
        told = "Ratio: share of the subset over share of the pool; 1 is proportional."
        if utility is not None:
            told += " Value covered: of what the whole pool could do for the group's rows, what the subset does."
        yield section("Coverage by group", *shown, tag("p", told, class_="faint"))

    def _columns(self) -> Iterator[str]:
        """The quota's column, then others with a number of values that makes groups."""
        own = Quota.parse(self.run.config.quota) if self.run.config.quota else None
        first = own.by if own is not None and own.clusters is None and own.by in self.pool.fields else None
        if first:
            yield first
        left = COLUMNS
        for name in self.pool.fields:
            if name != first and left and LEVELS[0] <= len(set(self.pool.group(name))) <= LEVELS[1]:
                left -= 1
                yield name

    def _uncovered(self) -> Html:
        lines = []
        parts: tuple[Part, ...] = ("pool", "target")
        for part in parts:
            kinds = [kind for p, kind in self.run.utilities if p == part]
            if not kinds:
                continue
            kind = next((kind for kind in kinds if kind == self.run.config.kind), kinds[0])
            utility = self.run.utility(part, kind)
            weight = coverage.weights(utility)
            could = coverage.best(utility, np.arange(utility.shape[1])) > 0
            does = coverage.best(utility, coverage.places(utility, self.picks)) > 0
            rows = [weight[could & does].sum(), weight[could & ~does].sum(), weight[~could].sum()]
            lines.append((part, kind, *(f"{round(float(count)):,}" for count in rows)))
        if not lines:
            told = "This method scores no pairs of rows, so it cannot say which rows the subset helps."
            return section("Rows that the subset does not help", tag("p", told))
        head = ("rows of", "measure", "helped by the subset", "helped only by rows left out", "helped by no row")
        told = "A row counts as helped where one row of the subset has a utility above 0 for it."
        return section("Rows that the subset does not help", table(head, lines), tag("p", told, class_="faint"))

    # -------------------------------------------------------------------------------------------- what was left out

    def _left_out(self) -> Html:
        left, chosen = self.run.left_out, set(self.picks.tolist())
        ranked = max(0, len(self.run.selection) - self.k)
        copies = len(self.pool) - len(self.candidates)
        reasons = Counter(reason for row, reason in left.items() if row not in chosen)
        rows = [("ranked, and beyond the budget", ranked), ("exact copies of other rows", copies)]
        rows += [(f"could not be picked: {reason}", count) for reason, count in reasons.most_common(10)]
        if (rest := sum(reasons.values()) - sum(count for _, count in reasons.most_common(10))) > 0:
            rows.append(("could not be picked, for other reasons", rest))
        never = len(self.candidates) - self.k - ranked - len(set(left) - chosen)
        if never > 0:
            rows.append(("never ranked", never))
        rows += [(f"refused when the file was read: {reason}", count) for reason, count in self.source.reasons.items()]
        counted = [(reason, f"{count:,}") for reason, count in rows if count]
        told = "Each row with its reason: delift export with --rejected FILE."
        shown = table(("why", "rows"), counted) if counted else tag("p", "No row was left out.")
        return section("Left out", shown, tag("p", told, class_="faint"))

    def _notes(self) -> Html:
        own = self.k == self.run.k
        notes = self.run.notes if own else self.run.manifest["notes"]
        shown = [tag("ul", *(tag("li", note) for note in notes)) if notes else tag("p", "No notes.")]
        if own and self.run.fidelity:
            sentences = (tag("li", f"{part}: {told.get('sentence', '')}") for part, told in self.run.fidelity.items())
            shown += [tag("h3", "How far scored pairs stand for all"), tag("ul", *sentences)]
        if found := self.run.manifest.get("constraints"):
            shown += [tag("h3", "What the constraints found"), pairs(found)]
        return section("Notes, fidelity, constraints", *shown)

    def _edits(self) -> Html:
        edits = self.ws.catalogue.edits(self.run.id)
        if not edits:
            return section("Edits", tag("p", "Nobody pinned or banned a row of this run by hand."))
        ids = self.pool.ids
        rows = [
            (time.strftime("%Y-%m-%d %H:%M", time.gmtime(e.at)), e.who or "–", e.action,
             _clip(", ".join(ids[row] for row in e.rows[:20] if row < len(ids))), e.reason or "–",
             "undone" if e.undone else "holds")
            for e in edits
        ]  # fmt: skip
        told = "An edited subset is a run of its own, with these rows under pin and ban in its configuration."
        head = ("when (UTC)", "who", "what", "rows", "why", "state")
        return section("Edits", table(head, rows), tag("p", told, class_="faint"))

    def _top(self) -> Html:
        selection, ids = self.run.selection, self.pool.ids
        rows = [
            (f"{i + 1:,}", ids[row], _number(selection.gains[i]), _clip(self.pool.prompts[row]),
             _clip(self.pool.responses[row]))
            for i, row in enumerate(int(row) for row in self.picks[:PICKS])
        ]  # fmt: skip
        title = f"The first {len(rows)} picks" if len(rows) < self.k else "The picks"
        return section(title, table(("pick", "id", "gain", "prompt", "response"), rows))

    # -------------------------------------------------------------------------------------------- how to repeat it

    def _again(self) -> Html:
        export = [
            "delift",
            "export",
            "--id",
            self.run.id,
            "--k",
            str(self.k),
            "--format",
            "jsonl",
            "--out",
            "subset.jsonl",
        ]
        lines = [
            "# from the manifest, in any workspace", "delift replay manifest.json", "# in this workspace",
            shlex.join(export),
        ]  # fmt: skip
        if made := self.command or (tuple(self.run.manifest["command"]) if self.k == self.run.k else ()):
            lines += ["# as it was asked for, files without their folders", shlex.join(_public_words(made))]
        hashes = tag("p", "Manifest hash (sha256): ", tag("code", self.manifest["hash"]))
        told = "Two runs with the same hash had the same inputs, models, settings and row ids."
        return section("Make it again", hashes, tag("p", told, class_="faint"), tag("pre", "\n".join(lines)))


def _public_words(command: Sequence[str]) -> Iterator[str]:
    """A command line without folders of this machine: no workspace, and of each path its last part."""
    words = iter(command)
    for word in words:
        if word == "--workspace":
            next(words, None)
        elif not word.startswith("--workspace="):
            flag, place = _PLACE.fullmatch(word).groups()  # type: ignore[union-attr]
            yield flag + (Path(place).name if place.startswith(("/", ".", "~")) else place)


def _shown(value: Any) -> Html:
    """A setting's value on one line."""
    if isinstance(value, bool):
        return text("yes" if value else "no")
    return _clip("none" if value is None else str(value))


def _clip(value: str) -> Html:
    line = " ".join(value.split())
    return text(line if len(line) <= TEXT else f"{line[: TEXT - 1]}…")


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else "–"
