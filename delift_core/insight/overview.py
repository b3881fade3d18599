"""A utility of any size as at most 400 x 400 blocks, and what each row gets and each candidate gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delift_core.insight import coverage
from delift_core.types import Doubles, Floats, Indices, Utility

MOST_CELLS = 400  # on each side
_ROWS = 64  # summed up at once: their copies fit into a processor's cache
How = Literal["mean", "max", "share"]


@dataclass(frozen=True, eq=False)
class Overview:
    """Blocks of a utility whose rows and columns were put in order.  A block without a stored pair is NaN."""

    values: Floats  # (r, c): mean, max, or share above 0 of each block
    rows: Indices  # (R,) positions in the utility, in the order shown
    columns: Indices  # (C,)
    row_edges: Indices  # (r + 1,) block i covers rows[row_edges[i]:row_edges[i + 1]]
    column_edges: Indices  # (c + 1,)
    how: How

    @property
    def exact(self) -> bool:
        """True where each block is one pair."""
        return self.values.shape == (len(self.rows), len(self.columns))

    def block(self, row: int, column: int) -> tuple[Indices, Indices]:
        """Positions in the utility of the rows and columns that one block covers, in the order shown."""
        r, c = self.row_edges, self.column_edges
        return self.rows[r[row] : r[row + 1]], self.columns[c[column] : c[column + 1]]


def overview(utility: Utility, rows: Indices, columns: Indices, how: How = "mean", cells: int = MOST_CELLS) -> Overview:
    """Summarise a utility into at most cells x cells blocks, rows and columns in the given order of positions."""
    row_edges, column_edges = _edges(len(rows), cells), _edges(len(columns), cells)
    values = np.full((len(row_edges) - 1, len(column_edges) - 1), np.nan, np.float32)
    if rows.size and columns.size:
        read = _reader(utility)
        for i in range(len(values)):
            part = read(rows[row_edges[i] : row_edges[i + 1]])  # (b, all candidates)
            values[i] = _summary(part, columns, column_edges[:-1], how)
    return Overview(values, rows, columns, row_edges, column_edges, how)


def cells_of(utility: Utility, rows: Indices, columns: Indices) -> Floats:
    """The exact values (len(rows), len(columns)) at these positions; NaN where a pair is missing."""
    if utility.is_dense:
        values: Any = utility.values
        dense: Floats = np.asarray(values[rows], dtype=np.float32)[:, columns]
        return dense
    stored: Any = utility.values
    part = stored[:, columns][rows].tocoo()
    out = np.full(part.shape, np.nan, np.float32)
    out[part.row, part.col] = part.data
    return out


@dataclass(frozen=True, eq=False)
class Effects:
    """What each row gets and each candidate gives.  NaN where nothing is stored."""

    best: Doubles  # (R,) the most that any candidate helps the row
    helped: Doubles  # (R,) mean over candidates
    given: Doubles  # (C,) mean over rows
    share: Doubles  # (C,) share of rows that the candidate helps at all


def effects(utility: Utility, *, same: bool = False) -> Effects:
    """Row and column summaries of a utility, over stored pairs.

    With `same`, helped rows and candidates are rows of one dataset, and what a row is to itself does not count.
    """
    r, c = utility.shape
    best, helped = np.full(r, np.nan), np.full(r, np.nan)
    total, above, count = np.zeros(c), np.zeros(c), np.zeros(c)
    read, own = _reader(utility), coverage.own(utility)
    for start in range(0, r if c else 0, _ROWS):
        here = slice(start, min(r, start + _ROWS))
        part = read(here)
        if same:
            part, mine = np.array(part), own[here]
            part[np.flatnonzero(mine >= 0), mine[mine >= 0]] = np.nan
        known = ~np.isnan(part)
        filled = np.where(known, part, np.float32(0))
        stored = known.sum(axis=1)
        some = stored > 0
        best[here][some] = np.fmax.reduce(part, axis=1)[some]
        helped[here][some] = filled.sum(axis=1, dtype=np.float64)[some] / stored[some]
        total += filled.sum(axis=0, dtype=np.float64)
        above += (part > 0).sum(axis=0)
        count += known.sum(axis=0)
    seen = count > 0
    given, share = np.full(c, np.nan), np.full(c, np.nan)
    given[seen], share[seen] = total[seen] / count[seen], above[seen] / count[seen]
    return Effects(best, helped, given, share)


def hurting(effects: Effects, most: int = 100) -> Indices:
    """Positions of the candidates that lower the utility on average, the worst first."""
    negative = np.flatnonzero(effects.given < 0)  # NaN compares False
    return negative[np.argsort(effects.given[negative], kind="stable")][:most].astype(np.int64)


def _edges(n: int, cells: int) -> Indices:
    return np.unique(np.linspace(0, n, min(n, cells) + 1).round().astype(np.int64))


def _reader(utility: Utility) -> Callable[[Indices | slice], Floats]:
    """Reads the values (b, C) of some rows, all candidates in the utility's own order; NaN where one is missing."""
    values: Any = utility.values
    if utility.is_dense:
        return lambda rows: np.asarray(values[rows], dtype=np.float32)
    by_row = values.tocsr()

    def read(rows: Indices | slice) -> Floats:
        part = by_row[rows].tocoo()
        out = np.full(part.shape, np.nan, np.float32)
        out[part.row, part.col] = part.data
        return out

    return read


def _summary(part: Floats, columns: Indices, starts: Indices, how: How) -> Floats:
    """One value per run of the ordered columns of (b, C), NaN where a block holds no pair.

    Rows are summed up first, so that single columns are put in order instead of the whole part.
    """
    known: NDArray[np.bool_] = ~np.isnan(part)
    count = np.add.reduceat(known.sum(axis=0)[columns], starts)
    if how == "max":
        value = np.fmax.reduceat(np.fmax.reduce(part, axis=0)[columns], starts)
    else:
        counted = part > 0 if how == "share" else np.where(known, part, np.float32(0))
        per_column = counted.sum(axis=0, dtype=np.float64)[columns]
        value = np.add.reduceat(per_column, starts) / np.maximum(count, 1)
    result: Floats = np.where(count > 0, value, np.nan).astype(np.float32)
    return result
