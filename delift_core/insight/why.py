"""Why one row is in a subset, or not: whom it stands for, what is lost without it, who stands in for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.insight.cover import Cover
from delift_core.insight.served import NOBODY
from delift_core.insight.standing import Score, Standing
from delift_core.types import Doubles, Floats, Indices, Kind

LISTED = 5  # rows in a list
SERVED = 10  # helped rows that are listed
Names = Callable[[int], str]  # the id of a row by its index


@dataclass(frozen=True)
class Near:
    """A row and a number: the utility between the two in the run's own units, None where the pair was not scored."""

    row: int
    id: str
    utility: float | None


@dataclass(frozen=True)
class Constituency:
    """The helped rows for which one selected row is the best of the subset."""

    count: int
    total: float  # what they get from it, as the objective counts it
    rows: tuple[Near, ...]  # those it helps most
    itself: bool  # the row is one of them


@dataclass(frozen=True)
class Substitute:
    """A row outside the subset in the place of a selected one."""

    row: int
    id: str
    value: float  # f of the subset with it in that place
    recovered: float  # share of the loss that it makes up for; NaN where nothing is lost


@dataclass(frozen=True)
class Representation:
    """Who of the subset stands for a row, and how well, as the objective counts it."""

    rows: tuple[Near, ...]  # the selected rows that help it most
    share: float | None  # what the first gives, of what any row of the pool could; None where none could


@dataclass(frozen=True)
class Contest:
    """A row that one outside the subset would help, those first where it would add most, and who helps it now."""

    row: int
    id: str
    utility: float | None
    by: Near | None  # the selected row that helps it most; None where none does


@dataclass(frozen=True)
class Swap:
    """The pick that a row would best take the place of, and what that does to f."""

    row: int
    id: str
    change: float
    share: float  # of f of the subset


@dataclass(frozen=True)
class Role:
    """What a utility tells of one row.  What does not apply (a selected row is not represented) is None or empty.

    `part` are the rows that are helped, "pool" or "target".  Where the utility is not what the objective maximises,
    whom a row is best for and who is near to it can be said; losses, gains and swaps cannot.
    """

    part: str
    kind: Kind
    value: float | None  # f of the subset, as computed from the utility; None where f is something else
    own: float | None = None  # what the row adds to f by itself, whoever else is picked; None where f has no such term
    serves: Constituency | None = None
    loss: float | None = None  # f(S) - f(S without the row)
    loss_share: float | None = None  # of f(S)
    alternatives: tuple[Substitute, ...] = ()
    represented: Representation | None = None
    would_help: tuple[Contest, ...] = ()
    gain_now: float | None = None  # f(S with the row) - f(S)
    swap: Swap | None = None


@dataclass(frozen=True)
class Explanation:
    """Everything that a finished run can say of one pool row at a budget of k rows."""

    run: str
    method: str
    objective: str
    row: int
    id: str
    k: int
    standing: Standing
    copy_of: Near | None = None  # the first row with the same text, which all below speaks of
    score: Score | None = None
    role: Role | None = None
    rules: tuple[str, ...] = ()  # what was asked of the picks beside the budget, as far as it touches this row
    sentences: tuple[str, ...] = ()  # all of it in plain words
    notes: tuple[str, ...] = ()  # what a reader must know of these numbers

    @property
    def best(self) -> Near | None:
        """The selected row that stands in for this one: that of the same text, else the one that helps it most."""
        if self.copy_of is not None and self.standing.rank is not None and self.standing.rank <= self.k:
            return self.copy_of
        shown = self.role.represented if self.role is not None else None
        return shown.rows[0] if shown is not None and shown.rows else None

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; what is not a finite number is null."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


