"""Choosing again from what a run stored: the same rows as the pipeline, no model, one price for all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delift_core import evidence, pipeline
from delift_core.errors import ConfigError, WorkspaceError
from delift_core.preflight import checked
from delift_core.review import trying, whatif
from delift_core.review.whatif import Yardstick, objectives_for, retry, value_of
from delift_core.runs import Run, Workspace, files, kept, processes
from tests import small

ROOT = Path(__file__).parents[2]


class Place:
    """A workspace with small datasets, and runs over them that are made once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ws = folder, Workspace(folder / "workspace")
        self.files = {role: folder / f"{role}.jsonl" for role in ("pool", "target", "existing")}
        for seed, (role, path) in enumerate(self.files.items()):
            rows = [r | {"kind": r["instruction"].split(":")[0]} for r in small.rows(40 if role == "pool" else 9)]
            if role != "pool":
                rows = small.rows(9, seed=seed)
            path.write_text("".join(f"{line}\n" for line in map(_json, rows)), encoding="utf-8")

    def run(self, method: str, **settings: Any) -> Run:
        """A finished run, which keeps its row scores and tokens."""
        from delift_core import registry

        chosen = registry.method(method)
        for role in ("target", "existing"):
            if getattr(chosen, f"needs_{role}"):
                settings.setdefault(role, self.files[role])
        given = {"budget": "10", "pairs": "dense", "model": small.model(), **settings}
        done = pipeline.select(self.files["pool"], workspace=self.ws.root, method=method, **given)
        inputs = checked(self.ws, done.config)
        tokens = pipeline.tokens_of(self.ws, inputs, lambda *_: None)
        found = evidence.gather(inputs, tokens[inputs.rows("pool")], self.ws.blocks)
        used = {part: found.used[part] for part, planned in found.planned.items() if planned.guessed}
        kept.write(done.folder, tokens=tokens, scores=found.scores, used=used)  # type: ignore[arg-type]
        return done


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DELIFT_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield Place(tmp_path_factory.mktemp("whatif"))


RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "pins": {"pin": ("0-3", "0-9"), "ban": ("0-1",)},
    "quota": {"quota": "kind: even", "pin": ("0-4",)},
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("method", ["delift", "delift-task", "delift-continual", "qdit"])
def test_the_same_settings_give_the_same_ids_at_the_same_price(place: Place, method: str, rules: str) -> None:
    run = place.run(method, **RULES[rules])
    again = retry(place.ws, run)
    assert again.picked.tolist() == run.picked.tolist()
    assert again.config.id == run.id
    assert (again.share, again.overlap, len(again.entered), len(again.left)) == (1, 1, 0, 0)
    stick = Yardstick.of(place.ws, run)
    assert stick.exact
    found = whatif.evidence_of(place.ws, run)
    problem = stick.objective.problem(found)
    own = run.selection.value[run.k - 1]
    assert value_of(problem, np.searchsorted(found.candidates, run.picked)) == pytest.approx(own, rel=1e-5)
    assert stick.curve(run.selection.order, np.array([1, 4, run.k])) == pytest.approx(
        run.selection.value[[0, 3, run.k - 1]], rel=1e-5
    )


@pytest.mark.parametrize("settings", [{"budget": "250tok"}, {"pairs": "adaptive:0.3"}, {"greedy": "stochastic"}])
def test_token_budgets_predicted_pairs_and_samples_are_chosen_again_as_they_were(
    place: Place, settings: dict[str, Any]
) -> None:
    run = place.run("delift", **settings)
    again = retry(place.ws, run)
    assert again.picked.tolist() == run.picked.tolist()
    assert again.share == 1
    assert Yardstick.of(place.ws, run).exact


