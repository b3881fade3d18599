"""Instruction-following difficulty: how little the prompt helps the model with its response."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from delift_core.scoring.layout import Suffix
from delift_core.scoring.rows import Rows
from delift_core.scoring.rowwise import QUERY_TOKENS, Parts, Readings, RowJob, checked, cut_notes, laid_out
from delift_core.scoring.templates import beginning, bind
from delift_core.types import BlockStore, Cost, Progress, Scores, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel


@dataclass(frozen=True)
class InstructionFollowingDifficulty:
    """IFD.  Cherry LLM, arXiv 2308.12032; with a small model it is Superfiltering, arXiv 2402.00530.

        IFD(i) = perplexity(y_i | x_i) / perplexity(y_i) = exp( loss(y_i | x_i) - loss(y_i) )      > 0, no unit

    with loss the mean negative log-likelihood of the response's tokens and the closing end-of-sequence token, in nats.
    Near 1 the prompt hardly helps the model, so there is something to learn from the row: the highest are taken.  At
    1 or more it does not help at all, a sign that prompt and response do not belong together: such rows get NaN and
    are never picked.  (This is the ratio of perplexities, as Superfiltering has it; Cherry LLM divides the losses.)

    y alone follows the beginning-of-sequence token where the tokenizer sets one, else the end-of-sequence token, which
    parts documents in training.  So both sides judge the same tokens, the first one included; the authors' code skips
    it on one side.  2n passes.  `score` and `estimate` are described in `rowwise.RowScore`.
    """

    name: ClassVar[str] = "ifd"
    reads: ClassVar[str] = "model"
    needs_target: ClassVar[bool] = False
    needs_response: ClassVar[bool] = True

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
        """The ratio of every row, (n,) in (0, 1), and NaN where it is 1 or more; `target` and `seed` do not count."""
        arrays = self._job(model).arrays(checked(rows, self.name), store, progress)
        difference = arrays["given"] - arrays["bare"]
        out = difference >= 0
        notes = cut_notes(arrays)
        if out.any():
            notes = (*notes, f"{int(out.sum())} rows are out: their prompt does not help the model with the response.")
        values = np.exp(np.where(out, np.nan, difference))
        return Scores(values, rows.indices, True, self.name, notes)

    def estimate(self, rows: Rows, model: CausalModel, *, target: Rows | None = None, seed: int = 0) -> Cost:
        """What `score` will take."""
        return self._job(model).cost(checked(rows, self.name))

    def _job(self, model: CausalModel) -> RowJob:
        template = bind(self.template, model)
        start = tuple(beginning(model.tokenizer)) or (model.eos_id,)

        def lay_out(part: Rows) -> Readings:
            layout = laid_out(part, model, template, self.query_tokens)
            everyone = np.arange(len(part), dtype=np.int64)
            bare = [Suffix(start + row.labels[:-1], row.labels) for row in layout.alone]
            contexts: dict[str, Parts] = {"given": [((), layout.alone, everyone)], "bare": [((), bare, everyone)]}
            return Readings(contexts, len(part), (layout.cut_prompts, layout.cut_responses))

        depends = {"template": [template.name, *template.literals], "limits": [self.query_tokens], "start": start}
        return RowJob(self.name, model, depends, lay_out)
