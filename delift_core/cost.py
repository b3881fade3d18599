"""What a run will cost, from a second of its own work."""

from __future__ import annotations

import time

import numpy as np

from delift_core.encoded import causal_model, reads_whole, sentence_encoder, texts_of
from delift_core.evidence import reader_of, rows_of, sides_of
from delift_core.inputs import Inputs
from delift_core.types import Cost, Indices

BATCH = 32  # rows that are encoded between two looks at the clock


def price(inputs: Inputs, tokens: Indices) -> Cost:
    """What `gather` will take if nothing is on disk yet; a second of the run's own work is timed, on the run's model.

    Args:
        inputs: the opened datasets.
        tokens: (N,) tokens of each row of the pool.
    """
    total = Cost(0, 0, 0.0, 0.0, 0)
    for part in inputs.pairs:
        if inputs.in_context:
            model = causal_model(inputs.config.model)
            planned = {} if inputs.plan is None else {"pairs": inputs.counts[part], "rounds": inputs.plan.rounds + 1}
            total += inputs.scorer.estimate(*sides_of(inputs, part), model, same=part == "pool", **planned)
        else:
            total += Cost(inputs.counts[part], 0, 0.0, 0.0, 0)
    if inputs.by_states:
        model = causal_model(inputs.config.model)
        total += inputs.scorer.estimate(rows_of(inputs, "pool"), model, target=rows_of(inputs, "target"))
    if inputs.row_score is not None:
        target = None if inputs.target is None else rows_of(inputs, "target")
        reader, seed = reader_of(inputs.row_score, inputs.config), inputs.config.seed
        total += inputs.row_score.estimate(rows_of(inputs, "pool"), reader, target=target, seed=seed)
    roles = inputs.encoded_roles
    if roles:
        rows = sum(len(inputs.rows(role)) for role in roles)
        whole = reads_whole([inputs.datasets[role] for role in roles])
        total += _encoding_cost(inputs, rows, float(tokens.mean()), whole)
    return total + Cost(0, 0, 0.0, 0.0, inputs.kept_bytes)


def _encoding_cost(inputs: Inputs, rows: int, tokens_per_row: float, whole: bool) -> Cost:
    encoder = sentence_encoder(inputs.config.encoder, inputs.models)
    chosen = inputs.rows("pool")
    order = np.random.default_rng(0).permutation(
        len(chosen)
    )  # files are often sorted, so the first rows are not typical
    encoder.encode(texts_of(inputs.pool, chosen[order[:1]], whole))  # the first pass allocates
    done, dimensions, started = 0, 0, time.perf_counter()
    for first in range(0, len(order), BATCH):
        batch = order[first : first + BATCH]
        dimensions = encoder.encode(texts_of(inputs.pool, chosen[batch], whole)).shape[1]
        done += len(batch)
        if time.perf_counter() - started > 1.0:
            break
    seconds = (time.perf_counter() - started) * rows / max(1, done)
    count = int(tokens_per_row * rows)
    return Cost(0, count, 2.0 * encoder.identity.parameters * count, seconds, 4 * rows * dimensions)
