"""What people change by hand: rows of a run that are pinned or banned, logged, folded, priced, made a run.

An edit names rows of the run's pool by index.  The log only grows; an edit that is undone stays in it and counts no
more.  An edited subset is always a run of its own, with `pin` and `ban` in its configuration, so that its ids are those
of `delift select --pin ... --ban ...`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from delift_core.config import RunConfig
from delift_core.data import open_dataset
from delift_core.errors import ConfigError, WorkspaceError, unknown
from delift_core.runs import Run, Workspace, cut
from delift_core.runs.records import Edit, RunRecord
from delift_core.types import Dataset, Doubles, Indices

Action = Literal["pin", "ban", "unpin", "unban"]
ACTIONS: tuple[Action, ...] = get_args(Action)
Which = Literal["all", "selected", "rejected", "pinned", "banned"]
WHICH: tuple[Which, ...] = get_args(Which)
_BANNED = "left out: banned by its id"  # how a run says that a ban alone keeps a row out


@dataclass(frozen=True)
class Change:
    """An edit that is not saved yet."""

    action: Action
    rows: tuple[int, ...]  # row indices of the pool
    reason: str


@dataclass(frozen=True, eq=False)
class Edits:
    """What a run's own rules and its edits come to; a row stands in one of the two at most."""

    pinned: Indices  # (p,) pool row indices, in the order in which they were pinned
    banned: Indices  # (b,) ascending


# ------------------------------------------------------------------------------------------------ the log


def edits_of(ws: Workspace, run_id: str, more: Iterable[Change] = ()) -> Edits:
    """The pins and bans of a run after its saved edits, and after `more` that are not saved."""
    config = ws.catalogue.run(run_id).config
    pool = open_dataset(ws.dataset_folder(config.pool))
    return fold(config, pool, [*ws.catalogue.edits(run_id), *more])


def fold(config: RunConfig, pool: Dataset, edits: Iterable[Edit | Change]) -> Edits:
    """The pins and bans of `config`, then the edits in their order: of two about the same row the later one wins.

    An exact copy stands for the row it is a copy of, unless the run counts copies.  Undone edits are passed over.
    Raises WorkspaceError for an edit that this version does not know.
    """
    pinned, banned = (dict.fromkeys(_rows_of(config, pool, ids)) for ids in (config.pin, config.ban))
    for edit in edits:
        if isinstance(edit, Edit) and edit.undone:
            continue
        if edit.action not in ACTIONS:
            raise WorkspaceError(f"The log of edits says {edit.action!r}, which this version does not know. Update it.")
        for row in _firsts(config, pool, np.array(edit.rows, np.int64)):
            if edit.action in ("ban", "unpin"):
                pinned.pop(row, None)
            if edit.action in ("pin", "unban"):
                banned.pop(row, None)
            if edit.action in ("pin", "ban"):
                (pinned if edit.action == "pin" else banned).setdefault(row)
    return Edits(np.array(list(pinned), np.int64), np.sort(np.array(list(banned), np.int64)))


def check_change(change: Change, rows: int) -> None:
    """Raise ConfigError for an edit of a pool of so many rows that could not be saved: no rows, no reason."""
    if change.action not in ACTIONS:
        raise unknown("edit", change.action, ACTIONS)
    if not change.rows:
        raise ConfigError(f"No row is chosen to {change.action}. Choose some in the table, or take all that match.")
    if not all(0 <= row < rows for row in change.rows):
        raise ConfigError(f"A row to {change.action} is outside the pool of {rows:,} rows. Search again.")
    if not change.reason.strip():
        raise ConfigError(
            f"Say why: to {change.action} {len(change.rows):,} of the rows takes a reason, such as 'wrong answer'."
        )


def release(config: RunConfig, pool: Dataset, rows: Iterable[int], edits: Edits, reason: str) -> list[Change]:
    """The changes that take back every pin and ban of the given rows.

    Raises ConfigError where none of them has one.
    """
    asked = set(_firsts(config, pool, np.array(list(rows), np.int64)))
    held: tuple[tuple[Action, Indices], ...] = (("unpin", edits.pinned), ("unban", edits.banned))
    kept = [(action, tuple(row for row in those.tolist() if row in asked)) for action, those in held]
    found = [Change(action, those, reason) for action, those in kept if those]
    if not found:
        raise ConfigError("None of these rows is pinned or banned, so there is nothing to take back.")
    return found


