"""Other set functions, by way of submodlib: graph cut, disparity, log-determinant and set cover.

s_ij is how much candidate j helps row i, scaled to >= 0; a pair that was not scored counts as 0.  All of them look at
n x n pairs at once, so they refuse large pools; facility location (`fl`) does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from delift_core.errors import ConfigError
from delift_core.selection import marginal
from delift_core.selection.marginal import SetFunction
from delift_core.types import Doubles, Evidence, Floats, Limit, Progress, Selection, Utility, no_progress

MOST = 5_000  # rows: submodlib takes n x n Python numbers, about 35 bytes a pair, so 0.9 GB
WITHOUT = (
    "{name} needs submodlib, which is not installed: pip install submodlib-py==0.0.3. It has wheels for Python 3.11 "
    "and 3.12 on Linux x86-64 and macOS only; elsewhere choose fl, which needs nothing more."
)


class SubmodlibObjective:
    """An objective that is a function of submodlib: what its subclasses say is only which one."""

    name: ClassVar[str]
    nested: ClassVar[bool] = True  # greedy: the picks for a smaller row budget are a prefix
    needs: ClassVar[frozenset[str]] = frozenset({"pool"})

    def function(self, pool: Utility) -> SetFunction:
        """The set function over the candidates of a pool x pool utility."""
        raise NotImplementedError

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Pick rows greedily up to the limit.  The seed is not used: the answer is determined.

        Raises ConfigError above 5,000 rows, and where submodlib is not installed.
        """
        pool = evidence.pool
        if pool is None:
            raise ValueError("the evidence has no pool utilities, which this objective needs")
        for rows in (pool.helped, pool.candidates):
            if not np.array_equal(rows, evidence.candidates):
                raise ValueError("the rows of the pool utility are not the candidates of the evidence, in their order")
        if len(evidence) > MOST:
            raise ConfigError(
                f"{self.name} compares all pairs of rows at once and takes {MOST:,} rows at most, not "
                f"{len(evidence):,}. Choose fl, or a smaller pool."
            )
        if not len(evidence):
            none = np.empty(0)
            return Selection(evidence.candidates[:0], none, none, 0.0)
        _submodlib(self.name)
        return marginal.select(self.function(pool), evidence, limit, progress=progress)


@dataclass(frozen=True)
class GraphCut(SubmodlibObjective):
    """Represent the pool and avoid repetition: f(A) = sum_i sum_{j in A} s_ij - lambda sum_{j, l in A} t_jl.

    t = (s + s') / 2, so that f does not depend on an order.  Submodular; monotone only where the last row of all still
    gains, which holds for lambda <= 0.5 and symmetric s.  submodlib's GraphCutFunction.
    """

    cut_lambda: float = field(default=0.4, metadata={"help": "lambda: how strongly repetition counts", "min": 0.0})

    name: ClassVar[str] = "graph-cut"

    def function(self, pool: Utility) -> SetFunction:
        """Weights of the rows, where there are any, count in the first sum."""
        values = _dense(pool)
        given = _weights(pool) @ values.astype(np.float64)  # (n,)
        t = (values + values.T) / 2
        # f is submodular, so the gain of a row that comes last is its least.
        last = given - self.cut_lambda * (2 * t.sum(axis=0, dtype=np.float64) - t.diagonal())
        monotone = bool((last >= 0).all())
        full = float(given.sum() - self.cut_lambda * t.sum(dtype=np.float64)) if monotone else 0.0
        make = partial(
            _submodlib(self.name).GraphCutFunction, n=len(t), mode="dense", lambdaVal=self.cut_lambda,
            separate_rep=True, n_rep=1, mgsijs=given[None, :], ggsijs=t,
        )  # fmt: skip
        return SetFunction(make, full, True, monotone, (), _NO_BOUND, reads=0)


