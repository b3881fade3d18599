"""A utility as an objective counts it, read in blocks: a dense matrix on disk is never held whole.

Candidates and picks are positions among the columns of the utility, helped rows positions among its rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from delift_core.types import Doubles, Floats, Indices, Utility

BLOCK = 1 << 21  # numbers of a matrix that are held in one go
NOBODY = -1

Scale = Callable[[Floats], Floats]  # raw numbers (b, c) to s >= 0 of the same shape; missing (NaN) to 0


@dataclass(frozen=True, eq=False)
class Terms:
    """What turns plain facility location over a utility into an objective; None stands for 0, infinity, 1 and 0.

    f(A) = sum_i w_i [G_i(max_{j in A} s_ij) - G_i(0)] + sum_{j in A} bonus_j,  G_i(v) = min(cap_i, max(start_i, v))
    """

    start: Doubles | None = None  # (R,) covered before the first pick
    cap: Doubles | None = None  # (R,) coverage above it counts nothing
    weight: Doubles | None = None  # (R,)
    bonus: Doubles | None = None  # (C,) modular gain of each column; NaN where it is not known

    def counted(self, values: Any, rows: Any = slice(None)) -> Any:
        """G_i(v) = min(cap_i, max(start_i, v)) of values (b,) or (b, c) of these rows."""
        column = (slice(None), None) if np.ndim(values) == 2 else slice(None)
        if self.start is not None:
            values = np.maximum(values, self.start.astype(values.dtype)[rows][column])
        if self.cap is not None:
            values = np.minimum(values, self.cap.astype(values.dtype)[rows][column])
        return values

    def weighed(self, values: Doubles, rows: Any = slice(None)) -> Doubles:
        """Values (b,) of these rows by weight."""
        return values if self.weight is None else values * self.weight[rows]

    def bonus_of(self, columns: Any) -> Any:
        """The modular gain of a column or of several."""
        return (np.zeros(np.shape(columns)) if self.bonus is None else self.bonus[columns])[()]


class Table(ABC):
    """The numbers s_ij >= 0 of a utility, as an objective counts them."""

    def __init__(self, utility: Utility, scale: Scale) -> None:
        self.utility, self.scale, self.shape = utility, scale, utility.shape

    @abstractmethod
    def column(self, column: int) -> Floats:
        """What one candidate gives each row (R,)."""

    @abstractmethod
    def row(self, row: int) -> Floats:
        """What one row gets from each candidate (C,)."""

    @abstractmethod
    def raw(self, row: int) -> Floats:
        """Utilities of one row by each candidate (C,) in units of the utility's kind; NaN where a pair is missing."""

    @abstractmethod
    def most(self) -> Floats:
        """What each row gets from the candidate that helps it most (R,)."""

    @abstractmethod
    def two_best(self, picks: Indices) -> tuple[Floats, Floats, Indices]:
        """Per row (R,): the most that a pick gives, the most that another gives, and the place of the first in picks.

        Both in raw units, NaN where no pair is stored; of equal picks the earlier one counts as the first.
        """

    @abstractmethod
    def gains(self, terms: Terms, base: Floats, rows: Indices | None = None) -> Doubles:
        """What each candidate adds (C,), without its bonus, to some rows (all, by default) that get `base` (R,).

        `base` is in raw units, NaN for nothing.
        """

    @abstractmethod
    def most_given(self) -> Floats:
        """What each candidate gives the row that it helps most (C,)."""

    @abstractmethod
    def running_gains(self, weight: Doubles, order: Indices) -> Doubles:
        """What each column of an order adds (K,) to the weighed sum of the rows' best, those before it being taken."""

    @staticmethod
    def of(utility: Utility, scale: Scale) -> Table:
        """The table for a dense or a sparse utility."""
        return Dense(utility, scale) if utility.is_dense else Sparse(utility, scale)


