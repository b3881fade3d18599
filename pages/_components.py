"""Our own components: the map's canvas and the clicks of a heatmap.  Registered once, when this module is imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

_ASSETS = Path(__file__).parents[1] / "assets"
_MAP_HTML = """
<div class="map">
  <canvas tabindex="0" role="img" aria-label="Map of the rows"></canvas>
  <div class="tools" role="toolbar" aria-label="Map tools">
    <button type="button" data-tool="pan" aria-pressed="true" title="Drag moves the map">Move</button>
    <button type="button" data-tool="lasso" aria-pressed="false" title="Drag outlines rows (or Shift)">Lasso</button>
    <button type="button" data-tool="in" title="Zoom in (key +)" aria-label="Zoom in">+</button>
    <button type="button" data-tool="out" title="Zoom out (key -)" aria-label="Zoom out">&#8722;</button>
    <button type="button" data-tool="all" title="Show everything (key 0)">All</button>
  </div>
  <div class="tip" hidden></div>
  <div class="legend"></div>
</div>
"""


def _text(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


_MAP_JS = _text("map.js")
_canvas = st.components.v2.component("delift_map", html=_MAP_HTML, css=_text("map.css"), js=_MAP_JS)
# The same script under a second name: it carries only the layer, so that the geometry is not sent with it.
_layer = st.components.v2.component("delift_map_layer", js=_MAP_JS)
_clicks = st.components.v2.component("delift_plot_clicks", js=_text("plot_click.js"))


def map_canvas(geometry: bytes, *, key: str, on_focus: Callable[[], None], on_outline: Callable[[], None]) -> None:
    """The map's canvas.  Callbacks find what happened in `st.session_state[key]`: `focus` (a pool row) or `outline`."""
    _canvas(data=geometry, key=key, on_focus_change=on_focus, on_outline_change=on_outline)


def map_layer(layer: bytes, *, key: str) -> None:
    """Colours, budget, focus and outline for the canvas with the same key in its message; draws nothing itself."""
    _layer(data=layer, key=key)


def heatmap_clicks(chart: str, *, key: str, on_cell: Callable[[], None]) -> None:
    """Clicks on the plotly heatmap with the element key `chart`: `st.session_state[key].cell` is {row, column}."""
    _clicks(data={"chart": chart}, key=key, on_cell_change=on_cell)
