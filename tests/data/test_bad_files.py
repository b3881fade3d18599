"""Bad input: a clear error that says what to do, and nothing half-written."""

from __future__ import annotations

import errno
import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from delift_core.data import ReadLimits, load, refusals
from delift_core.data import store as store_module
from delift_core.errors import DataError, WorkspaceError

GOOD = b'{"prompt": "p", "completion": "c"}\n'


def refused_whole(path: Path, content: bytes, match: str, limits: ReadLimits | None = None) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError, match=match) as caught:
        load(path, path.parent / "datasets", limits=limits or ReadLimits())
    assert path.name in str(caught.value)
    folder = path.parent / "datasets"
    assert not folder.exists() or not list(folder.iterdir())
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"\n \n\n", "blank lines"),
        (gzip.compress(b""), "blank lines"),
        (bytes(range(256)) * 50, "binary"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "an image"),
        (b"PK\x03\x04" + b"\0" * 99, "zip archive"),
        (b"\x80\x04\x95" + b"\0" * 99, "pickle"),
        (GOOD.decode().encode("utf-16"), "UTF-16"),
        (GOOD.decode().encode("utf-16-le"), "UTF-16"),
        ('{"prompt": "é", "completion": "ü"}\n'.encode("latin-1") * 3, "not UTF-8"),
        ('[{"prompt": "é", "completion": "ü"}]\n'.encode("latin-1"), "not UTF-8"),
        ("prompt,completion\né,ü\n".encode("latin-1"), "not UTF-8"),
        (gzip.compress(GOOD * 500)[:-20], "cut short"),
        (gzip.compress(GOOD * 500)[:-4], "cut short"),
        (gzip.compress(GOOD) + b"garbage after the end", "not gzip"),
        (zstandard.compress(GOOD * 500)[:-5], "cut short"),
        (zstandard.compress(GOOD)[:8] + b"\xff" * 20, "zstd"),
        (b'{"prompt": "p", "completion": NaN}\n', "NaN is not JSON"),
        (b'[{"prompt": "p", "completion": NaN}]', "NaN is not JSON"),
        (b'[{"prompt": "p", "completion": "c"}, {"prompt"', "cut short|not JSON"),
        (b'[{"prompt": "p", "completion": "c"}] trailing', "more text follows"),
        (b"[]", "no records"),
        (b'{"data": []}', "no known layout"),
        (b"[1, 2, 3]", "not an object"),
        (b'{"prompt": "p", "completion": ""}\n{"prompt": "q", "completion": "  "}\n', "delift-se"),
        (b'{"prompt": "p"}\n', "without responses.*delift-se"),
        (b'{"text": "just text"}\n', "plain text"),
        (b'{"foo": 1}\n', "fields foo: no known layout.*mapping"),
        (b'{"messages": [{"role": "user", "content": "Q"}]}\n', "no assistant turn"),
        (b'{"messages": [{"role": "wizard", "content": "Q"}]}\n', "unknown role"),
        (b'{"prompt": "\\ud800", "completion": "c"}\n', "not Unicode"),
        (b"[" * 100_000, "nested too deeply|not JSON|cut short"),
        (b'{"prompt": ' + b"[" * 100_000 + b"\n", "nested too deeply|not JSON"),
        (b"how many?\t18\nwhat?\t5\n", "plain text"),
        (b"PAR1" + b"\0" * 50, "Parquet"),
        (b"ARROW1\0\0" + b"\0" * 50, "Arrow"),
    ],
    ids=range(36),
)
def test_a_file_without_a_usable_row_is_refused_whole(tmp_path: Path, content: bytes, match: str) -> None:
    refused_whole(tmp_path / "pool.jsonl", content, match)


