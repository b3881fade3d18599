"""What a run's picks must respect, resolved against its rows: pins, bans, quotas, near-copies, leaks, domains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from delift_core.selection import ruling
from delift_core.types import BlockStore, Floats, Indices, Limit, Progress, Rules, no_progress

HOLDOUT_GUARD = "exact,normalised,words"  # where a held-out file is given and no guard


@dataclass(frozen=True, eq=False)
class Resolved:
    """The limit that the objective gets, and what is to be told about it."""

    limit: Limit
    notes: tuple[str, ...] = ()
    leaks: Mapping[str, leaks.Leaks] = field(default_factory=dict)  # by role
    domains: Sequence[Mapping[str, Any]] = ()  # each group of the column with its rows, distance and rank
    left_out: Mapping[int, str] = field(default_factory=dict)  # row index of the pool -> why it cannot be picked
    values: tuple[str | None, ...] = ()  # (n,) each candidate's group, where there is a quota

    def to_json(self) -> dict[str, Any]:
        """What was found, for the manifest; empty where nothing was looked for."""
        told: dict[str, Any] = {}
        if self.leaks:
            told["leaks"] = {role: found.to_json() for role, found in self.leaks.items()}
        if self.domains:
            told["domains"] = list(self.domains)
        return told


@dataclass(eq=False)
class _Screen:
    """Candidates that cannot be picked, as they are found, and why."""

    inputs: Inputs
    banned: NDArray[np.bool_]
    notes: list[str] = field(default_factory=list)
    leaks: dict[str, leaks.Leaks] = field(default_factory=dict)
    domains: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)

    def out(self, rows: Iterable[int], why: Callable[[int], str]) -> int:
        """Leave rows (indices of the pool) out and say why; gives how many of them are candidates."""
        candidates, before = self.inputs.rows("pool"), int(self.banned.sum())
        for row in rows:
            place = int(np.searchsorted(candidates, row))
            if place < len(candidates) and candidates[place] == row:
                self.banned[place] = True
            self.left_out.setdefault(int(row), f"left out: {why(int(row))}")
        return int(self.banned.sum()) - before

    def checked(self) -> None:
        """Raise ConfigError where nothing is left, or a pinned row is out."""
        rows, ids = self.inputs.rows("pool"), self.inputs.pool.ids
        if self.banned.all():
            raise ConfigError(f"No row is left to pick from. {' '.join(self.notes)} Loosen the guard or the bans.")
        pinned = _positions(self.inputs, self.inputs.config.pin, "pin")
        if (both := pinned[self.banned[pinned]]).size:
            row = int(rows[both[0]])
            raise ConfigError(f"Row {ids[row]!r} is pinned, but it is {self.left_out[row]}. Unpin it, or allow it.")


def check(inputs: Inputs) -> None:
    """Raise ConfigError for what is wrong with pins, bans, quotas, columns and roles; reads no texts, no vectors."""
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
    if domains := Domains.parse(config.domains):
        groups = len(set(inputs.pool.group(domains.column)))
        if domains.nearest > groups:
            raise ConfigError(f"Domains {config.domains}: the column has {groups} groups. Give at most {groups}.")
        if inputs.target is None:
            raise ConfigError(
                f"Domains are kept by their distance to a target, and method {config.method} has none. "
                "Choose a method with a target, such as got-d."
            )
    if config.guard and not [role for role in inputs.datasets if role != "pool"]:
        raise ConfigError("A guard compares the pool with target, existing or held-out rows. Give --holdout FILE.")
    quota = Quota.parse(config.quota) if config.quota else None
    if quota is not None and quota.clusters is None:
        values = _values(inputs, quota, {})
        quota.resolve(values, n if budget.unit == "tokens" else budget.limit(np.ones(n, np.int64)).rows)


def screen(inputs: Inputs, limit: Limit, tokens: Indices, progress: Progress = no_progress) -> Resolved:
    """What texts alone tell of the rules, before anything is scored: bans, leaks, existing rows, quotas by column.

    Args:
        inputs: the opened datasets.
        limit: the budget.
        tokens: (n,) of the candidates.
        progress: of searching for leaks.

    Raises ConfigError where a rule cannot hold.
    """
    config, n = inputs.config, len(inputs.rows("pool"))
    kept = _Screen(inputs, np.zeros(n, np.bool_))
    kept.out(inputs.rows("pool")[_positions(inputs, config.ban, "ban")].tolist(), lambda _: "banned by its id")
    _compare_texts(kept, progress)
    kept.checked()
    quota = Quota.parse(config.quota) if config.quota else None
    values = _values(inputs, quota, {}) if quota is not None and quota.clusters is None else ()
    return _limited(kept, limit, tokens, None, values)


def resolve(
    inputs: Inputs,
    screened: Resolved,
    limit: Limit,
    tokens: Indices,
    vectors: Mapping[str, Floats],
    store: BlockStore,
    progress: Progress = no_progress,
) -> Resolved:
    """The rules of a run as positions among its candidates: what `screen` found, and what vectors tell.

    Args:
        inputs: the opened datasets.
        screened: what `screen` found.
        limit: the budget.
        tokens: (n,) of the candidates.
        vectors: unit vectors by role, of the roles that `Inputs.encoded_roles` names.
        store: where the k-NN graph is kept.
        progress: of searching for leaks and near-copies.

    Raises ConfigError where a rule cannot hold.
    """
    config, n = inputs.config, len(inputs.rows("pool"))
    rules = screened.limit.rules
    banned = np.zeros(n, np.bool_) if rules is None or rules.banned is None else rules.banned.copy()
    kept = _Screen(inputs, banned, list(screened.notes), dict(screened.leaks), left_out=dict(screened.left_out))
    _compare_vectors(kept, vectors, progress)
    if domains := Domains.parse(config.domains):
        _keep_nearest(kept, domains, vectors, progress)
    kept.checked()
    once = None
    if config.once:
        graph = kept_graph(vectors["pool"], KEPT, store, progress=progress)
        once = near_copies(vectors["pool"], *graph, config.once)
        kept.notes.append(
            f"Near-copies (cosine {config.once:g} or more) count once: {n:,} rows are {len(np.unique(once)):,} "
            "different ones."
        )
    values = tuple(_values(inputs, Quota.parse(config.quota), vectors)) if config.quota else ()
    return _limited(kept, limit, tokens, once, values)


def _limited(
    kept: _Screen, limit: Limit, tokens: Indices, once: Indices | None, values: Sequence[str | None]
) -> Resolved:
    inputs = kept.inputs
    pinned = _positions(inputs, inputs.config.pin, "pin")
    rules = Rules(pinned, kept.banned if kept.banned.any() else None, once)
    notes = list(kept.notes)
    if values:
        rules, small = with_quota(rules, inputs.config.quota, values, limit, tokens)
        notes += small
    some = len(pinned) or rules.banned is not None or once is not None or rules.group is not None
    held = replace(limit, rules=rules) if some else limit
    ruling.check(held, len(values) or len(tokens), tokens)
    return Resolved(held, tuple(notes), kept.leaks, kept.domains, kept.left_out, tuple(values))


def takeable(rules: Rules | None, n: int) -> int:
    """How many of n candidates the bans and near-copies leave to be picked."""
    if rules is None:
        return n
    free = np.ones(n, np.bool_) if rules.banned is None else ~rules.banned
    if rules.once is None:
        return int(free.sum())
    pinned = rules.once[rules.pinned]
    return len(np.unique(rules.once[free])) + len(pinned) - len(np.unique(pinned))


def with_quota(
    rules: Rules, text: str, values: Sequence[str | None], limit: Limit, tokens: Indices, rows: int | None = None
) -> tuple[Rules, tuple[str, ...]]:
    """The rules with the bounds of a quota, and what it says of small groups.

    Bounds are rows.  Under a token budget their number is `rows`, by default what the budget holds of rows of mean
    length.
    """
    free = np.ones(len(values), np.bool_) if rules.banned is None else ~rules.banned
    about = max(1, round(limit.tokens / max(1.0, float(tokens.mean())))) if limit.tokens is not None else limit.rows
    open_values = [value for value, is_free in zip(values, free, strict=True) if is_free]
    quota = Quota.parse(text)
    try:
        found = quota.resolve(open_values, min(rows or about, len(open_values)))
    except ConfigError as error:
        if limit.tokens is None:
            raise
        raise ConfigError(f"{error} (A budget of {limit.tokens:,} tokens is taken for about {about:,} rows.)") from None
    codes = np.zeros(len(values), np.int64)  # of a banned row: any, as it is never taken
    codes[free] = found.codes
    held = replace(
        rules, group=codes, at_least=found.at_least, at_most=found.at_most, names=found.labels, shares=quota.shares
    )
    return held, found.notes


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


def _values(inputs: Inputs, quota: Quota, vectors: Mapping[str, Floats]) -> list[str | None]:
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


def _guard(inputs: Inputs, role: str) -> Guard:
    """How rows of the pool are compared with those of a role; held-out rows are guarded by themselves."""
    return Guard.parse(inputs.config.guard or (HOLDOUT_GUARD if role == "holdout" else ""))


def _compare_texts(kept: _Screen, progress: Progress) -> None:
    """Leave out rows that texts show to be too close to another role.

    Exact copies of existing rows and of held-out rows always go; those of target rows only with a guard.
    """
    inputs = kept.inputs
    for role, other in inputs.datasets.items():
        if role == "pool":
            continue
        shared = shared_rows(inputs.pool, other)
        if len(shared) == len(inputs.pool):
            raise ConfigError(
                f"Every row of the pool ({inputs.pool.name}) also stands in the {role} ({other.name}). "
                f"Give other rows as {role}."
            )
        guard = _guard(inputs, role)
        if guard.levels:
            close = leaks.find(inputs.pool, other, guard.levels, progress=named(progress, f"compare with {role}"))
            if len(close) or not guard.cosine:  # else the vectors have the last word
                _leave_out(kept, role, close)
        if len(shared) and role != "target":
            count = kept.out(shared.tolist(), lambda _, role=role: f"an exact copy of one of the {role} rows")  # type: ignore[misc]
            if count:
                kept.notes.append(f"Left out as exact copies of {role} rows ({other.name}): {count}.")
        elif len(shared) and not guard.levels:
            kept.notes.append(
                f"{len(shared)} rows of the pool are exact copies of {role} rows; they may be picked like any other."
            )


def _compare_vectors(kept: _Screen, vectors: Mapping[str, Floats], progress: Progress) -> None:
    """Leave out rows whose sentence vectors are too close to those of another role."""
    inputs = kept.inputs
    for role, other in inputs.datasets.items():
        guard = _guard(inputs, role)
        if role == "pool" or not guard.cosine:
            continue
        near = leaks.find_close(vectors["pool"], vectors[role], guard.cosine, progress=progress)
        ours, theirs = inputs.rows("pool"), inputs.rows(role)
        items = tuple(replace(leak, row=int(ours[leak.row]), other=int(theirs[leak.other])) for leak in near)
        _leave_out(kept, role, leaks.Leaks(items, len(inputs.pool), len(other)))


def _leave_out(kept: _Screen, role: str, close: leaks.Leaks) -> None:
    inputs = kept.inputs
    other, by_row = inputs.datasets[role], {leak.row: leak for leak in close}

    def why(row: int) -> str:
        leak = by_row[row]
        return f"too close to {role} row {other.ids[leak.other]} by {leak.level} ({leak.shared})"

    count = kept.out(by_row, why)
    by = ", ".join(f"{level} {found}" for level, found in close.counts.items())
    kept.notes.append(f"Left out as too close to {role} rows ({other.name}): {count}{f' ({by})' if by else ''}.")
    kept.leaks[role] = kept.leaks[role].joined(close) if role in kept.leaks else close


def _keep_nearest(kept: _Screen, wanted: Domains, vectors: Mapping[str, Floats], progress: Progress) -> None:
    from delift_core.selection.domains import domain_distances, nearest

    inputs = kept.inputs
    values, rows = inputs.pool.group(wanted.column), inputs.rows("pool")
    names = [str(values[row]) if values[row] is not None else EMPTY for row in rows]
    labels, codes = np.unique(names, return_inverse=True)
    found = domain_distances(
        vectors["pool"], vectors["target"], codes, labels.tolist(), seed=inputs.config.seed, progress=progress
    )
    out = nearest(found, codes, wanted.nearest)
    kept.out(
        rows[out].tolist(), lambda _: f"outside the {wanted.nearest} groups of {wanted.column} nearest to the target"
    )
    kept.domains = [
        {"domain": d, "rows": n, "distance": round(x, 6), "rank": r} for d, n, x, r in found.table()
    ]  # fmt: skip
    near = ", ".join(f"{d['domain']} ({d['distance']:.3f})" for d in kept.domains[: wanted.nearest])
    kept.notes.append(f"Of {len(labels)} groups of {wanted.column}, kept as nearest to the target: {near}.")
