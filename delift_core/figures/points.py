"""The map's two messages to the browser: the geometry once, then a layer for each budget, colouring or focus.

Both are [uint32 length of the header][header, JSON in UTF-8, padded to a multiple of 4 bytes][arrays, little-endian].
The geometry's arrays are x and y of every point (uint16, over the square of side `side` at `origin`); up to `MOST_ROWS`
rows they are followed by the pick number of each pool row (int32, -1 for none) and the pool's ids joined by line breaks
(absent when ids are row numbers).  Beyond that the browser paints a density of all rows, and points for a part of them.

The layer's array is one byte per pool row: bit 7 says selected, the low bits are an index into the header's palette.
With a `Part` it holds rows (uint32), pick numbers (int32) and those bytes of the part alone, and the part's ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from delift_core.figures.style import CATEGORIES, CIVIDIS, EXISTING, REJECTED, TARGET, Theme, number, selected
from delift_core.types import Doubles, Floats, Indices

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 300_000  # that are drawn one by one
MOST_SHOWN = 60_000  # of a larger pool
PINNED, BANNED = "#E69F00", "#D55E00"
SELECTED_BIT = 128
LEVELS = 64
_ID_LENGTH = 40
_DARK_REJECTED = "#6C757E"  # on a dark page the light grey would outshine what was selected


@dataclass(frozen=True)
class Colouring:
    """A palette index per pool row and what the colours mean."""

    codes: NDArray[np.uint8]  # (n,) below 128
    palette: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]  # (label, colour); labels may be text of unknown origin
    title: str
    groups: tuple[str, ...] = ()  # the name of each code, where codes are groups

    @property
    def membership(self) -> bool:
        """Whether the colour follows the selected bit alone."""
        return self.title == "membership" and not self.groups


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of a large pool that are drawn one by one, above the density of all."""

    rows: Indices  # (m,) ascending
    rank: Indices  # (m,) pick number, -1 for none
    ids: pa.ChunkedArray | Sequence[str]  # (m,)


def geometry(
    places: Mapping[str, Floats],
    rank: Indices,
    ids: pa.ChunkedArray | Sequence[str],
    *,
    key: str,
    lasso: bool = True,
) -> bytes:
    """The message that is sent once: where every point is.  `key` ties layers to it.

    Args:
        places: coordinates (rows, 2) of "pool" and, where there are any, "target" and "existing".
        rank: (n,) pick number of each pool row, -1 for none.
        ids: (n,) ids of the pool's rows.
        key: of the map on the page.
        lasso: whether the page answers a lasso, and steps from pick to pick; else the map offers neither.
    """
    parts = {name: places[name] for name in ("pool", "target", "existing") if name in places}
    xy = np.concatenate(list(parts.values())).astype(np.float64)
    low, high = (xy.min(axis=0), xy.max(axis=0)) if len(xy) else (np.zeros(2), np.ones(2))
    side = float(max((high - low).max(), 1e-6)) * 1.08
    origin = (low + high) / 2 - side / 2
    grid = np.round((xy - origin) / side * 65_535).astype("<u2")
    arrays = [np.ascontiguousarray(grid[:, 0]).tobytes(), np.ascontiguousarray(grid[:, 1]).tobytes()]
    dense, names = len(rank) > MOST_ROWS, b""
    if not dense:
        names = _names(ids)
        arrays += [rank.astype("<i4").tobytes(), names]
    body = b"".join(arrays)
    header = {
        "what": "geometry", "key": key, "version": hashlib.sha256(body).hexdigest()[:16],
        "counts": {name: len(points) for name, points in parts.items()}, "origin": origin.tolist(),
        "side": side, "lasso": lasso, "dense": dense, "ids": bool(names),
        "grey": [int(REJECTED[c : c + 2], 16) for c in (1, 3, 5)],
        "marks": {"target": TARGET, "existing": EXISTING},
    }  # fmt: skip
    return _message(header, body)


