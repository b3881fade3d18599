"""The planted problems at a small size: what is hidden in real rows is found by the methods that should find it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from benchmarks import planted
from benchmarks._planting import RANDOM, Bench, Pick, Tasks, drawn, spoilt
from delift_core.types import MemoryStore


@pytest.fixture(scope="module")
def bench(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(shared / "data", tmp_path_factory.mktemp("planted"), MemoryStore())


@pytest.fixture(scope="module")
def short(bench: Bench) -> Bench:
    """Of the same data only short rows, which are encoded faster."""
    return replace(bench, characters=400)


@pytest.fixture(scope="module")
def four(short: Bench) -> Tasks:
    return dict(islice(short.tasks().items(), 4))


def test_no_copy_is_picked_before_every_row_has_been(short: Bench) -> None:
    table = planted.copies(short, 40, [Pick("delift-se"), Pick("delift-se", {"once": 0.95}), Pick("kcenter")])
    random = table.pop(RANDOM.name)
    for figures in table.values():
        assert [figures[f"repeats at {percent}%"] for percent in (10, 20, 30)] == [0, 0, 0]
        assert figures["picks before one, of 28"] == 28
    assert len(table) == 3 and random["repeats at 30%"] > 0.5 and random["picks before one, of 28"] < 20


def test_a_target_draws_the_rows_of_its_task(bench: Bench, four: Tasks) -> None:
    names = ("delift-se-task", "got-d", "uot", "tsds", "rds", "dsir", "embedding+round-robin")
    table = planted.target(bench, 40, [Pick(name) for name in names], four, (0.5,))
    random = table.pop(RANDOM.name)["mean at 12%"]
    assert {name: figures["mean at 12%"] >= 0.8 for name, figures in table.items()} == dict.fromkeys(names, True)
    assert 0.15 < random < 0.35


def test_what_the_existing_rows_lack_is_drawn(bench: Bench, four: Tasks) -> None:
    picks = [Pick("delift-se-continual", {"nu": 1.3}), Pick("got-d-contrast")]
    table = planted.continual(bench, 40, picks, four, draws=2)
    random = table.pop(RANDOM.name)["mean at 30%"]
    assert all(figures["mean at 30%"] >= 0.65 for figures in table.values()), table
    assert 0.4 < random < 0.6


def test_wrong_responses_are_avoided_by_what_reads_them_against_right_ones(bench: Bench) -> None:
    table = planted.noise(bench, 60, [Pick("rds"), Pick("loss", {"prefer": "low"})], draws=2)
    random = table.pop(RANDOM.name)["mean at 30%"]
    assert all(figures["mean at 30%"] <= random - 0.08 for figures in table.values()), (table, random)
    assert 0.2 < random < 0.4


def test_a_wrong_response_is_of_another_task_and_of_no_other_row(bench: Bench) -> None:
    pool, others = drawn(bench.held_out(), 10, 10, 0)
    strangers = [record for part in others.values() for record in part]
    found, wrong = spoilt(pool, strangers, 0.3, 0)
    giver = {
        str(record["output"]): {r["task"] for r in strangers if r["output"] == record["output"]} for record in strangers
    }
    assert len(wrong) == 18
    assert not {record["id"] for record in strangers} & {record["id"] for record in pool}
    for at, (record, before) in enumerate(zip(found, pool, strict=True)):
        if at in wrong:
            assert giver[str(record["output"])] - {record["task"]} and record["input"] == before["input"]
        else:
            assert record is before


def test_it_prints_one_json_object(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--only", "copies", "--rows", "20", "--json", "--data", str(shared / "data"), "--work", str(tmp_path)]
    assert planted.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 20 and set(found["copies"]) == {pick.name for pick in [*planted.COPIES, RANDOM]}
    with pytest.raises(SystemExit):
        planted.main(["--only", "nothing"])
