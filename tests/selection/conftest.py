"""Evidence for objectives: made up, small enough for brute force, and from real rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delift_core.types import Evidence, Utility


def utility(values: Any, helped: Any = None, candidates: Any = None, kind: Any = "pmi") -> Utility:
    rows, columns = values.shape
    helped = np.arange(rows) if helped is None else np.asarray(helped)
    candidates = np.arange(columns) if candidates is None else np.asarray(candidates)
    return Utility(values, helped, candidates, kind)


@pytest.fixture(scope="session")
def evidence() -> Callable[..., Evidence]:
    """evidence(n, m, e, seed): random utilities and vectors; the candidates are pool rows 100, 107, 114, ..."""

    def make(n: int = 30, m: int = 5, e: int = 4, seed: int = 0) -> Evidence:
        rng = np.random.default_rng(seed)
        rows = 100 + 7 * np.arange(n)

        def unit(count: int) -> Any:
            x = rng.standard_normal((count, 8)).astype(np.float32)
            return x / np.linalg.norm(x, axis=1, keepdims=True)

        return Evidence(
            candidates=rows,
            tokens=rng.integers(5, 60, n),
            pool=utility(rng.random((n, n), np.float32), rows, rows),
            target=utility(rng.random((m, n), np.float32), None, rows),
            existing=utility(rng.random((n, e), np.float32), rows, None),
            vectors=unit(n),
            target_vectors=unit(m),
        )

    return make


@pytest.fixture(scope="session")
def tasks(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """Unit TF-IDF vectors (600, d) of real rows, and the task (600,) of each: 60 rows of each of ten tasks."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts: dict[str, list[str]] = {}
    with (shared / "data" / "natural_instructions.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts.setdefault(row["Task"], []).append(f"{row['Definition'][0]}\n{row['input']}")
    chosen = [name for name in sorted(texts) if len(texts[name]) >= 60][:10]
    assert len(chosen) == 10
    vectors = TfidfVectorizer(max_features=4000).fit_transform(t for name in chosen for t in texts[name][:60])
    return np.asarray(vectors.todense(), np.float32), np.repeat(np.arange(10), 60)
