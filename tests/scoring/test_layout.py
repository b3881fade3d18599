"""What is cut when a row does not fit: the example first, then the prompt from the left, the response last of all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delift_core.errors import ConfigError
from delift_core.scoring.layout import CLASSES, Layout, lay_out
from delift_core.scoring.templates import Example, Query

EOS = 0


def query(length: int, opening: int = 2) -> Query:
    ids = tuple(range(100, 100 + length))
    return Query((1,) * opening, ids, (2,) * opening, ids, (3,))


def laid(
    lengths: list[tuple[int, int]], *, context: int, example: int = 64, prompt: int = 512, fixed: int = 0
) -> Layout:
    queries = [query(p) for p, _ in lengths]
    responses = [list(range(500, 500 + r)) for _, r in lengths]
    return lay_out(
        queries, responses, eos=EOS, context=context, example_fixed=fixed, example_tokens=example, query_tokens=prompt
    )


def test_a_row_that_fits_is_left_whole() -> None:
    layout = laid([(10, 4)], context=200)
    (suffix,) = layout.after
    assert suffix.tokens == (1, 1, *range(100, 110), 3, *range(500, 504))
    assert suffix.labels == (500, 501, 502, 503, EOS)
    assert layout.alone[0].tokens[:3] == (2, 2, 100)
    assert (layout.cut_prompts, layout.cut_responses, layout.allowance.tolist()) == (0, 0, [64])


def test_the_example_gives_way_before_the_prompt_and_the_prompt_before_the_response() -> None:
    sizes = [(10, 4), (40, 30), (80, 4), (300, 4), (5, 40), (5, 400)]
    layout = laid(sizes, context=100)
    assert layout.allowance.tolist() == [64, 16, 8, 8, 32, 8]
    assert layout.cut_prompts == 2  # the fourth; and the last, whose response leaves nothing
    assert layout.cut_responses == 1
    kept = layout.after[3].tokens
    assert kept[:2] == (1, 1)
    assert kept[-5:] == (3, 500, 501, 502, 503)
    assert kept[-6] == 399  # the end of the prompt stays, its beginning went
    assert layout.after[4].labels[-1] == EOS
    assert layout.after[5].labels == tuple(range(500, 500 + len(layout.after[5].labels)))
    assert 3 in layout.after[5].tokens


def test_prompts_beyond_the_limit_lose_their_beginning_and_are_counted() -> None:
    layout = laid([(30, 4), (31, 4)], context=1000, prompt=30)
    assert layout.cut_prompts == 1
    assert len(layout.after[0]) == len(layout.after[1])


@given(
    sizes=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 300)), min_size=1, max_size=8),
    context=st.integers(80, 600),
    fixed=st.integers(0, 20),
)
def test_every_sequence_fits_the_context_and_the_allowance_looks_at_its_own_row_alone(
    sizes: list[tuple[int, int]], context: int, fixed: int
) -> None:
    layout = laid(sizes, context=context, fixed=fixed)
    for i, size in enumerate(sizes):
        assert len(layout.after[i]) + fixed + layout.allowance[i] <= context
        assert len(layout.alone[i]) <= context
        assert layout.after[i].labels == layout.alone[i].labels
        assert laid([size], context=context, fixed=fixed).allowance[0] == layout.allowance[i]
    assert len(layout.classes) <= CLASSES
    assert sorted(p for _, rows in layout.classes for p in rows.tolist()) == list(range(len(sizes)))


def test_a_context_too_short_for_the_template_is_refused() -> None:
    with pytest.raises(ConfigError, match="longer context"):
        laid([(10, 4)], context=20, fixed=12)


@given(prompt=st.integers(0, 60), response=st.integers(0, 60), room=st.integers(0, 90))
def test_a_cut_example_keeps_its_start_and_the_start_of_its_response(prompt: int, response: int, room: int) -> None:
    x, y = tuple(range(100, 100 + prompt)), tuple(range(300, 300 + response))
    found = Example((1,), x, (2,), y, (3,)).cut(room)
    assert (found[0], found[-1]) == (1, 3)
    at = found.index(2)
    left, right = found[1:at], found[at + 1 : -1]
    assert left == x[: len(left)]
    assert right == y[: len(right)]
    assert len(left) + len(right) == min(room, prompt + response)
    assert len(left) >= min(prompt, room // 2)
    assert len(right) >= min(response, room // 2)
