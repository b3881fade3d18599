"""Facts about a selection: closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from delift_core.errors import DataError
from delift_core.insight.clusters import by_cluster_then_rank, cluster, profiles
from delift_core.insight.curve import ahead, knee, running_tokens, shares, step
from delift_core.insight.groups import MISSING, categories, levels, ranks
from delift_core.insight.overview import cells_of, effects, hurting, overview
from delift_core.insight.region import inside, outline
from delift_core.types import Utility

# --- curve ---------------------------------------------------------------------------------------------------------


def test_the_knee_of_a_curve_that_stops_growing_is_where_it_stops():
    value = np.minimum(np.arange(1, 101), 20.0)
    assert knee(value) == 20


@pytest.mark.parametrize("value", [[1.0], np.arange(1.0, 50.0), np.zeros(9), [1.0, np.nan, 2.0], -np.arange(1.0, 9.0)])
def test_a_curve_that_does_not_bend_has_no_knee(value):
    assert knee(np.asarray(value)) is None


def test_shares_of_a_worthless_pool_are_unknown_and_not_zero():
    assert np.isnan(shares(np.array([0.0, 0.0]), 0.0)).all()
    assert shares(np.array([1.0, 2.0]), 4.0).tolist() == [0.25, 0.5]


def test_the_next_rows_add_the_difference_of_the_curve():
    value = np.cumsum(np.linspace(1, 0, 1001))
    more, added = ahead(value, float(value[-1]), 300)
    assert more == 20
    assert added == pytest.approx((value[319] - value[299]) / value[-1])
    assert ahead(value, float(value[-1]), 1001) is None
    assert ahead(value, 0.0, 300) is None


@pytest.mark.parametrize(("k", "rows"), [(1, 1), (19, 1), (20, 2), (600, 50), (5_000, 500), (12_345, 1_000)])
def test_the_step_ahead_is_a_round_number_of_about_a_tenth(k, rows):
    assert step(100_000, k) == rows


def test_tokens_add_up_along_the_order():
    assert running_tokens(np.array([5, 7, 11]), np.array([2, 0])).tolist() == [11, 16]


# --- groups --------------------------------------------------------------------------------------------------------


def test_categories_put_the_most_frequent_first_and_the_rest_into_other():
    values = ["a"] * 5 + ["b"] * 3 + [None] * 2 + [f"x{i}" for i in range(20)]
    codes, labels = categories(values, most=4)
    assert labels == ["a", "b", MISSING, "other (20 values)"]
    assert codes.tolist() == [0] * 5 + [1] * 3 + [2] * 2 + [3] * 20


def test_as_many_categories_as_colours_need_no_other():
    codes, labels = categories(list("aabbc"), most=3)
    assert labels == ["a", "b", "c"]
    assert codes.tolist() == [0, 0, 1, 1, 2]


def test_levels_keep_order_share_ties_and_mark_missing_values():
    found = levels(np.array([5.0, np.nan, 1.0, 5.0, 3.0]), 3)
    assert found.tolist() == [2, -1, 0, 2, 1]
    assert (levels(np.full(4, np.nan)) == -1).all()


def test_ranks_invert_the_order_and_leave_the_rest_out():
    assert ranks(np.array([3, 0]), 5).tolist() == [1, -1, -1, 0, -1]


# --- clusters ------------------------------------------------------------------------------------------------------


def test_well_apart_groups_are_found_and_numbered_along_their_main_direction():
    rng = np.random.default_rng(0)
    true = np.repeat([2, 0, 3, 1], 25)
    points = (np.array([[0, 0], [10, 1], [20, 0], [30, 1]])[true] + rng.normal(0, 0.3, (100, 2))).astype(np.float32)
    found = cluster(points, 4)
    assert (found == true).all() or (found == 3 - true).all()
    assert (cluster(points, 4) == found).all()


@pytest.mark.parametrize(("n", "labels"), [(0, 0), (1, 1), (3, 3)])
def test_few_points_make_few_clusters(n, labels):
    points = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    assert len(set(cluster(points, 10).tolist())) == labels


def test_equal_points_make_one_cluster():
    assert (cluster(np.ones((7, 2), np.float32)) == 0).all()


def test_rows_that_the_same_candidates_help_get_like_profiles():
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((2, 300))
    values = (kinds[np.repeat([0, 1], 20)] + 0.1 * rng.standard_normal((40, 300))).astype(np.float32)
    values[0, 5] = np.nan
    found = cluster(profiles(values), 2)
    assert len(set(found[:20].tolist())) == len(set(found[20:].tolist())) == 1
    assert found[0] != found[20]


def test_the_order_is_by_cluster_then_pick_with_the_unpicked_last():
    labels, rank = np.array([1, 0, 1, 0, 0]), np.array([0, -1, 5, 7, 2])
    assert by_cluster_then_rank(labels, rank).tolist() == [4, 3, 1, 0, 2]


# --- region --------------------------------------------------------------------------------------------------------


def test_points_inside_a_square_with_a_notch():
    polygon = outline([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]])
    points = np.array([[0.5, 0.5], [2, 3], [3.9, 0.1], [5, 1], [-1, -1], [0.3, 2.9]], np.float32)
    assert inside(points, polygon).tolist() == [True, False, True, False, False, True]


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3, 5), st.integers(8, 60), st.integers(0, 10_000))
def test_a_polygon_near_a_circle_agrees_with_the_distance_from_its_middle(radius, corners, seed):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    polygon = outline(np.column_stack([np.cos(angle), np.sin(angle)]) * radius)
    points = np.random.default_rng(seed).uniform(-6, 6, (200, 2)).astype(np.float32)
    away = np.linalg.norm(points, axis=1)
    found = inside(points, polygon)
    assert found[away < radius * np.cos(np.pi / corners) - 1e-3].all()
    assert not found[away > radius + 1e-3].any()


@pytest.mark.parametrize(
    "sent",
    [None, "abc", [], [[0, 0], [1, 1]], [[0, 0, 0]] * 4, [[0, float("nan")]] * 3, [[0, 0]] * 5_000, [[0], [1, 2]]],
)
def test_an_outline_that_is_none_is_refused_with_what_is_needed(sent):
    with pytest.raises(DataError, match="3 to 2,000 corners"):
        outline(sent)


# --- overview ------------------------------------------------------------------------------------------------------


def make(r: int, c: int, *, missing: float = 0.2, seed: int = 0, kind: str = "l2") -> Utility:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((r, c)).astype(np.float32)
    values[rng.random((r, c)) < missing] = np.nan
    return Utility(values, np.arange(r) * 2, np.arange(c) * 3, kind)


def as_sparse(utility: Utility) -> Utility:
    row, column = np.nonzero(~np.isnan(utility.values))
    stored = sparse.csc_array((utility.values[row, column], (row, column)), shape=utility.shape)
    return Utility(stored, utility.helped, utility.candidates, utility.kind)


def brute(part: np.ndarray, how: str) -> float:
    known = part[~np.isnan(part)]
    if not len(known):
        return np.nan
    return {"mean": known.mean, "max": known.max, "share": (known > 0).mean}[how]()


@pytest.mark.parametrize("how", ["mean", "max", "share"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_blocks_equal_brute_force_over_their_pairs(how, kind):
    utility = make(23, 37, missing=0.6)
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(23), rng.permutation(37)
    view = overview(as_sparse(utility) if kind == "sparse" else utility, rows, columns, how, cells=9)
    assert view.values.shape == (9, 9)
    for i in range(9):
        for j in range(9):
            at_rows, at_columns = view.block(i, j)
            expected = brute(utility.values[np.ix_(at_rows, at_columns)], how)
            np.testing.assert_allclose(view.values[i, j], expected, rtol=1e-5)


def test_no_view_is_larger_than_its_cells_and_blocks_cover_every_pair_once():
    view = overview(make(1003, 450), np.arange(1003), np.arange(450))
    assert view.values.shape == (400, 400)
    assert not view.exact
    for edges, n in ((view.row_edges, 1003), (view.column_edges, 450)):
        assert edges[0] == 0
        assert edges[-1] == n
        assert (np.diff(edges) >= 1).all()


def test_a_small_utility_is_shown_exactly_in_the_given_order():
    utility = make(5, 7)
    rows, columns = np.array([4, 2, 0, 1, 3]), np.arange(7)[::-1]
    view = overview(utility, rows, columns)
    assert view.exact
    np.testing.assert_array_equal(view.values, utility.values[np.ix_(rows, columns)])


def test_a_stored_zero_is_a_pair_and_an_absent_one_is_not():
    stored = sparse.csc_array((np.array([0.0, -1.0], np.float32), (np.array([0, 1]), np.array([0, 1]))), shape=(2, 2))
    utility = Utility(stored, np.arange(2), np.arange(2), "l2")
    cells = cells_of(utility, np.arange(2), np.arange(2))
    np.testing.assert_array_equal(cells, np.array([[0, np.nan], [np.nan, -1]], np.float32))


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_effects_equal_brute_force(kind):
    utility = make(11, 6, missing=0.5)
    utility.values[3] = np.nan
    utility.values[:, 2] = np.nan
    found = effects(as_sparse(utility) if kind == "sparse" else utility)
    for i, row in enumerate(utility.values):
        np.testing.assert_allclose([found.best[i], found.helped[i]], [brute(row, "max"), brute(row, "mean")], rtol=1e-5)
    for j, column in enumerate(utility.values.T):
        expected = [brute(column, "mean"), brute(column, "share")]
        np.testing.assert_allclose([found.given[j], found.share[j]], expected, rtol=1e-5)


def test_candidates_that_hurt_come_worst_first_and_unscored_ones_are_not_among_them():
    values = np.array([[0.1, -0.4, np.nan, -0.2]], np.float32)
    found = effects(Utility(values, np.arange(1), np.arange(4), "l2"))
    assert hurting(found).tolist() == [1, 3]
    assert hurting(found, 1).tolist() == [1]


def test_an_empty_utility_has_an_empty_view():
    utility = Utility(np.empty((0, 3), np.float32), np.arange(0), np.arange(3), "l2")
    assert overview(utility, np.arange(0), np.arange(3)).values.size == 0
    assert np.isnan(effects(utility).given).all()
