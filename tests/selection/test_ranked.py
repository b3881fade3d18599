"""Top-k: the right end of a score first, refused rows last."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from delift_core.errors import ConfigError
from delift_core.selection.ranked import TopK
from delift_core.types import Evidence, Limit, Rules, Scores


def scored(values: list[float], higher: bool = True) -> Evidence:
    n = len(values)
    rows = 100 + 7 * np.arange(n)
    return Evidence(rows, np.arange(1, n + 1), scores=Scores(np.array(values), rows, higher, "selectit"))


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_end_of_the_score_comes_first_and_ties_keep_the_order_of_the_pool(higher: bool) -> None:
    values = [3.0, 5.0, 1.0, 5.0, 2.0, 1.0]
    found = TopK().select(scored(values, higher), Limit(6))
    best = sorted(range(6), key=lambda i: (-values[i] if higher else values[i], i))
    assert found.order.tolist() == [100 + 7 * i for i in best]
    sign = 1 if higher else -1
    assert found.gains.tolist() == [sign * values[i] for i in best], "gains never increase at either end"
    assert found.value.tolist() == np.cumsum(found.gains).tolist()
    assert found.share == pytest.approx(1) if higher else np.isnan(found.share)
    for k in (1, 4):
        assert TopK().select(scored(values, higher), Limit(k)).order.tolist() == found.head(k).order.tolist()


def test_refused_rows_go_last_are_worth_nothing_and_are_told() -> None:
    e = scored([np.nan, 0.25, np.nan, 0.75])
    found = TopK().select(e, Limit(4))
    assert found.order.tolist() == [121, 107, 100, 114]
    assert found.gains.tolist() == [0.75, 0.25, 0, 0]
    assert found.full_value == 1.0
    assert found.notes == ("2 of 4 rows have no score of selectit: they stand last.",)
    assert replace(e.scores, notes=("cut",)).notes[0] in TopK().select(
        replace(e, scores=replace(e.scores, notes=("cut",))), Limit(1)
    ).notes  # fmt: skip


def test_a_permuted_pool_gives_the_same_rows() -> None:
    e = scored([0.1, 0.9, 0.5, 0.7])
    p = np.array([2, 0, 3, 1])
    assert e.scores is not None
    scores = replace(e.scores, values=e.scores.values[p], candidates=e.candidates[p])
    moved = replace(e, candidates=e.candidates[p], tokens=e.tokens[p], scores=scores)
    assert TopK().select(moved, Limit(4)).order.tolist() == TopK().select(e, Limit(4)).order.tolist()


def test_rules_and_token_budgets_hold() -> None:
    e = scored([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    rules = Rules(pinned=np.array([5]), banned=np.array([True] + [False] * 5), once=np.array([0, 1, 1, 2, 3, 4]))
    found = TopK().select(e, Limit(6, None, rules))
    assert found.order.tolist() == [135, 107, 121, 128]
    assert found.gains.tolist() == [1, 5, 3, 2], "a pinned row keeps its own score"
    assert "The rules leave 4 rows" in found.notes[0]
    kept = TopK().select(e, Limit(6, None, Rules(group=np.array([0, 0, 0, 0, 0, 1]), at_least=np.array([0, 1]))))
    assert not kept.nested
    assert not TopK().select(e, Limit(6, 5)).nested


def test_scores_that_rank_nothing_are_errors_that_say_so() -> None:
    with pytest.raises(ConfigError, match="refuses all 2 rows"):
        TopK().select(scored([np.nan, np.nan]), Limit(1))
    with pytest.raises(ConfigError, match="pool row 107 is infinite"):
        TopK().select(scored([1.0, np.inf]), Limit(1))
    e = scored([1.0, 2.0])
    with pytest.raises(ValueError, match="needs"):
        TopK().select(replace(e, scores=None), Limit(1))
    with pytest.raises(ValueError, match="not the candidates"):
        TopK().select(replace(e, candidates=e.candidates + 1), Limit(1))
