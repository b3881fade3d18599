"""What picks are worth under a utility, at every budget: f(A) = sum_i w_i max(0, max_{j in A} s_ij)."""

from __future__ import annotations

from typing import Any

import numpy as np

from delift_core.insight.coverage import weights
from delift_core.types import Doubles, Indices, Utility

_ENTRIES = 1 << 22  # numbers looked at in one go


def positions(utility: Utility, rows: Indices) -> Indices:
    """Positions among the candidates of a utility of these row indices, in their order; -1 for one that is none."""
    order = np.argsort(utility.candidates, kind="stable")
    ordered = utility.candidates[order]
    if not len(ordered):
        return np.full(len(rows), -1, np.int64)
    at = np.minimum(np.searchsorted(ordered, rows), len(ordered) - 1)
    return np.where(ordered[at] == rows, order[at], -1).astype(np.int64)


def running(utility: Utility, columns: Indices) -> Doubles:
    """(K,) the value of the first 1..K columns; missing and negative pairs count as 0, a column -1 adds nothing."""
    known = columns >= 0
    take = columns[known]
    value = _dense(utility, take) if utility.is_dense else _sparse(utility, take)
    return np.concatenate([[0.0], value])[np.cumsum(known)]


def whole(utility: Utility) -> float:
    """The value of all columns."""
    best = np.zeros(utility.shape[0])
    stored: Any = utility.values
    if utility.is_dense:
        step = max(1, _ENTRIES // max(1, utility.shape[1]))
        for start in range(0, utility.shape[0] if utility.shape[1] else 0, step):
            best[start : start + step] = np.fmax.reduce(stored[start : start + step], axis=1)
    else:
        np.fmax.at(best, stored.indices, stored.data)
    return float(weights(utility) @ np.fmax(best, 0.0))


def _dense(utility: Utility, columns: Indices) -> Doubles:
    stored: Any = utility.values
    weight = weights(utility)
    value = np.zeros(len(columns))
    step = max(1, _ENTRIES // max(1, utility.shape[1]))
    for start in range(0, utility.shape[0] if len(columns) else 0, step):
        part = np.fmax(np.asarray(stored[start : start + step])[:, columns], np.float32(0))
        np.maximum.accumulate(part, axis=1, out=part)
        value += weight[start : start + step] @ part
    return value


def _sparse(utility: Utility, columns: Indices) -> Doubles:
    stored: Any = utility.values
    part = stored[:, columns].tocsr()  # row by row, and within a row in pick order
    row, at = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), part.indices
    helps = part.data > 0  # NaN compares False
    row, at, data = row[helps], at[helps], part.data[helps].astype(np.float64)
    if not len(data):
        return np.zeros(len(columns))
    floor = row * (data.max() + 1)  # rows stand above each other, so that one pass gives each row its running maximum
    best = np.maximum.accumulate(data + floor) - floor
    first = np.concatenate([[True], row[1:] != row[:-1]])
    gain = best - np.where(first, 0.0, np.concatenate([[0.0], best[:-1]]))
    return np.cumsum(np.bincount(at, gain * weights(utility)[row], minlength=len(columns)))
