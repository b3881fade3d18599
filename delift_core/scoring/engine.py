"""Forward passes: helped rows after one prefix, and how well the model foretells each row's response.

Two engines give the same numbers.  `Shared` reads each prefix once and lets packed rows look at it; `Plain` runs every
sequence in full, works with any causal model, and is the oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from delift_core.scoring import attention
from delift_core.scoring.head import token_log_probs
from delift_core.scoring.layout import Suffix, batches
from delift_core.scoring.templates import Tokens
from delift_core.types import Floats, Indices

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel

TOKENS = {"cpu": 2048, "cuda": 16_384}  # of one forward pass
PLAIN_LOGITS = 60_000_000  # floats that a plain pass may hold
Check = Callable[[], None]


def unchecked() -> None:
    """A check that never stops the work."""


class Batch(Protocol):
    """Helped rows prepared for one forward pass."""

    @property
    def positions(self) -> Indices:
        """Where the rows stand among the helped rows, (B,)."""

    @property
    def counts(self) -> Tensor:
        """Labels of each row, (B,)."""

    @property
    def tokens(self) -> int:
        """Tokens that a pass over this batch reads, the prefix apart."""


class Engine(Protocol):
    """Computes a column: all given rows after one prefix."""

    name: str

    def prepare(self, suffixes: Sequence[Suffix], positions: Indices) -> list[Batch]:
        """Sort and pack rows; done once, used for every prefix."""

    def read(self, prefix: Sequence[int]) -> object:
        """Read a prefix once; the result serves any number of batches."""

    def run(self, prefix: object, batch: Any) -> Tensor:
        """Log P of every label of the batch's rows, one row after the other, (sum of labels,) float32, in nats."""


