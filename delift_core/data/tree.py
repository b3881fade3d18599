"""Reply trees (one message a record, with the id of the message it answers) to one conversation per answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from delift_core.data.mapping import FieldMap
from delift_core.data.records import Record, record_bytes, shortened
from delift_core.data.turns import text_of, turns_of
from delift_core.data.unpack import ReadLimits
from delift_core.errors import DataError

THREAD = "thread"  # the field that a joined record carries its conversation in


def join_trees(records: Iterator[Record], mapping: FieldMap, limits: ReadLimits, name: str) -> Iterator[Record | None]:
    """For every assistant message, its record with the whole thread above it in the field `thread`.

    Other messages come as None: they are part of the threads.  Parents may stand after their replies, so the file is
    held in memory; past `limits.tree_bytes` DataError says so.
    """
    held: list[Record] = []
    index: dict[str, int] = {}
    size = 0
    for record in records:
        if record.problem is None:
            raw = record_bytes(record)
            size += len(raw)
            if size > limits.tree_bytes:
                raise DataError(
                    f"{name} holds more than {limits.tree_bytes:,} bytes of single messages to join. "
                    "Join them to conversations (a field 'messages') beforehand, or load a part."
                )
            record = record._replace(raw=raw)
            index.setdefault(str(record.value.get(mapping.id)), len(held))
        held.append(record)
    for record in held:
        yield record if record.problem is not None else _thread(record, held, index, mapping)


def _thread(record: Record, held: list[Record], index: dict[str, int], mapping: FieldMap) -> Record | None:
    turns: list[dict[str, Any]] = []
    above, seen = record, set()
    while True:
        seen.add(above.line)
        turns.append({"role": above.value.get(mapping.role), "content": text_of(above.value.get(mapping.text))})
        parent = above.value.get(mapping.parent)
        if parent is None or parent == "":
            break
        place = index.get(str(parent))
        if place is None or held[place].line in seen:
            problem = "parent missing: no message with the id that this one answers" if place is None else "reply loop"
            return None if not _answers(record, mapping) else _refused(record, problem)
        above = held[place]
    if not _answers(record, mapping):
        return None
    return record._replace(value={**record.value, THREAD: turns[::-1]})


def _answers(record: Record, mapping: FieldMap) -> bool:
    turns = turns_of([{"role": record.value.get(mapping.role), "content": ""}])
    return isinstance(turns, str) or turns[0].role == "assistant"


def _refused(record: Record, problem: str) -> Record:
    return Record(record.line, None, None, problem, shortened((record.raw or b"").decode("utf-8", "replace")))
