"""Edits by hand: how they are folded and logged, and that an edited subset is the run of the same pins and bans."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.errors import ConfigError, WorkspaceError
from delift_core.review import editing
from delift_core.review.editing import Change, Standing
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from tests import small


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("editing"))


@pytest.fixture(scope="module")
def pool(ws: Workspace) -> Dataset:
    path = ws.root.with_suffix(".jsonl")
    rows = [
        {"instruction": f"Add {i} and {i + 1}.", "output": f"It is {2 * i + 1}.", "kind": "ab"[i % 2]}
        for i in range(24)
    ]
    rows[5] = rows[4]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return pipeline.add_dataset(ws, path)


@pytest.fixture(scope="module")
def run(ws: Workspace, pool: Dataset) -> Run:
    config = RunConfig(
        pool=pool.fingerprint, method="delift", model=small.model(), budget="6", pin=("3",), ban=("9", "2")
    )  # fmt: skip
    return pipeline.run(ws, config)


def changes(*told: tuple[str, list[int]]) -> list[Change]:
    return [Change(action, tuple(rows), "because") for action, rows in told]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "pinned", "banned"),
    [
        ([], [3], [2, 9]),
        ([("pin", [7, 1])], [3, 7, 1], [2, 9]),
        ([("pin", [7]), ("ban", [7])], [3], [2, 7, 9]),
        ([("ban", [7]), ("pin", [7])], [3, 7], [2, 9]),
        ([("ban", [3]), ("unban", [2])], [], [3, 9]),
        ([("unpin", [3, 9])], [], [2, 9]),  # a ban is not a pin
        ([("pin", [9, 9])], [3, 9], [2]),
        ([("ban", [5]), ("pin", [4])], [3, 4], [2, 9]),  # row 5 is a copy of row 4
    ],
)
def test_the_later_edit_wins_and_the_run_s_own_rules_come_first(
    run: Run, pool: Dataset, told: list[tuple[str, list[int]]], pinned: list[int], banned: list[int]
) -> None:
    found = editing.fold(run.config, pool, changes(*told))
    assert (found.pinned.tolist(), found.banned.tolist()) == (pinned, banned)


def test_copies_that_count_by_themselves_are_edited_by_themselves(run: Run, pool: Dataset) -> None:
    config = run.config.with_(keep_duplicates=True)
    assert editing.fold(config, pool, changes(("ban", [5]))).banned.tolist() == [2, 5, 9]


def test_no_edit_leaves_the_configuration_as_it_was(run: Run, pool: Dataset) -> None:
    same = editing.fold(run.config, pool, changes(("ban", [7]), ("unban", [7]), ("pin", [3])))
    assert editing.edited_config(run, pool, same) == run.config  # whatever the order of its bans
    assert editing.edited_config(run, pool, same, 4) == run.config.with_(budget="4")


def test_an_edited_run_has_the_ids_of_a_run_with_the_same_rules(ws: Workspace, run: Run, pool: Dataset) -> None:
    out = int(run.picked[1])
    edits = editing.fold(run.config, pool, changes(("pin", [14]), ("ban", [out])))
    config = editing.edited_config(run, pool, edits)
    assert config.pin == ("3", "14")
    assert set(config.ban) == {"2", "9", str(out)}
    price = editing.price(ws, run, run.k, edits=edits)
    done = pipeline.run(ws, config)
    assert done.manifest["ids"][:2] == ["3", "14"]
    assert out not in done.picked
    assert set(price.entered) == set(done.picked) - set(run.picked)
    assert set(price.left) == set(run.picked) - set(done.picked)
    assert price.before == pytest.approx(run.selection.value[run.k - 1])
    assert price.after == pytest.approx(done.selection.value[done.k - 1])
    assert price.loss == pytest.approx(1 - price.after / price.before)
    assert " in, " in price.sentence and "%" in price.sentence


def test_no_edit_costs_nothing_and_a_smaller_budget_is_priced_at_its_own_size(
    ws: Workspace, run: Run, pool: Dataset
) -> None:
    for k in (run.k, 4):
        price = editing.price(ws, run, k, edits=editing.fold(run.config, pool, []))
        assert (price.k, len(price.entered), len(price.left)) == (k, 0, 0)
        assert price.before == pytest.approx(run.selection.value[k - 1])
        assert "costs nothing" in price.sentence


def test_a_quota_has_the_price_of_the_run_that_has_it(ws: Workspace, run: Run) -> None:
    price = editing.price(ws, run, run.k, quota="kind: even")
    done = pipeline.run(ws, run.config.with_(quota="kind: even"))
    assert price.after == pytest.approx(done.selection.value[done.k - 1])
    assert set(run.picked) - set(price.left.tolist()) | set(price.entered.tolist()) == set(done.picked)


def test_a_method_without_values_says_so(ws: Workspace, run: Run, pool: Dataset) -> None:
    free = pipeline.run(ws, RunConfig(pool=pool.fingerprint, method="random", budget="6"))
    price = editing.price(ws, free, 6, edits=editing.fold(free.config, pool, changes(("ban", [int(free.picked[0])]))))
    assert price.loss is None
    assert "no value" in price.sentence
    assert price.left.tolist() == [int(free.picked[0])]


def test_a_pinned_row_that_the_run_left_out_is_told_before_anything_runs(
    ws: Workspace, pool: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "held.jsonl"
    path.write_text(json.dumps({"instruction": "Add 1 and 2.", "output": "It is 3."}) + "\n")
    held = pipeline.add_dataset(ws, path, role="holdout")
    config = RunConfig(pool=pool.fingerprint, method="random", budget="6", holdout=held.fingerprint)
    guarded = pipeline.run(ws, config)
    edits = editing.fold(guarded.config, pool, changes(("pin", [1])))
    with pytest.raises(ConfigError, match=r"'1' is pinned, but it is left out: .*Unpin it"):
        editing.edited_config(guarded, pool, edits)


# --- the log -------------------------------------------------------------------------------------------------------


def fresh(ws: Workspace, pool: Dataset, seed: int) -> str:
    return ws.catalogue.add_run(RunConfig(pool=pool.fingerprint, method="random", budget="6", seed=seed)).id


def test_edits_are_saved_undone_and_made_to_count_again(ws: Workspace, pool: Dataset) -> None:
    run_id = fresh(ws, pool, 1)
    editing.save(ws, run_id, changes(("pin", [8]), ("ban", [1])), " Ada ")
    first, second = ws.catalogue.edits(run_id)
    assert (first.who, first.reason, first.rows, second.action) == ("Ada", "because", (8,), "ban")
    assert editing.edits_of(ws, run_id).banned.tolist() == [1]
    assert editing.turn(ws, run_id, second.id)
    assert editing.edits_of(ws, run_id).banned.tolist() == []
    assert editing.edits_of(ws, run_id, changes(("ban", [8]))).pinned.tolist() == []
    assert not editing.turn(ws, run_id, second.id)
    assert editing.edits_of(ws, run_id).banned.tolist() == [1]
    with pytest.raises(WorkspaceError, match="no edit"):
        editing.turn(ws, fresh(ws, pool, 2), second.id)


@pytest.mark.parametrize(
    ("change", "who", "said"),
    [
        (Change("pin", (1,), "good"), " ", "who you are"), (Change("pin", (), "good"), "Ada", "No row"),
        (Change("pin", (1,), " "), "Ada", "Say why"), (Change("ban", (24,), "bad"), "Ada", "outside the pool"),
        (Change("drop", (1,), "bad"), "Ada", "Unknown edit"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_one_wrong_change_keeps_all_of_them_out(
    ws: Workspace, pool: Dataset, change: Change, who: str, said: str
) -> None:
    run_id = fresh(ws, pool, 3)
    with pytest.raises(ConfigError, match=said):
        editing.save(ws, run_id, [Change("ban", (2,), "fine"), change], who)
    assert ws.catalogue.edits(run_id) == []


def test_people_who_save_at_once_all_find_their_edits(ws: Workspace, pool: Dataset) -> None:
    run_id = fresh(ws, pool, 4)
    with ThreadPoolExecutor(4) as people:
        list(people.map(lambda i: editing.save(ws, run_id, changes(("pin", [i]), ("pin", [i + 8])), f"p{i}"), range(8)))
    log = ws.catalogue.edits(run_id)
    assert sorted(row for edit in log for row in edit.rows) == list(range(16))
    assert [edit.who for edit in log[::2]] == [edit.who for edit in log[1::2]]  # nobody's two are torn apart


def test_taking_back_names_what_each_row_has(run: Run, pool: Dataset) -> None:
    edits = editing.fold(run.config, pool, changes(("ban", [4])))
    found = editing.release(run.config, pool, [2, 3, 5, 11], edits, "no longer")
    assert [(c.action, c.rows) for c in found] == [("unpin", (3,)), ("unban", (2, 4))]
    after = editing.fold(run.config, pool, [*changes(("ban", [4])), *found])
    assert (after.pinned.tolist(), after.banned.tolist()) == ([], [9])
    with pytest.raises(ConfigError, match="nothing to take back"):
        editing.release(run.config, pool, [11], edits, "no longer")


def test_rows_stand_as_the_run_and_the_edits_say(run: Run, pool: Dataset) -> None:
    edits = editing.fold(run.config, pool, changes(("ban", [4])))
    standing = Standing.of(run, pool, 4, edits)
    assert np.flatnonzero(standing.which("selected")).tolist() == sorted(run.picked[:4].tolist())
    assert standing.which("rejected").sum() == len(pool) - 4
    assert np.flatnonzero(standing.which("banned")).tolist() == [2, 4, 5, 9]
    assert np.flatnonzero(standing.which("pinned")).tolist() == [3]
    assert standing.columns["rank"][3].as_py() == 1
    assert standing.columns["rank"][9].as_py() is None
    with pytest.raises(ConfigError, match="Known"):
        standing.which("odd")
