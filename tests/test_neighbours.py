"""The neighbour graph against a full sort, and its edges."""

from __future__ import annotations

import numpy as np
import pytest

from delift_core import neighbours
from delift_core.errors import Cancelled, ConfigError
from delift_core.neighbours import KEPT, graph, kept_graph, near_copies, nearest
from delift_core.types import MemoryStore


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


def test_rows_that_the_search_left_short_are_searched_exactly(monkeypatch):
    import pynndescent

    class Short:
        """Finds nothing but the row itself for every third row."""

        def __init__(self, data, **options):
            found, distances = nearest(data, data, options["n_neighbors"])
            found[::3, 1:], distances[::3, 1:] = -1, np.inf
            self.neighbor_graph = found, distances

    monkeypatch.setattr(pynndescent, "NNDescent", Short)
    vectors = unit(50)
    near, exact = graph(vectors, 6, exact_below=0), graph(vectors, 6)
    assert (near[0] == exact[0]).all()
    np.testing.assert_allclose(near[1], exact[1], atol=1e-6)


# --- one graph for all ---------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often, and for how many neighbours, a graph is really computed."""
    asked: list[int] = []
    compute = neighbours.graph
    monkeypatch.setattr(neighbours, "graph", lambda v, k, **more: (asked.append(k), compute(v, k, **more))[1])
    return asked


@pytest.mark.parametrize("exact_below", [neighbours.EXACT_BELOW, 0])
def test_every_smaller_graph_is_read_from_the_one_that_is_kept(monkeypatch, exact_below):
    asked, store, vectors = counted(monkeypatch), MemoryStore(), unit(300)
    for k in (5, KEPT, 12, 1):
        indices, distances = kept_graph(vectors.copy(), k, store, exact_below=exact_below)
        assert indices.shape == distances.shape == (300, k)
        whole = graph(vectors, KEPT, exact_below=exact_below)
        assert (indices == whole[0][:, :k]).all()
        assert (distances == whole[1][:, :k]).all()
    assert (asked, len(store.blocks)) == ([KEPT], 1)


def test_a_larger_graph_and_other_vectors_are_blocks_of_their_own(monkeypatch):
    asked, store, vectors = counted(monkeypatch), MemoryStore(), unit(200)
    for k in (10, KEPT + 1, 2 * KEPT):
        assert kept_graph(vectors, k, store)[0].shape == (200, k)
    assert asked == [KEPT, 2 * KEPT]
    other = vectors.copy()
    other[7] = -other[7]
    assert (kept_graph(other, 3, store)[0] == graph(other, 3)[0]).all()
    assert len(store.blocks) == 3


@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_few_rows_have_a_kept_graph_as_well(n):
    store = MemoryStore()
    for _ in range(2):
        indices, distances = kept_graph(unit(n), 5, store)
        assert indices.shape == distances.shape == (n, min(5, max(0, n - 1)))


# --- near-duplicates -----------------------------------------------------------------------------------------------


def found_in(vectors: np.ndarray, threshold: float, k: int = KEPT) -> np.ndarray:
    return near_copies(vectors, *graph(vectors, k), threshold)


def noisy(sizes: list[int], alone: int, noise: float = 0.005) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows: sets of nearly equal ones and rows of their own, shuffled; and the set of each."""
    centres, rng = unit(len(sizes) + alone, d=48), np.random.default_rng(5)
    label = rng.permutation(np.repeat(np.arange(len(centres)), [*sizes, *[1] * alone]))
    rows = centres[label] + noise * rng.standard_normal((len(label), 48))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), label


def first_of(label: np.ndarray) -> np.ndarray:
    """The position of the first row with the same label."""
    return np.array([np.flatnonzero(label == one)[0] for one in label])


@pytest.mark.parametrize("k", [1, 4, KEPT])
def test_planted_copies_come_together_also_where_there_are_more_than_the_graph_lists(k):
    vectors, label = noisy([2, 3, 40, 300], alone=60)
    assert (found_in(vectors, 0.95, k) == first_of(label)).all()


def test_a_thousand_exact_copies_are_one_set_whatever_lists_they_have():
    vectors = np.repeat(unit(2), [1000, 3], axis=0)
    assert (found_in(vectors, 1.0, 5) == np.repeat([0, 1000], [1000, 3])).all()


def test_an_approximate_graph_finds_the_planted_sets():
    vectors, label = noisy([5, 80], alone=300)
    graph_of = graph(vectors, 10, exact_below=0)
    assert (near_copies(vectors, *graph_of, 0.95) == first_of(label)).all()


def test_the_order_of_the_rows_does_not_change_sets_with_a_clear_edge():
    vectors, _ = noisy([4, 50], alone=30)
    codes, order = found_in(vectors, 0.95, 8), np.random.default_rng(1).permutation(len(vectors))
    again = found_in(vectors[order], 0.95, 8)
    assert ((codes[order][:, None] == codes[order]) == (again[:, None] == again)).all()


@pytest.mark.parametrize("k", [3, KEPT])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_rows_are_like_their_first_and_no_two_firsts_are_alike(threshold, k):
    vectors = unit(400, d=3)  # on a sphere there is no clear edge anywhere
    codes = found_in(vectors, threshold, k)
    cosines = vectors.astype(np.float64) @ vectors.T
    firsts = np.unique(codes)
    assert 5 < len(firsts) < 200
    assert (codes[firsts] == firsts).all()
    assert (codes <= np.arange(400)).all()
    assert (cosines[np.arange(400), codes] >= threshold - 1e-6).all()
    between = cosines[np.ix_(firsts, firsts)]
    assert between[~np.eye(len(firsts), dtype=bool)].max() < threshold + 1e-6


def test_a_chain_is_cut_where_it_leaves_its_first_row():
    angle = np.arange(7) * 0.25  # radians; neighbours have cosine 0.969, the next but one 0.878
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    assert found_in(vectors, 0.95).tolist() == [0, 0, 2, 2, 4, 4, 6]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows_have_codes(n):
    assert found_in(unit(n), 0.95).tolist() == list(range(n))


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    with pytest.raises(ConfigError, match=r"Try 0\.95"):
        found_in(unit(4), threshold)
