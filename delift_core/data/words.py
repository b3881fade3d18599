"""Texts as words that small edits do not change, and runs of words that two datasets share."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.types import Indices

Hashes = NDArray[np.uint64]

CHARACTERS = 3  # of a script without spaces count as one word
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no word is lost modulo 2^64
_LONGEST = 100  # words of a shared run that are shown
# Thai, Lao, Burmese, Khmer, kana, Han
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_OPERATOR = re.compile(r"(?<=\d)\s*([-*/])\s*(?=\d)")
_SIGN = {"-": " − ", "*": " × ", "/": " ÷ "}


def normalised(text: str) -> str:
    """The text after NFKC and case folding, its words set apart by one space each, without punctuation.

    Symbols such as + or = stay, as words of their own, and so do -, * and / between digits: 3-4 is not 3*4.
    Characters that show nothing (zero-width joiners, soft hyphens) are left out.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded = _OPERATOR.sub(lambda match: _SIGN[match[1]], folded)
    return " ".join(folded.translate(_table()).split())


def is_unspaced(text: str) -> bool:
    """Whether most of a text is written in scripts that put no spaces between words."""
    return not text.isascii() and 2 * len(_UNSPACED.findall(text)) > len(text) - text.count(" ")


def units(text: str) -> list[str]:
    """What runs are made of: the words of a normalised text, or its characters where it `is_unspaced`.

    Symbols are left out: 48/2=<<48/2=24>> would be a run of 13 that says nothing.
    """
    found = text.replace(" ", "") if is_unspaced(text) else text.split()
    return [word for word in found if len(word) > 1 or word.isalnum() or unicodedata.category(word)[0] == "M"]


@cache
def _table() -> dict[int, str]:
    table: dict[int, str] = {}
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        category = unicodedata.category(character)
        if category[0] == "P" or character == "`":
            table[point] = " "
        elif category[0] == "S":
            table[point] = f" {character} "
        elif category == "Cf":
            table[point] = ""
    return table


@dataclass
class Texts:
    """Units of many texts, one after the other."""

    of: list[tuple[int, bool]] = field(default_factory=list)  # row index; True: the response, False: the prompt
    units: list[list[str]] = field(default_factory=list)

    def add(self, row: int, response: bool, words: list[str]) -> None:
        """Append one text."""
        self.of.append((row, response))
        self.units.append(words)

    def runs(self, longest: int) -> Iterator[tuple[int, Hashes, Indices, Indices]]:
        """For each length 1 .. longest: hashes of all runs, the text and the first unit (in the text) of each.

        The hash of a run is a polynomial in the hashes of its units, modulo 2^64 (Rabin and Karp).
        """
        sizes = np.array([len(words) for words in self.units], np.int64)
        total = int(sizes.sum())
        owner = np.repeat(np.arange(len(sizes)), sizes)
        at = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        left = np.repeat(sizes, sizes) - at  # units from here to the end of the text
        unit = np.fromiter((hash(w) for words in self.units for w in words), np.int64, total).view(np.uint64)
        rolled = unit.copy()
        for length in range(1, min(longest, int(sizes.max(initial=0))) + 1):
            if length > 1:
                rolled = rolled[:-1] * _BASE + unit[length - 1 :]
            whole = left[: len(rolled)] >= length
            yield length, rolled[whole], owner[: len(rolled)][whole], at[: len(rolled)][whole]


@dataclass(frozen=True)
class Shared:
    """A run that a text shares with a row of the indexed dataset."""

    row: int  # of the text
    other: int  # row of the indexed dataset
    run: str


