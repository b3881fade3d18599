"""What a set of candidates covers of a utility: the facility-location value, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from delift_core.types import Doubles, Indices, Utility

_BLOCK = 256  # columns looked at in one go


def places(utility: Utility, rows: Indices) -> Indices:
    """Positions among the candidates of a utility of those row indices that are among them, in the given order."""
    order = np.argsort(utility.candidates, kind="stable")
    ordered = utility.candidates[order]
    at = np.searchsorted(ordered, rows)
    at[at == len(ordered)] = 0
    known = ordered[at] == rows if len(ordered) else np.zeros(len(rows), bool)
    found: Indices = order[at[known]].astype(np.int64)
    return found


def own(utility: Utility) -> Indices:
    """(R,) where each helped row stands among the candidates, -1 where it does not: both are rows of one dataset."""
    if not len(utility.candidates):
        return np.full(len(utility.helped), -1, np.int64)
    order = np.argsort(utility.candidates, kind="stable")
    place = np.searchsorted(utility.candidates, utility.helped, sorter=order)
    at = order[np.minimum(place, len(order) - 1)]
    found: Indices = np.where(utility.candidates[at] == utility.helped, at, -1)
    return found


def best(utility: Utility, positions: Indices) -> Doubles:
    """Per row (R,), the most that a candidate at one of these positions helps it; missing and negative count as 0."""
    result = np.zeros(utility.shape[0])
    stored: Any = utility.values
    for start in range(0, len(positions), _BLOCK):
        part = stored[:, positions[start : start + _BLOCK]]
        most = np.fmax.reduce(part, axis=1) if utility.is_dense else part.max(axis=1).toarray().ravel()
        result = np.fmax(result, most)
    return result


def weights(utility: Utility) -> Doubles:
    """How many rows each row of a utility stands for (R,)."""
    return np.ones(utility.shape[0]) if utility.weights is None else utility.weights
