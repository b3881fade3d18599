"""Row scores: one number a row, from a few passes over it.  Rows go in blocks that are computed once and stored.

A score says how a block of rows is laid out (`Block`) and what its numbers depend on (`RowJob`); packing, passes, the
head, templates and storage are those of in-context utility.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import ConfigError, DataError
from delift_core.scoring.layout import Layout, Suffix, lay_out
from delift_core.scoring.rows import Rows
from delift_core.scoring.templates import Template, Tokens
from delift_core.types import BlockStore, Cost, Indices, Progress, Scores, block_key, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel
    from delift_core.scoring.engine import Check, Engine

STAGE = "score rows"
VERSION = 1  # of the numbers in a block; raise when they change
ROWS = 256  # of a block: seconds with a small model on a CPU, and still few files
QUERY_TOKENS = 2048  # a row score reads a row a few times only, so long prompts stay whole
Arrays = dict[str, NDArray[Any]]
Parts = Sequence[tuple[Tokens, Sequence[Suffix], Indices]]  # a prefix, all rows of the block, positions it serves


class RowScore(Protocol):
    """A row score.  Its options are the fields of the (frozen dataclass) instance."""

    name: ClassVar[str]
    reads: ClassVar[str]  # what stands for `model`: a language "model", its "tokenizer" alone, or nothing but "texts"
    needs_target: ClassVar[bool]
    needs_response: ClassVar[bool]

    def score(
        self,
        rows: Rows,
        model: CausalModel,
        *,
        target: Rows | None = None,
        store: BlockStore,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Scores:
        """One number per row, (len(rows),) float64.  Finished blocks come from `store`, the others go there.

        `target` and `seed` count only where the score uses them.  `progress` counts rows; it is also called between
        passes and may raise Cancelled at any time.  Raises DataError where rows or responses are missing, ConfigError
        where a target is missing or the template or the model does not fit.
        """

    def estimate(self, rows: Rows, model: CausalModel, *, target: Rows | None = None, seed: int = 0) -> Cost:
        """What `score` will take on this machine with nothing stored; `pairs` counts passes over a row."""


class Block(Protocol):
    """A few rows as token sequences, and the numbers that passes over them give."""

    @property
    def longest(self) -> int:
        """The most tokens of any sequence."""

    @property
    def passes(self) -> int:
        """Rows read, each as often as it is."""

    @property
    def labels(self) -> int:
        """Positions at which the head runs."""

    def tokens(self, shared: bool) -> int:
        """Tokens read, a prefix once where it is shared and else with every row."""

    def compute(self, engine: Engine, check: Check) -> Arrays:
        """The block's arrays, one entry a row along the first axis; `cut` (1, 2) counts cut prompts and responses."""


@dataclass(frozen=True, eq=False)
class RowJob:
    """How one score lays out its blocks, and what their numbers depend on beside model and rows."""

    kind: str
    model: CausalModel
    depends: Mapping[str, Any]  # JSON-able
    lay_out: Callable[[Rows], Block]  # a pure function of the texts

    def key(self, part: Rows) -> str:
        """The content-addressed name of a block of rows."""
        identity = self.model.identity
        return block_key(
            self.kind,
            version=VERSION,
            model=[identity.hash, identity.dtype],
            context=self.model.context,
            rows=part.digest,
            **self.depends,
        )

    def arrays(self, rows: Rows, store: BlockStore, progress: Progress) -> Arrays:
        """The arrays of all blocks, joined in the order of the rows; only what `store` lacks is computed."""
        spans = list(pairwise([*range(0, len(rows), ROWS), len(rows)]))
        keys = [self.key(rows.part(*span)) for span in spans]
        found: dict[str, Arrays] = {}
        for key in dict.fromkeys(keys):
            if (block := store.get(key)) is not None:
                found[key] = block
        done, total = sum(b - a for key, (a, b) in zip(keys, spans, strict=True) if key in found), len(rows)
        progress(STAGE, done, total)
        missing = {key: span for key, span in zip(keys, spans, strict=True) if key not in found}
        if missing:
            import torch

            from delift_core.scoring.choose import engine_for

            longest = 0
            for span in missing.values():
                progress(STAGE, done, total, "measuring the rows")
                longest = max(longest, self.lay_out(rows.part(*span)).longest)
            with torch.inference_mode(), engine_for(self.model, longest) as choice:
                slow = (f"plain passes: {choice.reason}",) if choice.reason else ()
                for key, span in missing.items():

                    def check(done: float = done) -> None:
                        progress(STAGE, done, total, " ".join((*slow, *choice.engine.notes)))

                    found[key] = self.lay_out(rows.part(*span)).compute(choice.engine, check)
                    store.put(key, found[key])
                    done += keys.count(key) * (span[1] - span[0])
                    check(done)
        return {name: np.concatenate([found[key][name] for key in keys]) for name in found[keys[0]]}

    def cost(self, rows: Rows) -> Cost:
        """Cost of all blocks, from a sample of the rows that is laid out and about a second of passes over some."""
        import torch

        from delift_core.scoring.choose import engine_for
        from delift_core.scoring.estimate import WARM_UP, parameters, sample

        few = sample(rows)
        block, scale = self.lay_out(few), len(rows) / len(few)
        with torch.inference_mode(), engine_for(self.model, block.longest) as choice:
            shared, count, seconds = choice.engine.name == "shared", 2, 0.0
            self.lay_out(few.part(0, 1)).compute(choice.engine, lambda: None)  # the first pass allocates
            while True:
                at = np.linspace(0, len(few) - 1, min(count, len(few))).astype(np.int64)
                some = self.lay_out(taken(few, at))
                start = time.perf_counter()
                arrays = some.compute(choice.engine, lambda: None)
                seconds = time.perf_counter() - start
                if seconds >= WARM_UP or count >= len(few):
                    break
                count *= 2
        tokens, (body, head) = scale * block.tokens(shared), parameters(self.model)
        return Cost(
            pairs=round(scale * block.passes),
            tokens=round(tokens),
            flops=2.0 * body * tokens + 2.0 * head * scale * block.labels,
            seconds=seconds * tokens / max(1, some.tokens(shared)),
            bytes=round(sum(a.nbytes for a in arrays.values()) * len(rows) / len(at)),
        )


