"""What if: choose again from the evidence that a finished run stored.  Nothing is scored, no model is read.

The same stages as in the pipeline follow each other (rules, objective, limit), so a retry with a run's own settings
gives its ids, and a retry with other settings gives the ids of the run that has them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from delift_core import registry
from delift_core.choosing import choose
from delift_core.config import RunConfig
from delift_core.errors import ConfigError
from delift_core.inputs import Inputs
from delift_core.intake import normal
from delift_core.preflight import open_inputs
from delift_core.review.restored import PARTS, read_vectors, restore, stored
from delift_core.review.yardstick import Yardstick, sizes, value_of
from delift_core.runs import Run, Workspace, kept
from delift_core.types import Doubles, Evidence, Indices, Progress, Selection, no_progress

__all__ = ["Possible", "Retried", "Yardstick", "changed", "evidence_of", "objectives_for", "retry", "value_of"]

SUBMODLIB = ("graph-cut", "disparity-sum", "disparity-min", "log-determinant", "set-cover", "prob-set-cover")
SUBMODLIB_ROWS = 5_000  # what those take at most
QUICK_PAIRS = 25_000_000  # stored pairs up to which a set function is maximised in a second or two
QUICK = frozenset({"fl", "flcg", "fl1mi", "fl2mi", "flquality", "top-k", "round-robin", "random"})


def evidence_of(ws: Workspace, run: Run) -> Evidence:
    """The evidence of a run as its objective saw it: scaled utilities, vectors, row scores; tokens -1 where unknown.

    Raises ConfigError where the run did not keep what its objective needs, with what is missing.
    """
    return restore(ws, run).evidence


# ------------------------------------------------------------------------------------------------ what is possible


@dataclass(frozen=True)
class Possible:
    """An objective, and whether a run's evidence serves it."""

    objective: str  # registry name
    method: str  # of a run that chooses this way; empty where there is none
    why_not: str  # empty where it is possible
    quick: bool = False  # chosen in a second or two, without a heavy library
    options: Mapping[str, dataclasses.Field[Any]] = field(default_factory=dict)  # the objective's own, free to choose
    fixed: Mapping[str, Any] = field(default_factory=dict)  # options that the stored evidence decides

    @property
    def ready(self) -> bool:
        """Whether `retry` can choose with it."""
        return not self.why_not


def objectives_for(ws: Workspace, run: Run) -> list[Possible]:
    """Every objective of the registry: those that the run's evidence serves first, its own before all."""
    own = registry.method(run.config.method).objective
    found = [_possible(ws, run, name) for name in registry.OBJECTIVES]
    return sorted(found, key=lambda p: (not p.ready, p.objective != own))


def _possible(ws: Workspace, run: Run, name: str) -> Possible:
    options, fixed = _own_options(run, name)
    try:
        config = changed(run, name)
        inputs = _opened(ws, run, config)
        for part in PARTS:
            if part in inputs.objective.needs:
                stored(run, part)
        if "scores" in inputs.objective.needs and kept.scores(run) is None:
            raise ConfigError("It looks at row scores, and this run kept none.")
        if name in SUBMODLIB:
            if importlib.util.find_spec("submodlib") is None:
                raise ConfigError("It needs submodlib, which is not installed: pip install submodlib-py==0.0.3")
            if (n := len(inputs.rows("pool"))) > SUBMODLIB_ROWS:
                raise ConfigError(f"It compares all pairs at once: {SUBMODLIB_ROWS:,} rows at most, not {n:,}.")
        read_vectors(ws, run, inputs)
    except ConfigError as error:
        return Possible(name, "", str(error), False, options, fixed)
    pairs = sum(_pairs(run, part) for part in PARTS if part in inputs.objective.needs)
    return Possible(name, config.method, "", name in QUICK and pairs <= QUICK_PAIRS, options, fixed)


def _pairs(run: Run, part: Any) -> int:
    values: Any = stored(run, part).values
    return int(values.size if isinstance(values, np.ndarray) else values.nnz)


def _opened(ws: Workspace, run: Run, config: RunConfig) -> Inputs:
    for role in ("target", "existing"):
        if getattr(registry.method(config.method), f"needs_{role}") and not getattr(run.config, role):
            raise ConfigError(f"It looks at {role} rows, and this run has none.")
    return open_inputs(ws, config)


def _own_options(run: Run, objective: str) -> tuple[dict[str, dataclasses.Field[Any]], dict[str, Any]]:
    """The options of an objective that are free, and those that the stored row scores decide."""
    cls = registry.resolve(registry.OBJECTIVES, "objective", objective)
    own = {f.name: f for f in dataclasses.fields(cls) if f.init}
    scores = kept.scores(run)
    fixed = {"quality": scores.name} if scores is not None and "quality" in own else {}
    return {name: f for name, f in own.items() if name not in fixed}, fixed


