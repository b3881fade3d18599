"""Comparison of selections: closed forms, planted overlaps and orders."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from delift_core.errors import ConfigError
from delift_core.insight import worth
from delift_core.insight.compare import Entry, Lineup, compare
from delift_core.insight.coverage import weights
from delift_core.types import Selection, Utility


def picks(order: Any, nested: bool = True) -> Selection:
    rows = np.asarray(order, np.int64)
    zeros = np.zeros(len(rows))
    return Selection(rows, zeros, zeros, 0.0, nested)


def entry(name: str, order: Any, **parts: Any) -> Entry:
    return Entry(name, picks(order), **parts)


def test_overlap_is_counted_at_each_budget() -> None:
    found = compare([entry("a", [1, 2, 3, 4]), entry("b", [2, 9, 1, 8, 7])], budgets=[1, 2, 3, 4, 5])
    (pair,) = found.pairs
    assert pair.common == 2 and pair.jaccard == pytest.approx(2 / 7)
    assert [(o.k, o.share) for o in pair.overlaps] == [(1, 0), (2, 0.5), (3, pytest.approx(2 / 3)), (4, 0.5)]
    assert pair.chance is None and pair.correlation is None, "two shared rows have no rank correlation"


@pytest.mark.parametrize("seed", range(5))
def test_overlap_is_that_of_the_sets_of_first_picks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.permutation(60)[:40], rng.permutation(60)[:25]
    (pair,) = compare([entry("a", a), entry("b", b)], budgets=list(range(1, 26))).pairs
    for overlap in pair.overlaps:
        k = overlap.k
        assert overlap.share == pytest.approx(len(set(a[:k]) & set(b[:k])) / k)
    assert len(pair.overlaps) == 25
    assert pair.jaccard == pytest.approx(len(set(a) & set(b)) / len(set(a) | set(b)))


def test_the_usual_budgets_are_round_and_end_at_the_smaller_size() -> None:
    (pair,) = compare([entry("a", range(70)), entry("b", range(64))]).pairs
    assert [o.k for o in pair.overlaps] == [1, 2, 5, 10, 20, 50, 64] and pair.overlaps[-1].share == 1


def test_first_picks_of_a_selection_that_is_not_nested_are_not_compared() -> None:
    (pair,) = compare([entry("a", [1, 2, 3]), Entry("b", picks([1, 2, 3], nested=False))]).pairs
    assert pair.overlaps == () and pair.jaccard == 1


@pytest.mark.parametrize(("second", "expected"), [([0, 1, 2, 3, 9], 1.0), ([9, 3, 2, 1, 0], -1.0), ([1, 0, 3, 2], 0.6)])
def test_the_rank_correlation_is_over_the_common_picks(second: list[int], expected: float) -> None:
    (pair,) = compare([entry("a", [0, 1, 2, 8, 3]), entry("b", second)]).pairs
    assert pair.correlation == pytest.approx(expected)


def test_random_choices_share_what_chance_says() -> None:
    rng, pool = np.random.default_rng(0), np.arange(500, 1500)
    first, second = (rng.permutation(pool)[:300] for _ in range(2))
    found = compare([entry("a", first, candidates=pool), entry("b", second, candidates=pool[::-1])])
    (pair,) = found.pairs
    assert pair.chance == pytest.approx(90) and abs(pair.common - 90) < 30
    assert all(o.chance == pytest.approx(o.k / 1000) for o in pair.overlaps)
    assert "two random choices would share about 90" in found.sentences[0]
    other = compare([entry("a", first, candidates=pool), entry("b", second, candidates=pool[:-1])]).pairs[0]
    assert other.chance is None, "not the same pool"


def test_rows_of_two_files_are_the_same_by_id() -> None:
    one, two = [f"r{i}" for i in range(10)], [f"r{i}" for i in reversed(range(8))]
    values = np.diag(np.arange(1, 9)).astype(np.float32)
    utility = Utility(values, np.arange(8), np.arange(8), "pmi")
    found = compare([entry("a", [9, 7, 0], ids=one), entry("b", [7, 3], ids=two, utility=utility)])
    (pair,) = found.pairs
    assert pair.common == 1, "r0 is row 0 of the one file and row 7 of the other"
    (worth,) = found.worth
    assert (worth.picks, worth.utility, worth.unknown) == ("a", "b", 1)
    assert worth.value == pytest.approx(1 + 8), "r7 is row 0 of b, r0 is row 7"
    assert worth.of_own == pytest.approx(9 / (8 + 4)) and worth.of_pool == pytest.approx(9 / 36)
    assert any("1 of its rows are not known there" in s for s in found.sentences)


@pytest.mark.parametrize("thin", [False, True])
def test_each_is_worth_most_under_its_own_utility(thin: bool) -> None:
    """Two planted utilities that prefer different halves of the pool."""
    rng = np.random.default_rng(3)
    rows = 10 + np.arange(20)

    def prefer(half: slice) -> Utility:
        values = rng.random((20, 20)).astype(np.float32) * 0.1
        values[:, half] += 1
        return Utility(sparse.csc_array(values) if thin else values, rows, rows, "l2", weights=np.full(20, 2.0))

    left, right = prefer(slice(0, 10)), prefer(slice(10, 20))
    found = compare([entry("l", rows[:5], utility=left), entry("r", rows[15:], utility=right), entry("none", [])])
    worth = {(w.picks, w.utility): w for w in found.worth}
    assert set(worth) == {("l", "r"), ("r", "l"), ("none", "l"), ("none", "r")}
    for (one, _), w in worth.items():
        assert w.of_own is not None and (w.of_own < 0.2 if one != "none" else w.of_own == 0)
    dense = left.values.toarray() if thin else left.values  # type: ignore[union-attr]
    assert worth["r", "l"].value == pytest.approx(2 * dense[:, 15:].max(axis=1).sum(), rel=1e-5)


def test_groups_stand_side_by_side_and_the_rest_is_counted() -> None:
    labels = ["en"] * 50 + ["de"] * 30 + [None] * 10 + [f"x{i}" for i in range(10)]
    found = compare(
        [entry("a", range(40), labels=labels), entry("b", range(40, 100), labels=labels), entry("c", [1])], most=3
    )
    shares = {group.group: group.shares for group in found.groups}
    assert shares["en"] == (1.0, pytest.approx(1 / 6), None) and shares["de"] == (0.0, 0.5, None)
    assert shares["(empty)"] == (0.0, pytest.approx(1 / 6), None)
    assert found.folded == 10 and found.other is not None and found.other.shares[1] == pytest.approx(1 / 6)
    assert found.sentences[-1] == "They differ most in the group en: 100 % of a, 16.7 % of b."


def test_tokens_are_totalled() -> None:
    tokens = np.array([10, 20, 60, 5])
    found = compare([entry("a", [2, 0, 1], tokens=tokens), entry("b", [3])])
    assert (found.sizes[0].tokens, found.sizes[0].mean_tokens, found.sizes[0].median_tokens) == (90, 30.0, 20.0)
    assert found.sizes[1].tokens is None and "Tokens: a 90 (mean 30 a row)." in found.sentences


def test_the_comparison_of_four_is_json() -> None:
    found = compare([entry(name, range(i, i + 5)) for i, name in enumerate("abcd")])
    assert len(found.pairs) == 6 and len(found.sentences) == 6
    assert json.loads(json.dumps(found.to_json()))["pairs"][0]["jaccard"] == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("a", [1])], "two to four"),
        ([entry(name, [1]) for name in "abcde"], "two to four"),
        ([entry("a", [1]), entry("a", [2])], "called the same"),
        ([entry("a", [1], ids=["x", "y"]), entry("b", [1])], "Ids are given for a only"),
        ([entry("a", [1], ids=["x", "y"]), entry("b", [1], ids=["x", "x"])], "'x' stands twice in the dataset of b"),
    ],
)
def test_what_cannot_be_compared_says_why(entries: list[Entry], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(entries)


# --- rows matched once, any budget looked up -----------------------------------------------------------------------


def covered(utility: Utility, columns: Any) -> float:
    """The value of some columns, straight from its definition."""
    dense = utility.values if utility.is_dense else np.asarray(utility.values.todense())  # type: ignore[union-attr]
    best = np.nan_to_num(np.asarray(dense)[:, columns], nan=0.0).max(axis=1, initial=0.0)
    return float(weights(utility) @ best)


def noisy(thin: bool, rng: np.random.Generator) -> Utility:
    """Values of both signs with holes, over 12 rows and 9 candidates, rows of different weight."""
    values = rng.normal(size=(12, 9)).astype(np.float32)
    holes = rng.random(values.shape) < 0.3
    stored = sparse.csc_array(np.where(holes, 0, values)) if thin else np.where(holes, np.nan, values)
    return Utility(stored, np.arange(12), 20 + np.arange(9), "l2", weights=rng.integers(1, 4, 12).astype(float))


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_worth_of_every_prefix_is_that_of_its_columns(thin: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    utility = noisy(thin, rng)
    rows = rng.permutation(np.arange(17, 29))[:10]  # some are no candidates
    columns = worth.positions(utility, rows)
    assert [utility.candidates[c] if c >= 0 else -1 for c in columns] == [r if r >= 20 else -1 for r in rows]
    expected = [covered(utility, columns[:k][columns[:k] >= 0]) for k in range(1, len(columns) + 1)]
    assert worth.running(utility, columns) == pytest.approx(expected, rel=1e-5)
    assert worth.whole(utility) == pytest.approx(covered(utility, np.arange(9)), rel=1e-5)


@pytest.mark.parametrize("ids", [False, True])
def test_a_cut_lineup_says_what_comparing_the_cut_selections_says(ids: bool) -> None:
    rng = np.random.default_rng(1)
    names = [f"row {i}" for i in range(40)] if ids else None
    labels = [f"g{i % 3}" for i in range(40)]
    orders = [rng.permutation(40)[:30] for _ in range(3)]
    utility = Utility(rng.random((40, 40)).astype(np.float32), np.arange(40), np.arange(40), "l2")

    def entries(cut: list[int]) -> list[Entry]:
        return [
            entry(f"run {i}", order[:k], ids=names, labels=labels, candidates=np.arange(40), utility=utility)
            for i, (order, k) in enumerate(zip(orders, cut, strict=True))
        ]

    sizes = [7, 12, 20]
    assert compare(Lineup(tuple(entries([30] * 3))), sizes=sizes) == compare(entries(sizes))


def test_rows_are_sorted_into_the_core_and_those_of_one_run_alone() -> None:
    lineup = Lineup((entry("a", [5, 1, 2, 3]), entry("b", [2, 5, 7, 1]), entry("c", [9, 5, 2, 8])))
    assert lineup.core([3, 3, 3]).tolist() == [5, 2] and lineup.core([1, 1, 1]).tolist() == []
    assert [lineup.only(i, [3, 3, 3]).tolist() for i in range(3)] == [[1], [7], [9]]
    assert lineup.earliest[[5, 7, 8, 0]].tolist() == [0, 2, 3, -1]


def test_rows_after_the_last_candidate_count_as_rows() -> None:
    assert Lineup((entry("a", [1], total=9), entry("b", [2], total=9))).count == 9


def test_of_many_pairs_the_closest_and_the_farthest_are_read_first() -> None:
    rows = np.arange(10)
    found = compare([
        entry("a", [0, 1, 2], tokens=rows), entry("b", [0, 1, 5], tokens=rows), entry("c", [2, 8, 9], tokens=rows)
    ])  # fmt: skip
    closest, farthest, *rest = found.headlines
    assert closest.startswith("Closest: a (3 rows) and b") and farthest.startswith("Farthest apart: b (3 rows) and c")
    assert rest == [found.sentences[-1]] and rest[0].startswith("Tokens:")
