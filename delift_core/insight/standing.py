"""Where one row stands, by the selection alone: its rank, its gain, the cut, and what a gain means for an objective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from delift_core.types import Selection

Status = Literal["selected", "beyond the budget", "exact copy", "left out", "refused by the score", "never ranked"]
Way = Literal["cover", "score", "set", "turns", "clusters", "distance", "lot", "short list", "other"]


@dataclass(frozen=True)
class Meaning:
    """How an objective comes to its order, and what the gain of a pick is."""

    way: Way
    gain: str


MEANINGS: dict[str, Meaning] = {
    "fl": Meaning("cover", "what it added to how well the subset stands for the pool"),
    "flcg": Meaning("cover", "what it added beyond what the existing data covers"),
    "fl1mi": Meaning("cover", "what it added to the pool, as far as that matters to the target"),
    "fl2mi": Meaning("cover", "what it added to the coverage, and its own help for the target"),
    "flquality": Meaning("cover", "what it added to the coverage, and its own quality, as shares of the pool's"),
    "graph-cut": Meaning("set", "its likeness to the pool, less its likeness to the rows before it"),
    "disparity-sum": Meaning("set", "the sum of its distances to the rows before it"),
    "disparity-min": Meaning("set", "the change of the smallest distance between two picks"),
    "log-determinant": Meaning("set", "what it added to the log-determinant, the volume that the picks span"),
    "set-cover": Meaning("set", "the rows that it covers and no row before it did"),
    "prob-set-cover": Meaning("set", "the rows that it newly covers, as expected"),
    "got-d": Meaning("score", "how much the distance to the target falls when mass moves onto it"),
    "got-d-contrast": Meaning("score", "how much the distance from the existing data grows when mass moves onto it"),
    "got-d-diverse": Meaning("short list", "what it added to the coverage of the short list"),
    "uot": Meaning("score", "the share of the mass that it keeps"),
    "tsds": Meaning("score", "the share of the target's mass that it gets"),
    "knn-uniform": Meaning("score", "the share of the target's mass that it gets"),
    "top-k": Meaning("score", "its score"),
    "round-robin": Meaning("turns", "its utility to the target row whose turn it was"),
    "kmeans": Meaning("clusters", "always 0"),
    "deft-ucs": Meaning("clusters", "always 0"),
    "kcenter": Meaning("distance", "its distance from the rows before it"),
    "random": Meaning("lot", "always 0"),
}
OTHER = Meaning("other", "what it added to the objective")
_CLUSTERED = {
    "kmeans": "Clusters take turns, each giving the row nearest to its centre that is left.",
    "deft-ucs": "Clusters take turns, each giving in part its rows nearest to the centre and in part those farthest.",
}


@dataclass(frozen=True)
class Standing:
    """One row in a selection at a budget.  What is not defined (a row without a rank has no gain) is None."""

    status: Status
    reason: str  # one plain sentence
    rank: int | None = None  # 1 for the first pick
    ranked: int = 0  # rows in the order
    gain: float | None = None
    cut_gain: float | None = None  # gain of the last pick that the budget keeps
    enters_at: int | None = None  # the budget from which on it is kept, where the order is nested
    share: float | None = None  # its gain, of the value of the whole pool


@dataclass(frozen=True)
class Score:
    """A row by the number that its order is made of, where a higher gain is always better."""

    value: float  # the gain, in the score's own sign
    cut: float  # that of the last pick that the budget keeps
    distance: float  # how far it is above (positive) or below the cut
    better_than: float  # share of the other ranked rows that have a lower one


def standing(
    selection: Selection, row: int, k: int, *, left_out: str | None = None, refused: bool = False, nested: bool = True
) -> Standing:
    """Where a pool row stands at a budget of `k` picks; copies are the caller's.

    Args:
        selection: the whole order.
        row: the row.
        k: picks that the budget keeps, at most `len(selection)`.
        left_out: why it could not be picked at all, where that is known.
        refused: the score refuses it, so it stands behind all others.
        nested: whether a larger budget is a longer prefix.
    """
    found = np.flatnonzero(selection.order == row)
    cut_gain = float(selection.gains[k - 1]) if k else None
    ranked = len(selection)
    if not len(found):
        if left_out:
            text = f"{left_out[:1].upper()}{left_out[1:].rstrip('.')}."
            return Standing("left out", text, None, ranked, None, cut_gain)
        text = f"Never ranked: it is not among the {ranked:,} rows that were put in order."
        return Standing("never ranked", text, None, ranked, None, cut_gain)
    rank, gain = int(found[0]) + 1, float(selection.gains[found[0]])
    full = selection.full_value
    share = gain / full if full and math.isfinite(full) else None
    numbers = (rank, ranked, gain, cut_gain, rank if nested else None, share)
    if rank <= k:
        last = " It has no score, and was taken as nothing better was left." if refused else ""
        return Standing("selected", f"Selected: pick {rank:,} of the {k:,} that the budget keeps.{last}", *numbers)
    enters = f" It enters at a budget of {rank:,} rows." if nested else ""
    if refused:
        text = f"Refused by the score: it stands behind all rows that have one.{enters}"
        return Standing("refused by the score", text, *numbers)
    text = f"Not selected: rank {rank:,} of {ranked:,}, beyond the budget of {k:,} rows.{enters}"
    return Standing("beyond the budget", text, *numbers)


def score(selection: Selection, row: int, k: int, *, sign: float = 1.0, refusing: bool = False) -> Score | None:
    """A ranked row among the others by its score; None for a row without one.

    Args:
        selection: an order by a score, whose gains are the scores in the sign in which higher is better.
        row: the row.
        k: picks that the budget keeps, 1 at least.
        sign: -1 where a lower score is better.
        refusing: some rows have no score; their gain is 0, and they do not count.
    """
    found = np.flatnonzero(selection.order == row)
    known = selection.gains != 0 if refusing else np.ones(len(selection), bool)
    if not len(found) or not known[found[0]]:
        return None
    gain, cut = float(selection.gains[found[0]]), float(selection.gains[k - 1])
    others = max(1, int(known.sum()) - 1)
    lower = int((selection.gains[known] < gain).sum())
    return Score(sign * gain, sign * cut, gain - cut, lower / others)


def told(objective: str, at: Standing, by: Score | None, k: int, seed: int, noun: str = "score") -> list[str]:
    """What an order says of one row, in plain sentences that follow the status; empty where it says no more."""
    meaning = MEANINGS.get(objective, OTHER)
    if meaning.way == "score":
        if by is None:
            return [] if at.rank is None else [f"Rows are ranked by {noun}, and the score refuses this one."]
        return _by_score(at, by, noun)
    if meaning.way == "lot":
        return [f"The order was drawn by lot with seed {seed}; nothing about the row counted."]
    if meaning.way == "clusters":
        return [f"{_CLUSTERED[objective]} It maximises nothing pick by pick, so there are no gains."]
    if meaning.way == "distance":
        return _by_distance(at, k)
    if meaning.way == "short list" and at.rank is None:
        return [
            "Either its transport gradient keeps it off the short list, or the picks stand for it already; the run "
            "stores no more of it."
        ]
    if at.gain is None:
        return []
    if at.status == "selected" or at.cut_gain is None or at.rank is None:
        return [f"Its gain was {number(at.gain)}: {meaning.gain}."]
    lead = f"At its turn, as number {at.rank:,}, its gain is {number(at.gain)}: {meaning.gain}."
    return [lead, f"The last row that the budget keeps gained {number(at.cut_gain)}."]


def _by_score(at: Standing, by: Score, noun: str) -> list[str]:
    lead = f"Ranked by {noun}: {number(by.value)}, better than {percent(by.better_than)} of the other ranked rows."
    cut = f"The last row that the budget keeps has {number(by.cut)}"
    if at.status == "selected":
        return [lead, f"{cut}, {number(abs(by.distance))} away."]
    if by.distance > 0:
        return [lead, f"{cut}, which is worse: the rules of the run passed this row over."]
    if by.distance == 0:
        return [lead, f"{cut} as well: the tie went against this row."]
    return [lead, f"{cut}; this row is {number(-by.distance)} short of it."]


def _by_distance(at: Standing, k: int) -> list[str]:
    rule = "Each pick is the row that is farthest from all picks before it."
    if at.rank is None or at.gain is None:
        return [rule]
    if at.rank == 1:
        return [f"{rule} This one came first; no row is farther from it than {number(at.gain)}."]
    where = f"It was {number(at.gain)} away from the nearest of them when it was taken."
    if at.rank <= k:
        return [f"{rule} {where}"]
    return [f"{rule} At its turn, as number {at.rank:,}, this one is {number(at.gain)} away from the nearest of them."]


def number(value: float) -> str:
    """A number in three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in per cent; of what is just below the whole, not the whole."""
    text = f"{100 * share:.3g}"
    return "more than 99.9 %" if text == "100" and share < 1 else f"{text} %"
