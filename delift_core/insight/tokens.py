"""Where in a response an example helped, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_SIGNS = {"\n": "⏎", "\r": "⏎", "\t": "⇥"}
_NAMED = 3  # tokens that a sentence names
NOTICED = 0.05  # change of a probability that is worth a word


def visible(text: str) -> str:
    """A token's text on one line: line breaks and tabs as signs, other characters that print nothing by number."""
    shown = (_SIGNS.get(c, c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text)
    return "".join(shown)


def change(before: float, after: float) -> str:
    """A probability before and after, as text."""
    return f"{before:.2f} → {after:.2f}"


def name_of(token: Mapping[str, Any]) -> str:
    """What a token is called where its text stands alone."""
    if token["end"]:
        return "(end of the response)"
    text = visible(token["text"])
    return text if text.strip() else text.replace(" ", "␣") or "(no text)"


def table(tokens: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Tokens with the log-probabilities `before` and `after` as columns: name, probabilities, change, tokens in it."""
    before, after = ([math.exp(token[side]) for token in tokens] for side in ("before", "after"))
    return {
        "token": [name_of(token) for token in tokens],
        "before": before,
        "after": after,
        "change": [b - a for a, b in zip(before, after, strict=True)],
        "tokens": [token["count"] for token in tokens],
    }


def sentences(tokens: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the example helps and where it hurts: one to three sentences on tokens as `table` takes them."""
    columns = table(tokens)
    rise, names = columns["change"], columns["token"]
    order = sorted(range(len(rise)), key=lambda t: -rise[t])
    said = []
    for title, places in (
        ("The example helps most at", [t for t in order[:_NAMED] if rise[t] >= NOTICED]),
        ("It hurts most at", [t for t in order[::-1][:_NAMED] if rise[t] <= -NOTICED]),
    ):
        if places:
            named = (f"“{names[t]}” ({change(columns['before'][t], columns['after'][t])})" for t in places)
            said.append(f"{title}: {', '.join(named)}.")
    if not said:
        said.append(f"No token's probability changes by {NOTICED} or more.")
    up, down = sum(r >= NOTICED for r in rise), sum(r <= -NOTICED for r in rise)
    said.append(f"Of {len(rise):,} tokens, {up:,} rise by {NOTICED} or more and {down:,} fall by as much.")
    return said
