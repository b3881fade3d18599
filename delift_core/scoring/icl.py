"""In-context utility: how much each candidate, shown as an example, helps the model answer each row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from delift_core.errors import DataError
from delift_core.scoring.rows import Rows
from delift_core.types import BlockStore, Cost, Progress, Utility, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel
    from delift_core.scoring.job import Job

STAGE = "score"


@dataclass(frozen=True)
class Report:
    """What a reader of the utilities must know."""

    engine: str  # "shared" or "plain"
    reason: str  # why the plain engine was taken
    cut_prompts: int  # helped rows whose prompt lost its beginning
    cut_responses: int  # helped rows whose response lost its end: their utility is that of the rest
    cut_examples: int  # candidates that are shown shortened, to some rows at least
    blocks: int
    computed: int  # blocks that were not stored already
    memory: tuple[str, ...] = ()  # what the engine says of a device with too little memory

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the run's page and manifest; empty when there is nothing to tell."""
        said = []
        if self.engine == "plain":
            said.append(f"Scored with the plain pass, which is several times slower: {self.reason}.")
        for count, what in (
            (self.cut_responses, "responses do not fit the model's context and were scored without their end"),
            (self.cut_prompts, "prompts were shortened from their beginning"),
            (self.cut_examples, "candidates were shown shortened"),
        ):
            if count:
                said.append(f"{count} {what}.")
        return (*said, *self.memory)


@dataclass(frozen=True, eq=False)
class InContextUtility:
    """Both readings of one set of passes.  `baseline` of each is d (l2) or l (pmi) without any example."""

    l2: Utility  # d(i | -) - d(i | j), in [-1, 1]
    pmi: Utility  # l(i | j) - l(i | -), nats per token
    report: Report


@dataclass(frozen=True)
class InContext:
    """In-context utility of all pairs, exact.  DELIFT, arXiv 2411.04425.

    p_t is the probability of the true response token t given all before it (the closing end-of-sequence token is one
    of them), d = sqrt(mean_t (1 - p_t)^2), l = mean_t log p_t; U_ij = d(i) - d(i | j), PMI_ij = l(i | j) - l(i).
    """

    template: str = field(
        default="delift", metadata={"help": "prompt template", "choices": ("delift", "chat", "paper"), "or_begins": "{"}
    )
    example_tokens: int = field(
        default=256, metadata={"help": "most tokens of an example's prompt and response together", "min": 8}
    )
    query_tokens: int = field(default=512, metadata={"help": "most tokens of a helped row's prompt", "min": 8})

    reads: ClassVar[str] = "texts"  # through the language model

    def score(
        self,
        helped: Rows,
        candidates: Rows,
        model: CausalModel,
        *,
        same: bool,
        store: BlockStore,
        progress: Progress = no_progress,
    ) -> InContextUtility:
        """U and PMI of every pair, (R, C) dense.  Finished blocks of columns come from `store`, the others go there.

        With `same` (a pool against itself) a row's own entry and those of its exact copies are missing: NaN.
        `progress` counts pairs, those of an unfinished block as well; it is called between passes and may raise
        Cancelled at any time.
        Raises ConfigError when the template does not fit the model or its context, DataError when a side is empty.
        """
        from delift_core.scoring.choose import engine_for
        from delift_core.scoring.engine import Counted
        from delift_core.scoring.job import copies

        job = self.job(helped, candidates, model)
        rows, columns, total, done = len(helped), len(candidates), float(len(helped) * len(candidates)), 0.0
        l2, pmi = (np.empty((rows, columns), np.float32) for _ in range(2))
        base = {name: np.empty(rows, np.float32) for name in ("d", "l")}
        cut, blocks, computed = np.zeros(columns, np.bool_), 0, 0

        def told(note: str = "", within: int = 0) -> None:
            progress(STAGE, done + within, total, note)

        with engine_for(model, job.longest) as choice:
            engine = Counted(choice.engine)
            for first, last, tile in job.tiles:
                alone = store.get(tile.key(None))
                if alone is None:
                    alone = tile.baseline(engine, lambda: told("without examples"))
                    store.put(tile.key(None), alone)
                for name, values in base.items():
                    values[first:last] = alone[name]
                prepared = tile.prepare(engine)
                for a, b in tile.spans:
                    key = tile.key((a, b))
                    block = store.get(key)
                    if block is None:
                        engine.rows = 0
                        block = tile.block(engine, prepared, (a, b), lambda: told(within=engine.rows))
                        store.put(key, block)
                        computed += 1
                    l2[first:last, a:b] = alone["d"][:, None] - block["d"]
                    pmi[first:last, a:b] = block["l"] - alone["l"][:, None]
                    cut[a:b] |= block["cut"]
                    done += float((last - first) * (b - a))
                    told(" ".join(engine.notes))
                blocks += len(tile.spans)
        if same:
            missing = copies(helped, candidates)
            l2[missing] = pmi[missing] = np.nan
        report = Report(
            engine.name, choice.reason, job.layout.cut_prompts, job.layout.cut_responses, int(cut.sum()), blocks,
            computed, engine.notes,
        )  # fmt: skip
        return InContextUtility(
            Utility(l2, helped.indices, candidates.indices, "l2", base["d"]),
            Utility(pmi, helped.indices, candidates.indices, "pmi", base["l"]),
            report,
        )

    def estimate(
        self,
        helped: Rows,
        candidates: Rows,
        model: CausalModel,
        *,
        same: bool,
        pairs: int | None = None,
        rounds: int = 1,
    ) -> Cost:
        """What `score` will take on this machine, from a second of passes over these very rows.

        `pairs` is how many a plan will ask for, in so many `rounds`; without it every pair is counted.  Blocks that are
        stored already are not taken into account, and the missing pairs of `same` are counted: they cost what the
        others cost.
        """
        from delift_core.scoring.estimate import measured_cost, sample

        few, some = sample(helped), sample(candidates)
        return measured_cost(self.job(few, some, model), len(helped), len(candidates), pairs, rounds)

    def job(self, helped: Rows, candidates: Rows, model: CausalModel) -> Job:
        """The rows laid out for scoring.  Raises DataError when a side is empty, ConfigError as `score` does."""
        from delift_core.scoring.job import Job

        if not len(helped) or not len(candidates):
            raise DataError(
                f"Scoring wants rows on both sides, not {len(helped)} to be helped and {len(candidates)} candidates."
            )
        return Job.of(
            helped,
            candidates,
            model,
            template=self.template,
            example_tokens=self.example_tokens,
            query_tokens=self.query_tokens,
        )
