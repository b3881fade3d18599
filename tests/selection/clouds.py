"""Small clouds of unit vectors for the transport tests, and the task of one among ten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from delift_core.types import Evidence


def unit(count: int, seed: int, d: int = 6) -> np.ndarray:
    """Unit vectors around four centres."""
    centres = np.random.default_rng(99).standard_normal((4, d))
    rng = np.random.default_rng(seed)
    x = centres[rng.integers(0, 4, count)] + 0.7 * rng.standard_normal((count, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def costs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[:, None].astype(np.float64) - y[None]) ** 2).sum(2)


def told(vectors: np.ndarray, target: np.ndarray, **more: Any) -> Evidence:
    n = len(vectors)
    return Evidence(np.arange(n), np.ones(n, np.int64), vectors=vectors, target_vectors=target, **more)


def one_of_ten(tasks: tuple[np.ndarray, np.ndarray]) -> Iterator[tuple[Evidence, np.ndarray]]:
    """For each of ten tasks: 45 rows of every task as the pool, 15 others of that one as target; which rows are its."""
    vectors, task = tasks
    pool = np.arange(600) % 60 < 45
    for wanted in range(10):
        yield told(vectors[pool], vectors[(task == wanted) & ~pool]), task[pool] == wanted


def redundancy(vectors: np.ndarray) -> float:
    """Mean cosine of each row with the one most like it."""
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -1)
    return float(cosine.max(1).mean())
