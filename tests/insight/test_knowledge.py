"""The knowledge map: planted categories, unknown pairs, both measures, thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from delift_core.errors import ConfigError
from delift_core.insight.knowledge import (
    KNOWN,
    LABELS,
    MISSED,
    NEVER,
    TAUGHT,
    UNSCORED,
    baseline,
    best,
    knowledge,
    usual,
)
from delift_core.types import Utility

NAN = np.nan
# Rows: known, taught by the chosen 0, taught only by 2, by nobody, hurt by all, not scored with the chosen.
VALUES = np.array([
    [0.01, 0.00, 0.02],
    [0.40, 0.10, 0.10],
    [0.05, 0.10, 0.50],
    [0.02, 0.01, 0.03],
    [-0.3, -0.1, -0.2],
    [NAN, NAN, 0.50],
], np.float32)  # fmt: skip
BEFORE = np.array([0.2, 0.9, 0.8, 0.7, 0.6, 0.9], np.float32)
EXPECTED = [KNOWN, TAUGHT, MISSED, NEVER, NEVER, UNSCORED]


def made(values: Any = VALUES, *, thin: bool = False, kind: Any = "l2", **more: Any) -> Utility:
    if thin:
        rows, columns = np.nonzero(~np.isnan(values))
        values = sparse.csc_array((values[rows, columns], (rows, columns)), shape=values.shape)
    before = more.pop("baseline", BEFORE if kind == "l2" else -BEFORE)
    return Utility(values, 100 + np.arange(len(BEFORE)), 50 + np.arange(values.shape[1]), kind, before, **more)


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("kind", ["l2", "pmi"])
def test_rows_fall_into_the_planted_categories(thin: bool, kind: Any) -> None:
    found = knowledge(made(thin=thin, kind=kind), np.array([0, 1]), known=0.3, gain=0.2)
    assert found.categories.tolist() == EXPECTED
    assert found.counts.tolist() == [1, 1, 1, 2, 1] and found.shares.sum() == pytest.approx(1)
    assert found.before == pytest.approx(BEFORE)
    assert found.after[:5] == pytest.approx([0.19, 0.5, 0.7, 0.68, 0.6]) and np.isnan(found.after[5])
    assert found.reach == pytest.approx([0.18, 0.5, 0.3, 0.67, 0.6, 0.4])
    assert found.teacher.tolist() == [50, 50, 51, 50, 51, -1] and found.tutor.tolist() == [52, 50, 52, 52, 51, 52]
    assert "Of 1 rows no pair with the subset was scored" in found.sentences[-1]


def test_the_best_never_leaves_a_row_worse_off() -> None:
    found = knowledge(made(), np.array([0]))
    scored = np.isfinite(found.after)
    assert (found.after[scored] <= found.before[scored]).all() and (found.reach <= found.after)[scored].all()


@pytest.mark.parametrize("thin", [False, True])
def test_a_missing_pair_is_unknown_and_a_stored_zero_is_not(thin: bool) -> None:
    values = np.full((6, 2), NAN, np.float32)
    values[0, 0], values[1, 1] = 0.0, 0.3
    found = best(made(values, thin=thin), np.array([0]))
    assert found.value[0] == 0 and np.isnan(found.value[1:]).all() and found.column.tolist() == [0] + [-1] * 5


@pytest.mark.parametrize("thin", [False, True])
def test_no_row_is_an_example_for_itself(thin: bool) -> None:
    values = np.full((3, 3), 0.1, np.float32)
    np.fill_diagonal(values, 0.9)
    rows = np.array([4, 5, 6])
    stored = sparse.csc_array(values) if thin else values
    found = best(Utility(stored, rows, rows, "l2", np.ones(3, np.float32)), np.array([1]), same=True)
    assert found.column.tolist() == [1, -1, 1] and found.value[[0, 2]] == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(3))
def test_dense_and_sparse_agree_also_among_equals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, (6, 8)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = NAN
    columns = rng.permutation(8)[:4]
    dense, thin = (best(made(values, thin=thin), columns) for thin in (False, True))
    assert np.array_equal(dense.value, thin.value, equal_nan=True) and np.array_equal(dense.column, thin.column)


def test_the_even_chance_is_the_default_where_it_tells_rows_apart() -> None:
    pool = best(made())
    assert usual("l2", baseline(made()), pool).known == 0.5
    assert usual("pmi", baseline(made(kind="pmi")), pool).known == pytest.approx(np.log(2))
    far = np.linspace(0.7, 0.9, 6)
    found = usual("l2", far, pool)
    assert found.known == pytest.approx(np.quantile(far, 1 / 3)) and "relative to these rows" in found.why


def test_the_usual_gain_is_half_of_what_the_best_saves_the_median_open_row() -> None:
    found = usual("l2", baseline(made()), best(made()))  # open rows: the best saves 0.4, 0.5, 0.03, -0.1, 0.5
    assert found.gain == pytest.approx(0.4 / 2)


def test_rows_that_stand_for_others_count_as_many() -> None:
    weights = np.array([5.0, 1, 1, 1, 1, 1])
    found = knowledge(made(weights=weights), np.array([0, 1]), known=0.3, gain=0.2)
    assert found.counts[KNOWN] == 1 and found.shares[KNOWN] == pytest.approx(0.5)


def test_rows_of_a_category_come_by_size_of_effect() -> None:
    found = knowledge(made(), np.array([2]), known=0.0, gain=0.01)
    taught = found.rows(TAUGHT)
    assert taught.tolist()[0] in (2, 5) and np.all(np.diff((found.before - found.after)[taught]) <= 1e-7)
    assert found.rows(KNOWN).tolist() == []


def test_groups_are_counted_by_category_and_all_rows_get_a_code() -> None:
    found = knowledge(made(), np.array([0, 1]), known=0.3, gain=0.2)
    labels = [None] * 100 + ["a", "a", "a", "b", "b", None]
    names, table = found.split(labels)
    assert names == ["a", "b", "(empty)"]
    assert table.tolist() == [[1, 1, 1, 0, 0], [0, 0, 0, 2, 0], [0, 0, 0, 0, 1]]
    codes = found.over(107)
    assert codes[100:106].tolist() == EXPECTED and set(codes[:100]) == {len(LABELS)} and codes[106] == len(LABELS)


@pytest.mark.parametrize("utility", [made(baseline=None), made(kind="cosine")])
def test_without_a_measure_before_there_is_no_map_and_it_says_what_to_do(utility: Utility) -> None:
    with pytest.raises(ConfigError, match="delift-task"):
        knowledge(utility, np.array([0]))


def test_an_empty_subset_and_an_empty_utility_are_no_mistake() -> None:
    found = knowledge(made(), np.empty(0, np.int64), known=0.3, gain=0.2)
    assert found.categories.tolist() == [KNOWN] + [UNSCORED] * 5
    nothing = Utility(np.empty((0, 0), np.float32), np.empty(0, np.int64), np.empty(0, np.int64), "l2",
                      np.empty(0, np.float32))  # fmt: skip
    assert knowledge(nothing, np.empty(0, np.int64)).sentences == ("There is no row to measure.",)
