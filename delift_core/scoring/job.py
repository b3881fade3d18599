"""One scoring job: its rows as tokens, its blocks, and the pure function that computes a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from delift_core.scoring.engine import Batch, Check, Engine, score, unchecked
from delift_core.scoring.layout import Layout, lay_out
from delift_core.scoring.rows import Rows
from delift_core.scoring.templates import Template, Tokens, bind
from delift_core.types import Floats, Indices, block_key

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel

VERSION = 1  # of the numbers in a block; raise when they change
BLOCK_TOKENS = 200_000  # of helped rows in one block: seconds with a small model on a CPU, and still few files
BLOCK_COLUMNS = 256
TILE_TOKENS = 16_384  # of helped rows that make one tile: reading an example once more for each costs 1 to 2 %
Arrays = dict[str, NDArray[Any]]
Work = dict[Tokens, list[Batch]]  # the rows to run after each prefix
Prepared = list[tuple[int, list[Batch]]]  # allowance of the example, and the rows that have it


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that a block depends on; nothing in it depends on the machine."""

    helped: Rows
    candidates: Rows
    model: CausalModel
    template: Template
    layout: Layout
    example_tokens: int
    query_tokens: int

    @classmethod
    def of(
        cls,
        helped: Rows,
        candidates: Rows,
        model: CausalModel,
        *,
        template: str,
        example_tokens: int,
        query_tokens: int,
    ) -> Job:
        """Tokenise and lay out.  Raises ConfigError when the template does not fit the model or its context."""
        bound = bind(template, model)
        layout = lay_out(
            bound.queries(helped.prompts),
            model.encode_all(helped.responses),
            eos=model.eos_id,
            context=model.context,
            example_fixed=bound.examples([""], [""])[0].fixed,
            example_tokens=example_tokens,
            query_tokens=query_tokens,
        )
        return cls(helped, candidates, model, bound, layout, example_tokens, query_tokens)

    @cached_property
    def tiles(self) -> list[tuple[int, int, Job]]:
        """First and last helped row of each tile, and the job of those rows alone; a pure function of the texts.

        Tiles are filled from the first row on, so rows that are appended change the last one and leave the others.
        """
        edges, tokens = [0], 0
        for place, suffix in enumerate(self.layout.after):
            if tokens + len(suffix) > TILE_TOKENS and place > edges[-1]:
                edges.append(place)
                tokens = 0
            tokens += len(suffix)
        spans = pairwise([*edges, len(self.helped)])
        return [(a, b, replace(self, helped=self.helped.part(a, b), layout=self.layout.part(a, b))) for a, b in spans]

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """First and last column of each block; a pure function of the texts."""
        tokens = sum(len(suffix) for suffix in self.layout.after)
        width = min(BLOCK_COLUMNS, max(1, BLOCK_TOKENS // max(1, tokens)))
        return list(pairwise([*range(0, len(self.candidates), width), len(self.candidates)]))

    @property
    def longest(self) -> int:
        """The most tokens of any sequence."""
        fixed = self.template.examples([""], [""])[0].fixed
        after = (len(s) + int(a) for s, a in zip(self.layout.after, self.layout.allowance, strict=True))
        return max(fixed + max(after, default=0), max(map(len, self.layout.alone), default=0))

    def key(self, span: tuple[int, int] | None) -> str:
        """The content-addressed name of a block of columns, or of the baseline."""
        return block_key(
            "icl",
            version=VERSION,
            model=[self.model.identity.hash, self.model.identity.dtype],
            context=self.model.context,
            template=[self.template.name, *self.template.literals],
            limits=[self.example_tokens, self.query_tokens],
            helped=self.helped.digest,
            candidates=None if span is None else self.candidates.part(*span).digest,
        )

    def prepare(self, engine: Engine) -> Prepared:
        """The helped rows packed for passes after an example, by allowance."""
        return [(room, engine.prepare(self.layout.after, rows)) for room, rows in self.layout.classes]

    def baseline(self, engine: Engine, check: Check = unchecked) -> Arrays:
        """Distance d and log-likelihood l of every helped row without any example, (R,) float32 each."""
        everyone = np.arange(len(self.helped), dtype=np.int64)
        work: Work = {(): engine.prepare(self.layout.alone, everyone)}
        distance, likelihood = score(engine, work, len(self.helped), check)
        return {"d": distance, "l": likelihood}

    def token_log_probs(self, engine: Engine, check: Check = unchecked) -> Floats:
        """Log P of every label of every helped row without an example, one row after the other, nats."""
        found: list[Floats] = [np.empty(0, np.float32)] * len(self.helped)
        with torch.inference_mode():
            for batch in engine.prepare(self.layout.alone, np.arange(len(self.helped), dtype=np.int64)):
                check()
                values = engine.run(engine.read(()), batch).float().cpu().numpy()
                ends = np.cumsum(batch.counts.cpu().numpy())
                for position, part in zip(batch.positions, np.split(values, ends[:-1]), strict=True):
                    found[position] = part
        return np.concatenate(found)

    def block(self, engine: Engine, prepared: Prepared, span: tuple[int, int], check: Check = unchecked) -> Arrays:
        """Distance d and log-likelihood l of every helped row after each candidate, (R, columns) float32 each.

        `cut` (columns,) says which candidates were shortened for some row.
        """
        part = self.candidates.part(*span)
        examples = self.template.examples(part.prompts, part.responses)
        shape = (len(self.helped), len(part))
        distance, likelihood = np.empty(shape, np.float32), np.empty(shape, np.float32)
        cut = np.zeros(len(part), np.bool_)
        for j, example in enumerate(examples):
            work: Work = {}
            for room, batches in prepared:
                work.setdefault(example.cut(room), []).extend(batches)
            distance[:, j], likelihood[:, j] = score(engine, work, len(self.helped), check)
            cut[j] = len(example.prompt) + len(example.response) > prepared[-1][0]
        return {"d": distance, "l": likelihood, "cut": cut}


def copies(helped: Rows, candidates: Rows) -> tuple[Indices, Indices]:
    """Positions (row, column) of all pairs with the same prompt and response, a row with itself among them."""
    places: dict[str, list[int]] = {}
    for column, key in enumerate(candidates.keys):
        places.setdefault(key, []).append(column)
    pairs: Sequence[tuple[int, int]] = [(i, j) for i, key in enumerate(helped.keys) for j in places.get(key, ())]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    return rows, columns
