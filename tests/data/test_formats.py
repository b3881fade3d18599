"""Every format gives the same rows, by content and not by name; JSON Lines come back byte for byte."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delift_core.data import load, preview
from delift_core.errors import DataError

RECORDS = [
    {"instruction": f"Say {word}, please.\nTwice.", "input": "é, \"quoted\"\tand more", "output": f"{word} {word}"}
    for word in ("one", "two", "three", "Straße", "日本")
]  # fmt: skip


def as_table(delimiter: str) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(RECORDS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(RECORDS)
    return stream.getvalue().encode()


def as_arrow(kind: str) -> bytes:
    table, sink = pa.Table.from_pylist(RECORDS), pa.BufferOutputStream()
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=2)
    else:
        opened = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with opened(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return bytes(sink.getvalue())


def as_lines() -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)


CONTENTS = {
    "jsonl": as_lines,
    "json": lambda: json.dumps(RECORDS, indent=2).encode(),
    "json-object": lambda: json.dumps({"version": 1, "data": RECORDS, "note": "n"}).encode(),
    "json-object-pretty": lambda: json.dumps({"version": 1, "data": RECORDS}, indent=1).encode(),
    "csv": lambda: as_table(","),
    "tsv": lambda: as_table("\t"),
    "parquet": lambda: as_arrow("parquet"),
    "arrow": lambda: as_arrow("arrow"),
    "arrow-stream": lambda: as_arrow("stream"),
}
PACKERS = {"": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("content", CONTENTS)
def test_every_format_and_compression_gives_the_same_rows(tmp_path: Path, content: str, packed: str) -> None:
    path = tmp_path / "misleading.json"
    path.write_bytes(PACKERS[packed](CONTENTS[content]()))
    loaded = load(path, tmp_path / "datasets")
    assert loaded.report.format == content.removesuffix("-object").removesuffix("-object-pretty")
    assert loaded.report.compression == packed
    assert loaded.report.schema == "alpaca"
    assert list(loaded.dataset.prompts) == [f"{r['instruction']}\n\n{r['input']}" for r in RECORDS]
    assert list(loaded.dataset.responses) == [r["output"] for r in RECORDS]
    assert [loaded.dataset.original(i) for i in range(5)] == RECORDS


def test_compression_and_place_do_not_change_the_fingerprint_but_content_and_mapping_do(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(as_lines())
    (tmp_path / "b.txt").write_bytes(gzip.compress(as_lines()))
    (tmp_path / "c.jsonl").write_bytes(as_lines().replace(b"please", b"Please"))
    print_of = {
        name: load(tmp_path / name, tmp_path / "d").dataset.fingerprint for name in ("a.jsonl", "b.txt", "c.jsonl")
    }
    assert print_of["a.jsonl"] == print_of["b.txt"] != print_of["c.jsonl"]
    from delift_core.data import FieldMap

    mapped = load(tmp_path / "a.jsonl", tmp_path / "d", mapping=FieldMap(prompt="instruction", response="output"))
    assert mapped.dataset.fingerprint != print_of["a.jsonl"]
    assert mapped.dataset.prompts[0] == RECORDS[0]["instruction"]


def test_json_lines_come_back_byte_for_byte(tmp_path: Path) -> None:
    lines = [
        b'{"prompt":"a","completion":"b"}',
        b'  { "completion" : "c\\u00e9" , "prompt":"x", "n": 1.0e3 }  ',
        '{"prompt": "ü\u2028", "completion": "ö", "prompt": "twice"}'.encode(),
        b'{"prompt": "crlf", "completion": "y"}\r',
    ]
    for tail in (b"\n", b""):
        path = tmp_path / "rows.jsonl"
        path.write_bytes(b"\xef\xbb\xbf" + b"\n\n".join(lines) + tail)
        dataset = load(path, tmp_path / "d").dataset
        assert list(dataset.originals_of(range(4))) == lines
        assert list(dataset.originals_of([2, 0])) == [lines[2], lines[0]]
        assert dataset.table["row"].to_pylist() == [0, 1, 2, 3]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=st.lists(values, min_size=1, max_size=6), indent=st.sampled_from([None, 2]), wrap=st.booleans())
def test_json_documents_come_back_by_value(tmp_path: Path, extra: list[Any], indent: int | None, wrap: bool) -> None:
    records = [{"prompt": f"p{i}", "completion": "c", "extra": value} for i, value in enumerate(extra)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"rows": records} if wrap else records, indent=indent), encoding="utf-8")
    dataset = load(path, tmp_path / "d").dataset
    assert [dataset.original(i) for i in range(len(records))] == records


@settings(max_examples=30, deadline=None)
@given(text=st.text("ab\n", max_size=60), cuts=st.lists(st.integers(1, 9), min_size=1), limit=st.integers(3, 70))
def test_lines_do_not_depend_on_where_the_pieces_are_cut(text: str, cuts: list[int], limit: int) -> None:
    from delift_core.data.unpack import TooLong, lines

    data, pieces, at = text.encode(), [], 0
    for i in range(len(data)):
        step = cuts[i % len(cuts)]
        pieces.append(data[at : at + step])
        at += step
    expected = data.split(b"\n") if data else []
    if expected and expected[-1] == b"":
        expected.pop()
    found = list(lines(iter(p for p in pieces if p), limit))
    assert [f.length if isinstance(f, TooLong) else f for f in found] == [
        len(e) if len(e) > limit else e for e in expected
    ]


def test_an_object_with_two_arrays_asks_for_the_split_and_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "both.json"
    path.write_text(json.dumps({"train": RECORDS[:2], "test": RECORDS[2:]}, indent=1))
    with pytest.raises(DataError, match="train, test"):
        load(path, tmp_path / "d")
    assert len(load(path, tmp_path / "d", split="test").dataset) == 3
    with pytest.raises(DataError, match="no array 'dev'"):
        load(path, tmp_path / "d", split="dev")


def test_one_pretty_printed_conversation_is_one_record(tmp_path: Path) -> None:
    record = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    for indent in (None, 2):
        path = tmp_path / "one.json"
        path.write_text(json.dumps(record, indent=indent))
        dataset = load(path, tmp_path / "d").dataset
        assert (dataset.prompts[0], dataset.responses[0], len(dataset)) == ("Hi", "Hello", 1)


def test_parquet_values_that_json_lacks_are_written_by_their_nearest_form(tmp_path: Path) -> None:
    import datetime

    row = {"prompt": "p", "response": "r", "score": float("nan"), "when": datetime.date(2024, 2, 29), "raw": b"\xff"}
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    original = load(path, tmp_path / "d").dataset.original(0)
    assert original == {"prompt": "p", "response": "r", "score": None, "when": "2024-02-29", "raw": "/w=="}


def test_a_saved_dataset_loads_and_several_splits_must_be_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list(RECORDS)
    rows.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(str(tmp_path / "two"))
    assert load(tmp_path / "one", tmp_path / "d").dataset.responses[3] == "Straße Straße"
    with pytest.raises(DataError, match="train, test"):
        load(tmp_path / "two", tmp_path / "d")
    assert len(load(tmp_path / "two", tmp_path / "d", split="test").dataset) == 1
    with pytest.raises(DataError, match="save_to_disk"):
        load(tmp_path, tmp_path / "d")


def test_a_missing_file_and_an_unreachable_hub_id_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        load("nowhere/pool.jsonl", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_plain_text_is_cut_into_passages_for_methods_without_responses(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    sentences = [f"This is sentence number {i}, and it is not very long." for i in range(300)]
    path.write_text("\n".join(sentences))
    with pytest.raises(DataError, match="plain text"):
        load(path, tmp_path / "d")
    loaded = load(path, tmp_path / "d", need_response=False)
    lengths = [len(p) for p in loaded.dataset.prompts]
    assert loaded.report.format == "text" and not loaded.dataset.labelled
    assert all(700 <= n <= 1300 for n in lengths[:-1])
    assert "\n".join(loaded.dataset.prompts).split("\n") == sentences


def test_a_long_text_field_gives_several_passages_of_one_record(tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(1000))
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps({"id": "doc", "text": text}) + "\n" + json.dumps({"id": "b", "text": "short"}) + "\n")
    dataset = load(path, tmp_path / "d", need_response=False).dataset
    assert " ".join(list(dataset.prompts)[:-1]) == text
    assert dataset.ids[0] == "doc-1" and dataset.ids[-1] == "b"
    assert dataset.original(1)["id"] == "doc" and set(dataset.table["row"].to_pylist()) == {0, 1}


def test_a_preview_reads_the_head_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines() + b"broken\n")
    seen = preview(path, rows=2)
    assert (seen.schema, seen.format, len(seen.records), seen.fields) == ("alpaca", "jsonl", 2, tuple(RECORDS[0]))
    assert seen.examples[0] == [(f"{RECORDS[0]['instruction']}\n\n{RECORDS[0]['input']}", "one one")]
    assert [p.line for p in seen.problems] == [6] and list(tmp_path.iterdir()) == [path]
    path.write_text('{"foo": {"a": 1}, "bar": 2}\n')
    assert preview(path).schema == "unknown" and preview(path).fields == ("foo", "bar")
