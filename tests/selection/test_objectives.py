"""The set functions against their closed forms and against submodlib."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from delift_core.errors import ConfigError
from delift_core.registry import OBJECTIVES, build
from delift_core.selection.objectives import (
    ConditionalGain,
    FacilityLocation,
    MutualInformation,
    QualityCover,
    SaturatingMutualInformation,
)
from delift_core.types import Evidence, Limit, Rules, Scores, Utility

ROOT = Path(__file__).parents[2]
Make = Callable[..., Evidence]
COVER = [
    FacilityLocation(),
    ConditionalGain(),
    ConditionalGain(nu=0.5),
    SaturatingMutualInformation(),
    SaturatingMutualInformation(eta=0.5),
    MutualInformation(),
    MutualInformation(eta=0.25, rows="pool"),
]


def closed_form(objective: Any, evidence: Evidence, places: list[int]) -> float:
    """f as the table of the paper's set functions writes it."""
    assert evidence.pool and evidence.target and evidence.existing
    pool, q = evidence.pool.values.astype(np.float64), evidence.target.values.max(axis=0).astype(np.float64)
    best = pool[:, places].max(axis=1)
    match objective:
        case FacilityLocation():
            return float(best.sum())
        case ConditionalGain(nu=nu):
            return float(np.maximum(best - nu * evidence.existing.values.max(axis=1), 0).sum())
        case SaturatingMutualInformation(eta=eta):
            return float(np.minimum(best, eta * q).sum())
        case MutualInformation(eta=eta, rows=rows):
            covered = evidence.target.values[:, places].max(axis=1) if rows == "target" else best
            return float(covered.sum() + eta * q[places].sum())
    raise AssertionError(objective)


def places(evidence: Evidence, rows: np.ndarray) -> list[int]:
    return [int(np.flatnonzero(evidence.candidates == row)[0]) for row in rows]


@pytest.mark.parametrize("objective", COVER, ids=str)
def test_the_value_of_every_prefix_is_the_closed_form(objective: Any, evidence: Make) -> None:
    e = evidence()
    selection = objective.select(e, Limit(30), seed=0, progress=lambda *_: None)
    at = places(e, selection.order)
    for k in range(1, 31):
        assert selection.value[k - 1] == pytest.approx(closed_form(objective, e, at[:k]), rel=1e-6)
    assert selection.full_value == pytest.approx(closed_form(objective, e, list(range(30))), rel=1e-6)


@pytest.mark.parametrize("objective", COVER, ids=str)
def test_picks_are_pool_row_indices_and_not_positions(objective: Any, evidence: Make) -> None:
    e = evidence()
    assert set(objective.select(e, Limit(8)).order) <= set(e.candidates)
    assert not set(objective.select(e, Limit(8)).order) & set(range(30))


@pytest.mark.parametrize("objective", COVER, ids=str)
def test_smaller_budget_is_a_prefix_and_gains_never_increase(objective: Any, evidence: Make) -> None:
    e = evidence()
    whole = objective.select(e, Limit(30))
    assert whole.nested
    assert (np.diff(whole.gains) <= 0).all()
    for k in (1, 7, 29):
        assert objective.select(e, Limit(k)).order.tolist() == whole.head(k).order.tolist()


@pytest.mark.parametrize("objective", COVER, ids=str)
def test_only_the_declared_needs_are_looked_at(objective: Any, evidence: Make) -> None:
    e = evidence()
    empty = Evidence(e.candidates, e.tokens)
    told = replace(empty, **{name: getattr(e, name) for name in objective.needs})
    assert objective.select(told, Limit(9)).order.tolist() == objective.select(e, Limit(9)).order.tolist()
    for name in objective.needs:
        with pytest.raises(ValueError, match="needs"):
            objective.select(replace(told, **{name: None}), Limit(9))


def test_specialising_to_a_target_needs_only_the_target_unless_the_pool_is_to_be_covered() -> None:
    assert MutualInformation().needs == {"target"}
    assert MutualInformation(rows="pool").needs == {"target", "pool"}


