"""Cosines of some pairs: the closed form of each, what absent pairs count as, and how far the picks are from all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from delift_core import inputs, pipeline, planning
from delift_core.errors import ConfigError
from delift_core.review.explaining import Explainer
from delift_core.review.whatif import retry
from delift_core.runs import Workspace
from delift_core.scoring.near import score_near
from delift_core.scoring.planned import Planned
from delift_core.scoring.plans import Neighbours
from delift_core.selection.objectives import FacilityLocation
from delift_core.selection.scale import scaled
from delift_core.types import Evidence, Limit, MemoryStore, Utility
from tests import small


def units(count: int, seed: int, dimensions: int = 12) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32) + 0.3
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def near(helped: np.ndarray, candidates: np.ndarray, k: int, *, same: bool, probes: int = 0) -> Planned:
    return score_near(
        helped, candidates, np.arange(len(helped)), np.arange(len(candidates)), Neighbours(k, probes),
        centre=candidates.mean(axis=0), same=same, check_rows=5, seed=0, store=MemoryStore(),
    )  # fmt: skip


@pytest.mark.parametrize("same", [True, False])
def test_stored_pairs_are_cosines_less_the_mean_of_the_row_and_the_nearest_ones(same: bool) -> None:
    candidates = units(200, 0)
    helped = candidates if same else units(40, 1)
    cosines = helped.astype(np.float64) @ candidates.T
    centred = cosines - cosines.mean(axis=1, keepdims=True)
    found = near(helped, candidates, 6, same=same)
    rows, columns = found.used.values.tocoo().coords
    np.testing.assert_allclose(found.used.values.tocoo().data, centred[rows, columns], atol=1e-5)
    stored = np.zeros(cosines.shape, bool)
    stored[rows, columns] = True
    assert stored.any(axis=0).all()  # every candidate is told apart by something
    others = np.where(np.eye(len(helped), 200, dtype=bool) & same, -2, cosines)
    assert all(stored[i, others[i].argsort()[-6:]].all() for i in range(len(helped)))
    assert stored.diagonal().all() or not same
    np.testing.assert_allclose(found.check.exact, centred[found.check.rows], atol=1e-5)
    assert np.array_equal(found.check.scored, stored[found.check.rows])
    assert found.pairs == stored.sum()


def test_an_absent_pair_counts_as_an_average_one_so_few_picks_are_as_good_as_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    centres = units(8, 3, 16)
    vectors = centres[rng.integers(8, size=600)] + 0.25 * rng.normal(size=(600, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    every = vectors @ vectors.T
    rows = np.arange(600)

    def picks(utility: Utility) -> np.ndarray:
        evidence = Evidence(rows, np.ones(600, np.int64), pool=scaled([utility])[0])
        return FacilityLocation().select(evidence, Limit(rows=8), seed=0).order[:8]

    def worth(chosen: np.ndarray) -> float:
        return float(every[:, chosen].max(axis=1).sum())

    best, random = (
        worth(picks(Utility(every, rows, rows, "cosine"))),
        np.mean([worth(rng.choice(600, 8)) for _ in range(50)]),
    )
    some = worth(picks(near(vectors, vectors, 25, same=True).used))
    assert (some - random) / (best - random) > 0.95


@pytest.mark.parametrize("same", [True, False])
def test_every_stage_counts_up_once(same: bool) -> None:
    seen: dict[str, list[float]] = {}
    vectors = units(3000, 0)
    helped = vectors if same else units(2500, 1)
    score_near(
        helped, vectors, np.arange(len(helped)), np.arange(3000), Neighbours(100, 0), centre=vectors.mean(axis=0),
        same=same, check_rows=2, seed=0, store=MemoryStore(),
        progress=lambda stage, done, total, note="": seen.setdefault(stage, []).append(done / total),
    )  # fmt: skip
    assert set(seen) == {"neighbours", "near"} | (set() if same else {"neighbours of candidates"})
    assert all(shares == sorted(set(shares)) and shares[-1] == 1 for shares in seen.values())


def test_a_single_row_on_the_other_side_is_compared_with_all() -> None:
    found = near(units(40, 1), units(1, 2), 4, same=False)
    assert found.used.values.nnz == 40


def test_under_minmax_an_absent_pair_is_an_average_one_as_well() -> None:
    values = sparse.csc_array(np.array([[0.4, -0.2, 0.0], [0.0, 0.1, 0.2]], np.float32))
    found = scaled([Utility(values, np.arange(2), np.arange(3), "centred")], "minmax")[0].values.toarray()
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 0.25, 0.5]], atol=1e-6)


def test_a_run_of_the_nearest_pairs_can_be_asked_all_that_other_runs_can(tmp_path: Path) -> None:
    ws = small.give_table(Workspace(tmp_path / "ws"))
    pool = small.write(tmp_path / "pool.jsonl", small.rows(90))
    config = pipeline.configure(ws, pool, method="delift-se", pairs="knn:4", budget="20%", encoder="fast")
    done = pipeline.run(ws, config)
    assert done.utilities == (("pool", "centred"),)
    told = done.manifest["fidelity"]["pool"]
    assert told["plan"] == "knn:4" and 0 < told["share"] < 0.2 and told["recall"] <= 1
    assert pipeline.replay(ws, done.folder / "manifest.json").same
    explained = Explainer.open(ws, done.id).explain(int(done.picked[0]))
    assert explained.role is not None
    other = retry(ws, done, rows=5)
    assert list(other.selection.order[:5]) == list(done.selection.order[:5])


def test_large_pools_take_the_nearest_pairs_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = small.give_table(Workspace(tmp_path / "ws"))
    pool = small.write(tmp_path / "pool.jsonl", small.rows(90))
    config = pipeline.configure(ws, pool, method="delift-se", pairs="auto", encoder="fast")
    assert pipeline.settled(ws, config)[0].pairs == "dense"
    monkeypatch.setattr(planning, "MOST_COSINES", 8_000)
    monkeypatch.setattr(inputs, "CHECKED_NEAR", (4, 4))
    assert pipeline.settled(ws, config)[0].pairs == "knn:32"
    pipeline.run(ws, config.with_(pairs="dense"))
    assert pipeline.settled(ws, config)[0].pairs == "dense", "the same words keep giving the same run"
    with pytest.raises(ConfigError, match="compares vectors, which takes knn:K"):
        pipeline.configure(ws, pool, method="delift-se", pairs="adaptive:0.1")