def _method(run: Run, objective: str) -> str:
    """The method that chooses by this objective from evidence of the run's kind."""
    own = registry.method(run.config.method)
    if objective == own.objective:
        return run.config.method
    needs = registry.resolve(registry.OBJECTIVES, "objective", objective)().needs
    scorer = own.scorer if needs & set(PARTS) else None
    if needs & set(PARTS) and scorer is None:
        raise ConfigError("It looks at pairs, and this run scored none.")
    scores = kept.scores(run)
    for method in registry.METHODS.values():
        if (method.scorer, method.objective) == (scorer, objective) and method.score in (None, scores and scores.name):
            return method.name
    if scorer is None:
        raise ConfigError("It looks at row scores, and this run kept none that a method ranks by.")
    if scorer == "rds" and needs - {"target"}:
        raise ConfigError("It looks at pool pairs, and rds compares the target with the pool only.")
    return registry.method(f"{scorer}+{objective}").name


def changed(run: Run, objective: str, options: Mapping[str, Any] | None = None, **settings: Any) -> RunConfig:
    """The configuration of a run that differs in its objective, the objective's options, or other settings.

    Without `options` the objective has the run's own where it is the run's, else its defaults.  Raises ConfigError for
    a wrong name, option or setting.
    """
    config, method = run.config, _method(run, objective)
    chosen, same = registry.method(method), method == run.config.method
    free, fixed = _own_options(run, objective)
    known = registry.option_fields(method)
    theirs = {*free, *fixed}
    held = {k: v for k, v in config.options.items() if k in known and (k not in theirs or (same and options is None))}
    return normal(
        config.with_(
            method=method, options={**held, **fixed, **(options or {})},
            target=config.target if chosen.needs_target or same else None,
            existing=config.existing if chosen.needs_existing or same else None,
            **settings,
        )
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ choose again


@dataclass(frozen=True, eq=False)
class Retried:
    """Rows that were chosen again, beside as many of the run's where its order is nested, else beside all of its."""

    config: RunConfig  # of the run that would choose them
    selection: Selection  # pool row indices in pick order
    k: int  # rows that the budget keeps
    value: float  # of them under the run's own objective; NaN where that gives sets of rows no value
    share: float  # that value over the one of the run's rows
    own: float  # value of all k rows that the run's own budget keeps
    overlap: float  # Jaccard index of the two sets of rows, 0 to 1
    entered: Indices  # pool row indices that are not among the run's rows, in pick order
    left: Indices  # of the run's rows, those that are not picked here, in the run's order
    tokens: int | None  # of the rows; None where the run kept no tokens of some
    sizes: Indices  # (S,) budgets, ascending; where the selection is not nested, those up to k alone
    curve: Doubles  # (S,) value of the first rows under the run's own objective
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def picked(self) -> Indices:
        """(k,) pool row indices, in pick order."""
        return self.selection.order[: self.k]


def retry(
    ws: Workspace,
    run: Run,
    *,
    objective: str | None = None,
    options: Mapping[str, Any] | None = None,
    pin: Sequence[str] | None = None,
    ban: Sequence[str] | None = None,
    quota: str | None = None,
    rows: int | None = None,
    yardstick: Yardstick | None = None,
    progress: Progress = no_progress,
) -> Retried:
    """Choose again from what a finished run stored.  What is None stays as the run has it.

    Args:
        ws: the workspace of the run.
        run: a finished run.
        objective: a name that `objectives_for` calls possible.
        options: all options of the objective that differ from their defaults; None: the run's own where the objective
            is the run's, else the defaults.
        pin: ids of rows that come first, in this order; () for none.
        ban: ids of rows that are never picked; () for none.
        quota: rows of each group, as in `RunConfig`; "" for none.
        rows: budget in rows.
        yardstick: `Yardstick.of(ws, run)`, where it is at hand.
        progress: of the search.

    Raises ConfigError where the run did not keep what the objective needs, for a wrong option, and for rules that
    cannot be followed.
    """
    started = time.monotonic()
    given = {
        "pin": None if pin is None else tuple(pin), "ban": None if ban is None else tuple(ban), "quota": quota,
        "budget": None if rows is None else str(rows),
    }  # fmt: skip
    config = changed(
        run, objective or registry.method(run.config.method).objective, options,
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    measure = yardstick or Yardstick.of(ws, run)
    _opened(ws, run, config)
    there = restore(ws, run, config)
    resolved = there.resolved(ws, progress)
    selection, k, told, _ = choose(there.inputs, there.evidence, resolved, progress)
    if measure.measures and not measure.exact:
        told += (
            "The run chose by predicted pairs as well, which it did not keep: choices and values here rest on the "
            "scored pairs alone.",
        )
    picked = selection.order[:k]
    tokens = there.evidence.tokens[np.searchsorted(there.evidence.candidates, picked)]
    at = sizes(len(selection) if selection.nested else k, k)
    curve = measure.curve(selection.order, at)
    value = float(curve[np.searchsorted(at, k)]) if k else 0.0
    theirs = run.selection.order[:k] if run.selection.nested and k <= len(run.selection) else run.picked
    reference = measure.own if len(theirs) == run.k else measure.value(theirs)
    common = len(np.intersect1d(picked, theirs))
    return Retried(
        config, selection, k, value, value / reference if reference else math.nan, measure.own,
        common / max(1, k + len(theirs) - common), picked[~np.isin(picked, theirs)], theirs[~np.isin(theirs, picked)],
        int(tokens.sum()) if (tokens >= 0).all() else None, at, curve, time.monotonic() - started,
        (*selection.notes, *resolved.notes, *told),
    )  # fmt: skip