@pytest.mark.parametrize("objective", COVER, ids=str)
def test_a_sparse_utility_gives_the_answer_of_the_dense_one(objective: Any, evidence: Make) -> None:
    e = evidence()

    def thin(utility: Utility) -> tuple[Utility, Utility]:
        kept = np.where(utility.values > 0.6, utility.values, 0).astype(np.float32)
        return replace(utility, values=kept), replace(utility, values=sparse.csc_array(kept))

    parts = {name: thin(getattr(e, name)) for name in ("pool", "target", "existing")}
    dense = objective.select(replace(e, **{n: p[0] for n, p in parts.items()}), Limit(30))
    spare = objective.select(replace(e, **{n: p[1] for n, p in parts.items()}), Limit(30))
    assert dense.order.tolist() == spare.order.tolist()
    assert dense.value == pytest.approx(spare.value)


@pytest.mark.parametrize("objective", COVER, ids=str)
def test_a_token_budget_is_kept_and_said_not_to_be_nested(objective: Any, evidence: Make) -> None:
    e = evidence()
    selection = objective.select(e, Limit(30, 200))
    assert e.tokens[places(e, selection.order)].sum() <= 200
    assert not selection.nested
    assert any("Token budget" in note for note in selection.notes)


def test_a_saturated_function_says_from_which_pick_on(evidence: Make) -> None:
    selection = SaturatingMutualInformation(eta=0.3).select(evidence(), Limit(30))
    useful = int((selection.gains > 0).sum())
    assert 0 < useful < 30
    assert selection.value[-1] == selection.value[useful - 1]
    at = places(evidence(), selection.order)
    best = evidence().pool.values
    reached = best[:, at[:useful]].max(axis=1)
    more = [float(np.maximum(best[:, j] - reached, 0).sum()) for j in at[useful:]]
    assert more[0] == pytest.approx(max(more)), "the first pick after saturation adds most without the cap"
    assert selection.notes[0].startswith(f"From pick {useful + 1} on: f is saturated; ")


def test_existing_data_that_covers_everything_leaves_nothing_to_gain_and_says_so(evidence: Make) -> None:
    e = evidence()
    same = replace(e, existing=replace(e.pool, candidates=np.arange(30)))
    selection = ConditionalGain().select(same, Limit(5))
    assert selection.gains.tolist() == [0] * 5
    assert selection.order.tolist() == e.candidates[:5].tolist()
    assert "From pick 1 on" in selection.notes[0]
    assert np.isnan(selection.share)


def test_no_existing_weight_is_plain_facility_location(evidence: Make) -> None:
    e = evidence()
    assert (
        ConditionalGain(nu=0.0).select(e, Limit(30)).order.tolist()
        == FacilityLocation().select(e, Limit(30)).order.tolist()
    )


def scored(e: Evidence, values: Any, higher: bool = True, name: str = "ifd") -> Evidence:
    return replace(e, scores=Scores(np.asarray(values, np.float64), e.candidates, higher, name))


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_quality_and_coverage_are_shares_of_one(weight: float, higher: bool, evidence: Make) -> None:
    from scipy.stats import rankdata

    scores = np.random.default_rng(4).integers(0, 12, 30).astype(float)
    scores[3] = np.nan
    e = scored(evidence(), scores, higher)
    selection = QualityCover(quality_weight=weight).select(e, Limit(12))
    value = np.zeros(30)
    known = np.flatnonzero(~np.isnan(scores))
    value[known] = rankdata(scores[known] if higher else -scores[known]) / len(known)
    at, pool = places(e, selection.order), e.pool.values.astype(np.float64)
    for k in range(1, 13):
        cover = pool[:, at[:k]].max(axis=1).sum() / pool.max(axis=1).sum()
        expected = (1 - weight) * cover + weight * value[at[:k]].sum() / value.sum()
        assert selection.value[k - 1] == pytest.approx(expected, rel=1e-6)
    assert selection.full_value == pytest.approx(1, rel=1e-6)
    assert "1 rows that the score ifd refuses" in selection.notes[0]
    if weight == 0:
        assert selection.order.tolist() == FacilityLocation().select(e, Limit(12)).order.tolist()
    if weight == 1:
        assert at == np.lexsort((np.arange(30), -value))[:12].tolist()


