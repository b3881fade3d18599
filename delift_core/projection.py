"""The map: rows as points in a plane, close together where their vectors are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delift_core.neighbours import KEPT, kept_graph, nearest
from delift_core.types import BlockStore, Floats, Indices, MemoryStore, Progress, no_progress

NEIGHBOURS = 15
MIN_DISTANCE = 0.25  # between points of the map, in its own unit; 0.1 (the usual) stacks the rows of one task
FIT_AT_MOST = 200_000  # rows; more than that are fitted on a sample, the rest is placed among its neighbours
PLACED_BY = 5  # fitted neighbours that say where a row belongs which was not in the sample
_TOO_FEW = 16  # rows; a neighbour graph says nothing below this, principal axes do


def project(
    vectors: Floats,
    *,
    extra: Sequence[Floats] = (),
    seed: int = 0,
    store: BlockStore | None = None,
    fit_at_most: int = FIT_AT_MOST,
    progress: Progress = no_progress,
) -> list[Floats]:
    """Place rows, and further sets of rows, in one plane by UMAP [McInnes, Healy and Melville, arXiv 1802.03426].

    The further sets take part in the fit, so that rows unlike anything in `vectors` form islands of their own
    instead of being drawn into the nearest group.  The same input and seed give the same map.

    UMAP gets its neighbours from `neighbours.kept_graph`, the one that pair plans and near-duplicates read, as arrays.
    It has no search index then and could not transform new rows, which is why further sets take part in the fit and
    rows beyond a sample are placed here.

    Args:
        vectors: (n, d) rows, in practice unit vectors of a sentence encoder.
        extra: further (m, d) sets to place in the same map (target rows, existing rows).
        seed: of the sample and the layout.
        store: where the neighbour graph of `vectors` is kept; None: nowhere.
        fit_at_most: above this many rows in total, a sample is fitted and every other row is put at the weighted
            mean of its nearest fitted rows, among its neighbours in the graph where it has such.
        progress: stages "neighbours" (rows) and "map" (parts).

    Returns:
        One (rows, 2) float32 array per set, `vectors` first; empty sets give empty arrays.
    """
    sets = [np.ascontiguousarray(s, dtype=np.float32) for s in (vectors, *extra)]
    cuts = np.cumsum([len(s) for s in sets])
    rows = np.concatenate(sets)  # (N, d)
    total, n = len(rows), len(sets[0])
    store = MemoryStore() if store is None else store
    if total < _TOO_FEW:
        placed = _principal_axes(rows)
    elif total <= fit_at_most:
        knn = kept_graph(sets[0], NEIGHBOURS - 1, store, progress=progress)
        placed = _umap(rows, _with_extra(sets[0], rows[n:], knn), seed, progress)
    else:
        chosen = np.sort(np.random.default_rng(seed).choice(total, fit_at_most, replace=False))
        fitted = _umap(rows[chosen], kept_graph(rows[chosen], NEIGHBOURS - 1, store, progress=progress), seed, progress)
        placed = _among_neighbours(rows, chosen, fitted, kept_graph(sets[0], KEPT, store, progress=progress), progress)
    return np.split(placed.astype(np.float32), cuts[:-1])


def _umap(rows: Floats, knn: tuple[Indices, Floats], seed: int, progress: Progress) -> Floats:
    """Lay out rows (N, d) by their neighbour graph (N, k), which leaves out the row itself."""
    import warnings

    from umap import UMAP

    progress("map", 0, 1)
    k = knn[0].shape[1] + 1  # UMAP counts the row itself as its first neighbour, and takes as many as it is given
    indices = np.column_stack([np.arange(len(rows)), knn[0]]).astype(np.int32)
    distances = np.column_stack([np.zeros(len(rows), np.float32), knn[1]]).astype(np.float32)
    with warnings.catch_warnings():
        # It warns that no search index came (nothing is transformed) and that a seed means one thread (wanted).
        warnings.filterwarnings("ignore", message="precomputed_knn|n_jobs value")
        near = (indices, distances, None)
        model = UMAP(n_neighbors=k, min_dist=MIN_DISTANCE, random_state=seed, n_jobs=1, precomputed_knn=near)
        placed: Floats = np.asarray(model.fit_transform(rows), dtype=np.float32)
    # A row with no connection at all comes back as NaN; it goes to the middle rather than off the map.
    lost = ~np.isfinite(placed).all(axis=1)
    placed[lost] = placed[~lost].mean(axis=0) if not lost.all() else 0.0
    progress("map", 1, 1)
    return placed


def _with_extra(vectors: Floats, extra: Floats, knn: tuple[Indices, Floats]) -> tuple[Indices, Floats]:
    """Widen the graph of `vectors` (n, k) to vectors and extra rows together (n + m, k), exactly in the new part."""
    n, m = len(vectors), len(extra)
    if not m:
        return knn
    k = min(NEIGHBOURS - 1, n + m - 1)
    indices, distances = nearest(vectors, extra, min(k, m))
    old = _nearest_of(np.hstack([knn[0], indices + n]), np.hstack([knn[1], distances]), k)
    to_pool, among = nearest(extra, vectors, min(k, n)), nearest(extra, extra, min(k, m - 1), skip_self=True)
    new = _nearest_of(np.hstack([to_pool[0], among[0] + n]), np.hstack([to_pool[1], among[1]]), k)
    return np.vstack([old[0], new[0]]), np.vstack([old[1], new[1]])


def _nearest_of(indices: Indices, distances: Floats, k: int) -> tuple[Indices, Floats]:
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _among_neighbours(
    rows: Floats, chosen: Indices, fitted: Floats, knn: tuple[Indices, Floats], progress: Progress
) -> Floats:
    """Place rows (N, d) of which `chosen` (c,) are fitted (c, 2); the graph is that of the first of them.

    A row goes to the mean of its five nearest fitted neighbours in the graph, the nearer counting more, or of as many
    as it has there; where it has none, and beyond the graph's rows, the nearest fitted rows are searched for.
    """
    number = np.full(len(rows), -1, np.int64)  # among the fitted rows
    number[chosen] = np.arange(len(chosen))
    placed = np.empty((len(rows), 2), np.float32)
    placed[chosen] = fitted
    rest = np.flatnonzero(number < 0)
    inside = rest[rest < len(knn[0])]
    near, apart = number[knn[0][inside]], knn[1][inside]  # (r, k)
    first = np.argsort(near < 0, axis=1, kind="stable")[:, :PLACED_BY]  # fitted ones first, nearest first
    near, apart = np.take_along_axis(near, first, axis=1), np.take_along_axis(apart, first, axis=1)
    told = (near >= 0).any(axis=1)
    placed[inside[told]] = _mean_place(near[told], apart[told], fitted)
    lost = np.concatenate([inside[~told], rest[len(inside) :]])
    placed[lost] = _mean_place(*nearest(rows[lost], rows[chosen], PLACED_BY, progress=progress), fitted)
    return placed


def _mean_place(near: Indices, apart: Floats, fitted: Floats) -> Floats:
    """Mean places (m, 2) of fitted rows `near` (m, k), the nearer counting more; -1 is nobody, and comes last."""
    known = near >= 0
    middle = (apart * known).sum(axis=1, keepdims=True) / known.sum(axis=1, keepdims=True)
    weight = np.exp(-apart / np.maximum(middle, 1e-6)) * known  # (m, k)
    weight /= weight.sum(axis=1, keepdims=True)
    placed: Floats = np.einsum("mk,mkc->mc", weight, fitted[near]).astype(np.float32)
    return placed


def _principal_axes(rows: Floats) -> Floats:
    """Coordinates (N, 2) on the two directions of largest variance; signs fixed by the largest entry."""
    placed = np.zeros((len(rows), 2), np.float32)
    if len(rows) < 2:
        return placed
    centred = rows - rows.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    axes = min(2, len(s))
    for a in range(axes):
        sign = np.sign(u[np.argmax(np.abs(u[:, a])), a]) or 1.0
        placed[:, a] = sign * u[:, a] * s[a]
    return placed
