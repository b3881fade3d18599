# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The compiled part of selection: coverage, gains, what rules allow, and the three ways to go on picking.

One source serves dense and sparse columns.  `data` is (C, R), one contiguous row per column, with `indices` and
`indptr` None; or (nnz,) in compressed sparse column form.  Branches on the form and on arguments that are None are
decided when a kernel is compiled.  `indices` and `indptr` are unsigned: with signed ones every access asks whether the
index counts from the end, and the loop is not vectorised (17 times slower).  Values are float32, sums float64.

Every function that another one calls stands in this file, because a cached kernel does not notice a change elsewhere.
So does the rule book, which all three ways (`advance`, `advance_sampled`, `walk`) follow.

Reading dense columns again and again is what a search takes its time for, so `rest` holds of each column the entries
that still add to the coverage, once they are few.  Coverage never falls, so an entry that is left out stays out.

`state` (4,) carries a search from one call to the next: the live columns, the picks taken, the tokens left and the
parked columns.  `heap` (C,) holds the live columns in front, and behind them the parked ones: those that may be taken
only when no room is kept for minimums any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from delift_core.types import Indices

F = TypeVar("F", bound=Callable[..., Any])

# Reordering a sum lets it use vector units; NaN and infinity keep their meaning (an absent cap is infinite).
FAST = {"reassoc", "nsz"}

FREE, LATER, OUT = 0, 1, 2  # what the rules say of a column: take it, not while room is kept, never
DONE, NOTHING_GAINS, LIFTED = 0, 1, 2  # why a call came back
FEW = 8  # a column's rest is kept apart once it is at most this part of its rows


class Ruling(NamedTuple):
    """The rules of a search as arrays, and how they stand.  Empty arrays where there is no such rule.

    `left` counts the sets of near-duplicates (or the columns, without such sets) of which a group may still get a row.
    """

    code: Indices  # (C,) set of near-duplicates of each column
    used: NDArray[np.bool_]  # (K,) sets of which a row is taken
    first: Indices  # (K + 1,) where each set begins in `groups`
    groups: Indices  # the groups that each set has live columns in; only kept when there are minimums
    group: Indices  # (C,)
    held: Indices  # (G,) picks of each group
    least: Indices  # (G,)
    most: Indices  # (G,)
    left: Indices  # (G,)
    unmet: Indices  # (1,) picks that the minimums still ask for, as far as there are rows for them


class Rest(NamedTuple):
    """What is left of dense columns above the coverage.  Empty arrays for sparse ones, which are short as they are."""

    where: NDArray[np.uint32]  # (C * (R // FEW),) rows; each column has its own place
    value: NDArray[np.float32]  # as many
    begin: Indices  # (C,) where a column's rest begins; -1: not kept apart yet
    length: Indices  # (C,)
    due: Indices  # (C,) picks from which on it is worth looking again what is left


def compiled(function: F) -> F:
    """Compile with an on-disk cache, or without one where no cache folder can be written."""
    try:
        return cast("F", numba.njit(cache=True, nogil=True, fastmath=FAST)(function))
    except RuntimeError:  # numba: "no locator available": package and home folder are both read-only
        return cast("F", numba.njit(nogil=True, fastmath=FAST)(function))


@compiled
def turn(values, columns):
    """Write `values` (R, C), row by row in memory, to `columns` (C, R), in squares that fit the cache."""
    square = 32
    for i in range(0, values.shape[0], square):
        last = min(i + square, values.shape[0])
        for j in range(0, values.shape[1], square):
            for c in range(j, min(j + square, values.shape[1])):
                for r in range(i, last):
                    columns[c, r] = values[r, c]


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
def _pack(j, data, covered, cap, rest):
    """Keep the rest of column j apart if it is short."""
    column, slot, kept = data[j], data.shape[1] // FEW, np.uint64(0)
    index, value = np.empty(column.shape[0], np.uint32), np.empty(column.shape[0], np.float32)
    for i in range(column.shape[0]):
        v = column[i]
        if cap is not None:
            v = min(v, cap[i])
        index[kept] = i
        value[kept] = v
        kept += np.uint64(v > covered[i])
    if kept <= slot:
        rest.begin[j] = j * slot
        rest.length[j] = np.int64(kept)
        rest.where[j * slot : j * slot + np.int64(kept)] = index[:kept]
        rest.value[j * slot : j * slot + np.int64(kept)] = value[:kept]


@compiled
def _shrink(j, covered, rest):
    """Drop what no longer adds to the coverage from the rest of column j."""
    b, n, kept = rest.begin[j], rest.length[j], np.uint64(0)
    index, value = rest.where[b : b + n], rest.value[b : b + n]
    for p in range(index.shape[0]):
        i = index[p]
        v = value[p]
        index[kept] = i
        value[kept] = v
        kept += np.uint64(v > covered[i])
    rest.length[j] = np.int64(kept)


