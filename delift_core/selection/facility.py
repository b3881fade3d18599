"""Capped facility location with a head start, weights and a modular term: the one greedy solver of all set functions.

f(A) = sum_i w_i [min(cap_i, max(start_i, max_{j in A} s_ij)) - min(cap_i, start_i)] + sum_{j in A} bonus_j

is monotone and submodular for s, start, cap, w, bonus >= 0, so greedy reaches at least 1 - 1/e of the best value for a
row budget [Nemhauser, Wolsey and Fisher 1978]; lazy evaluation [Minoux 1978] gives the same picks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from delift_core.types import Doubles, Floats, Indices, Limit, Progress, no_progress

if TYPE_CHECKING:
    from scipy import sparse

REPORTS = 50  # how many times a search calls its progress, at least; a cancelled run stops at the next one


@dataclass(frozen=True, eq=False)
class CoverProblem:
    """Values s_ij >= 0 of column j for row i, and what turns plain facility location into the other set functions.

    A dense matrix in Fortran order is used as it is; any other is copied once.  Absent pairs of a sparse one are 0.
    Raises ValueError when shapes disagree or a number is negative or NaN.
    """

    values: Floats | sparse.csc_array  # (R, C)
    start: Floats | None = None  # (R,) what is covered before the first pick; default 0
    cap: Floats | None = None  # (R,) coverage above it is worth nothing; default infinite
    weight: Doubles | None = None  # (R,) default 1
    bonus: Doubles | None = None  # (C,) modular gain of each column; default 0

    def __post_init__(self) -> None:
        rows, columns = self.values.shape
        for name, expected in (("start", rows), ("cap", rows), ("weight", rows), ("bonus", columns)):
            vector = getattr(self, name)
            if vector is not None and vector.shape != (expected,):
                raise ValueError(f"{name} of shape {vector.shape}, expected ({expected},)")
        stored = self.values if isinstance(self.values, np.ndarray) else self.values.data
        for name, array in (("values", stored), *((n, getattr(self, n)) for n in ("start", "cap", "weight", "bonus"))):
            if array is not None and array.size and not array.min() >= 0:
                raise ValueError(f"{name} must be numbers >= 0, found {array.min()}")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows to be covered, columns to pick from)."""
        rows, columns = self.values.shape
        return int(rows), int(columns)

    @cached_property
    def arrays(self) -> tuple[Any, Any, Any]:
        """The columns as the kernels want them: (data, indices, indptr)."""
        if isinstance(self.values, np.ndarray):
            return np.asarray(np.ascontiguousarray(self.values.T, np.float32)), None, None
        values = self.values
        indices = np.ascontiguousarray(values.indices)
        unsigned = indices.view(np.uint32 if indices.itemsize == 4 else np.uint64)
        return np.ascontiguousarray(values.data, np.float32), unsigned, values.indptr.astype(np.uint64)

    @cached_property
    def cap32(self) -> Floats | None:
        """The caps as the kernels want them."""
        return None if self.cap is None else np.ascontiguousarray(self.cap, np.float32)

    def covered(self, capped: bool = True) -> Floats:
        """A fresh coverage vector (R,): the head start, up to the cap."""
        covered = np.zeros(self.shape[0], np.float32)
        if self.start is not None:
            covered[:] = self.start
        return np.minimum(covered, self.cap32) if capped and self.cap32 is not None else covered


@dataclass(frozen=True, eq=False)
class Cover:
    """The picks of a search, as column positions."""

    picks: Indices  # (K,)
    gains: Doubles  # (K,)
    value: Doubles  # (K,) f of the first 1..K picks
    full_value: float  # f of all columns
    useful: int  # picks before the gains reached 0
    saturated: int  # of the rest, picks that were ordered by what they add above the cap
    nested: bool
    notes: tuple[str, ...]


def solve(
    problem: CoverProblem, limit: Limit, tokens: Indices | None = None, progress: Progress = no_progress
) -> Cover:
    """Pick columns greedily up to the limit; of equal gains the lowest column goes first.

    For a row limit the picks are nested: the first k of them are the answer for k.  Once every gain is 0 because of the
    cap, the search goes on by the gain without the cap; `value` no longer moves and `saturated` counts those picks.

    For a token limit (`tokens` (C,) is each column's size) both the greedy by gain and the greedy by gain per token are
    computed, each passing over what no longer fits and so filled up, and the better one is returned: at least
    (1 - 1/e) / 2 of the best value [Leskovec et al. 2007]; not nested.
    """
    columns = problem.shape[1]
    if limit.tokens is None:
        return _finish(problem, _Search(problem).run(min(limit.rows, columns), progress), True, ())
    if tokens is None or tokens.shape != (columns,):
        raise ValueError(f"a token limit needs the tokens of all {columns} columns")
    rows = min(limit.rows, columns)
    by_gain = _Search(problem, tokens, limit.tokens, per_token=False).run(rows, progress)
    by_rate = _Search(problem, tokens, limit.tokens, per_token=True).run(rows, progress)
    best, how = (by_gain, "gain") if by_gain.total >= by_rate.total else (by_rate, "gain per token")
    note = (
        f"Token budget: the better of greedy by gain and greedy by gain per token (here: {how}), filled with what "
        "still fits. Its value is at least 0.316 of the best possible for this budget; a smaller budget must be "
        "computed anew."
    )
    return _finish(problem, best, False, (note,))


