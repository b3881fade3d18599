"""What a run is made of: one frozen object, its JSON form and its hash."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from delift_core.errors import ConfigError, unknown
from delift_core.quota import Quota
from delift_core.types import Indices, Limit

FORMAT = 1  # raise when a stored configuration can no longer be read
# Settings that came after the first configurations were stored, and are written only where they are used.
_LATER = frozenset({"pairs", "quota", "once", "domains", "holdout", "guard", "pin", "ban"})


@dataclass(frozen=True)
class Budget:
    """How much to keep: rows ("500"), a share of the rows ("30%") or tokens ("200ktok").

    A share is of the accepted, deduplicated rows; tokens are prompt plus response, in the run's model's own tokens.
    """

    amount: float
    unit: str  # "rows", "percent" or "tokens"

    _PATTERN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(%|rows?|[km]?tok(?:ens)?)?\s*$", re.IGNORECASE)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read "30%", "500", "500 rows", "200ktok", "1.5mtok"; anything else raises ConfigError."""
        match = cls._PATTERN.match(str(text))
        if not match:
            raise ConfigError(f"Budget {text!r} is not understood. Give rows (500), a share (30%), tokens (200ktok).")
        amount, unit = float(match[1]), (match[2] or "rows").lower()
        if amount <= 0:
            raise ConfigError(f"Budget {text!r} keeps nothing. Give more than 0.")
        if unit == "%":
            if amount > 100:
                raise ConfigError(f"Budget {text!r} is more than the whole pool. Give at most 100%.")
            return cls(amount, "percent")
        if unit.startswith("row"):
            if amount != int(amount):
                raise ConfigError(f"Budget {text!r}: rows come whole. Give a whole number, or a share such as 10%.")
            return cls(amount, "rows")
        scale = {"k": 1_000, "m": 1_000_000}.get(unit[0], 1)
        return cls(amount * scale, "tokens")

    def __str__(self) -> str:
        if self.unit == "percent":
            return f"{self.amount:g}%"
        return f"{self.amount:.0f}" if self.unit == "rows" else f"{self.amount:.0f}tok"

    def limit(self, tokens: Indices) -> Limit:
        """Resolve against the candidates' token counts (n,).  More than there is raises ConfigError."""
        n = len(tokens)
        if self.unit == "percent":
            return Limit(rows=min(n, max(1, math.floor(n * self.amount / 100 + 0.5))))
        if self.unit == "rows":
            if self.amount > n:
                raise ConfigError(
                    f"Budget of {self.amount:.0f} rows, but the pool has {n} rows after checks. Ask for at most {n}."
                )
            return Limit(rows=int(self.amount))
        smallest = int(np.min(tokens)) if n else 0
        if self.amount < smallest:
            raise ConfigError(
                f"Budget of {self.amount:.0f} tokens is below the shortest row: {smallest} tokens. Ask for more."
            )
        if self.amount > (total := int(np.sum(tokens))):
            raise ConfigError(
                f"Budget of {self.amount:.0f} tokens, but the pool has {total} after checks. Ask for {total}tok."
            )
        return Limit(rows=n, tokens=int(self.amount))


@dataclass(frozen=True)
class Guard:
    """How a pool row is found too close to a row of another file: by words, or by the cosine of sentence vectors."""

    levels: tuple[str, ...]
    cosine: float | None  # at or above it

    LEVELS = ("exact", "normalised", "words")

    @classmethod
    def parse(cls, text: str) -> Guard:
        """Read "exact", "normalised,words,0.95"; anything else raises ConfigError."""
        levels: list[str] = []
        cosine: float | None = None
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            if part in cls.LEVELS:
                levels.append(part)
            elif re.fullmatch(r"0?\.\d+|1(?:\.0*)?", part) and float(part) > 0:
                if cosine is not None:
                    raise ConfigError(f"Guard {text!r} names two cosines. Give one; the lower finds all that both do.")
                cosine = float(part)
            else:
                raise unknown("guard", part, (*cls.LEVELS, "0.95"))
        if text and not levels and not cosine:
            raise ConfigError(f"Guard {text!r} finds nothing. Give exact, normalised, words or a cosine such as 0.95.")
        return cls(tuple(levels), cosine)


