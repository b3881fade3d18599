"""Value against budget, and what each pick added."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from delift_core.figures.style import REJECTED, Theme, finish, ink, number, selected
from delift_core.types import Indices, Selection

_POINTS = 1_000  # of a long curve that are drawn


def curve(
    selection: Selection,
    k: int | None,
    *,
    knee: int | None = None,
    tokens: Indices | None = None,
    theme: Theme = "light",
    height: int = 320,
) -> go.Figure:
    """The value of the first 1..K picks, cut at budget k; whole where k is None.

    Args:
        selection: picks with cumulative value; shown as percent of the whole pool's value where that is known.
        k: the budget; what lies left of it is kept.  None: the same figure for every budget, to be marked on top.
        knee: where the curve bends, from `insight.curve.knee`.
        tokens: (K,) tokens of the first 1..K picks; adds a second axis on top.
        theme: "light" or "dark".
        height: in pixels.
    """
    count, full = len(selection), selection.full_value
    relative = bool(np.isfinite(full) and full > 0)
    value = selection.value / full * 100 if relative else selection.value
    at = _thin(count, tuple(budget for budget in (k, knee) if budget))
    unit = " %" if relative else ""
    figure = go.Figure()
    for name, part, colour, fill in _parts(at, k, theme, one_before=True):
        if len(part):
            figure.add_scatter(
                x=part + 1, y=value[part], name=name, mode="lines", fill=fill, line={"color": colour, "width": 2.5},
                hovertemplate="%{x:,} rows: %{y:.4g}" + unit + "<extra></extra>",
            )  # fmt: skip
    whole = f"{number(float(value[-1]))}{unit}" if count else "nothing"
    finding = f"Value against budget: {whole} with all {count:,} rows of the order."
    if k is not None and 1 <= k <= count:
        figure.add_scatter(
            x=[k], y=[value[k - 1]], name=f"budget: {k:,} rows", mode="markers",
            marker={"color": ink(theme), "size": 10, "symbol": "circle"},
            hovertemplate=f"{k:,} rows: {number(float(value[k - 1]))}{unit}<extra></extra>",
        )  # fmt: skip
        figure.add_vline(x=k, line={"color": ink(theme), "width": 1, "dash": "dot"})
        there = float(value[k - 1])
        share = f"{there:.1f} % of the whole pool's value" if relative else f"a value of {number(there)}"
        finding = f"{k:,} of {count:,} rows in pick order give {share}."
    if knee is not None and 1 <= knee <= count:
        figure.add_scatter(
            x=[knee], y=[value[knee - 1]], name=f"knee: {knee:,} rows", mode="markers",
            marker={"color": "#E69F00", "size": 11, "symbol": "diamond", "line": {"color": ink(theme), "width": 1}},
            hovertemplate=f"knee, {knee:,} rows: {number(float(value[knee - 1]))}{unit}<extra></extra>",
        )  # fmt: skip
        finding += f" The curve bends at {knee:,} rows."
    if tokens is not None and count:
        _token_axis(figure, tokens, count, theme)
    figure = finish(figure, theme, finding, x="rows kept", y="% of full value" if relative else "value", height=height)
    if tokens is not None:
        figure.update_layout(margin={"t": 92}, legend={"y": 1.0, "yref": "container", "yanchor": "top"})
    figure.update_yaxes(rangemode="tozero")
    return figure


def gain_curve(selection: Selection, k: int | None, *, theme: Theme = "light", height: int = 260) -> go.Figure:
    """What each pick added to the value, in pick order; logarithmic where every gain is above 0.

    It is cut at budget k; with None it is the same figure for every budget, to be marked on top.
    """
    count = len(selection)
    at = _thin(count, (k,) if k else ())
    gains = selection.gains
    figure = go.Figure()
    for name, part, colour, _ in _parts(at, k, theme):
        if len(part):
            figure.add_scatter(
                x=part + 1, y=gains[part], name=name, mode="lines", line={"color": colour, "width": 2},
                hovertemplate="pick %{x:,}: %{y:.4g}<extra></extra>",
            )  # fmt: skip
    finding = f"Gain of each of {count:,} picks."
    if k is not None and 1 <= k <= count:
        figure.add_vline(x=k, line={"color": ink(theme), "width": 1, "dash": "dot"})
        first, last = number(float(gains[0])), number(float(gains[k - 1]))
        finding = f"The first pick adds {first}, the last of {k:,} adds {last}."
    figure = finish(figure, theme, finding, x="pick", y="gain of the pick", height=height)
    positive = gains[gains > 0]
    if len(positive) == count and count and positive.max() > 10 * positive.min():
        figure.update_yaxes(type="log", exponentformat="power")
    return figure


def _parts(
    at: Indices, k: int | None, theme: Theme, *, one_before: bool = False
) -> tuple[tuple[str, Indices, str, str | None], ...]:
    """Name, positions, colour and filling of what is kept and of what is not; one part where there is no budget.

    With `one_before` the second part starts at the last kept pick, so that the line has no gap.
    """
    if k is None:
        return (("all picks", at, selected(theme), "tozeroy"),)
    beyond = at[at >= max(0, k - one_before)]
    return (("kept", at[at < k], selected(theme), "tozeroy"), ("beyond the budget", beyond, REJECTED, None))


def _thin(count: int, keep: tuple[int, ...]) -> Indices:
    """Positions to draw: all of a short curve, else evenly spaced ones, and those of the budgets in `keep`."""
    even = np.linspace(0, count - 1, min(count, _POINTS)).round() if count else np.empty(0)
    extra = [p for k in keep for p in (k - 1, k) if 0 <= p < count]
    return np.unique(np.concatenate([even, extra])).astype(np.int64)


def _token_axis(figure: go.Figure, tokens: Indices, count: int, theme: Theme) -> None:
    """A second axis on top that reads the same budgets in tokens."""
    rows = np.unique(np.linspace(1, count, 5).round().astype(np.int64))
    figure.add_scatter(x=[1, count], y=[0, 0], xaxis="x2", mode="lines", opacity=0, showlegend=False, hoverinfo="skip")
    figure.update_layout(
        xaxis2={
            "overlaying": "x", "side": "top", "matches": "x", "showgrid": False, "tickvals": rows.tolist(),
            "ticktext": [_short(int(tokens[r - 1])) for r in rows], "title": {"text": "tokens kept", "standoff": 4},
        }
    )  # fmt: skip


def _short(count: int) -> str:
    for size, suffix in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.3g}{suffix}"
    return str(count)
