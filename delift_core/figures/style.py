"""Colours, layout and the sentence that says what a figure shows.  Okabe-Ito roles; never by colour alone."""

from __future__ import annotations

import html
from typing import Literal

import plotly.graph_objects as go

Theme = Literal["light", "dark"]

SELECTED, REJECTED, TARGET, EXISTING = "#0072B2", "#BBBBBB", "#CC79A7", "#D55E00"
CATEGORIES = (  # Okabe-Ito first, then Tol's muted; the tenth stands for "other"
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800", "#882255", "#44AA99", "#888888",
)  # fmt: skip
CIVIDIS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")
_PUOR = {
    "light": ("#7f3b08", "#b35806", "#e08214", "#fdb863", "#f2f0f0", "#b2abd2", "#8073ac", "#542788", "#2d004b"),
    # The same hues around a dark middle: a white one would outshine both ends.
    "dark": ("#ffd29b", "#fdb863", "#e08214", "#8a4a12", "#23262f", "#4a3d7c", "#8073ac", "#b2abd2", "#e0dcf2"),
}
_INK = {"light": "#31333f", "dark": "#e6e8ec"}
_LINE = {"light": "#d5d8de", "dark": "#3c414c"}


def ink(theme: Theme) -> str:
    """Colour of text and of marks that must stand out."""
    return _INK[theme]


def selected(theme: Theme) -> str:
    """The colour of what was selected; on a dark page the lighter blue of the same family, for contrast."""
    return SELECTED if theme == "light" else "#4aa8e0"


def diverging(theme: Theme) -> list[list[float | str]]:
    """PuOr as a plotly scale: orange below the middle, purple above it."""
    steps = _PUOR[theme]
    return [[i / (len(steps) - 1), colour] for i, colour in enumerate(steps)]


def sequential() -> list[list[float | str]]:
    """Cividis as a plotly scale."""
    return [[i / (len(CIVIDIS) - 1), colour] for i, colour in enumerate(CIVIDIS)]


def finish(figure: go.Figure, theme: Theme, alt: str, *, x: str, y: str, height: int = 320) -> go.Figure:
    """Give a figure the common looks, and keep in `layout.meta` the sentence that states its finding."""
    line = {"gridcolor": _LINE[theme], "linecolor": _LINE[theme], "zerolinecolor": _LINE[theme], "automargin": True}
    figure.update_xaxes(**line)
    figure.update_yaxes(**line)
    figure.update_layout(
        meta={"alt": alt},
        height=height,
        margin={"l": 8, "r": 8, "t": 34, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _INK[theme], "size": 13},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"align": "left"},
    )
    figure.update_layout(xaxis={"title": {"text": x}}, yaxis={"title": {"text": y}})
    return figure


def alt_of(figure: go.Figure) -> str:
    """The sentence that states a figure's finding, for screen readers and captions."""
    return str(figure.layout.meta["alt"])


def text_of(value: str, length: int = 60) -> str:
    """Text of unknown origin for a plotly label: shortened, and shown letter by letter instead of as markup."""
    line = " ".join(str(value).split())
    return html.escape(line if len(line) <= length else line[: length - 1] + "…")


def number(value: float) -> str:
    """Three digits, or a dash where there is no number."""
    return f"{value:.3g}" if value == value else "–"
