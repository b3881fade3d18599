from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from delift_core.config import RunConfig
from delift_core.errors import ConfigError, WorkspaceError
from delift_core.runs.export import write_subset
from delift_core.runs.formats import Chat
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset, Indices, Refusal, Selection

from .conftest import finish, leftovers, make_dataset


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def rejected(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(path)]


def test_the_subset_holds_the_original_bytes_in_pick_order(done: Run, pool: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "subset.jsonl"
    made = write_subset(done, pool, out, k=5)
    assert lines(out) == [pool.original_bytes(i) for i in (6, 1, 4, 0, 2)]
    assert (made.rows, made.records, made.rejected) == (5, 5, 0)
    assert made.bytes == out.stat().st_size and made.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    write_subset(done, pool, tmp_path / "small.jsonl")
    assert lines(tmp_path / "small.jsonl") == lines(out)[:3]  # the run's own budget, a prefix


def test_every_other_record_is_rejected_with_its_reason(done: Run, pool: Dataset, tmp_path: Path) -> None:
    refusals = [Refusal(9, "no response", '{"q": "x"', 8), Refusal(13, "not UTF-8", "caf\udce9", 10)]
    made = write_subset(done, pool, tmp_path / "s.jsonl", rejected=tmp_path / "r.jsonl", refusals=refusals)
    found = rejected(tmp_path / "r.jsonl")
    assert [(r["row"], r["id"], r["reason"]) for r in found] == [
        (0, "r0", "not selected: rank 4 of 7, beyond the budget of 3 rows"),
        (2, "r2", "not selected: rank 5 of 7, beyond the budget of 3 rows"),
        (3, "r3", "not selected: rank 7 of 7, beyond the budget of 3 rows"),
        (5, "r5", "exact copy of row r1, which was selected"),
        (7, "r7", "not selected: rank 6 of 7, beyond the budget of 3 rows"),
        (8, None, "refused: no response (line 9)"),
        (10, None, "refused: not UTF-8 (line 13)"),
    ]
    assert made.rejected == 7 and found[-2]["record"] == '{"q": "x"'
    assert pool.original_bytes(2) in (tmp_path / "r.jsonl").read_bytes()  # odd spacing and all
    assert found[3]["record"] == pool.original(5)


def test_rows_of_one_record_write_it_once_and_one_picked_row_saves_it(
    ws: Workspace, config: RunConfig, tmp_path: Path
) -> None:
    """Three conversations with two assistant turns each."""
    pool = make_dataset(tmp_path / "p", [b'{"c": 0}', b'{"c": 1}', b'{"c": 2}'], [(i // 2, i) for i in range(6)])
    order = np.array([3, 0, 2, 5, 4, 1])
    run = finish(ws, config, pool, Selection(order, np.ones(6), np.arange(1.0, 7), 6.0), k=3)
    made = write_subset(run, pool, tmp_path / "s.jsonl", rejected=tmp_path / "r.jsonl")
    assert lines(tmp_path / "s.jsonl") == [b'{"c": 1}', b'{"c": 0}'] and (made.rows, made.records) == (3, 2)
    assert [(r["row"], r["id"], r["reason"][:24]) for r in rejected(tmp_path / "r.jsonl")] == [
        (2, "r5", "not selected: rank 4 of ")
    ]


def test_rows_that_were_never_ordered_are_rejected_too(
    ws: Workspace, config: RunConfig, pool: Dataset, tmp_path: Path
) -> None:
    picks = Selection(np.array([2, 0]), np.ones(2), np.array([1.0, 2.0]), 5.0, nested=False)
    run = finish(ws, config, pool, picks, k=2)
    write_subset(run, pool, tmp_path / "s.jsonl", rejected=tmp_path / "r.jsonl")
    reasons = {r["id"]: r["reason"] for r in rejected(tmp_path / "r.jsonl")}
    assert reasons["r1"] == "not selected: not among the 2 rows of the budget"
    assert reasons["r5"] == "exact copy of row r1, which was not selected"
    with pytest.raises(ConfigError, match="nested"):
        write_subset(run, pool, tmp_path / "s2.jsonl", k=1)


@pytest.mark.parametrize("seed", range(5))
def test_subset_and_rejected_together_are_the_whole_pool(
    ws: Workspace, config: RunConfig, tmp_path: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)
    records = 30
    raw = [json.dumps({"n": n}).encode() for n in range(records)]
    source = np.sort(random.integers(0, records, 60))
    pool = make_dataset(tmp_path / "p", raw, [(int(s), i) for i, s in enumerate(source)])
    order = random.permutation(60)[: int(random.integers(1, 60))]
    values = np.arange(1.0, len(order) + 1)
    k = int(random.integers(1, len(order) + 1))
    run = finish(ws, config, pool, Selection(order, np.ones(len(order)), values, 60.0), k=k)
    write_subset(run, pool, tmp_path / "s.jsonl", rejected=tmp_path / "r.jsonl")
    kept = [json.loads(line)["n"] for line in lines(tmp_path / "s.jsonl")]
    left = [r["record"]["n"] for r in rejected(tmp_path / "r.jsonl")]
    assert len(kept) == len(set(kept)) and len(left) == len(set(left)) and left == sorted(left)
    assert not set(kept) & set(left) and set(kept) | set(left) == set(source.tolist())
    assert set(kept) == set(source[run.picked].tolist())


RECORDS = [
    {"q": "one", "n": 1, "tags": ["a", "b"], "meta": {"x": 1}, "mixed": 1, "ok": True},
    {"q": "two\nlines, \"quoted\"", "n": 2.5, "tags": [], "meta": {"y": "z"}, "mixed": "text", "late": None},
    {"q": "=1+1", "n": None, "mixed": [1], "late": "ü\u2028"},
]  # fmt: skip


@pytest.fixture
def odd(ws: Workspace, config: RunConfig, tmp_path: Path) -> tuple[Run, Dataset]:
    raw = [json.dumps(record).encode() for record in RECORDS]
    pool = make_dataset(tmp_path / "p", raw, [(i, i) for i in range(3)])
    return finish(ws, config, pool, Selection(np.arange(3), np.ones(3), np.arange(1.0, 4), 3.0), k=3), pool


def test_parquet_holds_the_records_by_value(odd: tuple[Run, Dataset], tmp_path: Path) -> None:
    made = write_subset(*odd, tmp_path / "s.parquet", format="parquet")
    back = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert [r["q"] for r in back] == [r["q"] for r in RECORDS]
    assert [r["n"] for r in back] == [1.0, 2.5, None]
    assert [r["tags"] for r in back] == [["a", "b"], [], None]
    assert [json.loads(r["mixed"]) for r in back] == [1, "text", [1]]
    assert back[0]["meta"]["x"] == 1 and back[1]["meta"]["y"] == "z"
    assert [r["late"] for r in back] == [None, None, "ü\u2028"] and [r["ok"] for r in back] == [True, None, None]
    assert made.notes == ("Field 'mixed' holds values of several types; its Parquet column has JSON text.",)


def test_csv_holds_the_records_by_value(odd: tuple[Run, Dataset], tmp_path: Path) -> None:
    made = write_subset(*odd, tmp_path / "s.csv", format="csv")
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as stream:
        back = list(csv.DictReader(stream))
    assert [r["q"] for r in back] == [r["q"] for r in RECORDS]
    assert [r["n"] for r in back] == ["1", "2.5", ""] and [r["ok"] for r in back] == ["true", "", ""]
    assert json.loads(back[0]["tags"]) == ["a", "b"] and back[2]["late"] == "ü\u2028"
    assert {note.split("'")[1] for note in made.notes} == {"tags", "meta", "mixed"}


def test_records_that_are_no_objects_get_a_column(ws: Workspace, config: RunConfig, tmp_path: Path) -> None:
    pool = make_dataset(tmp_path / "p", [b'"just text"', b'"more"'], [(0, 0), (1, 1)])
    run = finish(ws, config, pool, Selection(np.arange(2), np.ones(2), np.arange(1.0, 3), 2.0), k=2)
    write_subset(run, pool, tmp_path / "s.parquet", format="parquet")
    assert pq.read_table(tmp_path / "s.parquet").to_pylist() == [{"record": "just text"}, {"record": "more"}]


def chats(rows: Indices) -> Iterator[Chat]:
    """Rows as turns, without looking at their records."""
    for row in rows:
        yield Chat((("user", f"prompt {row}"),), f"response {row}", f"prompt {row}")


@pytest.mark.parametrize("format", ["trl", "llama-factory"])
def test_training_formats_hold_each_picked_row_and_count_those_of_its_record(
    ws: Workspace, config: RunConfig, tmp_path: Path, format: str
) -> None:
    pool = make_dataset(tmp_path / "p", [b'{"c": 0}', b'{"c": 1}', b'{"c": 2}'], [(i // 2, i) for i in range(6)])
    order = np.array([3, 2, 0, 5, 4, 1])
    run = finish(ws, config, pool, Selection(order, np.ones(6), np.arange(1.0, 7), 6.0), k=3)
    made = write_subset(
        run, pool, tmp_path / "s", format=format, rejected=tmp_path / "r.jsonl", chats=chats
    )  # fmt: skip
    assert (made.rows, made.records) == (3, 3) and "1 row is left out whose record gave another" in made.notes[-1]
    assert [r["row"] for r in rejected(tmp_path / "r.jsonl")] == [2]
    if format == "trl":
        found = [json.loads(line)["completion"][0]["content"] for line in lines(tmp_path / "s")]
        assert found == ["response 3", "response 2", "response 0"]
    with pytest.raises(ValueError, match="give chats"):
        write_subset(run, pool, tmp_path / "t", format=format)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("format", ["jsonl", "parquet", "csv", "trl", "axolotl"])
def test_a_full_disk_leaves_the_old_files_and_nothing_half_written(
    done: Run, pool: Dataset, tmp_path: Path, format: str, fill_disk: Callable[[int], None]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    out, rest = folder / "subset", folder / "rejected"
    out.write_text("old subset")
    rest.write_text("old rest")
    fill_disk(0)
    with pytest.raises(WorkspaceError, match="disk is full"):
        write_subset(done, pool, out, format=format, rejected=rest, chats=chats)
    assert out.read_text() == "old subset" and rest.read_text() == "old rest"
    assert leftovers(folder) == []


def test_a_really_full_disk_leaves_nothing(done: Run, pool: Dataset, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes((1 << 20) - 4096 * 2))
    with pytest.raises(WorkspaceError, match="disk is full"):
        write_subset(done, pool, small_disk / "s.jsonl", rejected=small_disk / "r.jsonl",
                     refusals=[Refusal(1, "long", "x" * 50_000)])  # fmt: skip
    assert [p.name for p in small_disk.iterdir()] == ["filler"]


def test_places_that_would_do_harm_are_refused(done: Run, pool: Dataset, tmp_path: Path) -> None:
    before = pool.originals.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(pool.originals)
    for out, rest, error, words in (
        (pool.originals, None, WorkspaceError, "originals"),
        (link, None, WorkspaceError, "originals"),
        (tmp_path / "a", tmp_path / "a", ConfigError, "Give two names"),
        (tmp_path / "no" / "a", None, WorkspaceError, "no folder"),
        (Path("/dev/null"), None, WorkspaceError, "not a regular file"),
        (tmp_path, None, WorkspaceError, "not a regular file"),
    ):
        with pytest.raises(error, match=words):
            write_subset(done, pool, out, rejected=rest)
    assert pool.originals.read_bytes() == before and Path("/dev/null").is_char_device()


def test_wrong_requests_are_told(done: Run, pool: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    with pytest.raises(ConfigError, match="Did you mean 'jsonl'"):
        write_subset(done, pool, out, format="json")
    for k in (0, 8, -1):
        with pytest.raises(ConfigError, match=f"Budget of {k} rows"):
            write_subset(done, pool, out, k=k)
    with pytest.raises(ConfigError, match="not the pool"):
        write_subset(done, replace(pool, fingerprint="00" * 32), out)
    assert not out.exists()
