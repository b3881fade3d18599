"""Small random models and rows for the scoring tests."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from delift_core.models.causal import CausalModel
from delift_core.scoring.rows import Rows
from delift_core.types import Identity

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(*, bos: bool = False, chat: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Bytes as tokens, with a few special ones; a beginning-of-sequence token on request."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<eos>", "<bos>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*special, *alphabet])}, merges=[]))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        from tokenizers.processors import TemplateProcessing

        tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<bos>")
    fast.chat_template = chat
    return fast


def wrap(model: Any, *, context: int = 1024, tokenizer: Any = None) -> CausalModel:
    """The model as the engine sees it."""
    model = model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(3.0)  # away from the uniform distribution that fresh weights give
    identity = Identity(
        type(model).__name__, f"random-{sum(p.double().sum().item() for p in model.parameters()):.9f}", "causal-lm"
    )
    return CausalModel(tokenizer or byte_tokenizer(), 0, model, identity, context)


def llama(**changes: Any) -> LlamaForCausalLM:
    """Three layers with two query heads for one key head."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**{"vocab_size": 260, "max_position_embeddings": 1024, **sizes, **changes}))


def gpt2() -> GPT2LMHeadModel:
    """Learned positions, layer norms, biases."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=260, n_positions=1024, n_embd=32, n_layer=2, n_head=4))


def qwen2(**changes: Any) -> Qwen2ForCausalLM:
    """Biased projections and tied embeddings."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
    }
    return Qwen2ForCausalLM(
        Qwen2Config(
            **{"vocab_size": 260, "max_position_embeddings": 1024, "tie_word_embeddings": True, **sizes, **changes}
        )
    )


MODELS: dict[str, Callable[[], Any]] = {"llama": llama, "gpt2": gpt2, "qwen2": qwen2}


@pytest.fixture(params=list(MODELS))
def any_model(request: pytest.FixtureRequest) -> CausalModel:
    return wrap(MODELS[request.param]())


@pytest.fixture
def model() -> CausalModel:
    return wrap(llama())


def some_rows(count: int, seed: int = 0, *, longest: int = 60, first: int = 0) -> Rows:
    """Rows of random words, one with a single character and one beyond ASCII."""
    rng = random.Random(seed)
    text = lambda: "".join(rng.choice("abcdefgh ij\n") for _ in range(rng.randint(1, longest)))  # noqa: E731
    prompts, responses = [text() for _ in range(count)], [text() for _ in range(count)]
    responses[0] = "x"
    if count > 1:
        prompts[1], responses[1] = "¿Qué — 日本語 🦆?", "“naïve” ß 😀\u200d"
    return Rows(prompts, responses, np.arange(first, first + count, dtype=np.int64))


class Copier(torch.nn.Module):
    """A language model that does one thing: where the last four tokens stood before, it expects what followed them."""

    class _Config:
        _attn_implementation = "none"

        def get_text_config(self) -> Any:
            return self

    class _Output:
        def __init__(self, logits: torch.Tensor) -> None:
            self.logits = logits

    def __init__(self, vocabulary: int = 260) -> None:
        super().__init__()
        self.config = self._Config()
        self.dtype = torch.float32
        self.table = torch.nn.Embedding(vocabulary, 1)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.table

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool) -> _Output:
        logits = torch.zeros(*input_ids.shape, self.table.num_embeddings)
        for b, row in enumerate(input_ids.tolist()):
            followers: dict[tuple[int, ...], int] = {}
            for t, token in enumerate(row):
                if t >= 4:
                    followers[tuple(row[t - 4 : t])] = token
                seen = followers.get(tuple(row[t - 3 : t + 1]))
                if seen is not None:
                    logits[b, t, seen] = 9.0
        return self._Output(logits)


@pytest.fixture
def copier() -> CausalModel:
    return CausalModel(byte_tokenizer(), 0, Copier(), Identity("copier", "copier", "causal-lm"), 1024)  # type: ignore[arg-type]
