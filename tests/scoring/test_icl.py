"""In-context utility: its definition, its missing entries, and blocks that are computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from delift_core.errors import Cancelled, ConfigError, DataError
from delift_core.models.causal import BUILTIN, CausalModel, load_causal
from delift_core.scoring import estimate, job
from delift_core.scoring.icl import InContext, InContextUtility
from delift_core.scoring.rows import Rows
from delift_core.selection.scale import scaled
from delift_core.types import BlockStore, Floats, MemoryStore
from tests.scoring.conftest import byte_tokenizer, llama, some_rows, wrap


class CountingStore(MemoryStore):
    """Remembers what was written, and refuses a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def put(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        assert key not in self.written, "a block was computed twice"
        self.written.append(key)
        super().put(key, arrays)


def scored(
    helped: Rows,
    candidates: Rows,
    model: CausalModel,
    *,
    same: bool = False,
    store: BlockStore | None = None,
    **options: Any,
) -> InContextUtility:
    return InContext(**options).score(
        helped, candidates, model, same=same, store=MemoryStore() if store is None else store
    )


def published(helped: Rows, candidates: Rows, model: CausalModel) -> tuple[Floats, Floats]:
    """The formula as the paper has it, written without anything of the engine: U and its PMI reading."""
    tokens = lambda text: model.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids  # noqa: E731
    eos = [model.eos_id]

    def probabilities(prompt: str, response: str) -> torch.Tensor:
        answer = tokens(response) + eos
        ids = tokens(prompt) + eos + answer
        p = torch.softmax(model.model(input_ids=torch.tensor([ids])).logits[0].double(), -1)
        return torch.stack([p[len(ids) - len(answer) - 1 + t, token] for t, token in enumerate(answer)])

    u, pmi = np.empty((len(helped), len(candidates))), np.empty((len(helped), len(candidates)))
    for i, (x, y) in enumerate(zip(helped.prompts, helped.responses, strict=True)):
        alone = probabilities(f"Instruction: Please generate a response to the following query.\n\n\nQuery: {x}\n", y)
        for j, (xj, yj) in enumerate(zip(candidates.prompts, candidates.responses, strict=True)):
            shown = probabilities(
                "Instruction:\nUse the following example as a guide to answer the query in the same format and style, "
                f"providing a clear and concise response.\n\n\nExample:\n{xj}\n{yj}\n\n\nQuery:\n{x}\n",
                y,
            )
            far = lambda p: torch.linalg.vector_norm(1 - p) / len(p) ** 0.5  # noqa: E731
            u[i, j], pmi[i, j] = far(alone) - far(shown), (shown.log().mean() - alone.log().mean())
    return u.astype(np.float32), pmi.astype(np.float32)


def test_the_paper_template_reproduces_the_published_formula(any_model: CausalModel) -> None:
    helped, candidates = some_rows(5, 1), some_rows(4, 2)
    found = scored(helped, candidates, any_model, template="paper")
    u, pmi = published(helped, candidates, any_model)
    np.testing.assert_allclose(found.l2.values, u, atol=1e-5)
    np.testing.assert_allclose(found.pmi.values, pmi, atol=1e-4)
    (ready,) = scaled([found.l2], "minmax")
    np.testing.assert_allclose(ready.values, (u - u.min()) / (u.max() - u.min()), atol=1e-4)
    assert np.abs(pmi).max() > 0.1, "a model that ignores its example would pass any test"


@pytest.mark.parametrize("template", ["delift", "chat", "paper"])
def test_shared_and_plain_scoring_agree(any_model: CausalModel, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    helped, candidates = some_rows(9, 1), some_rows(5, 2)
    fast = scored(helped, candidates, any_model, template=template, example_tokens=40)
    monkeypatch.setattr("delift_core.scoring.choose.why_plain", lambda model, longest: "for this test")
    plain = scored(helped, candidates, any_model, template=template, example_tokens=40)
    assert (fast.report.engine, plain.report.engine) == ("shared", "plain")
    assert "for this test" in plain.report.notes[0]
    for kind in ("l2", "pmi"):
        ours, theirs = getattr(fast, kind), getattr(plain, kind)
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5)
        np.testing.assert_allclose(ours.baseline, theirs.baseline, atol=1e-5)


def test_rows_are_helped_and_columns_help_in_the_order_given(model: CausalModel) -> None:
    helped, candidates = some_rows(6, 1, first=100), some_rows(4, 2, first=200)
    whole = scored(helped, candidates, model)
    assert whole.l2.helped.tolist() == list(range(100, 106))
    assert whole.l2.candidates.tolist() == list(range(200, 204))
    rows, columns = np.array([5, 0, 3, 1, 4, 2]), np.array([2, 0, 3, 1])
    pick = lambda r, at: Rows([r.prompts[i] for i in at], [r.responses[i] for i in at], r.indices[at])  # noqa: E731
    shuffled = scored(pick(helped, rows), pick(candidates, columns), model)
    np.testing.assert_allclose(shuffled.pmi.values, whole.pmi.values[np.ix_(rows, columns)], atol=1e-5)
    np.testing.assert_allclose(shuffled.l2.values, whole.l2.values[np.ix_(rows, columns)], atol=1e-6)
    assert np.abs(whole.l2.values).max() <= 1
    assert whole.l2.baseline is not None
    assert ((whole.l2.baseline >= 0) & (whole.l2.baseline <= 1)).all()


def test_a_row_and_its_exact_copies_do_not_help_themselves_in_a_pool(model: CausalModel) -> None:
    base = some_rows(4, 1)
    pool = Rows(
        [*base.prompts, base.prompts[2], base.prompts[3]], [*base.responses, base.responses[2], "other"], np.arange(6)
    )
    missing = np.isnan(scored(pool, pool, model, same=True).l2.values)
    expected = np.eye(6, dtype=bool)
    expected[2, 4] = expected[4, 2] = True
    np.testing.assert_array_equal(missing, expected)
    np.testing.assert_array_equal(np.isnan(scored(pool, pool, model, same=True).pmi.values), expected)
    assert not np.isnan(scored(pool, pool, model).l2.values).any()


def test_a_planted_copy_helps_most_with_a_model_that_copies(copier: CausalModel) -> None:
    rows = some_rows(6, 3, longest=30)
    found = scored(rows, rows, copier)
    assert found.report.engine == "plain"
    assert found.report.notes
    for values in (found.l2.values, found.pmi.values):
        assert (values.argmax(1) == np.arange(6)).all()
    assert found.l2.baseline is not None
    labels = np.array([len(copier.encode(y)) + 1 for y in rows.responses])
    most = found.l2.baseline - labels**-0.5  # a copier does not foresee where the copied text ends
    assert (np.diag(found.l2.values) > 0.9 * most).all()


@pytest.mark.skipif(not (BUILTIN / "model.safetensors").is_file(), reason="the built-in model is not trained yet")
def test_the_built_in_model_uses_its_example() -> None:
    model = load_causal("builtin", device="cpu", dtype="float32")
    prompts = [
        "Which fruit is red?",
        "Give a synonym of happy.",
        "Translate to Spanish: the house",
        "What is the capital of France?",
    ]
    rows = Rows(
        prompts, ["The cherry is red.", "A word for it is joyful.", "la casa", "The capital is Paris."], np.arange(4)
    )
    found = scored(rows, rows, model)
    assert found.report.engine == "shared"
    assert np.diag(found.pmi.values).mean() > found.pmi.values[~np.eye(4, dtype=bool)].mean() + 0.1


def test_blocks_are_computed_once_and_survive_in_any_store(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "BLOCK_TOKENS", 1500)
    helped, candidates, store = some_rows(7, 1), some_rows(9, 2), CountingStore()
    first = scored(helped, candidates, model, store=store)
    assert first.report.blocks > 2
    assert first.report.computed == first.report.blocks
    assert len(store.written) == first.report.blocks + 1  # and the baseline
    again = scored(helped, candidates, model, store=store)
    assert again.report.computed == 0
    assert again.report.cut_examples == first.report.cut_examples
    np.testing.assert_array_equal(first.l2.values, again.l2.values)
    np.testing.assert_array_equal(first.pmi.values, again.pmi.values)
    monkeypatch.setattr(job, "BLOCK_TOKENS", 10**9)
    one = scored(helped, candidates, model)
    assert one.report.blocks == 1
    np.testing.assert_array_equal(first.l2.values, one.l2.values)


@pytest.mark.parametrize("calls", [0, 1, 3, 6, 10])
def test_a_cancelled_run_goes_on_where_it_stopped(
    model: CausalModel, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "BLOCK_TOKENS", 1000)
    helped, candidates, store, left = some_rows(7, 1), some_rows(9, 2), CountingStore(), calls

    def stop(stage: str, done: float, total: float, note: str = "") -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Cancelled("stopped")

    whole = scored(helped, candidates, model)
    with pytest.raises(Cancelled):
        InContext().score(helped, candidates, model, same=False, store=store, progress=stop)
    assert model.model.config._attn_implementation == "sdpa", "the model must come back as it was"
    finished = len(store.written)
    rest = scored(helped, candidates, model, store=store)
    assert rest.report.computed == rest.report.blocks + 1 - max(1, finished)
    np.testing.assert_array_equal(whole.l2.values, rest.l2.values)
    np.testing.assert_array_equal(whole.pmi.values, rest.pmi.values)


def test_progress_counts_pairs_and_ends_at_all_of_them(model: CausalModel) -> None:
    seen: list[tuple[float, float]] = []
    InContext().score(
        some_rows(4, 1), some_rows(3, 2), model, same=False, store=MemoryStore(),
        progress=lambda stage, done, total, note="": seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (12, 12)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert any(0 < done < 12 for done, _ in seen), "one block: it is told of from within"


def test_a_block_is_known_by_everything_that_decides_its_numbers(model: CausalModel) -> None:
    def key(helped: Rows, candidates: Rows, model: CausalModel, **options: Any) -> str:
        made = {"template": "delift", "example_tokens": 256, "query_tokens": 512, **options}
        return job.Job.of(helped, candidates, model, **made).key((0, 2))

    helped, candidates = some_rows(4, 1), some_rows(3, 2)
    base = key(helped, candidates, model)
    assert key(some_rows(4, 1, first=50), some_rows(3, 2, first=9), model) == base, (
        "row numbers do not matter, texts do"
    )
    others = [
        key(some_rows(4, 3), candidates, model),
        key(helped, some_rows(3, 3), model),
        key(helped, candidates, model, template="paper"),
        key(helped, candidates, model, example_tokens=100),
        key(helped, candidates, model, query_tokens=100),
        key(helped, candidates, replace(model, identity=replace(model.identity, hash="other"))),
        key(helped, candidates, replace(model, identity=replace(model.identity, dtype="bfloat16"))),
        key(helped, candidates, replace(model, context=512)),
        key(
            helped,
            candidates,
            wrap(llama(), tokenizer=byte_tokenizer(chat="x" + str(byte_tokenizer().chat_template))),
            template="chat",
        ),
        key(helped, candidates, model, template="chat"),
    ]
    assert len({base, *others}) == len(others) + 1


def test_rows_longer_than_the_context_are_scored_in_part_and_counted() -> None:
    model = wrap(llama(), context=200)
    long = Rows(["short", "p" * 500, "q"], ["fine", "answer", "r" * 300], np.arange(3))
    found = scored(long, long, model, example_tokens=64, query_tokens=512)
    assert (found.report.cut_prompts, found.report.cut_responses, found.report.cut_examples) == (2, 1, 3)
    assert len(found.report.notes) == 3
    assert np.isfinite(found.l2.values).all()
    assert np.isfinite(found.pmi.values).all()


def test_the_estimate_counts_pairs_and_tokens_and_predicts_some_time(model: CausalModel) -> None:
    helped, candidates = some_rows(10, 1), some_rows(8, 2)
    cost = InContext().estimate(helped, candidates, model, same=False)
    size = lambda texts: sum(len(model.encode(t)) for t in texts)  # noqa: E731
    prefixes = size(f"Example:\n{x}\n{y}\n\n" for x, y in zip(candidates.prompts, candidates.responses, strict=True))
    rows = size(f"Query:\n{x}\n{y}" for x, y in zip(helped.prompts, helped.responses, strict=True))
    assert cost.pairs == 80
    assert cost.tokens == pytest.approx(prefixes + 9 * rows, abs=1)
    assert cost.bytes >= 80 * 8
    assert cost.flops > 0
    assert 0 < cost.seconds < 60


def test_an_empty_side_is_refused(model: CausalModel) -> None:
    none = Rows([], [], np.arange(0))
    with pytest.raises(DataError, match="not 0 to be helped and 3 candidates"):
        scored(none, some_rows(3), model)


def test_a_context_too_short_for_the_template_is_refused_before_any_pass() -> None:
    with pytest.raises(ConfigError, match="longer context"):
        scored(some_rows(2), some_rows(2), wrap(llama(), context=100), template="paper")


def test_rows_that_are_appended_cost_only_what_is_new(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("TILE_TOKENS", 100), ("BLOCK_TOKENS", 400)):  # several tiles, several columns a block
        monkeypatch.setattr(job, name, size)
    rows, store = some_rows(24), CountingStore()
    before = InContext().score(rows.part(0, 18), rows.part(0, 18), model, same=True, store=store)
    assert before.report.blocks == before.report.computed > 20
    after = InContext().score(rows, rows, model, same=True, store=store)
    reused = after.report.blocks - after.report.computed
    assert reused > 0.6 * before.report.blocks, "all but the blocks that were not full"
    afresh = InContext().score(rows, rows, model, same=True, store=CountingStore())
    assert np.array_equal(after.l2.values, afresh.l2.values, equal_nan=True)
    assert np.array_equal(after.l2.baseline, afresh.l2.baseline)


class Clock:
    """Every look takes a tenth of a second, and one of them stalls."""

    def __init__(self, stalls: int) -> None:
        self.now, self.looks, self.stalls = 0.0, 0, stalls

    def perf_counter(self) -> float:
        self.looks += 1
        self.now += 50.0 if self.looks == self.stalls else 0.1
        return self.now


@pytest.mark.parametrize("stalls", [2, 3, 4, 5, 7])
def test_a_pass_that_had_to_wait_does_not_decide_the_price(
    model: CausalModel, monkeypatch: pytest.MonkeyPatch, stalls: int
) -> None:
    rows, found = some_rows(4, 1), []
    for late in (0, stalls):
        monkeypatch.setattr(estimate, "time", Clock(late))
        found.append(InContext().estimate(rows, rows, model, same=True).seconds)
    assert found[1] == pytest.approx(found[0])