def full_value(problem: CoverProblem) -> float:
    """Give f of all columns."""
    covered = problem.covered()
    before = covered.astype(np.float64)
    _kernels().cover_all(np.arange(problem.shape[1]), *problem.arrays, covered, problem.cap32)
    gain = covered - before
    if problem.weight is not None:
        gain *= problem.weight
    return float(gain.sum() + (0.0 if problem.bonus is None else problem.bonus.sum()))


class _Search:
    """One greedy pass: the state that the compiled kernels work on."""

    def __init__(
        self, problem: CoverProblem, tokens: Indices | None = None, room: int = 0, *, per_token: bool = False
    ) -> None:
        columns = problem.shape[1]
        self.problem = problem
        self.arrays = problem.arrays
        self.covered = problem.covered()
        self.cap = problem.cap32
        self.weight = None if problem.weight is None else np.ascontiguousarray(problem.weight, np.float64)
        self.bonus, self.size, self.rate = np.zeros(columns), np.zeros(columns, np.int64), np.ones(columns)
        if problem.bonus is not None:
            self.bonus[:] = problem.bonus
        if tokens is not None:
            self.size[:] = tokens
            if per_token:
                self.rate = np.maximum(self.size, 1).astype(np.float64)
        self.gains = np.zeros(columns, np.float64)
        self.picks = np.empty(columns, np.int64)
        self.state = np.array([columns, 0, room], np.int64)
        self.heap = np.arange(columns, dtype=np.int64)
        self.useful = self.saturated = 0
        self.total = 0.0
        self._order()

    def _order(self) -> None:
        """Compute the gains of all live columns and make the heap of them (a sorted array is a heap)."""
        live = np.sort(self.heap[: self.state[0]])
        _kernels().all_gains(live, *self.arrays, self.covered, self.cap, self.weight, self.gains)
        self.gains[live] += self.bonus[live]
        self.key = self.gains / self.rate
        self.heap = live[np.argsort(-self.key[live], kind="stable")]
        self.stamp = np.full(len(self.gains), -1, np.int64)

    def run(self, rows: int, progress: Progress) -> _Search:
        """Pick until `rows` are taken or nothing more fits."""
        self._advance(rows, True, progress)
        self.useful = int(self.state[1])
        self.total = float(self.gains[self.picks[: self.useful]].sum())
        if self.useful < rows and self.state[0]:
            self._continue(rows, progress)
        return self

    def _advance(self, rows: int, positive: bool, progress: Progress) -> None:
        step = max(1, -(-rows // REPORTS))
        while True:
            taken = int(self.state[1])
            progress("select", taken, rows)
            until = min(rows, taken + step)
            _kernels().advance(
                *self.arrays, self.covered, self.cap, self.weight, self.bonus, self.size, self.rate,
                self.heap, self.key, self.stamp, self.picks, self.gains, self.state, until, positive,
            )  # fmt: skip
            if self.state[1] < until or until == rows:
                progress("select", int(self.state[1]), rows)
                return

    def _continue(self, rows: int, progress: Progress) -> None:
        """All gains are 0: go on by the gain without the cap, then by position."""
        kept = self.gains.copy()
        if self.cap is not None:
            self.cap, self.covered = None, self.problem.covered(capped=False)
            _kernels().cover_all(self.picks[: self.useful], *self.arrays, self.covered, None)
            self._order()
            self._advance(rows, True, progress)
            self.saturated = int(self.state[1]) - self.useful
        if self.state[1] < rows and self.state[0]:
            self._advance(rows, False, progress)
        rest = self.picks[self.useful : self.state[1]]
        kept[rest] = 0.0
        self.gains = kept


def _kernels() -> Any:
    """The compiled part, imported when it is first used."""
    from delift_core.selection import _kernels

    return _kernels


def _finish(problem: CoverProblem, search: _Search, nested: bool, notes: tuple[str, ...]) -> Cover:
    picks = search.picks[: search.state[1]].copy()
    gains = search.gains[picks]
    useful, saturated = search.useful, search.saturated
    return Cover(picks, gains, np.cumsum(gains), full_value(problem), useful, saturated, nested, notes)
