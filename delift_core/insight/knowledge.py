"""What the model knows before training, what the subset can teach it, and what it misses: row by row.

The measure is the scorer's own (DELIFT, arXiv 2411.04425): without help, the distance d(i) to a sure answer (kind l2)
or the loss -l(i) in nats per token (kind pmi); with example j it is that minus U_ij.  The best chosen example leaves
d(i) - max(0, max_{j in A} U_ij): nobody has to show an example that hurts, so the best never leaves a row worse off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import ConfigError
from delift_core.insight.groups import categories as coded
from delift_core.types import Doubles, Indices, Kind, Utility

KNOWN, TAUGHT, MISSED, NEVER, UNSCORED = range(5)
LABELS = (
    "the model knows already", "the subset teaches", "the pool could teach, the subset does not",
    "nothing in the pool teaches",
    "not scored with the subset",
)  # fmt: skip
EVEN_CHANCE = {"l2": 0.5, "pmi": math.log(2)}  # where the true token has a probability of one half
UNITS = {"l2": "distance", "pmi": "loss, nats per token"}
_FEWEST = 0.05  # of the rows that must lie on either side of the even chance for it to tell them apart
_ENTRIES = 1 << 22  # numbers looked at in one go


@dataclass(frozen=True, eq=False)
class Best:
    """The best example for each helped row among some columns of a utility."""

    value: Doubles  # (R,) what it saves, negative where every example hurts; NaN where no pair is stored
    column: Indices  # (R,) its position among the candidates; -1 where no pair is stored


@dataclass(frozen=True)
class Thresholds:
    """Where a row counts as known, and what counts as teaching, in the unit of the measure."""

    known: float  # at most this much without help
    gain: float  # at least this much less with an example
    why: str  # one sentence on where they come from


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Every helped row before and after, and the category that the thresholds put it in."""

    kind: Kind
    before: Doubles  # (R,) without help
    after: Doubles  # (R,) with the best chosen example; NaN where no pair with the subset is stored
    reach: Doubles  # (R,) with the best example of the whole pool; NaN where no pair is stored
    categories: Indices  # (R,) KNOWN, TAUGHT, MISSED, NEVER or UNSCORED
    helped: Indices  # (R,) row indices
    teacher: Indices  # (R,) row index of the best chosen example, -1 for none
    tutor: Indices  # (R,) row index of the best example of the whole pool, -1 for none
    weights: Doubles  # (R,) how many rows each stands for
    thresholds: Thresholds

    @property
    def counts(self) -> Indices:
        """(5,) rows in each category."""
        return np.bincount(self.categories, minlength=len(LABELS))

    @property
    def shares(self) -> Doubles:
        """(5,) share of the rows in each category, each row counted as often as it stands for others."""
        whole = self.weights.sum()
        return np.bincount(self.categories, self.weights, len(LABELS)) / (whole if whole > 0 else 1.0)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The findings, plainly."""
        return tuple(_sentences(self))

    def rows(self, category: int) -> Indices:
        """Positions of the rows of one category, the largest effect first.

        Of known rows those that are known best, of taught ones those that save most, of missed ones those where the
        pool saves most beyond the subset, of the others those that are farthest from known.
        """
        at = np.flatnonzero(self.categories == category)
        effect = {
            KNOWN: -self.before, TAUGHT: self.before - self.after, MISSED: self.after - self.reach,
        }.get(category, self.before)  # fmt: skip
        return at[np.argsort(-np.nan_to_num(effect[at], nan=-np.inf), kind="stable")]

    def over(self, n: int) -> Indices:
        """(n,) the category of each row of the helped dataset; len(LABELS) for a row that was not measured."""
        found = np.full(n, len(LABELS), np.int64)
        found[self.helped] = self.categories
        return found

    def split(self, labels: Sequence[str | None], most: int = 30) -> tuple[list[str], Indices]:
        """Names (G,) of the groups, the largest first, and how many of their rows are in each category (G, 5).

        `labels` (N,) speaks of all rows of the helped dataset.
        """
        codes, names = coded([labels[row] for row in self.helped.tolist()], most)
        flat = np.bincount(codes * len(LABELS) + self.categories, minlength=len(names) * len(LABELS))
        return names, flat.reshape(len(names), len(LABELS))


def knowledge(
    utility: Utility,
    chosen: Indices,
    *,
    same: bool = False,
    known: float | None = None,
    gain: float | None = None,
) -> Knowledge:
    """Sort the helped rows by what the model knows and what the chosen examples teach.

    Args:
        utility: raw, of kind l2 or pmi, with its baseline.
        chosen: (k,) positions of the subset among the candidates.
        same: helped rows and candidates are of one dataset, so that no row is an example for itself.
        known: a row is known at this or less without help; by default see `usual`.
        gain: an example teaches that saves this much; by default see `usual`.

    Raises ConfigError for a utility that holds no measure without help.
    """
    before = baseline(utility)
    pool = best(utility, same=same)
    defaults = usual(utility.kind, before, pool)
    thresholds = Thresholds(
        defaults.known if known is None else known, defaults.gain if gain is None else gain, defaults.why
    )
    return judged(utility, best(utility, chosen, same=same), pool, thresholds)


def baseline(utility: Utility) -> Doubles:
    """(R,) what the model misses without help; ConfigError where the utility does not say."""
    if utility.baseline is None or utility.kind not in UNITS:
        raise ConfigError(
            f"A utility of kind {utility.kind} does not say what the model knows without help. Score the rows with a "
            "language model: the methods delift, delift-task and delift-continual do."
        )
    measured = utility.baseline.astype(np.float64)
    return measured if utility.kind == "l2" else -measured


def best(utility: Utility, columns: Indices | None = None, *, same: bool = False) -> Best:
    """The best example for each row among the given positions, or among all candidates; a missing pair is unknown."""
    allowed = np.ones(utility.shape[1], bool)
    if columns is not None:
        allowed[:] = False
        allowed[columns] = True
    return _dense(utility, allowed, same) if utility.is_dense else _sparse(utility, allowed, same)


def usual(kind: Kind, before: Doubles, pool: Best) -> Thresholds:
    """Thresholds from the data.

    Known: the true tokens have an even chance (a distance of 0.5, a loss of ln 2), which means the same for every model
    and dataset; where that leaves fewer than 1 row in 20 on either side, the third of the rows that the model answers
    best, which is relative.  Teaching: half of what the best example of the pool saves the median row that is not
    known, so that only rows that gain unusually little count as rows that nothing teaches.
    """
    even, measured = EVEN_CHANCE[kind], before[np.isfinite(before)]
    below = float(np.mean(measured <= even)) if len(measured) else 0.0
    if not len(measured) or _FEWEST <= below <= 1 - _FEWEST:
        known, why = even, "Known by default: the true tokens have an even chance on average."
    else:
        known = float(np.quantile(measured, 1 / 3))
        side = "above" if below < _FEWEST else "below"
        why = (
            f"Nearly every row lies {side} {even:.3g}, an even chance for the true tokens, so by default the third of "
            "the rows that the model answers best counts as known: that is relative to these rows."
        )
    open_rows = pool.value[(before > known) & np.isfinite(pool.value)]
    gain = float(np.median(np.maximum(open_rows, 0.0))) / 2 if len(open_rows) else 0.0
    return Thresholds(
        known, gain, f"{why} Teaching by default: half of what the best example of the pool saves the median other row."
    )


def judged(utility: Utility, subset: Best, pool: Best, thresholds: Thresholds) -> Knowledge:
    """Put every row into its category, from what the best examples save."""
    before = baseline(utility)
    taught, could = (_teaches(b.value, thresholds.gain) for b in (subset, pool))
    scored = np.isfinite(subset.value) & np.isfinite(before)
    found = np.select(
        [before <= thresholds.known, ~scored, taught, could], [KNOWN, UNSCORED, TAUGHT, MISSED], default=NEVER
    )
    return Knowledge(
        utility.kind, before, before - np.maximum(subset.value, 0.0), before - np.maximum(pool.value, 0.0),
        found.astype(np.int64), utility.helped, _rows(utility, subset), _rows(utility, pool),
        np.ones(len(before)) if utility.weights is None else utility.weights, thresholds,
    )  # fmt: skip


def _teaches(saved: Doubles, gain: float) -> NDArray[np.bool_]:
    teaches: NDArray[np.bool_] = (saved >= gain) & (saved > 0)  # NaN compares False
    return teaches


def _rows(utility: Utility, found: Best) -> Indices:
    if not utility.shape[1]:
        return found.column
    return np.where(found.column < 0, -1, utility.candidates[found.column]).astype(np.int64)


def _dense(utility: Utility, allowed: NDArray[np.bool_], same: bool) -> Best:
    count, width = utility.shape
    value, column = np.full(count, np.nan), np.full(count, -1, np.int64)
    stored: Any = utility.values
    columns = np.flatnonzero(allowed)
    step = max(1, _ENTRIES // max(1, width))
    for start in range(0, count if len(columns) else 0, step):
        part = np.asarray(stored[start : start + step])
        part = part.copy() if len(columns) == width else part[:, columns]
        rows = utility.helped[start : start + step]
        if same:
            part[utility.candidates[columns] == rows[:, None]] = np.nan
        np.copyto(part, -np.inf, where=np.isnan(part))
        at = part.argmax(axis=1)
        most = part[np.arange(len(part)), at].astype(np.float64)
        some = most > -np.inf
        value[start : start + step][some] = most[some]
        column[start : start + step][some] = columns[at[some]]
    return Best(value, column)


def _sparse(utility: Utility, allowed: NDArray[np.bool_], same: bool) -> Best:
    stored: Any = utility.values
    at = np.repeat(np.arange(utility.shape[1]), np.diff(stored.indptr))
    rows, data = np.asarray(stored.indices, np.int64), np.asarray(stored.data)
    kept = allowed[at] & ~np.isnan(data)
    if same:
        kept &= utility.candidates[at] != utility.helped[rows]
    rows, at, data = rows[kept], at[kept], data[kept].astype(np.float64)
    order = np.lexsort((-at, data, rows))  # the last of each row is its best, the first candidate among equals
    rows, at, data = rows[order], at[order], data[order]
    last = np.flatnonzero(np.append(rows[1:] != rows[:-1], True)) if len(rows) else np.empty(0, np.int64)
    value, column = np.full(utility.shape[0], np.nan), np.full(utility.shape[0], -1, np.int64)
    value[rows[last]], column[rows[last]] = data[last], at[last]
    return Best(value, column)


def _sentences(found: Knowledge) -> list[str]:
    count, unit = len(found.before), UNITS[found.kind].partition(",")[0]
    if not count:
        return ["There is no row to measure."]
    parts = [
        f"{LABELS[c]}: {n:,} ({100 * share:.0f} %)"
        for c, (n, share) in enumerate(zip(found.counts, found.shares, strict=True))
        if n or c != UNSCORED
    ]
    told = [f"Of {count:,} rows, {'; '.join(parts)}."]
    scored = np.isfinite(found.after) & np.isfinite(found.before)
    if scored.any():
        weight = found.weights[scored]
        before, after, reach = (
            float(weight @ of[scored] / weight.sum()) for of in (found.before, found.after, found.reach)
        )
        told.append(
            f"The mean {unit} is {before:.3g} without help, {after:.3g} with the best example of the subset and "
            f"{reach:.3g} with the best of the pool"
            + (
                f": the subset gives {100 * (before - after) / (before - reach):.0f} % of what the pool could."
                if before > reach
                else "."
            )
        )
    if not scored.all():
        told.append(f"Of {int((~scored).sum()):,} rows no pair with the subset was scored: their help is not known.")
    return told
