"""Quotas in words: what is read, what is written back, and what it comes to for the candidates at hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delift_core.errors import ConfigError
from delift_core.quota import Quota, even, proportional


def resolved(text: str, values: list[str | None], budget: int) -> dict[str, tuple[int, int]]:
    found = Quota.parse(text).resolve(values, budget)
    assert [found.labels[g] for g in found.codes] == [value or "(empty)" for value in values]
    return {name: (int(lo), int(hi)) for name, lo, hi in zip(found.labels, found.at_least, found.at_most, strict=True)}


def groups(**sizes: int) -> list[str | None]:
    return [name for name, size in sizes.items() for _ in range(size)]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("language: proportional", "language: proportional"),
        (" my column :even ", "my column: even"),
        ("cluster: even", "cluster:10: even"),
        ("cluster:12:*>=5%", "cluster:12: *>=5%"),
        ("cluster: 3>=5", "cluster:10: 3>=5"),
        ('"cluster": even', '"cluster": even'),
        ('"plain": even', "plain: even"),
        ('source: web pages <= 20% ,"a, b: c">=100,*>=2.5%', 'source: web pages<=20%, "a, b: c">=100, *>=2.5%'),
        ('"say ""x""": "*">=1, (empty)<=0', '"say ""x""": "*">=1, (empty)<=0'),
    ],
)
def test_a_quota_is_written_back_in_one_way_that_reads_the_same(text: str, written: str) -> None:
    quota = Quota.parse(text)
    assert str(quota) == written
    assert Quota.parse(written) == quota


@given(st.text(min_size=1, max_size=8), st.text(max_size=8), st.integers(0, 99), st.booleans())
def test_any_name_can_be_quoted(column: str, name: str, amount: int, percent: bool) -> None:
    def quote(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    quota = Quota.parse(f"{quote(column)}: {quote(name)}>={amount}{'%' if percent else ''}")
    assert (quota.by, quota.bounds[0].name, quota.clusters) == (column, name, None)
    assert Quota.parse(str(quota)) == quota


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not begin with a column"),
        ("language", "does not begin with a column"),
        (": even", "does not begin with a column"),
        ("language:", "a rule is missing"),
        ("language: evenly", "'evenly' is no rule"),
        ("language: en=5", "'en=5' is no rule"),
        ("language: en>=5,", "a rule is missing"),
        ("language: en>=5 de>=3", "'en>=5 de>=3' is no rule"),
        ("language: a:b>=5", "'a:b>=5' is no rule"),
        ("language: >=5", "'>=5' is no rule"),
        ("language: en>=-5", "is no rule"),
        ("language: en>=1.5", "rows come whole, not 1.5"),
        ("language: en>=101%", "more than the budget"),
        ("language: en>=5, en>=6", "en>= is given twice"),
        ("language:5: even", "only cluster takes a number"),
        ("cluster:1: even", "2 to 1,000 are possible"),
        ("cluster:8", "'8' is no rule"),
    ],
)
def test_what_is_no_quota_is_refused_with_what_was_expected(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="Write a column and its rules") as told:
        Quota.parse(text)
    assert words in str(told.value)


def test_proportional_rows_fit_the_budget_by_largest_remainder() -> None:
    assert resolved("c: proportional", groups(a=50, b=30, c=20), 7) == {"a": (4, 4), "b": (2, 2), "c": (1, 1)}
    assert resolved("c: proportional", groups(a=2, b=2, c=2), 4) == {"a": (2, 2), "b": (1, 1), "c": (1, 1)}


def test_even_rows_of_small_groups_go_to_the_others() -> None:
    assert resolved("c: even", groups(a=2, b=100, c=100), 32) == {"a": (2, 2), "b": (15, 15), "c": (15, 15)}
    assert resolved("c: even", groups(a=3, b=4, c=3), 5) == {"a": (2, 2), "b": (2, 2), "c": (1, 1)}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.data())
def test_shares_sum_to_the_budget_and_are_as_fair_as_whole_rows_allow(sizes: list[int], data: st.DataObject) -> None:
    size, budget = np.array(sizes), data.draw(st.integers(0, sum(sizes)))
    share, same = proportional(size, budget), even(size, budget)
    assert share.sum() == same.sum() == budget
    assert (np.abs(share - size * budget / sum(sizes)) < 1).all()
    assert (same <= size).all()
    assert same.max() - same[same < size].min(initial=same.max()) <= 1, "a group below the others gives all it has"


def test_a_named_rule_overrides_the_star_on_its_side_only() -> None:
    values = groups(a=40, b=40, c=40)
    assert resolved("x: *>=5, *<=20, a>=10", values, 50) == {"a": (10, 20), "b": (5, 20), "c": (5, 20)}
    assert resolved("x: b<=30%, *<=10%", values, 50) == {"a": (0, 5), "b": (0, 15), "c": (0, 5)}


def test_percentages_of_minimums_are_rounded_up_and_of_maximums_down() -> None:
    assert resolved("x: a>=5%, b<=5%", groups(a=40, b=40), 50) == {"a": (3, 40), "b": (0, 2)}
    assert resolved("x: a>=5%, b<=5%", groups(a=40, b=40), 60) == {"a": (3, 40), "b": (0, 3)}
    assert resolved("x: a>=0.1%", groups(a=4000), 3000) == {"a": (3, 4000)}, "no rounding of the percentage itself"


def test_rows_without_a_value_are_a_group_of_their_own() -> None:
    assert resolved("x: (empty)<=1", [None, "", "a", None], 3) == {"(empty)": (0, 1), "a": (0, 1)}


def test_a_group_too_small_for_the_star_gives_all_it_has_and_is_named() -> None:
    found = Quota.parse("x: *>=5").resolve(groups(a=2, b=9), 8)
    assert found.at_least.tolist() == [2, 5]
    assert "a (2 of 5)" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "budget", "words"),
    [
        ("lang: englsh>=3", 10, "Unknown value of lang in the quota: 'englsh'. Did you mean 'english'"),
        ("lang: german>=9", 10, "hold only 4 rows of german, not 9"),
        ("lang: *>=4", 7, "the minimums of 2 groups ask for 8 rows, but the budget is 7"),
        ("lang: german<=2, *>=3", 10, "german is to have at least 3 rows (*>=3) and at most 2 (german<=2)"),
    ],
)
def test_a_quota_that_the_candidates_cannot_meet_is_refused(text: str, budget: int, words: str) -> None:
    with pytest.raises(ConfigError) as told:
        Quota.parse(text).resolve(groups(english=20, german=4), budget)
    assert words in str(told.value)


def test_a_column_of_ids_is_no_grouping() -> None:
    values = [str(i) for i in range(1001)]
    with pytest.raises(ConfigError, match="1,001 different values are no grouping"):
        Quota.parse("id: even").resolve(values, 10)
    assert Quota.parse("id: even").resolve(values[:1000], 10).at_least.sum() == 10
