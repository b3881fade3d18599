"""Cosines of the pairs that a plan asks for, where no memory holds those of all pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from delift_core.errors import ConfigError
from delift_core.neighbours import nearest
from delift_core.scoring.embedding import check_vectors
from delift_core.scoring.pairs import Pairs
from delift_core.scoring.planned import Checked, Planned
from delift_core.scoring.plans import Problem
from delift_core.types import BlockStore, Floats, Indices, Progress, Utility, no_progress

if TYPE_CHECKING:
    from delift_core.scoring.features import Side
    from delift_core.scoring.plans import Plan

STAGE = "near"
_AT_ONCE = 1 << 18  # pairs whose vectors are held at a time


def score_near(
    helped_vectors: Floats,
    candidate_vectors: Floats,
    helped: Indices,
    candidates: Indices,
    plan: Plan,
    *,
    centre: Floats,
    same: bool,
    check_rows: int,
    seed: int,
    store: BlockStore,
    progress: Progress = no_progress,
) -> Planned:
    """Row-centred cosines of the pairs that `plan` asks for, and of a random exact block to judge it by.

    Between two datasets each candidate is compared with the row that is nearest to it as well, so that all are ranked.

    A pair counts as its cosine less the mean cosine of the helped row with the pool.  So a pair that is not looked at,
    which counts 0, counts as an average one; left as they are, cosines would make it the worst pair there is.

    Args:
        helped_vectors: unit vectors (R, d) of the rows that are helped.
        candidate_vectors: unit vectors (C, d) of the rows that help.
        helped: (R,) row indices.
        candidates: (C,) row indices.
        plan: a pair plan that asks once.
        centre: (d,) mean vector of the pool's rows, the same for all parts that are compared.
        same: a pool against itself; each row is then its own pair as well.
        check_rows: helped rows of the exact block.
        seed: of random pairs, and of the choice of those rows.
        store: where the k-NN graph is kept.
        progress: stages "neighbours", in rows, and "near", in pairs; may raise Cancelled.

    Raises ConfigError for a plan that learns from what it has asked, ValueError for vectors that are not of unit length
    or do not belong to the indices.
    """
    check_vectors(helped_vectors, candidate_vectors, helped, candidates)
    shape = (len(helped), len(candidates))
    problem = Problem(
        shape, same, Pairs.none(shape), helped_vectors, candidate_vectors, np.zeros(shape[0], np.float32), _no_sides,
        seed, store, progress,
    )  # fmt: skip
    asking = plan.ask(problem)
    pairs = next(asking)
    if same:
        own = np.arange(shape[0])
        pairs = pairs.union(Pairs.of(own, own, shape))
    else:  # what no row names as near would have nothing to tell it from others
        closest, _ = nearest(candidate_vectors, helped_vectors, 1, progress=_of_candidates(progress))
        pairs = pairs.union(Pairs.of(closest[:, 0], np.arange(shape[1]), shape))
    centred = candidate_vectors.astype(np.float32) - centre.astype(np.float32)
    values = _products(helped_vectors, centred, pairs, progress)
    utility = Utility(pairs.matrix(values), helped, candidates, "centred")
    hidden = np.sort(np.random.default_rng(seed).permutation(shape[0])[:check_rows])
    exact = np.asarray(helped_vectors[hidden] @ centred.T, np.float32)
    told = utility.values.tocsr()[hidden].tocoo()  # type: ignore[union-attr]
    known = np.full(exact.shape, np.nan, np.float32)
    known[told.coords] = told.data
    checked = Checked(hidden, exact, known, ~np.isnan(known))
    return Planned({"centred": utility}, utility, None, len(pairs), 0, 0, checked, 1)


def _products(helped: Floats, candidates: Floats, pairs: Pairs, progress: Progress) -> Floats:
    """The dot product of each pair (P,), in the order of the pairs."""
    values = np.empty(len(pairs), np.float32)
    rows, columns = pairs.rows, pairs.columns
    for start in range(0, len(pairs), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        np.einsum("pd,pd->p", helped[rows[part]], candidates[columns[part]], out=values[part])
        progress(STAGE, float(min(start + _AT_ONCE, len(pairs))), float(len(pairs)))
    return values


def _of_candidates(progress: Progress) -> Progress:
    """A stage of its own for the second search, as a stage counts up once."""

    def report(stage: str, done: float, total: float, note: str = "") -> None:
        progress(f"{stage} of candidates", done, total, note)

    return report


def _no_sides() -> tuple[Side, Side]:
    raise ConfigError("This pair plan learns from the language model's passes. Compare vectors by knn:32 or dense.")
