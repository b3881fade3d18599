"""What a limit and its rules still allow while rows are picked one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from delift_core.selection import ruling
from delift_core.types import Indices, Limit

if TYPE_CHECKING:
    from delift_core.selection._kernels import Ruling


class Room:
    """A limit and its rules, kept pick by pick, for methods whose next pick depends on those before.

    Pinned rows are taken at the start.  It is the rule book of the set functions' solver: a ranking that is picked from
    its best row down, going back to the start whenever `epoch` rises, gives what `limits.within` gives.

    Raises ConfigError for rules that cannot be followed (see `ruling.check`).
    """

    def __init__(self, tokens: Indices, limit: Limit) -> None:
        ruling.check(limit, len(tokens), tokens)
        self.sizes, self.rows, self.tokens = tokens, min(limit.rows, len(tokens)), limit.tokens
        self.out: NDArray[np.bool_] = np.zeros(len(tokens), bool)  # taken or banned
        self.picks: list[int] = []
        self.epoch = 0  # rises when a row may be allowed that was not before
        self._book: Ruling | None = None
        if limit.rules is not None:
            self._book = ruling.prepare(limit.rules, ruling.open_columns(limit.rules, len(tokens)))
            if limit.rules.banned is not None:
                self.out |= limit.rules.banned
            for position in limit.rules.pinned.tolist():
                self.take(position)

    @property
    def open(self) -> bool:
        """Whether the number of rows leaves a pick."""
        return len(self.picks) < self.rows

    @property
    def reserved(self) -> bool:
        """Whether only rows of groups with an unmet minimum are allowed."""
        unmet = 0 if self._book is None else int(self._book.unmet[0])
        return unmet > 0 and (self.tokens is not None or self.rows - len(self.picks) <= unmet)

    def allowed(self, at: Indices | slice = slice(None)) -> NDArray[np.bool_]:
        """Which of the positions (by default all) may be picked now."""
        free: NDArray[np.bool_] = ~self.out[at]
        if self.tokens is not None:
            free &= self.sizes[at] <= self.tokens
        book = self._book
        if book is not None and len(book.code):
            free &= ~book.used[book.code[at]]
        if book is not None and len(book.group):
            # A minimum is never above the maximum, so below the minimum is below both.
            free &= (book.held < (book.least if self.reserved else book.most))[book.group[at]]
        return free

    def take(self, position: int) -> None:
        """Pick a row, and close what it closes."""
        reserved = self.reserved
        self.picks.append(position)
        self.out[position] = True
        if self.tokens is not None:
            self.tokens -= int(self.sizes[position])
        if self._book is not None:
            from delift_core.selection import _kernels

            settle: Any = _kernels._settle
            settle(position, self._book)
        self.epoch += int(reserved and not self.reserved)

    def release(self) -> bool:
        """Give up the minimums that are unmet, when no row is allowed any more; whether that may allow others."""
        if self._book is None or not self.reserved:
            return False
        self._book.least[:] = 0
        self._book.unmet[0] = 0
        self.epoch += 1
        return True
