"""The language-model head at scored positions only, in pieces, so that no (tokens, vocabulary) tensor is ever made."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TILE = 500_000  # logits held at once


def token_log_probs(hidden: Tensor, head: nn.Module, labels: Tensor) -> Tensor:
    """Log P(label) of each position, in nats.

    hidden (N, d), labels (N,) int64 -> (N,) float32, at most 0.  The sum of exponentials runs in float32 whatever the
    model's dtype.
    """
    parts = []
    weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    rows = 512
    if type(head) is nn.Linear and isinstance(weight, Tensor):
        columns = max(1, TILE // rows)
        for start in range(0, len(labels), rows):
            parts.append(_tiled(hidden[start : start + rows], weight, bias, labels[start : start + rows], columns))
    else:
        width = int(getattr(head, "out_features", 32_768))
        rows = max(1, 16 * TILE // width)
        for start in range(0, len(labels), rows):
            logits = head(hidden[start : start + rows]).float()
            chosen = logits.gather(-1, labels[start : start + rows, None])[:, 0]
            parts.append(chosen - logits.logsumexp(-1))
    log_p = torch.cat(parts).clamp_(max=0.0)
    assert log_p.shape == labels.shape, log_p.shape
    return log_p


def _tiled(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, columns: int) -> Tensor:
    """The vocabulary goes by in tiles that stay in the processor's cache."""
    chosen = torch.zeros(len(labels), dtype=torch.float32, device=hidden.device)
    sums = []
    for start in range(0, len(weight), columns):
        tile = nn.functional.linear(
            hidden, weight[start : start + columns], None if bias is None else bias[start : start + columns]
        ).float()
        inside = (labels >= start) & (labels < start + tile.shape[1])
        found = tile.gather(-1, (labels - start).clamp(0, tile.shape[1] - 1)[:, None])[:, 0]
        chosen = torch.where(inside, found, chosen)
        top = tile.amax(-1, keepdim=True)
        sums.append(tile.sub_(top).exp_().sum(-1).log_().add_(top[:, 0]))
    return chosen - torch.stack(sums).logsumexp(0)
