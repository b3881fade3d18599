"""Group reports and the price of a quota: closed forms and planted unfairness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import hypergeom

from delift_core.errors import ConfigError
from delift_core.insight import coverage
from delift_core.insight.fairness import price, report
from delift_core.types import Selection, Utility

ROWS = 100 + 7 * np.arange(10)
LABELS = ["en"] * 6 + ["de"] * 3 + [None]


def utility(values: Any, weights: Any = None) -> Utility:
    return Utility(values, ROWS, ROWS, "pmi", weights=weights)


def selection(values: list[float], full: float = 10.0) -> Selection:
    value = np.array(values)
    return Selection(np.arange(len(value)), np.diff(value, prepend=0.0), value, full)


def test_counts_shares_and_tokens_are_those_of_pool_and_subset() -> None:
    found = report(LABELS, ROWS, ROWS[[0, 1, 2, 6]], by="language", tokens=np.arange(10))
    en, de, empty = found.groups
    assert (en.name, en.rows, en.share, en.picked, en.picked_share, en.tokens, en.picked_tokens) == (
        "en", 6, 0.6, 3, 0.75, 15, 3,
    )  # fmt: skip
    assert (de.name, de.rows, de.picked, de.tokens, de.picked_tokens) == ("de", 3, 1, 21, 6)
    assert (empty.name, empty.rows, empty.picked, empty.ratio) == ("(empty)", 1, 0, 0.0)
    assert en.ratio == pytest.approx(1.25) and de.ratio == pytest.approx(0.25 / 0.3)
    assert en.chance == pytest.approx(hypergeom.cdf(3, 10, 6, 4)) and empty.chance == pytest.approx(0.6)
    assert (found.unserved, found.count, found.folded, found.other, en.covered) == (1, 3, 0, None, None)
    json.dumps(found.to_json())


def test_the_worst_served_group_is_the_planted_one_and_the_sentence_says_so() -> None:
    labels = ["en"] * 800 + ["sw"] * 200
    rows = np.arange(1000)
    picks = np.concatenate([rows[:196], rows[-4:]])
    found = report(labels, rows, picks, by="language")
    assert found.worst == "sw"
    assert found.sentence == "By language, sw is served worst: 2 % of the subset, 20 % of the pool."
    assert found.groups[1].chance < 1e-9 < 0.5 < found.groups[0].chance
    fair = report(labels, rows, np.concatenate([rows[:160], rows[-40:]]), by="language")
    assert fair.worst is None and fair.sentence == "By language: all 2 groups are served alike."


def test_a_single_row_that_was_not_picked_is_no_scandal_but_is_counted() -> None:
    """Of 100 rows 10 are picked: none of a group of one is chance, one of a group of 30 is not."""
    labels = ["rare", *["a"] * 69, *["b"] * 30]
    rows = np.arange(100)
    found = report(labels, rows, np.array([*range(1, 10), 70]))
    assert found.worst == "b" and found.unserved == 1
    assert "1 of 3 groups has no row in the subset" in found.sentence


def test_covered_value_is_what_the_subset_gives_over_what_the_pool_gives() -> None:
    values = np.zeros((10, 10), np.float32)
    values[:6, 0], values[:6, 1] = 0.4, 0.8
    values[6:9, 6], values[6:9, 7] = 0.1, 1.0
    found = report(LABELS, ROWS, ROWS[[0, 6]], utility=utility(values))
    en, de, empty = found.groups
    assert en.covered == pytest.approx(0.5) and de.covered == pytest.approx(0.1) and empty.covered is None
    assert found.covered == pytest.approx((6 * 0.4 + 3 * 0.1) / (6 * 0.8 + 3 * 1.0))
    assert found.worst == "de", "one row of three was picked, yet it covers little"
    assert "10 % of its value covered (34.6 % over all rows)" in found.sentence


def test_a_group_may_be_covered_by_rows_of_another() -> None:
    values = np.ones((10, 10), np.float32)
    found = report(LABELS, ROWS, ROWS[:1], utility=utility(values))
    assert [group.covered for group in found.groups] == [1.0, 1.0, 1.0] and found.worst is None


@pytest.mark.parametrize("fortran", [False, True])
def test_dense_and_sparse_utilities_and_missing_or_hurting_pairs_agree(fortran: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((10, 10)).astype(np.float32)
    gone = rng.random((10, 10)) < 0.4
    thin = sparse.csc_array(np.where(gone, 0, values))
    missing = np.where(gone, np.nan, values)
    if fortran:
        missing = np.asfortranarray(missing)
    weights = rng.integers(1, 9, 10).astype(np.float64)
    picks = ROWS[[1, 4, 8]]
    one, two = (report(LABELS, ROWS, picks, utility=utility(v, weights)) for v in (missing, thin))
    assert one == two
    clipped = np.nan_to_num(np.maximum(missing, 0))
    expected = (weights[:6] @ clipped[:6][:, [1, 4, 8]].max(1)) / (weights[:6] @ clipped[:6].max(1))
    assert one.groups[0].covered == pytest.approx(expected)


def test_blocks_of_columns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random((10, 10)).astype(np.float32)
    whole = report(LABELS, ROWS, ROWS[::2], utility=utility(values))
    monkeypatch.setattr(coverage, "_BLOCK", 3)
    assert report(LABELS, ROWS, ROWS[::2], utility=utility(values)) == whole


def test_candidates_in_any_order_and_landmarks_for_helped_rows() -> None:
    rng = np.random.default_rng(2)
    shuffle = rng.permutation(10)
    labels = [LABELS[i] for i in shuffle]
    values = rng.random((4, 10)).astype(np.float32)
    some = Utility(values, ROWS[[0, 5, 6, 9]], ROWS, "pmi", weights=np.array([3.0, 3.0, 3.0, 1.0]))
    assert report(labels, ROWS[shuffle], ROWS[:3], utility=some) == report(LABELS, ROWS, ROWS[:3], utility=some)


def test_groups_that_are_not_listed_are_counted_together_and_the_poor_are_listed() -> None:
    """Forty languages of falling size; the picks leave out one large one."""
    labels = [f"l{g:02}" for g in range(40) for _ in range(100 - 2 * g)]
    rows = np.arange(len(labels))
    rng = np.random.default_rng(0)
    allowed = rows[[label != "l30" for label in labels]]
    picks = rng.choice(allowed, len(rows) // 4, replace=False)
    found = report(labels, rows, picks, tokens=np.ones(len(rows), np.int64), most=6)
    assert len(found.groups) == 6 and found.folded == 34 and found.count == 40 and found.other is not None
    assert found.worst == "l30" and "l30" in {group.name for group in found.groups}
    assert {"l00", "l01", "l02"} <= {group.name for group in found.groups}
    everything = [*found.groups, found.other]
    assert sum(g.rows for g in everything) == len(rows) and sum(g.picked for g in everything) == len(picks)
    assert sum(g.picked_tokens or 0 for g in everything) == len(picks)
    assert sum(g.share for g in everything) == pytest.approx(1) and found.other.picked > 0


def test_an_empty_subset_and_one_group_are_told() -> None:
    none = report(LABELS, ROWS, ROWS[:0])
    assert none.sentence == "By group: the subset is empty." and none.worst is None and none.unserved == 3
    assert report(["x"] * 10, ROWS, ROWS[:2]).sentence == "By group: there is one group."


def test_rows_that_are_no_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="a pick is not among"):
        report(LABELS, ROWS, np.array([101]))
    with pytest.raises(ValueError, match="labels"):
        report(LABELS[1:], ROWS, ROWS[:1])
    with pytest.raises(ConfigError, match="2 groups at least"):
        report(LABELS, ROWS, ROWS[:1], most=1)


def test_low_resource_languages_of_a_real_file_are_visible(shared: Path) -> None:
    """MGSM has 250 questions in each of eleven languages: a subset of the English ones leaves ten without a row."""
    languages = [json.loads(line)["lang"] for line in (shared / "data" / "mgsm.jsonl").open(encoding="utf-8")]
    english = np.flatnonzero([language == "en" for language in languages])
    found = report(languages, np.arange(len(languages)), english, by="language")
    assert found.count == 11 and found.unserved == 10
    assert {group.name for group in found.groups if group.picked == 0} == set(languages) - {"en"}
    assert "10 of 11 groups have no row in the subset" in found.sentence


# --- price ---------------------------------------------------------------------------------------------------------


def test_the_price_is_the_relative_loss() -> None:
    found = price(selection([5.0, 8.0]), selection([4.0, 6.0]))
    assert (found.free, found.bound, found.loss) == (8.0, 6.0, pytest.approx(0.25))
    assert found.sentence == "The quota costs 25 % of the objective: 6 in place of 8."
    assert "adds 12.5 %" in price(selection([5.0, 8.0]), selection([5.0, 9.0])).sentence
    assert "costs nothing" in price(selection([5.0]), selection([5.0])).sentence
    assert "with 1 rows in place of 2" in price(selection([5.0, 8.0]), selection([4.0])).sentence
    json.dumps(found.to_json())


def test_other_objectives_and_worthless_ones_have_no_price() -> None:
    with pytest.raises(ConfigError, match="two objectives or two pools"):
        price(selection([5.0], full=10), selection([5.0], full=11))
    assert price(selection([0.0], full=0), selection([0.0], full=0)).loss is None
