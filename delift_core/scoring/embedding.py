"""Utility by sentence embedding: cosine of unit vectors, in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from delift_core.types import Floats, Indices, Progress, Utility, no_progress

ROWS = 4096  # helped rows of one block


@dataclass(frozen=True)
class Embedding:
    """Cosine similarity of rows; a row's own entry is 1 and stays.  DELIFT (SE), arXiv 2411.04425."""

    reads: ClassVar[str] = "vectors"  # of the sentence encoder

    def score(
        self,
        helped_vectors: Floats,
        candidate_vectors: Floats,
        helped: Indices,
        candidates: Indices,
        *,
        progress: Progress = no_progress,
    ) -> Utility:
        """Raw cosines (R, C) in [-1, 1], from unit vectors (R, d) and (C, d).

        Raises ValueError when vectors and indices do not belong together or vectors are not of unit length.
        """
        check_vectors(helped_vectors, candidate_vectors, helped, candidates)
        values = np.empty((len(helped), len(candidates)), np.float32)
        across = np.ascontiguousarray(candidate_vectors.T, dtype=np.float32)
        for start in range(0, len(helped), ROWS):
            block = values[start : start + ROWS]
            np.matmul(helped_vectors[start : start + ROWS].astype(np.float32, copy=False), across, out=block)
            np.clip(block, -1, 1, out=block)
            progress("cosine", float(min(start + ROWS, len(helped))), float(len(helped)))
        return Utility(values, helped, candidates, "cosine")


def check_vectors(helped_vectors: Floats, candidate_vectors: Floats, helped: Indices, candidates: Indices) -> None:
    """Raises ValueError when vectors and indices do not belong together or vectors are not of unit length."""
    for vectors, indices in ((helped_vectors, helped), (candidate_vectors, candidates)):
        if vectors.ndim != 2 or len(vectors) != len(indices):
            raise ValueError(f"vectors of shape {vectors.shape} for {len(indices)} rows")
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
            raise ValueError("vectors are not of unit length")
    if helped_vectors.shape[1] != candidate_vectors.shape[1]:
        raise ValueError(f"vectors of {helped_vectors.shape[1]} and {candidate_vectors.shape[1]} dimensions")
