"""Picks by cosines of the nearest pairs against picks by all cosines, on real rows.

python -m benchmarks.nearest [--rows 8000] [--data FOLDER] [--json]

Facility location over sentence vectors (delift-se, encoder fast), for budgets of 1, 5 and 30 % of each pool.  Both
selections are judged by all cosines.

closed          of the way from a random subset (mean of five) to the picks by all cosines, the least of all pools
closed_plain    the same if pairs that are not compared counted as 0, the worst pair there is, instead of the mean
share           of the pairs that are compared
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from delift_core.data import load
from delift_core.encoded import sentence_encoder, vectors_of
from delift_core.registry import plan
from delift_core.scoring.near import score_near
from delift_core.selection.objectives import FacilityLocation
from delift_core.selection.scale import scaled
from delift_core.types import Evidence, Floats, Indices, Limit, MemoryStore, Utility

ROOT = Path(__file__).parents[1]
FILES = ("dolly_15k_en", "natural_instructions", "t0_p3_selected")
PLANS = ("knn:16", "knn:32", "knn:128")
BUDGETS = (0.01, 0.05, 0.3)


def vectors(path: Path, rows: int) -> Floats:
    """Unit vectors (n, d) of the first different rows of a file."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = load(path, Path(folder)).dataset
        return vectors_of(dataset, dataset.unique[:rows], sentence_encoder("fast", Path(folder)), MemoryStore())


def picks(utility: Utility, k: int) -> Indices:
    """The first k of the greedy order, as positions."""
    evidence = Evidence(utility.candidates, np.ones(utility.shape[1], np.int64), pool=scaled([utility])[0])
    return FacilityLocation().select(evidence, Limit(k), seed=0).order[:k]


def measure(path: Path, rows: int) -> list[dict[str, float | str]]:
    """One line for each plan and budget."""
    units = vectors(path, rows)
    n, every = len(units), units @ units.T
    all_rows = np.arange(n)
    dense = Utility(every, all_rows, all_rows, "cosine")
    centre = units.mean(axis=0)

    def worth(chosen: Indices) -> float:
        return float(every[:, chosen].max(axis=1).sum())

    found: list[dict[str, float | str]] = []
    for share in BUDGETS:
        k = int(share * n)
        draws = [np.random.default_rng(seed).choice(n, k, replace=False) for seed in range(5)]
        best, random = worth(picks(dense, k)), float(np.mean([worth(draw) for draw in draws]))
        for name in PLANS:
            near = score_near(
                units, units, all_rows, all_rows, plan(name), centre=centre, same=True, check_rows=1, seed=0,
                store=MemoryStore(),
            )  # fmt: skip
            at = near.used.values.tocoo()  # type: ignore[union-attr]
            plain = at.copy()
            plain.data = every[at.coords]
            as_cosines = Utility(plain.tocsc(), all_rows, all_rows, "cosine")
            closed, closed_plain = (
                (worth(picks(utility, k)) - random) / (best - random) for utility in (near.used, as_cosines)
            )
            found.append({
                "pool": path.stem, "rows": n, "plan": name, "budget": share, "share": near.pairs / n**2,
                "closed": closed, "closed_plain": closed_plain,
            })  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("DELIFT_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    lines = [line for name in FILES for line in measure(given.data / f"{name}.jsonl", given.rows)]
    least = {
        f"{key}.{name}": min(float(line[key]) for line in lines if line["plan"] == name)
        for name in PLANS
        for key in ("closed", "closed_plain")
    }
    if given.json:
        print(json.dumps({"lines": lines, **least}))
        return
    print(f"{'pool':22} {'plan':8} {'budget':>6} {'pairs':>7} {'closed':>7} {'plain':>7}")
    for line in lines:
        print(
            f"{line['pool']:22} {line['plan']:8} {line['budget']:6.0%} {line['share']:7.2%} {line['closed']:7.1%} "
            f"{line['closed_plain']:7.1%}"
        )
    for key, value in least.items():
        print(f"{key:24} {value:.3f}")


if __name__ == "__main__":
    main()
