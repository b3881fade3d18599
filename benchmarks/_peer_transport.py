"""POT's Sinkhorn for `benchmarks.transport`: every variant that is fast enough to be in question, to the same error.

POT checks its own (L2) error only every ten iterations.  So the number of iterations that brings the L1 marginal error
below the tolerance is looked for first, untimed and to the iteration, and exactly so many are timed: POT gets no
iteration too many.  Timed is what our solver gives as well: from vectors to costs, plan and transport distance.
A run is correct when its distance is within 1 % of ours and its plan is finite.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.selection.sinkhorn import Plan
from delift_core.types import Floats

MOST = 2_000  # iterations
CLOSE = 0.01


@dataclass(frozen=True)
class Timing:
    """One variant's result."""

    seconds: float
    iterations: int
    error: float  # L1, of the marginals of the plan together
    distance: float
    correct: bool

    def told(self) -> dict[str, float | int | bool]:
        return {"seconds": round(self.seconds, 4), "iterations": self.iterations, "error": self.error,
                "distance": self.distance, "correct": self.correct}  # fmt: skip


def version() -> str:
    import ot

    return str(ot.__version__)


def fastest(x: Floats, y: Floats, epsilon: float, tolerance: float, ours: Plan, repeats: int = 3) -> dict[str, Timing]:
    """Plain scaling and the log domain, in numpy and torch, in single and (plain) double precision.

    The log domain in numpy is left out: it is several times slower than in torch, and never near plain scaling.
    """
    import torch

    single, double = (x, y), (x.astype(np.float64), y.astype(np.float64))
    tensors = tuple(torch.from_numpy(v) for v in single)
    variants: dict[str, tuple[Any, str]] = {
        "plain numpy float32": (single, "sinkhorn"),
        "plain numpy float64": (double, "sinkhorn"),
        "plain torch float32": (tensors, "sinkhorn"),
        "log torch float32": (tensors, "sinkhorn_log"),
    }
    if torch.cuda.is_available():
        tensors = tuple(v.cuda() for v in tensors)
        variants["plain torch float32 cuda"] = (tensors, "sinkhorn")
        variants["log torch float32 cuda"] = (tensors, "sinkhorn_log")
    needed = _iterations(x, y, epsilon, tolerance)
    return {
        name: _time(*ends, method, epsilon, needed, ours, 1 if method == "sinkhorn_log" else repeats)
        for name, (ends, method) in variants.items()
    }


def _iterations(x: Floats, y: Floats, epsilon: float, tolerance: float) -> int:
    """Plain iterations until the L1 error of the pool marginal, after an update of the target's, is small enough."""
    import torch

    a, b = torch.from_numpy(x), torch.from_numpy(y)
    kernel = torch.exp((2 * a @ b.T - (a * a).sum(1)[:, None] - (b * b).sum(1)) / epsilon)
    u = torch.full((len(x),), 1 / len(x))
    for count in range(1, MOST + 1):
        v = 1 / len(y) / (u @ kernel)
        u = 1 / len(x) / (kernel @ v)
        if float((v * (u @ kernel) - 1 / len(y)).abs().sum()) < tolerance:
            return count
    return MOST


def _time(x: Any, y: Any, method: str, epsilon: float, iterations: int, ours: Plan, repeats: int) -> Timing:
    import ot

    def run() -> tuple[Any, Any]:
        cost = ot.dist(x, y)
        plan = ot.sinkhorn([], [], cost, epsilon, method=method, numItermax=iterations, stopThr=0, warn=False)
        return plan, (plan * cost).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            plan, value = run()
            distance = float(value)  # waits for a GPU
            seconds.append(time.perf_counter() - begin)
    error = _error(plan.sum(0)) + _error(plan.sum(1))
    good = np.isfinite(error) and abs(distance - ours.distance) <= CLOSE * ours.distance
    return Timing(float(np.median(seconds)), iterations, error, distance, bool(good))


def _error(marginal: Any) -> float:
    held: NDArray[np.float64] = np.asarray(marginal.cpu() if hasattr(marginal, "cpu") else marginal, np.float64)
    return float(np.abs(held - 1 / len(held)).sum())
