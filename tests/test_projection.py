"""The map keeps neighbours together, repeats itself and copes with few or equal rows."""

from __future__ import annotations

import numpy as np
import pytest

from delift_core.neighbours import graph
from delift_core.projection import NEIGHBOURS, project


def groups(per_group: int, count: int = 3, d: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.eye(d, dtype=np.float32)[:count] * 3
    label = np.repeat(np.arange(count), per_group)
    rows = centres[label] + 0.3 * rng.standard_normal((len(label), d)).astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), label


def purity(placed: np.ndarray, label: np.ndarray, other: np.ndarray, other_label: np.ndarray) -> float:
    """Share of `other` points whose nearest point of `placed` has the same label."""
    near = np.linalg.norm(other[:, None] - placed[None], axis=2)
    if placed is other:
        np.fill_diagonal(near, np.inf)
    return float((label[near.argmin(axis=1)] == other_label).mean())


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 15])
def test_few_rows_are_placed_without_a_neighbour_graph(n):
    vectors = groups(5)[0][:n]
    (placed,) = project(vectors)
    assert placed.shape == (n, 2)
    assert placed.dtype == np.float32
    assert np.isfinite(placed).all()


def test_two_rows_keep_their_distance():
    vectors = groups(1)[0][:2]
    (placed,) = project(vectors)
    assert np.linalg.norm(placed[0] - placed[1]) == pytest.approx(np.linalg.norm(vectors[0] - vectors[1]), rel=1e-4)


def test_groups_stay_apart_and_target_rows_land_in_their_own_group():
    vectors, label = groups(40)
    target, target_label = groups(4, seed=1)
    placed, at = project(vectors, extra=[target])
    assert placed.shape == (120, 2)
    assert at.shape == (12, 2)
    assert purity(placed, label, placed, label) > 0.95
    assert purity(placed, label, at, target_label) > 0.9


def test_the_same_input_and_seed_give_the_same_map():
    vectors, _ = groups(20)
    first, second = project(vectors, seed=5)[0], project(vectors, seed=5)[0]
    assert np.array_equal(first, second)
    assert not np.array_equal(first, project(vectors, seed=6)[0])


def test_a_graph_at_hand_gives_the_same_map_as_computing_it():
    vectors, _ = groups(20)
    knn = graph(vectors, NEIGHBOURS - 1)
    assert np.array_equal(project(vectors, knn=knn)[0], project(vectors)[0])


def test_sixteen_rows_and_equal_rows_and_empty_extras_have_finite_places():
    vectors, _ = groups(6)
    copies = np.repeat(vectors[:1], 40, axis=0)
    for rows, extra in ((vectors[:16], []), (copies, []), (vectors, [vectors[:0]]), (vectors[:2], [vectors])):
        placed = project(rows, extra=extra)
        assert [len(p) for p in placed] == [len(rows), *(len(e) for e in extra)]
        assert all(np.isfinite(p).all() for p in placed)


def test_rows_beyond_the_sample_are_placed_in_their_group():
    vectors, label = groups(60)
    (placed,) = project(vectors, fit_at_most=90)
    assert purity(placed, label, placed, label) > 0.95
