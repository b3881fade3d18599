"""The whole way from a file to a run: one configuration, three faces, the same ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import delift_core
from delift_core import pipeline, planning, registry
from delift_core.config import RunConfig
from delift_core.errors import ConfigError, DataError, SplitError, WorkspaceError
from delift_core.runs import Run, Workspace, jobs
from delift_core.runs.cut import manifest_at
from tests import small

TASK = {"method": "delift-task", "budget": "25%"}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return small.write(tmp_path / "pool.jsonl", small.rows(24))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return small.write(tmp_path / "target.jsonl", small.rows(5, seed=1))


def do(ws: Workspace, pool: str | Path, **settings: Any) -> Run:
    return pipeline.run(ws, pipeline.configure(ws, pool, model=small.model(), **settings))


def test_command_line_api_and_submitted_worker_return_the_same_ids(tmp_path: Path, pool: Path, target: Path) -> None:
    homes = {name: Workspace(tmp_path / name) for name in ("api", "cli", "worker")}
    api = delift_core.select(pool, target=target, model=small.model(), workspace=homes["api"].root, **TASK)
    words = [pool, "--target", target, "--method", "delift-task", "--budget", "25%", "--model", small.model(), "--json"]
    out = tmp_path / "subset.jsonl"
    cli = small.process("select", *words, "--out", out, home=homes["cli"].root)
    submitted = small.process("submit", *words, home=homes["worker"].root)
    answer, submission = json.loads(cli.communicate()[0]), json.loads(submitted.communicate()[0])
    assert jobs.wait(homes["worker"], submission["run"], seconds=120) == "done"
    worker = Run.open(homes["worker"], submission["run"])

    assert api.id == answer["run"] == worker.id
    manifest = json.loads(Path(answer["manifest"]).read_text())
    assert api.manifest["ids"] == manifest["ids"] == worker.manifest["ids"]
    assert api.manifest["hash"] == manifest["hash"] == worker.manifest["hash"]
    assert answer["selected"] == len(api.picked) == 6
    source = small.lines(pool)
    assert small.lines(out) == [source[i] for i in api.picked]  # the original lines, byte for byte


@pytest.mark.parametrize("method", [*registry.METHODS, "icl+graph-cut", "rds+fl2mi", "embedding+round-robin"])
def test_every_method_picks_as_many_different_rows_as_the_budget_says(
    method: str, ws: Workspace, pool: Path, target: Path
) -> None:
    chosen = registry.method(method)
    sides = {role: target for role in ("target", "existing") if getattr(chosen, f"needs_{role}")}
    options = {"quality": "longest"} if method == "qdit" else {}
    run = do(ws, pool, method=method, budget="7", **sides, **options)
    assert len(run.picked) == len(set(run.picked.tolist())) == 7
    if run.selection.nested:
        assert len(run.selection) == 24, "the whole order is kept, so that the budget can move"
    again = do(ws, pool, method=method, budget="7", quota="cluster:3: even", **sides, **options)
    assert len(again.picked) == 7
    assert not again.selection.full_value or any("cluster:3" in note for note in again.notes), "the price is told"


def test_methods_on_vectors_need_no_language_model(
    ws: Workspace, pool: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a language model was loaded")

    monkeypatch.setattr("delift_core.encoded.load_causal", forbidden)
    represent = do(ws, pool, method="delift-se", budget="8")
    moved = do(ws, pool, method="got-d", target=target, budget="8")
    assert represent.manifest["encoder"]["name"] == moved.manifest["encoder"]["name"] == "minilm"
    assert represent.manifest["models"] == moved.manifest["models"] == []
    assert represent.utilities == (("pool", "cosine"),)


def test_the_map_has_a_place_for_every_row_and_copies_share_theirs(ws: Workspace, tmp_path: Path) -> None:
    twice = small.write(tmp_path / "twice.jsonl", [{**r, "id": None} for r in small.rows(5) for _ in range(2)])
    target = small.write(tmp_path / "few.jsonl", small.rows(3, seed=1))
    run = do(ws, twice, method="got-d", target=target, budget="3")
    placed = pipeline.draw_map(ws, run.id)
    assert placed["pool"].shape == (10, 2) and placed["target"].shape == (3, 2)
    assert np.array_equal(placed["pool"][::2], placed["pool"][1::2])
    stored = Run.open(ws, run.id).map()
    assert stored is not None and np.array_equal(stored["pool"], placed["pool"])


def test_a_smaller_budget_is_the_beginning_of_a_larger_one(ws: Workspace, pool: Path, target: Path) -> None:
    few = do(ws, pool, target=target, method="delift-task", budget="4")
    many = do(ws, pool, target=target, method="delift-task", budget="50%")
    assert np.array_equal(many.picked[:4], few.picked)
    assert few.selection.full_value == pytest.approx(many.selection.full_value)


def test_a_token_budget_is_kept_and_counted_in_the_models_own_tokens(ws: Workspace, pool: Path) -> None:
    run = do(ws, pool, method="random", budget="300tok")
    source = small.records(small.lines(pool))
    spent = sum(len((source[i]["instruction"] + source[i]["output"]).encode()) for i in run.picked)
    assert 0 < spent <= 300
    assert run.tokens is not None and run.tokens[: run.k].sum() == spent


def test_a_token_budget_above_the_whole_pool_is_refused_like_one_in_rows(ws: Workspace, pool: Path) -> None:
    with pytest.raises(ConfigError, match=r"the pool has \d+ after checks"):
        do(ws, pool, method="random", budget="1mtok")


def test_exact_copies_count_once_unless_asked_otherwise(ws: Workspace, tmp_path: Path) -> None:
    doubled = small.write(tmp_path / "doubled.jsonl", [{**r, "id": None} for r in small.rows(10) for _ in range(2)])
    once = do(ws, doubled, method="random", budget="100%")
    twice = do(ws, doubled, method="random", budget="100%", keep_duplicates=True)
    assert sorted(once.picked) == list(range(0, 20, 2))
    assert sorted(twice.picked) == list(range(20))


def test_the_same_configuration_is_not_computed_twice(
    ws: Workspace, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = do(ws, pool, method="random", seed=3)
    monkeypatch.setattr(pipeline, "_perform", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(do(ws, pool, method="random", seed=3).picked, first.picked)


def test_a_default_that_is_spelled_out_gives_the_same_run(ws: Workspace, pool: Path, target: Path) -> None:
    plain = pipeline.configure(ws, pool, target=target, method="delift-task", budget="5 rows", model=small.model())
    spelled = pipeline.configure(
        ws, pool, target=target, method="delift-task", budget=5, model=small.model(), eta=1, rows="target", seed=0
    )
    other = pipeline.configure(ws, pool, target=target, method="delift-task", budget=5, model=small.model(), eta=2)
    assert plain.id == spelled.id != other.id


def test_two_undisturbed_runs_share_ids_and_manifest_hash(tmp_path: Path, pool: Path) -> None:
    first, second = (do(Workspace(tmp_path / name), pool, method="delift", budget="5") for name in "ab")
    assert first.manifest["ids"] == second.manifest["ids"]
    assert first.manifest["hash"] == second.manifest["hash"]


def test_a_manifest_replays_to_the_same_ids_where_nothing_is_left_but_the_file(tmp_path: Path, pool: Path) -> None:
    first = do(Workspace(tmp_path / "a"), pool, method="random", budget="9", seed=5)
    again = pipeline.replay(Workspace(tmp_path / "b"), first.folder / "manifest.json")
    assert again.same and not again.differences
    assert again.run.manifest["hash"] == first.manifest["hash"]


def test_a_manifest_knows_the_field_mapping_that_its_file_was_read_with(tmp_path: Path) -> None:
    from delift_core.data import FieldMap

    ws = Workspace(tmp_path / "a")
    file = small.write(
        tmp_path / "odd.jsonl", ({"says": r["instruction"], "then": r["output"]} for r in small.rows(12))
    )
    dataset = pipeline.add_dataset(ws, file, mapping=FieldMap(prompt="says", response="then"))
    first = do(ws, dataset.fingerprint, method="random", budget="3")
    again = pipeline.replay(Workspace(tmp_path / "b"), first.folder / "manifest.json")
    assert again.same and list(again.run.picked) == list(first.picked)


def test_got_d_says_how_far_the_subset_is_from_the_target(ws: Workspace, pool: Path, target: Path) -> None:
    small.give_table(ws)
    done = do(ws, pool, target=target, method="got-d", encoder="fast", budget="6")
    assert any("OT distance from pool to target" in note for note in done.notes)
    assert any("OT distance from the 6 selected rows" in note for note in done.notes)
    smaller = manifest_at(done, 4)
    assert not smaller["subset_notes"], "what was measured on six rows is not said of four"
    asked = do(ws, pool, target=target, method="got-d", encoder="fast", budget="4")
    assert asked.manifest["hash"] == smaller["hash"]
    assert not Workspace.default().models.exists(), "the table is that of the workspace that was named"


def test_an_export_never_overwrites_a_file_the_run_was_made_from(ws: Workspace, pool: Path) -> None:
    before = pool.read_bytes()
    done = do(ws, pool, method="random", budget="5")
    with pytest.raises(ConfigError, match="made from"):
        pipeline.export(ws, done, pool)
    assert pool.read_bytes() == before


def test_names_that_no_export_can_have_are_refused_before_the_run(tmp_path: Path, pool: Path) -> None:
    for out, words in (
        (pool, "made from"),
        (tmp_path, "is a folder"),
        (tmp_path / ("x" * 300 + ".jsonl"), "too long"),
        (tmp_path / "no" / "subset.jsonl", "does not exist"),
    ):
        with pytest.raises(ConfigError, match=words):
            delift_core.select(pool, method="random", budget="5", out=out, workspace=tmp_path / "ws")
    assert not (tmp_path / "ws" / "runs").exists()


def test_one_of_several_splits_is_named_behind_the_source(ws: Workspace, tmp_path: Path) -> None:
    rows = small.rows(24)
    both = tmp_path / "both.json"
    both.write_text(json.dumps({"train": rows[:16], "test": rows[16:]}))
    with pytest.raises(SplitError, match=r"both\.json#train") as raised:
        pipeline.configure(ws, both, method="random")
    assert raised.value.splits == ("train", "test")
    done = do(ws, f"{both}#train", method="random", budget="4")
    (entry,) = done.manifest["inputs"]
    assert (entry["rows"], entry["name"], entry["source"]) == (16, "both.json#train", f"{both}#train")
    with pytest.raises(ConfigError, match="made from"):
        pipeline.export(ws, done, both.rename(tmp_path / "both.json"), rejected=both)
    again = pipeline.replay(Workspace(tmp_path / "other"), done.folder / "manifest.json")
    assert again.same


def test_a_dataset_of_the_hub_can_be_replayed(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from delift_core.data import hub
    from delift_core.data.records import Record

    def read(source: str, split: str | None) -> Any:
        assert (source, split) == ("owner/rows", "train")
        return (Record(i, row) for i, row in enumerate(small.rows(24), 1))

    monkeypatch.setattr(hub, "read_hub", read)
    done = do(ws, "owner/rows#train", method="random", budget="4")
    assert pipeline.replay(Workspace(tmp_path / "other"), done.folder / "manifest.json").same


def test_a_replay_leaves_the_run_it_checks_as_it_is(ws: Workspace, pool: Path) -> None:
    done = do(ws, pool, method="delift", budget="6")
    before = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")}
    again = pipeline.replay(ws, done.folder / "manifest.json")
    assert again.same and again.run.id == done.id
    assert {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")} == before
    assert jobs.state(ws, done.id) == "done"


def test_the_manifest_names_the_file_that_the_rows_were_read_from_last(
    ws: Workspace, pool: Path, tmp_path: Path
) -> None:
    first = do(ws, pool, method="random", budget="4")
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(pool.read_bytes() + b"not a record\n")
    second = do(ws, moved, method="random", budget="4")
    assert second.id == first.id and second.manifest["hash"] == first.manifest["hash"]
    (entry,) = second.manifest["inputs"]
    assert (entry["name"], entry["source"], entry["refused"]) == ("moved.jsonl", str(moved), 1)
    assert ws.catalogue.run(second.id).summary["pool"] == "moved.jsonl"


def test_a_field_mapping_cannot_change_what_was_read_already(ws: Workspace, pool: Path) -> None:
    known = pipeline.add_dataset(ws, pool).fingerprint
    with pytest.raises(ConfigError, match="read already"):
        pipeline.configure(ws, known, method="random", fields={"pool": "prompt=output"})
    with pytest.raises(ConfigError, match="read already"):
        pipeline.configure(ws, known, method="random", turns="every")


def test_a_folder_called_like_a_shipped_model_does_not_stand_in_for_it(
    ws: Workspace, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("builtin", "fast"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    config = pipeline.configure(ws, pool, method="delift-se", encoder="fast")
    assert (config.model, config.encoder) == ("builtin", "fast")


def test_a_replay_refuses_a_file_that_changed(tmp_path: Path, pool: Path) -> None:
    first = do(Workspace(tmp_path / "a"), pool, method="random", budget="9")
    small.write(pool, small.rows(24, seed=9))
    with pytest.raises(DataError, match="does not hold the pool"):
        pipeline.replay(Workspace(tmp_path / "b"), first.folder / "manifest.json")
    pool.unlink()
    with pytest.raises(DataError, match="--pool FILE"):
        pipeline.replay(Workspace(tmp_path / "c"), first.folder / "manifest.json")


def test_other_weights_under_the_same_name_are_another_run(
    ws: Workspace, pool: Path, target: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(small.model(), folder)
    settings = {"target": target, "method": "delift-task", "budget": "5", "model": str(folder)}
    first = pipeline.run(ws, pipeline.configure(ws, pool, **settings))
    from safetensors.numpy import load_file, save_file

    weights = {k: v * np.float32(0.5) for k, v in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    second = pipeline.run(ws, pipeline.configure(ws, pool, **settings))
    assert second.id == first.id, "the name is the same"
    assert second.manifest["models"][0]["hash"] != first.manifest["models"][0]["hash"], "but it was computed anew"


def test_an_estimate_counts_every_pair_and_takes_some_time(ws: Workspace, pool: Path, target: Path) -> None:
    config = pipeline.configure(ws, pool, target=target, model=small.model(), **TASK)
    cost = pipeline.estimate(ws, config)
    assert cost.pairs == 5 * 24
    assert cost.seconds > 0 and cost.tokens > 0 and cost.bytes >= 8 * cost.pairs


def test_a_cancelled_run_says_so_and_goes_on_later(ws: Workspace, pool: Path, target: Path) -> None:
    from delift_core.errors import Cancelled

    config = pipeline.configure(ws, pool, target=target, model=small.model(), **TASK)

    def stop(stage: str, done: float, total: float, note: str = "") -> None:
        if stage == "score target":
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        pipeline.run(ws, config, progress=stop)
    assert ws.catalogue.run(config.id).state == "cancelled"
    assert len(pipeline.run(ws, config).picked) == 6
    assert ws.catalogue.run(config.id).state == "done"


def test_a_dataset_of_the_workspace_is_named_by_the_beginning_of_its_fingerprint(ws: Workspace, pool: Path) -> None:
    dataset = pipeline.add_dataset(ws, pool)
    config = pipeline.configure(ws, dataset.fingerprint[:12], method="random", model=small.model())
    assert config.pool == dataset.fingerprint


def test_prompts_without_responses_serve_methods_that_need_none(ws: Workspace, tmp_path: Path) -> None:
    prompts = small.write(tmp_path / "prompts.jsonl", [{"prompt": r["instruction"]} for r in small.rows(12)])
    assert len(do(ws, prompts, method="random", budget="5").picked) == 5
    with pytest.raises(DataError, match="response"):
        do(ws, prompts, method="delift", budget="5")
    config = RunConfig(pool=pipeline.configure(ws, prompts, method="random").pool, method="delift", model=small.model())
    with pytest.raises(DataError, match=r"choose a method that needs none: .*delift-se"):
        pipeline.check(ws, config)


def test_what_the_method_does_not_look_at_is_refused_with_the_methods_that_do(
    ws: Workspace, pool: Path, target: Path
) -> None:
    with pytest.raises(ConfigError, match="delift-task, delift-task-capped, delift-se-task"):
        pipeline.configure(ws, pool, target=target, method="delift-se")
    with pytest.raises(ConfigError, match="--existing FILE"):
        pipeline.configure(ws, pool, method="delift-continual")
    with pytest.raises(ConfigError, match=r"Unknown setting or option.*seed"):
        pipeline.configure(ws, pool, method="random", sede=1)
    with pytest.raises(ConfigError, match="seed wants int, not 'a'"):
        pipeline.configure(ws, pool, method="random", seed="a")


def test_a_matrix_that_does_not_fit_is_refused_before_anything_is_loaded(
    ws: Workspace, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    config = pipeline.configure(ws, pool, method="delift", model=small.model())
    with monkeypatch.context() as patch:
        patch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
        with pytest.raises(ConfigError, match="GB of memory"):
            pipeline.check(ws, config)
    monkeypatch.setattr(Workspace, "free_bytes", lambda _: 1000)
    with pytest.raises(WorkspaceError, match="GB on the disk"):
        pipeline.check(ws, config)


def test_every_method_that_is_listed_can_be_built() -> None:
    for method in registry.METHODS.values():
        objective = registry.build(registry.OBJECTIVES, "objective", method.objective, {})
        score = registry.score_of(method.name, {}, {})
        wants_target = "target" in " ".join(objective.needs) or (score is not None and score.needs_target)
        assert wants_target == method.needs_target
        assert ("existing" in " ".join(objective.needs)) == method.needs_existing


def test_a_template_of_ones_own_is_kept_in_the_run_and_checked_before_it(ws: Workspace, pool: Path) -> None:
    file = pool.with_name("mine.toml")
    file.write_text('example = "Q: {prompt}\\nA: {response}\\n\\n"\nquery = "Q: {prompt}\\nA:"\n')
    done = do(ws, pool, method="delift", budget="6", template=str(file))
    file.unlink()
    assert done.config.template.startswith("{") and not pipeline.replay(ws, done.folder / "manifest.json").differences
    assert done.id != do(ws, pool, method="delift", budget="6").id
    with pytest.raises(ConfigError, match="cannot be read"):
        pipeline.configure(ws, pool, template=str(file))
    with pytest.raises(ConfigError, match="response"):
        pipeline.configure(ws, pool, template='{"example": "{prompt}", "query": "{prompt}"}')


def test_a_run_scores_with_a_half_trained_model_and_knows_it_from_its_base(ws: Workspace, pool: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(small.model())
    trained = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    folder = pool.with_name("adapter")
    trained.save_pretrained(str(folder))
    settings = {"method": "delift", "budget": "6"}
    plain = do(ws, pool, **settings)
    after = pipeline.run(ws, pipeline.configure(ws, pool, model=folder, **settings))
    assert after.manifest["models"][0]["hash"] != plain.manifest["models"][0]["hash"]
    assert not np.allclose(after.utility("pool").values, plain.utility("pool").values, equal_nan=True)


@pytest.mark.parametrize(
    ("plan", "method"),
    [
        ("adaptive:0.2", "delift"),
        ("adaptive:0.2", "delift-task"),
        ("knn:3", "delift-continual"),
        ("landmarks:12", "delift"),
        ("surrogate:0.2", "delift-task"),
    ],
)
def test_every_pair_plan_serves_every_kind_of_pairs_and_says_how_good_it_is(
    ws: Workspace, tmp_path: Path, plan: str, method: str
) -> None:
    pool = small.write(tmp_path / "pool.jsonl", small.rows(40))
    other = {"delift-task": "target", "delift-continual": "existing"}.get(method)
    beside = {other: small.write(tmp_path / "other.jsonl", small.rows(14, seed=1))} if other else {}
    done = do(ws, pool, method=method, budget="6", pairs=plan, **beside)
    assert len(done.picked) == 6 and done.config.pairs == plan
    for part, found in done.manifest["fidelity"].items():
        utility = done.utility(part)
        assert not utility.is_dense and utility.values.nnz == found["pairs"]
        assert 0 < found["share"] < 1 and 0 <= found["recall"] <= 1
        assert (found["gap_closed"] is None) or found["low"] <= found["gap_closed"] <= found["high"]
        assert any(found["sentence"] in note for note in done.notes)
        predicts = plan.startswith(("adaptive", "surrogate"))
        assert any(f"{found['pairs']:,} scored pairs" in note for note in done.notes) == predicts
    assert set(done.manifest["fidelity"]) == {part for part, _ in done.utilities}
    again = pipeline.replay(ws, done.folder / "manifest.json")
    assert again.same


def test_pairs_are_chosen_by_cost_and_the_choice_is_kept(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = small.write(tmp_path / "few.jsonl", small.rows(20))
    assert delift_core.select(few, model=small.model(), budget="4", workspace=ws.root).config.pairs == "dense"
    many = small.write(tmp_path / "many.jsonl", small.rows(80, seed=2))
    settings = {"model": small.model(), "budget": "6"}
    config = pipeline.configure(ws, many, pairs="auto", **settings)
    chosen, found = pipeline.settled(ws, config)
    assert chosen.pairs == "dense" and found is not None and found.pairs == 6400
    monkeypatch.setattr(planning, "DENSE_SECONDS", 0.0)
    chosen, found = pipeline.settled(ws, config)
    assert chosen.pairs == registry.BEST and found is not None and found.pairs < 3200
    done = pipeline.run(ws, config)
    assert done.config == chosen
    monkeypatch.setattr(planning, "DENSE_SECONDS", 300.0)
    assert pipeline.settled(ws, config) == (chosen, None), "the same words keep giving the same run"
    assert pipeline.configure(ws, many, method="got-d", target=few, pairs="knn:3").pairs == "dense"


def test_utilities_and_row_scores_go_to_a_file_as_they_are(
    ws: Workspace, pool: Path, target: Path, tmp_path: Path
) -> None:
    config = pipeline.configure(ws, pool, target=target, method="delift-task", model=small.model())
    arrays = pipeline.utilities(ws, config)
    kept = pipeline.run(ws, config).utility("target")
    assert np.array_equal(arrays["l2"], kept.values) and np.array_equal(arrays["baseline_l2"], kept.baseline)
    pipeline.write(tmp_path / "u.npz", arrays)
    with np.load(tmp_path / "u.npz", allow_pickle=False) as found:
        assert found["pmi"].shape == (5, 24) and found["candidate_ids"][3] == "0-3"
    scores, _ = pipeline.row_scores(ws, config, "loss", {})
    assert scores["scores"].shape == (24,)
    assert pipeline.row_scores(ws, config, "ica", {"shots": 2})[0]["scores"].shape == (24,)
    with pytest.raises(ConfigError, match="needs target"):
        pipeline.row_scores(ws, pipeline.configure(ws, pool, model=small.model()), "rds", {})
