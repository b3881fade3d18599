from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from delift_core.config import RunConfig
from delift_core.errors import WorkspaceError
from delift_core.runs.cut import manifest_at
from delift_core.runs.run import Run, read_utility, write_utility
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset, Selection, Utility, from_pick

from .conftest import finish, leftovers


def same(a: Utility, b: Utility) -> None:
    dense = [u.values if isinstance(u.values, np.ndarray) else u.values.toarray() for u in (a, b)]
    np.testing.assert_array_equal(*dense)
    np.testing.assert_array_equal(a.helped, b.helped)
    np.testing.assert_array_equal(a.candidates, b.candidates)
    assert a.kind == b.kind and (a.baseline is None) == (b.baseline is None)
    if a.baseline is not None and b.baseline is not None:
        np.testing.assert_array_equal(a.baseline, b.baseline)


def test_a_run_comes_back_as_it_was_written(
    ws: Workspace, done: Run, config: RunConfig, selection: Selection, utility: Utility
) -> None:
    run = Run.open(Workspace(ws.root), config.id)
    assert (run.id, run.config, run.k) == (config.id, config, 3)
    np.testing.assert_array_equal(run.picked, [6, 1, 4])
    for name in ("order", "gains", "value"):
        np.testing.assert_array_equal(getattr(run.selection, name), getattr(selection, name))
    assert (run.selection.full_value, run.selection.nested, run.selection.notes) == (11.0, True, ("a note",))
    assert run.tokens is not None
    np.testing.assert_array_equal(run.tokens, selection.order * 10)
    assert run.utilities == (("pool", "l2"), ("pool", "pmi"))
    same(run.utility(), utility)
    same(run.utility("pool", "pmi"), replace(utility, kind="pmi", baseline=None))
    assert isinstance(run.utility().values, np.memmap)
    assert run.table.to_pylist()[1] == {
        "row": 1, "id": "r1", "rank": 1, "gain": 3.0, "value": 7.0, "tokens": 10, "chosen": True,
    }  # fmt: skip
    assert run.table["chosen"].to_pylist() == [True] * 3 + [False] * 4
    summary = ws.catalogue.run(run.id).summary
    assert summary == run.summary and summary["selected"] == 3 and summary["share"] == 9 / 11
    assert summary["seconds"] == 2.0 and run.timings == {"encode": 1.5, "select": 0.5}
    assert leftovers(ws.root) == []


def test_a_sparse_utility_comes_back(tmp_path: Path) -> None:
    values = sparse.random_array((30, 20), density=0.2, format="csc", dtype=np.float32, rng=np.random.default_rng(0))
    utility = Utility(values, np.arange(30), np.arange(20) * 2, "pmi")
    write_utility(tmp_path, "target", utility)
    back = read_utility(tmp_path, "target", "pmi")
    assert not back.is_dense
    same(back, utility)
    dense = Utility(np.ones((2, 2), np.float32), np.arange(2), np.arange(2), "pmi")
    write_utility(tmp_path, "target", dense)
    same(read_utility(tmp_path, "target", "pmi"), dense)
    write_utility(tmp_path, "target", utility)
    same(read_utility(tmp_path, "target", "pmi"), utility)


def test_a_utility_that_is_not_there_is_told_with_what_is(done: Run) -> None:
    with pytest.raises(WorkspaceError, match=r"no utility target l2.*pool l2, pool pmi"):
        done.utility("target", "l2")


def test_a_run_without_a_result_is_told_with_its_state(ws: Workspace, config: RunConfig) -> None:
    with pytest.raises(WorkspaceError, match="No run"):
        Run.open(ws, config.id)
    ws.catalogue.add_run(config)
    with pytest.raises(WorkspaceError, match=r"no result yet.*queued"):
        Run.open(ws, config.id)
    with pytest.raises(WorkspaceError, match="16 hexadecimal"):
        Run.open(ws, "../" + config.id)


def test_an_order_without_token_counts_has_none(
    ws: Workspace, config: RunConfig, pool: Dataset, selection: Selection
) -> None:
    assert finish(ws, config, pool, selection).tokens is None


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "selection.parquet"])
@pytest.mark.parametrize("how", ["cut", "flip", "remove"])
def test_a_damaged_run_is_told_and_never_half_read(ws: Workspace, done: Run, name: str, how: str) -> None:
    path = done.folder / name
    data = bytearray(path.read_bytes())
    if how == "remove":
        path.unlink()
    else:
        at = data.find(b'"rows"') + 12 if name == "manifest.json" else len(data) // 3
        path.write_bytes(data[:-20] if how == "cut" else bytes([*data[:at], data[at] ^ 0x11, *data[at + 1 :]]))
    with pytest.raises(WorkspaceError, match=r"damaged|no result yet"):
        Run.open(ws, done.id)


