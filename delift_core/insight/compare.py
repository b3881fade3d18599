"""Two to four selections side by side: what they share, in what order, and what each is worth to the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np

from delift_core.insight.groups import MISSING
from delift_core.insight.lineup import Entry, Lineup
from delift_core.types import Indices

__all__ = ["Comparison", "Entry", "Lineup", "Overlap", "Pair", "Shares", "Size", "Worth", "compare"]

MOST_GROUPS = 30
FEWEST_SHARED = 3  # picks that a rank correlation needs


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

    @property
    def headlines(self) -> tuple[str, ...]:
        """The sentences to read first: of many pairs those that are closest and farthest apart."""
        if len(self.pairs) < 2:
            return self.sentences
        near = max(range(len(self.pairs)), key=lambda i: self.pairs[i].jaccard)
        far = min(range(len(self.pairs)), key=lambda i: self.pairs[i].jaccard)
        rest = self.sentences[len(self.pairs) + sum(w.of_own is not None for w in self.worth) :]
        return (f"Closest: {self.sentences[near]}", f"Farthest apart: {self.sentences[far]}", *rest)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return asdict(self)


def compare(
    entries: Sequence[Entry] | Lineup,
    *,
    sizes: Sequence[int] | None = None,
    budgets: Sequence[int] | None = None,
    most: int = MOST_GROUPS,
    worths: bool = True,
    labels: Sequence[Sequence[str | None] | None] | None = None,
) -> Comparison:
    """Compare two to four selections over one pool, or over several whose rows have ids in common.

    Args:
        entries: the selections; either all or none of them give ids.
        sizes: (E,) how many first picks of each count as chosen; by default all.
        budgets: where to look at the overlap; by default 1, 2, 5, 10, ... and the size of the smaller.
        most: groups listed; the rest is counted together.
        worths: whether to say what each is worth to the others, which reads their utilities.
        labels: (E,) of (N,) groups, in place of those of the entries.

    Raises:
        ConfigError: not two to four entries, a name twice, ids for some only, or an id that stands twice in a dataset.
    """
    lineup = entries if isinstance(entries, Lineup) else Lineup(tuple(entries))
    kept = list(sizes if sizes is not None else lineup.sizes)
    each = range(len(lineup.entries))
    totals = tuple(_size(entry, k) for entry, k in zip(lineup.entries, kept, strict=True))
    pairs = tuple(_pair(lineup, a, b, kept, budgets) for a, b in combinations(each, 2))
    worth = tuple(
        _worth(lineup, a, b, kept) for a, b in permutations(each, 2) if worths and lineup.entries[b].utility is not None
    )
    groups, other, folded = _groups(lineup.entries, labels or [e.labels for e in lineup.entries], kept, most)
    return Comparison(
        totals, pairs, worth, groups, other, folded, tuple(_sentences(totals, pairs, worth, groups))
    )  # fmt: skip


def _size(entry: Entry, size: int) -> Size:
    order = entry.selection.order[:size]
    if entry.tokens is None:
        return Size(entry.name, len(order), None, None, None)
    tokens = entry.tokens[order]
    middle = (float(tokens.mean()), float(np.median(tokens))) if len(order) else (None, None)
    return Size(entry.name, len(order), int(tokens.sum()), *middle)


def _pair(lineup: Lineup, one: int, two: int, sizes: Sequence[int], budgets: Sequence[int] | None) -> Pair:
    ranks, pool = lineup.ranks[[one, two]], lineup.shared_pool(one, two)
    a, b = sizes[one], sizes[two]
    both = (ranks >= 0).all(axis=0) & (ranks[0] < a) & (ranks[1] < b)
    common = int(both.sum())
    union = a + b - common
    overlaps: tuple[Overlap, ...] = ()
    if lineup.entries[one].selection.nested and lineup.entries[two].selection.nested:
        ks = _grid(min(a, b), budgets)
        shares = lineup.overlap(one, two, np.array(ks, np.int64))
        overlaps = tuple(
            Overlap(k, float(share), None if pool is None else k / pool) for k, share in zip(ks, shares, strict=True)
        )
    return Pair(
        lineup.names[one], lineup.names[two], common, common / union if union else 1.0,
        None if not pool else a * b / pool, overlaps, _correlation(ranks[0, both], ranks[1, both]),
    )  # fmt: skip


def _grid(largest: int, budgets: Sequence[int] | None) -> list[int]:
    if budgets is not None:
        return sorted({k for k in budgets if 1 <= k <= largest})
    steps = {m * 10**power for power in range(10) for m in (1, 2, 5)}
    return sorted({k for k in steps if k < largest} | ({largest} if largest else set()))


def _correlation(first: Indices, second: Indices) -> float | None:
    """Spearman's, of two lists of different numbers: the correlation of their ranks."""
    if len(first) < FEWEST_SHARED:
        return None
    places = [np.argsort(np.argsort(numbers, kind="stable"), kind="stable") for numbers in (first, second)]
    return float(np.asarray(np.corrcoef(places))[0, 1])


def _worth(lineup: Lineup, one: int, two: int, sizes: Sequence[int]) -> Worth:
    """The picks of `one` under the utility of `two`."""
    value, ours = (float(lineup.worth(which, two)[sizes[which] - 1]) if sizes[which] else 0.0 for which in (one, two))
    whole = lineup.whole(two)
    return Worth(
        lineup.names[one], lineup.names[two], value, value / ours if ours > 0 else None,
        value / whole if whole > 0 else None, int((~lineup.known(one, two)[: sizes[one]]).sum()),
    )  # fmt: skip


def _groups(
    entries: Sequence[Entry], labels: Sequence[Sequence[str | None] | None], sizes: Sequence[int], most: int
) -> tuple[tuple[Shares, ...], Shares | None, int]:
    counts: list[Counter[str] | None] = []
    for entry, given, size in zip(entries, labels, sizes, strict=True):
        of = None if given is None else (given[row] for row in entry.selection.order[:size].tolist())
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
            text += (
                f". The rank correlation of their orders over the shared rows is {round(pair.correlation, 2) + 0.0:.2f}"
            )
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
