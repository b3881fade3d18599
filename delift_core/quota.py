"""Quotas in words: how many rows of each group a subset is to hold, as configuration, flags and page write it.

    BY: RULES          language: proportional     source: web<=20%, books>=100     cluster:10: even

BY is a column of the pool, or `cluster:K` for K clusters of its sentence vectors (`cluster` alone: 10).  RULES is

* `proportional`: each group at its share of the candidates, whole rows by largest remainder;
* `even`: the same number of each group; one that holds fewer gives all it has, and the others share the rest;
* a list, with commas, of `NAME>=X`, `NAME<=X`, `*>=X`, `*<=X`.  X is a number of rows, or a percentage of the budget
  (`5%`: a minimum is rounded up to whole rows, a maximum down).  `*` is every group for which no rule of that side
  names it; `*>=X` asks a group that holds fewer rows for all of them.  Rows without a value are the group `(empty)`.

A name that holds one of `: , < > = * "`, begins or ends with a space, or is a column called `cluster`, stands in double
quotes, and a double quote within is written twice:  "a, b">=5  or  "say ""hi"" twice": even
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from delift_core.errors import ConfigError, unknown
from delift_core.types import Indices

MOST_GROUPS = 1000
CLUSTERS = 10  # where the text does not say how many
EMPTY = "(empty)"  # the group of rows without a value
_OFFERED = 20  # group names that an error lists

_NAME = r'"(?:[^"]|"")*"|[^":,<>=*]+'
_BY = re.compile(rf"\s*({_NAME})\s*:\s*(?:(\d+)\s*:)?(.*)", re.DOTALL)
_RULE = re.compile(rf"\s*(\*|{_NAME})\s*(>=|<=)\s*(\d+(?:\.\d+)?)\s*(%?)\s*(,|$)")


@dataclass(frozen=True)
class Bound:
    """One rule of a list: `name` (None: every other group) holds at least, or at most, so many rows."""

    name: str | None
    minimum: bool
    amount: Fraction
    percent: bool  # of the budget

    def rows(self, budget: int) -> int:
        """Whole rows: a percentage is rounded up for a minimum, down for a maximum."""
        if not self.percent:
            return int(self.amount)
        exact = self.amount * budget / 100
        return -(-exact.numerator // exact.denominator) if self.minimum else exact.numerator // exact.denominator

    def __str__(self) -> str:
        name = "*" if self.name is None else _quoted(self.name)
        number = f"{int(self.amount)}" if self.amount.denominator == 1 else f"{float(self.amount):.10g}"
        return f"{name}{'>=' if self.minimum else '<='}{number}{'%' if self.percent else ''}"


@dataclass(frozen=True, eq=False)
class Resolved:
    """A quota for the candidates at hand."""

    codes: Indices  # (n,) code of each candidate's group, 0 to G - 1
    labels: tuple[str, ...]  # (G,)
    at_least: Indices  # (G,) rows
    at_most: Indices  # (G,) rows; never more than the group holds
    notes: tuple[str, ...] = ()  # groups that are too small for what `*` asks of them


@dataclass(frozen=True)
class Quota:
    """How many rows of each group are to be picked.  `str` gives the one way to write it, which `parse` reads back."""

    by: str  # the column; "cluster" for clusters
    clusters: int | None  # how many clusters; None: the values of a column
    kind: Literal["proportional", "even", "bounds"]
    bounds: tuple[Bound, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Quota:
        """Read "BY: RULES"; anything else raises ConfigError with what was expected."""
        found = _BY.fullmatch(text)
        if not found or not found[1].strip():
            raise _misread(text, "it does not begin with a column (or cluster, or cluster:10) and a colon")
        by, number, rules = _name(found[1]), found[2], found[3].strip()
        clustered = found[1].strip() == "cluster"
        if number is not None and not clustered:
            raise _misread(text, f"only cluster takes a number, not {by}")
        clusters = int(number or CLUSTERS) if clustered else None
        if clusters is not None and not 2 <= clusters <= MOST_GROUPS:
            raise _misread(text, f"{clusters} clusters; 2 to {MOST_GROUPS:,} are possible")
        if rules == "proportional":
            return cls(by, clusters, "proportional")
        if rules == "even":
            return cls(by, clusters, "even")
        return cls(by, clusters, "bounds", _bounds(text, rules))

    @property
    def shares(self) -> bool:
        """Whether a bound depends on the budget."""
        return self.kind != "bounds" or any(bound.percent for bound in self.bounds)

    def __str__(self) -> str:
        by = f"cluster:{self.clusters}" if self.clusters else '"cluster"' if self.by == "cluster" else _quoted(self.by)
        return f"{by}: {', '.join(map(str, self.bounds)) if self.kind == 'bounds' else self.kind}"

    def resolve(self, values: Sequence[str | None], budget_rows: int) -> Resolved:
        """The bounds of each group, for a budget of so many rows.

        Under a token budget `budget_rows` is an estimate, and shares are shares of it.

        Args:
            values: (n,) value of each candidate in the column, or its cluster; None or "" is a missing value.
            budget_rows: rows that are to be picked, at most n.

        Raises:
            ConfigError: a name that no candidate has, a named minimum above what its group holds, a minimum above the
                maximum, minimums above the budget, or more than 1,000 groups.
        """
        names = [value or EMPTY for value in values]
        counts = Counter(names)
        if len(counts) > MOST_GROUPS:
            raise ConfigError(
                f"Quota by {self.by}: {len(counts):,} different values are no grouping; at most {MOST_GROUPS:,} are "
                "possible. Choose a column with fewer values, or cluster."
            )
        labels = tuple(sorted(counts))
        code = {label: i for i, label in enumerate(labels)}
        codes = np.fromiter((code[name] for name in names), np.int64, len(names))
        size = np.array([counts[label] for label in labels], np.int64)
        if self.kind == "bounds":
            least, most, notes = self._bounded(labels, size, budget_rows)
        else:
            share = proportional if self.kind == "proportional" else even
            least, notes = share(size, min(budget_rows, len(names))), ()
            most = least.copy()
        return Resolved(codes, labels, least, most, notes)

    def _bounded(self, labels: tuple[str, ...], size: Indices, budget: int) -> tuple[Indices, Indices, tuple[str, ...]]:
        """The least and the most rows (G,) that a list of rules asks for, and what it says of small groups."""
        for bound in self.bounds:
            if bound.name is not None and bound.name not in labels:
                near = difflib.get_close_matches(bound.name, labels, n=_OFFERED, cutoff=0.0)
                raise unknown(f"value of {self.by} in the quota:", bound.name, near)
        least, most, small = np.zeros_like(size), size.copy(), []
        for g, label in enumerate(labels):
            low, high = self._of(label, minimum=True), self._of(label, minimum=False)
            if low is not None:
                asked = low.rows(budget)
                if asked > size[g]:
                    small.append(f"{label} ({size[g]} of {asked})")
                    if low.name is not None:
                        raise ConfigError(
                            f"Quota {low}: the candidates hold only {size[g]} rows of {label}, not {asked}. "
                            f"Ask for at most {size[g]}."
                        )
                least[g] = min(asked, size[g])
            if high is not None:
                if low is not None and low.rows(budget) > high.rows(budget):
                    raise ConfigError(
                        f"Quota by {self.by}: {label} is to have at least {low.rows(budget)} rows ({low}) and at most "
                        f"{high.rows(budget)} ({high}). Lower the minimum or raise the maximum."
                    )
                most[g] = min(high.rows(budget), size[g])
        if least.sum() > budget:
            raise ConfigError(
                f"Quota by {self.by}: the minimums of {np.count_nonzero(least)} groups ask for {least.sum()} rows, but "
                f"the budget is {budget} rows. Lower the minimums or raise the budget."
            )
        if not small:
            return least, most, ()
        more = f" and {len(small) - _OFFERED} more" if len(small) > _OFFERED else ""
        told = (
            f"Groups by {self.by} that hold fewer rows than the quota asks of every group, and so give all they have: "
        )
        return least, most, (f"{told}{', '.join(small[:_OFFERED])}{more}.",)

    def _of(self, label: str, *, minimum: bool) -> Bound | None:
        """The rule that holds for a group on one side: its own, else that of `*`."""
        same = {b.name: b for b in self.bounds if b.minimum == minimum}
        return same.get(label, same.get(None))


def proportional(size: Indices, budget: int) -> Indices:
    """Rows of each group (G,) at its share of all rows, summing to `budget` <= sum(size).

    Largest remainder: shares are rounded down, and what is left goes to the largest fractions, of equal ones to the
    larger group and then to the first.
    """
    total = int(size.sum())
    if not total:
        return np.zeros_like(size)
    rows, fraction = np.divmod(size * budget, total)
    order = np.lexsort((np.arange(len(size)), -size, -fraction))
    rows[order[: budget - int(rows.sum())]] += 1
    return np.asarray(rows, np.int64)


def even(size: Indices, budget: int) -> Indices:
    """The same number of rows of each group (G,), summing to `budget` <= sum(size).

    Water filling: a group that holds fewer gives all it has and leaves the rest to the others.  What does not divide
    goes, one row each, to the larger groups, of equal ones to the first.
    """
    low, high = 0, int(size.max(initial=0))  # the highest level whose rows the budget pays for
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if int(np.minimum(size, level).sum()) <= budget else (low, level - 1)
    rows = np.minimum(size, low)
    order = np.lexsort((np.arange(len(size)), -size))
    rows[order[: budget - int(rows.sum())]] += 1
    return np.asarray(rows, np.int64)


def _bounds(text: str, rules: str) -> tuple[Bound, ...]:
    bounds: list[Bound] = []
    place, more = 0, True
    while more:
        found = _RULE.match(rules, place)
        if not found or not found[1].strip():
            raise _misread(
                text, f"{rules[place:].strip()!r} is no rule" if rules[place:].strip() else "a rule is missing"
            )
        name, sign, number, percent, comma = found.groups()
        bound = Bound(None if name == "*" else _name(name), sign == ">=", Fraction(number), bool(percent))
        if not percent and bound.amount.denominator != 1:
            raise _misread(text, f"rows come whole, not {number}")
        if percent and bound.amount > 100:
            raise _misread(text, f"{number}% is more than the budget")
        if any(b.name == bound.name and b.minimum == bound.minimum for b in bounds):
            raise _misread(text, f"{name.strip()}{sign} is given twice")
        bounds.append(bound)
        place, more = found.end(), bool(comma)
    return tuple(bounds)


def _misread(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"Quota {text!r}: {why}. Write a column and its rules, such as language: proportional, source: even, or "
        'source: web<=20%, "books, old">=100, *>=10; or cluster:10: even.'
    )


def _name(text: str) -> str:
    """A name as it is meant: without its quotes, or without the spaces around it."""
    text = text.strip()
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def _quoted(name: str) -> str:
    """A name as it is to be written."""
    plain = name and name == name.strip() and not re.search(r'[":,<>=*]', name)
    return name if plain else '"' + name.replace('"', '""') + '"'
