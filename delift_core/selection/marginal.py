"""Greedy by marginal gains for any set function: what the facility-location solver does not know.

submodlib has optimizers of its own, but they know neither pinned and banned rows nor quotas nor token budgets with
two tries.  So its functions only give the gains here, and the picks are made by this file.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from delift_core.selection import ruling
from delift_core.selection.limits import shortfall
from delift_core.selection.ranked import nested_under
from delift_core.selection.room import Room
from delift_core.types import Evidence, Limit, Progress, Selection, from_pick, no_progress


@dataclass(frozen=True, eq=False)
class SetFunction:
    """A set function over n candidates, and what is known of it."""

    make: Callable[[], Any]  # the submodlib object, built anew
    full_value: float  # f of all candidates; 0 where f may fall, so that a share of it means nothing
    submodular: bool
    monotone: bool
    notes: tuple[str, ...] = ()
    bound: str = ""  # what is known of greedy where f is not monotone and submodular
    reads: int | None = None  # how many rows of A a gain looks at beside what the object keeps of A; None: all


class _State:
    """A submodlib function and the set it stands at.  Its gains come from what it keeps of that set.

    Every call converts the set that it is given, so gains are asked with no more of it than the function looks at.
    """

    def __init__(self, function: Any, reads: int | None) -> None:
        self.cpp, self.reads = function.cpp_obj, reads
        self.cpp.clearMemoization()
        self.taken: set[int] = set()
        self.shown: set[int] = set()

    def gain(self, position: int) -> float:
        """What a position that is not taken adds to f."""
        return float(self.cpp.marginalGainWithMemoization(self.shown, position, False))

    def take(self, position: int) -> float:
        """Add a position; returns its gain."""
        gain = self.gain(position)
        self.cpp.updateMemoization(self.taken, position)
        self.taken.add(position)
        if self.reads is None or len(self.shown) < self.reads:
            self.shown.add(position)
        return gain


def select(function: SetFunction, evidence: Evidence, limit: Limit, *, progress: Progress = no_progress) -> Selection:
    """Pick candidates greedily by marginal gain up to the limit; of equal gains the first in the pool goes first.

    Gains are evaluated lazily [Minoux 1978] where f is monotone and submodular, else all of them for every pick; the
    picks go on to the budget also where they lower f, and a note says from where on.  For a token limit the greedy by
    gain and the greedy by gain per token are both computed, each filled with what still fits, and the better is
    returned.

    Raises ConfigError for rules that cannot be followed (see `ruling.check`).
    """
    ruling.check(limit, len(evidence), evidence.tokens)
    tries = [_greedy(function, evidence, limit, False, progress)]
    notes = (*function.notes, _bound(function, limit))
    if limit.tokens is not None:
        tries.append(_greedy(function, evidence, limit, True, progress))
        how = "gain per token" if sum(tries[1][1]) > sum(tries[0][1]) else "gain"
        notes += (
            f"Token budget: the better of greedy by gain and greedy by gain per token (here: {how}), filled with what "
            "still fits; a smaller budget must be computed anew.",
        )
    picks, found = max(tries, key=lambda one: sum(one[1]))
    gains = np.array(found, np.float64)
    return Selection(
        evidence.candidates[np.array(picks, np.int64)], gains, np.cumsum(gains), function.full_value,
        nested_under(limit), notes + _what_happened(picks, found, evidence, limit),
    )  # fmt: skip


def _greedy(
    function: SetFunction, evidence: Evidence, limit: Limit, per_token: bool, progress: Progress
) -> tuple[list[int], list[float]]:
    room, state = Room(evidence.tokens, limit), _State(function.make(), function.reads)
    gains = [state.take(position) for position in room.picks]
    rate = np.maximum(evidence.tokens, 1).astype(np.float64) if per_token else np.ones(len(evidence))
    choose = _Lazy(room, state, rate) if function.submodular and function.monotone else _Naive(room, state, rate)
    while room.open:
        progress("select", len(room.picks), room.rows)
        position = choose.best()
        if position is not None:
            gains.append(state.take(position))
            room.take(position)
        elif not room.release():
            break
    progress("select", len(room.picks), len(room.picks))
    return room.picks, gains


class _Naive:
    """The best of all positions that are allowed now, each evaluated anew."""

    def __init__(self, room: Room, state: _State, rate: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        self.room, self.state, self.rate = room, state, rate

    def best(self) -> int | None:
        """The position to take, or None where none is allowed."""
        allowed = np.flatnonzero(self.room.allowed())
        if not len(allowed):
            return None
        gains = np.array([self.state.gain(position) for position in allowed.tolist()])
        # A loss is not made smaller by being spread over many tokens.
        return int(allowed[np.where(gains > 0, gains / self.rate[allowed], gains).argmax()])


class _Lazy:
    """The same position from a heap of gains of earlier rounds, which are upper bounds."""

    def __init__(self, room: Room, state: _State, rate: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        self.room, self.state, self.rate = room, state, rate
        self.epoch, self.parked = room.epoch, list[tuple[float, int, int]]()
        self.heap = [self._entry(position) for position in np.flatnonzero(~room.out).tolist()]
        heapq.heapify(self.heap)

    def _entry(self, position: int) -> tuple[float, int, int]:
        return -self.state.gain(position) / float(self.rate[position]), position, len(self.state.taken)

    def best(self) -> int | None:
        """The position to take, or None where none is allowed."""
        if self.epoch != self.room.epoch:
            self.epoch = self.room.epoch
            for entry in self.parked:
                heapq.heappush(self.heap, entry)
            self.parked = []
        while self.heap:
            entry = heapq.heappop(self.heap)
            position = entry[1]
            if self.room.out[position]:
                continue
            if not self.room.allowed(np.array([position]))[0]:
                self.parked.append(entry)
            elif entry[2] != len(self.state.taken):
                heapq.heappush(self.heap, self._entry(position))
            else:
                return position
        return None


def _bound(function: SetFunction, limit: Limit) -> str:
    rules = limit.rules
    if not (function.submodular and function.monotone):
        plain = limit.tokens is None and rules is None
        return function.bound if plain else "No bound on the value of greedy is known for this function and limit."
    if limit.tokens is not None:
        if rules is not None and (rules.group is not None or rules.once is not None):
            return "No bound on the value of greedy is known under a token budget with these rules."
        return "Greedy reaches at least 0.316 of the best value for this token budget."
    return ruling.guarantee(rules) or "Greedy reaches at least 1 - 1/e of the best value for a row budget."


def _what_happened(picks: list[int], gains: list[float], evidence: Evidence, limit: Limit) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    falls = next((k for k, gain in enumerate(gains) if gain < 0), None)
    still = next((k for k in range(len(gains), 0, -1) if gains[k - 1] != 0), 0)
    if falls is not None:
        notes += (f"Pick {falls + 1} is the first that lowers f; picks go on to the budget all the same.",)
    if still < len(gains) - 1:
        notes += (from_pick(still + 1, "no row that is left adds anything; taken in the order of the pool."),)
    return notes + shortfall(np.array(picks, np.int64), evidence.tokens, limit)
