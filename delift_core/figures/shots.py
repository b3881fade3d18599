"""Several examples together: what sets really give, beside what their best member and the pairs say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from delift_core.figures.style import REJECTED, Theme, finish, number, selected

_UNITS = {"l2": "utility, distance saved", "pmi": "utility, nats per token"}
_LINES = (  # field of a summary, name, colour, dash, mark and its size: the two last often stand in one place
    ("control", "as many random picks together", REJECTED, "dot", "x", 9),
    ("best", "the best example alone", "#E69F00", "dash", "square", 14),
    ("predicted_max", "what pairs predict", "#009E73", "dashdot", "diamond", 9),
)


def shots(record: Mapping[str, Any], *, theme: Theme = "light", height: int = 320) -> go.Figure:
    """True utility of k examples shown together, with 95 % intervals over rows, against k.

    Beside it the best example alone, as many random members of the selection, and what pairwise utilities predict by
    their largest (facility location).  `record` is `MultiShotUtility.to_json()`; a number that is missing there is left
    out.
    """
    kind = record["kind"]
    summary: Sequence[Mapping[str, Any]] = record[kind]["summary"]
    places = [str(told["shots"]) for told in summary]
    figure = go.Figure()
    for name, label, colour, dash, mark, size in _LINES:
        values = [told[name] for told in summary]
        if any(value is not None for value in values):
            figure.add_scatter(
                x=places, y=values, name=label, mode="lines+markers", line={"color": colour, "dash": dash, "width": 2},
                marker={"symbol": mark, "size": size}, hovertemplate=label + ": %{y:.4g}<extra></extra>",
            )  # fmt: skip
    together = [told["together"] for told in summary]
    figure.add_scatter(
        x=places, y=together, name="these examples together", mode="lines+markers",
        line={"color": selected(theme), "width": 3}, marker={"symbol": "circle", "size": 10},
        error_y={
            "type": "data", "symmetric": False, "thickness": 2, "width": 8,
            "array": [_reach(told, 1) for told in summary], "arrayminus": [-_reach(told, 0) for told in summary],
        },
        customdata=[[told["rows"]] for told in summary],
        hovertemplate="together: %{y:.4g} over %{customdata[0]:,} rows<extra></extra>",
    )  # fmt: skip
    figure = finish(figure, theme, _finding(summary), x="examples shown together", y=_UNITS[kind], height=height)
    figure.update_xaxes(type="category")
    return figure


def _reach(told: Mapping[str, Any], end: int) -> float:
    """How far the interval reaches from the mean, down (0) or up (1); 0 where one row gives no interval."""
    at = told["interval"][end]
    return 0.0 if at is None else float(at - told["together"])


def _finding(summary: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for told in summary:
        low, high = told["interval"]
        interval = "" if low is None else f" ({number(low)} to {number(high)})"
        against = f"the best alone {number(told['best'])}"
        if told["predicted_max"] is not None:
            against += f", predicted by pairs {number(told['predicted_max'])}"
        parts.append(f"{told['shots']} together {number(told['together'])}{interval}, {against}")
    rows = summary[0]["rows"]
    return f"Mean utility over {rows:,} {'row' if rows == 1 else 'rows'}: {'; '.join(parts)}."
