"""The command line: one JSON object on standard output, everything else on standard error, exit status 0, 2 or 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delift_core import cli, console
from delift_core.runs import Workspace, jobs
from delift_core.types import Cost
from tests import small


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return small.write(tmp_path / "pool.jsonl", small.rows(20))


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process: (status, JSON object, standard error)."""

    def run(*words: Any, status: int = 0) -> dict[str, Any]:
        found = cli.main([*map(str, words), "--json", "--workspace", str(tmp_path / "ws")])
        out, err = capsys.readouterr()
        assert found == status, err
        assert out.count("\n") == 1, "exactly one line on standard output"
        answer: dict[str, Any] = json.loads(out)
        return {**answer, "stderr": err}

    return run


def test_inspect_names_schema_rows_and_refusals_with_reasons(call: Any, tmp_path: Path) -> None:
    records = [*small.rows(5), {"instruction": "no answer", "output": ""}, small.rows(1)[0]]
    answer = call("inspect", small.write(tmp_path / "some.jsonl", records))
    assert answer["schema"] == "alpaca"
    assert (answer["rows"], answer["refused"], answer["duplicates"]) == (6, 1, 1)
    assert sum(answer["reasons"].values()) == 1
    assert not (tmp_path / "ws" / "datasets").exists(), "inspect keeps nothing"


def test_inspect_takes_an_explicit_mapping(call: Any, tmp_path: Path) -> None:
    odd = small.write(
        tmp_path / "odd.jsonl", [{"frage": r["instruction"], "antwort": r["output"]} for r in small.rows(4)]
    )
    assert call("inspect", odd, "--fields", "prompt=frage,response=antwort")["rows"] == 4
    assert "prompt" in call("inspect", odd, "--fields", "promt=frage", status=2)["error"]
    assert "ROLE=NAME" in call("inspect", odd, "--fields", "prompt", status=2)["error"]


def test_select_answers_with_the_keys_that_scripts_rely_on(call: Any, pool: Path, tmp_path: Path) -> None:
    out, rejected = tmp_path / "subset.jsonl", tmp_path / "rejected.jsonl"
    answer = call(
        "select", pool, "--method", "random", "--budget", "25%", "--seed", 7, "--model", small.model(),
        "--out", out, "--rejected", rejected,
    )  # fmt: skip
    wanted = {"run", "rows", "selected", "value", "full_value", "seconds", "out", "manifest"}
    assert wanted <= answer.keys()
    assert (answer["rows"], answer["selected"], answer["out"]) == (20, 5, str(out))
    manifest = json.loads(Path(answer["manifest"]).read_text())
    assert [r["id"] for r in small.records(small.lines(out))] == manifest["ids"]
    assert set(small.lines(out)) < set(small.lines(pool))
    assert len(small.lines(rejected)) == 15
    assert all({"id", "reason", "record"} <= r.keys() for r in small.records(small.lines(rejected)))
    assert "Picking rows: 20 of 20" in answer["stderr"], "progress goes to standard error"
    assert manifest["command"][:2] == ["delift", "select"]


def test_estimate_takes_the_arguments_of_select_and_counts_pairs(call: Any, pool: Path) -> None:
    answer = call("estimate", pool, "--budget", "5", "--model", small.model())
    assert {"pairs", "tokens", "seconds", "bytes"} <= answer.keys()
    assert answer["pairs"] == 400
    chosen = call("select", pool, "--budget", "5", "--model", small.model())
    assert chosen["run"] == answer["run"]


def test_options_of_scorers_and_objectives_are_flags(call: Any, pool: Path, tmp_path: Path) -> None:
    target = small.write(tmp_path / "target.jsonl", small.rows(3, seed=1))
    words = ["select", pool, "--target", target, "--method", "delift-task", "--budget", "5", "--model", small.model()]
    plain, heavy = call(*words), call(*words, "--eta", "0.25", "--kind", "pmi", "--example-tokens", "64")
    assert plain["run"] != heavy["run"]
    config = json.loads(Path(heavy["manifest"]).read_text())["config"]
    assert config["options"] == {"eta": 0.25, "example_tokens": 64} and config["kind"] == "pmi"
    assert "outside" in call(*words, "--example-tokens", "1", status=2)["error"]
    assert "outside" in call(*words, "--eta", "-1", status=2)["error"]
    assert "Unknown setting or option" in call(*words, "--epsilon", "0.1", status=2)["error"]


def test_methods_lists_every_method_with_its_needs(call: Any) -> None:
    listed = {m["name"]: m for m in call("methods")["methods"]}
    assert {"delift", "delift-task", "delift-continual", "delift-se", "got-d", "random"} <= listed.keys()
    assert listed["delift-task"]["needs"] == ["pool", "target"]
    assert listed["delift-continual"]["needs"] == ["pool", "existing"]


