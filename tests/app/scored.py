"""A finished run with utilities and a map that needed no model: rows of like number help each other."""

from __future__ import annotations

import numpy as np

from delift_core.config import RunConfig
from delift_core.runs import manifest
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset, Selection, Utility

K = 8


def store(ws: Workspace, pool: Dataset, *, drawn: bool = True, nested: bool = True, method: str = "delift") -> Run:
    """Write the run; candidate 0 hurts every row, the diagonal is not scored, the map is a square grid."""
    rows = pool.unique
    n = len(rows)
    place = np.arange(n)
    values = (0.3 - 0.02 * np.abs(place[:, None] - place[None, :])).astype(np.float32)
    values[:, 0] = -0.1
    np.fill_diagonal(values, np.nan)
    gains = np.linspace(1, 0.05, n)
    order, value = rows[::-1].astype(np.int64), np.cumsum(gains)
    selection = Selection(order, gains, value, float(gains.sum()), nested, ("A *note*.",))
    config = RunConfig(pool=pool.fingerprint, method=method, budget=str(K))
    baseline = np.full(n, 0.5, np.float32)
    stored = [
        Utility(values, rows, rows, "l2", baseline),
        Utility(2 * values, rows, rows, "pmi", -4 * baseline),
    ]
    record = manifest.build(config, selection, K, ids=pool.ids, inputs=[], timings={"scoring": 1.0})
    run = Run.write(
        ws, config, selection, K, ids=pool.ids, manifest=record, tokens=np.full(len(pool), 10),
        utilities={"pool": stored} if method == "delift" else {},
    )  # fmt: skip
    if drawn:
        run.write_map({"pool": np.stack(np.divmod(np.arange(len(pool)), 7), axis=1).astype(np.float32)})
    ws.catalogue.update_run(run.id, state="done")
    return run
