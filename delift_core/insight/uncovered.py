"""Rows that a subset serves worst, compared with what the whole pool could give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from delift_core.insight import coverage
from delift_core.types import Doubles, Indices, Utility

MOST = 200  # rows listed
HALF = 0.5  # share of the possible below which a row counts as badly served
_BLOCK = 1 << 23  # numbers looked at in one go


@dataclass(frozen=True, eq=False)
class Uncovered:
    """The worst-served rows, the largest shortfall first.  `given` and `possible` are in the utility's own unit."""

    rows: Indices  # (u,) row indices of the helped dataset
    given: Doubles  # (u,) the most that a chosen row helps it; 0 where none does
    possible: Doubles  # (u,) the most that any candidate helps it
    chosen: Indices  # (u,) row index of that chosen row; -1 where none helps
    best: Indices  # (u,) row index of that candidate
    looked_at: int  # rows compared
    short: int  # rows that get less than they could
    below_half: int  # rows that get less than half of what they could
    out_of_reach: int  # rows that no candidate helps
    sentence: str

    @property
    def shortfall(self) -> Doubles:
        """(u,) what the whole pool could give more."""
        missing: Doubles = self.possible - self.given
        return missing


def uncovered(
    utility: Utility, picks: Indices, *, skip: Indices | None = None, same: bool = False, most: int = MOST
) -> Uncovered:
    """The rows i of the largest max_j s_ij - max_{j in A} s_ij, for a subset A of the candidates.

    Missing and negative pairs count as 0, as in the facility-location value that this takes apart row by row.  Of equal
    candidates the first is named, of equal shortfalls the first row.

    Args:
        utility: raw or scaled, (R, C).
        picks: (k,) row indices of the subset; those that are no candidates of the utility help nobody.
        skip: row indices of the helped dataset that are not compared, such as chosen rows of the same pool: a row that
            is trained on itself needs no other.
        same: helped rows and candidates are rows of one dataset; what a row is to itself does not count.
        most: rows listed.
    """
    kept = np.ones(utility.shape[0], bool) if skip is None else ~np.isin(utility.helped, skip)
    own = coverage.own(utility) if same else np.full(utility.shape[0], -1, np.int64)
    possible, best = _best(utility, np.arange(utility.shape[1]), own)
    given, chosen = _best(utility, np.sort(coverage.places(utility, picks)), own)
    missing = np.where(kept, possible - given, 0.0)
    short = int((missing > 0).sum())
    worst = np.lexsort((np.arange(len(missing)), -missing))[: min(most, short)]
    below = int((kept & (given < HALF * possible)).sum())
    unreachable, looked_at = int((kept & (possible <= 0)).sum()), int(kept.sum())
    return Uncovered(
        utility.helped[worst], given[worst], possible[worst], _named(utility, chosen[worst]),
        _named(utility, best[worst]), looked_at, short, below, unreachable,
        _sentence(looked_at, short, below, unreachable),
    )  # fmt: skip


def _best(utility: Utility, positions: Indices, own: Indices) -> tuple[Doubles, Indices]:
    """For each row (R,), the most that a candidate at one of these ascending positions helps, and that position.

    A row's own position (R,) does not count; -1: none.  Where nobody helps: 0 and -1.
    """
    rows = utility.shape[0]
    most, at = np.zeros(rows), np.full(rows, -1, np.int64)
    if not len(positions):
        return most, at
    values: Any = utility.values
    if not utility.is_dense:
        part = values[:, positions].tocoo()
        part.data[positions[part.col] == own[part.row]] = 0
        np.maximum.at(most, part.row, part.data.astype(np.float64))
        hit = (part.data == most[part.row]) & (part.data > 0)
        first = np.lexsort((part.col[hit], part.row[hit]))[::-1]  # written last: the first column
        at[part.row[hit][first]] = positions[part.col[hit][first]]
        return most, at
    step = max(1, _BLOCK // utility.shape[1])
    every = len(positions) == utility.shape[1]
    for start in range(0, rows, step):
        block = np.asarray(values[start : start + step])
        block = np.nan_to_num(block if every else block[:, positions], nan=0.0)
        mine = own[start : start + step]
        at_self = np.minimum(np.searchsorted(positions, mine), len(positions) - 1)
        itself = np.flatnonzero(positions[at_self] == mine)
        block[itself, at_self[itself]] = 0
        place = block.argmax(axis=1)
        value = block[np.arange(len(block)), place].astype(np.float64)
        helped = value > 0
        most[start : start + step][helped] = value[helped]
        at[start : start + step][helped] = positions[place[helped]]
    return most, at


def _named(utility: Utility, positions: Indices) -> Indices:
    found: Indices = np.where(positions < 0, -1, utility.candidates[positions]).astype(np.int64)
    return found


def _sentence(looked_at: int, short: int, below: int, unreachable: int) -> str:
    if not looked_at:
        return "No row is left to look at: all of them are in the subset."
    told = f"{below:,} of {looked_at:,} rows get less than half of what the best row of the pool could give them"
    if unreachable:
        told += f"; {unreachable:,} are helped by no row at all"
    return f"{told}. {looked_at - short:,} get all they could."
