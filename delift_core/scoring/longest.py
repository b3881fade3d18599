"""The length of each response: the strong simple baseline."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from delift_core.scoring.rows import Rows
from delift_core.scoring.rowwise import STAGE, checked, taken
from delift_core.types import BlockStore, Cost, Progress, Scores, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import TextTokenizer

ROWS = 20_000  # of a part, between two calls of progress
SAMPLE = 2000  # rows that are counted for an estimate


@dataclass(frozen=True)
class Longest:
    """Response tokens: the longest responses are taken.  Long is more for alignment, arXiv 2402.04833.

        longest(i) = tokens of y_i in the run's tokenizer, without the closing token

    A careful comparison (arXiv 2410.09335) finds that at the size of real pools few methods beat random rows, and
    token length does so steadily.  No passes: only the tokenizer is read.  Nothing is stored, as counting again is
    quick.  `score` and `estimate` are described in `rowwise.RowScore`.
    """

    name: ClassVar[str] = "longest"
    reads: ClassVar[str] = "tokenizer"
    needs_target: ClassVar[bool] = False
    needs_response: ClassVar[bool] = True

    def score(
        self,
        rows: Rows,
        model: TextTokenizer,
        *,
        target: Rows | None = None,
        store: BlockStore,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Scores:
        """Tokens of every response, (n,); `target`, `store` and `seed` do not count."""
        checked(rows, self.name)
        counts = []
        for start in range(0, len(rows), ROWS):
            progress(STAGE, start, len(rows))
            counts.append(model.count_tokens(rows.responses[start : start + ROWS]))
        progress(STAGE, len(rows), len(rows))
        return Scores(np.concatenate(counts).astype(np.float64), rows.indices, True, self.name)

    def estimate(self, rows: Rows, model: TextTokenizer, *, target: Rows | None = None, seed: int = 0) -> Cost:
        """What `score` will take, from a sample of the rows; no model reads the tokens, so there are no passes."""
        checked(rows, self.name)
        few = taken(rows, np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int64))
        start = time.perf_counter()
        model.count_tokens(few.responses)
        return Cost(0, 0, 0.0, (time.perf_counter() - start) * len(rows) / len(few), 0)
