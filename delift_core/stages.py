"""The stages of a run in plain words, with what they count."""

from __future__ import annotations

# Stage, or how it begins -> what is done, and the unit that it counts; no unit where counting says nothing.
_STAGES: dict[str, tuple[str, str]] = {
    "score rows by": ("Scoring each row", "rows"),
    "score": ("Scoring pairs", "pairs"),
    "encode": ("Turning rows into vectors", "rows"),
    "cosine": ("Comparing vectors", "rows"),
    "near": ("Comparing vectors", "pairs"),
    "states": ("Reading rows with the language model", "rows"),
    "neighbours": ("Finding the nearest rows", "rows"),
    "density": ("Finding near-copies", "rows"),
    "count tokens": ("Counting tokens", "rows"),
    "compare with": ("Looking for rows shared with another dataset", "rows"),
    "leaks": ("Looking for rows shared with another dataset", "rows"),
    "rank": ("Ranking rows for each target row", "target rows"),
    "select": ("Picking rows", "rows"),
    "k-means": ("Forming clusters", ""),
    "domains": ("Comparing groups with the target", "groups"),
    "map": ("Drawing the map", ""),
    "write": ("Writing the result", ""),
    "read": ("Reading the file", ""),
    "choose again": ("Choosing again", "times"),
    "multishot": ("Scoring rows after sets of examples", "passes"),
}


def told(stage: str, done: float, total: float) -> str:
    """A stage and how far it is, as in "Scoring pairs: 1,200 of 5,760"; `done` and `total` in the stage's unit."""
    if not stage:
        return "Waiting to start"
    begun = next((name for name in _STAGES if stage == name or stage.startswith(f"{name} ")), None)
    if begun is None:
        share = min(1.0, done / total) if total else 0.0
        return f"{stage[0].upper()}{stage[1:]}: {100 * share:.0f} %"
    doing, unit = _STAGES[begun]
    side = stage.removeprefix(begun).strip()
    if begun in ("score", "encode") and side in ("target", "existing"):
        doing = f"{doing} ({side})"
    if not unit or not total:
        return doing
    return f"{doing}: {min(done, total):,.0f} of {total:,.0f}{'' if unit in doing else f' {unit}'}"
