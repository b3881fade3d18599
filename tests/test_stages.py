"""What a person reads of a stage, and of what a run computes."""

from __future__ import annotations

import pytest

from delift_core.registry import memory_of, work_of
from delift_core.stages import told
from delift_core.types import Cost


@pytest.mark.parametrize(
    ("stage", "done", "total", "text"),
    [
        ("", 0, 0, "Waiting to start"),
        ("score pool", 1200, 5760, "Scoring pairs: 1,200 of 5,760"),
        ("score target", 7, 6, "Scoring pairs (target): 6 of 6"),
        ("score rows by ifd", 3, 9, "Scoring each row: 3 of 9 rows"),
        ("encode existing", 1, 2, "Turning rows into vectors (existing): 1 of 2"),
        ("write", 0, 1, "Writing the result"),
        ("selectit", 1, 2, "Selectit: 50 %"),
        ("k-means", 0, 0, "Forming clusters"),
    ],
)
def test_a_stage_is_told_in_plain_words(stage: str, done: float, total: float, text: str) -> None:
    assert told(stage, done, total) == text


@pytest.mark.parametrize(
    ("changes", "text", "memory"),
    [
        ({"method": "delift"}, "Every pair is scored: the language model reads a row after each example", 12 * 1000),
        ({"method": "delift", "pairs": "knn:3"}, "A part of all pairs (knn:3) is scored", 48 * 1000),
        ({"method": "delift-se"}, "1,000 pairs of vectors are compared; no language model is run.", 8 * 1000),
        ({"method": "ifd"}, "The language model reads each row.", 8 * 1000),
        ({"method": "random"}, "No model is read.", 8 * 1000),
    ],
)
def test_a_price_says_what_is_computed_and_the_memory_it_takes(changes: dict[str, str], text: str, memory: int) -> None:
    name, pairs = changes["method"], changes.get("pairs", "dense")
    cost = Cost(pairs=1000, tokens=5, flops=1.0, seconds=1.0, bytes=70)
    assert text in work_of(name, cost, {}, pairs=pairs)
    assert memory_of(name, cost, pairs=pairs) == memory
    assert memory_of(name, Cost(0, 0, 0.0, 0.0, 70)) == 70
