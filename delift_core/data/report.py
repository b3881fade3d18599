"""What a load found: the report and the refused rows, on disk beside the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from delift_core.data.mapping import FieldMap
from delift_core.errors import DataError, WorkspaceError
from delift_core.types import Dataset, Refusal

ROWS, ORIGINALS, REPORT, REFUSED = "rows.arrow", "originals.jsonl", "report.json", "refused.jsonl"
FORMAT = 1


@dataclass(frozen=True)
class Report:
    """What was found in a source and what became of it."""

    name: str
    fingerprint: str
    schema: str
    evidence: str
    format: str
    compression: str
    mapping: FieldMap
    turns: str
    records: int  # read from the source
    rows: int  # accepted examples; one record may give several
    refused: int  # records
    joined: int  # records that only became part of other rows' prompts (reply trees)
    reasons: dict[str, int]  # kind of refusal -> records
    duplicates: int  # accepted rows that are exact copies of an earlier one
    labelled: bool  # every accepted row has a response
    fields: tuple[str, ...]  # short scalar fields, usable as groups
    source_name: str
    source_sha256: str
    source_bytes: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; `from_json` reads it back to an equal object."""
        return {**asdict(self), "mapping": self.mapping.to_json(), "fields": list(self.fields), "version": FORMAT}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Report:
        """Read `to_json`'s form.  Another version raises WorkspaceError."""
        record = dict(record)
        if record.pop("version", None) != FORMAT:
            raise WorkspaceError(f"This dataset report is not of version {FORMAT}. Load the source again.")
        record["mapping"] = FieldMap.from_json(record["mapping"])
        record["fields"] = tuple(record["fields"])
        return cls(**record)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A dataset and the report of the load that made or found it."""

    dataset: Dataset
    report: Report


def read_report(folder: Path) -> Report:
    """The report of the latest load of the dataset in this folder.  Raises WorkspaceError when it is not there."""
    try:
        return Report.from_json(json.loads((folder / REPORT).read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(folder, error) from error


def refusals(folder: Path) -> Iterator[Refusal]:
    """The refused rows of the latest load, in the source's order.  Raises WorkspaceError when they are not there."""
    try:
        with (folder / REFUSED).open(encoding="utf-8") as stream:
            for line in stream:
                yield Refusal(**json.loads(line))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(folder, error) from error


def open_dataset(folder: Path) -> Dataset:
    """The dataset in a folder that `load` wrote, memory-mapped.  Raises WorkspaceError when it is missing or broken."""
    import pyarrow as pa

    report = read_report(folder)
    try:
        table = pa.ipc.open_file(pa.memory_map(str(folder / ROWS), "r")).read_all()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(folder, error) from error
    originals = folder / ORIGINALS
    if table.num_rows != report.rows or not originals.is_file():
        raise _unreadable(folder, DataError(f"{table.num_rows} rows where the report says {report.rows}"))
    return Dataset(table, originals, report.fingerprint, report.name, report.schema, report.labelled)


def _unreadable(folder: Path, error: Exception) -> WorkspaceError:
    return WorkspaceError(f"The dataset in {folder} cannot be read ({error}). Load its source again.")
