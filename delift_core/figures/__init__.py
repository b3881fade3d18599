"""Figures as pure functions: data in, plotly figure (or map message) out.  `alt_of(figure)` says what one shows."""

from delift_core.figures.bars import histogram, lengths
from delift_core.figures.curves import curve, gain_curve
from delift_core.figures.matrix import exact_heatmap, heatmap
from delift_core.figures.style import Theme, alt_of, text_of

__all__ = ["Theme", "alt_of", "curve", "exact_heatmap", "gain_curve", "heatmap", "histogram", "lengths", "text_of"]
