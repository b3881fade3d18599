"""Utilities as heatmaps: rows are helped, columns help; 0 is the middle of the colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from delift_core.figures.style import Theme, diverging, finish, number, sequential, text_of
from delift_core.insight.overview import Overview
from delift_core.types import Floats

UNITS = {"l2": "distance saved", "pmi": "nats per token", "cosine": "cosine", "centred": "cosine above the row's mean"}
_TITLES = {"mean": "mean", "max": "maximum", "share": "share above 0"}


def heatmap(
    view: Overview,
    kind: str,
    *,
    theme: Theme = "light",
    height: int = 560,
    row_order: str = "by cluster, then by pick",
    column_order: str = "by cluster, then by pick",
) -> go.Figure:
    """The overview of a utility: one cell per block of helped rows and candidates, at most 400 x 400.

    `kind` is the utility's ("l2", "pmi", "cosine"); the share above 0 has a scale of its own, from 0 to 1.  The orders
    say how rows and columns were arranged.
    """
    values = view.values
    share = view.how == "share"
    label = "share of pairs above 0" if share else f"{_TITLES[view.how]} {UNITS.get(kind, kind)}"
    scale = {"colorscale": _shares(theme), "zmin": 0.0, "zmax": 1.0} if share else _centred(values, theme)
    what = "pair" if view.exact else "block"
    figure = go.Figure(
        go.Heatmap(
            z=values, hoverongaps=False, colorbar={"title": {"text": label, "side": "right"}, "thickness": 14},
            hovertemplate=f"{what} (%{{y}}, %{{x}}): %{{z:.4g}}<extra></extra>", **scale,
        )
    )  # fmt: skip
    known = values[~np.isnan(values)]
    finding = "No pair is stored."
    if len(known):
        stored = "pairs" if view.exact else "blocks"
        if share:
            finding = f"Mean share of pairs above 0 over {len(known):,} {stored}: {100 * known.mean():.0f} %."
        else:
            low, high = number(float(known.min())), number(float(known.max()))
            above = 100 * (known > 0).mean()
            finding = f"{above:.0f} % of {len(known):,} {stored} are above 0; they run from {low} to {high}."
    rows, columns = len(view.rows), len(view.columns)
    finding = f"Utility of {columns:,} candidates for {rows:,} rows. {finding}"
    figure = finish(
        figure, theme, finding, height=height,
        x=f"{columns:,} candidates: {column_order}", y=f"{rows:,} helped rows: {row_order}",
    )  # fmt: skip
    figure.update_xaxes(showticklabels=False, showgrid=False, zeroline=False, constrain="domain")
    figure.update_yaxes(showticklabels=False, showgrid=False, zeroline=False, autorange="reversed")
    return figure


def exact_heatmap(
    values: Floats,
    row_names: Sequence[str],
    column_names: Sequence[str],
    kind: str,
    *,
    theme: Theme = "light",
    height: int = 460,
) -> go.Figure:
    """The single pairs (r, c) of one block.  Names are row ids: text of unknown origin, shown letter by letter."""
    rows, columns = [text_of(n, 24) for n in row_names], [text_of(n, 24) for n in column_names]
    pairs = [[[row, column] for column in columns] for row in rows]
    figure = go.Figure(
        go.Heatmap(
            z=values, x=np.arange(len(columns)), y=np.arange(len(rows)), customdata=pairs, hoverongaps=False,
            colorbar={"title": {"text": UNITS.get(kind, kind), "side": "right"}, "thickness": 14},
            hovertemplate="row %{customdata[0]}<br>candidate %{customdata[1]}<br>%{z:.4g}<extra></extra>",
            **_centred(values, theme),
        )
    )  # fmt: skip
    known = values[~np.isnan(values)]
    span = ", none of them stored"
    if len(known):
        span = f" from {number(float(known.min()))} to {number(float(known.max()))}"
    figure = finish(figure, theme, f"{values.size:,} single pairs{span}.", height=height, x="candidate", y="helped row")
    for axis, names in ((figure.update_xaxes, columns), (figure.update_yaxes, rows)):
        every = max(1, -(-len(names) // 30))
        at = list(range(0, len(names), every))
        axis(tickvals=at, ticktext=[names[i] for i in at], showgrid=False, zeroline=False)
    figure.update_yaxes(autorange="reversed")
    return figure


def _shares(theme: Theme) -> list[list[float | str]]:
    """Cividis; on a dark page without its darkest steps, so that a share of 0 does not look like a gap."""
    colours = [colour for _, colour in sequential()]
    used = colours[2:] if theme == "dark" else colours
    return [[i / (len(used) - 1), colour] for i, colour in enumerate(used)]


def _centred(values: Floats, theme: Theme) -> dict[str, object]:
    """Colours centred at 0 that span 99 % of the values, so that one outlier does not wash out the rest."""
    known = np.abs(values[~np.isnan(values)])
    reach = float(np.quantile(known, 0.99)) if len(known) else 1.0
    reach = reach or float(known.max(initial=0.0)) or 1.0
    return {"colorscale": diverging(theme), "zmin": -reach, "zmax": reach, "zmid": 0.0}
