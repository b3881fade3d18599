"""Problems with a known answer, planted in real rows: which methods find what was hidden, and which do not?

    python -m benchmarks.planted [--rows 500] [--only copies,target,...] [--json]

copies      30 % of the pool are copies of other rows, half of them exact, half with a final mark, the case or one word
            changed: how many of the picks repeat an earlier pick, at three budgets, and how many come before the first
target      ten tasks in equal numbers and a target of one of them (other rows): share of the picks from its task, over
            all ten as the target, at two budgets; the larger one is as large as the task, so 100 % is all of its rows
tiny        the same with six rows of each of six tasks, scored in context by the built-in language model
continual   existing rows of five of the ten tasks: share of the picks from the other five, over six draws of the five
noise       30 % of the rows of six tasks have a response of another task: their share of the picks, over three draws
tiny-noise  the same with six rows of each task, scored in context by the built-in language model, over six draws

The ten tasks of natural_instructions are the largest of each category, with rows that the encoder reads whole; the six
are those that the built-in model was not trained on.  `random` is a mean of 20 seeds.  Goals: no repeats while there is
something new; 80 % from the target's task; more than half from what is new; less noise than random.
About seven minutes on one core the first time; vectors and passes are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks._planting import RANDOM, Bench, Pick, Tasks, drawn, edited, spoilt
from delift_core.runs.blocks import DiskStore

ROOT = Path(__file__).parents[1]
SHARE = 0.3  # of the pool that are copies, or noise
NOISY = 250  # rows of a pool with noise, at most
TINY_ROWS = 36  # of a pool whose pairs are scored in context, at most

Table = dict[str, dict[str, float]]  # method -> figure -> value

COPIES = [Pick("delift-se"), Pick("delift-se", {"once": 0.95}), Pick("kcenter"), Pick("graph-cut")]
TARGET = [
    Pick("delift-se-task"), Pick("got-d"), Pick("got-d-diverse"), Pick("uot"), Pick("tsds"), Pick("knn-uniform"),
    Pick("rds"), Pick("dsir"), Pick("embedding+round-robin"), Pick("embedding+fl1mi"),
    Pick("embedding+fl1mi", {"scale": "minmax", "eta": 1.1}),
]  # fmt: skip
TINY = [Pick("delift-task"), Pick("delift-task-capped"), Pick("delift-se-task"), Pick("embedding+fl1mi")]
CONTINUAL = [
    Pick("delift-se-continual"), Pick("delift-se-continual", {"nu": 1.3}), Pick("got-d-contrast"), Pick("delift-se"),
]  # fmt: skip
NOISE = [
    Pick("rds"), Pick("loss", {"prefer": "low"}), Pick("loss", {"prefer": "high"}), Pick("ica"), Pick("ifd"),
    Pick("qdit"), Pick("delift-se"), Pick("delift-se-task"),
]  # fmt: skip
TINY_NOISE = [Pick("delift"), Pick("delift", {"kind": "pmi"}), Pick("delift-task"), Pick("delift-se")]


def copies(bench: Bench, rows: int, picks: Sequence[Pick] = COPIES) -> Table:
    """Redundant picks."""
    rng = np.random.default_rng(0)
    records = bench.read("dolly_15k_en")
    firsts = round((1 - SHARE) * rows)
    pool = [{**records[r], "first": f"row {i}"} for i, r in enumerate(rng.permutation(len(records))[:firsts])]
    for i in range(rows - firsts):
        source = pool[int(rng.integers(firsts))]
        pool.append(edited(source, ("mark", "case", "word")[i // 2 % 3], rng) if i % 2 else source)
    dataset = bench.dataset([pool[i] for i in rng.permutation(rows)])
    first = dataset.group("first")
    table: Table = {}
    for pick in [*picks, RANDOM]:
        figures: Counter[str] = Counter()
        orders = list(bench.orders(pick, "100%", dataset))
        for order in orders:
            taken = [first[row] for row in order]
            repeats = np.cumsum([row in taken[:at] for at, row in enumerate(taken)])
            for percent in (10, 20, 30):
                figures[f"repeats at {percent}%"] += repeats[round(percent * rows / 100) - 1] / len(orders)
            figures[f"picks before one, of {firsts}"] += (repeats == 0).sum() / len(orders)
        table[pick.name] = {name: float(value) for name, value in figures.items()}
    return table


def target(
    bench: Bench,
    rows: int,
    picks: Sequence[Pick] = TARGET,
    tasks: Tasks | None = None,
    parts: Sequence[float] = (0.5, 1.0),
) -> Table:
    """Share of the picks from the target's task; `parts` are budgets as shares of the task."""
    tasks = tasks or bench.tasks()
    each = rows // len(tasks)
    records, others = drawn(tasks, each, max(6, each // 2), 0)
    pool, helpers = bench.dataset(records), {task: bench.dataset(found) for task, found in others.items()}
    own = {task: [found == task for found in pool.group("task")] for task in tasks}
    table: Table = {}
    for pick in [*picks, RANDOM]:
        table[pick.name] = {}
        for part in parts:
            budget = str(round(part * each))
            found = [bench.share(pick, budget, pool, own[task], target=goal) for task, goal in helpers.items()]
            table[pick.name] |= _summary(found, f"{part / len(tasks):.0%}")
    return table


def tiny(bench: Bench, rows: int, picks: Sequence[Pick] = TINY) -> Table:
    """`target` with pairs scored in context."""
    return target(bench, min(rows, TINY_ROWS), picks, bench.held_out(), (1.0,))


def continual(
    bench: Bench, rows: int, picks: Sequence[Pick] = CONTINUAL, tasks: Tasks | None = None, draws: int = 6
) -> Table:
    """Share of the picks from tasks that the existing data lacks."""
    tasks = tasks or bench.tasks()
    each = rows // len(tasks)
    records, others = drawn(tasks, each, max(6, each // 2), 0)
    pool, rng = bench.dataset(records), np.random.default_rng(0)
    halves = [sorted(rng.permutation(list(tasks))[: len(tasks) // 2].tolist()) for _ in range(draws)]
    known = [bench.dataset([record for task in half for record in others[task]]) for half in halves]
    new = [[task not in half for task in pool.group("task")] for half in halves]
    table: Table = {}
    for pick in [*picks, RANDOM]:
        table[pick.name] = {}
        for budget in ("10%", "30%"):
            found = [
                bench.share(pick, budget, pool, wanted, existing=existing)
                for wanted, existing in zip(new, known, strict=True)
            ]
            table[pick.name] |= _summary(found, budget)
    return table


def noise(bench: Bench, rows: int, picks: Sequence[Pick] = NOISE, draws: int = 3) -> Table:
    """Share of rows with a wrong response among the picks; the target, where there is one, is of right rows."""
    tasks = bench.held_out()
    each = min(rows, NOISY) // len(tasks)
    found: dict[str, list[float]] = {pick.name: [] for pick in [*picks, RANDOM]}
    for seed in range(draws):
        records, others = drawn(tasks, each, 6 + each, seed)
        strangers = [record for part in others.values() for record in part[6:]]
        spoiled, wrong = spoilt(records, strangers, SHARE, seed)
        pool, bad = bench.dataset(spoiled), [at in wrong for at in range(len(spoiled))]
        right = bench.dataset([record for part in others.values() for record in part[:6]])
        for pick in [*picks, RANDOM]:
            found[pick.name].append(bench.share(pick, "30%", pool, bad, target=right))
    return {name: {"mean at 30%": float(np.mean(part)), "most at 30%": max(part)} for name, part in found.items()}


def tiny_noise(bench: Bench, rows: int, picks: Sequence[Pick] = TINY_NOISE) -> Table:
    """`noise` with pairs scored in context."""
    return noise(bench, min(rows, TINY_ROWS), picks, 6)


def _summary(found: Sequence[float], budget: str) -> dict[str, float]:
    return {f"mean at {budget}": float(np.mean(found)), f"least at {budget}": min(found)}


PROBLEMS: dict[str, Callable[[Bench, int], Table]] = {
    "copies": copies, "target": target, "tiny": tiny, "continual": continual, "noise": noise, "tiny-noise": tiny_noise,
}  # fmt: skip


def show(name: str, table: Table) -> None:
    width = max(map(len, [name, *table]))
    columns = list(next(iter(table.values())))
    print(f"{name:<{width}}  " + "  ".join(columns))
    for method, figures in table.items():
        cells = (f"{figures[c]:{len(c)}.1f}" if name == "copies" else f"{figures[c]:{len(c)}.1%}" for c in columns)
        print(f"{method:<{width}}  " + "  ".join(cells))
    print(flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("DELIFT_SHARED", ROOT.parent / "shared")) / "data"
    parser.add_argument("--data", type=Path, default=shared)
    parser.add_argument("--rows", type=int, default=500, help="of a pool, 20 or more")
    parser.add_argument("--only", default=",".join(PROBLEMS), help="problems, with commas")
    parser.add_argument("--work", type=Path, default=Path("workspace") / "planted", help="pools, vectors and passes")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(argv)
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(PROBLEMS):
        parser.error(f"no problem {', '.join(sorted(unknown))}; there are {', '.join(PROBLEMS)}")
    if options.rows < 20:
        parser.error("--rows wants 20 or more")
    bench = Bench(options.data, options.work, DiskStore(options.work / "blocks"))
    found: dict[str, Table] = {}
    for name in chosen:
        found[name] = PROBLEMS[name](bench, options.rows)
        if not options.json:
            show(name, found[name])
    if options.json:
        print(json.dumps({"rows": options.rows, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
