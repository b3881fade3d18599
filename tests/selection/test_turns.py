"""Turns under rules: against the cut of a ranking, and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from delift_core.errors import ConfigError
from delift_core.selection.limits import within
from delift_core.selection.turns import NOBODY, Whole, take_turns
from delift_core.types import Limit, Rules

N = 40


def some_rules(rng: np.random.Generator, *, minimums: bool) -> Rules:
    """Rules that 15 rows of 40 in 4 groups can follow."""
    group = rng.integers(0, 4, N)
    order = rng.permutation(N)
    banned = np.zeros(N, bool)
    banned[order[:6]] = True
    pinned, held = order[6:9], np.bincount(group[order[6:9]], minlength=4)
    least = rng.integers(0, 4, 4)
    return Rules(
        pinned=pinned,
        banned=banned,
        once=rng.integers(0, 25, N),
        group=group,
        at_least=least if minimums else None,
        at_most=np.maximum(least, held) + rng.integers(0, 4, 4),
    )


@pytest.mark.parametrize("minimums", [False, True])
@pytest.mark.parametrize("room", [None, 260])
def test_a_single_queue_gives_what_the_cut_of_its_ranking_gives(minimums: bool, room: int | None) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rules, tokens, ranking = some_rules(rng, minimums=minimums), rng.integers(1, 20, N), rng.permutation(N)
        limit = Limit(N if room else 15, room, rules)
        picks, _ = take_turns([Whole(ranking)], tokens, limit)
        assert picks.tolist() == within(ranking, tokens, limit).tolist(), seed


def plain(queues: list[np.ndarray], rules: Rules, count: int) -> list[tuple[int, int]]:
    """Turns without minimums, as one would tell them: (position, who)."""
    assert rules.banned is not None
    assert rules.once is not None
    assert rules.group is not None
    assert rules.at_most is not None
    banned, once, group, most = rules.banned, rules.once, rules.group, rules.at_most
    found = [(int(p), NOBODY) for p in rules.pinned]

    def best(queue: np.ndarray) -> int | None:
        taken = [p for p, _ in found]
        for j in queue.tolist():
            full = (group[taken] == group[j]).sum() >= most[group[j]]
            if not (j in taken or banned[j] or once[j] in once[taken] or full):
                return int(j)
        return None

    turns = {q: best(queue) for q, queue in enumerate(queues)}
    while any(b is not None for b in turns.values()):
        for q, queue in enumerate(queues):
            turns[q] = best(queue)
            if turns[q] is not None and len(found) < count:
                found.append((turns[q], q))
        if len(found) == count:
            return found
    while len(found) < count and (rest := best(np.arange(N))) is not None:
        found.append((rest, NOBODY))
    return found


def test_queues_take_turns_and_never_lose_one_to_a_row_that_may_not_be_taken() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rules, tokens = some_rules(rng, minimums=False), np.ones(N, np.int64)
        queues = [rng.permutation(N)[: rng.integers(1, 20)] for _ in range(3)]
        picks, who = take_turns([Whole(q) for q in queues], tokens, Limit(15, None, rules))
        assert list(zip(picks.tolist(), who.tolist(), strict=True)) == plain(queues, rules, 15), seed


def test_a_minimum_is_kept_room_for_within_the_turns() -> None:
    group = np.array([0] * 8 + [1] * 2)
    rules = Rules(group=group, at_least=np.array([0, 2]))
    picks, _ = take_turns([Whole(np.arange(5)), Whole(np.arange(5, 10))], np.ones(10, np.int64), Limit(4, None, rules))
    assert picks.tolist() == [0, 5, 8, 9], "the last two places are kept, the first queue has no row for them"
    tokens = np.where(group == 1, 3, 2)
    picks, _ = take_turns([Whole(np.arange(10))], tokens, Limit(10, 10, rules))
    assert picks.tolist() == [8, 9, 0, 1], "with a token budget minimums come first"


def test_rules_that_cannot_be_followed_are_refused() -> None:
    with pytest.raises(ConfigError, match="pinned"):
        take_turns([], np.ones(4, np.int64), Limit(1, None, Rules(pinned=np.array([0, 1]))))
