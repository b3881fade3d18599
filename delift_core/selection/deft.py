"""DEFT-UCS: of each cluster some rows near its centre and some far from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from delift_core.selection.kmeans import clustered, members_of
from delift_core.selection.limits import shortfall
from delift_core.selection.ranked import nested_under
from delift_core.selection.turns import Whole, take_turns
from delift_core.selection.vectors import pool_vectors
from delift_core.types import Doubles, Evidence, Indices, Limit, Progress, Selection, no_progress


@dataclass(frozen=True)
class UnsupervisedCoreSet:
    """Of each k-means cluster a share `alpha` nearest to the centre, the rest farthest.  DEFT, arXiv 2310.16776.

    Every cluster gives the same number of rows, as in the paper, until it has no more: clusters take turns, the largest
    first.  The t-th row of a cluster is the nearest that is left where round(t alpha) rises, else the farthest that is
    left, so the share holds at every size and the order is nested.  alpha = 1 takes the easy rows, 0 the hard ones.

    It maximises nothing pick by pick: gains and values are 0, the share is NaN.
    """

    clusters: int = field(default=10, metadata={"help": "k-means clusters", "min": 1})
    alpha: float = field(
        default=0.5,
        metadata={"help": "share of a cluster's rows nearest to its centre; the rest are farthest", "min": 0, "max": 1},
    )

    name: ClassVar[str] = "deft-ucs"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"vectors"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take rows of all clusters in turn.  Raises ConfigError when a vector is not finite."""
        labels, apart = clustered(pool_vectors(evidence), self.clusters, seed=seed, progress=progress)
        queues = [self.queue(members, apart) for members in members_of(labels, apart)]
        picks, _ = take_turns([Whole(queue) for queue in queues], evidence.tokens, limit, progress=progress)
        note = f"{len(queues)} clusters; DEFT-UCS maximises nothing pick by pick, so gains and values are 0."
        zeros = np.zeros(len(picks))
        notes = (note, *shortfall(picks, evidence.tokens, limit))
        return Selection(evidence.candidates[picks], zeros, zeros.copy(), 0.0, nested_under(limit), notes)

    def queue(self, members: Indices, apart: Doubles) -> Indices:
        """The order in which a cluster gives its rows: positions of the pool, from those of its members."""
        near = members[np.argsort(apart[members], kind="stable")]
        steps = np.floor(np.arange(len(members) + 1) * self.alpha + 0.5).astype(np.int64)
        easy = np.diff(steps) > 0
        taken = np.cumsum(easy)
        far = near[::-1]  # the same order from its other end, so that rows at equal distances are given once
        queue: Indices = np.where(easy, near[taken - 1], far[np.arange(len(members)) - taken])
        return queue
