"""How much faster is exact scoring than the plain loop, and does it give the same numbers?

    python -m benchmarks.scoring [--quick] [--threads 2] [--json]

The plain loop is the authors' transformers path: per candidate, batches of 32 full sequences in the order of the data,
padded, softmax over the vocabulary.  It gets the same tokens.  `ratio_sorted` is the same loop over rows sorted by
length, which pads less: what is left of the ratio then is due to the engine alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from delift_core.errors import ModelError
from delift_core.models.causal import CausalModel, load_causal
from delift_core.scoring.icl import InContext
from delift_core.scoring.job import Job
from delift_core.scoring.rows import Rows
from delift_core.types import Floats, Identity, MemoryStore

ROOT = Path(__file__).parents[1]
BATCH = 32
M135 = {
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip


def real_rows(data: Path, helped: int, candidates: int, seed: int = 0) -> tuple[Rows, Rows]:
    """Distinct rows of natural_instructions, from all its tasks, seeded."""
    found: dict[tuple[str, str], None] = {}
    with (data / "natural_instructions.jsonl").open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            found[f"{record['Definition'][0]}\n\n{record['input']}", record["output"][0]] = None
    rows = list(found)
    chosen = np.random.default_rng(seed).permutation(len(rows))[: helped + candidates]

    def part(at: Any) -> Rows:
        return Rows([rows[i][0] for i in at], [rows[i][1] for i in at], np.asarray(at, np.int64))

    return part(chosen[:helped]), part(chosen[helped:])


def plain_loop(job: Job, by_length: bool = False) -> Floats:
    """U as the authors' loop computes it, (R, C); rows in the order of the data, or by length."""
    model = job.model.model
    suffixes = job.layout.after
    order = list(range(len(suffixes)))
    if by_length:
        order.sort(key=lambda i: len(suffixes[i]))
    examples = job.template.examples(job.candidates.prompts, job.candidates.responses)
    alone = _distances(model, [s.tokens for s in job.layout.alone], [s.labels for s in job.layout.alone], order)
    columns = []
    for example in examples:
        sequences = [example.cut(int(a)) + s.tokens for a, s in zip(job.layout.allowance, suffixes, strict=True)]
        columns.append(alone - _distances(model, sequences, [s.labels for s in suffixes], order))
    return np.stack(columns, 1)


