"""Scale is applied once, over everything that is used together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from delift_core.errors import ConfigError
from delift_core.selection import scale
from delift_core.selection.scale import scaled
from delift_core.types import Kind, Utility


def utility(values: object, kind: Kind = "l2") -> Utility:
    values = values if isinstance(values, sparse.csc_array) else np.array(values, np.float32)
    return Utility(values, np.arange(values.shape[0]), np.arange(values.shape[1]), kind)


def test_clip_makes_harm_and_missing_pairs_count_as_nothing() -> None:
    raw = utility([[np.nan, 0.25], [-0.5, 0.75]])
    (result,) = scaled([raw])
    assert result.values.tolist() == [[0, 0.25], [0, 0.75]]
    assert result.values.dtype == np.float32
    assert np.isnan(raw.values[0, 0]), "the raw matrix stays as it is"


def test_clip_maps_a_cosine_from_minus_1_to_1_onto_0_to_1() -> None:
    (result,) = scaled([utility([[1, -1], [0, 0.5]], "cosine")])
    assert result.values.tolist() == [[1, 0], [0.5, 0.75]]
    (result,) = scaled([utility([[1.0000001, -1.0000001]], "cosine")])
    assert result.values.tolist() == [[1, 0]], "rounding of unit vectors does not leave [0, 1]"


def test_minmax_uses_one_range_for_all_matrices_and_leaves_missing_pairs_at_0() -> None:
    first, second = scaled([utility([[-1, np.nan]]), utility([[3.0], [1.0]])], "minmax")
    assert first.values.tolist() == [[0, 0]]
    assert second.values.tolist() == [[1], [0.5]]


def test_a_sparse_matrix_keeps_its_pattern_and_absent_pairs_do_not_count_towards_the_range() -> None:
    raw = sparse.csc_array(np.array([[0, 2.0], [4.0, 3.0]], np.float32))
    (result,) = scaled([utility(raw)], "minmax")
    assert result.values.toarray().tolist() == [[0, 0], [1, 0.5]]
    assert result.values.nnz == 3
    assert raw.data.tolist() == [4, 2, 3]


def test_the_size_of_the_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = utility(np.random.default_rng(0).standard_normal((50, 40)))
    whole = [scaled([raw], how)[0].values for how in ("clip", "minmax")]
    monkeypatch.setattr(scale, "BLOCK", 100)
    for before, how in zip(whole, ("clip", "minmax"), strict=True):
        assert (scaled([raw], how)[0].values == before).all()


@pytest.mark.parametrize("how", ["clip", "minmax"])
def test_a_constant_matrix_is_an_error_with_a_plain_message(how: str) -> None:
    with pytest.raises(ConfigError, match=r"Every l2 utility is 0\.25"):
        scaled([utility([[0.25, np.nan], [0.25, 0.25]])], how)


@pytest.mark.parametrize("how", ["clip", "minmax"])
def test_nothing_scored_is_an_error(how: str) -> None:
    for empty in (utility([[np.nan]]), utility(np.zeros((0, 3))), utility(sparse.csc_array((2, 2), dtype=np.float32))):
        with pytest.raises(ConfigError, match="No pair of rows was scored"):
            scaled([empty], how)


def test_infinite_numbers_are_an_error() -> None:
    with pytest.raises(ConfigError, match="infinite"):
        scaled([utility([[np.inf, 0]])])


def test_only_harm_is_an_error_under_clip_and_fine_under_minmax() -> None:
    harmful = utility([[-0.5, -0.25], [-0.125, np.nan]])
    with pytest.raises(ConfigError, match=r"best l2 utility is -0\.125"):
        scaled([harmful])
    assert scaled([harmful], "minmax")[0].values.max() == 1


def test_an_unknown_scale_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="Known: clip, minmax"):
        scaled([utility([[1, 2]])], "zscore")


def test_dense_results_are_in_column_order_for_the_solver() -> None:
    assert scaled([utility(np.random.default_rng(0).random((5, 4)))])[0].values.flags.f_contiguous