@pytest.mark.parametrize(
    ("begin", "objective", "options", "changes", "method"),
    [
        ("delift", "graph-cut", {"cut_lambda": 0.2}, {}, "icl+graph-cut"),
        ("delift", "fl", {}, {"rows": 5, "ban": ("0-0", "0-7"), "quota": "kind: even"}, "delift"),
        ("delift-task-capped", "fl", {}, {}, "delift"),
        ("delift-task-capped", "fl2mi", {"eta": 2.0, "rows": "pool"}, {}, "delift-task"),
        ("qdit", "top-k", {}, {}, "ifd"),
        ("delift-se", "kmeans", {"clusters": 3}, {}, "kmeans"),
    ],
)
def test_another_choice_is_the_one_that_a_run_of_it_makes(
    place: Place, begin: str, objective: str, options: dict[str, Any], changes: dict[str, Any], method: str
) -> None:
    again = retry(place.ws, place.run(begin), objective=objective, options=options, **changes)
    assert again.config.method == method
    made = pipeline.run(place.ws, again.config)
    assert again.picked.tolist() == made.picked.tolist()


def test_a_worse_choice_costs_and_the_price_is_that_of_the_same_budget(place: Place) -> None:
    run = place.run("delift")
    stick = Yardstick.of(place.ws, run)
    other = retry(place.ws, run, objective="random", yardstick=stick)
    assert other.share < 1
    assert other.value == pytest.approx(stick.value(other.picked[::-1]))
    assert set(other.entered) == set(other.picked) - set(run.picked)
    assert other.overlap == pytest.approx(len(set(other.picked) & set(run.picked)) / len({*other.picked, *run.picked}))
    fewer = retry(place.ws, run, rows=4, yardstick=stick)
    assert (fewer.k, fewer.share, fewer.overlap) == (4, 1, 1)  # beside the run's first four
    assert fewer.curve[-1] == pytest.approx(run.selection.full_value, rel=1e-4)


@pytest.mark.parametrize("method", ["random", "kmeans", "kcenter", "rds"])
def test_objectives_that_give_sets_no_value_have_no_price(place: Place, method: str) -> None:
    again = retry(place.ws, place.run(method))
    assert again.overlap == 1
    assert np.isnan(again.share) and np.isnan(again.value) and np.isnan(again.curve).all()


def test_objectives_without_their_evidence_say_what_is_missing(place: Place) -> None:
    run = place.run("delift", budget="12")
    found = {p.objective: p for p in objectives_for(place.ws, run)}
    assert next(iter(found)) == "fl"
    assert found["fl"].ready and found["fl"].quick and found["graph-cut"].method == "icl+graph-cut"
    assert "target rows" in found["fl2mi"].why_not
    assert "row scores" in found["flquality"].why_not and "row scores" in found["top-k"].why_not
    with pytest.raises(ConfigError, match="target rows, and this run has none"):
        retry(place.ws, run, objective="fl2mi")
    with pytest.raises(ConfigError, match="Unknown setting or option"):
        retry(place.ws, run, options={"nu": 2.0, "x": 1})
    with pytest.raises(ConfigError, match="no row 'nobody'"):
        retry(place.ws, run, pin=("nobody",))
    task = {p.objective: p for p in objectives_for(place.ws, place.run("delift-task"))}
    assert "pool pairs, and this run scored none" in task["fl"].why_not
    assert (
        "sentence vectors"
        in {p.objective: p for p in objectives_for(place.ws, place.run("delift", kind="pmi"))}["kmeans"].why_not
        or task["kmeans"].ready
    )


def test_a_score_that_was_not_kept_is_refused_and_the_kept_one_is_fixed(place: Place) -> None:
    run = place.run("qdit", quality="longest")
    found = {p.objective: p for p in objectives_for(place.ws, run)}
    assert found["flquality"].fixed == {"quality": "longest"} and "quality" not in found["flquality"].options
    again = retry(place.ws, run, options={"quality_weight": 0.9})
    assert again.config.options == {"quality": "longest", "quality_weight": 0.9}
    with pytest.raises(ConfigError, match="kept the row score longest, not loss"):
        retry(place.ws, run, options={"quality": "loss"})


def test_without_kept_tokens_a_token_budget_is_refused(place: Place) -> None:
    run = place.run("delift", budget="300tok")
    (run.folder / "evidence" / "tokens.npy").unlink()
    with pytest.raises(ConfigError, match="Give a budget in rows"):
        retry(place.ws, run)
    assert retry(place.ws, run, rows=5).k == 5


