"""What a run keeps beside its table, so that it can be chosen again without a model: tokens, row scores, guesses.

Runs that were made before these were kept do not have them, and every reader answers None then.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from delift_core.errors import WorkspaceError
from delift_core.runs import files
from delift_core.runs.run import Part, Run, read_utility, write_utility
from delift_core.types import Indices, Kind, Scores, Utility

_TOKENS, _SCORES, _USED = "tokens.npy", "scores.npz", "used"


def write(
    folder: Path,
    *,
    tokens: Indices | None = None,
    scores: Scores | None = None,
    used: Mapping[Part, Utility] | None = None,
) -> None:
    """Keep what a run came by.  Raises WorkspaceError on a full disk.

    Args:
        folder: the run's.
        tokens: (N,) of every row of the pool.
        scores: of the candidates.
        used: by part, the utility that the objective saw where that is not the stored one: with predicted pairs.
    """
    evidence = files.make_folder(folder / "evidence")
    if tokens is not None:
        files.write_array(evidence / _TOKENS, np.asarray(tokens, np.int64))
    if scores is not None:
        buffer = io.BytesIO()
        np.savez(
            buffer, values=scores.values, candidates=scores.candidates, name=np.array(scores.name),
            higher_is_better=np.array(scores.higher_is_better), notes=np.array(scores.notes, dtype=np.str_),
        )  # fmt: skip
        with files.atomic(evidence / _SCORES) as out:
            out.write(buffer.getvalue())
    for part, utility in (used or {}).items():
        write_utility(files.make_folder(folder / _USED), part, utility)


def tokens(run: Run) -> Indices | None:
    """Tokens of every row of the pool (N,); None where the run did not keep them."""
    path = run.folder / "evidence" / _TOKENS
    return files.read_array(path) if path.is_file() else None


def scores(run: Run) -> Scores | None:
    """The row scores that the run's objective looked at; None where it looked at none, or did not keep them."""
    path = run.folder / "evidence" / _SCORES
    if not path.is_file():
        return None
    try:
        with files.disk_errors(path, "read"), np.load(path, allow_pickle=False) as kept:
            return Scores(
                kept["values"], kept["candidates"], bool(kept["higher_is_better"]), str(kept["name"]),
                tuple(kept["notes"].tolist()),
            )  # fmt: skip
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise WorkspaceError(f"{path} is damaged: {error}. Run it again; finished blocks are kept.") from error


def used(run: Run, part: Part, kind: Kind) -> Utility | None:
    """The utility with predicted pairs that the objective saw; None where it saw the stored one."""
    if not (run.folder / _USED / "evidence" / f"{part}.{kind}.candidates.npy").is_file():
        return None
    return read_utility(run.folder / _USED, part, kind)
