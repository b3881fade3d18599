"""Pair plans: which pairs they ask for, and that each of them is the exact number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delift_core import registry
from delift_core.errors import Cancelled, ConfigError
from delift_core.models.causal import CausalModel
from delift_core.neighbours import farthest_first
from delift_core.scoring import partial
from delift_core.scoring.features import Side
from delift_core.scoring.icl import InContext
from delift_core.scoring.pairs import Pairs, joined
from delift_core.scoring.planned import Planned, score_planned
from delift_core.scoring.plans import Landmarks, Neighbours, Problem
from delift_core.scoring.rows import Rows
from delift_core.types import BlockStore, Floats, Indices, MemoryStore
from tests.scoring.conftest import llama, some_rows, wrap
from tests.scoring.test_icl import CountingStore

SHAPE = (7, 5)


@pytest.fixture(scope="module")
def model() -> CausalModel:
    return wrap(llama())


def vectors(n: int, seed: int = 0, d: int = 6) -> Floats:
    found = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def run(
    plan: Any, helped: Rows, candidates: Rows, model: CausalModel, *, store: BlockStore | None = None, **changes: Any
) -> Planned:
    same = helped is candidates
    sides = vectors(len(helped)), vectors(len(helped) if same else len(candidates), seed=0 if same else 1)
    fixed = {"same": same, "kind": "l2", "check_rows": 3, "seed": 0, "store": store or MemoryStore()}
    return score_planned(InContext(), helped, candidates, model, plan, sides, **{**fixed, **changes})


def problem(rows: int, columns: int, *, same: bool = False) -> Problem:
    own = np.arange(rows)
    missing = Pairs.of(own, own, (rows, columns)) if same else Pairs.none((rows, columns))
    left = vectors(rows)
    right = left if same else vectors(columns, seed=1)

    def sides() -> tuple[Side, Side]:
        first = side(left)
        return first, first if same else side(right)

    return Problem((rows, columns), same, missing, left, right, np.ones(rows, np.float32), sides)


def side(of: Floats) -> Side:
    random = np.random.default_rng(len(of))
    prompts, labels, shown = ([random.integers(0, 30, random.integers(1, 9)).tolist() for _ in of] for _ in range(3))
    return Side(prompts, labels, [-random.random(len(x)).astype(np.float32) for x in labels],
                [(p, s) for p, s in zip(prompts, shown, strict=True)], of)  # fmt: skip


def asked(plan: Any, of: Problem) -> Pairs:
    asking = plan.ask(of)
    found = [next(asking)]
    while True:
        try:
            found.append(asking.send(np.zeros(len(found[-1]), np.float32)))
        except StopIteration:
            return joined(found, of.shape)


# ------------------------------------------------------------------------------------------------ sets of pairs


@st.composite
def some_pairs(draw: Any) -> Pairs:
    size = draw(st.integers(0, 20))
    rows, columns = (draw(st.lists(st.integers(0, most - 1), min_size=size, max_size=size)) for most in SHAPE)
    return Pairs.of(np.array(rows, np.int64), np.array(columns, np.int64), SHAPE)


def as_set(pairs: Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.rows.tolist(), pairs.columns.tolist(), strict=True))


@given(some_pairs(), some_pairs())
@settings(max_examples=60, deadline=None)
def test_sets_of_pairs_join_and_part_like_sets(first: Pairs, second: Pairs) -> None:
    assert as_set(first.union(second)) == as_set(first) | as_set(second)
    assert as_set(first.without(second)) == as_set(first) - as_set(second)
    whole = first.union(second)
    assert np.array_equal(whole.codes[whole.find(second)], second.codes)
    assert {(int(i), j) for j, rows in first.by_column() for i in rows} == as_set(first)


@given(some_pairs())
@settings(max_examples=60, deadline=None)
def test_values_of_pairs_become_a_matrix_with_every_entry_in_its_place(pairs: Pairs) -> None:
    values = np.arange(len(pairs), dtype=np.float32)  # a zero among them
    matrix = pairs.matrix(values)
    assert matrix.nnz == len(pairs) and matrix.shape == SHAPE
    dense = np.full(SHAPE, np.nan)
    dense[pairs.rows, pairs.columns] = values
    assert np.array_equal(matrix.toarray(), np.nan_to_num(dense))


def test_positions_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        Pairs.of(np.array([7]), np.array([0]), SHAPE)


# ------------------------------------------------------------------------------------------------ plans


@pytest.mark.parametrize("name", registry.PLANS)
@pytest.mark.parametrize(("rows", "columns", "same"), [(60, 60, True), (20, 50, False), (2, 40, False), (40, 2, False)])
def test_a_plan_asks_for_pairs_that_make_sense_each_once_and_about_as_many_as_it_says(
    name: str, rows: int, columns: int, same: bool
) -> None:
    plan, of = registry.plan(name), problem(rows, columns, same=same)
    found = asked(plan, of)
    assert len(found) and len(found) == len(as_set(found))
    assert not as_set(found) & as_set(of.missing)
    assert len(found) <= 1.5 * plan.count((rows, columns), same) + rows
    again = asked(plan, of)
    assert np.array_equal(found.codes, again.codes), "the same seed gives the same pairs"


@pytest.mark.parametrize(("varied", "spared"), [(False, True), (True, False)])
def test_adaptive_stops_early_where_more_pairs_find_nothing_better(varied: bool, spared: bool) -> None:
    of, plan = problem(40, 40), registry.plan("adaptive:0.5")
    row = np.linspace(0.1, 0.9, 40, dtype=np.float32)  # either every candidate helps a row alike, or every one differs
    truth = np.random.default_rng(0).random((40, 40), np.float32) ** 20 if varied else np.tile(row[:, None], 40)
    asking, number = plan.ask(of), 0
    pairs = next(asking)
    with pytest.raises(StopIteration) as end:
        while True:
            number += len(pairs)
            pairs = asking.send(truth[pairs.rows, pairs.columns])
    assert (end.value.value.spared > 0) is spared
    assert number + end.value.value.spared == plan.count(of.shape, of.same)


def test_neighbours_are_the_nearest_and_their_partners() -> None:
    of = problem(200, 200, same=True)
    found = as_set(asked(Neighbours(k=3, probes=0), of))
    similar = of.helped @ of.helped.T
    np.fill_diagonal(similar, -2)
    near = {(i, int(j)) for i in range(200) for j in np.argsort(-similar[i])[:3]}
    assert found == near | {(j, i) for i, j in near}


def test_landmarks_stand_for_all_rows_and_see_every_candidate() -> None:
    of = problem(40, 15)
    asking = Landmarks(c=6).ask(of)
    pairs = next(asking)
    with pytest.raises(StopIteration) as end:
        asking.send(np.zeros(len(pairs), np.float32))
    weights = end.value.value.weights
    chosen = np.unique(pairs.rows)
    assert len(chosen) == 6 and len(pairs) == 6 * 15
    assert weights.sum() == 40 and set(np.flatnonzero(weights)) == set(chosen)
    assert weights[chosen].min() >= 1


def test_farthest_first_spreads_out() -> None:
    points = np.array([[0.0, 0], [0.1, 0], [10, 0], [10, 0.1], [0, 10]], np.float32)
    chosen = farthest_first(points, 3, seed=0)
    assert {int(c) // 2 for c in chosen} == {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [("knm:3", "Did you mean 'knn'"), ("knn:x", "wants a number"), ("knn:0", "outside"), ("dense:2", "Unknown")],
)
def test_a_plan_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        registry.plan(text)


def test_plans_have_one_way_to_be_written() -> None:
    assert registry.plan("dense") is None
    assert registry.plan_name("knn") == registry.plan_name("knn:12") == "knn:12"


# ------------------------------------------------------------------------------------------------ scoring by a plan


@pytest.mark.parametrize("same", [True, False])
def test_planned_pairs_are_the_numbers_of_the_dense_matrix(model: CausalModel, same: bool) -> None:
    helped = some_rows(14)
    candidates = helped if same else some_rows(9, seed=3)
    dense = InContext().score(helped, candidates, model, same=same, store=MemoryStore())
    found = run(Neighbours(k=2, probes=2), helped, candidates, model)
    for sparse, whole in ((found.raw["l2"], dense.l2), (found.raw["pmi"], dense.pmi)):
        rows, columns = sparse.values.tocoo().coords
        assert np.abs(sparse.values.data - whole.values[rows, columns]).max() < 1e-5
        assert np.array_equal(sparse.baseline, whole.baseline)
    assert found.pairs == found.raw["l2"].values.nnz > 0
    truth = dense.l2.values[found.check.rows]
    assert np.allclose(found.check.exact, truth, atol=1e-5, equal_nan=True)
    known = ~np.isnan(found.check.told)
    assert known.any() and np.allclose(found.check.told[known], truth[known], atol=1e-5)


def test_what_was_scored_before_is_not_scored_again(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "BLOCK_TOKENS", 400)  # several blocks
    helped, store = some_rows(14), CountingStore()
    first = run(Neighbours(k=2), helped, helped, model, store=store)
    assert first.report.computed == first.report.blocks > 2
    again = run(Neighbours(k=2), helped, helped, model, store=store)
    assert again.report.computed == 0
    assert np.array_equal(again.raw["l2"].values.data, first.raw["l2"].values.data)


def test_a_cancelled_plan_goes_on_where_it_stopped(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "BLOCK_TOKENS", 400)
    helped, store = some_rows(14), CountingStore()

    def stop(stage: str, done: float, total: float, note: str = "") -> None:
        if done > 10:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(Neighbours(k=2), helped, helped, model, store=store, progress=stop)
    kept = sum(key.startswith("icl-pairs") for key in store.written)  # the baseline and the neighbours are kept as well
    assert kept
    whole = run(Neighbours(k=2), helped, helped, model, store=store)
    assert whole.report.computed == whole.report.blocks - kept


def test_rows_longer_than_the_context_are_cut_as_in_the_dense_engine(model: CausalModel) -> None:
    long = Rows(["x" * 2000, "short", "m" * 700], ["answer " * 10, "a", "b" * 900], np.arange(3))
    dense = InContext().score(long, long, model, same=True, store=MemoryStore())
    found = run(Landmarks(c=3), long, long, model, check_rows=2)
    filled: Floats = np.full((3, 3), np.nan, np.float32)
    rows, columns = found.raw["l2"].values.tocoo().coords
    filled[rows, columns] = found.raw["l2"].values.data
    assert np.allclose(filled, dense.l2.values, atol=1e-5, equal_nan=True)
    assert found.report.cut_examples == dense.report.cut_examples


def test_a_plan_on_a_single_row_is_refused(model: CausalModel) -> None:
    one: Indices = np.arange(1)
    with pytest.raises(ConfigError, match="two rows on each side"):
        run(Neighbours(), Rows(["a"], ["b"], one), some_rows(4), model)
