"""The vectors of an evidence, checked before anything is computed from them."""

from __future__ import annotations

import numpy as np

from delift_core.errors import ConfigError
from delift_core.types import Evidence, Floats


def pool_vectors(evidence: Evidence) -> Floats:
    """Vectors (n, d) of the candidates.

    Raises ValueError where the evidence has none that fit, ConfigError where one holds NaN or infinity.
    """
    vectors = evidence.vectors
    if vectors is None:
        raise ValueError("the evidence has no vectors, which this objective needs")
    if vectors.ndim != 2 or len(vectors) != len(evidence):
        raise ValueError(f"vectors of shape {vectors.shape} for {len(evidence)} candidates")
    bad = _not_finite(vectors)
    if bad is not None:
        row = evidence.candidates[bad]
        raise ConfigError(f"The vector of pool row {row} holds NaN or infinity. Encode the pool again.")
    return vectors


def pool_and_target_vectors(evidence: Evidence) -> tuple[Floats, Floats]:
    """Vectors (n, d) of the candidates and (m, d) of the target rows, m >= 1.

    Raises ValueError as `pool_vectors` does, ConfigError for an empty target or a vector that holds NaN or infinity.
    """
    vectors, target = pool_vectors(evidence), evidence.target_vectors
    if target is None:
        raise ValueError("the evidence has no target_vectors, which this objective needs")
    if not len(target):
        raise ConfigError("The target has no rows. Give a file with at least one row of the task.")
    if target.ndim != 2 or target.shape[1] != vectors.shape[1]:
        raise ValueError(f"target vectors of shape {target.shape}, pool vectors of shape {vectors.shape}")
    bad = _not_finite(target)
    if bad is not None:
        raise ConfigError(f"The vector of target row {bad} (counted from 0) holds NaN or infinity. Encode it again.")
    return vectors, target


def _not_finite(vectors: Floats) -> int | None:
    """The first row with NaN or infinity; a sum keeps both, and needs no array of the size of the vectors."""
    bad = np.flatnonzero(~np.isfinite(np.einsum("nd->n", vectors)))
    return int(bad[0]) if len(bad) else None
