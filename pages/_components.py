"""Our own components: the map's canvas and the clicks of a heatmap.  Registered once, when this module is imported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import streamlit as st

_ASSETS = Path(__file__).parents[1] / "assets"
_MAP_HTML = """
<div class="map">
  <div class="tools" role="toolbar" aria-label="Map tools">
    <button type="button" data-tool="pan" aria-pressed="true" title="Drag moves the map">Move</button>
    <button type="button" class="more" data-tool="lasso" aria-pressed="false"
      title="Drag outlines rows (key l, or Shift)">Lasso</button>
    <button type="button" data-tool="in" title="Zoom in (key +)" aria-label="Zoom in">+</button>
    <button type="button" data-tool="out" title="Zoom out (key -)" aria-label="Zoom out">&#8722;</button>
    <button type="button" data-tool="all" title="Show everything (key 0)">All</button>
  </div>
  <div class="plane">
    <canvas tabindex="0" role="application" aria-roledescription="map" aria-label="Map of the rows"
      aria-describedby="keys"></canvas>
    <div class="tip" hidden></div>
  </div>
  <div class="legend"></div>
  <p class="keys" id="keys">Keys on the map: <kbd>arrows</kbd> move, <kbd>+</kbd> <kbd>-</kbd> zoom,
    <kbd>0</kbd> all, <kbd>Enter</kbd> the row nearest the middle<span class="more">, <kbd>n</kbd> <kbd>p</kbd> next and
    previous pick, <kbd>l</kbd> lasso</span>.</p>
  <div class="said" role="status"></div>
</div>
"""


def _text(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


_MAP_JS = _text("map.js") + _text("map_paint.js")
_canvas = st.components.v2.component("delift_map", html=_MAP_HTML, css=_text("map.css"), js=_MAP_JS)
# The same script under a second name: it carries only the layer, so that the geometry is not sent with it.
_layer = st.components.v2.component("delift_map_layer", js=_MAP_JS)
_clicks = st.components.v2.component("delift_plot_clicks", js=_text("plot_click.js"))
_cut = st.components.v2.component("delift_curve_cut", js=_text("curve_cut.js"))


def _nothing() -> None:
    """A callback for what a page does not answer."""


def map_canvas(
    geometry: bytes,
    *,
    key: str,
    on_focus: Callable[[], None],
    on_outline: Callable[[], None] = _nothing,
    on_step: Callable[[], None] = _nothing,
) -> None:
    """The map's canvas.

    Callbacks find what happened in `st.session_state[key]`: `focus` (a pool row), `outline` (corners in map
    coordinates) or `step` (1: the next pick, -1: the one before).
    """
    _canvas(data=geometry, key=key, on_focus_change=on_focus, on_outline_change=on_outline, on_step_change=on_step)


def map_layer(layer: bytes, *, key: str) -> None:
    """Colours, budget, focus and outline for the canvas with the same key in its message; draws nothing itself."""
    _layer(data=layer, key=key)


def curve_cut(charts: Mapping[str, float], k: int, *, key: str) -> None:
    """A line at budget k across plotly charts, what lies beyond it paler; the charts themselves do not change.

    `charts` gives for each chart's element key the height at which its curve is cut (NaN: no mark).
    """
    marks = [{"chart": chart, "y": None if math.isnan(y) else y} for chart, y in charts.items()]
    _cut(data={"k": k, "charts": marks}, key=key)


def heatmap_clicks(chart: str, *, key: str, on_cell: Callable[[], None]) -> None:
    """Clicks on the plotly heatmap with the element key `chart`: `st.session_state[key].cell` is {row, column}."""
    _clicks(data={"chart": chart}, key=key, on_cell_change=on_cell)
