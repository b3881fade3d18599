"""Capped facility location with a head start, weights and a modular term: the one greedy solver of all set functions.

f(A) = sum_i w_i [min(cap_i, max(start_i, max_{j in A} s_ij)) - min(cap_i, start_i)] + sum_{j in A} bonus_j

is monotone and submodular for s, start, cap, w, bonus >= 0, so greedy reaches at least 1 - 1/e of the best value for a
row budget [Nemhauser, Wolsey and Fisher 1978]; lazy evaluation [Minoux 1978] gives the same picks.

Under rules: pinned rows are given, so the bound holds for what can be added to them.  Maximums, minimums and the row
budget together are one matroid, as sets that can still be completed [El Halabi et al., NeurIPS 2020], and so is one row
of each set of near-duplicates; greedy reaches 1/2 under one matroid and 1/3 under two [Fisher, Nemhauser and Wolsey
1978].  No bound is known for minimums with near-duplicates, whose sets may cut across groups.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from delift_core.errors import Cancelled
from delift_core.selection import ruling
from delift_core.selection.cover import CoverProblem, full_value
from delift_core.selection.limits import shortfall
from delift_core.selection.search import Search
from delift_core.selection.stochastic import Sampled
from delift_core.types import Doubles, Indices, Limit, Progress, Rules, no_progress

__all__ = ["Cover", "CoverProblem", "full_value", "solve"]

POLL = 0.5  # seconds between reports while one search waits for the other


@dataclass(frozen=True, eq=False)
class Cover:
    """The picks of a search, as column positions."""

    picks: Indices  # (K,)
    gains: Doubles  # (K,) marginal gain of each pick when it was taken
    value: Doubles  # (K,) f of the first 1..K picks
    full_value: float  # f of all columns, the banned ones too
    useful: int  # picks before the gains reached 0 for good; pinned ones count
    saturated: int  # of the rest, picks that were ordered by what they add above the cap
    nested: bool
    notes: tuple[str, ...]


def solve(
    problem: CoverProblem,
    limit: Limit,
    tokens: Indices | None = None,
    progress: Progress = no_progress,
    *,
    sampled: Sampled | None = None,
) -> Cover:
    """Pick columns greedily up to the limit; of equal gains the lowest column goes first.

    For a row limit the picks are nested: the first k of them are the answer for k.  Once every gain is 0 because of the
    cap, the search goes on by the gain without the cap; `value` no longer moves and `saturated` counts those picks.

    For a token limit (`tokens` (C,) is each column's size) both the greedy by gain and the greedy by gain per token are
    computed, each passing over what no longer fits and so filled up, and the better one is returned: at least
    (1 - 1/e) / 2 of the best value [Leskovec et al. 2007]; not nested.

    With rules, pinned columns are taken first; banned ones, those of a set of near-duplicates that has its row and
    those of a full group never.  Room is kept for minimums: when they need all rows that are left, only they are
    filled; under a token limit they are filled first.  Not nested with minimums.  `notes` say what bound holds and
    what the rules left out.

    With `sampled`, each pick is the best of a random sample instead; not nested.

    Raises:
        ConfigError: rules that cannot be followed (see `ruling.check`).
        ValueError: a token limit without the tokens of all columns.
    """
    columns = problem.shape[1]
    if limit.tokens is not None and (tokens is None or tokens.shape != (columns,)):
        raise ValueError(f"a token limit needs the tokens of all {columns} columns")
    ruling.check(limit, columns, tokens)
    search = Search(problem, limit, tokens, sampled)
    notes: tuple[str, ...] = ()
    if limit.tokens is None:
        search.run(progress)
        if sampled is None and (bound := ruling.guarantee(limit.rules)):
            notes = (bound,)
    else:
        search, how = _better(search, progress)
        notes = (_token_note(limit.rules, sampled, how),)
    if sampled is not None:
        notes += (sampled.note(search.sample, limit),)
    picks = search.picks[: search.state[1]].copy()
    gains = search.won[: len(picks)].copy()
    if limit.rules is not None:
        notes += shortfall(picks, np.zeros(columns, np.int64) if tokens is None else tokens, limit)
    nested = limit.tokens is None and sampled is None and (limit.rules is None or limit.rules.nested)
    useful, saturated = search.tail()
    return Cover(picks, gains, np.cumsum(gains), full_value(problem), useful, saturated, nested, notes)


def _better(search: Search, progress: Progress) -> tuple[Search, str]:
    """Run a search by gain and one by gain per token at the same time, and return the better one.

    Both start from the same gains, and the kernels release the interpreter lock.  Only the first reports.
    """
    other, stop = search.per_token(), threading.Event()

    def quiet(stage: str, done: float, total: float, note: str = "") -> None:
        if stop.is_set():
            raise Cancelled("The search was stopped.")

    with ThreadPoolExecutor(1) as beside:
        second = beside.submit(other.run, quiet)
        try:
            search.run(progress)
            while wait([second], POLL).not_done:
                progress("select", search.rows, search.rows, "the search by gain per token goes on")
        except BaseException:
            stop.set()
            raise
        second.result()
    return (search, "gain") if search.total >= other.total else (other, "gain per token")


def _token_note(rules: Rules | None, sampled: Sampled | None, how: str) -> str:
    known = (
        "Its value is at least 0.316 of the best possible for this budget"
        if sampled is None and (rules is None or (rules.once is None and not len(ruling.bounds(rules)[0])))
        else "No bound on its value is known for this search and these rules"
    )
    return (
        f"Token budget: the better of greedy by gain and greedy by gain per token (here: {how}), filled with what "
        f"still fits. {known}; a smaller budget must be computed anew."
    )
