"""k-center: against the plain farthest-first loop, whatever is held back, and under rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from delift_core.errors import ConfigError
from delift_core.selection import kcenter
from delift_core.selection.kcenter import KCenter
from delift_core.types import Evidence, Limit, Rules

Make = Callable[..., Evidence]


def told(vectors: np.ndarray) -> Evidence:
    n = len(vectors)
    return Evidence(100 + 7 * np.arange(n), np.random.default_rng(0).integers(1, 9, n), vectors=vectors)


def vectors(n: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, 6)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def plain(x: np.ndarray, count: int, start: list[int] | None = None, barred: tuple[int, ...] = ()) -> list[int]:
    """Gonzalez's loop with all distances at hand."""
    x = x.astype(np.float64)
    apart = np.round(((x[:, None] - x[None]) ** 2).sum(axis=2), 9)
    near_mean = np.round(((x - x.mean(axis=0)) ** 2).sum(axis=1), 9)
    near_mean[list(barred)] = np.inf
    picks = list(start or [int(near_mean.argmin())])
    while len(picks) < count:
        gap = apart[:, picks].min(axis=1)
        gap[[*picks, *barred]] = -1
        picks.append(int(gap.argmax()))
    return picks


@pytest.mark.parametrize(("batch", "top"), [(256, 4096), (3, 5), (1, 1), (50, 20)])
def test_it_is_the_plain_loop_however_little_is_looked_at(
    batch: int, top: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kcenter, "BATCH", batch)
    monkeypatch.setattr(kcenter, "NEAR_TOP", top)
    copies = np.concatenate([vectors(60), vectors(60)[:25], np.eye(6, dtype=np.float32).repeat(4, 0)])
    found = KCenter().select(told(copies), Limit(len(copies)))
    assert found.order.tolist() == [100 + 7 * j for j in plain(copies, len(copies))]


def test_gains_are_the_radius_that_the_picks_before_cover() -> None:
    x = vectors(80)
    found = KCenter().select(told(x), Limit(80))
    at = (found.order - 100) // 7
    for k in (1, 5, 40, 79):
        covered = np.linalg.norm(x[:, None].astype(np.float64) - x[at[:k]], axis=2).min(axis=1)
        assert found.gains[k] == pytest.approx(covered.max(), abs=1e-6)
    assert (np.diff(found.gains) <= 0).all()
    assert found.value == pytest.approx(np.cumsum(found.gains))
    assert KCenter().select(told(x), Limit(13)).order.tolist() == found.head(13).order.tolist()


def test_the_radius_is_at_most_twice_the_best() -> None:
    x = vectors(14, 3).astype(np.float64)
    apart = np.linalg.norm(x[:, None] - x, axis=2)
    for k in (2, 3, 4):
        best = min(apart[:, list(c)].min(axis=1).max() for c in combinations(range(14), k))
        assert KCenter().select(told(x.astype(np.float32)), Limit(k + 1)).gains[k] <= 2 * best + 1e-6


def test_pinned_rows_come_first_and_barred_rows_are_no_centres() -> None:
    x = vectors(60, 4)
    banned = np.zeros(60, bool)
    banned[[3, 8, 9, 40]] = True
    found = KCenter().select(told(x), Limit(20, None, Rules(pinned=np.array([11, 5]), banned=banned)))
    assert found.order.tolist() == [100 + 7 * j for j in plain(x, 20, [11, 5], (3, 8, 9, 40))]
    first = KCenter().select(told(x), Limit(20, None, Rules(banned=banned)))
    assert first.order.tolist() == [100 + 7 * j for j in plain(x, 20, None, (3, 8, 9, 40))]


@pytest.mark.parametrize("top", [4096, 4])
def test_quotas_near_duplicates_and_tokens_hold(top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kcenter, "NEAR_TOP", top)
    x, group, once = vectors(60, 5), np.arange(60) % 3, np.arange(60) // 2
    rules = Rules(group=group, once=once, at_least=np.array([0, 8, 0]), at_most=np.array([4, 30, 30]))
    e = told(x)
    for limit in (Limit(14, None, rules), Limit(60, 60, rules)):
        found = KCenter().select(e, limit)
        at = (found.order - 100) // 7
        assert len(set(once[at])) == len(at)
        assert (np.bincount(group[at], minlength=3) <= [4, 30, 30]).all()
        assert np.bincount(group[at], minlength=3)[1] >= 8
        assert limit.tokens or len(at) == 14
        assert limit.tokens is None or e.tokens[at].sum() <= 60
        assert not found.nested


def test_once_minimums_are_met_the_farthest_rows_of_all_groups_follow() -> None:
    x, group = vectors(40, 6), np.arange(40) % 4
    e = replace(told(x), tokens=np.ones(40, np.int64))
    found = KCenter().select(e, Limit(40, 20, Rules(group=group, at_least=np.array([0, 3, 0, 0]))))
    first = plain(x, 3, None, tuple(np.flatnonzero(group != 1).tolist()))
    assert found.order.tolist() == [100 + 7 * j for j in plain(x, 20, first)]


def test_the_order_of_the_pool_changes_nothing(evidence: Make) -> None:
    e = evidence(50)
    p = np.random.default_rng(3).permutation(50)
    moved = replace(e, candidates=e.candidates[p], tokens=e.tokens[p], vectors=e.vectors[p])
    assert KCenter().select(moved, Limit(50)).order.tolist() == KCenter().select(e, Limit(50)).order.tolist()


def test_a_vector_that_is_not_finite_is_named(evidence: Make) -> None:
    e = evidence()
    broken = e.vectors.copy()
    broken[2, 0] = np.inf
    with pytest.raises(ConfigError, match="pool row 114 holds NaN or infinity"):
        KCenter().select(replace(e, vectors=broken), Limit(3))
    with pytest.raises(ValueError, match="needs"):
        KCenter().select(replace(e, vectors=None), Limit(3))
