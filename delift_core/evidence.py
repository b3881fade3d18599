"""What an objective looks at, computed: token counts, vectors, utilities.  Finished blocks come from the store.

The pipeline says what is needed and when; this module turns datasets into arrays and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from delift_core.config import RunConfig
from delift_core.inputs import SIDES, Inputs
from delift_core.models.causal import CausalModel, TextTokenizer, identify_causal, load_causal, load_tokenizer
from delift_core.models.encoder import Encoder, identify_encoder, load_encoder
from delift_core.scoring.rows import Rows
from delift_core.selection.scale import How, scaled
from delift_core.types import (
    BlockStore,
    Dataset,
    Evidence,
    Floats,
    Identity,
    Indices,
    Kind,
    Progress,
    Utility,
    block_key,
    no_progress,
)

if TYPE_CHECKING:
    from delift_core.scoring.icl import Report
    from delift_core.scoring.planned import Planned

ROWS_PER_BLOCK = 2_048  # rows whose vectors make one block
COUNTS_PER_BLOCK = 50_000  # rows whose token counts make one block
WORTH_SHARING = 100_000  # pairs from which on other devices repay the seconds that loading a model there takes
VERSION = 1  # raise when token counts, vectors or maps would come out differently


@dataclass(frozen=True, eq=False)
class Gathered:
    """Evidence for the objective, and what the run keeps of how it came about."""

    evidence: Evidence
    raw: Mapping[str, Mapping[str, Utility]]  # part -> kind -> utility, unscaled
    models: tuple[Identity, ...]
    notes: tuple[str, ...] = ()
    planned: Mapping[str, Planned] = field(default_factory=dict)  # part -> what its pair plan came to
    used: Mapping[str, Utility] = field(default_factory=dict)  # part -> what the objective sees, before it is scaled
    vectors: Mapping[str, Floats] = field(default_factory=dict)  # role -> unit vectors


@dataclass(eq=False)
class _Scored:
    """Utilities as they come in, part by part."""

    raw: dict[str, dict[str, Utility]] = field(default_factory=dict)
    used: dict[str, Utility] = field(default_factory=dict)  # what the objective gets, before it is scaled
    planned: dict[str, Planned] = field(default_factory=dict)
    models: list[Identity] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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


def identities(inputs: Inputs) -> list[Identity]:
    """The models that `gather` would use, without loading them."""
    found = [identify_causal(inputs.config.model)] if inputs.in_context else []
    return [*found, identify_encoder(inputs.config.encoder)] if inputs.encoded_roles else found


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


# ------------------------------------------------------------------------------------------------ evidence


def gather(inputs: Inputs, tokens: Indices, store: BlockStore, progress: Progress = no_progress) -> Gathered:
    """Compute what the objective needs, and only that.

    Args:
        inputs: the opened datasets.
        tokens: (n,) tokens of each candidate.
        store: where finished blocks live.
        progress: stages "score pool", "score target", "score existing" (pairs) and "encode" (rows).

    Raises ConfigError where the evidence cannot tell rows apart, ModelError where a model cannot be loaded.
    """
    models: list[Identity] = []
    notes: list[str] = []
    vectors: dict[str, Floats] = {}
    if inputs.encoded_roles:
        encoder = sentence_encoder(inputs.config.encoder, inputs.models)
        models.append(encoder.identity)
        roles = inputs.encoded_roles
        whole = reads_whole([inputs.datasets[role] for role in roles])
        notes += [] if whole else ["Some rows have no response, so the encoder read the prompts alone, on all sides."]
        for role in roles:
            vectors[role] = vectors_of(
                inputs.datasets[role],
                inputs.rows(role),
                encoder,
                store,
                whole=whole,
                progress=named(progress, f"encode {role}"),
            )
    scored = _in_context(inputs, vectors, store, progress) if inputs.in_context else _by_vectors(inputs, vectors)
    return Gathered(
        _assembled(inputs, tokens, scored.used, vectors), scored.raw, (*models, *scored.models),
        (*notes, *scored.notes), scored.planned, scored.used, vectors,
    )  # fmt: skip


def _assembled(inputs: Inputs, tokens: Indices, used: Mapping[str, Utility], vectors: Mapping[str, Floats]) -> Evidence:
    """What the objective gets: utilities scaled together, as one scale must hold for all that it compares."""
    how: How = "minmax" if inputs.config.scale == "minmax" else "clip"
    ready = dict(zip(used, scaled(list(used.values()), how), strict=True)) if used else {}
    needed = inputs.objective.needs
    return Evidence(
        candidates=inputs.rows("pool"),
        tokens=tokens,
        pool=ready.get("pool"),
        target=ready.get("target"),
        existing=ready.get("existing"),
        vectors=vectors.get("pool") if "vectors" in needed else None,
        target_vectors=vectors.get("target") if "target_vectors" in needed else None,
        existing_vectors=vectors.get("existing") if "existing_vectors" in needed else None,
    )


def better_informed(inputs: Inputs, found: Gathered, part: str) -> Evidence:
    """The same evidence, except that the checked rows of a part's pair plan are known exactly."""
    check, utility = found.planned[part].check, found.used[part]
    values = utility.values.tocoo()  # type: ignore[union-attr]
    kept = ~np.isin(values.coords[0], check.rows)
    rows, columns = np.nonzero(~np.isnan(check.exact))
    entries = np.concatenate([values.data[kept], check.exact[rows, columns]])
    places = tuple(
        np.concatenate([old[kept], new]) for old, new in zip(values.coords, (check.rows[rows], columns), strict=True)
    )
    weights = None if utility.weights is None else utility.weights.copy()
    if weights is not None:
        weights[check.rows] = np.maximum(weights[check.rows], 1)
    exact = replace(utility, values=sparse.csc_array((entries, places), shape=utility.shape), weights=weights)
    return _assembled(inputs, found.evidence.tokens, {**found.used, part: exact}, found.vectors)


