"""The head of a source, for a person to look at before anything is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delift_core.data.examples import Example, extractor
from delift_core.data.mapping import FieldMap
from delift_core.data.records import Record, record_bytes
from delift_core.data.schemas import UNKNOWN, field_names
from delift_core.data.source import close, layout_of, open_source, sampled
from delift_core.data.tree import THREAD, join_trees
from delift_core.data.turns import TurnMode
from delift_core.data.unpack import DEFAULT_LIMITS, ReadLimits


@dataclass(frozen=True)
class Preview:
    """The head of a source: what it seems to be, before anything is written."""

    format: str
    compression: str
    schema: str  # "unknown" when no layout fits; then `mapping` is empty
    evidence: str
    mapping: FieldMap
    fields: tuple[str, ...]  # all field names of the sampled records
    records: list[dict[str, Any]]
    examples: list[list[Example] | str]  # per record: prompts and responses, or the problem
    problems: list[Record]  # records of the sample that could not be read


def preview(
    source: str | Path, *, mapping: FieldMap | None = None, split: str | None = None, rows: int = 20,
    turns: TurnMode = "last", limits: ReadLimits = DEFAULT_LIMITS,
) -> Preview:  # fmt: skip
    """Look at the head of a source.  Raises DataError when nothing can be read, or the mapping names missing fields."""
    opened = open_source(source, split, limits)
    try:
        sample = sampled(opened)
    finally:
        close(opened.records)
    good = [record.value for record in sample if record.problem is None]
    layout = layout_of(opened.name, good, mapping)
    examples: list[list[Example] | str] = []
    shown = [record for record in sample if record.problem is None][:rows]
    if layout.name != UNKNOWN:
        parts = layout.mapping
        if parts.parent:
            threads = join_trees(
                iter([record for record in sample if record.problem is None]), parts, limits, opened.name
            )
            joined = [record for record in threads if record is not None and record.problem is None]
            extract = extractor(FieldMap(messages=THREAD), turns, False)
            shown = joined[:rows]
        else:
            extract = extractor(parts, turns, False)
        examples = [extract(record.value) for record in shown]
    records = [json.loads(record_bytes(record)) for record in shown]
    problems = [record for record in sample if record.problem is not None]
    return Preview(
        opened.format,
        opened.compression,
        layout.name,
        layout.evidence,
        layout.mapping,
        field_names(good),
        records,
        examples,
        problems,
    )
