"""The plan that learns while it scores: it spends its next pairs where they are likely to change a selection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from delift_core.scoring.features import PairFeatures
from delift_core.scoring.pairs import Pairs
from delift_core.scoring.plans import Asking, Outcome, Problem
from delift_core.types import Floats, Indices

FIRST = 0.25  # share of the pairs that are drawn at random to begin with
ROUNDS = 5  # that learn, after the random one
DEPTH = 3  # a pair counts by what it would add to the third best utility that its row is known to have
EVEN = 0.5  # 0: the best pairs wherever they are; 1: as many for every row
WHOLE = 512  # up to so many candidates, a round predicts every pair
SHORTLIST = (96, 8)  # else so many of each row at least, and so many for each of its pairs
LESSON = 100_000  # pairs that one tree learns from at most
QUIET = 0.015  # growth of the rows' best utilities per tenth of the budget, below which more pairs are not worth it
PATIENCE = 2  # rounds in a row that grow less, after which the plan stops
TREES = 40
FEATURES = 0.4  # share of the features that a split looks at
KEPT = 16  # guesses that a row keeps at the end, besides the scored pairs
PREDICTED = 200_000  # pairs predicted at a time


@dataclass(frozen=True)
class Adaptive:
    """Score a share of the pairs, in rounds; each round goes where the last ones say that the large utilities are.

    The first quarter is random, even over rows and columns.  Then, five times: extremely randomised trees [Geurts,
    Ernst and Wehenkel 2006] are fitted to the clipped utilities seen so far, on what pairs look like (features.py) and
    on the means of their row and column; every pair of a shortlist gets one prediction per tree; and those pairs are
    scored that are expected to exceed most what their row has already (expected improvement over its third best).
    At the end the best predictions of each row stand beside the scored pairs, as guesses.
    """

    share: float = field(default=0.1, metadata={"help": "share of all pairs", "min": 1e-6, "max": 1.0})

    name: ClassVar[str] = "adaptive"
    rounds: ClassVar[int] = 1 + ROUNDS

    def count(self, shape: tuple[int, int], same: bool) -> int:
        """The share, and no fewer than two pairs a row."""
        return min(shape[0] * shape[1], max(2 * shape[0], round(self.share * shape[0] * shape[1])))

    def ask(self, problem: Problem) -> Asking:
        """A random round, then rounds that learn."""
        budget = min(
            self.count(problem.shape, problem.same), problem.shape[0] * problem.shape[1] - len(problem.missing)
        )
        search = _Search(problem, budget)
        search.add(pairs := search.spread(max(1, int(FIRST * budget))), (yield pairs))
        quiet, found = 0, search.total
        for step in range(ROUNDS):
            number = -(-(budget - len(search.known)) // (ROUNDS - step))
            if number <= 0 or quiet == PATIENCE:
                break
            search.add(pairs := search.best(number), (yield pairs))
            grown, found = search.total - found, search.total
            quiet = quiet + 1 if grown < QUIET * found * len(pairs) / (0.1 * budget) else 0
        guessed, guesses = search.guesses()
        return Outcome(guessed=guessed, guesses=guesses, spared=budget - len(search.known))


@dataclass(frozen=True)
class Surrogate:
    """Score half of a share of the pairs blindly, fit a regressor once, and score the best of what it predicts.

    The blind half are near neighbours and random pairs in equal parts.  After NN-CIFT, arXiv 2502.09969, with trees in
    place of its network.  `adaptive` asks more often and beats it; this one reads every candidate only twice.
    """

    share: float = field(default=0.1, metadata={"help": "share of all pairs", "min": 1e-6, "max": 1.0})

    name: ClassVar[str] = "surrogate"
    rounds: ClassVar[int] = 2

    def count(self, shape: tuple[int, int], same: bool) -> int:
        """The share, and no fewer than two pairs a row."""
        return Adaptive(self.share).count(shape, same)

    def ask(self, problem: Problem) -> Asking:
        """Neighbours and random pairs, then the best predictions."""
        rows, columns = problem.shape
        budget = min(self.count(problem.shape, problem.same), rows * columns - len(problem.missing))
        search = _Search(problem, budget)
        near = search.features.nearest(max(2, budget // (2 * rows)))
        blind = Pairs.of(np.repeat(np.arange(rows), near.shape[1]), near.ravel(), problem.shape)
        blind = blind.without(problem.missing)
        codes = search.random(3).permutation(blind.codes)[: max(1, budget // 4)]
        blind = Pairs(np.sort(codes), problem.shape)
        blind = blind.union(search.spread(max(1, budget // 2 - len(blind))))
        search.add(blind, (yield blind))
        if (left := budget - len(search.known)) > 0:
            search.add(pairs := search.best(left), (yield pairs))
        guessed, guesses = search.guesses()
        return Outcome(guessed=guessed, guesses=guesses)


class _Search:
    """What is known after each round, and what it says of the other pairs."""

    def __init__(self, problem: Problem, budget: int) -> None:
        self.problem, self.shape, self.budget = problem, problem.shape, budget
        self.features = PairFeatures(*problem.sides())
        self.known = Pairs.none(self.shape)
        self.values = np.empty(0, np.float32)  # clipped at 0
        self.raw = np.empty(0, np.float32)
        self.seen: Floats | None = None  # (P, F) features of the known pairs
        self.near: Indices | None = None
        self.round = 0

    def add(self, pairs: Pairs, values: Floats) -> None:
        """Take in the utilities of scored pairs."""
        features = self.features(pairs.rows, pairs.columns)
        codes = np.concatenate([self.known.codes, pairs.codes])
        order = np.argsort(codes, kind="stable")
        self.seen = (features if self.seen is None else np.concatenate([self.seen, features]))[order]
        self.known = Pairs(codes[order], self.shape)
        self.raw = np.concatenate([self.raw, values])[order]
        self.values = np.maximum(self.raw, 0)
        self.round += 1

    def random(self, use: int) -> np.random.Generator:
        """A generator of its own for each use in each round."""
        return np.random.default_rng([self.problem.seed, self.round, use])

    def spread(self, number: int) -> Pairs:
        """Random pairs, even over rows and over columns."""
        rows, columns = self.shape
        random = self.random(0)
        found = Pairs.none(self.shape)
        open_pairs = rows * columns - len(self.problem.missing)
        while len(found) < min(number, open_pairs):
            shuffled = random.permutation(rows)
            other = np.concatenate([random.permutation(columns) for _ in range(-(-rows // columns))])[:rows]
            fresh = Pairs.of(shuffled, other, self.shape).without(self.problem.missing).without(found)
            codes = random.permutation(fresh.codes)[: number - len(found)]
            found = found.union(Pairs(np.sort(codes), self.shape))
        return found

    def best(self, number: int) -> Pairs:
        """The pairs that are expected to exceed most what their row has already, evened out over the rows."""
        pairs, guess, gain = self.predicted(1)
        promise = np.bincount(pairs.rows, gain, self.shape[0])  # so that a few rows do not take the whole round
        merit = gain / np.maximum(promise, 1e-12)[pairs.rows] ** EVEN
        order = np.lexsort((pairs.codes, -guess, -merit))[:number]
        return Pairs(np.sort(pairs.codes[order]), self.shape)

    def guesses(self) -> tuple[Pairs, Floats]:
        """The best predictions of each row, of pairs that were not scored."""
        pairs, guess, _ = self.predicted(2)
        order = np.lexsort((pairs.codes, -guess, pairs.rows))
        rows = pairs.rows[order]
        rank = np.arange(len(order)) - np.searchsorted(rows, rows)
        kept = np.sort(order[(rank < KEPT) & (guess[order] > 0)])
        return Pairs(pairs.codes[kept], self.shape), guess[kept].astype(np.float32)

    def predicted(self, use: int) -> tuple[Pairs, Floats, Floats]:
        """The shortlist; the utility expected of each of its pairs, (P,); by how much they exceed what the row has."""
        from sklearn.ensemble import ExtraTreesRegressor

        assert self.seen is not None
        random = self.random(use)
        many = len(self.known) > LESSON  # then each tree learns from a sample of its own
        forest = ExtraTreesRegressor(
            TREES, max_features=FEATURES, bootstrap=many, max_samples=LESSON if many else None,
            random_state=int(random.integers(2**31)),
        )  # fmt: skip
        forest.fit(np.hstack([self.seen, self.statistics(self.known, own=True)]), self.values)
        pairs, floor = self.shortlist(random), self.nth_best(DEPTH)
        guess, gain = np.zeros(len(pairs), np.float32), np.zeros(len(pairs), np.float32)
        for start in range(0, len(pairs), PREDICTED):
            part = Pairs(pairs.codes[start : start + PREDICTED], self.shape)
            looks = np.hstack([self.features(part.rows, part.columns), self.statistics(part, own=False)])
            for estimator in forest.estimators_:
                told = estimator.predict(looks).astype(np.float32)
                guess[start : start + PREDICTED] += told / TREES
                gain[start : start + PREDICTED] += np.maximum(told - floor[part.rows], 0) / TREES
        return pairs, guess, gain

    def shortlist(self, random: np.random.Generator) -> Pairs:
        """Pairs worth a prediction: all, or for each row a third near ones, a third popular ones, a third random."""
        rows, columns = self.shape
        if columns <= WHOLE:
            found = Pairs.all(self.shape)
        else:
            third = min(columns, max(SHORTLIST[0], SHORTLIST[1] * self.budget // rows)) // 3
            if self.near is None:
                self.near = self.features.nearest(third)
            count = np.bincount(self.known.columns, minlength=columns)
            helps = np.bincount(self.known.columns, self.values, columns) / (count + 5)
            popular = np.broadcast_to(np.argpartition(-helps, third)[:third], (rows, third))
            drawn = random.integers(columns, size=(rows, third))
            listed = np.hstack([self.near, popular, drawn])
            found = Pairs.of(np.repeat(np.arange(rows), listed.shape[1]), listed.ravel(), self.shape)
        return found.without(self.known).without(self.problem.missing)

    @property
    def total(self) -> float:
        """Sum of the rows' best known utilities."""
        return float(self.nth_best(1).sum())

    def nth_best(self, n: int) -> Floats:
        """Each row's n-th best known utility, 0 where fewer are known, (R,)."""
        order = np.lexsort((-self.values, self.known.rows))
        rows = self.known.rows[order]
        rank = np.arange(len(order)) - np.searchsorted(rows, rows)
        found = np.zeros(self.shape[0], np.float32)
        found[rows[rank == n - 1]] = self.values[order][rank == n - 1]
        return found

    def statistics(self, pairs: Pairs, *, own: bool) -> Floats:
        """(P, 5): means of row and column, spread and best of the row, help of the column.

        With `own` the pairs are the known ones, and each leaves out its own utility; else a pair that is looked up
        would differ from one that was learnt from.
        """
        rows, columns = self.shape
        i, j = self.known.rows, self.known.columns
        mean, power = float(self.raw.mean()), float(np.square(self.raw).mean())
        count, per = np.bincount(i, minlength=rows), np.bincount(j, minlength=columns)
        total, square = np.bincount(i, self.raw, rows), np.bincount(i, np.square(self.raw), rows)
        effect = np.bincount(j, self.raw - mean, columns)
        help_ = np.bincount(j, self.values, columns)
        best, second = self.nth_best(1), self.nth_best(2)
        r, c = pairs.rows, pairs.columns
        mine: NDArray[np.float64] = self.raw.astype(np.float64) if own else np.zeros(len(pairs))
        clipped, here = np.maximum(mine, 0), int(own)
        top = np.where(clipped >= best[r], second[r], best[r]) if own else best[r]
        return np.column_stack(
            [
                (total[r] - mine + 3 * mean) / (count[r] - here + 3),
                (effect[c] - here * (mine - mean)) / (per[c] - here + 10),
                np.sqrt(np.maximum((square[r] - mine**2 + 3 * power) / (count[r] - here + 3), 0)),
                top,
                (help_[c] - clipped) / (per[c] - here + 5),
            ]
        ).astype(np.float32)
