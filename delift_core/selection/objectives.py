"""The set functions of DELIFT (arXiv 2411.04425) as problems of the one facility-location solver.

s_ij is how much candidate j helps row i, scaled to >= 0.  q_j = max over target rows t of s_tj: how much candidate j
helps the target.  p_i = max over existing rows e of s_ie: how much the existing data already helps pool row i.

All share two options: how f is maximised, and how much a sampled search may lose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from delift_core.errors import ConfigError
from delift_core.selection.facility import Cover, CoverProblem, solve
from delift_core.selection.stochastic import Sampled
from delift_core.types import (
    Doubles,
    Evidence,
    Floats,
    Limit,
    Progress,
    Scores,
    Selection,
    Utility,
    from_pick,
    no_progress,
)


@dataclass(frozen=True, kw_only=True)
class CoverObjective:
    """An objective that is a `CoverProblem`: what its subclasses say is only which one."""

    greedy: str = field(
        default="lazy",
        metadata={
            "help": "search: lazy (exact greedy) or stochastic (random samples, for the largest pools)",
            "choices": ("lazy", "stochastic"),
        },
    )
    accuracy: float = field(
        default=0.1,
        metadata={"help": "what stochastic search may lose, epsilon: smaller is slower", "min": 1e-6, "max": 0.9},
    )

    name: ClassVar[str]

    @property
    def nested(self) -> bool:
        """Whether smaller budgets are prefixes: not when each pick is the best of a sample sized by the budget."""
        return self.greedy == "lazy"

    def problem(self, evidence: Evidence) -> CoverProblem:
        """The problem whose columns are the candidates of the evidence."""
        raise NotImplementedError

    def exhausted(self, cover: Cover) -> str:
        """What to tell when the picks from `cover.useful` on add nothing to f."""
        return _tail(cover, "no row that is left adds anything; taken in the order of the pool")

    def remarks(self, evidence: Evidence) -> tuple[str, ...]:
        """What else a reader must know of this objective on this evidence."""
        return ()

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Pick rows greedily up to the limit.  The seed is used by stochastic search only."""
        sampled = Sampled(self.accuracy, seed) if self.greedy == "stochastic" else None
        cover = solve(self.problem(evidence), limit, evidence.tokens, progress, sampled=sampled)
        notes = self.remarks(evidence) + cover.notes
        if cover.useful < len(cover.picks):
            notes += (self.exhausted(cover),)
        return Selection(
            evidence.candidates[cover.picks], cover.gains, cover.value, cover.full_value, cover.nested, notes
        )  # fmt: skip


@dataclass(frozen=True)
class FacilityLocation(CoverObjective):
    """Represent the whole pool: f(A) = sum_i max_{j in A} s_ij.  DELIFT, stage 1."""

    name: ClassVar[str] = "fl"
    needs: ClassVar[frozenset[str]] = frozenset({"pool"})

    def problem(self, evidence: Evidence) -> CoverProblem:
        """Rows and columns are the pool."""
        pool = _pool(evidence)
        return CoverProblem(pool.values, weight=pool.weights)


@dataclass(frozen=True)
class ConditionalGain(CoverObjective):
    """Reward what existing data does not cover yet: f(A) = sum_i max(max_{j in A} s_ij - nu p_i, 0).  DELIFT, FLCG."""

    nu: float = field(default=1.0, metadata={"help": "how strongly existing rows count", "min": 0.0})

    name: ClassVar[str] = "flcg"
    needs: ClassVar[frozenset[str]] = frozenset({"pool", "existing"})

    def problem(self, evidence: Evidence) -> CoverProblem:
        """Existing rows are a head start."""
        existing = _part(evidence.existing, "existing")
        _same(existing.helped, evidence.candidates, "existing helped")
        if not existing.shape[1]:
            raise ConfigError("The existing data has no rows. Give a file with rows, or choose fl.")
        covered = _max(existing, axis=1)
        pool = _pool(evidence)
        return CoverProblem(pool.values, start=np.float32(self.nu) * covered, weight=pool.weights)

    def exhausted(self, cover: Cover) -> str:
        """The existing data covers what is left."""
        return _tail(cover, "no row that is left adds to what is covered already; taken in the order of the pool")


@dataclass(frozen=True)
class SaturatingMutualInformation(CoverObjective):
    """Cover the pool as far as it matters to the target: f(A) = sum_i min(max_{j in A} s_ij, eta q_i).

    What the authors' code of DELIFT runs (submodlib FacilityLocationMutualInformation).  It saturates: once nothing
    gains any more, picks go on by the gain without the cap.
    """

    eta: float = field(default=1.0, metadata={"help": "how far target relevance counts", "min": 0.0})

    name: ClassVar[str] = "fl1mi"
    needs: ClassVar[frozenset[str]] = frozenset({"pool", "target"})

    def problem(self, evidence: Evidence) -> CoverProblem:
        """Target relevance is the cap."""
        pool = _pool(evidence)
        return CoverProblem(pool.values, cap=np.float32(self.eta) * _relevance(evidence), weight=pool.weights)

    def exhausted(self, cover: Cover) -> str:
        """Everything that matters to the target is covered."""
        rest = len(cover.picks) - cover.useful - cover.saturated
        last = f", the last {rest} stand in the order of the pool" if rest else ""
        return _tail(cover, f"f is saturated; {cover.saturated} rows are ordered by their gain without the cap{last}")


