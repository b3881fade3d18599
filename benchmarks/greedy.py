"""The facility-location solver beside submodlib and apricot; its sister functions and its constraints beside itself.

python -m benchmarks.greedy [--rows 6000] [--repeats 5] [--json]

All figures are medians of repeats that are taken in turns, so that a busy moment does not fall on one side only:

dense_vs_submodlib  seconds of submodlib's LazyGreedy over ours, same matrix, k = 30 %; as each holds it
                    (a run's evidence lies column by column, submodlib's is copied into C++ before the clock starts)
turned_vs_submodlib the same, ours given a matrix that lies row by row; value_diff: relative, of f
dense_vs_apricot    seconds of apricot's lazy greedy over ours; apricot is no requirement of the project: install it
                    aside with `pip install --no-deps --target DIR apricot-select`, and put DIR into PYTHONPATH
family_ratio        the slowest of FLCG, FL1MI and FL2MI over FL, all of them over the rows of the pool
constraint_ratio    the slowest of a token budget, quotas, and all rules at once over FL for as large a share
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from statistics import median

import numpy as np

from delift_core.quota import Quota
from delift_core.selection.facility import CoverProblem, solve
from delift_core.selection.objectives import (
    ConditionalGain,
    FacilityLocation,
    MutualInformation,
    SaturatingMutualInformation,
)
from delift_core.types import Evidence, Floats, Indices, Limit, Rules, Utility

SHARE = 0.3
GROUPS = 20
Report = dict[str, float | str]


def evidence(rows: int) -> Evidence:
    """(1 + cos) / 2 of seeded Gaussian vectors in 64 dimensions: no clusters, so lazy bounds help little.

    Target and existing data have a tenth as many rows as the pool.  Rows have 150 tokens at the median, most of them
    between 40 and 600.
    """
    rng, tenth = np.random.default_rng(0), max(1, rows // 10)
    x = rng.standard_normal((rows + 2 * tenth, 64)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    pool, target, existing = np.split(x, [rows, rows + tenth])

    def cosine(a: Floats, b: Floats) -> Utility:
        return Utility(np.asfortranarray((a @ b.T + 1) / 2), np.arange(len(a)), np.arange(len(b)), "cosine")

    tokens = rng.lognormal(5, 0.7, rows).astype(np.int64) + 1
    return Evidence(np.arange(rows), tokens, cosine(pool, pool), cosine(target, pool), cosine(pool, existing))


def seconds(tries: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each try; the tries take turns."""
    taken: dict[str, list[float]] = {name: [] for name in tries}
    for _ in range(repeats):
        for name, attempt in tries.items():
            begin = time.perf_counter()
            attempt()
            taken[name].append(time.perf_counter() - begin)
    return {name: median(times) for name, times in taken.items()}


def against_submodlib(values: Floats, k: int, repeats: int) -> Report:
    try:
        from submodlib import FacilityLocationFunction
    except ImportError:
        return {"submodlib": "submodlib-py has no wheel for this platform: nothing to compare with"}
    ours: list[Indices] = []
    theirs: list[Indices] = []
    by_rows = np.ascontiguousarray(values)
    function = FacilityLocationFunction(n=len(values), mode="dense", sijs=by_rows, separate_rep=False)

    def search() -> None:
        picks = function.maximize(budget=k, optimizer="LazyGreedy", show_progress=False)
        theirs.append(np.array([j for j, _ in picks]))

    took = seconds(
        {
            "ours": lambda: ours.append(solve(CoverProblem(values), Limit(k)).picks),
            "turned": lambda: solve(CoverProblem(by_rows), Limit(k)),
            "theirs": search,
        },
        repeats,
    )  # fmt: skip
    value, other = (float(values[:, p[-1]].max(axis=1).astype(np.float64).sum()) for p in (ours, theirs))
    return {
        "submodlib": version("submodlib-py"),
        "submodlib_seconds": took["theirs"],
        "dense_vs_submodlib": took["theirs"] / took["ours"],
        "turned_vs_submodlib": took["theirs"] / took["turned"],
        "value_diff": abs(value - other) / other,
    }


