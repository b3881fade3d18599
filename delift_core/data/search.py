"""Rows of a dataset that a person looks for: by words, by a regular expression, or by a condition in SQL.

Words and patterns are matched by RE2, whose time grows with the text alone.  SQL is run by DuckDB in a database of its
own in memory that sees one table and nothing else: no files, no extensions, no Python variables, no settings.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from delift_core.errors import ConfigError, DataError, unknown
from delift_core.types import Dataset, Indices

How = Literal["text", "regex", "sql"]
HOW: tuple[How, ...] = get_args(How)
TEXTS = ("id", "prompt", "response")  # columns in which words and patterns are looked for
SECONDS = 10.0  # after which a search is given up
MEMORY = "1GB"  # that a query may take
BATCH = 8_192  # rows that are matched in one go
MOST_VALUES = 500  # of a column that `values_of` names
LONGEST = 4_000  # characters of a query
DEEPEST = 50  # brackets that stand open at once: the parser takes quadratic time to refuse them
# These make a huge value in one step, during which no limit of time or memory is looked at.
GROWING = re.compile(
    r"\b(range|generate_series|repeat|lpad|rpad|list_resize|array_resize|bar)\s*\(|\brecursive\b", re.IGNORECASE
)
_REMARKS = r"(?:\s|--[^\n]*+\n|/\*(?:[^*]|\*(?!/))*+\*/)*+"
_WHOLE = re.compile(rf"{_REMARKS}\(*\s*(?:select|with|from|values)\b", re.IGNORECASE | re.DOTALL)
_EXAMPLE = "Write a condition, such as length(response) > 200, or SELECT row FROM rows WHERE ..."


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
        ConfigError: an unknown way, a pattern or a query that cannot be read, or one that takes too long.
    """
    if how not in HOW:
        raise unknown("way to search", how, HOW)
    if not query.strip():
        return np.arange(len(dataset), dtype=np.int64)
    if how == "sql":
        return _by_sql(dataset, query, columns or {}, seconds)
    return _by_pattern(dataset, query, seconds, literal=how == "text")


