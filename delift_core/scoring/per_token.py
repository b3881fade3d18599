"""Where an example helps: the probability of every token of a row's response, without and with one example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from delift_core.scoring.choose import engine_for
from delift_core.scoring.engine import Engine, measure
from delift_core.scoring.icl import InContext
from delift_core.scoring.layout import Suffix
from delift_core.scoring.rows import Rows
from delift_core.types import Floats

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel

HALF = "\ufffd"  # what a decoder writes for bytes that are no whole character


@dataclass(frozen=True)
class Piece:
    """Text of the response that ends where a token ends; several tokens where one holds no whole character."""

    text: str
    tokens: int  # how many tokens it takes
    closes: bool = False  # the end-of-sequence token, which has no text


@dataclass(frozen=True, eq=False)
class PerToken:
    """The response of one row as the model reads it, and log P of its tokens without and with an example.

    The closing end-of-sequence token is one of them, unless the response was cut to fit the context.
    """

    pieces: tuple[Piece, ...]  # their tokens sum to T
    before: Floats  # (T,) log P without an example, nats
    after: Floats  # (T,) log P after the example, nats
    whole: bool  # the pieces' texts concatenate to the response; to its beginning where it was cut
    cut_prompt: bool  # the row's prompt lost its beginning
    cut_response: bool  # the response lost its end
    cut_example: bool  # the example was shown shortened

    @cached_property
    def distance(self) -> tuple[float, float]:
        """The distance to certainty d = sqrt(mean_t (1 - p_t)^2), without and with the example; in [0, 1]."""
        return self._measured(self.before)[0], self._measured(self.after)[0]

    @cached_property
    def likelihood(self) -> tuple[float, float]:
        """The mean log-probability l, without and with the example; nats per token."""
        return self._measured(self.before)[1], self._measured(self.after)[1]

    @property
    def l2(self) -> float:
        """U = d(i) - d(i | j).  DELIFT, arXiv 2411.04425."""
        return self.distance[0] - self.distance[1]

    @property
    def pmi(self) -> float:
        """l(i | j) - l(i), nats per token."""
        return self.likelihood[1] - self.likelihood[0]

    def summed(self, log_p: Floats) -> Floats:
        """Log P of each piece, (P,): the sum over its tokens."""
        starts = np.cumsum([0, *(piece.tokens for piece in self.pieces)])[:-1]
        totals: Floats = np.add.reduceat(log_p, starts)
        return totals

    @staticmethod
    def _measured(log_p: Floats) -> tuple[float, float]:
        values = torch.from_numpy(log_p)
        distance, likelihood = measure(values, torch.tensor([len(values)]))
        return float(distance[0]), float(likelihood[0])


def per_token(scorer: InContext, helped: Rows, example: Rows, model: CausalModel) -> PerToken:
    """Read one helped row without and with one example, laid out and cut as `scorer.score` does.

    Raises ConfigError when the template does not fit the model or its context, ModelError when memory runs out.
    """
    assert len(helped) == len(example) == 1, (len(helped), len(example))
    job = scorer.job(helped, example, model)
    shown, room = job.template.examples(example.prompts, example.responses)[0], int(job.layout.allowance[0])
    with engine_for(model, job.longest) as choice:
        before = _log_probs(choice.engine, (), job.layout.alone[0])
        after = _log_probs(choice.engine, shown.cut(room), job.layout.after[0])
    cut = bool(job.layout.cut_responses)
    labels = job.layout.after[0].labels
    response = labels if cut else labels[:-1]
    pieces = pieces_of(model.tokenizer, response)
    text, wanted = "".join(piece.text for piece in pieces), helped.responses[0]
    return PerToken(
        tuple(pieces) if cut else (*pieces, Piece("", 1, closes=True)),
        before,
        after,
        whole=wanted.startswith(text.rstrip(HALF)) if cut else text == wanted,
        cut_prompt=bool(job.layout.cut_prompts),
        cut_response=cut,
        cut_example=len(shown.prompt) + len(shown.response) > room,
    )


def pieces_of(tokenizer: Any, ids: Sequence[int]) -> list[Piece]:
    """Token ids as pieces of text of whole characters; the numbers of their tokens sum to len(ids).

    Each piece is decoded behind the one before it, since a decoder may treat the beginning of a text in its own way.
    """

    def read(first: int, last: int) -> str:
        return str(tokenizer.decode(ids[first:last], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    pieces: list[Piece] = []
    start, done, known = 0, 0, ""  # tokens from `start` to `done` are read already, as `known`
    for end in range(1, len(ids) + 1):
        text = read(start, end)
        if len(text) > len(known) and (end == len(ids) or not text.endswith(HALF)):
            pieces.append(Piece(text[len(known) :], end - done))
            start, done, known = done, end, read(done, end)
    if done < len(ids):  # the last tokens add no text
        last = pieces.pop() if pieces else Piece("", 0)
        pieces.append(Piece(last.text, last.tokens + len(ids) - done))
    return pieces


def _log_probs(engine: Engine, prefix: Sequence[int], suffix: Suffix) -> Floats:
    with torch.inference_mode():
        (batch,) = engine.prepare([suffix], np.zeros(1, np.int64))
        found: Floats = engine.run(engine.read(prefix), batch).float().cpu().numpy()
    assert found.shape == (len(suffix.labels),), found.shape
    return found
