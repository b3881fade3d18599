"""Target rows take turns, each the row that helps it most of those not taken yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from delift_core.errors import ConfigError
from delift_core.selection.limits import shortfall
from delift_core.selection.ranked import nested_under
from delift_core.selection.room import Room
from delift_core.selection.turns import NOBODY, take_turns
from delift_core.types import (
    Doubles,
    Evidence,
    Floats,
    Indices,
    Limit,
    Progress,
    Selection,
    Utility,
    from_pick,
    no_progress,
)

HELD = 1 << 25  # positions that all target rows hold ready together, at most
FIRST = 64  # positions that a target row holds ready at first, at least
TOGETHER = 64  # target rows that are read in one go: a matrix in Fortran order is slow to read row by row


@dataclass(frozen=True)
class RoundRobin:
    """Round-robin over the target rows, as RDS+ picks.  arXiv 2503.01807.

    A target row that no row left helps (utility 0 or less) passes its turn; when all pass, the rest follows in the
    order of the pool.  Equal utilities go to the lowest position.  Bans, near-duplicates, quotas and tokens hold within
    the turns: a target row takes its best row that is still allowed.

    `gains` are the utilities to the target row whose turn it was (0 for pinned rows and for the rest), `value` is
    their running sum; turns give the whole pool no value, so `full_value` is 0 and `share` NaN.

    A target row holds only the best part of its ranking ready (`HELD` positions over all, 256 MB) and reads its
    utilities again when that is used up.
    """

    name: ClassVar[str] = "round-robin"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"target"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take turns up to the limit; the seed is not used.

        Raises ConfigError for an empty target or a utility that is NaN.
        """
        table = _Table(_target(evidence))
        picks, who = take_turns(table.rankings(limit, progress), evidence.tokens, limit, progress=progress)
        gains, chosen = np.zeros(len(picks)), np.flatnonzero(who != NOBODY)
        gains[chosen] = table.entries(who[chosen], picks[chosen])
        notes = shortfall(picks, evidence.tokens, limit)
        pinned = 0 if limit.rules is None else min(len(limit.rules.pinned), len(picks))
        rest = np.flatnonzero(who[pinned:] == NOBODY)
        if len(rest):
            told = "a row that helps no target row, taken in the order of the pool"
            notes = (*notes, from_pick(pinned + rest[0] + 1, f"{told}."))
        return Selection(evidence.candidates[picks], gains, np.cumsum(gains), 0.0, nested_under(limit), notes)


def _target(evidence: Evidence) -> Utility:
    target = evidence.target
    if target is None:
        raise ValueError("the evidence has no target utilities, which this objective needs")
    if not np.array_equal(target.candidates, evidence.candidates):
        raise ValueError("the target candidate rows are not the candidates of the evidence, in their order")
    if not target.shape[0]:
        raise ConfigError("The target has no rows. Give a file with at least one row of the task.")
    stored = target.values if isinstance(target.values, np.ndarray) else target.values.data
    if stored.size and np.isnan(stored.min()):
        raise ConfigError("A utility of the target is NaN. Scale the utilities first, so that a missing one is 0.")
    return target


class _Table:
    """Utilities (m, n) that are read by rows, whatever their form."""

    def __init__(self, target: Utility) -> None:
        dense = isinstance(target.values, np.ndarray)
        values: Any = target.values
        self.values = values if dense else values.tocsr()
        self.shape, self.dense = target.shape, dense

    def read(self, start: int, stop: int) -> Floats:
        """A copy of some rows, in C order."""
        part = self.values[start:stop]
        return np.array(part if self.dense else part.toarray(), np.float32, order="C")

    def entries(self, rows: Indices, columns: Indices) -> Doubles:
        """Single utilities."""
        if not len(rows):
            return np.zeros(0)
        return np.asarray(self.values[rows, columns], np.float64).ravel()

    def rankings(self, limit: Limit, progress: Progress) -> list[_Ranking]:
        """One a target row, with about four times the rows of its share of the budget ready."""
        (m, n), found = self.shape, list[_Ranking]()
        most = max(FIRST, min(n, HELD // m))
        size = min(most, FIRST + 4 * min(limit.rows, n) // m)
        for start in range(0, m, TOGETHER):
            block = self.read(start, start + TOGETHER)
            found += [_Ranking(self, start + i, _best(values, size), most) for i, values in enumerate(block)]
            progress("rank", len(found), m)
        return found


class _Ranking:
    """A `Source`: the ranking of one target row, of which the best part is held."""

    def __init__(self, table: _Table, index: int, ready: Indices, most: int) -> None:
        self.table, self.index, self.most = table, index, most
        self.ready: Indices | None = ready
        self.size = max(len(ready), FIRST)

    def fetch(self, room: Room, again: bool) -> Indices:
        """The best positions that are still allowed, as many as are held at a time."""
        if self.ready is not None:
            ready, self.ready = self.ready, None
            if len(ready):
                return ready
        self.size = min(2 * self.size, self.most)
        values = self.table.read(self.index, self.index + 1)[0]
        values[~room.allowed()] = 0
        return _best(values, self.size)


def _best(values: Floats, size: int) -> Indices:
    """The positions of the `size` greatest values above 0, greatest first, equal ones by position."""
    if size < len(values):
        least = max(np.partition(values, len(values) - size)[len(values) - size], 0)
        above, level = np.flatnonzero(values > least), np.flatnonzero(values == least)
        at = np.sort(np.concatenate([above, level[: size - len(above)]])) if least > 0 else above
    else:
        at = np.flatnonzero(values > 0)
    return at[np.argsort(-values[at], kind="stable")].astype(np.int64)