def layer(
    colouring: Colouring,
    chosen: NDArray[np.bool_],
    *,
    key: str,
    focus: int | None = None,
    outline: Doubles | None = None,
    pinned: Sequence[int] | Indices = (),
    banned: Sequence[int] | Indices = (),
    part: Part | None = None,
) -> bytes:
    """The message of a budget, a colouring, a focused row or a drawn outline.

    Args:
        colouring: of the pool's rows.
        chosen: (n,) which rows the budget keeps.
        key: the geometry's.
        focus: the row in focus.
        outline: (c, 2) a drawn region in map coordinates.
        pinned: rows that get a star on top.
        banned: rows that get a cross on top.
        part: the rows that are drawn one by one; None: all.
    """
    alt = f"Map of {len(chosen):,} rows by {colouring.title}; {int(chosen.sum()):,} are selected."
    codes = (colouring.codes | np.where(chosen, SELECTED_BIT, 0)).astype(np.uint8)
    body, ids = codes.tobytes(), b""
    if part is not None:
        alt += f" {shown_of(part, len(chosen))}"
        ids = _names(part.ids, plain=False)
        body = part.rows.astype("<u4").tobytes() + part.rank.astype("<i4").tobytes() + codes[part.rows].tobytes() + ids
    header = {
        "what": "layer", "key": key, "alt": alt, "revision": int(chosen.sum()), "title": colouring.title,
        "palette": list(colouring.palette), "legend": [list(entry) for entry in colouring.legend],
        "groups": list(colouring.groups), "focus": focus, "outline": None if outline is None else outline.tolist(),
        "pinned": [int(row) for row in pinned], "banned": [int(row) for row in banned],
        "marks": {"pinned": PINNED, "banned": BANNED}, "part": None if part is None else len(part.rows),
    }  # fmt: skip
    return _message(header, body)


def shown_of(part: Part, rows: int) -> str:
    """How many of the pool's rows are drawn one by one, in words."""
    return f"{len(part.rows):,} of {rows:,} rows are shown as points, above the density of all."


def by_membership(n: int, *, theme: Theme = "light") -> Colouring:
    """Selected rows blue, rejected rows grey: the colour follows the selected bit alone."""
    blue, grey = selected(theme), REJECTED if theme == "light" else _DARK_REJECTED
    return Colouring(np.zeros(n, np.uint8), (grey, blue), (("selected", blue), ("rejected", grey)), "membership")


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
    return Colouring(codes.astype(np.uint8), colours, legend, title, tuple(label for label, _ in legend))


def by_label(codes: Indices, labels: Sequence[str], colours: Sequence[str], title: str) -> Colouring:
    """A label per row (n,) with colours of its own; the legend leaves out labels that no row has."""
    held = set(np.unique(codes).tolist())
    legend = tuple((label, colours[code]) for code, label in enumerate(labels) if code in held)
    return Colouring(codes.astype(np.uint8), tuple(colours), legend, title, tuple(labels))


def _names(ids: pa.ChunkedArray | Sequence[str], *, plain: bool = True) -> bytes:
    """Ids, each on a line and shortened; nothing where they are row numbers and `plain` says that these need not go."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = ids if isinstance(ids, pa.ChunkedArray) else pa.chunked_array([pa.array(list(ids), pa.string())])
    if not len(column):
        return b""
    if plain and pc.all(pc.equal(column, pc.cast(pa.array(np.arange(len(column))), pa.string()))).as_py():
        return b""
    lines = pc.utf8_trim_whitespace(pc.replace_substring_regex(column, pattern=r"\s+", replacement=" "))
    text = pc.binary_join_element_wise(pc.utf8_slice_codeunits(lines, 0, _ID_LENGTH), "", "\n").combine_chunks()
    offsets = np.frombuffer(text.buffers()[1], np.int32)
    start, stop = offsets[text.offset], offsets[text.offset + len(text)]
    return bytes(memoryview(text.buffers()[2])[start : stop - 1])


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
