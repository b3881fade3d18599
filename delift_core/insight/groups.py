"""Categories for colouring: ten at most, then "other"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from delift_core.types import Doubles, Indices

MOST = 10
OTHER, MISSING = "other", "(empty)"


def categories(values: Sequence[str | None], most: int = MOST) -> tuple[Indices, list[str]]:
    """Codes (n,) into labels, the most frequent value first; beyond `most` values the rest is one "other"."""
    named = [MISSING if value is None else str(value) for value in values]
    counts = sorted(Counter(named).items(), key=lambda item: (-item[1], item[0]))
    keep = [name for name, _ in (counts if len(counts) <= most else counts[: most - 1])]
    labels = keep if len(keep) == len(counts) else [*keep, f"{OTHER} ({len(counts) - len(keep)} values)"]
    code = {name: i for i, name in enumerate(keep)}
    return np.array([code.get(name, len(keep)) for name in named], dtype=np.int64), labels


def levels(values: Doubles, count: int = 64) -> Indices:
    """Quantile levels 0..count-1 of the finite values (n,); -1 for a missing one.  Equal values share a level."""
    out = np.full(len(values), -1, np.int64)
    known = np.isfinite(values)
    if known.any():
        distinct, place = np.unique(values[known], return_inverse=True)
        out[known] = place * (count - 1) // max(1, len(distinct) - 1)
    return out


def ranks(order: Indices, n: int) -> Indices:
    """Pick number (0 = first) of each of n rows; -1 for rows that are not in the order."""
    rank = np.full(n, -1, np.int64)
    rank[order] = np.arange(len(order))
    return rank
