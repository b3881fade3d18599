"""Rankings by one number a row, and how any ranking becomes a selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from delift_core.errors import ConfigError
from delift_core.selection.limits import shortfall, within
from delift_core.types import Doubles, Evidence, Indices, Limit, Progress, Scores, Selection, no_progress


def nested_under(limit: Limit) -> bool:
    """Whether a fixed order keeps its prefixes: not under a token budget, nor where the rules keep room."""
    return limit.tokens is None and (limit.rules is None or limit.rules.nested)


def cut(
    evidence: Evidence, ranking: Indices, gain: Doubles, limit: Limit, *, full: float = 0.0, notes: tuple[str, ...] = ()
) -> Selection:
    """The selection that a limit leaves of a ranking.

    Args:
        evidence: whose candidates are ranked.
        ranking: (n,) positions, best first.
        gain: (n,) what each position is worth; the value of a selection is the running sum.
        limit: the resolved budget and its rules.
        full: value of the whole pool; 0 (so that the share is NaN) where that means nothing.
        notes: what a reader must know.
    """
    picks = within(ranking, evidence.tokens, limit)
    gains, notes = gain[picks].astype(np.float64), (*notes, *shortfall(picks, evidence.tokens, limit))
    return Selection(evidence.candidates[picks], gains, np.cumsum(gains), full, nested_under(limit), notes)


@dataclass(frozen=True)
class TopK:
    """The rows of the best row score: highest first, or lowest first where the score says that lower is better.

    Equal scores keep the order of the pool.  A score of NaN refuses its row: such rows go last, also among
    themselves in the order of the pool, so they are picked only where nothing else is left.

    `gains` are the scores, with the opposite sign where lower is better, and 0 for refused rows: up to those they never
    increase.  `value` is their running sum.  `full_value` is the sum over the pool where no gain is negative; else it
    is 0 and `share` NaN, because a share of a sum of mixed signs means nothing.
    """

    name: ClassVar[str] = "top-k"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take the best rows up to the limit; the seed is not used.

        Raises ConfigError where a score is infinite or where every row is refused.
        """
        scores = _scores(evidence)
        worth = scores.values if scores.higher_is_better else -scores.values
        refused = np.isnan(worth)
        ranking = np.argsort(-worth, kind="stable").astype(np.int64)  # NaN sorts last
        gain = np.where(refused, 0.0, worth)
        full = float(gain.sum()) if (gain >= 0).all() else 0.0
        count, notes = int(refused.sum()), scores.notes
        if count:
            notes = (*notes, f"{count} of {len(evidence)} rows have no score of {scores.name}: they stand last.")
        found = cut(evidence, ranking, gain, limit, full=full, notes=notes)
        progress("select", len(found), len(found))
        return found


def _scores(evidence: Evidence) -> Scores:
    scores = evidence.scores
    if scores is None:
        raise ValueError("the evidence has no scores, which this objective needs")
    if not np.array_equal(scores.candidates, evidence.candidates):
        raise ValueError("the scored rows are not the candidates of the evidence, in their order")
    infinite = np.flatnonzero(np.isinf(scores.values))
    if len(infinite):
        row = scores.candidates[infinite[0]]
        raise ConfigError(f"The score {scores.name} of pool row {row} is infinite. Look at the row, or leave it out.")
    if len(evidence) and np.isnan(scores.values).all():
        raise ConfigError(
            f"The score {scores.name} refuses all {len(evidence)} rows, so nothing can be ranked. Take another score."
        )
    return scores