@dataclass(frozen=True)
class DisparitySum(SubmodlibObjective):
    """Spread out: f(A) = sum over pairs j < l in A of d_jl, with d = 1 - (s + s') / 2 and d_jj = 0.

    Not submodular (each pick makes the next ones worth more).  A single row is worth 0, so the first pick is the first
    row of the pool.  s above 1 is divided by its largest value.  Every gain looks at all picks, so k of n rows take
    time in proportion to n k^2.  submodlib's DisparitySumFunction.
    """

    name: ClassVar[str] = "disparity-sum"

    def function(self, pool: Utility) -> SetFunction:
        """Weights of rows do not count: it speaks of the picks alone."""
        t, notes = _similarity(pool)
        make = partial(_submodlib(self.name).DisparitySumFunction, n=len(t), mode="dense", sijs=t)
        full = float((1 - t.astype(np.float64)).sum() / 2)
        bound = (
            "Greedy reaches at least 1/2 of the best value for a row budget where 1 - s obeys the triangle inequality "
            "(Borodin et al. 2012), which a utility need not do."
        )
        return SetFunction(make, full, False, True, notes, bound)


@dataclass(frozen=True)
class DisparityMin(SubmodlibObjective):
    """Keep apart: f(A) = the smallest d_jl of a pair in A, with d as in `disparity-sum`; 0 for less than two rows.

    Neither monotone nor submodular: from the third pick on every pick keeps or lowers f, so `full_value` is 0 and
    `share` NaN.  Its greedy is farthest-first traversal from the first row of the pool.  submodlib's
    DisparityMinFunction.
    """

    name: ClassVar[str] = "disparity-min"

    def function(self, pool: Utility) -> SetFunction:
        """Weights of rows do not count: it speaks of the picks alone."""
        t, notes = _similarity(pool)
        make = partial(_submodlib(self.name).DisparityMinFunction, n=len(t), mode="dense", sijs=t)
        bound = (
            "Greedy reaches at least 1/2 of the best value for a row budget where 1 - s obeys the triangle inequality "
            "(Ravi et al. 1994), which a utility need not do."
        )
        return SetFunction(make, 0.0, False, False, notes, bound)


@dataclass(frozen=True)
class LogDeterminant(SubmodlibObjective):
    """Span a large volume: f(A) = log det(K_A + lambda I), K = (s + s') / 2 with K_jj = 1.

    The log-likelihood of a determinantal point process (Kulesza and Taskar 2012), greedy by Chen et al. 2018.
    Submodular where K + lambda I is positive definite; a K that is not positive semi-definite gets what it lacks added
    to its diagonal, and a note says how much.  Monotone for lambda >= 1.  s above 1 is divided by its largest value.
    submodlib's LogDeterminantFunction.
    """

    det_lambda: float = field(
        default=1.0, metadata={"help": "lambda: added to the diagonal; from 1 on f never falls", "min": 1e-3}
    )

    name: ClassVar[str] = "log-determinant"

    def function(self, pool: Utility) -> SetFunction:
        """Weights of rows do not count: it speaks of the picks alone."""
        t, notes = _similarity(pool)
        lacking = _lacking(t)
        if lacking:
            notes += (
                f"The similarity matrix is not positive semi-definite: {lacking:.4g} was added to its diagonal, beside "
                f"lambda {self.det_lambda:g}.",
            )
        ridge = self.det_lambda + lacking
        make = partial(_submodlib(self.name).LogDeterminantFunction, n=len(t), mode="dense", lambdaVal=ridge, sijs=t)
        monotone = self.det_lambda >= 1
        full = float(np.linalg.slogdet(t.astype(np.float64) + ridge * np.eye(len(t)))[1]) if monotone else 0.0
        return SetFunction(make, full, True, monotone, notes, _NO_BOUND, reads=2)


