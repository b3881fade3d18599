"""Bad input ends with a clear error, exit status 2, and nothing half-written."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delift_core import cli, pipeline
from delift_core.errors import DeliftError, WorkspaceError
from delift_core.runs import Run, Workspace
from tests import small


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return small.write(tmp_path / "pool.jsonl", small.rows(12))


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `delift select` with these words, expect a mistake, and return its text."""
    home, out = tmp_path / "ws", tmp_path / "subset.jsonl"

    def run(*words: Any, model: str | None = None) -> str:
        capsys.readouterr()
        given = ["select", *map(str, words), "--model", model or small.model(), "--out", str(out), "--json"]
        assert cli.main([*given, "--workspace", str(home)]) == 2
        printed, err = capsys.readouterr()
        answer = json.loads(printed)
        assert "Traceback" not in err and answer["error"] in err
        assert not out.exists(), "a subset was written"
        assert not (list((home / "runs").glob("*/manifest.json")) if (home / "runs").exists() else []), (
            "a run was written"
        )
        assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob(".loading-*")), (
            "something is half-written"
        )
        return str(answer["error"])

    return run


def jsonl(*records: Any) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in records).encode()


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty|no records|holds no"),
    "binary": (os.urandom(4096).replace(b"\n", b"\0") + b"\0\x01\x02", "."),
    "not UTF-8": ("".join(f'{{"instruction": "é{i}", "output": "ü"}}\n' for i in range(5)).encode("latin-1"), "UTF-8"),
    "truncated gzip": (gzip.compress(jsonl(*small.rows(2000)))[:300], "gzip|cut|end"),
    "all outputs empty": (jsonl(*({**r, "output": ""} for r in small.rows(6))), "response"),
    "no field that fits": (jsonl({"a": 1, "b": 2}, {"a": 3, "b": 4}), "mapping|field"),
    "one row": (jsonl(*small.rows(1)), "one row.*nothing to choose from"),
    "duplicate rows only": (
        jsonl(*([{**small.rows(1)[0], "id": None}] * 5)),
        "5 rows that are all exact copies of one",
    ),
    "JSON that is no record": (b"[1, 2, 3]\n", "."),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_serve_as_pool_is_refused(name: str, refused: Callable[..., str], tmp_path: Path) -> None:
    content, expected = FILES[name]
    source = tmp_path / "bad.jsonl"
    source.write_bytes(content)
    error = refused(source, "--method", "random")
    import re

    assert re.search(expected, error), error
    assert "bad.jsonl" in error, "the error names the file"


def test_a_row_with_nan_is_refused_and_the_others_are_used(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "ws")
    lines = [json.dumps(r) for r in small.rows(5)]
    lines[2] = '{"instruction": "what", "output": NaN}'
    (tmp_path / "nan.jsonl").write_text("\n".join(lines) + "\n")
    config = pipeline.configure(ws, tmp_path / "nan.jsonl", method="random", budget="100%", model=small.model())
    run = pipeline.run(ws, config)
    assert len(run.picked) == 4
    assert run.manifest["inputs"][0]["refused"] == 1