@compiled
def _rest_gain(j, covered, weight, rest):
    """What column j would add, by its rest."""
    b, n = rest.begin[j], rest.length[j]
    index, value = rest.where[b : b + n], rest.value[b : b + n]
    total = 0.0
    for p in range(index.shape[0]):
        i = index[p]
        d = value[p] - covered[i]
        if weight is not None:
            g = np.float64(d) * weight[i]
            total += g if d > 0 else 0.0
        else:
            total += np.float64(d) if d > 0 else 0.0
    return total


@compiled
def gain_now(j, data, indices, indptr, covered, cap, weight, rest, taken):
    """`column_gain` by the rest of column j, which is brought up to date when it is due."""
    if data.ndim == 2:
        if taken >= rest.due[j]:
            if rest.begin[j] >= 0:
                _shrink(j, covered, rest)
            else:
                _pack(j, data, covered, cap, rest)
            rest.due[j] = max(FEW, 2 * taken)
        if rest.begin[j] >= 0:
            return _rest_gain(j, covered, weight, rest)
    return column_gain(j, data, indices, indptr, covered, cap, weight)


@compiled
def all_gains(columns, data, indices, indptr, covered, cap, weight, rest, taken, out):
    """Write the gain of each of the given columns to `out` (C,)."""
    for j in columns:
        out[j] = gain_now(j, data, indices, indptr, covered, cap, weight, rest, taken)


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
def _sink(heap, live, key, j, i):
    """Put j at place i of the heap and let it sink: larger keys first, ties to the lower index."""
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
def _standing(j, kept, ruling):
    """What the rules say of column j: FREE, LATER or OUT.  `kept`: only unmet minimums may be filled now."""
    if ruling.code.shape[0] > 0 and ruling.used[ruling.code[j]]:
        return OUT
    if ruling.group.shape[0] > 0:
        g = ruling.group[j]
        if ruling.held[g] >= ruling.most[g]:
            return OUT
        if kept and ruling.held[g] >= ruling.least[g]:
            return LATER
    return FREE


@compiled
def _wanted(g, ruling):
    """Picks that the minimum of group g still asks for, as far as the group has rows for them."""
    return max(0, min(ruling.least[g] - ruling.held[g], ruling.left[g]))


@compiled
def _settle(j, ruling):
    """Enter in the rule book that column j was taken."""
    if ruling.code.shape[0] > 0:
        k = ruling.code[j]
        if not ruling.used[k] and ruling.first.shape[0] > 0:
            for p in range(ruling.first[k], ruling.first[k + 1]):
                g = ruling.groups[p]
                ruling.unmet[0] -= _wanted(g, ruling)
                ruling.left[g] -= 1
                ruling.unmet[0] += _wanted(g, ruling)
        ruling.used[k] = True
    if ruling.group.shape[0] > 0:
        g = ruling.group[j]
        ruling.unmet[0] -= _wanted(g, ruling)
        if ruling.code.shape[0] == 0:
            ruling.left[g] -= 1
        ruling.held[g] += 1
        ruling.unmet[0] += _wanted(g, ruling)


@compiled
def _give_up_minimums(ruling):
    """No column that is left can fill a minimum (under a token budget: none that fits)."""
    ruling.least[:] = 0
    ruling.unmet[0] = 0


@compiled
def take_given(given, data, indices, indptr, covered, cap, weight, bonus, size, ruling, picks, won, state):
    """Take the given columns in their order, whatever the rules say of them."""
    for j in given:
        taken = state[1]
        won[taken] = column_gain(j, data, indices, indptr, covered, cap, weight) + bonus[j]
        cover(j, data, indices, indptr, covered, cap)
        _settle(j, ruling)
        picks[taken] = j
        state[1] += 1
        state[2] -= size[j]


