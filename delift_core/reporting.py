"""What finished runs come to: who is served by a subset, and how two to four subsets differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from delift_core.constraints import cluster_names
from delift_core.encoded import reads_whole, sentence_encoder, vectors_of
from delift_core.errors import ConfigError
from delift_core.inputs import Inputs
from delift_core.insight.compare import Comparison
from delift_core.insight.compare import compare as compared
from delift_core.insight.fairness import Fairness
from delift_core.insight.fairness import report as fairness
from delift_core.insight.lineup import Entry, Lineup
from delift_core.planning import tokens_of
from delift_core.preflight import open_inputs
from delift_core.quota import CLUSTERS, MOST_GROUPS, Quota
from delift_core.runs import Run, Workspace
from delift_core.types import Progress, Selection, Utility, no_progress


def report(ws: Workspace, run_id: str, by: str | None = None, *, progress: Progress = no_progress) -> Fairness:
    """Group by group: shares of pool and subset, tokens, the value that is covered, and the worst-served group.

    Args:
        ws: the workspace.
        run_id: a finished run.
        by: a column of the pool, or "cluster" or "cluster:K" for groups by sentence vectors (the run's encoder); by
            default the column of the run's quota, or the only column there is.
        progress: of encoding, where clusters need it.

    Raises ConfigError where there is no such column, or several and none is named.
    """
    done = Run.open(ws, run_id)
    inputs = open_inputs(ws, done.config)
    by = by or _usual(inputs)
    labels = _labels(ws, inputs, by, progress)
    tokens = tokens_of(ws, inputs, progress)[inputs.rows("pool")]
    return fairness(labels, inputs.rows("pool"), done.picked, by=by, tokens=tokens, utility=pool_utility(done))


def compare(ws: Workspace, run_ids: Sequence[str], by: str | None = None) -> Comparison:
    """Two to four finished runs side by side; rows of different pools are the same where their ids are.

    `by` is a column of every pool whose groups are compared as well.  Raises ConfigError for other numbers of runs.
    """
    if len(set(run_ids)) < len(run_ids):
        raise ConfigError("The same run is given twice. Name two to four different runs.")
    runs = [Run.open(ws, run_id) for run_id in run_ids]
    labels = [open_inputs(ws, run.config).pool.group(by) for run in runs] if by else None
    return compared(lineup(ws, runs, whole=False), labels=labels)


def lineup(ws: Workspace, runs: Sequence[Run], *, whole: bool = True) -> Lineup:
    """Two to four runs with their rows matched: by index over one pool, else by id.

    `whole` takes all that each run ranked, so that other budgets can be looked at; else its own picks alone.
    Raises ConfigError for other numbers of runs, and where an id stands twice in a pool that must be matched by ids.
    """
    several = len({run.config.pool for run in runs}) > 1
    entries = []
    for run in runs:
        inputs = open_inputs(ws, run.config)
        tokens = np.zeros(len(inputs.pool), np.int64)
        if run.tokens is not None:
            tokens[run.selection.order] = run.tokens
        entries.append(Entry(
            f"{run.config.method} {run.id[:8]}", run.selection if whole else _cut(run.selection, run.k),
            list(inputs.pool.ids) if several else None, inputs.rows("pool"),
            tokens if run.tokens is not None else None, utility=pool_utility(run), total=len(inputs.pool),
        ))  # fmt: skip
    return Lineup(tuple(entries))


def _cut(selection: Selection, k: int) -> Selection:
    """The picks of a run alone, be its order nested or not."""
    return replace(selection, order=selection.order[:k], gains=selection.gains[:k], value=selection.value[:k])


def pool_utility(run: Run) -> Utility | None:
    """What the run knows of how its pool helps itself, in raw units; None where it scored no such pairs."""
    kinds = {kind for part, kind in run.utilities if part == "pool"}
    if not kinds:
        return None
    return run.utility("pool", run.config.kind if run.config.kind in kinds else kinds.pop())


def _usual(inputs: Inputs) -> str:
    if inputs.config.quota:
        quota = Quota.parse(inputs.config.quota)
        return quota.by if quota.clusters is None else f"cluster:{quota.clusters}"
    fields = inputs.pool.fields
    if len(fields) != 1:
        raise ConfigError(
            f"Say what to group {inputs.pool.name} by: cluster, or one of its columns "
            f"({', '.join(fields) or 'it has none'})."
        )
    return fields[0]


def _labels(ws: Workspace, inputs: Inputs, by: str, progress: Progress) -> list[str | None]:
    name, _, count = by.partition(":")
    rows = inputs.rows("pool")
    if name != "cluster" or by in inputs.pool.fields:
        values = inputs.pool.group(by)
        return [values[row] for row in rows]
    if count and not (re.fullmatch("[0-9]+", count) and 2 <= int(count) <= MOST_GROUPS):
        raise ConfigError(f"Groups by {by!r}: give cluster, or cluster:10 for so many of them, 2 to {MOST_GROUPS:,}.")
    encoder = sentence_encoder(inputs.config.encoder, inputs.models)
    vectors = vectors_of(
        inputs.pool, rows, encoder, ws.blocks, whole=reads_whole([inputs.pool]), progress=progress
    )  # fmt: skip
    return cluster_names(vectors, int(count or CLUSTERS), inputs.config.seed)
