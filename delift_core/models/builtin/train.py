"""Train the built-in language model, or continue from it: copying first, then mixed documents.

    python -m delift_core.models.builtin.train --corpus corpus.jsonl --minutes 90 --out DIR [--start DIR]

The finished folder holds model.safetensors (fp16), config.json, tokenizer.json and training.json.  A run that is
stopped leaves its last checkpoint there, and `--start DIR` goes on from it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from delift_core.models.builtin.documents import EOS, PAD, RESERVED, Documents, Mix, Packed, Row, read_rows

HERE = Path(__file__).parent
VOCABULARY = 6144


def train_tokenizer(rows: list[Row]) -> Tokenizer:
    """Byte-level BPE over the training rows; digits stay single so that numbers can be copied."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{row.prompt}\n{row.response}" for row in rows), trainer)
    return tokenizer


def new_model(vocabulary: int) -> LlamaForCausalLM:
    """A Llama of 6 layers and width 256: about 6 million parameters with tied embeddings."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
    )


def start_with_induction(model: LlamaForCausalLM, seed: int = 0) -> None:
    """Set two heads by hand to the circuit that copies ("induction heads", arXiv 2209.11895), for training to refine.

    Left to itself, a model of this size does not find the circuit in an hour on two cores.  Layer 0, head 0 looks one
    token back and writes what it saw into 64 dimensions that the embeddings leave free; layer 1, head 0 looks for the
    place whose predecessor is the current token and writes the token that stands there.
    """
    generator = torch.Generator().manual_seed(seed)
    width, head = model.config.hidden_size, model.config.hidden_size // model.config.num_attention_heads
    half = head // 2
    pair = torch.arange(half)
    angle = 10_000.0 ** (-pair / half)  # rotation per token of each pair of dimensions

    def projection() -> Tensor:
        matrix: Tensor = torch.randn(head, width, generator=generator) / width**0.5
        matrix[:, 0] = 0.0
        matrix[:, width - head :] = 0.0
        return matrix

    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding[:, 0] = 0.08  # the same for every token: what the looking-back head steers by
        embedding[:, width - head :] = 0.0
        back, match = model.model.layers[0].self_attn, model.model.layers[1].self_attn
        fast = 1.8 * (pair < 5)
        back.q_proj.weight[:head] = 0.0
        back.k_proj.weight[:head] = 0.0
        back.q_proj.weight[:half, 0] = fast
        back.k_proj.weight[:half, 0] = fast * torch.cos(angle)
        back.k_proj.weight[half:head, 0] = fast * torch.sin(angle)
        content = projection()
        back.v_proj.weight[:head] = content
        back.o_proj.weight[:, :head] = 0.0
        back.o_proj.weight[width - head :, :head] = 0.04 * torch.eye(head)
        slow = (pair >= 16).float().repeat(2)[:, None]  # pairs that hardly turn, so that distance does not matter
        match.q_proj.weight[:head] = 3.0 * content * slow
        match.k_proj.weight[:head] = 0.0
        match.k_proj.weight[:head, width - head :] = 3.0 * torch.eye(head) * slow
        token = projection()
        match.v_proj.weight[:head] = token
        match.o_proj.weight[:, :head] = 0.3 * token.T


def optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the body, AdamW for embeddings and norms."""
    body = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(body, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def weighted_loss(model: LlamaForCausalLM, batch: Packed, device: str) -> Tensor:
    """Weighted next-token cross-entropy in nats; the head runs only where the weight is above 0."""
    ids, weights = batch.ids.to(device), batch.weights.to(device)
    with torch.autocast(device, torch.bfloat16):
        hidden = model.model(
            input_ids=ids[:, :-1],
            attention_mask=batch.mask.to(device),
            position_ids=batch.positions.to(device),
            use_cache=False,
        ).last_hidden_state
        scored = weights > 0
        logits = model.lm_head(hidden[scored])
    loss = torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][scored], reduction="none")
    return (loss * weights[scored]).sum() / weights.sum()


