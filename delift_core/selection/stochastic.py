"""Stochastic greedy: each pick is the best of a random sample of what is left, for the largest pools."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delift_core.types import Limit


@dataclass(frozen=True)
class Sampled:
    """Search by random samples: algorithm 1 of Mirzasoleiman et al., Lazier than lazy greedy, AAAI 2015.

    Of n columns, k of which are to be picked, each sample holds (n / k) ln(1 / epsilon): n ln(1 / epsilon) gains are
    computed in all, however large k is.  Its value is at least 1 - 1/e - epsilon of the best for a row budget, in
    expectation.  Within a sample, a column whose earlier gain is no better than the best so far is not computed anew.
    """

    epsilon: float = 0.1  # in (0, 1)
    seed: int = 0

    def size(self, n: int, k: float) -> int:
        """Columns in each sample when k of n are to be picked."""
        return max(1, math.ceil(n / max(k, 1.0) * math.log(1 / self.epsilon)))

    def state(self) -> NDArray[np.uint64]:
        """The start (1,) of the random numbers."""
        return np.random.default_rng(self.seed).integers(0, 1 << 63, 1, np.uint64)

    def note(self, sample: int, limit: Limit) -> str:
        """What a reader must know of the picks."""
        rules = limit.rules
        plain = limit.tokens is None and (rules is None or (rules.once is None and rules.group is None))
        bound = (
            f"In expectation its value is at least 1 - 1/e - {self.epsilon:g} of the best possible"
            if plain
            else "No bound on its value is known with this budget and these rules"
        )
        return (
            f"Stochastic greedy: each pick is the best of {sample} random rows of those left (seed {self.seed}). "
            f"{bound}. The sample depends on the budget, so a smaller budget must be computed anew."
        )
