"""Which rows of an instruction dataset are worth training on, and why.

>>> import delift_core
>>> run = delift_core.select("pool.jsonl", budget="30%", method="delift-se")  # doctest: +SKIP
>>> run.picked  # doctest: +SKIP

Names are imported when first used, so that `import delift_core` loads neither numpy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delift_core.config import Budget, RunConfig
    from delift_core.errors import DeliftError
    from delift_core.pipeline import add_dataset, check, estimate, run, select
    from delift_core.runs.run import Run
    from delift_core.runs.workspace import Workspace
    from delift_core.types import Dataset, Selection, Utility

__version__ = "0.1.0"

_HOMES = {
    "Budget": "config",
    "RunConfig": "config",
    "DeliftError": "errors",
    "add_dataset": "pipeline",
    "check": "pipeline",
    "estimate": "pipeline",
    "run": "pipeline",
    "select": "pipeline",
    "Run": "runs.run",
    "Workspace": "runs.workspace",
    "Dataset": "types",
    "Selection": "types",
    "Utility": "types",
}

__all__ = [
    "Budget",
    "Dataset",
    "DeliftError",
    "Run",
    "RunConfig",
    "Selection",
    "Utility",
    "Workspace",
    "add_dataset",
    "check",
    "estimate",
    "run",
    "select",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
