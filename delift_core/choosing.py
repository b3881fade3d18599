"""The picks of a run: the objective under its limit, what a quota costs, and what checked rows say of a pair plan."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from delift_core.constraints import Resolved, takeable, with_quota
from delift_core.errors import ConfigError
from delift_core.evidence import Gathered, better_informed
from delift_core.inputs import Inputs
from delift_core.insight.fairness import price
from delift_core.insight.fidelity import Fidelity, fidelity
from delift_core.types import Describing, Evidence, Limit, Progress, Selection

TRIES = 4  # numbers of rows that are tried for a quota under a token budget
FILLED = 0.97  # share of a token budget that counts as used up
FULL_ORDER_ROWS = 100_000  # up to here all rows are put in order, so that every smaller budget is a slice


def choose(
    inputs: Inputs, found: Evidence, resolved: Resolved, progress: Progress
) -> tuple[Selection, int, tuple[str, ...], Limit]:
    """The picks, how many of them the budget keeps, what is to be said of just those, and the limit in the end.

    Where the order is nested, all rows are put in order.  Where a quota counts rows and the budget counts tokens, the
    number of rows is found by trying.
    """
    limit = resolved.limit
    objective, n, rules, seed = inputs.objective, len(found), limit.rules, inputs.config.seed
    quota = rules is not None and rules.group is not None  # may be used up before all rows are in order
    whole = objective.nested and limit.tokens is None and n <= FULL_ORDER_ROWS and not quota
    asked = replace(limit, rows=max(limit.rows, takeable(rules, n))) if whole else limit
    selection = objective.select(found, asked, seed=seed, progress=progress)
    told: tuple[str, ...] = ()
    if limit.tokens is not None and rules is not None and rules.shares:
        selection, limit, told = _filled(inputs, found, resolved, selection, progress)
    k = min(limit.rows, len(selection))
    if k < n and isinstance(objective, Describing):
        told += objective.describe(found, selection.order[:k], seed=seed, progress=progress)
    return selection, k, told, limit


def _filled(
    inputs: Inputs, found: Evidence, resolved: Resolved, first: Selection, progress: Progress
) -> tuple[Selection, Limit, tuple[str, ...]]:
    """The picks under a quota of shares whose number of rows uses a token budget best, of a few that are tried."""
    limit = resolved.limit
    assert limit.tokens is not None
    assert limit.rules is not None

    def spent(selection: Selection) -> int:
        return int(found.tokens[np.searchsorted(found.candidates, selection.order)].sum())

    best, held = first, limit
    for _ in range(TRIES):
        rows = math.ceil(len(best) * limit.tokens / max(1, spent(best)))
        if rows <= len(best) or spent(best) >= FILLED * limit.tokens:
            break
        try:
            rules, _ = with_quota(limit.rules, inputs.config.quota, resolved.values, limit, found.tokens, rows)
            tried = replace(limit, rules=rules)
            other = inputs.objective.select(found, tried, seed=inputs.config.seed, progress=progress)
        except ConfigError:  # so many rows do not fit: what was found before stands
            break
        if spent(other) <= spent(best):
            break
        best, held = other, tried
    told = (
        f"A quota counts rows and this budget counts tokens: {len(best)} rows in the quota's shares take "
        f"{spent(best):,} of {limit.tokens:,} tokens."
    )
    return best, held, (told,)


def price_of_quota(
    inputs: Inputs,
    found: Evidence,
    limit: Limit,
    selection: Selection,
    k: int,
    progress: Progress,
) -> tuple[str, ...]:
    """What a quota costs: the value of the picks beside that of the picks without it, all else the same."""
    held = limit.rules
    if held is None or held.group is None or not k or not selection.full_value:
        return ()
    without = replace(limit, rules=replace(held, group=None, at_least=None, at_most=None, names=(), shares=False))
    other = inputs.objective.select(found, without, seed=inputs.config.seed, progress=progress)
    bound = selection.head(k) if selection.nested else selection
    free_picks = other.head(min(limit.rows, len(other))) if other.nested else other
    return (f"{inputs.config.quota}. {price(free_picks, bound).sentence}",)


def checked_plans(
    inputs: Inputs,
    found: Gathered,
    selection: Selection,
    k: int,
    limit: Limit,
    progress: Progress,
) -> dict[str, Fidelity]:
    """What the checked rows of each pair plan say of it, and of the first `k` picks."""
    seed, judged = inputs.config.seed, {}
    for part, planned in found.planned.items():
        picks = reference = None
        if part != "existing":  # those are no rows to pick from
            known = better_informed(inputs, found, part)
            other = inputs.objective.select(known, limit, seed=seed, progress=progress)
            picks, reference = (np.searchsorted(known.candidates, o.order[:k]) for o in (selection, other))
        rows, columns = planned.used.shape
        judged[part] = fidelity(
            planned.check.exact, planned.check.told, planned.check.scored, plan=inputs.config.pairs,
            pairs=planned.pairs, share=planned.pairs / (rows * columns), picks=picks, reference=reference,
            own=planned.check.rows if part == "pool" and not inputs.in_context else None, seed=seed,
        )  # fmt: skip
    return judged
