"""KNN-Uniform and TSDS: against a linear program, closed forms, and real tasks; near-copies share in TSDS alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from delift_core.errors import ConfigError
from delift_core.selection import spread as module
from delift_core.selection.baselines import Random
from delift_core.selection.spread import (
    COST_SCALE,
    TaskSpecificSelection,
    UniformNeighbours,
    density,
    spread,
)
from delift_core.types import Evidence, Limit, Rules

Make = Callable[..., Evidence]
BOTH = [UniformNeighbours(neighbours=7), TaskSpecificSelection(neighbours=12)]


def told(vectors: np.ndarray, target: np.ndarray) -> Evidence:
    n = len(vectors)
    return Evidence(100 + 7 * np.arange(n), np.ones(n, np.int64), vectors=vectors, target_vectors=target)


def unit(n: int, seed: int, d: int = 5) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def distances(target: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(target[:, None].astype(np.float64) - vectors[None], axis=2)


def test_the_masses_solve_the_program_of_the_paper() -> None:
    """Against scipy's linear program: min alpha/C sum p d + (1 - alpha) m t,  rho p <= t,  each row sums to 1/m."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        m, k, alpha = 3, 9, float(rng.uniform(0.2, 0.95))
        apart = np.sort(rng.uniform(0, 12, (m, k)), axis=1)
        rho = 1 + rng.uniform(0, 3, (m, k))
        p, s = spread(apart, rho, alpha)
        assert p.sum(axis=1) == pytest.approx(np.full(m, 1 / m))
        cost = np.append(alpha / COST_SCALE * apart.ravel(), (1 - alpha) * m)
        upper = np.hstack([np.diag(rho.ravel()), -np.ones((m * k, 1))])
        each = np.hstack([np.kron(np.eye(m), np.ones(k)), np.zeros((m, 1))])
        best = linprog(cost, A_ub=upper, b_ub=np.zeros(m * k), A_eq=each, b_eq=np.full(m, 1 / m))
        ours = float(cost @ np.append(p.ravel(), (rho * p).max()))
        if s <= np.cumsum(1 / rho, axis=1)[:, -1].min():  # else K is what bounds the spread
            assert ours == pytest.approx(best.fun, rel=1e-9), seed
        assert best.fun <= ours + 1e-9


def test_a_target_row_with_few_neighbours_spreads_over_all_of_them() -> None:
    p, s = spread(np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([[1.0, 1.0], [4.0, 2.0]]), 0.5)
    assert s == 2
    assert p.ravel().tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 6, 1 / 3])


def test_nearness_alone_takes_the_nearest_row_and_spread_alone_all_neighbours() -> None:
    apart, rho = np.sort(np.random.default_rng(0).random((2, 6)), axis=1), np.ones((2, 6))
    assert spread(apart, rho, 1.0)[0][:, 0].tolist() == [0.5, 0.5]
    assert spread(apart, rho, 0.0)[0] == pytest.approx(1 / 12)


