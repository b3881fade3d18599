"""Would the same rows be picked again?  A finished run is repeated under other conditions, from what it stored.

Sources of change: the helped rows (bootstrap), the seed, and the sentence encoder.  A replicate is a block, so a
measurement that was stopped goes on where it was.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core import registry
from delift_core.choosing import choose
from delift_core.constraints import Resolved
from delift_core.encoded import named, reads_whole, sentence_encoder, vectors_of
from delift_core.errors import ConfigError, WorkspaceError
from delift_core.evidence import compared
from delift_core.insight.stability import Stability as Estimate
from delift_core.insight.stability import stability
from delift_core.preflight import open_inputs
from delift_core.review.restored import Restored, assembled, restore
from delift_core.runs import Run, Workspace, files, jobs
from delift_core.runs.jobs import working
from delift_core.types import Doubles, Indices, Progress, Utility, block_key, both, no_progress

FILE = "stability.npz"
VERSION = 1  # raise when replicates would come out differently
REPLICATES, SEEDS = 20, 10
TRIED_SEEDS = 2  # where these give the rows of the run's own seed, the seed does not matter
ENCODERS = ("minilm", "fast")
SOURCES = {
    "bootstrap": "other rows to be helped: drawn again from the same rows, with replacement",
    "seeds": "another seed",
    "encoders": "another sentence encoder",
}
STAGE = "choose again"


@dataclass(frozen=True, eq=False)
class Stability:
    """What was measured of a run.  The first source leads; the others stand beside it."""

    sources: Mapping[str, Estimate]  # by source, the leading one first
    frequencies: Mapping[str, Doubles]  # (N,) by source: share of replicates that pick each row of the pool
    notes: tuple[str, ...]

    @property
    def leading(self) -> str:
        """The source that the one number speaks of: bootstrap where it applies, else seeds, else encoders."""
        return next(iter(self.sources))

    @property
    def estimate(self) -> Estimate:
        """The one number."""
        return self.sources[self.leading]

    @property
    def frequency(self) -> Doubles:
        """(N,) share of the leading source's replicates that pick each row; NaN where it is no candidate."""
        return self.frequencies[self.leading]


def read(ws: Workspace, run_id: str) -> Stability | None:
    """What was measured of a run; None where nothing was, or the run was made again since."""
    path = ws.run_folder(run_id) / FILE
    if not path.is_file():
        return None
    try:
        with files.disk_errors(path, "read"), np.load(path, allow_pickle=False) as kept:
            record = json.loads(str(kept["summary"]))
            frequencies = {name: kept[f"frequency_{name}"] for name in record["sources"]}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise WorkspaceError(f"{path} is damaged: {error}. Measure the stability again.") from error
    if record["version"] != VERSION or record["run_hash"] != Run.open(ws, run_id).manifest["hash"]:
        return None
    sources = {name: Estimate.from_json(told) for name, told in record["sources"].items()}
    return Stability(sources, frequencies, tuple(record["notes"]))


def start(ws: Workspace, run_id: str) -> bool:
    """Measure in the background; True when a worker was started, False when one is at it already.

    Raises WorkspaceError where the run is not finished.
    """
    Run.open(ws, run_id)
    return jobs.start_stability(ws, run_id)


def measure(
    ws: Workspace, run_id: str, *, replicates: int = REPLICATES, progress: Progress = no_progress
) -> dict[str, Any]:
    """Repeat a finished run's choice at its own budget, and store how far the rows stay the same.

    Args:
        ws: the workspace of the run.
        run_id: of a finished run.
        replicates: of the bootstrap, at least 2.
        progress: counts replicates; may raise Cancelled, and what is finished is kept.

    Returns the summary: estimates by source, notes.  It also goes to `stability.npz` in the run's folder, with the
    frequencies.  Raises ConfigError where nothing of the run can vary, or it did not keep what its objective needs.
    """
    if replicates < 2:
        raise ConfigError(f"{replicates} replicates: stability compares at least two. Give 20.")
    run = Run.open(ws, run_id)
    with working(ws, run_id, "stability") as recorded:
        work = _Work(ws, run, both(recorded, progress))
        free = work.free()
        _check_choice(run, work.there.evidence.candidates[free])
        found = work.all(replicates)
        if not found:
            raise ConfigError(
                f"Nothing of run {run_id} ({run.config.method}) can vary: its rows are ranked one by one, the seed "
                "changes nothing, and it reads no sentence vectors. Its choice is stable as long as its scores are."
            )
        estimates = {name: stability(picks[:, free]) for name, picks in found.items()}
        frequencies = {name: _frequency(work, picks) for name, picks in found.items()}
        record = {
            "version": VERSION, "run": run_id, "run_hash": run.manifest["hash"], "k": run.k,
            "sources": {name: told.to_json() for name, told in estimates.items()}, "notes": work.notes,
        }  # fmt: skip
        _write(run, record, frequencies)
    return record


