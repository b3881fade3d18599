"""A finished run on disk: what was asked, what was picked, and the evidence, read lazily and never changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from delift_core.config import RunConfig
from delift_core.errors import ConfigError, WorkspaceError
from delift_core.runs import files
from delift_core.runs.manifest import Input
from delift_core.runs.manifest import read as read_manifest
from delift_core.runs.manifest import summary as summary_of
from delift_core.runs.workspace import Workspace
from delift_core.types import Floats, Indices, Kind, Selection, Utility, concerns

Part = Literal["pool", "target", "existing"]
PARTS: tuple[Part, ...] = get_args(Part)
KINDS: tuple[Kind, ...] = get_args(Kind)
_LEFT_OUT = "left_out.parquet"
_SPARSE = ("data", "indices", "indptr")
_TABLE = pa.schema(
    [
        ("row", pa.int64()), ("id", pa.string()), ("rank", pa.int64()), ("gain", pa.float64()), ("value", pa.float64()),
        ("tokens", pa.int64()), ("chosen", pa.bool_()),
    ]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run.  Open it with `Run.open`; the pipeline makes it with `Run.write`."""

    config: RunConfig
    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, workspace: Workspace, id: str) -> Run:
        """Open a finished run; one that is missing, unfinished or damaged raises WorkspaceError with what to do."""
        folder = workspace.run_folder(id)
        if not cls.is_finished(workspace, id):
            state = workspace.catalogue.run(id).state  # an unknown run raises here
            raise WorkspaceError(f"Run {id} has no result yet (state: {state}). Start or resume it on the Run page.")
        try:
            manifest = read_manifest(folder / "manifest.json")
            config = RunConfig.from_json(files.read_json(folder / "config.json"))
            run = cls(config, folder, manifest)
            if not np.array_equal(run.picked, manifest["rows"]):
                raise WorkspaceError("its manifest names other rows than its table")
        except (WorkspaceError, ConfigError, KeyError) as error:
            raise WorkspaceError(f"Run {id} is damaged: {error}. Run it again; finished blocks are kept.") from error
        return run

    @staticmethod
    def is_finished(workspace: Workspace, id: str) -> bool:
        """True when the run's last file, the manifest, is in its place."""
        return (workspace.run_folder(id) / "manifest.json").is_file()

    @staticmethod
    def write(
        workspace: Workspace,
        config: RunConfig,
        selection: Selection,
        k: int,
        *,
        ids: Sequence[str],
        manifest: Mapping[str, Any],
        utilities: Mapping[Part, Iterable[Utility]] | None = None,
        tokens: Indices | None = None,
        left_out: Mapping[int, str] | None = None,
    ) -> Run:
        """Store a run whole: the order, its first `k` picks as chosen, the utilities, and last the manifest.

        `ids` are those of ALL rows of the pool (n,), `tokens` (n,) their token counts; `manifest` comes from
        `manifest.build`; `left_out` says of row indices why they could not be picked at all.
        The run is recorded in the catalogue with its summary; its state is the caller's.
        Raises WorkspaceError on a full disk; then the run counts as unfinished and nothing is half-written.
        """
        if not 0 <= k <= len(selection):
            raise ValueError(f"{k} picks of an order of {len(selection)}")
        folder = files.make_folder(workspace.run_folder(config.id))
        with files.disk_errors(folder, "replace"):
            (folder / "manifest.json").unlink(missing_ok=True)  # from here on the run counts as unfinished
        files.write_json(folder / "config.json", config.to_json())
        for part, several in (utilities or {}).items():
            for utility in several:
                write_utility(folder, part, utility)
        with files.atomic(folder / "selection.parquet") as out, pa.PythonFile(out, mode="w") as sink:
            pq.write_table(_table(selection, k, ids, tokens), sink, compression="zstd", write_page_checksum=True)
        if left_out:
            reasons = pa.table({"row": pa.array(left_out.keys(), pa.int64()), "reason": pa.array(left_out.values())})
            with files.atomic(folder / _LEFT_OUT) as out, pa.PythonFile(out, mode="w") as sink:
                pq.write_table(reasons, sink, compression="zstd", write_page_checksum=True)
        workspace.catalogue.add_run(config, command=manifest.get("command", ()))
        workspace.catalogue.update_run(config.id, summary=summary_of(manifest))
        files.write_json(folder / "manifest.json", manifest)
        return Run.open(workspace, config.id)

    def relabelled(self, workspace: Workspace, inputs: Sequence[Input]) -> Run:
        """The same run, its manifest naming the files that its rows were read from last.

        Names and places are no part of a manifest's hash, so it stays the same.
        """
        listed = [asdict(i) for i in inputs]
        if listed == self.manifest["inputs"]:
            return self
        manifest = {**self.manifest, "inputs": listed}
        files.write_json(self.folder / "manifest.json", manifest)
        stored = workspace.catalogue.run(self.id).summary
        workspace.catalogue.update_run(self.id, summary={**stored, **summary_of(manifest)})
        return Run.open(workspace, self.id)

    @property
    def id(self) -> str:
        """The hash of the configuration."""
        return self.config.id

    @property
    def k(self) -> int:
        """How many rows the budget keeps."""
        return len(self.manifest["rows"])

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the run and of its subset."""
        return [*self.notes_at(self.k), *self.manifest.get("subset_notes", ())]

    def notes_at(self, k: int) -> list[str]:
        """What a reader must know of the run and of its first `k` picks, whatever its own budget."""
        return [note for note in self.manifest["notes"] if concerns(note, k)]

    @property
    def fidelity(self) -> Mapping[str, Mapping[str, Any]]:
        """What checked rows say of the run's pair plan, by part; empty where every pair was scored."""
        found: Mapping[str, Mapping[str, Any]] = self.manifest.get("fidelity", {})
        return found

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds per stage."""
        return cast(Mapping[str, float], self.manifest["timings"])

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """The run in a few numbers: method, budget, rows, selected, value, full_value, share, seconds."""
        return summary_of(self.manifest)

    @cached_property
    def table(self) -> pa.Table:
        """row, id, rank, gain, value, tokens (-1 when not counted), chosen: one line per pick, in pick order."""
        path = self.folder / "selection.parquet"
        try:
            with files.disk_errors(path, "read"):
                table = pq.read_table(path, page_checksum_verification=True)
        except FileNotFoundError:
            raise WorkspaceError(f"{path.name} is missing") from None
        except (pa.ArrowException, OSError) as error:
            raise WorkspaceError(f"{path.name} cannot be read ({error})") from error
        if not table.schema.equals(_TABLE):
            raise WorkspaceError(f"{path.name} has other columns than expected")
        return table

    @cached_property
    def selection(self) -> Selection:
        """The full order that was computed, with gains and values; the budget keeps its first `k`."""
        return Selection(
            self.table["row"].to_numpy(),
            self.table["gain"].to_numpy(),
            self.table["value"].to_numpy(),
            float(self.manifest["full_value"] if self.manifest["full_value"] is not None else np.nan),
            bool(self.manifest["nested"]),
            tuple(self.manifest["notes"]),
        )

    @property
    def picked(self) -> Indices:
        """(k,) pool row indices, in pick order."""
        return self.selection.order[: self.k]

    @cached_property
    def tokens(self) -> Indices | None:
        """Tokens of each row in pick order, as long as `selection`; None when they were not counted."""
        tokens: Indices = self.table["tokens"].to_numpy()
        return tokens if len(tokens) and tokens.min() >= 0 else None

    @cached_property
    def left_out(self) -> Mapping[int, str]:
        """Why rows of the pool could not be picked at all, by row index; empty where every row could."""
        path = self.folder / _LEFT_OUT
        if not path.is_file():
            return {}
        try:
            with files.disk_errors(path, "read"):
                table = pq.read_table(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise WorkspaceError(f"{path.name} cannot be read ({error})") from error
        return dict(zip(table["row"].to_pylist(), table["reason"].to_pylist(), strict=True))

    @property
    def utilities(self) -> tuple[tuple[Part, Kind], ...]:
        """Which utilities are stored, as (part, kind)."""
        folder = self.folder / "evidence"
        return tuple((p, k) for p in PARTS for k in KINDS if (folder / f"{p}.{k}.candidates.npy").is_file())

    def utility(self, part: Part = "pool", kind: Kind | None = None) -> Utility:
        """One stored utility in raw units, memory-mapped; without `kind`, the one the run used.

        Raises WorkspaceError when it is not there, with what there is.
        """
        present = self.utilities
        if kind is None:
            kinds = [k for p, k in present if p == part]
            kind = next((k for k in kinds if k == self.config.kind), kinds[0] if kinds else None)
        if kind is None or (part, kind) not in present:
            found = ", ".join(f"{p} {k}" for p, k in present) or "none"
            asked = f"{part} {kind}" if kind else part
            raise WorkspaceError(f"Run {self.id} has no utility {asked}. Stored: {found}.")
        return read_utility(self.folder, part, kind)

    def map(self) -> dict[str, Floats] | None:
        """Coordinates (n, 2) of the map by part ("pool", and "target", "existing" where drawn); None until drawn."""
        found: dict[str, Floats] = {}
        for part in PARTS:
            path = _map_path(self.folder, part)
            if path.is_file():
                try:
                    array = files.read_array(path)
                except WorkspaceError:
                    return None  # an unreadable map counts as not drawn
                if array.ndim != 2 or array.shape[1] != 2:
                    return None
                found[part] = array
        return found if "pool" in found else None

    def write_map(self, coordinates: Mapping[str, Floats]) -> None:
        """Store the map's coordinates by part, each (n, 2); the pool's come last, so a map is whole or not there."""
        if "pool" not in coordinates:
            raise ValueError("a map needs the pool's coordinates")
        for part in sorted(coordinates, key=PARTS.index, reverse=True):
            array = np.asarray(coordinates[part], dtype=np.float32)
            if array.ndim != 2 or array.shape[1] != 2:
                raise ValueError(f"coordinates of shape {array.shape} for {part}, expected (n, 2)")
            files.write_array(_map_path(self.folder, part), array)


def write_utility(folder: Path, part: Part, utility: Utility) -> None:
    """Store a utility under a run's folder: plain .npy files, the candidates last as the sign that all are there."""
    if part not in PARTS:
        raise ValueError(f"{part!r} is not one of {PARTS}")
    evidence = files.make_folder(folder / "evidence")
    stem = f"{part}.{utility.kind}"
    last = evidence / f"{stem}.candidates.npy"
    with files.disk_errors(last, "replace"):
        for old in evidence.glob(f"{stem}.*npy"):
            if re.fullmatch(rf"{re.escape(stem)}(\.[a-z]+)?\.npy", old.name):
                old.unlink(missing_ok=True)
    if isinstance(utility.values, np.ndarray):
        files.write_array(evidence / f"{stem}.npy", utility.values)
    else:
        for name in _SPARSE:
            files.write_array(evidence / f"{stem}.{name}.npy", getattr(utility.values, name))
    for name in ("baseline", "weights"):
        if getattr(utility, name) is not None:
            files.write_array(evidence / f"{stem}.{name}.npy", getattr(utility, name))
    files.write_array(evidence / f"{stem}.helped.npy", np.asarray(utility.helped, dtype=np.int64))
    files.write_array(last, np.asarray(utility.candidates, dtype=np.int64))


