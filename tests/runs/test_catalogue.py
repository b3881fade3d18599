from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from delift_core.config import RunConfig
from delift_core.errors import WorkspaceError
from delift_core.runs.catalogue import Catalogue
from delift_core.runs.workspace import Workspace

from .conftest import POOL

ROOT = Path(__file__).parents[2]


def test_a_dataset_is_recorded_once_and_its_roles_add_up(ws: Workspace) -> None:
    for name, role in (("old.jsonl", "pool"), ("new'; DROP TABLE runs; --.jsonl", "target")):
        record = ws.catalogue.add_dataset(POOL, name=name, schema="alpaca", rows=5, source="/x", roles=[role])
    assert record.roles == ("pool", "target") and record.name.startswith("new'")
    assert ws.catalogue.datasets() == [record] == [ws.catalogue.dataset(POOL)]


def test_unknown_names_are_told(ws: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="No dataset"):
        ws.catalogue.dataset(POOL)
    with pytest.raises(WorkspaceError, match="No run"):
        ws.catalogue.run("0" * 16)
    with pytest.raises(WorkspaceError, match="No run"):
        ws.catalogue.update_run("0" * 16, state="done")
    with pytest.raises(WorkspaceError, match="not a fingerprint"):
        ws.catalogue.add_dataset("../x", name="x", schema="x", rows=1)


def test_a_run_is_recorded_once_and_remembers_what_changes(ws: Workspace, config: RunConfig) -> None:
    ws.catalogue.add_run(config, command=["delift", "select"])
    record = ws.catalogue.add_run(config, command=["something", "else"])
    assert (record.id, record.config, record.state) == (config.id, config, "queued")
    assert record.command == ("delift", "select")
    ws.catalogue.update_run(config.id, state="running")
    record = ws.catalogue.run(config.id)
    assert record.pid == os.getpid() and record.started and record.finished is None and record.job.is_alive()
    ws.catalogue.update_run(config.id, state="done", summary={"k": 3}, stage="select", done=1, total=2)
    record = ws.catalogue.run(config.id)
    assert record.state == "done" and record.summary == {"k": 3} and record.job.share == 0.5 and record.finished


def test_a_change_of_something_that_is_not_there_is_a_bug(ws: Workspace, config: RunConfig) -> None:
    ws.catalogue.add_run(config)
    with pytest.raises(TypeError):
        ws.catalogue.update_run(config.id, colour="red")
    with pytest.raises(ValueError, match="state"):
        ws.catalogue.update_run(config.id, state="finished")


def test_hidden_runs_are_listed_only_when_asked_for_and_the_newest_come_first(ws: Workspace) -> None:
    ids = [ws.catalogue.add_run(RunConfig(pool=POOL, seed=seed)).id for seed in range(3)]
    ws.catalogue.update_run(ids[1], hidden=True)
    assert [r.id for r in ws.catalogue.runs()] == [ids[2], ids[0]]
    assert [r.id for r in ws.catalogue.runs(hidden=True)] == ids[::-1]


def test_one_run_of_an_older_format_does_not_hide_the_others(ws: Workspace, config: RunConfig) -> None:
    ws.catalogue.add_run(config)
    with ws.catalogue.transaction() as db:
        db.execute("UPDATE runs SET config = '{\"format\": 0}'")
    assert [r.id for r in ws.catalogue.runs()] == [config.id]


def test_edits_are_logged_and_undone_but_never_lost(ws: Workspace, config: RunConfig) -> None:
    first = ws.catalogue.add_edit(config.id, "pin", [3, 4], reason="gold", who="ann")
    ws.catalogue.add_edit(config.id, "ban", [5], reason="wrong", who="bob")
    ws.catalogue.undo_edit(first.id)
    assert [(e.action, e.rows, e.undone) for e in ws.catalogue.edits(config.id)] == [
        ("pin", (3, 4), True), ("ban", (5,), False),
    ]  # fmt: skip
    ws.catalogue.save_view("mine", config.id, "map", {"colour": "gain"}, who="ann")
    ws.catalogue.save_view("mine", config.id, "map", {"colour": "group"}, who="ann")
    assert [v.settings for v in ws.catalogue.views(config.id)] == [{"colour": "group"}]


