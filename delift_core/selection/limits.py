"""Cutting a ranking at a budget."""

from __future__ import annotations

import numpy as np

from delift_core.types import Indices, Limit


def within(ranking: Indices, tokens: Indices, limit: Limit) -> Indices:
    """The part of a ranking of positions that a limit has room for, in order.

    A row limit takes a prefix.  A token limit passes over what no longer fits and goes on, so that it is used up.

    Args:
        ranking: (K,) positions, best first.
        tokens: (C,) tokens of each position.
        limit: the resolved budget.
    """
    if limit.tokens is None:
        return ranking[: limit.rows]
    room, taken = limit.tokens, np.zeros(len(ranking), bool)
    rows = 0
    for place, size in enumerate(tokens[ranking].tolist()):
        if rows == limit.rows:
            break
        if size <= room:
            taken[place] = True
            room -= size
            rows += 1
    return ranking[taken]
