"""One fixed vector per token, distilled from a sentence encoder, and the file that keeps them.

The recipe is that of model2vec [Tulkens and van Dongen, 2024, github.com/MinishLab/model2vec]: run every token of the
vocabulary through the encoder alone, keep the principal components, and weight by inverse frequency, where a token's
rank in the vocabulary stands for its frequency (Zipf).  No text is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import WorkspaceError
from delift_core.types import Doubles, Floats

_NOT_WORDS = re.compile(r"^\[(unused\d+|PAD|UNK|CLS|SEP|MASK)\]$")


@dataclass(frozen=True)
class Recipe:
    """What decides the table, besides the encoder's weights."""

    dimensions: int = 256
    smoothing: float = 1e-4  # a of the weight a / (a + p); p is the token's estimated frequency [Arora et al., 2017]
    version: int = 1

    def hash(self, encoder: str) -> str:
        """A sha256 for the table that this recipe makes from the encoder with that hash."""
        return hashlib.sha256(json.dumps({"encoder": encoder, **asdict(self)}, sort_keys=True).encode()).hexdigest()


RECIPE = Recipe()


def words(vocabulary: Mapping[str, int]) -> list[int]:
    """Ids of the tokens that carry meaning, the most frequent first: no markers and no unused places."""
    return sorted(index for token, index in vocabulary.items() if not _NOT_WORDS.match(token))


def shrink(vectors: Floats, recipe: Recipe) -> Floats:
    """Token vectors (V, D), most frequent first, reduced to (V, recipe.dimensions) and weighted."""
    centred: Doubles = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    axes = axes[:, ::-1][:, : recipe.dimensions]
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])  # an axis has no sign of its own
    share = 1.0 / np.arange(2, len(vectors) + 2)
    weight = recipe.smoothing / (recipe.smoothing + share / share.sum())
    reduced: Floats = ((centred @ axes) * weight[:, None]).astype(np.float32)
    return reduced


def write_table(file: Path, table: Floats) -> None:
    """Keep a table as fp16 safetensors with its checksum: whole or not at all."""
    from safetensors.numpy import save

    half = table.astype(np.float16)
    content = save({"table": half}, metadata={"sha256": _checksum(half)})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".table-", delete=False) as stream:
            try:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                Path(stream.name).unlink(missing_ok=True)
                raise
        Path(stream.name).replace(file)
    except OSError as error:
        raise WorkspaceError(
            f"Cannot write {len(content) / 1e6:.0f} MB to {file.parent}: {error.strerror}. Free some space or choose "
            "another folder with DELIFT_HOME, then retry."
        ) from error


def read_table(file: Path) -> Floats | None:
    """The table as `write_table` left it; None when it is missing or not what was written."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="numpy") as content:
            table = content.get_tensor("table")
            stated = (content.metadata() or {}).get("sha256")
    except (SafetensorError, OSError):
        return None
    return np.asarray(table, np.float32) if stated == _checksum(table) else None


def _checksum(table: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()
