"""GOT-D (arXiv 2405.02774): rows whose added mass moves the pool's distribution fastest towards the target's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from delift_core.selection.ranked import cut
from delift_core.selection.sampled_transport import SampledTransport, descending
from delift_core.types import Evidence, Limit, Progress, Selection, no_progress


@dataclass(frozen=True)
class TransportGradient(SampledTransport):
    """Rank rows by the gradient of the optimal-transport distance from pool to target in the row's own mass.

    The problem is solved on a random sample of the pool and extended to all rows by one soft c-transform.  The
    calibrated gradient of row i is f_i - mean_{l != i} f_l; the most negative go first, ties to the lowest position.

    `gains` of the selection are minus the calibrated gradients (squared distance of unit vectors per unit of mass: to
    first order, how much the distance falls when mass moves from the other rows onto this one).  They fall along the
    order and turn negative where a row draws the pool away from the target.  `value` is their running sum: it is
    highest where they change sign, and 0 for the whole pool, so `full_value` is 0 and `share` NaN.
    """

    name: ClassVar[str] = "got-d"
    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"vectors", "target_vectors"})

    def select(self, evidence: Evidence, limit: Limit, *, seed: int = 0, progress: Progress = no_progress) -> Selection:
        """Take the rows of the most negative calibrated gradient; with a token limit, those that still fit.

        Raises ConfigError when a vector is not finite or there is no target.
        """
        gradient, notes = self.gradients(evidence, seed=seed, progress=progress)
        return cut(evidence, descending(-gradient), -gradient, limit, notes=notes)
