"""Several devices for one job: this process computes blocks on the model's device, one more process on each other one.

A helper process is told which tile and columns to compute and sends back their block; this process alone writes to the
store, so any store will do.  Rows travel as JSON and arrays as .npz: nothing is pickled, and a helper imports no main
module.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from delift_core.errors import DeliftError, ModelError
from delift_core.scoring.choose import engine_for
from delift_core.scoring.engine import Check, Engine, unchecked
from delift_core.scoring.icl import STAGE, InContext
from delift_core.scoring.job import Arrays, Job, Prepared
from delift_core.scoring.rows import Rows
from delift_core.types import BlockStore, Progress, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel

Place = tuple[int, int, int]  # a block: number of its tile, first and last column
_PAUSE = 0.2  # seconds between two looks at the helpers, once this process has nothing left to do


def others(model: CausalModel) -> list[str]:
    """The CUDA devices that torch sees beside the model's own; none for a model that is not on one."""
    import torch

    own: torch.device = next(model.model.parameters()).device
    return [f"cuda:{i}" for i in range(torch.cuda.device_count()) if i != own.index] if own.type == "cuda" else []


def fill(
    scorer: InContext,
    helped: Rows,
    candidates: Rows,
    model: CausalModel,
    *,
    name: str,
    devices: Sequence[str],
    store: BlockStore,
    progress: Progress = no_progress,
) -> list[int]:
    """Compute the blocks that `store` lacks on the model's device and on `devices`, each with a copy of the model.

    `InContext.score` then finds them all.  `name` is what the model was loaded by; `progress` counts pairs and may
    raise Cancelled.  Gives the number of blocks that each device computed, the model's own first: whoever is free takes
    the next.  Raises ModelError when a helper cannot load the same model, or ends; finished blocks are kept.
    """
    job = _job(scorer, helped, candidates, model)
    tiles = [tile for _, _, tile in job.tiles]
    missing = [(t, *span) for t, tile in enumerate(tiles) for span in tile.spans if store.get(tile.key(span)) is None]
    devices = devices[: max(0, len(missing) - 1)]
    waiting: SimpleQueue[Place | None] = SimpleQueue()
    for place in [*missing, *[None] * (1 + len(devices))]:  # None: nothing left for this device
        waiting.put(place)
    identity, limits = model.identity, [scorer.example_tokens, scorer.query_tokens]
    texts = [[list(rows.prompts), list(rows.responses)] for rows in (helped, candidates)]
    request = [name, identity.dtype, identity.hash, scorer.template, *limits, *texts]
    counts, total = [0] * (1 + len(devices)), float(len(helped) * len(candidates))
    left = [len(tiles[t].helped) * (b - a) for t, a, b in missing]

    def work(device: int, compute: Callable[[Place], Arrays]) -> None:
        for tile, a, b in iter(waiting.get, None):
            store.put(tiles[tile].key((a, b)), compute((tile, a, b)))
            counts[device] += 1

    def check() -> None:
        for future in [f for f in served if f.done()]:
            future.result()
        progress(STAGE, total - sum(left[sum(counts) :]), total)

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max(1, len(devices))))
        helpers = [stack.enter_context(_Helper(device, request)) for device in devices]  # they end before the threads
        served = [pool.submit(work, place, helper.block) for place, helper in enumerate(helpers, 1)]
        with engine_for(model, job.longest) as choice:
            work(0, _blocks(job, choice.engine, check))
        while wait(served, _PAUSE).not_done:
            check()
        check()
    return counts


class _Helper:
    """A process that computes blocks on one device."""

    def __init__(self, device: str, request: object) -> None:
        self.device, self.messages = device, [request]
        root = str(Path(__file__).parents[2])  # so that it finds this very delift_core, installed or not
        paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "delift_core.scoring.devices", device], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip

    def __enter__(self) -> _Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # it holds nothing that is not here as well
        self.process.wait()

    def block(self, place: Place) -> Arrays:
        """The block of this tile and these columns; raises ModelError for what went wrong over there."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        lines = [json.dumps(message).encode() + b"\n" for message in (*self.messages, place)]
        self.messages = []  # the request goes ahead of the first place
        with suppress(BrokenPipeError):  # that the process has ended shows when its answer is read
            self.process.stdin.writelines(lines)
            self.process.stdin.flush()
        size = self.process.stdout.read(8)
        data = self.process.stdout.read(int.from_bytes(size, "big"))
        if len(size) < 8 or len(data) < int.from_bytes(size, "big"):
            raise ModelError(
                f"The process that scored on {self.device} ended (status {self.process.wait()}); what it said stands "
                "in the log. Run again: finished blocks are kept."
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        if "error" in found:
            raise ModelError(f"On {self.device}: {found['error']}")
        return found


def _job(scorer: InContext, helped: Rows, candidates: Rows, model: CausalModel) -> Job:
    limits = {"example_tokens": scorer.example_tokens, "query_tokens": scorer.query_tokens}
    return Job.of(helped, candidates, model, template=scorer.template, **limits)


def _blocks(job: Job, engine: Engine, check: Check = unchecked) -> Callable[[Place], Arrays]:
    """What computes a block of a tile; a tile's rows are packed once, as its blocks mostly follow one another."""

    @lru_cache(maxsize=1)
    def prepared(tile: int) -> Prepared:
        return job.tiles[tile][2].prepare(engine)

    return lambda place: job.tiles[place[0]][2].block(engine, prepared(place[0]), place[1:], check)


def _help(device: str, messages: IO[bytes], out: IO[bytes]) -> None:
    """The life of a helper: a request, then one block for every place, until nobody asks any more."""
    from delift_core.models.causal import load_causal

    def answer(arrays: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        out.write(len(buffer.getbuffer()).to_bytes(8, "big") + buffer.getbuffer())
        out.flush()

    try:
        name, dtype, known, *settings, helped, candidates = json.loads(messages.readline())
        model = load_causal(name, device=device, dtype=dtype)
        if model.identity.hash != known:
            raise ModelError(f"{model.identity.name} has changed since the run began. Start the run again.")
        rows, shown = (Rows(prompts, responses, np.arange(len(prompts))) for prompts, responses in (helped, candidates))
        job = _job(InContext(*settings), rows, shown, model)
        with engine_for(model, job.longest) as choice:
            compute = _blocks(job, choice.engine)
            for line in messages:
                tile, start, stop = json.loads(line)
                answer(compute((tile, start, stop)))
    except DeliftError as error:
        answer({"error": np.array(str(error))})


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    _help(sys.argv[1], sys.stdin.buffer, answers)
