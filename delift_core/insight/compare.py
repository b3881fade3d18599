"""Two to four selections side by side: what they share, in what order, and what each is worth to the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np

from delift_core.errors import ConfigError
from delift_core.insight import coverage
from delift_core.insight.groups import MISSING
from delift_core.types import Indices, Selection, Utility

MOST_GROUPS = 30
FEWEST_SHARED = 3  # picks that a rank correlation needs


@dataclass(frozen=True, eq=False)
class Entry:
    """One selection to compare, and what is known of its dataset.  Arrays speak of all rows of the dataset."""

    name: str
    selection: Selection
    ids: Sequence[str] | None = None  # (N,) where the pools are different datasets: rows are the same by id
    candidates: Indices | None = None  # (n,) row indices that could be picked, to tell what chance would share
    tokens: Indices | None = None  # (N,)
    labels: Sequence[str | None] | None = None  # (N,) groups
    utility: Utility | None = None  # the pool utility that it was chosen by, raw or scaled


@dataclass(frozen=True)
class Overlap:
    """What the first k picks of both share."""

    k: int
    share: float  # of k
    chance: float | None  # what two random choices would share; None where the pools differ or are not given


@dataclass(frozen=True)
class Pair:
    """What two selections share."""

    one: str
    two: str
    common: int
    jaccard: float  # common / union; 1 for two empty ones
    chance: float | None  # common rows of two random choices of these sizes
    overlaps: tuple[Overlap, ...]  # empty where one is not nested: its first k picks are no choice of k
    correlation: float | None  # Spearman's, of the orders over the common picks; None below three


@dataclass(frozen=True)
class Worth:
    """What the picks of one selection cover of the utility of another: sum_i w_i max_{j in A} s_ij."""

    picks: str
    utility: str
    value: float
    of_own: float | None  # over what the picks of the utility's own selection cover; None where that is 0
    of_pool: float | None  # over what all candidates cover
    unknown: int  # picks that are no candidates of the utility, and so count nothing


@dataclass(frozen=True)
class Size:
    """Rows and tokens of one selection."""

    name: str
    rows: int
    tokens: int | None
    mean_tokens: float | None
    median_tokens: float | None


@dataclass(frozen=True)
class Shares:
    """The share of one group in each selection, in the order of the entries; None where groups are not given."""

    group: str
    shares: tuple[float | None, ...]


@dataclass(frozen=True)
class Comparison:
    """The whole comparison.  `sentences` say the main findings plainly."""

    sizes: tuple[Size, ...]
    pairs: tuple[Pair, ...]
    worth: tuple[Worth, ...]
    groups: tuple[Shares, ...]  # the largest first
    other: Shares | None  # the groups that are not listed, together
    folded: int  # how many those are
    sentences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return asdict(self)


def compare(entries: Sequence[Entry], *, budgets: Sequence[int] | None = None, most: int = MOST_GROUPS) -> Comparison:
    """Compare two to four selections over one pool, or over several whose rows have ids in common.

    Args:
        entries: the selections; either all or none of them give ids.
        budgets: where to look at the overlap; by default 1, 2, 5, 10, ... and the size of the smaller.
        most: groups listed; the rest is counted together.

    Raises:
        ConfigError: not two to four entries, a name twice, ids for some only, or an id that stands twice in a dataset.
    """
    if not 2 <= len(entries) <= 4:
        raise ConfigError(f"{len(entries)} selections given; a comparison takes two to four.")
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise ConfigError(f"Two selections are called the same: {', '.join(names)}. Give each a name of its own.")
    keys = _keys(entries)
    orders = [key[entry.selection.order] if len(entry.selection) else entry.selection.order for key, entry in
              zip(keys, entries, strict=True)]  # fmt: skip
    pools = [None if entry.candidates is None else key[entry.candidates] for key, entry in
             zip(keys, entries, strict=True)]  # fmt: skip
    sizes = tuple(_size(entry) for entry in entries)
    pairs = tuple(
        _pair(entries[a], entries[b], orders[a], orders[b], _same_pool(pools[a], pools[b]), budgets)
        for a, b in combinations(range(len(entries)), 2)
    )
    worth = tuple(
        _worth(entries[a], entries[b], orders[a], keys[b])
        for a, b in permutations(range(len(entries)), 2)
        if entries[b].utility is not None
    )
    groups, other, folded = _groups(entries, most)
    return Comparison(
        sizes, pairs, worth, groups, other, folded, tuple(_sentences(sizes, pairs, worth, groups))
    )  # fmt: skip


def _keys(entries: Sequence[Entry]) -> list[Indices]:
    """For each entry, one number per row of its dataset; equal numbers are the same row."""
    given = [entry.name for entry in entries if entry.ids is not None]
    if not given:
        largest = max(
            int(rows.max(initial=-1))
            for entry in entries
            for rows in (entry.selection.order, *([] if entry.candidates is None else [entry.candidates]),
                         *([] if entry.utility is None else [entry.utility.candidates]))
        )  # fmt: skip
        return [np.arange(largest + 1)] * len(entries)
    if len(given) < len(entries):
        raise ConfigError(
            f"Ids are given for {', '.join(given)} only. Give the ids of every dataset, or of none where all "
            "selections are of one dataset."
        )
    number: dict[str, int] = {}
    keys = []
    for entry in entries:
        found = np.array([number.setdefault(name, len(number)) for name in entry.ids or ()], np.int64)
        if len(np.unique(found)) < len(found):
            twice = next(name for name, count in Counter(entry.ids or ()).items() if count > 1)
            raise ConfigError(
                f"The id {twice!r} stands twice in the dataset of {entry.name}, so rows cannot be matched."
            )
        keys.append(found)
    return keys


def _same_pool(one: Indices | None, two: Indices | None) -> int | None:
    """How many rows both could choose from, where that is the same pool."""
    if one is None or two is None or len(one) != len(two) or not np.array_equal(np.sort(one), np.sort(two)):
        return None
    return len(one)


def _size(entry: Entry) -> Size:
    order = entry.selection.order
    if entry.tokens is None:
        return Size(entry.name, len(order), None, None, None)
    tokens = entry.tokens[order]
    middle = (float(tokens.mean()), float(np.median(tokens))) if len(order) else (None, None)
    return Size(entry.name, len(order), int(tokens.sum()), *middle)


def _pair(one: Entry, two: Entry, a: Indices, b: Indices, pool: int | None, budgets: Sequence[int] | None) -> Pair:
    _, first, second = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    common, union = len(first), len(a) + len(b) - len(first)
    overlaps: tuple[Overlap, ...] = ()
    if one.selection.nested and two.selection.nested:
        later = np.sort(np.maximum(first, second))
        for k in _grid(min(len(a), len(b)), budgets):
            share = int(np.searchsorted(later, k)) / k
            overlaps += (Overlap(k, share, None if pool is None else k / pool),)
    return Pair(
        one.name, two.name, common, common / union if union else 1.0, None if not pool else len(a) * len(b) / pool,
        overlaps, _correlation(first, second),
    )  # fmt: skip


def _grid(largest: int, budgets: Sequence[int] | None) -> list[int]:
    if budgets is not None:
        return sorted({k for k in budgets if 1 <= k <= largest})
    steps = {m * 10**power for power in range(10) for m in (1, 2, 5)}
    return sorted({k for k in steps if k < largest} | ({largest} if largest else set()))


def _correlation(first: Indices, second: Indices) -> float | None:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic) if len(first) >= FEWEST_SHARED else None


def _worth(one: Entry, two: Entry, order: Indices, keys: Indices) -> Worth:
    """The picks of `one`, as keys, under the utility of `two`, whose dataset has the given keys."""
    utility = two.utility
    assert utility is not None
    by_key = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys[by_key], order)
    at[at == len(keys)] = 0
    rows = by_key[at[keys[by_key[at]] == order]] if len(keys) else np.empty(0, np.int64)
    mine, own = coverage.places(utility, rows), coverage.places(utility, two.selection.order)
    weight = coverage.weights(utility)
    value, ours, whole = (
        float(weight @ coverage.best(utility, places)) for places in (mine, own, np.arange(utility.shape[1]))
    )
    return Worth(
        one.name, two.name, value, value / ours if ours > 0 else None, value / whole if whole > 0 else None,
        len(order) - len(mine),
    )  # fmt: skip


def _groups(entries: Sequence[Entry], most: int) -> tuple[tuple[Shares, ...], Shares | None, int]:
    counts: list[Counter[str] | None] = []
    for entry in entries:
        labels = entry.labels
        of = None if labels is None else (labels[row] for row in entry.selection.order.tolist())
        counts.append(None if of is None else Counter(MISSING if label is None else str(label) for label in of))
    totals: Counter[str] = Counter()
    for count in counts:
        totals.update(count or {})
    ordered = sorted(totals, key=lambda name: (-totals[name], name))
    listed, rest = ordered[:most], ordered[most:]

    def shares(name: str, members: Sequence[str]) -> Shares:
        return Shares(name, tuple(None if c is None else _share(c, members) for c in counts))

    return tuple(shares(name, [name]) for name in listed), shares("other", rest) if rest else None, len(rest)


def _share(count: Counter[str], members: Sequence[str]) -> float:
    return sum(count[name] for name in members) / max(1, count.total())


def _sentences(
    sizes: Sequence[Size], pairs: Sequence[Pair], worth: Sequence[Worth], groups: Sequence[Shares]
) -> list[str]:
    rows = {size.name: size.rows for size in sizes}
    told = []
    for pair in pairs:
        text = (
            f"{pair.one} ({rows[pair.one]:,} rows) and {pair.two} ({rows[pair.two]:,} rows) share {pair.common:,} rows "
            f"(Jaccard {pair.jaccard:.2f})"
        )
        if pair.chance is not None:
            text += f"; two random choices would share about {pair.chance:,.0f}"
        if pair.correlation is not None:
            text += f". The rank correlation of their orders over the shared rows is {pair.correlation:.2f}"
        told.append(text + ".")
    for one in worth:
        if one.of_own is not None:
            own = f"{_percent(one.of_own)} of what {one.utility} does"
            text = f"Under the utility of {one.utility}, {one.picks} covers {own}"
            told.append(text + (f"; {one.unknown:,} of its rows are not known there." if one.unknown else "."))
    sized = [s for s in sizes if s.mean_tokens is not None]
    if sized:
        listed = ", ".join(f"{s.name} {s.tokens:,} (mean {s.mean_tokens:.0f} a row)" for s in sized)
        told.append(f"Tokens: {listed}.")
    wide = [(max(known) - min(known), group) for group in groups if len(known := _known(group)) > 1]
    if wide:
        _, group = max(wide, key=lambda item: item[0])
        shown = zip(sizes, group.shares, strict=True)
        listed = ", ".join(f"{_percent(share)} of {size.name}" for size, share in shown if share is not None)
        told.append(f"They differ most in the group {group.group}: {listed}.")
    return told


def _known(group: Shares) -> list[float]:
    return [share for share in group.shares if share is not None]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
