"""Entropic optimal transport between two sets of vectors, in blocks: never a matrix of all rows by all targets.

Pool rows x_i weigh a = 1/n, target rows y_j weigh b = 1/m, cost C_ij = |x_i - y_j|^2.  Balanced, the potentials solve

    f_i = -eps log sum_j b_j exp((g_j - C_ij) / eps)      g_j = -eps log sum_i a_i exp((f_i - C_ij) / eps)

[Sinkhorn in the log domain: Peyre and Cuturi, Computational Optimal Transport, section 4.4], in float32.  Unbalanced, a
side's marginal is only held near its weights, at the price of rho KL(marginal | weights), and the right side of its
potential is multiplied by rho / (rho + eps) [Chizat et al. 2018, Scaling Algorithms for Unbalanced Transport Problems].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from delift_core.types import Floats, Progress, no_progress

if TYPE_CHECKING:
    import torch

    from delift_core.selection._blocks import Kernel

BLOCK = {"cpu": 1 << 19, "cuda": 1 << 26}  # entries of the kernel that are looked at in one go
KEEP = {"cpu": 1 << 26, "cuda": 1 << 29}  # up to so many entries, the kernel of a solve stays in memory
MEMORY = 5  # past steps that the extrapolation looks at
SMALLEST = 1e-6  # epsilon never falls below it
NOTHING = 1e-5  # a mean cost of unit vectors below it is rounding


@dataclass(frozen=True, eq=False)
class Plan:
    """A solved transport problem."""

    target_potential: Floats  # (m,) g
    pool_potential: Floats  # (s,) f of the solved rows
    epsilon: float
    iterations: int
    error: float  # L1 distance of the plan's target marginal from what g asks of it, as a share of the mass
    distance: float  # sum P_ij C_ij / sum P_ij
    converged: bool
    rho: float = math.inf  # price of leaving the pool's weights; infinite: balanced, the pool marginal is exact


def device() -> str:
    """The device transport is solved on: a CUDA GPU when there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def mean_cost(pool: Floats, target: Floats) -> float:
    """Mean of |x_i - y_j|^2 over all pairs, without making the pairs; not finite where a vector is not."""
    squares = sum(float(np.einsum("nd,nd->", v, v, dtype=np.float64)) / len(v) for v in (pool, target))
    cost = squares - 2 * float(pool.mean(0, dtype=np.float64) @ target.mean(0, dtype=np.float64))
    return 0.0 if cost < 0 else cost


def unit_of_cost(pool: Floats, target: Floats) -> float:
    """The mean cost, in which epsilon and rho are counted; 1 where equal vectors leave nothing but rounding.

    Equal vectors cost nothing, and any regularisation then gives the same answer.  Not finite where a vector is not.
    """
    cost = mean_cost(pool, target)
    return 1.0 if cost < NOTHING else cost


