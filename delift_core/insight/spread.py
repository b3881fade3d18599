"""A few of many points that stand for all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from delift_core.types import Floats, Indices

_BITS = 8  # cells on each side of the map, as a power of two


def spread(points: Floats) -> Indices:
    """An order of (n, 2) points of which every beginning is spread over the plane as all of them are.

    The points are lined up along a Z-order curve [Morton 1966], on which neighbours in the plane mostly stay
    neighbours, and taken from it in the order of van der Corput's sequence: a systematic sample of any size, nested.
    """
    n = len(points)
    if n == 0:
        return np.empty(0, np.int64)
    low, high = points.min(axis=0), points.max(axis=0)
    cells = ((points - low) / np.maximum(high - low, 1e-12) * (2**_BITS - 1)).astype(np.int64)  # (n, 2)
    curve = np.zeros(n, np.int64)
    for bit in range(_BITS):
        curve |= ((cells[:, 0] >> bit) & 1) << (2 * bit) | ((cells[:, 1] >> bit) & 1) << (2 * bit + 1)
    along = np.argsort(curve, kind="stable")
    width = max(1, (n - 1).bit_length())
    numbers = np.arange(2**width)
    reverse = np.zeros_like(numbers)
    for bit in range(width):
        reverse |= ((numbers >> bit) & 1) << (width - 1 - bit)
    order: Indices = along[reverse[reverse < n]]
    return order


def shown(order: Indices, chosen: NDArray[np.bool_], always: Indices, most: int) -> Indices:
    """At most `most` rows to draw one by one, ascending: `always` first, then chosen rows, then others.

    Args:
        order: (n,) of `spread`; where there is no room for all, its first ones are taken.
        chosen: (n,) True for selected rows.
        always: row indices that stand among them whatever there is (pinned, banned, in focus).
        most: how many at most; more than that only where `always` has more.
    """
    marked = np.zeros(len(order), np.bool_)
    marked[always] = True
    picked, rest = order[(chosen & ~marked)[order]], order[~(chosen | marked)[order]]
    room = max(0, most - int(marked.sum()))
    taken = np.concatenate([np.flatnonzero(marked), picked[:room], rest[: max(0, room - len(picked))]])
    return np.sort(taken).astype(np.int64)
