"""A process that answers one question about rows in SQL, under limits that it sets itself, and ends.

It is run as a script (see `sql.py`) and imports nothing of ours, so that it starts fast.  Standard input holds a line
of JSON, the columns beside the file's own as an Arrow stream, and the question; standard output gets a line of JSON and
the numbers of the rows, eight bytes each.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

try:
    import resource
except ImportError:  # Windows: DuckDB's own limit of memory holds, and the parent's limit of time
    resource = None  # type: ignore[assignment]

SETTINGS = (
    "enable_external_access = false", "python_enable_replacements = false", "autoinstall_known_extensions = false",
    "autoload_known_extensions = false", "lock_configuration = true",
)  # fmt: skip
NAMED = 40  # columns that an error names
_REMARKS = r"(?:\s|--[^\n]*+\n|/\*(?:[^*]|\*(?!/))*+\*/)*+"
_WHOLE = re.compile(rf"{_REMARKS}\(*\s*(?:select|with|from|values)\b", re.IGNORECASE | re.DOTALL)
_EXAMPLE = "Write a condition, such as length(response) > 200, or SELECT row FROM rows WHERE ..."


class Refused(Exception):
    """A question that has no answer; the text is for the person who asked."""


def limit(memory: int, seconds: int) -> None:
    """From now on take at most so many bytes more than now, and so many seconds of processor; write no file."""
    if resource is None:
        return
    with contextlib.suppress(OSError):  # no /proc: macOS, which does not keep this limit either
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        lower(resource.RLIMIT_AS, size + memory, size + memory)
    lower(resource.RLIMIT_CPU, seconds, seconds + 1)  # the second limit kills without a name
    lower(resource.RLIMIT_FSIZE, 0, 0)
    lower(resource.RLIMIT_CORE, 0, 0)


def lower(kind: int, soft: int, hard: int) -> None:
    """Set a limit of this process, or leave the one that the system gave it where that is lower."""
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def table(told: dict[str, Any], more: pa.Table) -> pa.Table:
    """The table `rows`: the file's columns (memory-mapped) and `more`, under the names that the query knows."""
    held = pa.ipc.open_file(pa.memory_map(told["file"], "r")).read_all()
    return pa.table({name: held[column] if column else more[name] for name, column in told["columns"]})


def by_pattern(connection: duckdb.DuckDBPyConnection, pattern: str) -> Any:
    """Rows in whose id, prompt or response the pattern (RE2) matches somewhere."""
    quoted = "'" + pattern.replace("'", "''") + "'"
    tests = " OR ".join(f"coalesce(regexp_matches({name}, {quoted}), false)" for name in ("id", "prompt", "response"))
    try:
        return connection.execute(f"SELECT row FROM rows WHERE {tests} ORDER BY row")
    except duckdb.InvalidInputException as error:
        raise Refused(
            f"The pattern {pattern[:80]!r} cannot be read: {one_line(error)}. Patterns are those of RE2 (they look "
            "neither ahead nor back); a sign that stands for itself takes a backslash, such as \\( or \\."
        ) from error


def by_sql(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    """Rows that a condition holds for, or that one SELECT names by its column `row` or `id`."""
    connection.execute(f"CREATE TEMP VIEW asked AS\n{one_select(connection, query)}")
    given = {str(column[0]).lower() for column in connection.execute("FROM asked LIMIT 0").description or ()}
    key = "row" if "row" in given else "id"
    if key not in given:
        raise Refused(
            f"The query returns {', '.join(sorted(given)) or 'no column'}, but which rows are meant is told by a "
            "column row or id. Return one of them: SELECT row FROM rows WHERE ..."
        )
    cast = "TRY_CAST(row AS BIGINT)" if key == "row" else "CAST(id AS VARCHAR)"
    return connection.execute(f"SELECT row FROM rows WHERE {key} IN (SELECT {cast} FROM asked) ORDER BY row")


def one_select(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """The query as one SELECT; a condition becomes one.

    Raises duckdb.ParserException for what is neither, Refused for several statements or one of another kind.
    """
    try:
        statements = connection.extract_statements(query)
    except duckdb.ParserException:
        if _WHOLE.match(query):
            raise
        statements = connection.extract_statements(f"SELECT row FROM rows WHERE (\n{query}\n)")
    kinds = [str(s.type).rpartition(".")[2] for s in statements]
    if kinds != ["SELECT"]:
        told = ", ".join(kinds) or "nothing"
        raise Refused(f"One SELECT is run, or a condition, and nothing else; this has {told}. {_EXAMPLE}")
    return str(statements[0].query)


def answer(rows: pa.Table, how: str, query: str, memory: int, threads: int) -> bytes:
    """The numbers of the rows that match; Refused says why there are none to give."""
    config: dict[str, Any] = {"memory_limit": f"{memory >> 20}MiB", "temp_directory": "", "threads": threads}
    connection = duckdb.connect(":memory:", config=config)
    connection.register("rows", rows)
    for setting in SETTINGS:
        connection.execute(f"SET {setting}")
    try:
        found = by_sql(connection, query) if how == "sql" else by_pattern(connection, query)
        return bytes(found.fetchnumpy()["row"].astype("<i8").tobytes())
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise Refused(f"The search needs more than {memory / 1e9:.1f} GB of memory. Ask for less at once.") from error
    except duckdb.PermissionException as error:
        raise Refused(f"A query reads the table rows and nothing else: {one_line(error)}. {_EXAMPLE}") from error
    except duckdb.BinderException as error:
        names = ", ".join(quoted(name) for name in rows.column_names[:NAMED])
        more = f" and {len(rows.column_names) - NAMED} more" if len(rows.column_names) > NAMED else ""
        raise Refused(f"The query cannot be run: {one_line(error)}. The columns of rows are: {names}{more}.") from error
    except duckdb.Error as error:
        raise Refused(f"The query cannot be run: {one_line(error)}. {_EXAMPLE}") from error


def one_line(error: BaseException) -> str:
    """What DuckDB says, without its kind of error and without the place in a query that nobody wrote."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", first).rstrip(".! ")


def quoted(name: str) -> str:
    """A column as a query has to write it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def main() -> None:
    """Read the columns, set the limits, only then read the question."""
    given = sys.stdin.buffer
    told = json.loads(given.readline())
    rows = table(told, pa.ipc.open_stream(given.read(told["bytes"])).read_all())
    limit(told["memory"] + told["room"], told["processor"])
    reply, found = {}, b""
    try:
        query = given.read().decode()
        found = answer(rows, told["how"], query, told["memory"], told["threads"])
    except Refused as refused:
        reply = {"error": str(refused)}
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n" + found)
    sys.stdout.buffer.flush()
    os._exit(0)  # what DuckDB holds need not be put away


if __name__ == "__main__":
    main()
