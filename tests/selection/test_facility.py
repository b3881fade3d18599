"""The solver against its definition, brute force and itself in other forms."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from delift_core.errors import Cancelled
from delift_core.selection import search
from delift_core.selection.cores import side_by_side
from delift_core.selection.facility import CoverProblem, full_value, solve
from delift_core.selection.stochastic import Sampled
from delift_core.types import Limit

quick = settings(max_examples=60, deadline=None)


def f(problem: CoverProblem, picks: Any) -> float:
    """The value of a set, written as in the definition, in float64."""
    values = problem.values if isinstance(problem.values, np.ndarray) else problem.values.toarray()
    values, (rows, columns) = values.astype(np.float64), problem.shape
    start = np.zeros(rows) if problem.start is None else problem.start.astype(np.float64)
    cap = np.full(rows, np.inf) if problem.cap is None else problem.cap.astype(np.float64)
    weight = np.ones(rows) if problem.weight is None else problem.weight
    bonus = np.zeros(columns) if problem.bonus is None else problem.bonus
    picks = list(picks)
    best = values[:, picks].max(axis=1, initial=0)
    covered = np.minimum(cap, np.maximum(start, best)) - np.minimum(cap, start)
    return float(weight @ covered + bonus[picks].sum())


def naive_greedy(problem: CoverProblem, k: int) -> list[int]:
    picks: list[int] = []
    for _ in range(k):
        rest = [j for j in range(problem.shape[1]) if j not in picks]
        picks.append(max(rest, key=lambda j: (round(f(problem, [*picks, j]), 9), -j)))
    return picks


def numbers(*shape: int) -> Any:
    """Few distinct numbers that float32 adds exactly, so that ties are many and sums have no rounding."""
    return hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]))


@st.composite
def problems(draw: Any, most: int = 9) -> CoverProblem:
    rows, columns = draw(st.integers(1, most)), draw(st.integers(1, most))

    def maybe(strategy: Any) -> Any:
        return draw(st.none() | strategy)

    return CoverProblem(
        draw(numbers(rows, columns)),
        start=maybe(numbers(rows)),
        cap=maybe(numbers(rows)),
        weight=maybe(numbers(rows).map(lambda a: a.astype(np.float64))),
        bonus=maybe(numbers(columns).map(lambda a: a.astype(np.float64))),
    )


def as_sparse(problem: CoverProblem) -> CoverProblem:
    return CoverProblem(
        sparse.csc_array(problem.values), problem.start, problem.cap, problem.weight, problem.bonus
    )  # fmt: skip


def random_problem(rows: int, columns: int, seed: int, **parts: bool) -> CoverProblem:
    rng = np.random.default_rng(seed)
    return CoverProblem(
        rng.random((rows, columns), np.float32),
        start=rng.random(rows, np.float32) / 2 if parts.get("start") else None,
        cap=rng.random(rows, np.float32) if parts.get("cap") else None,
        weight=rng.random(rows) if parts.get("weight") else None,
        bonus=rng.random(columns) if parts.get("bonus") else None,
    )


@quick
@given(problems())
def test_the_value_of_every_prefix_is_f_of_its_picks(problem: CoverProblem) -> None:
    cover = solve(problem, Limit(problem.shape[1]))
    for k in range(1, len(cover.picks) + 1):
        assert cover.value[k - 1] == pytest.approx(f(problem, cover.picks[:k]), abs=1e-9)
    assert cover.full_value == pytest.approx(f(problem, range(problem.shape[1])), abs=1e-9)
    assert sorted(cover.picks) == list(range(problem.shape[1])), "every column is taken once"


@quick
@given(problems())
def test_lazy_greedy_picks_what_plain_greedy_picks_and_ties_go_to_the_lowest_column(problem: CoverProblem) -> None:
    cover = solve(problem, Limit(problem.shape[1]))
    assert cover.picks[: cover.useful].tolist() == naive_greedy(problem, cover.useful)


@quick
@given(problems())
def test_gains_never_increase_and_the_value_never_falls(problem: CoverProblem) -> None:
    cover = solve(problem, Limit(problem.shape[1]))
    assert (np.diff(cover.gains) <= 0).all()
    assert (cover.gains >= 0).all()


@quick
@given(problems(), st.integers(1, 9))
def test_smaller_budget_is_a_prefix(problem: CoverProblem, k: int) -> None:
    whole, part = solve(problem, Limit(problem.shape[1])), solve(problem, Limit(k))
    assert part.picks.tolist() == whole.picks[:k].tolist()
    assert part.gains.tolist() == whole.gains[:k].tolist()


@quick
@given(problems())
def test_dense_and_sparse_columns_give_the_same_answer(problem: CoverProblem) -> None:
    dense, thin = solve(problem, Limit(9)), solve(as_sparse(problem), Limit(9))
    assert dense.picks.tolist() == thin.picks.tolist()
    assert dense.gains == pytest.approx(thin.gains)
    assert dense.full_value == pytest.approx(thin.full_value)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("parts", [{}, {"start": True}, {"cap": True}, {"bonus": True}, {"weight": True}])
def test_greedy_is_within_1_minus_1_over_e_of_brute_force(seed: int, parts: dict[str, bool]) -> None:
    problem, k = random_problem(10, 10 + seed % 3, seed, **parts), 2 + seed % 4
    best = max(f(problem, picks) for picks in itertools.combinations(range(problem.shape[1]), k))
    assert best >= solve(problem, Limit(k)).value[-1] - 1e-6
    assert solve(problem, Limit(k)).value[-1] >= (1 - 1 / np.e) * best


@pytest.mark.parametrize("seed", range(8))
def test_a_token_budget_is_kept_filled_and_within_half_of_that_bound_of_brute_force(seed: int) -> None:
    problem, rng = random_problem(9, 10, seed), np.random.default_rng(seed)
    tokens, room = rng.integers(1, 30, 10), 40
    sets = (s for k in range(1, 11) for s in itertools.combinations(range(10), k) if tokens[list(s)].sum() <= room)
    best = max(f(problem, picks) for picks in sets)
    cover = solve(problem, Limit(10, room), tokens)
    used = tokens[cover.picks].sum()
    assert used <= room
    assert all(used + tokens[j] > room for j in set(range(10)) - set(cover.picks.tolist())), "something still fits"
    assert best + 1e-6 >= cover.value[-1] >= (1 - 1 / np.e) / 2 * best
    assert not cover.nested
    assert cover.notes


def test_a_token_budget_takes_the_better_of_gain_and_gain_per_token() -> None:
    # Column 0 is worth 1.0 for 10 tokens; columns 1 and 2 are worth 0.75 each for 5.
    values = np.array([[1, 0, 0], [0, 0.75, 0], [0, 0, 0.75]], np.float32)
    assert sorted(solve(CoverProblem(values), Limit(3, 10), np.array([10, 5, 5])).picks) == [1, 2]
    # Here gain per token starts with the tiny column 1 (0.125 for 1 token) and then has no room for column 0.
    values = np.array([[1, 0], [0, 0.125]], np.float32)
    assert solve(CoverProblem(values), Limit(2, 10), np.array([10, 1])).picks.tolist() == [0]


def test_equal_columns_go_in_the_order_of_the_pool() -> None:
    assert solve(CoverProblem(np.full((4, 6), 0.5, np.float32)), Limit(6)).picks.tolist() == list(range(6))


@pytest.mark.parametrize("seed", range(5))
def test_permuting_columns_permutes_the_picks(seed: int) -> None:
    problem = random_problem(40, 30, seed)
    permuted = np.random.default_rng(seed + 100).permutation(30)
    moved = solve(CoverProblem(problem.values[:, permuted]), Limit(12))
    assert permuted[moved.picks].tolist() == solve(problem, Limit(12)).picks.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_permuting_rows_changes_nothing(seed: int) -> None:
    problem = random_problem(40, 30, seed, start=True)
    p = np.random.default_rng(seed + 100).permutation(40)
    moved = solve(CoverProblem(problem.values[p], start=problem.start[p]), Limit(12))
    assert moved.picks.tolist() == solve(problem, Limit(12)).picks.tolist()


def test_a_saturated_search_goes_on_by_the_gain_without_the_cap() -> None:
    # Column 0 reaches both caps at once; without caps column 2 then adds 0.8 and column 1 adds 0.1.
    values = np.array([[0.2, 0.3, 0.2], [0.2, 0.2, 1.0]], np.float32)
    cover = solve(CoverProblem(values, cap=np.array([0.1, 0.1], np.float32)), Limit(3))
    assert cover.picks.tolist() == [0, 2, 1]
    assert cover.gains == pytest.approx([0.2, 0, 0], abs=1e-7)
    assert (cover.useful, cover.saturated) == (1, 2)


def test_c_order_and_fortran_order_give_the_same_answer() -> None:
    values = random_problem(30, 20, 0).values
    first, second = (
        solve(CoverProblem(np.ascontiguousarray(values)), Limit(9)),
        solve(CoverProblem(np.asfortranarray(values)), Limit(9)),
    )
    assert first.picks.tolist() == second.picks.tolist()


def test_a_read_only_memory_mapped_matrix_is_solved_as_it_is(tmp_path: Any) -> None:
    values = random_problem(20, 20, 0).values
    np.save(tmp_path / "values.npy", np.asfortranarray(values))
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    assert solve(CoverProblem(mapped), Limit(5)).picks.tolist() == solve(CoverProblem(values), Limit(5)).picks.tolist()


def test_the_search_reports_progress_and_can_be_cancelled() -> None:
    seen: list[float] = []

    def progress(stage: str, done: float, total: float, note: str = "") -> None:
        seen.append(done)
        if done >= 60:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        solve(random_problem(50, 200, 0), Limit(200), progress=progress)
    assert seen == sorted(seen)
    assert 60 <= seen[-1] < 80


@pytest.mark.parametrize("sampled", [None, Sampled()])
def test_a_search_under_a_token_budget_can_be_cancelled_and_ends_both_of_its_searches(sampled: Sampled | None) -> None:
    def progress(stage: str, done: float, total: float, note: str = "") -> None:
        if done >= 20:
            raise Cancelled("stop")

    with pytest.raises(Cancelled, match=r"^stop$"):
        solve(random_problem(50, 200, 0), Limit(200, 10_000), np.full(200, 9), progress, sampled=sampled)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_negative_or_missing_numbers_are_refused(bad: float) -> None:
    values = np.ones((3, 3), np.float32)
    values[1, 1] = bad
    with pytest.raises(ValueError, match="values must be numbers >= 0"):
        CoverProblem(values)


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cap of shape \(2,\), expected \(3,\)"):
        CoverProblem(np.ones((3, 4), np.float32), cap=np.ones(2, np.float32))
    with pytest.raises(ValueError, match="tokens of all 4 columns"):
        solve(CoverProblem(np.ones((3, 4), np.float32)), Limit(4, 10))


def test_no_columns_and_no_rows_are_empty_answers() -> None:
    assert len(solve(CoverProblem(np.ones((3, 0), np.float32)), Limit(0)).picks) == 0
    assert solve(CoverProblem(np.ones((0, 3), np.float32)), Limit(2)).picks.tolist() == [0, 1]
    assert full_value(CoverProblem(np.ones((0, 3), np.float32))) == 0


def test_the_kernels_compile_where_no_cache_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    from delift_core.selection import _kernels

    real = numba.njit

    def read_only(*args: Any, cache: bool = False, **kwargs: Any) -> Any:
        if cache:

            def refuse(function: Any) -> Any:
                raise RuntimeError("cannot cache function: no locator available")

            return refuse
        return real(*args, **kwargs)

    monkeypatch.setattr(numba, "njit", read_only)

    def double(x: float) -> float:
        return 2 * x

    assert _kernels.compiled(double)(2.0) == 4.0


@pytest.mark.parametrize("parts", [(), ("start",), ("cap",), ("weight", "bonus"), ("start", "cap", "weight", "bonus")])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_dense_problem_shares_its_work_and_picks_the_same(
    monkeypatch: pytest.MonkeyPatch, parts: tuple[str, ...], order: Any
) -> None:
    problem = random_problem(300, 170, 5, **dict.fromkeys(parts, True))
    plain = solve(as_sparse(problem), Limit(170))  # sparse columns are always read whole, on one core
    monkeypatch.setattr(search, "SHARED", 1)
    monkeypatch.setattr(search, "cores", lambda: 3)
    shared = solve(replace(problem, values=np.asarray(problem.values, order=order)), Limit(170))
    assert shared.picks[: plain.useful].tolist() == plain.picks[: plain.useful].tolist()
    assert shared.value == pytest.approx(plain.value, rel=1e-12)
    assert shared.full_value == pytest.approx(plain.full_value, rel=1e-12)


@pytest.mark.parametrize("entries", [[0.0], [0.5], [0.0, 0.25, 1.0]])
def test_copies_of_columns_that_are_read_in_part_go_by_their_position(entries: list[float]) -> None:
    rng = np.random.default_rng(0)
    half = np.concatenate([rng.random((400, 60), np.float32), rng.choice(entries, (400, 5)).astype(np.float32)], axis=1)
    cover = solve(CoverProblem(np.tile(half, 2)), Limit(130))
    once = solve(CoverProblem(half), Limit(65))
    assert cover.picks[: once.useful].tolist() == once.picks[: once.useful].tolist()
    assert cover.gains[once.useful :] == pytest.approx(np.zeros(130 - once.useful))


def test_the_first_error_of_work_on_several_cores_is_raised() -> None:
    done: list[int] = []

    def fails() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        side_by_side([lambda: done.append(1), fails, lambda: done.append(2)])
    assert sorted(done) == [1, 2]
