"""Where every token goes: what is cut to fit the context, which rows share a prefix, which go together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from delift_core.errors import ConfigError
from delift_core.scoring.templates import Query, Tokens
from delift_core.types import Indices

PADDING = 1.05  # tokens with padding over tokens without
CLASSES = 4  # an example is cut to its full allowance, or a half, a quarter, an eighth of it


@dataclass(frozen=True, eq=False)
class Suffix:
    """What follows a prefix in one sequence: a query and its labels.  The last label is predicted and never read."""

    tokens: Tokens  # query, then all labels but the last
    labels: Tokens  # the response and the closing end-of-sequence token

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, eq=False)
class Layout:
    """The helped rows as token sequences that fit the context, R of each."""

    after: tuple[Suffix, ...]  # to follow an example
    alone: tuple[Suffix, ...]  # without one
    allowance: Indices  # (R,) tokens of prompt and response that an example may have before this row
    cut_prompts: int
    cut_responses: int

    @property
    def classes(self) -> list[tuple[int, Indices]]:
        """Each allowance and the positions of its rows, the largest allowance first."""
        return [(int(a), np.flatnonzero(self.allowance == a)) for a in np.unique(self.allowance)[::-1]]

    def part(self, start: int, stop: int) -> Layout:
        """Rows start to stop; what was cut is counted by the whole alone."""
        return Layout(self.after[start:stop], self.alone[start:stop], self.allowance[start:stop], 0, 0)


def lay_out(
    queries: Sequence[Query],
    responses: Sequence[Sequence[int]],
    *,
    eos: int,
    context: int,
    example_fixed: int,
    example_tokens: int,
    query_tokens: int,
) -> Layout:
    """Fit every row into the context: the example gives way first, then the prompt from its left, the response last.

    `example_fixed` are the tokens of an example's block that always stay; with 0 `example_tokens` there is no example.
    Raises ConfigError when the context is too short for the template itself.
    """
    ladder = [max(min(1, example_tokens), example_tokens >> step) for step in range(CLASSES)]
    after, alone, allowance, cut_prompts, cut_responses = [], [], [], 0, 0
    for query, response in zip(queries, responses, strict=True):
        bare = (
            context - example_fixed - ladder[-1] - query.fixed
        )  # for prompt and response, beside the shortest example
        if bare < 2:
            raise ConfigError(
                f"The model sees {context} tokens at once; the template alone takes {context - bare} of them. Take a "
                "model with a longer context, the template delift, or fewer example tokens."
            )
        labels = (*response, eos)
        if len(labels) - 1 > bare:  # the last label is never read
            labels = labels[: bare + 1]
            cut_responses += 1
        room = min(query.free, query_tokens, bare - (len(labels) - 1))
        cut_prompts += room < query.free
        left = context - example_fixed - query.fixed - room - (len(labels) - 1)
        allowance.append(next(a for a in ladder if a <= left))
        after.append(Suffix(query.after(room) + labels[:-1], labels))
        alone.append(Suffix(query.alone(room) + labels[:-1], labels))
    return Layout(tuple(after), tuple(alone), np.array(allowance, np.int64), cut_prompts, cut_responses)


def batches(lengths: Sequence[int], positions: Indices, budget: int) -> Iterator[Indices]:
    """Positions in groups of similar length, each of at most `budget` tokens (or one row that is longer).

    A group of a quarter of the budget ends early rather than pad its rows by more than PADDING.  A pure function of the
    lengths: ties keep the given order.
    """
    order = positions[np.argsort(np.array([lengths[p] for p in positions]), kind="stable")]
    start, tokens = 0, 0
    for end, position in enumerate(order):
        size = lengths[position]
        padded = (end - start + 1) * size > PADDING * (tokens + size) and tokens >= budget // 4
        if end > start and (padded or tokens + size > budget):
            yield order[start:end]
            start, tokens = end, 0
        tokens += size
    if len(order):
        yield order[start:]
