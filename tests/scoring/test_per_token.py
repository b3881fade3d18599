"""Token by token: the same numbers as the utilities, and pieces of text that make up the response."""

from __future__ import annotations

import numpy as np
import pytest

from delift_core.models.causal import BUILTIN, CausalModel, load_causal, load_tokenizer
from delift_core.scoring.icl import InContext
from delift_core.scoring.per_token import per_token, pieces_of
from delift_core.scoring.rows import Rows
from delift_core.types import MemoryStore
from tests.scoring.conftest import byte_tokenizer, llama, some_rows, wrap

TEXTS = ("The sum is 7.", "“naïve” ß 😀\u200d — 日本語 🦆", "\n\n  two\tlines \n", "a literal \ufffd and <eos>", "")


@pytest.mark.parametrize("options", [{}, {"template": "paper"}, {"template": "chat"}, {"example_tokens": 8}])
def test_a_pair_read_again_has_the_utility_that_was_stored(any_model: CausalModel, options: dict[str, object]) -> None:
    helped, candidates = some_rows(4, 1), some_rows(3, 2)
    scorer = InContext(**options)  # type: ignore[arg-type]
    stored = scorer.score(helped, candidates, any_model, same=False, store=MemoryStore())
    for i, j in ((0, 0), (1, 2), (3, 1)):
        found = per_token(scorer, helped.part(i, i + 1), candidates.part(j, j + 1), any_model)
        assert found.l2 == pytest.approx(stored.l2.values[i, j], abs=1e-5)
        assert found.pmi == pytest.approx(stored.pmi.values[i, j], abs=1e-5)
        assert stored.l2.baseline is not None and stored.pmi.baseline is not None
        assert found.distance[0] == pytest.approx(stored.l2.baseline[i], abs=1e-5)
        assert found.likelihood[0] == pytest.approx(stored.pmi.baseline[i], abs=1e-5)
        assert len(found.before) == len(found.after) == sum(piece.tokens for piece in found.pieces)
        assert found.summed(found.after).sum() == pytest.approx(found.after.sum(), rel=1e-5)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["bytes", "builtin"])
def test_pieces_concatenate_to_the_text_and_cover_every_token(name: str, text: str) -> None:
    tokenizer = byte_tokenizer() if name == "bytes" else load_tokenizer(str(BUILTIN)).tokenizer
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    pieces = pieces_of(tokenizer, ids)
    assert "".join(piece.text for piece in pieces) == text
    assert sum(piece.tokens for piece in pieces) == len(ids)
    assert all(piece.tokens > 0 for piece in pieces)


def test_tokens_that_share_a_character_are_one_piece() -> None:
    tokenizer = byte_tokenizer()
    pieces = pieces_of(tokenizer, tokenizer("a日b", add_special_tokens=False)["input_ids"])
    assert [(piece.text, piece.tokens) for piece in pieces] == [("a", 1), ("日", 3), ("b", 1)]


def test_a_merged_piece_has_the_sum_of_its_log_probabilities(model: CausalModel) -> None:
    row = Rows(["What is it?"], ["日b"], np.array([0]))
    found = per_token(InContext(), row, some_rows(1), model)
    assert [piece.tokens for piece in found.pieces] == [3, 1, 1]
    assert found.pieces[-1].closes
    np.testing.assert_allclose(found.summed(found.before)[0], found.before[:3].sum(), rtol=1e-6)


@pytest.mark.parametrize("text", ["many words " * 30, "日本" * 60])
def test_a_response_that_does_not_fit_is_cut_as_the_run_cuts_it(text: str) -> None:
    model = wrap(llama(), context=96)
    row, example = Rows(["Say it."], [text], np.array([0])), some_rows(1)
    scorer = InContext(example_tokens=16)
    stored = scorer.score(row, example, model, same=False, store=MemoryStore())
    found = per_token(scorer, row, example, model)
    assert found.cut_response
    assert found.whole
    assert not any(piece.closes for piece in found.pieces)
    assert text.startswith("".join(piece.text for piece in found.pieces).rstrip("\ufffd"))
    assert found.l2 == pytest.approx(stored.l2.values[0, 0], abs=1e-5)


def test_with_the_shipped_model_an_example_of_the_same_form_helps_where_the_form_shows() -> None:
    model = load_causal("builtin")
    row = Rows(["Translate to French: cat"], ["Answer in French: le chat"], np.array([0]))
    same, other = (
        Rows([prompt], [answer], np.array([1]))
        for prompt, answer in (
            ("Translate to French: dog", "Answer in French: le chien"),
            ("Name a colour.", "Blue."),
        )
    )
    helpful, useless = (per_token(InContext(), row, example, model) for example in (same, other))
    form = slice(0, 3)
    assert np.exp(helpful.after)[form].mean() > np.exp(useless.after)[form].mean() + 0.1
    np.testing.assert_allclose(helpful.before, useless.before, atol=1e-5)
