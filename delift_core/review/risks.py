"""What could be wrong with chosen rows: near-copies among them, rows of an evaluation file, personal data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from delift_core.data import leaks, open_dataset
from delift_core.data.checks import Finding, masked, personal_data
from delift_core.encoded import reads_whole, sentence_encoder, vectors_of
from delift_core.nearcopies import MEMBERS, SHOWN, THRESHOLD, CopySet, NearCopies
from delift_core.neighbours import KEPT, kept_graph, near_copies
from delift_core.runs import Workspace
from delift_core.types import Dataset, Indices, Progress, no_progress

EXAMPLES = 5  # of each kind of personal data
_BATCH = 1_000


@dataclass(frozen=True)
class Personal:
    """Personal data in rows: which rows hold each kind, the most frequent kind first, and masked examples."""

    looked_at: int
    rows: Mapping[str, tuple[int, ...]]  # kind -> row indices, in the order they were given
    examples: tuple[Finding, ...]

    @property
    def every(self) -> tuple[int, ...]:
        """Every row that holds some, once, ascending."""
        return tuple(sorted({row for rows in self.rows.values() for row in rows}))

    @property
    def sentence(self) -> str:
        """The finding."""
        if not self.rows:
            return f"No personal data was found in {self.looked_at:,} rows."
        kinds = ", ".join(f"{kind} {len(rows):,}" for kind, rows in self.rows.items())
        return f"{len(self.every):,} of {self.looked_at:,} rows seem to hold personal data: {kinds}."


def personal_in(dataset: Dataset, rows: Indices, *, progress: Progress = no_progress) -> Personal:
    """Look through prompt and response of the given rows for patterns of personal data (`checks.personal_data`).

    Progress: stage "personal data", in rows.
    """
    found: dict[str, list[int]] = defaultdict(list)
    examples: list[Finding] = []
    for start in range(0, len(rows), _BATCH):
        progress("personal data", start, len(rows))
        part = rows[start : start + _BATCH]
        table = dataset.table.select(["prompt", "response"]).take(part)
        for row, prompt, response in zip(
            part.tolist(), table["prompt"].to_pylist(), table["response"].to_pylist(), strict=True
        ):
            for kind, text in personal_data(f"{prompt}\n{response or ''}").items():
                found[kind].append(row)
                if len(found[kind]) <= EXAMPLES:
                    examples.append(Finding(row, kind, masked(text)))
    progress("personal data", len(rows), len(rows))
    order = sorted(found, key=lambda kind: (-len(found[kind]), kind))
    shown = sorted(examples, key=lambda one: order.index(one.kind))
    return Personal(len(rows), {kind: tuple(found[kind]) for kind in order}, tuple(shown))


def close_to(
    dataset: Dataset,
    rows: Indices,
    other: Dataset,
    how: Collection[str] = ("exact", "normalised"),
    *,
    progress: Progress = no_progress,
) -> leaks.Leaks:
    """Which of the given rows are too close to a row of another dataset (`leaks.find`); rows are indices of `dataset`.

    Raises ConfigError for an unknown level.
    """
    ordered = np.sort(rows)
    chosen = replace(dataset, table=dataset.table.take(ordered))
    found = leaks.find(chosen, other, how, progress=progress)
    return leaks.Leaks(
        tuple(replace(leak, row=int(ordered[leak.row])) for leak in found), len(ordered), len(other)
    )  # fmt: skip


def near_copies_in(
    ws: Workspace,
    fingerprint: str,
    rows: Indices,
    *,
    encoder: str = "fast",
    threshold: float = THRESHOLD,
    progress: Progress = no_progress,
) -> NearCopies:
    """Near-copies among the given rows of a dataset, as `nearcopies.find_near_copies` finds them in all of it.

    The vectors are those of the whole dataset, so that they are read from the workspace where anybody has asked for
    them before.  Raises ConfigError for a threshold outside (0, 1], ModelError where the encoder cannot be loaded.
    """
    dataset = open_dataset(ws.dataset_folder(fingerprint))
    whole = reads_whole([dataset])
    reader = sentence_encoder(encoder, ws.models)
    every = vectors_of(dataset, dataset.unique, reader, ws.blocks, whole=whole, progress=progress)
    chosen = np.intersect1d(rows, dataset.unique)
    vectors = np.ascontiguousarray(every[np.searchsorted(dataset.unique, chosen)])
    codes = near_copies(vectors, *kept_graph(vectors, KEPT, ws.blocks, progress=progress), threshold)
    firsts, sizes = np.unique(codes, return_counts=True)
    firsts, sizes = firsts[sizes > 1], sizes[sizes > 1]
    sets = []
    for first in firsts[np.lexsort((firsts, -sizes))[:SHOWN]].tolist():
        others = np.flatnonzero(codes == first)
        others = others[others != first]
        cosines = np.minimum(vectors[others] @ vectors[first], 1)
        least = np.argsort(cosines, kind="stable")[:MEMBERS]
        members = chosen[[first, *others[least]]]
        sets.append(CopySet(len(others) + 1, tuple(members.tolist()), (1.0, *cosines[least].round(6).tolist())))
    notes = () if whole else ("Some rows have no response, so the prompts alone were compared.",)
    return NearCopies(
        fingerprint, encoder, threshold, len(chosen), int(sizes.sum()), len(firsts), tuple(sets), notes
    )  # fmt: skip
