"""Facility location over the best rows by gradient: still the task, with less redundancy, under every rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clouds import costs, one_of_ten, redundancy, told, unit

from delift_core.errors import ConfigError
from delift_core.selection import diverse
from delift_core.selection.diverse import DiverseTransport, among, shortlist, similarities
from delift_core.selection.transport import TransportGradient
from delift_core.types import Evidence, Limit, Rules, no_progress


def test_on_real_rows_it_draws_the_task_with_less_redundancy(tasks: tuple[np.ndarray, np.ndarray]) -> None:
    for seen, wanted in one_of_ten(tasks):
        plain = TransportGradient().select(seen, Limit(45)).order
        chosen = DiverseTransport().select(seen, Limit(45)).order
        assert wanted[chosen].mean() >= 0.8
        assert redundancy(seen.vectors[chosen]) < redundancy(seen.vectors[plain])


def test_near_copies_of_the_best_row_are_taken_once() -> None:
    x, y = unit(60, 0), unit(30, 1)
    y = y[y @ y[0] > 0.5]
    best = TransportGradient().select(told(x, y), Limit(1)).order[0]
    copies = np.concatenate([x, np.repeat(x[best : best + 1], 5, axis=0)])
    same = np.r_[best, np.arange(60, 65)]
    assert np.isin(TransportGradient().select(told(copies, y), Limit(6)).order, same).all()
    assert np.isin(DiverseTransport(factor=10).select(told(copies, y), Limit(6)).order, same).sum() == 1


def test_the_value_is_the_weighted_coverage_of_the_short_list() -> None:
    x, y = unit(80, 2), unit(30, 3)
    seen = told(x, y)
    chosen = DiverseTransport(factor=4).select(seen, Limit(8))
    gradient, _ = TransportGradient().gradients(seen)
    short = np.argsort(gradient, kind="stable")[:32]
    weight = np.exp(-gradient[short] / (0.15 * costs(x, y).mean()))
    s = (1 + x[short].astype(float) @ x[chosen.order].T) / 2
    assert set(chosen.order) <= set(short)
    assert chosen.value[-1] == pytest.approx((weight / weight.sum()) @ s.max(1), rel=1e-5)
    assert chosen.full_value == pytest.approx(1)
    assert not chosen.nested


def test_a_factor_of_1_takes_what_the_gradient_takes() -> None:
    seen = told(unit(60, 4), unit(20, 5))
    chosen = DiverseTransport(factor=1).select(seen, Limit(12))
    assert set(chosen.order) == set(TransportGradient().select(seen, Limit(12)).order)


def test_a_long_short_list_keeps_only_near_pairs_and_chooses_nearly_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = told(unit(500, 6, 20), unit(50, 7, 20))
    dense = DiverseTransport().select(seen, Limit(40))
    monkeypatch.setattr(diverse, "DENSE", 50)
    near = similarities(seen.vectors, 8, 0, no_progress)
    full = np.clip((1 + seen.vectors @ seen.vectors.T) / 2, 0, 1)
    assert near.nnz <= 500 * 17
    found = near.toarray()
    assert (found == found.T).all()
    assert found[found > 0] == pytest.approx(full[found > 0], abs=1e-5)
    assert (np.diag(found) == 1).all()
    sparse = DiverseTransport(neighbours=32).select(seen, Limit(40))
    gradient, _ = TransportGradient().gradients(seen)
    short = np.argsort(gradient, kind="stable")[:200]
    weight = np.exp(-gradient[short] / (0.15 * costs(seen.vectors, seen.target_vectors).mean()))
    weight /= weight.sum()
    assert weight @ full[np.ix_(short, sparse.order)].max(1) > 0.995 * dense.value[-1]


def test_rules_hold_where_the_short_list_alone_could_not_keep_them() -> None:
    n = 90
    seen = told(unit(n, 8), unit(10, 9))
    ranking = TransportGradient().select(seen, Limit(n)).order
    group = np.empty(n, np.int64)
    group[ranking] = np.arange(n) // 30  # the best thirty are group 0, the worst group 2
    banned = np.zeros(n, bool)
    banned[ranking[:4]] = True
    rules = Rules(np.array([ranking[-1]]), banned, None, group, np.array([0, 0, 4]), np.array([3, 30, 30]))
    chosen = DiverseTransport(factor=2).select(seen, Limit(10, rules=rules))
    count = np.bincount(group[chosen.order], minlength=3)
    assert chosen.order[0] == ranking[-1]
    assert len(chosen) == len(set(chosen.order)) == 10
    assert not banned[chosen.order].any()
    assert count[0] <= 3
    assert count[2] >= 4
    once = np.repeat(np.arange(45), 2)
    chosen = DiverseTransport().select(seen, Limit(40, rules=Rules(once=once)))
    assert len(chosen) == len(set(once[chosen.order])) == 40


def test_a_low_temperature_takes_what_the_gradient_takes_and_a_high_one_covers_the_short_list_evenly() -> None:
    seen = told(unit(200, 14), unit(200, 15)[:5])
    plain = TransportGradient().select(seen, Limit(15)).order
    shared = [
        np.isin(DiverseTransport(temperature=t).select(seen, Limit(15)).order, plain).sum() for t in (0.01, 0.15, 1e3)
    ]
    assert shared[0] > shared[1] > shared[2]
    assert DiverseTransport(temperature=1e3).weights(np.array([-1.0, 0.5]), 1.0) == pytest.approx([0.5, 0.5], abs=1e-3)


def test_a_token_budget_is_kept_and_used() -> None:
    seen = replace(told(unit(200, 10), unit(10, 11)), tokens=np.random.default_rng(0).integers(5, 60, 200))
    chosen = DiverseTransport().select(seen, Limit(200, 400))
    assert 340 <= seen.tokens[chosen.order].sum() <= 400


def test_rules_of_a_list_speak_of_its_own_positions() -> None:
    rules = Rules(np.array([7, 2]), np.arange(9) == 4, np.arange(9), np.arange(9) % 3, None, np.array([1, 2, 3]))
    inner = among(rules, np.array([2, 4, 7]))
    assert inner.pinned.tolist() == [2, 0]
    assert inner.banned is not None
    assert inner.banned.tolist() == [False, True, False]
    assert inner.once is not None
    assert inner.once.tolist() == [2, 4, 7]
    assert inner.at_most is rules.at_most
    with pytest.raises(ValueError, match="pinned"):
        among(rules, np.array([2, 4]))
    assert len(shortlist(np.arange(9.0), np.ones(9, np.int64), Limit(2), 3)) == 6


@pytest.mark.parametrize("n", [1, 7])
def test_equal_vectors_are_taken_like_any_others(n: int) -> None:
    x = np.repeat(unit(1, 12), n, axis=0)
    assert sorted(DiverseTransport().select(told(x, unit(5, 13)), Limit(n)).order) == list(range(n))
    assert sorted(DiverseTransport().select(told(x, x[:1]), Limit(n)).order) == list(range(n)), "and at no distance"


def test_pool_rows_are_returned_and_bad_vectors_refused(evidence: object) -> None:
    seen: Evidence = evidence(60)  # type: ignore[operator]
    assert np.isin(DiverseTransport().select(seen, Limit(10)).order, seen.candidates).all()
    broken = seen.vectors.copy()
    broken[3] = np.nan
    with pytest.raises(ConfigError, match="NaN or infinity"):
        DiverseTransport().select(replace(seen, vectors=broken), Limit(10))
    with pytest.raises(ConfigError, match="target has no rows"):
        DiverseTransport().select(replace(seen, target_vectors=seen.target_vectors[:0]), Limit(10))
