"""Row scores against their formulas, written with full-sequence passes; blocks that are computed once; odd rows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from delift_core import registry
from delift_core.errors import Cancelled, ConfigError, DataError
from delift_core.models.causal import BUILTIN, CausalModel, load_causal
from delift_core.scoring import engine, memory, rowwise, selectit
from delift_core.scoring.rds import RepresentationSimilarity, hidden_states
from delift_core.scoring.rows import Rows
from delift_core.scoring.selectit import rating_tokens, sentence_level
from delift_core.types import BlockStore, Floats, MemoryStore, Scores
from tests.scoring.conftest import byte_tokenizer, llama, some_rows, wrap

NAMES = [
    name for name in registry.ROW_SCORES
    if registry.resolve(registry.ROW_SCORES, "row score", name).reads == "model"
]  # fmt: skip
TARGET = some_rows(5, 9, longest=30, first=500)


def build(name: str, **options: Any) -> Any:
    return registry.build(registry.ROW_SCORES, "row score", name, options)


def scored(
    name: str,
    rows: Rows,
    model: CausalModel,
    *,
    target: Rows | None = TARGET,
    store: BlockStore | None = None,
    seed: int = 0,
    **options: Any,
) -> Scores:
    found = build(name, **options).score(
        rows, model, target=target, store=MemoryStore() if store is None else store, seed=seed
    )
    assert isinstance(found, Scores)
    assert found.values.dtype == np.float64
    assert found.name == name
    return found


# ------------------------------------------------------------------------- the formulas, without anything of the engine


def ids(model: CausalModel, text: str) -> list[int]:
    found: list[int] = model.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return found


def nats(model: CausalModel, before: list[int], answer: list[int]) -> float:
    """Mean negative log-likelihood of `answer` after `before`, from one full pass."""
    whole = torch.tensor([before + answer])
    log_p = model.model(input_ids=whole).logits[0].double().log_softmax(-1)
    return -float(np.mean([log_p[len(before) - 1 + t, token].item() for t, token in enumerate(answer)]))


def plain_loss(rows: Rows, model: CausalModel, before: str = "", start: tuple[int, ...] = ()) -> Any:
    return np.array(
        [
            nats(model, [*start, *ids(model, f"{before}Query:\n{x}\n")], [*ids(model, y), model.eos_id])
            for x, y in zip(rows.prompts, rows.responses, strict=True)
        ]
    )


def plain_ifd(rows: Rows, model: CausalModel, start: tuple[int, ...] = ()) -> Any:
    bare = [nats(model, [*(start or (model.eos_id,))], [*ids(model, y), model.eos_id]) for y in rows.responses]
    return np.exp(plain_loss(rows, model, start=start)) / np.exp(np.array(bare))


def plain_ica(rows: Rows, model: CausalModel, shown: list[tuple[str, str]]) -> Any:
    before = "".join(f"Example:\n{x}\n{y}\n\n" for x, y in shown)
    return plain_loss(rows, model) - plain_loss(rows, model, before)


def plain_selectit(rows: Rows, model: CausalModel, ways: list[list[int]], alpha: float = 0.2) -> Any:
    scores = []
    for x, y in zip(rows.prompts, rows.responses, strict=True):
        levels = []
        for ask in selectit.ASK:
            text = [f"{ask}\nInstruction:\n", x, "\nResponse:\n", y, "\nThe answer is:\n"]
            whole = torch.tensor([[token for piece in text for token in ids(model, piece)]])
            p = model.model(input_ids=whole).logits[0, -1].double().softmax(-1)
            digits = [sum(p[way[k]].item() for way in ways) for k in range(5)]
            digits = [d / sum(digits) for d in digits]
            best = max(range(5), key=lambda k: digits[k])
            levels.append((best + 1) * sum(digits[best] - d for d in digits) / 4)
        scores.append(np.mean(levels) / (1 + alpha * np.std(levels)))
    return np.array(scores)


def plain_states(rows: Rows, model: CausalModel) -> Any:
    vectors = []
    for x, y in zip(rows.prompts, rows.responses, strict=True):
        whole = torch.tensor([[*ids(model, f"Query:\n{x}\n"), *ids(model, y), model.eos_id]])
        hidden = model.model(input_ids=whole, output_hidden_states=True).hidden_states[-1][0].double().numpy()
        weights = np.arange(1, len(hidden) + 1) / (len(hidden) * (len(hidden) + 1) / 2)
        vectors.append((weights[:, None] * hidden).sum(0))
    return np.stack([v / np.linalg.norm(v) for v in vectors])


DIGIT_IDS = lambda model: [ids(model, d)[0] for d in "12345"]  # noqa: E731


def test_loss_is_the_mean_negative_log_likelihood_of_the_response(any_model: CausalModel) -> None:
    rows = some_rows(6, 1, first=40)
    found = scored("loss", rows, any_model)
    np.testing.assert_allclose(found.values, plain_loss(rows, any_model), atol=1e-4)
    assert found.candidates.tolist() == list(range(40, 46))
    assert found.higher_is_better
    assert not scored("loss", rows, any_model, prefer="low").higher_is_better
    assert found.notes == ()


def test_ifd_is_a_ratio_of_perplexities_and_refuses_rows_whose_prompt_does_not_help(any_model: CausalModel) -> None:
    rows = some_rows(12, 1)
    found, expected = scored("ifd", rows, any_model), plain_ifd(rows, any_model)
    out = expected >= 1
    assert 0 < out.sum() < len(rows), "rows of both kinds are wanted"
    np.testing.assert_array_equal(np.isnan(found.values), out)
    np.testing.assert_allclose(found.values[~out], expected[~out], atol=1e-4)
    assert f"{out.sum()} rows are out" in found.notes[-1]
    assert found.higher_is_better


def test_ifd_begins_with_the_beginning_token_of_a_tokenizer_that_sets_one() -> None:
    model, rows = wrap(llama(), tokenizer=byte_tokenizer(bos=True)), some_rows(8, 1)
    found, expected = scored("ifd", rows, model).values, plain_ifd(rows, model, start=(1,))
    kept = expected < 1
    assert kept.any()
    np.testing.assert_allclose(found[kept], expected[kept], atol=1e-4)


@pytest.mark.parametrize("shots", [1, 3])
def test_ica_is_the_loss_that_target_examples_save(any_model: CausalModel, shots: int) -> None:
    rows = some_rows(6, 1)
    target = Rows(TARGET.prompts[:shots], TARGET.responses[:shots], TARGET.indices[:shots])
    found = scored("ica", rows, any_model, target=target, shots=shots)
    pairs = list(zip(target.prompts, target.responses, strict=True))
    orders = [plain_ica(rows, any_model, list(order)) for order in permutations(pairs)]
    assert min(np.abs(found.values - order).max() for order in orders) < 1e-4, "the examples come in some one order"
    assert np.abs(found.values).max() > 0.01
    assert found.higher_is_better


def test_ica_in_a_chat_shows_examples_as_earlier_turns(model: CausalModel) -> None:
    rows, (x, y) = some_rows(4, 1), (TARGET.prompts[2], TARGET.responses[2])
    tokenizer: Any = model.tokenizer

    def loss(prompt: str, response: str, *turns: tuple[str, str]) -> float:
        messages = [{"role": role, "content": text} for role, text in (*turns, ("user", prompt))]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        before = tokenizer(text, add_special_tokens=False).input_ids
        return nats(model, before, [*ids(model, response), model.eos_id])

    earlier = [("user", x), ("assistant", y)]
    expected = [loss(p, r) - loss(p, r, *earlier) for p, r in zip(rows.prompts, rows.responses, strict=True)]
    one = Rows([x], [y], np.arange(1))
    found = scored("ica", rows, model, target=one, shots=1, template="chat")
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    # A second example opens as the first query did, so that two equal examples are two equal pairs of turns.
    two = Rows([x, "B"], [y, "b"], np.arange(2))
    found = scored("ica", rows, model, target=two, shots=2, template="chat")
    more = [("user", "B"), ("assistant", "b")]
    orders = [
        [loss(p, r) - loss(p, r, *turns) for p, r in zip(rows.prompts, rows.responses, strict=True)]
        for turns in ([*earlier, *more], [*more, *earlier])
    ]
    assert min(np.abs(found.values - order).max() for order in orders) < 1e-4


def test_ica_draws_by_its_seed_from_different_target_rows_and_says_who_is_among_them(model: CausalModel) -> None:
    rows = some_rows(5, 1)
    again = [scored("ica", rows, model, seed=3, shots=2).values for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert any(np.abs(scored("ica", rows, model, seed=s, shots=2).values - again[0]).max() > 1e-3 for s in range(4))
    copies = Rows(["p", "p", "q"], ["r", "r", "s"], np.arange(3))
    assert (
        len({scored("ica", rows, model, target=copies, shots=2, seed=s).values.round(4).tobytes() for s in range(9)})
        < 3
    )
    with pytest.raises(ConfigError, match=r"has 2 different ones\. Set shots to 2"):
        scored("ica", rows, model, target=copies, shots=3)
    shown = scored("ica", TARGET, model, shots=5)
    assert shown.notes == ("5 rows are copies of a target row that is shown, and profit from it.",)


def test_selectit_is_the_published_score_of_five_ratings(any_model: CausalModel) -> None:
    rows = some_rows(5, 1)
    found = scored("selectit", rows, any_model)
    np.testing.assert_allclose(found.values, plain_selectit(rows, any_model, [DIGIT_IDS(any_model)]), atol=1e-4)
    strict = plain_selectit(rows, any_model, [DIGIT_IDS(any_model)], alpha=2.0)
    np.testing.assert_allclose(scored("selectit", rows, any_model, alpha=2.0).values, strict, atol=1e-4)
    assert found.higher_is_better
    assert ((found.values >= 0) & (found.values <= 5)).all()


def merging_tokenizer(*merges: str) -> PreTrainedTokenizerFast:
    """Bytes, and some tokens of two characters that need not follow one another in the vocabulary."""
    letters = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *merges]
    tokenizer = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(letters)}, merges=[(m[0], m[1]) for m in merges])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def test_selectit_counts_a_digit_after_a_space_as_well() -> None:
    model = wrap(llama(vocab_size=280), tokenizer=merging_tokenizer(*(f"Ġ{d}" for d in "31245")))
    bare, spaced = rating_tokens(model)
    assert list(bare) == DIGIT_IDS(model)
    assert [model.tokenizer.decode([token]) for token in spaced] == [" 1", " 2", " 3", " 4", " 5"]
    rows = some_rows(4, 1)
    expected = plain_selectit(rows, model, [list(bare), list(spaced)])
    np.testing.assert_allclose(scored("selectit", rows, model).values, expected, atol=1e-4)


def test_selectit_refuses_a_tokenizer_without_digit_tokens(model: CausalModel) -> None:
    letters = ["<eos>", "<unk>", *(c for c in sorted(pre_tokenizers.ByteLevel.alphabet()) if c not in "345")]
    for unknown in (None, "<unk>"):
        inner = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(letters)}, merges=[], unk_token=unknown))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        poor = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", unk_token=unknown)
        with pytest.raises(ConfigError, match=r"no single token for each of the ratings 1 to 5.*another model"):
            scored("selectit", some_rows(2), replace(model, tokenizer=poor))


def test_selectit_in_closed_form() -> None:
    certain = np.zeros((3, 5, 5))
    certain[0, :, 4] = certain[1, :, 0] = 1
    certain[2] = 0.2
    np.testing.assert_allclose(sentence_level(certain, 0.2), [5, 1, 0])
    torn = np.zeros((1, 2, 5))
    torn[0, 0, 4] = torn[0, 1, 2] = 1  # 5 and 3: mean 4, standard deviation 1
    np.testing.assert_allclose(sentence_level(torn, 0.2), [4 / 1.2])


def test_rds_is_the_cosine_of_position_weighted_hidden_states(any_model: CausalModel) -> None:
    rows = some_rows(7, 1, first=10)
    ours, theirs = plain_states(rows, any_model), plain_states(TARGET, any_model)
    vectors = hidden_states(rows, any_model, store=MemoryStore())
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, ours, atol=1e-4)
    found = scored("rds", rows, any_model)
    np.testing.assert_allclose(found.values, (theirs @ ours.T).max(0), atol=1e-4)
    matrix = RepresentationSimilarity().similarity(rows, any_model, target=TARGET, store=MemoryStore())
    np.testing.assert_allclose(matrix.values, theirs @ ours.T, atol=1e-4)
    assert matrix.helped.tolist() == TARGET.indices.tolist()
    assert matrix.candidates.tolist() == rows.indices.tolist()
    np.testing.assert_array_equal(found.values, np.asarray(matrix.values, np.float64).max(0))


def test_rds_finds_the_target_row_itself_and_reads_rows_without_a_response(model: CausalModel) -> None:
    rows = Rows(
        [*some_rows(3, 1).prompts, TARGET.prompts[2]], [*some_rows(3, 1).responses, TARGET.responses[2]], np.arange(4)
    )
    values = scored("rds", rows, model).values
    assert values[3] >= values.max() - 1e-6  # the second row is in both as well
    assert values[0] < 0.999
    assert values[3] == pytest.approx(1, abs=1e-5)
    prompts = Rows(rows.prompts, [""] * 4, rows.indices)
    vectors = hidden_states(prompts, model, store=MemoryStore())
    np.testing.assert_allclose(vectors, plain_states(prompts, model), atol=1e-4)


# ------------------------------------------------------------------------------------------------- engine and blocks


def close(left: Any, right: Any, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(left, right, atol=atol)  # NaN equals NaN


@pytest.mark.parametrize("name", NAMES)
def test_the_plain_pass_gives_the_same_scores(
    name: str, any_model: CausalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, said = some_rows(9, 1), set()
    fast = scored(name, rows, any_model)
    monkeypatch.setattr("delift_core.scoring.choose.why_plain", lambda model, longest: "for this test")
    monkeypatch.setattr(engine, "PLAIN_LOGITS", 300 * 260)
    plain = build(name).score(
        rows, any_model, target=TARGET, store=MemoryStore(),
        progress=lambda stage, done, total, note="": said.add(note),
    )  # fmt: skip
    close(fast.values, plain.values)
    assert "plain passes: for this test" in said


@pytest.mark.parametrize("name", NAMES)
def test_batches_blocks_and_order_do_not_matter(name: str, model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_rows(11, 1, first=70)
    whole = scored(name, rows, model).values
    order = np.random.default_rng(0).permutation(11)
    shuffled = rowwise.taken(rows, order)
    found = scored(name, shuffled, model)
    close(found.values, whole[order])
    assert found.candidates.tolist() == (70 + order).tolist()
    monkeypatch.setattr(rowwise, "ROWS", 3)
    close(scored(name, rows, model).values, whole)
    monkeypatch.setitem(memory.TOKENS, "cpu", 40)
    close(scored(name, rows, model).values, whole)


@pytest.mark.parametrize("name", NAMES)
def test_finished_blocks_are_never_computed_again(
    name: str, model: CausalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowwise, "ROWS", 3)
    rows, store, calls, left = some_rows(11, 1), MemoryStore(), list[float](), 12

    def stop(stage: str, done: float, total: float, note: str = "") -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Cancelled("stopped")

    whole = scored(name, rows, model).values
    with pytest.raises(Cancelled):
        build(name).score(rows, model, target=TARGET, store=store, progress=stop)
    assert model.model.config._attn_implementation == "sdpa", "the model must come back as it was"
    kept = dict(store.blocks)
    found = build(name).score(
        rows, model, target=TARGET, store=store,
        progress=lambda stage, done, total, note="": calls.append(done / total),
    )  # fmt: skip
    close(found.values, whole, 1e-6)
    assert all(store.blocks[key] is kept[key] for key in kept)
    assert calls == sorted(calls)
    assert calls[-1] == 1

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a stored score was computed again")

    monkeypatch.setattr("delift_core.scoring.choose.engine_for", never)
    again = scored(name, rows, model, store=store)
    np.testing.assert_array_equal(again.values, found.values)
    assert again.notes == found.notes


@pytest.mark.parametrize("name", NAMES)
def test_a_block_is_known_by_everything_that_decides_its_numbers(name: str, model: CausalModel) -> None:
    def key(rows: Rows, model: CausalModel, **options: Any) -> set[str]:
        store = MemoryStore()
        scored(name, rows, model, store=store, target=rows, **({"shots": 1, **options} if name == "ica" else options))
        return set(store.blocks)

    rows = some_rows(2, 1, longest=8)
    base = key(rows, model)
    assert key(some_rows(2, 1, longest=8, first=50), model) == base, "row numbers do not matter, texts do"
    others = [
        key(some_rows(2, 3, longest=8), model),
        key(rows, model, query_tokens=100),
        key(rows, replace(model, identity=replace(model.identity, hash="other"))),
        key(rows, replace(model, identity=replace(model.identity, dtype="bfloat16"))),
        key(rows, replace(model, context=900)),
    ]
    if name != "selectit":
        others.append(key(rows, model, template="chat"))
    if name == "ica":
        others += [key(rows, model, shots=2), key(rows, model, example_tokens=99)]
    assert all(not (a & b) for a, b in permutations([base, *others], 2))


# ------------------------------------------------------------------------------------------------------------ odd rows


@pytest.mark.parametrize("name", NAMES)
def test_odd_rows_have_a_score_and_copies_have_the_same(name: str, model: CausalModel) -> None:
    prompts = ["", "x", "¿Qué — 日本語 🦆?\u0000", "say <eos> and <|im_end|>", " \n", "x", "a b c"]
    responses = ["y", "1", "“naïve” ß 😀\u200d", "<eos>", "\n\n", "1", "word " * 30]
    rows = Rows(prompts, responses, np.arange(7))
    found = scored(name, rows, model)
    assert found.values[1] == pytest.approx(found.values[5], abs=1e-6, nan_ok=True)
    assert found.notes == () or name == "ifd"
    if name == "loss":
        close(found.values, plain_loss(rows, model), 1e-4)
    if name != "ifd":
        assert np.isfinite(found.values).all()
        close(scored(name, rows.part(0, 1), model).values, found.values[:1])


@pytest.mark.parametrize("name", NAMES)
def test_rows_longer_than_the_context_are_read_in_part_and_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(llama(), context=256)
    rows = Rows(["short", "p" * 500, "q", "s" * 400], ["fine", "answer", "r" * 600, "t" * 300], np.arange(4))
    options: dict[str, Any] = {"shots": 2, "example_tokens": 40} if name == "ica" else {}
    found = scored(name, rows, model, **options)
    assert found.notes[0].startswith("2 responses do not fit")
    assert found.notes[1].startswith("3 prompts were shortened")
    assert name == "ifd" or np.isfinite(found.values).all()
    close(scored(name, rows.part(0, 1), model, **options).values, found.values[:1])
    lengths = []
    monkeypatch.setattr("delift_core.scoring.choose.why_plain", lambda model, longest: "to see whole sequences")
    watch = model.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    close(scored(name, rows, model, **options).values, found.values)
    watch.remove()
    assert max(lengths) == 256, "the context is used to its last token and not beyond"


def test_a_prompt_that_does_not_fit_loses_its_beginning() -> None:
    model = wrap(llama(), context=256)
    found = scored("loss", Rows(["p" * 500 + "end"], ["answer"], np.arange(1)), model)
    room = 256 - len("Query:\n" + "answer")
    before = ids(model, "Query:\n" + ("p" * 500 + "end\n")[-room:])
    assert found.values[0] == pytest.approx(nats(model, before, [*ids(model, "answer"), 0]), abs=1e-4)


def test_examples_too_long_for_ica_are_shortened_alike_by_the_length_of_the_row() -> None:
    model, row = wrap(llama(), context=256), Rows(["query"], ["r" * 100], np.arange(1))
    target = Rows(["a" * 90, "b" * 90], ["AAAA", "BBBB"], np.arange(2))
    found = scored("ica", row, model, target=target, shots=2, example_tokens=90)
    # The row leaves 143 tokens; of 180, 90, 45 and 22 for both examples, 90 is the most that fits.
    room = 90 // 2
    shown = [f"Example:\n{x * 90}\n"[: room - len("AAAA\n\n")] + f"{x.upper() * 4}\n\n" for x in "ab"]
    orders = []
    for order in permutations(shown):
        after = nats(model, ids(model, "".join(order) + "Query:\nquery\n"), [*ids(model, "r" * 100), 0])
        orders.append(abs(plain_loss(row, model)[0] - after - found.values[0]))
    assert min(orders) < 1e-4
    assert found.notes == ()


def test_what_cannot_be_scored_is_refused_with_what_to_do(model: CausalModel) -> None:
    none, rows = Rows([], [], np.arange(0)), some_rows(3)
    silent = Rows(["a", "b"], ["fine", ""], np.array([4, 7]))
    for name in NAMES:
        with pytest.raises(DataError, match="there are none"):
            scored(name, none, model)
        if build(name).needs_response:
            with pytest.raises(DataError, match=r"row 7 has none\. Take rows with responses"):
                scored(name, silent, model)
        if build(name).needs_target:
            for missing in (None, none):
                with pytest.raises(ConfigError, match="Give a target dataset"):
                    scored(name, rows, model, target=missing)
        with pytest.raises(ConfigError, match="longer context"):
            scored(name, rows, wrap(llama(), context=8))
    with pytest.raises(ConfigError, match="one example only"):
        type(build("ica"))(template="paper").score(rows, model, target=TARGET, store=MemoryStore())


def test_a_window_shorter_than_the_rows_takes_the_plain_pass_and_one_that_is_not_does_not() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
    }  # fmt: skip
    model = wrap(MistralForCausalLM(MistralConfig(**sizes, sliding_window=40)))
    for text, plain in (("x", False), ("x" * 60, True)):
        said: set[str] = set()
        build("loss").score(
            Rows([text], ["y"], np.arange(1)), model, store=MemoryStore(),
            progress=lambda stage, done, total, note="", said=said: said.add(note),
        )  # fmt: skip
        assert any("40 tokens" in note for note in said) == plain


# ----------------------------------------------------------------------------------------------------- registry and use


def test_every_registered_row_score_says_what_it_is_without_loading_torch() -> None:
    for name in NAMES:
        score = build(name)
        assert score.name == name
        assert isinstance(score.needs_target, bool)
        assert isinstance(score.needs_response, bool)
        assert "passes" in type(score).__doc__
        assert "arXiv" in type(score).__doc__
    code = (
        "import sys\nfrom delift_core import registry as r\n[r.build(r.ROW_SCORES, 's', n, {}) for n in r.ROW_SCORES]\n"
    )
    code += "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"


def test_the_estimate_counts_passes_and_tokens(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delift_core.scoring.estimate.WARM_UP", 0.01)
    rows = some_rows(10, 1)
    size = lambda texts: sum(len(model.encode(t)) for t in texts)  # noqa: E731
    given = size(f"Query:\n{x}\n{y}" for x, y in zip(rows.prompts, rows.responses, strict=True))
    passes = {"loss": 10, "ifd": 20, "selectit": 50, "ica": 20, "rds": 15}
    for name, expected in passes.items():
        cost = build(name).estimate(rows, model, target=TARGET)
        assert cost.pairs == expected, name
        assert cost.tokens >= given
        assert 0 < cost.seconds < 60
        assert cost.flops > 0
        assert cost.bytes > 0
    assert build("loss").estimate(rows, model).tokens == given
    assert build("ifd").estimate(rows, model).tokens == given + 10 + size(rows.responses)


@pytest.mark.skipif(not (BUILTIN / "model.safetensors").is_file(), reason="the built-in model is not trained yet")
def test_the_built_in_model_tells_a_fitting_response_from_another() -> None:
    model = load_causal("builtin", device="cpu", dtype="float32")
    prompts = ["Which fruit is red?", "Give a synonym of happy.", "What is the capital of France?", "Add 2 and 3."]
    right = [
        "The cherry is a red fruit.",
        "A synonym of happy is joyful.",
        "The capital of France is Paris.",
        "2 + 3 = 5",
    ]
    fitting, other = Rows(prompts, right, np.arange(4)), Rows(prompts, right[1:] + right[:1], np.arange(4))
    assert scored("loss", fitting, model).values.mean() < scored("loss", other, model).values.mean()
    assert (
        np.nanmean(scored("ifd", fitting, model).values)
        < np.nan_to_num(scored("ifd", other, model).values, nan=1).mean()
    )
    vectors: Floats = hidden_states(fitting, model, store=MemoryStore())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.isfinite(scored("selectit", fitting, model).values).all()
