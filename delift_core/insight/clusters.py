"""Groups of rows that lie together, for ordering and colouring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from delift_core.types import Doubles, Floats, Indices

if TYPE_CHECKING:
    from scipy import sparse

_ROUNDS = 25
_FIT_AT_MOST = 20_000  # points; the centres of more are found on a sample


def cluster(points: Floats, count: int = 10, *, seed: int = 0) -> Indices:
    """Label each of (n, d) points with one of at most `count` clusters: k-means from farthest-first centres.

    Labels follow the clusters' places along the points' main direction, so neighbouring labels lie close together.
    The same input and seed give the same labels.  Fewer distinct points than `count` give fewer labels.  Beyond 20,000
    points the centres come from a seeded sample of so many.
    """
    n = len(points)
    if n == 0:
        return np.empty(0, np.int64)
    every = np.asarray(points, dtype=np.float64)
    data = every
    if n > _FIT_AT_MOST:
        data = every[np.sort(np.random.default_rng(seed).choice(n, _FIT_AT_MOST, replace=False))]
    centres = _farthest_first(data, min(count, n), seed)
    labels = _nearest(data, centres)
    for _ in range(_ROUNDS):
        sizes = np.bincount(labels, minlength=len(centres))
        sums = np.stack([np.bincount(labels, data[:, c], len(centres)) for c in range(data.shape[1])], axis=1)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        moved = _nearest(data, centres)
        if (moved == labels).all():
            break
        labels = moved
    used, labels = np.unique(labels if data is every else _nearest(every, centres), return_inverse=True)
    along = _main_axis(data, centres[used])
    place = np.empty(len(used), np.int64)
    place[np.argsort(along, kind="stable")] = np.arange(len(used))
    found: Indices = place[labels].astype(np.int64)
    return found


def profiles(values: Floats | sparse.sparray, width: int = 8, *, seed: int = 0) -> Floats:
    """A short profile (R, width) of each row of a utility (R, C), dense or sparse: a random projection, gaps as 0.

    Distances between rows survive approximately [Johnson and Lindenstrauss 1984], so that rows which the same
    candidates help come to lie together.  Use the transpose for candidates.
    """
    directions = np.random.default_rng(seed).standard_normal((values.shape[1], width)).astype(np.float32)
    if not isinstance(values, np.ndarray):
        return np.asarray(values @ directions, np.float32) / np.float32(np.sqrt(max(1, width)))
    out = np.empty((values.shape[0], width), np.float32)
    for start in range(0, len(out), 1024):
        part = np.nan_to_num(np.asarray(values[start : start + 1024], dtype=np.float32))
        out[start : start + 1024] = part @ directions
    return out / np.float32(np.sqrt(max(1, width)))


def by_cluster_then_rank(labels: Indices, rank: Indices) -> Indices:
    """An order of the rows: by cluster, and in each cluster by pick; rows that were never picked (rank < 0) last."""
    late = np.where(rank < 0, np.iinfo(np.int64).max, rank)
    return np.lexsort((np.arange(len(labels)), late, labels)).astype(np.int64)


def _farthest_first(data: Doubles, count: int, seed: int) -> Doubles:
    centres = [data[np.random.default_rng(seed).integers(len(data))]]
    apart = ((data - centres[0]) ** 2).sum(axis=1)
    while len(centres) < count and apart.max() > 0:
        centres.append(data[int(apart.argmax())])
        apart = np.minimum(apart, ((data - centres[-1]) ** 2).sum(axis=1))
    return np.stack(centres)


def _nearest(data: Doubles, centres: Doubles) -> Indices:
    apart = (centres**2).sum(axis=1)[None, :] - 2 * (data @ centres.T)  # (n, count), less each point's own square
    nearest: Indices = apart.argmin(axis=1)
    return nearest


def _main_axis(data: Doubles, centres: Doubles) -> Doubles:
    """Where centres (c, d) lie along the direction in which the data varies most; its sign is fixed."""
    middle = data.mean(axis=0)
    axis = np.linalg.eigh(np.atleast_2d(np.cov(data, rowvar=False, bias=True)))[1][:, -1]
    axis = axis * (np.sign(axis[np.abs(axis).argmax()]) or 1.0)
    along: Doubles = (centres - middle) @ axis
    return along