def _in_context(inputs: Inputs, vectors: Mapping[str, Floats], store: BlockStore, progress: Progress) -> _Scored:
    model = causal_model(inputs.config.model)
    found = _Scored(models=[model.identity])
    for part in inputs.pairs:
        told = named(progress, f"score {part}")
        if inputs.plan is None:
            report = _all_pairs(inputs, part, model, store, told, found)
        else:
            report = _some_pairs(inputs, part, model, vectors, store, told, found)
        # How the blocks were computed does not belong to the result: a resumed run may have found all of them on disk.
        found.notes += [f"{part}: {note}" for note in replace(report, engine="stored", memory=()).notes]
    return found


def _all_pairs(
    inputs: Inputs, part: str, model: CausalModel, store: BlockStore, progress: Progress, found: _Scored
) -> Report:
    from delift_core.scoring import devices

    sides = sides_of(inputs, part)
    more = devices.others(model) if len(sides[0]) * len(sides[1]) >= WORTH_SHARING else []
    if more:  # the blocks are shared out; `score` then finds them all
        devices.fill(
            inputs.scorer, *sides, model, name=inputs.config.model, devices=more, store=store, progress=progress
        )
    utility = inputs.scorer.score(*sides, model, same=part == "pool", store=store, progress=progress)
    found.raw[part] = {"l2": utility.l2, "pmi": utility.pmi}
    found.used[part] = found.raw[part][inputs.config.kind]
    report: Report = utility.report
    return report


def _some_pairs(
    inputs: Inputs,
    part: str,
    model: CausalModel,
    vectors: Mapping[str, Floats],
    store: BlockStore,
    progress: Progress,
    found: _Scored,
) -> Report:
    from delift_core.scoring.planned import score_planned

    helped, candidates = SIDES[part]
    kind: Kind = "l2" if inputs.config.kind == "l2" else "pmi"
    planned = score_planned(
        inputs.scorer, *sides_of(inputs, part), model, inputs.plan, (vectors[helped], vectors[candidates]),
        same=part == "pool", kind=kind, check_rows=inputs.check_rows(part), seed=inputs.config.seed, store=store,
        progress=progress,
    )  # fmt: skip
    found.raw[part] = {"l2": planned.l2, "pmi": planned.pmi}
    found.used[part] = planned.used
    found.planned[part] = planned
    if planned.guessed:
        found.notes.append(
            f"{part}: the selection and its values rest on {planned.pairs:,} scored pairs and {planned.guessed:,} "
            "predicted ones; the utilities that are shown and stored are the scored ones alone."
        )
    if planned.spared:
        found.notes.append(
            f"{part}: the pair plan stopped {planned.spared:,} pairs early, as two rounds in a row hardly raised the "
            "best utilities of the rows."
        )
    return planned.report


def rows_of(inputs: Inputs, role: str) -> Rows:
    """The rows of a role that take part, read into memory."""
    return Rows.of(inputs.datasets[role], inputs.rows(role))


def sides_of(inputs: Inputs, part: str) -> tuple[Rows, Rows]:
    """The helped rows and the candidate rows of a part, read into memory."""
    helped, candidates = SIDES[part]
    first = Rows.of(inputs.datasets[helped], inputs.rows(helped))
    return first, first if helped == candidates else Rows.of(inputs.datasets[candidates], inputs.rows(candidates))


def _by_vectors(inputs: Inputs, vectors: Mapping[str, Floats]) -> _Scored:
    found = _Scored()
    for part, (helped, candidates) in inputs.pairs.items():
        first, second = SIDES[part]
        found.used[part] = inputs.scorer.score(vectors[first], vectors[second], helped, candidates)
        found.raw[part] = {"cosine": found.used[part]}
    return found


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

    datasets = inputs.datasets
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
        placed = project(vectors[0], extra=vectors[1:], seed=0, progress=progress)
        block = dict(zip(datasets, placed, strict=True))
        store.put(key, block)
    first = {role: np.searchsorted(d.unique, d.table["copy_of"].to_numpy()) for role, d in datasets.items()}
    return {role: block[role][first[role]] for role in datasets}


def tokenizer_of(config: RunConfig) -> TextTokenizer:
    """The tokenizer of the run's language model; its weights are not read."""
    return load_tokenizer(config.model)
