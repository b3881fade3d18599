"""The decision card over finished runs: its numbers are the run's, and it has the right words for every method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delift_core import pipeline, registry
from delift_core.errors import ConfigError, WorkspaceError
from delift_core.inputs import Inputs
from delift_core.insight.standing import MEANINGS
from delift_core.review import explaining
from delift_core.review.explaining import Explainer, as_text
from delift_core.runs import Run, Workspace
from delift_core.selection.cover import full_value
from delift_core.selection.scale import scaled
from delift_core.types import Evidence, Scores
from tests import small

N = 24
COVERS: dict[str, dict[str, Any]] = {
    "fl": {"method": "delift-se"},
    "fl, min-max": {"method": "delift-se", "scale": "minmax"},
    "fl in context": {"method": "delift"},
    "fl in context, min-max": {"method": "delift", "scale": "minmax"},
    "flcg": {"method": "delift-se-continual", "nu": 0.9, "scale": "minmax"},
    "fl1mi": {"method": "embedding+fl1mi", "eta": 0.7, "scale": "minmax"},
    "fl2mi": {"method": "delift-se-task"},
    "fl2mi over the pool": {"method": "delift-se-task", "rows": "pool", "eta": 0.5},
    "flquality": {"method": "qdit", "quality": "longest"},
    "some pairs": {"method": "delift", "pairs": "landmarks:12"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One workspace for all, so that rows are encoded once."""
    return tmp_path_factory.mktemp("explaining")


@pytest.fixture
def ws(home: Path) -> Workspace:
    return Workspace(home / "ws")


@pytest.fixture(scope="module")
def files(home: Path) -> dict[str, Path]:
    pool, other = small.rows(N), small.rows(6, seed=1)
    pool[9] = {**pool[4], "id": "twice"}  # an exact copy
    return {"pool": small.write(home / "pool.jsonl", pool), "other": small.write(home / "other.jsonl", other)}


def do(ws: Workspace, files: dict[str, Path], **settings: Any) -> Run:
    chosen = registry.method(settings["method"])
    sides = {role: files["other"] for role in ("target", "existing") if getattr(chosen, f"needs_{role}")}
    wanted = {"budget": "7", **sides, **settings}
    return pipeline.run(ws, pipeline.configure(ws, files["pool"], model=small.model(), **wanted))


def valued(inputs: Inputs, run: Run) -> Any:
    """f of a set of rows by the objective's own problem and the solver's own kernels."""
    used = {part: run.utility(part) for part, _ in run.utilities}  # type: ignore[var-annotated]
    ready = dict(zip(used, scaled(list(used.values()), run.config.scale), strict=True))  # type: ignore[arg-type]
    rows = inputs.rows("pool")
    lengths = np.array([len(inputs.pool.responses[int(row)].encode()) for row in rows], np.float64)
    scores = Scores(lengths, rows, True, "longest")
    problem = inputs.objective.problem(Evidence(rows, np.zeros(len(rows), np.int64), scores=scores, **ready))  # type: ignore[attr-defined, arg-type]

    def f(chosen: Any) -> float:
        at = np.searchsorted(rows, np.asarray(list(chosen), np.int64))
        part = type(problem)(
            problem.values[:, at], problem.start, problem.cap, problem.weight,
            None if problem.bonus is None else problem.bonus[at],
        )  # fmt: skip
        return float(full_value(part))

    return f


@pytest.mark.parametrize("name", COVERS)
def test_value_loss_substitutes_gains_and_swaps_are_those_of_the_objective(
    name: str, ws: Workspace, files: dict[str, Path]
) -> None:
    run = do(ws, files, **COVERS[name])
    opened, order = Explainer.open(ws, run.id), run.selection.order
    f = valued(opened.inputs, run)
    for k in (1, 7):
        chosen = order[:k].tolist()
        whole = f(chosen)
        assert whole == pytest.approx(run.selection.value[k - 1], rel=1e-5), "the test knows the objective"
        for row in chosen:
            role = opened.explain(row, k).role
            assert role is not None and role.value == pytest.approx(run.selection.value[k - 1], rel=1e-5)
            rest = [other for other in chosen if other != row]
            loss = whole - (f(rest) if rest else 0.0)
            assert role.loss == pytest.approx(loss, abs=1e-5) and role.serves is not None
            best = max((f([*rest, other]) for other in order[k:].tolist()), default=None)
            assert role.alternatives[0].value == pytest.approx(best, abs=1e-5)
    for row in order[7:14].tolist():
        role = opened.explain(row, 7).role
        assert role is not None
        assert role.gain_now == pytest.approx(f([*chosen, row]) - whole, abs=1e-5)
        swapped = {pick: f([row if other == pick else other for other in chosen]) - whole for pick in chosen}
        assert role.swap is not None and role.swap.change == pytest.approx(max(swapped.values()), abs=1e-5)
        assert swapped[role.swap.row] == pytest.approx(role.swap.change, abs=1e-5)
    assert not opened.explain(int(order[0]), 7).notes


