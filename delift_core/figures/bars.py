"""Histograms: how helped each row is, how helpful each candidate, how long the texts are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from delift_core.figures.style import REJECTED, Theme, finish, ink, number, selected
from delift_core.types import Doubles

_BINS = 40


def histogram(
    values: Doubles,
    *,
    label: str,
    noun: str = "rows",
    chosen: NDArray[np.bool_] | None = None,
    theme: Theme = "light",
    height: int = 240,
) -> go.Figure:
    """How values (n,) are spread; NaN is left out.  With `chosen` (n,), the chosen part stands in front in blue."""
    known = np.isfinite(values)
    data = values[known]
    figure = go.Figure()
    finding = f"No {noun} with a value for {label}."
    if len(data):
        edges = np.histogram_bin_edges(data, bins=min(_BINS, max(1, len(np.unique(data)))))
        width, middle = np.diff(edges), (edges[:-1] + edges[1:]) / 2
        whole = f"all {noun}" if chosen is not None else noun
        parts = [(whole, data, REJECTED if chosen is not None else selected(theme))]
        if chosen is not None:
            parts.append((f"selected {noun}", data[chosen[known]], selected(theme)))
        for name, part, colour in parts:
            counts = np.histogram(part, edges)[0]
            figure.add_bar(
                x=middle, y=counts, width=width, name=name, marker={"color": colour, "line": {"width": 0}},
                hovertemplate="%{x:.3g}: %{y:,} " + noun + "<extra></extra>",
            )  # fmt: skip
        finding = f"Median {label} {number(float(np.median(data)))} over {len(data):,} {noun}"
        below = int((data < 0).sum())
        finding += f"; {below:,} ({100 * below / len(data):.0f} %) are below 0." if below else "; none is below 0."
        if below and below < len(data):
            figure.add_vline(x=0, line={"color": ink(theme), "width": 1, "dash": "dot"})
    figure = finish(figure, theme, finding, x=label, y=noun, height=height)
    figure.update_layout(barmode="overlay", bargap=0.04, showlegend=chosen is not None)
    return figure


class Histogram(Protocol):
    """Counts of lengths in bins, as `data.checks` makes them."""

    @property
    def edges(self) -> Sequence[float]:
        """(b + 1,) ends of the bins."""

    @property
    def counts(self) -> Sequence[int]:
        """(b,) rows in each bin."""

    @property
    def median(self) -> float:
        """Of all rows."""

    @property
    def largest(self) -> int:
        """Of all rows."""


class Lengths(Protocol):
    """How long a dataset's texts are; `data.checks.Profile` is one."""

    @property
    def prompt_chars(self) -> Histogram:
        """Of the prompts."""

    @property
    def response_chars(self) -> Histogram | None:
        """Of the responses; None where no row has one."""


def lengths(found: Lengths, *, theme: Theme = "light", height: int = 280) -> go.Figure:
    """How long prompts and responses are, in characters, on a logarithmic axis."""
    figure = go.Figure()
    said = []
    parts = (("prompt", found.prompt_chars, "#E69F00", "/"), ("response", found.response_chars, selected(theme), ""))
    for name, part, colour, pattern in parts:
        if part is None or not any(part.counts):
            continue
        edges = np.log10(np.maximum(np.asarray(part.edges, dtype=np.float64), 1))
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2, y=list(part.counts), width=np.diff(edges), name=name, opacity=0.75,
            marker={"color": colour, "line": {"width": 0}, "pattern": {"shape": pattern}},
            customdata=np.column_stack([part.edges[:-1], part.edges[1:]]),
            hovertemplate="%{customdata[0]:,.0f} to %{customdata[1]:,.0f} characters: %{y:,} rows<extra></extra>",
        )  # fmt: skip
        said.append(f"{name} {part.median:,.0f} (longest {part.largest:,})")
    finding = f"Median characters: {', '.join(said)}." if said else "There is no text."
    figure = finish(figure, theme, finding, x="characters", y="rows", height=height)
    figure.update_layout(barmode="overlay", bargap=0.04)
    figure.update_xaxes(tickvals=list(range(8)), ticktext=["1", "10", "100", "1,000", "10k", "100k", "1M", "10M"])
    return figure
