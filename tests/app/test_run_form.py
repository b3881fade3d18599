"""The form of the Run page: methods by family, what is read, rules of the picks, and the command for all of it."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from delift_core import cli, flags, pipeline, registry
from delift_core.config import RunConfig
from delift_core.errors import ConfigError
from delift_core.inputs import Inputs
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from pages import _jobs, _rulesform
from tests.app.steps import KnownCost, choose, said, visit

PAIRS = ("icl+graph-cut", "rds+fl2mi", "embedding+round-robin")
SETTINGS = frozenset(f.name for f in dataclasses.fields(RunConfig))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The configurations that the page puts a price on; no subprocess measures them."""
    configs: list[RunConfig] = []
    monkeypatch.setattr(_jobs, "estimate_of", lambda config: (configs.append(config), KnownCost())[1])
    return configs


@pytest.fixture
def target(ws: Workspace, tmp_path: Path) -> Dataset:
    rows = [{"instruction": f"Take {i} from {3 * i}.", "output": f"{2 * i} is left."} for i in range(6)]
    path = tmp_path / "target.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pipeline.add_dataset(ws, path, role="target")


def read_back(config: RunConfig, ws: Workspace) -> RunConfig:
    """The configuration that the command line makes of the command that the page shows."""
    words = shlex.split(_jobs.command_text(config))
    assert words[:2] == ["delift", "select"]
    args = cli._parser(words[1:]).parse_args(words[1:])
    return flags.configuration(flags.workspace(args), args, lambda *_: None)


# --- methods -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*registry.METHODS, *PAIRS])
@pytest.mark.parametrize("pairs", ["dense", "knn:3"])
def test_what_a_method_reads_is_what_the_pipeline_loads(pool: Dataset, target: Dataset, name: str, pairs: str) -> None:
    plan = pairs if registry.reads_texts(name) else "dense"
    inputs = Inputs(RunConfig(pool=pool.fingerprint, method=name, pairs=plan), pool, target=target, existing=target)
    found = registry.reads(name, pairs=pairs)
    assert ("model" in found) == inputs.wants_model
    assert ("encoder" in found) == bool(inputs.encoded_roles)
    reader = getattr(inputs.row_score, "reads", None)
    assert ("tokenizer" in found) == (reader == "tokenizer" and not inputs.wants_model)


def test_what_a_method_reads_follows_its_options() -> None:
    assert registry.reads("qdit") == {"model", "encoder"}
    assert registry.reads("qdit", {"quality": "longest"}) == {"tokenizer", "encoder"}
    assert registry.reads("random") == registry.reads("dsir") == frozenset()


def test_one_family_is_shown_and_the_chosen_method_stays_in_sight(
    app: AppTest, no_sample: None, pool: Dataset, asked: list[RunConfig]
) -> None:
    visit(app, "run")
    shown = [b.key for b in app.button if str(b.key).startswith("method.") and b.key != "method.own"]
    assert shown == [f"method.{m.name}" for m in registry.METHODS.values() if m.family == "cover"]
    assert app.button(key="method.delift-se").label == "Chosen"
    app.segmented_control(key="family").set_value("control").run()
    assert not app.exception
    assert {"method.random", "method.kmeans"} <= {b.key for b in app.button}
    assert [b.key for b in app.button if b.label == "Chosen"] == ["begin.delift-se"]
    assert "**Represent the pool, quickly** (`delift-se`)" in said(app)
    app.button(key="method.kcenter").click().run()
    assert asked[-1].method == "kcenter"
    assert "**Farthest first** (`kcenter`)" in said(app)


def test_a_few_methods_are_shown_at_first_by_goal_with_when_to_take_each(
    app: AppTest, no_sample: None, pool: Dataset, asked: list[RunConfig]
) -> None:
    def begin() -> list[str]:
        return [str(b.key).removeprefix("begin.") for b in app.button if str(b.key).startswith("begin.")]

    visit(app, "run")
    assert begin() == list(registry.RECOMMENDED["pool"])
    for goal in registry.GOALS:
        app.segmented_control(key="goal").set_value(goal).run()
        assert not app.exception
        assert begin() == list(registry.RECOMMENDED[goal]) and 4 <= len(begin()) <= 6
        assert all(when in said(app) for when in registry.RECOMMENDED[goal].values())
        needed = {m.name for m in map(registry.method, begin()) if m.needs_target or m.needs_existing}
        assert bool(needed) == (goal != "pool")
    app.button(key="begin.random").click().run()
    assert asked[-1].method == "random"