@dataclass(frozen=True)
class MutualInformation(CoverObjective):
    """Specialise to a target: f(A) = sum_i max_{j in A} s_ij + eta sum_{j in A} q_j.  DELIFT, stage 2.

    With rows = target, i runs over the target rows (submodlib FacilityLocationVariantMutualInformation) and only target
    x pool utilities are needed; with rows = pool it runs over the pool, as summaries of the paper write it.
    """

    eta: float = field(default=1.0, metadata={"help": "weight of a row's own relevance to the target", "min": 0.0})
    rows: str = field(
        default="target", metadata={"help": "what is to be covered: target or pool", "choices": ("target", "pool")}
    )

    name: ClassVar[str] = "fl2mi"

    @property
    def needs(self) -> frozenset[str]:
        """Pool x pool utilities only when the pool is to be covered."""
        return frozenset({"target"} if self.rows == "target" else {"target", "pool"})

    def problem(self, evidence: Evidence) -> CoverProblem:
        """Target relevance is a bonus."""
        bonus = self.eta * _relevance(evidence).astype(np.float64)
        covered = _part(evidence.target, "target") if self.rows == "target" else _pool(evidence)
        return CoverProblem(covered.values, weight=covered.weights, bonus=bonus)


@dataclass(frozen=True)
class QualityCover(CoverObjective):
    """Represent the pool with good rows: f(A) = (1 - a) FL(A) / FL(V) + a sum_{j in A} value_j / sum_V value.

    QDIT, arXiv 2311.14736.  The value of a row is the percentile rank of its row score, the best near 1, ties shared;
    a row that the score refuses (NaN) counts 0, but may still be picked for what it covers.  f of the pool is 1.
    """

    quality_weight: float = field(
        default=0.3, metadata={"help": "a: share of quality, the rest is diversity", "min": 0.0, "max": 1.0}
    )
    quality: str = field(
        default="ifd",
        metadata={
            "help": "row score that quality is ranked by",
            "choices": ("ifd", "loss", "selectit", "ica", "rds", "longest"),
        },
    )

    name: ClassVar[str] = "flquality"
    needs: ClassVar[frozenset[str]] = frozenset({"pool", "scores"})

    def problem(self, evidence: Evidence) -> CoverProblem:
        """Weights are scaled by what the whole pool covers; quality is a bonus.

        Raises ConfigError when the pool covers nothing, or the score refuses every row.
        """
        pool = _pool(evidence)
        value = _percentiles(self._scores(evidence))
        weight = np.ones(pool.shape[0]) if pool.weights is None else pool.weights
        full = float(weight @ _max(pool, axis=1).astype(np.float64)) if len(value) else 1.0
        if not full:
            raise ConfigError(
                "No row of the pool helps any other, so there is no coverage to weigh against quality. "
                "Use a stronger model or the scale minmax, or rank by the row score alone."
            )
        if len(value) and not value.any():
            raise ConfigError(f"The row score {self.quality} refuses every row of the pool. Choose another quality.")
        share = self.quality_weight / (float(value.sum()) or 1.0)
        return CoverProblem(pool.values, weight=weight * ((1 - self.quality_weight) / full), bonus=share * value)

    def remarks(self, evidence: Evidence) -> tuple[str, ...]:
        """How many rows have no score."""
        scores = self._scores(evidence)
        refused = int(np.isnan(scores.values).sum())
        told = (f"{refused} rows that the score {self.quality} refuses count as quality 0.",) if refused else ()
        return (*scores.notes, *told)

    def _scores(self, evidence: Evidence) -> Scores:
        scores = evidence.scores
        if scores is None:
            raise ValueError("the evidence has no scores, which this objective needs")
        if scores.name != self.quality:
            raise ValueError(f"the evidence has scores named {scores.name}, not {self.quality}")
        _same(scores.candidates, evidence.candidates, "scored")
        return scores


def _percentiles(scores: Scores) -> Doubles:
    """Percentile rank (n,) of each score among those that are not NaN, in (0, 1], the best highest; NaN is 0."""
    known = ~np.isnan(scores.values)
    value = np.zeros(len(known))
    better = scores.values[known] if scores.higher_is_better else -scores.values[known]
    _, place, count = np.unique(better, return_inverse=True, return_counts=True)
    shared = np.cumsum(count) - (count - 1) / 2  # equal scores have the mean of their ranks
    value[known] = shared[place] / max(1, len(better))
    return value


def _tail(cover: Cover, text: str) -> str:
    return from_pick(cover.useful + 1, f"{text}.")


def _part(utility: Utility | None, name: str) -> Utility:
    if utility is None:
        raise ValueError(f"the evidence has no {name} utilities, which this objective needs")
    return utility


def _same(found: object, expected: object, name: str) -> None:
    if not np.array_equal(found, expected):  # type: ignore[arg-type]
        raise ValueError(f"the {name} rows are not the candidates of the evidence, in their order")


def _pool(evidence: Evidence) -> Utility:
    pool = _part(evidence.pool, "pool")
    _same(pool.helped, evidence.candidates, "pool helped")
    _same(pool.candidates, evidence.candidates, "pool candidate")
    return pool


def _relevance(evidence: Evidence) -> Floats:
    """Relevance q (n,): how much each candidate helps the target row that it helps most.

    Raises ConfigError when the target is empty or no candidate helps any of its rows.
    """
    target = _part(evidence.target, "target")
    _same(target.candidates, evidence.candidates, "target candidate")
    if not target.shape[0]:
        raise ConfigError("The target has no rows. Give a file with at least one row of the task.")
    relevance = _max(target, axis=0)
    if not relevance.any():
        raise ConfigError(
            "No row of the pool helps any row of the target. "
            "Use a stronger model, the scale minmax, or the method got-d."
        )
    return relevance


def _max(utility: Utility, axis: int) -> Floats:
    """Largest value along an axis; absent pairs are 0."""
    if isinstance(utility.values, np.ndarray):
        return np.asarray(utility.values.max(axis=axis), np.float32)
    return np.asarray(utility.values.max(axis=axis).toarray(), np.float32).ravel()