def save(ws: Workspace, run_id: str, changes: Sequence[Change], who: str) -> None:
    """Log changes of a run in their order, all of them or none; those of other people stay.

    Raises ConfigError without a name, WorkspaceError for an unknown run or a database that cannot be written.
    """
    if not who.strip():
        raise ConfigError("Say who you are: the log keeps a name with every edit.")
    rows = ws.catalogue.dataset(ws.catalogue.run(run_id).config.pool).rows
    for change in changes:
        check_change(change, rows)
    now = time.time()
    entries = [(run_id, c.action, json.dumps(list(c.rows)), c.reason.strip(), who.strip(), now) for c in changes]
    with ws.catalogue.transaction() as db:
        db.executemany("INSERT INTO edits (run, action, rows, reason, who, at) VALUES (?, ?, ?, ?, ?, ?)", entries)


def turn(ws: Workspace, run_id: str, edit: int) -> bool:
    """Undo a saved edit that counts, or make one count again that is undone; True when it is undone now.

    Raises WorkspaceError where the run has no such edit.
    """
    found = next((e for e in ws.catalogue.edits(run_id) if e.id == edit), None)
    if found is None:
        raise WorkspaceError(f"Run {run_id} has no edit {edit}. Load the page again.")
    ws.catalogue.undo_edit(edit, undone=not found.undone)
    return not found.undone


# ------------------------------------------------------------------------------------------------ the edited run


def edited_config(run: Run, pool: Dataset, edits: Edits, k: int | None = None) -> RunConfig:
    """The configuration of the run that has these pins and bans, for the first `k` rows where those are not its own.

    It is the run's own where nothing differs.  Raises ConfigError for a pinned row that the run had to leave out.
    """
    config = run.config if k is None else cut.config_at(run, k)
    for row in edits.pinned.tolist():
        if (why := run.left_out.get(row, _BANNED)) != _BANNED:
            raise ConfigError(f"Row {pool.ids[row]!r} is pinned, but it is {why}. Unpin it.")
    pin, ban = config.pin, config.ban
    if edits.pinned.tolist() != list(dict.fromkeys(_rows_of(config, pool, pin))):
        pin = tuple(pool.ids[row] for row in edits.pinned.tolist())
    if edits.banned.tolist() != sorted(set(_rows_of(config, pool, ban))):
        ban = tuple(pool.ids[row] for row in edits.banned.tolist())
    return config.with_(pin=pin, ban=ban)


def versions(ws: Workspace, config: RunConfig) -> list[RunRecord]:
    """The other finished runs that differ from this configuration in pins and bans alone, the newest first."""
    plain, found = config.with_(pin=(), ban=()), []
    for record in ws.catalogue.runs():
        if record.state != "done" or record.id == config.id:
            continue
        try:
            same = record.config.with_(pin=(), ban=()) == plain
        except ConfigError:  # written by another version: no run of these settings
            continue
        if same:
            found.append(record)
    return found


@dataclass(frozen=True, eq=False)
class Price:
    """What other rules cost: the value of the rows they lead to, beside that of the run's, under its own objective."""

    k: int  # rows with the rules
    before: float  # value of the run's first rows; NaN where sets of rows have no value
    after: float
    loss: float | None  # 1 - after / before; None where that says nothing
    entered: Indices  # pool row indices that come in, in pick order
    left: Indices  # that go out
    seconds: float
    notes: tuple[str, ...]
    sentence: str


