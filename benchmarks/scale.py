"""A million rows: how long the large searches take, and how much memory.

python -m benchmarks.scale [--columns 1000000] [--json]

Each measurement runs in a process of its own, so that its peak of resident memory is its own; making the data is not
timed, but counted in the peak, as a real run holds the data too.

fl_seconds, fl_peak_mb  facility location over sparse utilities, 32 entries in each column, k = 30 %
ot_seconds, ot_peak_mb  GOT-D over 384 dimensions with 2,000 targets, as `python -m benchmarks.transport --million`
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

ENTRIES = 32
SHARE = 0.3
Report = dict[str, float]


def facility_location(columns: int) -> Report:
    """As many rows as columns; each column helps 32 random rows by random amounts."""
    from scipy import sparse

    from delift_core.selection.facility import CoverProblem, solve
    from delift_core.types import Limit

    rng = np.random.default_rng(0)
    rows = rng.integers(0, columns, columns * ENTRIES, np.int32)
    starts = np.arange(0, columns * ENTRIES + 1, ENTRIES, dtype=np.int32)
    values = rng.random(columns * ENTRIES, np.float32)
    matrix = sparse.csc_array((values, rows, starts), (columns, columns))
    warm = sparse.csc_array((values[:320], rows[:320] % 10, starts[:11]), (10, 10))
    solve(CoverProblem(warm), Limit(3))  # compile, or load from the cache: once per machine, not timed
    begin = time.perf_counter()
    cover = solve(CoverProblem(matrix), Limit(int(SHARE * columns)))
    taken = time.perf_counter() - begin
    return {"fl_columns": columns, "fl_picks": len(cover.picks), "fl_seconds": taken, "fl_peak_mb": peak_mb()}


def optimal_transport(rows: int) -> Report:
    """GOT-D of so many rows; the peak is that of a process of its own once more."""
    from benchmarks.transport import TARGETS, million

    found = million(rows, TARGETS)
    return {"ot_rows": rows, "ot_seconds": found["ot_seconds"], "ot_peak_mb": found["ot_peak_mb"]}


MEASUREMENTS: tuple[Callable[[int], Report], ...] = (facility_location, optimal_transport)


def peak_mb() -> float:
    """The most memory that this process has held, in megabytes of 10^6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def alone(measurement: Callable[[int], Report], columns: int) -> Report:
    """Run a measurement in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measurement, columns).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    report: Report = {}
    for measurement in MEASUREMENTS:
        report |= alone(measurement, given.columns)
    if given.json:
        print(json.dumps(report))
        return
    for key, value in report.items():
        print(f"{key:20} {value:.6g}")


if __name__ == "__main__":
    main()