class RunIndex:
    """Runs of `length` units of many texts, to find them in others.

    A prompt that is shorter, but has `shortest` units at least, counts as one run, whole.  Shorter prompts, and
    responses below `length` units, have none: stock phrases would match everywhere.
    """

    def __init__(self, length: int, shortest: int) -> None:
        self.length, self.shortest = length, min(length, shortest)
        self.size = 0
        self._of: list[tuple[int, bool]] = []
        self._parts: dict[int, list[tuple[Hashes, Indices, Indices]]] = {}
        self._sealed: dict[int, tuple[Hashes, NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_], Any]] = {}

    def add(self, texts: Texts) -> None:
        """Take in the runs of these texts."""
        sizes = np.array([len(words) for words in texts.units], np.int64)
        prompt = np.array([not response for _, response in texts.of], bool)
        for length, hashes, owner, at in texts.runs(self.length):
            if length < self.shortest:
                continue
            if length < self.length:
                keep = (sizes[owner] == length) & prompt[owner]
                hashes, owner, at = hashes[keep], owner[keep], at[keep]
            if len(hashes):
                part = (hashes, (owner + len(self._of)).astype(np.int32), at.astype(np.int32))
                self._parts.setdefault(length, []).append(part)  # type: ignore[arg-type]
                self.size += len(hashes)
        self._of.extend(texts.of)

    def seal(self) -> None:
        """Sort what was added; call once, before `find`."""
        for length, parts in self._parts.items():
            hashes, text, at = (np.concatenate(column) for column in zip(*parts, strict=True))
            order = np.argsort(hashes, kind="stable")
            hashes = hashes[order]
            bits = min(27, max(10, int(len(hashes) * 8).bit_length()))
            shift = np.uint64(64 - bits)
            seen = np.zeros(1 << bits, bool)
            seen[hashes >> shift] = True
            self._sealed[length] = (hashes, text[order], at[order], seen, shift)
        self._parts = {}

    def find(self, texts: Texts, units_of: Callable[[int, bool], Sequence[str]]) -> dict[int, Shared]:
        """The shared run of each row that shares one: with the lowest row of the indexed dataset, the first such run.

        `units_of` reads a text of the indexed dataset again: equal hashes are confirmed by the units themselves.
        """
        mine = np.array([row for row, _ in texts.of], np.int64)
        theirs = np.array([row for row, _ in self._of], np.int64)
        hits: list[tuple[int, ...]] = []  # row, other row, text, first unit, -length, place among the sorted hashes
        for length, hashes, owner, at in texts.runs(self.length):
            if length not in self._sealed:
                continue
            known, text, _, seen, shift = self._sealed[length]
            maybe = np.flatnonzero(seen[hashes >> shift])
            place = np.searchsorted(known, hashes[maybe])
            place[place == len(known)] = 0
            same = known[place] == hashes[maybe]
            maybe, place = maybe[same], place[same]
            columns = (
                mine[owner[maybe]],
                theirs[text[place]],
                owner[maybe],
                at[maybe],
                np.full(len(maybe), -length),
                place,
            )
            hits += zip(*(column.tolist() for column in columns), strict=True)
        found: dict[int, Shared] = {}
        for row, _, text_number, at_unit, negative, first in sorted(hits):
            if row not in found:
                shared = self._confirmed(row, texts.units[text_number], at_unit, -negative, first, units_of)
                if shared is not None:
                    found[row] = shared
        return found

    def _confirmed(
        self,
        row: int,
        mine: list[str],
        at: int,
        length: int,
        place: int,
        units_of: Callable[[int, bool], Sequence[str]],
    ) -> Shared | None:
        hashes, text, starts, _, _ = self._sealed[length]
        value = hashes[place]
        while place < len(hashes) and hashes[place] == value:
            other, response = self._of[text[place]]
            theirs, start = units_of(other, response), int(starts[place])
            if mine[at : at + length] == list(theirs[start : start + length]):
                end = length
                most = min(
                    len(mine) - at, len(theirs) - start, _LONGEST * (CHARACTERS if is_unspaced("".join(mine)) else 1)
                )
                while end < most and mine[at + end] == theirs[start + end]:
                    end += 1
                joint = "" if is_unspaced("".join(mine[at : at + end])) else " "
                return Shared(row, other, joint.join(mine[at : at + end]))
            place += 1
        return None
