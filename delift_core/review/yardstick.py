"""A run's own objective as a measure of any rows of its pool, so that choices can be compared by one price."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from delift_core.review.restored import restore
from delift_core.runs import Run, Workspace
from delift_core.selection.cover import CoverProblem, full_value, kernels
from delift_core.types import Doubles, Evidence, Indices, Limit, Rules, Selection, no_progress

CLOSE = 1e-5  # relative difference of two values that are the same but for rounding
POINTS = 200  # budgets at which a curve of values is known, at most


@runtime_checkable
class Covering(Protocol):
    """An objective that is a `CoverProblem`."""

    def problem(self, evidence: Evidence) -> CoverProblem:
        """The problem whose columns are the candidates."""


def values_of(problem: CoverProblem, picks: Indices, sizes: Indices) -> Doubles:
    """Give f of the first s columns of `picks` for each s of `sizes` (S,), ascending."""
    covered = problem.covered()
    before, bonus = covered.astype(np.float64), problem.bonus
    found, done = np.zeros(len(sizes)), 0
    for at, size in enumerate(sizes):
        kernels().cover_all(np.ascontiguousarray(picks[done:size]), *problem.arrays, covered, problem.cap32)
        done = int(size)
        gain = covered - before
        found[at] = float(gain.sum() if problem.weight is None else gain @ problem.weight)
        found[at] += 0.0 if bonus is None else float(bonus[picks[:done]].sum())
    return found


def value_of(problem: CoverProblem, rows: Indices) -> float:
    """Give f of a set of columns (positions among the candidates), in whichever order they come."""
    return float(values_of(problem, rows, np.array([len(rows)]))[0])


@dataclass(frozen=True, eq=False)
class Yardstick:
    """A run's own objective on its own evidence.

    Set functions give any rows a value.  Others do not: a random order maximises nothing, the gains of farthest-first
    and of round-robin depend on the order of the picks, and those of `got-d-diverse` on the budget.
    """

    objective: Any
    evidence: Evidence
    seed: int
    own: float  # f of the run's own k picks; NaN where sets of rows have no value
    exact: bool  # whether the run says the same; not where it chose by predicted pairs that it did not keep

    @classmethod
    def of(cls, ws: Workspace, run: Run) -> Yardstick:
        """The measure of a run.  Raises ConfigError where the run did not keep what its objective needs."""
        there = restore(ws, run)
        objective: Any = there.inputs.objective
        made = cls(objective, there.evidence, run.config.seed, math.nan, False)
        told = float(run.selection.value[run.k - 1]) if run.k else 0.0
        value = made._whole(run.picked)
        same = math.isclose(value, told, rel_tol=CLOSE, abs_tol=1e-9)
        if isinstance(objective, Covering):
            whole = full_value(objective.problem(there.evidence))
            same = same and math.isclose(whole, run.selection.full_value, rel_tol=CLOSE, abs_tol=1e-9)
            return replace(made, own=value, exact=same)
        turned = made._whole(run.picked[::-1])  # the value of a set does not depend on an order
        is_set = objective.nested and same and math.isclose(value, turned, rel_tol=CLOSE)
        return replace(made, own=value if is_set else math.nan, exact=same)

    @property
    def measures(self) -> bool:
        """Whether sets of rows have a value, and the run's own one above or below 0, so that shares of it are told."""
        return math.isfinite(self.own) and self.own != 0

    def curve(self, rows: Indices, sizes: Indices) -> Doubles:
        """Give f of the first s of `rows` (pool row indices) for each s of `sizes`; NaN where sets have no value."""
        if not self.measures or not len(sizes):
            return np.full(len(sizes), np.nan)
        places = self._places(rows)
        if isinstance(self.objective, Covering):
            return values_of(self.objective.problem(self.evidence), places, sizes)
        return self._pinned(places)[np.asarray(sizes) - 1]

    def value(self, rows: Indices) -> float:
        """Give f of a set of pool row indices; NaN where sets have no value."""
        return self._whole(rows) if self.measures else math.nan

    def share(self, value: float) -> float:
        """A value over the one of the run's own rows; NaN where sets have no value."""
        return value / self.own if self.measures else math.nan

    def _places(self, rows: Indices) -> Indices:
        candidates = self.evidence.candidates
        places = np.minimum(np.searchsorted(candidates, rows), len(candidates) - 1)
        if not np.array_equal(candidates[places], rows):
            raise ValueError("a row is no candidate of the run")
        return places.astype(np.int64)

    def _whole(self, rows: Indices) -> float:
        places = self._places(rows)
        if not len(places):
            return 0.0
        if isinstance(self.objective, Covering):
            return value_of(self.objective.problem(self.evidence), places)
        return float(self._pinned(places)[-1])

    def _pinned(self, places: Indices) -> Doubles:
        """The running value of given rows: what the objective says when all of its picks are given."""
        limit = Limit(len(places), rules=Rules(pinned=places))
        found: Selection = self.objective.select(self.evidence, limit, seed=self.seed, progress=no_progress)
        return found.value


def sizes(order: int, k: int) -> Indices:
    """Up to `POINTS` budgets from 1 to the whole order, `k` among them."""
    if not order:
        return np.zeros(0, np.int64)
    found = np.round(np.linspace(1, order, min(order, POINTS))).astype(np.int64)
    return np.union1d(found, [k] if k else []).astype(np.int64)
