"""GOT-D without its redundancy: facility location over the best rows by transport gradient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from delift_core.neighbours import graph
from delift_core.selection import sinkhorn
from delift_core.selection.facility import CoverProblem, solve
from delift_core.selection.limits import within
from delift_core.selection.sampled_transport import SampledTransport, descending
from delift_core.types import Doubles, Evidence, Floats, Indices, Limit, Progress, Rules, Selection, no_progress

if TYPE_CHECKING:
    from scipy import sparse

DENSE = 4_096  # rows up to which all similarities of the short list are stored
EXACT = 50_000  # rows up to which its nearest neighbours are found by comparing all pairs, block by block


@dataclass(frozen=True)
class DiverseTransport(SampledTransport):
    """Cover the part of the pool that lies towards the target, rather than take its best rows however alike they are.

    The short list holds the `factor` times k rows of the most negative calibrated gradient [GOT-D, arXiv 2405.02774],
    for k picks.  Of these, greedy facility location takes those that maximise

        f(A) = sum_i w_i max_{j in A} s_ij,  s_ij = (1 + cos(x_i, x_j)) / 2,  w_i in proportion to exp(-gradient_i / t)

    with the w_i summing to 1 and t the `temperature` times the mean cost: a row counts by how much its mass moves the
    pool towards the target, so a short list that reaches beyond the rows of the task does not pull the picks away from
    it.  Low, the picks are nearly those of `TransportGradient`; high, the short list is covered evenly.  Above 4,096
    rows only the pairs of nearest neighbours are stored, and the rest count as 0.

    The short list depends on k, so a smaller budget must be computed anew.  `gains` and `value` are those of f;
    `full_value` is f of the short list, 1.  Equal gains: the better gradient goes first.
    """

    factor: int = field(default=5, metadata={"help": "rows of the short list, as a multiple of the picks", "min": 1})
    temperature: float = field(
        default=0.15,
        metadata={
            "help": "how far rows of a worse gradient count, as a share of the mean cost",
            "min": 1e-2,
            "max": 1e3,
        },
    )
    neighbours: int = field(
        default=64, metadata={"help": "similar rows that each row of a long short list is compared with", "min": 1}
    )

    name: ClassVar[str] = "got-d-diverse"
    nested: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"vectors", "target_vectors"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Cover the short list up to the limit.

        Raises ConfigError when a vector is not finite or there is no target.
        """
        gradient, notes = self.gradients(evidence, seed=seed, progress=progress)
        short = shortlist(gradient, evidence.tokens, limit, self.factor)
        weight = self.weights(gradient[short], sinkhorn.unit_of_cost(*self.ends(evidence)))
        near = similarities(self.ends(evidence)[0][short], self.neighbours, seed, progress)
        inner = limit if limit.rules is None else replace(limit, rules=among(limit.rules, short))
        cover = solve(CoverProblem(near, weight=weight), inner, evidence.tokens[short], progress)
        notes += (
            f"Facility location over the {len(short)} rows of the best gradient; picks for a smaller budget must be "
            "computed anew.",
            *cover.notes,
        )
        return Selection(
            evidence.candidates[short[cover.picks]], cover.gains, cover.value, cover.full_value, False, notes
        )

    def weights(self, gradient: Doubles, cost: float) -> Doubles:
        """What each row of the short list (s,) counts, summing to 1; `cost` is the mean cost of the problem."""
        weight = np.exp((gradient.min(initial=np.inf) - gradient) / (self.temperature * cost))
        return np.asarray(weight / max(1.0, weight.sum()), np.float64)


def shortlist(gradient: Doubles, tokens: Indices, limit: Limit, factor: int) -> Indices:
    """Positions of the most negative gradients, best first: `factor` times as many as the limit would take of them.

    What the limit and its rules would take by gradient alone is always among them, so the rules can be met.
    """
    ranking = descending(-gradient)
    taken = within(ranking, tokens, limit)
    banned = None if limit.rules is None else limit.rules.banned
    allowed = ranking if banned is None else ranking[~banned[ranking]]
    kept = np.zeros(len(ranking), np.bool_)
    kept[allowed[: factor * len(taken)]] = True
    kept[taken] = True
    return ranking[kept[ranking]]


def among(rules: Rules, places: Indices) -> Rules:
    """The same rules for a list of positions (s,), which must hold those pinned."""
    where = np.full(int(max(places.max(initial=-1), rules.pinned.max(initial=-1))) + 1, -1, np.int64)
    where[places] = np.arange(len(places))
    pinned = where[rules.pinned]
    if (pinned < 0).any():
        raise ValueError(f"pinned positions {rules.pinned[pinned < 0]} are not in the list")
    banned = None if rules.banned is None else rules.banned[places]
    once, group = (None if codes is None else codes[places] for codes in (rules.once, rules.group))
    return replace(rules, pinned=pinned, banned=banned, once=once, group=group)


def similarities(vectors: Floats, neighbours: int, seed: int, progress: Progress) -> Floats | sparse.csc_array:
    """s_ij = (1 + cos) / 2 of unit rows (s, d): all of them, or those of nearest neighbours either way round."""
    vectors, n = np.asarray(vectors, np.float32), len(vectors)
    if n <= DENSE:
        return np.asarray(np.clip((1 + vectors @ vectors.T) / 2, 0, 1).T, np.float32)
    from scipy import sparse

    found, distance = graph(vectors, neighbours, seed=seed, exact_below=EXACT, progress=progress)
    k = found.shape[1]
    value = np.clip(1 - distance**2 / 4, 0, 1)
    one_way = sparse.csr_array((value.ravel(), found.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    own = sparse.eye_array(n, dtype=np.float32, format="csr")
    return sparse.csc_array(one_way.maximum(one_way.T).maximum(own), dtype=np.float32)
