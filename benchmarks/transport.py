"""GOT-D on a sample and extended, beside the full solve to the same tolerance: how much faster, how much alike.

python -m benchmarks.transport [--rows 100000] [--targets 2000] [--json]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from scipy.stats import spearmanr

from delift_core.selection import sinkhorn
from delift_core.selection.transport import TransportGradient
from delift_core.types import Evidence, Floats

DIMENSIONS = 384


def vectors(count: int, seed: int) -> Floats:
    """Unit vectors around 50 centres that each seed draws anew, so that pool and target differ."""
    rng = np.random.default_rng(seed)
    centres = 0.6 * rng.standard_normal((50, DIMENSIONS), np.float32)
    x = centres[rng.integers(0, 50, count)] + 0.5 * rng.standard_normal((count, DIMENSIONS), np.float32)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def measure(rows: int, targets: int) -> dict[str, float | str]:
    pool = vectors(rows, 1)
    evidence = Evidence(np.arange(rows), np.ones(rows, np.int64), vectors=pool, target_vectors=vectors(targets, 2))
    sinkhorn.solve(pool[:100], pool[:50], epsilon=0.1)  # imports and warm-up, not timed
    begin = time.perf_counter()
    part, notes = TransportGradient().gradients(evidence)
    sampled = time.perf_counter() - begin
    begin = time.perf_counter()
    whole, full_notes = TransportGradient(sample=max(100, rows)).gradients(evidence)
    full = time.perf_counter() - begin
    k = max(1, rows // 20)
    top = np.intersect1d(np.argsort(part, kind="stable")[:k], np.argsort(whole, kind="stable")[:k])
    return {
        "rows": rows,
        "targets": targets,
        "device": sinkhorn.device(),
        "sample_seconds": sampled,
        "full_seconds": full,
        "sample_speedup": full / sampled,
        "spearman": float(spearmanr(part, whole)[0]),
        "top5": len(top) / k,
        "sample_note": notes[0],
        "full_note": full_notes[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--targets", type=int, default=2_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    report = measure(given.rows, given.targets)
    if given.json:
        print(json.dumps(report))
        return
    for key, value in report.items():
        print(f"{key:16} {value:.6g}" if isinstance(value, float) else f"{key:16} {value}")


if __name__ == "__main__":
    main()
