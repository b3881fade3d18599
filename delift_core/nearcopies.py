"""Near-copies of a loaded dataset: how many rows are all but the same, and which, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delift_core.data import open_dataset
from delift_core.encoded import reads_whole, sentence_encoder, vectors_of
from delift_core.models.encoder import Encoder, identify_encoder
from delift_core.neighbours import KEPT, kept_graph, near_copies
from delift_core.runs import Workspace
from delift_core.types import Floats, Identity, Indices, Progress, no_progress

THRESHOLD = 0.95  # cosine
SHOWN = 20  # sets that a report names, the largest
MEMBERS = 5  # of each that it names beside the first row
ROWS_A_SECOND = {"fast": 5_000, "minilm": 40}  # encoded on two cores
_SEARCH_SECONDS = 3e-4  # a row, to find its neighbours


@dataclass(frozen=True)
class CopySet:
    """A first row and some of those that are near-copies of it, the least alike first."""

    size: int  # rows in the set
    rows: tuple[int, ...]  # row indices of the dataset: the first, then at most MEMBERS others
    cosines: tuple[float, ...]  # of each with the first


@dataclass(frozen=True)
class NearCopies:
    """What a search for near-copies found.  `sets` holds the largest only; the other numbers count all of them."""

    fingerprint: str
    encoder: str
    threshold: float
    compared: int  # rows; of exact copies the first alone
    grouped: int  # rows that stand in a set, its first row included
    groups: int  # sets of two rows or more
    sets: tuple[CopySet, ...]  # the largest first
    notes: tuple[str, ...]

    @property
    def repeats(self) -> int:
        """Rows that would go if the first of each set stayed."""
        return self.grouped - self.groups

    @property
    def sentence(self) -> str:
        """The finding."""
        if not self.groups:
            return f"None of {self.compared:,} different rows has a near-copy at a cosine of {self.threshold:g}."
        return (
            f"{self.grouped:,} of {self.compared:,} different rows stand in {self.groups:,} "
            f"{'set' if self.groups == 1 else 'sets'} of near-copies (cosine {self.threshold:g} or more with the first "
            f"row of the set). With one row of each, {self.compared - self.repeats:,} rows would be left."
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {**asdict(self), "repeats": self.repeats, "sentence": self.sentence}


def expected_seconds(rows: int, encoder: str) -> float:
    """About how long a first search takes on two cores; NaN for an encoder whose speed is not known."""
    return rows / ROWS_A_SECOND.get(encoder, float("nan")) + _SEARCH_SECONDS * rows


def find_near_copies(
    ws: Workspace,
    fingerprint: str,
    *,
    encoder: str = "fast",
    threshold: float = THRESHOLD,
    progress: Progress = no_progress,
) -> NearCopies:
    """Rows of a loaded dataset whose sentence vectors are nearly the same, in sets (`neighbours.near_copies`).

    Vectors and their neighbour graph are kept in the workspace, so another threshold is told at once.  Exact copies are
    not counted again: of those, the first alone takes part.

    Args:
        ws: the workspace that holds the dataset.
        fingerprint: of the dataset.
        encoder: "fast", "minilm", or a sentence-transformers id or folder.
        threshold: least cosine of a row with the first of its set, in (0, 1].
        progress: stages "encode" and "neighbours", in rows.

    Raises ConfigError for a threshold outside (0, 1], ModelError where the encoder cannot be loaded.
    """
    dataset = open_dataset(ws.dataset_folder(fingerprint))
    rows, whole = dataset.unique, reads_whole([dataset])
    vectors = vectors_of(dataset, rows, _encoder(encoder, ws.models), ws.blocks, whole=whole, progress=progress)
    codes = near_copies(vectors, *kept_graph(vectors, KEPT, ws.blocks, progress=progress), threshold)
    firsts, sizes = np.unique(codes, return_counts=True)
    firsts, sizes = firsts[sizes > 1], sizes[sizes > 1]
    largest = np.lexsort((firsts, -sizes))[:SHOWN]
    found = [_described(int(first), np.flatnonzero(codes == first), vectors, rows) for first in firsts[largest]]
    notes = [] if whole else ["Some rows have no response, so the prompts alone were compared."]
    if encoder == "minilm":
        notes.append("The encoder reads the first 256 tokens of a row: what differs behind them is not seen.")
    return NearCopies(
        fingerprint, encoder, threshold, len(rows), int(sizes.sum()), len(firsts), tuple(found), tuple(notes)
    )


def _described(first: int, members: Indices, vectors: Floats, rows: Indices) -> CopySet:
    others = members[members != first]
    cosines = vectors[others] @ vectors[first]
    least = np.argsort(cosines, kind="stable")[:MEMBERS]
    shown = rows[[first, *others[least]]]
    return CopySet(len(members), tuple(shown.tolist()), (1.0, *np.minimum(cosines[least], 1).round(6).tolist()))


@dataclass(frozen=True)
class _WhenNeeded:
    """An encoder that is loaded when it first has something to read: vectors that are stored need none."""

    name: str
    cache: Path
    identity: Identity

    def encode(self, texts: Sequence[str], *, progress: Progress = no_progress) -> Floats:
        """As the encoder itself."""
        return sentence_encoder(self.name, self.cache).encode(texts, progress=progress)


def _encoder(name: str, cache: Path) -> Encoder:
    return _WhenNeeded(name, cache, identify_encoder(name))
