"""The random control, and how a ranking is cut at a budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from delift_core.selection.baselines import Random
from delift_core.selection.limits import within
from delift_core.types import Evidence, Limit, Rules

Make = Callable[..., Evidence]


def test_the_same_seed_gives_the_same_order_and_another_seed_another(evidence: Make) -> None:
    e = evidence()
    orders = [Random().select(e, Limit(30), seed=seed).order.tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == e.candidates.tolist()


def test_a_smaller_random_budget_is_a_prefix(evidence: Make) -> None:
    e = evidence()
    whole = Random().select(e, Limit(30), seed=3)
    assert Random().select(e, Limit(11), seed=3).order.tolist() == whole.head(11).order.tolist()


def test_every_row_is_picked_equally_often(evidence: Make) -> None:
    e = evidence(10)
    counts = np.bincount(
        np.concatenate([Random().select(e, Limit(3), seed=s).order for s in range(600)]), minlength=164
    )
    assert (abs(counts[e.candidates] - 180) < 60).all(), "180 expected, standard deviation 11"


def test_a_random_selection_claims_no_value(evidence: Make) -> None:
    selection = Random().select(evidence(), Limit(4))
    assert not selection.gains.any()
    assert np.isnan(selection.share)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(1, 100), st.integers(1, 30))
def test_a_token_budget_takes_what_fits_in_order_until_nothing_fits(sizes: list[int], room: int, rows: int) -> None:
    tokens, ranking = np.array(sizes), np.arange(len(sizes))[::-1]
    picks = within(ranking, tokens, Limit(rows, room))
    used = tokens[picks].sum()
    assert used <= room
    assert len(picks) <= rows
    assert picks.tolist() == sorted(picks.tolist(), reverse=True), "the ranking's order"
    if len(picks) < rows:
        assert all(used + sizes[j] > room for j in set(ranking.tolist()) - set(picks.tolist()))


def test_a_random_token_budget_is_kept_and_not_nested(evidence: Make) -> None:
    e = evidence()
    selection = Random().select(e, Limit(30, 100), seed=0)
    chosen = np.isin(e.candidates, selection.order)
    assert 50 < e.tokens[chosen].sum() <= 100
    assert not selection.nested


def test_rules_hold_in_a_random_choice(evidence: Make) -> None:
    e, group = evidence(), np.arange(30) % 3
    rules = Rules(pinned=np.array([7]), banned=np.arange(30) < 5, group=group, at_least=np.array([0, 0, 6]))
    for seed in range(5):
        found = Random().select(e, Limit(9, None, rules), seed=seed)
        assert found.order[0] == e.candidates[7]
        assert not set(found.order) & set(e.candidates[:5])
        assert (group[np.isin(e.candidates, found.order)] == 2).sum() >= 6
        assert not found.nested
    scarce = Random().select(e, Limit(30, None, Rules(banned=np.arange(30) < 5)))
    assert any("The rules leave 25 rows" in note for note in scarce.notes)