def price(ws: Workspace, run: Run, k: int, *, edits: Edits | None = None, quota: str | None = None) -> Price:
    """Choose `k` rows again under the run's rules with these edits, or with this quota in place of its own.

    Nothing is scored: the evidence that the run stored is read (`whatif.retry`).  Raises ConfigError where it stored
    too little, and for rules that cannot be followed.
    """
    from delift_core.review import whatif

    started = time.monotonic()
    pool = open_dataset(ws.dataset_folder(run.config.pool))
    changes: dict[str, Any] = {"quota": quota}
    if edits is not None:
        config = edited_config(run, pool, edits, k)
        changes.update(pin=config.pin, ban=config.ban)
    measure = whatif.Yardstick.of(ws, run)
    found = whatif.retry(ws, run, rows=None if k == run.k else k, yardstick=measure, **changes)
    own = run.selection.order[:k]
    before, after = (measure.own if k == run.k else measure.value(own)), found.value
    loss = 1 - after / before if math.isfinite(before) and before > 0 else None
    entered, left = (one[~np.isin(one, other)] for one, other in ((found.picked, own), (own, found.picked)))
    told = f"{len(entered):,} {'row comes' if len(entered) == 1 else 'rows come'} in, {len(left):,} out"
    if loss is None:
        sentence = f"{told}. This objective gives these sets of rows no value that could be compared."
    else:
        much = "costs nothing" if abs(loss) < 5e-7 else f"{'costs' if loss > 0 else 'adds'} {100 * abs(loss):.3g} %"
        sentence = f"It {much} of the objective: {after:.5g} in place of {before:.5g}. {told}."
    return Price(found.k, before, after, loss, entered, left, time.monotonic() - started, found.notes, sentence)


# ------------------------------------------------------------------------------------------------ how rows stand


@dataclass(frozen=True, eq=False)
class Standing:
    """How each of the n rows of a pool stands in a run, at a budget, after edits."""

    rank: Indices  # (n,) pick number from 0; -1 for a row that is not in the order
    gain: Doubles  # (n,) of its pick; NaN where there is none
    selected: NDArray[np.bool_]
    pinned: NDArray[np.bool_]  # copies of a pinned row are pinned with it
    banned: NDArray[np.bool_]

    @classmethod
    def of(cls, run: Run, pool: Dataset, k: int, edits: Edits) -> Standing:
        """How the rows stand when the first `k` picks are kept."""
        n, order = len(pool), run.selection.order
        rank, gain = np.full(n, -1, np.int64), np.full(n, np.nan)
        rank[order], gain[order] = np.arange(len(order)), run.selection.gains
        firsts = np.arange(n) if run.config.keep_duplicates else pool.table["copy_of"].to_numpy()
        pinned, banned = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        pinned[edits.pinned], banned[edits.banned] = True, True
        return cls(rank, gain, (rank >= 0) & (rank < k), pinned[firsts], banned[firsts])

    def which(self, name: str) -> NDArray[np.bool_]:
        """The rows (n,) that a filter keeps: all, selected, rejected, pinned or banned."""
        if name not in WHICH:
            raise unknown("kind of rows", name, WHICH)
        if name == "all":
            return np.ones(len(self.rank), np.bool_)
        found: NDArray[np.bool_] = ~self.selected if name == "rejected" else getattr(self, name)
        return found

    def by_pick(self, rows: Indices) -> Indices:
        """The rows in pick order, those that are not in the order last."""
        late = np.where(self.rank[rows] < 0, len(self.rank), self.rank[rows])
        found: Indices = rows[np.argsort(late, kind="stable")]
        return found

    @property
    def columns(self) -> Mapping[str, Any]:
        """What a search in SQL may use besides the rows' own columns; `rank` counts from 1."""
        picked = self.rank >= 0
        return {
            "selected": self.selected, "rank": pa.array(self.rank + 1, mask=~picked),
            "gain": pa.array(self.gain, mask=~picked), "pinned": self.pinned, "banned": self.banned,
        }  # fmt: skip


def _rows_of(config: RunConfig, pool: Dataset, ids: Sequence[str]) -> list[int]:
    """Row indices of ids that a finished run names, in their order."""
    if not ids:
        return []
    names = pool.table["id"]
    at = pc.index_in(pa.array(ids, names.type), value_set=names.combine_chunks())
    if at.null_count:
        missing = ids[at.is_null().to_pylist().index(True)]
        raise ConfigError(f"There is no row {missing!r} in {pool.name}, which the run pins or bans.")
    return _firsts(config, pool, at.to_numpy().astype(np.int64))


def _firsts(config: RunConfig, pool: Dataset, rows: Indices) -> list[int]:
    found: list[int] = (rows if config.keep_duplicates else pool.table["copy_of"].to_numpy()[rows]).tolist()
    return found
