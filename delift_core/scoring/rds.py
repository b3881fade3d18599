"""Representation similarity: how near a row's hidden states are to those of the target rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from delift_core.scoring.embedding import ROWS, Embedding
from delift_core.scoring.layout import Suffix
from delift_core.scoring.rows import Rows
from delift_core.scoring.rowwise import QUERY_TOKENS, Arrays, RowJob, checked, cut_notes, laid_out, wanted
from delift_core.scoring.templates import bind
from delift_core.types import BlockStore, Cost, Floats, Progress, Scores, Utility, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel
    from delift_core.scoring.engine import Check, Engine


def hidden_states(
    rows: Rows,
    model: CausalModel,
    *,
    template: str = "delift",
    query_tokens: int = QUERY_TOKENS,
    store: BlockStore,
    progress: Progress = no_progress,
) -> Floats:
    """One unit vector a row, (n, d) float32: the position-weighted mean of the model's last hidden states.

        v_i = sum_t t h_t / sum_t t,  t = 1..T over all tokens of prompt, response and closing end of sequence

    [RDS+, arXiv 2503.01807; the weights are SGPT's, arXiv 2202.08904].  h is what the model's head sees.  Rows without
    a response are read up to where it would begin; compare them with rows of their kind only.  Finished blocks come
    from `store`.  Raises DataError when there are no rows, ConfigError when the template does not fit the model.
    """
    arrays = _job(model, template, query_tokens).arrays(checked(rows, "rds", responses=False), store, progress)
    vectors: Floats = arrays["vectors"]
    return vectors


@dataclass(frozen=True)
class RepresentationSimilarity:
    """RDS+: cosine of hidden states to the target rows.  arXiv 2503.01807.

        s_ji = cos(v_j, v_i)      target row j, candidate i, in [-1, 1]; v of `hidden_states`
        score(i) = max_j s_ji     higher is better

    The paper picks in turns, each target row its nearest candidate not yet taken (round-robin): `similarity` gives the
    (m, n) matrix for that.  The score is for rankings and top-k: how near a candidate is to its nearest target row.
    n + m passes.  `score` and `estimate` are described in `rowwise.RowScore`.
    """

    name: ClassVar[str] = "rds"
    reads: ClassVar[str] = "model"
    needs_target: ClassVar[bool] = True
    needs_response: ClassVar[bool] = False

    template: str = field(
        default="delift", metadata={"help": "prompt template", "choices": ("delift", "chat", "paper"), "or_begins": "{"}
    )
    query_tokens: int = field(default=QUERY_TOKENS, metadata={"help": "most tokens of a row's prompt", "min": 8})

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
        """The greatest cosine of every row to a target row, (n,); `seed` does not count.  No (m, n) matrix is made."""
        target = wanted(target, self.name, responses=False)
        (ours, theirs), notes = self._vectors(rows, target, model, store, progress)
        best = [
            Embedding().score(theirs, ours[a : a + ROWS], target.indices, rows.indices[a : a + ROWS]).values.max(axis=0)
            for a in range(0, len(rows), ROWS)
        ]
        return Scores(np.concatenate(best).astype(np.float64), rows.indices, True, self.name, notes)

    def similarity(
        self, rows: Rows, model: CausalModel, *, target: Rows, store: BlockStore, progress: Progress = no_progress
    ) -> Utility:
        """All cosines, (m, n): target rows are helped, `rows` are the candidates."""
        target = wanted(target, self.name, responses=False)
        (ours, theirs), _ = self._vectors(rows, target, model, store, progress)
        return Embedding().score(theirs, ours, target.indices, rows.indices)

    def estimate(self, rows: Rows, model: CausalModel, *, target: Rows | None = None, seed: int = 0) -> Cost:
        """What `score` will take."""
        target = wanted(target, self.name, responses=False)
        job = _job(model, self.template, self.query_tokens)
        return job.cost(checked(rows, self.name, responses=False)) + job.cost(target)

    def _vectors(
        self, rows: Rows, target: Rows, model: CausalModel, store: BlockStore, progress: Progress
    ) -> tuple[tuple[Floats, Floats], tuple[str, ...]]:
        """Vectors of candidates and of target rows; progress counts both, the candidates first."""
        job, everything = _job(model, self.template, self.query_tokens), float(len(rows) + len(target))

        def counted(before: int) -> Progress:
            def report(stage: str, done: float, total: float, note: str = "") -> None:
                progress(stage, before + done, everything, note)

            return report

        ours = job.arrays(checked(rows, self.name, responses=False), store, counted(0))
        theirs = job.arrays(target, store, counted(len(rows)))
        return (ours["vectors"], theirs["vectors"]), cut_notes(ours, theirs)


def _job(model: CausalModel, name: str, query_tokens: int) -> RowJob:
    template = bind(name, model)

    def lay_out(part: Rows) -> Seen:
        layout = laid_out(part, model, template, query_tokens, spare=1)  # the closing token is read as well
        rows = [Suffix((*row.tokens, row.labels[-1]), ()) for row in layout.alone]
        return Seen(rows, (layout.cut_prompts, layout.cut_responses))

    depends = {"template": [template.name, *template.literals], "limits": [query_tokens]}
    return RowJob("states", model, depends, lay_out)


@dataclass(frozen=True, eq=False)
class Seen:
    """A block of rows to be read to their end."""

    rows: Sequence[Suffix]
    cut: tuple[int, int]
    labels: int = 0

    @property
    def longest(self) -> int:
        """The most tokens of any sequence."""
        return max(map(len, self.rows))

    @property
    def passes(self) -> int:
        """Rows."""
        return len(self.rows)

    def tokens(self, shared: bool) -> int:
        """Tokens read; there is no prefix to share."""
        return sum(map(len, self.rows))

    def compute(self, engine: Engine, check: Check) -> Arrays:
        """`vectors` (B, d) float32 of unit length."""
        import torch

        vectors: dict[int, Floats] = {}
        for batch in engine.prepare(self.rows, np.arange(len(self.rows), dtype=np.int64)):
            check()
            states = torch.split(engine.states(engine.read(()), batch), [len(self.rows[p]) for p in batch.positions])
            for position, hidden in zip(batch.positions, states, strict=True):
                places = torch.arange(1, len(hidden) + 1, device=hidden.device, dtype=torch.float32)
                mean = (places / places.sum()) @ hidden.float()
                vectors[int(position)] = (mean / torch.linalg.vector_norm(mean)).cpu().numpy()
        return {
            "vectors": np.stack([vectors[p] for p in range(len(self.rows))]),
            "cut": np.array([self.cut], np.int64),
        }