def test_a_decompression_bomb_stops_at_the_cap_in_little_memory(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as packer:
        for _ in range(12):
            packer.write(GOOD * 30_000)
    refused_whole(
        tmp_path / "a.gz",
        stream.getvalue(),
        "the limit for one file|decompression bomb",
        ReadLimits(unpacked_bytes=6_000_000),
    )
    bomb = zstandard.compress(b" " * 30_000_000 + GOOD)
    tracemalloc.start()
    refused_whole(tmp_path / "b.zst", bomb, "decompression bomb", ReadLimits(unpacked_bytes=28_000_000))
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()


def test_a_line_of_50_mb_is_refused_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    long = b'{"prompt": "' + b"x" * 50_000_000 + b'", "completion": "c"}\n'
    path.write_bytes(GOOD + long + GOOD)
    tracemalloc.start()
    loaded = load(path, tmp_path / "d")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (refusal,) = refusals(tmp_path / "d" / loaded.dataset.fingerprint)
    assert (loaded.report.rows, refusal.line, len(refusal.text)) == (2, 2, 400)
    assert refusal.reason.startswith("line too long: 50,000,")
    assert peak < 60_000_000
    refused_whole(tmp_path / "only.jsonl", long, "line too long")
    refused_whole(tmp_path / "array.json", b"[" + long.strip() + b"]", "longer than")


def test_refused_rows_keep_line_reason_and_text(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(
        GOOD
        + b"\n"
        + b"not json\n"
        + b'{"prompt": "p"}\n'
        + b'{"prompt": "p", "completion": ""}\n'
        + b"[1]\n"
        + b"\xff\n"
        b'{"prompt": "p", "completion": Infinity}\n' + GOOD[:-9]
    )
    loaded = load(path, tmp_path / "d")
    found = {r.line: r for r in refusals(tmp_path / "d" / loaded.dataset.fingerprint)}
    assert sorted(found) == [3, 4, 5, 6, 7, 8, 9]
    assert found[4].reason.startswith("no field 'completion'") and "found: prompt" in found[4].reason
    assert found[3].text == "not json" and found[5].reason.startswith("empty response")
    assert sum(loaded.report.reasons.values()) == loaded.report.refused == 7
    assert loaded.report.reasons["not JSON"] == 2 and loaded.report.records == 8
    assert loaded.dataset.table["row"].to_pylist() == [0]


def test_csv_rows_with_wrong_columns_or_quotes_are_refused_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('prompt,completion\na,b\nc\n"d"e,f\n"multi\nline",g\nh,"open\n')
    loaded = load(path, tmp_path / "d")
    assert list(loaded.dataset.prompts) == ["a", "multi\nline"]
    assert set(loaded.report.reasons) == {"wrong number of columns", "broken quoting"}
    refused_whole(tmp_path / "headless.tsv", b"how many?\t18\nwhat?\t5\n", "first line was taken as the header")
    refused_whole(tmp_path / "dup.csv", b"prompt,prompt\na,b\n", "every column once")


def test_one_row_and_only_duplicates_load(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(GOOD)
    assert len(load(path, tmp_path / "d").dataset) == 1
    path.write_bytes(GOOD * 4)
    loaded = load(path, tmp_path / "d")
    assert (len(loaded.dataset), loaded.report.duplicates, loaded.dataset.unique.tolist()) == (4, 3, [0])
    assert loaded.dataset.table["copy_of"].to_pylist() == [0, 0, 0, 0]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_bytes(GOOD * 10)

    def full(self: store_module.Store) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.Store, "flush", full)
    with pytest.raises(WorkspaceError, match=r"disk is full.*Nothing was kept"):
        load(path, tmp_path / "d")
    assert not list((tmp_path / "d").iterdir())


def test_an_interrupted_load_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_bytes(GOOD * 10)

    def stop(stage: str, done: float, total: float, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(path, tmp_path / "d", progress=stop)
    assert not list((tmp_path / "d").iterdir())


def test_a_broken_dataset_folder_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps({"prompt": "p", "completion": "c"}))
    loaded = load(path, tmp_path / "d")
    (tmp_path / "d" / loaded.dataset.fingerprint / "rows.arrow").write_bytes(b"broken")
    assert list(load(path, tmp_path / "d").dataset.prompts) == ["p"]