def test_quality_needs_the_score_that_it_names_and_one_that_takes_some_row(evidence: Make) -> None:
    e = evidence()
    with pytest.raises(ValueError, match="no scores"):
        QualityCover().select(e, Limit(3))
    with pytest.raises(ValueError, match="scores named loss, not ifd"):
        QualityCover().select(scored(e, np.arange(30), name="loss"), Limit(3))
    with pytest.raises(ConfigError, match="ifd refuses every row"):
        QualityCover().select(scored(e, np.full(30, np.nan)), Limit(3))
    nothing = replace(e, pool=replace(e.pool, values=e.pool.values * 0))
    with pytest.raises(ConfigError, match="no coverage to weigh"):
        QualityCover().select(scored(nothing, np.arange(30)), Limit(3))


@pytest.mark.parametrize("objective", [*COVER, QualityCover()], ids=str)
def test_stochastic_search_comes_near_is_seeded_and_says_that_it_is_not_nested(objective: Any, evidence: Make) -> None:
    e = scored(evidence(120, 9), np.arange(120))
    searched = replace(objective, greedy="stochastic", accuracy=0.05)
    assert objective.nested
    assert not searched.nested
    exact, found = objective.select(e, Limit(15)), searched.select(e, Limit(15), seed=3)
    assert 0.9 * exact.value[-1] < found.value[-1] <= 1.02 * exact.value[-1]
    assert not found.nested
    assert any("Stochastic greedy" in note and "1 - 1/e - 0.05" in note for note in found.notes)
    assert found.order.tolist() == searched.select(e, Limit(15), seed=3).order.tolist()
    assert found.order.tolist() != searched.select(e, Limit(15), seed=4).order.tolist()