@dataclass(frozen=True, eq=False)
class Case:
    """The subset at one budget, ready to explain rows by.

    `counts` says that f of `cover` is what the objective maximises; `most` (R,) is what each helped row gets from the
    row of the pool that helps it most; `closed` (C,) are the candidates that could not be picked.
    """

    cover: Cover
    part: str
    names: Names  # ids of pool rows
    helped: Names  # ids of helped rows
    most: Floats
    counts: bool
    closed: NDArray[np.bool_]

    def role(self, column: int) -> Role:
        """What the utility tells of one candidate, given by its column."""
        place = np.flatnonzero(self.cover.picks == column)
        utility = self.cover.table.utility
        bonus = self.cover.terms.bonus
        role = Role(
            self.part, utility.kind, self.cover.value if self.counts else None,
            None if bonus is None else _known(bonus[column]),
        )  # fmt: skip
        return self._selected(role, column, int(place[0])) if len(place) else self._outside(role, column)

    def _selected(self, role: Role, column: int, place: int) -> Role:
        cover = self.cover
        rows = cover.serves(place)
        counted = cover.terms.counted(cover.best.astype(np.float64)) - cover.terms.counted(np.zeros(len(cover.best)))
        worth = cover.terms.weighed(counted)[rows]
        first = rows[np.argsort(-cover.best[rows], kind="stable")][:SERVED]
        own = int(self._candidates[column]) in self._helped[rows] if self.part == "pool" else False
        shown = tuple(self._near_helped(int(i), column) for i in first)
        role = replace(role, serves=Constituency(len(rows), float(worth.sum()), shown, own))
        if not self.counts:
            return role
        loss = float(cover.losses[place])
        share = loss / cover.value if cover.value > 0 else math.nan
        return replace(role, loss=loss, loss_share=share, alternatives=self._alternatives(place, loss))

    def _alternatives(self, place: int, loss: float) -> tuple[Substitute, ...]:
        cover = self.cover
        gains = cover.without(place)
        gains[cover.picks] = -np.inf
        gains[self.closed | np.isnan(gains)] = -np.inf
        order = np.argsort(-gains, kind="stable")[:LISTED]
        rest = cover.value - loss
        return tuple(
            Substitute(int(row), self.names(int(row)), rest + gain, gain / loss if loss > 0 else math.nan)
            for row, gain in zip(self._candidates[order], gains[order].tolist(), strict=True)
            if np.isfinite(gain)
        )

    def _outside(self, role: Role, column: int) -> Role:
        cover, row = self.cover, int(self._candidates[column])
        if self.part == "pool":
            role = replace(role, represented=self._represented(row))
        given = cover.table.column(column).astype(np.float64)
        best = cover.best.astype(np.float64)
        more = cover.terms.weighed(cover.terms.counted(np.maximum(best, given)) - cover.terms.counted(best))
        order = np.lexsort((-given, -more))
        helped = [int(i) for i in order[: LISTED + 1] if given[i] > 0]
        if self.part == "pool":
            helped = [i for i in helped if self._helped[i] != row]
        role = replace(role, would_help=tuple(self._contest(i, column) for i in helped[:LISTED]))
        gain = cover.gain(column) if self.counts else math.nan
        if math.isnan(gain):
            return role
        return replace(role, gain_now=gain, swap=self._swap(cover.swaps(column)))

    def _swap(self, change: Doubles) -> Swap | None:
        if not len(change) or np.isnan(change).all():
            return None
        place, value = int(np.nanargmax(change)), self.cover.value
        row = int(self._candidates[self.cover.picks[place]])
        return Swap(row, self.names(row), float(change[place]), change[place] / value if value > 0 else math.nan)

    def _represented(self, row: int) -> Representation | None:
        """Who of the subset helps a row of the pool; None where it is no helped row of the utility."""
        found = np.flatnonzero(self._helped == row)
        if not len(found):
            return None
        i, cover = int(found[0]), self.cover
        places = np.flatnonzero(cover.table.row(i)[cover.picks] > 0)
        given = self._raw(i, cover.picks[places])
        places = places[np.argsort(-given, kind="stable")][:LISTED]
        rows = tuple(self._near_pick(i, int(cover.picks[p])) for p in places)
        at = np.array([i])
        most, got = (float(cover.terms.counted(v[i : i + 1], at)[0]) for v in (self.most, cover.best))
        return Representation(rows, got / most if most > 0 else None)

    def _contest(self, i: int, column: int) -> Contest:
        mine = self._near_helped(i, column)
        who = int(self.cover.who[i])
        by = None if who == NOBODY else self._near_pick(i, int(self.cover.picks[who]))
        return Contest(mine.row, mine.id, mine.utility, by)

    def _near_helped(self, i: int, column: int) -> Near:
        row = int(self._helped[i])
        return Near(row, self.helped(row), _known(self._raw(i, np.array([column]))[0]))

    def _near_pick(self, i: int, column: int) -> Near:
        row = int(self._candidates[column])
        return Near(row, self.names(row), _known(self._raw(i, np.array([column]))[0]))

    def _raw(self, i: int, columns: Indices) -> Floats:
        """Utilities of a helped row by these candidates in the run's own units; NaN where a pair was not scored."""
        return self.cover.table.raw(i)[columns]

    @property
    def _candidates(self) -> Indices:
        return self.cover.table.utility.candidates

    @property
    def _helped(self) -> Indices:
        return self.cover.table.utility.helped


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