def measure(log_p: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Per row, the distance to certainty d in [0, 1] and the mean log-probability l in nats per token.

    log_p (T,) of B rows one after the other, counts (B,) -> d (B,), l (B,).  DELIFT, arXiv 2411.04425:
    d = sqrt(mean_t (1 - p_t)^2).
    """
    owner = torch.repeat_interleave(torch.arange(len(counts), device=log_p.device), counts)
    zero = torch.zeros(len(counts), dtype=torch.float64, device=log_p.device)
    error = zero.index_add(0, owner, torch.expm1(log_p).double().square())
    distance = (error / counts).sqrt()
    likelihood = zero.index_add(0, owner, log_p.double()) / counts
    assert distance.shape == (len(counts),), distance.shape
    return distance, likelihood


def score(
    engine: Engine, work: Mapping[Tokens, Sequence[Batch]], rows: int, check: Check = unchecked
) -> tuple[Floats, Floats]:
    """Distance d and log-likelihood l of the helped rows, (rows,) each: every batch after its prefix.

    NaN where no batch holds a row.
    """
    distances, likelihoods = np.full(rows, np.nan, np.float32), np.full(rows, np.nan, np.float32)
    with torch.inference_mode():
        for prefix, prepared in work.items():
            seen = engine.read(prefix)
            for batch in prepared:
                check()
                distance, likelihood = measure(engine.run(seen, batch), batch.counts)
                distances[batch.positions] = distance.cpu().numpy()
                likelihoods[batch.positions] = likelihood.cpu().numpy()
    return distances, likelihoods


@dataclass(frozen=True, eq=False)
class Packed:
    """Rows one after the other without padding."""

    positions: Indices  # (B,)
    ids: Tensor  # (1, N)
    places: Tensor  # (1, N) position of each token after the prefix
    packing: attention.Packing
    scored: Tensor  # (T,) tokens whose next token is a label
    labels: Tensor  # (T,)
    counts: Tensor  # (B,)

    @property
    def tokens(self) -> int:
        """Tokens that a pass reads."""
        return self.ids.shape[1]


class Shared:
    """The exact fast engine: shared prefix, packed rows, head at scored positions only.

    It works while `attention.installed(model)` lends the model its attention function.
    """

    name = "shared"

    def __init__(self, model: CausalModel, budget: int | None = None) -> None:
        self.model, self.body = model.model, model.model.base_model
        self.head = model.model.get_output_embeddings()
        self.device = next(model.model.parameters()).device
        self.budget = budget or TOKENS.get(self.device.type, TOKENS["cpu"])

    def prepare(self, suffixes: Sequence[Suffix], positions: Indices) -> list[Batch]:
        """Rows of similar length, packed up to the token budget."""
        return [self._pack(suffixes, part) for part in batches([len(s) for s in suffixes], positions, self.budget)]

    def _pack(self, suffixes: Sequence[Suffix], positions: Indices) -> Packed:
        rows = [suffixes[p] for p in positions]
        lengths = [len(row) for row in rows]
        ends = np.cumsum(lengths)
        scored = [np.arange(end - len(row.labels), end) for row, end in zip(rows, ends, strict=True)]
        to = self.device
        return Packed(
            positions,
            torch.tensor([[token for row in rows for token in row.tokens]], device=to),
            torch.cat([torch.arange(size) for size in lengths])[None].to(to),
            attention.pack(lengths, to),
            torch.from_numpy(np.concatenate(scored)).to(to),
            torch.tensor([label for row in rows for label in row.labels], device=to),
            torch.tensor([len(row.labels) for row in rows], device=to),
        )

    def read(self, prefix: Sequence[int]) -> attention.Prefix | None:
        """One pass over the prefix, which keeps its keys and values; None for an empty prefix."""
        if not prefix:
            return None
        kept = attention.Prefix(len(prefix))
        ids = torch.tensor([list(prefix)], device=self.device)
        with attention.reading(kept):
            self._hidden(ids, torch.arange(len(prefix), device=self.device)[None])
        return kept

    def run(self, prefix: object, batch: Any) -> Tensor:
        """Packed rows see the prefix and themselves; the head runs at scored positions."""
        assert isinstance(batch, Packed)
        assert prefix is None or isinstance(prefix, attention.Prefix)
        offset = prefix.length if prefix is not None else 0
        with attention.sharing(prefix, batch.packing):
            hidden = self._hidden(batch.ids, batch.places + offset)
        return token_log_probs(hidden[0].index_select(0, batch.scored), self.head, batch.labels)

    def _hidden(self, ids: Tensor, places: Tensor) -> Tensor:
        hidden: Tensor = self.body(input_ids=ids, position_ids=places, use_cache=False).last_hidden_state
        return hidden


@dataclass(frozen=True, eq=False)
class Whole:
    """Rows that a plain pass runs together."""

    positions: Indices  # (B,)
    rows: tuple[Suffix, ...]
    counts: Tensor  # (B,)

    @property
    def tokens(self) -> int:
        """Tokens that a pass reads, padding and prefix apart."""
        return sum(len(row) for row in self.rows)


class Plain:
    """Every sequence in full, padded on the right, with the model's own attention."""

    name = "plain"

    def __init__(self, model: CausalModel, budget: int | None = None) -> None:
        self.model = model.model
        self.pad = model.eos_id
        self.device = next(model.model.parameters()).device
        vocabulary = int(model.model.get_input_embeddings().num_embeddings)
        self.budget = budget or max(256, min(TOKENS.get(self.device.type, TOKENS["cpu"]), PLAIN_LOGITS // vocabulary))

    def prepare(self, suffixes: Sequence[Suffix], positions: Indices) -> list[Batch]:
        """Rows of similar length."""
        groups = batches([len(s) for s in suffixes], positions, self.budget)
        return [
            Whole(part, rows, torch.tensor([len(row.labels) for row in rows], device=self.device))
            for part in groups
            for rows in [tuple(suffixes[p] for p in part)]
        ]

    def read(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """The prefix itself: it is computed anew for every row."""
        return tuple(prefix)

    def run(self, prefix: object, batch: Any) -> Tensor:
        """Full sequences, at most the token budget at once; prefixes count."""
        assert isinstance(prefix, tuple)
        assert isinstance(batch, Whole)
        longest = len(prefix) + max(len(row) for row in batch.rows)
        step = max(1, self.budget // longest)
        return torch.cat([self._pass(prefix, batch.rows[at : at + step]) for at in range(0, len(batch.rows), step)])

    def _pass(self, prefix: tuple[int, ...], rows: Sequence[Suffix]) -> Tensor:
        sequences = [prefix + row.tokens for row in rows]
        longest = max(map(len, sequences))
        ids = torch.tensor([[*s, *[self.pad] * (longest - len(s))] for s in sequences], device=self.device)
        mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sequences], device=self.device)
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        parts = []
        for at, (sequence, row) in enumerate(zip(sequences, rows, strict=True)):
            labels = torch.tensor(row.labels, device=self.device)
            scored = logits[at, len(sequence) - len(labels) : len(sequence)].float()
            parts.append(scored.gather(-1, labels[:, None])[:, 0] - scored.logsumexp(-1))
        return torch.cat(parts).clamp_(max=0.0)