@dataclass(frozen=True)
class SetCover(SubmodlibObjective):
    """Touch as many rows as possible: f(A) = the rows (by weight, usually 1) that a candidate in A covers.

    The concepts are the rows of the pool.  A candidate covers the `cover_nearest` rows that it helps most, of those
    only the ones that it helps more than `cover_threshold` times the largest utility of all pairs; of equal utilities
    the first row goes first.  submodlib's SetCoverFunction.
    """

    cover_nearest: int = field(
        default=12, metadata={"help": "most rows that a candidate covers; 0: no limit", "min": 0}
    )
    cover_threshold: float = field(
        default=0.0,
        metadata={"help": "share of the largest utility that a covered row exceeds", "min": 0.0, "max": 1.0},
    )

    name: ClassVar[str] = "set-cover"

    def function(self, pool: Utility) -> SetFunction:
        """Raises ConfigError when no candidate covers any row."""
        values, weights = _dense(pool), _weights(pool)
        above = values > self.cover_threshold * values.max()
        if self.cover_nearest:
            order = np.argsort(-values, axis=0, kind="stable")[: self.cover_nearest]
            near = np.zeros_like(above)
            np.put_along_axis(near, order, True, axis=0)
            above &= near
        if not above.any():
            raise ConfigError(
                f"set-cover: no candidate helps a row beyond cover_threshold={self.cover_threshold:g}. Lower it."
            )
        covers = [set(np.flatnonzero(column).tolist()) for column in above.T]
        make = partial(
            _submodlib(self.name).SetCoverFunction, n=len(covers), cover_set=covers, num_concepts=len(values),
            concept_weights=weights.tolist(),
        )  # fmt: skip
        return SetFunction(make, float(weights[above.any(axis=1)].sum()), True, True, reads=0)


@dataclass(frozen=True)
class ProbabilisticSetCover(SubmodlibObjective):
    """Touch as many rows as expected: f(A) = sum_i w_i (1 - prod_{j in A} (1 - p_ij)), w_i usually 1.

    The concepts are the rows of the pool, and p_ij = s_ij, divided by its largest value where that is above 1, is read
    as the probability that candidate j covers row i.  Where unrelated rows have a large s, as (1 + cosine) / 2 has,
    some picks cover everything and the rest add next to nothing.  submodlib's ProbabilisticSetCoverFunction.
    """

    name: ClassVar[str] = "prob-set-cover"

    def function(self, pool: Utility) -> SetFunction:
        """Rows of the utility are concepts, its columns the candidates."""
        values, notes = _up_to_one(_dense(pool))
        weights = _weights(pool)
        make = partial(_probable, _submodlib(self.name).ProbabilisticSetCoverFunction, values, weights)
        full = float(weights @ (1 - np.prod(1 - values, axis=1, dtype=np.float64)))
        return SetFunction(make, full, True, True, notes, reads=0)


_NO_BOUND = "f may fall with more rows under these options, so greedy has no known bound and no share is given."


def _probable(function: Callable[..., Any], values: Floats, weights: Doubles) -> Any:
    return function(
        n=values.shape[1], probs=values.T.tolist(), num_concepts=len(values), concept_weights=weights.tolist()
    )  # fmt: skip


def _submodlib(name: str) -> Any:
    try:
        import submodlib
    except ImportError as error:
        raise ConfigError(WITHOUT.format(name=name)) from error
    return submodlib


def _dense(pool: Utility) -> Floats:
    values: Any = pool.values
    return np.asarray(values if isinstance(values, np.ndarray) else values.toarray(), np.float32)


def _weights(pool: Utility) -> Doubles:
    return np.ones(pool.shape[0]) if pool.weights is None else pool.weights


def _up_to_one(values: Floats) -> tuple[Floats, tuple[str, ...]]:
    """Values in [0, 1], and what was done to them."""
    top = float(values.max())
    if top <= 1:
        return values, ()
    return np.divide(values, top, dtype=np.float32), (f"Utilities were divided by the largest, {top:.4g}.",)


def _similarity(pool: Utility) -> tuple[Floats, tuple[str, ...]]:
    """Give t = (s + s') / 2 in [0, 1] with ones on the diagonal, and what was done to it."""
    values, notes = _up_to_one(_dense(pool))
    t = np.asarray((values + values.T) / 2, np.float32)
    np.fill_diagonal(t, 1.0)
    return t, notes


def _lacking(matrix: Floats) -> float:
    """What the diagonal of a symmetric matrix lacks to make it positive semi-definite, up to rounding; often 0."""
    from scipy.linalg import eigh

    least = float(eigh(matrix.astype(np.float64), eigvals_only=True, subset_by_index=[0, 0])[0])
    slack = 1e-5 * len(matrix)  # of float32 entries
    return 0.0 if least >= -slack else -least