def against_apricot(values: Floats, k: int, repeats: int) -> Report:
    try:
        from apricot import FacilityLocationSelection
    except ImportError as error:
        return {"apricot": f"not to be imported here ({error}): nothing to compare with"}

    def search(of: Floats, count: int) -> None:
        FacilityLocationSelection(count, metric="precomputed", optimizer="lazy", verbose=False).fit(of)

    wide = np.ascontiguousarray(values, np.float64)  # what it works on: not timed
    search(wide[:50, :50].copy(), 5)  # compile
    took = seconds({"ours": lambda: solve(CoverProblem(values), Limit(k)), "theirs": lambda: search(wide, k)}, repeats)
    return {
        "apricot": version("apricot-select"),
        "apricot_seconds": took["theirs"],
        "dense_vs_apricot": took["theirs"] / took["ours"],
    }


def family(given: Evidence, k: int, repeats: int) -> Report:
    """FLCG, FL1MI and FL2MI beside FL, from evidence to selection."""
    objectives = {
        "fl": FacilityLocation(),
        "flcg": ConditionalGain(),
        "fl1mi": SaturatingMutualInformation(),
        "fl2mi": MutualInformation(rows="pool"),
    }
    took = seconds({name: lambda o=o: o.select(given, Limit(k)) for name, o in objectives.items()}, repeats)
    sisters = {name: took[name] / took["fl"] for name in took if name != "fl"}
    return {f"{name}_seconds": s for name, s in took.items()} | {"family_ratio": max(sisters.values())}


def constraints(given: Evidence, k: int, repeats: int) -> Report:
    """A token budget, quotas and all rules at once beside a plain row budget."""
    n, rng = len(given), np.random.default_rng(2)
    names = [f"group {g}" for g in rng.integers(0, GROUPS, n)]
    quotas = {text: Quota.parse(f"group: {text}").resolve(names, k) for text in ("even", "*>=2%, *<=8%")}
    rules = {text: Rules(group=q.codes, at_least=q.at_least, at_most=q.at_most) for text, q in quotas.items()}
    limits = {
        "plain": Limit(k),
        "tokens": Limit(n, int(SHARE * given.tokens.sum())),
        "even": Limit(k, rules=rules["even"]),
        "bounds": Limit(k, rules=rules["*>=2%, *<=8%"]),
        "all": Limit(
            k,
            rules=Rules(
                np.arange(0, n, 100), np.arange(n) % 10 == 9, rng.integers(0, n, n), quotas["*>=2%, *<=8%"].codes,
                quotas["*>=2%, *<=8%"].at_least, quotas["*>=2%, *<=8%"].at_most,
            ),
        ),
    }  # fmt: skip
    objective = FacilityLocation()
    took = seconds({name: lambda x=x: objective.select(given, x) for name, x in limits.items()}, repeats)
    ratios = {name: took[name] / took["plain"] for name in took if name != "plain"}
    return {f"{name}_ratio": ratio for name, ratio in ratios.items()} | {"constraint_ratio": max(ratios.values())}


def measure(rows: int, repeats: int) -> Report:
    given, k = evidence(rows), int(SHARE * rows)
    small = evidence(200)
    family(small, 60, 1), constraints(small, 60, 1)  # compile, or load from the cache: once per machine, not timed
    assert given.pool is not None
    values = np.asarray(given.pool.values)
    report: Report = {"rows": rows, "k": k, "repeats": repeats, "numba": version("numba"), "numpy": version("numpy")}
    report |= family(given, k, repeats)
    report |= constraints(given, k, repeats)
    report |= against_apricot(values, k, repeats)
    return report | against_submodlib(values, k, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    report = measure(given.rows, given.repeats)
    if given.json:
        print(json.dumps(report))
        return
    for key, value in report.items():
        print(f"{key:20} {value:.6g}" if isinstance(value, float) else f"{key:20} {value}")


if __name__ == "__main__":
    main()
