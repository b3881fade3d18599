"""The domain test of GOT-D (arXiv 2405.02774, section 4): how far each group of the pool is from the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import ConfigError
from delift_core.selection import sinkhorn
from delift_core.types import Doubles, Floats, Indices, Progress, no_progress

MOST = 200  # domains; more are likely a column of ids


@dataclass(frozen=True, eq=False)
class DomainDistances:
    """OT distance of every domain of a pool to the target; arrays in the order of the codes."""

    labels: tuple[str, ...]  # (G,)
    rows: Indices  # (G,) rows of the pool in the domain
    distance: Doubles  # (G,) sum P_ij C_ij, squared distance of unit vectors; NaN where the domain has no row
    rank: Indices  # (G,) 1 for the nearest; ties to the lower code, domains without a row last

    def __len__(self) -> int:
        return len(self.labels)

    def table(self) -> list[tuple[str, int, float, int]]:
        """(label, rows, distance, rank) of each domain, nearest first."""
        return [
            (self.labels[g], int(self.rows[g]), float(self.distance[g]), int(self.rank[g]))
            for g in np.argsort(self.rank)
        ]


def domain_distances(
    vectors: Floats,
    target: Floats,
    codes: Indices,
    labels: Sequence[str],
    *,
    epsilon: float = 0.05,
    sample: int = 2_000,
    tolerance: float = 1e-3,
    iterations: int = 1000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> DomainDistances:
    """OT distance of each domain's rows to the target.

    A domain of more than `sample` rows is solved on so many of them, drawn with the seed and its code.  All domains are
    solved with one epsilon, that share of the mean cost between pool and target, so that their distances compare.

    Args:
        vectors: (n, d) of the pool.
        target: (m, d).
        codes: (n,) domain of each row, 0 to G - 1.
        labels: (G,) names of the domains.
        epsilon: entropic regularisation, as a share of the mean cost.
        sample: most rows of a domain that are solved.
        tolerance: L1 marginal error to stop at.
        iterations: most iterations of each solve.
        seed: of the samples.
        progress: called once a domain.

    Raises ConfigError for more than 200 domains, no pool row, no target row or a vector that is not finite; ValueError
    when shapes or codes disagree.
    """
    groups, n = len(labels), len(vectors)
    if groups > MOST:
        raise ConfigError(
            f"The domain test takes at most {MOST} domains, and the column has {groups} values. "
            "Choose a column with fewer values, such as the task or the source."
        )
    if codes.shape != (n,) or vectors.shape[1] != target.shape[1]:
        raise ValueError(f"codes {codes.shape}, vectors {vectors.shape}, target {target.shape}")
    if not n or not len(target):
        raise ConfigError(f"The domain test needs rows on both sides: the pool has {n}, the target {len(target)}.")
    if codes.min() < 0 or codes.max() >= groups:
        raise ValueError(f"codes from {codes.min()} to {codes.max()} for {groups} labels")
    cost = sinkhorn.unit_of_cost(vectors, target)
    if not np.isfinite(cost):
        raise ConfigError("A vector of the pool or the target holds NaN or infinity. Encode the rows again.")
    distance = np.full(groups, np.nan)
    for code in range(groups):
        progress("domains", code, groups, labels[code])
        members = np.flatnonzero(codes == code)
        if len(members) > sample:
            members = np.sort(np.random.default_rng([seed, code]).choice(members, sample, replace=False))
        if len(members):
            distance[code] = sinkhorn.solve(
                np.asarray(vectors[members], np.float32), target,
                epsilon=epsilon * cost, tolerance=tolerance, iterations=iterations,
            ).distance  # fmt: skip
    progress("domains", groups, groups)
    rank = np.empty(groups, np.int64)
    rank[np.argsort(distance, kind="stable")] = np.arange(1, groups + 1)  # NaN sorts last
    return DomainDistances(tuple(labels), np.bincount(codes, minlength=groups), distance, rank)


def nearest(distances: DomainDistances, codes: Indices, count: int) -> NDArray[np.bool_]:
    """Which rows (n,) stand outside the `count` domains nearest to the target, as a mask for `Rules.banned`.

    0 stands for all domains: nothing is banned.  Raises ConfigError when count is negative or more than the domains
    that have rows.
    """
    filled = int((distances.rows > 0).sum())
    if not 0 <= count <= filled:
        raise ConfigError(
            f"nearest_domains is {count}, and the pool has rows in {filled} domains. "
            f"Give a number from 1 to {filled}, or 0 for all of them."
        )
    if not count:
        return np.zeros(len(codes), np.bool_)
    return np.asarray(distances.rank[codes] > count)
