"""The kernel of a transport problem in row blocks.  Imports torch, so it is itself imported when first used.

    exp(z_ij),  z_ij = (g_j - C_ij) / eps + log b_j = (2 x_i y_j - |y_j|^2 + g_j) / eps + log b_j - |x_i|^2 / eps

A row is divided by its largest entry exp(top_i) and stays so while the potential g moves little, which only scales the
columns: an iteration is then two products with a vector instead of an exponential for every pair.  Once g has moved far
the kernel is made anew around it [stabilised scaling: Schmitzer 2019, Stabilized Sparse Scaling Algorithms for Entropy
Regularized Transport Problems, section 3].  The results are those of the log domain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from delift_core.types import Floats

FAR = 30.0  # log of the largest column scaling; what float32 loses in a row by it is below e^(2 FAR - 87) of the row
LEAST = 1e-38  # mass that a target row gets at least, so that one which nothing reaches yet still moves


def tensor(vectors: Floats, place: str) -> torch.Tensor:
    """A float32 copy of the rows on a device."""
    return torch.from_numpy(np.array(vectors, np.float32)).to(place)


class Kernel:
    """Blocks of the kernel of `x` (s, d), each row of weight 1/s, and `y` (m, d), each of weight 1/m.

    Args:
        x: the pool.
        y: the target.
        epsilon: entropic regularisation, in units of the cost.
        entries: of the kernel that are looked at in one go.
        keep: up to so many entries, the whole kernel stays in memory; else every pass makes its blocks anew.
    """

    def __init__(self, x: torch.Tensor, y: torch.Tensor, epsilon: float, entries: int, keep: int = 0) -> None:
        self.x, self.y, self.epsilon = x, y, epsilon
        self.squares = (x * x).sum(1)
        self.shift = -(y * y).sum(1) / epsilon
        self.step = max(1, entries // len(y))
        self.keeps = len(x) * len(y) <= keep
        self.kept: list[tuple[slice, torch.Tensor, torch.Tensor]] = []
        self.centre = torch.zeros(len(y), dtype=torch.float64, device=y.device)  # the g that the kernel was made for

    def soft(self, g: torch.Tensor) -> torch.Tensor:
        """The soft c-transform (s,): -eps log sum_j b_j exp((g_j - C_ij) / eps)."""
        out = torch.empty_like(self.squares)
        scale = self._around(g)
        for rows, k, top in self._blocks():
            out[rows] = self.squares[rows] - self.epsilon * (top + (k @ scale).log())
        return out

    def carry(self, g: torch.Tensor, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The soft c-transform (s,), and the log of the mass (m,) that the plan then brings to each target row.

        Row i of the plan holds exp(-damping soft_i / eps) / s: exactly 1/s at damping 0, the balanced case.
        """
        soft = torch.empty_like(self.squares)
        mass = torch.zeros(len(self.y), device=self.y.device, dtype=torch.float64)
        scale = self._around(g)
        level = -math.inf if damping else 0.0  # `mass` is in units of exp(level), so that it stays within float range
        for rows, k, top in self._blocks():
            total = k @ scale
            soft[rows] = self.squares[rows] - self.epsilon * (top + total.log())
            weight = 1 / total
            if damping:
                power = soft[rows] * (-damping / self.epsilon)
                highest = max(level, float(power.max()))
                mass *= math.exp(level - highest)
                level = highest
                weight *= (power - level).exp()
            mass += weight @ k
        mass *= scale / len(self.x)
        return soft, mass.clamp_min(LEAST).log() + level

    def distance(self, g: torch.Tensor, damping: float) -> float:
        """Mean cost of the mass that the plan of `carry` moves: sum P_ij C_ij / sum P_ij."""
        scale = self._around(g)
        bias = (self.centre / self.epsilon).float() - math.log(len(self.y))
        costs, powers = [], []
        work = torch.empty(self.step, len(self.y), device=self.y.device)
        for rows, k, top in self._blocks():
            total = k @ scale
            entropy = torch.clamp(k, min=LEAST, out=work[: len(k)]).log_().mul_(k)
            log = entropy @ scale - k @ (scale * bias)  # total times the row's mean of log K_ij - bias_j
            costs.append(self.squares[rows] - self.epsilon * (top + log / total))
            soft = self.squares[rows] - self.epsilon * (top + total.log())
            powers.append(soft * (-damping / self.epsilon))
        share = torch.softmax(torch.cat(powers).double(), 0)
        return float(share @ torch.cat(costs).double())

    def _around(self, g: torch.Tensor) -> torch.Tensor:
        """Scalings (m,) that turn the kernel into that of g; the kernel is made anew where they would be extreme."""
        log = (g - self.centre) / self.epsilon
        if not self.keeps or not self.kept or float(log.abs().max()) > FAR:
            self.centre, log, self.kept = g.clone(), torch.zeros_like(log), []
            if self.keeps:
                self.kept = list(self._made())
        return log.exp().float()

    def _blocks(self) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Row slices, their part of the kernel (b, m), and top (b,)."""
        return iter(self.kept) if self.keeps else self._made()

    def _made(self) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        bias = self.shift + (self.centre / self.epsilon).float() - math.log(len(self.y))
        for first in range(0, len(self.x), self.step):
            rows = slice(first, first + self.step)
            z = torch.addmm(bias, self.x[rows], self.y.T, alpha=2 / self.epsilon)
            top = z.amax(1)
            yield rows, z.sub_(top[:, None]).exp_(), top
