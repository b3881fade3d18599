"""Which points lie inside a drawn outline."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import DataError
from delift_core.types import Doubles, Floats

MOST_CORNERS = 2_000


def outline(corners: Any) -> Doubles:
    """Corners (c, 2) from what a browser sent; anything but 3 to 2,000 pairs of finite numbers raises DataError."""
    try:
        polygon = np.asarray(corners, dtype=np.float64)
    except (TypeError, ValueError):
        polygon = np.empty((0, 0))
    shaped = polygon.ndim == 2 and polygon.shape[1] == 2 and 3 <= len(polygon) <= MOST_CORNERS
    if not shaped or not np.isfinite(polygon).all():
        raise DataError(f"An outline needs 3 to {MOST_CORNERS:,} corners with two numbers each. Draw it again.")
    return polygon


def inside(points: Floats, polygon: Doubles) -> NDArray[np.bool_]:
    """True for each of (n, 2) points inside a closed outline (c, 2), by the even-odd rule."""
    result = np.zeros(len(points), dtype=bool)
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    near = np.flatnonzero(((points >= low) & (points <= high)).all(axis=1))
    x, y = points[near, 0].astype(np.float64), points[near, 1].astype(np.float64)
    odd = np.zeros(len(near), dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        odd ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    result[near] = odd
    return result
