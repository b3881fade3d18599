"""The evidence that a finished run stored, as objectives see it.  Nothing is scored or encoded, no model is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from delift_core import constraints
from delift_core.config import Budget, RunConfig
from delift_core.constraints import Resolved
from delift_core.encoded import reads_whole, vectors_of
from delift_core.errors import ConfigError
from delift_core.inputs import Inputs
from delift_core.models.encoder import MINILM_SHA256
from delift_core.models.static import RECIPE
from delift_core.preflight import open_inputs
from delift_core.runs import Run, Workspace, kept
from delift_core.runs.run import Part
from delift_core.selection.scale import How, scaled
from delift_core.types import Evidence, Floats, Identity, Indices, Progress, Utility, no_progress

PARTS: tuple[Part, ...] = ("pool", "target", "existing")
_VECTORS = {"pool": "vectors", "target": "target_vectors", "existing": "existing_vectors"}


@dataclass(frozen=True, eq=False)
class Restored:
    """What an objective chooses from, before rules and budget."""

    inputs: Inputs
    evidence: Evidence
    vectors: Mapping[str, Floats]  # by role, of the roles that the objective or the rules look at

    def resolved(self, ws: Workspace, progress: Progress = no_progress) -> Resolved:
        """Budget and rules against the candidates, as the pipeline resolves them.

        Raises ConfigError for rules that cannot hold, and for a token budget where tokens are not known.
        """
        inputs, tokens = self.inputs, self.evidence.tokens
        constraints.check(inputs)
        budget = Budget.parse(inputs.config.budget)
        if budget.unit == "tokens" and (tokens < 0).any():
            raise ConfigError(
                f"The tokens of {int((tokens >= 0).sum()):,} of {len(tokens):,} rows are kept with this run, so a "
                "token budget cannot be followed here. Give a budget in rows."
            )
        limit = budget.limit(tokens)
        screened = constraints.screen(inputs, limit, tokens, progress)
        return constraints.resolve(inputs, screened, limit, tokens, self.vectors, ws.blocks, progress)


def restore(ws: Workspace, run: Run, config: RunConfig | None = None) -> Restored:
    """What the run stored, for its own objective or for that of a configuration over the same datasets.

    Tokens are -1 where the run kept none.  Raises ConfigError where the objective needs what is not stored.
    """
    inputs = open_inputs(ws, config or run.config)
    raw = {part: stored(run, part) for part in PARTS if part in inputs.objective.needs}
    return assembled(run, inputs, raw, read_vectors(ws, run, inputs))


def assembled(run: Run, inputs: Inputs, raw: Mapping[Part, Utility], vectors: Mapping[str, Floats]) -> Restored:
    """Evidence of raw utilities by part and vectors by role; tokens and row scores are those of the run."""
    needed = inputs.objective.needs
    how: How = "minmax" if inputs.config.scale == "minmax" else "clip"
    ready = dict(zip(raw, scaled(list(raw.values()), how), strict=True)) if raw else {}
    scores = kept.scores(run) if "scores" in needed else None
    if "scores" in needed and scores is None:
        raise ConfigError("It looks at row scores, and this run kept none.")
    asked = getattr(inputs.objective, "quality", None)
    if scores is not None and asked is not None and asked != scores.name:
        raise ConfigError(
            f"This run kept the row score {scores.name}, not {asked}. Take quality={scores.name}, or start a run."
        )
    found = Evidence(
        candidates=inputs.rows("pool"),
        tokens=_tokens(run, inputs),
        pool=ready.get("pool"),
        target=ready.get("target"),
        existing=ready.get("existing"),
        scores=scores,
        vectors=vectors.get("pool") if "vectors" in needed else None,
        target_vectors=vectors.get("target") if "target_vectors" in needed else None,
        existing_vectors=vectors.get("existing") if "existing_vectors" in needed else None,
    )
    return Restored(inputs, found, vectors)


def stored(run: Run, part: Part) -> Utility:
    """The raw utility of a part that the run's objective looked at; with predicted pairs where the run kept them."""
    kind = next((k for p, k in run.utilities if p == part and k in (run.config.kind, "cosine", "centred")), None)
    if kind is None:
        found = ", ".join(sorted({p for p, _ in run.utilities})) or "none"
        raise ConfigError(f"It looks at {part} pairs, and this run scored none. Scored: {found}.")
    return kept.used(run, part, kind) or run.utility(part, kind)


def _tokens(run: Run, inputs: Inputs) -> Indices:
    """Tokens (n,) of each candidate, -1 where the run kept none."""
    candidates = inputs.rows("pool")
    every = kept.tokens(run)
    if every is not None:
        return every[candidates]
    found = np.full(len(candidates), -1, np.int64)
    if run.tokens is not None:
        found[np.searchsorted(candidates, run.selection.order)] = run.tokens
    return found


def roles_read(inputs: Inputs) -> tuple[str, ...]:
    """Roles whose vectors are looked at once utilities are there: by the objective, or by the rules."""
    rules = replace(inputs, config=inputs.config.with_(method="random", options={})).encoded_roles
    asked = {role for role, name in _VECTORS.items() if name in inputs.objective.needs} | set(rules)
    return tuple(role for role in inputs.datasets if role in asked)


def read_vectors(ws: Workspace, run: Run, inputs: Inputs) -> dict[str, Floats]:
    """Unit vectors by role, from finished blocks alone; raises ConfigError where some are not on disk."""
    roles = roles_read(inputs)
    if not roles:
        return {}
    reader = _Reader(_encoder(run))
    whole = reads_whole([inputs.datasets[role] for role in inputs.encoded_roles])
    return {
        role: vectors_of(inputs.datasets[role], inputs.rows(role), reader, ws.blocks, whole=whole) for role in roles
    }


@dataclass(frozen=True)
class _Reader:
    """An encoder that is known by name and hash alone, and so encodes nothing."""

    identity: Identity

    def encode(self, texts: Sequence[str], *, progress: Progress = no_progress) -> Floats:
        """Raises ConfigError: these texts have no vectors yet."""
        raise ConfigError(
            f"It looks at sentence vectors, and those of {self.identity.name} are not all on disk. Draw the map of "
            "this run, or start a run that reads them."
        )


def _encoder(run: Run) -> Identity:
    """The encoder that the run read, else the shipped one that it names; no weights are looked at."""
    record = run.manifest["encoder"]
    if record:
        return Identity(**record)
    hashes = {"minilm": MINILM_SHA256, "fast": RECIPE.hash(MINILM_SHA256)}
    name = run.config.encoder
    if name not in hashes:
        raise ConfigError(f"It looks at sentence vectors, and this run read none of {name}. Start a run that does.")
    return Identity(name, hashes[name], "encoder")
