"""Where a value curve bends, and what the next rows would add."""

from __future__ import annotations

import math

import numpy as np

from delift_core.types import Doubles, Indices


def knee(value: Doubles) -> int | None:
    """The budget k at which the curve value(1..K) is farthest above the straight line from its start to its end.

    This is the knee of [Satopaa et al., Kneedle, ICDCSW 2011] without smoothing.  None for a curve that does not bend:
    fewer than three picks, no growth, a value that is not finite, or less than 2 % above the line.
    """
    count = len(value)
    if count < 3 or not np.isfinite(value).all() or value[-1] <= 0:
        return None
    share = np.concatenate([[0.0], value]) / value[-1]  # (K + 1,) starting at the empty subset
    above = share - np.arange(count + 1) / count
    best = int(above.argmax())
    return best if above[best] >= 0.02 else None


def shares(value: Doubles, full_value: float) -> Doubles:
    """Value as a share of the whole pool's; NaN where the pool's value is 0 or not finite."""
    if not full_value or not math.isfinite(full_value):
        return np.full(len(value), np.nan)
    return np.asarray(value, dtype=np.float64) / full_value


def step(order_length: int, k: int) -> int:
    """How many rows "the next rows" are beside a budget of k: 1, 2 or 5 times a power of ten, about a tenth of k."""
    aim = max(1.0, min(order_length, k / 10 or 1))
    power = 10 ** math.floor(math.log10(aim))
    return int(max(power * m for m in (1, 2, 5) if power * m <= aim))


def ahead(value: Doubles, full_value: float, k: int) -> tuple[int, float] | None:
    """The next rows after budget k and the share of the full value that they add; None at the end of the order."""
    if not 1 <= k < len(value):
        return None
    more = min(step(len(value), k), len(value) - k)
    added = float(shares(value[[k - 1, k + more - 1]], full_value) @ np.array([-1.0, 1.0]))
    return (more, added) if math.isfinite(added) else None


def running_tokens(tokens: Indices, order: Indices) -> Indices:
    """Tokens of the first 1..K picks (K,); `tokens` speaks of all rows of the dataset."""
    return np.cumsum(tokens[order], dtype=np.int64)
