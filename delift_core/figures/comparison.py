"""Runs side by side: overlap and value over the budget, and map colours for two runs or for "in how many runs".

The first run is blue and solid, the second orange and dashed, what both pick green; on a map, the size of a point
says whether the run of that map picks it, so that colour is never alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from delift_core.figures.points import Colouring
from delift_core.figures.style import CIVIDIS, REJECTED, Theme, finish, ink, selected, text_of
from delift_core.types import Doubles, Indices

ONLY_FIRST, ONLY_SECOND, BOTH = "#0072B2", "#E69F00", "#009E73"
_COLOURS = (ONLY_FIRST, ONLY_SECOND, "#CC79A7", "#B8A800", "#999999", "#D55E00")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
_POINTS = 1_000  # of a long curve that are drawn


@dataclass(frozen=True, eq=False)
class Line:
    """One curve over the budget: y[k - 1] belongs to k rows; NaN where there is nothing to show."""

    name: str  # may be text of unknown origin
    y: Doubles  # (K,) shares, 1 is all
    at: int | None = None  # the budget that is marked


def overlap(
    lines: Sequence[Line], *, chance: Doubles | None = None, theme: Theme = "light", height: int = 360
) -> go.Figure:
    """The share of the first k picks that two runs have in common, one line for each two runs.

    `chance` (K,) is what two random choices of k rows would share.
    """
    figure = _curves(lines, theme)
    said = [_told(line, "share") for line in lines if line.at]
    if chance is not None and len(chance):
        at = _thin(len(chance), None)
        figure.add_scatter(
            x=at + 1, y=100 * chance[at], name="by chance", mode="lines",
            line={"color": ink(theme), "width": 1.2, "dash": "dot"}, hovertemplate="%{x:,} rows: %{y:.1f} %",
        )  # fmt: skip
        marks = [line.at for line in lines if line.at and line.at <= len(chance)]
        said += (
            [f"Two random choices of {max(marks):,} rows share {100 * chance[max(marks) - 1]:.1f} %."] if marks else []
        )
    finding = " ".join(said) or "No two orders can be cut at a smaller budget."
    figure = finish(figure, theme, finding, x="first picks of each", y="% in common", height=height)
    figure.update_yaxes(range=[0, 102])
    return figure


def values(
    lines: Sequence[Line], *, under: str = "its own objective", theme: Theme = "light", height: int = 360
) -> go.Figure:
    """Value against budget, as shares of what the whole pool is worth, one line for each run."""
    figure = _curves(lines, theme)
    said = " ".join(_told(line, "reaches") for line in lines if line.at)
    finding = f"Value under {under}. {said}" if lines else "No run has a value to show."
    figure = finish(figure, theme, finding, x="rows kept", y="% of the whole pool's value", height=height)
    figure.update_yaxes(rangemode="tozero")
    return figure


def of_two(first: NDArray[np.bool_], second: NDArray[np.bool_], names: Sequence[str], theme: Theme) -> Colouring:
    """Rows (n,) that only one of two runs picks, both, or none; the same colours on the map of either run."""
    colours = (REJECTED, selected(theme), ONLY_SECOND, BOTH)
    legend = ((f"only {names[0]}", colours[1]), (f"only {names[1]}", colours[2]), ("both", BOTH), ("neither", REJECTED))
    return Colouring(
        codes=(first + 2 * second.astype(np.uint8)).astype(np.uint8), palette=colours, legend=legend,
        title="picked by",
    )  # fmt: skip


def in_how_many(held: Indices, runs: int, theme: Theme) -> Colouring:
    """In how many of the runs each row (n,) is picked: the more, the farther from the colour of the page."""
    steps = CIVIDIS[:-2] if theme == "light" else CIVIDIS[2:]
    places = np.linspace(0, len(steps) - 1, runs).round().astype(int)
    shades = [steps[place] for place in (places[::-1] if theme == "light" else places)]
    labels = ["no run", *(f"{i} of {runs}" for i in range(1, runs + 1))]
    colours = (REJECTED, *shades)
    return Colouring(
        codes=held.astype(np.uint8), palette=colours, legend=tuple(zip(labels, colours, strict=True)),
        title="picked in",
    )  # fmt: skip


def _curves(lines: Sequence[Line], theme: Theme) -> go.Figure:
    figure = go.Figure()
    for place, line in enumerate(lines):
        at = _thin(len(line.y), line.at)
        colour = selected(theme) if place == 0 else _COLOURS[place]
        name = text_of(line.name)
        figure.add_scatter(
            x=at + 1, y=100 * line.y[at], name=name, mode="lines", legendgroup=name,
            line={"color": colour, "width": 2.2, "dash": _DASHES[place]},
            hovertemplate=f"{name}, %{{x:,}} rows: %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
        if line.at and 1 <= line.at <= len(line.y):
            figure.add_scatter(
                x=[line.at], y=[100 * line.y[line.at - 1]], mode="markers", showlegend=False, legendgroup=name,
                marker={"color": colour, "size": 11, "symbol": _SYMBOLS[place],
                        "line": {"color": ink(theme), "width": 1}},
                hovertemplate=f"{name}, %{{x:,}} rows: %{{y:.1f}} %<extra></extra>",
            )  # fmt: skip
    return figure


def _told(line: Line, verb: str) -> str:
    if not line.at or not 1 <= line.at <= len(line.y) or not np.isfinite(line.y[line.at - 1]):
        return ""
    return f"{line.name} {verb} {100 * line.y[line.at - 1]:.1f} % at {line.at:,} rows."


def _thin(count: int, keep: int | None) -> Indices:
    """Positions to draw: all of a short curve, else evenly spaced ones, and that of the marked budget."""
    even = np.linspace(0, count - 1, min(count, _POINTS)).round() if count else np.empty(0)
    extra = [keep - 1] if keep and 1 <= keep <= count else []
    return np.unique(np.concatenate([even, extra])).astype(np.int64)
