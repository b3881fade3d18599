"""One k-nearest-neighbour graph for every use: the map, near-duplicates, pair plans."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import ConfigError
from delift_core.types import BlockStore, Floats, Indices, Progress, block_key, no_progress

EXACT_BELOW = 20_000  # rows; above it, approximate neighbours by NN-descent
KEPT = 32  # neighbours of a row that a kept graph holds, so that smaller ones are its first columns
VERSION = 1  # of a kept graph; raise when it would come out differently
_BLOCK = 1024  # rows of the similarity matrix held at a time
_ROUNDING = 1e-6  # of a squared distance between unit vectors of float32


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
    found, distances = _without_self(found.astype(np.int64), distances.astype(np.float32))
    if len(short := np.flatnonzero((found < 0).any(axis=1))):  # the search has found fewer than it should
        found[short], distances[short] = _among_all(vectors, short, k)
    progress("neighbours", n, n)
    return found, distances


def kept_graph(
    vectors: Floats,
    k: int,
    store: BlockStore,
    *,
    exact_below: int = EXACT_BELOW,
    progress: Progress = no_progress,
) -> tuple[Indices, Floats]:
    """`graph`, computed once for a set of vectors and kept as one block of the store, whoever asks first.

    The key is the vectors' content.  A block holds `KEPT` neighbours of each row (the next power of two above that
    where k is larger), so every k up to it reads the same one.  The approximate search has a seed of its own: the graph
    belongs to the vectors, not to a run.

    Args:
        vectors: (n, d) rows, as in `graph`.
        k: neighbours per row; cut to n - 1.
        store: where the graph is kept; 8 bytes a neighbour.
        exact_below: as in `graph`.
        progress: stage "neighbours", in rows; not called where the graph is there already.

    Returns:
        Indices (n, min(k, n - 1)) and Euclidean distances of the same shape, nearest first.
    """
    n = len(vectors)
    if min(k, n - 1) < 1:
        return graph(vectors, k)
    held = KEPT if k <= KEPT else 1 << (k - 1).bit_length()
    digest = hashlib.sha256(np.ascontiguousarray(vectors, dtype=np.float32).data)
    key = block_key(
        "knn", vectors=digest.hexdigest(), shape=list(vectors.shape), k=held, exact=n < exact_below, version=VERSION
    )
    block = store.get(key)
    if block is None:
        indices, distances = graph(vectors, held, exact_below=exact_below, progress=progress)
        block = {"indices": indices.astype(np.int32), "distances": distances}
        store.put(key, block)
    return block["indices"][:, :k].astype(np.int64), block["distances"][:, :k]


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


def near_copies(vectors: Floats, indices: Indices, distances: Floats, threshold: float) -> Indices:
    """Sets of near-duplicates: the rows that are about as good as copies of one another.

    In row order, each row that is in no set yet opens one and takes in every later free row whose cosine with it is at
    least the threshold [leader clustering, Hartigan 1975].  So every row is that much like the first of its set, and
    no two first rows are: whoever keeps the first ones alone keeps no near-duplicates and loses nothing else.  Sets do
    not chain, as connected components would; still, two rows of a set that are not its first may have a cosine as low
    as 2 threshold^2 - 1.  Where likeness has no clear edge, another order of the rows may draw the borders otherwise.

    Args:
        vectors: (n, d) unit rows.
        indices: (n, k) nearest other rows from `graph`, by position.
        distances: (n, k) their Euclidean distances.
        threshold: least cosine, in (0, 1].

    Returns:
        (n,) the position of the first row of each row's set; its own where it has no near-duplicate or is the first.
        Sets may be larger than k: rows whose whole list is near are compared with all other such rows.  Where the graph
        is approximate, a pair that it has missed is missed here.

    Raises ConfigError for a threshold outside (0, 1].
    """
    from scipy import sparse

    if not 0 < threshold <= 1:
        raise ConfigError(f"The threshold of near-copies is a cosine above 0 and at most 1, not {threshold}. Try 0.95.")
    n, k = indices.shape
    near = np.square(distances) <= 2 - 2 * threshold + _ROUNDING  # (n, k)
    rows, columns = np.repeat(np.arange(n), near.sum(axis=1)), indices[near]
    links = sparse.csr_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(n, n))
    links = (links + links.T).tocsr()  # a list may name a row whose own list was full
    full: NDArray[np.bool_] = near.all(axis=1) & (0 < k < n - 1)  # (n,) rows that may have more than they list
    open_ended = np.flatnonzero(full)
    codes, free = np.arange(n, dtype=np.int64), np.ones(n, np.bool_)
    for row in np.flatnonzero(np.diff(links.indptr)):
        if not free[row]:
            continue
        members = links.indices[links.indptr[row] : links.indptr[row + 1]]
        if full[row]:
            open_ended = open_ended[free[open_ended]]
            members = np.union1d(members, open_ended[_alike(vectors[open_ended], vectors[row], threshold)])
        members = members[free[members] & (members > row)]
        codes[members] = row
        free[members] = False
        free[row] = False
    return codes


def _alike(vectors: Floats, row: Floats, threshold: float) -> NDArray[np.bool_]:
    """(m,) whether the cosine of each unit row with this one reaches the threshold, as `near_copies` measures it."""
    found: NDArray[np.bool_] = vectors @ row >= threshold - _ROUNDING / 2
    return found


def _among_all(vectors: Floats, rows: Indices, k: int) -> tuple[Indices, Floats]:
    """The k nearest other rows of some rows, exactly, nearest first: (m, k) each."""
    found, distances = nearest(vectors[rows], vectors, k + 1)
    own: NDArray[np.bool_] = np.equal(found, rows[:, None])
    own[~own.any(axis=1), -1] = True  # behind more than k copies of itself
    return found[~own].reshape(-1, k), distances[~own].reshape(-1, k)


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
