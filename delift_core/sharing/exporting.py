"""What a finished run is handed on as: a file in any format, its first record, and where it may be written."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from delift_core.data import Report, open_dataset, place_and_split, read_report, refusals
from delift_core.errors import ConfigError, unknown
from delift_core.runs import Run, Workspace, files, formats, tables
from delift_core.runs import export as written
from delift_core.runs.export import Export
from delift_core.runs.formats import Chat
from delift_core.sharing.chats import chats_of
from delift_core.types import Dataset, Indices

LONGEST_NAME = 255  # bytes of a file name that file systems take
ENDINGS = {".jsonl": "jsonl", ".parquet": "parquet", ".csv": "csv"}  # of those formats that an ending names
FORMATS = written.FORMATS
LOOKED_AT = 200  # picks that decide what a preview shows


def ending_of(format: str) -> str:
    """The ending of a file in this format; an unknown one raises ConfigError."""
    if format in formats.FORMATS:
        return formats.FORMATS[format].ending
    for ending, name in ENDINGS.items():
        if name == format:
            return ending
    raise unknown("export format", format, FORMATS)


def endings_of(format: str | None) -> tuple[str, ...]:
    """The endings that a file may have: that of the format, or without one those that name a format themselves."""
    return tuple(ENDINGS) if format is None else (ending_of(format),)


def check_out(
    out: str | Path | None,
    rejected: str | Path | None,
    sources: Iterable[str | Path | None] = (),
    *,
    endings: Sequence[str] = tuple(ENDINGS),
) -> None:
    """Raise ConfigError, before any work is done, for names that an export could not be written under.

    `sources` are the files that the run is made from, which an export must never replace.
    """
    if rejected and not out:
        raise ConfigError("The rejected rows are written beside a subset. Give --out as well.")
    read = {Path(place_and_split(source)[0]).resolve() for source in sources if source}
    for place in [Path(p) for p in (out, rejected) if p]:
        if len(os.fsencode(place.name)) > LONGEST_NAME:
            raise ConfigError(f"The file name {place.name[:60]}… is too long. Give a shorter one.")
        if not place.absolute().parent.is_dir():
            raise ConfigError(f"The folder of {place} does not exist. Create it, or choose another place.")
        if place.is_dir():
            raise ConfigError(
                f"{place} is a folder. Give the name of a file in it, such as {place / f'subset{endings[0]}'}."
            )
        if place.resolve() in read:
            raise ConfigError(f"{place} is a file that this run is made from. Give another name, so that it is kept.")
    if out and Path(out).suffix not in endings:
        zips = [name for name, f in formats.FORMATS.items() if f.ending == Path(out).suffix == ".zip"]
        hint = f" For a .zip say which: --format {' or '.join(zips)}." if zips else ""
        raise ConfigError(f"{out}: the ending says the format, one of {', '.join(endings)}.{hint}")
    if out and rejected and Path(out).resolve() == Path(rejected).resolve():
        raise ConfigError(f"The subset and the rejected rows are both to be written to {out}. Give two names.")


def sources_of(done: Run) -> list[str]:
    """The files that a run was made from, which no export may replace."""
    return [entry["source"] for entry in done.manifest["inputs"] if entry["source"]]


def export_run(
    ws: Workspace,
    done: Run,
    out: str | Path,
    *,
    format: str | None = None,
    k: int | None = None,
    rejected: str | Path | None = None,
) -> Export:
    """Write a run's subset to `out` in a format of `FORMATS`, and the other records with reasons to `rejected`.

    Without `format` the ending of `out` says it.  `k` takes another budget than the run's, where its order is nested.
    Both files appear whole or not at all.  Raises ConfigError for names, formats and budgets that cannot be, and for
    rows without a response in a training format; WorkspaceError where the disk refuses.
    """
    check_out(out, rejected, sources_of(done), endings=endings_of(format))
    format = format or ENDINGS[Path(out).suffix]
    folder = ws.dataset_folder(done.config.pool)
    dataset, report = open_dataset(folder), read_report(folder)
    check_responses(dataset, written.picked_at(done, k), format)
    return written.write_subset(
        done, dataset, Path(out), format=format, k=k,
        rejected=Path(rejected) if rejected else None, refusals=refusals(folder) if rejected else (),
        chats=reader(dataset, report),
    )  # fmt: skip


def check_responses(dataset: Dataset, picked: Indices, format: str) -> None:
    """Raise ConfigError where a training format is asked for and a picked row has no response."""
    if format not in formats.FORMATS or dataset.labelled:
        return
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.binary_length(dataset.table["response"]), 0).to_numpy()[picked]
    if missing := int((lengths == 0).sum()):
        raise ConfigError(
            f"{missing:,} of the {len(picked):,} picked rows of {dataset.name} have no response, and {format} holds "
            "prompt and response. Export as jsonl, parquet or csv."
        )


def reader(dataset: Dataset, report: Report) -> Callable[[Indices], Iterator[Chat]]:
    """What `write_subset` reads the turns of rows with."""

    def chats(rows: Indices) -> Iterator[Chat]:
        return chats_of(dataset, report, rows)

    return chats


@dataclass(frozen=True)
class Preview:
    """The first record of an export, and what is already known to be said of it."""

    text: str
    notes: tuple[str, ...]
    rows: int  # picks that were looked at


def preview(ws: Workspace, done: Run, format: str, k: int | None = None) -> Preview:
    """The first record as the format holds it, from a look at the first `LOOKED_AT` picks.

    Raises ConfigError for an unknown format or budget, and for rows without a response in a training format.
    """
    if format not in FORMATS:
        raise unknown("export format", format, FORMATS)
    picked = written.picked_at(done, k)[:LOOKED_AT]
    folder = ws.dataset_folder(done.config.pool)
    dataset = open_dataset(folder)
    if format in formats.FORMATS:
        check_responses(dataset, picked, format)
        survey = formats.Survey()
        chats = list(chats_of(dataset, read_report(folder), picked))
        for chat in chats:
            survey.add(chat)
        record = formats.record_of(format, chats[0], survey)
        return Preview(json.dumps(record, ensure_ascii=False, indent=2), formats.notes_of(format, survey), len(picked))
    first = next(dataset.originals_of(picked[:1]))
    if format == "csv":
        text = io.BytesIO()
        notes = tables.csv(files.HashingFile(text), lambda: dataset.originals_of(picked[:1]))
        return Preview(text.getvalue().decode("utf-8", "replace"), notes, 1)
    shown = first.decode("utf-8", "replace")
    return Preview(shown if format == "jsonl" else json.dumps(json.loads(first), ensure_ascii=False, indent=2), (), 1)