class Dense(Table):
    """A plain array, in memory or on disk."""

    def column(self, column: int) -> Floats:
        """As `Table`."""
        values: Any = self.utility.values
        return np.asarray(self.scale(np.array(values[:, column : column + 1]))[:, 0], np.float32)

    def row(self, row: int) -> Floats:
        """As `Table`."""
        return np.asarray(self.scale(self.raw(row)[None, :])[0], np.float32)

    def raw(self, row: int) -> Floats:
        """As `Table`."""
        values: Any = self.utility.values
        return np.array(values[row], np.float32)

    def most(self) -> Floats:
        """As `Table`; scaling keeps the order of numbers, so that only the largest of each row is scaled."""
        found = np.full(self.shape[0], np.nan, np.float32)
        for place, part in self._blocks(self.shape[1]):
            found[place] = np.fmax.reduce(part, axis=1, initial=np.nan)
        return np.asarray(self.scale(found[:, None])[:, 0], np.float32)

    def most_given(self) -> Floats:
        """As `Table`."""
        found = np.full(self.shape[1], np.nan, np.float32)
        for _, part in self._blocks(self.shape[1]):
            found = np.fmax(found, np.fmax.reduce(part, axis=0, initial=np.nan))
        return np.asarray(self.scale(found[None, :])[0], np.float32)

    def running_gains(self, weight: Doubles, order: Indices) -> Doubles:
        """As `Table`."""
        total = np.zeros(len(order))
        for place, part in self._blocks(self.shape[1]):
            given = np.take(part, order, axis=1)
            np.copyto(given, -np.inf, where=np.isnan(given))
            best = np.maximum.accumulate(np.pad(given, ((0, 0), (1, 0)), constant_values=-np.inf), axis=1)
            line, at = np.nonzero(best[:, 1:] > best[:, :-1])  # few: scaling keeps the order of numbers
            ends = np.stack([best[line, at], best[line, at + 1]], axis=1)
            ends[np.isinf(ends)] = np.nan
            risen = np.diff(self.scale(ends).astype(np.float64), axis=1)[:, 0]
            total += np.bincount(at, weight[place][line] * risen, len(order))
        return total

    def two_best(self, picks: Indices) -> tuple[Floats, Floats, Indices]:
        """As `Table`."""
        best, second, who = _nothing(self.shape[0])
        if not len(picks):
            return best, second, who
        for place, part in self._blocks(self.shape[1]):
            given = np.take(part, picks, axis=1)
            np.copyto(given, -np.inf, where=np.isnan(given))
            line, first = np.arange(len(given)), given.argmax(axis=1)
            best[place], who[place] = given[line, first], first
            given[line, first] = -np.inf
            second[place] = given.max(axis=1)
        for found in (best, second):
            found[np.isinf(found)] = np.nan
        return best, second, who

    def gains(self, terms: Terms, base: Floats, rows: Indices | None = None) -> Doubles:
        """As `Table`; scaling keeps the order of numbers, so that only pairs above the base are scaled and added."""
        total, least = np.zeros(self.shape[1]), np.where(np.isnan(base), -np.inf, base)
        before = terms.counted(self.scale(base[:, None])[:, 0])
        for place, part in self._blocks(self.shape[1], rows):
            whole = np.arange(place.start, place.stop) if rows is None else rows[place]
            line, column = np.nonzero(part > least[whole, None])
            at = whole[line]
            more = terms.counted(self.scale(part[line, column][:, None])[:, 0], at) - before[at]
            total += np.bincount(column, terms.weighed(more.astype(np.float64), at), self.shape[1])
        return total

    def _blocks(self, width: int, rows: Indices | None = None) -> Iterator[tuple[slice, Floats]]:
        values: Any = self.utility.values
        count = self.shape[0] if rows is None else len(rows)
        step = max(1, BLOCK // max(1, width))
        for start in range(0, count, step):
            place = slice(start, min(start + step, count))
            yield place, np.asarray(values[place if rows is None else rows[place]])


class Sparse(Table):
    """A matrix in compressed sparse column form; what is not stored counts 0."""

    @cached_property
    def columns(self) -> Any:
        """The scaled matrix by columns."""
        raw: Any = self.utility.values
        scaled = self.scale(np.array(raw.data)[None, :])[0] if raw.nnz else np.zeros(0, np.float32)
        return type(raw)((scaled, raw.indices, raw.indptr), shape=raw.shape)

    @cached_property
    def rows(self) -> Any:
        """The same by rows."""
        return self.columns.tocsr()

    @cached_property
    def raw_rows(self) -> Any:
        """The matrix as it is stored, by rows."""
        raw: Any = self.utility.values
        return raw.tocsr()

    def column(self, column: int) -> Floats:
        """As `Table`."""
        return _filled(self.columns, column, self.shape[0])

    def row(self, row: int) -> Floats:
        """As `Table`."""
        return _filled(self.rows, row, self.shape[1])

    def raw(self, row: int) -> Floats:
        """As `Table`."""
        return _filled(self.raw_rows, row, self.shape[1], np.nan)

    def most(self) -> Floats:
        """As `Table`."""
        return np.asarray(self.rows.max(axis=1).toarray(), np.float32).ravel()

    def most_given(self) -> Floats:
        """As `Table`."""
        return np.asarray(self.columns.max(axis=0).toarray(), np.float32).ravel()

    def running_gains(self, weight: Doubles, order: Indices) -> Doubles:
        """As `Table`."""
        found = self.columns[:, order].tocoo()
        at, place = (np.asarray(c, np.int64) for c in found.coords)
        sorting = np.lexsort((place, at))
        at, place, given = at[sorting], place[sorting], found.data[sorting].astype(np.float64)
        lift = at * (1 + given.max(initial=0.0))  # so that one running maximum starts anew with every row
        best = np.maximum.accumulate(given + lift) - lift
        before = np.where(np.r_[True, at[1:] != at[:-1]][: len(at)], 0.0, np.r_[0.0, best[:-1]][: len(at)])
        return np.asarray(np.bincount(place, weight[at] * (best - before), len(order)), np.float64)

    def two_best(self, picks: Indices) -> tuple[Floats, Floats, Indices]:
        """As `Table`."""
        best, second, who = _nothing(self.shape[0])
        raw: Any = self.utility.values
        found = raw[:, picks].tocoo()
        at, pick = (np.asarray(c, np.int64) for c in found.coords)
        order = np.lexsort((pick, -found.data, at))
        at, pick, given = at[order], pick[order], found.data[order]
        first = np.flatnonzero(np.r_[True, at[1:] != at[:-1]]) if len(at) else np.zeros(0, np.int64)
        best[at[first]] = given[first]
        who[at[first]] = pick[first]
        after = first[first + 1 < np.r_[first[1:], len(at)]] + 1
        second[at[after]] = given[after]
        return best, second, who

    def gains(self, terms: Terms, base: Floats, rows: Indices | None = None) -> Doubles:
        """As `Table`."""
        part = (self.rows if rows is None else self.rows[rows]).tocoo()
        at, column = (np.asarray(c, np.int64) for c in part.coords)
        at = at if rows is None else rows[at]
        have = self.scale(base[:, None])[at, 0]
        more = terms.counted(np.maximum(part.data, have), at) - terms.counted(have, at)
        added = np.bincount(column, terms.weighed(more.astype(np.float64), at), self.shape[1])
        return np.asarray(added, np.float64)


def _nothing(rows: int) -> tuple[Floats, Floats, Indices]:
    return np.full(rows, np.nan, np.float32), np.full(rows, np.nan, np.float32), np.full(rows, NOBODY, np.int64)


def _filled(matrix: Any, line: int, length: int, empty: float = 0.0) -> Floats:
    out = np.full(length, empty, np.float32)
    begin, end = matrix.indptr[line], matrix.indptr[line + 1]
    out[matrix.indices[begin:end]] = matrix.data[begin:end]
    return out
