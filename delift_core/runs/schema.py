"""The tables of the catalogue."""

from __future__ import annotations

VERSION = 1  # the database's user_version; raise it together with a migration

SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE datasets (
        fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL, schema TEXT NOT NULL, rows INTEGER NOT NULL,
        refused INTEGER NOT NULL, source TEXT NOT NULL, roles TEXT NOT NULL, labelled INTEGER NOT NULL,
        added REAL NOT NULL
    )
    """,
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, config TEXT NOT NULL, command TEXT NOT NULL, created REAL NOT NULL,
        summary TEXT NOT NULL DEFAULT '{}', hidden INTEGER NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE jobs (
        run TEXT NOT NULL REFERENCES runs (id), kind TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'queued',
        stage TEXT NOT NULL DEFAULT '', done REAL NOT NULL DEFAULT 0, total REAL NOT NULL DEFAULT 0, eta REAL,
        note TEXT NOT NULL DEFAULT '', pid INTEGER, born REAL, host TEXT NOT NULL DEFAULT '', heartbeat REAL,
        started REAL, finished REAL, error TEXT NOT NULL DEFAULT '', cancel_at REAL, PRIMARY KEY (run, kind)
    )
    """,
    """
    CREATE TABLE edits (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, action TEXT NOT NULL, rows TEXT NOT NULL,
        reason TEXT NOT NULL, who TEXT NOT NULL, at REAL NOT NULL, undone INTEGER NOT NULL DEFAULT 0
    )
    """,
    "CREATE INDEX edits_of_run ON edits (run)",
    """
    CREATE TABLE views (
        name TEXT NOT NULL, run TEXT NOT NULL, page TEXT NOT NULL, settings TEXT NOT NULL, who TEXT NOT NULL,
        at REAL NOT NULL, PRIMARY KEY (run, name)
    )
    """,
)
