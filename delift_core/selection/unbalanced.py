"""Unbalanced optimal transport (arXiv 2602.14696): rows that keep the most mass where a row may give its own up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from delift_core.selection.ranked import cut
from delift_core.selection.sampled_transport import SampledTransport, descending
from delift_core.types import Evidence, Limit, Progress, Selection, no_progress


@dataclass(frozen=True)
class UnbalancedTransport(SampledTransport):
    """Rank rows by the mass they send to the target when the pool's weights are held only loosely.

    min over P of  sum P_ij C_ij + eps KL(P | a b^T) + rho KL(P 1 | a),  P^T 1 = b or at the price of rho KL(P^T 1 | b)

    [Chizat et al. 2018].  At the optimum row i keeps the mass a_i exp(-f_i / rho), where f_i is rho / (rho + eps) times
    the soft c-transform of the target's potential.  So it depends on the row and that potential alone, and solving for
    a sample of the pool and extending by one c-transform is as valid as for `TransportGradient`.

    A large rho holds the weights and ranks as `TransportGradient` does; rho near 0 lets every target row draw on the
    rows next to it, as soft nearest neighbours do.

    `gains` are the masses as shares of what all candidates keep: positive, falling along the order.  `value` is their
    running sum and `full_value` 1.
    """

    rho: float = field(
        default=0.5,
        metadata={"help": "price of a row giving up its mass, as a share of the mean cost", "min": 1e-3, "max": 1e3},
    )
    target_marginal: str = field(
        default="exact",
        metadata={
            "help": "exact: every target row gets its whole mass; relaxed: it may do with less, at the price rho",
            "choices": ("exact", "relaxed"),
        },
    )

    name: ClassVar[str] = "uot"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"vectors", "target_vectors"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take the rows that keep the most mass; with a token limit, those that still fit.

        Raises ConfigError when a vector is not finite or there is no target.
        """
        vectors, target = self.ends(evidence)
        other = math.inf if self.target_marginal == "exact" else self.rho
        plan = self.solve(vectors, target, rho=self.rho, rho_other=other, seed=seed, progress=progress)
        potential = self.potentials(evidence, plan, progress)
        mass = np.exp((potential.min() - potential) / plan.rho)
        mass /= mass.sum()
        held = 1 / float(mass @ mass)
        before = self.solve(vectors, target, seed=seed, progress=progress, stage="transport of the pool")
        notes = (
            f"{self.solved(plan, len(mass))} Effective number of rows that hold the mass: {held:.0f} of {len(mass)}. "
            f"OT distance from pool to target: {before.distance:.4f}.",
        )
        # The ranking goes by the potential, which still tells rows apart whose mass is too small for a number.
        return cut(evidence, descending(-potential), mass, limit, full=1.0, notes=notes)
