"""The map's messages for marks, groups and pools too large to draw row by row; a few points that stand for many."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from delift_core.figures import points
from delift_core.insight.spread import shown, spread


def unpack(message: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(message[:4], "little")
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def cloud(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (n, 2)).astype(np.float32)


def test_a_large_pool_sends_four_bytes_a_row_and_no_ids(monkeypatch):
    monkeypatch.setattr(points, "MOST_ROWS", 99)
    header, body = unpack(points.geometry({"pool": cloud(100)}, np.arange(100), ["x"] * 100, key="run"))
    assert header["dense"]
    assert not header["ids"]
    assert len(body) == 400


def test_the_part_that_is_drawn_brings_its_rows_ranks_codes_and_ids():
    rows = np.array([2, 5, 90])
    part = points.Part(rows, np.array([7, -1, 0]), pa.chunked_array([["b", "a\nb", "c" * 50]]))
    colouring = points.by_category(np.arange(100) % 3, ["x", "y", "z"], "group")
    chosen = np.arange(100) < 3
    header, body = unpack(points.layer(colouring, chosen, key="run", part=part, pinned=[5], banned=np.array([90])))
    assert header["part"] == 3
    assert (np.frombuffer(body[:12], "<u4") == rows).all()
    assert (np.frombuffer(body[12:24], "<i4") == [7, -1, 0]).all()
    assert list(body[24:27]) == [2 | points.SELECTED_BIT, 2, 0]
    assert body[27:].decode().split("\n") == ["b", "a b", "c" * 40]
    assert header["pinned"] == [5]
    assert header["banned"] == [90]
    assert header["groups"] == ["x", "y", "z"]
    assert "3 of 100 rows are shown as points" in header["alt"]


@pytest.mark.parametrize("ids", [["0", "1", "2"], ["2", "1", "0"], ["é", "", " \t"]])
def test_ids_come_the_same_from_arrow_in_pieces_and_from_a_list(ids):
    places, rank = {"pool": cloud(3)}, np.arange(3)
    pieces = pa.chunked_array([pa.array(ids[:1]), pa.array(["spare", *ids[1:]]).slice(1)])
    assert points.geometry(places, rank, pieces, key="r") == points.geometry(places, rank, ids, key="r")


def test_a_column_called_membership_keeps_its_own_colours():
    assert not points.by_category(np.zeros(4, np.int64), ["a"], "membership").membership
    assert points.by_membership(4).membership


@pytest.mark.parametrize("n", [0, 1, 2, 37, 1000])
def test_spread_is_an_order_of_all_points(n):
    assert sorted(spread(cloud(n))) == list(range(n))


def test_every_beginning_of_spread_is_as_dense_as_the_whole():
    at = np.concatenate([cloud(9_000), cloud(1_000, 1) + 40])  # a tenth of the rows lies elsewhere
    order = spread(at)
    for most in (50, 500, 5_000):
        assert (at[order[:most], 0] > 20).mean() == pytest.approx(0.1, abs=1.5 / np.sqrt(most) / 5)
    assert spread(np.zeros((50, 2), np.float32)).shape == (50,)


@pytest.mark.parametrize(
    ("chosen_rows", "always", "most"),
    [(100, [], 300), (400, [], 300), (100, [999, 3], 300), (0, [5], 1), (50, [1, 2, 3], 2)],
)
def test_what_is_marked_comes_first_then_what_is_selected_then_the_rest(chosen_rows, always, most):
    order = spread(cloud(1_000))
    chosen = np.arange(1_000) < chosen_rows
    rows = shown(order, chosen, np.array(always, np.int64), most)
    assert (np.diff(rows) > 0).all()
    assert set(always) <= set(rows)
    assert len(rows) == max(most, len(always))
    if most >= chosen_rows + len(always):
        assert set(np.flatnonzero(chosen)) <= set(rows)
    smaller = set(shown(order, chosen, np.array(always, np.int64), most // 2 + 1))
    assert smaller <= set(rows) or most <= len(always)
