"""Pair plans: which (helped row, candidate) pairs are worth their passes.

A plan is a generator: it yields sets of pairs, is sent their utilities, and returns what it makes of them.  Plans that
do not look at utilities yield once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from delift_core.neighbours import farthest_first, kept_graph, nearest
from delift_core.scoring.pairs import Pairs
from delift_core.types import BlockStore, Doubles, Floats, MemoryStore, Progress, no_progress

if TYPE_CHECKING:
    from delift_core.scoring.features import Side

MOST_OF_A_ROW = 0.05  # share of the candidates that knn scores for a row, at most


@dataclass(frozen=True, eq=False)
class Problem:
    """What a plan may look at before anything is scored."""

    shape: tuple[int, int]  # (R, C)
    same: bool  # helped rows and candidates are the same rows
    missing: Pairs  # that make no sense: a row with itself or a copy of it
    helped: Floats  # (R, d) unit vectors
    candidates: Floats  # (C, d)
    baseline: Floats  # (R,) what the utility measures without an example
    sides: Callable[[], tuple[Side, Side]]  # tokens and baseline passes of both, for plans that learn from them
    seed: int = 0
    store: BlockStore = field(default_factory=MemoryStore)  # where the k-NN graph is kept
    progress: Progress = no_progress  # of looking for neighbours, in rows


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a plan makes of the utilities it has seen."""

    weights: Doubles | None = None  # (R,) how many rows each helped row stands for; None: one each
    guessed: Pairs | None = None  # pairs that were not scored, but told by a surrogate
    guesses: Floats | None = None  # their utilities (G,)
    spared: int = 0  # pairs of its budget that it left alone, as more would hardly change what it knows


Asking = Generator[Pairs, Floats, Outcome]


class Plan(Protocol):
    """A way to choose pairs.  Options are the fields of the (frozen dataclass) instance; the first is the `:value`."""

    name: ClassVar[str]
    rounds: ClassVar[int]  # how often it asks

    def count(self, shape: tuple[int, int], same: bool) -> int:
        """About how many pairs it will ask for, of an R x C problem."""

    def ask(self, problem: Problem) -> Asking:
        """Yield pairs, each once at most, and receive their utilities (P,) in the same order."""


@dataclass(frozen=True)
class Neighbours:
    """The k candidates nearest to each row by embedding, the partners that this gives them, and random probes.

    Of a pool against itself a pair counts in both directions.  At most a twentieth of the candidates for each row.
    Probes after wICI, arXiv 2604.25132.
    """

    k: int = field(default=12, metadata={"help": "nearest candidates of each row", "min": 1})
    probes: int = field(default=4, metadata={"help": "random candidates of each row besides", "min": 0})

    name: ClassVar[str] = "knn"
    rounds: ClassVar[int] = 1

    def count(self, shape: tuple[int, int], same: bool) -> int:
        """The k nearest, about two thirds as many again where partners count, and the probes."""
        near, random = self._split(shape[1])
        return int(shape[0] * (near * (5 / 3 if same else 1) + random))

    def ask(self, problem: Problem) -> Asking:
        """All at once."""
        rows, columns = problem.shape
        near, random = self._split(columns)
        if problem.same:  # one graph for plans, the map and near-duplicates
            found, _ = kept_graph(problem.helped, near, problem.store, progress=problem.progress)
        else:
            found, _ = nearest(problem.helped, problem.candidates, near, progress=problem.progress)
        helped = np.repeat(np.arange(rows), found.shape[1])
        pairs = Pairs.of(helped, found.ravel(), problem.shape)
        if problem.same:
            pairs = pairs.union(Pairs.of(found.ravel(), helped, problem.shape))
        draw = np.random.default_rng(problem.seed).integers(0, columns, (rows, random))
        probes = Pairs.of(np.repeat(np.arange(rows), random), draw.ravel(), problem.shape)
        yield pairs.union(probes).without(problem.missing)
        return Outcome()

    def _split(self, columns: int) -> tuple[int, int]:
        most = max(1, int(columns * MOST_OF_A_ROW))
        scale = min(1.0, most / (self.k + self.probes))
        near = max(1, round(self.k * scale))
        return near, min(self.probes, most - near)


@dataclass(frozen=True)
class Landmarks:
    """A few diverse rows stand for all: farthest-first on embeddings, each weighted by the rows it is nearest to."""

    c: int = field(default=50, metadata={"help": "rows that stand for all", "min": 1})

    name: ClassVar[str] = "landmarks"
    rounds: ClassVar[int] = 1

    def count(self, shape: tuple[int, int], same: bool) -> int:
        """Every candidate for each landmark."""
        return min(self.c, shape[0]) * shape[1]

    def ask(self, problem: Problem) -> Asking:
        """All at once; what stands for nothing gets no weight."""
        rows, columns = problem.shape
        chosen = farthest_first(problem.helped, min(self.c, rows), problem.seed)
        pairs = Pairs.of(np.repeat(chosen, columns), np.tile(np.arange(columns), len(chosen)), problem.shape)
        yield pairs.without(problem.missing)
        stands_for, _ = nearest(problem.helped, problem.helped[chosen], 1)
        weights = np.bincount(chosen[stands_for[:, 0]], minlength=rows).astype(np.float64)
        return Outcome(weights)
