"""Workspace, catalogue, jobs, blocks on disk, manifest and export."""

from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace

__all__ = ["Run", "Workspace"]
