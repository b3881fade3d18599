"""Pins, bans, near-duplicates and quotas: every search against a slow one that follows the rules to the letter."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from delift_core.errors import ConfigError
from delift_core.selection.facility import CoverProblem, solve
from delift_core.selection.limits import shortfall, within
from delift_core.selection.stochastic import Sampled
from delift_core.types import Limit, Rules

quick = settings(max_examples=150, deadline=None)
GRID = np.array([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])  # float32 adds these exactly: many ties, no rounding


class Book:
    """The rules as the design says them, asked anew before every pick."""

    def __init__(self, limit: Limit, tokens: np.ndarray) -> None:
        n = len(tokens)
        self.limit, self.rules, self.tokens = limit, limit.rules or Rules(), tokens
        self.banned = np.zeros(n, bool) if self.rules.banned is None else self.rules.banned
        self.code = np.arange(n) if self.rules.once is None else self.rules.once
        self.group = np.zeros(n, int) if self.rules.group is None else self.rules.group
        most, least = self.rules.at_most, self.rules.at_least
        groups = int(self.group.max(initial=0)) + 1 + sum(len(b) for b in (most, least) if b is not None)
        self.least = np.zeros(groups, int)
        self.most = np.full(groups, n)
        if least is not None:
            self.least[: len(least)] = least
        if most is not None:
            self.most[: len(most)] = most
        self.picks: list[int] = []

    def allowed(self) -> list[int]:
        if len(self.picks) >= self.limit.rows:
            return []
        count = np.bincount(self.group[self.picks], minlength=len(self.least)) if self.picks else 0 * self.least
        codes = set(self.code[self.picks].tolist())
        alive = [
            j for j in range(len(self.code)) if j not in self.picks and not self.banned[j] and self.code[j] not in codes
        ]
        fits = [j for j in alive if count[self.group[j]] < self.most[self.group[j]]]
        if self.limit.tokens is not None:
            room = self.limit.tokens - self.tokens[self.picks].sum()
            fits = [j for j in fits if self.tokens[j] <= room]
        wanted = [j for j in fits if count[self.group[j]] < self.least[self.group[j]]]
        if self.limit.tokens is not None:
            return wanted or fits
        left = [len({self.code[j] for j in alive if self.group[j] == g}) for g in range(len(self.least))]
        unmet = sum(max(0, min(self.least[g] - count[g], left[g])) for g in range(len(self.least)))
        return wanted if unmet and self.limit.rows - len(self.picks) <= unmet else fits


def f(problem: CoverProblem, picks: list[int], capped: bool = True) -> float:
    values, (rows, columns) = problem.values.astype(np.float64), problem.shape
    start = np.zeros(rows) if problem.start is None else problem.start
    cap = np.full(rows, np.inf) if problem.cap is None or not capped else problem.cap
    best = np.minimum(cap, np.maximum(start, values[:, picks].max(axis=1, initial=0))) - np.minimum(cap, start)
    bonus = np.zeros(columns) if problem.bonus is None else problem.bonus
    return float((np.ones(rows) if problem.weight is None else problem.weight) @ best + bonus[picks].sum())


def slow_greedy(problem: CoverProblem, limit: Limit, tokens: np.ndarray, per_token: bool = False) -> list[int]:
    book = Book(limit, tokens)
    book.picks = [int(j) for j in book.rules.pinned]
    while allowed := book.allowed():
        now = {capped: f(problem, book.picks, capped) for capped in (True, False)}

        def gain(j: int, capped: bool, now: Any = now) -> float:
            rate = max(1, int(tokens[j])) if per_token else 1
            return (f(problem, [*book.picks, j], capped) - now[capped]) / rate

        capped = any(gain(j, True) > 0 for j in allowed)
        book.picks.append(max(allowed, key=lambda j: (gain(j, capped), -j)))
    return book.picks


def slow_best(problem: CoverProblem, limit: Limit, tokens: np.ndarray) -> list[int]:
    if limit.tokens is None:
        return slow_greedy(problem, limit, tokens)
    both = [slow_greedy(problem, limit, tokens, per_token) for per_token in (False, True)]
    return max(both, key=lambda picks: f(problem, picks))


def random_rules(rng: np.random.Generator, n: int) -> Rules:
    def maybe(array: Any) -> Any:
        return array if rng.random() < 0.6 else None

    banned, groups = maybe(rng.random(n) < 0.25), int(rng.integers(1, 4))
    if banned is not None and banned.all():
        banned = None
    free = np.arange(n) if banned is None else np.flatnonzero(~banned)
    pinned = rng.permutation(free)[: rng.integers(0, 3)] if rng.random() < 0.5 else np.empty(0, np.int64)
    group = rng.integers(0, groups, n)
    at_least, at_most = maybe(rng.integers(0, 3, groups)), maybe(rng.integers(1, 4, groups))
    if at_most is not None:
        at_most = np.maximum(at_most, np.bincount(group[pinned], minlength=groups))
        at_least = None if at_least is None else np.minimum(at_least, at_most)
    once = maybe(rng.integers(0, max(1, n - 2), n))
    grouped = at_least is not None or at_most is not None
    return Rules(pinned.astype(np.int64), banned, once, group if grouped else None, at_least, at_most)


def case(seed: int, most: int = 11) -> tuple[CoverProblem, Limit, np.ndarray]:
    """A small random problem with random rules; half of them under a token budget."""
    rng = np.random.default_rng(seed)
    rows, n = rng.integers(1, most, 2)

    def grid(*shape: int) -> Any:
        return rng.choice(GRID, shape)

    problem = CoverProblem(
        grid(rows, n).astype(np.float32),
        start=grid(rows).astype(np.float32) / 2 if rng.random() < 0.3 else None,
        cap=grid(rows).astype(np.float32) if rng.random() < 0.5 else None,
        weight=grid(rows) if rng.random() < 0.3 else None,
        bonus=grid(n) if rng.random() < 0.3 else None,
    )
    tokens = rng.choice([1, 2, 4, 8, 16], n)  # a power of 2, so that gains per token have no rounding either
    room = int(rng.integers(1, tokens.sum() + 1)) if rng.random() < 0.5 else None
    return problem, Limit(int(rng.integers(1, n + 1)), room, random_rules(rng, n)), tokens


def possible(problem: CoverProblem, limit: Limit, tokens: np.ndarray) -> bool:
    try:
        solve(problem, limit, tokens)
    except ConfigError:
        return False
    return True


@quick
@given(st.integers(0, 10**6))
def test_the_search_picks_what_a_slow_greedy_under_the_same_rules_picks(seed: int) -> None:
    problem, limit, tokens = case(seed)
    if not possible(problem, limit, tokens):
        return
    thin = replace(problem, values=sparse.csc_array(problem.values))
    expected = slow_best(problem, limit, tokens)
    cover = solve(problem, limit, tokens)
    assert cover.picks.tolist() == expected
    assert solve(thin, limit, tokens).picks.tolist() == expected
    values = [f(problem, expected[: k + 1]) for k in range(len(expected))]
    assert cover.value == pytest.approx(values, abs=1e-9), "pinned rows gain what they add when they are taken"
    assert cover.full_value == pytest.approx(f(problem, list(range(problem.shape[1])))), "banned rows count here"
    assert (cover.gains[cover.useful :] == 0).all()


@quick
@given(st.integers(0, 10**6))
def test_a_ranking_is_cut_as_the_rules_say(seed: int) -> None:
    problem, limit, tokens = case(seed, most=20)
    if not possible(problem, limit, tokens):
        return
    ranking = np.random.default_rng(seed).permutation(len(tokens))
    book = Book(limit, tokens)
    book.picks = [int(j) for j in book.rules.pinned]
    place = np.argsort(ranking)
    while allowed := book.allowed():
        book.picks.append(min(allowed, key=lambda j: int(place[j])))
    assert within(ranking, tokens, limit).tolist() == book.picks


@pytest.mark.parametrize("seed", range(0, 400, 10))
def test_without_minimums_a_smaller_row_budget_is_a_prefix_and_gains_never_increase(seed: int) -> None:
    problem, limit, _ = case(seed)
    rules = replace(limit.rules, at_least=None, group=limit.rules.group if limit.rules.at_most is not None else None)
    pins = len(rules.pinned)
    whole = solve(problem, Limit(problem.shape[1], rules=rules))
    assert whole.nested
    assert (np.diff(whole.gains[pins:]) <= 1e-12).all()
    for k in range(pins, len(whole.picks) + 1):
        assert solve(problem, Limit(k, rules=rules)).picks.tolist() == whole.picks[:k].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_permuting_candidates_and_their_rules_permutes_the_picks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, n, p = rng.random((400, 40), np.float32), 40, rng.permutation(40)
    group, once = rng.integers(0, 3, n), rng.integers(0, 30, n)
    bounds = {"at_least": np.array([3, 0, 5]), "at_most": np.array([9, 2, 9])}
    rules = Rules(np.array([4, 7]), np.arange(n) % 9 == 1, once, group, **bounds)
    back = np.argsort(p)
    moved = Rules(back[[4, 7]], rules.banned[p], once[p], group[p], **bounds)
    expected = solve(CoverProblem(values), Limit(12, rules=rules)).picks
    assert p[solve(CoverProblem(values[:, p]), Limit(12, rules=moved)).picks].tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["pins and bans", "at most", "at least", "once", "both"])
@pytest.mark.parametrize("parts", [{}, {"start"}, {"cap"}, {"bonus"}, {"weight"}])
@pytest.mark.parametrize("seed", range(3))
def test_the_bound_that_holds_under_rules_against_brute_force(kind: str, parts: set[str], seed: int) -> None:
    rng, n, k = np.random.default_rng(seed), 11, 5
    problem = CoverProblem(
        rng.random((8, n), np.float32) ** 3,
        start=rng.random(8, np.float32) / 2 if "start" in parts else None,
        cap=rng.random(8, np.float32) / 2 if "cap" in parts else None,
        weight=rng.random(8) if "weight" in parts else None,
        bonus=rng.random(n) if "bonus" in parts else None,
    )
    group, once = rng.integers(0, 3, n), rng.integers(0, 7, n)
    group[:6] = [0, 0, 1, 1, 2, 2]
    rules, share = {
        "pins and bans": (Rules(np.array([3]), np.arange(n) > 8), 1 - 1 / np.e),
        "at most": (Rules(group=group, at_most=np.array([1, 2, 2])), 1 / 2),
        "at least": (Rules(group=group, at_least=np.array([2, 2, 0])), 1 / 2),
        "once": (Rules(once=once), 1 / 2),
        "both": (Rules(group=group, at_most=np.array([1, 2, 2]), once=once), 1 / 3),
    }[kind]
    least, most = (np.zeros(3) if rules.at_least is None else rules.at_least), rules.at_most

    def fine(picks: tuple[int, ...]) -> bool:
        count = np.bincount(group[list(picks)], minlength=3)
        return (
            set(rules.pinned) <= set(picks)
            and (rules.banned is None or not rules.banned[list(picks)].any())
            and (rules.once is None or len(set(once[list(picks)])) == len(picks))
            and bool((count >= least).all())
            and (most is None or bool((count <= most).all()))
        )

    sets = [s for size in range(1, k + 1) for s in itertools.combinations(range(n), size) if fine(s)]
    best = max(f(problem, list(s)) for s in sets)
    cover = solve(problem, Limit(k, rules=rules))
    assert fine(tuple(cover.picks))
    assert share * best <= cover.value[-1] <= best + 1e-6
    told = {1 / 2: "at least half of", 1 / 3: "at least a third of"}.get(share)
    assert told is None or any(told in note for note in cover.notes)


@pytest.mark.parametrize("budget", [Limit(9), Limit(20, 200)])
def test_a_sampled_search_follows_the_rules_and_is_repeatable_but_not_nested(budget: Limit) -> None:
    rng = np.random.default_rng(0)
    problem, tokens = CoverProblem(rng.random((60, 90), np.float32)), rng.integers(5, 40, 90)
    group, once = rng.integers(0, 3, 90), rng.integers(0, 60, 90)
    rules = Rules(np.array([8, 2]), np.arange(90) % 5 == 4, once, group, np.array([3, 1, 0]), np.array([4, 2, 40]))
    limit = replace(budget, rules=rules)
    cover = solve(problem, limit, tokens, sampled=Sampled(seed=1))
    picks, count = cover.picks, np.bincount(group[cover.picks], minlength=3)
    assert picks[:2].tolist() == [8, 2]
    assert not rules.banned[picks].any()
    assert (count >= rules.at_least).all()
    assert (count <= rules.at_most).all()
    assert len(set(once[picks])) == len(set(picks)) == len(picks)
    assert limit.tokens is None or tokens[picks].sum() <= limit.tokens
    assert picks.tolist() == solve(problem, limit, tokens, sampled=Sampled(seed=1)).picks.tolist()
    assert picks.tolist() != solve(problem, limit, tokens, sampled=Sampled(seed=2)).picks.tolist()
    assert not cover.nested
    assert cover.value[-1] == pytest.approx(f(problem, picks.tolist()), rel=1e-6)


def test_a_sample_of_everything_is_plain_greedy_and_small_samples_come_near() -> None:
    problem = CoverProblem(np.random.default_rng(3).random((200, 200), np.float32))
    plain = solve(problem, Limit(20))
    assert solve(problem, Limit(20), sampled=Sampled(1e-9)).picks.tolist() == plain.picks.tolist()
    for seed in range(5):
        assert solve(problem, Limit(20), sampled=Sampled(0.1, seed)).value[-1] > 0.97 * plain.value[-1]


def test_a_saturated_sampled_search_goes_on_without_the_cap_to_the_end() -> None:
    values = np.random.default_rng(0).random((30, 40), np.float32)
    problem = CoverProblem(values, cap=np.full(30, 0.5, np.float32))
    cover = solve(problem, Limit(40), sampled=Sampled(0.2))
    assert sorted(cover.picks) == list(range(40))
    assert 0 < cover.useful < cover.useful + cover.saturated <= 40


def test_room_is_kept_only_as_long_as_a_minimum_can_be_met() -> None:
    """Group 1 has rows 3 and 4; row 3 is a near-duplicate of row 0, so once row 0 is in, one row of room is enough."""
    values = np.diag([5.0, 4.0, 3.0, 2.0, 1.0]).astype(np.float32)
    rules = Rules(once=np.array([0, 1, 2, 0, 4]), group=np.array([0, 0, 0, 1, 1]), at_least=np.array([0, 2]))
    cover = solve(CoverProblem(values), Limit(3, rules=rules))
    assert cover.picks.tolist() == [0, 1, 4]
    assert any("group 1 (counted from 0) has 1 of 2" in note for note in cover.notes)


def test_a_saturated_search_fills_minimums_by_the_gain_without_the_cap_and_then_returns_to_f() -> None:
    """Columns 2 and 3 (group 1) add nothing to f; 3 adds more without the cap.  Column 1 still adds to f afterwards."""
    values = np.array([[1, 0, 0.5, 1], [0, 1, 0, 0], [0, 0, 0.1, 0.5]], np.float32)
    problem = CoverProblem(values, cap=np.array([1, 1, 0], np.float32))
    rules = Rules(np.array([0]), group=np.array([0, 0, 1, 1]), at_least=np.array([0, 1]))
    cover = solve(problem, Limit(4, 4, rules), np.ones(4, np.int64))
    assert cover.picks.tolist() == [0, 3, 1, 2]
    assert cover.gains.tolist() == [1, 0, 1, 0]
    assert (cover.useful, cover.saturated) == (3, 0)


def test_two_pinned_near_duplicates_are_both_taken_and_their_set_is_closed() -> None:
    rules = Rules(np.array([2, 1]), once=np.array([0, 7, 7, 7]))
    assert within(np.arange(4), np.ones(4, int), Limit(4, rules=rules)).tolist() == [2, 1, 0]
    assert solve(CoverProblem(np.eye(4, dtype=np.float32)), Limit(4, rules=rules)).picks.tolist() == [2, 1, 0]


def test_a_negative_code_is_a_set_of_its_own() -> None:
    rules = Rules(once=np.array([-1, -1, 10**12, 10**12]))
    assert within(np.arange(4), np.ones(4, int), Limit(4, rules=rules)).tolist() == [0, 1, 2]


def test_pins_are_taken_even_when_they_are_not_ranked() -> None:
    assert within(np.array([3, 1]), np.ones(4, int), Limit(2, rules=Rules(np.array([0])))).tolist() == [0, 3]


def test_a_choice_that_rules_leave_short_says_how_many_and_why() -> None:
    n = 10
    rules = Rules(
        banned=np.arange(n) < 2, once=np.array([0, 1, 2, 2, 4, 5, 6, 7, 8, 9]), group=np.arange(n) // 5,
        at_most=np.array([5, 2]),
    )  # fmt: skip
    cover = solve(CoverProblem(np.eye(n, dtype=np.float32)), Limit(8, rules=rules))
    assert len(cover.picks) == 4
    (note,) = (note for note in cover.notes if "The rules leave" in note)
    assert note == (
        "The rules leave 4 rows to take, fewer than 8 rows: 2 left out before, "
        "1 near-duplicates of a row that was taken, "
        "3 in groups that hold as many as they may."
    )
    assert shortfall(cover.picks[:3], np.ones(n, int), Limit(3, rules=rules)) == ()


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Limit(2, rules=Rules(np.array([0, 1, 2]))), "3 rows are pinned, but the budget is 2 rows"),
        (Limit(6, 9, Rules(np.array([0, 1]))), "2 pinned rows take 10 tokens, but the budget is 9 tokens"),
        (Limit(3, rules=Rules(np.array([1]), np.arange(6) == 1)), "Candidate 1 .* both pinned and banned"),
        (Limit(3, rules=Rules(np.array([1, 1]))), "Candidate 1 .* pinned twice"),
        (Limit(3, rules=Rules(banned=np.ones(6, bool))), "all 6 candidates are banned"),
        (
            Limit(3, rules=Rules(group=np.arange(6) % 2, at_least=np.array([2, 2]))),
            "minimums of the groups ask for 4 rows, but the budget is 3",
        ),
        (
            Limit(3, rules=Rules(np.array([0, 2]), group=np.arange(6) % 2, at_least=np.array([0, 2]))),
            "ask for 2 rows beside the 2 pinned rows, but the budget is 3",
        ),
        (
            Limit(6, rules=Rules(group=np.arange(6) % 2, at_least=np.array([0, 2]), at_most=np.array([3, 1]))),
            "group 1 .* at least 2 rows and at most 1",
        ),
        (
            Limit(6, rules=Rules(np.array([1, 3]), group=np.arange(6) % 2, at_most=np.array([3, 1]))),
            "2 rows of group 1 .* pinned, but at most 1",
        ),
        (
            Limit(6, 9, Rules(group=np.arange(6) % 2, at_least=np.array([1, 1]))),
            "shortest rows that meet the minimums of the groups take 10 tokens",
        ),
    ],
)
def test_rules_that_cannot_be_followed_are_refused_in_plain_words(limit: Limit, words: str) -> None:
    tokens = np.full(6, 5)
    with pytest.raises(ConfigError, match=words):
        solve(CoverProblem(np.eye(6, dtype=np.float32)), limit, tokens)
    with pytest.raises(ConfigError, match=words):
        within(np.arange(6), tokens, limit)


@pytest.mark.parametrize(
    "rules",
    [
        Rules(banned=np.zeros(5, bool)),
        Rules(np.array([6])),
        Rules(at_most=np.array([1])),
        Rules(group=np.arange(6), at_most=np.array([1, 1])),
        Rules(group=np.zeros(6, int), at_most=np.array([1]), at_least=np.array([0, 0])),
    ],
)
def test_rules_of_the_wrong_shape_are_a_bug_and_not_followed(rules: Rules) -> None:
    with pytest.raises(ValueError, match=r"rules\."):
        within(np.arange(6), np.ones(6, int), Limit(3, rules=rules))
