"""What an objective looks at, computed: vectors, utilities, row scores.  Finished blocks come from the store.

The pipeline says what is needed and when; this module turns datasets into arrays and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from delift_core.config import RunConfig
from delift_core.encoded import causal_model, named, reads_whole, sentence_encoder, tokenizer_of, vectors_of
from delift_core.inputs import SIDES, Inputs
from delift_core.models.causal import CausalModel, identify_causal
from delift_core.models.encoder import identify_encoder
from delift_core.scoring.rows import Rows
from delift_core.selection.scale import How, scaled
from delift_core.types import (
    BlockStore,
    Evidence,
    Floats,
    Identity,
    Indices,
    Kind,
    Progress,
    Scores,
    Utility,
    no_progress,
)

if TYPE_CHECKING:
    from delift_core.scoring.icl import Report
    from delift_core.scoring.planned import Planned

WORTH_SHARING = 100_000  # pairs from which on other devices repay the seconds that loading a model there takes


@dataclass(frozen=True, eq=False)
class Gathered:
    """Evidence for the objective, and what the run keeps of how it came about."""

    evidence: Evidence
    raw: Mapping[str, Mapping[Kind, Utility]]  # part -> kind -> utility, unscaled
    models: tuple[Identity, ...]
    notes: tuple[str, ...] = ()
    planned: Mapping[str, Planned] = field(default_factory=dict)  # part -> what its pair plan came to
    used: Mapping[str, Utility] = field(default_factory=dict)  # part -> what the objective sees, before it is scaled
    vectors: Mapping[str, Floats] = field(default_factory=dict)  # role -> unit vectors
    scores: Scores | None = None  # of the pool's rows


@dataclass(eq=False)
class _Scored:
    """Utilities as they come in, part by part."""

    raw: dict[str, Mapping[Kind, Utility]] = field(default_factory=dict)
    used: dict[str, Utility] = field(default_factory=dict)  # what the objective gets, before it is scaled
    planned: dict[str, Planned] = field(default_factory=dict)
    models: list[Identity] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def identities(inputs: Inputs) -> list[Identity]:
    """The models that `gather` would use, without loading them."""
    found = [identify_causal(inputs.config.model)] if inputs.wants_model else []
    return [*found, identify_encoder(inputs.config.encoder)] if inputs.encoded_roles else found


def gather(inputs: Inputs, tokens: Indices, store: BlockStore, progress: Progress = no_progress) -> Gathered:
    """Compute what the objective needs, and only that.

    Args:
        inputs: the opened datasets.
        tokens: (n,) tokens of each candidate.
        store: where finished blocks live.
        progress: stages "score pool", "score target", "score existing" (pairs), "states", "encode", "neighbours" (rows)
            and "near" (pairs).

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
    scored = _pairs(inputs, vectors, store, progress)
    scores = None
    if inputs.row_score is not None:
        scores, found = _row_scores(inputs, store, progress)
        models += [m for m in found if m.hash not in {known.hash for known in scored.models}]
    return Gathered(
        _assembled(inputs, tokens, scored.used, vectors, scores), scored.raw, (*models, *scored.models),
        (*notes, *scored.notes), scored.planned, scored.used, vectors, scores,
    )  # fmt: skip


def _assembled(
    inputs: Inputs,
    tokens: Indices,
    used: Mapping[str, Utility],
    vectors: Mapping[str, Floats],
    scores: Scores | None,
) -> Evidence:
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
        scores=scores,
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
    return _assembled(inputs, found.evidence.tokens, {**found.used, part: exact}, found.vectors, found.scores)


def _pairs(inputs: Inputs, vectors: Mapping[str, Floats], store: BlockStore, progress: Progress) -> _Scored:
    if inputs.in_context:
        return _in_context(inputs, vectors, store, progress)
    if inputs.by_states:
        return _by_states(inputs, store, progress)
    return _compared(inputs, vectors, store, progress)