def test_a_target_at_hand_is_the_goal_to_begin_with(
    app: AppTest, no_sample: None, pool: Dataset, target: Dataset, asked: list[RunConfig]
) -> None:
    visit(app, "run")
    assert app.segmented_control(key="goal").value == "target"


def test_a_link_presets_method_and_pool_and_later_choices_stand(
    app: AppTest, no_sample: None, pool: Dataset, target: Dataset, asked: list[RunConfig]
) -> None:
    visit(app, "run", method="delift", pool=pool.fingerprint)
    assert not app.exception and not app.error
    assert "(`delift`)" in said(app) and asked[-1].method == "delift" and asked[-1].pool == pool.fingerprint
    app.button(key="begin.kmeans").click().run()
    assert asked[-1].method == "kmeans"


def test_the_pool_opened_on_the_data_page_is_the_one_to_choose_from(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, tmp_path: Path, asked: list[RunConfig]
) -> None:
    path = tmp_path / "later.jsonl"
    path.write_text("".join(json.dumps({"instruction": f"Say {i}.", "output": f"{i}!"}) + "\n" for i in range(9)))
    later = pipeline.add_dataset(ws, path)
    visit(app, "data")
    app.selectbox(key="dataset").set_value(pool.fingerprint).run()
    app.switch_page("pages/run.py").run()
    assert asked[-1].pool == pool.fingerprint
    app.selectbox(key="role.pool").set_value(later.fingerprint).run()
    app.run()
    assert asked[-1].pool == later.fingerprint, "what is chosen here stands until another is opened there"


@pytest.mark.parametrize(
    ("family", "method", "boxes"),
    [
        ("delift", "delift", {"model", "encoder"}),  # which pairs are scored may be found by vectors
        ("cover", "delift-se", {"encoder"}),
        ("cover", "qdit", {"model", "encoder"}),
        ("rows", "ifd", {"model"}),
        ("control", "longest", {"model"}),
        ("control", "kmeans", {"encoder"}),
        ("control", "random", set()),
    ],
)
def test_the_form_asks_for_the_models_that_are_read(
    app: AppTest, no_sample: None, pool: Dataset, asked: list[RunConfig], family: str, method: str, boxes: set[str]
) -> None:
    choose(visit(app, "run"), family, method)
    assert not app.exception and not app.error
    assert {b.key for b in (*app.text_input, *app.selectbox)} & {"model", "encoder"} == boxes
    if method == "random":
        app.number_input(key="rule.once").set_value(0.95).run()
        assert "encoder" in [b.key for b in app.selectbox]
        app.number_input(key="rule.once").set_value(0.0)
        app.segmented_control(key="unit").set_value("tokens").run()
        assert "model" in [b.key for b in app.text_input]


def test_a_pair_of_ones_own_is_a_method_and_one_that_cannot_be_says_why(
    app: AppTest, no_sample: None, pool: Dataset, asked: list[RunConfig]
) -> None:
    visit(app, "run")
    app.selectbox(key="own.scorer").set_value("embedding")
    app.selectbox(key="own.objective").set_value("graph-cut").run()
    app.button(key="method.own").click().run()
    assert not app.exception and not app.error
    assert asked[-1].method == "embedding+graph-cut"
    app.selectbox(key="own.scorer").set_value("rds").run()
    assert not app.exception
    assert app.button(key="method.own").disabled
    assert any("compares the target with the pool only" in e.value for e in app.error)


# --- rules ---------------------------------------------------------------------------------------------------------


def test_rules_at_rest_leave_the_id_as_it_was(
    app: AppTest, no_sample: None, pool: Dataset, asked: list[RunConfig]
) -> None:
    choose(visit(app, "run"), "control", "random")
    assert asked[-1].id == RunConfig(pool=pool.fingerprint, method="random", budget="30%").id


