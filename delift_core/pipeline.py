"""The order of the stages, and nothing else: load, count, gather evidence, select, write.

The command line, the Python API and the page all end here, so the same configuration gives the same ids from each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delift_core import constraints, evidence, registry
from delift_core.choosing import checked_plans, choose, price_of_quota
from delift_core.config import Budget, RunConfig
from delift_core.encoded import coordinates
from delift_core.intake import configure, inspect, manifest_inputs, normal
from delift_core.measure import multishot, row_scores, utilities, write
from delift_core.nearcopies import THRESHOLD, CopySet, NearCopies, expected_seconds, find_near_copies
from delift_core.planning import estimate, estimate_if_long, finished, settled, stored, tokens_of
from delift_core.preflight import checked, open_inputs
from delift_core.replay import Replayed, differences
from delift_core.reporting import compare, lineup, report
from delift_core.runs import Run, Workspace, jobs, kept, manifest
from delift_core.runs.jobs import working
from delift_core.runs.run import Part
from delift_core.sharing.exporting import check_out
from delift_core.sharing.exporting import export_run as export
from delift_core.sources import add_dataset, find_dataset, restore
from delift_core.types import (
    Floats,
    Indices,
    Kind,
    Progress,
    Scores,
    Selection,
    Utility,
    both,
    no_progress,
)

__all__ = [
    "THRESHOLD", "CopySet", "NearCopies", "Replayed", "add_dataset", "check", "check_out", "compare", "configure",
    "draw_map", "estimate", "estimate_if_long", "expected_seconds", "export", "find_dataset", "find_near_copies",
    "inspect", "lineup", "multishot", "normal", "replay", "report", "row_scores", "run", "select", "settled", "submit",
    "summary_of", "utilities", "work", "write",
]  # fmt: skip


# ------------------------------------------------------------------------------------------------ before a run


def check(ws: Workspace, config: RunConfig) -> None:
    """Find every mistake that can be found without loading a model; raises DeliftError with what to do."""
    checked(ws, config)


# ------------------------------------------------------------------------------------------------ the run


def run(
    ws: Workspace,
    config: RunConfig,
    *,
    progress: Progress = no_progress,
    command: Sequence[str] = (),
) -> Run:
    """Do the whole run and write it down; a finished one is opened instead.

    Progress, state and a request to cancel pass through the workspace as well, so a run in a terminal shows on the
    page.  After an interruption the same call goes on at the first unfinished block.

    Args:
        ws: datasets by fingerprint, finished blocks, and the run's folder.
        config: everything that decides the ids.
        progress: called with stage, done, total; may raise Cancelled.
        command: the command line to note in the manifest.

    Raises DeliftError for what the user can mend; anything else is a bug.
    """
    config, _ = settled(ws, config)
    inputs = checked(ws, config)
    if finished(ws, inputs):
        job = ws.catalogue.job(config.id)
        if job is not None and job.state != "done":  # a worker that was stopped when all was written
            ws.catalogue.update_run(config.id, state="done", eta=None, error="")
        return Run.open(ws, config.id).relabelled(ws, manifest_inputs(ws, inputs.datasets))
    ws.catalogue.add_run(config, command=command)
    with working(ws, config.id) as recorded:
        return _perform(ws, config, both(recorded, progress), command)


def submit(ws: Workspace, config: RunConfig, *, command: Sequence[str] = ()) -> str:
    """Start a run in the background and return its id; a finished one is left alone if the models are still the same.

    Raises DeliftError for what can be found wrong without loading a model.
    """
    config, _ = settled(ws, config)
    inputs = checked(ws, config)
    outdated = Run.is_finished(ws, config.id) and not finished(ws, inputs)
    return jobs.submit(ws, config, command=command, outdated=outdated)


def work(ws: Workspace, run_id: str, *, progress: Progress = no_progress) -> Run:
    """The worker of a submitted run: what `delift run --id` does.

    A run that is finished when the worker looks is left as it is; its state becomes done.
    """
    record = ws.catalogue.run(run_id)
    with working(ws, run_id) as recorded:
        if finished(ws, checked(ws, record.config)):
            return Run.open(ws, run_id)
        return _perform(ws, record.config, both(recorded, progress), record.command)


@dataclass(frozen=True, eq=False)
class _Computed:
    """All that a run came to, before anything of it is written."""

    selection: Selection
    k: int
    manifest: dict[str, Any]
    ids: Sequence[str]
    tokens: Indices
    utilities: Mapping[str, Mapping[Kind, Utility]]
    left_out: Mapping[int, str]
    scores: Scores | None  # of the pool's rows
    used: Mapping[Part, Utility]  # what the objective saw where pairs were predicted


def _perform(ws: Workspace, config: RunConfig, progress: Progress, command: Sequence[str]) -> Run:
    found = _compute(ws, config, progress, command)
    progress("write", 0, 1)
    kept.write(ws.run_folder(config.id), tokens=found.tokens, scores=found.scores, used=found.used)
    written = Run.write(
        ws, config, found.selection, found.k, ids=found.ids, manifest=found.manifest, tokens=found.tokens,
        utilities={part: list(kinds.values()) for part, kinds in found.utilities.items()},  # type: ignore[misc]
        left_out=found.left_out,
    )  # fmt: skip
    ws.catalogue.update_run(config.id, summary=summary_of(written))
    progress("write", 1, 1)
    return written


def _compute(ws: Workspace, config: RunConfig, progress: Progress, command: Sequence[str]) -> _Computed:
    timings: dict[str, float] = {}
    with _timed(timings, "check"):
        inputs = checked(ws, config)
    with _timed(timings, "count tokens"):
        tokens = tokens_of(ws, inputs, progress)
        candidate_tokens = tokens[inputs.rows("pool")]
        limit = Budget.parse(config.budget).limit(candidate_tokens)
    with _timed(timings, "constraints"):
        screened = constraints.screen(inputs, limit, candidate_tokens, progress)
    with _timed(timings, "evidence"):
        found = evidence.gather(inputs, candidate_tokens, ws.blocks, progress)
    with _timed(timings, "constraints by vectors"):
        rules = constraints.resolve(inputs, screened, limit, candidate_tokens, found.vectors, ws.blocks, progress)
    with _timed(timings, "select"):
        selection, k, told, limit = choose(inputs, found.evidence, rules, progress)
        told += price_of_quota(inputs, found.evidence, limit, selection, k, progress)
    with _timed(timings, "check the plan"):
        judged = checked_plans(inputs, found, selection, k, limit, progress) if found.planned else {}
    record = manifest.build(
        config, selection, k, ids=inputs.pool.ids, inputs=manifest_inputs(ws, inputs.datasets),
        models=[m for m in found.models if m.kind != "encoder"],
        encoder=next((m for m in found.models if m.kind == "encoder"), None),
        notes=[*found.notes, *rules.notes],
        subset_notes=(*told, *(f"{part}: {j.sentence}" for part, j in judged.items())),
        fidelity={part: j.to_json() for part, j in judged.items()}, constraints=rules.to_json(), timings=timings,
        command=command,
    )  # fmt: skip
    used: dict[Part, Utility] = {p: found.used[p] for p, planned in found.planned.items() if planned.guessed}  # type: ignore[misc]
    return _Computed(
        selection, k, record, inputs.pool.ids, tokens, found.raw, rules.left_out, found.scores, used
    )  # fmt: skip


def summary_of(done: Run, points: int = 60) -> dict[str, Any]:
    """What the catalogue keeps of a run: a few numbers, and a thumbnail of its curve.

    `curve` is the share of the whole pool's value at evenly spaced sizes; empty where value means nothing.
    """
    value, full = done.selection.value, done.selection.full_value
    curve: list[float] = []
    if len(value) and np.isfinite(full) and full:
        places = np.unique(np.linspace(0, len(value) - 1, points).astype(int))
        curve = [round(float(v) / full, 4) for v in value[places]]
    return {**done.summary, "curve": curve}


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    timings[stage] = time.monotonic() - started


# ------------------------------------------------------------------------------------------------ after a run


def draw_map(ws: Workspace, run_id: str, *, progress: Progress = no_progress) -> dict[str, Floats]:
    """Place all rows of a finished run's datasets in one plane; returns coordinates (N, 2) by role, indexed by row.

    Exact copies stand in one place.  Runs over the same datasets share one map, so that they can be compared.
    """
    done = Run.open(ws, run_id)
    with working(ws, run_id, "map") as recorded:
        placed = coordinates(open_inputs(ws, done.config), ws.blocks, both(recorded, progress))
        done.write_map(placed)
    return placed


def select(
    pool: str | Path,
    *,
    target: str | Path | None = None,
    existing: str | Path | None = None,
    holdout: str | Path | None = None,
    method: str = "delift",
    budget: str | int = "30%",
    out: str | Path | None = None,
    rejected: str | Path | None = None,
    workspace: str | Path | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> Run:
    """Choose rows of `pool`: the Python API, the same as `delift select`.

    Args:
        pool: a file, a `save_to_disk` folder, a hub id, or the fingerprint of a dataset of the workspace.
        target: rows of the task to get good at, for the methods that need them.
        existing: rows already trained on, for the methods that need them.
        method: a name that `delift methods` lists.
        budget: rows (500), a share ("30%") or tokens ("200ktok").
        out: where to write the chosen records (.jsonl, .parquet or .csv).
        rejected: where to write the other records with reasons.
        workspace: folder for all results (default: DELIFT_HOME, else ./workspace).
        progress: called with stage, done, total.
        settings: other settings (model, encoder, seed, kind, ...) and options of the method (nu, eta, epsilon, ...).

    Returns the run; `run.picked` are row indices of the pool in pick order, `run.manifest["ids"]` their ids.
    """
    ws = Workspace(Path(workspace)) if workspace else Workspace.default()
    check_out(out, rejected, (pool, target, existing, holdout))
    chosen = {"pairs": registry.AUTO, **settings}
    config = configure(
        ws, pool, target=target, existing=existing, holdout=holdout, method=method, budget=budget, progress=progress,
        **chosen,
    )  # fmt: skip
    done = run(ws, config, progress=progress)
    if out:
        export(ws, done, out, rejected=rejected)
    return done


def replay(
    ws: Workspace,
    path: str | Path,
    *,
    sources: Mapping[str, str | Path] | None = None,
    model: str | None = None,
    encoder: str | None = None,
    progress: Progress = no_progress,
    command: Sequence[str] = (),
) -> Replayed:
    """Repeat the run that a manifest describes, and compare.

    Datasets come from the workspace; those it does not have are read from `sources` by role, else from where the
    manifest says they were.  `model` and `encoder` say where a model is now that was moved since.  A run that is
    finished in the workspace is computed once more, from its stored blocks, and stays as it is whatever comes out.
    Raises DataError when a file does not hold the same rows any more.
    """
    record = manifest.read(Path(path))
    config = RunConfig.from_json(record["config"])
    config = normal(config.with_(model=model or config.model, encoder=encoder or config.encoder))
    for entry in record["inputs"]:
        restore(ws, entry, (sources or {}).get(entry["role"]), progress)
    done = stored(ws, config.id)
    if done is None:
        done = run(ws, config, progress=progress, command=command)
        again = done.manifest
    else:
        again = _compute(ws, config, progress, command).manifest
    return Replayed(done, again["rows"] == record["rows"], tuple(differences(record, again)))
