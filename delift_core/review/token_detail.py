"""Where an example helped: the tokens of one row's response under a run's model, without and with one example.

`token_detail` answers once; `python -m delift_core.review.token_detail --workspace DIR` is the worker that keeps the
model loaded and answers line by line (see runs/warm.py): {"run", "part", "row", "example"} -> the same record.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import IO, Any

import numpy as np

from delift_core.encoded import causal_model
from delift_core.errors import ConfigError, DataError, ModelError
from delift_core.inputs import SIDES, Inputs
from delift_core.insight.overview import cells_of
from delift_core.insight.tokens import sentences, table, visible
from delift_core.models.causal import CausalModel
from delift_core.preflight import open_inputs
from delift_core.runs import Run, Workspace, warm
from delift_core.scoring.rows import Rows
from delift_core.types import Dataset

VERSION = 1  # of the record
APART = 1e-3  # a stored utility and its second reading that differ by more are worth a word


def token_detail(ws: Workspace, run_id: str, part: str, helped_row: int, candidate_row: int) -> dict[str, Any]:
    """Read one pair of a finished in-context run again, token by token.

    `part` is "pool", "target" or "existing"; the rows are row indices of the helped and of the candidate dataset.

    Returns:
        run, part, kind, model, template: what was read, and by which measure the run selected.
        row, example: the two rows' {"row", "id"}.
        tokens: of each piece of the response {"text", "count" (tokens in it), "end" (the closing token, which has no
            text), "before", "after" (its log P, nats)}.
        d_before, d_after, l_before, l_after, l2, pmi: what in-context utility makes of them.
        stored: what the run stored, {"l2", "pmi"}; empty for a pair that it did not score.
        sentences, notes: where the example helps; what a reader must know.

    Raises ConfigError for a run that scored no such pairs with a language model, DataError for a row that is not there,
    ModelError where the model has changed since, WorkspaceError where there is no such run.
    """
    from delift_core.scoring.per_token import per_token

    run = Run.open(ws, run_id)
    inputs = _inputs(ws, run, part)
    helped, candidates = (inputs.datasets[role] for role in SIDES[part])
    row, example = _row(helped, helped_row), _row(candidates, candidate_row)
    model = _model(run)
    texts = [Rows.of(dataset, np.array([at])) for dataset, at in ((helped, row), (candidates, example))]
    found = per_token(inputs.scorer, texts[0], texts[1], model)
    before, after = found.summed(found.before), found.summed(found.after)
    tokens = [
        {"text": p.text, "count": p.tokens, "end": p.closes, "before": float(b), "after": float(a)}
        for p, b, a in zip(found.pieces, before, after, strict=True)
    ]
    record = {
        "version": VERSION, "run": run_id, "part": part, "kind": run.config.kind, "model": run.config.model,
        "template": inputs.scorer.template,
        "row": {"row": row, "id": helped.ids[row]}, "example": {"row": example, "id": candidates.ids[example]},
        "tokens": tokens,
        "d_before": found.distance[0], "d_after": found.distance[1],
        "l_before": found.likelihood[0], "l_after": found.likelihood[1],
        "l2": found.l2, "pmi": found.pmi, "stored": _stored(run, part, row, example),
        "sentences": sentences(tokens),
    }  # fmt: skip
    notes = {
        "The response does not fit the model's context: it was scored without its end.": found.cut_response,
        "The prompt was shortened from its beginning.": found.cut_prompt,
        "The example was shown shortened.": found.cut_example,
        "The tokenizer does not keep this text letter by letter; it is shown as the model reads it.": not found.whole,
        "Some characters take several tokens, which are shown together.": any(p.tokens > 1 for p in found.pieces),
        "The run did not score this pair; it was read now.": not record["stored"],
    }
    return {**record, "notes": [note for note, holds in notes.items() if holds] + _differences(record)}


def by_id(ws: Workspace, run_id: str, row: str, example: str, part: str | None = None) -> dict[str, Any]:
    """`token_detail` of two rows by id; without a part, of the target where the run has one, else of the pool.

    Raises DataError for an id that is not there, and what `token_detail` raises.
    """
    run = Run.open(ws, run_id)
    stored = [p for p, _ in run.utilities]
    part = part or ("target" if "target" in stored else stored[0] if stored else "pool")
    helped, candidates = (_inputs(ws, run, part).datasets[role] for role in SIDES[part])
    return token_detail(ws, run_id, part, _named(helped, row), _named(candidates, example))


def as_text(record: Mapping[str, Any]) -> str:
    """The record for a terminal; row text is shown on one line each, without control characters."""
    lines = [
        f"row {visible(record['row']['id'])}, example {visible(record['example']['id'])} "
        f"({record['part']} of run {record['run']})",
        f"distance to a sure answer: {record['d_before']:.4f} -> {record['d_after']:.4f}, utility {record['l2']:+.4f}",
        f"log probability per token: {record['l_before']:.4f} -> {record['l_after']:.4f}, PMI {record['pmi']:+.4f}",
        *record["sentences"], *record["notes"], "",
        "before   after  change  token",
    ]  # fmt: skip
    columns = table(record["tokens"])
    for p, q, rise, text in zip(*(columns[name] for name in ("before", "after", "change", "token")), strict=True):
        lines.append(f"{p:6.4f}  {q:6.4f} {rise:+7.4f}  {text}")
    return "\n".join(lines)


def worker_command(ws: Workspace) -> list[str]:
    """The command line of the worker."""
    return warm.module_command("delift_core.review.token_detail", "--workspace", str(ws.root))


def serve(ws: Workspace, questions: IO[bytes], answers: IO[bytes], *, idle: float = warm.IDLE_SECONDS) -> None:
    """Answer questions line by line until they end, or none comes for `idle` seconds."""

    def answer(ask: dict[str, Any]) -> dict[str, Any]:
        return token_detail(ws, str(ask["run"]), str(ask["part"]), int(ask["row"]), int(ask["example"]))

    warm.serve(answer, questions, answers, idle=idle, deserted=lambda: os._exit(0))


def main(argv: Sequence[str] | None = None) -> None:
    """The worker's process: what a library prints goes to standard error, never among the answers."""
    parser = argparse.ArgumentParser(prog="python -m delift_core.review.token_detail", description=__doc__)
    parser.add_argument("--workspace", required=True, metavar="DIR", help="folder of the runs")
    args = parser.parse_args(argv)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(Workspace(args.workspace), sys.stdin.buffer, answers)


