"""Cutting a ranking at a budget, and what to tell about a choice that follows rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.selection import ruling
from delift_core.types import Indices, Limit, Rules

_NAMED = 5  # groups that a note names before it only counts them


def within(ranking: Indices, tokens: Indices, limit: Limit) -> Indices:
    """The part of a ranking of positions that a limit has room for, in order.

    A row limit takes a prefix.  A token limit passes over what no longer fits and goes on, so that it is used up.

    With rules, pinned positions come first, whether ranked or not; banned ones, those of a set of near-duplicates that
    has its row and those of a full group are passed over.  Room is kept for minimums: a position that has to wait for
    it comes next once no room is kept any more.  `shortfall` says what the rules left out.

    Args:
        ranking: (K,) positions, best first, each at most once.
        tokens: (n,) tokens of each position.
        limit: the resolved budget.

    Raises:
        ConfigError: rules that cannot be followed (see `ruling.check`).
    """
    if limit.rules is not None:
        return _ruled(ranking, tokens, limit, limit.rules)
    if limit.tokens is None:
        return ranking[: limit.rows]
    room, taken = limit.tokens, np.zeros(len(ranking), bool)
    rows = 0
    for place, size in enumerate(tokens[ranking].tolist()):
        if rows == limit.rows:
            break
        if size <= room:
            taken[place] = True
            room -= size
            rows += 1
    return ranking[taken]


def _ruled(ranking: Indices, tokens: Indices, limit: Limit, rules: Rules) -> Indices:
    from delift_core.selection import _kernels

    walk: Any = _kernels.walk
    n = len(tokens)
    ruling.check(limit, n, tokens)
    free = np.zeros(n, bool)
    free[ruling.open_columns(rules, n)] = True
    pinned, ranked = rules.pinned.astype(np.int64), ranking[free[ranking]].astype(np.int64)
    picks = np.empty(len(pinned) + len(ranked), np.int64)
    if limit.tokens is None:
        size, room = np.zeros(n, np.int64), 0
    else:
        size, room = tokens.astype(np.int64), limit.tokens
    taken = walk(
        pinned, ranked, size, ruling.prepare(rules, ranked), min(limit.rows, len(picks)), room,
        limit.tokens is not None, picks,
    )  # fmt: skip
    return picks[:taken]


def shortfall(picks: Indices, tokens: Indices, limit: Limit) -> tuple[str, ...]:
    """What to tell when rules left a choice shorter than its budget, or a minimum unmet.

    Args:
        picks: (k,) positions that were taken.
        tokens: (n,) tokens of each position.
        limit: the budget that they were taken under.
    """
    rules, n = limit.rules, len(tokens)
    if rules is None:
        return ()
    taken = np.zeros(n, bool)
    taken[picks] = True
    least, most = ruling.bounds(rules)
    count = np.bincount(rules.group[picks], minlength=len(least)) if len(least) and rules.group is not None else least
    notes: tuple[str, ...] = ()
    if len(picks) < min(limit.rows, n):
        rest = ~taken
        if limit.tokens is not None:
            rest &= tokens <= limit.tokens - int(tokens[picks].sum())
        reasons = []
        for reason, out in _out(rules, taken, count >= most):
            found = int((out & rest).sum())
            rest &= ~out
            if found:
                reasons.append(f"{found} {reason}")
        if reasons:
            whole = f"{min(limit.rows, n)} rows" if limit.tokens is None else "what the token budget has room for"
            notes += (f"The rules leave {len(picks)} rows to take, fewer than {whole}: {', '.join(reasons)}.",)
    short = np.flatnonzero(count < least)
    if len(short):
        told = [f"{ruling.group_name(rules, int(g))} has {count[g]} of {least[g]}" for g in short[:_NAMED]]
        more = f" and {len(short) - _NAMED} more groups" if len(short) > _NAMED else ""
        notes += (
            f"Minimums that could not be met, for want of rows that the other rules and the budget allow: "
            f"{', '.join(told)}{more}.",
        )
    return notes


def _out(rules: Rules, taken: NDArray[np.bool_], full: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Why rows (n,) are out by the rules, the first reason first; `full` (G,) are the groups that hold their most."""
    if rules.banned is not None:
        yield "left out before", rules.banned
    if rules.once is not None:
        yield "near-duplicates of a row that was taken", np.isin(rules.once, rules.once[taken]) & (rules.once >= 0)
    if rules.group is not None and len(full):
        yield "in groups that hold as many as they may", full[rules.group]
