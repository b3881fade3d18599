"""Which format a file has, told by its bytes; the name decides only between a one-column table and plain text."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from delift_core.data.schemas import known_field
from delift_core.data.turns import looks_like_turns
from delift_core.data.unpack import Compression, ReadLimits, chunks, compression_of
from delift_core.errors import DataError

Format = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow", "arrow-stream", "text", "save_to_disk", "hub"]

_HEAD = 1 << 20
_FOREIGN = (  # first bytes, what it is, what to do
    (
        b"PK\x03\x04",
        "a zip archive (or a spreadsheet)",
        "Unpack it and load the file inside, or save the sheet as CSV.",
    ),
    (b"BZh", "bzip2 data", "Unpack it with `bunzip2`, or pack it with gzip or zstd."),
    (b"\xfd7zXZ\x00", "xz data", "Unpack it with `unxz`, or pack it with gzip or zstd."),
    (b"%PDF", "a PDF document", "Extract its text first."),
    (b"\x89PNG", "an image", "Load a file of text records."),
    (b"\xff\xd8\xff", "an image", "Load a file of text records."),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV or JSON Lines."),
    (b"\x80\x04", "a pickle", "Pickles can run code and are never opened. Save the data as JSON Lines."),
    (b"\x80\x02", "a pickle", "Pickles can run code and are never opened. Save the data as JSON Lines."),
)
_KNOWN = "Known formats: JSON Lines, JSON, CSV, TSV, Parquet, Arrow and plain text, plain or packed with gzip or zstd."


@dataclass(frozen=True)
class Sniffed:
    """Format and compression of a file."""

    format: Format
    compression: Compression


def sniff(path: Path, limits: ReadLimits) -> Sniffed:
    """Tell a file's format from its content.  Raises DataError for an empty file, a binary one, or another encoding."""
    with path.open("rb") as stream:
        packed = stream.read(16)
    if not packed:
        raise DataError(f"{path.name} is empty. Choose a file with at least one record. {_KNOWN}")
    compression = compression_of(packed)
    head, whole = bytearray(), True
    for piece in chunks(path, limits, compression=compression):
        head += piece
        if len(head) > _HEAD:
            whole = False
            break
    return Sniffed(_format(bytes(head), path, whole), compression)


def _format(head: bytes, path: Path, whole: bool) -> Format:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if head.startswith(b"\xff\xff\xff\xff") and len(head) > 8:
        return "arrow-stream"
    for magic, what, advice in _FOREIGN:
        if head.startswith(magic):
            raise DataError(f"{path.name} is {what}, not a file of text records. {advice} {_KNOWN}")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _is_wide(head):
        raise DataError(
            f"{path.name} is UTF-16 or UTF-32, expected UTF-8. "
            f"Convert it: iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}"
        )
    head = head.removeprefix(b"\xef\xbb\xbf")
    sample = head[:65536]
    control = sum(sample.count(bytes([byte])) for byte in range(32) if byte not in b"\t\n\r\f\x1b")
    if b"\0" in sample or control > len(sample) * 0.05:
        raise DataError(f"{path.name} is a binary file of an unknown kind. {_KNOWN}")
    text = head.decode("utf-8", "replace")
    start = text.lstrip()
    if not start:
        raise DataError(f"{path.name} holds only blank lines. Choose a file with at least one record.")
    if start[0] == "[" and _opens_array(start):
        return "json"
    if start[0] == "{":
        return _object_format(start, whole)
    return _table_format(text, path, whole) or _late_json(text) or "text"


def _is_wide(head: bytes) -> bool:
    sample = head[:4096]
    return len(sample) >= 16 and (sample[1::2].count(0) > len(sample) * 0.4 or sample[::2].count(0) > len(sample) * 0.4)


def _opens_array(start: str) -> bool:
    """A JSON array of anything, and not a text line such as "[1] See ..."."""
    rest = start[1:].lstrip()
    return not rest or rest[0] in '{[]"' or (rest[:1].isdigit() and "," in rest[:40])


def _object_format(start: str, whole: bool) -> Format:
    """JSON Lines, or one JSON document whose top is an object."""
    if whole:
        document = _decoded(start)
        if isinstance(document, dict):
            one_line = "\n" not in start.strip()
            return "jsonl" if one_line and wrapped_arrays(document) == [] else "json"
    rows = [row for row in start.split("\n")[: 20 if whole else -1] if row.strip()][:20]
    alone = sum(isinstance(_decoded(row), dict) for row in rows)
    if alone * 2 >= len(rows) and rows:
        return "jsonl"
    if alone and isinstance(_decoded(rows[0]), dict):
        return "jsonl"
    if (
        len(rows) <= 1 and "\n" not in start.strip()[:-1]
    ):  # one line that is broken, or longer than the part we looked at
        return "json" if _opens_wrapper(start) else "jsonl"
    openers = sum(row.lstrip().startswith("{") and len(row.strip()) > 1 for row in rows)
    return "jsonl" if openers == len(rows) else "json"


def _opens_wrapper(start: str) -> bool:
    """An object whose first array is one of records: {"data": [{... and not {"messages": [{"role": ..."""
    bracket = start.find("[")
    rest = start[bracket + 1 :].lstrip() if bracket > 0 else ""
    if not rest.startswith("{"):
        return False
    try:
        element, _ = json.JSONDecoder().raw_decode(rest)
    except (ValueError, RecursionError):
        return False
    return not looks_like_turns([element])


def wrapped_arrays(document: dict[str, Any]) -> list[str]:
    """Names of the fields of a JSON object that hold arrays of records, as opposed to the turns of one record."""
    if is_record(document):
        return []
    lists = {key: value for key, value in document.items() if isinstance(value, list) and value}
    return [
        key
        for key, value in lists.items()
        if all(isinstance(item, dict) for item in value[:5]) and not looks_like_turns(value)
    ]


def is_record(document: dict[str, Any]) -> bool:
    """An object with a prompt of its own is a record, whatever arrays it also holds."""
    return any(known_field(key) and isinstance(value, str) for key, value in document.items())


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _late_json(text: str) -> Format | None:
    """JSON Lines whose first line is broken: most of the others are objects."""
    rows = [row for row in text.split("\n")[1:40] if row.strip()]
    return "jsonl" if rows and sum(isinstance(_decoded(row), dict) for row in rows) * 2 > len(rows) else None


def _table_format(text: str, path: Path, whole: bool) -> Format | None:
    suffixes = {suffix.lower() for suffix in path.suffixes}
    for delimiter, name in (("\t", "tsv"), (",", "csv")):
        named = f".{name}" in suffixes
        try:
            rows = [
                row
                for _, row in zip(
                    range(200), csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), strict=False
                )
                if row
            ]
        except csv.Error:
            rows = []
        if named:
            return "tsv" if delimiter == "\t" else "csv"
        if not whole and len(rows) < 200:
            rows = rows[:-1]
        if len(rows) < 2 or len(rows[0]) < 2:
            continue
        header = [cell.strip() for cell in rows[0]]
        sound = all(0 < len(cell) <= 64 for cell in header) and len(set(header)) == len(header)
        even = sum(len(row) == len(header) for row in rows) >= 0.9 * len(rows)
        if sound and even and any(known_field(cell) for cell in header):
            return "tsv" if delimiter == "\t" else "csv"
    return None
