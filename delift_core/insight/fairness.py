"""Which groups of a pool a subset serves (languages, sources, topics), and what a quota costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from delift_core.errors import ConfigError
from delift_core.insight import coverage
from delift_core.insight.groups import MISSING
from delift_core.types import Doubles, Indices, Selection, Utility

MOST = 30  # groups listed


@dataclass(frozen=True)
class Group:
    """How one group fares.  `ratio` is 1 where the subset holds as large a share of it as the pool does."""

    name: str
    rows: int  # candidates
    share: float  # of the candidates
    picked: int  # rows of the subset
    picked_share: float  # of the subset
    ratio: float  # picked_share / share
    chance: float  # probability that a random subset of the same size holds no more rows of the group
    tokens: int | None = None  # of the candidates
    picked_tokens: int | None = None
    covered: float | None = None  # of what the whole pool gives the group's rows; None without a utility, or of nothing


@dataclass(frozen=True)
class Fairness:
    """All groups of one grouping, the largest first; where there are many, only the largest and the worst served."""

    by: str
    groups: tuple[Group, ...]
    other: Group | None  # the groups that are not listed, taken together
    folded: int  # how many those are
    count: int  # groups in all
    unserved: int  # groups without a row in the subset
    covered: float | None  # of what the whole pool gives all rows
    worst: str | None  # the worst-served group; None where no group is served worse than another
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return asdict(self)


def report(
    labels: Sequence[str | None],
    candidates: Indices,
    picks: Indices,
    *,
    by: str = "group",
    tokens: Indices | None = None,
    utility: Utility | None = None,
    most: int = MOST,
) -> Fairness:
    """Compare subset and pool group by group.

    A group's covered value is the sum over its rows i of max_{j in A} s_ij over the same sum for the whole pool: how
    much of what the pool could do for the group the subset does.  Missing and negative pairs count as 0, rows count by
    their weight.

    The worst-served group is the one of the least covered value.  Without a utility it is the one of the lowest ratio
    among groups of which a random subset would hold one row at least (of a smaller group, none is no surprise), or
    among all where there are no others.  It is always listed, as are the groups served worst after it.

    Args:
        labels: (n,) the group of each candidate; None is a group of its own.
        candidates: (n,) row indices.
        picks: (k,) row indices of the subset, all of them candidates.
        by: what the groups are, for the sentence.
        tokens: (n,) tokens of each candidate.
        utility: pool x pool utility, raw or scaled, whose helped rows are candidates.
        most: groups listed; the rest is counted together.

    Raises:
        ConfigError: most is below 2.
        ValueError: lengths disagree, or a pick or a helped row is no candidate.
    """
    if most < 2:
        raise ConfigError(f"most={most}: list 2 groups at least, the largest and the worst served.")
    n, k = len(candidates), len(picks)
    if len(labels) != n or (tokens is not None and len(tokens) != n):
        raise ValueError(f"{len(labels)} labels for {n} candidates, or tokens of another length")
    names, codes = np.unique([MISSING if label is None else str(label) for label in labels], return_inverse=True)
    rows = np.bincount(codes, minlength=len(names))
    taken = np.zeros(n, bool)
    taken[_positions(candidates, picks, "pick")] = True
    picked = np.bincount(codes[taken], minlength=len(names))
    got, could = _covered(utility, candidates, picks, codes, len(names))
    inside = np.zeros((2, len(names)), np.int64)
    if tokens is not None:
        inside[0] = np.bincount(codes, tokens, len(names))
        inside[1] = np.bincount(codes[taken], tokens[taken], len(names))

    def group(name: str, of: Indices) -> Group:
        sums = None if tokens is None else inside[:, of]
        return _group(name, rows[of], picked[of], n, k, sums, got[of], could[of])

    every = [group(str(name), np.array([code])) for code, name in enumerate(names)]
    order = sorted(range(len(every)), key=lambda code: (-every[code].rows, every[code].name))
    poor = _poorest(every, k, n)
    listed = order if len(order) <= most else _listed(order, poor, most)
    rest = np.array([code for code in order if code not in set(listed)], np.int64)
    total = group("all", np.arange(len(names)))
    worst = every[poor[0]] if k and len(every) > 1 and _differ(every) else None
    unserved = int((picked == 0).sum())
    sentence = _sentence(by, worst, total, unserved, len(every))
    return Fairness(
        by, tuple(every[code] for code in listed), group("other", rest) if len(rest) else None, len(rest), len(every),
        unserved, total.covered, None if worst is None else worst.name, sentence,
    )  # fmt: skip


@dataclass(frozen=True)
class Price:
    """What a quota costs in the objective."""

    free: float  # value without the quota
    bound: float  # with it
    loss: float | None  # 1 - bound / free; None where the value without the quota is not above 0
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return asdict(self)


def price(free: Selection, bound: Selection) -> Price:
    """Compare the values of two selections of the same objective over the same pool, without and with a quota.

    Raises:
        ConfigError: the value of the whole pool differs, so the objectives or the pools do.
    """
    one, two = free.full_value, bound.full_value
    if not (math.isclose(one, two, rel_tol=1e-5) or (math.isnan(one) and math.isnan(two))):
        raise ConfigError(
            f"The value of the whole pool is {one:.6g} without the quota and {two:.6g} with it, so these are two "
            "objectives or two pools. Compare two selections that differ in the quota only."
        )
    values = [float(s.value[-1]) if len(s) else 0.0 for s in (free, bound)]
    sizes = "" if len(free) == len(bound) else f", with {len(bound):,} rows in place of {len(free):,}"
    if not values[0] > 0:
        return Price(
            values[0], values[1], None, "The objective is worth nothing without the quota, so it has no price."
        )
    loss = 1 - values[1] / values[0]
    told = f"costs {_percent(loss)}" if loss > 0 else "costs nothing" if loss == 0 else f"adds {_percent(-loss)}"
    words = f"The quota {told} of the objective: {values[1]:.4g} in place of {values[0]:.4g}{sizes}."
    return Price(values[0], values[1], loss, words)


def _positions(candidates: Indices, rows: Indices, what: str) -> Indices:
    order = np.argsort(candidates, kind="stable")
    at = np.searchsorted(candidates[order], rows)
    at[at == len(candidates)] = 0
    if len(rows) and (not len(candidates) or (candidates[order[at]] != rows).any()):
        raise ValueError(f"a {what} is not among the {len(candidates)} candidates")
    found: Indices = order[at] if len(rows) else np.empty(0, np.int64)
    return found


def _covered(
    utility: Utility | None, candidates: Indices, picks: Indices, codes: Indices, groups: int
) -> tuple[Doubles, Doubles]:
    """What the subset and what the pool gives the rows of each group (G,); zeros without a utility."""
    if utility is None:
        return np.zeros(groups), np.zeros(groups)
    code = codes[_positions(candidates, utility.helped, "helped row")]
    weight = coverage.weights(utility)
    taken, whole = coverage.places(utility, picks), np.arange(utility.shape[1])
    got, could = (weight * coverage.best(utility, positions) for positions in (taken, whole))
    return np.bincount(code, got, groups).astype(np.float64), np.bincount(code, could, groups).astype(np.float64)


def _group(
    name: str, rows: Indices, picked: Indices, n: int, k: int, tokens: Indices | None, got: Doubles, could: Doubles
) -> Group:
    """One group, or several as one; arrays speak of the groups that are in it."""
    from scipy.stats import hypergeom

    size, held = int(rows.sum()), int(picked.sum())
    share, picked_share = size / n, held / k if k else 0.0
    inside = (None, None) if tokens is None else tuple(int(part.sum()) for part in tokens)
    whole = float(could.sum())
    return Group(
        name, size, share, held, picked_share, picked_share / share, float(hypergeom.cdf(held, n, size, k)),
        inside[0], inside[1], float(got.sum()) / whole if whole > 0 else None,
    )  # fmt: skip


def _poorest(groups: Sequence[Group], k: int, n: int) -> list[int]:
    """Groups by how badly they are served, the worst first; of equal ones the larger first."""
    if any(group.covered is not None for group in groups):
        served = [math.inf if group.covered is None else group.covered for group in groups]
        late = [False] * len(groups)
    else:
        served = [group.ratio for group in groups]
        late = [group.rows * k < n for group in groups]
    return sorted(range(len(groups)), key=lambda i: (late[i], served[i], -groups[i].rows, groups[i].name))


def _listed(order: Sequence[int], poor: Sequence[int], most: int) -> list[int]:
    """The worst served and the largest, half each, in the order of size."""
    keep = set(poor[: most // 2])
    for code in order:
        if len(keep) == most:
            break
        keep.add(code)
    return [code for code in order if code in keep]


def _differ(groups: Sequence[Group]) -> bool:
    served = {group.ratio if group.covered is None else group.covered for group in groups}
    return max(served) - min(served) > 1e-9


def _sentence(by: str, worst: Group | None, total: Group, unserved: int, count: int) -> str:
    if not total.picked:
        return f"By {by}: the subset is empty."
    if worst is None:
        return f"By {by}: {'there is one group' if count == 1 else f'all {count} groups are served alike'}."
    text = (
        f"By {by}, {worst.name} is served worst: {_percent(worst.picked_share)} of the subset, "
        f"{_percent(worst.share)} of the pool"
    )
    if worst.covered is not None and total.covered is not None:
        text += f", and {_percent(worst.covered)} of its value covered ({_percent(total.covered)} over all rows)"
    if unserved:
        text += f". {unserved} of {count} groups {'has' if unserved == 1 else 'have'} no row in the subset"
    return text + "."


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
