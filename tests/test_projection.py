"""The map keeps neighbours together, repeats itself and copes with few or equal rows."""

from __future__ import annotations

import functools

import numpy as np
import pynndescent
import pytest
import umap

from delift_core import neighbours, projection
from delift_core.neighbours import KEPT, graph, kept_graph, nearest
from delift_core.projection import NEIGHBOURS, project
from delift_core.types import MemoryStore


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


def test_the_map_reads_the_graph_that_is_kept_and_keeps_the_one_it_computes(monkeypatch):
    vectors, _ = groups(20)
    store = MemoryStore()
    kept_graph(vectors, 3, store)  # by a pair plan, say
    monkeypatch.setattr(neighbours, "graph", refuse)
    from_kept = project(vectors, store=store)[0]
    monkeypatch.undo()
    (key,) = store.blocks
    fresh = MemoryStore()
    assert np.array_equal(project(vectors, store=fresh)[0], from_kept)
    assert list(fresh.blocks) == [key]


def refuse(*given, **more):
    raise AssertionError("a neighbour graph was computed a second time")


@pytest.mark.parametrize("exact_below", [neighbours.EXACT_BELOW, 0])
def test_umap_searches_for_no_neighbours_itself(monkeypatch, exact_below):
    vectors, label = groups(40)
    store = MemoryStore()
    monkeypatch.setattr(projection, "kept_graph", functools.partial(kept_graph, exact_below=exact_below))
    projection.kept_graph(vectors, NEIGHBOURS, store)
    monkeypatch.setattr(umap.umap_, "nearest_neighbors", refuse)
    monkeypatch.setattr(umap.umap_, "pairwise_distances", refuse)
    monkeypatch.setattr(pynndescent, "NNDescent", refuse)
    (placed,) = project(vectors, store=store)
    assert purity(placed, label, placed, label) > 0.95


def test_the_map_follows_the_graph_and_not_the_vectors(monkeypatch):
    grouped, label = groups(40)
    noise = np.random.default_rng(3).standard_normal(grouped.shape).astype(np.float32)
    told = graph(grouped, NEIGHBOURS - 1)
    monkeypatch.setattr(projection, "kept_graph", lambda *given, **more: told)
    (placed,) = project(noise)
    assert purity(placed, label, placed, label) > 0.95


def test_sixteen_rows_and_equal_rows_and_empty_extras_have_finite_places():
    vectors, _ = groups(6)
    copies = np.repeat(vectors[:1], 40, axis=0)
    for rows, extra in ((vectors[:16], []), (copies, []), (vectors, [vectors[:0]]), (vectors[:2], [vectors])):
        placed = project(rows, extra=extra)
        assert [len(p) for p in placed] == [len(rows), *(len(e) for e in extra)]
        assert all(np.isfinite(p).all() for p in placed)


@pytest.mark.parametrize("sample", [90, 40])  # with few fitted rows, some have none among their neighbours
def test_rows_beyond_the_sample_are_placed_in_their_group(sample):
    vectors, label = groups(60)
    target, target_label = groups(4, seed=1)
    placed, at = project(vectors, extra=[target], fit_at_most=sample)
    assert np.isfinite(placed).all()
    assert purity(placed, label, placed, label) > 0.95
    assert purity(placed, label, at, target_label) > 0.9


def test_a_row_beyond_the_sample_stands_between_its_nearest_fitted_rows():
    vectors, _ = groups(100, count=1)
    chosen = np.arange(0, 100, 2)
    fitted = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)
    told = graph(vectors, KEPT)
    placed = projection._among_neighbours(vectors, chosen, fitted, told, lambda *_: None)
    assert (placed[chosen] == fitted).all()
    near, apart = nearest(vectors[1::2], vectors[chosen], 5)  # 32 neighbours hold the five nearest of a half
    weight = np.exp(-apart / apart.mean(axis=1, keepdims=True))
    wanted = (fitted[near] * (weight / weight.sum(axis=1, keepdims=True))[:, :, None]).sum(axis=1)
    np.testing.assert_allclose(placed[1::2], wanted, atol=1e-5)
    searched = projection._among_neighbours(vectors, chosen, fitted, (told[0][:, :0], told[1][:, :0]), lambda *_: None)
    np.testing.assert_allclose(searched, placed, atol=1e-5)
