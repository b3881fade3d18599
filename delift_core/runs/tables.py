"""Records of mixed shape as Parquet and CSV, in bounded memory: a first pass finds the columns, a second one writes."""

from __future__ import annotations

import csv as csv_module
import io
import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from delift_core.runs.files import HashingFile

Records = Callable[[], Iterator[bytes]]  # lines of JSON, each time from the start
_CHUNK = 5_000


def parquet(out: HashingFile, records: Records) -> tuple[str, ...]:
    """Write one column per field; one whose values have no common type holds JSON text, and a note says so."""
    types: dict[str, pa.DataType | None] = {}  # None: no common type
    for chunk in _chunks(records()):
        for name in _names(chunk):
            if name in types and types[name] is None:
                continue
            types[name] = _common(types.get(name, pa.null()), [record.get(name) for record in chunk])
    mixed = [name for name, kind in types.items() if kind is None]
    schema = pa.schema([(name, pa.string() if kind is None else kind) for name, kind in types.items()])
    with pa.PythonFile(out, mode="w") as sink, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for chunk in _chunks(records()):
            columns = [
                pa.array([_cell(r, name) if name in mixed else r.get(name) for r in chunk], schema.field(name).type)
                for name in types
            ]
            writer.write_table(pa.table(columns, schema=schema))
    return tuple(f"Field {name!r} holds values of several types; its Parquet column has JSON text." for name in mixed)


def csv(out: HashingFile, records: Records) -> tuple[str, ...]:
    """Write one column per field; lists and objects are stored as JSON text, missing values as empty cells."""
    names: dict[str, None] = {}
    nested: dict[str, None] = {}
    for chunk in _chunks(records()):
        names.update(dict.fromkeys(_names(chunk)))
        for record in chunk:
            nested.update(dict.fromkeys(n for n, value in record.items() if isinstance(value, (list, dict))))
    out.write(_csv_line(list(names)))
    for chunk in _chunks(records()):
        for record in chunk:
            out.write(_csv_line([_plain(record.get(name)) for name in names]))
    return tuple(f"Field {name!r} holds lists or objects; its CSV column has JSON text." for name in nested)


def _csv_line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv_module.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode(errors="backslashreplace")


def _chunks(lines: Iterator[bytes]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(lines, _CHUNK)):
        values = [json.loads(line) for line in chunk]
        yield [value if isinstance(value, dict) else {"record": value} for value in values]


def _names(chunk: list[dict[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(name for record in chunk for name in record)


def _common(known: pa.DataType, values: list[Any]) -> pa.DataType | None:
    """The type that holds the known ones and these values; None when there is none that keeps them as they are."""
    try:
        found = pa.array(values).type
        fields = [pa.schema([("x", known)]), pa.schema([("x", found)])]
        return pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None


def _cell(record: dict[str, Any], name: str) -> str | None:
    return json.dumps(record[name], ensure_ascii=False) if name in record else None


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
