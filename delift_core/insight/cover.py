"""What a set of picks is worth by a utility, and what one pick less, one candidate more, or both at once change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from delift_core.insight.served import NOBODY, Table, Terms
from delift_core.types import Doubles, Floats, Indices


@dataclass(frozen=True, eq=False)
class Cover:
    """What the picks give, row by row, and what each of them is worth: all that a single row is explained by.

    Made once for a run and a budget; everything else is read from it with one column or a few rows of the utility.
    """

    table: Table
    terms: Terms
    picks: Indices  # (k,) columns
    best: Floats  # (R,) the most that a pick gives
    second: Floats  # (R,) the most that another pick gives
    who: Indices  # (R,) place in `picks` of the one that gives most; NOBODY where none gives anything
    raw: tuple[Floats, Floats]  # best and second in raw units, NaN for nothing

    @classmethod
    def of(cls, table: Table, terms: Terms, picks: Indices) -> Cover:
        """Read the columns of the picks, once."""
        *raw, who = table.two_best(picks)
        best, second = (table.scale(found[:, None])[:, 0] for found in raw)
        return cls(table, terms, picks, best, second, np.where(best > 0, who, NOBODY), (raw[0], raw[1]))

    @cached_property
    def value(self) -> float:
        """The objective's value of the picks, f(S)."""
        before = self.terms.counted(np.zeros(len(self.best)))
        covered = self.terms.counted(self.best.astype(np.float64)) - before
        return float(self.terms.weighed(covered).sum() + self.terms.bonus_of(self.picks).sum())

    @cached_property
    def losses(self) -> Doubles:
        """What f loses without each pick (k,): what its rows fall back to is the second best."""
        fall = self.terms.counted(self.best.astype(np.float64)) - self.terms.counted(self.second.astype(np.float64))
        served = self.who >= 0
        lost = np.bincount(self.who[served], self.terms.weighed(fall)[served], len(self.picks))
        return np.asarray(lost + self.terms.bonus_of(self.picks), np.float64)

    @cached_property
    def gains(self) -> Doubles:
        """What each candidate would add to f (C,); 0 for the picks."""
        found: Doubles = self.table.gains(self.terms, self.raw[0]) + self.terms.bonus_of(np.arange(self.table.shape[1]))
        found[self.picks] = 0.0
        return found

    def serves(self, place: int) -> Indices:
        """The rows that the pick at this place gives the most, and more than they had at the start."""
        rows = np.flatnonzero(self.who == place)
        return rows if self.terms.start is None else rows[self.best[rows] > self.terms.start[rows]]

    def without(self, place: int) -> Doubles:
        """What each candidate would add (C,) where the pick at this place is taken away; 0 for the other picks."""
        rows = np.flatnonzero(self.who == place)
        found = self.gains.copy()
        for base, sign in zip(self.raw, (-1.0, 1.0), strict=True):
            found += sign * self.table.gains(self.terms, base, rows)
        found[self.picks] = 0.0
        return found

    def swaps(self, column: int) -> Doubles:
        """How f changes (k,) where a candidate takes the place of each pick."""
        given = self.table.column(column).astype(np.float64)
        best, second = self.best.astype(np.float64), self.second.astype(np.float64)
        with_both = self.terms.counted(np.maximum(best, given))
        alone = self.terms.counted(np.maximum(second, given))
        gain = self.terms.weighed(with_both - self.terms.counted(best)).sum()
        served = self.who >= 0
        lost = np.bincount(self.who[served], self.terms.weighed(with_both - alone)[served], len(self.picks))
        change: Doubles = gain + self.terms.bonus_of(column) - lost - self.terms.bonus_of(self.picks)
        return change

    def gain(self, column: int) -> float:
        """What one candidate would add to f."""
        given = np.maximum(self.best, self.table.column(column)).astype(np.float64)
        more = self.terms.counted(given) - self.terms.counted(self.best.astype(np.float64))
        return float(self.terms.weighed(more).sum() + self.terms.bonus_of(column))
