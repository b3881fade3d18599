"""Rows of a dataset that a person looks for: by words, by a regular expression, or by a condition in SQL.

Words are looked for here, in time that grows with the text alone.  Patterns and SQL, which can be made to run for ever,
are answered by a process that can be killed (`sql.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from delift_core.data import sql
from delift_core.errors import ConfigError, DataError, unknown
from delift_core.types import Dataset, Indices

How = Literal["text", "regex", "sql"]
HOW: tuple[How, ...] = get_args(How)
TEXTS = ("id", "prompt", "response")  # columns in which words and patterns are looked for
SECONDS = 10.0  # after which a search is given up
LONGEST = 20_000  # characters of a query; what is longer was not written by a person
BATCH = 8_192  # rows that are matched in one go
MOST_VALUES = 500  # of a column that `values_of` names
_TEXTS = {name: name for name in TEXTS}


def search(
    dataset: Dataset,
    query: str,
    how: str = "text",
    *,
    columns: Mapping[str, Any] | None = None,
    seconds: float = SECONDS,
) -> Indices:
    """Indices of the rows that match, ascending (M,); an empty query matches every row.

    * `text`: the query stands in the id, the prompt or the response; upper and lower case are the same.
    * `regex`: a pattern (RE2) matches somewhere in one of the three.
    * `sql`: a condition on the table `rows`, or one SELECT over it that returns its column `row` or `id`.  The columns
      are named by `column_names`.

    Args:
        dataset: the rows (n,).
        query: what to look for.
        how: one of the three.
        columns: more columns for SQL, each of n values.
        seconds: how long a search may take.

    Raises:
        ConfigError: an unknown way, a pattern or a query that cannot be read, or one that comes to a limit of time,
            memory or length.
    """
    if how not in HOW:
        raise unknown("way to search", how, HOW)
    if len(query) > LONGEST:
        raise ConfigError(f"This query has {len(query):,} characters; {LONGEST:,} are read. Make it shorter.")
    if not query.strip():
        return np.arange(len(dataset), dtype=np.int64)
    if how == "text":
        return _by_words(dataset, query, seconds)
    seen = _columns(dataset, columns or {}) if how == "sql" else {"row": np.arange(len(dataset)), **_TEXTS}
    return sql.ask(dataset, query, "sql" if how == "sql" else "regex", seen, seconds)


def column_names(dataset: Dataset, columns: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The columns of the table `rows`, as SQL sees them; a field whose name is taken is called `field.NAME`."""
    return tuple(_columns(dataset, columns or {}))


def with_value(dataset: Dataset, field: str, value: str | None) -> NDArray[np.bool_]:
    """Which rows (n,) hold this value in a field; None stands for no value.  An unknown field raises DataError."""
    column = _field(dataset, field)
    found = pc.is_null(column) if value is None else pc.fill_null(pc.equal(column, value), False)
    return np.asarray(found.to_numpy(), np.bool_)


def values_of(dataset: Dataset, field: str, most: int = MOST_VALUES) -> list[tuple[str | None, int]]:
    """Values of a field and how many rows hold each, the most frequent first; at most `most` of them."""
    counts = pc.value_counts(_field(dataset, field).combine_chunks())
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0] or ""))[:most]


def _field(dataset: Dataset, name: str) -> pa.ChunkedArray:
    if name not in dataset.fields:
        raise DataError(f"{dataset.name} has no field {name!r}. It has: {', '.join(dataset.fields) or 'none'}.")
    return dataset.table[f"field.{name}"]


def _by_words(dataset: Dataset, query: str, seconds: float) -> Indices:
    deadline = time.monotonic() + seconds

    def hits(batch: pa.RecordBatch) -> NDArray[np.bool_]:
        if time.monotonic() > deadline:
            raise sql.too_long(seconds)
        hit = np.zeros(len(batch), np.bool_)
        for column in batch.columns:
            found = pc.match_substring(column, query, ignore_case=True)
            hit |= pc.fill_null(found, False).to_numpy(zero_copy_only=False)
        return hit

    batches = dataset.table.select(list(TEXTS)).to_batches(max_chunksize=BATCH)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as beside:  # matching releases the interpreter lock
        told = [beside.submit(hits, batch) for batch in batches]
        try:
            parts = [one.result() for one in told]
        finally:
            beside.shutdown(cancel_futures=True)
    return np.flatnonzero(np.concatenate(parts)).astype(np.int64) if parts else np.empty(0, np.int64)


def _columns(dataset: Dataset, columns: Mapping[str, Any]) -> dict[str, Any]:
    """What a query sees, by name: a column of the dataset's table, or values.

    Names differ by more than upper and lower case, as SQL does not tell those apart.
    """
    found: dict[str, Any] = {"row": np.arange(len(dataset)), **_TEXTS, **columns}
    taken = {name.lower() for name in found}
    for field in dataset.fields:
        name = field if field.lower() not in taken else f"field.{field}"
        number = 2
        while name.lower() in taken:
            name, number = f"field.{field}.{number}", number + 1
        taken.add(name.lower())
        found[name] = f"field.{field}"
    return found
