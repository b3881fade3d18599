"""Two to four selections over the same rows: which rows are the same, where each stands, what any budget shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import ConfigError
from delift_core.insight import worth
from delift_core.insight.groups import ranks
from delift_core.types import Doubles, Indices, Selection, Utility


@dataclass(frozen=True, eq=False)
class Entry:
    """One selection to compare, and what is known of its dataset.  Arrays speak of all rows of the dataset."""

    name: str
    selection: Selection
    ids: Sequence[str] | None = None  # (N,) where the pools are different datasets: rows are the same by id
    candidates: Indices | None = None  # (n,) row indices that could be picked, to tell what chance would share
    tokens: Indices | None = None  # (N,)
    labels: Sequence[str | None] | None = None  # (N,) groups
    utility: Utility | None = None  # the pool utility that it was chosen by, raw or scaled
    total: int = 0  # N, where ids do not say it and rows after the last candidate count as well


@dataclass(frozen=True, eq=False)
class Lineup:
    """Selections whose rows were matched once, so that every budget is answered by looking up.

    A row has one number, 0 to M - 1, in all selections: its index where all are of one dataset, else by its id.
    `sizes` is always (E,): how many first picks of each selection are looked at.
    """

    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        """Raises ConfigError: not two to four, a name twice, ids for some only, or an id twice in a dataset."""
        if not 2 <= len(self.entries) <= 4:
            raise ConfigError(f"{len(self.entries)} selections given; a comparison takes two to four.")
        names = [entry.name for entry in self.entries]
        if len(set(names)) < len(names):
            raise ConfigError(f"Two selections are called the same: {', '.join(names)}. Give each a name of its own.")
        assert len(self.numbers) == len(self.entries)

    @property
    def names(self) -> list[str]:
        """What the selections are called."""
        return [entry.name for entry in self.entries]

    @property
    def sizes(self) -> list[int]:
        """(E,) how many picks each order holds."""
        return [len(entry.selection) for entry in self.entries]

    @property
    def nested(self) -> bool:
        """Whether every order may be cut at any budget."""
        return all(entry.selection.nested for entry in self.entries)

    @cached_property
    def numbers(self) -> list[Indices]:
        """For each selection, the number of each row of its dataset (N,)."""
        given = [entry.name for entry in self.entries if entry.ids is not None]
        if not given:
            return [np.arange(max(_largest(entry) for entry in self.entries) + 1)] * len(self.entries)
        if len(given) < len(self.entries):
            raise ConfigError(
                f"Ids are given for {', '.join(given)} only. Give the ids of every dataset, or of none where all "
                "selections are of one dataset."
            )
        number: dict[str, int] = {}
        found = []
        for entry in self.entries:
            of = np.array([number.setdefault(name, len(number)) for name in entry.ids or ()], np.int64)
            if len(np.unique(of)) < len(of):
                twice = next(name for name, count in Counter(entry.ids or ()).items() if count > 1)
                raise ConfigError(
                    f"The id {twice!r} stands twice in the dataset of {entry.name}, so rows cannot be matched."
                )
            found.append(of)
        return found

    @cached_property
    def count(self) -> int:
        """How many different rows there are, M."""
        return max((int(of.max(initial=-1)) for of in self.numbers), default=-1) + 1

    @cached_property
    def rows(self) -> list[Indices]:
        """For each selection, the row index (M,) in its dataset of each number; -1 where it has no such row."""
        found = []
        for of in self.numbers:
            rows = np.full(self.count, -1, np.int64)
            rows[of] = np.arange(len(of))
            found.append(rows)
        return found

    @cached_property
    def orders(self) -> list[Indices]:
        """For each selection, its picks as numbers (K,)."""
        return [of[e.selection.order] for of, e in zip(self.numbers, self.entries, strict=True)]

    @cached_property
    def ranks(self) -> Indices:
        """(E, M) pick number of each row in each order, from 0; -1 for a row that is not in it."""
        return np.stack([ranks(order, self.count) for order in self.orders])

    @property
    def earliest(self) -> Indices:
        """(M,) the earliest pick number of each row in any order; -1 for a row that is in none."""
        late = np.where(self.ranks < 0, np.iinfo(np.int64).max, self.ranks).min(axis=0)
        return np.where((self.ranks < 0).all(axis=0), -1, late)

    def chosen(self, sizes: Sequence[int]) -> NDArray[np.bool_]:
        """(E, M) the rows that each selection keeps."""
        found: NDArray[np.bool_] = (self.ranks >= 0) & (self.ranks < np.asarray(sizes)[:, None])
        return found

    def core(self, sizes: Sequence[int]) -> Indices:
        """Numbers of the rows that every selection keeps, those that are picked early by all of them first."""
        rows = np.flatnonzero(self.chosen(sizes).all(axis=0))
        return rows[np.argsort(self.ranks[:, rows].sum(axis=0), kind="stable")]

    def only(self, which: int, sizes: Sequence[int]) -> Indices:
        """Numbers of the rows that one selection keeps and no other, in its order."""
        chosen = self.chosen(sizes)
        rows = np.flatnonzero(chosen[which] & (chosen.sum(axis=0) == 1))
        return rows[np.argsort(self.ranks[which, rows], kind="stable")]

    def shared_pool(self, one: int, two: int) -> int | None:
        """How many rows both could choose from, where that is the same pool; None where it is not, or not known."""
        pools = [self._pools[one], self._pools[two]]
        if pools[0] is None or pools[1] is None or not np.array_equal(pools[0], pools[1]):
            return None
        return len(pools[0])

    def overlap(self, one: int, two: int, budgets: Indices) -> Doubles:
        """(B,) share of the first k picks of both that is common, for each budget k; both orders must be nested."""
        later = self._later[one, two]
        found: Doubles = np.searchsorted(later, budgets, side="right") / np.maximum(budgets, 1)
        return found

    def worth(self, picks: int, under: int) -> Doubles:
        """(K,) what the first 1..K picks of one selection cover of the utility of another, see `worth.running`.

        Raises ValueError where that selection has no utility.
        """
        held = self._worth
        if (picks, under) not in held:
            utility = self._utility(under)
            rows = self.rows[under][self.orders[picks]]
            held[picks, under] = worth.running(utility, worth.positions(utility, rows))
        return held[picks, under]

    def known(self, picks: int, under: int) -> NDArray[np.bool_]:
        """(K,) whether each pick of one selection is a candidate of the utility of another."""
        utility = self._utility(under)
        found: NDArray[np.bool_] = worth.positions(utility, self.rows[under][self.orders[picks]]) >= 0
        return found

    def whole(self, under: int) -> float:
        """What all candidates together cover of the utility of a selection."""
        held = self._wholes
        if under not in held:
            held[under] = worth.whole(self._utility(under))
        return held[under]

    @property
    def effort(self) -> int:
        """What `worth` of all under all utilities takes, in dense pairs: a sparse one takes ten times that."""
        stored = [e.utility for e in self.entries if e.utility is not None]
        return len(self.entries) * sum(int(u.values.size) * (1 if u.is_dense else 10) for u in stored)

    def _utility(self, which: int) -> Utility:
        utility = self.entries[which].utility
        if utility is None:
            raise ValueError(f"{self.entries[which].name} has no utility")
        return utility

    @cached_property
    def _pools(self) -> list[Indices | None]:
        given = zip(self.numbers, self.entries, strict=True)
        return [None if e.candidates is None else np.sort(of[e.candidates]) for of, e in given]

    @cached_property
    def _later(self) -> dict[tuple[int, int], Indices]:
        """For each two selections, the budgets at which one more row is common to both, ascending."""
        found = {}
        for one in range(len(self.entries)):
            for two in range(len(self.entries)):
                both = (self.ranks[one] >= 0) & (self.ranks[two] >= 0)
                found[one, two] = np.sort(np.maximum(self.ranks[one, both], self.ranks[two, both]) + 1)
        return found

    @cached_property
    def _worth(self) -> dict[tuple[int, int], Doubles]:
        return {}

    @cached_property
    def _wholes(self) -> dict[int, float]:
        return {}


def _largest(entry: Entry) -> int:
    rows = [entry.selection.order]
    rows += [] if entry.candidates is None else [entry.candidates]
    rows += [] if entry.utility is None else [entry.utility.candidates]
    return max(entry.total - 1, *(int(r.max(initial=-1)) for r in rows))
