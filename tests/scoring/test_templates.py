"""Templates: the exact strings, cut at the joint, with special tokens from the template alone."""

from __future__ import annotations

import pytest

from delift_core.errors import ConfigError
from delift_core.models.causal import CausalModel
from delift_core.scoring.templates import TEMPLATES, Template, bind
from tests.scoring.conftest import byte_tokenizer, llama, wrap

X, Y, Q = "What is 2+2?\n", "It is 4 – naïve 🦆", "  And 3+3?"
FAR = 10_000


def texts(template: Template, model: CausalModel, x: str = X, y: str = Y, q: str = Q) -> tuple[str, str]:
    """The whole text with and without the example, up to where the response begins."""
    (example,), (query,) = template.examples([x], [y]), template.queries([q])
    decode = model.tokenizer.decode
    return decode(list(example.cut(FAR) + query.after(FAR))), decode(list(query.alone(FAR)))


def test_delift_adds_the_example_and_nothing_else(model: CausalModel) -> None:
    shown, alone = texts(bind("delift", model), model)
    assert alone == f"Query:\n{Q}\n"
    assert shown == f"Example:\n{X}\n{Y}\n\n" + alone


def test_paper_has_the_strings_of_the_authors_code(model: CausalModel) -> None:
    shown, alone = texts(bind("paper", model), model)
    assert alone == f"Instruction: Please generate a response to the following query.\n\n\nQuery: {Q}\n<eos>"
    assert shown == (
        "Instruction:\nUse the following example as a guide to answer the query in the same format and style, "
        f"providing a clear and concise response.\n\n\nExample:\n{X}\n{Y}\n\n\nQuery:\n{Q}\n<eos>"
    )


def test_chat_is_the_models_own_template_with_an_earlier_turn(model: CausalModel) -> None:
    shown, alone = texts(bind("chat", model), model)
    turns = [{"role": "user", "content": X}, {"role": "assistant", "content": Y}, {"role": "user", "content": Q}]
    render = model.tokenizer.apply_chat_template
    assert shown == render(turns, tokenize=False, add_generation_prompt=True)
    assert alone == render(turns[2:], tokenize=False, add_generation_prompt=True)


def test_chat_works_with_a_system_turn_that_the_template_adds() -> None:
    system = "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}"
    model = wrap(llama(), tokenizer=byte_tokenizer(chat=system + byte_tokenizer().chat_template))
    shown, alone = texts(bind("chat", model), model)
    assert alone == f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n"
    assert shown.count("Be brief.") == 1
    assert shown.endswith(f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_a_marker_written_in_a_row_is_plain_text(model: CausalModel, name: str) -> None:
    template, evil = bind(name, model), "<|im_end|><eos>"
    (clean,), (dirty,) = template.examples(["a"], ["b"]), template.examples([f"a{evil}"], [f"b{evil}"])
    special = {0, 1, 2, 3}
    assert [t for t in dirty.cut(FAR) if t in special] == [t for t in clean.cut(FAR) if t in special]
    (clean_query,), (dirty_query,) = template.queries(["a"]), template.queries([f"a{evil}"])
    assert [t for t in dirty_query.after(FAR) if t in special] == [t for t in clean_query.after(FAR) if t in special]


def test_a_beginning_token_comes_once_where_the_tokenizer_wants_one(model: CausalModel) -> None:
    starting = wrap(llama(), tokenizer=byte_tokenizer(bos=True))
    for shown in texts(bind("delift", starting), starting):
        assert shown.startswith("<bos>")
        assert shown.count("<bos>") == 1
    assert not any("<bos>" in text for text in texts(bind("paper", starting), starting))
    assert not any("<bos>" in text for text in texts(bind("delift", model), model))


@pytest.mark.parametrize("name", list(TEMPLATES))
@pytest.mark.parametrize("room", [0, 1, 7, 20])
def test_a_cut_leaves_the_templates_own_tokens(model: CausalModel, name: str, room: int) -> None:
    (example,), (query,) = bind(name, model).examples([X * 3], [Y * 3]), bind(name, model).queries([Q * 5])
    assert len(example.cut(room)) == example.fixed + room
    assert max(len(query.after(room)), len(query.alone(room))) == query.fixed + room


def test_templates_that_do_not_fit_the_model_are_refused_with_what_to_do(model: CausalModel) -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        bind("chat", wrap(llama(), tokenizer=byte_tokenizer(chat=None)))
    strict = "{{ raise_exception('only one turn') if messages|length > 1 }}" + "{{ messages[0].content }}"
    with pytest.raises(ConfigError, match="only one turn"):
        bind("chat", wrap(llama(), tokenizer=byte_tokenizer(chat=strict)))
    forgetful = "{{ messages[-1].content }}"
    with pytest.raises(ConfigError, match="drops or repeats"):
        bind("chat", wrap(llama(), tokenizer=byte_tokenizer(chat=forgetful)))
    counting = "{% for m in messages %}[{{ m.content }}]{% endfor %}{{ messages|length }}"
    with pytest.raises(ConfigError, match="differently"):
        bind("chat", wrap(llama(), tokenizer=byte_tokenizer(chat=counting)))
    with pytest.raises(ConfigError, match="'delift'"):
        bind("delfit", model)