def test_the_quality_of_a_row_is_read_from_its_gain(ws: Workspace, files: dict[str, Path]) -> None:
    run = do(ws, files, **COVERS["flquality"])
    opened = Explainer.open(ws, run.id)
    lengths = [len(text.encode()) for text in opened.inputs.pool.responses]
    own = {row: opened.explain(row).role.own for row in run.selection.order.tolist()}  # type: ignore[union-attr]
    assert sum(own.values()) == pytest.approx(0.3, abs=1e-5)  # type: ignore[arg-type]
    longest, shortest = (pick(own, key=lambda row: lengths[row]) for pick in (max, min))
    assert own[longest] == pytest.approx(max(own.values()))  # type: ignore[type-var]
    assert own[shortest] == pytest.approx(min(own.values()))  # type: ignore[type-var]
    assert own[shortest] < own[longest] / 2  # type: ignore[operator]


def test_predicted_pairs_are_no_stored_pairs_and_the_card_says_so(ws: Workspace, files: dict[str, Path]) -> None:
    run = do(ws, files, method="delift", pairs="adaptive:0.3")
    notes = explaining.explain(ws, run.id, int(run.picked[0])).notes
    assert any("also predicts pairs" in note for note in notes)


@pytest.mark.parametrize("method", [*registry.METHODS, "icl+graph-cut", "rds+fl2mi", "embedding+round-robin"])
def test_every_method_says_something_true_of_every_row(method: str, ws: Workspace, files: dict[str, Path]) -> None:
    options = {"quality": "longest"} if method == "qdit" else {}
    run = do(ws, files, method=method, **options)
    opened = Explainer.open(ws, run.id)
    assert opened.inputs.method.objective in MEANINGS
    rank = {row: place for place, row in enumerate(run.selection.order.tolist(), 1)}
    for row in range(N):
        found = opened.explain(row)
        if row == 9:
            assert found.standing.status == "exact copy" and found.copy_of is not None and found.copy_of.row == 4
            assert found.standing.reason.startswith("An exact copy of row 0-4. That row: ")
            assert found.standing.rank == rank.get(4)
        elif row in rank:
            assert found.standing.rank == rank[row] and f"{rank[row]:,}" in found.standing.reason
            beyond = "beyond the budget" if "refuses" not in found.sentences[1] else "refused by the score"
            assert found.standing.status == ("selected" if row in run.picked else beyond)
            assert (found.standing.enters_at is not None) == run.selection.nested
        else:
            assert found.standing.status == "never ranked" and not run.selection.nested
        assert found.standing.cut_gain == run.selection.gains[6]
        assert len(found.sentences) > 1
        assert all(line.endswith(".") for line in found.sentences)
        assert json.dumps(found.to_json(), allow_nan=False) and found.standing.reason in as_text(found)
        assert (found.role is not None) == bool(run.utilities)
        covering = hasattr(opened.inputs.objective, "problem")
        if found.role is not None:
            assert (found.role.value is not None) == covering
        assert not covering or not found.notes
    if "pool" in {part for part, _ in run.utilities}:
        outside = next(row for row in range(N) if row not in run.picked and row != 9)
        assert opened.explain(outside).best is not None


