"""The subset as a file: the original records in pick order, and on request the rest with the reason why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delift_core.errors import ConfigError, WorkspaceError, unknown
from delift_core.runs import files, formats, tables
from delift_core.runs.cut import config_at
from delift_core.runs.run import Run
from delift_core.types import Dataset, Indices, Refusal

Writer = Callable[[files.HashingFile, Callable[[], Iterator[bytes]]], tuple[str, ...]]


@dataclass(frozen=True)
class Export:
    """What was written."""

    out: Path
    rows: int  # picked rows
    records: int  # lines or table rows: rows that come from one source record share it, except in training formats
    bytes: int
    sha256: str  # of the file
    rejected: int  # lines of the rejected file; 0 without one
    notes: tuple[str, ...] = ()  # what the format could not hold as it was


def write_subset(
    run: Run,
    dataset: Dataset,
    out: Path,
    *,
    format: str = "jsonl",
    k: int | None = None,
    rejected: Path | None = None,
    refusals: Iterable[Refusal] = (),
    chats: Callable[[Indices], Iterator[formats.Chat]] | None = None,
) -> Export:
    """Write the picked records of `dataset` (the run's pool) to `out`, each whole file or nothing.

    JSON Lines holds the original records, byte for byte where the source was JSON Lines, in pick order, so that the
    first lines are the subset of a smaller budget.  Parquet and CSV hold them by value, one column per field.
    Rows that come from one record (one per assistant turn) write it once.  The training formats (`formats.FORMATS`)
    hold one entry per picked row instead, and read the rows' turns from `chats`.  `k` takes another budget than the
    run's, where its order is nested.

    `rejected` gets one JSON object per record that is not in the subset: row (0-based index of the record in the
    source), id, reason, record; and with `refusals` the rows that were refused at reading time.

    Raises ConfigError for an unknown format or budget, WorkspaceError for a disk that is full or a place that cannot
    be written.
    """
    _known(format)
    picked = picked_at(run, k)
    _check(run, dataset, out, rejected)
    source = dataset.table["row"].to_numpy()
    written = picked if format in formats.FORMATS else _first_of_record(source, picked)
    with ExitStack() as stack:  # both files are complete before the first one takes its name
        target = stack.enter_context(files.atomic(out))
        count = 0
        if rejected is not None:
            second = stack.enter_context(files.atomic(rejected))
            for line in rejections(run, dataset, picked, refusals):
                second.write(line + b"\n")
                count += 1
        if format in formats.FORMATS:
            if chats is None:
                raise ValueError(f"the format {format} reads the rows' turns: give chats")
            read = chats
            notes = (*formats.write(target, format, lambda: read(picked)), *_others_of_record(source, picked))
        else:
            notes = _WRITERS[format](target, lambda: dataset.originals_of(written))
        target.flush()
    return Export(out, len(picked), len(written), target.size, target.sha256.hexdigest(), count, notes)


def rejections(run: Run, dataset: Dataset, picked: Indices, refusals: Iterable[Refusal] = ()) -> Iterator[bytes]:
    """Lines of JSON for what is not `picked`: each record once, in source order, then the refused rows."""
    table = dataset.table
    source, copy_of = table["row"].to_numpy(), table["copy_of"].to_numpy()
    rank = np.full(len(dataset), -1, dtype=np.int64)
    rank[run.selection.order] = np.arange(len(run.selection))
    chosen = np.zeros(len(dataset), dtype=bool)
    chosen[picked] = True
    left = np.flatnonzero(~np.isin(source, source[chosen]))
    left = left[np.argsort(source[left], kind="stable")]
    # Of several rows of one record the best ranked one speaks for it.
    place = np.where(rank[left] < 0, len(dataset), rank[left])
    left = left[_first_of_record(source[left], np.lexsort((place, source[left])))]
    ids = dataset.ids
    for row, original in zip(left, dataset.originals_of(left), strict=True):
        if rank[row] >= 0:
            place_of = f"rank {rank[row] + 1} of {len(run.selection)}"
            reason = f"not selected: {place_of}, beyond the budget of {len(picked)} rows"
        elif copy_of[row] != row:
            first = int(copy_of[row])
            reason = f"exact copy of row {ids[first]}, which was {'' if chosen[first] else 'not '}selected"
        else:
            quota = f" under the quota {run.config.quota}" if run.config.quota else ""
            reason = run.left_out.get(int(row), f"not selected: not among the {len(picked)} rows of the budget{quota}")
        head = json.dumps({"row": int(source[row]), "id": ids[int(row)], "reason": reason}, ensure_ascii=False)
        yield head[:-1].encode() + b', "record": ' + original.rstrip() + b"}"
    for refusal in refusals:
        reason = f"refused: {refusal.reason} (line {refusal.line})"
        record = {"row": refusal.row, "id": None, "reason": reason, "record": refusal.text}
        yield json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace")


def _jsonl(out: files.HashingFile, records: Callable[[], Iterator[bytes]]) -> tuple[str, ...]:
    for record in records():
        out.write(record + b"\n")
    return ()


_WRITERS: dict[str, Writer] = {"jsonl": _jsonl, "parquet": tables.parquet, "csv": tables.csv}
FORMATS: tuple[str, ...] = (*_WRITERS, *formats.FORMATS)


def _known(format: str) -> None:
    if format not in FORMATS:
        raise unknown("export format", format, FORMATS)


def picked_at(run: Run, k: int | None) -> Indices:
    """(k,) row indices of the first `k` picks, the run's own without one; raises ConfigError as `config_at` does."""
    if k is None or k == run.k:
        return run.picked
    config_at(run, k)  # raises for a budget that is no cut of this order
    return run.selection.order[:k]


def _others_of_record(source: Indices, picked: Indices) -> tuple[str, ...]:
    """A note on rows that were not picked though another row of their record was."""
    others = int(np.isin(source, source[picked]).sum()) - len(picked)
    if not others:
        return ()
    rows = "row is" if others == 1 else "rows are"
    return (f"{others:,} {rows} left out whose record gave another row that was picked (answers of one conversation).",)


def _check(run: Run, dataset: Dataset, out: Path, rejected: Path | None) -> None:
    if dataset.fingerprint != run.config.pool:
        raise ConfigError(
            f"{dataset.name} ({dataset.fingerprint[:12]}) is not the pool of run {run.id} ({run.config.pool[:12]})."
            " Export with the dataset that was selected from."
        )
    if rejected is not None and rejected.absolute() == out.absolute():
        raise ConfigError(f"The subset and the rejected rows cannot both go to {out}. Give two names.")
    for path in filter(None, (out, rejected)):
        if path.resolve() == dataset.originals.resolve():
            raise WorkspaceError(f"{path} holds the originals of the pool; writing there would destroy them.")


def _first_of_record(source: Indices, rows: Indices) -> Indices:
    """Of the given rows, in their order, the first one of each source record."""
    _, first = np.unique(source[rows], return_index=True)
    return rows[np.sort(first)]
