"""Rows as a model sees them: token counts, sentence vectors, the map.  Finished blocks come from the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from delift_core.config import RunConfig
from delift_core.inputs import Inputs
from delift_core.models.causal import CausalModel, TextTokenizer, identify_causal, load_causal, load_tokenizer
from delift_core.models.encoder import Encoder, identify_encoder, load_encoder
from delift_core.types import BlockStore, Dataset, Floats, Indices, Progress, block_key, no_progress

ROWS_PER_BLOCK = 2_048  # rows whose vectors make one block
COUNTS_PER_BLOCK = 50_000  # rows whose token counts make one block
VERSION = 1  # raise when token counts, vectors or maps would come out differently


@lru_cache(maxsize=1)
def _causal(name: str, _hash: str) -> CausalModel:
    return load_causal(name)


@lru_cache(maxsize=1)
def _encoder(name: str, cache: Path | None, _hash: str) -> Encoder:
    return load_encoder(name, cache=cache)


def causal_model(name: str) -> CausalModel:
    """The language model, loaded once per process as long as its weights stay the same."""
    return _causal(name, identify_causal(name).hash)


def sentence_encoder(name: str, cache: Path | None = None) -> Encoder:
    """The sentence encoder, loaded once per process as long as its weights stay the same.

    `cache` is the folder for what is made on this machine (the table of "fast").
    """
    return _encoder(name, cache, identify_encoder(name).hash)


# ------------------------------------------------------------------------------------------------ tokens and vectors


def token_counts(
    dataset: Dataset, tokenizer: TextTokenizer, store: BlockStore, progress: Progress = no_progress
) -> Indices:
    """Tokens of prompt and response of every row, (N,), without the closing token."""
    identity = _tokenizer_hash(tokenizer)
    counts: list[Indices] = []
    for start in range(0, len(dataset), COUNTS_PER_BLOCK):
        key = block_key(
            "tokens", rows=dataset.fingerprint, start=start, size=COUNTS_PER_BLOCK, tokenizer=identity, version=VERSION
        )
        block = store.get(key)
        if block is None:
            stop = start + COUNTS_PER_BLOCK
            sums = tokenizer.count_tokens(dataset.prompts[start:stop]) + tokenizer.count_tokens(
                dataset.responses[start:stop]
            )
            block = {"counts": sums}
            store.put(key, block)
        counts.append(block["counts"])
        progress("count tokens", min(start + COUNTS_PER_BLOCK, len(dataset)), len(dataset))
    return np.concatenate(counts) if counts else np.zeros(0, np.int64)


def _tokenizer_hash(tokenizer: TextTokenizer) -> str:
    inner = tokenizer.tokenizer
    backend = getattr(inner, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr((type(inner).__name__, sorted(inner.get_vocab().items())))
    return hashlib.sha256(text.encode()).hexdigest()


def texts_of(dataset: Dataset, rows: Indices, whole: bool) -> list[str]:
    """What the encoder reads of the given rows: prompt and response, or the prompt alone."""
    prompts = dataset.prompts
    if not whole:
        return [prompts[i] for i in rows]
    responses = dataset.responses
    return ["\n".join(filter(None, (prompts[i], responses[i]))) for i in rows]


def reads_whole(datasets: Sequence[Dataset]) -> bool:
    """Whether the encoder reads responses as well.

    Where one side has prompts only, comparing them with prompt-and-response texts would measure that difference, so
    then all sides are read by their prompts.  Plain text has no second half and counts as whole.
    """
    return all(d.labelled or d.schema == "text" for d in datasets)


def vectors_of(
    dataset: Dataset,
    rows: Indices,
    encoder: Encoder,
    store: BlockStore,
    *,
    whole: bool = True,
    progress: Progress = no_progress,
) -> Floats:
    """Unit vectors (len(rows), d) of rows, in blocks that are computed once."""
    parts: list[Floats] = []
    for start in range(0, len(rows), ROWS_PER_BLOCK):
        texts = texts_of(dataset, rows[start : start + ROWS_PER_BLOCK], whole)
        digest = hashlib.sha256()
        for text in texts:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        key = block_key(
            "vectors",
            encoder=encoder.identity.hash,
            dtype=encoder.identity.dtype,
            texts=digest.hexdigest(),
            version=VERSION,
        )
        block = store.get(key)
        if block is None:

            def within(stage: str, done: float, total: float, note: str = "", *, start: int = start) -> None:
                progress("encode", start + done, len(rows), note)

            block = {"vectors": encoder.encode(texts, progress=within)}
            store.put(key, block)
        parts.append(block["vectors"])
        progress("encode", start + len(texts), len(rows))
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def named(progress: Progress, name: str) -> Progress:
    """The same progress under the run's own name for the stage."""

    def report(stage: str, done: float, total: float, note: str = "") -> None:
        progress(name, done, total, note)

    return report


def coordinates(inputs: Inputs, store: BlockStore, progress: Progress = no_progress) -> dict[str, Floats]:
    """The map: all rows of the datasets in one plane, (N, 2) by role, indexed by row; exact copies stand in one place.

    Runs over the same datasets share one map, so that they can be compared.
    """
    from delift_core.projection import project

    datasets = {role: dataset for role, dataset in inputs.datasets.items() if role != "holdout"}
    whole = reads_whole(list(datasets.values()))
    encoder = sentence_encoder(inputs.config.encoder, inputs.models)
    rows = {role: d.fingerprint for role, d in datasets.items()}
    key = block_key("map", encoder=encoder.identity.hash, whole=whole, version=VERSION, rows=rows)
    block = store.get(key)
    if block is None:
        vectors = [
            vectors_of(d, d.unique, encoder, store, whole=whole, progress=named(progress, f"encode {role}"))
            for role, d in datasets.items()
        ]
        placed = project(vectors[0], extra=vectors[1:], seed=0, store=store, progress=progress)
        block = dict(zip(datasets, placed, strict=True))
        store.put(key, block)
    first = {role: np.searchsorted(d.unique, d.table["copy_of"].to_numpy()) for role, d in datasets.items()}
    return {role: block[role][first[role]] for role in datasets}


def tokenizer_of(config: RunConfig) -> TextTokenizer:
    """The tokenizer of the run's language model; its weights are not read."""
    return load_tokenizer(config.model)
