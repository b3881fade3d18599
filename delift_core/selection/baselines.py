"""Controls: what every other choice has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from delift_core.selection.ranked import cut
from delift_core.types import Evidence, Limit, Progress, Selection, no_progress


@dataclass(frozen=True)
class Random:
    """A seeded random order of the candidates.  It maximises nothing: gains and values are 0, the share is NaN."""

    name: ClassVar[str] = "random"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take rows in random order; with a token limit, those that still fit."""
        order = np.random.default_rng(seed).permutation(len(evidence))
        note = "Random control: it maximises nothing, so gains and values are 0."
        found = cut(evidence, order.astype(np.int64), np.zeros(len(order)), limit, notes=(note,))
        progress("select", len(found), len(found))
        return found
