"""The loss of each response under a model: how badly it foretells what it is to learn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from delift_core.scoring.rows import Rows
from delift_core.scoring.rowwise import QUERY_TOKENS, Readings, RowJob, checked, cut_notes, laid_out
from delift_core.scoring.templates import bind
from delift_core.types import BlockStore, Cost, Progress, Scores, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel


@dataclass(frozen=True)
class Loss:
    """Mean negative log-likelihood of the response given the prompt.  Perplexity pruning, arXiv 2405.20541.

    With y_1..y_T the response's tokens and the closing end-of-sequence token,

        loss(i) = - mean_t log P(y_t | x_i, y_<t)        nats per response token, >= 0; exp(loss) is the perplexity

    The paper finds that it depends on the data whether rows of high, middle or low perplexity train best, so the end
    to pick from is an option.  n passes.  `score` and `estimate` are described in `rowwise.RowScore`.
    """

    name: ClassVar[str] = "loss"
    reads: ClassVar[str] = "model"
    needs_target: ClassVar[bool] = False
    needs_response: ClassVar[bool] = True

    template: str = field(
        default="delift", metadata={"help": "prompt template", "choices": ("delift", "chat", "paper"), "or_begins": "{"}
    )
    query_tokens: int = field(default=QUERY_TOKENS, metadata={"help": "most tokens of a row's prompt", "min": 8})
    prefer: str = field(
        default="high", metadata={"help": "rows the model foretells badly, or well", "choices": ("high", "low")}
    )

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
        """The loss of every row, (n,) in nats per token; `target` and `seed` do not count."""
        arrays = self._job(model).arrays(checked(rows, self.name), store, progress)
        return Scores(arrays["given"], rows.indices, self.prefer == "high", self.name, cut_notes(arrays))

    def estimate(self, rows: Rows, model: CausalModel, *, target: Rows | None = None, seed: int = 0) -> Cost:
        """What `score` will take."""
        return self._job(model).cost(checked(rows, self.name))

    def _job(self, model: CausalModel) -> RowJob:
        template = bind(self.template, model)

        def lay_out(part: Rows) -> Readings:
            layout = laid_out(part, model, template, self.query_tokens)
            everyone = np.arange(len(part), dtype=np.int64)
            cut = (layout.cut_prompts, layout.cut_responses)
            return Readings({"given": [((), layout.alone, everyone)]}, len(part), cut)

        depends = {"template": [template.name, *template.literals], "limits": [self.query_tokens]}
        return RowJob(self.name, model, depends, lay_out)
