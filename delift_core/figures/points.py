"""The map's two messages to the browser: the geometry once, then one byte per row.

Both are [uint32 length of the header][header, JSON in UTF-8, padded to a multiple of 4 bytes][arrays, little-endian].
The geometry's arrays are x and y of every point (uint16, over the square of side `side` at `origin`), the pick number
of each pool row (int32, -1 for none), and the pool's ids joined by line breaks (absent when ids are row numbers).
The layer's array is one byte per pool row: bit 7 says selected, the low bits are an index into the header's palette.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.figures.style import CATEGORIES, CIVIDIS, EXISTING, REJECTED, SELECTED, TARGET, Theme, number
from delift_core.types import Doubles, Floats, Indices

_ID_LENGTH = 40
SELECTED_BIT = 128
LEVELS = 64


@dataclass(frozen=True)
class Colouring:
    """A palette index per pool row and what the colours mean."""

    codes: NDArray[np.uint8]  # (n,) below 128
    palette: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]  # (label, colour); labels may be text of unknown origin
    title: str


def geometry(places: Mapping[str, Floats], rank: Indices, ids: Sequence[str], *, key: str) -> bytes:
    """The message that is sent once: where every point is.  `key` ties layers to it.

    Args:
        places: coordinates (rows, 2) of "pool" and, where there are any, "target" and "existing".
        rank: (n,) pick number of each pool row, -1 for none.
        ids: (n,) ids of the pool's rows.
        key: of the map on the page.
    """
    parts = {name: places[name] for name in ("pool", "target", "existing") if name in places}
    xy = np.concatenate(list(parts.values())).astype(np.float64)
    low, high = (xy.min(axis=0), xy.max(axis=0)) if len(xy) else (np.zeros(2), np.ones(2))
    side = float(max((high - low).max(), 1e-6)) * 1.08
    origin = (low + high) / 2 - side / 2
    grid = np.round((xy - origin) / side * 65_535).astype("<u2")
    plain = all(name == str(i) for i, name in enumerate(ids))
    names = b"" if plain else "\n".join(" ".join(name.split())[:_ID_LENGTH] for name in ids).encode()
    arrays = (np.ascontiguousarray(grid[:, 0]).tobytes(), np.ascontiguousarray(grid[:, 1]).tobytes())
    body = b"".join((*arrays, rank.astype("<i4").tobytes(), names))
    header = {
        "what": "geometry", "key": key, "version": hashlib.sha256(body).hexdigest()[:16],
        "counts": {name: len(points) for name, points in parts.items()}, "origin": origin.tolist(),
        "side": side, "ids": not plain, "marks": {"target": TARGET, "existing": EXISTING},
    }  # fmt: skip
    return _message(header, body)


def layer(
    colouring: Colouring,
    chosen: NDArray[np.bool_],
    *,
    key: str,
    focus: int | None = None,
    outline: Doubles | None = None,
) -> bytes:
    """The message of a budget, a colouring, a focused row or a drawn outline: one byte per pool row.

    `key` is the geometry's; `chosen` (n,) says which rows the budget keeps; `outline` is a drawn region in map
    coordinates.
    """
    alt = f"Map of {len(chosen):,} rows by {colouring.title}; {int(chosen.sum()):,} are selected."
    header = {
        "what": "layer", "key": key, "alt": alt, "revision": int(chosen.sum()), "title": colouring.title,
        "palette": list(colouring.palette), "legend": [list(entry) for entry in colouring.legend],
        "focus": focus, "outline": None if outline is None else outline.tolist(),
    }  # fmt: skip
    return _message(header, (colouring.codes | np.where(chosen, SELECTED_BIT, 0)).astype(np.uint8).tobytes())


def by_membership(n: int) -> Colouring:
    """Selected rows blue, rejected rows grey: the colour follows the selected bit alone."""
    legend = (("selected", SELECTED), ("rejected", REJECTED))
    return Colouring(np.zeros(n, np.uint8), (REJECTED, SELECTED), legend, "membership")


def by_level(levels: Indices, values: Doubles, title: str, *, theme: Theme = "light") -> Colouring:
    """A number per row by quantile level (n,) 0..63, -1 for none, in the part of cividis that shows on the theme."""
    first, last = (0.0, 0.92) if theme == "light" else (0.25, 1.0)
    colours = tuple(_between(first + (last - first) * i / (LEVELS - 1)) for i in range(LEVELS))
    known = values[np.isfinite(values)]
    ends = (number(float(known.min())), number(float(known.max()))) if len(known) else ("–", "–")
    labels = (f"low ({ends[0]})", "median", f"high ({ends[1]})")
    legend = tuple(zip(labels, (colours[0], colours[LEVELS // 2], colours[-1]), strict=True))
    if (levels < 0).any():
        legend = (*legend, ("no value", REJECTED))
    codes = np.where(levels < 0, LEVELS, levels).astype(np.uint8)
    return Colouring(codes, (*colours, REJECTED), legend, title)


def by_category(codes: Indices, labels: Sequence[str], title: str) -> Colouring:
    """A category per row (n,), ten at most."""
    colours = CATEGORIES[: len(labels)]
    legend = tuple((label[:_ID_LENGTH], colour) for label, colour in zip(labels, colours, strict=True))
    return Colouring(codes.astype(np.uint8), colours, legend, title)


def _between(share: float) -> str:
    """A cividis colour at 0..1."""
    at = share * (len(CIVIDIS) - 1)
    i = min(int(at), len(CIVIDIS) - 2)
    ends = [[int(CIVIDIS[j][c : c + 2], 16) for c in (1, 3, 5)] for j in (i, i + 1)]
    return "#" + "".join(f"{round(a + (b - a) * (at - i)):02x}" for a, b in zip(*ends, strict=True))


def _message(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    return len(text).to_bytes(4, "little") + text + body
