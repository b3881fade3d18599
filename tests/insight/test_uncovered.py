"""Rows that a subset serves worst."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from delift_core.insight.coverage import own
from delift_core.insight.overview import effects
from delift_core.insight.uncovered import uncovered
from delift_core.types import Utility

NAN = np.nan
VALUES = np.array(
    [[NAN, 0.2, 0.8], [0.5, NAN, 0.5], [-0.1, -0.3, NAN], [0.4, 0.1, 0.2]], np.float32
)  # rows 10..13 are helped by candidates 20, 21, 22
HELPED, CANDIDATES = np.array([10, 11, 12, 13]), np.array([20, 21, 22])


def utility(form: str) -> Utility:
    values = VALUES
    if form == "sparse":
        rows, columns = np.nonzero(~np.isnan(VALUES))
        values = sparse.csc_array((VALUES[rows, columns], (rows, columns)), shape=VALUES.shape)
    return Utility(values, HELPED, CANDIDATES, "l2")


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_the_largest_shortfall_comes_first_with_who_serves_and_who_could(form: str) -> None:
    found = uncovered(utility(form), np.array([21, 99]))
    assert found.rows.tolist() == [10, 11, 13]
    assert found.shortfall == pytest.approx([0.6, 0.5, 0.3], abs=1e-6)
    assert found.chosen.tolist() == [21, -1, 21]
    assert found.best.tolist() == [22, 20, 20]
    assert (found.looked_at, found.short, found.below_half, found.out_of_reach) == (4, 3, 3, 1)
    assert "3 of 4 rows" in found.sentence and "1 are helped by no row" in found.sentence


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_the_whole_pool_leaves_no_shortfall_and_skipped_rows_are_not_compared(form: str) -> None:
    found = uncovered(utility(form), CANDIDATES)
    assert len(found.rows) == found.short == found.below_half == 0
    found = uncovered(utility(form), np.array([22]), skip=np.array([13, 12]))
    assert found.rows.tolist() == []  # rows 10 and 11 get all they could
    assert (found.looked_at, found.out_of_reach) == (2, 0)
    nothing = uncovered(utility(form), np.array([], np.int64), most=1)
    assert nothing.rows.tolist() == [10] and nothing.below_half == 3


def test_dense_and_sparse_agree_on_random_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 30)).astype(np.float32).round(1)
    rows, columns = np.nonzero(rng.random(values.shape) < 0.3)
    held = np.full(values.shape, NAN, np.float32)
    held[rows, columns] = values[rows, columns]
    stored = sparse.csc_array((values[rows, columns], (rows, columns)), shape=values.shape)
    names = np.arange(40), np.arange(30)
    picks = rng.permutation(30)[:7]
    one, two = (uncovered(Utility(v, *names, "pmi"), picks) for v in (held, stored))
    for part in ("rows", "given", "possible", "chosen", "best"):
        assert getattr(one, part).tolist() == getattr(two, part).tolist(), part
    assert one.sentence == two.sentence
    expected = np.nan_to_num(held.clip(0)).max(1) - np.nan_to_num(held.clip(0))[:, picks].max(1)
    assert one.shortfall == pytest.approx(np.sort(expected[expected > 0])[::-1])


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_what_a_row_is_to_itself_does_not_count(form: str) -> None:
    values = np.array([[1.0, 0.4, 0.2], [0.4, 1.0, 0.6], [0.2, 0.6, 1.0]], np.float32)
    rows = np.array([7, 5, 9])  # of one dataset, in no order
    one = Utility(values if form == "dense" else sparse.csc_array(values), rows, rows, "cosine")
    found = uncovered(one, np.array([7]), skip=np.array([7]), same=True)
    assert found.rows.tolist() == [9, 5]
    np.testing.assert_allclose(found.possible, [0.6, 0.6], rtol=1e-6)
    np.testing.assert_allclose(found.given, [0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(effects(one, same=True).best, [0.4, 0.6, 0.6], rtol=1e-6)
    np.testing.assert_allclose(effects(one).best, [1, 1, 1])


def test_rows_without_candidates_have_nobody() -> None:
    none = Utility(np.empty((2, 0), np.float32), np.array([1, 2]), np.empty(0, np.int64), "l2")
    assert own(none).tolist() == [-1, -1]
    assert uncovered(none, np.empty(0, np.int64), same=True).out_of_reach == 2
