"""What the model knows before and after: each helped row without help against with its best chosen example."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from delift_core.figures.style import REJECTED, Theme, finish, ink, number, selected, sequential
from delift_core.insight.knowledge import KNOWN, LABELS, MISSED, NEVER, TAUGHT, UNITS, UNSCORED, Knowledge
from delift_core.types import Indices

MOST_POINTS = 30_000  # beyond, a density of all rows is drawn instead
_SYMBOLS = {KNOWN: "circle", TAUGHT: "triangle-up", MISSED: "square", NEVER: "x-thin"}
_CELLS = 120  # on each side of the density


def colour(category: int, theme: Theme) -> str:
    """The colour of a category: blue known, green taught, orange missed, vermillion never, grey not scored."""
    return {
        KNOWN: selected(theme), TAUGHT: "#009E73", MISSED: "#E69F00", NEVER: "#D55E00", UNSCORED: REJECTED,
    }[category]  # fmt: skip


def before_after(found: Knowledge, *, theme: Theme = "light", height: int = 420) -> go.Figure:
    """Each row without help (x) and with its best chosen example (y); on the diagonal nothing helps.

    Rows of which no pair with the subset was scored have no y and are left out; the finding says how many.
    """
    shown = np.flatnonzero(np.isfinite(found.before) & np.isfinite(found.after))
    figure = go.Figure()
    if len(shown) > MOST_POINTS:
        counts, x, y = np.histogram2d(found.before[shown], found.after[shown], bins=_CELLS)
        figure.add_heatmap(
            x=(x[:-1] + x[1:]) / 2, y=(y[:-1] + y[1:]) / 2, colorscale=sequential(),
            z=np.where(counts > 0, np.log10(np.maximum(counts, 1)), np.nan).T.astype(np.float32),
            colorbar={"title": {"text": "rows"}, "tickvals": list(range(6)), "thickness": 12,
                      "ticktext": ["1", "10", "100", "1k", "10k", "100k"]},
            hovertemplate="before %{x:.3g}, after %{y:.3g}<extra></extra>",
        )  # fmt: skip
    else:
        for category, symbol in _SYMBOLS.items():
            of = shown[found.categories[shown] == category]
            if len(of):
                line = {"width": 1.6 if symbol == "x-thin" else 0.4, "color": colour(category, theme)}
                figure.add_scattergl(
                    x=found.before[of].astype(np.float32), y=found.after[of].astype(np.float32), mode="markers",
                    name=LABELS[category], hovertemplate="before %{x:.3g}, after %{y:.3g}<extra></extra>",
                    marker={"color": colour(category, theme), "symbol": symbol, "size": 7, "opacity": 0.75,
                            "line": line},
                )  # fmt: skip
    if len(shown):
        _guides(figure, found, shown, theme)
    unit = UNITS[found.kind]
    figure = finish(
        figure, theme, _finding(found, len(shown)), x=f"{unit}, without help", y="with the best chosen example",
        height=height,
    )  # fmt: skip
    return figure


def counts(found: Knowledge, *, theme: Theme = "light", height: int = 290) -> go.Figure:
    """How many rows are in each category; its name stands above each bar, where it takes no width from the bars."""
    numbers, shares = found.counts, found.shares
    listed = [c for c in range(len(LABELS)) if numbers[c] or c != UNSCORED][::-1]
    figure = go.Figure()
    figure.add_bar(
        y=[LABELS[c] for c in listed], x=[int(numbers[c]) for c in listed], orientation="h",
        text=[f"{numbers[c]:,} ({100 * shares[c]:.0f} %)" for c in listed], textposition="outside", cliponaxis=False,
        marker={"color": [colour(c, theme) for c in listed]}, hovertemplate="%{y}: %{x:,}<extra></extra>",
    )  # fmt: skip
    alt = "; ".join(f"{LABELS[c]} {numbers[c]:,} rows ({100 * shares[c]:.0f} %)" for c in listed[::-1])
    figure = finish(figure, theme, f"{alt}.", x="rows", y="", height=height)
    for category in listed:
        figure.add_annotation(
            x=0, y=LABELS[category], text=LABELS[category], showarrow=False, xanchor="left", yanchor="bottom",
            yshift=0.2 * height / len(listed) / 2, font={"color": ink(theme)},
        )  # fmt: skip
    figure.update_layout(showlegend=False, bargap=0.6)
    figure.update_yaxes(showticklabels=False, showgrid=False)
    figure.update_xaxes(range=[0, 1.4 * max(1, int(numbers.max()))])
    return figure


def _guides(figure: go.Figure, found: Knowledge, shown: Indices, theme: Theme) -> None:
    low, high = float(found.before[shown].min()), float(found.before[shown].max())
    known, gain = found.thresholds.known, found.thresholds.gain
    line = {"color": ink(theme), "width": 1}
    for name, drop, dash in (("nothing helps", 0.0, "solid"), (f"saves {number(gain)}", gain, "dot")):
        ends = np.array([max(low, min(drop, high)), high])  # nothing can save more than there is
        figure.add_scatter(
            x=ends, y=ends - drop, mode="lines", name=name, line={**line, "dash": dash}, hoverinfo="skip"
        )  # fmt: skip
    if low <= known <= high:
        figure.add_vline(x=known, line={**line, "dash": "dash"}, annotation_text="known", annotation_font_size=12,
                         annotation_position="bottom left")  # fmt: skip


def _finding(found: Knowledge, shown: int) -> str:
    left = len(found.before) - shown
    if not shown:
        return "No row has a pair with the subset that was scored."
    said = found.sentences[1]
    return f"{shown:,} rows before and after. {said}" + (f" {left:,} rows are not shown." if left else "")