def test_doctor_says_what_is_there(call: Any) -> None:
    report = call("doctor")
    assert report["packages"]["torch"] != "missing"
    assert "minilm" in report["models"] and "free" in report["workspace"]
    assert all({"what", "how"} <= m.keys() for m in report["missing"])


def test_doctor_says_how_to_get_what_is_missing(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from delift_core import doctor

    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "submodlib-py" else real(package))
    missing = call("doctor")["missing"]
    assert {"what", "how", "needed"} <= missing[0].keys()
    assert "pip install submodlib-py" in [m["how"] for m in missing]


def test_runs_lists_what_was_done_and_cancels_what_waits(call: Any, pool: Path, tmp_path: Path) -> None:
    assert call("runs")["runs"] == []
    done = call("select", pool, "--method", "random", "--budget", "5", "--model", small.model())
    (listed,) = call("runs")["runs"]
    assert (listed["run"], listed["state"], listed["selected"]) == (done["run"], "done", 5)
    assert call("runs", "--cancel", done["run"])["state"] == "done"
    assert "No run" in call("runs", "--cancel", "0" * 16, status=2)["error"]


def test_submit_runs_in_the_background_and_map_draws_it(call: Any, tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "ws")
    few = small.write(tmp_path / "few.jsonl", small.rows(10))
    words = [few, "--method", "random", "--budget", "5", "--model", small.model()]
    submitted = call("submit", *words)
    assert jobs.wait(ws, submitted["run"], seconds=90) == "done"
    assert call("select", *words)["run"] == submitted["run"]
    assert call("map", "--id", submitted["run"])["points"] == {"pool": 10}


def test_run_does_the_work_of_a_waiting_run(call: Any, pool: Path, tmp_path: Path) -> None:
    from delift_core import pipeline

    ws = Workspace(tmp_path / "ws")
    config = pipeline.configure(ws, pool, method="random", budget="3", model=small.model())
    ws.catalogue.add_run(config)
    assert call("run", "--id", config.id)["selected"] == 3
    assert ws.catalogue.run(config.id).state == "done"
    assert call("run", "--id", config.id)["selected"] == 3, "once more is harmless"
    assert ws.catalogue.run(config.id).state == "done"


