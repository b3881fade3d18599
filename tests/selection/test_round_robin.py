"""Round-robin: against a plain loop, under rules, and on real tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from delift_core.errors import ConfigError
from delift_core.selection import round_robin
from delift_core.selection.baselines import Random
from delift_core.selection.round_robin import RoundRobin
from delift_core.types import Evidence, Limit, Rules, Utility

Make = Callable[..., Evidence]


def plain(values: np.ndarray, count: int, barred: frozenset[int] = frozenset()) -> tuple[list[int], list[float]]:
    """Turns as the paper tells them: positions, and the utility to the row whose turn it was."""
    left = [j for j in range(values.shape[1]) if j not in barred]
    picks: list[int] = []
    gains: list[float] = []
    while len(picks) < count and left:
        before = len(picks)
        for row in values:
            best = max(left, key=lambda j: (row[j], -j), default=None)
            if best is not None and row[best] > 0 and len(picks) < count:
                picks.append(best)
                gains.append(float(row[best]))
                left.remove(best)
        if len(picks) == before:  # nobody is helped by what is left
            picks.append(left.pop(0))
            gains.append(0.0)
    return picks, gains


def of(values: np.ndarray) -> Evidence:
    m, n = values.shape
    rows = 100 + 7 * np.arange(n)
    return Evidence(rows, np.ones(n, np.int64), target=Utility(values, np.arange(m), rows, "cosine"))


def values(seed: int, m: int = 5, n: int = 200, levels: int = 12) -> np.ndarray:
    """Coarse levels, so that there are ties and rows that help nobody."""
    rng = np.random.default_rng(seed)
    return np.asfortranarray(np.maximum(rng.integers(-levels, levels, (m, n)), 0).astype(np.float32))


@pytest.mark.parametrize("held", [1 << 25, 1])
@pytest.mark.parametrize("form", [np.asarray, sparse.csc_array])
def test_it_is_the_plain_loop_whatever_is_held_ready(
    form: Callable, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_robin, "HELD", held)
    monkeypatch.setattr(round_robin, "FIRST", 3)
    for seed in range(6):
        u = values(seed)
        e = of(u)
        e = replace(e, target=replace(e.target, values=form(u)))
        found = RoundRobin().select(e, Limit(200))
        picks, gains = plain(u, 200)
        assert found.order.tolist() == [100 + 7 * j for j in picks]
        assert found.gains.tolist() == gains
        assert found.value[-1] == pytest.approx(sum(gains))
        assert "helps no target row" in found.notes[0]
        for k in (1, 23, 120):
            assert RoundRobin().select(e, Limit(k)).order.tolist() == found.head(k).order.tolist()


def test_a_turn_is_not_lost_to_a_banned_or_pinned_row() -> None:
    u = values(3)
    rng = np.random.default_rng(0)
    banned = np.zeros(200, bool)
    banned[rng.permutation(200)[:60]] = True
    pinned = np.flatnonzero(~banned)[[50, 4]]
    found = RoundRobin().select(of(u), Limit(40, None, Rules(pinned=pinned, banned=banned)))
    picks, gains = plain(u, 38, frozenset(np.flatnonzero(banned).tolist()) | set(pinned.tolist()))
    assert found.order.tolist() == [100 + 7 * j for j in [*pinned.tolist(), *picks]]
    assert found.gains.tolist() == [0, 0, *gains]


def test_near_duplicates_and_quotas_hold_within_the_turns() -> None:
    u = np.array([[5, 4, 3, 2, 1, 1], [5, 4, 3, 2, 1, 1]], np.float32)
    once = RoundRobin().select(of(u), Limit(6, None, Rules(once=np.array([0, 0, 1, 1, 2, 3]))))
    assert once.order.tolist() == [100, 114, 128, 135]
    group = np.array([0, 0, 0, 0, 1, 1])
    most = RoundRobin().select(of(u), Limit(6, None, Rules(group=group, at_most=np.array([1, 2]))))
    assert most.order.tolist() == [100, 128, 135]
    assert "The rules leave 3 rows" in most.notes[0]
    least = RoundRobin().select(of(u), Limit(3, None, Rules(group=group, at_least=np.array([0, 2]))))
    assert least.order.tolist() == [100, 128, 135]
    assert not least.nested


def test_a_token_budget_is_kept(evidence: Make) -> None:
    e = evidence()
    found = RoundRobin().select(e, Limit(30, 200))
    used = e.tokens[np.isin(e.candidates, found.order)].sum()
    assert used <= 200
    assert not found.nested
    assert (used + e.tokens[~np.isin(e.candidates, found.order)] > 200).all()


def test_a_permuted_pool_gives_the_same_rows() -> None:
    u = np.random.default_rng(1).random((4, 50), np.float32)
    p = np.random.default_rng(2).permutation(50)
    e, moved = of(u), of(u[:, p])
    rows = e.candidates[p]
    moved = replace(moved, candidates=rows, target=replace(moved.target, candidates=rows))
    assert RoundRobin().select(moved, Limit(50)).order.tolist() == RoundRobin().select(e, Limit(50)).order.tolist()


def test_more_target_rows_than_candidates_is_fine_and_an_empty_target_is_an_error() -> None:
    u = np.random.default_rng(1).random((30, 4), np.float32)
    assert sorted(RoundRobin().select(of(u), Limit(4)).order.tolist()) == [100, 107, 114, 121]
    with pytest.raises(ConfigError, match="target has no rows"):
        RoundRobin().select(of(u[:0]), Limit(2))
    u[3, 2] = np.nan
    with pytest.raises(ConfigError, match="NaN"):
        RoundRobin().select(of(u), Limit(2))


def test_on_real_rows_picks_go_to_the_target_task(tasks: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, task = tasks
    target = (task == 3) & (np.arange(600) % 60 >= 48)
    pool = ~target
    values = (1 + vectors[target] @ vectors[pool].T) / 2
    n = int(pool.sum())
    e = Evidence(np.arange(n), np.ones(n, np.int64), target=Utility(values, np.arange(12), np.arange(n), "cosine"))
    assert (task[pool][RoundRobin().select(e, Limit(48)).order] == 3).mean() >= 0.8
    drawn = [(task[pool][Random().select(e, Limit(58), seed=s).order] == 3).mean() for s in range(20)]
    assert 0.05 < np.mean(drawn) < 0.12, "the control draws the task's share of 48 in 588"