def _check_choice(run: Run, free: Indices) -> None:
    """Raise ConfigError where the run had nothing to choose among the rows that are free: it takes all, or none."""
    chosen = np.isin(free, run.picked)
    if chosen.all():
        raise ConfigError(
            f"Run {run.id} chooses all of the {len(free):,} rows that it could, so nothing can vary: any other "
            "condition leads to the same rows. Measure a run of a smaller budget."
        )
    if not chosen.any():
        raise ConfigError(
            f"Run {run.id} chooses its pinned rows alone, so nothing can vary. Measure a run that pins fewer."
        )


def _write(run: Run, record: Mapping[str, Any], frequencies: Mapping[str, Doubles]) -> None:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"frequency_{name}": values for name, values in frequencies.items()}
    np.savez_compressed(buffer, summary=np.array(json.dumps(record, allow_nan=False)), **arrays)
    with files.atomic(run.folder / FILE) as out:
        out.write(buffer.getvalue())


def _frequency(work: _Work, picks: NDArray[np.bool_]) -> Doubles:
    found = np.full(len(work.there.inputs.pool), np.nan)
    found[work.there.evidence.candidates] = picks.mean(axis=0)
    found[[row for row in work.run.left_out if row < len(found)]] = np.nan
    return found


class _Work:
    """The replicates of one run."""

    def __init__(self, ws: Workspace, run: Run, progress: Progress) -> None:
        self.ws, self.run, self.progress = ws, run, progress
        self.there = restore(ws, run)
        self.resolved = self.there.resolved(ws)
        self.notes: list[str] = []
        self.at: tuple[int, int, str] = (0, 1, "")  # replicates that are done, of how many, of which source

    def free(self) -> NDArray[np.bool_]:
        """Which candidates (n,) could be picked or not: neither pinned nor left out."""
        rules = self.resolved.limit.rules
        free = np.ones(len(self.there.evidence), np.bool_)
        if rules is not None:
            free[rules.pinned] = False
            if rules.banned is not None:
                free &= ~rules.banned
        return free

    def all(self, replicates: int) -> dict[str, NDArray[np.bool_]]:
        """Which candidates each replicate picks, (M, n) by source, without those sources that do not apply."""
        found: dict[str, NDArray[np.bool_]] = {}
        own = self._kept("own", 0, lambda: self._chosen(self.there, self.resolved))
        if (same := len(np.intersect1d(own, self.run.picked))) < self.run.k:
            self.notes.append(
                f"What the run stored leads to {same:,} of its {self.run.k:,} rows, as it did not keep all that it "
                "chose by (predicted pairs): the replicates vary around those."
            )
        for source, make in self._plans(replicates).items():
            made: list[Indices] = []
            for index, replicate in enumerate(make):
                self.at = (index, len(make), source)
                self._alive()
                made.append(self._kept(source, index, replicate))
                alike = all(np.array_equal(rows, own) for rows in made)
                if source == "seeds" and index + 1 == TRIED_SEEDS and alike:
                    self.notes.append("The seed changes nothing: other seeds pick the same rows.")
                    break
            else:
                self.progress(STAGE, len(make), len(make), source)
                found[source] = np.stack([self._mask(rows) for rows in made])
        return found

    def _plans(self, replicates: int) -> dict[str, list[Callable[[], Indices]]]:
        plans: dict[str, list[Callable[[], Indices]]] = {}
        if self._has_helped_rows():
            plans["bootstrap"] = [lambda index=index: self._bootstrap(index) for index in range(replicates)]  # type: ignore[misc]
        else:
            self.notes.append("No bootstrap: the objective gives helped rows no weight of their own.")
        seeds = [self.run.config.seed + 1 + index for index in range(SEEDS)]
        plans["seeds"] = [lambda seed=seed: self._seeded(seed) for seed in seeds]  # type: ignore[misc]
        if self._by_vectors():
            names = list(dict.fromkeys([self.run.config.encoder, *ENCODERS]))
            plans["encoders"] = [lambda name=name: self._encoded(name) for name in names]  # type: ignore[misc]
        return plans

    def _kept(self, source: str, index: int, replicate: Callable[[], Indices]) -> Indices:
        key = block_key(
            "stability", run=self.run.id, result=self.run.manifest["hash"], source=source, index=index, version=VERSION
        )
        block = self.ws.blocks.get(key)
        if block is None:
            block = {"rows": np.sort(replicate())}
            self.ws.blocks.put(key, block)
        return block["rows"]

    def _mask(self, rows: Indices) -> NDArray[np.bool_]:
        return np.isin(self.there.evidence.candidates, rows)

    # ------------------------------------------------------------------------------------------ kinds of replicates

    def _has_helped_rows(self) -> bool:
        """Whether drawing the helped rows again can change the picks: some objectives look at the picks alone."""
        evidence = self.there.evidence
        if any(part is not None for part in (evidence.target, evidence.target_vectors, evidence.existing_vectors)):
            return True
        weighted = {"fl", "flcg", "flquality", "graph-cut", "set-cover", "prob-set-cover"}
        return evidence.pool is not None and self._objective in weighted

    @property
    def _objective(self) -> str:
        return registry.method(self.run.config.method).objective

    def _by_vectors(self) -> bool:
        inputs = self.there.inputs
        scored = inputs.method.scorer is not None and not (inputs.in_context or inputs.by_states)
        return scored or any(name.endswith("vectors") for name in inputs.objective.needs)

    def _bootstrap(self, index: int) -> Indices:
        """The helped rows drawn again, as many, with replacement."""
        draw = np.random.default_rng([self.run.config.seed, index])
        evidence = self.there.evidence
        changes: dict[str, Any] = {}
        if evidence.pool is not None:
            changes["pool"] = _weighted(evidence.pool, draw)
        if evidence.target is not None:
            changes["target"] = _drawn(evidence.target, draw)
        for name in ("target_vectors", "existing_vectors"):
            vectors = getattr(evidence, name)
            if vectors is not None:
                changes[name] = vectors[draw.integers(0, len(vectors), len(vectors))]
        return self._chosen(replace(self.there, evidence=replace(evidence, **changes)), self.resolved)

    def _seeded(self, seed: int) -> Indices:
        inputs = self.there.inputs
        there = replace(self.there, inputs=replace(inputs, config=inputs.config.with_(seed=seed)))
        by_seed = inputs.config.quota or inputs.config.domains  # clusters and the test of domains hang on it
        return self._chosen(there, there.resolved(self.ws, self._alive) if by_seed else self.resolved)

    def _encoded(self, name: str) -> Indices:
        """The same choice with the vectors of another encoder, which are computed where they are not stored."""
        inputs = open_inputs(self.ws, self.run.config.with_(encoder=name))
        encoder = sentence_encoder(name, inputs.models)
        whole = reads_whole([inputs.datasets[role] for role in inputs.encoded_roles])
        vectors = {
            role: vectors_of(
                inputs.datasets[role], inputs.rows(role), encoder, self.ws.blocks, whole=whole,
                progress=named(self.progress, f"encode {role} by {name}"),
            )
            for role in inputs.encoded_roles
        }  # fmt: skip
        raw: dict[Any, Utility] = dict(compared(inputs, vectors, self.ws.blocks, self._alive))
        there = assembled(self.run, inputs, raw, vectors)
        return self._chosen(there, there.resolved(self.ws, self._alive))

    def _chosen(self, there: Restored, resolved: Resolved) -> Indices:
        """The rows that the run's budget keeps, pool row indices."""
        limit, seed = resolved.limit, there.inputs.config.seed
        if limit.tokens is None:  # no further than the budget
            found = there.inputs.objective.select(there.evidence, limit, seed=seed, progress=self._alive)
            return found.order[: limit.rows]
        selection, k, _, _ = choose(there.inputs, there.evidence, resolved, self._alive)
        return selection.order[:k]

    def _alive(self, stage: str = "", done: float = 0, total: float = 0, note: str = "") -> None:
        """Tell how many replicates are done, whatever a single one says; a request to cancel is heard here."""
        self.progress(STAGE, self.at[0], self.at[1], self.at[2])


def _weighted(utility: Utility, draw: np.random.Generator) -> Utility:
    """A pool's utility whose helped rows count as often as they are drawn."""
    rows = utility.shape[0]
    times = np.bincount(draw.integers(0, rows, rows), minlength=rows).astype(np.float64)
    return replace(utility, weights=times if utility.weights is None else times * utility.weights)


def _drawn(utility: Utility, draw: np.random.Generator) -> Utility:
    """A target's utility of drawn helped rows; some stand there several times, some not at all."""
    rows = draw.integers(0, utility.shape[0], utility.shape[0])
    values: Any = utility.values
    taken = np.asfortranarray(values[rows]) if utility.is_dense else values.tocsr()[rows].tocsc()
    weights = None if utility.weights is None else utility.weights[rows]
    baseline = None if utility.baseline is None else utility.baseline[rows]
    return replace(utility, values=taken, helped=utility.helped[rows], weights=weights, baseline=baseline)
