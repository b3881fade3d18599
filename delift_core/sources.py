"""Datasets of a workspace and where they come from: files, the hub, an earlier run's manifest."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from delift_core.errors import ConfigError, DataError
from delift_core.types import Dataset, Progress, no_progress

if TYPE_CHECKING:
    from delift_core.data import FieldMap
    from delift_core.runs import Workspace

Turns = Literal["last", "every"]
MANIFEST = "manifest.json"  # a source of this name stands for the rows that its run picked
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


def add_dataset(
    ws: Workspace,
    source: str | Path,
    *,
    role: str = "pool",
    mapping: FieldMap | None = None,
    turns: Turns = "last",
    need_response: bool = True,
    name: str | None = None,
    progress: Progress = no_progress,
) -> Dataset:
    """Read a file, folder or hub id into the workspace and note what it is used for.

    "#name" behind the source names one of several splits.  The same content with the same mapping is the same
    dataset, and is not written twice.  With `need_response`, rows without a response are refused, and a file that has
    none at all raises DataError.
    """
    from delift_core import data

    loaded = data.load(
        source, ws.datasets, mapping=mapping, turns=turns, need_response=need_response, name=name, progress=progress
    )
    dataset, report = loaded.dataset, loaded.report
    ws.catalogue.add_dataset(
        dataset.fingerprint, name=dataset.name, schema=dataset.schema, rows=len(dataset), refused=report.refused,
        source=place_of(source), roles=[role], labelled=dataset.labelled,
    )  # fmt: skip
    return dataset


def place_of(source: str | Path) -> str:
    """The source as it can be found again from any folder: files by their absolute path, the split behind it."""
    from delift_core import data

    place, split = data.place_and_split(source)
    whole = str(Path(place).absolute()) if data.is_local(place) else str(place)
    return f"{whole}#{split}" if split else whole


def may_be_read(source: str | Path) -> bool:
    """Whether a source is there, or could be on the hub."""
    from delift_core import data

    place, _ = data.place_and_split(source)
    return data.is_local(place) or data.is_hub_id(str(place))


def find_dataset(ws: Workspace, text: str) -> str | None:
    """The fingerprint in the workspace that `text` is or begins; None when it is none."""
    if not _FINGERPRINT.fullmatch(text) or Path(text).exists():
        return None
    found = [r.fingerprint for r in ws.catalogue.datasets() if r.fingerprint.startswith(text)]
    if len(found) > 1:
        raise ConfigError(f"{text} begins {len(found)} fingerprints of the workspace. Give more digits.")
    return found[0] if found else None


def restore(ws: Workspace, entry: Mapping[str, Any], source: str | Path | None, progress: Progress) -> None:
    """Have the dataset of a manifest's input in the workspace; raises DataError where its rows cannot be had again."""
    wanted, role, name = entry["fingerprint"], entry["role"], entry["name"]
    if source is None and any(r.fingerprint == wanted for r in ws.catalogue.datasets()):
        return
    place = source or entry["source"]
    if not may_be_read(place):
        raise DataError(
            f"The {role} of this run ({name}) is not in the workspace, and there is no file {place}. "
            f"Say where it is: --{role} FILE."
        )
    from delift_core.data import FieldMap

    if str(place).endswith(MANIFEST):
        found = picked_before(ws, Path(place), progress=progress)
    else:
        found = add_dataset(
            ws, place, role=role, mapping=FieldMap.from_json(entry["mapping"]), turns=entry["turns"],
            need_response=entry["labelled"], progress=progress,
        )  # fmt: skip
    if found.fingerprint == wanted:
        return
    raise DataError(
        f"{place} does not hold the {role} of this run any more: its rows differ from those of {name} ({wanted[:12]}). "
        f"Give the file it was made from: --{role} FILE."
    )


def picked_before(ws: Workspace, path: Path, *, progress: Progress = no_progress) -> Dataset:
    """The rows that an earlier run picked, as a dataset of the workspace: what was trained on since.

    The run's pool comes from the workspace, or from where its manifest says that it was.  Raises DataError where its
    rows cannot be had again, ConfigError where the file is no manifest.
    """
    from delift_core import data
    from delift_core.runs import manifest

    record = manifest.read(path)
    entry = next(i for i in record["inputs"] if i["role"] == "pool")
    restore(ws, entry, None, progress)
    pool = data.open_dataset(ws.dataset_folder(entry["fingerprint"]))
    name = f"{Path(entry['name']).stem}-{record['run'][:8]}.jsonl"
    with tempfile.TemporaryDirectory(prefix="delift-picked-") as folder:
        lines = Path(folder) / name
        with lines.open("w", encoding="utf-8") as out:
            for row in record["rows"]:
                picked = {"id": pool.ids[row], "prompt": pool.prompts[row], "response": pool.responses[row]}
                out.write(json.dumps(picked, ensure_ascii=False) + "\n")
        mapping = data.FieldMap(prompt="prompt", response="response", id="id")
        dataset = data.load(lines, ws.datasets, mapping=mapping, need_response=pool.labelled, name=name).dataset
    ws.catalogue.add_dataset(
        dataset.fingerprint, name=name, schema=dataset.schema, rows=len(dataset), refused=0, source=place_of(path),
        roles=["existing"], labelled=dataset.labelled,
    )  # fmt: skip
    return dataset
