"""The catalogue: which datasets and runs the workspace holds and how far they are.  SQLite, for many processes."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from delift_core.config import RunConfig
from delift_core.errors import WorkspaceError
from delift_core.runs import files, processes
from delift_core.runs.records import FINAL, DatasetRecord, Edit, JobKind, JobRecord, RunRecord, State, View
from delift_core.runs.schema import SCHEMA, VERSION

NEW_JOB = "INSERT INTO jobs (run, kind) VALUES (?, ?) ON CONFLICT (run, kind) DO NOTHING"
_BUSY_SECONDS = 30.0
_MENDABLE = {  # primary result codes of SQLite that speak of the machine, not of our SQL
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOTADB,
}  # fmt: skip
_RUN_COLUMNS = frozenset({"summary", "hidden"})
_JOB_COLUMNS = frozenset(
    {"state", "stage", "done", "total", "eta", "note", "pid", "heartbeat", "started", "finished", "error", "cancel_at"}
)


@dataclass(frozen=True)
class Catalogue:
    """The workspace's database.  Each call opens its own connection, so any thread or process may call it."""

    path: Path

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A short write transaction: all of the body or nothing, one process at a time.

        Raises WorkspaceError for a full disk, a damaged file or a lock that is held too long.
        """
        with self._errors(), closing(self._connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    # -- datasets

    def add_dataset(
        self,
        fingerprint: str,
        *,
        name: str,
        schema: str,
        rows: int,
        refused: int = 0,
        source: str | Path = "",
        roles: Iterable[str] = (),
        labelled: bool = True,
    ) -> DatasetRecord:
        """Record a loaded dataset; one that is known gets the new name and source, and the roles add up."""
        _check_hex(fingerprint, "fingerprint")
        with self.transaction() as db:
            row = db.execute("SELECT roles FROM datasets WHERE fingerprint = ?", (fingerprint,)).fetchone()
            together = json.dumps(list(dict.fromkeys([*(json.loads(row["roles"]) if row else ()), *roles])))
            db.execute(
                "INSERT INTO datasets (fingerprint, name, schema, rows, refused, source, roles, labelled, added)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (fingerprint) DO UPDATE SET name = excluded.name,"
                " schema = excluded.schema, rows = excluded.rows, refused = excluded.refused, source = excluded.source,"
                " roles = excluded.roles, labelled = excluded.labelled",
                (fingerprint, name, schema, rows, refused, str(source), together, labelled, time.time()),
            )
        return self.dataset(fingerprint)

    def dataset(self, fingerprint: str) -> DatasetRecord:
        """The record of one dataset; an unknown fingerprint raises WorkspaceError."""
        rows = self._select("SELECT * FROM datasets WHERE fingerprint = ?", fingerprint)
        if not rows:
            raise WorkspaceError(f"No dataset {fingerprint[:80]!r} in {self.path.parent}. Load its file again.")
        return _dataset(rows[0])

    def datasets(self) -> list[DatasetRecord]:
        """All datasets, the newest first."""
        return [_dataset(row) for row in self._select("SELECT * FROM datasets ORDER BY added DESC, fingerprint")]

    # -- runs

    def add_run(self, config: RunConfig, *, command: Sequence[str] = ()) -> RunRecord:
        """Record a run as queued, worked on by nobody yet; a known one is returned as it is."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO runs (id, config, command, created) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (config.id, json.dumps(config.to_json()), json.dumps(list(command)), time.time()),
            )
            db.execute(NEW_JOB, (config.id, "run"))
        return self.run(config.id)

    def run(self, id: str) -> RunRecord:
        """The record of one run; an unknown id raises WorkspaceError."""
        found = self._runs("WHERE id = ?", id)
        if not found:
            raise self._no_run(id)
        return found[0]

    def runs(self, *, hidden: bool = False) -> list[RunRecord]:
        """All runs, the newest first; hidden ones only when asked for."""
        return self._runs("" if hidden else "WHERE hidden = 0")

    def update_run(self, id: str, *, kind: JobKind = "run", **changes: Any) -> None:
        """Change what is known of a run.

        The changes may be state, stage, done, total, eta, note, pid, heartbeat, started, finished, error, cancel_at (of
        the job of this kind), summary and hidden (of the run).  `state="running"` without `pid` names the calling
        process as the worker and notes the time it started; a final state notes the time it finished.  An unknown run
        raises WorkspaceError.
        """
        unknown = set(changes) - _RUN_COLUMNS - _JOB_COLUMNS
        if unknown:
            raise TypeError(f"a run has no {', '.join(sorted(unknown))}")
        of_run = {name: changes[name] for name in changes if name in _RUN_COLUMNS}
        of_job = {name: changes[name] for name in changes if name in _JOB_COLUMNS}
        if "summary" in of_run:
            of_run["summary"] = json.dumps(of_run["summary"])
        _complete(of_job)
        with self.transaction() as db:
            if not db.execute("SELECT 1 FROM runs WHERE id = ?", (id,)).fetchone():
                raise self._no_run(id)
            if of_run:
                assign(db, "runs", of_run, {"id": id})
            if of_job:
                db.execute(NEW_JOB, (id, kind))
                assign(db, "jobs", of_job, {"run": id, "kind": kind})

    def job(self, id: str, kind: JobKind = "run") -> JobRecord | None:
        """The job of a run, as stored; None where there never was one."""
        rows = self._select("SELECT * FROM jobs WHERE run = ? AND kind = ?", id, kind)
        return job_record(rows[0]) if rows else None

    # -- edits and saved views

    def add_edit(self, run: str, action: str, rows: Iterable[int], *, reason: str, who: str) -> Edit:
        """Log a person's change to a selection."""
        with self.transaction() as db:
            cursor = db.execute(
                "INSERT INTO edits (run, action, rows, reason, who, at) VALUES (?, ?, ?, ?, ?, ?)",
                (run, action, json.dumps([int(row) for row in rows]), reason, who, time.time()),
            )
            row = db.execute("SELECT * FROM edits WHERE id = ?", (cursor.lastrowid,)).fetchone()
        return _edit(row)

    def undo_edit(self, id: int, *, undone: bool = True) -> None:
        """Mark an edit as undone (or as valid again); the log keeps it."""
        with self.transaction() as db:
            assign(db, "edits", {"undone": undone}, {"id": id})

    def edits(self, run: str) -> list[Edit]:
        """All edits of a run, the oldest first, the undone ones marked."""
        return [_edit(row) for row in self._select("SELECT * FROM edits WHERE run = ? ORDER BY id", run)]

    def save_view(self, name: str, run: str, page: str, settings: Mapping[str, Any], *, who: str = "") -> None:
        """Save a page's settings under a name; the same name again replaces them."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO views (name, run, page, settings, who, at) VALUES (?, ?, ?, ?, ?, ?)",
                (name, run, page, json.dumps(dict(settings)), who, time.time()),
            )

    def views(self, run: str) -> list[View]:
        """The saved views of a run, by name."""
        rows = self._select("SELECT * FROM views WHERE run = ? ORDER BY name", run)
        return [View(r["name"], r["run"], r["page"], json.loads(r["settings"]), r["who"], r["at"]) for r in rows]

    # -- the database itself

    def _no_run(self, id: str) -> WorkspaceError:
        return WorkspaceError(f"No run {id[:80]!r} in {self.path.parent}. See `delift runs` for those there are.")

    def _runs(self, where: str, *values: Any) -> list[RunRecord]:
        columns = "runs.id, config, command, created, summary, hidden, jobs.*"
        join = "runs JOIN jobs ON jobs.run = runs.id AND jobs.kind = 'run'"
        rows = self._select(f"SELECT {columns} FROM {join} {where} ORDER BY created DESC, runs.id", *values)
        return [
            RunRecord(
                row["id"], json.loads(row["config"]), tuple(json.loads(row["command"])), row["created"],
                json.loads(row["summary"]), bool(row["hidden"]), job_record(row),
            )
            for row in rows
        ]  # fmt: skip

    def _select(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._errors(), closing(self._connect()) as db:
            return db.execute(query, values).fetchall()

    def _connect(self) -> sqlite3.Connection:
        files.make_folder(self.path.parent)
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = NORMAL")
            if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:  # SQLite does not wait for the lock when it switches to WAL
            try:
                db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        db.execute("BEGIN IMMEDIATE")
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]  # another process may have been faster
            if version > VERSION:
                raise WorkspaceError(
                    f"{self.path} was written by a newer version of delift (its format is {version}, this one reads"
                    f" {VERSION}). Update delift, or choose another workspace."
                )
            if version < VERSION:
                for statement in SCHEMA:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in _MENDABLE:
                raise
            if code == sqlite3.SQLITE_FULL:
                what = f"The disk is full: could not write {self.path}. Free some space and run again"
            elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                what = f"{self.path} is damaged ({error}). Move it away and load the files again"
            else:
                what = f"Could not use {self.path}: {error}. Check its permissions and the disk, or take another one"
            raise WorkspaceError(f"{what}; finished blocks are kept.") from error


def assign(db: sqlite3.Connection, table: str, changes: Mapping[str, Any], where: Mapping[str, Any]) -> None:
    """UPDATE one row; the names come from this program, never from a user."""
    columns = ", ".join(f"{name} = ?" for name in changes)
    conditions = " AND ".join(f"{name} = ?" for name in where)
    db.execute(f"UPDATE {table} SET {columns} WHERE {conditions}", (*changes.values(), *where.values()))


def job_record(row: sqlite3.Row) -> JobRecord:
    """A row of the table jobs."""
    return JobRecord(**{name: row[name] for name in JobRecord.__dataclass_fields__})


def _complete(job: dict[str, Any]) -> None:
    state = job.get("state")
    if state is not None and state not in get_args(State):
        raise ValueError(f"{state!r} is not a state of a run")
    if state == "running" and "pid" not in job:
        job["pid"] = processes.me().pid
    if job.get("pid") is not None:
        owner = processes.of(job["pid"])
        job.update(born=owner.born, host=owner.host)
    if state == "running":
        job.setdefault("started", time.time())
        job.setdefault("heartbeat", time.time())
        job.setdefault("finished", None)
        job.setdefault("error", "")
    if state in FINAL:
        job.setdefault("finished", time.time())


def _check_hex(text: str, what: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{8,64}", text):
        raise WorkspaceError(f"{text[:80]!r} is not a {what}: it should be hexadecimal digits.")


def _dataset(row: sqlite3.Row) -> DatasetRecord:
    return DatasetRecord(
        row["fingerprint"], row["name"], row["schema"], row["rows"], row["refused"], row["source"],
        tuple(json.loads(row["roles"])), bool(row["labelled"]), row["added"],
    )  # fmt: skip


def _edit(row: sqlite3.Row) -> Edit:
    rows = tuple(json.loads(row["rows"]))
    return Edit(row["id"], row["run"], row["action"], rows, row["reason"], row["who"], row["at"], bool(row["undone"]))