@dataclass(frozen=True)
class Domains:
    """Keep only the groups of the pool that lie nearest to the target."""

    column: str
    nearest: int

    @classmethod
    def parse(cls, text: str) -> Domains | None:
        """Read "source:3"; None for nothing; anything else raises ConfigError."""
        if not text:
            return None
        column, mark, number = text.rpartition(":")
        if not mark or not column.strip() or not number.strip().isdigit() or not int(number):
            raise ConfigError(f"Domains {text!r} is not understood. Give a column and how many, such as source:3.")
        return cls(column.strip(), int(number))


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's ids.  Datasets stand here by fingerprint, so a file's place does not matter."""

    pool: str = field(metadata={"help": "fingerprint of the pool"})
    target: str | None = None
    existing: str | None = None
    method: str = "delift"
    budget: str = "30%"
    model: str = field(default="builtin", metadata={"help": "causal language model: builtin, a hub id or a folder"})
    encoder: str = field(
        default="minilm", metadata={"help": "sentence encoder: minilm, fast or a sentence-transformers id"}
    )
    template: str = field(
        default="delift",
        metadata={
            "help": "prompt template: delift, chat, paper, or a .toml or .json file with one's own",
            "choices": ("delift", "chat", "paper"),
            "or_begins": "{",  # the definition of one's own, as JSON
        },
    )
    kind: str = field(
        default="l2", metadata={"help": "utility: l2 (the paper's) or pmi (nats per token)", "choices": ("l2", "pmi")}
    )
    scale: str = field(
        default="clip", metadata={"help": "clip below 0 (the paper's) or global min-max", "choices": ("clip", "minmax")}
    )
    pairs: str = field(
        default="dense",
        metadata={"help": "pairs that are scored: dense, knn:12, landmarks:50, ..., or auto (by cost)"},
    )
    keep_duplicates: bool = field(default=False, metadata={"help": "let exact copies count more than once"})
    quota: str = field(
        default="",
        metadata={"help": 'rows of each group: "language: proportional", "source: web<=20%", "cluster:10: even"'},
    )
    once: float = field(
        default=0.0,
        metadata={
            "help": "near-copies (sentence vectors of this cosine or more) count once; 0: off", "min": 0.0, "max": 1.0,
        },
    )  # fmt: skip
    domains: str = field(
        default="", metadata={"help": "only the groups of a column nearest to the target, such as source:3"}
    )
    holdout: str | None = field(default=None, metadata={"help": "evaluation rows that the subset must not contain"})
    guard: str = field(
        default="",
        metadata={
            "help": "leave out rows too close to target, existing or held-out rows: exact, normalised, words (13 in a "
            "row), or a cosine such as 0.95; several with commas"
        },
    )
    pin: tuple[str, ...] = field(default=(), metadata={"help": "ids of rows that come first, in this order"})
    ban: tuple[str, ...] = field(default=(), metadata={"help": "ids of rows that are never picked"})
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict, metadata={"help": "options of the method"})

    def __post_init__(self) -> None:
        for f in fields(self):
            value, default = getattr(self, f.name), f.default
            if isinstance(default, tuple) and isinstance(value, list | tuple):
                value = tuple(str(v) for v in value)
                object.__setattr__(self, f.name, value)
            if isinstance(default, float) and type(value) is int:
                value = float(value)
                object.__setattr__(self, f.name, value)
            if isinstance(default, str | int | float | tuple) and type(value) is not type(default):
                raise ConfigError(f"Setting {f.name} wants {type(default).__name__}, not {value!r}.")
            choices = f.metadata.get("choices")
            own = f.metadata.get("or_begins")
            if choices and value not in choices and not (own and value.startswith(own)):
                raise unknown(f.name, str(value), choices)
        Budget.parse(self.budget)
        Guard.parse(self.guard)
        Domains.parse(self.domains)
        if self.quota:
            Quota.parse(self.quota)
        if not 0 <= self.once <= 1:
            raise ConfigError(f"Setting once={self.once} is no cosine. Give 0.95 or so, or 0 to count every row.")
        if self.seed < 0:
            raise ConfigError(f"Seed {self.seed} is negative. Give 0 or more.")

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; `from_json` reads it back to an equal object."""
        record = {"format": FORMAT, **asdict(self)}
        for f in fields(self):
            if f.name in _LATER and record[f.name] == f.default:  # the plain case reads as it always did: its id stays
                del record[f.name]
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RunConfig:
        """Read `to_json`'s form; an unknown field or format raises ConfigError."""
        record = dict(record)
        if record.pop("format", None) != FORMAT:
            raise ConfigError(
                f"This configuration is not of format {FORMAT}. Make it again with this version of delift."
            )
        known = {f.name for f in fields(cls)}
        for name in record:
            if name not in known:
                raise unknown("setting", name, known)
        return cls(**record)

    @property
    def id(self) -> str:
        """Sixteen hex digits of the sha256 over the canonical JSON form: same config, same id."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def with_(self, **changes: Any) -> RunConfig:
        """A copy with some settings changed."""
        return replace(self, **changes)
