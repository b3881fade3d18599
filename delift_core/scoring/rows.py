"""What a scorer sees of a part of a dataset: texts, where they stand, and what they are by content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from delift_core.types import Dataset, Indices


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of one dataset, in the order in which their utilities will stand."""

    prompts: Sequence[str]  # (R,)
    responses: Sequence[str]  # (R,)
    indices: Indices  # (R,) row indices of the dataset

    def __post_init__(self) -> None:
        if not len(self.prompts) == len(self.responses) == len(self.indices):
            raise ValueError(
                f"{len(self.prompts)} prompts, {len(self.responses)} responses, {len(self.indices)} indices"
            )

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def of(cls, dataset: Dataset, indices: Indices | None = None) -> Rows:
        """The given rows of a dataset (all of them by default), read into memory."""
        chosen = np.arange(len(dataset), dtype=np.int64) if indices is None else np.asarray(indices, dtype=np.int64)
        prompts, responses = dataset.prompts, dataset.responses
        return cls([prompts[i] for i in chosen], [responses[i] for i in chosen], chosen)

    def part(self, start: int, stop: int) -> Rows:
        """Rows start to stop, by position."""
        return Rows(self.prompts[start:stop], self.responses[start:stop], self.indices[start:stop])

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """One content hash a row, (R,): equal exactly where prompt and response are equal."""
        return tuple(_content(p, r) for p, r in zip(self.prompts, self.responses, strict=True))

    @cached_property
    def digest(self) -> str:
        """Content hash of all rows in their order."""
        return hashlib.sha256("".join(self.keys).encode()).hexdigest()


def _content(prompt: str, response: str) -> str:
    first, second = prompt.encode("utf-8", "surrogatepass"), response.encode("utf-8", "surrogatepass")
    return hashlib.sha256(len(first).to_bytes(8, "big") + first + second).hexdigest()[:32]
