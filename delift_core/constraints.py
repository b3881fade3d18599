"""What a run's picks must respect, resolved against its rows: pins, bans, quotas, near-copies, leaks, domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.config import Budget, Domains, Guard
from delift_core.data import leaks
from delift_core.data.checks import shared_rows
from delift_core.encoded import named
from delift_core.errors import ConfigError
from delift_core.inputs import Inputs
from delift_core.neighbours import KEPT, kept_graph, near_copies
from delift_core.quota import EMPTY, Quota
from delift_core.types import BlockStore, Floats, Indices, Limit, Progress, Rules, no_progress

HOLDOUT_GUARD = "exact,normalised,words"  # where a held-out file is given and no guard


@dataclass(frozen=True, eq=False)
class Resolved:
    """The limit that the objective gets, and what is to be told about it."""

    limit: Limit
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()  # (n,) name of each candidate's group, where there is a quota
    found: Mapping[str, Any] = field(default_factory=dict)  # for the manifest: leaks by role, distances of domains


def check(inputs: Inputs) -> None:
    """Raise ConfigError for what is wrong with pins, bans, columns and roles; reads no texts and no vectors."""
    config, n = inputs.config, len(inputs.rows("pool"))
    pinned, banned = _positions(inputs, config.pin, "pin"), _positions(inputs, config.ban, "ban")
    if both := sorted(set(pinned.tolist()) & set(banned.tolist())):
        name = inputs.pool.ids[int(inputs.rows("pool")[both[0]])]
        raise ConfigError(f"Row {name!r} is pinned and banned. Take it from one of the two.")
    budget = Budget.parse(config.budget)
    if budget.unit != "tokens" and len(pinned) > (rows := budget.limit(np.ones(n, np.int64)).rows):
        raise ConfigError(
            f"{len(pinned)} rows are pinned, but the budget is {rows} rows. Pin fewer or raise the budget."
        )
    if len(banned) == n:
        raise ConfigError("Every row of the pool is banned, so there is nothing to choose from. Ban fewer.")
    quota = Quota.parse(config.quota) if config.quota else None
    if quota is not None and quota.clusters is None:
        inputs.pool.group(quota.by)  # an unknown column says which there are
    if domains := Domains.parse(config.domains):
        inputs.pool.group(domains.column)
        if inputs.target is None:
            raise ConfigError(
                f"Domains are kept by their distance to a target, and method {config.method} has none. "
                "Choose a method with a target, such as got-d."
            )
    if config.guard and not [role for role in inputs.datasets if role != "pool"]:
        raise ConfigError("A guard compares the pool with target, existing or held-out rows. Give --holdout FILE.")


def resolve(
    inputs: Inputs,
    limit: Limit,
    tokens: Indices,
    vectors: Mapping[str, Floats],
    store: BlockStore,
    progress: Progress = no_progress,
) -> Resolved:
    """The rules of a run as positions among its candidates.

    Args:
        inputs: the opened datasets.
        limit: the budget.
        tokens: (n,) of the candidates.
        vectors: unit vectors by role, of the roles that `Inputs.encoded_roles` names.
        store: where the k-NN graph is kept.
        progress: of searching for leaks and near-copies.

    Raises ConfigError where a rule cannot hold.
    """
    config, rows = inputs.config, inputs.rows("pool")
    pinned = _positions(inputs, config.pin, "pin")
    banned = np.zeros(len(rows), np.bool_)
    banned[_positions(inputs, config.ban, "ban")] = True
    notes: list[str] = []
    found: dict[str, Any] = {}
    for role, leaking, told, record in _leaks(inputs, vectors, progress):
        banned |= leaking
        notes.append(told)
        if record:
            found.setdefault("leaks", {})[role] = record
    if domains := Domains.parse(config.domains):
        outside, told, table = _domains(inputs, domains, vectors, progress)
        banned |= outside
        notes.append(told)
        found["domains"] = table
    if (both := pinned[banned[pinned]]).size:
        raise ConfigError(
            f"Row {inputs.pool.ids[int(rows[both[0]])]!r} is pinned, but it is left out as too close to other data or "
            "outside the domains. Unpin it, or loosen the guard."
        )
    once = None
    if config.once:
        graph = kept_graph(vectors["pool"], KEPT, store, progress=progress)
        once = near_copies(vectors["pool"], *graph, config.once)
        sets = len(np.unique(once))
        notes.append(
            f"Near-copies (cosine {config.once:g} or more) count once: {len(rows):,} rows are {sets:,} different ones."
        )
    rules = Rules(pinned, banned if banned.any() else None, once)
    names: tuple[str, ...] = ()
    if config.quota:
        values = _groups(inputs, Quota.parse(config.quota), vectors)
        rules, small = _with_quota(rules, config.quota, values, limit, tokens)
        names = tuple(value or EMPTY for value in values)
        notes += small
    some = len(pinned) or banned.any() or once is not None or rules.group is not None
    return Resolved(replace(limit, rules=rules) if some else limit, tuple(notes), names, found)


def takeable(rules: Rules | None, n: int) -> int:
    """How many of n candidates the bans and near-copies leave to be picked."""
    if rules is None:
        return n
    free = np.ones(n, np.bool_) if rules.banned is None else ~rules.banned
    if rules.once is None:
        return int(free.sum())
    pinned = rules.once[rules.pinned]
    return len(np.unique(rules.once[free])) + len(pinned) - len(np.unique(pinned))


def _with_quota(
    rules: Rules, text: str, values: Sequence[str | None], limit: Limit, tokens: Indices
) -> tuple[Rules, tuple[str, ...]]:
    free = np.ones(len(values), np.bool_) if rules.banned is None else ~rules.banned
    budget = limit.rows if limit.tokens is None else max(1, round(limit.tokens / max(1.0, float(tokens.mean()))))
    open_values = [value for value, is_free in zip(values, free, strict=True) if is_free]
    quota = Quota.parse(text).resolve(open_values, min(budget, len(open_values)))
    codes = np.zeros(len(values), np.int64)  # of a banned row: any, as it is never taken
    codes[free] = quota.codes
    held = replace(rules, group=codes, at_least=quota.at_least, at_most=quota.at_most, names=quota.labels)
    return held, quota.notes


def _positions(inputs: Inputs, ids: Sequence[str], word: str) -> Indices:
    """Positions among the candidates of rows by id; an exact copy stands for the row it is a copy of."""
    if not ids:
        return np.empty(0, np.int64)
    known = {name: row for row, name in enumerate(inputs.pool.ids)}
    for name in ids:
        if name not in known:
            near = get_close_matches(name, list(known)[:100_000], 3)
            hint = f" Near: {', '.join(near)}." if near else ""
            raise ConfigError(f"There is no row {name!r} to {word} in {inputs.pool.name}.{hint}")
    rows = np.array([known[name] for name in ids], np.int64)
    if not inputs.config.keep_duplicates:
        rows = inputs.pool.table["copy_of"].to_numpy()[rows]
    places = np.searchsorted(inputs.rows("pool"), rows)
    return np.array(list(dict.fromkeys(places.tolist())), np.int64)


def _groups(inputs: Inputs, quota: Quota, vectors: Mapping[str, Floats]) -> list[str | None]:
    if quota.clusters is None:
        values = inputs.pool.group(quota.by)
        return [values[row] for row in inputs.rows("pool")]
    return cluster_names(vectors["pool"], quota.clusters, inputs.config.seed)


def cluster_names(vectors: Floats, count: int, seed: int) -> list[str | None]:
    """The k-means cluster of each row of (n, d) vectors by name: "1" for the largest."""
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(min(count, len(vectors)), random_state=seed, n_init=3, batch_size=4096)
    labels = kmeans.fit_predict(vectors)
    sizes = np.bincount(labels)
    place = np.empty(len(sizes), np.int64)
    place[np.argsort(-sizes, kind="stable")] = np.arange(1, len(sizes) + 1)
    return [str(place[label]) for label in labels]


def _leaks(
    inputs: Inputs, vectors: Mapping[str, Floats], progress: Progress
) -> list[tuple[str, NDArray[np.bool_], str, dict[str, Any]]]:
    """For each other role: which candidates are too close to it, what to say, and the record.

    Rows that the existing data already holds are never picked again.  The target's are left alone unless there is a
    guard; held-out rows have one by themselves.
    """
    found: list[tuple[str, NDArray[np.bool_], str, dict[str, Any]]] = []
    rows = inputs.rows("pool")
    for role, other in inputs.datasets.items():
        if role == "pool":
            continue
        shared = shared_rows(inputs.pool, other)
        if len(shared) == len(inputs.pool):
            raise ConfigError(
                f"Every row of the pool ({inputs.pool.name}) also stands in the {role} ({other.name}). "
                f"Give other rows as {role}."
            )
        guard = Guard.parse(inputs.config.guard or (HOLDOUT_GUARD if role == "holdout" else ""))
        out = np.zeros(len(rows), np.bool_)
        if not guard.levels and not guard.cosine:
            if len(shared) and role == "existing":
                out = np.isin(rows, shared)
                found.append((role, out, f"{int(out.sum())} rows that the existing data holds are left out.", {}))
            elif len(shared):
                told = f"{len(shared)} rows of the pool are exact copies of {role} rows"
                found.append((role, out, f"{told}; they may be picked like any other.", {}))
            continue
        close = leaks.Leaks((), len(inputs.pool), len(other))
        if guard.levels:
            close = leaks.find(inputs.pool, other, guard.levels, progress=named(progress, f"compare with {role}"))
        if guard.cosine:
            near = leaks.find_close(vectors["pool"], vectors[role], guard.cosine, progress=progress)
            theirs = inputs.rows(role)
            items = (replace(leak, row=int(rows[leak.row]), other=int(theirs[leak.other])) for leak in near)
            close = close.joined(leaks.Leaks(tuple(items), close.pool, close.other))
        out = np.isin(rows, close.rows)
        by = ", ".join(f"{count} by {level}" for level, count in close.counts.items())
        told = f"{int(out.sum())} rows too close to {role} rows ({other.name}) are left out{f': {by}' if by else ''}."
        found.append((role, out, told, close.to_json()))
    return found


def _domains(
    inputs: Inputs, wanted: Domains, vectors: Mapping[str, Floats], progress: Progress
) -> tuple[NDArray[np.bool_], str, list[dict[str, Any]]]:
    from delift_core.selection.domains import domain_distances, nearest

    values = inputs.pool.group(wanted.column)
    names = [str(values[row]) if values[row] is not None else EMPTY for row in inputs.rows("pool")]
    labels, codes = np.unique(names, return_inverse=True)
    found = domain_distances(
        vectors["pool"], vectors["target"], codes, labels.tolist(), seed=inputs.config.seed, progress=progress
    )
    out = nearest(found, codes, wanted.nearest)
    table = [{"domain": d, "rows": n, "distance": round(x, 6), "rank": r} for d, n, x, r in found.table()]
    kept = ", ".join(f"{d['domain']} ({d['distance']:.3f})" for d in table[: wanted.nearest])
    told = f"Only the {wanted.nearest} of {len(table)} groups of {wanted.column} nearest to the target are kept"
    return out, f"{told}: {kept}.", table
