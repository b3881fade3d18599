"""Scoring by a plan: the pairs that it asks for, round by round, and a random exact block to judge it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import ConfigError
from delift_core.scoring.icl import STAGE, InContext, Report
from delift_core.scoring.pairs import Pairs, joined
from delift_core.scoring.plans import Outcome, Plan, Problem
from delift_core.scoring.rows import Rows
from delift_core.types import BlockStore, Floats, Indices, Kind, Progress, Utility, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel
    from delift_core.scoring.features import Side
    from delift_core.scoring.partial import PairScorer


@dataclass(frozen=True, eq=False)
class Checked:
    """A random sample of helped rows, scored against every candidate: what a plan is judged by, never chosen by."""

    rows: Indices  # (h,) positions among the helped rows
    exact: Floats  # (h, C) in the units that the plan learnt from; a missing pair is NaN
    told: Floats  # (h, C) what the plan makes of those pairs; NaN where it says nothing
    scored: NDArray[np.bool_]  # (h, C) which of them it scored


@dataclass(frozen=True, eq=False)
class Planned:
    """What a plan came to."""

    raw: Mapping[Kind, Utility]  # (R, C) sparse: the scored pairs, by what they measure
    used: Utility  # the one that was asked for, with the surrogate's guesses where the plan makes any
    report: Report | None  # of the model's passes; None where vectors were compared
    pairs: int  # scored for the selection
    guessed: int  # pairs whose utility is predicted, besides
    spared: int  # pairs that the plan could have asked for, but stopped before
    check: Checked
    rounds: int


def score_planned(
    scorer: InContext,
    helped: Rows,
    candidates: Rows,
    model: CausalModel,
    plan: Plan,
    vectors: tuple[Floats, Floats],
    *,
    same: bool,
    kind: Kind,
    check_rows: int,
    seed: int,
    store: BlockStore,
    progress: Progress = no_progress,
) -> Planned:
    """U and PMI of the pairs that `plan` asks for, and of a random exact block to judge it by.

    Args:
        scorer: in-context utility with its options.
        helped: (R,) rows.
        candidates: (C,) rows.
        model: the language model.
        plan: the pair plan.
        vectors: unit vectors (R, d) and (C, d) of both sides.
        same: a pool against itself; a row's own pair and those of its copies are never asked for.
        kind: "l2" or "pmi", what the plan learns from.
        check_rows: helped rows of the exact block.
        seed: of the plan, and of the choice of those rows.
        store: where finished blocks live.
        progress: counts pairs; may raise Cancelled.

    Raises ConfigError when a side is too small for a plan to make sense.
    """
    from delift_core.scoring.partial import pair_scorer

    shape = (len(helped), len(candidates))
    if min(shape) < 2:
        raise ConfigError(f"A pair plan wants two rows on each side, not {shape[0]} and {shape[1]}. Take pairs dense.")
    job = scorer.job(helped, candidates, model)
    hidden = np.sort(np.random.default_rng(seed).permutation(shape[0])[:check_rows])
    total = float(plan.count(shape, same) + len(hidden) * shape[1])

    def check(done: int) -> None:
        progress(STAGE, min(float(done), total), total, plan.name)

    with pair_scorer(job, store, check) as passes:
        base = passes.baseline["d" if kind == "l2" else "l"]
        problem = Problem(
            shape, same, passes.missing, *vectors, base, partial(_sides, passes, scorer, vectors), seed, store
        )
        pairs, values, outcome, rounds = rounds_of(plan, problem, passes, kind)
        exact = _block(passes, hidden, kind)
        report = Report(
            passes.engine.name, passes.reason, job.layout.cut_prompts, job.layout.cut_responses, len(passes.cut),
            passes.blocks, passes.computed, passes.engine.notes,
        )  # fmt: skip
    raw = {
        unit: Utility(pairs.matrix(values[unit]), helped.indices, candidates.indices, unit, baseline, outcome.weights)
        for unit, baseline in _units(passes.baseline)
    }
    used, guessed = raw[kind], 0
    if outcome.guessed is not None and outcome.guesses is not None:
        both = pairs.union(outcome.guessed)
        merged = np.empty(len(both), np.float32)
        merged[both.find(outcome.guessed)] = outcome.guesses
        merged[both.find(pairs)] = values[kind]  # what was measured stands
        guessed = len(both) - len(pairs)
        used = Utility(both.matrix(merged), used.helped, used.candidates, kind, used.baseline, used.weights)
    progress(STAGE, total, total, plan.name)
    checked = Checked(hidden, exact, _rows(used, hidden), ~np.isnan(_rows(raw["l2"], hidden)))
    return Planned(raw, used, report, len(pairs), guessed, outcome.spared, checked, rounds)


def _rows(utility: Utility, rows: Indices) -> Floats:
    """Some rows of a sparse utility, dense; NaN where nothing is stored."""
    found = np.full((len(rows), utility.shape[1]), np.nan, np.float32)
    part = utility.values.tocsr()[rows].tocoo()  # type: ignore[union-attr]
    found[part.coords] = part.data
    return found


def _sides(passes: PairScorer, scorer: InContext, vectors: tuple[Floats, Floats]) -> tuple[Side, Side]:
    """Both sides as a plan may learn from them; a candidate's own baseline pass is as good a sign as a row's."""
    job = passes.job
    helped = passes.side(job, vectors[0])
    if job.candidates is job.helped:
        return helped, helped
    return helped, passes.side(scorer.job(job.candidates, job.candidates, job.model), vectors[1])


def _units(baseline: Mapping[str, Floats]) -> tuple[tuple[Kind, Floats], tuple[Kind, Floats]]:
    return ("l2", baseline["d"]), ("pmi", baseline["l"])


def rounds_of(
    plan: Plan, problem: Problem, passes: PairScorer, kind: Kind
) -> tuple[Pairs, dict[Kind, Floats], Outcome, int]:
    """Let a plan ask until it is done: all pairs with both readings, what it returned, and how often it asked."""
    asking = plan.ask(problem)
    seen: list[tuple[Pairs, dict[Kind, Floats]]] = []
    try:
        wanted = next(asking)
        while True:
            l2, pmi = passes.score(wanted)
            found: dict[Kind, Floats] = {"l2": l2, "pmi": pmi}
            seen.append((wanted, found))
            wanted = asking.send(found[kind])
    except StopIteration as end:
        outcome: Outcome = end.value
    everything = joined((pairs for pairs, _ in seen), problem.shape)
    values: dict[Kind, Floats] = {unit: np.empty(len(everything), np.float32) for unit in ("l2", "pmi")}
    for pairs, found in seen:
        at = everything.find(pairs)
        for unit, numbers in found.items():
            values[unit][at] = numbers
    return everything, values, outcome, len(seen)


def _block(passes: PairScorer, rows: Indices, kind: Kind) -> Floats:
    columns = passes.shape[1]
    block = Pairs.of(np.repeat(rows, columns), np.tile(np.arange(columns), len(rows)), passes.shape)
    block = block.without(passes.missing)
    l2, pmi = passes.score(block)
    exact = np.full((len(rows), columns), np.nan, np.float32)
    exact[np.searchsorted(rows, block.rows), block.columns] = l2 if kind == "l2" else pmi
    return exact
