"""Some pairs of a scoring job, exactly: the passes of a dense job, over the rows that a plan asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from delift_core.scoring.choose import engine_for
from delift_core.scoring.engine import Counted, score
from delift_core.scoring.features import Side
from delift_core.scoring.job import BLOCK_TOKENS, Arrays, Job, Work, copies
from delift_core.scoring.pairs import Pairs
from delift_core.types import BlockStore, Floats, block_key

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 1  # of the numbers in a block; raise when they change


@dataclass(eq=False)
class PairScorer:
    """Scores sets of pairs of one job.  Blocks are stored, so a set that was scored before costs no pass."""

    job: Job
    engine: Counted
    reason: str  # why the engine is the plain one
    store: BlockStore
    check: Callable[[int], None]  # called with the pairs scored so far; may raise Cancelled
    done: int = 0  # pairs
    blocks: int = 0
    computed: int = 0  # blocks that were not stored already
    cut: set[int] = field(default_factory=set)  # candidates that were shown shortened

    @cached_property
    def baseline(self) -> Arrays:
        """Distance d and log-likelihood l of every helped row without any example, (R,) float32 each."""
        found = self.store.get(self.job.key(None))
        if found is None:
            found = self.job.baseline(self.engine, lambda: self.check(self.done))
            self.store.put(self.job.key(None), found)
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """(helped, candidates)."""
        return len(self.job.helped), len(self.job.candidates)

    @cached_property
    def missing(self) -> Pairs:
        """Pairs of a row with itself, or with an exact copy of it."""
        rows, columns = copies(self.job.helped, self.job.candidates)
        return Pairs.of(rows, columns, self.shape)

    def score(self, pairs: Pairs) -> tuple[Floats, Floats]:
        """U in the units l2 and pmi of the given pairs, (P,) float32 each."""
        distance, likelihood = (np.empty(len(pairs), np.float32) for _ in range(2))
        at = 0
        for block in self._blocks(pairs):
            key = self._key(block)
            found = self.store.get(key)
            if found is None:
                found = self._compute(block)
                self.store.put(key, found)
                self.computed += 1
            size = sum(len(rows) for _, rows in block)
            distance[at : at + size], likelihood[at : at + size] = found["d"], found["l"]
            self.cut.update(column for (column, _), cut in zip(block, found["cut"], strict=True) if cut)
            at += size
            self.done += size
            self.blocks += 1
            self.check(self.done)
        rows = pairs.rows
        return self.baseline["d"][rows] - distance, likelihood - self.baseline["l"][rows]

    def side(self, job: Job, vectors: Floats) -> Side:
        """The helped rows of a job with this one's model: their tokens, and a pass over each without an example."""
        key = block_key("icl-tokens", version=VERSION, job=job.key(None))
        found = self.store.get(key)
        if found is None:
            found = {"log_p": job.token_log_probs(self.engine, lambda: self.check(self.done))}
            self.store.put(key, found)
        ends = np.cumsum([len(suffix.labels) for suffix in job.layout.alone])
        examples = job.template.examples(job.helped.prompts, job.helped.responses)
        return Side(
            [s.tokens[: len(s.tokens) - len(s.labels) + 1] for s in job.layout.alone],
            [s.labels for s in job.layout.alone],
            np.split(found["log_p"], ends[:-1]),
            [example.parts(job.example_tokens) for example in examples],
            vectors,
        )

    def _blocks(self, pairs: Pairs) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Columns with their rows, gathered up to BLOCK_TOKENS; a pure function of the texts and the pairs."""
        lengths = np.array([len(suffix) for suffix in self.job.layout.after], np.int64)
        block: list[tuple[int, np.ndarray]] = []
        tokens = 0
        for column, rows in pairs.by_column():
            size = int(lengths[rows].sum()) + self.job.example_tokens
            if block and tokens + size > BLOCK_TOKENS:
                yield block
                block, tokens = [], 0
            block.append((column, rows))
            tokens += size
        if block:
            yield block

    def _key(self, block: list[tuple[int, np.ndarray]]) -> str:
        digest = hashlib.sha256()
        for column, rows in block:
            keys = self.job.helped.keys
            digest.update("|".join((self.job.candidates.keys[column], *(keys[i] for i in rows), "")).encode())
        return block_key("icl-pairs", version=VERSION, job=self.job.key(None), pairs=digest.hexdigest())

    def _compute(self, block: list[tuple[int, np.ndarray]]) -> Arrays:
        job, self.engine.rows = self.job, 0
        shown = [column for column, _ in block]
        examples = job.template.examples(
            [job.candidates.prompts[j] for j in shown], [job.candidates.responses[j] for j in shown]
        )
        distances, likelihoods, cut = [], [], []
        for (_, rows), example in zip(block, examples, strict=True):
            work: Work = {}
            rooms = job.layout.allowance[rows]
            for room in np.unique(rooms)[::-1]:
                batches = self.engine.prepare(job.layout.after, rows[rooms == room])
                work.setdefault(example.cut(int(room)), []).extend(batches)
            found = score(self.engine, work, len(job.helped), lambda: self.check(self.done + self.engine.rows))
            distances.append(found[0][rows])
            likelihoods.append(found[1][rows])
            cut.append(len(example.prompt) + len(example.response) > rooms.min())
        return {"d": np.concatenate(distances), "l": np.concatenate(likelihoods), "cut": np.array(cut, np.bool_)}


@contextmanager
def pair_scorer(job: Job, store: BlockStore, check: Callable[[int], None]) -> Iterator[PairScorer]:
    """A scorer for this job; inside, the model is lent to its engine."""
    with engine_for(job.model, job.longest) as choice:
        yield PairScorer(job, Counted(choice.engine), choice.reason, store, check)
