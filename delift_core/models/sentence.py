"""Any sentence-transformers model, from a folder or the hub: safetensors only, never code of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from delift_core.errors import ModelError
from delift_core.models.source import Source, choose_device, content_hash, count_parameters, find
from delift_core.types import Floats, Identity, Progress, no_progress

_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors", "[0-9]_*/*.safetensors")
_OWN = "sentence_transformers."  # modules outside this package would be code that comes with the model


@dataclass(frozen=True, eq=False)
class SentenceModel:
    """An encoder that the sentence-transformers library runs."""

    model: Any  # sentence_transformers.SentenceTransformer
    identity: Identity

    CHUNK: ClassVar[int] = 512

    @classmethod
    def identify(cls, name: str, *, device: str = "auto") -> Identity:
        """Name, hash (of the folder's content, or the hub's commit) and size.  A hub id is fetched for it."""
        return _identify(_find(name), device)

    @classmethod
    def load(cls, name: str, *, device: str = "auto") -> SentenceModel:
        """Load it.  Raises ModelError when it is missing, not such a model, or only to be had as a pickle."""
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        source = _find(name)
        identity = _identify(source, device)
        logging.disable_progress_bar()
        try:
            model = SentenceTransformer(
                str(source.folder),
                device=identity.device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": "float32"},
            )
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError) as error:
            raise ModelError(
                f"{source.name} cannot be loaded as a sentence encoder: {error}. Fetch it again."
            ) from error
        return cls(model.eval(), identity)

    def encode(self, texts: Sequence[str], *, progress: Progress = no_progress) -> Floats:
        """Vectors (n, d) of unit length.  Texts of like length go together; each is cut at the model's own limit."""
        order = np.argsort([-len(text) for text in texts], kind="stable")
        vectors = np.empty((len(texts), self.model.get_embedding_dimension()), np.float32)
        for start in range(0, len(order), self.CHUNK):
            rows = order[start : start + self.CHUNK]
            vectors[rows] = self.model.encode(
                [texts[i] for i in rows], show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
            )
            progress("encode", start + len(rows), len(order))
        return vectors


def _find(name: str) -> Source:
    source = find(name, _FILES)
    for folder in _modules(source):
        pickles = [p.name for p in folder.glob("*.bin")]
        if pickles and not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"{source.name} keeps weights only as a pickle ({pickles[0]}), which can run code when opened, so it "
                "is not read. Save the model again with sentence-transformers: model.save_pretrained(folder)."
            )
    if not _weights(source):
        raise ModelError(
            f"{source.name} has no weights in safetensors files. Take an encoder that has them, or 'minilm'."
        )
    return source


def _modules(source: Source) -> list[Path]:
    """The folders of the model's parts."""
    listing = source.folder / "modules.json"
    if not listing.is_file():
        raise ModelError(
            f"{source.name} has no modules.json, so it is not a sentence-transformers model. "
            "Give one that is, or a shipped encoder: minilm, fast."
        )
    try:
        modules = json.loads(listing.read_text(encoding="utf-8"))
        parts = [(str(module["type"]), str(module["path"])) for module in modules]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"modules.json of {source.name} cannot be read ({error!r}). Fetch the model again.") from error
    root = source.folder.resolve()
    for kind, path in parts:
        # A folder's own path is checked, not where its files lie: the hub's cache links each file to a store.
        if not kind.startswith(_OWN) or not Path(root / path).resolve().is_relative_to(root):
            raise ModelError(
                f"{source.name} needs code that is not part of sentence-transformers ({kind} in {path or '.'}); "
                "that is never run. Take another encoder."
            )
    return [root / path for _, path in parts]


def _weights(source: Source) -> list[Path]:
    return sorted({file for folder in _modules(source) for file in folder.glob("*.safetensors")})


def _identify(source: Source, device: str) -> Identity:
    weights = _weights(source)
    small = {
        f for folder in (source.folder, *_modules(source)) for f in (*folder.glob("*.json"), *folder.glob("*.txt"))
    }
    digest = source.revision or content_hash([*weights, *sorted(small)])
    return Identity(source.name, digest, "encoder", count_parameters(weights), choose_device(device), "float32")