def test_every_place_where_the_disk_can_fill_up_leaves_an_unfinished_run(
    ws: Workspace, config: RunConfig, pool: Dataset, selection: Selection, utility: Utility,
    fill_disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for after in range(100):
        with monkeypatch.context():
            fill_disk(after)
            try:
                finish(ws, config, pool, selection, utilities={"pool": [utility]})
            except WorkspaceError as error:
                assert "disk is full" in str(error)
            else:
                break
        monkeypatch.undo()
        assert not Run.is_finished(ws, config.id) and leftovers(ws.root) == []
    assert 4 < after < 90  # it was tried at every step, and at last there was room
    assert Run.open(ws, config.id).k == 3


def test_a_rewrite_that_meets_a_full_disk_makes_the_run_unfinished_not_mixed(
    ws: Workspace, done: Run, pool: Dataset, selection: Selection, utility: Utility, fill_disk: Callable[[int], None]
) -> None:
    fill_disk(2)
    with pytest.raises(WorkspaceError, match="disk is full"):
        finish(ws, done.config, pool, selection, utilities={"pool": [utility]})
    assert not Run.is_finished(ws, done.id)


def test_a_map_is_there_whole_or_not_at_all(ws: Workspace, done: Run, fill_disk: Callable[[int], None]) -> None:
    assert done.map() is None
    points = {"pool": np.random.default_rng(0).normal(size=(8, 2)), "target": np.zeros((3, 2))}
    done.write_map(points)
    back = Run.open(ws, done.id).map()
    assert back is not None and list(back) == ["pool", "target"]
    np.testing.assert_allclose(back["pool"], points["pool"], rtol=1e-6)
    (done.folder / "map.npy").write_bytes(b"\x93NUMPY")
    assert done.map() is None
    (done.folder / "map.npy").unlink()
    fill_disk(1)
    with pytest.raises(WorkspaceError, match="disk is full"):
        done.write_map({"pool": points["pool"], "existing": points["target"]})
    assert done.map() is None
    with pytest.raises(ValueError, match="shape"):
        done.write_map({"pool": np.zeros((8, 3))})


def test_an_empty_selection_can_be_stored(ws: Workspace, config: RunConfig, pool: Dataset) -> None:
    nothing = Selection(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), 0.0)
    run = finish(ws, config, pool, nothing, k=0)
    assert run.k == 0 and len(run.picked) == 0 and run.summary["share"] is None


def test_a_smaller_budget_of_a_run_has_the_manifest_of_a_run_of_that_budget(
    tmp_path: Path, done: Run, pool: Dataset, selection: Selection
) -> None:
    config = done.config.with_(budget="5")
    other = finish(Workspace(tmp_path / "other"), config, pool, selection, k=5)
    assert manifest_at(done, 5)["hash"] == other.manifest["hash"] != done.manifest["hash"]


WRITER = """
import sys, json
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from runs.conftest import POOL, finish, make_dataset
from delift_core.config import RunConfig
from delift_core.runs.workspace import Workspace
from delift_core.types import Selection, Utility
import numpy as np
root = Path(sys.argv[1])
pool = make_dataset(root / "pool", [b'{"a": 1}'] * 2000, [(i, i) for i in range(2000)])
order = np.arange(2000)
selection = Selection(order, np.ones(2000), np.arange(1.0, 2001.0), 2000.0)
utility = Utility(np.ones((2000, 500), np.float32), order, order[:500], "l2")
print("ready", flush=True)
while True:
    finish(Workspace(root / "ws"), RunConfig(pool=POOL), pool, selection, k=1000, utilities={"pool": [utility]})
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_run_or_none(tmp_path: Path) -> None:
    ws, id = Workspace(tmp_path / "ws"), RunConfig(pool="ab" * 32).id
    for pause in (0.03, 0.2):
        arguments = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parents[1])]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            try:
                writer.wait(timeout=pause)
            except subprocess.TimeoutExpired:
                os.kill(writer.pid, signal.SIGKILL)
        if Run.is_finished(ws, id):
            run = Run.open(ws, id)
            assert run.k == 1000 and len(run.selection) == 2000
            assert float(np.sum(run.utility("pool", "l2").values)) == 1_000_000.0
    for path in leftovers(tmp_path):
        os.utime(path, (0, 0))
    ws.sweep()
    assert leftovers(ws.root) == []


def test_the_files_of_a_run_are_readable_by_other_programs(done: Run) -> None:
    assert json.loads((done.folder / "config.json").read_text())["budget"] == "3"
    assert json.loads((done.folder / "manifest.json").read_text())["ids"] == ["r6", "r1", "r4"]
    assert {p.name for p in (done.folder / "evidence").iterdir()} == {
        "pool.l2.npy", "pool.l2.helped.npy", "pool.l2.candidates.npy", "pool.l2.baseline.npy",
        "pool.pmi.npy", "pool.pmi.helped.npy", "pool.pmi.candidates.npy",
    }  # fmt: skip


def test_a_note_about_later_picks_is_no_note_of_a_smaller_subset(done: Run) -> None:
    later, always = from_pick(3, "no row that is left adds anything."), "From the target."
    run = replace(done, manifest={**done.manifest, "notes": [later, always]})
    assert [run.notes_at(k) for k in (2, 3, 4)] == [[always], [later, always], [later, always]]
