"""Stability of a run: where its replicates come from, what is stored, and that a stopped measurement goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delift_core import pipeline
from delift_core.errors import Cancelled, ConfigError, WorkspaceError
from delift_core.review import stability
from delift_core.runs import Run, Workspace, jobs, kept
from delift_core.types import Scores, Utility
from tests import small


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DELIFT_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        folder = tmp_path_factory.mktemp("stability")
        (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in small.rows(30)))
        (folder / "target.jsonl").write_text("".join(json.dumps(row) + "\n" for row in small.rows(8, seed=4)))
        yield Workspace(folder / "workspace")


def run(ws: Workspace, method: str, **settings: Any) -> Run:
    folder = ws.root.parent
    if method in ("delift-task", "rds"):
        settings["target"] = folder / "target.jsonl"
    given = {"budget": "8", "pairs": "dense", "model": small.model(), **settings}
    return pipeline.select(folder / "pool.jsonl", workspace=ws.root, method=method, **given)


@pytest.mark.parametrize(
    ("method", "settings", "sources"),
    [
        ("delift", {}, {"bootstrap"}),
        ("delift", {"greedy": "stochastic"}, {"bootstrap", "seeds"}),
        ("delift-task", {}, {"bootstrap"}),
        ("rds", {}, {"bootstrap"}),
        ("random", {}, {"seeds"}),
    ],
)
def test_replicates_come_from_what_can_vary(
    ws: Workspace, method: str, settings: dict[str, Any], sources: set[str]
) -> None:
    done = run(ws, method, **settings)
    told = stability.measure(ws, done.id, replicates=6)
    found = stability.read(ws, done.id)
    assert found is not None
    assert set(found.sources) == set(told["sources"]) == sources
    assert found.sources["bootstrap" if "bootstrap" in sources else "seeds"] is found.estimate
    assert jobs.state(ws, done.id, "stability") == "done"
    frequency = found.frequency
    assert frequency.shape == (30,)
    assert np.nansum(frequency) == pytest.approx(8)  # every replicate keeps to the budget
    assert set(np.unique(np.round(frequency * found.estimate.replicates, 6)) % 1) == {0.0}


def test_embeddings_are_measured_by_encoders_too(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(ws, "delift-se")
    monkeypatch.setattr(stability, "ENCODERS", ("minilm", "turned"))
    real = stability.sentence_encoder

    class Turned:
        """Another encoder: the same vectors with most of their numbers dropped."""

        def __init__(self) -> None:
            from dataclasses import replace

            self.inner = real("minilm")
            self.identity = replace(self.inner.identity, name="turned", hash="turned")

        def encode(self, texts: Any, *, progress: Any = None) -> Any:
            from delift_core.models.encoder import unit

            return unit(self.inner.encode(texts)[:, :4].copy())

    monkeypatch.setattr(
        stability, "sentence_encoder", lambda name, cache: Turned() if name == "turned" else real(name, cache)
    )
    stability.measure(ws, done.id, replicates=3)
    found = stability.read(ws, done.id)
    assert found is not None and set(found.sources) == {"bootstrap", "encoders"}
    assert found.sources["encoders"].replicates == 2 and found.sources["encoders"].low is None
    assert (found.frequencies["encoders"][done.picked] >= 0.5).all()  # its own encoder is one of the two
    assert found.sources["encoders"].value < 1


def test_pinned_rows_are_no_sign_of_stability_and_banned_ones_no_candidates(ws: Workspace) -> None:
    done = run(ws, "random", pin=("0-1", "0-2", "0-3", "0-4"), ban=("0-9",))
    stability.measure(ws, done.id)
    found = stability.read(ws, done.id)
    assert found is not None
    assert found.estimate.rows == 25  # of 30, without four pinned and one banned
    assert abs(found.estimate.value) < 0.2
    assert (found.frequency[[1, 2, 3, 4]] == 1).all() and np.isnan(found.frequency[9])


def test_a_cancelled_measurement_goes_on_where_it_was(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(ws, "delift", seed=3)
    made: list[int] = []
    real = stability._Work._bootstrap

    def counted(self: Any, index: int) -> Any:
        made.append(index)
        return real(self, index)

    monkeypatch.setattr(stability._Work, "_bootstrap", counted)

    def stop(stage: str, count: float, total: float, note: str = "") -> None:
        if count == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        stability.measure(ws, done.id, replicates=5, progress=stop)
    assert stability.read(ws, done.id) is None
    assert made == [0, 1, 2]
    assert jobs.state(ws, done.id, "stability") == "cancelled"
    stability.measure(ws, done.id, replicates=5)
    assert made == [0, 1, 2, 3, 4]
    first = stability.read(ws, done.id)
    stability.measure(ws, done.id, replicates=5)
    again = stability.read(ws, done.id)
    assert first is not None and again is not None and first.sources == again.sources
    assert made == [0, 1, 2, 3, 4]


def test_a_bootstrap_draws_as_many_rows_and_keeps_the_pools_shape() -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    utility = Utility(values, np.arange(4), np.arange(3), "l2", weights=np.array([1.0, 2.0, 1.0, 1.0]))
    weighted = stability._weighted(utility, np.random.default_rng(1))
    times = weighted.weights / utility.weights  # type: ignore[operator]
    assert times.sum() == 4 and weighted.values is values
    drawn = stability._drawn(utility, np.random.default_rng(1))
    assert np.array_equal(drawn.values, values[drawn.helped])
    assert np.array_equal(np.bincount(drawn.helped, minlength=4), times)


def test_what_cannot_vary_and_what_is_damaged_say_so(ws: Workspace, tmp_path: Path) -> None:
    done = run(ws, "longest")
    scores = Scores(np.arange(30, dtype=np.float64), np.arange(30), True, "longest")
    kept.write(done.folder, scores=scores)
    with pytest.raises(ConfigError, match=r"Nothing of run .* can vary"):
        stability.measure(ws, done.id)
    assert jobs.state(ws, done.id, "stability") == "failed"
    with pytest.raises(ConfigError, match="at least two"):
        stability.measure(ws, done.id, replicates=1)
    other = run(ws, "random", seed=9)
    assert stability.read(ws, other.id) is None
    stability.measure(ws, other.id)
    path = other.folder / stability.FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WorkspaceError, match="Measure the stability again"):
        stability.read(ws, other.id)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"budget": "100%"}, "all of the 30 rows"), ({"budget": "2", "pin": ("0-1", "0-2")}, "pinned rows alone")],
)
def test_a_run_that_had_no_choice_is_told_so_and_measures_nothing(
    ws: Workspace, settings: dict[str, Any], told: str
) -> None:
    done = run(ws, "delift", **settings)
    with pytest.raises(ConfigError, match=rf"{told}.*nothing can vary"):
        stability.measure(ws, done.id, replicates=3)
    assert stability.read(ws, done.id) is None