def test_a_missing_file_says_so(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no file" in refused(tmp_path / "nowhere.jsonl")


def test_a_wrong_mapping_names_the_fields_that_are_there(refused: Callable[..., str], pool: Path) -> None:
    error = refused(pool, "--fields", "prompt=question,response=output")
    assert "question" in error and "instruction" in error


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("0", "more than 0"),
        ("0%", "more than 0"),
        ("13", "at most 12"),
        ("101%", "at most 100%"),
        ("-3", "not understood"),
        ("half", "not understood"),
        ("2.5", "whole"),
        ("nan", "not understood"),
        ("1tok", "below the shortest row"),
        ("", "not understood"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(
    budget: str, expected: str, refused: Callable[..., str], pool: Path
) -> None:
    assert expected in refused(pool, "--method", "random", f"--budget={budget}")


def test_a_budget_in_words_is_refused_before_the_file_is_read(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "not understood" in refused(tmp_path / "nowhere.jsonl", "--budget", "a third")


@pytest.mark.parametrize(("name", "nearest"), [("delfit", "'delift'"), ("got", "'got-d'"), ("Random", "'random'")])
def test_an_unknown_method_answers_with_the_nearest_known_names(
    name: str, nearest: str, refused: Callable[..., str], pool: Path
) -> None:
    error = refused(pool, "--method", name)
    assert f"Unknown method {name!r}" in error and nearest in error


def test_a_model_folder_without_weights_is_refused(refused: Callable[..., str], pool: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hollow"
    shutil.copytree(small.model(), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    assert "no weights" in refused(pool, "--method", "delift", "--budget", "3", model=str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    assert "pickle" in refused(pool, "--method", "delift", "--budget", "3", model=str(folder))
    (folder / "config.json").unlink()
    assert "config.json" in refused(pool, "--method", "delift", "--budget", "3", model=str(folder))
    assert "No model folder" in refused(pool, "--method", "delift", "--budget", "3", model=str(tmp_path / "nowhere"))


def test_a_pool_equal_to_its_target_or_existing_data_is_refused(
    refused: Callable[..., str], pool: Path, tmp_path: Path
) -> None:
    same = tmp_path / "the same under another name.jsonl"
    shutil.copy(pool, same)
    error = refused(pool, "--method", "delift-task", "--target", same)
    assert "pool and the target are the same rows" in error
    error = refused(pool, "--method", "delift-continual", "--existing", same)
    assert "pool and the existing are the same rows" in error
    table = tmp_path / "the same as a table.csv"
    lines = [f"{r['id']},{r['instruction']},{r['output']},here" for r in small.rows(12)]
    table.write_text("\n".join(["id,instruction,output,place", *lines]) + "\n")
    error = refused(pool, "--method", "delift-task", "--target", table)
    assert "Every row of the pool" in error


def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], pool: Path, tmp_path: Path
) -> None:
    for out, extra, expected in (
        (tmp_path / "no folder" / "a.jsonl", [], "does not exist"),
        (tmp_path / "a.txt", [], "ending"),
        (tmp_path / "a.jsonl", ["--rejected", str(tmp_path / "a.jsonl")], "two names"),
    ):
        assert cli.main(["select", str(pool), "--out", str(out), *extra, "--workspace", str(tmp_path / "ws")]) == 2
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "ws").exists()


def test_a_disk_that_fills_up_while_a_run_is_written_leaves_nothing_half_written(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = Workspace(tmp_path / "ws")
    config = pipeline.configure(ws, pool, method="random", budget="3", model=small.model())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkspaceError, match="disk is full"):
            pipeline.run(ws, config)
    assert not Run.is_finished(ws, config.id)
    assert not list(tmp_path.rglob("*.part"))
    assert ws.catalogue.run(config.id).state == "failed"
    done = pipeline.run(ws, config)

    out = tmp_path / "subset.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkspaceError, match="disk is full"):
            pipeline.export(ws, done, out)
    assert not out.exists() and not list(tmp_path.rglob("*.part"))
    pipeline.export(ws, done, out)
    assert len(small.lines(out)) == 3


def test_a_workspace_that_is_a_file_is_refused(refused: Callable[..., str], pool: Path, tmp_path: Path) -> None:
    (tmp_path / "ws").write_text("not a folder")
    with pytest.raises(DeliftError):
        pipeline.add_dataset(Workspace(tmp_path / "ws"), pool)


def test_options_outside_their_range_are_refused(refused: Callable[..., str], pool: Path, tmp_path: Path) -> None:
    target = small.write(tmp_path / "target.jsonl", small.rows(3, seed=1))
    words = [pool, "--target", target, "--budget", "3", "--method"]
    assert "outside" in refused(*words, "got-d", "--epsilon", "-1")
    assert "outside" in refused(*words, "delift-task", "--eta", "nan")
    assert "negative" in refused(*words, "delift-task", "--seed", "-1")
