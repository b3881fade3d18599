"""Whom a pick serves, what is lost without it, who could take its place: always what brute force over the sets says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from delift_core.insight.cover import Cover
from delift_core.insight.served import NOBODY, Table, Terms
from delift_core.insight.standing import MEANINGS, percent, score, standing, told
from delift_core.insight.telling import as_text, told_by_role
from delift_core.insight.why import Case, Explanation
from delift_core.types import Doubles, Floats, Indices, Selection, Utility

R, C, K = 40, 30, 7
RNG = np.random.default_rng(5)
RAW = RNG.normal(0.1, 0.3, (R, C)).astype(np.float32)
RAW[RNG.random((R, C)) < 0.2] = np.nan
RAW[3] = np.nan  # nobody helps this row
RAW[4] = -1.0
PICKS = RNG.permutation(C)[:K].astype(np.int64)
TERMS = {
    "plain": Terms(),
    "start": Terms(start=RNG.uniform(0, 0.3, R)),
    "cap": Terms(cap=RNG.uniform(0, 0.5, R), weight=RNG.uniform(0.5, 2, R)),
    "bonus": Terms(bonus=RNG.uniform(0, 0.4, C), weight=RNG.uniform(0.5, 2, R)),
    "all": Terms(RNG.uniform(0, 0.2, R), RNG.uniform(0.1, 0.5, R), RNG.uniform(0.5, 2, R), RNG.uniform(0, 0.4, C)),
}


def clip(values: Floats) -> Floats:
    return np.nan_to_num(np.clip(values, 0, None), nan=0.0)


def table(form: str) -> Table:
    if form == "dense":
        values: Any = RAW
    else:
        at = np.nonzero(~np.isnan(RAW))
        values = sparse.csc_array((RAW[at], at), shape=RAW.shape)
    return Table.of(Utility(values, np.arange(R), np.arange(C), "l2"), clip)


def f(terms: Terms, chosen: Any) -> float:
    """The value of a set of columns, straight from the definition."""
    chosen = list(chosen)
    s = clip(RAW).astype(np.float64)
    most = s[:, chosen].max(axis=1) if chosen else np.zeros(R)
    start = np.zeros(R) if terms.start is None else terms.start
    cap = np.full(R, np.inf) if terms.cap is None else terms.cap
    weight = np.ones(R) if terms.weight is None else terms.weight
    bonus = np.zeros(C) if terms.bonus is None else terms.bonus
    return float(weight @ (np.minimum(cap, np.maximum(start, most)) - np.minimum(cap, start)) + bonus[chosen].sum())


def case(form: str = "dense", terms: Terms | None = None, *, counts: bool = True, part: str = "target") -> Case:
    found = table(form)
    cover = Cover.of(found, terms or Terms(), PICKS)
    return Case(cover, part, "p{}".format, "h{}".format, found.most(), counts, np.zeros(C, bool))


@pytest.fixture(params=["dense", "sparse"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("name", TERMS)
def test_value_losses_gains_and_swaps_are_those_of_brute_force(form: str, name: str) -> None:
    terms, others = TERMS[name], np.setdiff1d(np.arange(C), PICKS)
    cover = Cover.of(table(form), terms, PICKS)
    whole = f(terms, PICKS)
    assert cover.value == pytest.approx(whole, rel=1e-6)
    for place, pick in enumerate(PICKS):
        rest = [p for p in PICKS if p != pick]
        assert cover.losses[place] == pytest.approx(whole - f(terms, rest), abs=1e-6)
        instead = [f(terms, [*rest, c]) - f(terms, rest) for c in others]
        assert cover.without(place)[others] == pytest.approx(instead, abs=1e-5)
    for c in others:
        assert cover.gain(c) == pytest.approx(f(terms, [*PICKS, c]) - whole, abs=1e-6)
        assert cover.gains[c] == pytest.approx(cover.gain(c), abs=1e-5)
        swapped = [f(terms, [c if p == pick else p for p in PICKS]) - whole for pick in PICKS]
        assert cover.swaps(c) == pytest.approx(swapped, abs=1e-6)


def test_a_matrix_of_several_blocks_gives_the_same(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Cover.of(table(form), TERMS["all"], PICKS)
    monkeypatch.setattr("delift_core.insight.served.BLOCK", 3 * C)
    parts = Cover.of(table(form), TERMS["all"], PICKS)
    assert np.array_equal(whole.who, parts.who) and whole.gains == pytest.approx(parts.gains, abs=1e-6)
    assert np.array_equal(table(form).most(), clip(np.fmax.reduce(RAW, axis=1)))
    assert np.array_equal(table(form).most_given(), clip(np.fmax.reduce(RAW, axis=0)))


def test_gains_along_an_order_are_those_of_growing_sets(form: str) -> None:
    weight = RNG.uniform(0.5, 2, R)
    order = RNG.permutation(C)[:20]
    steps = [f(Terms(weight=weight), order[:k]) for k in range(21)]
    assert table(form).running_gains(weight, order) == pytest.approx(np.diff(steps), abs=1e-5)


def test_every_row_that_anyone_helps_is_served_by_one_pick_and_the_earlier_of_equals(form: str) -> None:
    cover = case(form).cover
    best = clip(RAW[:, PICKS]).max(axis=1)
    assert np.array_equal(np.flatnonzero(cover.who == NOBODY), np.flatnonzero(best == 0))
    assert sum(len(cover.serves(place)) for place in range(K)) == int((best > 0).sum())
    for i in np.flatnonzero(best > 0):
        assert cover.who[i] == int(np.argmax(clip(RAW[i, PICKS])))


def test_a_selected_row_tells_whom_it_serves_and_who_would_make_up_for_it(form: str) -> None:
    found = case(form)
    place = int(np.argmax(np.bincount(found.cover.who[found.cover.who >= 0])))
    role = found.role(int(PICKS[place]))
    mine = np.flatnonzero(found.cover.who == place)
    assert role.serves is not None and role.loss is not None and role.loss > 0
    assert role.serves.count == len(mine)
    assert role.serves.total == pytest.approx(float(clip(RAW)[mine, PICKS[place]].sum()), rel=1e-6)
    strongest = mine[np.argmax(RAW[mine, PICKS[place]])]
    assert (role.serves.rows[0].id, role.serves.rows[0].utility) == (f"h{strongest}", RAW[strongest, PICKS[place]])
    rest = [p for p in PICKS if p != PICKS[place]]
    others = np.setdiff1d(np.arange(C), PICKS)
    best = max(others, key=lambda c: f(Terms(), [*rest, c]))
    assert role.alternatives[0].row == best and len(role.alternatives) == 5
    assert role.alternatives[0].value == pytest.approx(f(Terms(), [*rest, best]), rel=1e-5)
    recovered = (f(Terms(), [*rest, best]) - f(Terms(), rest)) / (f(Terms(), PICKS) - f(Terms(), rest))
    assert role.alternatives[0].recovered == pytest.approx(recovered, abs=1e-4)
    assert role.represented is None and role.swap is None
    assert f"p{best}" in " ".join(told_by_role(role, K))


def test_a_row_outside_tells_who_stands_in_for_it_and_whom_it_would_replace(form: str) -> None:
    found, outside = case(form, part="pool"), int(np.setdiff1d(np.arange(10, C), PICKS)[0])
    role = found.role(outside)
    shown = role.represented
    given = clip(RAW[outside, PICKS])
    assert shown is not None and shown.rows[0].row == PICKS[int(given.argmax())]
    assert [near.utility for near in shown.rows] == sorted(given[given > 0], reverse=True)[:5]
    assert shown.share == pytest.approx(given.max() / np.nanmax(RAW[outside]), rel=1e-6)
    changes = [f(Terms(), [outside if p == pick else p for p in PICKS]) - f(Terms(), PICKS) for pick in PICKS]
    assert role.swap is not None and role.swap.row == PICKS[int(np.argmax(changes))]
    assert role.swap.change == pytest.approx(max(changes), abs=1e-6)
    assert role.gain_now == pytest.approx(f(Terms(), [*PICKS, outside]) - f(Terms(), PICKS), abs=1e-6)
    assert all(contest.row != outside for contest in role.would_help)
    more = np.maximum(clip(RAW[:, outside]) - clip(RAW[:, PICKS]).max(axis=1), 0)
    more[outside] = 0
    assert role.would_help[0].row == int(more.argmax())
    assert role.serves is None and not role.alternatives


def test_candidates_that_could_not_be_picked_are_no_alternatives() -> None:
    found = case()
    column = int(PICKS[0])
    first = found.role(column).alternatives[0].row
    found.closed[first] = True
    assert first not in {one.row for one in found.role(column).alternatives}


def test_where_the_objective_is_another_nothing_is_said_of_losses_and_swaps() -> None:
    found = case(counts=False)
    inside, outside = found.role(int(PICKS[0])), found.role(int(np.setdiff1d(np.arange(C), PICKS)[0]))
    assert inside.serves is not None and inside.value is inside.loss is outside.gain_now is outside.swap is None
    assert not inside.alternatives
    assert not any("objective" in line for line in [*told_by_role(inside, K), *told_by_role(outside, K)])


def test_an_unknown_bonus_is_not_taken_for_nothing() -> None:
    bonus = np.full(C, np.nan)
    bonus[PICKS] = 0.1
    found = case(terms=Terms(bonus=bonus))
    assert found.role(int(PICKS[0])).loss is not None and not found.role(int(PICKS[0])).alternatives
    outside = found.role(int(np.setdiff1d(np.arange(C), PICKS)[0]))
    assert outside.gain_now is None and outside.swap is None and outside.own is None


# --- by the selection alone ----------------------------------------------------------------------------------------


def picked(gains: Any, order: Indices | None = None, full: float = 0.0, nested: bool = True) -> Selection:
    gain: Doubles = np.asarray(gains, np.float64)
    return Selection(np.arange(len(gain)) if order is None else order, gain, np.cumsum(gain), full, nested)


def test_a_row_stands_inside_behind_or_outside_of_the_order() -> None:
    selection = picked([5, 3, 2, 1], np.array([7, 4, 9, 2]), full=20.0)
    inside = standing(selection, 4, 2)
    assert (inside.status, inside.rank, inside.gain, inside.cut_gain, inside.share) == ("selected", 2, 3, 3, 0.15)
    behind = standing(selection, 2, 2)
    assert (behind.status, behind.enters_at) == ("beyond the budget", 4) and "budget of 4 rows" in behind.reason
    assert standing(selection, 2, 2, nested=False).enters_at is None
    assert standing(selection, 5, 2).status == "never ranked"
    banned = standing(selection, 5, 2, left_out="left out: banned by its id")
    assert (banned.status, banned.reason) == ("left out", "Left out: banned by its id.")
    assert standing(selection, 2, 2, refused=True).status == "refused by the score"
    taken = standing(selection, 2, 4, refused=True)
    assert taken.status == "selected" and "has no score" in taken.reason


def test_a_score_is_placed_among_the_others_and_beside_the_cut() -> None:
    selection = picked([-1, -2, -3, -4, 0], np.array([3, 1, 4, 0, 2]))  # losses, the least first; the last has none
    found = score(selection, 4, 2, sign=-1, refusing=True)
    assert found is not None and (found.value, found.cut, found.distance) == (3, 2, -1)
    assert found.better_than == pytest.approx(1 / 3)
    assert score(selection, 2, 2, sign=-1, refusing=True) is None
    assert score(selection, 9, 2) is None
    lines = told("top-k", standing(selection, 4, 2), found, 2, 0, "the loss of its response")
    assert "better than 33.3 %" in lines[0] and "1 short of it" in lines[1]


@pytest.mark.parametrize("objective", [*MEANINGS, "one of your own"])
def test_every_objective_has_words_for_every_standing(objective: str) -> None:
    selection = picked([0.5, 0.4, 0.3], np.array([1, 2, 0]))
    for row in (1, 0, 5):
        at = standing(selection, row, 2)
        lines = told(objective, at, score(selection, row, 2), 2, seed=3)
        assert all(line.endswith(".") for line in lines)
        if at.rank is not None:
            assert lines


def test_text_and_json_hold_the_numbers_and_no_nan() -> None:
    found = case(part="pool")
    for column in (int(PICKS[0]), int(np.setdiff1d(np.arange(10, C), PICKS)[0])):
        role = found.role(column)
        at = standing(picked([1.0]), 0, 1)
        told_all = Explanation("r", "delift", "fl", column, f"p{column}", K, at, role=role, notes=("A note.",))
        text = as_text(told_all)
        assert text.startswith(f"Row p{column} in run r (delift), at a budget of 7 rows") and "A note." in text
        assert json.loads(json.dumps(told_all.to_json(), allow_nan=False))["role"]["part"] == "pool"


def test_a_share_just_below_the_whole_is_not_rounded_to_it() -> None:
    assert (percent(1.0), percent(0.99999), percent(0.523)) == ("100 %", "more than 99.9 %", "52.3 %")
