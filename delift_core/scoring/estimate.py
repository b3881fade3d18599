"""What scoring will cost: counted in tokens, and timed for a second on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from delift_core.scoring.choose import engine_for
from delift_core.scoring.engine import Engine, Plain
from delift_core.scoring.job import Job
from delift_core.scoring.rows import Rows
from delift_core.types import Cost

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel

WARM_UP = 1.0  # seconds of passes that are timed
FEWEST = 5  # of them, however long each takes: another program that takes the processor must not decide the price
SAMPLE = 2000  # rows of a side that are tokenised for an estimate


def sample(rows: Rows) -> Rows:
    """At most SAMPLE rows, evenly spaced."""
    if len(rows) <= SAMPLE:
        return rows
    at = np.linspace(0, len(rows) - 1, SAMPLE).astype(np.int64)
    return Rows([rows.prompts[i] for i in at], [rows.responses[i] for i in at], rows.indices[at])


def measured_cost(job: Job, helped: int, candidates: int, pairs: int | None = None, rounds: int = 1) -> Cost:
    """Cost of so many pairs of `helped` x `candidates` rows (default: all), of which `job` holds a sample.

    In every round of a plan a candidate is read once more.
    """
    examples = job.template.examples(job.candidates.prompts, job.candidates.responses)
    prefixes = [sum(len(e.cut(room)) for room, _ in job.layout.classes) for e in examples]
    prefix = float(np.mean(prefixes))  # tokens read for one candidate
    shown = float(np.mean([len(e.cut(job.example_tokens)) for e in examples]))
    suffix = float(np.mean([len(s) for s in job.layout.after]))
    labels = float(np.mean([len(s.labels) for s in job.layout.after]))
    alone = float(np.mean([len(s) for s in job.layout.alone]))
    pairs = helped * candidates if pairs is None else pairs
    with engine_for(job.model, job.longest) as choice:
        engine = choice.engine
        if isinstance(engine, Plain):
            tokens = pairs * (shown + suffix) + helped * alone
            before, after = 0.0, pairs * suffix + helped * alone
        else:
            before, after = min(pairs, candidates * rounds) * prefix, pairs * suffix + helped * alone
            tokens = before + after
        reading, passing = _speed(engine, job)
    body, head = parameters(job.model)
    return Cost(
        pairs=pairs,
        tokens=int(tokens),
        flops=2.0 * body * tokens + 2.0 * head * (pairs + helped) * labels,
        seconds=before * reading + after * passing,
        bytes=pairs * 8 + candidates + helped * 8,
    )


def _speed(engine: Engine, job: Job) -> tuple[float, float]:
    """Seconds for one token of a prefix and for one token of a helped row, head and all: the median of several passes.

    The first pass of each kind is not timed: it allocates, and the first on a device also compiles.
    """
    lengths = np.argsort(
        [len(p) + len(r) for p, r in zip(job.candidates.prompts, job.candidates.responses, strict=True)]
    )
    middle = int(lengths[len(lengths) // 2])
    part = job.candidates.part(middle, middle + 1)
    prefix = job.template.examples(part.prompts, part.responses)[0].cut(job.layout.classes[0][0])
    batches = [batch for _, group in job.prepare(engine) for batch in group]
    on_gpu = next(job.model.model.parameters()).is_cuda
    order = np.random.default_rng(0).permutation(len(batches))
    with torch.inference_mode():
        readings: list[float] = []
        passes: list[float] = []
        engine.run(engine.read(prefix), batches[order[0]]).sum().item()
        begun = time.perf_counter()
        while len(passes) < FEWEST or time.perf_counter() - begun < WARM_UP:
            batch = batches[order[len(passes) % len(order)]]
            start = time.perf_counter()
            seen = engine.read(prefix)
            if on_gpu:
                torch.cuda.synchronize()
            between = time.perf_counter()
            engine.run(seen, batch).sum().item()  # waits for the device
            readings.append((between - start) / max(1, len(prefix)))
            passes.append((time.perf_counter() - between) / batch.tokens)
        return float(np.median(readings)), float(np.median(passes))


def parameters(model: CausalModel) -> tuple[int, int]:
    """Weights that every token passes, and those of the head."""
    network = model.model
    embedding = network.get_input_embeddings().weight.numel()
    body = sum(p.numel() for p in network.base_model.parameters()) - embedding
    return body, network.get_output_embeddings().weight.numel()
