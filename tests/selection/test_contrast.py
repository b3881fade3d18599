"""Moving away from existing data: the other end of the gradient that moves towards it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import ot
import pytest
from clouds import costs, told, unit

from delift_core.errors import ConfigError
from delift_core.selection.contrast import TransportContrast
from delift_core.selection.transport import TransportGradient
from delift_core.types import Evidence, Limit, Rules


def against(vectors: np.ndarray, existing: np.ndarray) -> Evidence:
    return replace(told(vectors, existing), target_vectors=None, existing_vectors=existing)


def test_it_is_the_ranking_towards_the_same_rows_turned_round() -> None:
    x, y = unit(50, 0), unit(20, 1)
    away = TransportContrast().select(against(x, y), Limit(50))
    towards = TransportGradient().select(told(x, y), Limit(50))
    assert away.order.tolist() == towards.order.tolist()[::-1]
    assert away.gains == pytest.approx(-towards.gains[::-1])


def test_gains_fall_sum_to_0_and_are_positive_for_the_rows_that_lead_away() -> None:
    x, y = unit(50, 2), unit(20, 3)
    chosen = TransportContrast().select(against(x, y[y @ y[0] > 0.5]), Limit(50))
    assert (np.diff(chosen.gains) <= 0).all()
    assert chosen.gains[0] > 0 > chosen.gains[-1]
    assert chosen.value[-1] == pytest.approx(0, abs=1e-4)
    assert chosen.full_value == 0


def test_the_first_pick_raises_the_exact_distance_and_the_last_lowers_it() -> None:
    x, y = unit(30, 4), unit(30, 5)
    y = y[y @ y[0] > 0.4]
    order = TransportContrast().select(against(x, y), Limit(30)).order

    def distance(heavy: int) -> float:
        a = np.full(30, 0.9 / 30)
        a[heavy] += 0.1
        return float(ot.emd2(a, np.full(len(y), 1 / len(y)), costs(x, y)))

    pool = ot.emd2(np.full(30, 1 / 30), np.full(len(y), 1 / len(y)), costs(x, y))
    assert distance(order[0]) > pool > distance(order[-1])


def test_picks_are_farther_from_the_existing_rows_than_the_pool_is_and_the_notes_say_so() -> None:
    x, y = unit(300, 6), unit(200, 7)
    seen = against(x, y[y @ y[0] > 0.5])
    chosen = TransportContrast().select(seen, Limit(40))
    (after,) = TransportContrast().describe(seen, chosen.order)
    assert "from pool to existing:" in chosen.notes[0]
    assert "from the 40 selected rows to the existing data:" in after
    distances = [float(note.split("OT distance from ")[1].split(": ")[1].split(". ")[0].rstrip("."))
                 for note in (*chosen.notes, after)]  # fmt: skip
    assert distances[1] > 1.2 * distances[0]


def test_rules_and_token_budgets_hold() -> None:
    seen = against(unit(40, 8), unit(10, 9))
    best = TransportContrast().select(seen, Limit(40)).order
    banned = np.zeros(40, bool)
    banned[best[0]] = True
    chosen = TransportContrast().select(seen, Limit(5, rules=Rules(np.array([best[-1]]), banned)))
    assert chosen.order.tolist() == [best[-1], *best[1:5]]
    heavy = replace(seen, tokens=np.full(40, 10))
    assert len(TransportContrast().select(heavy, Limit(40, 35))) == 3


def test_no_existing_rows_and_broken_ones_are_errors_that_say_so() -> None:
    x, y = unit(20, 10), unit(5, 11)
    with pytest.raises(ConfigError, match="existing data has no rows"):
        TransportContrast().select(against(x, y[:0]), Limit(5))
    y[2, 1] = np.inf
    with pytest.raises(ConfigError, match="the existing data holds NaN or infinity"):
        TransportContrast().select(against(x, y), Limit(5))
    with pytest.raises(ValueError, match="existing_vectors"):
        TransportContrast().select(told(x, y), Limit(5))
    with pytest.raises(ConfigError, match="pool has no rows"):
        TransportContrast().select(against(x[:0], y), Limit(0))
