"""The domain test: distances against exact transport, ranks, and the mask of what is far."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from clouds import costs, unit

from delift_core.errors import ConfigError
from delift_core.selection.domains import domain_distances, nearest


@pytest.fixture
def three() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """90 rows in three domains, ever farther from the target: itself with noise, a mixture, and the opposite."""
    x = unit(200, 0)
    target = x[x @ x[0] > 0.6][:20]
    rng = np.random.default_rng(1)
    near = target[rng.integers(0, len(target), 40)] + 0.05 * rng.standard_normal((40, 6))
    vectors = np.concatenate([-target[:10], unit(40, 2), near])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), target, np.repeat([0, 1, 2], [10, 40, 40])


def test_distances_are_near_those_of_exact_transport_and_ranked(three: tuple[np.ndarray, ...]) -> None:
    vectors, target, codes = three
    found = domain_distances(vectors, target, codes, ("far", "mixed", "near"), epsilon=0.005, iterations=5000)
    for g in range(3):
        c = costs(vectors[codes == g], target)
        exact = ot.emd2(np.full(len(c), 1 / len(c)), np.full(len(target), 1 / len(target)), c)
        assert found.distance[g] == pytest.approx(exact, rel=0.05, abs=0.01)
    assert found.rank.tolist() == [3, 2, 1]
    assert [(label, rows, rank) for label, rows, _, rank in found.table()] == [
        ("near", 40, 1), ("mixed", 40, 2), ("far", 10, 3),
    ]  # fmt: skip


def test_a_large_domain_is_solved_on_a_seeded_sample(three: tuple[np.ndarray, ...]) -> None:
    vectors, target, codes = three
    labels = ("far", "mixed", "near")
    whole = domain_distances(vectors, target, codes, labels)
    one = domain_distances(vectors, target, codes, labels, sample=20)
    again = domain_distances(vectors, target, codes, labels, sample=20)
    other = domain_distances(vectors, target, codes, labels, sample=20, seed=1)
    assert one.distance.tolist() == again.distance.tolist() != other.distance.tolist()
    assert one.distance[0] == whole.distance[0], "ten rows need no sample"
    assert one.distance == pytest.approx(whole.distance, rel=0.6)
    assert one.rows.tolist() == [10, 40, 40]


def test_what_is_banned_stands_outside_the_nearest_domains(three: tuple[np.ndarray, ...]) -> None:
    vectors, target, codes = three
    found = domain_distances(vectors, target, codes, ("far", "mixed", "near"))
    assert nearest(found, codes, 1).tolist() == (codes != 2).tolist()
    assert nearest(found, codes, 2).tolist() == (codes == 0).tolist()
    assert not nearest(found, codes, 0).any()
    assert not nearest(found, codes, 3).any()
    for wrong in (-1, 4):
        with pytest.raises(ConfigError, match="rows in 3 domains"):
            nearest(found, codes, wrong)


def test_a_domain_without_rows_comes_last_and_one_row_or_equal_rows_are_solved(three: tuple[np.ndarray, ...]) -> None:
    _, target, _ = three
    vectors = np.concatenate([target[:1], target[:1], target[:1]])
    found = domain_distances(vectors, target[:1], np.array([0, 2, 2]), ("one", "none", "two"))
    assert np.isnan(found.distance[1])
    assert found.distance[[0, 2]] == pytest.approx([0, 0], abs=1e-5)
    assert found.rank[1] == 3
    assert found.rows.tolist() == [1, 0, 2]
    with pytest.raises(ConfigError, match="rows in 2 domains"):
        nearest(found, np.array([0, 2, 2]), 3)


def test_too_many_domains_empty_sides_and_broken_vectors_are_errors(three: tuple[np.ndarray, ...]) -> None:
    vectors, target, codes = three
    with pytest.raises(ConfigError, match=r"at most 200 domains, and the column has 201 values"):
        domain_distances(vectors, target, codes, [str(i) for i in range(201)])
    domain_distances(vectors[:4], target, np.arange(4), [str(i) for i in range(200)])
    with pytest.raises(ConfigError, match="rows on both sides"):
        domain_distances(vectors, target[:0], codes, ("a", "b", "c"))
    with pytest.raises(ConfigError, match="rows on both sides"):
        domain_distances(vectors[:0], target, codes[:0], ("a", "b", "c"))
    with pytest.raises(ValueError, match="codes from 0 to 2 for 2 labels"):
        domain_distances(vectors, target, codes, ("a", "b"))
    for side in (0, 1):
        broken = [vectors.copy(), target.copy()]
        broken[side][3, 0] = np.nan
        with pytest.raises(ConfigError, match="NaN or infinity"):
            domain_distances(*broken, codes, ("a", "b", "c"))


def test_progress_tells_the_domain(three: tuple[np.ndarray, ...]) -> None:
    vectors, target, codes = three
    seen: list[str] = []
    domain_distances(
        vectors, target, codes, ("a", "b", "c"), progress=lambda stage, done, total, note="": seen.append(note)
    )
    assert seen == ["a", "b", "c", ""]
