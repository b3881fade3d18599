"""What is in a dataset: lengths, copies, languages, personal data.  Looks only, changes nothing."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from delift_core.types import Dataset, Indices, Progress, no_progress

_LANGUAGE_ROWS = 2_000  # rows that the language guesser sees
_LANGUAGE_CHARS = 400  # of each
_MIN_CHARS = 24  # below, a guess is noise
_SHOWN = 5  # examples kept of each kind of personal data
_BINS = 40
# Words that are common in English and rare in the languages nearest to it.
_ENGLISH = frozenset(
    {
        "the", "of", "and", "to", "that", "with", "are", "this", "from", "which", "you", "what", "it", "have", "has",
        "by", "they", "their", "how", "does", "can", "would", "should", "is", "for", "be", "as", "or", "if", "not",
        "there", "these", "when", "your",
    }
)  # fmt: skip
_ENGLISH_WORDS = 0.08  # share of them below which a text is not English prose; English has about 0.3
_NO_LANGUAGE = ("zxx", "pcm")  # what the guesser calls code and numbers; a creole that it takes English for

_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_PATTERNS: dict[str, re.Pattern[str]] = {
    "email": re.compile(r"\b[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b"),
    "ip address": re.compile(rf"(?<![\d.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\d|\.\d)"),
    "phone": re.compile(
        r"(?<![\w.])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}"
        r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})(?!\w)"
    ),
    "credit card": re.compile(r"(?<![\w.-])(?:\d[ -]?){12,18}\d(?![\w-])"),
    "iban": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"),
    "social security number": re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),
    "secret key": re.compile(
        r"\b(?:sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|hf_[A-Za-z0-9]{30,})\b"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Histogram:
    """Counts of lengths in bins of equal ratio.  `edges` has one entry more than `counts`; a value v falls in
    edges[i] <= v < edges[i + 1], the last bin is closed.
    """  # noqa: D205 - one thought

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    median: float
    largest: int


@dataclass(frozen=True)
class Finding:
    """One piece of personal data: the row's index and the text that matched, with its middle hidden."""

    row: int
    kind: str
    text: str


@dataclass(frozen=True)
class Profile:
    """What a look at a dataset found.  Counts of languages and personal data are of rows in the sample."""

    rows: int
    sampled: int
    prompt_chars: Histogram
    response_chars: Histogram | None  # None where no row has a response
    duplicates: int
    languages: dict[str, int]  # ISO 639 code, or "short" or "unsure" -> rows of the sample's language part
    personal: dict[str, int]  # kind -> rows of the sample
    examples: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return asdict(self)


def profile(dataset: Dataset, *, sample: int = 20_000, seed: int = 0, progress: Progress = no_progress) -> Profile:
    """Lengths and copies of all rows; personal data in `sample` rows and languages in up to 2,000 of those."""
    rng = np.random.default_rng(seed)
    n = len(dataset)
    rows = np.sort(rng.choice(n, size=min(sample, n), replace=False)).astype(np.int64)
    spoken = rows[np.sort(rng.choice(len(rows), size=min(_LANGUAGE_ROWS, len(rows)), replace=False))]
    personal: Counter[str] = Counter()
    examples: list[Finding] = []
    for place, (row, prompt, response) in enumerate(_texts(dataset, rows)):
        if place % 500 == 0:
            progress("profile", place, len(rows))
        for kind, found in personal_data(f"{prompt}\n{response}").items():
            personal[kind] += 1
            if personal[kind] <= _SHOWN:
                examples.append(Finding(row, kind, masked(found)))
    progress("profile", len(rows), len(rows))
    return Profile(
        rows=n, sampled=len(rows), prompt_chars=_lengths(dataset, "prompt"),
        response_chars=_lengths(dataset, "response") if dataset.table["response"].null_count < n else None,
        duplicates=n - len(dataset.unique), languages=_languages(dataset, spoken),
        personal=dict(personal.most_common()), examples=tuple(examples),
    )  # fmt: skip


def personal_data(text: str) -> dict[str, str]:
    """Kinds of personal data in a text, each with its first match.  Patterns only: no names, no addresses."""
    found: dict[str, str] = {}
    for kind, pattern in _PATTERNS.items():
        valid = _CHECKS.get(kind)
        for match in pattern.finditer(text):
            if valid is None or valid(match[0]):
                found[kind] = match[0]
                break
    return found


