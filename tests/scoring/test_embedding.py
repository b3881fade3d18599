"""Cosine utility: its closed form, in blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest

from delift_core.scoring import embedding
from delift_core.scoring.embedding import Embedding


def units(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_cosine_is_one_with_itself_and_lies_between_minus_one_and_one() -> None:
    vectors = np.concatenate([units(20, 0), -units(1, 0)])
    found = Embedding().score(vectors, vectors, np.arange(21), np.arange(21))
    assert found.kind == "cosine"
    np.testing.assert_allclose(np.diag(found.values), 1, atol=1e-6)
    np.testing.assert_allclose(found.values[0, 20], -1, atol=1e-6)
    assert np.abs(found.values).max() <= 1
    np.testing.assert_allclose(found.values, found.values.T, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_blocks_of_any_size_give_the_plain_product(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "ROWS", rows)
    helped, candidates, seen = units(10, 1), units(6, 2), []
    found = Embedding().score(
        helped,
        candidates,
        np.arange(10, 20),
        np.arange(6),
        progress=lambda stage, done, total, note="": seen.append(done),
    )
    np.testing.assert_allclose(found.values, helped.astype(np.float64) @ candidates.T.astype(np.float64), atol=1e-6)
    assert found.helped.tolist() == list(range(10, 20))
    assert seen[-1] == 10


def test_vectors_that_do_not_belong_together_are_refused() -> None:
    a, b = units(3, 0), units(4, 1)
    with pytest.raises(ValueError, match="3 rows"):
        Embedding().score(b, b, np.arange(3), np.arange(4))
    with pytest.raises(ValueError, match="unit length"):
        Embedding().score(2 * a, b, np.arange(3), np.arange(4))
    with pytest.raises(ValueError, match="dimensions"):
        short = b[:, :5] / np.linalg.norm(b[:, :5], axis=1, keepdims=True)
        Embedding().score(a, short, np.arange(3), np.arange(4))
