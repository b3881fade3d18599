"""The meaning benchmark reads a matrix rightly, and finds its rows in the real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.embedding import agreement
from benchmarks.meaning import PerRow, draw, groups

OWNER = np.repeat(np.arange(3), 4)
SAME = OWNER[:, None] == OWNER


def test_a_matrix_that_knows_the_tasks_scores_one_and_its_negative_zero() -> None:
    values = SAME + np.random.default_rng(0).random((12, 12)) / 2
    assert PerRow.of(values, OWNER).auc.tolist() == [1.0] * 12
    assert PerRow.of(-values, OWNER).auc.tolist() == [0.0] * 12


def test_a_matrix_that_knows_nothing_scores_a_half() -> None:
    assert PerRow.of(np.zeros((12, 12)), OWNER).auc.tolist() == [0.5] * 12


def test_the_diagonal_counts_for_the_copy_alone() -> None:
    values = np.where(SAME, 2.0, 1.0)
    low, high = values - 9 * np.eye(12), values + 9 * np.eye(12)
    for a, b in zip(vars(PerRow.of(low, OWNER)).items(), vars(PerRow.of(high, OWNER)).items(), strict=True):
        if a[0] == "copy":
            assert (a[1].sum(), b[1].sum()) == (0, 12)
        else:
            np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize(("better", "counts"), [(0, True), (2, True), (3, False)])
def test_a_copy_counts_when_at_most_two_rows_help_more(better: int, counts: bool) -> None:
    values = np.zeros((12, 12))
    values[0, 0] = 1
    values[0, 5 : 5 + better] = 2
    assert bool(PerRow.of(values, OWNER).copy[0]) is counts


def test_intervals_hold_the_mean() -> None:
    summary = PerRow.of(np.random.default_rng(0).random((12, 12)), OWNER).summary(seed=0)
    for name in ("auc", "same", "other", "copy"):
        low, high = summary["intervals"][name]
        assert low <= summary[name] <= high


def test_equal_vectors_agree_and_unrelated_ones_only_by_chance() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 400, 16)).astype(np.float32)
    assert agreement(first, first) == 1
    assert agreement(first, second) < 0.1


def test_the_rows_are_distinct_seeded_and_of_twelve_tasks(shared: Path) -> None:
    rows, owner = draw(shared / "data", 8, 0)
    assert (len(groups()), len(rows)) == (12, 96)
    assert np.bincount(owner).tolist() == [8] * 12
    assert len(set(rows.keys)) == 96
    assert all(rows.prompts) and all(rows.responses)
    assert draw(shared / "data", 8, 0)[0].keys == rows.keys
    assert draw(shared / "data", 8, 1)[0].keys != rows.keys
