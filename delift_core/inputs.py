"""A run's datasets, opened, and what its method asks of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from delift_core import registry
from delift_core.config import Guard, RunConfig
from delift_core.quota import Quota
from delift_core.types import Dataset, Indices, Objective

CHECKED = (16, 48)  # helped rows that are scored against every candidate to judge a plan by: at least, at most
CHECK_SHARE = 0.2  # of the pairs that the plan scores
CHECKED_NEAR = (16, 200)  # the same where vectors are compared, which costs little
CHECKED_COSINES = 20_000_000  # pairs of theirs that are held, at most
# Part of the evidence -> role of the rows that are helped, role of the rows that help.
SIDES = {"pool": ("pool", "pool"), "target": ("target", "pool"), "existing": ("pool", "existing")}


@dataclass(frozen=True, eq=False)
class Inputs:
    """The datasets of a run, opened, and which of their rows take part."""

    config: RunConfig
    pool: Dataset
    target: Dataset | None = None
    existing: Dataset | None = None
    holdout: Dataset | None = None  # evaluation rows that the subset must not contain
    models: Path | None = None  # folder for models that are made on this machine; None: that of the default workspace

    @cached_property
    def method(self) -> registry.Method:
        """The method by its registry entry."""
        return registry.method(self.config.method)

    @cached_property
    def objective(self) -> Objective:
        """The objective with the run's options."""
        built: Objective = registry.objective_of(self.config.method, self.config.options)
        return built

    @cached_property
    def scorer(self) -> Any:
        """The scorer with the run's settings; None where the method has none."""
        return registry.scorer_of(self.config.method, self.config.options, {"template": self.config.template})

    @cached_property
    def row_score(self) -> Any:
        """The score of single rows that the objective looks at; None where it looks at none."""
        config = self.config
        return registry.score_of(config.method, config.options, {"template": config.template})

    @cached_property
    def plan(self) -> Any:
        """The pair plan; None where every pair is scored."""
        return registry.plan(self.config.pairs) if registry.sparse_plan(self.config.method) else None

    @property
    def counts(self) -> dict[str, int]:
        """About how many pairs of each utility are scored, the exact check of a plan included."""
        found = {}
        for part, (helped, candidates) in self.pairs.items():
            shape = (len(helped), len(candidates))
            found[part] = shape[0] * shape[1]
            if self.plan is not None:
                asked = self.plan.count(shape, part == "pool") + self.check_rows(part) * shape[1]
                found[part] = min(found[part], asked)
        return found

    def check_rows(self, part: str) -> int:
        """How many rows are checked, so that it costs about a fifth of what the plan costs."""
        shape = tuple(len(side) for side in self.pairs[part])
        if not self.in_context:
            return min(shape[0], max(CHECKED_NEAR[0], min(CHECKED_NEAR[1], CHECKED_COSINES // shape[1])))
        wanted = int(CHECK_SHARE * self.plan.count(shape, part == "pool") / shape[1])
        return min(shape[0], max(CHECKED[0], min(CHECKED[1], wanted)))

    @property
    def kept_bytes(self) -> int:
        """What the run's own copy of its utilities takes on the disk: both readings in context, else the cosine."""
        entry = 4 if self.plan is None else 8  # a sparse one holds its place as well
        return sum(self.counts.values()) * entry * (2 if self.in_context else 1)

    @property
    def in_context(self) -> bool:
        """True when pairs are scored by the language model, one example at a time."""
        return self.scorer is not None and self.scorer.reads == "texts"

    @property
    def by_states(self) -> bool:
        """True when pairs are compared by the language model's own hidden states."""
        return self.scorer is not None and self.scorer.reads == "model"

    @property
    def wants_model(self) -> bool:
        """True when the weights of the language model are read."""
        return self.in_context or self.by_states or (self.row_score is not None and self.row_score.reads == "model")

    @property
    def datasets(self) -> dict[str, Dataset]:
        """The datasets by role, the pool first."""
        found = {"pool": self.pool, "target": self.target, "existing": self.existing, "holdout": self.holdout}
        return {role: dataset for role, dataset in found.items() if dataset is not None}

    def rows(self, role: str) -> Indices:
        """Rows of a role that take part: all, or the first of each set of exact copies."""
        dataset = self.datasets[role]
        return np.arange(len(dataset), dtype=np.int64) if self.config.keep_duplicates else dataset.unique

    @property
    def pairs(self) -> dict[str, tuple[Indices, Indices]]:
        """For each utility that is needed: (helped rows, candidate rows)."""
        if self.method.scorer is None:
            return {}
        return {part: (self.rows(h), self.rows(c)) for part, (h, c) in SIDES.items() if part in self.objective.needs}

    @property
    def encoded_roles(self) -> tuple[str, ...]:
        """Roles whose rows need a sentence vector."""
        names = {"pool": "vectors", "target": "target_vectors", "existing": "existing_vectors"}
        roles = {role for role, name in names.items() if name in self.objective.needs}
        if self.method.scorer is not None and (self.plan is not None or not (self.in_context or self.by_states)):
            roles |= {"pool", *self.pairs}
        config = self.config
        if config.once or (config.quota and Quota.parse(config.quota).clusters):
            roles.add("pool")
        if config.domains:
            roles |= {"pool", "target"}
        if Guard.parse(config.guard).cosine:
            roles |= set(self.datasets)
        return tuple(role for role in self.datasets if role in roles)
