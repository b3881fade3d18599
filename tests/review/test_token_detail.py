"""What the warm worker serves: one pair of a real run, token by token, equal to what the run stored."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.errors import ConfigError, DataError, ModelError, WorkspaceError
from delift_core.insight.tokens import sentences, table, visible
from delift_core.review import token_detail
from delift_core.runs import Run, Workspace, files, manifest, warm
from tests import small

HOSTILE = "\x1b[31mred\u202e\n<b>日本</b>"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def ws(home: Path) -> Workspace:
    return Workspace(home / "ws")


@pytest.fixture(scope="module")
def run(home: Path, ws: Workspace) -> Run:
    """Eight pool rows and three target rows scored by the small model."""
    pool = small.rows(8)
    pool[3]["output"] = HOSTILE
    found = [
        pipeline.add_dataset(ws, small.write(home / f"{name}.jsonl", rows), role=name).fingerprint
        for name, rows in (("pool", pool), ("target", small.rows(3, seed=1)))
    ]
    config = RunConfig(pool=found[0], target=found[1], method="delift-task", budget="3", model=small.model())
    return pipeline.run(ws, config)


def test_every_pair_has_the_utility_that_the_run_stored(ws: Workspace, run: Run) -> None:
    l2, pmi = run.utility("target", "l2"), run.utility("target", "pmi")
    assert l2.baseline is not None and pmi.baseline is not None
    for i, row in enumerate(l2.helped):
        for j in (0, 3, 7):
            record = token_detail.token_detail(ws, run.id, "target", int(row), int(l2.candidates[j]))
            assert record["l2"] == pytest.approx(l2.values[i, j], abs=1e-4)
            assert record["pmi"] == pytest.approx(pmi.values[i, j], abs=1e-4)
            assert record["d_before"] == pytest.approx(l2.baseline[i], abs=1e-4)
            assert record["l_before"] == pytest.approx(pmi.baseline[i], abs=1e-4)
            assert record["stored"]["l2"] == pytest.approx(record["l2"], abs=1e-4)
            after = [token["after"] for token in record["tokens"]]
            count = sum(token["count"] for token in record["tokens"])
            assert sum(after) / count == pytest.approx(record["l_after"], abs=1e-4)
            assert json.loads(json.dumps(record)) == record


def test_the_tokens_spell_the_response_and_end_with_the_closing_one(ws: Workspace, run: Run) -> None:
    record = token_detail.by_id(ws, run.id, "1-2", "0-3")
    assert record["part"] == "target"
    assert "".join(token["text"] for token in record["tokens"]) == small.rows(3, seed=1)[2]["output"]
    assert [token["end"] for token in record["tokens"]] == [False] * (len(record["tokens"]) - 1) + [True]
    assert (record["row"]["id"], record["example"]["id"]) == ("1-2", "0-3")


def test_a_pool_run_reads_its_pool_and_a_row_beside_itself_was_not_scored(home: Path, ws: Workspace, run: Run) -> None:
    config = RunConfig(pool=run.config.pool, method="delift", budget="3", model=small.model())
    done = pipeline.run(ws, config)
    record = token_detail.by_id(ws, done.id, "0-3", "0-1")
    assert record["l2"] == pytest.approx(done.utility("pool", "l2").values[3, 1], abs=1e-4)
    assert "".join(token["text"] for token in record["tokens"]) == HOSTILE
    text = token_detail.as_text(record)
    assert "\x1b" not in text and "\u202e" not in text
    assert "\\u{1b}" in text and "⏎" in text and "Some characters take several tokens" in text
    assert f"utility {record['l2']:+.4f}" in text
    itself = token_detail.by_id(ws, done.id, "0-3", "0-3", "pool")
    assert itself["stored"] == {}
    assert any("did not score this pair" in note for note in itself["notes"])


@pytest.mark.parametrize(
    ("part", "row", "example", "error", "told"),
    [
        ("pool", 0, 0, ConfigError, "has no pairs of 'pool'. It has: target"),
        ("nonsense", 0, 0, ConfigError, "has no pairs of 'nonsense'"),
        ("target", 3, 0, DataError, "has no row 3"),
        ("target", 0, -1, DataError, "has no row -1"),
    ],
)
def test_what_is_not_there_is_named(
    ws: Workspace, run: Run, part: str, row: int, example: int, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        token_detail.token_detail(ws, run.id, part, row, example)


def test_unknown_ids_and_runs_are_named(ws: Workspace, run: Run) -> None:
    with pytest.raises(DataError, match="no row with the id 'x'"):
        token_detail.by_id(ws, run.id, "1-0", "x")
    with pytest.raises(WorkspaceError):
        token_detail.token_detail(ws, "0" * 16, "pool", 0, 0)


def test_a_run_without_a_language_model_says_so(ws: Workspace, run: Run) -> None:
    done = pipeline.run(ws, RunConfig(pool=run.config.pool, method="random", budget="3"))
    with pytest.raises(ConfigError, match="scored no pairs with a language model"):
        token_detail.by_id(ws, done.id, "0-1", "0-2")


def test_other_weights_than_the_run_used_are_refused(ws: Workspace, run: Run) -> None:
    changed = {**run.manifest, "models": [{**run.manifest["models"][0], "hash": "f" * 64}]}
    path = run.folder / "manifest.json"
    files.write_json(path, {**changed, "hash": manifest.digest(changed)})
    try:
        with pytest.raises(ModelError, match="has changed since"):
            token_detail.token_detail(ws, run.id, "target", 0, 0)
    finally:
        files.write_json(path, run.manifest)


def test_the_worker_answers_as_the_function_does(ws: Workspace, run: Run) -> None:
    worker = warm.Warm(token_detail.worker_command(ws))
    question = {"run": run.id, "part": "target", "row": 1, "example": 2, "manifest": run.manifest["hash"]}
    try:
        answer = worker.ask(question)
        direct = token_detail.token_detail(ws, run.id, "target", 1, 2)
        assert answer["sentences"] == direct["sentences"]
        np.testing.assert_allclose(*([t["after"] for t in r["tokens"]] for r in (answer, direct)), atol=1e-5)
        with pytest.raises(DataError, match="has no row 99"):
            worker.ask({**question, "row": 99})
        assert worker.ready
    finally:
        worker.stop()


# --- sentences -------------------------------------------------------------------------------------------------------


def token(text: str, before: float, after: float, **more: Any) -> dict[str, Any]:
    return {"text": text, "count": 1, "end": False, "before": math.log(before), "after": math.log(after), **more}


def test_sentences_name_where_it_helps_and_hurts() -> None:
    tokens = [token(" Paris", 0.1, 0.9), token("\n", 0.5, 0.51), token("", 0.6, 0.2, end=True)]
    assert sentences(tokens) == [
        "The example helps most at: “ Paris” (0.10 → 0.90).",
        "It hurts most at: “(end of the response)” (0.60 → 0.20).",
        "Of 3 tokens, 1 rise by 0.05 or more and 1 fall by as much.",
    ]
    assert table(tokens)["change"] == pytest.approx([0.8, 0.01, -0.4])
    assert table([token("  ", 0.5, 0.5)])["token"] == ["␣␣"]


def test_where_nothing_changes_the_sentence_says_so() -> None:
    assert sentences([token("a", 0.5, 0.52)])[0] == "No token's probability changes by 0.05 or more."


def test_what_prints_nothing_is_shown_by_number() -> None:
    assert visible("a\tb\nc\x07\u202e") == "a⇥b⏎c\\u{7}\\u{202e}"
