"""Capped facility location with a head start, weights and a modular term, as one problem.

f(A) = sum_i w_i [min(cap_i, max(start_i, max_{j in A} s_ij)) - min(cap_i, start_i)] + sum_{j in A} bonus_j
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from delift_core.selection.cores import cores, side_by_side
from delift_core.types import Doubles, Floats

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True, eq=False)
class CoverProblem:
    """Values s_ij >= 0 of column j for row i, and what turns plain facility location into the other set functions.

    A dense matrix in Fortran order is used as it is; any other is copied once.  Absent pairs of a sparse one are 0.
    Raises ValueError when shapes disagree or a number is negative or NaN.
    """

    values: Floats | sparse.csc_array  # (R, C)
    start: Floats | None = None  # (R,) what is covered before the first pick; default 0
    cap: Floats | None = None  # (R,) coverage above it is worth nothing; default infinite
    weight: Doubles | None = None  # (R,) default 1
    bonus: Doubles | None = None  # (C,) modular gain of each column; default 0

    def __post_init__(self) -> None:
        rows, columns = self.values.shape
        for name, expected in (("start", rows), ("cap", rows), ("weight", rows), ("bonus", columns)):
            vector = getattr(self, name)
            if vector is not None and vector.shape != (expected,):
                raise ValueError(f"{name} of shape {vector.shape}, expected ({expected},)")
        stored = self.values if isinstance(self.values, np.ndarray) else self.values.data
        for name, array in (("values", stored), *((n, getattr(self, n)) for n in ("start", "cap", "weight", "bonus"))):
            if array is not None and array.size and not array.min() >= 0:
                raise ValueError(f"{name} must be numbers >= 0, found {array.min()}")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows to be covered, columns to pick from)."""
        rows, columns = self.values.shape
        return int(rows), int(columns)

    @cached_property
    def arrays(self) -> tuple[Any, Any, Any]:
        """The columns as the kernels want them: (data, indices, indptr)."""
        if isinstance(self.values, np.ndarray):
            return _columns(self.values), None, None
        values = self.values
        indices = np.ascontiguousarray(values.indices)
        unsigned = indices.view(np.uint32 if indices.itemsize == 4 else np.uint64)
        return np.ascontiguousarray(values.data, np.float32), unsigned, values.indptr.astype(np.uint64)

    @cached_property
    def cap32(self) -> Floats | None:
        """The caps as the kernels want them."""
        return None if self.cap is None else np.ascontiguousarray(self.cap, np.float32)

    def covered(self, capped: bool = True) -> Floats:
        """A fresh coverage vector (R,): the head start, up to the cap."""
        covered = np.zeros(self.shape[0], np.float32)
        if self.start is not None:
            covered[:] = self.start
        return np.minimum(covered, self.cap32) if capped and self.cap32 is not None else covered


def _columns(values: Floats) -> Floats:
    """The columns (C, R), one after the other; a matrix that lies row by row is turned in squares."""
    if not values.flags.c_contiguous or values.flags.f_contiguous or values.dtype != np.float32:
        return np.asarray(np.ascontiguousarray(values.T, np.float32))
    columns = np.empty(values.shape[::-1], np.float32)
    cuts = np.linspace(0, values.shape[1], cores() + 1).astype(int)
    side_by_side([partial(kernels().turn, values[:, a:b], columns[a:b]) for a, b in pairwise(cuts)])
    return columns


def full_value(problem: CoverProblem) -> float:
    """Give f of all columns."""
    covered = problem.covered()
    before = covered.astype(np.float64)
    kernels().cover_all(np.arange(problem.shape[1]), *problem.arrays, covered, problem.cap32)
    gain = covered - before
    if problem.weight is not None:
        gain *= problem.weight
    return float(gain.sum() + (0.0 if problem.bonus is None else problem.bonus.sum()))


def kernels() -> Any:
    """The compiled part, imported when it is first used."""
    from delift_core.selection import _kernels

    return _kernels