def _inputs(ws: Workspace, run: Run, part: str) -> Inputs:
    """The run's datasets; ConfigError where it did not score this part with a language model."""
    inputs = open_inputs(ws, run.config)
    if not inputs.in_context:
        raise ConfigError(
            f"Run {run.id} ({run.config.method}) scored no pairs with a language model, so there are no tokens to "
            "show. Take a run of delift, delift-task or delift-continual."
        )
    if part not in inputs.pairs:
        raise ConfigError(f"Run {run.id} has no pairs of {part!r}. It has: {', '.join(inputs.pairs)}.")
    return inputs


def _model(run: Run) -> CausalModel:
    """The run's model; ModelError where its weights are not those that the run was scored with."""
    used = frozenset(str(model["hash"]) for model in run.manifest["models"])
    model = _loaded(run.config.model, used)
    if used and model.identity.hash not in used:
        _loaded.cache_clear()
        raise ModelError(
            f"The model {run.config.model} has changed since run {run.id} was scored. Run it again, then look again."
        )
    return model


@lru_cache(maxsize=1)
def _loaded(name: str, _used: frozenset[str]) -> CausalModel:
    return causal_model(name)


def _row(dataset: Dataset, row: int) -> int:
    if not 0 <= row < len(dataset):
        raise DataError(f"{dataset.name} has no row {row}: its rows go from 0 to {len(dataset) - 1}.")
    return row


def _named(dataset: Dataset, name: str) -> int:
    found = next((i for i, known in enumerate(dataset.ids) if known == name), None)
    if found is None:
        raise DataError(f"{dataset.name} has no row with the id {name[:80]!r}. See the Data page, or the file itself.")
    return found


def _stored(run: Run, part: str, row: int, example: int) -> dict[str, float]:
    """What the run stored of the pair, by kind."""
    found = {}
    for p, kind in run.utilities:
        if p != part:
            continue
        utility = run.utility(p, kind)
        i, j = np.flatnonzero(utility.helped == row), np.flatnonzero(utility.candidates == example)
        if len(i) and len(j):
            found[kind] = float(cells_of(utility, i[:1], j[:1])[0, 0])
    return {kind: value for kind, value in found.items() if not math.isnan(value)}


def _differences(record: Mapping[str, Any]) -> list[str]:
    return [
        f"The run stored {value:+.4f} ({kind}), now it is {record[kind]:+.4f}: in 16 bits, or on another device, "
        "numbers come out a little differently."
        for kind, value in record["stored"].items()
        if abs(value - record[kind]) > APART
    ]


if __name__ == "__main__":
    main()