def test_every_rule_reaches_the_run_and_its_command(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, target: Dataset, asked: list[RunConfig]
) -> None:
    choose(visit(app, "run"), "transport", "got-d")
    app.selectbox(key="role.target").set_value(target.fingerprint)
    app.selectbox(key="role.holdout").set_value(target.fingerprint)
    app.selectbox(key="quota.by").set_value("column: topic").run()
    app.segmented_control(key="quota.kind").set_value("even")
    app.number_input(key="rule.once").set_value(0.97)
    app.selectbox(key="rule.domains").set_value("topic").run()
    app.number_input(key="rule.nearest").set_value(2)
    app.get_by_key("rule.guard").set_value(["words", "exact"])
    app.number_input(key="rule.cosine").set_value(0.9)
    app.text_area(key="rule.pin").set_value(f"{pool.ids[8]}\n\n {pool.ids[2]} ")
    app.text_area(key="rule.ban").set_value(pool.ids[6]).run()
    assert not app.exception and not app.error, [e.value for e in app.error]
    config = asked[-1]
    assert {name: getattr(config, name) for name in _rules(config)} == {
        "quota": "topic: even", "once": 0.97, "domains": "topic:2", "holdout": target.fingerprint,
        "guard": "exact,words,0.9", "pin": (pool.ids[8], pool.ids[2]), "ban": (pool.ids[6],),
    }  # fmt: skip
    assert read_back(config, ws).id == config.id
    assert "2 pinned rows" in said(app)


def _rules(config: RunConfig) -> list[str]:
    return ["quota", "once", "domains", "holdout", "guard", "pin", "ban"]


def test_the_builder_writes_the_quota_and_follows_what_is_written_by_hand(
    app: AppTest, no_sample: None, pool: Dataset, asked: list[RunConfig]
) -> None:
    visit(app, "run")
    app.selectbox(key="quota.by").set_value("clusters").run()
    assert app.text_input(key="rule.quota").value == "cluster:10: proportional"
    app.number_input(key="quota.count").set_value(4).run()
    app.segmented_control(key="quota.kind").set_value("bounds").run()
    assert asked[-1].quota == "cluster:4: *>=1"
    app.text_input(key="rule.quota").set_value("topic: more sums<=50%, *>=1").run()
    assert not app.exception and not app.error
    assert app.selectbox(key="quota.by").value == "column: topic"
    assert app.segmented_control(key="quota.kind").value == "bounds"
    assert asked[-1].quota == "topic: more sums<=50%, *>=1"
    assert "more sums 20, sums 17, hostile 1" in said(app)  # exact copies once
    app.selectbox(key="quota.by").set_value("none").run()
    assert app.text_input(key="rule.quota").value == ""
    assert asked[-1].quota == ""


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("rule.quota", "topic", "does not begin with a column"),
        ("rule.quota", "nothing: even", "nothing"),
        ("rule.pin", "no-such-row", "no row 'no-such-row' to pin"),
        ("rule.cosine", 0.95, "Give --holdout FILE"),
    ],
)
def test_a_rule_that_cannot_hold_is_an_error_on_the_page(
    app: AppTest, no_sample: None, pool: Dataset, asked: list[RunConfig], key: str, value: Any, told: str
) -> None:
    visit(app, "run")
    app.get_by_key(key).set_value(value).run()
    assert not app.exception
    assert any(told in error.value.replace("\\", "") for error in app.error), [e.value for e in app.error]
    app.get_by_key(key).set_value(0.0 if key == "rule.cosine" else "").run()
    assert not app.exception and not app.error


def test_rules_outlive_a_visit_to_another_page(
    app: AppTest, no_sample: None, pool: Dataset, asked: list[RunConfig]
) -> None:
    visit(app, "run")
    app.selectbox(key="quota.by").set_value("column: topic").run()
    app.switch_page("pages/data.py").run()
    app.switch_page("pages/run.py").run()
    assert not app.exception and not app.error
    assert asked[-1].quota == "topic: proportional"
    assert app.selectbox(key="quota.by").value == "column: topic"


# --- the command ---------------------------------------------------------------------------------------------------

ODD = ("a b", "it's", 'say "no"', "$HOME", "-7", "--ban", "ключ", "a=b;c", "*")


