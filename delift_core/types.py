"""The nouns that every part of the engine shares.  Arrays state their shape; rows are helped, columns help."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from delift_core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy import sparse

Kind = Literal["l2", "pmi", "cosine", "centred"]  # centred: the cosine less the helped row's mean cosine
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]
_FROM_PICK = re.compile(r"From pick (\d+) on: ")


class Progress(Protocol):
    """Called with the stage's name, what is done and what there is to do (in the stage's own unit)."""

    def __call__(self, stage: str, done: float, total: float, note: str = "") -> None:
        """Report progress; may raise `Cancelled`."""


def no_progress(stage: str, done: float, total: float, note: str = "") -> None:
    """A `Progress` that says nothing."""


def both(first: Progress, second: Progress) -> Progress:
    """A `Progress` that tells two."""

    def report(stage: str, done: float, total: float, note: str = "") -> None:
        first(stage, done, total, note)
        second(stage, done, total, note)

    return report


@runtime_checkable
class BlockStore(Protocol):
    """Where finished blocks live.  A key is content-addressed: same key, same arrays, whoever computed them."""

    def get(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The block's arrays, or None when it is missing or unreadable."""

    def put(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the block whole or not at all."""


class MemoryStore:
    """A `BlockStore` in memory, for scripts and tests."""

    def __init__(self) -> None:
        self.blocks: dict[str, dict[str, NDArray[Any]]] = {}

    def get(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The block's arrays, or None."""
        return self.blocks.get(key)

    def put(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the block."""
        self.blocks[key] = dict(arrays)


@dataclass(frozen=True)
class Refusal:
    """A row that was not taken: where it stands, why, and its text (shortened)."""

    line: int  # 1-based line or record number in the source
    reason: str
    text: str
    row: int | None = None  # 0-based index of the record in the source, as the accepted rows count it


@dataclass(frozen=True, eq=False)
class Dataset:
    """Accepted rows of one file, in a memory-mapped Arrow table.

    `table` has the columns `id` (string), `prompt` and `response` (large_string; response is null in unlabelled
    pools), `row` (int64, 0-based index of the record in the source), `copy_of` (int64: index in THIS table of the first
    row with the same prompt and response; its own index when it is the first), `offset` and `length` (int64: the
    record's bytes in `originals`) and `field.<name>` (string, nullable) for each short scalar field of the source.

    `originals` holds one JSON record per line: for JSON Lines the very bytes of the source, else the record by value.
    """

    table: pa.Table
    originals: Path
    fingerprint: str  # sha256 over the accepted rows' content and the mapping; the root of every cache key
    name: str
    schema: str  # "alpaca", "messages", ...
    labelled: bool  # every row has a response

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def prompts(self) -> Sequence[str]:
        """The prompts, read from the table when indexed."""
        return _Column(self.table["prompt"])

    @property
    def responses(self) -> Sequence[str]:
        """The responses; an empty string where there is none."""
        return _Column(self.table["response"])

    @property
    def ids(self) -> Sequence[str]:
        """The source's ids where unique, else row numbers."""
        return _Column(self.table["id"])

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of the short scalar fields of the source, usable as groups."""
        return tuple(c.removeprefix("field.") for c in self.table.column_names if c.startswith("field."))

    def group(self, name: str) -> list[str | None]:
        """Values of one scalar field, one per row."""
        if name not in self.fields:
            raise DataError(
                f"{self.name} has no field {name!r} to group by. It has: {', '.join(self.fields) or 'none'}."
            )
        values: list[str | None] = self.table[f"field.{name}"].to_pylist()
        return values

    @cached_property
    def unique(self) -> Indices:
        """Indices of the rows that are not an exact copy of an earlier row, ascending."""
        copy_of = self.table["copy_of"].to_numpy()
        return np.flatnonzero(copy_of == np.arange(len(copy_of))).astype(np.int64)

    @cached_property
    def _spans(self) -> tuple[Indices, Indices]:
        return self.table["offset"].to_numpy(), self.table["length"].to_numpy()

    def original_bytes(self, index: int) -> bytes:
        """The source record of row `index` as one line of JSON, without the line break."""
        return next(self.originals_of([index]))

    def originals_of(self, indices: Sequence[int] | Indices) -> Iterator[bytes]:
        """Source records of the given rows, in that order."""
        offset, length = self._spans
        with self.originals.open("rb") as stream:
            for index in indices:
                stream.seek(int(offset[index]))
                yield stream.read(int(length[index]))

    def original(self, index: int) -> Any:
        """The source record of row `index`, by value."""
        return json.loads(self.original_bytes(index))


class _Column(Sequence[str]):
    """A string column as a sequence that reads single values without loading the rest."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [value or "" for value in self.column[index].to_pylist()]
        return self.column[int(index)].as_py() or ""

    def __iter__(self) -> Iterator[str]:
        for chunk in self.column.iterchunks():
            for start in range(0, len(chunk), 10_000):
                for value in chunk[start : start + 10_000].to_pylist():
                    yield value or ""


@dataclass(frozen=True, eq=False)
class Utility:
    """How much each candidate helps each row.  values[i, j] > 0: candidate j helps row i; raw units, never scaled.

    A missing pair is NaN in a dense matrix and absent in a sparse one.
    """

    values: Floats | sparse.csc_array  # (R, C) in units of `kind`
    helped: Indices  # (R,) row indices of the helped dataset
    candidates: Indices  # (C,) row indices of the candidate dataset
    kind: Kind
    baseline: Floats | None = None  # (R,) what `kind` measures without any example
    weights: Doubles | None = None  # (R,) how many rows each helped row stands for; None: itself

    def __post_init__(self) -> None:
        expected = (len(self.helped), len(self.candidates))
        if self.values.shape != expected:
            raise ValueError(
                f"utility of shape {self.values.shape} for {expected[0]} helped rows, {expected[1]} candidates"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(helped, candidates)."""
        return len(self.helped), len(self.candidates)

    @property
    def is_dense(self) -> bool:
        """True when `values` is a plain array."""
        return isinstance(self.values, np.ndarray)


@dataclass(frozen=True, eq=False)
class Scores:
    """One number per candidate row.  NaN: the score refuses the row, which is never picked for it."""

    values: Doubles  # (C,)
    candidates: Indices  # (C,) row indices
    higher_is_better: bool
    name: str
    notes: tuple[str, ...] = ()  # what a reader must know: texts that were cut, rows that were refused, ...

    def __post_init__(self) -> None:
        if self.values.shape != self.candidates.shape:
            raise ValueError(f"scores of shape {self.values.shape} for {len(self.candidates)} candidates")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What an objective may look at; it declares in `needs` which parts, and only those are computed.

    Every array speaks of the candidates in the order of `candidates`; row indices are those of the pool dataset.
    Utilities are already scaled to s >= 0 with missing = 0 (see `scaled`), so objectives never see raw units.
    """

    candidates: Indices  # (n,) pool row indices that may be picked
    tokens: Indices  # (n,) prompt and response tokens of each candidate, the unit of token budgets
    pool: Utility | None = None  # (n, n)
    target: Utility | None = None  # (m, n): helped = target rows
    existing: Utility | None = None  # (n, e): helped = pool rows, candidates = existing rows
    scores: Scores | None = None  # (n,) one number for each candidate, not scaled
    vectors: Floats | None = None  # (n, d) unit length
    target_vectors: Floats | None = None  # (m, d)
    existing_vectors: Floats | None = None  # (e, d)

    def __len__(self) -> int:
        return len(self.candidates)


@dataclass(frozen=True, eq=False)
class Rules:
    """What picks must respect besides the budget.  Positions are those of the n candidates."""

    pinned: Indices = field(default_factory=lambda: np.empty(0, np.int64))  # (p,) taken first, in this order
    banned: NDArray[np.bool_] | None = None  # (n,) never taken
    once: Indices | None = None  # (n,) code of its set of near-duplicates, of which one row is taken at most
    group: Indices | None = None  # (n,) code of its group, 0 to G - 1
    at_least: Indices | None = None  # (G,) rows of each group that the picks hold, where the pool has as many
    at_most: Indices | None = None  # (G,)
    names: tuple[str, ...] = ()  # (G,) what the groups are called, where they have names
    shares: bool = False  # the bounds are shares of the budget, so another budget has others

    @property
    def nested(self) -> bool:
        """Whether picks for a smaller budget are a prefix: not where room is kept, or where bounds are shares."""
        return not self.shares and (self.at_least is None or not self.at_least.any())


@dataclass(frozen=True)
class Limit:
    """A budget that was resolved against a pool: so many rows, or so many tokens, and what else the picks respect."""

    rows: int
    tokens: int | None = None  # when set, rows is only the upper bound
    rules: Rules | None = None


@dataclass(frozen=True, eq=False)
class Selection:
    """Picks in order.  Where `nested`, the first k picks are the answer for budget k."""

    order: Indices  # (K,) pool row indices
    gains: Doubles  # (K,) marginal gain of each pick
    value: Doubles  # (K,) f of the first 1..K picks
    full_value: float  # f of the whole pool
    nested: bool = True
    notes: tuple[str, ...] = ()  # what a reader must know: saturation, a guarantee that does not hold, ...

    def __post_init__(self) -> None:
        if not len(self.order) == len(self.gains) == len(self.value):
            raise ValueError(f"{len(self.order)} picks, {len(self.gains)} gains, {len(self.value)} values")

    def __len__(self) -> int:
        return len(self.order)

    def head(self, k: int) -> Selection:
        """The selection for a smaller budget of k rows.

        Raises ValueError when the order is not nested or k is not in [0, len(self)].
        """
        if k == len(self):
            return self
        if not self.nested:
            raise ValueError("this selection is not nested: a smaller budget must be computed anew")
        if not 0 <= k <= len(self):
            raise ValueError(f"{k} rows asked from a selection of {len(self)}")
        return Selection(self.order[:k], self.gains[:k], self.value[:k], self.full_value, True, self.notes)

    @property
    def share(self) -> float:
        """Value of the picks over that of the whole pool; NaN where the whole pool is worth nothing."""
        if not len(self):
            return 0.0
        return float(self.value[-1]) / self.full_value if self.full_value else math.nan


@dataclass(frozen=True)
class Cost:
    """What a run will take, before it is started."""

    pairs: int
    tokens: int
    flops: float
    seconds: float
    bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Identity:
    """What a model is: enough to know it again.  `hash` is the sha256 of its weights, or the hub revision."""

    name: str
    hash: str
    kind: str  # "causal-lm" or "encoder"
    parameters: int = 0
    device: str = "cpu"
    dtype: str = "float32"


def from_pick(pick: int, told: str) -> str:
    """A note that holds for the picks from number `pick` (counted from 1) on."""
    return f"From pick {pick} on: {told}"


def concerns(note: str, k: int) -> bool:
    """False for a note of `from_pick` that says something of later picks than the first `k`."""
    found = _FROM_PICK.match(note)
    return found is None or int(found[1]) <= k


class Objective(Protocol):
    """A way to choose rows, given evidence.  Options are the fields of the (frozen dataclass) instance."""

    name: str
    nested: bool
    needs: frozenset[str]  # of "pool", "target", "existing", "vectors", "target_vectors", "existing_vectors"

    def select(self, evidence: Evidence, limit: Limit, *, seed: int, progress: Progress) -> Selection:
        """Pick rows up to the limit."""


@runtime_checkable
class Describing(Protocol):
    """An objective that can tell more about a subset once its size is known."""

    def describe(self, evidence: Evidence, rows: Indices, *, seed: int, progress: Progress) -> tuple[str, ...]:
        """Sentences about the subset given by its pool row indices."""


def block_key(kind: str, **parts: Any) -> str:
    """A content-addressed key: the kind, and the sha256 of everything the block depends on (JSON-able values)."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{kind}-{hashlib.sha256(canonical.encode()).hexdigest()[:32]}"
