"""Figures of compared runs and of the knowledge map: what is drawn is what was found, and names stay text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import plotly.io as pio
import pytest

from delift_core import figures
from delift_core.figures.comparison import BOTH, Line, in_how_many, of_two, overlap, values
from delift_core.figures.knowledge import MOST_POINTS, before_after, counts
from delift_core.insight.knowledge import knowledge
from delift_core.types import Utility

THEMES = pytest.mark.parametrize("theme", ["light", "dark"])


@THEMES
def test_the_overlap_is_drawn_beside_chance_and_told_at_the_budget(theme: Any) -> None:
    lines = [Line("a and <b>b</b>", np.linspace(0.5, 1, 10), 4), Line("a and c", np.full(6, 0.25), 4)]
    figure = overlap(lines, chance=np.arange(1, 11) / 10, theme=theme)
    drawn = {trace.name: list(trace.y) for trace in figure.data if trace.mode == "lines"}
    assert drawn["a and c"] == [25.0] * 6 and drawn["by chance"][-1] == 100
    assert "a and &lt;b&gt;b&lt;/b&gt;" in drawn
    assert [list(t.x) for t in figure.data if t.mode == "markers"] == [[4], [4]]
    assert "a and c share 25.0 % at 4 rows" in figures.alt_of(figure) and "40.0 %" in figures.alt_of(figure)
    assert len({trace.line.dash for trace in figure.data[:1] + figure.data[2:3]}) == 2, "dashes tell lines apart"
    json.loads(pio.to_json(figure))


@THEMES
def test_value_curves_of_any_length_are_drawn_and_told(theme: Any) -> None:
    figure = values([Line("a", np.linspace(0, 1, 50_000), 25_000), Line("b", np.full(3, 0.5))], theme=theme)
    assert len(figure.data[0].x) < 2_000 and 25_000 in figure.data[0].x
    assert figures.alt_of(figure) == "Value under its own objective. a reaches 50.0 % at 25,000 rows."
    assert "No run" in figures.alt_of(values([]))


@THEMES
def test_rows_of_two_runs_get_one_of_four_colours(theme: Any) -> None:
    found = of_two(np.array([0, 1, 0, 1], bool), np.array([0, 0, 1, 1], bool), ["a", "b"], theme)
    assert found.codes.tolist() == [0, 1, 2, 3] and found.codes.dtype == np.uint8 and found.palette[3] == BOTH
    assert dict(found.legend) == dict(zip(["neither", "only a", "only b", "both"], found.palette, strict=True))


@THEMES
@pytest.mark.parametrize("runs", [3, 4])
def test_in_how_many_runs_has_a_shade_for_each_number(theme: Any, runs: int) -> None:
    found = in_how_many(np.arange(runs + 1), runs, theme)
    assert found.codes.tolist() == list(range(runs + 1)) and len(set(found.palette)) == runs + 1
    assert [label for label, _ in found.legend][1:] == [f"{i} of {runs}" for i in range(1, runs + 1)]


def measured(n: int) -> Utility:
    saved = np.random.default_rng(0).normal(0.1, 0.1, (n, 2)).astype(np.float32)
    saved[0] = np.nan
    before = np.linspace(0.2, 0.95, n).astype(np.float32)
    return Utility(saved, np.arange(n), np.arange(2), "l2", before)


@THEMES
def test_every_scored_row_stands_at_its_before_and_after(theme: Any) -> None:
    found = knowledge(measured(60), np.array([0]))
    figure = before_after(found, theme=theme)
    markers = [trace for trace in figure.data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in markers) == 59
    assert len({trace.marker.symbol for trace in markers}) == len({trace.marker.color for trace in markers}) >= 3
    assert all((np.asarray(trace.y) <= np.asarray(trace.x) + 1e-6).all() for trace in markers)
    assert "1 rows are not shown" in figures.alt_of(figure)
    json.loads(pio.to_json(figure))


def test_a_crowd_is_drawn_as_a_density_of_all_rows() -> None:
    figure = before_after(knowledge(measured(MOST_POINTS + 2), np.array([0])))
    assert figure.data[0].type == "heatmap" and all(trace.mode == "lines" for trace in figure.data[1:])
    shown = np.asarray(figure.data[0].z, float)
    assert np.nansum(10**shown) == pytest.approx(MOST_POINTS + 1, rel=1e-3)


@THEMES
def test_the_bars_hold_the_counts(theme: Any) -> None:
    found = knowledge(measured(60), np.array([0]))
    figure = counts(found, theme=theme)
    assert dict(zip(figure.data[0].y, figure.data[0].x, strict=True))["the model knows already"] == found.counts[0]
    assert f"the model knows already {found.counts[0]:,} rows" in figures.alt_of(figure)
