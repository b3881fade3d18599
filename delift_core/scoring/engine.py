"""Forward passes: helped rows after one prefix, and how well the model foretells each row's response.

Two engines give the same numbers.  `Shared` (shared.py) reads each prefix once and lets packed rows look at it; `Plain`
runs every sequence in full, works with any causal model, and is the oracle of the tests.

Where the device's memory runs out, both take fewer tokens at once and go on; the numbers do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from delift_core.scoring.layout import Suffix, batches
from delift_core.scoring.memory import FLOOR, Passes, usual
from delift_core.scoring.memory import TOKENS as TOKENS
from delift_core.scoring.templates import Tokens
from delift_core.types import Floats, Indices

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel

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

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of how it computed; empty when there is nothing to tell."""

    def prepare(self, suffixes: Sequence[Suffix], positions: Indices) -> list[Batch]:
        """Sort and pack rows; done once, used for every prefix."""

    def read(self, prefix: Sequence[int]) -> object:
        """Read a prefix once; the result serves any number of batches.

        Raises ModelError when the device's memory does not hold it.
        """

    def run(self, prefix: object, batch: Any) -> Tensor:
        """Log P of every label of the batch's rows, one row after the other, (sum of labels,) float32, in nats.

        Raises ModelError when the device's memory does not hold even a small part of the batch.
        """

    def options(self, prefix: object, batch: Any, tokens: Sequence[int]) -> Tensor:
        """Log P of each of `tokens` wherever a label stands, (sum of labels, K) float32, in nats."""

    def states(self, prefix: object, batch: Any) -> Tensor:
        """The model's last hidden state of every token of the batch's rows, one row after the other, (N, d)."""


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


class Counted:
    """An engine that counts the rows it has run, so that progress can be told within a block."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name, self.rows = engine, engine.name, 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the engine itself."""
        return self.engine.notes

    def prepare(self, suffixes: Sequence[Suffix], positions: Indices) -> list[Batch]:
        """As the engine itself."""
        return self.engine.prepare(suffixes, positions)

    def read(self, prefix: Sequence[int]) -> object:
        """As the engine itself."""
        return self.engine.read(prefix)

    def run(self, prefix: object, batch: Any) -> Tensor:
        """As the engine itself; its rows are counted once they are done."""
        found = self.engine.run(prefix, batch)
        self.rows += len(batch.positions)
        return found

    def options(self, prefix: object, batch: Any, tokens: Sequence[int]) -> Tensor:
        """As the engine itself."""
        return self.engine.options(prefix, batch, tokens)

    def states(self, prefix: object, batch: Any) -> Tensor:
        """As the engine itself."""
        return self.engine.states(prefix, batch)


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


class Plain(Passes):
    """Every sequence in full, padded on the right, with the model's own attention."""

    name = "plain"

    def __init__(self, model: CausalModel, budget: int | None = None) -> None:
        vocabulary = int(model.model.get_input_embeddings().num_embeddings)
        super().__init__(model, budget or max(FLOOR, min(usual(model), PLAIN_LOGITS // vocabulary)))
        self.model, self.pad = model.model, model.eos_id

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

        def finish(row: Suffix, said: Tensor) -> Tensor:
            labels = torch.tensor(row.labels, device=self.device)
            logits = _scored(row, said)
            return logits.gather(-1, labels[:, None])[:, 0] - logits.logsumexp(-1)

        return self._through(prefix, batch, self._logits, finish).clamp_(max=0.0)

    def options(self, prefix: object, batch: Any, tokens: Sequence[int]) -> Tensor:
        """Full sequences; of the logits, a handful of tokens."""
        wanted = torch.tensor(list(tokens), device=self.device)

        def finish(row: Suffix, said: Tensor) -> Tensor:
            logits = _scored(row, said)
            return logits[:, wanted] - logits.logsumexp(-1, keepdim=True)

        return self._through(prefix, batch, self._logits, finish).clamp_(max=0.0)

    def states(self, prefix: object, batch: Any) -> Tensor:
        """Full sequences through the model without its head."""
        return self._through(prefix, batch, self._hidden, lambda row, said: said)

    def _through(
        self,
        prefix: object,
        batch: Any,
        forward: Callable[[Tensor, Tensor], Tensor],
        finish: Callable[[Suffix, Tensor], Tensor],
    ) -> Tensor:
        """What `finish` makes of each row and of what the model says at its own tokens, (len(row), width)."""
        assert isinstance(prefix, tuple)
        assert isinstance(batch, Whole)
        longest = len(prefix) + max(len(row) for row in batch.rows)
        parts: list[Tensor] = []
        at = 0
        while at < len(batch.rows):
            rows = batch.rows[at : at + max(1, self.budget // longest)]
            found = self.attempt(partial(self._pass, prefix, rows, forward, finish))
            if found is None:
                self.shrink(longest * len(rows), len(rows))
            else:
                parts.append(found)
                at += len(rows)
        return torch.cat(parts)

    def _pass(
        self,
        prefix: tuple[int, ...],
        rows: Sequence[Suffix],
        forward: Callable[[Tensor, Tensor], Tensor],
        finish: Callable[[Suffix, Tensor], Tensor],
    ) -> Tensor:
        sequences = [prefix + row.tokens for row in rows]
        longest = max(map(len, sequences))
        ids = torch.tensor([[*s, *[self.pad] * (longest - len(s))] for s in sequences], device=self.device)
        mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sequences], device=self.device)
        said = forward(ids, mask)
        return torch.cat([finish(row, said[at, len(prefix) : len(sequences[at])]) for at, row in enumerate(rows)])

    def _logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits

    def _hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        body = self.model.base_model
        hidden: Tensor = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden


def _scored(row: Suffix, logits: Tensor) -> Tensor:
    """The logits at the places of the row's labels, (labels, V) float32."""
    return logits[len(row) - len(row.labels) :].float()
