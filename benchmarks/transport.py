"""GOT-D on a sample and extended, beside the full solve, beside POT; and one run over a million rows.

python -m benchmarks.transport [--rows 100000] [--targets 2000] [--peer-rows 20000] [--json]
python -m benchmarks.transport --million [--rows 1000000] [--json]

Data: unit vectors of 384 dimensions in 200 clusters whose sizes fall as 1 / rank; centres and spread have a spectrum
that falls as 1 / sqrt(dimension), as that of sentence embeddings roughly does.  The target has the rows of 20 clusters,
so mass has to move.  `vs_pot` is the time of POT's fastest correct Sinkhorn to the same marginal error over ours, both
from vectors to plan and distance: see `_peer_transport`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks import _peer_transport as peer
from delift_core.selection import sinkhorn
from delift_core.selection.transport import TransportGradient
from delift_core.types import Evidence, Floats

DIMENSIONS, CLUSTERS, WANTED = 384, 200, 20
STEP = 50_000  # rows drawn at a time, so that a million need little beside themselves
REPEATS = 3
TARGETS = 2_000


def vectors(count: int, seed: int, wanted: bool = False) -> Floats:
    """Unit vectors (count, 384) of all clusters, or of the wanted ones only; the clusters are always the same."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng([1, seed])
    spectrum = (1 / np.sqrt(1 + np.arange(DIMENSIONS, dtype=np.float32))).astype(np.float32)
    centres = fixed.standard_normal((CLUSTERS, DIMENSIONS), np.float32) * spectrum
    share = 1 / (1 + np.arange(CLUSTERS))
    chosen = fixed.permutation(CLUSTERS)[:WANTED] if wanted else np.arange(CLUSTERS)
    out = np.empty((count, DIMENSIONS), np.float32)
    for first in range(0, count, STEP):
        rows = min(STEP, count - first)
        own = rng.choice(chosen, rows, p=share[chosen] / share[chosen].sum())
        x = rng.standard_normal((rows, DIMENSIONS), np.float32)
        x *= 0.7 * spectrum
        x += centres[own]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        out[first : first + rows] = x
    return out


def problem(rows: int, targets: int) -> Evidence:
    return Evidence(
        np.arange(rows), np.ones(rows, np.int64), vectors=vectors(rows, 1), target_vectors=vectors(targets, 2, True)
    )


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median seconds, and what the last call gave."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds)), found


def warm_up() -> None:
    x = vectors(500, 3)
    sinkhorn.solve(x, x[:50], epsilon=0.1)


def sampled(rows: int, targets: int) -> dict[str, float | str]:
    """Sample and extension beside the full solve to the same tolerance."""
    evidence = problem(rows, targets)
    quick, (part, notes) = timed(lambda: TransportGradient().gradients(evidence), REPEATS)
    full, (whole, full_notes) = timed(lambda: TransportGradient(sample=max(100, rows)).gradients(evidence))
    k = max(1, rows // 20)
    top = np.intersect1d(np.argsort(part, kind="stable")[:k], np.argsort(whole, kind="stable")[:k])
    return {
        "rows": rows,
        "targets": targets,
        "device": sinkhorn.device(),
        "sample_seconds": quick,
        "full_seconds": full,
        "sample_speedup": full / quick,
        "spearman": float(spearmanr(part, whole)[0]),
        "top5": len(top) / k,
        "sample_note": notes[0],
        "full_note": full_notes[0],
    }


def beside_pot(rows: int, targets: int, tolerance: float = 1e-3) -> dict[str, Any]:
    """Our solve beside POT's, at the default epsilon and at a fifth of it."""
    x, y = vectors(rows, 1), vectors(targets, 2, True)
    found: dict[str, Any] = {"pot": peer.version(), "peer_rows": rows}
    for key, share in (("vs_pot", 0.05), ("vs_pot_sharp", 0.01)):
        epsilon = share * sinkhorn.mean_cost(x, y)
        seconds, plan = timed(lambda e=epsilon: sinkhorn.solve(x, y, epsilon=e, tolerance=tolerance), REPEATS)
        runs = peer.fastest(x, y, epsilon, tolerance, plan, REPEATS)
        correct = {name: run for name, run in runs.items() if run.correct}
        best = min(correct, key=lambda name: correct[name].seconds)
        found[key] = correct[best].seconds / seconds
        found[f"{key}_seconds"] = seconds
        found[f"{key}_iterations"] = plan.iterations
        found[f"{key}_peer"] = best
        found[f"{key}_peers"] = {name: run.told() for name, run in runs.items()}
    return found


def million(rows: int, targets: int) -> dict[str, Any]:
    """Seconds and peak memory (MB, vectors and imports included) of one run over `rows`, in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.transport", "--inside", "--rows", str(rows), "--targets", str(targets)
    ]  # fmt: skip
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def inside(rows: int, targets: int) -> dict[str, Any]:
    evidence = problem(rows, targets)
    warm_up()
    seconds, (_, notes) = timed(lambda: TransportGradient().gradients(evidence))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return {"ot_rows": rows, "ot_targets": targets, "ot_seconds": seconds, "ot_peak_mb": peak, "ot_note": notes[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="pool rows (default 100,000; with --million 1,000,000)")
    parser.add_argument("--targets", type=int, default=TARGETS)
    parser.add_argument("--peer-rows", type=int, default=20_000, help="pool rows beside POT; 0 leaves POT out")
    parser.add_argument("--million", action="store_true", help="seconds and peak memory of one large run, nothing else")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    if given.million or given.inside:
        report = (inside if given.inside else million)(given.rows or 1_000_000, given.targets)
    else:
        warm_up()
        report = sampled(given.rows or 100_000, given.targets)
        if given.peer_rows:
            report |= beside_pot(given.peer_rows, given.targets)
    if given.json or given.inside:
        print(json.dumps(report))
        return
    for key, value in report.items():
        print(f"{key:22} {value:.6g}" if isinstance(value, float) else f"{key:22} {value}")


if __name__ == "__main__":
    main()
