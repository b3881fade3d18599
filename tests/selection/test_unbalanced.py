"""Unbalanced transport against POT, its two limits, and a planted answer on real rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import ot
import pytest
from clouds import costs, one_of_ten, told, unit
from scipy.stats import spearmanr

from delift_core.errors import ConfigError
from delift_core.selection import sinkhorn
from delift_core.selection.transport import TransportGradient
from delift_core.selection.unbalanced import UnbalancedTransport
from delift_core.types import Limit, Rules


@pytest.mark.parametrize("rho_target", [math.inf, 0.3, 2.0])
@pytest.mark.parametrize(("epsilon", "rho"), [(0.1, 0.3), (0.05, 2.0), (0.3, 0.05)])
def test_masses_are_those_of_pot(epsilon: float, rho: float, rho_target: float) -> None:
    x, y = unit(60, 0), unit(20, 1)
    a, b, c = np.full(60, 1 / 60), np.full(20, 1 / 20), costs(x, y)
    plan = sinkhorn.solve(x, y, epsilon=epsilon, rho=rho, rho_target=rho_target, tolerance=1e-5, iterations=5000)
    expected = ot.unbalanced.sinkhorn_unbalanced(
        a, b, c, epsilon, (rho, rho_target), reg_type="kl", numItermax=50_000, stopThr=1e-12
    )
    assert plan.converged
    assert np.exp(-plan.pool_potential / rho) / 60 == pytest.approx(expected.sum(1), rel=2e-3)
    assert plan.distance == pytest.approx((expected * c).sum() / expected.sum(), rel=1e-3)
    p = np.exp((plan.pool_potential[:, None] + plan.target_potential[None] - c) / epsilon) / (60 * 20)
    assert p == pytest.approx(expected, rel=5e-3, abs=1e-9)


@pytest.mark.parametrize("marginal", ["exact", "relaxed"])
def test_picks_are_the_rows_that_keep_the_most_mass(marginal: str) -> None:
    x, y = unit(70, 2), unit(25, 3)
    chosen = UnbalancedTransport(target_marginal=marginal, tolerance=1e-5).select(told(x, y), Limit(70))
    c = costs(x, y)
    rho, epsilon = 0.5 * c.mean(), 0.05 * c.mean()
    plan = ot.unbalanced.sinkhorn_unbalanced(
        np.full(70, 1 / 70), np.full(25, 1 / 25), c, epsilon, (rho, math.inf if marginal == "exact" else rho),
        reg_type="kl", numItermax=50_000, stopThr=1e-12,
    )  # fmt: skip
    share = plan.sum(1) / plan.sum()
    assert chosen.gains == pytest.approx(share[chosen.order], rel=5e-3)
    assert (np.diff(chosen.gains) <= 0).all()
    assert chosen.value[-1] == pytest.approx(chosen.full_value) == 1
    assert "Unbalanced optimal transport solved on all 70 rows" in chosen.notes[0]
    assert "OT distance from pool to target" in chosen.notes[0]


def test_a_high_price_gives_the_balanced_ranking_and_a_low_one_the_rows_next_to_the_target() -> None:
    x, y = unit(80, 4), unit(10, 5)
    balanced = TransportGradient(tolerance=1e-5).select(told(x, y), Limit(80)).order
    dear = UnbalancedTransport(rho=1e3, tolerance=1e-5).select(told(x, y), Limit(80)).order
    assert spearmanr(np.argsort(balanced), np.argsort(dear))[0] > 0.999
    cheap = UnbalancedTransport(rho=1e-3, epsilon=0.02, tolerance=1e-5).select(told(x, y), Limit(80))
    c = costs(x, y)
    soft = np.exp(-c / (0.02 * c.mean()))
    share = (soft / soft.sum(0)).mean(1)
    assert cheap.gains == pytest.approx(share[cheap.order], rel=0.2, abs=1e-3)


def test_a_sample_gives_nearly_the_order_of_the_whole() -> None:
    target = unit(800, 7)
    seen = told(unit(4000, 6), target[target @ target[0] > 0.5])
    whole = UnbalancedTransport().select(seen, Limit(4000)).order
    part = UnbalancedTransport(sample=1000).select(seen, Limit(4000))
    assert spearmanr(np.argsort(whole), np.argsort(part.order))[0] > 0.99
    assert "a sample of 1000 of 4000 rows" in part.notes[0]


@pytest.mark.parametrize("epsilon", [1e-3, 10.0])
@pytest.mark.parametrize("rho", [1e-3, 1e3])
def test_extreme_options_stay_finite_and_keep_telling_rows_apart(epsilon: float, rho: float) -> None:
    x, y = unit(60, 8), unit(10, 9)
    chosen = UnbalancedTransport(epsilon=epsilon, rho=rho, target_marginal="relaxed").select(told(x, -y), Limit(60))
    assert np.isfinite(chosen.gains).all()
    assert chosen.value[-1] == pytest.approx(1)
    assert sorted(chosen.order) == list(range(60))


def test_a_smaller_budget_is_a_prefix_and_rules_hold() -> None:
    seen = told(unit(50, 10), unit(10, 11))
    whole = UnbalancedTransport().select(seen, Limit(50))
    assert UnbalancedTransport().select(seen, Limit(9)).order.tolist() == whole.head(9).order.tolist()
    banned = np.arange(50) == whole.order[0]
    chosen = UnbalancedTransport().select(seen, Limit(4, rules=Rules(whole.order[-1:], banned)))
    assert chosen.order.tolist() == [whole.order[-1], *whole.order[1:4]]


@pytest.mark.parametrize("n", [1, 6])
def test_equal_vectors_keep_equal_mass(n: int) -> None:
    x = np.repeat(unit(1, 12), n, axis=0)
    for target in (unit(3, 13), x[:1]):
        chosen = UnbalancedTransport().select(told(x, target), Limit(n))
        assert sorted(chosen.order) == list(range(n))
        assert chosen.gains == pytest.approx(np.full(n, 1 / n), rel=1e-5)


def test_bad_vectors_and_an_empty_target_are_errors_that_say_so() -> None:
    seen = told(unit(20, 14), unit(5, 15))
    with pytest.raises(ConfigError, match="target has no rows"):
        UnbalancedTransport().select(replace(seen, target_vectors=seen.target_vectors[:0]), Limit(5))
    seen.vectors[3, 0] = np.nan
    with pytest.raises(ConfigError, match="the pool holds NaN or infinity"):
        UnbalancedTransport().select(seen, Limit(5))


def test_on_real_rows_a_target_of_one_task_draws_that_task(tasks: tuple[np.ndarray, np.ndarray]) -> None:
    for seen, wanted in one_of_ten(tasks):
        chosen = UnbalancedTransport().select(seen, Limit(45))
        assert wanted[chosen.order].mean() >= 0.8
        (after,) = UnbalancedTransport().describe(seen, chosen.order)
        assert "OT distance from the 45 selected rows to the target" in after
