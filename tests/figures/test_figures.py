"""Figures hold the data they were given, say their finding, and never let row text act as markup."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import plotly.io as pio
import pytest

from delift_core import figures
from delift_core.figures import points
from delift_core.figures.style import CATEGORIES, diverging
from delift_core.insight.overview import overview
from delift_core.types import Selection, Utility

HOSTILE = '<script>alert(1)</script><a href="javascript:x">b</a>'


@pytest.fixture
def selection() -> Selection:
    gains = np.linspace(1, 0.001, 200)
    return Selection(np.arange(200), gains, np.cumsum(gains), float(gains.sum()))


@dataclass
class Bins:
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    median: float
    largest: int


@dataclass
class Profile:
    prompt_chars: Bins
    response_chars: Bins | None


def every(selection: Selection, theme: str) -> dict[str, object]:
    rng = np.random.default_rng(0)
    utility = Utility(rng.standard_normal((30, 20)).astype(np.float32), np.arange(30), np.arange(20), "l2")
    view = overview(utility, np.arange(30), np.arange(20))
    bins = Bins((1, 10, 100, 1000), (3, 5, 2), 40, 900)
    return {
        "curve": figures.curve(selection, 60, knee=40, tokens=np.arange(1, 201) * 50, theme=theme),
        "gains": figures.gain_curve(selection, 60, theme=theme),
        "heatmap": figures.heatmap(view, "l2", theme=theme),
        "exact": figures.exact_heatmap(utility.values, [HOSTILE] * 30, ["c"] * 20, "pmi", theme=theme),
        "histogram": figures.histogram(rng.standard_normal(50), label="help", chosen=np.arange(50) < 9, theme=theme),
        "lengths": figures.lengths(Profile(bins, bins), theme=theme),
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_figure_says_its_finding_and_serialises(selection, theme):
    for name, figure in every(selection, theme).items():
        sentence = figures.alt_of(figure)
        assert sentence.endswith("."), name
        assert any(c.isdigit() for c in sentence), (name, sentence)
        assert "nan" not in sentence
        json.loads(pio.to_json(figure))


def test_figures_differ_between_light_and_dark_only_in_looks(selection):
    light, dark = every(selection, "light"), every(selection, "dark")
    for name in light:
        assert figures.alt_of(light[name]) == figures.alt_of(dark[name])
        assert pio.to_json(light[name]) != pio.to_json(dark[name]), name


def test_the_curve_is_cut_at_the_budget_and_names_its_share(selection):
    figure = figures.curve(selection, 60, knee=40)
    share = 100 * selection.value[59] / selection.full_value
    assert f"60 of 200 rows in pick order give {share:.1f} % of the whole pool's value" in figures.alt_of(figure)
    assert "bends at 40 rows" in figures.alt_of(figure)
    kept = next(t for t in figure.data if t.name == "kept")
    assert max(kept.x) == 60


def test_a_long_curve_is_thinned_but_keeps_the_budget():
    gains = np.linspace(1, 0.001, 50_000)
    figure = figures.curve(Selection(np.arange(50_000), gains, np.cumsum(gains), float(gains.sum())), 12_345)
    drawn = np.concatenate([t.x for t in figure.data if t.mode == "lines"])
    assert len(drawn) < 1_100
    assert 12_345 in drawn


@pytest.mark.parametrize("full", [0.0, float("nan")])
def test_a_pool_without_a_value_shows_plain_values_instead_of_percent(full):
    figure = figures.curve(Selection(np.arange(3), np.ones(3), np.array([1.0, 2.0, 3.0]), full), 2)
    assert "%" not in figures.alt_of(figure)
    assert list(figure.data[0].y) == [1.0, 2.0]


def test_an_empty_selection_draws_an_empty_curve():
    empty = Selection(np.empty(0, np.int64), np.empty(0), np.empty(0), 0.0)
    assert figures.alt_of(figures.curve(empty, 0))
    assert figures.alt_of(figures.gain_curve(empty, 0))


def test_colours_of_a_heatmap_are_puor_with_zero_in_the_middle():
    values = np.array([[-0.1, 0.4], [np.nan, 0.2]], np.float32)
    view = overview(Utility(values, np.arange(2), np.arange(2), "l2"), np.arange(2), np.arange(2))
    heat = figures.heatmap(view, "l2").data[0]
    assert heat.zmin == -heat.zmax
    assert heat.zmid == 0
    assert [c for _, c in heat.colorscale] == [c for _, c in diverging("light")]
    assert "67 % of 3 pairs are above 0" in figures.alt_of(figures.heatmap(view, "l2"))


def test_one_outlier_does_not_wash_out_the_colours():
    values = np.full((100, 100), 0.1, np.float32)
    values[0, 0] = 50
    view = overview(Utility(values, np.arange(100), np.arange(100), "l2"), np.arange(100), np.arange(100))
    assert figures.heatmap(view, "l2").data[0].zmax == pytest.approx(0.1)


@pytest.mark.parametrize("fill", [np.nan, 0.0])
def test_a_heatmap_without_any_value_still_has_a_scale(fill):
    view = overview(
        Utility(np.full((3, 3), fill, np.float32), np.arange(3), np.arange(3), "l2"), np.arange(3), np.arange(3)
    )
    assert figures.heatmap(view, "l2").data[0].zmax > 0


def test_row_text_in_a_figure_is_escaped(selection):
    text = pio.to_json(every(selection, "light")["exact"])
    assert "<script" not in text
    assert "<a href" not in text
    assert figures.text_of("a\n b" + "x" * 90).endswith("…")


def test_the_histogram_counts_finite_values_and_those_below_zero():
    values = np.array([-1.0, -0.5, 0.5, 1.0, np.nan, np.inf])
    figure = figures.histogram(values, label="help")
    assert sum(figure.data[0].y) == 4
    assert "2 (50 %) are below 0" in figures.alt_of(figure)


def test_the_chosen_part_of_a_histogram_stands_in_front():
    figure = figures.histogram(np.arange(10.0), label="help", chosen=np.arange(10) < 3)
    assert [sum(bar.y) for bar in figure.data] == [10, 3]


def test_lengths_without_responses_show_prompts_only():
    bins = Bins((1, 10, 100), (3, 5), 40, 90)
    figure = figures.lengths(Profile(bins, None))
    assert [bar.name for bar in figure.data] == ["prompt"]
    assert "prompt 40 (longest 90)" in figures.alt_of(figure)


# --- the map's messages ----------------------------------------------------------------------------------------------


def unpack(message: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(message[:4], "little")
    assert length % 4 == 0
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def test_geometry_brings_every_place_back_within_a_screen_pixel():
    rng = np.random.default_rng(0)
    around = {"target": rng.normal(3, 1, (7, 2)), "pool": rng.normal(0, 5, (50, 2))}
    places = {name: at.astype(np.float32) for name, at in around.items()}
    rank = rng.permutation(50) - 10
    header, body = unpack(points.geometry(places, rank, [f"id {i}" for i in range(50)], key="run"))
    assert header["counts"] == {"pool": 50, "target": 7}
    grid = np.frombuffer(body[: 57 * 4], "<u2").reshape(2, 57).T / 65_535 * header["side"] + header["origin"]
    np.testing.assert_allclose(grid[:50], places["pool"], atol=header["side"] / 60_000)
    np.testing.assert_allclose(grid[50:], places["target"], atol=header["side"] / 60_000)
    assert (np.frombuffer(body[57 * 4 : 57 * 4 + 200], "<i4") == rank).all()
    assert body[57 * 4 + 200 :].decode().split("\n") == [f"id {i}" for i in range(50)]


def test_ids_that_are_row_numbers_are_not_sent():
    places = {"pool": np.zeros((3, 2), np.float32)}
    header, body = unpack(points.geometry(places, np.arange(3), ["0", "1", "2"], key="run"))
    assert not header["ids"]
    assert len(body) == 3 * 8


def test_an_id_with_a_line_break_stays_one_id():
    places = {"pool": np.zeros((2, 2), np.float32)}
    _, body = unpack(points.geometry(places, np.arange(2), ["a\nb", "c" * 90], key="run"))
    assert body[16:].decode().split("\n") == ["a b", "c" * 40]


def test_a_budget_change_costs_one_byte_per_row():
    colouring = points.by_membership(1000)
    small, large = (points.layer(colouring, np.arange(1000) < k, key="run") for k in (10, 900))
    header, body = unpack(large)
    assert len(body) == 1000
    assert (np.frombuffer(body, np.uint8) >= points.SELECTED_BIT).sum() == 900
    assert abs(len(large) - len(small)) <= 4
    assert "900 are selected" in header["alt"]


def test_colour_codes_never_touch_the_selected_bit():
    values = np.append(np.linspace(0, 1, 300), np.nan)
    from delift_core.insight.groups import levels

    for theme in ("light", "dark"):
        colouring = points.by_level(levels(values, points.LEVELS), values, "gain", theme=theme)
        assert colouring.codes.max() == points.LEVELS == len(colouring.palette) - 1
        assert colouring.codes[-1] == points.LEVELS
    ten = points.by_category(np.arange(10), [str(i) for i in range(10)], "group")
    assert ten.palette == CATEGORIES
    assert ten.codes.max() < points.SELECTED_BIT
