"""Entropic optimal transport between two sets of vectors, in blocks: never a matrix of all rows by all targets.

Pool rows x_i weigh a = 1/n, target rows y_j weigh b = 1/m, cost C_ij = |x_i - y_j|^2.  The potentials solve

    f_i = -eps log sum_j b_j exp((g_j - C_ij) / eps)      g_j = -eps log sum_i a_i exp((f_i - C_ij) / eps)

[Sinkhorn in the log domain: Peyre and Cuturi, Computational Optimal Transport, section 4.4], in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from delift_core.types import Floats, Progress, no_progress

if TYPE_CHECKING:
    import torch

BLOCK = {"cpu": 1 << 21, "cuda": 1 << 26}  # entries of the cost matrix that are looked at in one go
KEEP = {"cpu": 1 << 26, "cuda": 1 << 29}  # up to so many entries, the costs of a solve stay in memory
SMALLEST = 1e-6  # epsilon never falls below it, so that equal vectors do not divide by 0


@dataclass(frozen=True, eq=False)
class Plan:
    """A solved transport problem."""

    target_potential: Floats  # (m,) g
    pool_potential: Floats  # (s,) f of the solved rows
    epsilon: float
    iterations: int
    error: float  # L1 distance of the plan's target marginal from b; the pool marginal is exact
    distance: float  # sum P_ij C_ij
    converged: bool


def device() -> str:
    """The device transport is solved on: a CUDA GPU when there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def mean_cost(pool: Floats, target: Floats) -> float:
    """Mean of |x_i - y_j|^2 over all pairs, without making the pairs."""
    x, y = pool.astype(np.float64), target.astype(np.float64)
    cost = np.mean(np.sum(x * x, 1)) + np.mean(np.sum(y * y, 1)) - 2 * x.mean(0) @ y.mean(0)
    return max(0.0, float(cost))


def solve(
    pool: Floats,
    target: Floats,
    *,
    epsilon: float,
    tolerance: float = 1e-3,
    iterations: int = 1000,
    progress: Progress = no_progress,
    stage: str = "transport",
) -> Plan:
    """Potentials of the transport from `pool` (s, d) to `target` (m, d), ending on an f-update.

    One pass over the costs makes a whole iteration: the f-update normalises each row of the plan, and the column sums
    of that plan give both the marginal error and the next g-update.

    Args:
        pool: finite vectors of the source, each of weight 1/s.
        target: finite vectors of the destination, each of weight 1/m.
        epsilon: entropic regularisation, in units of the cost.
        tolerance: stop when the target marginal is off by less, in L1.
        iterations: stop after so many at the latest; `converged` is then False.
        progress: called after every iteration.
        stage: the name to report under.
    """
    import torch

    epsilon = max(epsilon, SMALLEST)
    place = device()
    x, y = (torch.from_numpy(np.array(v, np.float32)).to(place) for v in (pool, target))
    costs = _Costs(x, y, epsilon)
    g = torch.zeros(len(y), device=place)
    f, error, done = torch.zeros(len(x), device=place), math.inf, 0
    with torch.inference_mode():
        while done < iterations:
            f, mass = costs.normalise(g)
            done += 1
            error = float((mass - 1 / len(y)).abs().sum())
            progress(stage, done, iterations, f"marginal error {error:.1e}, to reach {tolerance:.0e}")
            if error < tolerance or done == iterations:
                break
            # A target row that no mass reaches at all is moved as far as float32 can tell, and again next time.
            g = g - epsilon * (mass.clamp_min(1e-38) * len(y)).log().float()
        distance = costs.distance(g)
    return Plan(g.cpu().numpy(), f.cpu().numpy(), epsilon, done, error, distance, error < tolerance)


def extend(
    vectors: Floats, target: Floats, plan: Plan, *, progress: Progress = no_progress, stage: str = "extend"
) -> Floats:
    """The pool potential f (n,) of any rows (n, d) by one soft c-transform of the target potential."""
    import torch

    place = device()
    y = torch.from_numpy(np.array(target, np.float32)).to(place)
    out = np.empty(len(vectors), np.float32)
    step = max(1, BLOCK[place] // len(y))
    g = torch.from_numpy(plan.target_potential).to(place)
    with torch.inference_mode():
        for first in range(0, len(vectors), step):
            x = torch.from_numpy(np.array(vectors[first : first + step], np.float32)).to(place)
            _, z = next(_Costs(x, y, plan.epsilon, keep=False).blocks(g))
            f = (x * x).sum(1) - plan.epsilon * torch.logsumexp(z, 1)
            out[first : first + step] = f.cpu().numpy()
            progress(stage, min(first + step, len(vectors)), len(vectors))
    return out


class _Costs:
    """Blocks of k_ij = (2 x_i y_j - |y_j|^2) / eps = (|x_i|^2 - C_ij) / eps: the |x_i|^2 of a row stays outside."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, epsilon: float, keep: bool = True) -> None:
        self.x, self.y, self.epsilon = x, y, epsilon
        self.squares = (x * x).sum(1)
        self.shift = -(y * y).sum(1) / epsilon
        self.step = max(1, BLOCK[x.device.type] // len(y))
        keep = keep and len(x) * len(y) <= KEEP[x.device.type]
        self.kept = [self._block(rows) for rows in self._slices()] if keep else None

    def _slices(self) -> Iterator[slice]:
        for first in range(0, len(self.x), self.step):
            yield slice(first, first + self.step)

    def _block(self, rows: slice) -> torch.Tensor:
        import torch

        return torch.addmm(self.shift, self.x[rows], self.y.T, alpha=2 / self.epsilon)

    def blocks(self, g: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Row slices with z_ij = k_ij + g_j / eps + log b_j, each a new tensor."""
        import torch

        bias = g / self.epsilon - math.log(len(self.y))
        for number, rows in enumerate(self._slices()):
            if self.kept is not None:
                yield rows, self.kept[number] + bias
            else:
                yield rows, torch.addmm(self.shift + bias, self.x[rows], self.y.T, alpha=2 / self.epsilon)

    def normalise(self, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The f-update (s,) and the mass (m,) that the plan then brings to each target row, summing to 1."""
        import torch

        f, mass = torch.empty_like(self.squares), torch.zeros(len(self.y), dtype=torch.float64, device=g.device)
        for rows, z in self.blocks(g):
            top = z.amax(1, keepdim=True)
            p = z.sub_(top).exp_()
            total = p.sum(1)
            f[rows] = self.squares[rows] - self.epsilon * (top[:, 0] + total.log())
            mass += (1 / total) @ p
        return f, mass / len(self.x)

    def distance(self, g: torch.Tensor) -> float:
        """Total cost sum P_ij C_ij of the plan after the f-update."""
        import torch

        total = 0.0
        bias = g / self.epsilon - math.log(len(self.y))
        for rows, z in self.blocks(g):
            p = torch.softmax(z, 1)
            cost = self.squares[rows] - self.epsilon * (p * (z - bias)).sum(1)
            total += float(cost.double().sum())
        return total / len(self.x)