@pytest.mark.parametrize("block", [2048, 7])
def test_the_density_is_the_sum_of_the_kernel(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    x = unit(40, 1)
    apart = distances(x, x)
    expected = np.maximum(0, 1 - apart**2 / 0.7**2).sum(axis=1)
    assert density(x, 0.7) == pytest.approx(expected, abs=1e-5)
    assert density(x, 0.0).tolist() == [1.0] * 40


@pytest.mark.parametrize("held", [1 << 26, 1])
def test_uniform_masses_rank_by_count_then_distance_then_position(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD", held)
    x, t = unit(60, 2), unit(9, 3)
    apart = distances(t, x)
    count = np.zeros(60)
    for row in apart:
        count[np.argsort(row)[:7]] += 1
    expected = sorted(range(60), key=lambda i: (-count[i], apart[:, i].min(), i))
    found = UniformNeighbours(neighbours=7).select(told(x, t), Limit(60))
    assert found.order.tolist() == [100 + 7 * i for i in expected]
    assert found.gains == pytest.approx(count[expected] / 63)
    assert found.full_value == pytest.approx(1)
    assert "no neighbour of a target row" in found.notes[-1]


def test_tsds_masses_are_those_of_its_parts() -> None:
    x, t = unit(60, 2), unit(9, 3)
    apart = distances(t, x)
    near = np.argsort(apart, axis=1)[:, :12]
    d = np.take_along_axis(apart, near, axis=1)
    rows, scale = np.unique(near), np.median(d)
    rho = np.zeros(60)
    rho[rows] = np.maximum(0, 1 - (distances(x, x)[np.ix_(rows, rows)] / (0.6 * scale)) ** 2).sum(axis=1)
    p, _ = spread(d / scale, rho[near], 0.5)
    mass = np.zeros(60)
    np.add.at(mass, near, p)
    found = TaskSpecificSelection(neighbours=12, sigma=0.6).select(told(x, t), Limit(60))
    at = (found.order - 100) // 7
    assert found.gains == pytest.approx(mass[at], abs=1e-5)
    assert (np.diff(found.gains) <= 0).all()
    assert found.full_value == pytest.approx(1)


def test_near_copies_share_in_tsds_and_not_with_uniform_masses() -> None:
    rng = np.random.default_rng(0)
    target = np.eye(8, dtype=np.float32)[:1]
    away = np.zeros((6, 8))
    away[:, 2:] = np.eye(6)
    lone = target + 0.5 * away  # six rows at one distance, far from each other
    copies = target + 0.5 * -np.eye(8)[1] + 1e-3 * rng.standard_normal((5, 8))  # five times nearly the same row
    x = np.concatenate([lone, copies])
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    shared = TaskSpecificSelection(neighbours=11, alpha=0.1).select(told(x, target), Limit(11))
    even = UniformNeighbours(neighbours=11).select(told(x, target), Limit(11))
    mass = dict(zip((shared.order - 100) // 7, shared.gains, strict=True))
    assert sum(mass[i] for i in range(6, 11)) == pytest.approx(mass[0], rel=0.01), "five copies weigh as one row"
    assert set((shared.order[:6] - 100) // 7) == set(range(6))
    assert even.gains == pytest.approx(1 / 11)


@pytest.mark.parametrize("objective", BOTH, ids=lambda o: o.name)
def test_a_smaller_budget_is_a_prefix_and_the_order_of_the_pool_changes_nothing(objective: Any) -> None:
    e = told(unit(50, 4), unit(6, 5))
    whole = objective.select(e, Limit(50))
    assert whole.nested
    assert objective.select(e, Limit(17)).order.tolist() == whole.head(17).order.tolist()
    p = np.random.default_rng(6).permutation(50)
    moved = replace(e, candidates=e.candidates[p], vectors=e.vectors[p])
    assert objective.select(moved, Limit(50)).order.tolist() == whole.order.tolist()


@pytest.mark.parametrize("objective", BOTH, ids=lambda o: o.name)
def test_rules_hold_and_a_target_may_be_larger_than_the_pool(objective: Any) -> None:
    e = told(unit(5, 4), unit(40, 5))
    banned = np.array([False, True, False, False, False])
    found = objective.select(e, Limit(5, None, Rules(pinned=np.array([3]), banned=banned)))
    assert found.order[0] == 121
    assert sorted(found.order.tolist()) == [100, 114, 121, 128]
    assert any("The rules leave 4 rows" in note for note in found.notes)


@pytest.mark.parametrize("objective", BOTH, ids=lambda o: o.name)
def test_what_cannot_be_ranked_is_an_error_that_says_so(objective: Any) -> None:
    e = told(unit(5, 4), unit(3, 5))
    with pytest.raises(ConfigError, match="target has no rows"):
        objective.select(replace(e, target_vectors=e.target_vectors[:0]), Limit(2))
    broken = e.vectors.copy()
    broken[1, 1] = np.nan
    with pytest.raises(ConfigError, match="pool row 107"):
        objective.select(replace(e, vectors=broken), Limit(2))
    broken = e.target_vectors.copy()
    broken[2, 1] = np.inf
    with pytest.raises(ConfigError, match="target row 2"):
        objective.select(replace(e, target_vectors=broken), Limit(2))
    for name in objective.needs:
        with pytest.raises(ValueError, match="needs"):
            objective.select(replace(e, **{name: None}), Limit(2))


def test_on_real_rows_picks_go_to_the_target_task(tasks: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, task = tasks
    for wanted in (0, 3, 7):
        target = (task == wanted) & (np.arange(600) % 60 >= 48)
        e = replace(told(vectors[~target], vectors[target]), candidates=np.flatnonzero(~target))
        for objective in (UniformNeighbours(), TaskSpecificSelection()):
            found = objective.select(e, Limit(48))
            assert (task[found.order] == wanted).mean() >= 0.8, (objective.name, wanted)
        assert (task[Random().select(e, Limit(48), seed=1).order] == wanted).mean() < 0.3
