"""Quotas, pins, bans, near-copies, leaks and domains, through a whole run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.errors import ConfigError, DeliftError
from delift_core.runs import Run, Workspace
from tests import small


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    rows = small.rows(30)
    return small.write(
        tmp_path / "pool.jsonl", [{**r, "language": ("en", "en", "sw")[i % 3]} for i, r in enumerate(rows)]
    )


def do(ws: Workspace, pool: Path, **settings: Any) -> Run:
    chosen = {"method": "delift-se", "budget": "9", "model": small.model(), **settings}
    return pipeline.run(ws, pipeline.configure(ws, pool, **chosen))


def languages(run: Run, pool: Path) -> Counter[str]:
    records = small.records(small.lines(pool))
    return Counter(records[row]["language"] for row in run.picked)


@pytest.mark.parametrize("method", ["delift-se", "random", "longest", "kcenter", "log-determinant"])
def test_a_quota_holds_for_every_method_and_its_price_is_told(method: str, ws: Workspace, pool: Path) -> None:
    run = do(ws, pool, method=method, quota="language: sw>=6, en<=3")
    assert languages(run, pool) == {"sw": 6, "en": 3}
    if run.selection.full_value:
        assert any("The quota" in note for note in run.notes)
    assert run.config.quota == "language: sw>=6, en<=3"


def test_a_proportional_quota_keeps_the_pools_shares(ws: Workspace, pool: Path) -> None:
    assert languages(do(ws, pool, quota="language: proportional"), pool) == {"en": 6, "sw": 3}


def test_pinned_rows_come_first_and_banned_ones_never_and_the_order_stays_whole(ws: Workspace, pool: Path) -> None:
    plain = do(ws, pool)
    pin, ban = ["0-29", "0-3"], [plain.manifest["ids"][0], "0-7"]
    pin = [name for name in pin if name not in ban]
    run = do(ws, pool, pin=pin, ban=ban)
    assert run.manifest["ids"][: len(pin)] == pin
    assert not set(ban) & {run.table["id"][i].as_py() for i in range(len(run.selection))}
    assert len(run.selection) == 28 and run.selection.nested
    assert not any("fewer" in note for note in run.notes)
    few = do(ws, pool, pin=pin, ban=ban, budget="5")
    assert few.manifest["ids"] == run.manifest["ids"][:5]


def test_near_copies_count_once(ws: Workspace, tmp_path: Path) -> None:
    rows = small.rows(10)
    near = [{**r, "id": f"near-{r['id']}", "output": r["output"] + "!"} for r in rows]
    pool = small.write(tmp_path / "near.jsonl", [*rows, *near])
    run = do(ws, pool, budget="10", once=0.98)
    stems = [name.removeprefix("near-") for name in run.manifest["ids"]]
    assert len(stems) == len(set(stems)) == 10
    assert len(set(do(ws, pool, method="random", budget="10").manifest["ids"])) == 10


def test_held_out_rows_and_what_is_like_them_are_left_out(ws: Workspace, pool: Path, tmp_path: Path) -> None:
    rows = small.rows(30)
    held = [rows[4], {**rows[9], "id": "x", "instruction": rows[9]["instruction"].upper() + "?!", "output": "another"}]
    holdout = small.write(tmp_path / "test.jsonl", held)
    run = do(ws, pool, method="random", budget="28", holdout=holdout)
    assert {"0-4", "0-9"}.isdisjoint(run.manifest["ids"]) and len(run.picked) == 28
    found = run.manifest["constraints"]["leaks"]["holdout"]
    assert found["leaks"] == 2 and found["counts"] == {"exact": 1, "normalised": 1}
    assert any("too close to holdout rows (test.jsonl): 2" in note for note in run.notes)
    exact = do(ws, pool, method="random", budget="28", holdout=holdout, guard="exact")
    assert exact.manifest["constraints"]["leaks"]["holdout"]["leaks"] == 1
    close = do(ws, pool, method="random", budget="5", holdout=holdout, guard="0.9")
    assert close.manifest["constraints"]["leaks"]["holdout"]["counts"]["vectors"] >= 2
    assert pipeline.replay(ws, run.folder / "manifest.json").same


def test_a_row_that_texts_and_vectors_both_find_counts_once(ws: Workspace, tmp_path: Path) -> None:
    rows = small.rows(140)
    pool = small.write(tmp_path / "large.jsonl", rows)
    holdout = small.write(tmp_path / "test.jsonl", rows[:120])  # more than a record lists
    found = do(ws, pool, method="random", budget="5", holdout=holdout, guard="exact,0.9999")
    record = found.manifest["constraints"]["leaks"]["holdout"]
    assert record["leaks"] == sum(record["counts"].values()) >= 120 and record["counts"]["exact"] == 120
    assert record["more"] == record["leaks"] - len(record["rows"])


def test_the_next_rows_are_picked_from_those_that_an_earlier_run_left(ws: Workspace, pool: Path) -> None:
    first = do(ws, pool, budget="10")
    then = do(ws, pool, method="delift-se-continual", existing=first.folder / "manifest.json", budget="20")
    assert not set(first.picked.tolist()) & set(then.picked.tolist())
    assert sorted([*first.picked.tolist(), *then.picked.tolist()]) == list(range(30))
    assert pipeline.replay(ws, then.folder / "manifest.json").same


def test_the_domains_nearest_to_the_target_are_kept(ws: Workspace, tmp_path: Path) -> None:
    rows = [{**r, "kind": r["instruction"].split(":")[0]} for r in small.rows(30)]
    pool = small.write(tmp_path / "kinds.jsonl", rows)
    target = small.write(
        tmp_path / "target.jsonl", [r for r in small.rows(12, seed=5) if r["instruction"].startswith("Count")]
    )
    run = do(ws, pool, method="got-d", target=target, domains="kind:1", budget="6")
    assert {rows[row]["kind"] for row in run.picked} == {"Count the letters of"}
    table = run.manifest["constraints"]["domains"]
    assert [entry["rank"] for entry in table] == [1, 2, 3] and table[0]["domain"] == "Count the letters of"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pin": ["nobody"]}, "no row 'nobody' to pin"),
        ({"pin": ["0-1"], "ban": ["0-1"]}, "pinned and banned"),
        ({"pin": [f"0-{i}" for i in range(10)]}, "10 rows are pinned, but the budget is 9"),
        ({"ban": [f"0-{i}" for i in range(30)]}, "Every row of the pool is banned"),
        ({"quota": "langage: even"}, "no field 'langage'"),
        ({"quota": "language: xx>=1"}, "xx"),
        ({"quota": "language: sw>=11"}, "hold only 10 rows of sw"),
        ({"quota": "instruction: even"}, "no field 'instruction'|different values"),
        ({"quota": "language"}, "Write a column and its rules"),
        ({"guard": "wrods"}, "words"),
        ({"guard": "words"}, "Give --holdout FILE"),
        ({"domains": "language:1"}, "has none"),
        ({"once": 1.5}, "is no cosine"),
    ],
)  # fmt: skip
def test_rules_that_cannot_hold_are_refused_with_what_to_do(
    settings: dict[str, Any], words: str, ws: Workspace, pool: Path
) -> None:
    with pytest.raises(DeliftError, match=words):
        do(ws, pool, **settings)


def test_pins_bans_and_columns_are_checked_before_anything_is_scored(ws: Workspace, pool: Path) -> None:
    config = pipeline.configure(ws, pool, method="delift", pin=["nobody"])
    with pytest.raises(ConfigError, match="nobody"):
        pipeline.check(ws, config)


def test_a_configuration_without_rules_reads_as_it_did_before_there_were_any() -> None:
    plain = RunConfig(pool="x")
    assert not {"quota", "once", "domains", "holdout", "guard", "pin", "ban"} & set(plain.to_json())
    ruled = plain.with_(pin=("a", "b"), once=0.9, quota="language: even")
    assert RunConfig.from_json(json.loads(json.dumps(ruled.to_json()))) == ruled and ruled.id != plain.id


def test_a_report_says_which_group_is_served_worst_and_runs_compare(ws: Workspace, pool: Path) -> None:
    few = do(ws, pool, quota="language: sw<=1")
    found = pipeline.report(ws, few.id)
    assert found.by == "language" and found.worst == "sw"
    assert {g.name: g.picked for g in found.groups} == {"en": 8, "sw": 1}
    assert pipeline.report(ws, few.id, "cluster:3").count == 3
    other = do(ws, pool, quota="language: sw>=5")
    compared = pipeline.compare(ws, [few.id, other.id], "language")
    common = len(set(few.picked.tolist()) & set(other.picked.tolist()))
    assert compared.pairs[0].common == common and compared.worth
    assert {g.group: g.shares for g in compared.groups}["sw"] == pytest.approx((1 / 9, 5 / 9), abs=1e-9) or (
        np.isclose(compared.groups[-1].shares[0], 1 / 9)
    )
    with pytest.raises(ConfigError, match="two to four"):
        pipeline.compare(ws, [few.id])


def test_rejected_rows_say_which_rule_left_them_out(ws: Workspace, pool: Path, tmp_path: Path) -> None:
    holdout = small.write(tmp_path / "test.jsonl", [small.rows(30)[2]])
    run = do(ws, pool, method="random", holdout=holdout, ban=["0-1"], quota="language: *<=3")
    out, rejected = tmp_path / "out.jsonl", tmp_path / "rejected.jsonl"
    pipeline.export(ws, run, out, rejected=rejected)
    reasons = {line["id"]: line["reason"] for line in map(json.loads, rejected.read_text().splitlines())}
    assert reasons["0-1"] == "left out: banned by its id"
    assert reasons["0-2"].startswith("left out: too close to holdout row 0-2 by exact")
    assert any("quota language: *<=3" in reason for reason in reasons.values())


def test_the_price_of_a_quota_counts_the_rows_that_it_costs(ws: Workspace, pool: Path) -> None:
    free, held = do(ws, pool, budget="20"), do(ws, pool, budget="20", quota="language: *<=2")
    assert len(held.picked) == 4
    loss = 1 - held.selection.value[-1] / free.selection.value[19]
    assert any(f"costs {100 * loss:.3g} %" in note for note in held.notes)


def test_rows_trained_on_already_stay_out_whatever_the_guard_can_see(ws: Workspace, tmp_path: Path) -> None:
    rows = [{**r, "instruction": f"Word {i}", "output": f"{i}."} for i, r in enumerate(small.rows(20))]
    pool, existing = (small.write(tmp_path / name, part) for name, part in (("p.jsonl", rows), ("e.jsonl", rows[:8])))
    run = do(ws, pool, method="got-d-contrast", existing=existing, guard="words", budget="12")
    assert set(run.picked.tolist()) == set(range(8, 20))


@pytest.mark.parametrize("method", ["random", "kcenter", "delift-se"])
def test_a_quota_of_shares_uses_a_token_budget_up(method: str, ws: Workspace, tmp_path: Path) -> None:
    rows = [
        {**r, "kind": "ab"[i % 2], "output": r["output"] * (1 + 7 * (i % 5 == 0))} for i, r in enumerate(small.rows(60))
    ]
    pool = small.write(tmp_path / "long.jsonl", rows)
    run = do(ws, pool, method=method, quota="kind: even", budget="2000tok")
    assert run.tokens is not None
    assert 0.85 * 2000 <= run.tokens[: run.k].sum() <= 2000
    kinds = Counter(rows[row]["kind"] for row in run.picked)
    assert abs(kinds["a"] - kinds["b"]) <= 2
    assert any("in the quota's shares take" in note for note in run.notes)


def test_bounds_that_are_shares_of_the_budget_are_not_nested(ws: Workspace, pool: Path) -> None:
    assert not do(ws, pool, method="random", quota="language: sw<=50%").selection.nested
    assert do(ws, pool, method="random", quota="language: sw<=4").selection.nested


def test_a_wrong_quota_is_found_before_anything_is_scored(ws: Workspace, pool: Path) -> None:
    for quota, words in (
        ("language: Nix>=2", "Nix"),
        ("language: sw>=11", "hold only 10"),
        ("language: *>=6", "budget"),
    ):
        with pytest.raises(ConfigError, match=words):
            pipeline.check(ws, pipeline.configure(ws, pool, method="delift", budget="9", quota=quota))


def test_a_checked_plan_survives_quotas_under_a_token_budget(ws: Workspace, pool: Path) -> None:
    run = do(ws, pool, method="delift", pairs="adaptive:0.2", budget="400tok", quota="language: even", pin=["0-7"])
    assert run.manifest["ids"][0] == "0-7" and run.fidelity["pool"]


def test_groups_that_make_no_sense_are_refused(ws: Workspace, pool: Path) -> None:
    run = do(ws, pool)
    for by in ("cluster:0", "cluster:x", "nothing"):
        with pytest.raises(DeliftError):
            pipeline.report(ws, run.id, by)
    with pytest.raises(ConfigError, match="given twice"):
        pipeline.compare(ws, [run.id, run.id])
    assert pipeline.report(ws, do(ws, pool, ban=["0-3"]).id, "language").groups[0].tokens