def copying_loss(
    model: LlamaForCausalLM, vocabulary: int, device: str, sequences: int = 96, length: int | None = None
) -> Tensor:
    """Cross-entropy in nats on the second occurrence of random sequences: near 0 once the model can copy."""
    length = length or random.randint(6, 20)
    piece = torch.randint(RESERVED, vocabulary, (sequences, length), device=device)
    before, between = (
        torch.randint(RESERVED, vocabulary, (sequences, random.randint(0, 8)), device=device) for _ in range(2)
    )
    ids = torch.cat([before, piece, between, piece], 1)
    with torch.autocast(device, torch.bfloat16):
        logits = model.lm_head(model.model(input_ids=ids, use_cache=False).last_hidden_state[:, -length:-1])
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, -length + 1 :].flatten())


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path, facts: Facts) -> None:
    """Write the model folder; each file under a temporary name first."""
    staging = out / ".writing"
    staging.mkdir(parents=True, exist_ok=True)
    half = {k: v.detach().to("cpu", torch.float16) for k, v in model.state_dict().items() if k != "lm_head.weight"}
    model.config.dtype = torch.float16
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(staging)
    save_file(half, staging / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(staging / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "model_max_length": 2048,
    }
    (staging / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    (staging / "training.json").write_text(json.dumps(asdict(facts), indent=1))
    for file in sorted(staging.iterdir()):
        file.replace(out / file.name)
    staging.rmdir()


@dataclass
class Facts:
    """What training.json says about the weights beside it."""

    parameters: int
    corpus_sha256: str
    rows: int
    seed: int
    history: list[dict[str, Any]] = field(default_factory=list)  # one entry a run of this script


class Trainer:
    """A model, its optimizers and its documents."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.manual_seed(arguments.seed)
        random.seed(arguments.seed)
        self.arguments, self.device = arguments, arguments.device
        rows = read_rows(arguments.corpus, HERE / "held_out.json")
        print(f"{len(rows)} rows, {len({r.group for r in rows})} groups", flush=True)
        earlier: list[dict[str, Any]] = []
        if arguments.start:
            self.tokenizer = Tokenizer.from_file(str(arguments.start / "tokenizer.json"))
            self.model = LlamaForCausalLM.from_pretrained(arguments.start, dtype=torch.float32)
            earlier = json.loads((arguments.start / "training.json").read_text())["history"]
        else:
            self.tokenizer = train_tokenizer(rows)
            self.model = new_model(self.tokenizer.get_vocab_size())
            start_with_induction(self.model)
        self.model.to(self.device).train()
        self.vocabulary = self.tokenizer.get_vocab_size()
        self.optimizers = optimizers(self.model, arguments.rate)
        self.documents = Documents(rows, self.tokenizer, Mix(), random.Random(arguments.seed + len(earlier)))
        self.facts = Facts(
            parameters=sum(p.numel() for p in self.model.parameters()),
            corpus_sha256=hashlib.sha256(arguments.corpus.read_bytes()).hexdigest(),
            rows=len(rows),
            seed=arguments.seed,
            history=earlier,
        )

    def step(self, loss: Tensor, factor: float) -> None:
        """One update at `factor` times the full learning rate."""
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.arguments.rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def copying(self, steps: int = 2000, enough: float = 0.5) -> None:
        """Repeats of random tokens, until the loss on them is low enough."""
        began = time.time()
        for number in range(steps):
            loss = copying_loss(self.model, self.vocabulary, self.device)
            self.step(loss, min(1.0, (number + 1) / 50) / 2)
            if number % 25 == 0:
                print(f"copying {number} {time.time() - began:.0f} s loss {loss.item():.3f}", flush=True)
            if number > 50 and loss.item() < enough:
                break

    def mixed(self, minutes: float) -> None:
        """Mixed documents for the given time; saves every few minutes and at the end."""
        began = saved = time.time()
        steps, tokens, smooth = 0, 0, 0.0
        while (elapsed := time.time() - began) < minutes * 60:
            batch = self.documents.batch(self.arguments.batch, self.arguments.length)
            loss = weighted_loss(self.model, batch, self.device)
            # Warm up, stay, then fall to nothing over the last third, so that a run may be continued at full rate.
            self.step(loss, min(1.0, (steps + 1) / 50, 3.0 * (1 - elapsed / (minutes * 60)) + 0.02))
            steps, tokens = steps + 1, tokens + batch.weights.numel()
            smooth = loss.item() if steps == 1 else 0.98 * smooth + 0.02 * loss.item()
            if steps % 25 == 0:
                print(
                    f"{steps} {elapsed:.0f} s loss {smooth:.3f} copying {self.repeats():.3f} {tokens} tokens",
                    flush=True,
                )
            if time.time() - saved > self.arguments.save_every:
                save(self.model, self.tokenizer, self.arguments.out, self.facts)
                saved = time.time()
        self.facts.history.append(
            {
                "minutes": minutes,
                "steps": steps,
                "tokens": tokens,
                "loss": round(smooth, 3),
                "copying": round(self.repeats(), 3),
                "device": self.device,
            }
        )
        save(self.model, self.tokenizer, self.arguments.out, self.facts)

    def repeats(self) -> float:
        """Loss in nats on sequences of 40 random tokens that occur twice."""
        with torch.no_grad():
            return copying_loss(self.model, self.vocabulary, self.device, 16, 40).item()


def main() -> None:
    """Copying until it works (unless continued), then mixed documents for the given time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="JSON Lines with prompt, response, source")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="continue from this folder")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=300, help="seconds")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(parser.parse_args())
    if not trainer.arguments.start:
        trainer.copying()
    trainer.mixed(trainer.arguments.minutes)


if __name__ == "__main__":
    main()
