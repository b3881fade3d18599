"""Why a row of the pool of a finished run was chosen at a budget, or why not: the decision card, for page and terminal.

The run's stored utilities are scaled as its objective saw them, and the objective itself says what its terms are, so
the numbers here add up to the value that the run reports.  Where they do not (a pair plan that predicted pairs), the
card says so.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from delift_core.config import Budget
from delift_core.errors import ConfigError
from delift_core.inputs import SIDES
from delift_core.insight import coverage
from delift_core.insight.cover import Cover
from delift_core.insight.served import Scale, Table, Terms
from delift_core.insight.standing import MEANINGS, OTHER, Standing, number, score, standing, told
from delift_core.insight.telling import as_text, told_by_role
from delift_core.insight.why import Case, Explanation, Near, Role
from delift_core.preflight import open_inputs
from delift_core.registry import DENSE
from delift_core.runs import Run, Workspace
from delift_core.runs.cut import config_at
from delift_core.runs.run import Part
from delift_core.selection.scale import How, scaled
from delift_core.types import Doubles, Evidence, Floats, Scores, Utility

__all__ = ["Explainer", "Explanation", "as_text", "explain", "scaling"]

COVERS = 4  # budgets whose covers are kept
AGREE = 1e-4  # relative difference from the run's value up to which float32 sums in another order count as equal

_SCORES = {
    "loss": "the loss of its response", "ifd": "IFD, how little the prompt helps to foretell the response",
    "selectit": "the model's own rating", "ica": "how much examples of the target lower its loss",
    "rds": "its nearness to the target", "longest": "response tokens",
    "dsir": "log importance weight, target against pool", "got-d": "transport gradient towards the target",
    "got-d-contrast": "transport gradient away from the existing data", "uot": "the share of the mass that it keeps",
    "tsds": "the share of the target's mass that it gets", "knn-uniform": "the share of the target's mass that it gets",
}  # fmt: skip
_REFUSING = re.compile(r"\d+ of \d+ rows have no score of ")


@runtime_checkable
class _Covering(Protocol):
    """An objective that is a facility-location problem."""

    def problem(self, evidence: Evidence) -> Any:
        """The problem whose columns are the candidates of the evidence."""


class Explainer:
    """A finished run, opened to explain rows of its pool; what one budget needs is computed once and kept."""

    def __init__(self, ws: Workspace, run: Run) -> None:
        self.run, self.inputs = run, open_inputs(ws, run.config)
        self._lock = threading.Lock()  # several sessions of a server share one
        self._cases: OrderedDict[int, Case | None] = OrderedDict()

    @classmethod
    def open(cls, ws: Workspace, run_id: str) -> Explainer:
        """Open a run by its id; raises WorkspaceError where it is missing or not finished."""
        return cls(ws, Run.open(ws, run_id))

    def explain(self, row: int, k: int | None = None) -> Explanation:
        """Everything the run can say of one row of its pool.

        Args:
            row: index of the row in the pool.
            k: the budget in rows, by default the run's own.

        Raises ConfigError for a row that is not in the pool, or a budget that is no cut of this run.
        """
        pool, config = self.inputs.pool, self.run.config
        k = self.run.k if k is None else k
        config_at(self.run, k)  # raises for a budget that is no cut of this order
        if not 0 <= row < len(pool):
            raise ConfigError(f"There is no row {row} in {pool.name}: it has rows 0 to {len(pool) - 1}.")
        first = row if config.keep_duplicates else int(pool.table["copy_of"][row].as_py())
        ids, rank = pool.ids, self.run.selection
        refusing = any(_REFUSING.search(note) for note in rank.notes)
        by = self._score(first, k, refusing)
        at = standing(
            rank, first, k, left_out=self.run.left_out.get(row) or self.run.left_out.get(first),
            refused=refusing and by is None, nested=rank.nested,
        )  # fmt: skip
        role = self._role(first, k)
        objective, noun = self.inputs.method.objective, self._noun
        sentences = told(objective, at, by, k, config.seed, noun)
        if role is not None:
            sentences += told_by_role(role, k)
        copy = Near(first, ids[first], None) if first != row else None
        if copy is not None:
            at = replace(at, status="exact copy", reason=f"An exact copy of row {copy.id}. That row: {at.reason}")
        rules = tuple(self._rules(first, at))
        return Explanation(
            self.run.id, config.method, objective, row, ids[row], k, at, copy, by, role, rules,
            (at.reason, *sentences, *rules), tuple(self._notes(role, k)),
        )  # fmt: skip

    def find(self, name: str) -> int:
        """The index of the pool row with this id; an unknown one raises ConfigError with the nearest ones."""
        ids = list(self.inputs.pool.ids)
        if name in ids:
            return ids.index(name)
        near = get_close_matches(name, ids[:100_000], 3)
        hint = f" Near: {', '.join(near)}." if near else ""
        raise ConfigError(f"There is no row {name!r} in {self.inputs.pool.name}.{hint}")

    # ------------------------------------------------------------------------------------------ by the order

    @cached_property
    def _noun(self) -> str:
        score = self.inputs.row_score
        return _SCORES.get(score.name if score is not None else self.inputs.method.objective, "its score")

    def _score(self, row: int, k: int, refusing: bool) -> Any:
        if MEANINGS.get(self.inputs.method.objective, OTHER).way != "score":
            return None
        low = getattr(self.inputs.row_score, "prefer", "high") == "low"
        return score(self.run.selection, row, k, sign=-1.0 if low else 1.0, refusing=refusing)

    def _rules(self, row: int, at: Standing) -> list[str]:
        config, said = self.run.config, []
        if row in self._pinned:
            said.append("It is pinned, so it was taken first, whatever its gain.")
        if at.rank is None and not self.run.left_out.get(row):
            said += self._why_not_ranked(row)
        if config.quota and at.rank is not None:
            said.append(f"A quota holds ({config.quota}), which may take a row before others that gain more.")
        return said

    @cached_property
    def _pinned(self) -> frozenset[int]:
        """Rows that are pinned; an exact copy stands for the row it is a copy of."""
        if not self.run.config.pin:
            return frozenset()
        place = {name: row for row, name in enumerate(self.inputs.pool.ids)}
        rows = np.array([place[name] for name in self.run.config.pin], np.int64)
        if not self.run.config.keep_duplicates:
            rows = self.inputs.pool.table["copy_of"].to_numpy()[rows]
        return frozenset(rows.tolist())

    def _why_not_ranked(self, row: int) -> list[str]:
        config, said = self.run.config, []
        if config.once:
            said += self._near_copies(row, config.once)
        if config.quota:
            said.append(f"A quota holds ({config.quota}): a row is passed over where its group has what it may.")
        if Budget.parse(config.budget).unit == "tokens":
            said.append("The budget counts tokens: a row is passed over where it no longer fits.")
        if not said:
            said.append("This order holds only the rows of the budget, so the others have no rank and no gain.")
        return said

    def _near_copies(self, row: int, least: float) -> list[str]:
        """Whether a near-copy in the order may have taken the row's place."""
        rule = f"Near-copies (cosine {least:g} or more with the first of their set) count once"
        near = self._nearest_ranked(row)
        if near is None:
            return [f"{rule}: a row drops out where one of its set is in the order."]
        told = f"Of the rows in the order, {near.id} is the nearest to it (cosine {number(near.utility)})"
        if (
            near.utility < 2 * least**2 - 1
        ):  # two members of a set are at most twice as far apart as each from its first
            return [f"{told}, so no near-copy of it took its place."]
        whole = self.run.selection.nested and len(self.run.selection) > self.run.k and not self.run.config.quota
        return [f"{rule}.", f"{told}; one of its set {'took' if whole else 'may have taken'} its place."]

    def _nearest_ranked(self, row: int) -> Any:
        """The ranked row of the highest cosine; None where the run stores no cosines of its pool."""
        if ("pool", "cosine") not in self.run.utilities:
            return None
        utility = self.run.utility("pool", "cosine")
        place, columns = coverage.places(utility, np.array([row])), coverage.places(utility, self.run.selection.order)
        if not len(place) or not utility.is_dense:
            return None
        values: Any = utility.values
        given = np.array(values[place[0], columns])
        best = int(np.nanargmax(given))
        found = int(utility.candidates[columns[best]])
        return Near(found, self.inputs.pool.ids[found], float(given[best]))

    # ------------------------------------------------------------------------------------------ by the utility

    def _role(self, row: int, k: int) -> Role | None:
        case = self.case(k)
        if case is None:
            return None
        column = coverage.places(case.cover.table.utility, np.array([row]))
        return case.role(int(column[0])) if len(column) else None

    def case(self, k: int) -> Case | None:
        """The subset at a budget, ready to explain rows by; None where the run stores no utility of its candidates."""
        with self._lock:
            if k not in self._cases:
                while len(self._cases) >= COVERS:
                    self._cases.popitem(last=False)
                self._cases[k] = self._case(k)
            return self._cases[k]

    def _case(self, k: int) -> Case | None:
        if not self._tables:
            return None
        part, terms = self._terms
        table = self._tables[part]
        utility = table.utility
        picks = coverage.places(utility, self.run.selection.order[:k])
        helped = self.inputs.datasets[SIDES[part][0]]
        pool = self.inputs.pool
        closed = np.isin(utility.candidates, np.fromiter(self.run.left_out, np.int64, len(self.run.left_out)))
        return Case(
            Cover.of(table, terms or Terms(), picks), part, lambda i: pool.ids[i], lambda i: helped.ids[i],
            self._most, terms is not None, closed,
        )  # fmt: skip

    @cached_property
    def _tables(self) -> dict[Part, Table]:
        """The utilities that the objective looked at, scaled together as it saw them, by part."""
        stored = {part for part, _ in self.run.utilities}
        used: dict[Part, Utility] = {
            part: self.run.utility(part) for part in cast(dict[Part, Any], self.inputs.pairs) if part in stored
        }  # fmt: skip
        scale = scaling(list(used.values()), cast(How, self.run.config.scale))
        return {part: Table.of(utility, scale) for part, utility in used.items()}

    @cached_property
    def _most(self) -> Floats:
        return self._tables[self._terms[0]].most()

    @cached_property
    def _terms(self) -> tuple[Part, Terms | None]:
        """Which rows are covered, and the objective's terms; None where it is no facility location."""
        tables, objective = self._tables, self.inputs.objective
        part: Part = "pool" if "pool" in tables else "target"
        if not isinstance(objective, _Covering):
            return part, None
        outlines = {name: _outline(table, name) for name, table in tables.items()}
        candidates = next(table.utility.candidates for name, table in tables.items() if name != "existing")
        quality = getattr(objective, "quality", None)
        # Row scores are not stored.  Any will do here, as the bonus they make is read from the gains instead.
        scores = None if quality is None else Scores(np.ones(len(candidates)), candidates, True, quality)
        problem = objective.problem(
            Evidence(
                candidates, np.zeros(0, np.int64), outlines.get("pool"), outlines.get("target"),
                outlines.get("existing"), scores,
            )
        )  # fmt: skip
        part = next(name for name, outline in outlines.items() if problem.values is outline.values)
        start, cap, weight, bonus = (
            None if v is None else np.asarray(v, np.float64)
            for v in (problem.start, problem.cap, problem.weight, problem.bonus)
        )
        if quality is not None:
            bonus = self._quality(tables[part], np.ones(tables[part].shape[0]) if weight is None else weight)
        return part, Terms(start, cap, weight, bonus)

    def _quality(self, table: Table, weight: Doubles) -> Doubles:
        """Each column's own share of f: what its gain holds beside its coverage; NaN for columns without a gain."""
        order = self.run.selection.order
        places = coverage.places(table.utility, order)
        found = np.full(table.shape[1], np.nan)
        found[places] = np.maximum(self.run.selection.gains - table.running_gains(weight, places), 0.0)
        return found

    def _notes(self, role: Role | None, k: int) -> list[str]:
        said: list[str] = []
        if role is not None and role.value is not None:
            own = float(self.run.selection.value[k - 1])
            if not np.isclose(role.value, own, rtol=AGREE, atol=1e-9):
                said.append(
                    f"{self._why_apart()}: by the stored pairs the subset is worth {number(role.value)}, by the run "
                    f"{number(own)}. Losses, gains and swaps here count the stored pairs alone."
                )
        if role is not None and role.value is None:
            said.append(
                "This objective is no sum over rows that are served, so the card says who is near, and neither what is "
                "lost without a row nor what it could replace."
            )
        return said

    def _why_apart(self) -> str:
        plan = self.run.config.pairs
        if plan == DENSE:
            return "The pairs that the run stores do not add up to the value that it reports"
        return f"The run chose by more than the pairs that it stores (its plan {plan} also predicts pairs)"


