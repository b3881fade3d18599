"""Everything that can be wrong with a run, found before a model is loaded."""

from __future__ import annotations

import numpy as np
import psutil

from delift_core import constraints, registry
from delift_core.config import Budget, RunConfig
from delift_core.data import open_dataset
from delift_core.errors import ConfigError, DataError
from delift_core.inputs import Inputs
from delift_core.intake import normal
from delift_core.models.files import check_files
from delift_core.runs import Workspace
from delift_core.scoring.definition import check_template
from delift_core.types import Dataset


def checked(ws: Workspace, config: RunConfig) -> Inputs:
    """The datasets of a run, opened, once every mistake is ruled out that can be found without loading a model.

    Names, options, the datasets and what the method needs of them, rows to choose from, budget and constraints, the
    model's files, memory and disk.  Raises DeliftError.
    """
    normal(config)
    if config.pairs == registry.AUTO:  # what is chosen in the end takes no less room than this
        config = config.with_(pairs=registry.sparse_plan(config.method) or registry.DENSE)
    inputs = open_inputs(ws, config)
    method, n = inputs.method, len(inputs.rows("pool"))
    for role, dataset in inputs.datasets.items():
        if not len(dataset):
            raise DataError(
                f"{dataset.name} has no rows that can be used as {role}. Look at its refused rows, and map its fields."
            )
        if method.needs_response and not dataset.labelled and role != "holdout":
            free = ", ".join(m.name for m in registry.METHODS.values() if not m.needs_response)
            raise DataError(
                f"{dataset.name} has rows without a response, and method {method.name} scores responses. "
                f"Map the response field, or choose a method that needs none: {free}."
            )
        if role != "pool" and dataset.fingerprint == inputs.pool.fingerprint:
            raise ConfigError(
                f"The pool and the {role} are the same rows ({dataset.name}). Give other rows as {role}, "
                "or choose delift or delift-se, which need the pool alone."
            )
    if n < 2:
        copies = len(inputs.pool)
        what = "has one row" if copies == 1 else f"has {copies} rows that are all exact copies of one"
        raise DataError(
            f"{inputs.pool.name} {what}, so there is nothing to choose from. Give at least two different rows."
        )
    if inputs.in_context and config.template.startswith("{"):
        check_template(config.template)
    budget = Budget.parse(config.budget)
    if budget.unit != "tokens":
        budget.limit(np.ones(n, np.int64))
    constraints.check(inputs)
    check_files(config.model, weights=inputs.wants_model)
    _check_room(ws, inputs)
    return inputs


def open_inputs(ws: Workspace, config: RunConfig) -> Inputs:
    """The datasets that the method looks at, opened; raises ConfigError or WorkspaceError where one is missing."""
    method = registry.method(config.method)
    opened: dict[str, Dataset | None] = {"target": None, "existing": None}
    for role, needed in (("pool", True), ("target", method.needs_target), ("existing", method.needs_existing)):
        fingerprint = getattr(config, role)
        if needed and not fingerprint:
            raise ConfigError(
                f"Method {config.method} needs {role} rows. Give --{role} FILE, or choose them on the Run page."
            )
        if needed:
            ws.catalogue.dataset(fingerprint)  # an unknown one says how to load it
            opened[role] = open_dataset(ws.dataset_folder(fingerprint))
    if config.holdout:
        ws.catalogue.dataset(config.holdout)
        opened["holdout"] = open_dataset(ws.dataset_folder(config.holdout))
    return Inputs(config, **opened, models=ws.models)  # type: ignore[arg-type]


def _check_room(ws: Workspace, inputs: Inputs) -> None:
    """Raises ConfigError or WorkspaceError when the pair matrices do not fit into memory or on the disk."""
    pairs = sum(inputs.counts.values())
    entry = 4 if inputs.plan is None else 16  # a sparse one holds its place, and is put in order once
    memory = pairs * entry * (3 if inputs.in_context else 2)  # raw numbers (both readings), and those that are scaled
    free = psutil.virtual_memory().available
    if memory > free:
        raise ConfigError(
            f"{pairs:,} pairs need about {memory / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free. "
            "Take a pair plan (knn:32), a smaller pool, a target with the method delift-task, or the method got-d, "
            "which keeps no pairs."
        )
    blocks = pairs * 8 if inputs.in_context else 0
    ws.require_space(blocks + inputs.kept_bytes)