def _by_states(inputs: Inputs, store: BlockStore, progress: Progress) -> _Scored:
    model, found = causal_model(inputs.config.model), _Scored()
    found.models.append(model.identity)
    for part in inputs.pairs:
        helped, candidates = sides_of(inputs, part)
        found.used[part] = inputs.scorer.similarity(
            candidates, model, target=helped, store=store, progress=named(progress, f"states {part}")
        )
        found.raw[part] = {"cosine": found.used[part]}
    return found


def _row_scores(inputs: Inputs, store: BlockStore, progress: Progress) -> tuple[Scores, list[Identity]]:
    """The row score of the pool, and the models that it took."""
    reader = reader_of(inputs.row_score, inputs.config)
    scores: Scores = inputs.row_score.score(
        rows_of(inputs, "pool"), reader, target=rows_of(inputs, "target") if inputs.target is not None else None,
        store=store, seed=inputs.config.seed, progress=named(progress, f"score rows by {inputs.row_score.name}"),
    )  # fmt: skip
    return scores, [reader.identity] if isinstance(reader, CausalModel) else []


def reader_of(row_score: Any, config: RunConfig) -> Any:
    """What a row score reads rows with: the language model, its tokenizer alone, or nothing (it reads texts)."""
    if row_score.reads == "model":
        return causal_model(config.model)
    return tokenizer_of(config) if row_score.reads == "tokenizer" else None


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
    found.used[part] = utility.l2 if inputs.config.kind == "l2" else utility.pmi
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
    found.raw[part] = planned.raw
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
    assert planned.report is not None
    return planned.report


def rows_of(inputs: Inputs, role: str) -> Rows:
    """The rows of a role that take part, read into memory."""
    return Rows.of(inputs.datasets[role], inputs.rows(role))


def sides_of(inputs: Inputs, part: str) -> tuple[Rows, Rows]:
    """The helped rows and the candidate rows of a part, read into memory."""
    helped, candidates = SIDES[part]
    first = Rows.of(inputs.datasets[helped], inputs.rows(helped))
    return first, first if helped == candidates else Rows.of(inputs.datasets[candidates], inputs.rows(candidates))


def compared(
    inputs: Inputs, vectors: Mapping[str, Floats], store: BlockStore, progress: Progress = no_progress
) -> dict[str, Utility]:
    """Cosines by part, of all pairs or those of the run's plan, from unit vectors by role; not scaled."""
    return _compared(inputs, vectors, store, progress).used


def _compared(inputs: Inputs, vectors: Mapping[str, Floats], store: BlockStore, progress: Progress) -> _Scored:
    return _by_vectors(inputs, vectors) if inputs.plan is None else _near(inputs, vectors, store, progress)


def _by_vectors(inputs: Inputs, vectors: Mapping[str, Floats]) -> _Scored:
    found = _Scored()
    for part, (helped, candidates) in inputs.pairs.items():
        first, second = SIDES[part]
        found.used[part] = inputs.scorer.score(vectors[first], vectors[second], helped, candidates)
        found.raw[part] = {"cosine": found.used[part]}
    return found


def _near(inputs: Inputs, vectors: Mapping[str, Floats], store: BlockStore, progress: Progress) -> _Scored:
    """Cosines of the pairs of a plan, centred for all parts on the mean of the pool."""
    from delift_core.scoring.near import score_near

    found = _Scored()
    centre = vectors["pool"].mean(axis=0, dtype=np.float64).astype(np.float32)
    for part, (helped, candidates) in inputs.pairs.items():
        first, second = SIDES[part]
        planned = score_near(
            vectors[first], vectors[second], helped, candidates, inputs.plan, centre=centre, same=part == "pool",
            check_rows=inputs.check_rows(part), seed=inputs.config.seed, store=store, progress=progress,
        )  # fmt: skip
        found.raw[part], found.used[part], found.planned[part] = planned.raw, planned.used, planned
    found.notes.append(
        f"The nearest pairs alone were compared ({inputs.config.pairs}). A pair counts as its cosine less the mean "
        "cosine of the row that is helped, and one that was not compared counts as that mean."
    )
    return found
