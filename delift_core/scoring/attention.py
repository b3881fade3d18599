"""Attention in two parts: over a prefix that many rows share, and within each row.  Joined exactly by log-sum-exp.

For one query, softmax attention over the union of two sets of keys is the average of the attention over each set,
weighted by the sets' sums of exponentials [as in blockwise attention: FlashAttention, arXiv 2205.14135, section 3.1].
So the prefix's keys are read where they lie, by all rows at once: nothing is expanded, concatenated or changed.

Rows are packed into one sequence without padding; a model sees it as a batch of one.  Only attention knows where a row
ends, and there rows are padded to a common length.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

NAME = "delift_shared_prefix"


class CannotShare(Exception):
    """The model's attention has a feature that the split does not reproduce; the plain pass must be taken."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of one prefix, written by the pass that reads it and never changed afterwards."""

    length: int
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # id of the module -> (1, KV, S, D) each


@dataclass(frozen=True, eq=False)
class Packing:
    """Where each row's tokens lie in the packed sequence of N tokens, for B rows of at most T tokens."""

    gather: Tensor | None  # (B * T,) index into the packed sequence; None when all rows are T long
    scatter: Tensor | None  # (N,) index into (B * T)
    rows: int
    length: int


@dataclass(frozen=True, eq=False)
class _Pass:
    prefix: Prefix | None
    packing: Packing | None  # None: this pass reads the prefix itself


_current: ContextVar[_Pass | None] = ContextVar("delift_pass", default=None)


def pack(lengths: list[int], device: torch.device) -> Packing:
    """The packing of rows of these lengths, one after the other."""
    rows, length = len(lengths), max(lengths)
    if min(lengths) == length:
        return Packing(None, None, rows, length)
    sizes = torch.tensor(lengths)
    starts = torch.cumsum(sizes, 0) - sizes
    inside = torch.arange(length)[None, :]
    real = inside < sizes[:, None]  # (B, T)
    gather = (starts[:, None] + inside).where(real, starts[:, None])
    return Packing(gather.flatten().to(device), real.flatten().nonzero()[:, 0].to(device), rows, length)


@contextmanager
def reading(prefix: Prefix) -> Iterator[None]:
    """Inside, one forward pass over a single sequence writes its keys and values into `prefix`."""
    with _using(_Pass(prefix, None)):
        yield


@contextmanager
def sharing(prefix: Prefix | None, packing: Packing) -> Iterator[None]:
    """Inside, a forward pass over packed rows lets each row see `prefix` and itself."""
    with _using(_Pass(prefix, packing)):
        yield


@contextmanager
def _using(state: _Pass) -> Iterator[None]:
    token = _current.set(state)
    try:
        yield
    finally:
        _current.reset(token)


def attend(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax attention and the log of its sum of exponentials.

    query (B, H, T, D), key and value (B, H, S, D) -> (B, H, T, D) and (B, H, T) float32.
    """
    if query.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=None, scale=scale
        )
        return out, lse
    if query.device.type == "cuda" and query.shape[-1] % 8 == 0:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=scale
        )
        return out, lse[..., : query.shape[2]]  # padded to a multiple of 32 by the kernel
    return attend_anywhere(query, key, value, causal=causal, scale=scale)


def attend_anywhere(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """`attend` in plain operations, for devices and head widths without a kernel that returns the sum."""
    scores = torch.matmul(query, key.transpose(-1, -2)).float() * scale
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), float("-inf"))
    return torch.matmul(scores.softmax(-1).to(value.dtype), value), scores.logsumexp(-1)


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,  # (1, H, N, D)
    key: Tensor,  # (1, KV, N, D)
    value: Tensor,  # (1, KV, N, D)
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **features: Any,
) -> tuple[Tensor, None]:
    """An attention function in transformers' interface; what it does depends on the pass that is under way."""
    state = _current.get()
    if state is None or query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise CannotShare("its attention is called in a way that is not one causal sequence")
    for name in ("softcap", "s_aux", "position_bias", "alibi"):
        if features.get(name) is not None:
            raise CannotShare(f"its attention uses {name}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if state.packing is None:
        assert state.prefix is not None
        state.prefix.layers[id(module)] = (key.contiguous(), value.contiguous())
        out, _ = attend(query, *_repeated(query, key, value), causal=True, scale=scale)
        return out.transpose(1, 2), None
    out, lse = _within(query, key, value, state.packing, scale)
    if state.prefix is not None:
        if id(module) not in state.prefix.layers:
            raise CannotShare("a layer did not show its keys and values")
        seen, seen_lse = _over(query, *state.prefix.layers[id(module)], scale)
        share = torch.sigmoid(seen_lse - lse).unsqueeze(-1).to(out.dtype)  # the prefix's part of all attention
        out = torch.lerp(out, seen, share)
    return out.transpose(1, 2), None


def _over(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Every query over the whole prefix; query heads of one key head stand in a row, so keys are not copied."""
    _, heads, tokens, width = query.shape
    groups = key.shape[1]
    out, lse = attend(query.reshape(1, groups, -1, width), key, value, causal=False, scale=scale)
    return out.reshape(1, heads, tokens, width), lse.reshape(1, heads, tokens)


def _within(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float) -> tuple[Tensor, Tensor]:
    """Each row over itself, causally."""
    key, value = _repeated(query, key, value)
    _, heads, tokens, width = query.shape
    parts = []
    for packed in (query, key, value):
        flat = packed[0].transpose(0, 1)  # (N, H, D)
        if packing.gather is not None:
            flat = flat.index_select(0, packing.gather)
        parts.append(flat.reshape(packing.rows, packing.length, heads, width).transpose(1, 2))  # (B, H, T, D)
    out, lse = attend(*parts, causal=True, scale=scale)
    out, lse = out.transpose(1, 2).reshape(-1, heads, width), lse.transpose(1, 2).reshape(-1, heads)
    if packing.scatter is not None:
        out, lse = out.index_select(0, packing.scatter), lse.index_select(0, packing.scatter)
    assert out.shape == (tokens, heads, width), out.shape
    return out.transpose(0, 1).unsqueeze(0), lse.transpose(0, 1).unsqueeze(0)


def _repeated(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    times = query.shape[1] // key.shape[1]
    if times == 1:
        return key, value
    return key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)


@contextmanager
def installed(model: Any) -> Iterator[None]:
    """Inside, the transformers model computes with `shared_prefix_attention`; outside, as before.

    Raises CannotShare when the model does not take its attention from transformers' interface.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, shared_prefix_attention)
    if not getattr(model, "_can_set_attn_implementation", lambda: False)():
        raise CannotShare("it does not take its attention from transformers' interface")
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