def test_a_transaction_that_fails_changes_nothing(ws: Workspace, config: RunConfig) -> None:
    ws.catalogue.add_run(config)
    with pytest.raises(RuntimeError), ws.catalogue.transaction() as db:
        db.execute("DELETE FROM runs")
        raise RuntimeError
    assert len(ws.catalogue.runs()) == 1


# A process of its own by command line: multiprocessing would run this session's __main__ again, whatever it is by then.
RECORD_MANY = """
import sys, time
from pathlib import Path
from delift_core.config import RunConfig
from delift_core.runs.catalogue import Catalogue

path, pool, worker, start = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
time.sleep(max(0.0, start - time.time()))
catalogue = Catalogue(path)
for n in range(15):
    config = RunConfig(pool=pool, seed=1000 * worker + n)
    catalogue.add_run(config)
    catalogue.update_run(config.id, state="done", summary={"n": n})
"""


def test_many_processes_make_and_fill_one_catalogue_at_the_same_moment(tmp_path: Path) -> None:
    path, start = tmp_path / "ws" / "catalogue.db", time.time() + 2.0
    workers = [
        subprocess.Popen([sys.executable, "-c", RECORD_MANY, str(path), POOL, str(w), str(start)], cwd=ROOT)
        for w in range(4)
    ]
    assert [w.wait(timeout=120) for w in workers] == [0] * 4
    seeds = {r.config.seed for r in Catalogue(path).runs()}
    assert seeds == {1000 * w + n for w in range(4) for n in range(15)}


HOLDER = """
import sys, time
from pathlib import Path
from delift_core.runs.catalogue import Catalogue
with Catalogue(Path(sys.argv[1])).transaction() as db:
    db.execute("DELETE FROM runs")
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_process_killed_in_the_middle_of_a_transaction_leaves_no_trace_and_no_lock(
    ws: Workspace, config: RunConfig
) -> None:
    ws.catalogue.add_run(config)
    arguments = [sys.executable, "-c", HOLDER, str(ws.catalogue.path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert len(ws.catalogue.runs()) == 1  # readers are not kept waiting
        holder.kill()
    ws.catalogue.update_run(config.id, state="done")
    assert ws.catalogue.run(config.id).state == "done"


def test_a_damaged_catalogue_is_told_and_left_alone(ws: Workspace) -> None:
    ws.root.mkdir()
    ws.catalogue.path.write_bytes(b"this is no database" * 100)
    with pytest.raises(WorkspaceError, match=r"damaged.*Move it away"):
        ws.catalogue.runs()
    assert ws.catalogue.path.read_bytes() == b"this is no database" * 100


def test_a_catalogue_of_a_newer_version_is_told_and_left_alone(ws: Workspace, config: RunConfig) -> None:
    ws.catalogue.add_run(config)
    db = sqlite3.connect(ws.catalogue.path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(WorkspaceError, match="newer version"):
        ws.catalogue.runs()


def test_a_full_disk_is_told_and_the_catalogue_stays_whole(small_disk: Path, config: RunConfig) -> None:
    ws = Workspace(small_disk / "ws")
    ws.catalogue.add_run(config)
    (small_disk / "filler").touch()
    with pytest.raises(OSError, match="No space"), (small_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(4096))
            filler.flush()
    with pytest.raises(WorkspaceError, match=r"disk is full|Could not use"):
        for n in range(2000):
            ws.catalogue.update_run(config.id, note="x" * 1000, summary={"long": "y" * 10_000, "n": n})
    (small_disk / "filler").unlink()
    ws.catalogue.update_run(config.id, state="done")
    assert [r.state for r in ws.catalogue.runs()] == ["done"]


def test_no_connection_stays_open(ws: Workspace, config: RunConfig) -> None:
    ws.catalogue.add_run(config)
    ws.catalogue.runs()
    assert not [f for f in psutil.Process().open_files() if f.path.startswith(str(ws.root))]
