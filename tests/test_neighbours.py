"""The neighbour graph against a full sort, and its edges."""

from __future__ import annotations

import numpy as np
import pytest

from delift_core.errors import Cancelled
from delift_core.neighbours import graph, nearest


def unit(n: int, d: int = 24, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute(queries: np.ndarray, base: np.ndarray) -> np.ndarray:
    return np.linalg.norm(queries[:, None].astype(np.float64) - base[None].astype(np.float64), axis=2)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (30, 7), (1500, 5)])  # 1500 spans two blocks
def test_exact_graph_equals_a_full_sort(n, k):
    vectors = unit(n)
    indices, distances = graph(vectors, k)
    apart = brute(vectors, vectors)
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(distances, np.sort(apart, axis=1)[:, :k], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(apart, indices, axis=1), distances, atol=1e-5)


def test_a_row_is_never_its_own_neighbour_even_among_copies():
    vectors = np.repeat(unit(3), 4, axis=0)  # each row four times
    indices, distances = graph(vectors, 3)
    assert not (indices == np.arange(12)[:, None]).any()
    assert (indices // 4 == (np.arange(12) // 4)[:, None]).all()
    assert (distances == 0).all()


def test_equal_distances_list_the_lower_index_first():
    indices, _ = graph(np.ones((5, 3), np.float32), 4)
    assert indices.tolist() == [[j for j in range(5) if j != i] for i in range(5)]


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_have_no_neighbours(n):
    indices, distances = graph(unit(n), 5)
    assert indices.shape == distances.shape == (n, 0)


def test_k_is_cut_to_the_rows_there_are():
    assert graph(unit(4), 15)[0].shape == (4, 3)


def test_queries_against_another_base_equal_a_full_sort():
    queries, base = unit(9, seed=1), unit(40, seed=2)
    indices, distances = nearest(queries, base, 6)
    apart = brute(queries, base)
    assert (indices == np.argsort(apart, axis=1)[:, :6]).all()
    np.testing.assert_allclose(distances, np.sort(apart, axis=1)[:, :6], atol=1e-5)


def test_approximate_graph_finds_nearly_all_and_repeats_itself():
    vectors = unit(600, d=8)
    exact, _ = graph(vectors, 10)
    near, distances = graph(vectors, 10, exact_below=0, seed=3)
    again, _ = graph(vectors, 10, exact_below=0, seed=3)
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, near, strict=True)])
    assert found > 0.95
    assert (near == again).all()
    assert not (near == np.arange(600)[:, None]).any()
    assert (np.diff(distances, axis=1) >= 0).all()


def test_progress_can_cancel_between_blocks():
    def stop(stage, done, total, note=""):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        graph(unit(50), 3, progress=stop)