def _distances(model: Any, sequences: list[Any], labels: list[Any], order: list[int]) -> Floats:
    d = np.empty(len(sequences), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            length = max(len(sequences[i]) for i in rows)
            ids = torch.tensor([[*sequences[i], *[0] * (length - len(sequences[i]))] for i in rows])
            mask = torch.tensor([[1] * len(sequences[i]) + [0] * (length - len(sequences[i])) for i in rows])
            p = torch.softmax(model(input_ids=ids, attention_mask=mask).logits.float(), -1)
            for at, i in enumerate(rows):
                end = len(sequences[i])
                true = p[at, end - len(labels[i]) : end].gather(-1, torch.tensor(labels[i])[:, None])[:, 0]
                d[i] = float((1 - true).square().mean().sqrt())
    return d


class Peak:
    """The most memory that this process holds while the body runs, beyond what it held before, in MB."""

    def __enter__(self) -> Peak:
        self.process, self.ended = psutil.Process(), threading.Event()
        self.before = self.most = self.process.memory_info().rss
        self.watch = threading.Thread(target=self._look, daemon=True)
        self.watch.start()
        return self

    def _look(self) -> None:
        while not self.ended.wait(0.01):
            self.most = max(self.most, self.process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.watch.join()

    @property
    def mb(self) -> float:
        """Megabytes."""
        return (self.most - self.before) / 1e6


def best_product(threads: int, size: int = 2048, repeats: int = 8) -> float:
    """FLOP/s of the fastest of several float32 matrix products."""
    torch.set_num_threads(threads)
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def compare(model: CausalModel, helped: Rows, candidates: Rows, repeats: int) -> dict[str, float]:
    """Median seconds of the engine and of both plain loops, ratios, and the largest difference in U; in turns."""
    scorer = InContext()
    few = helped.part(0, 8), candidates.part(0, 2)
    scorer.score(*few, model, same=False, store=MemoryStore())  # warm
    job = scorer.job(helped, candidates, model)
    took: dict[str, list[float]] = {"fast": [], "plain": [], "sorted": []}
    extra = 0.0
    for _ in range(repeats):
        with Peak() as peak:
            start = time.perf_counter()
            fast = scorer.score(helped, candidates, model, same=False, store=MemoryStore())
            took["fast"].append(time.perf_counter() - start)
        extra = max(extra, peak.mb)
        for name, by_length in (("plain", False), ("sorted", True)):
            start = time.perf_counter()
            plain = plain_loop(job, by_length)
            took[name].append(time.perf_counter() - start)
    seconds, plain_seconds, sorted_seconds = (float(np.median(found)) for found in took.values())
    cost = scorer.estimate(helped, candidates, model, same=False)
    return {
        "ratio": plain_seconds / seconds,
        "ratio_sorted": sorted_seconds / seconds,
        "max_diff": float(np.abs(fast.l2.values - plain).max()),
        "extra_mb": extra,
        "flops_per_second": cost.flops / seconds,
        "seconds": seconds,
        "plain_seconds": plain_seconds,
        "sorted_seconds": sorted_seconds,
        "pairs": len(helped) * len(candidates),
        "example_tokens": float(
            np.mean([len(e.cut(256)) for e in job.template.examples(candidates.prompts, candidates.responses)])
        ),
        "query_tokens": float(np.mean([len(s) - len(s.labels) + 1 for s in job.layout.after])),
        "response_tokens": float(np.mean([len(s.labels) for s in job.layout.after])),
    }


def m135(text: CausalModel) -> CausalModel:
    """Random weights in the shape of a 135M model, with the tokens of `text`."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**M135)).eval().requires_grad_(False)
    identity = Identity("135M shape", "random", "causal-lm", model.num_parameters())
    return replace(text, model=model, identity=identity, context=2048)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin", help="instead of the built-in model")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("DELIFT_SHARED", ROOT.parent / "shared")) / "data"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a fifth of the pairs, and no 135M shape")
    parser.add_argument("--candidates", type=int, help="examples for the built-in model, in place of 50 (or 16)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        model = load_causal(options.model, device="cpu", dtype="float32")
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2
    helped, candidates = (60, 16) if options.quick else (200, 50)
    parts = [("builtin", model, (helped, options.candidates or candidates))]
    if not options.quick:
        parts.append(("m135", m135(model), (16, 8)))
    result: dict[str, float] = {"threads": options.threads}
    for name, model, size in parts:
        figures = compare(model, *real_rows(options.data, *size), options.repeats)
        if name == "m135":  # attention is left out of the FLOPs, so this says a little less than the truth
            peak = max(best_product(options.threads) for _ in range(3))
            result["m135_mfu"] = round(figures["flops_per_second"] / peak, 4)
        result["extra_mb"] = max(result.get("extra_mb", 0.0), round(figures["extra_mb"], 1))
        result |= {f"{name}_{key}": round(value, 8) for key, value in figures.items()}
        if not options.json:
            print(f"{name}, {size[0]} x {size[1]} pairs, {options.threads} threads")
            print(f"  {'plain loop':<14}{figures['plain_seconds']:10.2f} s")
            print(f"  {'by length':<14}{figures['sorted_seconds']:10.2f} s")
            print(
                f"  {'exact engine':<14}{figures['seconds']:10.2f} s   {figures['ratio']:.2f} x, "
                f"{figures['ratio_sorted']:.2f} x the loop by length"
            )
            print(f"  {'difference':<14}{figures['max_diff']:10.1e}   at most, in U")
            print(f"  {'memory':<14}{figures['extra_mb']:10.0f} MB  beyond model and rows")
            print(f"  {'arithmetic':<14}{figures['flops_per_second'] / 1e9:10.1f} GFLOP/s")
    if not options.json and "m135_mfu" in result:
        print(f"the 135M shape runs at {result['m135_mfu']:.0%} of this machine's best float32 matrix product")
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
