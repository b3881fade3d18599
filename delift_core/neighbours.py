"""One k-nearest-neighbour graph for every use: the map, near-duplicates, pair plans."""

from __future__ import annotations

import numpy as np

from delift_core.types import Floats, Indices, Progress, no_progress

EXACT_BELOW = 20_000  # rows; above it, approximate neighbours by NN-descent
_BLOCK = 1024  # rows of the similarity matrix held at a time


def graph(
    vectors: Floats, k: int, *, seed: int = 0, exact_below: int = EXACT_BELOW, progress: Progress = no_progress
) -> tuple[Indices, Floats]:
    """The k nearest other rows of each row, nearest first; a row is never its own neighbour.

    Args:
        vectors: (n, d) rows; Euclidean distance is used, which on unit rows orders like the cosine.
        k: neighbours per row; cut to n - 1.
        seed: for the approximate search only.
        exact_below: fewer rows than this are compared with all others, block by block; more go to NN-descent
            [Dong, Charikar and Li, WWW 2011; pynndescent].
        progress: called once per block, in rows.

    Returns:
        Indices (n, min(k, n - 1)) and Euclidean distances of the same shape.  Equal distances: the lower index first.
    """
    n = len(vectors)
    k = min(k, n - 1)
    if k < 1:
        return np.empty((n, 0), np.int64), np.empty((n, 0), np.float32)
    if n < exact_below:
        return nearest(vectors, vectors, k, skip_self=True, progress=progress)
    from pynndescent import NNDescent

    progress("neighbours", 0, n)
    index = NNDescent(np.ascontiguousarray(vectors, dtype=np.float32), n_neighbors=k + 1, random_state=seed)
    found, distances = index.neighbor_graph
    progress("neighbours", n, n)
    return _without_self(found.astype(np.int64), distances.astype(np.float32))


def nearest(
    queries: Floats, base: Floats, k: int, *, skip_self: bool = False, progress: Progress = no_progress
) -> tuple[Indices, Floats]:
    """The k rows of `base` (n, d) that are nearest to each row of `queries` (m, d), exactly, nearest first.

    With `skip_self`, queries are the base itself and each row leaves out its own index.
    """
    m, n = len(queries), len(base)
    k = min(k, n - int(skip_self))
    indices, distances = np.empty((m, max(k, 0)), np.int64), np.empty((m, max(k, 0)), np.float32)
    if k < 1:
        return indices, distances
    squares = np.einsum("nd,nd->n", base, base)  # (n,)
    for start in range(0, m, _BLOCK):
        part = queries[start : start + _BLOCK]
        rows = np.arange(len(part))
        apart = squares[None, :] - 2 * (part @ base.T)  # (b, n) squared distance less the query's own square
        if skip_self:
            apart[rows, start + rows] = np.inf
        near = np.sort(np.argpartition(apart, k - 1, axis=1)[:, :k], axis=1)  # ascending index, so ties keep the lower
        # The matrix product loses digits where rows are nearly equal; the few that count are measured again.
        exact = np.linalg.norm(part[:, None, :] - base[near], axis=2)  # (b, k)
        order = np.argsort(exact, axis=1, kind="stable")
        indices[start : start + len(part)] = np.take_along_axis(near, order, axis=1)
        distances[start : start + len(part)] = np.take_along_axis(exact, order, axis=1)
        progress("neighbours", start + len(part), m)
    return indices, distances


def _without_self(found: Indices, distances: Floats) -> tuple[Indices, Floats]:
    """Drop each row's own index from (n, k + 1) lists; where it is absent, the farthest goes instead."""
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True
    # Exactly one entry leaves per row, or the result would not be rectangular.
    own &= np.cumsum(own, axis=1) == 1
    shape = (len(found), found.shape[1] - 1)
    return found[~own].reshape(shape), distances[~own].reshape(shape)


def farthest_first(vectors: Floats, count: int, seed: int) -> Indices:
    """`count` rows of (n, d), each as far from those before it as possible; a random one first.  Gonzalez 1985."""
    first = int(np.random.default_rng(seed).integers(len(vectors)))
    chosen, gap = [first], np.linalg.norm(vectors - vectors[first], axis=1)
    while len(chosen) < count:
        chosen.append(int(gap.argmax()))
        gap = np.minimum(gap, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
    return np.array(chosen, np.int64)
