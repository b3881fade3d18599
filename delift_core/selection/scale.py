"""From raw utility units to values >= 0 that set functions may add up: the one place where scale is applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import ConfigError, unknown
from delift_core.types import Floats, Utility

BLOCK = 1 << 24  # numbers that are looked at in one go

How = Literal["clip", "minmax"]


def scaled(utilities: Sequence[Utility], how: How = "clip") -> list[Utility]:
    """Values >= 0 for set functions; a missing pair (NaN, or absent) becomes 0.  The inputs stay as they are.

    "clip" is max(U, 0), what hurts counts as nothing; a cosine becomes (1 + cos) / 2 (a centred one does not).
    "minmax" is (U - lo) / (hi - lo) with one minimum and one maximum over all stored pairs of all given matrices, so
    pass all that are used together.  Dense results are in Fortran order, as the solver wants them.

    Raises:
        ConfigError: no pair was scored, a number is infinite, all are equal, or (clip) none is above 0.
    """
    if how not in ("clip", "minmax"):
        raise unknown("scale", how, ("clip", "minmax"))
    low, high = _range(utilities)
    names = ", ".join(sorted({u.kind for u in utilities}))
    if not low <= high:
        raise ConfigError(f"No pair of rows was scored ({names}), so there is nothing to choose by. Give more rows.")
    if not np.isfinite([low, high]).all():
        raise ConfigError(
            f"The {names} utilities hold infinite numbers. Look at the vectors or the model they come from."
        )
    if low == high:
        raise ConfigError(
            f"Every {names} utility is {low:.6g}: they do not tell the rows apart. "
            "Use another scorer, model or encoder."
        )
    if how == "clip" and high <= (-1.0 if utilities[0].kind == "cosine" else 0.0):
        raise ConfigError(
            f"No example helps any row: the best {names} utility is {high:.6g}. "
            "Use a model that makes use of examples, the scale minmax, or the method delift-se."
        )
    if utilities[0].kind == "centred" and high > 0:  # 0 is an average pair, and what a pair that was not compared is
        low = 0.0
    return [_scaled(u, how, low, high) for u in utilities]


def _scaled(utility: Utility, how: How, low: float, high: float) -> Utility:
    if not isinstance(utility.values, np.ndarray):
        values = utility.values.copy()
        values.data = _apply(values.data, utility.kind, how, low, high)
        return replace(utility, values=values)
    out: Floats = np.empty(utility.shape, np.float32, order="F")
    for rows in _blocks(utility.values):
        out[rows] = _apply(utility.values[rows], utility.kind, how, low, high)
    return replace(utility, values=out)


def _apply(values: Floats, kind: str, how: How, low: float, high: float) -> Floats:
    if how == "minmax":
        result = (values - np.float32(low)) / np.float32(high - low)
    else:
        result = (1 + values) / 2 if kind == "cosine" else values
    result = np.clip(result, 0.0, 1.0 if how == "minmax" or kind == "cosine" else None)
    return np.asarray(np.nan_to_num(result, copy=False, nan=0.0), np.float32)


def _range(utilities: Sequence[Utility]) -> tuple[float, float]:
    """Smallest and largest stored number of all matrices; (inf, -inf) when nothing is stored."""
    low, high = np.inf, -np.inf
    for utility in utilities:
        stored: NDArray[Any] = utility.values if isinstance(utility.values, np.ndarray) else utility.values.data
        for rows in _blocks(stored):
            low = min(low, float(np.fmin.reduce(stored[rows], axis=None, initial=np.inf)))
            high = max(high, float(np.fmax.reduce(stored[rows], axis=None, initial=-np.inf)))
    return low, high


def _blocks(array: NDArray[Any]) -> Iterator[slice]:
    step = max(1, BLOCK // max(1, array.shape[1] if array.ndim == 2 else 1))
    for first in range(0, len(array), step):
        yield slice(first, first + step)