def test_a_ranking_by_a_score_tells_it_in_its_own_sign(ws: Workspace, files: dict[str, Path]) -> None:
    low = do(ws, files, method="loss", prefer="low")
    values = pipeline.row_scores(ws, low.config, "loss", {"prefer": "low"})[0]
    for row, value in zip(values["candidates"].tolist(), values["scores"].tolist(), strict=True):
        found = explaining.explain(ws, low.id, row).score
        assert found is not None and found.value == pytest.approx(value)
        assert found.better_than == pytest.approx(float((values["scores"] > value).mean() * 23 / 22))
    words = explaining.explain(ws, low.id, int(low.selection.order[10])).sentences
    assert any("Ranked by the loss of its response" in line for line in words)
    drawn = do(ws, files, method="random", seed=11)
    assert "by lot with seed 11" in " ".join(explaining.explain(ws, drawn.id, 3).sentences)


def test_pins_bans_quotas_and_near_copies_are_told(ws: Workspace, files: dict[str, Path]) -> None:
    run = do(ws, files, method="delift-se", pin=["twice"], ban=["0-7", "0-8"], quota="cluster:2: even")
    opened = Explainer.open(ws, run.id)
    pinned = opened.explain(4)
    assert pinned.standing.rank == 1 and any("pinned" in line for line in pinned.rules)
    assert any("pinned" in line for line in opened.explain(9).rules), "its copy was named"
    banned = opened.explain(7)
    assert (banned.standing.status, banned.standing.reason) == ("left out", "Left out: banned by its id.")
    assert banned.role is not None and banned.role.gain_now is not None
    assert banned.role.represented is not None
    for row in run.picked.tolist():
        shown = opened.explain(row)
        assert shown.role is not None
        assert not {7, 8} & {one.row for one in shown.role.alternatives}, "what is banned is no way out"
        assert any("quota" in line for line in shown.rules)
    missing = next(r for r in range(N) if r not in run.selection.order and r not in (7, 8, 9))
    assert "passed over where its group has what it may" in " ".join(opened.explain(missing).rules)


def test_a_near_copy_is_told_from_a_row_that_has_none(ws: Workspace, files: dict[str, Path]) -> None:
    run = do(ws, files, method="delift-se", once=0.75)
    opened = Explainer.open(ws, run.id)
    missing = [row for row in range(N) if row not in run.selection.order and row != 9]
    cosines = run.utility("pool").values
    rows = opened.inputs.rows("pool").tolist()
    for row in missing:
        rules = opened.explain(row).rules
        near = max(cosines[rows.index(row), rows.index(r)] for r in run.selection.order.tolist())
        assert "count once" in rules[0] and f"(cosine {near:.3g}); " in rules[1] and rules[1].endswith("its place.")
    assert missing and not any(opened.explain(row).rules for row in run.picked.tolist())


def test_a_token_budget_keeps_no_ranks_beyond_it(ws: Workspace, files: dict[str, Path]) -> None:
    run = do(ws, files, method="delift-se", budget="300tok")
    outside = next(row for row in range(N) if row not in run.selection.order and row != 9)
    found = explaining.explain(ws, run.id, outside)
    assert found.standing.status == "never ranked" and "budget counts tokens" in found.rules[0]
    assert found.role is not None and found.role.swap is not None
    with pytest.raises(ConfigError, match="not nested"):
        explaining.explain(ws, run.id, outside, 2)


def test_a_row_or_a_budget_that_is_not_there_is_refused(ws: Workspace, files: dict[str, Path]) -> None:
    run = do(ws, files, method="random")
    opened = Explainer.open(ws, run.id)
    assert opened.find("0-11") == 11
    with pytest.raises(ConfigError, match=r"no row '0-11x'.*Near: 0-11"):
        opened.find("0-11x")
    for row in (-1, N):
        with pytest.raises(ConfigError, match="rows 0 to 23"):
            opened.explain(row)
    with pytest.raises(ConfigError, match="Ask for less"):
        opened.explain(3, 24)
    with pytest.raises(WorkspaceError):
        explaining.explain(ws, "0" * 16, 3)


def test_covers_of_few_budgets_are_kept(ws: Workspace, files: dict[str, Path]) -> None:
    opened = Explainer.open(ws, do(ws, files, method="delift-se").id)
    first = opened.case(3)
    assert opened.case(3) is first
    for k in range(4, 4 + explaining.COVERS):
        opened.case(k)
    assert opened.case(3) is not first
