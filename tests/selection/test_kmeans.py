"""k-means and DEFT-UCS: against plain implementations on clusters that are known; indices are those of the dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from delift_core.errors import ConfigError
from delift_core.selection.deft import UnsupervisedCoreSet
from delift_core.selection.kmeans import KMeansCentres, clustered, members_of
from delift_core.types import Evidence, Limit, Rules

SIZES = (30, 20, 12, 8)


def told(vectors: np.ndarray) -> Evidence:
    n = len(vectors)
    return Evidence(1000 + 3 * np.arange(n), np.full(n, 10), vectors=vectors)


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (70, 16) in four clear clusters of different size, mixed, and the cluster of each."""
    rng = np.random.default_rng(5)
    label = rng.permutation(np.repeat(np.arange(4), SIZES))
    x = 4 * np.eye(16)[label] + 0.3 * rng.standard_normal((70, 16))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), label


def by_distance(vectors: np.ndarray, label: np.ndarray) -> list[list[int]]:
    """Positions of each cluster, the largest first, nearest to its mean first."""
    found = []
    for c in sorted(range(4), key=lambda c: -SIZES[c]):
        members = np.flatnonzero(label == c)
        apart = np.linalg.norm(vectors[members] - vectors[members].astype(np.float64).mean(axis=0), axis=1)
        found.append(members[np.argsort(apart)].tolist())
    return found


@pytest.mark.parametrize("count", [2, 4, 37, 70])
def test_clusters_take_turns_each_its_row_nearest_to_the_centre(blobs: Any, count: int) -> None:
    vectors, label = blobs
    queues = by_distance(vectors, label)
    turns = [queue[t] for t in range(30) for queue in queues if t < len(queue)]
    found = KMeansCentres(clusters=4).select(told(vectors), Limit(count), seed=1)
    assert len(found) == count
    if count >= 4:
        assert found.order.tolist() == [1000 + 3 * j for j in turns[:count]]
    assert not found.nested
    assert np.isnan(found.share)


def test_a_budget_below_the_most_clusters_has_one_cluster_a_row(blobs: Any) -> None:
    vectors, label = blobs
    found = KMeansCentres().select(told(vectors), Limit(4))
    assert sorted(label[(found.order - 1000) // 3]) == [0, 1, 2, 3]
    assert found.notes[0].startswith("4 clusters")
    tokens = KMeansCentres().select(told(vectors), Limit(70, 45))
    assert tokens.notes[0].startswith("4 clusters"), "45 tokens hold four rows of 10"
    assert len(tokens) == 4


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_of_each_cluster_a_share_is_nearest_and_the_rest_farthest(blobs: Any, alpha: float) -> None:
    vectors, label = blobs
    found = UnsupervisedCoreSet(clusters=4, alpha=alpha).select(told(vectors), Limit(32))
    positions = (found.order - 1000) // 3
    for queue in by_distance(vectors, label):  # eight rows of each
        near = round(8 * alpha)
        assert set(positions) & set(queue) == set(queue[:near]) | set(queue[len(queue) - (8 - near) :])
    assert len(found) == 32


def test_a_smaller_deft_budget_is_a_prefix_and_every_row_comes_once(blobs: Any) -> None:
    whole = UnsupervisedCoreSet(clusters=4, alpha=0.3).select(told(blobs[0]), Limit(70))
    assert whole.nested
    assert sorted(whole.order) == told(blobs[0]).candidates.tolist()
    for k in (1, 17, 50):
        part = UnsupervisedCoreSet(clusters=4, alpha=0.3).select(told(blobs[0]), Limit(k))
        assert part.order.tolist() == whole.head(k).order.tolist()


def test_rows_at_equal_distances_are_given_once() -> None:
    queue = UnsupervisedCoreSet(alpha=0.5).queue(np.array([4, 9, 11, 20]), np.zeros(30))
    assert sorted(queue) == [4, 9, 11, 20]


@pytest.mark.parametrize("objective", [KMeansCentres(clusters=4), UnsupervisedCoreSet(clusters=4, alpha=1.0)])
def test_picks_are_rows_of_the_dataset_and_not_places_in_a_cluster(blobs: Any, objective: Any) -> None:
    vectors, label = blobs
    nearest = [queue[0] for queue in by_distance(vectors, label)]
    found = objective.select(told(vectors), Limit(4))
    assert found.order.tolist() == [1000 + 3 * j for j in nearest]
    wrong = [int(np.flatnonzero(np.flatnonzero(label == label[j]) == j)[0]) for j in nearest]
    assert not set(found.order.tolist()) & {1000 + 3 * place for place in wrong}
    assert members_of(label, np.arange(70.0))[1].tolist() == np.flatnonzero(label == 1).tolist()


@pytest.mark.parametrize("objective", [KMeansCentres(clusters=5), UnsupervisedCoreSet(clusters=5)])
def test_the_order_of_the_pool_changes_nothing(blobs: Any, objective: Any) -> None:
    e = told(np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32))
    p = np.random.default_rng(3).permutation(60)
    moved = replace(e, candidates=e.candidates[p], tokens=e.tokens[p], vectors=e.vectors[p])
    assert objective.select(moved, Limit(25)).order.tolist() == objective.select(e, Limit(25)).order.tolist()


@pytest.mark.parametrize("objective", [KMeansCentres(clusters=4), UnsupervisedCoreSet(clusters=4, alpha=1.0)])
def test_a_banned_centre_gives_way_to_the_next_row_of_its_cluster(blobs: Any, objective: Any) -> None:
    vectors, label = blobs
    queues = by_distance(vectors, label)
    banned = np.zeros(70, bool)
    banned[queues[1][0]] = True
    found = objective.select(told(vectors), Limit(4, None, Rules(banned=banned)))
    assert found.order.tolist() == [1000 + 3 * j for j in (queues[0][0], queues[1][1], queues[2][0], queues[3][0])]


def test_many_rows_go_through_mini_batches_and_copies_leave_fewer_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delift_core.selection.kmeans.EXACT", 100)
    vectors = np.repeat(np.eye(6, dtype=np.float32), 20, axis=0)
    labels, apart = clustered(vectors, 6)
    assert len(np.unique(labels)) <= 6
    assert len(labels) == len(apart) == 120
    monkeypatch.undo()
    labels, apart = clustered(vectors, 50)
    assert labels.max() == 5, "six different rows"
    assert apart == pytest.approx(0, abs=1e-6)
    assert len(KMeansCentres(clusters=50).select(told(vectors), Limit(50)).order) == 50


def test_a_vector_that_is_not_finite_is_named(blobs: Any) -> None:
    vectors = blobs[0].copy()
    vectors[7, 3] = np.nan
    for objective in (KMeansCentres(), UnsupervisedCoreSet()):
        with pytest.raises(ConfigError, match="pool row 1021 holds NaN"):
            objective.select(told(vectors), Limit(3))
        with pytest.raises(ValueError, match="needs"):
            objective.select(replace(told(vectors), vectors=None), Limit(3))
