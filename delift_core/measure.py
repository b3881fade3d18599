"""Utilities and row scores as plain arrays in a file, for people who bring their own selection."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core import evidence, registry
from delift_core.config import RunConfig
from delift_core.encoded import causal_model
from delift_core.errors import ConfigError
from delift_core.inputs import SIDES
from delift_core.preflight import checked
from delift_core.runs import Run, Workspace, files
from delift_core.runs.jobs import working
from delift_core.runs.run import Part
from delift_core.scoring.rows import Rows
from delift_core.types import Progress, Utility, both, no_progress


def utilities(ws: Workspace, config: RunConfig, *, progress: Progress = no_progress) -> dict[str, NDArray[Any]]:
    """In-context utility of the configuration's pool, or of its target by its pool, in both readings.

    Returns:
        l2, pmi: (R, C) float32, U_ij of helped row i and candidate j; NaN where a pair was not scored.  Of a pair plan
            instead (P,), the scored pairs alone, with `rows` and `columns` (P,) saying which.
        helped (R,), candidates (C,): row indices of the datasets.
        baseline_l2, baseline_pmi: (R,) distance d and log-likelihood l without an example.
        helped_ids (R,), candidate_ids (C,): the rows' ids.

    Blocks that are in the workspace already are not computed again.
    """
    inputs = checked(ws, config)
    if not inputs.in_context or len(inputs.pairs) != 1:
        raise ConfigError(f"Method {config.method} does not score one set of pairs. Take delift, or delift-task.")
    found = evidence.gather(inputs, np.zeros(len(inputs.rows("pool")), np.int64), ws.blocks, progress)
    ((part, kinds),) = found.raw.items()
    l2, pmi = kinds["l2"], kinds["pmi"]
    assert l2.baseline is not None
    assert pmi.baseline is not None
    helped = inputs.datasets[SIDES[part][0]]
    return {
        **_values(l2, pmi),
        "helped": l2.helped, "candidates": l2.candidates, "baseline_l2": l2.baseline, "baseline_pmi": pmi.baseline,
        "helped_ids": np.array([helped.ids[i] for i in l2.helped]),
        "candidate_ids": np.array([inputs.pool.ids[i] for i in l2.candidates]),
    }  # fmt: skip


def _values(l2: Utility, pmi: Utility) -> dict[str, NDArray[Any]]:
    if isinstance(l2.values, np.ndarray) or isinstance(pmi.values, np.ndarray):
        return {"l2": np.asarray(l2.values), "pmi": np.asarray(pmi.values)}
    rows, columns = l2.values.tocoo().coords  # both hold the same pairs in the same order
    return {"l2": l2.values.data, "pmi": pmi.values.data, "rows": rows, "columns": columns}


def row_scores(
    ws: Workspace, config: RunConfig, name: str, options: Mapping[str, Any], *, progress: Progress = no_progress
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """A row score (loss, ifd, longest, dsir, ...) of the configuration's pool, and what a reader must know.

    Returns the arrays `scores` (n,), NaN where the score refuses a row; `candidates` (n,) row indices; `ids` (n,); and
    `higher_is_better`.  Raises ConfigError for an unknown name or option.
    """
    own = {f.name for f in dataclasses.fields(registry.resolve(registry.ROW_SCORES, "row score", name))}
    shared = {"template": config.template, **config.options}  # what the run's settings say already
    given = {**{k: v for k, v in shared.items() if k in own}, **options}
    scorer = registry.build(registry.ROW_SCORES, "row score", name, given)
    if scorer.needs_target and config.target is None:
        raise ConfigError(f"The row score {name} needs target rows. Give --target FILE.")
    inputs = checked(ws, config)
    reader = evidence.reader_of(scorer, config)
    target = None if inputs.target is None else evidence.rows_of(inputs, "target")
    found = scorer.score(
        evidence.rows_of(inputs, "pool"), reader, target=target, store=ws.blocks, seed=config.seed, progress=progress
    )
    ids = np.array([inputs.pool.ids[i] for i in found.candidates])
    arrays = {
        "scores": found.values, "candidates": found.candidates, "ids": ids,
        "higher_is_better": np.array(found.higher_is_better),
    }  # fmt: skip
    return arrays, found.notes


def multishot(
    ws: Workspace, run_id: str, *, shots: Sequence[int] = (2, 4, 8), rows: int = 50, progress: Progress = no_progress
) -> dict[str, Any]:
    """Show the best helpers of a row together, and compare with what pairs say; for a finished in-context run.

    At most `rows` helped rows are drawn with the run's seed.  The result, `MultiShotUtility.to_json()`, also goes to
    `multishot.json` in the run's folder.  Raises ConfigError where the run scored no pairs with a language model.
    """
    from delift_core.scoring.multishot import MultiShot

    done = Run.open(ws, run_id)
    inputs = checked(ws, done.config)
    part: Part | None = next((p for p in ("pool", "target") if (p, done.config.kind) in done.utilities), None)
    if part is None or not inputs.in_context:
        raise ConfigError(
            f"Run {run_id} ({done.config.method}) scored no pairs with a language model. Take a run of delift, "
            "delift-task or delift-continual."
        )
    template = "chat" if done.config.template == "chat" else "delift"
    if template != done.config.template:
        raise ConfigError("Only the templates delift and chat can show several examples. Score a run with one of them.")
    check = MultiShot(template=template, shots=tuple(sorted(set(shots))), rows=rows)
    with working(ws, run_id, "multishot") as recorded:
        found = check.measure(
            Rows.of(inputs.pool, done.picked), evidence.rows_of(inputs, part), done.utility(part),
            causal_model(done.config.model), store=ws.blocks, seed=done.config.seed, progress=both(recorded, progress),
        )  # fmt: skip
        record = {"part": part, **found.to_json()}
        files.write_json(done.folder / "multishot.json", record)
    return record


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as one .npz file, whole or not at all; numpy reads it without pickle."""
    if path.suffix != ".npz":
        raise ConfigError(f"{path}: arrays are written as .npz. Give a name with that ending.")
    with files.atomic(path) as out, zipfile.ZipFile(out, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(
                    member, np.ascontiguousarray(array) if array.ndim else array, allow_pickle=False
                )
