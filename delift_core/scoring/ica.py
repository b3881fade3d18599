"""In-context approximation: how much a few target rows, shown as examples, help the model with each response."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from delift_core.errors import ConfigError
from delift_core.scoring.rows import Rows
from delift_core.scoring.rowwise import (
    QUERY_TOKENS,
    Parts,
    Readings,
    RowJob,
    checked,
    cut_notes,
    laid_out,
    taken,
    wanted,
)
from delift_core.scoring.templates import bind, chained
from delift_core.types import BlockStore, Cost, Progress, Scores, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel


@dataclass(frozen=True)
class InContextApproximation:
    """ICA: the loss that a candidate loses once the model has seen some of the target.  arXiv 2510.14459.

        ICA(i) = loss(y_i | x_i) - loss(y_i | k target examples, x_i)       nats per response token; higher is better

    It stands for the target loss that training on row i would save, without training.  This is the reverse of
    in-context utility, where the candidate is the example, and needs n passes where that needs m n.

    One seeded draw of k target rows (exact copies count once) serves all candidates, so their examples are read once
    and every candidate is measured by the same ones; another seed gives another draw.  Too long for the context: all
    examples are shortened alike, by the length class of the candidate, before its prompt and last of all its response.
    2n passes.  `score` and `estimate` are described in `rowwise.RowScore`.
    """

    name: ClassVar[str] = "ica"
    reads: ClassVar[str] = "model"
    needs_target: ClassVar[bool] = True
    needs_response: ClassVar[bool] = True

    template: str = field(default="delift", metadata={"help": "prompt template", "choices": ("delift", "chat")})
    shots: int = field(default=3, metadata={"help": "target rows shown as examples", "min": 1, "max": 64})
    example_tokens: int = field(
        default=256, metadata={"help": "most tokens of an example's prompt and response together", "min": 8}
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
        """ICA of every row, (n,) in nats per token.  Raises ConfigError where the target has fewer than k rows."""
        shown = self._shown(target, seed)
        arrays = self._job(model, shown).arrays(checked(rows, self.name), store, progress)
        notes = cut_notes(arrays)
        known = sum(key in shown.keys for key in rows.keys)
        if known:
            notes = (*notes, f"{known} rows are copies of a target row that is shown, and profit from it.")
        return Scores(arrays["alone"] - arrays["shown"], rows.indices, True, self.name, notes)

    def estimate(self, rows: Rows, model: CausalModel, *, target: Rows | None = None, seed: int = 0) -> Cost:
        """What `score` will take."""
        return self._job(model, self._shown(target, seed)).cost(checked(rows, self.name))

    def _shown(self, target: Rows | None, seed: int) -> Rows:
        target = wanted(target, self.name)
        first: dict[str, int] = {}
        for position, key in enumerate(target.keys):
            first.setdefault(key, position)
        if len(first) < self.shots:
            raise ConfigError(
                f"The score ica shows {self.shots} target rows, and the target has {len(first)} different ones. "
                f"Set shots to {len(first)} or less, or give more target rows."
            )
        return taken(target, np.random.default_rng(seed).choice(list(first.values()), self.shots, replace=False))

    def _job(self, model: CausalModel, shown: Rows) -> RowJob:
        template = bind(self.template, model)
        examples = chained(template, shown.prompts, shown.responses)

        def lay_out(part: Rows) -> Readings:
            layout = laid_out(
                part, model, template, self.query_tokens,
                example_fixed=sum(example.fixed for example in examples),
                example_tokens=self.shots * self.example_tokens,
            )  # fmt: skip
            everyone = np.arange(len(part), dtype=np.int64)
            after = []
            for room, positions in layout.classes:
                prefix = (token for example in examples for token in example.cut(room // self.shots))
                after.append((tuple(prefix), layout.after, positions))
            contexts: dict[str, Parts] = {"alone": [((), layout.alone, everyone)], "shown": after}
            return Readings(contexts, len(part), (layout.cut_prompts, layout.cut_responses))

        depends = {
            "template": [template.name, *template.literals],
            "limits": [self.example_tokens, self.query_tokens],
            "shown": shown.digest,
        }
        return RowJob(self.name, model, depends, lay_out)