def luhn(number: str) -> bool:
    """Whether the digits pass the Luhn check that card numbers carry (ISO/IEC 7812), and are not all the same."""
    digits = [int(c) for c in number if c.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _iban(text: str) -> bool:
    """The mod-97 check of ISO 13616."""
    plain = text.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _telephone(text: str) -> bool:
    return 9 <= sum(c.isdigit() for c in text) <= 15


_CHECKS: dict[str, Callable[[str], bool]] = {"credit card": luhn, "iban": _iban, "phone": _telephone}


def shared_rows(one: Dataset, other: Dataset) -> Indices:
    """Indices of the rows of `one` whose prompt and response also stand in `other`, ascending."""
    theirs = {digest(prompt, response) for _, prompt, response in _texts(other, other.unique)}
    mine = _texts(one, np.arange(len(one), dtype=np.int64))
    return np.array([row for row, prompt, response in mine if digest(prompt, response) in theirs], dtype=np.int64)


def digest(prompt: str, response: str) -> bytes:
    """Sixteen bytes that two rows share exactly where prompt and response are equal."""
    text = prompt.encode()
    return hashlib.blake2b(b"%d " % len(text) + text + response.encode(), digest_size=16).digest()


def _texts(dataset: Dataset, rows: Indices) -> Iterator[tuple[int, str, str]]:
    for start in range(0, len(rows), 1000):
        part = rows[start : start + 1000]
        table = dataset.table.select(["prompt", "response"]).take(part)
        for row, prompt, response in zip(part, table["prompt"].to_pylist(), table["response"].to_pylist(), strict=True):
            yield int(row), prompt, response or ""


def _lengths(dataset: Dataset, column: str) -> Histogram:
    import pyarrow.compute as pc

    chunks = [
        pc.utf8_length(chunk).drop_null().to_numpy(zero_copy_only=False) for chunk in dataset.table[column].iterchunks()
    ]
    lengths = np.concatenate(chunks).astype(np.int64)
    edges = np.unique(np.round(np.geomspace(max(1, lengths.min()), lengths.max() + 1, _BINS + 1)))
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0] + 1])
    counts, _ = np.histogram(lengths, bins=edges)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()), float(np.median(lengths)), int(lengths.max()))


def _languages(dataset: Dataset, rows: Indices) -> dict[str, int]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    languages: Counter[str] = Counter()
    for _, prompt, response in _texts(dataset, rows):
        text = max((prompt, response), key=len)[-_LANGUAGE_CHARS:]
        if len(text) < _MIN_CHARS:
            languages["short"] += 1
            continue
        language, probability = identifier.classify(text)
        languages[language if probability > 0.5 else "unsure"] += 1
    return dict(languages.most_common())


@dataclass(frozen=True)
class Foreign:
    """How much of a sample of rows is written in another language than English."""

    share: float  # of the rows that hold enough prose to judge; 0 where none does
    language: str  # ISO 639 code of the commonest other language; empty where there is none
    judged: int  # rows


def foreign(dataset: Dataset, *, sample: int = 200, seed: int = 0) -> Foreign:
    """The share of rows in another language than English, judged on prompt and response of `sample` rows.

    A row counts where the guesser is sure of another language, most of its characters are letters, and words that only
    English has are rare in it.  So code, formulas and lists of names do not count.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    rows = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:sample]).astype(np.int64)
    judged, other = 0, Counter[str]()
    for _, prompt, response in _texts(dataset, rows):
        text = f"{prompt[-_LANGUAGE_CHARS:]} {response[:_LANGUAGE_CHARS]}"
        letters = sum(c.isalpha() or unicodedata.category(c) in ("Mn", "Mc") for c in text)  # Indic vowels are marks
        if letters < _MIN_CHARS:
            continue
        judged += 1
        words = re.findall(r"[^\W\d_]+", text.lower())
        english = sum(word in _ENGLISH for word in words) / max(1, len(words))
        prose = letters > 0.85 * sum(not c.isspace() for c in text)
        if english < _ENGLISH_WORDS and prose:
            language, probability = identifier.classify(text)
            if language not in ("en", *_NO_LANGUAGE) and probability > 0.9:
                other[language] += 1
    named = other.most_common(1)
    return Foreign(other.total() / max(1, judged), named[0][0] if named else "", judged)


def masked(text: str) -> str:
    """A text of which a fifth at each end is left to read."""
    keep = max(1, len(text) // 5)
    return text[:keep] + "•" * (len(text) - 2 * keep) + text[-keep:]
