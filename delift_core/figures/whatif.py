"""Curves of several selections in one chart: what each is worth at every budget, by one and the same measure.

The What-if view and the Compare page draw with it: give one `Series` for each selection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from delift_core.figures.style import CATEGORIES, Theme, finish, ink, selected, text_of
from delift_core.types import Doubles, Indices

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "cross", "pentagon", "hexagram")
MOST = len(CATEGORIES)  # curves that can still be told apart
_LINE = 17  # pixels that two end labels keep between them
_AROUND = 90  # pixels of the height that the axes take
_ROOM = 1.32  # how far the axis reaches beyond the longest curve, for the labels at the ends


@dataclass(frozen=True, eq=False)
class Series:
    """One selection as a curve."""

    label: str  # of unknown origin, as it is shown letter by letter
    sizes: Indices  # (S,) rows, ascending
    share: Doubles  # (S,) value of the first rows, as a share of a common reference; NaN is left out
    k: int | None = None  # its own budget, where it differs from the common one


def value_curves(
    series: Sequence[Series],
    k: int,
    *,
    theme: Theme = "light",
    height: int = 360,
    y: str = "% of the run's value",
    noun: str = "the run's value",
) -> go.Figure:
    """Value of the first rows of several selections against the budget, each marked at its own.

    Curves differ by dash pattern and mark as well as by colour, and carry their name at their end.

    Args:
        series: at most `MOST`; the first is the reference and is drawn strongest.
        k: the common budget, drawn as a dotted line.
        theme: "light" or "dark".
        height: in pixels.
        y: title of the axis.
        noun: what the shares are shares of, for the text that states the finding.

    Raises ValueError for more curves than can be told apart.
    """
    if len(series) > MOST:
        raise ValueError(f"{len(series)} curves cannot be told apart; {MOST} at most")
    figure = go.Figure()
    ends: list[tuple[float, float, str, str]] = []
    at: list[tuple[float, str]] = []
    low, high = math.inf, -math.inf
    longest = max((int(s.sizes[-1]) for s in series if len(s.sizes)), default=1)
    for index, one in enumerate(series):
        known = np.isfinite(one.share)
        rows, value = one.sizes[known], 100 * one.share[known]
        if not len(rows):
            continue
        colour = selected(theme) if index == 0 else CATEGORIES[index]
        name, own = text_of(one.label, 40), one.k or k
        there = float(np.interp(min(own, int(rows[-1])), rows, value))
        line = {"color": colour, "dash": DASHES[index % len(DASHES)], "width": 3.5 if index == 0 else 2.2}
        figure.add_scatter(
            x=rows, y=value, mode="lines", name=name, line=line, legendgroup=str(index),
            hovertemplate=f"{name}<br>%{{x:,}} rows: %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[min(own, int(rows[-1]))], y=[there], mode="markers", name=name, legendgroup=str(index), showlegend=False,
            marker={
                "color": colour, "symbol": MARKS[index % len(MARKS)], "size": 11,
                "line": {"color": ink(theme), "width": 1},
            },
            hovertemplate=f"{name}<br>{own:,} rows: {there:.1f} %<extra></extra>",
        )  # fmt: skip
        at.append((there, one.label))
        low, high = min(low, float(value.min())), max(high, float(value.max()))
        ends.append((float(rows[-1]), float(value[-1]), name, colour))
    if at:
        figure.add_vline(x=k, line={"color": ink(theme), "width": 1, "dash": "dot"})
        _label(figure, ends, (high - low) * _LINE / max(_LINE, height - _AROUND), theme)
        figure.update_xaxes(range=[0, longest * _ROOM])
    figure = finish(figure, theme, _finding(at, k, noun), x="rows kept", y=y, height=height)
    figure.update_layout(showlegend=False)
    return figure


def _label(figure: go.Figure, ends: Sequence[tuple[float, float, str, str]], apart: float, theme: Theme) -> None:
    """Names at the ends of the curves, `apart` from one another at least."""
    longest = max(end[0] for end in ends)
    below = {True: np.inf, False: np.inf}  # the last label at the right edge, and of curves that end before it
    for x, y, name, colour in sorted(ends, key=lambda end: -end[1]):
        short = x < 0.9 * longest
        below[short] = min(y - (2 * apart if short else 0), below[short] - apart)
        figure.add_annotation(
            x=x, y=y, ax=x + 0.03 * longest, ay=below[short], axref="x", ayref="y", xanchor="left", text=name,
            showarrow=True, arrowhead=0, arrowwidth=1, arrowcolor=colour, font={"size": 12, "color": ink(theme)},
        )  # fmt: skip


def _finding(at: Sequence[tuple[float, str]], k: int, noun: str) -> str:
    if not at:
        return "No selection has a value here."
    ranked = sorted(at, key=lambda one: -one[0])
    listed = ", ".join(f"{label} {there:.1f} %" for there, label in ranked)
    return f"At its budget ({k:,} rows where none of its own is named), each selection gives of {noun}: {listed}."
