"""Taking turns: queues of positions, each giving its best row that may still be picked.

A limit and its rules are kept pick by pick, so that a turn is never lost to a row that may not be taken: the queue
gives its next one instead.  Filtering a finished order of turns afterwards would not do that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from delift_core.selection.room import Room
from delift_core.types import Indices, Limit, Progress, no_progress

NOBODY = -1  # who picked a pinned row, or one that no queue holds
_AHEAD = 32  # positions that a queue looks at in one go, at first
_REPORT = 4096  # picks between two calls of progress


class Source(Protocol):
    """Where a queue gets its positions from."""

    def fetch(self, room: Room, again: bool) -> Indices:
        """Positions that follow those given before, best first, or from the start with `again`; empty: no more."""


class Whole:
    """A source that holds all its positions."""

    def __init__(self, positions: Indices) -> None:
        self.positions, self.given = positions, False

    def fetch(self, room: Room, again: bool) -> Indices:
        """All of them, once."""
        if self.given and not again:
            return self.positions[:0]
        self.given = True
        return self.positions


class _Queue:
    """A source and how far it was read.  What was passed over comes back only when the room's epoch changes."""

    def __init__(self, source: Source) -> None:
        self.source, self.epoch, self.at = source, -1, 0
        self.positions = np.empty(0, np.int64)

    def next(self, room: Room) -> int | None:
        """The best position that may be picked; None where there is none."""
        width, again = _AHEAD, self.epoch != room.epoch
        if again:
            self.epoch, self.at = room.epoch, len(self.positions)
        while True:
            if self.at >= len(self.positions):
                self.positions, self.at = self.source.fetch(room, again), 0
                again = False
                if not len(self.positions):
                    return None
            ahead = self.positions[self.at : self.at + width]
            fits = room.allowed(ahead)
            hit = int(fits.argmax())
            if fits[hit]:
                self.at += hit + 1
                return int(ahead[hit])
            self.at += len(ahead)
            width *= 2


def take_turns(
    sources: Sequence[Source], tokens: Indices, limit: Limit, *, progress: Progress = no_progress
) -> tuple[Indices, Indices]:
    """Let sources pick in turn, in their order, each its best row that may still be picked.

    A source without such a row passes.  When all pass, the rows that are left follow in the order of the pool.

    Returns:
        Positions (K,) in the order of the picks, pinned rows first, and the source (K,) that picked each, or NOBODY.
    """
    room = Room(tokens, limit)
    who = [NOBODY] * len(room.picks)
    queues, rest = [_Queue(source) for source in sources], _Queue(Whole(np.arange(len(tokens), dtype=np.int64)))
    active, told = list(range(len(queues))), 0
    while room.open:
        epoch, still = room.epoch, []
        for index in active:
            found = queues[index].next(room) if room.open else None
            if found is not None:
                room.take(found)
                who.append(index)
                still.append(index)
        active = still
        if room.open and not still:
            found = rest.next(room)
            if found is not None:
                room.take(found)
                who.append(NOBODY)
            elif not room.release():
                break
        if room.epoch != epoch:
            active = list(range(len(queues)))
        if len(room.picks) - told >= _REPORT:
            told = len(room.picks)
            progress("select", told, room.rows)
    progress("select", len(room.picks), len(room.picks))
    return np.array(room.picks, np.int64), np.array(who, np.int64)