def test_without_kept_predictions_the_price_says_so(place: Place) -> None:
    run = place.run("delift", pairs="adaptive:0.3", budget="3")
    assert not any("predicted pairs" in note for note in retry(place.ws, run).notes)
    for path in (run.folder / "used").rglob("*.npy"):
        path.unlink()
    assert any("predicted pairs" in note for note in retry(place.ws, run).notes)


def test_no_model_is_read_and_torch_not_imported(place: Place) -> None:
    run = place.run("delift")
    code = (
        "import sys; from pathlib import Path; from delift_core.review import whatif; from delift_core.runs import *\n"
        f"ws = Workspace(Path({str(place.ws.root)!r})); run = Run.open(ws, {run.id!r})\n"
        "assert not {'numba', 'sklearn', 'torch'} & set(sys.modules), 'at import'\n"
        "whatif.objectives_for(ws, run)\n"
        "for name in ('fl', 'random', 'graph-cut'): whatif.retry(ws, run, objective=name)\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_a_retry_in_a_process_of_its_own_gives_the_same(place: Place) -> None:
    run = place.run("delift")
    trial = trying.Trial.start(place.ws, run.id, {"objective": "random", "rows": 7})
    found, here = trial.result(), retry(place.ws, run, objective="random", rows=7)
    assert not trial.folder.exists()
    assert found.picked.tolist() == here.picked.tolist()
    assert (found.share, found.config, found.k) == (here.share, here.config, 7)
    assert np.array_equal(found.curve, here.curve) and np.array_equal(found.entered, here.entered)
    with pytest.raises(ConfigError, match="after checks"):
        trying.Trial.start(place.ws, run.id, {"rows": 1000}).result()


def _request(folder: Path, owner: dict[str, Any]) -> None:
    folder.mkdir()
    files.write_json(folder / "request.json", {"owner": owner})


def test_trials_lie_in_the_workspace_and_the_next_one_sweeps_what_is_left(place: Place) -> None:
    run = place.run("delift")
    trials = files.make_folder(place.ws.root / "trials")
    mine = asdict(processes.me())
    left = {"dead": {**mine, "pid": 2**22 + 1}, "old": mine, "mine": mine, "elsewhere": {**mine, "host": "another"}}
    for name, owner in left.items():
        _request(trials / name, owner)
    for path in (trials / "old" / "request.json", trials / "old"):
        os.utime(path, (0, 0))
    trial = trying.Trial.start(place.ws, run.id, {"objective": "random"})
    try:
        assert trial.folder.parent == trials
        assert {path.name for path in trials.iterdir()} == {"mine", "elsewhere", trial.folder.name}
    finally:
        trial.stop()
    assert not trial.folder.exists() and not trial.running


@pytest.mark.parametrize("how", ["forgotten", "orphaned", "idle"])
def test_a_trial_ends_when_nobody_waits_for_it(place: Place, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    slow = "import sys, time; from delift_core.review import trying; trying.work = lambda _: time.sleep(60)"
    monkeypatch.setattr(trying, "_COMMAND", f"{slow}; trying.main(sys.argv[1])")
    trial = trying.Trial.start(place.ws, "0" * 16, {}, idle=0.5 if how == "idle" else 60)
    process, folder = trial.process, trial.folder
    if how == "forgotten":  # as with the session of a browser that was closed
        assert trial.progress == ("starting", 0.0)
        del trial
        assert process.poll() is not None
    else:
        if how == "orphaned":  # as by the death of the server
            assert process.stdin is not None
            process.stdin.close()
        assert process.wait(timeout=30) == 75
        with pytest.raises(WorkspaceError, match="nobody looked at it"):
            trial.result()
    assert not folder.exists()


def test_a_result_that_was_swept_is_told(place: Place) -> None:
    trial = trying.Trial.start(place.ws, place.run("delift").id, {"objective": "random"})
    trial.process.wait()
    shutil.rmtree(trial.folder)
    with pytest.raises(WorkspaceError, match="Try it again"):
        trial.result()