def test_replay_gives_the_same_ids_and_writes_the_same_file(call: Any, pool: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    done = call("select", pool, "--method", "random", "--budget", "5", "--model", small.model(), "--out", first)
    again = call("replay", done["manifest"], "--out", second)
    assert again["same"] is True and again["differences"] == []
    assert first.read_bytes() == second.read_bytes()


def test_replay_refuses_an_altered_manifest(call: Any, pool: Path, tmp_path: Path) -> None:
    done = call("select", pool, "--method", "random", "--budget", "5", "--model", small.model())
    record = json.loads(Path(done["manifest"]).read_text())
    altered = tmp_path / "manifest.json"
    altered.write_text(json.dumps({**record, "rows": record["rows"][::-1]}))
    assert "changed" in call("replay", altered, status=2)["error"]
    altered.write_text("{}")
    assert "manifest.json" in call("replay", altered, status=2)["error"]


def test_a_long_run_asks_first_and_yes_skips_the_question(
    call: Any, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from delift_core import planning

    monkeypatch.setattr(planning, "estimate", lambda *_: Cost(49_000_000, 10**10, 1e15, 7_500.0, 10**9))
    words = ["select", pool, "--budget", "5", "--model", small.model()]
    error = call(*words, status=2)["error"]
    assert "2 h 5 min" in error and "49,000,000 pairs" in error and "--yes" in error
    assert call("runs")["runs"] == [], "nothing was started"
    assert "--yes" in call("submit", *words[1:], status=2)["error"]

    monkeypatch.setattr(cli.sys.stdin, "isatty", lambda: True, raising=False)
    for said, status in (("n\n", 2), ("y\n", 0)):
        monkeypatch.setattr(cli.sys.stdin, "readline", lambda said=said: said, raising=False)
        assert "Start it? [y/N]" in call(*words, status=status)["stderr"]
    assert call(*words, "--seed", "1", "--yes")["selected"] == 5


def test_a_mistake_ends_with_2_and_a_bug_with_1(pool: Path, tmp_path: Path) -> None:
    mistake = small.process("select", pool, "--method", "delfit", "--json", home=tmp_path / "ws")
    out, err = mistake.communicate()
    assert mistake.returncode == 2
    assert "Did you mean 'delift'" in json.loads(out)["error"] and "delift:" in err and "Traceback" not in err
    unknown = small.process("selct", home=tmp_path / "ws")
    assert unknown.wait() == 2
    broken = "import sys, delift_core.cli as c; c.COMMANDS['methods'] = (lambda a: 1 / 0, 'x', ()); "
    broken += "sys.exit(c.main(['methods']))"
    import subprocess
    import sys

    bug = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True, cwd=small.ROOT, check=False)
    assert bug.returncode == 1 and "ZeroDivisionError" in bug.stderr


def test_every_command_has_help_and_takes_json_and_workspace(capsys: pytest.CaptureFixture[str]) -> None:
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        out = capsys.readouterr().out
        assert ended.value.code == 0 and "--json" in out and "--workspace" in out, name
    with pytest.raises(SystemExit):
        cli.main(["select", "--help"])
    out = capsys.readouterr().out
    assert all(flag in out for flag in ("--nu", "--eta", "--epsilon", "--target", "--existing", "--encoder", "--yes"))


def test_the_map_needs_a_finished_run(call: Any) -> None:
    assert "No run" in call("map", "--id", "0" * 16, status=2)["error"]
    assert "not a run" in call("map", "--id", "../../etc", status=2)["error"]


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")])
def test_durations_read_as_a_person_says_them(seconds: float, said: str) -> None:
    assert console.duration(seconds) == said


def test_progress_says_how_much_time_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    bar = console.Bar()
    for done in (50, 60, 70):  # the first 50 were found on disk and took no time
        bar("score", done, 100)
    assert "Scoring pairs: 70 of 100, 30 s left" in capsys.readouterr().err


def test_the_text_form_is_for_people(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["select", str(pool), "--method", "random", "--budget", "5", "--model", small.model()]
    assert cli.main([*words, "--workspace", str(tmp_path / "ws")]) == 0
    out = capsys.readouterr().out
    assert "selected" in out and not out.startswith("{")


def test_score_writes_arrays_and_multishot_judges_pairs_by_sets(call: Any, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "u.npz"
    told = call("score", pool, "--model", small.model(), "--pairs", "knn:2", "--out", out)
    assert told["arrays"]["l2"] == told["arrays"]["rows"] and told["pairs"] == "knn:2" and out.is_file()
    told = call("score", pool, "--model", small.model(), "--score", "loss", "--prefer", "low", "--out", out)
    assert told["arrays"]["scores"] == told["arrays"]["ids"]
    with np.load(out, allow_pickle=False) as found:
        assert not found["higher_is_better"]
    assert ".npz" in call("score", pool, "--out", tmp_path / "u.json", status=2)["error"]
    run = call("select", pool, "--method", "delift", "--budget", "5", "--model", small.model())["run"]
    found = call("multishot", "--id", run, "--rows", "4", "--shots", "2", "3")
    assert [s["shots"] for s in found["l2"]["summary"]] == [2, 3]
    plain = call("select", pool, "--method", "random", "--budget", "5")["run"]
    assert "no pairs with a language model" in call("multishot", "--id", plain, status=2)["error"]


def test_export_writes_each_file_and_none_over_another(call: Any, pool: Path, tmp_path: Path) -> None:
    run = call("select", pool, "--method", "random", "--budget", "5")["run"]
    out, rejected, report = (tmp_path / name for name in ("s.jsonl", "r.jsonl", "page.html"))
    made = call("export", "--id", run, "--out", out, "--rejected", rejected, "--report", report, "--k", "3")
    assert (made["records"], made["rejected"]) == (3, 17)
    assert len(out.read_bytes().splitlines()) == 3 and report.read_text(encoding="utf-8").startswith("<!")
    same = ("--out", tmp_path / "t.jsonl", "--rejected", tmp_path / "ws" / ".." / "t.jsonl")
    assert "one file" in call("export", "--id", run, *same, status=2)["error"]
    own = tmp_path / "ws" / "runs" / run / "selection.parquet"
    before = own.read_bytes()
    assert "keeps its own files" in call("export", "--id", run, "--out", own, status=2)["error"]
    assert own.read_bytes() == before
    assert "Say what to write" in call("export", "--id", run, status=2)["error"]


def test_why_answers_for_one_row(call: Any, pool: Path) -> None:
    run = call("select", pool, "--method", "random", "--budget", "5")["run"]
    row = json.loads(pool.read_text(encoding="utf-8").splitlines()[0])["id"]
    assert call("why", "--id", run, "--row", row)["run"] == run
    assert "nobody" in call("why", "--id", run, "--row", "nobody", status=2)["error"]
