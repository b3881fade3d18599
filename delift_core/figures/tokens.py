"""The tokens of a response, coloured by how much an example changed their probability, and the same as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from delift_core.figures.style import Theme, diverging, finish, number, text_of
from delift_core.insight.tokens import NOTICED, change, table

SHOWN = 512  # tokens
STRONG = 0.25  # change of a probability that gets the thicker mark
_UP: dict[Theme, str] = {"light": "#542788", "dark": "#b2abd2"}
_DOWN: dict[Theme, str] = {"light": "#b35806", "dark": "#fdb863"}
_LEGEND = (-0.5, -0.1, 0.0, 0.1, 0.5)


def shade(rise: float, theme: Theme) -> tuple[str, str]:
    """Background and ink for a change of a probability in [-1, 1], as #rrggbb.

    PuOr centred at 0, by the root of the change, so that small ones show; the ink is black or white, whichever stands
    out more, which is at least 4.58 : 1 on any colour (WCAG 2.2 asks 4.5 of text).
    """
    steps = [_rgb(str(colour)) for _, colour in diverging(theme)]
    place = (math.copysign(math.sqrt(min(1.0, abs(rise))), rise) + 1) / 2 * (len(steps) - 1)
    low = min(int(place), len(steps) - 2)
    mixed = [round(a + (place - low) * (b - a)) for a, b in zip(steps[low], steps[low + 1], strict=True)]
    return "#" + "".join(f"{c:02x}" for c in mixed), "#000000" if _luminance(mixed) > 0.179 else "#ffffff"


def message(tokens: Sequence[Mapping[str, Any]], *, label: str, theme: Theme = "light") -> dict[str, Any]:
    """What the browser draws: the first SHOWN tokens with text, colours, mark and title, and the legend.

    A mark is 0 for a change below NOTICED, else 1, or 2 from STRONG on; negative where the probability fell.
    Texts are of unknown origin: they travel as they are, and the browser takes them as text.
    """
    shown = tokens[:SHOWN]
    columns = table(shown)
    drawn = []
    for token, p, q, rise in zip(shown, columns["before"], columns["after"], columns["change"], strict=True):
        paper, ink = shade(rise, theme)
        title = f"p {change(p, q)}" + (f", {token['count']} tokens together" if token["count"] > 1 else "")
        drawn.append(
            {
                "text": token["text"],
                "end": token["end"],
                "paper": paper,
                "ink": ink,
                "mark": _mark(rise),
                "title": title,
            }
        )
    legend = [
        {"text": f"{rise:+.1f}" if rise else "0", "paper": paper, "ink": ink, "mark": _mark(rise)}
        for rise in _LEGEND
        for paper, ink in [shade(rise, theme)]
    ]
    return {"label": label, "tokens": drawn, "legend": legend}


def changes(tokens: Sequence[Mapping[str, Any]], *, theme: Theme = "light", height: int = 260) -> go.Figure:
    """By how much the example changed the probability of each of the first SHOWN tokens, by its place."""
    columns = table(tokens[:SHOWN])
    rise, names = columns["change"], [text_of(name, 24) for name in columns["token"]]
    figure = go.Figure()
    for label, colour, sign in (("rose", _UP[theme], 1), ("fell", _DOWN[theme], -1)):
        places = [t for t, value in enumerate(rise) if value * sign > 0]
        figure.add_bar(
            x=[t + 1 for t in places], y=[rise[t] for t in places], name=label, width=0.9,
            marker={"color": colour, "line": {"width": 0}},
            customdata=[[names[t], change(columns["before"][t], columns["after"][t])] for t in places],
            hovertemplate="%{x}: %{customdata[0]}<br>p %{customdata[1]}<extra></extra>",
        )  # fmt: skip
    means = [number(sum(columns[side]) / len(rise)) for side in ("before", "after")]
    best = max(range(len(rise)), key=lambda t: rise[t])
    finding = (
        f"Mean probability of {len(rise):,} tokens {means[0]} without the example, {means[1]} with it; the largest "
    )
    finding += f"change upwards is {rise[best]:+.2f} at token {best + 1}, {columns['token'][best]}."
    figure = finish(figure, theme, finding, x="token of the response", y="change of probability", height=height)
    figure.update_layout(bargap=0, barmode="overlay")
    return figure


def _mark(rise: float) -> int:
    size = (abs(rise) >= NOTICED) + (abs(rise) >= STRONG)
    return size if rise > 0 else -size


def _rgb(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def _luminance(rgb: Sequence[int]) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
