"""Target rows spread their mass over the rows nearest to them: evenly, or so that near-copies share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from delift_core.neighbours import nearest
from delift_core.selection.ranked import cut
from delift_core.selection.vectors import pool_and_target_vectors
from delift_core.types import Doubles, Evidence, Floats, Indices, Limit, Progress, Selection, from_pick, no_progress

COST_SCALE = 5.0  # C of the paper, as the authors' code sets it
HELD = 1 << 26  # numbers that one block of the neighbour search holds, about
_BLOCK = 2048  # rows of a block of the density
_DIGITS = 6  # to which densities are rounded, so that equal ones are equal whatever the order of the sum


@dataclass(frozen=True)
class UniformNeighbours:
    """Every target row spreads 1/m evenly over its K nearest rows.  KNN-Uniform of TSDS, arXiv 2410.11303.

    Rows are ranked by mass, equal mass by the distance to the nearest target row, then by position; so beyond the rows
    with mass it goes on by distance.  `gains` are masses (they sum to 1 over the pool, `full_value`), `value` is their
    running sum.  Distances are Euclidean.  The paper draws rows by these probabilities; a ranking needs no seed.
    """

    neighbours: int = field(default=100, metadata={"help": "nearest rows that a target row spreads over", "min": 1})

    name: ClassVar[str] = "knn-uniform"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"vectors", "target_vectors"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take the rows of most mass.  Raises ConfigError for an empty target or a vector that is not finite."""
        vectors, target = pool_and_target_vectors(evidence)
        near, _ = _neighbours(target, vectors, self.neighbours, progress)
        mass = np.bincount(near.ravel(), minlength=len(vectors)) / max(1, near.size)
        return _by_mass(evidence, mass, limit, (), progress)


