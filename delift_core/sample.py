"""The shipped sample: real rows, a small target and a finished run, so that a first visit meets no empty page."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.errors import WorkspaceError
from delift_core.runs import Run, Workspace, files

FOLDER = Path(__file__).parents[1] / "assets" / "sample"
NAMES = {"pool": "Sample pool", "target": "Sample target"}


def available(folder: Path = FOLDER) -> bool:
    """Whether this copy of the project ships the sample."""
    return all(
        (folder / name).is_file() for name in ("pool.jsonl", "target.jsonl", "run/config.json", "run/manifest.json")
    )


def config(folder: Path = FOLDER) -> RunConfig:
    """The configuration of the sample run; raises WorkspaceError where this copy ships none."""
    if not available(folder):
        raise WorkspaceError(
            f"This copy ships no sample in {folder}. Load a file of your own, or get the project whole."
        )
    return RunConfig.from_json(json.loads((folder / "run" / "config.json").read_text(encoding="utf-8")))


def install(ws: Workspace, folder: Path = FOLDER) -> str:
    """Put the sample's datasets and its finished run into the workspace; returns the run's id.

    Does nothing where it is there already.  Raises WorkspaceError when the shipped run does not belong to the shipped
    rows, or when there is no sample.
    """
    shipped = config(folder)
    if Run.is_finished(ws, shipped.id) and any(
        r.id == shipped.id and r.state == "done" for r in ws.catalogue.runs(hidden=True)
    ):
        return shipped.id
    for role, wanted in (("pool", shipped.pool), ("target", shipped.target)):
        found = pipeline.add_dataset(ws, folder / f"{role}.jsonl", role=role, name=NAMES[role]).fingerprint
        if found != wanted:
            raise WorkspaceError(
                f"The sample's run was made from other {role} rows ({str(wanted)[:12]}, now {found[:12]}). "
                "Build the sample again with this version: make sample."
            )
    for block in (folder / "blocks").glob("*/*.npz"):  # so that other picks of these rows score nothing anew
        with files.disk_errors(ws.blocks.folder):
            place = files.make_folder(ws.blocks.folder / block.parent.name) / block.name
            if not place.exists():
                with files.atomic(place) as out:
                    out.write(block.read_bytes())
    _copy(folder / "run", ws.run_folder(shipped.id))
    ws.catalogue.add_run(shipped)
    done = Run.open(ws, shipped.id)
    ws.catalogue.update_run(shipped.id, state="done", summary=pipeline.summary_of(done))
    return shipped.id


def _copy(source: Path, target: Path) -> None:
    """Copy a folder so that it is there whole or not at all."""
    part = target.with_name(f".{target.name}-{secrets.token_hex(4)}.part")
    files.make_folder(target.parent)
    with files.disk_errors(target):
        try:
            shutil.copytree(source, part)
            if target.exists():
                shutil.rmtree(target)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
