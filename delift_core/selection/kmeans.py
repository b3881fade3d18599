"""k-means: the rows that lie nearest to the centres of as many clusters as rows are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from delift_core.selection.limits import shortfall
from delift_core.selection.turns import Whole, take_turns
from delift_core.selection.vectors import pool_vectors
from delift_core.types import Doubles, Evidence, Floats, Indices, Limit, Progress, Selection, no_progress

EXACT = 20_000_000  # rows times clusters up to which Lloyd's iterations see every row; above it, mini-batches
_ROUNDS = 100
_BLOCK = 8192  # rows whose distance is measured in one go


@dataclass(frozen=True)
class KMeansCentres:
    """The row nearest to each centre of k-means, with k clusters for a budget of k rows.

    Clusters take turns, the largest first, each its row nearest to the centre (Euclidean) that may still be picked.
    With as many clusters as rows are wanted each gives one; a budget above `clusters` goes round again.  A token budget
    is taken for as many rows as it holds rows of mean length.  The clustering depends on the budget, so the order is
    not nested.  It maximises nothing pick by pick: gains and values are 0, the share is NaN.

    scikit-learn's KMeans (k-means++, one start, Lloyd) or, above 20 million rows x clusters, MiniBatchKMeans, on the
    rows in an order that depends on the vectors alone: a pool in another order gives the same picks.
    """

    clusters: int = field(
        default=1000, metadata={"help": "most clusters; a smaller budget has one for each row", "min": 1}
    )

    name: ClassVar[str] = "kmeans"
    nested: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"vectors"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take the rows nearest to the centres.  Raises ConfigError when a vector is not finite."""
        vectors = pool_vectors(evidence)
        rows = min(limit.rows, len(vectors))
        if limit.tokens is not None and rows:
            rows = min(rows, int(limit.tokens / max(1.0, float(evidence.tokens.mean()))))
        labels, apart = clustered(vectors, min(self.clusters, max(1, rows)), seed=seed, progress=progress)
        order = [members[np.argsort(apart[members], kind="stable")] for members in members_of(labels, apart)]
        picks, _ = take_turns([Whole(queue) for queue in order], evidence.tokens, limit, progress=progress)
        note = f"{len(order)} clusters; k-means maximises nothing pick by pick, so gains and values are 0."
        zeros = np.zeros(len(picks))
        notes = (note, *shortfall(picks, evidence.tokens, limit))
        return Selection(evidence.candidates[picks], zeros, zeros.copy(), 0.0, False, notes)


def clustered(
    vectors: Floats, count: int, *, seed: int = 0, progress: Progress = no_progress
) -> tuple[Indices, Doubles]:
    """Cluster label of each of (n, d) rows, 0 to C - 1 with C <= count, and its distance to the cluster's centre.

    Labels are those of scikit-learn's k-means, without clusters that hold no row; a centre is the mean of its rows.
    Memory beside the vectors: a copy of them.
    """
    n = len(vectors)
    if not n:
        return np.zeros(0, np.int64), np.zeros(0)
    from sklearn.cluster import KMeans, MiniBatchKMeans

    progress("k-means", 0, n)
    # The seed draws rows by position; so that it draws the same rows of a pool in another order, sort by a projection.
    direction = np.random.default_rng(seed).standard_normal(vectors.shape[1])
    along = np.concatenate([vectors[a : a + _BLOCK] @ direction for a in range(0, n, _BLOCK)])
    canonical = np.argsort(along, kind="stable")
    ordered = np.ascontiguousarray(vectors[canonical], np.float32)
    count = min(count, len(np.unique(np.round(along, 9))))  # with more clusters than distinct rows, centres run away
    if n * count <= EXACT:
        model = KMeans(count, n_init=1, max_iter=_ROUNDS, random_state=seed)
    else:
        batch = max(4096, 4 * count)
        model = MiniBatchKMeans(count, n_init=1, max_iter=_ROUNDS, batch_size=batch, random_state=seed)
    model.fit(ordered)
    found = np.empty(n, np.int64)
    found[canonical] = model.labels_
    labels = np.unique(found, return_inverse=True)[1].astype(np.int64)
    centres, apart = _means(vectors, labels), np.empty(n)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        apart[part] = np.linalg.norm(vectors[part] - centres[labels[part]], axis=1)
    progress("k-means", n, n)
    return labels, apart


def _means(vectors: Floats, labels: Indices) -> Doubles:
    """The mean (C, d) of the rows of each cluster; after mini-batches the centres are not quite that."""
    from scipy import sparse

    sums, n = np.zeros((int(labels.max()) + 1, vectors.shape[1])), len(vectors)
    for start in range(0, n, _BLOCK):
        part = vectors[start : start + _BLOCK].astype(np.float64)
        places = (labels[start : start + _BLOCK], np.arange(len(part)))
        sums += sparse.csr_array((np.ones(len(part)), places), shape=(len(sums), len(part))) @ part
    means: Doubles = sums / np.bincount(labels)[:, None]
    return means


def members_of(labels: Indices, apart: Doubles) -> list[Indices]:
    """Positions (in the pool) of the rows of each cluster, ascending; the largest cluster first, then the tightest."""
    order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
    members: list[Indices] = np.split(order, np.cumsum(sizes)[:-1]) if len(labels) else []
    nearest = np.array([apart[each].min() for each in members])
    return [members[c] for c in np.lexsort((nearest, -sizes))]
