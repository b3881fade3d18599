"""How much a choice of rows hangs on chance: the stability of feature selection, applied to rows.

Replicates are choices of the same method under slightly different conditions.  The estimator is that of Nogueira,
Sechidis and Brown, "On the Stability of Feature Selection Algorithms", JMLR 18(174), 2018, with rows for features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.types import Doubles, Indices

POOR, EXCELLENT = 0.4, 0.75  # the thresholds that the authors take from Fleiss et al. 2004
FEWEST = 5  # replicates from which on an interval is given; it is asymptotic in their number
NORMAL = 1.959964  # 97.5 % quantile of the standard normal


@dataclass(frozen=True)
class Stability:
    """The agreement of replicates, corrected for chance: 1 where all are the same, about 0 where they are random."""

    value: float  # NaN where nothing could have differed: every free row is picked, or none
    low: float | None  # 95 % interval; None for too few replicates
    high: float | None
    replicates: int
    rows: int  # rows that were free to be picked or not
    picked: float  # of those, by a replicate on average

    @property
    def word(self) -> str:
        """In one word, by the authors' thresholds."""
        if not math.isfinite(self.value):
            return "undefined"
        return "poor" if self.value < POOR else "intermediate" if self.value <= EXCELLENT else "excellent"

    @property
    def sentence(self) -> str:
        """What it means, for a caption."""
        if not math.isfinite(self.value):
            return "No row was free to be picked or not, so there is nothing that could differ."
        told = f"{self.value:.2f}" if self.low is None else f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"
        meaning = {
            "poor": "most of the rows would be others",
            "intermediate": "a core of the rows stays, the rest changes",
            "excellent": "nearly the same rows would be picked again",
        }
        return f"Stability {told} is {self.word}: {meaning[self.word]}."

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; an undefined value is null."""
        record = asdict(self)
        record["value"] = self.value if math.isfinite(self.value) else None
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Stability:
        """Read `to_json`'s form."""
        return cls(**{**record, "value": math.nan if record["value"] is None else record["value"]})


def stability(picks: NDArray[np.bool_]) -> Stability:
    """Estimate the stability of M replicates over d rows.

        Phi = 1 - [ (1/d) sum_f s_f^2 ] / [ (k/d) (1 - k/d) ],   s_f^2 = M/(M - 1) p_f (1 - p_f)      (their eq. 4)

    with p_f the share of replicates that pick row f and k the mean number of picks.  The interval is their theorem 7
    and corollary 9: Phi is asymptotically normal, with the variance of its influence on each replicate.

    Args:
        picks: (M, d) whether a replicate picks a row; columns of rows that could not be picked, or had to be, only
            feign agreement, so leave them out.

    Raises ValueError for fewer than two replicates.
    """
    m, d = picks.shape
    if m < 2:
        raise ValueError(f"{m} replicates: stability compares at least two")
    z = picks.astype(np.float64)
    p, k = z.mean(axis=0), z.sum(axis=1)
    mean = float(k.mean())
    scale = (mean / d) * (1 - mean / d) if d else 0.0
    if scale <= 0:
        return Stability(math.nan, None, None, m, d, mean)
    value = 1 - float(m / (m - 1) * np.mean(p * (1 - p))) / scale
    low = high = None
    if m >= FEWEST:
        reach = NORMAL * math.sqrt(_variance(z, p, k, value, scale))
        low, high = max(-1.0, value - reach), min(1.0, value + reach)
    return Stability(value, low, high, m, d, mean)


def _variance(z: Doubles, p: Doubles, k: Doubles, value: float, scale: float) -> float:
    m, d = z.shape
    mean = float(k.mean())
    phi = (z @ p / d - k * mean / d**2 + value / 2 * (2 * k * mean / d**2 - k / d - mean / d + 1)) / scale
    return float(4 / m**2 * np.sum((phi - phi.mean()) ** 2))


def lucky(frequency: Doubles, picked: Indices, most: int = 20) -> Indices:
    """Picked row indices of the lowest frequency, the lowest first; rows that every replicate picks are left out."""
    known = picked[frequency[picked] < 1]
    return known[np.argsort(frequency[known], kind="stable")][:most]


def nearly(frequency: Doubles, picked: Indices, most: int = 20) -> Indices:
    """Row indices that were not picked, of the highest frequency above 0, the highest first."""
    others = np.setdiff1d(np.flatnonzero(frequency > 0), picked)
    return others[np.argsort(-frequency[others], kind="stable")][:most].astype(np.int64)