@dataclass(frozen=True)
class TaskSpecificSelection:
    r"""Transport of the target's mass to near rows, spread out, where near-copies share.  TSDS, arXiv 2410.11303.

    With d_jl the distance of target row j to its l-th nearest row, and rho_i = 1 + sum of max(0, 1 - d(i, h)^2 /
    sigma^2) over the other rows h that are near a target row (a kernel density: in how many copies row i is there),
    the mass p_ji that target row j gives to row i solves

        min  alpha / C  sum_ji p_ji d_ji  +  (1 - alpha) m max_ji rho_i p_ji      with sum_i p_ji = 1/m

    (up to constants the paper's KNN-KDE).  Its solution fills the nearest rows up to 1 / (m s rho_i) each, the next one
    with what is left.  s, in rows of density 1, is the same for all target rows: the smallest for which the sum of
    alpha / C (d_j,l+1 - d_jl) c_jl over all c_jl = sum_{h <= l} 1 / rho_jh up to s reaches (1 - alpha) m.  Where the K
    neighbours of a target row are together worth less than s, it spreads over all of them in proportion to 1 / rho.

    Distances are Euclidean, in units of the median of all d_jl, so that the options mean the same with every encoder.
    (The authors' sigma is 0.75, in the units of their embeddings.  With a wide one the rows of a dense task all count
    as copies of each other, and by mass they stand behind rows of other tasks.)

    Rows are ranked by mass sum_j p_ji, equal mass by the distance to the nearest target row, then by position; so
    beyond the rows with mass it goes on by distance.  `gains` are masses (they sum to 1 over the pool, `full_value`),
    `value` is their running sum.  The paper draws rows by these probabilities; a ranking needs no seed.

    The density costs O(u^2 d) for the u <= m K rows that are near a target row.
    """

    neighbours: int = field(
        default=100, metadata={"help": "nearest rows that a target row may spread over, at most", "min": 1}
    )
    alpha: float = field(
        default=0.5, metadata={"help": "nearness against spread: 1 takes the nearest row alone", "min": 0, "max": 1}
    )
    sigma: float = field(
        default=0.3,
        metadata={"help": "share of the median distance below which rows share as near-copies; 0: none do", "min": 0},
    )

    name: ClassVar[str] = "tsds"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"vectors", "target_vectors"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take the rows of most mass.  Raises ConfigError for an empty target or a vector that is not finite."""
        vectors, target = pool_and_target_vectors(evidence)
        near, found = _neighbours(target, vectors, self.neighbours, progress)
        apart = found.astype(np.float64)
        rows, places = np.unique(near, return_inverse=True)
        unit = float(np.median(apart)) or 1.0 if apart.size else 1.0
        rho = density(vectors[rows], self.sigma * unit, progress)[places.reshape(near.shape)]
        p, s = spread(apart / unit, rho, self.alpha)
        mass = np.bincount(near.ravel(), p.ravel(), len(vectors)).astype(np.float64)
        note = f"Each target row spreads over neighbours worth {s:.3g} rows; a near-copy counts as a part of one."
        return _by_mass(evidence, mass, limit, (note,), progress)


def density(vectors: Floats, sigma: float, progress: Progress = no_progress) -> Doubles:
    """Kernel density (u,) of each of (u, d) rows: 1 + sum over the others of max(0, 1 - |x_i - x_h|^2 / sigma^2)."""
    total, n = np.zeros(len(vectors)), len(vectors)
    if sigma == 0:
        return total + 1
    squares = np.einsum("nd,nd->n", vectors, vectors)
    for a in range(0, n, _BLOCK):
        for b in range(a, n, _BLOCK):
            apart = squares[a : a + _BLOCK, None] + squares[b : b + _BLOCK]
            apart -= 2 * (vectors[a : a + _BLOCK] @ vectors[b : b + _BLOCK].T)
            kernel = np.clip(1 - apart / np.float32(sigma**2), 0, 1)
            if a == b:
                np.fill_diagonal(kernel, 0)
            else:
                total[b : b + _BLOCK] += kernel.sum(axis=0, dtype=np.float64)
            total[a : a + _BLOCK] += kernel.sum(axis=1, dtype=np.float64)
        progress("density", min(a + _BLOCK, n), n)
    return np.round(1 + total, _DIGITS)


def spread(apart: Doubles, rho: Doubles, alpha: float) -> tuple[Doubles, float]:
    """Masses p (m, K) of the neighbours of each target row, nearest first, and s; see `TaskSpecificSelection`.

    Args:
        apart: (m, K) distances, ascending along each row.
        rho: (m, K) densities, >= 1.
        alpha: nearness against spread, in [0, 1].
    """
    m, count = apart.shape
    if not count:
        return np.zeros((m, 0)), 0.0
    weight = 1 / rho
    reach = np.cumsum(weight, axis=1)  # (m, K) c_jl
    steps = (np.diff(apart, axis=1) * reach[:, :-1]).ravel()
    order = np.argsort(reach[:, :-1].ravel(), kind="stable")
    price = alpha / COST_SCALE * np.cumsum(steps[order])
    enough = np.flatnonzero(price >= (1 - alpha) * m)
    s = float(reach[:, :-1].ravel()[order[enough[0]]]) if len(enough) else float(reach.max())
    own = np.minimum(s, reach[:, -1:])  # a target row with fewer neighbours spreads over all it has
    before = reach - weight
    return np.clip(own - before, 0, weight) / (own * m), s


def _neighbours(target: Floats, vectors: Floats, k: int, progress: Progress) -> tuple[Indices, Floats]:
    """The k nearest rows of the pool to each target row; few target rows at a time, as a block holds all the pool."""
    k = min(k, len(vectors))
    step = max(1, HELD // max(1, 3 * len(vectors) + k * vectors.shape[1]))
    near, apart = np.empty((len(target), k), np.int64), np.empty((len(target), k), np.float32)
    for start in range(0, len(target), step):
        part = slice(start, start + step)
        near[part], apart[part] = nearest(target[part], vectors, k)
        progress("neighbours", min(start + step, len(target)), len(target))
    return near, apart


def _by_mass(evidence: Evidence, mass: Doubles, limit: Limit, notes: tuple[str, ...], progress: Progress) -> Selection:
    """Rank by mass, then by distance to the nearest target row, then by position."""
    vectors, target = pool_and_target_vectors(evidence)
    _, apart = nearest(vectors, target, 1, progress=progress)
    ranking = np.lexsort((apart[:, 0], -mass)).astype(np.int64)
    found = cut(evidence, ranking, mass, limit, full=float(mass.sum()), notes=notes)
    empty = np.flatnonzero(found.gains == 0)
    if len(empty):
        told = from_pick(empty[0] + 1, "no neighbour of a target row, taken by distance; raise neighbours.")
        found = replace(found, notes=(*found.notes, told))
    progress("select", len(found), len(found))
    return found