@pytest.mark.parametrize(
    "changes",
    [
        {"pin": ODD, "ban": ("x",)},
        {"pin": ("one, two", "three")},
        {"pin": ("@home",)},
        {"ban": tuple(f"row-{i}" for i in range(500))},
        {"pin": ("line\nbreak",)},
        {"quota": '-odd: "a, b">=5, *<=20%'},
        {"quota": '"cluster": even'},
        {"quota": "cluster:7: proportional", "once": 0.123456789},
        {"guard": "normalised,0.95"},
        {"method": "dsir", "options": {"gumbel": False}},
        {"method": "delift-se-task", "options": {"eta": 0.3}, "domains": "a:b:3"},
        {"method": "icl+graph-cut", "pairs": "knn:5", "kind": "pmi"},
        {"budget": "1500tok", "seed": 4, "keep_duplicates": True, "model": "some where/it's"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_the_command_line_reads_back_to_the_same_run(
    ws: Workspace, pool: Dataset, target: Dataset, changes: dict[str, Any]
) -> None:
    config = RunConfig(pool=pool.fingerprint, holdout=target.fingerprint, **{"method": "random", **changes})
    if registry.method(config.method).needs_target:
        config = config.with_(target=target.fingerprint)
    config = pipeline.normal(config)
    assert read_back(config, ws).id == config.id


@pytest.mark.parametrize("ids", [(" edge ",), ("one, two", "line\nbreak")])
def test_ids_that_no_command_line_can_carry_are_repeated_from_the_manifest(pool: Dataset, ids: tuple[str, ...]) -> None:
    words = _jobs.command_for(RunConfig(pool=pool.fingerprint, method="random", pin=ids))
    assert words[:3] == ("delift", "replay", "manifest.json")
    assert cli._parser(list(words[1:])).parse_args(words[1:]).manifest == "manifest.json"


def test_ids_one_a_line_are_read_as_the_command_line_reads_a_file(tmp_path: Path) -> None:
    text = "a, b\n  c \n\n@d\r\ne"
    (tmp_path / "ids.txt").write_bytes(text.encode())
    assert _rulesform.ids_of(text) == flags._ids(f"@{tmp_path / 'ids.txt'}") == ("a, b", "c", "@d", "e")


@pytest.mark.parametrize(
    "rules",
    [
        {}, {"quota": "topic: even"}, {"quota": '"cluster": even'}, {"quota": "cluster: even"}, {"once": 0.9},
        {"guard": "words"}, {"guard": "words,0.9"}, {"domains": "topic:1"}, {"pin": ("1",)},
    ],
)  # fmt: skip
def test_rules_that_look_at_vectors_ask_for_an_encoder(pool: Dataset, target: Dataset, rules: dict[str, Any]) -> None:
    inputs = Inputs(RunConfig(pool=pool.fingerprint, method="random", **rules), pool, target=target)
    assert _rulesform.reads_vectors(rules) == bool(inputs.encoded_roles)


def test_an_unknown_method_has_nothing_to_read() -> None:
    with pytest.raises(ConfigError):
        registry.reads("no-such-method")


def test_a_pool_without_the_column_of_a_rule_says_so_and_breaks_nothing(
    app: AppTest, no_sample: None, pool: Dataset, target: Dataset, asked: list[RunConfig]
) -> None:
    choose(visit(app, "run"), "transport", "got-d")
    app.selectbox(key="role.pool").set_value(pool.fingerprint)
    app.selectbox(key="role.target").set_value(target.fingerprint).run()
    app.selectbox(key="rule.domains").set_value("topic").run()
    app.selectbox(key="quota.by").set_value("column: topic").run()
    assert not app.exception and not app.error
    assert (asked[-1].quota, asked[-1].domains) == ("topic: proportional", "topic:3")
    app.selectbox(key="role.pool").set_value(target.fingerprint)
    app.selectbox(key="role.target").set_value(pool.fingerprint).run()
    assert not app.exception
    assert any("no field 'topic'" in error.value.replace("\\", "") for error in app.error)
    app.selectbox(key="quota.by").set_value("none").run()
    assert not app.exception
