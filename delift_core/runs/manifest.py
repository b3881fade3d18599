"""The manifest: everything needed to name, check and repeat a run, and a hash that two equal runs share."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from delift_core.config import RunConfig
from delift_core.errors import ConfigError
from delift_core.runs import files
from delift_core.types import Identity, Selection

FORMAT = 1
_PACKAGES = ("delift", "numpy", "scipy", "pyarrow", "torch", "transformers", "tokenizers", "numba", "scikit-learn")
# What may differ between two runs that did the same: times, places, and names that a hash beside them makes exact.
_LEFT_OUT = frozenset({"hash", "run", "created", "timings", "command", "subset_notes", "fidelity", "constraints"})


@dataclass(frozen=True)
class Input:
    """A dataset that went into a run."""

    role: str  # "pool", "target" or "existing"
    name: str
    fingerprint: str
    source_sha256: str
    rows: int
    refused: int
    source: str = ""  # where it was read from, so that a replay can find it
    mapping: Mapping[str, str] = field(default_factory=dict)  # how it was read: which field means what
    turns: str = "last"
    labelled: bool = True


def build(
    config: RunConfig,
    selection: Selection,
    k: int,
    *,
    ids: Sequence[str],
    inputs: Sequence[Input],
    models: Sequence[Identity] = (),
    encoder: Identity | None = None,
    notes: Sequence[str] = (),
    subset_notes: Sequence[str] = (),
    fidelity: Mapping[str, Any] | None = None,
    constraints: Mapping[str, Any] | None = None,
    timings: Mapping[str, float] | None = None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """The manifest of a run that keeps the first `k` picks of `selection`.

    `ids` are those of ALL rows of the pool (n,), indexed by row; `notes` hold for the run at any budget,
    `subset_notes` and `fidelity` (of pair plans, by part) for these `k` picks alone; `constraints` is what was found
    for them (leaks by role, distances of domains); `timings` are seconds per stage, with "total" the whole.
    """
    rows = [int(row) for row in selection.order[:k]]
    record: dict[str, Any] = {
        "format": FORMAT,
        "run": config.id,
        "method": config.method,
        "config": config.to_json(),
        "inputs": [asdict(i) for i in inputs],
        "models": [asdict(m) for m in models],
        "encoder": asdict(encoder) if encoder else None,
        "seed": config.seed,
        "versions": versions(),
        "budget": config.budget,
        "k": k,
        "rows": rows,
        "ids": [ids[row] for row in rows],
        "value": _number(selection.value[k - 1]) if k else 0.0,
        "full_value": _number(selection.full_value),
        "nested": selection.nested,
        "notes": [*selection.notes, *notes],
        "subset_notes": list(subset_notes),
        "fidelity": dict(fidelity or {}),
        "constraints": dict(constraints or {}),
        "timings": {stage: round(float(seconds), 3) for stage, seconds in (timings or {}).items()},
        "command": list(command),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {**record, "hash": digest(record)}


def digest(manifest: Mapping[str, Any]) -> str:
    """The sha256 of what decides and what came out: not of timings, dates, paths, names of files or the command line.

    Models count by the hash of their weights, inputs by their fingerprint, whichever file they were read from.
    """
    exact = {name: value for name, value in manifest.items() if name not in _LEFT_OUT}
    exact["config"] = _without(manifest["config"], "model", "encoder")
    exact["inputs"] = [_without(i, "name", "source", "source_sha256", "refused") for i in manifest["inputs"]]
    exact["models"] = [_without(m, "name") for m in manifest["models"]]
    exact["encoder"] = _without(manifest["encoder"], "name") if manifest["encoder"] else None
    canonical = json.dumps(exact, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read(path: Path) -> dict[str, Any]:
    """Read a manifest from a file a person may have touched.

    Raises WorkspaceError when it is missing or no JSON, ConfigError when it is no manifest or was altered.
    """
    record = files.read_json(path)
    needed = ("format", "config", "inputs", "models", "encoder", "rows", "ids", "hash")
    missing = [name for name in needed if name not in record]
    if missing:
        raise ConfigError(f"{path} is no manifest of delift: no {', '.join(missing)} in it. Give a run's manifest.")
    if record["format"] != FORMAT:
        raise ConfigError(f"{path} is a manifest of format {record['format']!r}; this delift reads {FORMAT}.")
    try:
        same = digest(record) == record["hash"]
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path} is not a manifest of delift ({error!r}). Give a run's manifest.json.") from error
    if not same:
        raise ConfigError(f"{path} was changed after it was written: its hash does not fit. Take the run's own.")
    return record


def summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A run in a few numbers, for lists and for `--json`."""
    value, full, timings = manifest["value"], manifest["full_value"], manifest["timings"]
    pool: Mapping[str, Any] = next((i for i in manifest["inputs"] if i["role"] == "pool"), {})
    return {
        "run": manifest["run"],
        "method": manifest["method"],
        "budget": manifest["budget"],
        "pool": pool.get("name", ""),
        "rows": pool.get("rows", 0),
        "selected": manifest["k"],
        "value": value,
        "full_value": full,
        "share": value / full if value is not None and full else None,
        "seconds": timings["total"] if "total" in timings else round(sum(timings.values()), 3),
        "hash": manifest["hash"],
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result; nothing is imported for it."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _without(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
