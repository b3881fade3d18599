"""The rules of a limit, checked and put into the arrays that the compiled searches follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import ConfigError
from delift_core.types import Indices, Limit, Rules

if TYPE_CHECKING:
    from delift_core.selection._kernels import Ruling

_NONE = np.empty(0, np.int64)


def check(limit: Limit, n: int, tokens: Indices | None) -> None:
    """Refuse rules that no choice among n candidates can follow within the limit.

    Two pinned rows may be near-duplicates of each other: what is pinned is taken, and `once` holds for the rest.

    Args:
        limit: the resolved budget.
        n: how many candidates there are.
        tokens: (n,) tokens of each; needed for a token limit only.

    Raises:
        ConfigError: every candidate is banned; a row is pinned twice, or pinned and banned; the pinned rows, or the
            minimums of groups beside them, are more than the budget; a minimum is above a maximum; more rows of a
            group are pinned than it may have.
        ValueError: arrays of the wrong length, or codes out of range.
    """
    rules = limit.rules
    if rules is None:
        return
    _check_shapes(rules, n)
    pinned = rules.pinned
    if rules.banned is not None and n and rules.banned.all():
        raise ConfigError(f"No row is left to pick: all {n} candidates are banned. Ban fewer rows.")
    if len(np.unique(pinned)) < len(pinned):
        twice = int(pinned[np.argmax(np.bincount(pinned)[pinned] > 1)])
        raise ConfigError(f"Candidate {twice} (counted from 0) is pinned twice. Name it once.")
    if rules.banned is not None and rules.banned[pinned].any():
        both = int(pinned[np.argmax(rules.banned[pinned])])
        raise ConfigError(
            f"Candidate {both} (counted from 0) is both pinned and banned. Take it out of one of the two lists."
        )
    if len(pinned) > limit.rows:
        raise ConfigError(
            f"{len(pinned)} rows are pinned, but the budget is {limit.rows} rows. Pin fewer rows or raise the budget."
        )
    used = 0
    if limit.tokens is not None and tokens is not None:
        used = int(tokens[pinned].sum())
        if used > limit.tokens:
            raise ConfigError(
                f"The {len(pinned)} pinned rows take {used} tokens, but the budget is {limit.tokens} tokens. "
                "Pin fewer rows or raise the budget."
            )
    if rules.group is not None:
        _check_groups(limit, rules, rules.group, tokens, used)


def _check_shapes(rules: Rules, n: int) -> None:
    for name in ("banned", "once", "group"):
        array = getattr(rules, name)
        if array is not None and array.shape != (n,):
            raise ValueError(f"rules.{name} of shape {array.shape} for {n} candidates")
    if len(rules.pinned) and not (rules.pinned.min() >= 0 and rules.pinned.max() < n):
        raise ValueError(f"rules.pinned holds positions outside [0, {n})")
    bounds = [b for b in (rules.at_least, rules.at_most) if b is not None]
    if rules.group is None:
        if bounds:
            raise ValueError("rules.at_least and rules.at_most need rules.group")
        return
    if len({len(b) for b in bounds}) > 1 or any(b.min(initial=0) < 0 for b in bounds):
        raise ValueError("rules.at_least and rules.at_most must hold one number >= 0 for each group")
    if bounds and n and not (rules.group.min() >= 0 and rules.group.max() < len(bounds[0])):
        raise ValueError(f"rules.group holds codes outside [0, {len(bounds[0])})")


def _check_groups(limit: Limit, rules: Rules, group: Indices, tokens: Indices | None, used: int) -> None:
    least, most = bounds(rules)
    if (least > most).any():
        g = int(np.argmax(least > most))
        raise ConfigError(
            f"The quota wants of {group_name(rules, g)} at least {least[g]} rows and at most {most[g]}. "
            "Lower the minimum or raise the maximum."
        )
    held = np.bincount(group[rules.pinned], minlength=len(least))
    if (held > most).any():
        g = int(np.argmax(held > most))
        raise ConfigError(
            f"{held[g]} rows of {group_name(rules, g)} are pinned, but at most {most[g]} of it may be taken. "
            "Pin fewer of them or raise the maximum."
        )
    unmet = np.maximum(least - held, 0)
    if len(rules.pinned) + unmet.sum() > limit.rows:
        beside = f" beside the {len(rules.pinned)} pinned rows" if len(rules.pinned) else ""
        raise ConfigError(
            f"The minimums of the groups ask for {unmet.sum()} rows{beside}, but the budget is {limit.rows} rows. "
            "Lower the minimums or raise the budget."
        )
    if limit.tokens is not None and tokens is not None and unmet.any():
        smallest = _shortest(group, tokens, unmet, _open(rules, len(group)))
        if used + smallest > limit.tokens:
            raise ConfigError(
                f"The shortest rows that meet the minimums of the groups take {used + smallest} tokens with the pinned "
                f"rows, but the budget is {limit.tokens} tokens. Lower the minimums or raise the budget."
            )


def _shortest(group: Indices, tokens: Indices, unmet: Indices, open_: NDArray[np.bool_]) -> int:
    """Tokens of the `unmet` (G,) shortest open rows of each group, or of all it has."""
    places = np.flatnonzero(open_)
    places = places[np.lexsort((tokens[places], group[places]))]
    sizes = np.bincount(group[places], minlength=len(unmet))
    rank = np.arange(len(places)) - (np.cumsum(sizes) - sizes)[group[places]]
    return int(tokens[places[rank < unmet[group[places]]]].sum())


def _open(rules: Rules, n: int) -> NDArray[np.bool_]:
    """Which rows (n,) are neither pinned nor banned."""
    free = np.ones(n, bool) if rules.banned is None else ~rules.banned
    free[rules.pinned] = False
    return free


def bounds(rules: Rules) -> tuple[Indices, Indices]:
    """The least and the most rows (G,) of each group; where one of them is not given, 0 or no bound."""
    given = rules.at_least if rules.at_least is not None else rules.at_most
    if rules.group is None or given is None:
        return _NONE, _NONE
    least = np.zeros(len(given), np.int64) if rules.at_least is None else rules.at_least.astype(np.int64)
    most = np.full(len(given), np.iinfo(np.int64).max) if rules.at_most is None else rules.at_most.astype(np.int64)
    return least, most


def open_columns(rules: Rules | None, n: int) -> Indices:
    """Positions that a search may pick by itself, ascending."""
    return np.arange(n, dtype=np.int64) if rules is None else np.flatnonzero(_open(rules, n)).astype(np.int64)


def prepare(rules: Rules | None, live: Indices) -> Ruling:
    """A fresh rule book for a search among the `live` positions (and the pinned ones)."""
    from delift_core.selection._kernels import Ruling

    if rules is None:
        none = _NONE
        return Ruling(none, np.empty(0, bool), none, none, none, none, none, none, none, np.zeros(1, np.int64))
    least, most = bounds(rules)
    grouped, minimums = bool(len(least)), bool(least.any())
    code = _NONE if rules.once is None else _codes(rules.once)
    used = np.zeros(int(code.max(initial=-1)) + 1, bool)
    group = np.ascontiguousarray(rules.group, np.int64) if grouped and rules.group is not None else _NONE
    first = groups = _NONE
    left = np.zeros(len(least), np.int64)
    if minimums:
        members = np.concatenate([rules.pinned, live])
        if len(code):  # each set counts once for every group that it has a row in
            pairs = np.sort(code[members] * len(least) + group[members])
            pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # np.unique takes 20 times as long
            sets, groups = pairs // len(least), pairs % len(least)
            first = np.searchsorted(sets, np.arange(len(used) + 1)).astype(np.int64)
            left += np.bincount(groups, minlength=len(least))
        else:
            left += np.bincount(group[members], minlength=len(least))
    unmet = np.array([np.minimum(least, left).sum()], np.int64)
    return Ruling(code, used, first, groups, group, np.zeros(len(least), np.int64), least, most, left, unmet)


def _codes(once: Indices) -> Indices:
    """Codes from 0 up without large gaps; a negative one stands for a set of its own."""
    codes = np.ascontiguousarray(once, np.int64)
    alone = codes < 0
    if alone.any():
        codes = np.where(alone, codes.max() + 1 + np.cumsum(alone), codes)
    if codes.max(initial=0) > 4 * len(codes):
        codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    return codes


def guarantee(rules: Rules | None) -> str:
    """What is known of greedy's value under rules and a row budget; nothing to tell where 1 - 1/e holds as ever."""
    if rules is None:
        return ""
    grouped, unique = rules.group is not None and len(bounds(rules)[0]) > 0, rules.once is not None
    if unique and rules.at_least is not None and rules.at_least.any():
        return "No bound on the value of greedy is known for minimums with one row of each set of near-duplicates."
    if grouped and unique:
        return (
            "Greedy under quotas and one row of each set of near-duplicates reaches at least a third of the best value."
        )
    if grouped or unique:
        kind = "quotas" if grouped else "one row of each set of near-duplicates"
        return f"Greedy under {kind} reaches at least half of the best value."
    return ""


def group_name(rules: Rules, code: int) -> str:
    """What a group is called in a sentence."""
    return rules.names[code] if rules.names else f"group {code} (counted from 0)"
