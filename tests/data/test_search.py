"""Searching rows: words, patterns, SQL that can do no harm."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from delift_core import pipeline
from delift_core.data import sql
from delift_core.data.search import column_names, search, values_of, with_value
from delift_core.errors import ConfigError, DataError
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset

ROWS = [
    {"id": "a1", "instruction": "Name a RIVER.", "output": "The Rhine (in Germany).", "Topic": "geo", "gain": "low"},
    {"id": "b2", "instruction": "Add 2 and 3.", "output": "5", "Topic": "sums", "gain": "high"},
    {"id": "c3", "instruction": "Straße?", "output": "Eine river-Straße.", "Topic": "geo", "gain": None},
    {"id": "d4", "instruction": "100% sure_", "output": "x" * 300, "Topic": "geo", "gain": "low"},
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("search")
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return pipeline.add_dataset(Workspace(folder / "ws"), path)


MORE = {"rank": pa.array([2, None, 1, 3]), "selected": np.array([True, False, True, False]), "gain": np.arange(4.0)}


def found(rows: Dataset, query: str, how: str = "sql", **more: float) -> list[int]:
    return search(rows, query, how, columns=MORE, **more).tolist()


@pytest.mark.parametrize(
    ("query", "how", "wanted"),
    [
        ("river", "text", [0, 2]), ("straße", "text", [2]), ("B2", "text", [1]), ("100%", "text", [3]),
        ("sure_", "text", [3]), ("(in", "text", [0]), ("nowhere", "text", []), ("  ", "text", [0, 1, 2, 3]),
        (r"^\d$", "regex", [1]), ("(?i)river", "regex", [0, 2]), ("river", "regex", [2]), ("(x+x+)+y", "regex", []),
        ("length(response) > 200", "sql", [3]), ("Topic = 'geo' AND rank <= 2", "sql", [0, 2]),
        ("selected -- and a remark", "sql", [0, 2]), ("row > 1", "sql", [2, 3]), ("rank IS NULL", "sql", [1]),
        ("gain >= 2", "sql", [2, 3]), ("\"field.gain\" = 'low'", "sql", [0, 3]),
        ("SELECT row FROM rows ORDER BY rank DESC NULLS LAST LIMIT 1;", "sql", [3]),
        ("SELECT id FROM rows WHERE prompt LIKE '%RIVER%'", "sql", [0]),
        ("with g as (select * from rows) select min(row) as row from g group by topic", "sql", [0, 1]),
        ("FROM rows WHERE topic = 'sums'", "sql", [1]), ("SELECT 'c3' AS id", "sql", [2]),
        ("SELECT 99 AS row", "sql", []), ("SELECT row FROM rows WHERE row = 1; -- done", "sql", [1]),
    ],
)  # fmt: skip
def test_rows_that_match(rows: Dataset, query: str, how: str, wanted: list[int]) -> None:
    assert found(rows, query, how) == wanted


@pytest.mark.parametrize(
    ("query", "how", "said"),
    [
        ("(", "regex", "missing )"), (r"a(?=b)", "regex", "RE2"), ("x", "words", "Known: regex, sql, text"),
        ("length(response) >", "sql", "syntax error"), ("SELECT row FROM rows WHERE", "sql", "syntax error"),
        ("lenght(response) > 2", "sql", "lenght"), ("language = 'de'", "sql", 'are: row, id, prompt, response, rank'),
        ("nope = 1", "sql", '"Topic", "field.gain"'), ("SELECT prompt FROM rows", "sql", "returns prompt"),
        ("SELECT row FROM elsewhere", "sql", "elsewhere"), ("rank = 'first'", "sql", "first"),
        ("1=1; DROP TABLE rows", "sql", "syntax error"),
        ("SELECT row FROM rows; DROP TABLE rows", "sql", "this has SELECT, DROP"),
        ("DROP TABLE rows", "sql", "this has DROP"), ("SET threads = 1", "sql", "this has SET"),
        ("COPY rows TO '/tmp/never.csv'", "sql", "this has COPY"), ("ATTACH '/tmp/never.db'", "sql", "this has ATTACH"),
        ("SELECT 1 AS row FROM read_csv('/etc/passwd')", "sql", "nothing else"),
        ("SELECT row FROM '/etc/passwd'", "sql", "cannot be run"), ("-- nothing", "sql", "this has nothing"),
        ("SELECT row FROM MORE", "sql", "MORE"), ("SELECT row FROM glob('/*')", "sql", "nothing else"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_says_why_in_one_line(rows: Dataset, query: str, how: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        found(rows, query, how)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_query_that_takes_too_long_is_stopped(rows: Dataset) -> None:
    names = "abcdefghijklmnopqr"
    tables, ranks = ", ".join(f"rows {n}" for n in names), " + ".join(f"length({n}.id)" for n in names)
    endless = f"SELECT count(*) AS row FROM {tables} WHERE ({ranks}) % 7 = 3"
    with pytest.raises(ConfigError, match=r"longer than 0\.2 s"):
        found(rows, endless, seconds=0.2)


@pytest.mark.parametrize("how", ["text", "regex"])
def test_a_search_is_given_up_when_its_time_is_over(rows: Dataset, how: str) -> None:
    with pytest.raises(ConfigError, match="was stopped"):
        found(rows, "river", how, seconds=-1.0)


def test_names_that_differ_in_case_alone_or_are_taken_get_a_prefix(rows: Dataset) -> None:
    assert column_names(rows, MORE) == (
        "row", "id", "prompt", "response", "rank", "selected", "gain", "Topic", "field.gain",
    )  # fmt: skip


def test_values_of_a_field_and_the_rows_that_hold_one(rows: Dataset) -> None:
    assert values_of(rows, "Topic") == [("geo", 3), ("sums", 1)]
    assert values_of(rows, "gain", most=2) == [("low", 2), (None, 1)]
    assert with_value(rows, "gain", "low").tolist() == [True, False, False, True]
    assert with_value(rows, "gain", None).tolist() == [False, False, True, False]
    with pytest.raises(DataError, match="It has"):
        with_value(rows, "colour", "red")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("list_sum(range(1000000000)) > 0", "more than 1.1 GB of memory"),
        ("length(lpad(response, 1000000000, prompt)) > 3", "more than 1.1 GB of memory"),
        ("length(repeat(response, 100000000)) > 0", "memory|maximum supported string size"),
        ("WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT x AS row FROM t", "longer than 1 s"),
        ("(" * 3_000, "memory"), ("NOT " * 4_000 + "true", "depth"), ("(" * 30_000, "20,000 are read"),
    ],
)  # fmt: skip
def test_a_query_that_would_take_everything_comes_to_a_limit_and_the_next_one_works(
    rows: Dataset, query: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        found(rows, query, seconds=1.0 if "RECURSIVE" in query else 20.0)
    assert found(rows, "row = 2 AND list_sum(range(5)) = 10") == [2]  # no function is forbidden


def test_a_query_that_returns_more_than_there_is_gives_each_row_once(rows: Dataset) -> None:
    assert found(rows, "SELECT range % 9 AS row FROM range(1000000)") == [0, 1, 2, 3]


def test_a_worker_that_is_killed_by_the_system_is_told(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.CompletedProcess([], -9, b"", b"")
    monkeypatch.setattr(sql, "_run", lambda *given: dead)
    with pytest.raises(ConfigError, match="limit of its memory"):
        found(rows, "row = 1")
    dead.returncode, dead.stderr = 1, b"Traceback\nKeyError: 'x'\n"
    with pytest.raises(RuntimeError, match="KeyError"):  # a fault stays visible
        found(rows, "row = 1")


@pytest.mark.skipif(sys.platform != "linux", reason="the system keeps no such limits")
@pytest.mark.parametrize(
    ("spend", "status"),
    [
        ("bytearray(1 << 30)", 1),
        ("next(x for x in iter(int, 1) if x)", -signal.SIGXCPU),
        ("Path(sys.argv[1]).write_text('x')", 1),
    ],
)
def test_the_limits_hold_for_the_process_itself(tmp_path: Path, spend: str, status: int) -> None:
    code = f"import sys; from delift_core.data.sqlworker import Path, limit; limit(1 << 28, 1); {spend}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == status
    assert status < 0 or b"MemoryError" in done.stderr or b"File too large" in done.stderr


def test_other_searches_that_do_not_end_are_not_waited_for_long(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_turns", threading.BoundedSemaphore(1))
    with sql._turns, pytest.raises(ConfigError, match="Other searches are under way"):
        found(rows, "row = 1", seconds=0.1)


def test_the_worker_imports_nothing_of_ours_so_that_it_starts_fast() -> None:
    code = "import sys, runpy; runpy.run_path(sys.argv[1]); print({'delift_core', 'pandas', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-P", "-c", code, str(sql._WORKER)], capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"


def test_many_remarks_take_no_time_to_read(rows: Dataset) -> None:
    with pytest.raises(ConfigError):
        found(rows, "/**/" * 200 + "length(")