@dataclass(frozen=True, eq=False)
class Readings:
    """A block of responses, each read in every named context: after a prefix that some of the rows share."""

    contexts: Mapping[str, Parts]
    rows: int
    cut: tuple[int, int]  # prompts, responses

    @property
    def _all(self) -> list[tuple[Tokens, list[Suffix]]]:
        return [(prefix, [rows[i] for i in at]) for parts in self.contexts.values() for prefix, rows, at in parts]

    @property
    def longest(self) -> int:
        """The most tokens of any sequence."""
        return max(len(prefix) + max(map(len, rows)) for prefix, rows in self._all)

    @property
    def passes(self) -> int:
        """Rows times contexts."""
        return self.rows * len(self.contexts)

    @property
    def labels(self) -> int:
        """Response tokens and closing ends, in all contexts."""
        return sum(len(row.labels) for _, rows in self._all for row in rows)

    def tokens(self, shared: bool) -> int:
        """Tokens read."""
        return sum(len(p) * (1 if shared else len(rows)) + sum(map(len, rows)) for p, rows in self._all)

    def compute(self, engine: Engine, check: Check) -> Arrays:
        """Mean negative log-likelihood of every response in each context, (B,) float64 each, in nats per token."""
        from delift_core.scoring.engine import Batch, score

        arrays: Arrays = {"cut": np.array([self.cut], np.int64)}
        for name, parts in self.contexts.items():
            work: dict[Tokens, list[Batch]] = {}
            for prefix, rows, at in parts:
                work.setdefault(prefix, []).extend(engine.prepare(rows, at))
            arrays[name] = -score(engine, work, self.rows, check)[1].astype(np.float64)
        return arrays


def laid_out(
    rows: Rows,
    model: CausalModel,
    template: Template,
    query_tokens: int,
    *,
    spare: int = 0,
    example_fixed: int = 0,
    example_tokens: int = 0,
) -> Layout:
    """The rows under a template, cut to a context that is `spare` tokens shorter than the model's."""
    return lay_out(
        template.queries(rows.prompts),
        model.encode_all(rows.responses),
        eos=model.eos_id,
        context=model.context - spare,
        example_fixed=example_fixed,
        example_tokens=example_tokens,
        query_tokens=query_tokens,
    )


def taken(rows: Rows, positions: Sequence[int] | Indices) -> Rows:
    """The rows at these positions, in that order."""
    at = np.asarray(positions, np.int64)
    return Rows([rows.prompts[i] for i in at], [rows.responses[i] for i in at], rows.indices[at])


def checked(rows: Rows, name: str, *, responses: bool = True) -> Rows:
    """The same rows; DataError where there are none or, with `responses`, where one has no response."""
    if not len(rows):
        raise DataError(f"The score {name} wants rows, and there are none. Check the filters of the pool.")
    if responses:
        for index, response in zip(rows.indices, rows.responses, strict=True):
            if not response:
                raise DataError(
                    f"The score {name} reads responses, and row {index} has none. Take rows with responses, or a "
                    "method that reads prompts alone."
                )
    return rows


def wanted(target: Rows | None, name: str, *, responses: bool = True) -> Rows:
    """The target rows; ConfigError where there are none."""
    if target is None or not len(target):
        raise ConfigError(f"The score {name} compares rows with those of a target. Give a target dataset.")
    return checked(target, name, responses=responses)


def cut_notes(*blocks: Arrays) -> tuple[str, ...]:
    """Sentences on texts that did not fit; empty when all did."""
    prompts, responses = (int(n) for n in sum(block["cut"].sum(0) for block in blocks))
    said = []
    if responses:
        said.append(f"{responses} responses do not fit the model's context and were scored without their end.")
    if prompts:
        said.append(f"{prompts} prompts were shortened from their beginning.")
    return tuple(said)
