"""A smaller budget of a finished run has the manifest that a run with that budget writes."""

from __future__ import annotations

import pytest

from delift_core import pipeline
from delift_core.errors import ConfigError
from delift_core.runs import cut
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace


def test_the_manifest_of_a_cut_is_the_manifest_of_a_run_with_that_budget(ws: Workspace, finished: Run) -> None:
    whole = pipeline.run(ws, finished.config.with_(budget="4"))
    made = cut.manifest_at(finished, 4, command=("delift", "select"))
    assert made["hash"] == whole.manifest["hash"]
    assert (made["run"], made["ids"], made["rows"]) == (whole.id, whole.manifest["ids"], whole.manifest["rows"])
    assert made["value"] == whole.manifest["value"]


def test_the_run_s_own_budget_is_the_run_itself(finished: Run) -> None:
    assert cut.config_at(finished, finished.k) == finished.config
    assert cut.manifest_at(finished, finished.k) == dict(finished.manifest)


@pytest.mark.parametrize("k", [0, -1, 1000])
def test_a_budget_outside_the_order_is_refused(finished: Run, k: int) -> None:
    with pytest.raises(ConfigError, match="order of 38"):
        cut.config_at(finished, k)
