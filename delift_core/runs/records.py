"""What the catalogue answers with: frozen records.  Times are seconds since 1970 (UTC)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from delift_core.config import RunConfig
from delift_core.runs import processes

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
JobKind = Literal["run", "map", "multishot", "stability"]
FINAL: frozenset[str] = frozenset({"done", "failed", "cancelled", "interrupted"})
SILENT_SECONDS = 60.0  # a worker on another machine that said nothing for so long counts as dead


@dataclass(frozen=True)
class DatasetRecord:
    """A dataset that was loaded into the workspace.  Times are seconds since 1970 (UTC)."""

    fingerprint: str
    name: str
    schema: str
    rows: int
    refused: int
    source: str  # where it came from, for people; nothing is opened by it
    roles: tuple[str, ...]  # what it was used as: "pool", "target", "existing"
    labelled: bool
    added: float


@dataclass(frozen=True)
class JobRecord:
    """A subprocess that computes a run or draws its map, as last heard of."""

    run: str
    kind: JobKind
    state: State
    stage: str
    done: float
    total: float
    eta: float | None  # seconds left in this stage
    note: str
    pid: int | None
    born: float | None  # when it started (seconds since the machine did): a recycled number is another one
    host: str
    heartbeat: float | None
    started: float | None
    finished: float | None
    error: str
    cancel_at: float | None  # when cancelling was asked for

    @property
    def share(self) -> float:
        """Done over total of the stage, in [0, 1]."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 0.0

    def is_alive(self) -> bool:
        """True while its worker lives; one on another machine is judged by its last sign of life."""
        if self.owner is None:
            return False
        if self.owner.here:
            return self.owner.alive
        return self.heartbeat is not None and time.time() - self.heartbeat < SILENT_SECONDS

    @property
    def owner(self) -> processes.Owner | None:
        """The process that works on it, dead or alive."""
        if self.pid is None:
            return None
        return processes.Owner(self.pid, -1.0 if self.born is None else self.born, self.host)


@dataclass(frozen=True)
class RunRecord:
    """A run, finished or not.  `settings` is the stored form of `config`."""

    id: str
    settings: Mapping[str, Any]
    command: tuple[str, ...]  # the command line that asked for it
    created: float
    summary: Mapping[str, Any]
    hidden: bool
    job: JobRecord

    @property
    def config(self) -> RunConfig:
        """The configuration; one of another format raises ConfigError."""
        return RunConfig.from_json(dict(self.settings))

    @property
    def state(self) -> State:
        """What is stored; `jobs.state` also looks whether the worker still lives."""
        return self.job.state

    @property
    def stage(self) -> str:
        """The stage it is in."""
        return self.job.stage

    @property
    def done(self) -> float:
        """How much of the stage is done, in the stage's own unit."""
        return self.job.done

    @property
    def total(self) -> float:
        """How much the stage has to do."""
        return self.job.total

    @property
    def eta(self) -> float | None:
        """Seconds left in this stage."""
        return self.job.eta

    @property
    def note(self) -> str:
        """What the stage says about itself."""
        return self.job.note

    @property
    def pid(self) -> int | None:
        """The worker's process."""
        return self.job.pid

    @property
    def heartbeat(self) -> float | None:
        """When the worker was last heard of."""
        return self.job.heartbeat

    @property
    def started(self) -> float | None:
        """When the worker began (the last one, after a resume)."""
        return self.job.started

    @property
    def finished(self) -> float | None:
        """When it ended, whichever way."""
        return self.job.finished

    @property
    def error(self) -> str:
        """Why it failed; empty otherwise."""
        return self.job.error


@dataclass(frozen=True)
class Edit:
    """One change a person made to a run's selection: who, when, what, why."""

    id: int
    run: str
    action: str  # "pin", "ban", ...
    rows: tuple[int, ...]
    reason: str
    who: str
    at: float
    undone: bool


@dataclass(frozen=True)
class View:
    """A page's settings that were saved under a name."""

    name: str
    run: str
    page: str
    settings: Mapping[str, Any]
    who: str
    at: float
