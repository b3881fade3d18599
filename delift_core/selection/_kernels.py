# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The compiled part of the facility-location solver: coverage, gains and a heap of stale bounds.

One source serves dense and sparse columns.  `data` is (C, R), one contiguous row per column, with `indices` and
`indptr` None; or (nnz,) in compressed sparse column form.  Branches on the form and on arguments that are None are
decided when a kernel is compiled.  `indices` and `indptr` are unsigned: with signed ones every access asks whether the
index counts from the end, and the loop is not vectorised (17 times slower).  Values are float32, sums float64.

Every function that another one calls stands in this file, because a cached kernel does not notice a change elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

# Reordering a sum lets it use vector units; NaN and infinity keep their meaning (an absent cap is infinite).
FAST = {"reassoc", "nsz"}


def compiled(function: F) -> F:
    """Compile with an on-disk cache, or without one where no cache folder can be written."""
    try:
        return cast("F", numba.njit(cache=True, nogil=True, fastmath=FAST)(function))
    except RuntimeError:  # numba: "no locator available": package and home folder are both read-only
        return cast("F", numba.njit(nogil=True, fastmath=FAST)(function))


@compiled
def column_gain(j, data, indices, indptr, covered, cap, weight):
    """What column j would add to the rows' coverage, without its bonus."""
    total = 0.0
    if data.ndim == 2:
        column = data[j]
        for i in range(column.shape[0]):
            v = column[i]
            if cap is not None:
                v = min(v, cap[i])
            d = v - covered[i]
            if weight is not None:
                g = np.float64(d) * weight[i]
                total += g if d > 0 else 0.0
            else:
                total += np.float64(d) if d > 0 else 0.0
    else:
        for p in range(indptr[j], indptr[j + 1]):
            i = indices[p]
            v = data[p]
            if cap is not None:
                v = min(v, cap[i])
            d = v - covered[i]
            if weight is not None:
                g = np.float64(d) * weight[i]
                total += g if d > 0 else 0.0
            else:
                total += np.float64(d) if d > 0 else 0.0
    return total


@compiled
def all_gains(columns, data, indices, indptr, covered, cap, weight, out):
    """Write the gain of each of the given columns to `out` (C,)."""
    for j in columns:
        out[j] = column_gain(j, data, indices, indptr, covered, cap, weight)


@compiled
def cover(j, data, indices, indptr, covered, cap):
    """Take column j: raise `covered` (R,) to its values, up to the cap."""
    if data.ndim == 2:
        column = data[j]
        for i in range(column.shape[0]):
            v = column[i]
            if cap is not None:
                v = min(v, cap[i])
            covered[i] = max(covered[i], v)
    else:
        for p in range(indptr[j], indptr[j + 1]):
            i = indices[p]
            v = data[p]
            if cap is not None:
                v = min(v, cap[i])
            if v > covered[i]:
                covered[i] = v


@compiled
def cover_all(columns, data, indices, indptr, covered, cap):
    """Take every one of the given columns."""
    for j in columns:
        cover(j, data, indices, indptr, covered, cap)


@compiled
def _sink(heap, live, key, j):
    """Put j at the top of the heap and let it sink to its place: larger keys first, ties to the lower index."""
    i = 0
    while True:
        c = 2 * i + 1
        if c >= live:
            break
        if c + 1 < live:
            a = heap[c]
            b = heap[c + 1]
            if key[b] > key[a] or (key[b] == key[a] and b < a):
                c += 1
        a = heap[c]
        if key[a] > key[j] or (key[a] == key[j] and a < j):
            heap[i] = a
            i = c
        else:
            break
    heap[i] = j


@compiled
def advance(
    data,
    indices,
    indptr,
    covered,
    cap,
    weight,
    bonus,
    size,
    rate,
    heap,
    key,
    stamp,
    picks,
    gains,
    state,
    until,
    positive,
):
    """Go on picking until `until` picks are taken, nothing fits, or (with `positive`) nothing gains any more.

    Lazy greedy: the heap is ordered by bounds from earlier rounds.  Gains never increase, so a column that stays on
    top after its gain was computed anew is the best one.  `bonus`, `size` and `rate` (C,) are the modular gain, the
    tokens a column takes and what its gain is divided by.  `state` (3,) holds the live part of the heap, the picks
    taken and the tokens left, and carries the search from one call to the next.
    """
    live = state[0]
    taken = state[1]
    room = state[2]
    while taken < until and live > 0:
        j = heap[0]
        fits = size[j] <= room
        if fits and stamp[j] != taken:
            gains[j] = column_gain(j, data, indices, indptr, covered, cap, weight) + bonus[j]
            key[j] = gains[j] / rate[j]
            stamp[j] = taken
            _sink(heap, live, key, j)
            continue
        if fits and positive and gains[j] <= 0:
            break
        live -= 1
        if live > 0:
            _sink(heap, live, key, heap[live])
        if fits:
            cover(j, data, indices, indptr, covered, cap)
            picks[taken] = j
            taken += 1
            room -= size[j]
    state[0] = live
    state[1] = taken
    state[2] = room
