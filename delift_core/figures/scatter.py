"""The map as one static figure for a report: selected against rejected rows, beside target and existing rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from delift_core.figures.style import EXISTING, TARGET, Theme, finish, ink, selected
from delift_core.types import Floats, Indices

MOST = 30_000  # points of one figure
FEW = 4_000  # up to here points are drawn without WebGL
_LEFT_OUT: dict[Theme, str] = {"light": "#8b8f94", "dark": "#868d96"}  # 3 to 1 on the page: there is no zoom on paper
_STRETCH, _WIDTH = 1.6, 1_000  # directions mean nothing on such a map; pixels of a page
_CELLS = 64  # on each side of the grid that the rest is spread over


def shown(places: Floats, chosen: NDArray[np.bool_], most: int = MOST) -> Indices:
    """Rows to draw, at most `most`: the chosen ones first, then others spread evenly over the map; ascending."""
    kept, rest = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    kept = _spread(places, kept, most)
    return np.sort(np.concatenate([kept, _spread(places, rest, most - len(kept))])).astype(np.int64)


def _spread(places: Floats, rows: Indices, count: int) -> Indices:
    """So many of the rows, every part of the map in proportion to its rows."""
    if len(rows) <= count:
        return rows
    xy = places[rows].astype(np.float64)
    low, side = xy.min(axis=0), np.maximum(np.ptp(xy, axis=0), 1e-9)
    cell = np.minimum((xy - low) / side * _CELLS, _CELLS - 1).astype(np.int64)
    order = np.lexsort((rows, cell[:, 1], cell[:, 0]))
    return rows[order[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]] if count else rows[:0]


def scatter(
    places: Mapping[str, Floats],
    chosen: NDArray[np.bool_],
    rank: Indices,
    *,
    theme: Theme = "light",
    most: int = MOST,
    height: int = 560,
) -> go.Figure:
    """The rows as points: circles for rejected and larger squares for selected rows, triangles, crosses for the others.

    Args:
        places: coordinates (rows, 2) of "pool" and, where there are any, "target" and "existing".
        chosen: (n,) which pool rows are selected.
        rank: (n,) pick number of each pool row from 0, -1 for none; shown when the pointer rests on a selected row.
        theme: "light" or "dark".
        most: points drawn at most; target and existing rows get a tenth each.
        height: in pixels.
    """
    pool, others = places["pool"], [part for part in ("target", "existing") if part in places]
    drawn = {part: _spread(places[part], np.arange(len(places[part])), most // 10) for part in others}
    rows = shown(pool, chosen, most - sum(len(part) for part in drawn.values()))
    points = go.Scattergl if len(rows) + sum(map(len, drawn.values())) > FEW else go.Scatter
    figure = go.Figure()
    size = {"size": 6, "line": {"width": 0.5, "color": ink(theme)}} if points is go.Scatter else {"size": 3}
    kept, left = rows[chosen[rows]], rows[~chosen[rows]]
    marks = {"target": ("triangle-up", TARGET), "existing": ("x-thin-open", EXISTING)}
    figure.add_trace(points(
        x=_of(pool, left, 0), y=_of(pool, left, 1), mode="markers", name="rejected", hoverinfo="skip",
        marker={"color": _LEFT_OUT[theme], "size": 4.5, "opacity": 0.8, "symbol": "circle"},
    ))  # fmt: skip
    figure.add_trace(points(
        x=_of(pool, kept, 0), y=_of(pool, kept, 1), mode="markers", name="selected",
        customdata=(rank[kept] + 1).astype(np.int32), hovertemplate="pick %{customdata:,}<extra></extra>",
        marker={"color": selected(theme), "symbol": "square", **size},
    ))  # fmt: skip
    for part in others:
        symbol, colour = marks[part]
        figure.add_trace(points(
            x=_of(places[part], drawn[part], 0), y=_of(places[part], drawn[part], 1), mode="markers", name=part,
            hoverinfo="skip", marker={"color": colour, "size": 6, "opacity": 0.8, "symbol": symbol},
        ))  # fmt: skip
    total = len(pool) + sum(len(places[part]) for part in others)
    count = len(rows) + sum(map(len, drawn.values()))
    finding = f"Map of {len(pool):,} rows; {int(chosen.sum()):,} are selected."
    if others:
        finding += " " + " ".join(f"{len(places[part]):,} {part} rows stand beside them." for part in others)
    if count < total:
        what = "all selected ones" if len(kept) == int(chosen.sum()) else f"{len(kept):,} of the selected ones"
        finding += f" {count:,} of {total:,} points are drawn: {what}, and the rest spread evenly over the map."
    figure = finish(figure, theme, finding, x="", y="", height=height)
    figure.update_layout(legend_itemsizing="constant")
    figure.update_xaxes(showticklabels=False, showgrid=False, zeroline=False)
    figure.update_yaxes(
        showticklabels=False, showgrid=False, zeroline=False, scaleanchor="x",
        scaleratio=_ratio([pool, *(places[part] for part in others)], height),
    )  # fmt: skip
    return figure


def _ratio(places: Sequence[Floats], height: int) -> float:
    """How much longer a unit is upwards than across, so that the points fill a page; at most `_STRETCH` either way."""
    every = np.concatenate(places).astype(np.float64)
    across, up = np.maximum(np.ptp(every, axis=0), 1e-9) if len(every) else (1.0, 1.0)
    return float(np.clip(height * across / (_WIDTH * up), 1 / _STRETCH, _STRETCH))


def _of(places: Floats, rows: Indices, axis: int) -> Floats:
    return np.ascontiguousarray(places[rows, axis], dtype=np.float32)
