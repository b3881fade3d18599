"""The stability estimator against what is known of it."""

from __future__ import annotations

import numpy as np
import pytest

from delift_core.insight.stability import Stability, lucky, nearly, stability


def drawn(m: int, d: int, k: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picks = np.zeros((m, d), bool)
    for row in picks:
        row[rng.permutation(d)[:k]] = True
    return picks


def test_the_same_rows_every_time_are_perfectly_stable() -> None:
    found = stability(np.tile(np.arange(30) < 7, (20, 1)))
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert found.word == "excellent" and "nearly the same rows" in found.sentence


def test_two_halves_that_never_meet_are_as_far_apart_as_can_be() -> None:
    half = np.arange(10) < 5
    assert stability(np.stack([half, ~half])).value == pytest.approx(-1)


def test_random_subsets_are_at_zero_and_the_interval_covers_it_about_as_often_as_it_says() -> None:
    found = [stability(drawn(20, 60, 15, seed)) for seed in range(200)]
    assert abs(np.mean([f.value for f in found])) < 0.01
    covered = np.mean([f.low <= 0 <= f.high for f in found])  # type: ignore[operator]
    assert 0.85 <= covered <= 1


def test_for_subsets_of_one_size_it_is_the_mean_kuncheva_index_of_all_pairs() -> None:
    picks = drawn(6, 40, 9)
    picks[:, :3] = False
    picks[:, 0] = True  # some agreement
    picks = np.stack([np.isin(np.arange(40), np.flatnonzero(row)[:8]) for row in picks])
    d, k = 40, 8
    pairs = [(a & b).sum() for i, a in enumerate(picks) for b in picks[:i]]
    kuncheva = np.mean([(r - k * k / d) / (k - k * k / d) for r in pairs])
    assert stability(picks).value == pytest.approx(kuncheva)


def test_the_interval_of_subsets_of_many_sizes_is_that_of_the_jackknife() -> None:
    rng = np.random.default_rng(3)
    likely = rng.beta(0.5, 0.5, 200)
    picks = np.stack([rng.random(200) < likely * rng.uniform(0.3, 1) for _ in range(100)])
    found = stability(picks)
    left_out = np.array([stability(np.delete(picks, i, axis=0)).value for i in range(100)])
    deviation = np.sqrt(99 / 100 * ((left_out - left_out.mean()) ** 2).sum())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * deviation, rel=0.05)  # type: ignore[operator]


def test_where_nothing_could_differ_it_is_undefined_and_few_replicates_have_no_interval() -> None:
    every = stability(np.ones((20, 5), bool))
    assert np.isnan(every.value) and every.word == "undefined" and "nothing that could differ" in every.sentence
    assert Stability.from_json(every.to_json()).word == "undefined"
    few = stability(drawn(2, 50, 10))
    assert few.low is None and "(" not in few.sentence
    with pytest.raises(ValueError, match="at least two"):
        stability(np.ones((1, 5), bool))


def test_lucky_rows_are_picked_ones_and_nearly_picked_rows_are_others() -> None:
    frequency = np.array([1.0, 0.2, 0.9, 0.0, np.nan, 0.6, 0.7])
    picked = np.array([2, 0, 1])
    assert lucky(frequency, picked).tolist() == [1, 2]
    assert nearly(frequency, picked).tolist() == [6, 5]
    assert nearly(frequency, picked, 1).tolist() == [6]