def explain(ws: Workspace, run_id: str, row: int, k: int | None = None) -> Explanation:
    """Explain one row of the pool of a finished run at a budget of `k` rows, by default its own.

    Opens the run anew; to explain several rows, keep an `Explainer`.  Raises ConfigError for a row that is not in the
    pool or a budget that is no cut of this run, WorkspaceError for a run that is missing or not finished.
    """
    return Explainer.open(ws, run_id).explain(row, k)


def scaling(utilities: list[Utility], how: How) -> Scale:
    """What `selection.scale.scaled` does to these utilities together, for a part of one of them at a time."""
    ends = _ends(utilities) if how == "minmax" else (0.0, 1.0)
    kind = utilities[0].kind if utilities else "l2"
    anchor = Utility(np.array([ends], np.float32), np.zeros(1, np.int64), np.zeros(2, np.int64), kind)

    def scale(part: Floats) -> Floats:
        rows, columns = (np.zeros(size, np.int64) for size in part.shape)
        values = scaled([Utility(part, rows, columns, kind), anchor], how)[0].values
        return cast(Floats, values)

    return scale


def _ends(utilities: list[Utility]) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for utility in utilities:
        values: Any = utility.values
        stored = values if utility.is_dense else values.data[:, None]
        for start in range(0, len(stored), 256):
            part = stored[start : start + 256]
            low = min(low, float(np.fmin.reduce(part, axis=None, initial=np.inf)))
            high = max(high, float(np.fmax.reduce(part, axis=None, initial=-np.inf)))
    return low, high


def _outline(table: Table, part: Part) -> Utility:
    """A utility of the same shape that holds only what objectives make their terms of.

    That is, of the target, what each candidate gives the row it helps most; else what each row gets from the candidate
    that helps it most.
    """
    from scipy import sparse

    rows, columns = table.shape
    most = table.most_given() if part == "target" else table.most()
    along = np.arange(len(most))
    other = np.zeros(len(most), np.int64)
    places = (other, along) if part == "target" else (along, other)
    return replace(table.utility, values=sparse.csc_array((most, places), shape=(rows, columns)))
