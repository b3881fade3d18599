"""Importance of each row by its words: how much likelier they are in the target than in the pool."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from delift_core.scoring.rows import Rows
from delift_core.scoring.rowwise import STAGE, checked, taken, wanted
from delift_core.types import BlockStore, Cost, Doubles, Progress, Scores, block_key, no_progress

if TYPE_CHECKING:
    from scipy import sparse

BUCKETS = 10_000  # as in the paper
WORDS = r"\w+|[^\w\s]"  # a run of letters and digits, or any other sign
ROWS = 20_000  # of a block
SAMPLE = 2000  # rows that are counted for an estimate
VERSION = 1  # of the counts in a block; raise when they change


@dataclass(frozen=True)
class ImportanceResampling:
    r"""DSIR: hashed n-gram importance weights.  arXiv 2302.03169.

        w(i) = sum_b c_ib log( p_target(b) / p_pool(b) )        log importance weight of row i, higher is better
        p_target(b) = (1 - smoothing) C_target(b) / N_target + smoothing p_pool(b)

    c_ib counts the words and pairs of neighbouring words of row i (prompt and response, in lower case) that hash to
    bucket b of 10,000; p_pool(b) = C_pool(b) / N_pool.  With `gumbel`, w(i) gets seeded Gumbel(0, 1) noise, so that the
    top k are a draw of k rows without replacement with chances in proportion to exp(w), as in the paper; without it
    they are the rows of the greatest weights.  The noise belongs to the row's index, whatever other rows are scored.

    The authors add 1e-8 to both probabilities instead of mixing, so that a word which a small target lacks outweighs
    all others; here it costs -log(smoothing) at most.  As in the paper the weights are sums, not means over the words.
    Where the target or the pool has no response at all, prompts alone are compared.  Rows without a word are refused.

    No passes: only texts are read, about 10,000 short rows a second.  Counts go to the store in blocks of 20,000 rows,
    4 bytes for each different n-gram of a row.  `score` and `estimate` are described in `rowwise.RowScore`.
    """

    name: ClassVar[str] = "dsir"
    reads: ClassVar[str] = "texts"
    needs_target: ClassVar[bool] = True
    needs_response: ClassVar[bool] = False

    gumbel: bool = field(
        default=True, metadata={"help": "draw rows by their weights (seeded) instead of taking the greatest weights"}
    )
    smoothing: float = field(
        default=0.1,
        metadata={"help": "share of the pool's words in the target's distribution", "min": 1e-8, "max": 1.0},
    )

    def score(
        self,
        rows: Rows,
        model: object = None,
        *,
        target: Rows | None = None,
        store: BlockStore,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Scores:
        """The log weight of every row (with noise, if any), (n,); NaN for a row without a word.

        Raises ConfigError without a target, DataError without rows.
        """
        rows, target = checked(rows, self.name, responses=False), wanted(target, self.name, responses=False)
        whole = any(rows.responses) and any(target.responses)
        wanted_counts = _total(target, whole, store, no_progress)
        total = _total(rows, whole, store, progress)
        ratio = self.log_ratio(wanted_counts, total)
        values = np.empty(len(rows))
        for start, stop in _spans(rows):
            counts = _counts(rows.part(start, stop), whole, store)
            values[start:stop] = np.where(np.diff(counts.indptr) > 0, counts @ ratio, np.nan)
            progress(STAGE, stop, len(rows), "weighing")
        if self.gumbel:
            values += np.random.default_rng(seed).gumbel(size=int(rows.indices.max()) + 1)[rows.indices]
        notes = () if whole else ("One side has no responses, so prompts alone were compared.",)
        refused = int(np.isnan(values).sum())
        if refused:
            notes = (*notes, f"{refused} rows are out: they hold no word.")
        return Scores(values, rows.indices, True, self.name, notes)

    def log_ratio(self, target: Doubles, pool: Doubles) -> Doubles:
        """Logarithm (BUCKETS,) of p_target(b) / p_pool(b), from counts (BUCKETS,); 0 where the pool has none."""
        p, q = target / max(1.0, target.sum()), pool / max(1.0, pool.sum())
        seen = q > 0
        ratio: Doubles = np.zeros(BUCKETS)
        ratio[seen] = np.log((1 - self.smoothing) * p[seen] / q[seen] + self.smoothing)
        return ratio

    def estimate(self, rows: Rows, model: object = None, *, target: Rows | None = None, seed: int = 0) -> Cost:
        """What `score` will take, from a sample of the rows; no model reads them, so there are no passes."""
        rows, target = checked(rows, self.name, responses=False), wanted(target, self.name, responses=False)
        few = taken(rows, np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int64))
        start = time.perf_counter()
        counts = _count(few, any(rows.responses) and any(target.responses))
        scale = (len(rows) + len(target)) / len(few)
        return Cost(0, 0, 0.0, (time.perf_counter() - start) * scale, round(4 * (counts.nnz + len(few)) * scale))


def _spans(rows: Rows) -> list[tuple[int, int]]:
    return list(pairwise([*range(0, len(rows), ROWS), len(rows)]))


def _total(rows: Rows, whole: bool, store: BlockStore, progress: Progress) -> Doubles:
    """How often each bucket occurs in all rows, (BUCKETS,)."""
    total: Doubles = np.zeros(BUCKETS)
    for start, stop in _spans(rows):
        total += np.asarray(_counts(rows.part(start, stop), whole, store).sum(axis=0), np.float64).ravel()
        progress(STAGE, stop, len(rows), "counting words")
    return total


def _counts(part: Rows, whole: bool, store: BlockStore) -> sparse.csr_array:
    """Counts (rows, BUCKETS) of a block, from the store or into it; a count stops at 65,535."""
    from scipy import sparse

    key = block_key("words", version=VERSION, rows=part.digest, whole=whole, words=WORDS, buckets=BUCKETS)
    block = store.get(key)
    if block is None:
        counts = _count(part, whole)
        block = {
            "counts": np.minimum(counts.data, 65_535).astype(np.uint16),
            "buckets": counts.indices.astype(np.uint16),
            "ends": counts.indptr.astype(np.int64),
        }
        store.put(key, block)
    arrays = (block["counts"].astype(np.float64), block["buckets"].astype(np.int32), block["ends"])
    return sparse.csr_array(arrays, shape=(len(part), BUCKETS))


def _count(part: Rows, whole: bool) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = part.prompts
    if whole:
        texts = [f"{prompt}\n{response}" for prompt, response in zip(part.prompts, part.responses, strict=True)]
    vectorizer = HashingVectorizer(
        n_features=BUCKETS, ngram_range=(1, 2), token_pattern=WORDS, alternate_sign=False, norm=None, dtype=np.float32
    )
    return vectorizer.transform(texts)
