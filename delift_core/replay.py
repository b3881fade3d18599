"""What a manifest needs before its run can be repeated, and why a repetition may come out differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from delift_core.runs import Run


@dataclass(frozen=True, eq=False)
class Replayed:
    """A run that was repeated from a manifest, and whether the same rows came out."""

    run: Run
    same: bool
    differences: tuple[str, ...]  # what is not as it was: models, versions, ...


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on what is not as it was when the manifest was written; only exact matches promise the same ids."""
    for name in ("models", "encoder"):
        old, new = (_models(record[name]) for record in (before, after))
        if old != new:
            yield f"The {name.removesuffix('s')} differs: was {old or 'none'}, is {new or 'none'}."
    for package in sorted({*before["versions"], *after["versions"]}):
        old, new = before["versions"].get(package, "absent"), after["versions"].get(package, "absent")
        if old != new:
            yield f"{package} was {old}, is {new}."


def _models(found: Any) -> str:
    listed = found if isinstance(found, list) else [found] if found else []
    return ", ".join(f"{m['hash'][:12]} in {m['dtype']} on {m['device']}" for m in listed)