def column_names(dataset: Dataset, columns: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The columns of the table `rows`, as SQL sees them; a field whose name is taken is called `field.NAME`."""
    return tuple(_table(dataset, columns or {}).column_names)


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


# --- words and patterns ----------------------------------------------------------------------------------------------


def _by_pattern(dataset: Dataset, query: str, seconds: float, *, literal: bool) -> Indices:
    deadline = time.monotonic() + seconds
    match = pc.match_substring if literal else pc.match_substring_regex

    def hits(batch: pa.RecordBatch) -> NDArray[np.bool_]:
        if time.monotonic() > deadline:
            raise _too_long(seconds)
        hit = np.zeros(len(batch), np.bool_)
        for column in batch.columns:
            hit |= pc.fill_null(match(column, query, ignore_case=literal), False).to_numpy(zero_copy_only=False)
        return hit

    batches = dataset.table.select(list(TEXTS)).to_batches(max_chunksize=BATCH)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as beside:  # matching releases the interpreter lock
        told = [beside.submit(hits, batch) for batch in batches]
        try:
            parts = [one.result() for one in told]
        except pa.ArrowInvalid as error:
            raise ConfigError(
                f"The pattern {query[:80]!r} cannot be read: {_one_line(error)}. Patterns are those of RE2 (they look "
                "neither ahead nor back); a sign that stands for itself takes a backslash, such as \\( or \\."
            ) from error
        finally:
            beside.shutdown(cancel_futures=True)
    return np.flatnonzero(np.concatenate(parts)).astype(np.int64) if parts else np.empty(0, np.int64)


# --- SQL -------------------------------------------------------------------------------------------------------------


def _table(dataset: Dataset, columns: Mapping[str, Any]) -> pa.Table:
    """The table that a query sees; names differ by more than upper and lower case, as SQL does not tell those apart."""
    table = dataset.table
    found: dict[str, Any] = {"row": np.arange(len(dataset)), **{name: table[name] for name in TEXTS}, **columns}
    taken = {name.lower() for name in found}
    for field in dataset.fields:
        name = field if field.lower() not in taken else f"field.{field}"
        number = 2
        while name.lower() in taken:
            name, number = f"field.{field}.{number}", number + 1
        taken.add(name.lower())
        found[name] = table[f"field.{field}"]
    return pa.table(found)


def _by_sql(dataset: Dataset, query: str, columns: Mapping[str, Any], seconds: float) -> Indices:
    import duckdb

    table = _table(dataset, columns)
    connection = duckdb.connect(":memory:", config={"memory_limit": MEMORY, "temp_directory": ""})
    try:
        connection.register("rows", table)
        for setting in (
            "enable_external_access = false", "python_enable_replacements = false",
            "autoinstall_known_extensions = false", "autoload_known_extensions = false", "lock_configuration = true",
        ):  # fmt: skip
            connection.execute(f"SET {setting}")
        with _stopped_after(connection, seconds):
            connection.execute(f"CREATE TEMP VIEW asked AS\n{_one_select(connection, query)}")
            given = {str(column[0]).lower() for column in connection.execute("FROM asked LIMIT 0").description}
            key = "row" if "row" in given else "id"
            if key not in given:
                raise ConfigError(
                    f"The query returns {', '.join(sorted(given)) or 'no column'}, but which rows are meant is told by "
                    "a column row or id. Return one of them: SELECT row FROM rows WHERE ..."
                )
            cast = "TRY_CAST(row AS BIGINT)" if key == "row" else "CAST(id AS VARCHAR)"
            wanted = f"SELECT row FROM rows WHERE {key} IN (SELECT {cast} FROM asked) ORDER BY row"
            found = connection.execute(wanted).fetchnumpy()
    except duckdb.InterruptException as error:
        raise _too_long(seconds) from error
    except duckdb.OutOfMemoryException as error:
        raise ConfigError(f"The query needs more than {MEMORY} of memory. Ask for less at once.") from error
    except duckdb.PermissionException as error:
        raise ConfigError(f"A query reads the table rows and nothing else: {_one_line(error)}. {_EXAMPLE}") from error
    except duckdb.BinderException as error:
        names = ", ".join(_quoted(name) for name in table.column_names)
        raise ConfigError(f"The query cannot be run: {_one_line(error)}. The columns of rows are: {names}.") from error
    except duckdb.Error as error:
        raise ConfigError(f"The query cannot be run: {_one_line(error)}. {_EXAMPLE}") from error
    finally:
        connection.close()
    return np.asarray(found["row"], np.int64)


def _one_select(connection: Any, query: str) -> str:
    """The query as one SELECT; a condition becomes one.

    Raises duckdb.ParserException for what is neither, ConfigError for several statements or one of another kind.
    """
    import duckdb

    _refuse_endless(query)
    try:
        statements = connection.extract_statements(query)
    except duckdb.ParserException:
        if _WHOLE.match(query):
            raise
        statements = connection.extract_statements(f"SELECT row FROM rows WHERE (\n{query}\n)")
    kinds = [str(s.type).rpartition(".")[2] for s in statements]
    if kinds != ["SELECT"]:
        told = ", ".join(kinds) or "nothing"
        raise ConfigError(f"One SELECT is run, or a condition, and nothing else; this has {told}. {_EXAMPLE}")
    return str(statements[0].query)


def _refuse_endless(query: str) -> None:
    """Raise ConfigError for a query that could stop the server before any limit is noticed."""
    if len(query) > LONGEST:
        raise ConfigError(f"This query has {len(query):,} characters; {LONGEST:,} are read. Make it shorter.")
    depth = deepest = 0
    for letter in query:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise ConfigError(f"This query opens {deepest:,} brackets inside each other; {DEEPEST} are read. Simplify it.")
    if found := GROWING.search(query):
        name = (found[1] or found[0]).lower()
        raise ConfigError(f"{name} is not available in a search: its values can fill the memory. Leave it out.")


@contextmanager
def _stopped_after(connection: Any, seconds: float) -> Iterator[None]:
    """Interrupt whatever the connection runs once the time is over, until the block is left."""
    done = threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            connection.interrupt()
            wait = 0.05

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _too_long(seconds: float) -> ConfigError:
    return ConfigError(f"The search took longer than {seconds:g} s and was stopped. Ask for something simpler.")


def _one_line(error: BaseException) -> str:
    """What a library says, without its kind of error and without the place in a query that nobody wrote."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", first).rstrip(".! ")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