def read_utility(folder: Path, part: Part, kind: Kind) -> Utility:
    """Read what `write_utility` stored, memory-mapped; a damaged file raises WorkspaceError."""
    stem = folder / "evidence" / f"{part}.{kind}"

    def read(name: str, mapped: bool = True) -> Any:
        return files.read_array(stem.with_name(f"{stem.name}{name}.npy"), mapped=mapped)

    candidates, helped = read(".candidates", False), read(".helped", False)
    baseline, weights = (
        read(name, False) if stem.with_name(f"{stem.name}{name}.npy").is_file() else None
        for name in (".baseline", ".weights")
    )
    if stem.with_name(f"{stem.name}.npy").is_file():
        values = read("")
    else:
        from scipy import sparse

        shape = (len(helped), len(candidates))
        values = sparse.csc_array(tuple(read(f".{name}") for name in _SPARSE), shape=shape, copy=False)
    try:
        return Utility(values, helped, candidates, kind, baseline, weights)
    except ValueError as error:
        raise WorkspaceError(f"{stem} is damaged: {error}. Run it again; finished blocks are kept.") from error


def _map_path(folder: Path, part: str) -> Path:
    return folder / ("map.npy" if part == "pool" else f"map_{part}.npy")


def _table(selection: Selection, k: int, ids: Sequence[str], tokens: Indices | None) -> pa.Table:
    order = np.asarray(selection.order, dtype=np.int64)
    rank = np.arange(len(order))
    columns = {
        "row": order,
        "id": pa.array([ids[int(row)] for row in order], pa.string()),
        "rank": rank,
        "gain": selection.gains,
        "value": selection.value,
        "tokens": np.asarray(tokens, dtype=np.int64)[order] if tokens is not None else np.full(len(order), -1),
        "chosen": rank < k,
    }
    return pa.table(columns, schema=_TABLE)