def solve(
    pool: Floats,
    target: Floats,
    *,
    epsilon: float,
    tolerance: float = 1e-3,
    iterations: int = 1000,
    rho: float = math.inf,
    rho_target: float = math.inf,
    progress: Progress = no_progress,
    stage: str = "transport",
) -> Plan:
    """Potentials of the transport from `pool` (s, d) to `target` (m, d), ending on an f-update.

    One pass over the kernel makes a whole iteration: the f-update normalises each row of the plan, and the column sums
    of that plan give both the marginal error and the next g-update.  Steps are extrapolated (`Anderson`); one that
    raises the error is taken back and followed by a plain step, so the fixed point is that of plain Sinkhorn.

    Args:
        pool: finite vectors of the source, each of weight 1/s.
        target: finite vectors of the destination, each of weight 1/m.
        epsilon: entropic regularisation, in units of the cost.
        tolerance: stop when the target marginal is off by less, in L1, as a share of the mass.
        iterations: stop after so many at the latest; `converged` is then False.
        rho: price of leaving the pool's weights, in units of the cost; infinite holds them exactly.
        rho_target: the same for the target's weights.
        progress: called after every iteration.
        stage: the name to report under.
    """
    import torch

    from delift_core.selection._blocks import tensor

    epsilon, place = max(epsilon, SMALLEST), device()
    with torch.inference_mode():
        kernel = _kernel(tensor(pool, place), tensor(target, place), epsilon, KEEP[place])
        damping = 0.0 if math.isinf(rho) else epsilon / (rho + epsilon)
        keeps = 1.0 if math.isinf(rho_target) else rho_target / (rho_target + epsilon)
        weight = -math.log(len(target))
        g = plain = torch.zeros(len(target), dtype=torch.float64, device=place)
        steps, before, done = Anderson(MEMORY), math.inf, 0
        while True:
            soft, mass = kernel.carry(g, damping)
            done += 1
            error = _error(mass, weight - (0.0 if keeps == 1.0 else g / rho_target))
            progress(stage, done, iterations, f"marginal error {error:.1e}, to reach {tolerance:.0e}")
            if error < tolerance or done >= iterations:
                break
            if steps.extrapolated and not error < before:
                g, before = plain, math.inf
                steps.forget()
                continue
            plain, before = keeps * (g - epsilon * (mass - weight)), error
            g = steps.next(g, plain)
        distance = kernel.distance(g, damping)
    f = (1 - damping) * soft
    return Plan(g.float().cpu().numpy(), f.cpu().numpy(), epsilon, done, error, distance, error < tolerance, rho)


def extend(
    vectors: Floats, target: Floats, plan: Plan, *, progress: Progress = no_progress, stage: str = "extend"
) -> Floats:
    """The pool potential f (n,) of any rows (n, d) by one soft c-transform of the target potential."""
    import torch

    from delift_core.selection._blocks import tensor

    place = device()
    y, g = tensor(target, place), torch.from_numpy(plan.target_potential).to(place).double()
    out = np.empty(len(vectors), np.float32)
    step = max(1, BLOCK[place] // len(y))
    damped = 1.0 if math.isinf(plan.rho) else plan.rho / (plan.rho + plan.epsilon)
    with torch.inference_mode():
        for first in range(0, len(vectors), step):
            kernel = _kernel(tensor(vectors[first : first + step], place), y, plan.epsilon)
            out[first : first + step] = (damped * kernel.soft(g)).cpu().numpy()
            progress(stage, min(first + step, len(vectors)), len(vectors))
    return out


class Anderson:
    """Extrapolation of a fixed-point iteration from its last steps [Walker and Ni 2011, type II]."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.forget()

    def forget(self) -> None:
        """Start anew: the next step is a plain one."""
        self.points: list[torch.Tensor] = []
        self.residuals: list[torch.Tensor] = []
        self.extrapolated = False

    def next(self, point: torch.Tensor, mapped: torch.Tensor) -> torch.Tensor:
        """The next point, from one (m,) and where a plain step takes it."""
        import torch

        self.points = [*self.points[-self.memory :], point]
        self.residuals = [*self.residuals[-self.memory :], mapped - point]
        self.extrapolated = len(self.points) > 1
        if not self.extrapolated:
            return mapped
        turn = torch.stack(self.residuals).diff(dim=0)  # (k, m)
        gram = turn @ turn.T
        gram.diagonal().add_(1e-10 * gram.trace() + torch.finfo(gram.dtype).tiny)  # equal steps give no direction
        mix: torch.Tensor = torch.linalg.solve(gram, turn @ self.residuals[-1])
        return mapped - mix @ (torch.stack(self.points).diff(dim=0) + turn)


def _kernel(x: torch.Tensor, y: torch.Tensor, epsilon: float, keep: int = 0) -> Kernel:
    from delift_core.selection._blocks import Kernel

    return Kernel(x, y, epsilon, BLOCK[x.device.type], keep)


def _error(mass: torch.Tensor, wanted: torch.Tensor | float) -> float:
    """L1 distance of the masses (m,) from those wanted, both given as logarithms, as a share of what is wanted."""
    import torch

    wanted = torch.as_tensor(wanted, dtype=mass.dtype, device=mass.device).expand_as(mass)
    level = wanted.max()
    asked = (wanted - level).exp()
    return float(((mass - level).exp() - asked).abs().sum() / asked.sum())
