"""Does the in-context utility mean something?  12 unseen tasks of 8 real rows each, every row an example for every row.

    python -m benchmarks.meaning [--model builtin] [--json]

A row of the same task should help more than a row of another one, and the row itself, copied, most of all.  The tasks
are those that the built-in model was not trained on.  Everything is scored as a run does it (template `delift`, its
own limits), in PMI: nats per response token.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delift_core.models.causal import BUILTIN, load_causal
from delift_core.scoring.icl import InContext
from delift_core.scoring.rows import Rows
from delift_core.types import Floats, Indices, MemoryStore

ROOT = Path(__file__).parents[1]
DRAWS = 2000  # bootstrap resamples of the rows

Record = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """One task: where its rows are, which of them, and how a record reads as prompt and response."""

    name: str
    file: str
    read: Callable[[Record], tuple[str, str]]
    keep: Callable[[Record], bool] = lambda record: True


def _instance(record: Record) -> tuple[str, str]:
    return f"{record['Definition'][0]}\n\n{record['input']}", record["output"][0]


def _alpaca(record: Record) -> tuple[str, str]:
    return record["instruction"], record["output"]


def groups() -> list[Group]:
    """The six held-out tasks of natural_instructions, and six other sources."""
    held_out = json.loads((BUILTIN / "held_out.json").read_text(encoding="utf-8"))
    return [
        *(
            Group(task, "natural_instructions", _instance, lambda r, task=task: r["Task"].removesuffix(".json") == task)
            for task in held_out
        ),
        Group("gsm8k_test", "gsm8k_test", lambda r: (r["question"], r["answer"])),
        Group("svamp", "svamp", lambda r: (f"{r['Body']} {r['Question']}", str(r["Answer"]))),
        Group("boolq", "llm_adapters_boolq_train", _alpaca),
        Group("openbookqa", "llm_adapters_openbookqa_train", _alpaca),
        Group("arc_easy", "llm_adapters_arc_easy_train", _alpaca),
        Group("mgsm_es", "mgsm", lambda r: (r["question"], r["answer_number"]), lambda r: r["lang"] == "es"),
    ]


def draw(data: Path, each: int, seed: int) -> tuple[Rows, Indices]:
    """`each` distinct rows of every group, seeded, and the group number of each row (n,)."""
    prompts: list[str] = []
    responses: list[str] = []
    owner: list[int] = []
    for number, group in enumerate(groups()):
        with (data / f"{group.file}.jsonl").open(encoding="utf-8") as lines:
            pairs = [group.read(record) for record in map(json.loads, lines) if group.keep(record)]
        distinct = sorted({(prompt.strip(), response.strip()) for prompt, response in pairs})
        for prompt, response in random.Random(seed).sample(distinct, each):
            prompts.append(prompt)
            responses.append(response)
            owner.append(number)
    return Rows(prompts, responses, np.arange(len(owner))), np.array(owner)


@dataclass(frozen=True, eq=False)
class PerRow:
    """What one matrix says of each row, (n,) each."""

    auc: Floats
    same: Floats
    other: Floats
    copy: Floats

    @classmethod
    def of(cls, values: Floats, owner: Indices) -> PerRow:
        """Read a matrix (n, n) whose diagonal is a row's own copy as its example."""
        found = []
        for i, helps in enumerate(values):
            others = np.arange(len(values)) != i
            same, other = helps[others & (owner == owner[i])], helps[owner != owner[i]]
            wins = (same[:, None] > other).mean() + 0.5 * (same[:, None] == other).mean()
            found.append((wins, same.mean(), other.mean(), (helps[others] > helps[i]).sum() < 3))
        return cls(*np.array(found, np.float64).T)

    def summary(self, seed: int) -> dict[str, Any]:
        """Means over rows, with 95 % bootstrap intervals over rows."""
        rng = np.random.default_rng(seed)
        draws = rng.integers(0, len(self.auc), (DRAWS, len(self.auc)))
        means = {name: float(values.mean()) for name, values in vars(self).items()}
        spread = {
            name: [float(q) for q in np.quantile(values[draws].mean(1), [0.025, 0.975])]
            for name, values in vars(self).items()
        }
        return {**means, "intervals": spread}


def measure(model_name: str, data: Path, *, each: int = 8, seed: int = 0) -> dict[str, Any]:
    """All figures of the benchmark for one model."""
    rows, owner = draw(data, each, seed)
    model = load_causal(model_name)
    started = time.perf_counter()
    scored = InContext().score(rows, rows, model, same=False, store=MemoryStore(), progress=_note)
    seconds = time.perf_counter() - started
    assert scored.pmi.baseline is not None
    per_row, by_distance = PerRow.of(scored.pmi.values, owner), PerRow.of(scored.l2.values, owner)
    losses = -scored.pmi.baseline
    draws = np.random.default_rng(seed).integers(0, len(losses), (DRAWS, len(losses)))
    result = per_row.summary(seed)
    result["loss"] = float(losses.mean())
    result["intervals"]["loss"] = [float(q) for q in np.quantile(losses[draws].mean(1), [0.025, 0.975])]
    return {
        **result,
        "apart": result["intervals"]["same"][0] > result["intervals"]["other"][1],
        "copy_pmi": float(np.diag(scored.pmi.values).mean()),
        "negative": float((scored.pmi.values < 0).mean()),
        "auc_l2": float(by_distance.auc.mean()),
        "auc_by_group": {g.name: float(per_row.auc[owner == k].mean()) for k, g in enumerate(groups())},
        "loss_by_group": {g.name: float(losses[owner == k].mean()) for k, g in enumerate(groups())},
        "model": vars(model.identity),
        "rows": len(rows),
        "seconds": seconds,
    }


def _note(stage: str, done: float, total: float, note: str = "") -> None:
    if sys.stderr.isatty():
        print(f"\r{stage} {done:.0f} of {total:.0f} pairs {note}".ljust(60), end="", file=sys.stderr, flush=True)
        if done >= total:
            print(file=sys.stderr)


def main() -> None:
    """Print the table, or with --json one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin", help="builtin, a folder or a hub id")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("DELIFT_SHARED", ROOT.parent / "shared")) / "data"
    )
    parser.add_argument("--rows", type=int, default=8, help="rows of each task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.model, options.data, each=options.rows, seed=options.seed)
    if options.json:
        print(json.dumps(result))
        return
    for name in ("auc", "same", "other", "copy", "loss"):
        low, high = result["intervals"][name]
        print(f"{name:<8}{result[name]:>9.4f}   [{low:.4f}, {high:.4f}]")
    print(f"PMI of a row's own copy: {result['copy_pmi']:.3f} nats per token.  Below 0: {result['negative']:.0%}.")
    for name, auc in result["auc_by_group"].items():
        print(f"  {name[:52]:<54}auc {auc:.3f}   loss {result['loss_by_group'][name]:.2f}")
    print(f"{result['rows']} rows, {result['seconds']:.0f} s on {result['model']['device']}, {result['model']['name']}")


if __name__ == "__main__":
    main()
