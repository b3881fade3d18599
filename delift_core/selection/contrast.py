"""GOT-D turned round: rows whose added mass moves the pool's distribution fastest away from the existing data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from delift_core.selection.ranked import cut
from delift_core.selection.sampled_transport import SampledTransport, descending
from delift_core.types import Evidence, Limit, Progress, Selection, no_progress


@dataclass(frozen=True)
class TransportContrast(SampledTransport):
    """Rank rows by the gradient of the optimal-transport distance from pool to existing data, highest first.

    The existing rows are what to move away from: data already trained on, or data of a kind that is not wanted.  The
    gradient is that of `TransportGradient` [GOT-D, arXiv 2405.02774] with the existing rows as its target; only the end
    of the ranking is the other one.

    `gains` are the calibrated gradients themselves: to first order, how much the distance from the existing data grows
    when mass moves from the other rows onto this one.  They fall along the order and turn negative where a row draws
    the pool towards the existing data.  `value` is their running sum; it is 0 for the whole pool, so `full_value` is 0
    and `share` NaN.
    """

    name: ClassVar[str] = "got-d-contrast"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"vectors", "existing_vectors"})
    other: ClassVar[str] = "existing"

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take the rows of the highest calibrated gradient; with a token limit, those that still fit.

        Raises ConfigError when a vector is not finite or there is no existing row.
        """
        gradient, notes = self.gradients(evidence, seed=seed, progress=progress)
        return cut(evidence, descending(gradient), gradient, limit, notes=notes)
