"""How far a selection from some of the pairs is from one that knows them all, measured on checked rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.types import Doubles, Floats, Indices

DRAWS = 20  # random subsets that the comparison starts from
RESAMPLES = 1000  # of the checked rows, for the interval
_LEAST = 1e-3  # of what all checked rows can gain, that a resample must gain to count


@dataclass(frozen=True)
class Fidelity:
    """What the checked rows say of a pair plan and of the selection made with it."""

    plan: str
    pairs: int  # scored for the selection
    share: float  # of all pairs
    checked_rows: int
    spearman: (
        float | None
    )  # of what the plan says with the truth, over all checked pairs; None where either is constant
    recall: float  # share of checked rows whose best helper is among the scored pairs
    gap_closed: float | None = None  # of the way from a random subset to the exact selection
    low: float | None = None  # 95 % interval over checked rows
    high: float | None = None

    @property
    def sentence(self) -> str:
        """The finding in words."""
        scored = f"{self.share:.1%} of the pairs were scored ({self.plan})."
        found = f"The best helper of {self.recall:.0%} of them is among the scored pairs."
        if self.gap_closed is None or self.low is None or self.high is None:
            return f"{scored} On {self.checked_rows} checked rows: {found[0].lower()}{found[1:]}"
        return (
            f"{scored} On {self.checked_rows} checked rows this selection reaches {self.gap_closed:.0%} of what exact "
            f"scoring gains over random (95 % interval {self.low:.0%} to {self.high:.0%}). {found}"
        )

    def to_json(self) -> dict[str, Any]:
        """All numbers and the sentence."""
        return {**asdict(self), "sentence": self.sentence}


def fidelity(
    exact: Floats,
    told: Floats,
    scored: NDArray[np.bool_],
    *,
    plan: str,
    pairs: int,
    share: float,
    picks: Indices | None = None,
    reference: Indices | None = None,
    own: Indices | None = None,
    seed: int = 0,
) -> Fidelity:
    """Judge a plan by checked rows.

    The gap closed is (f(picks) - f(random)) / (f(reference) - f(random)), f the sum over checked rows of the best
    utility above 0 that a subset's columns give them.  The reference is chosen like the picks, but knowing the checked
    rows exactly.  What those rows gain by being known stands for what every row would gain: the exact selection
    itself would need all pairs.

    Args:
        exact: (h, C) utilities of the checked rows; NaN where a pair makes no sense.
        told: (h, C) what the plan says of them; NaN where it says nothing, which counts as 0.
        scored: (h, C) pairs that the plan scored.
        plan: its name.
        pairs: how many it scored in all.
        share: of all pairs.
        picks: columns of the selection; None where the candidates are no rows to pick from.
        reference: columns of the selection that knows the checked rows.
        own: (h,) each checked row's own column, where a row counts as a pair with itself; it is no helper then.
        seed: of random subsets and of the interval.
    """
    truth = np.nan_to_num(np.maximum(exact, 0))
    others = truth.copy()
    if own is not None:
        others[np.arange(len(own)), own] = 0
    useful, best = others.max(axis=1) > 0, others.argmax(axis=1)
    recall = float(scored[np.arange(len(best)), best][useful].mean()) if useful.any() else 1.0
    some = Fidelity(plan, pairs, share, len(exact), _spearman(told, exact), recall)
    if picks is None or reference is None:
        return some
    random = np.random.default_rng(seed)
    draws = [random.choice(exact.shape[1], len(picks), replace=False) for _ in range(DRAWS)]
    floor = np.mean([_covered(truth, draw) for draw in draws], axis=0)
    gained, possible = _covered(truth, picks) - floor, _covered(truth, reference) - floor
    if possible.sum() <= 0:  # a random subset does as well as one that knows these rows
        return some
    again = random.integers(len(exact), size=(RESAMPLES, len(exact)))
    drawn = possible[again].sum(axis=1)
    told_apart = drawn > _LEAST * possible.sum()  # a draw of rows that nothing gains by says nothing
    ratios = gained[again].sum(axis=1)[told_apart] / drawn[told_apart]
    low, high = np.percentile(ratios, [2.5, 97.5])
    closed = float(gained.sum() / possible.sum())
    return Fidelity(plan, pairs, share, len(exact), some.spearman, recall, closed, float(low), float(high))


def _covered(truth: Floats, columns: Indices | Sequence[int]) -> Doubles:
    return np.asarray(truth[:, columns].max(axis=1, initial=0.0), np.float64)


def _spearman(told: Floats, exact: Floats) -> float | None:
    """Rank correlation over all pairs that make sense; None where one side is constant."""
    from scipy.stats import spearmanr

    sensible = ~np.isnan(exact)
    first, second = np.nan_to_num(told[sensible]), exact[sensible]
    if not len(first) or not np.ptp(first) or not np.ptp(second):
        return None
    return float(spearmanr(first, second).statistic)
