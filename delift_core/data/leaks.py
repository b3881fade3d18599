"""Rows of a pool that are too close to rows of another dataset: a target, data trained on before, an evaluation file.

Levels, the strictest first:

* `exact`: the same prompt and the same response, character by character.
* `normalised`: the same prompt after Unicode NFKC, case folding and dropping punctuation (see `words.normalised`),
  whatever the response: a test question with another answer is a leak.
* `words`: a run of 13 words (or as many as asked) of the prompt or the response stands in the other row's prompt or
  response, as in the decontamination of GPT-3 (arXiv 2005.14165, appendix C).  A shorter prompt of the other dataset
  counts whole, down to 8 words of 13, GPT-3's lower bound; still shorter ones, and shorter responses, are left to
  `normalised`.  Where a script puts no spaces between words, three characters count as one word.
* `vectors`: the cosine of unit vectors is at least a threshold (`find_close`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from delift_core.data.checks import digest
from delift_core.data.words import CHARACTERS, RunIndex, Texts, is_unspaced, normalised, units
from delift_core.errors import ConfigError, unknown
from delift_core.types import Dataset, Floats, Indices, Progress, no_progress

Level = Literal["exact", "normalised", "words", "vectors"]
LEVELS: tuple[Level, ...] = ("exact", "normalised", "words")
_STRICT: dict[Level, int] = {"exact": 0, "normalised": 1, "words": 2, "vectors": 3}
BATCH = 500  # rows read in one go
PART = 10_000_000  # entries indexed in one go, of 16 bytes and as much again while they are sorted
_ROW = 10  # entries that the digests of one row count as
BLOCK = 1 << 24  # cosines computed in one go
WIDE = 8_192  # of them, for one row of the pool
BOTH, PROMPT = "prompt and response", "prompt"


@dataclass(frozen=True, slots=True)
class Leak:
    """One row of the pool, the strictest level that found it, and the first row of the other dataset it is close to."""

    row: int  # row index of the pool
    level: Level
    other: int  # row index of the other dataset
    shared: str  # what they share: "prompt", "prompt and response", the run of words, or the cosine


@dataclass(frozen=True)
class Leaks:
    """The leaking rows of a pool, one entry each, in the order of the pool."""

    items: tuple[Leak, ...]
    pool: int  # rows looked at
    other: int  # rows compared with

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Leak]:
        return iter(self.items)

    @property
    def rows(self) -> Indices:
        """(L,) row indices of the pool, ascending: what to ban."""
        return np.array([leak.row for leak in self.items], np.int64)

    @property
    def counts(self) -> dict[Level, int]:
        """Rows that each level found; a row counts once, at its strictest level."""
        return dict(Counter(leak.level for leak in self.items))

    def frequent(self, most: int = 10, words: int = 13) -> list[tuple[str, int]]:
        """The shared runs, by their first words, that most rows hold: a template of the data stands out at the top."""
        runs = (" ".join(leak.shared.split()[:words]) for leak in self.items if leak.level == "words")
        return Counter(runs).most_common(most)

    def joined(self, more: Leaks) -> Leaks:
        """Both findings about the same two datasets; of a row that both found, the stricter level is kept."""
        best = {leak.row: leak for leak in self.items}
        for leak in more.items:
            if leak.row not in best or _STRICT[leak.level] < _STRICT[best[leak.row].level]:
                best[leak.row] = leak
        return Leaks(tuple(best[row] for row in sorted(best)), self.pool, self.other)

    def to_json(self, shown: int = 100) -> dict[str, Any]:
        """A JSON-able form with all counts and the first `shown` rows; `more` says how many are not listed."""
        return {
            "pool": self.pool, "other": self.other, "leaks": len(self), "counts": self.counts,
            "frequent": [{"run": run, "rows": rows} for run, rows in self.frequent()],
            "rows": [asdict(leak) for leak in self.items[:shown]], "more": max(0, len(self) - shown),
        }  # fmt: skip


def find(
    pool: Dataset, other: Dataset, how: Collection[str] = LEVELS, *, words: int = 13, progress: Progress = no_progress
) -> Leaks:
    """The rows of `pool` that leak from `other`, by the levels `how`.

    `other` is indexed in parts of bounded size and the pool is read once for each part, in batches, so memory does not
    grow with either.  Equal texts are told by digests of 128 bits, runs by hashes that are confirmed word by word.

    Args:
        pool: the rows to look at.
        other: the rows to compare with; 10,000 rows are one part.
        how: levels, of "exact", "normalised" and "words".
        words: length of a shared run.
        progress: called with rows of `other` that are dealt with.

    Raises:
        ConfigError: no level or an unknown one, or words below 1.
    """
    for name in how:
        if name not in LEVELS:
            raise unknown("leak level", name, LEVELS)
    if not how:
        raise ConfigError(f"A search for leaks needs at least one level. Choose among {', '.join(LEVELS)}.")
    if words < 1:
        raise ConfigError(f"words={words}: a shared run has at least 1 word; 13 is usual.")
    found: dict[int, Leak] = {}
    first = 0
    while first < len(other):
        part = _Part(other, first, frozenset(how), words, progress)
        for start, prompts, responses in _batches(pool):
            done = first + (part.end - first) * start / len(pool)
            progress("leaks", done, len(other), f"row {start:,} of {len(pool):,}")
            for leak in part.look(start, prompts, responses, found):
                if leak.row not in found or _STRICT[leak.level] < _STRICT[found[leak.row].level]:
                    found[leak.row] = leak
        first = part.end
    progress("leaks", len(other), len(other))
    return Leaks(tuple(found[row] for row in sorted(found)), len(pool), len(other))


def find_close(pool: Floats, other: Floats, threshold: float, *, progress: Progress = no_progress) -> Leaks:
    """The rows of `pool` (n, d) whose cosine with a row of `other` (m, d) reaches `threshold`, with the closest one.

    Both are unit vectors, row i that of row i of its dataset.  Cosines are computed in blocks, never all at once.

    Raises:
        ConfigError: the threshold is outside (0, 1].
        ValueError: the vectors differ in length.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold={threshold}: a cosine threshold lies above 0 and at most at 1; 0.95 is strict.")
    if pool.ndim != 2 or other.ndim != 2 or pool.shape[1] != other.shape[1]:
        raise ValueError(f"vectors of shapes {pool.shape} and {other.shape}, expected (n, d) and (m, d)")
    items: list[Leak] = []
    step = max(1, BLOCK // WIDE)
    for start in range(0, len(pool), step):
        progress("leaks by vectors", start, len(pool))
        mine = np.asarray(pool[start : start + step], np.float32)
        best, nearest = np.full(len(mine), -np.inf, np.float32), np.zeros(len(mine), np.int64)
        for begin in range(0, len(other), WIDE):
            cosine = mine @ np.asarray(other[begin : begin + WIDE], np.float32).T  # (b, w)
            place = cosine.argmax(axis=1)
            value = cosine[np.arange(len(mine)), place]
            better = value > best
            best[better], nearest[better] = value[better], begin + place[better]
        for place in np.flatnonzero(best >= np.float32(threshold - 1e-6)):
            items.append(Leak(start + int(place), "vectors", int(nearest[place]), f"cosine {best[place]:.3f}"))
    progress("leaks by vectors", len(pool), len(pool))
    return Leaks(tuple(items), len(pool), len(other))


class _Part:
    """Consecutive rows of the other dataset, indexed for the levels that are asked for."""

    def __init__(self, other: Dataset, first: int, how: frozenset[str], words: int, progress: Progress) -> None:
        self.other, self.how = other, how
        self.exact: dict[bytes, int] = {}
        self.both: dict[bytes, int] = {}
        self.prompt: dict[bytes, int] = {}
        shortest = -(-words * 8 // 13)
        self.spaced = RunIndex(words, shortest)
        self.unspaced = RunIndex(CHARACTERS * words, CHARACTERS * shortest)
        self.end = first
        for start, prompts, responses in _batches(other, first):
            progress("leaks", first, len(other), f"indexing row {start:,}")
            self._add(start, prompts, responses)
            self.end = start + len(prompts)
            if self.spaced.size + self.unspaced.size + _ROW * (self.end - first) >= PART:
                break
        self.spaced.seal()
        self.unspaced.seal()
        self.units_of = lru_cache(4096)(self._units_of)

    def _add(self, start: int, prompts: Sequence[str], responses: Sequence[str]) -> None:
        texts, characters = Texts(), Texts()
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True), start):
            if "exact" in self.how:
                self.exact.setdefault(digest(prompt, response), row)
            if self.how == {"exact"}:
                continue
            prompt, response = normalised(prompt), normalised(response)
            if "normalised" in self.how and (prompt or response):
                self.both.setdefault(digest(prompt, response), row)
                if prompt:
                    self.prompt.setdefault(digest(prompt, ""), row)
            if "words" in self.how:
                _split(row, prompt, response, texts, characters)
        self.spaced.add(texts)
        self.unspaced.add(characters)

    def look(
        self, start: int, prompts: Sequence[str], responses: Sequence[str], found: dict[int, Leak]
    ) -> Iterator[Leak]:
        """Leaks among a batch of the pool that are stricter than what was found before."""
        texts, characters = Texts(), Texts()
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True), start):
            before = _STRICT[found[row].level] if row in found else len(_STRICT)
            if before == _STRICT["exact"]:
                continue
            if "exact" in self.how and (place := self.exact.get(digest(prompt, response))) is not None:
                yield Leak(row, "exact", place, BOTH)
                continue
            if before == _STRICT["normalised"] or self.how == {"exact"}:
                continue
            prompt, response = normalised(prompt), normalised(response)
            leak = self._same(row, prompt, response) if "normalised" in self.how else None
            if leak is not None:
                yield leak
            elif "words" in self.how and before > _STRICT["words"]:
                _split(row, prompt, response, texts, characters)
        spaced, unspaced = self.spaced.find(texts, self.units_of), self.unspaced.find(characters, self.units_of)
        for row in spaced.keys() | unspaced.keys():
            shared = min((side[row] for side in (spaced, unspaced) if row in side), key=lambda one: one.other)
            yield Leak(row, "words", shared.other, shared.run)

    def _same(self, row: int, prompt: str, response: str) -> Leak | None:
        place = self.both.get(digest(prompt, response))
        if place is not None:
            return Leak(row, "normalised", place, BOTH)
        place = self.prompt.get(digest(prompt, "")) if prompt else None
        return None if place is None else Leak(row, "normalised", place, PROMPT)

    def _units_of(self, row: int, response: bool) -> Sequence[str]:
        text = self.other.responses[row] if response else self.other.prompts[row]
        return units(normalised(text))


def _split(row: int, prompt: str, response: str, texts: Texts, characters: Texts) -> None:
    for text, is_response in ((prompt, False), (response, True)):
        if text:
            (characters if is_unspaced(text) else texts).add(row, is_response, units(text))


def _batches(dataset: Dataset, first: int = 0) -> Iterator[tuple[int, Sequence[str], Sequence[str]]]:
    """Row index of the first, prompts and responses of consecutive rows, from row `first` on."""
    for start in range(first, len(dataset), BATCH):
        table = dataset.table.slice(start, BATCH).select(["prompt", "response"])
        yield start, table["prompt"].to_pylist(), [r or "" for r in table["response"].to_pylist()]
