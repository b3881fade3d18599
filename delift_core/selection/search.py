"""One greedy search over the columns of a `CoverProblem`, under a limit and its rules."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np

from delift_core.selection import ruling
from delift_core.selection.cores import cores, side_by_side
from delift_core.selection.cover import CoverProblem, kernels
from delift_core.selection.stochastic import Sampled
from delift_core.types import Indices, Limit, Progress

SHARED = 4_000_000  # entries from which on cores share the work of looking at all columns
REPORTS = 50  # how many times a search calls its progress, at least; a cancelled run stops at the next one


class Search:
    """One greedy pass: the state that the compiled kernels work on."""

    def __init__(
        self, problem: CoverProblem, limit: Limit, tokens: Indices | None, sampled: Sampled | None = None
    ) -> None:
        columns = problem.shape[1]
        self.problem, self.limit, self.tokens, self.sampled = problem, limit, tokens, sampled
        self.rows = min(limit.rows, columns)
        self.arrays = problem.arrays
        self.covered = problem.covered()
        self.cap = problem.cap32
        self.weight = None if problem.weight is None else np.ascontiguousarray(problem.weight, np.float64)
        self.bonus, self.size, self.rate = np.zeros(columns), np.zeros(columns, np.int64), np.ones(columns)
        if problem.bonus is not None:
            self.bonus[:] = problem.bonus
        if limit.tokens is not None and tokens is not None:
            self.size[:] = tokens
        self.heap = ruling.open_columns(limit.rules, columns)
        self.ruling = ruling.prepare(limit.rules, self.heap)
        self.gains, self.key = np.zeros(columns), np.full(columns, np.inf)
        self.picks, self.won = np.empty(self.rows, np.int64), np.empty(self.rows)
        self.state = np.array([len(self.heap), 0, limit.tokens or 0, 0], np.int64)
        self.beyond: list[tuple[int, int]] = []  # picks (from, to) that were ordered by the gain without the cap
        self.sample = 0
        self.rest = self._whole()
        pinned = np.empty(0, np.int64) if limit.rules is None else np.ascontiguousarray(limit.rules.pinned, np.int64)
        self.given = len(pinned)
        kernels().take_given(
            pinned, *self.arrays, self.covered, self.cap, self.weight, self.bonus, self.size, self.ruling,
            self.picks, self.won, self.state,
        )  # fmt: skip
        if sampled is None:
            self._order()
        else:
            self.sample = sampled.size(len(self.heap), self._expected())
            self.random = sampled.state()

    def _whole(self) -> Any:
        """A rest of which nothing is known yet; room for a part of every dense column."""
        rows, columns = self.problem.shape
        sparse = self.arrays[1] is not None
        room, kept = (0, 0) if sparse else (columns * (rows // kernels().FEW), columns)
        # With a head start a first look may already leave little.
        first = 0 if self.problem.start is not None else kernels().FEW
        return kernels().Rest(
            np.empty(room, np.uint32), np.empty(room, np.float32), np.full(kept, -1), np.zeros(kept, np.int64),
            np.full(kept, first),
        )  # fmt: skip

    def _expected(self) -> float:
        """How many picks the search has still to make, by the mean length under a token budget."""
        left = self.rows - self.given
        if self.limit.tokens is None or not len(self.heap):
            return left
        return min(left, float(self.state[2]) / max(1.0, float(self.size[self.heap].mean())))

    def per_token(self) -> Search:
        """A second search from the same start, by gain per token."""
        other = copy.copy(self)
        for name in ("covered", "heap", "gains", "key", "picks", "won", "state"):
            setattr(other, name, getattr(self, name).copy())
        book = self.ruling
        other.ruling = book._replace(
            used=book.used.copy(), held=book.held.copy(), least=book.least.copy(), left=book.left.copy(),
            unmet=book.unmet.copy(),
        )  # fmt: skip
        other.beyond = []
        other.rest = other._whole()
        other.rate = np.maximum(self.size, 1).astype(np.float64)
        if self.sampled is None:
            other._heapify(np.sort(other.heap))
        else:
            other.random = self.random.copy()
        return other

    def _order(self) -> None:
        """Compute the gains of all live columns, on all cores where that pays, and make the heap of them."""
        live = np.sort(self.heap[: self.state[0]])
        given = (*self.arrays, self.covered, self.cap, self.weight, self.rest, int(self.state[1]), self.gains)
        parts = np.array_split(live, cores() if live.size * self.problem.shape[0] >= SHARED else 1)
        side_by_side([partial(kernels().all_gains, part, *given) for part in parts])
        self.gains[live] += self.bonus[live]
        self._heapify(live)

    def _heapify(self, live: Indices) -> None:
        """Order the live columns, given ascending, by their gains, which are up to date (a sorted array is a heap)."""
        self.key[live] = self.gains[live] / self.rate[live]
        self.heap[: len(live)] = live[np.argsort(-self.key[live], kind="stable")]
        self.stamp = np.full(len(self.gains), -1, np.int64)
        self.stamp[live] = self.state[1]

    def run(self, progress: Progress) -> None:
        """Pick until the rows are taken or nothing more fits."""
        compiled = kernels()
        if self.sampled is not None:
            if self._advance(progress, sampled=True) == compiled.DONE:
                return
            self._order()
        else:
            self._first_picks(progress)
        while self._advance(progress) == compiled.NOTHING_GAINS and self._beyond(progress) == compiled.LIFTED:
            self._order()

    def _first_picks(self, progress: Progress) -> None:
        """The first picks of a large dense problem change nearly every gain, so all are computed anew after each."""
        if self.arrays[1] is not None or self.problem.shape[0] * self.problem.shape[1] < SHARED:
            return
        for _ in range(kernels().FEW):
            before = int(self.state[1])
            self._advance(progress, upto=before + 1)
            if self.state[1] == before or self.state[1] >= self.rows:
                return
            self._order()

    def _beyond(self, progress: Progress) -> int:
        """No column that may be taken adds to f: go on by the gain without the cap, then by position.

        Where columns are parked, which may add to f, it comes back once they are live again.
        """
        compiled, pause, begin = kernels(), bool(self.state[3]), int(self.state[1])
        why: int = compiled.NOTHING_GAINS
        if self.cap is not None:
            capped = self.cap, self.covered
            kept, self.rest = self.rest, self._whole()
            self.cap, self.covered = None, self.problem.covered(capped=False)
            compiled.cover_all(self.picks[:begin], *self.arrays, self.covered, None)
            self._order()
            why = self._advance(progress, pause=pause)
            self.beyond.append((begin, int(self.state[1])))
            self.cap, self.covered = capped
            self.rest = kept
        if why == compiled.NOTHING_GAINS:
            why = self._advance(progress, positive=False, pause=pause)
        self.won[begin : self.state[1]] = 0.0
        return why

    def _advance(
        self,
        progress: Progress,
        *,
        sampled: bool = False,
        positive: bool = True,
        pause: bool = False,
        upto: int | None = None,
    ) -> int:
        """Run the kernel in steps, with a report after each, until all rows or `upto` of them are picked."""
        compiled, first_minimums = kernels(), self.limit.tokens is not None
        step, last = max(1, -(-self.rows // REPORTS)), self.rows if upto is None else upto
        while True:
            progress("select", int(self.state[1]), self.rows)
            until = min(last, int(self.state[1]) + step)
            problem = (*self.arrays, self.covered, self.cap, self.weight, self.rest, self.bonus, self.size, self.rate)
            book = (self.gains, self.ruling, self.picks, self.won, self.state, self.rows, until, first_minimums)
            if sampled:
                why = int(compiled.advance_sampled(*problem, self.heap, self.key, *book, self.sample, self.random))
            else:
                why = int(compiled.advance(*problem, self.heap, self.key, self.stamp, *book, positive, pause))
            if why != compiled.DONE or self.state[1] < until or until == last:
                progress("select", int(self.state[1]), self.rows)
                return why

    @property
    def total(self) -> float:
        """The value of the picks."""
        return float(self.won[: self.state[1]].sum())

    def tail(self) -> tuple[int, int]:
        """Picks before the gains are 0 for good, and how many of the others go by the gain without the cap."""
        gained = np.flatnonzero(self.won[: self.state[1]] > 0)
        useful = max(self.given, int(gained[-1]) + 1 if len(gained) else 0)
        return useful, sum(max(0, end - max(begin, useful)) for begin, end in self.beyond)
