"""k-center: each row as far as possible from those picked before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from delift_core.selection.limits import shortfall
from delift_core.selection.ranked import nested_under
from delift_core.selection.room import Room
from delift_core.selection.vectors import pool_vectors
from delift_core.types import Doubles, Evidence, Floats, Limit, Progress, Selection, no_progress

BATCH = 256  # picks whose distances to the whole pool are measured in one go
NEAR_TOP = 4096  # rows that are looked at for every pick: the farthest at the last look at the whole pool
_BLOCK = 4096  # rows of the pool measured in one go
_DIGITS = 9  # to which squared distances are rounded: copies are at 0, and ties do not hang on the order of a sum


@dataclass(frozen=True)
class KCenter:
    """Farthest-first traversal (Euclidean).  Gonzalez 1985; as core-set selection Sener and Savarese, arXiv 1708.00489.

    The first pick is the row nearest to the mean of all (or the first pinned row), every further one the row that is
    farthest from all picks so far; ties go to the lowest position.  The radius within which picks cover the pool is at
    most twice the best possible for their number (without rules that bar rows).  The seed is not used.

    `gains` are the distance of each pick from those before it, which never increases where no row is barred; that of
    the first is the distance of the row farthest from it.  So gains[k] is the radius that the first k picks cover
    (k >= 1).  `value` is their running sum; `full_value` is 0 and `share` NaN, as the sum over the pool is not known.

    Distances to many new picks are brought up to date together, as a product of matrices; in between only the rows that
    were farthest are looked at, as long as that is sure to give the same picks.  O(n k d) operations.
    """

    name: ClassVar[str] = "kcenter"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"vectors"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take the farthest row up to the limit.  Raises ConfigError when a vector is not finite."""
        vectors = pool_vectors(evidence)
        room, gaps = Room(evidence.tokens, limit), _Gaps(vectors)
        gains: list[float] = []
        for position in room.picks:
            gains.append(gaps.exact(position))
            gaps.add(position)
        if not room.picks:
            first = _middle(vectors, room)
            if first is not None:
                room.take(first)
                gains.append(np.inf)
                gaps.add(first)
        epoch = room.epoch
        while room.open:
            found = gaps.farthest(room, again=epoch != room.epoch)
            epoch = room.epoch
            if found is None:
                if not room.release():
                    break
                continue
            room.take(found[0])
            gains.append(found[1])
            gaps.add(found[0])
            if len(room.picks) % BATCH == 0:
                progress("select", len(room.picks), room.rows)
        if gaps.radius_of_first is not None:
            gains[0] = gaps.radius_of_first
        picks, gain = np.array(room.picks, np.int64), np.array(gains)
        progress("select", len(picks), len(picks))
        notes = shortfall(picks, evidence.tokens, limit)
        return Selection(evidence.candidates[picks], gain, np.cumsum(gain), 0.0, nested_under(limit), notes)


def _middle(vectors: Floats, room: Room) -> int | None:
    """The row nearest to the mean, of those that may be picked; None where there is none."""
    allowed = room.allowed()
    while not allowed.any() and room.release():
        allowed = room.allowed()
    if not allowed.any():
        return None
    apart = _squared(vectors, vectors.mean(axis=0, dtype=np.float64)[None])
    return int(np.where(allowed, apart, np.inf).argmin())


class _Gaps:
    """Squared distance of every row to its nearest pick, brought up to date for many picks at a time."""

    def __init__(self, vectors: Floats) -> None:
        self.vectors = vectors
        self.all: Doubles = np.full(len(vectors), np.inf)  # to the picks but for the newest
        self.new: list[int] = []  # the newest picks
        self.top = np.empty(0, np.int64)  # the rows that were farthest at the last look at all, ascending
        self.rows: Doubles = np.empty((0, vectors.shape[1]))  # their vectors
        self.gap: Doubles = np.empty(0)  # to all picks
        self.below, self.tie = np.inf, 0  # no other row is farther, and the first that was as far
        self.radius_of_first: float | None = None

    def add(self, position: int) -> None:
        """A new pick."""
        self.new.append(position)
        self.gap = np.minimum(self.gap, _apart(self.rows, self.vectors[position]))
        if self.radius_of_first is None or len(self.new) == BATCH:
            self._update()
        if self.radius_of_first is None:
            self.radius_of_first = float(np.sqrt(self.all.max()))

    def exact(self, position: int) -> float:
        """Distance of one row to its nearest pick; infinite before the first."""
        apart = _apart(self.vectors[self.new].astype(np.float64), self.vectors[position])
        return float(np.sqrt(min(self.all[position], apart.min(initial=np.inf))))

    def farthest(self, room: Room, again: bool) -> tuple[int, float] | None:
        """The farthest row that may be picked, and its distance; None where no row may be.

        `again`: rows may be allowed now that were not before, so the whole pool must be looked at.
        """
        if not again and len(self.top):
            gap = np.where(room.allowed(self.top), self.gap, -1.0)
            best = int(gap.argmax())
            if gap[best] > self.below or (gap[best] == self.below and self.top[best] < self.tie):
                return int(self.top[best]), float(np.sqrt(gap[best]))
        self._update()
        gap = np.where(room.allowed(), self.all, -1.0)
        best = int(gap.argmax()) if len(gap) else -1
        if best < 0 or gap[best] < 0:
            return None
        self._look(gap)
        return best, float(np.sqrt(gap[best]))

    def _update(self) -> None:
        if self.new:
            np.minimum(self.all, _squared(self.vectors, self.vectors[self.new].astype(np.float64)), out=self.all)
            self.new = []

    def _look(self, gap: Doubles) -> None:
        """Keep the farthest rows, equally far ones by position; -1 marks rows that may not be picked."""
        self.below, self.tie, self.top = -0.5, 0, np.flatnonzero(gap >= 0)
        if len(self.top) > NEAR_TOP:
            self.below = float(np.partition(gap, len(gap) - NEAR_TOP)[len(gap) - NEAR_TOP])
            above, level = np.flatnonzero(gap > self.below), np.flatnonzero(gap == self.below)
            kept = NEAR_TOP - len(above)
            self.top = np.sort(np.concatenate([above, level[:kept]]))
            self.tie = int(level[kept]) if kept < len(level) else len(gap)
        self.rows, self.gap = self.vectors[self.top].astype(np.float64), gap[self.top]


def _apart(rows: Doubles, point: Floats) -> Doubles:
    """Squared distance of each row to one point."""
    apart: Doubles = np.round(((rows - point) ** 2).sum(axis=1), _DIGITS)
    return apart


def _squared(vectors: Floats, points: Doubles) -> Doubles:
    """Squared distance (n,) of each row to the nearest of the points (p, d), in float64."""
    out, squares = np.empty(len(vectors)), np.einsum("pd,pd->p", points, points)
    for start in range(0, len(vectors), _BLOCK):
        part = vectors[start : start + _BLOCK].astype(np.float64)
        nearest = (squares[None, :] - 2 * (part @ points.T)).min(axis=1)
        out[start : start + _BLOCK] = np.einsum("nd,nd->n", part, part) + nearest
    return np.maximum(np.round(out, _DIGITS), 0.0)