@compiled
def advance(
    data, indices, indptr, covered, cap, weight, rest, bonus, size, rate,
    heap, key, stamp, gains, ruling, picks, won, state, rows, until, first_minimums, positive, pause,
):  # fmt: skip
    """Lazy greedy: go on picking until `until` picks are taken or nothing is left; says why it came back.

    The heap is ordered by bounds from earlier rounds.  Gains never increase, so a column that stays on top after its
    gain was computed anew is the best one.  `bonus`, `size` and `rate` (C,) are the modular gain, the tokens a column
    takes and what its gain is divided by.  Room is kept for unmet minimums when they need all that is left of `rows`,
    or from the start with `first_minimums`.

    Comes back early with NOTHING_GAINS when `positive` and no column that may be taken gains, and with LIFTED when
    `pause` and no room is kept any more, so that parked columns are live again.
    """
    live, taken, room, parked = state[0], state[1], state[2], state[3]
    why = DONE
    while taken < until:
        unmet = ruling.unmet[0]
        kept = unmet > 0 and (first_minimums or rows - taken <= unmet)
        if parked > 0 and not kept:
            live += parked
            parked = 0
            for i in range(live // 2 - 1, -1, -1):
                _sink(heap, live, key, heap[i], i)
            if pause:
                why = LIFTED
                break
        if live == 0:
            if parked == 0:
                break
            _give_up_minimums(ruling)
            continue
        j = heap[0]
        standing = _standing(j, kept, ruling) if size[j] <= room else OUT
        if standing == FREE:
            if stamp[j] != taken:
                gains[j] = gain_now(j, data, indices, indptr, covered, cap, weight, rest, taken) + bonus[j]
                key[j] = gains[j] / rate[j]
                stamp[j] = taken
                _sink(heap, live, key, j, 0)
                continue
            if positive and gains[j] <= 0:
                why = NOTHING_GAINS
                break
        live -= 1
        if live > 0:
            _sink(heap, live, key, heap[live], 0)
        if standing == LATER:
            heap[live] = j
            parked += 1
        else:
            heap[live] = heap[live + parked]
        if standing == FREE:
            cover(j, data, indices, indptr, covered, cap)
            _settle(j, ruling)
            picks[taken] = j
            won[taken] = gains[j]
            taken += 1
            room -= size[j]
    state[0], state[1], state[2], state[3] = live, taken, room, parked
    return why


@compiled
def _below(n, random):
    """A random whole number in [0, n), n < 2**32.  `random` (1,) uint64 is the generator's state (splitmix64)."""
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    z = random[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.int64(((z >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@compiled
def advance_sampled(
    data, indices, indptr, covered, cap, weight, rest, bonus, size, rate,
    heap, key, gains, ruling, picks, won, state, rows, until, first_minimums, sample, random,
):  # fmt: skip
    """Stochastic greedy: as `advance`, but each pick is the best of `sample` random columns that may be taken.

    `heap` is in no order here.  `key` holds bounds from earlier rounds (infinite before the first look), so a column
    whose bound is no better than the best of the sample so far is not computed anew.  Comes back early with
    NOTHING_GAINS when a whole sample gains nothing.
    """
    live, taken, room, parked = state[0], state[1], state[2], state[3]
    why = DONE
    while taken < until:
        unmet = ruling.unmet[0]
        kept = unmet > 0 and (first_minimums or rows - taken <= unmet)
        if parked > 0 and not kept:
            live += parked
            parked = 0
        drawn = 0
        top = 0
        while drawn < sample and drawn < live:
            i = drawn + _below(live - drawn, random)
            j = heap[i]
            standing = _standing(j, kept, ruling) if size[j] <= room else OUT
            if standing == FREE:
                heap[i] = heap[drawn]
                heap[drawn] = j
                if key[j] > key[heap[top]]:
                    top = drawn
                drawn += 1
                continue
            live -= 1
            heap[i] = heap[live]
            if standing == LATER:
                heap[live] = j
                parked += 1
            else:
                heap[live] = heap[live + parked]
        if drawn == 0:
            if parked == 0:
                break
            _give_up_minimums(ruling)
            continue
        best = heap[top]  # the highest bound first: few others are then worth a look
        gains[best] = gain_now(best, data, indices, indptr, covered, cap, weight, rest, taken) + bonus[best]
        key[best] = gains[best] / rate[best]
        place = top
        for i in range(drawn):
            j = heap[i]
            if i != top and (key[j] > key[best] or (key[j] == key[best] and j < best)):
                gains[j] = gain_now(j, data, indices, indptr, covered, cap, weight, rest, taken) + bonus[j]
                key[j] = gains[j] / rate[j]
                if key[j] > key[best] or (key[j] == key[best] and j < best):
                    best = j
                    place = i
        if gains[best] <= 0:
            why = NOTHING_GAINS
            break
        live -= 1
        heap[place] = heap[live]
        heap[live] = heap[live + parked]
        cover(best, data, indices, indptr, covered, cap)
        _settle(best, ruling)
        picks[taken] = best
        won[taken] = gains[best]
        taken += 1
        room -= size[best]
    state[0], state[1], state[2], state[3] = live, taken, room, parked
    return why


@compiled
def walk(given, ranking, size, ruling, rows, room, first_minimums, picks):
    """Take the given columns, then go down a ranking as far as rules, rows and tokens allow; returns how many picks.

    A column that has to wait while room is kept comes before the rest of the ranking once none is kept any more.
    """
    waiting = np.empty(ranking.shape[0], np.int64)
    head = tail = place = taken = 0
    for j in given:
        _settle(j, ruling)
        picks[taken] = j
        taken += 1
        room -= size[j]
    while taken < rows:
        unmet = ruling.unmet[0]
        kept = unmet > 0 and (first_minimums or rows - taken <= unmet)
        if head < tail and not kept:
            j = waiting[head]
            head += 1
        elif place < ranking.shape[0]:
            j = ranking[place]
            place += 1
        elif head < tail:
            _give_up_minimums(ruling)
            continue
        else:
            break
        standing = _standing(j, kept, ruling) if size[j] <= room else OUT
        if standing == LATER:
            waiting[tail] = j
            tail += 1
        elif standing == FREE:
            _settle(j, ruling)
            picks[taken] = j
            taken += 1
            room -= size[j]
    return taken