@pytest.mark.parametrize("greedy", ["lazy", "stochastic"])
@pytest.mark.parametrize("objective", [*COVER, QualityCover()], ids=str)
def test_every_set_function_follows_the_rules(objective: Any, greedy: str, evidence: Make) -> None:
    e = scored(evidence(), np.arange(30))
    rules = Rules(
        np.array([5]), np.arange(30) % 7 == 1, np.arange(30) // 2, np.arange(30) % 3, np.array([2, 0, 0]),
        np.array([30, 1, 30]),
    )  # fmt: skip
    at = places(e, replace(objective, greedy=greedy).select(e, Limit(9, rules=rules), seed=0).order)
    count = np.bincount(np.array(at) % 3, minlength=3)
    assert at[0] == 5
    assert not any(j % 7 == 1 for j in at)
    assert len({j // 2 for j in at}) == 9
    assert count[0] >= 2
    assert count[1] <= 1


@pytest.mark.parametrize(
    "objective", [SaturatingMutualInformation(), MutualInformation(), MutualInformation(rows="pool")]
)
def test_a_target_that_nothing_helps_or_that_is_empty_is_an_error_that_says_so(objective: Any, evidence: Make) -> None:
    e = evidence()
    with pytest.raises(ConfigError, match="No row of the pool helps"):
        objective.select(replace(e, target=replace(e.target, values=e.target.values * 0)), Limit(3))
    nothing = Utility(np.zeros((0, 30), np.float32), np.arange(0), e.candidates, "pmi")
    with pytest.raises(ConfigError, match="target has no rows"):
        objective.select(replace(e, target=nothing), Limit(3))


def test_utilities_of_other_rows_than_the_candidates_are_refused(evidence: Make) -> None:
    e = evidence()
    with pytest.raises(ValueError, match="pool helped rows are not the candidates"):
        FacilityLocation().select(replace(e, candidates=e.candidates + 1), Limit(3))


def test_options_are_checked_by_the_registry() -> None:
    assert build(OBJECTIVES, "objective", "flcg", {"nu": 2}) == ConditionalGain(nu=2.0)
    with pytest.raises(ConfigError, match="outside"):
        build(OBJECTIVES, "objective", "fl1mi", {"eta": -1.0})
    with pytest.raises(ConfigError, match="Known: pool, target"):
        build(OBJECTIVES, "objective", "fl2mi", {"rows": "all"})
    with pytest.raises(ConfigError, match="Known: lazy, stochastic"):
        build(OBJECTIVES, "objective", "fl", {"greedy": "random"})


@pytest.fixture(scope="module")
def real(tasks: tuple[np.ndarray, np.ndarray]) -> Evidence:
    """Cosines of real rows: a pool of 360, a target of 40 rows of one task, existing rows of two tasks."""
    vectors, task = tasks
    place = np.arange(len(task)) % 60
    pool, target, existing = place < 36, (task == 3) & (place >= 40), (task < 2) & (place >= 50)

    def cosine(rows: Any, columns: Any) -> Utility:
        values = (1 + vectors[rows] @ vectors[columns].T) / 2
        return Utility(values, np.arange(len(values)), np.arange(values.shape[1]), "cosine")

    n = int(pool.sum())
    return Evidence(
        np.arange(n),
        np.ones(n, np.int64),
        pool=cosine(pool, pool),
        target=cosine(target, pool),
        existing=cosine(pool, existing),
    )


@pytest.mark.parametrize(
    "objective",
    [
        FacilityLocation(),
        ConditionalGain(),
        ConditionalGain(nu=0.7),
        SaturatingMutualInformation(),
        SaturatingMutualInformation(eta=0.9),
        MutualInformation(),
        MutualInformation(eta=0.3),
    ],
    ids=str,
)
def test_on_real_rows_the_value_is_submodlibs(objective: Any, real: Evidence) -> None:
    submodlib = pytest.importorskip("submodlib", reason="submodlib-py has no wheel for this platform")
    assert real.pool and real.target and real.existing
    n, pool = len(real), np.array(real.pool.values)
    queries = np.ascontiguousarray(real.target.values.T)
    match objective:
        case FacilityLocation():
            oracle = submodlib.FacilityLocationFunction(n=n, mode="dense", sijs=pool, separate_rep=False)
        case ConditionalGain(nu=nu):
            oracle = submodlib.FacilityLocationConditionalGainFunction(
                n=n,
                num_privates=real.existing.shape[1],
                data_sijs=pool,
                private_sijs=np.array(real.existing.values),
                privacyHardness=nu,
            )
        case SaturatingMutualInformation(eta=eta):
            oracle = submodlib.FacilityLocationMutualInformationFunction(
                n=n, num_queries=queries.shape[1], data_sijs=pool, query_sijs=queries, magnificationEta=eta
            )
        case MutualInformation(eta=eta):
            oracle = submodlib.FacilityLocationVariantMutualInformationFunction(
                n=n, num_queries=queries.shape[1], query_sijs=queries, queryDiversityEta=eta
            )
    for k in (5, 36, 108):
        ours = objective.select(real, Limit(k))
        picks = set(ours.order.tolist())
        assert ours.value[-1] == pytest.approx(oracle.evaluate(picks), rel=1e-5), "our picks"
        theirs = oracle.maximize(
            budget=k, optimizer="NaiveGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
        )
        assert ours.value[-1] == pytest.approx(oracle.evaluate({j for j, _ in theirs}), rel=1e-5), "its picks"


def test_on_real_rows_picks_go_to_the_target_task_and_away_from_existing_ones(
    real: Evidence, tasks: tuple[np.ndarray, np.ndarray]
) -> None:
    task = tasks[1][np.arange(600) % 60 < 36]
    assert (task[MutualInformation().select(real, Limit(36)).order] == 3).mean() >= 0.8
    assert (task[ConditionalGain().select(real, Limit(36)).order] < 2).mean() < 0.1


def test_naming_the_options_of_an_objective_loads_no_compiler_and_no_tensor_library() -> None:
    code = (
        "import sys; from delift_core.registry import OBJECTIVES, build\n"
        "for name in OBJECTIVES: build(OBJECTIVES, 'objective', name, {})\n"
        "print(sorted({'numba', 'torch', 'submodlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
