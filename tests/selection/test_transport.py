"""Optimal-transport gradients against closed forms, POT, and a planted answer on real rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import ot
import pytest
from clouds import costs, one_of_ten, told, unit
from scipy.stats import spearmanr

from delift_core.errors import Cancelled, ConfigError
from delift_core.selection import sinkhorn
from delift_core.selection._blocks import FAR, Kernel
from delift_core.selection.transport import TransportGradient
from delift_core.types import Evidence, Limit

Make = Callable[..., Evidence]


def test_the_plan_has_the_right_marginals_and_its_distance_is_that_of_the_plan() -> None:
    x, y = unit(60, 0), unit(25, 1)
    plan = sinkhorn.solve(x, y, epsilon=0.1, tolerance=1e-4)
    c = costs(x, y)
    p = np.exp((plan.pool_potential[:, None] + plan.target_potential[None] - c) / plan.epsilon) / (60 * 25)
    assert plan.converged
    assert p.sum(1) == pytest.approx(np.full(60, 1 / 60), rel=1e-4), "it ends on an f-update"
    assert abs(p.sum(0) - 1 / 25).sum() == pytest.approx(plan.error, abs=2e-6)
    assert plan.error < 1e-4
    assert (p * c).sum() == pytest.approx(plan.distance, rel=1e-4)


@pytest.mark.parametrize("epsilon", [0.3, 0.01])
def test_extrapolated_steps_lead_where_plain_ones_do_in_fewer_passes(
    epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = unit(80, 2), unit(30, 3)
    fast = sinkhorn.solve(x, y, epsilon=epsilon, tolerance=2e-5, iterations=20_000)
    monkeypatch.setattr(sinkhorn.Anderson, "next", lambda self, point, mapped: mapped)
    plain = sinkhorn.solve(x, y, epsilon=epsilon, tolerance=2e-5, iterations=20_000)
    assert fast.converged and plain.converged
    found, expected = (p.pool_potential - p.pool_potential.mean() for p in (fast, plain))
    assert found == pytest.approx(expected, abs=3e-4)
    assert fast.distance == pytest.approx(plain.distance, rel=1e-4)
    assert fast.iterations < 0.7 * plain.iterations


def test_potentials_that_moved_far_make_the_kernel_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = unit(60, 26), unit(40, 27)
    made, whole = 0, Kernel._made

    def counted(self: Kernel) -> Any:
        nonlocal made
        made += 1
        return whole(self)

    monkeypatch.setattr(Kernel, "_made", counted)
    plan = sinkhorn.solve(x, -y, epsilon=0.01, tolerance=1e-4, iterations=20_000)
    assert np.ptp(plan.target_potential) / plan.epsilon > FAR, "or this shows nothing"
    assert 1 < made < plan.iterations / 4
    a, b = np.full(60, 1 / 60), np.full(40, 1 / 40)
    p = ot.bregman.sinkhorn_log(a, b, costs(x, -y), 0.01, numItermax=50_000, stopThr=1e-9)
    assert plan.distance == pytest.approx((p * costs(x, -y)).sum(), rel=1e-3)


def test_the_mean_cost_needs_no_pairs() -> None:
    x, y = unit(40, 0), unit(30, 1) * 2
    assert sinkhorn.mean_cost(x, y) == pytest.approx(costs(x, y).mean(), rel=1e-6)


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_potentials_are_those_of_pot(epsilon: float) -> None:
    x, y = unit(80, 2), unit(30, 3)
    plan = sinkhorn.solve(x, y, epsilon=epsilon, tolerance=1e-5, iterations=5000)
    a, b = np.full(80, 1 / 80), np.full(30, 1 / 30)
    _, log = ot.bregman.sinkhorn_log(a, b, costs(x, y), epsilon, numItermax=20_000, stopThr=1e-10, log=True)
    f = epsilon * log["log_u"]
    assert plan.pool_potential - plan.pool_potential.mean() == pytest.approx(f - f.mean(), abs=2e-4)


def test_the_distance_falls_to_that_of_exact_transport_as_epsilon_shrinks() -> None:
    x, y = unit(50, 4), unit(50, 5)
    exact = ot.emd2(np.full(50, 1 / 50), np.full(50, 1 / 50), costs(x, y))
    excess = [
        sinkhorn.solve(x, y, epsilon=e, tolerance=1e-4, iterations=20_000).distance - exact
        for e in (0.3, 0.1, 0.03, 0.01)
    ]
    assert excess == sorted(excess, reverse=True)
    assert 0 < excess[-1] + 1e-3 * exact < 0.02 * exact


def test_with_one_target_row_the_gradient_is_the_distance_to_it_less_the_mean_of_the_others() -> None:
    x, y = unit(20, 6), unit(1, 7)
    gradient, _ = TransportGradient().gradients(told(x, y))
    c = costs(x, y)[:, 0]
    expected = [c[i] - np.delete(c, i).mean() for i in range(20)]
    assert gradient == pytest.approx(expected, abs=1e-5)
    selection = TransportGradient().select(told(x, y), Limit(20))
    assert selection.order.tolist() == np.argsort(c).tolist(), "nearest first"


def test_the_gradient_predicts_how_the_distance_changes_when_mass_moves() -> None:
    x, y = unit(15, 8), unit(10, 9)
    c, b = costs(x, y), np.full(10, 0.1)
    epsilon = 0.2
    plan = sinkhorn.solve(x, y, epsilon=epsilon, tolerance=1e-5, iterations=5000)

    def value(a: np.ndarray) -> float:
        return float(ot.solve(c, a, b, reg=epsilon, reg_type="KL", max_iter=20_000, tol=1e-11).value)

    a, h = np.full(15, 1 / 15), 1e-4
    for i, other in ((0, 5), (3, 11), (14, 2)):
        up, down = a.copy(), a.copy()
        up[i], up[other] = a[i] + h, a[other] - h
        down[i], down[other] = a[i] - h, a[other] + h
        slope = (value(up) - value(down)) / (2 * h)
        assert slope == pytest.approx(float(plan.pool_potential[i] - plan.pool_potential[other]), abs=1e-3)


def test_gains_fall_sum_to_0_and_the_value_is_highest_where_they_change_sign(evidence: Make) -> None:
    e = evidence(60)
    selection = TransportGradient().select(e, Limit(60))
    assert (np.diff(selection.gains) <= 0).all()
    assert selection.value[-1] == pytest.approx(0, abs=1e-4)
    assert selection.value.argmax() == (selection.gains > 0).sum() - 1
    assert selection.full_value == 0
    assert set(selection.order) == set(e.candidates), "pool row indices"


def test_smaller_budget_is_a_prefix(evidence: Make) -> None:
    e = evidence(60)
    whole = TransportGradient().select(e, Limit(60))
    assert TransportGradient().select(e, Limit(13)).order.tolist() == whole.head(13).order.tolist()


def test_a_token_budget_is_kept(evidence: Make) -> None:
    e = evidence(60)
    selection = TransportGradient().select(e, Limit(60, 300))
    assert e.tokens[np.isin(e.candidates, selection.order)].sum() <= 300
    assert not selection.nested


def test_extending_gives_solved_rows_their_own_potential() -> None:
    x, y = unit(70, 10), unit(20, 11)
    plan = sinkhorn.solve(x, y, epsilon=0.1)
    assert sinkhorn.extend(x, y, plan) == pytest.approx(plan.pool_potential, abs=1e-5)


def test_a_sample_gives_nearly_the_order_of_the_whole() -> None:
    target = unit(800, 13)
    e = told(unit(4000, 12), target[target @ target[0] > 0.5])
    whole, _ = TransportGradient().gradients(e)
    part, notes = TransportGradient(sample=1000).gradients(e)
    assert spearmanr(whole, part)[0] > 0.99
    assert "a sample of 1000 of 4000 rows" in notes[0]


def test_blocks_are_small_and_their_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = unit(200, 14), unit(30, 15)
    before = sinkhorn.solve(x, y, epsilon=0.1)
    place, largest = sinkhorn.device(), 0
    whole = Kernel._made

    def watched(self: Kernel) -> Any:
        nonlocal largest
        for rows, k, top in whole(self):
            largest = max(largest, k.numel())
            yield rows, k, top

    monkeypatch.setitem(sinkhorn.BLOCK, place, 500)
    monkeypatch.setitem(sinkhorn.KEEP, place, 0)
    monkeypatch.setattr(Kernel, "_made", watched)
    after = sinkhorn.solve(x, y, epsilon=0.1)
    assert 0 < largest <= 500
    assert after.iterations == before.iterations
    assert after.pool_potential == pytest.approx(before.pool_potential, abs=1e-5)
    assert sinkhorn.extend(x, y, after) == pytest.approx(before.pool_potential, abs=1e-5)
    assert largest <= 500


def test_permuting_rows_permutes_the_order(evidence: Make) -> None:
    e = evidence(60)
    p = np.random.default_rng(1).permutation(60)
    moved = replace(e, candidates=e.candidates[p], tokens=e.tokens[p], vectors=e.vectors[p])
    assert (
        TransportGradient().select(moved, Limit(20)).order.tolist()
        == TransportGradient().select(e, Limit(20)).order.tolist()
    )


def test_equal_vectors_go_in_the_order_of_the_pool() -> None:
    x = np.repeat(unit(1, 16), 12, axis=0)
    assert TransportGradient().select(told(x, unit(5, 17)), Limit(12)).order.tolist() == list(range(12))
    assert TransportGradient().select(told(x, x[:1]), Limit(12)).order.tolist() == list(range(12)), "and at no distance"


def test_one_row_is_selected() -> None:
    selection = TransportGradient().select(told(unit(1, 18), unit(3, 19)), Limit(1))
    assert selection.order.tolist() == [0]
    assert selection.gains.tolist() == [0]


def test_the_notes_tell_iterations_error_and_the_distance_before_and_after(evidence: Make) -> None:
    e = evidence(60)
    selection = TransportGradient().select(e, Limit(10))
    assert "iterations, marginal error" in selection.notes[0]
    assert "OT distance from pool to target" in selection.notes[0]
    (told,) = TransportGradient().describe(e, selection.order)
    assert "OT distance from the 10 selected rows to the target" in told
    full = TransportGradient().select(e, Limit(60))
    assert full.notes == selection.notes
    assert TransportGradient().describe(e, full.order[:10]) == (told,), "the same told of a longer order"


def test_the_picks_of_a_shifted_pool_are_nearer_to_the_target_than_the_pool() -> None:
    x, y = unit(400, 20), unit(400, 21)
    near = y[y @ y[0] > 0.7]
    assert len(near) > 20
    seen = told(x, near)
    chosen = TransportGradient().select(seen, Limit(40))
    notes = (*chosen.notes, *TransportGradient().describe(seen, chosen.order))
    before, after = (float(re.findall(r"OT distance from .*?: ([\d.]+)\.", note)[0]) for note in notes)
    assert after < 0.7 * before


def test_a_solve_that_was_stopped_early_says_so(evidence: Make) -> None:
    notes = TransportGradient(iterations=1, tolerance=1e-5).select(evidence(60), Limit(60)).notes
    assert "it had not reached 1e-05" in notes[0]


def test_bad_vectors_and_an_empty_target_are_errors_that_say_so(evidence: Make) -> None:
    e = evidence(60)
    broken = e.vectors.copy()
    broken[7, 0] = np.nan
    for objective in (TransportGradient(), TransportGradient(sample=100)):
        with pytest.raises(ConfigError, match="NaN or infinity"):
            objective.select(replace(e, vectors=broken), Limit(5))
    big = told(unit(300, 22), unit(5, 23))
    unsampled = np.setdiff1d(np.arange(300), np.random.default_rng(0).choice(np.arange(300), 100, replace=False))[0]
    big.vectors[unsampled, 0] = np.inf
    with pytest.raises(ConfigError, match=f"pool row {unsampled} holds NaN or infinity"):
        TransportGradient(sample=100).select(big, Limit(5))
    with pytest.raises(ConfigError, match="target has no rows"):
        TransportGradient().select(replace(e, target_vectors=e.target_vectors[:0]), Limit(5))
    with pytest.raises(ValueError, match="needs"):
        TransportGradient().select(replace(e, vectors=None), Limit(5))


@pytest.mark.parametrize("epsilon", [1e-3, 10.0])
def test_at_the_ends_of_its_range_epsilon_gives_nearest_rows_or_the_mean_of_the_target(epsilon: float) -> None:
    x, y = unit(60, 28), unit(8, 29)
    gradient, notes = TransportGradient(epsilon=epsilon).gradients(told(x, y))
    assert np.isfinite(gradient).all()
    if epsilon > 1:  # every pair is taken alike, so a row's cost is its mean distance to the target
        assert spearmanr(gradient, costs(x, y).mean(1))[0] > 0.99
    else:
        exact = ot.emd2(np.full(60, 1 / 60), np.full(8, 1 / 8), costs(x, y))
        assert float(re.findall(r"target: ([\d.]+)\.", notes[0])[0]) == pytest.approx(exact, rel=0.01)


def test_a_target_larger_than_the_pool_is_solved() -> None:
    x, y = unit(5, 30), unit(90, 31)
    plan = sinkhorn.solve(x, y, epsilon=0.05, tolerance=1e-4, iterations=5000)
    assert plan.converged
    assert len(TransportGradient().select(told(x, y), Limit(3))) == 3


def test_a_tiny_epsilon_stays_finite() -> None:
    x, y = unit(100, 24), unit(40, 25)
    plan = sinkhorn.solve(x, -y, epsilon=1e-3, iterations=300)
    assert np.isfinite(plan.pool_potential).all()
    assert np.isfinite(plan.target_potential).all()
    assert np.isfinite(plan.distance)


def test_progress_is_reported_and_may_cancel(evidence: Make) -> None:
    def progress(stage: str, done: float, total: float, note: str = "") -> None:
        if stage == "transport" and done >= 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        TransportGradient().select(evidence(60), Limit(5), seed=0, progress=progress)


def test_on_real_rows_a_target_of_one_task_draws_that_task(tasks: tuple[np.ndarray, np.ndarray]) -> None:
    for seen, wanted in one_of_ten(tasks):
        assert wanted[TransportGradient().select(seen, Limit(45)).order].mean() >= 0.8
