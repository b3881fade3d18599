"""Set functions of submodlib: their definition for all subsets, its own greedy, brute force and rules."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from delift_core.errors import Cancelled, ConfigError
from delift_core.selection import others
from delift_core.selection.others import (
    DisparityMin,
    DisparitySum,
    GraphCut,
    LogDeterminant,
    ProbabilisticSetCover,
    SetCover,
)
from delift_core.types import Evidence, Limit, Rules, Utility

submodlib = pytest.importorskip("submodlib")

ALL: list[Any] = [
    GraphCut(), GraphCut(cut_lambda=3.0), DisparitySum(), DisparityMin(), LogDeterminant(),
    LogDeterminant(det_lambda=0.1), SetCover(), SetCover(cover_nearest=2), SetCover(0, 0.6), ProbabilisticSetCover(),
]  # fmt: skip
MONOTONE: list[Any] = [GraphCut(0.2), LogDeterminant(), SetCover(3), SetCover(0, 0.6), ProbabilisticSetCover()]


def name(objective: Any) -> str:
    return repr(objective)


def psd(n: int, seed: int) -> Any:
    """s = (1 + cos) / 2 of random vectors."""
    x = np.random.default_rng(seed).standard_normal((n, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.clip((1 + x @ x.T) / 2, 0, 1).astype(np.float32)


def given(values: Any, tokens: Any = None) -> Evidence:
    n = len(values)
    rows = 100 + 7 * np.arange(n)
    tokens = np.full(n, 10) if tokens is None else np.asarray(tokens)
    return Evidence(rows, tokens, pool=Utility(values, rows, rows, "cosine"))


def f(objective: Any, values: Any, picks: Any) -> float:
    """The value of a set, written as in the docstrings, in float64."""
    s, a = values.astype(np.float64), list(picks)
    if isinstance(objective, GraphCut):
        t = (s + s.T) / 2
        return float(s[:, a].sum() - objective.cut_lambda * t[np.ix_(a, a)].sum())
    if isinstance(objective, SetCover):
        touched = set()
        for j in a:
            order = np.argsort(-s[:, j], kind="stable")[: objective.cover_nearest or None]
            touched |= {int(i) for i in order if s[i, j] > objective.cover_threshold * s.max()}
        return float(len(touched))
    s = s / max(1.0, s.max())
    if isinstance(objective, ProbabilisticSetCover):
        return float((1 - np.prod(1 - s[:, a], axis=1)).sum())
    t = (s + s.T) / 2
    np.fill_diagonal(t, 1)
    pairs = [1 - t[i, j] for i, j in itertools.combinations(a, 2)]
    if isinstance(objective, DisparitySum):
        return float(sum(pairs))
    if isinstance(objective, DisparityMin):
        return float(min(pairs, default=0.0))
    assert isinstance(objective, LogDeterminant)
    ridge = objective.det_lambda + max(0.0, -np.linalg.eigvalsh(t)[0])
    return float(np.linalg.slogdet(t[np.ix_(a, a)] + ridge * np.eye(len(a)))[1]) if a else 0.0


@pytest.mark.parametrize("objective", ALL, ids=name)
@pytest.mark.parametrize("values", [psd(7, 1), np.random.default_rng(2).random((7, 7), np.float32)], ids=["psd", "any"])
def test_every_subset_has_the_value_of_the_definition(objective: Any, values: Any) -> None:
    evidence = given(values)
    assert evidence.pool is not None
    function = objective.function(evidence.pool)
    for k in range(1, 8):
        for picks in itertools.permutations(range(7), k) if k <= 3 else itertools.combinations(range(7), k):
            pinned = Rules(pinned=np.array(picks))
            found = objective.select(evidence, Limit(k, rules=pinned))
            assert found.value[-1] == pytest.approx(f(objective, values, picks), abs=2e-5), picks
            assert found.order.tolist() == evidence.candidates[list(picks)].tolist()
    if function.monotone and not isinstance(objective, DisparityMin):
        assert function.full_value == pytest.approx(f(objective, values, range(7)), abs=2e-5)
    else:
        assert function.full_value == 0 and np.isnan(found.share)


@pytest.mark.parametrize("objective", ALL, ids=name)
@pytest.mark.parametrize("seed", range(3))
def test_picks_are_those_of_the_greedy_of_submodlib(objective: Any, seed: int) -> None:
    """submodlib breaks ties by its hash set, so its first pick is given where all rows begin equal.

    The rows weigh differently, so that two candidates of set cover tie only where they cover the same.
    """
    evidence = given(psd(40, seed))
    assert evidence.pool is not None
    weights = np.random.default_rng(seed).random(40)
    evidence = replace(evidence, pool=replace(evidence.pool, weights=weights))
    function = objective.function(evidence.pool)
    own = function.make().maximize(budget=8, optimizer="NaiveGreedy", show_progress=False)
    equal = objective.name in ("disparity-sum", "disparity-min", "log-determinant")
    first = Rules(pinned=np.array([own[0][0]])) if equal else None
    picked = objective.select(evidence, Limit(8, rules=first))
    assert picked.gains == pytest.approx([gain for _, gain in own], abs=1e-5)
    if not isinstance(objective, SetCover):
        assert picked.order.tolist() == evidence.candidates[[j for j, _ in own]].tolist()


@pytest.mark.parametrize("objective", MONOTONE, ids=name)
@pytest.mark.parametrize("seed", range(4))
def test_lazy_evaluation_picks_what_evaluating_all_picks(
    objective: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    evidence = given(psd(30, seed), rng.integers(3, 40, 30))
    group = rng.integers(0, 3, 30)
    rules = Rules(
        np.array([4]), rng.random(30) < 0.2, rng.integers(0, 20, 30), group, np.array([3, 0, 2]), np.array([9, 2, 9])
    )
    rules.banned[4] = False  # type: ignore[index]
    function = objective.function(evidence.pool)
    assert function.monotone and function.submodular
    limits = [Limit(12), Limit(30, 200), Limit(12, rules=rules), Limit(30, 250, rules)]
    lazy = [objective.select(evidence, limit) for limit in limits]
    monkeypatch.setattr(type(objective), "function", lambda self, pool: replace(function, monotone=False))
    for limit, one in zip(limits, lazy, strict=True):
        assert one.order.tolist() == objective.select(evidence, limit).order.tolist()


@pytest.mark.parametrize("objective", MONOTONE, ids=name)
@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_within_1_minus_1_over_e_of_brute_force(objective: Any, seed: int) -> None:
    values = psd(9, seed)
    found = objective.select(given(values), Limit(3))
    best = max(f(objective, values, picks) for picks in itertools.combinations(range(9), 3))
    assert best + 1e-5 >= found.value[-1] >= (1 - 1 / np.e) * best
    assert any("1 - 1/e" in note for note in found.notes)


@pytest.mark.parametrize("objective", [DisparitySum(), DisparityMin()], ids=name)
@pytest.mark.parametrize("seed", range(6))
def test_disparities_reach_half_of_the_best_on_a_metric(objective: Any, seed: int) -> None:
    points = np.random.default_rng(seed).random((9, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) / 2
    values = (1 - distance).astype(np.float32)
    best = max(f(objective, values, picks) for picks in itertools.combinations(range(9), 4))
    assert best + 1e-6 >= objective.select(given(values), Limit(4)).value[-1] >= best / 2


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_a_smaller_budget_is_a_prefix_and_a_token_budget_says_that_it_is_not(objective: Any) -> None:
    evidence = given(psd(25, 3), np.random.default_rng(0).integers(5, 30, 25))
    whole = objective.select(evidence, Limit(20))
    assert whole.nested and whole.head(7).order.tolist() == objective.select(evidence, Limit(7)).order.tolist()
    some = objective.select(evidence, Limit(25, 120))
    taken = np.isin(evidence.candidates, some.order)
    left = 120 - evidence.tokens[taken].sum()
    assert left >= 0 and (evidence.tokens[~taken] > left).all(), "filled with what still fits"
    assert not some.nested


def test_of_the_two_greedy_searches_for_tokens_the_better_is_taken() -> None:
    """One long row that covers most, or many short ones that cover more together: each search wins once."""
    values = np.zeros((12, 12), np.float32)
    values[:6, 0] = 1.0
    for j in range(1, 12):
        values[j, j] = 1.0
    tokens = np.array([100] + [10] * 11)
    short = SetCover(0).select(given(values, tokens), Limit(12, 100))
    assert 100 not in short.order.tolist() and short.value[-1] == 10
    tokens[1:] = 60
    long = SetCover(0).select(given(values, tokens), Limit(12, 100))
    assert long.order.tolist() == [100] and long.value[-1] == 6


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_rules_are_followed(objective: Any) -> None:
    rng = np.random.default_rng(5)
    evidence, group = given(psd(30, 5)), rng.integers(0, 3, 30)
    banned, once = np.zeros(30, bool), np.arange(30) // 2
    pinned = np.array([8, 3])
    banned[[0, 1, 20]] = True
    rules = Rules(pinned, banned, once, group, np.array([4, 0, 2]), np.array([30, 3, 30]))
    found = objective.select(evidence, Limit(10, rules=rules))
    picks = (found.order - 100) // 7
    assert picks[:2].tolist() == [8, 3] and len(picks) == 10
    assert not banned[picks].any()
    assert len(np.unique(once[picks])) == 10
    count = np.bincount(group[picks], minlength=3)
    assert count[0] >= 4 and count[1] <= 3 and count[2] >= 2
    assert not found.nested
    assert objective.select(evidence, Limit(10, rules=Rules(pinned, banned))).nested


def test_minimums_that_the_budget_has_to_wait_for_are_filled_last_under_rows() -> None:
    """Group 1 adds nothing, so greedy leaves it for the last moment, and no longer."""
    values = np.diag(np.array([9, 8, 7, 6, 5, 4, 0, 0], np.float32))
    group = np.array([0] * 6 + [1] * 2)
    rules = Rules(group=group, at_least=np.array([0, 2]))
    found = SetCover(0).select(given(values), Limit(4, rules=rules))
    assert ((found.order - 100) // 7).tolist() == [0, 1, 6, 7]
    tokens = SetCover(0).select(given(values), Limit(8, 30, rules))
    assert ((tokens.order - 100) // 7).tolist() == [6, 7, 0], "under tokens they come first"


def test_a_minimum_that_tokens_no_longer_allow_is_given_up_and_told() -> None:
    values = np.diag(np.array([9, 1, 2], np.float32))
    rules = Rules(group=np.array([0, 0, 1]), at_least=np.array([1, 1]))
    found = SetCover(0).select(given(values), Limit(3, 20, rules))
    assert sorted(found.order.tolist()) == [100, 114]
    weighty = replace(given(values, [80, 10, 50]), pool=replace(given(values).pool, weights=np.array([9.0, 1, 2])))
    late = SetCover(0).select(weighty, Limit(3, 100, rules))
    assert late.order.tolist() == [100, 107], "after row 0 the only row of group 1 does not fit, row 1 does"
    assert any("group 1 (counted from 0) has 0 of 1" in note for note in late.notes)


def test_rules_that_leave_too_few_rows_are_told() -> None:
    rules = Rules(banned=np.arange(10) >= 3)
    found = SetCover().select(given(psd(10, 0)), Limit(6, rules=rules))
    assert sorted(found.order.tolist()) == [100, 107, 114]
    assert any("7 left out before" in note for note in found.notes)


def test_each_function_chooses_what_it_is_meant_to_on_planted_rows() -> None:
    """Three rows are near-copies of each other, one is far away from all: spread takes it second, representation last.

    Rows 0, 1, 2: one cluster; 3, 4: another; 5: alone.
    """
    t = np.full((6, 6), 0.1, np.float32)
    t[:3, :3], t[3:5, 3:5] = 0.95, 0.9
    t[5, :5] = t[:5, 5] = 0.0
    np.fill_diagonal(t, 1)

    def first(objective: Any) -> list[int]:
        return [int(j) for j in (objective.select(given(t), Limit(3)).order - 100) // 7]

    assert set(first(GraphCut(0.0))) == {0, 1, 2}, "nothing speaks against repetition"
    spreading = (GraphCut(2.0), DisparitySum(), DisparityMin(), LogDeterminant(), SetCover(0, 0.5))
    order = {objective.name: first(objective) for objective in spreading}
    assert order["disparity-min"][:2] == [0, 5] and order["disparity-sum"][:2] == [0, 5]
    for spread in ("graph-cut", "disparity-min", "log-determinant", "set-cover"):
        clusters = {0: "a", 1: "a", 2: "a", 3: "b", 4: "b", 5: "c"}
        assert {clusters[j] for j in order[spread]} == {"a", "b", "c"}, spread


def test_rows_stand_for_others_by_their_weight() -> None:
    """Row 1 stands for 50 rows: whoever covers it goes first."""
    values = np.zeros((4, 4), np.float32)
    values[[0, 2, 3], 0] = values[1, 1] = 0.5
    evidence = given(values)
    assert evidence.pool is not None
    heavy = replace(evidence, pool=replace(evidence.pool, weights=np.array([1.0, 50.0, 1.0, 1.0])))
    for objective in (SetCover(), ProbabilisticSetCover(), GraphCut(0.1)):
        assert objective.select(evidence, Limit(1)).order.tolist() == [100]
        assert objective.select(heavy, Limit(1)).order.tolist() == [107]


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_sparse_pairs_are_their_dense_form_with_zeros(objective: Any) -> None:
    values = psd(20, 4)
    values[values < 0.5] = 0
    rows = given(values).candidates
    thin = replace(given(values), pool=Utility(sparse.csc_array(values), rows, rows, "cosine"))
    assert objective.select(thin, Limit(8)).order.tolist() == objective.select(given(values), Limit(8)).order.tolist()


def test_a_matrix_that_is_no_kernel_gets_what_its_diagonal_lacks_and_says_so() -> None:
    values = np.random.default_rng(0).random((12, 12), np.float32)
    found = LogDeterminant().select(given(values), Limit(12))
    assert np.isfinite(found.gains).all() and (found.gains >= -1e-6).all()
    assert any("added to its diagonal" in note for note in found.notes)
    assert not any("diagonal" in note for note in LogDeterminant().select(given(psd(12, 0)), Limit(5)).notes)


def test_values_above_1_are_divided_where_a_probability_or_a_distance_is_read() -> None:
    values = psd(10, 0) * 4
    for objective in (ProbabilisticSetCover(), DisparitySum(), LogDeterminant()):
        found = objective.select(given(values), Limit(4))
        assert any("divided" in note for note in found.notes)
        assert found.order.tolist() == objective.select(given(values / values.max()), Limit(4)).order.tolist()


def test_a_pick_that_lowers_f_is_told() -> None:
    found = GraphCut(5.0).select(given(psd(20, 0)), Limit(20))
    first = int(np.flatnonzero(found.gains < 0)[0])
    assert any(f"Pick {first + 1} is the first that lowers f" in note for note in found.notes)
    assert len(found) == 20 and np.isnan(found.share)


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_a_single_row_and_no_row_are_no_special_case(objective: Any) -> None:
    assert objective.select(given(np.ones((1, 1), np.float32)), Limit(3)).order.tolist() == [100]
    assert len(objective.select(given(np.ones((0, 0), np.float32)), Limit(3))) == 0


def test_large_pools_and_a_missing_library_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = given(psd(9, 0))
    monkeypatch.setattr(others, "MOST", 8)
    with pytest.raises(ConfigError, match="8 rows at most, not 9"):
        DisparityMin().select(evidence, Limit(2))
    monkeypatch.setattr(others, "MOST", 5_000)
    monkeypatch.setitem(sys.modules, "submodlib", None)
    with pytest.raises(ConfigError, match="pip install submodlib-py"):
        DisparityMin().select(evidence, Limit(2))


def test_a_cancelled_search_stops() -> None:
    def cancel(stage: str, done: float, total: float, note: str = "") -> None:
        if done >= 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        DisparitySum().select(given(psd(10, 0)), Limit(5), progress=cancel)


def test_the_fixture_of_all_objectives_works_too(evidence: Callable[..., Evidence]) -> None:
    made = evidence(n=20)
    for objective in ALL:
        found = objective.select(made, Limit(6))
        assert set(found.order.tolist()) <= set(made.candidates.tolist()) and len(set(found.order.tolist())) == 6
