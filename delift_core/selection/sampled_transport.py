"""What the transport objectives share: solve for a seeded sample of the pool, then extend to all of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from delift_core.errors import ConfigError
from delift_core.selection import sinkhorn
from delift_core.types import Doubles, Evidence, Floats, Indices, Progress, no_progress

_ASKED = {
    "target": "The target has no rows. Give a file with at least one row of the task.",
    "existing": "The existing data has no rows. Give a file with at least one row to move away from.",
}


@dataclass(frozen=True)
class SampledTransport:
    """Options of the solver, and optimal transport between the candidates and one other set of rows."""

    epsilon: float = field(
        default=0.05,
        metadata={"help": "entropic regularisation, as a share of the mean cost", "min": 1e-3, "max": 10.0},
    )
    sample: int = field(default=10_000, metadata={"help": "rows of the pool that are solved exactly", "min": 100})
    tolerance: float = field(default=1e-3, metadata={"help": "L1 marginal error to stop at", "min": 1e-5, "max": 1.0})
    iterations: int = field(default=1000, metadata={"help": "most iterations of the solver", "min": 1})

    other: ClassVar[str] = "target"  # the role of the set at the other end: target or existing

    @property
    def end(self) -> str:
        """The set at the other end, in words."""
        return "the target" if self.other == "target" else "the existing data"

    def ends(self, evidence: Evidence) -> tuple[Floats, Floats]:
        """The vectors (n, d) of the candidates and (m, d) of the other set.

        Raises ConfigError when a side is empty, ValueError when the evidence does not hold them or they disagree.
        """
        vectors, other = evidence.vectors, getattr(evidence, f"{self.other}_vectors")
        if vectors is None or other is None:
            raise ValueError(f"the evidence has no vectors or {self.other}_vectors, which this objective needs")
        if not len(vectors):
            raise ConfigError("The pool has no rows to choose from. Give a pool with rows.")
        if not len(other):
            raise ConfigError(_ASKED[self.other])
        if len(vectors) != len(evidence) or vectors.shape[1] != other.shape[1]:
            raise ValueError(
                f"vectors of shape {vectors.shape}, {self.other} {other.shape}, for {len(evidence)} candidates"
            )
        return vectors, other

    def gradients(
        self, evidence: Evidence, *, seed: int = 0, progress: Progress = no_progress
    ) -> tuple[Doubles, tuple[str, ...]]:
        """Calibrated gradients (n,) of all candidates, f_i - mean_{l != i} f_l, and what to tell about the solve.

        [GOT-D, arXiv 2405.02774, section 3.]  They sum to 0; one row alone has gradient 0.
        """
        vectors, other = self.ends(evidence)
        plan = self.solve(vectors, other, seed=seed, progress=progress)
        f = self.potentials(evidence, plan, progress)
        n = len(f)
        gradient = (f - f.mean()) * (n / (n - 1)) if n > 1 else np.zeros(n)
        distance = f"OT distance from pool to {self.other}: {plan.distance:.4f}."
        return gradient, (f"{self.solved(plan, n)} {distance}",)

    def potentials(self, evidence: Evidence, plan: sinkhorn.Plan, progress: Progress) -> Doubles:
        """The pool potential f (n,) of all candidates; raises ConfigError when a vector is not finite."""
        vectors, other = self.ends(evidence)
        if len(plan.pool_potential) == len(vectors):
            return plan.pool_potential.astype(np.float64)
        f = sinkhorn.extend(vectors, other, plan, progress=progress).astype(np.float64)
        if not np.isfinite(f).all():
            row = evidence.candidates[np.flatnonzero(~np.isfinite(f))[0]]
            raise ConfigError(f"The vector of pool row {row} holds NaN or infinity. Encode the pool again.")
        return f

    def solve(
        self,
        vectors: Floats,
        other: Floats,
        *,
        among: Indices | None = None,
        rho: float = math.inf,
        rho_other: float = math.inf,
        seed: int = 0,
        progress: Progress = no_progress,
        stage: str = "transport",
    ) -> sinkhorn.Plan:
        """Solve for a sorted random sample of the rows `among` (default: all); rho in units of the mean cost."""
        among = np.arange(len(vectors)) if among is None else among
        if len(among) > self.sample:
            among = np.sort(np.random.default_rng(seed).choice(among, self.sample, replace=False))
        pool, other = np.asarray(vectors[among], np.float32), np.asarray(other, np.float32)
        for rows, name in ((pool, "the pool"), (other, self.end)):
            if not np.isfinite(rows).all():
                raise ConfigError(f"A vector of {name} holds NaN or infinity. Encode the rows again.")
        cost = sinkhorn.unit_of_cost(pool, other)
        return sinkhorn.solve(
            pool, other, epsilon=self.epsilon * cost, tolerance=self.tolerance, iterations=self.iterations,
            rho=rho * cost, rho_target=rho_other * cost, progress=progress, stage=stage,
        )  # fmt: skip

    def solved(self, plan: sinkhorn.Plan, n: int) -> str:
        """What to tell about a solve for a pool of n rows."""
        rows = f"a sample of {self.sample} of {n} rows" if n > self.sample else f"all {n} rows"
        kind = "Optimal" if math.isinf(plan.rho) else "Unbalanced optimal"
        return f"{kind} transport solved on {rows}: {self.effort(plan)}."

    def effort(self, plan: sinkhorn.Plan) -> str:
        """Iterations and error of a solve."""
        end = "" if plan.converged else f"; it had not reached {self.tolerance:g}, so raise iterations or epsilon"
        return f"{plan.iterations} iterations, marginal error {plan.error:.1e}, epsilon {plan.epsilon:.4g}{end}"

    def describe(
        self, evidence: Evidence, rows: Indices, *, seed: int = 0, progress: Progress = no_progress
    ) -> tuple[str, ...]:
        """What to tell about a subset given by its pool row indices: its own OT distance to the other set."""
        if not len(rows):
            return ()
        by_row = np.argsort(evidence.candidates)
        places = np.sort(by_row[np.searchsorted(evidence.candidates, rows, sorter=by_row)])
        plan = self.solve(
            *self.ends(evidence), among=places, seed=seed, progress=progress, stage="transport of the subset"
        )
        return (
            f"OT distance from the {len(rows)} selected rows to {self.end}: {plan.distance:.4f}. "
            f"Solve: {self.effort(plan)}.",
        )


def descending(key: Doubles) -> Indices:
    """Positions (n,) by falling key, ties to the lowest."""
    return np.argsort(-key, kind="stable").astype(np.int64)
