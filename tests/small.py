"""A small random language model and small files of rows, for tests that run the whole way."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from delift_core.runs import Workspace

ROOT = Path(__file__).parents[1]
_kept: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def model() -> str:
    """The folder of a random Llama that reads bytes; made once per test session."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    kept = tempfile.TemporaryDirectory(prefix="delift-small-model-")
    _kept.append(kept)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(["<eos>", *alphabet])}, merges=[]))
    tokenizer.add_special_tokens(["<eos>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(kept.name)
    torch.manual_seed(0)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=1024, bos_token_id=None, eos_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.mul_(3.0)  # fresh weights give all tokens nearly the same probability
    llama.save_pretrained(kept.name)
    return kept.name


@functools.cache
def _table() -> Path:
    """The folder of the table that the encoder "fast" is made of; made once per test session."""
    from delift_core.models.encoder import load_encoder

    kept = tempfile.TemporaryDirectory(prefix="delift-fast-")
    _kept.append(kept)
    load_encoder("fast", cache=Path(kept.name))
    return Path(kept.name)


def give_table(ws: Workspace) -> Workspace:
    """Put the table of the encoder "fast" into a workspace, which would take a quarter of a minute to make it."""
    shutil.copytree(_table(), ws.models, dirs_exist_ok=True)
    return ws


def rows(n: int, *, seed: int = 0, words: int = 4) -> list[dict[str, Any]]:
    """Different instruction rows of a few kinds."""
    draw = random.Random(seed)
    nouns = ("river", "stone", "lamp", "garden", "engine", "letter", "winter", "market", "violin", "harbour")
    made = []
    for i in range(n):
        chosen = " ".join(draw.choice(nouns) for _ in range(words))
        kind = ("Repeat", "Reverse", "Count the letters of")[i % 3]
        answer = {"Repeat": chosen, "Reverse": chosen[::-1]}.get(kind, str(len(chosen)))
        made.append({"id": f"{seed}-{i}", "instruction": f"{kind}: {chosen} {i}", "output": f"{answer}."})
    return made


def write(path: Path, records: Iterable[Any]) -> Path:
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def process(*words: str | Path, home: Path | None = None, **changes: Any) -> subprocess.Popen[str]:
    """`delift` with these words, as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if home is not None:
        environment["DELIFT_HOME"] = str(home)
    return subprocess.Popen(
        [sys.executable, "-m", "delift_core", *map(str, words)], env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **changes,
    )  # fmt: skip


def lines(path: Path) -> list[bytes]:
    """The lines of a file, as bytes."""
    return path.read_bytes().splitlines()


def records(found: Sequence[bytes]) -> list[Any]:
    """Lines of JSON by value."""
    return [json.loads(line) for line in found]
