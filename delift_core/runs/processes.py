"""Is the process that works on a job still the same one, and does it live?"""

from __future__ import annotations

import os
import platform
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_SAME_BIRTH_SECONDS = 2.0  # start times are rounded to a second; a number is not recycled so fast
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Owner:
    """A process: its number alone is not enough, since numbers are used again."""

    pid: int
    born: float  # seconds since the machine started, which no correction of the clock moves
    host: str  # the machine, and which start of it

    @property
    def here(self) -> bool:
        """True when it runs on this machine, so that it can be looked at."""
        return self.host == machine()

    @property
    def alive(self) -> bool:
        """True when this very process runs on this machine: not ended, not a zombie, not another of the same number."""
        return self.here and _running(self) is not None

    def kill_group(self) -> bool:
        """Kill the process and all of its group, if it leads one and is not ours; True when a signal was sent.

        A process that runs in somebody else's group (a terminal's) is left alone.
        """
        if not self.here or self.pid == os.getpid() or os.name == "nt" or _running(self) is None:
            return False
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, signal.SIGKILL)
                return True
        return False


@cache
def machine() -> str:
    """The name of this machine and which of its starts this is."""
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.is_file() else ""
    return f"{platform.node()} {boot[:8]}".strip()


def of(pid: int) -> Owner:
    """The process that has this number on this machine now; born -1 when there is none."""
    try:
        return Owner(pid, _born(psutil.Process(pid)), machine())
    except psutil.Error:
        return Owner(pid, -1.0, machine())


def me() -> Owner:
    """This process."""
    return of(os.getpid())


def _born(process: psutil.Process) -> float:
    return process.create_time() - psutil.boot_time()


def _running(owner: Owner) -> psutil.Process | None:
    try:
        process = psutil.Process(owner.pid)
        if abs(_born(process) - owner.born) > _SAME_BIRTH_SECONDS:
            return None
        return None if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else process
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:  # it lives, but belongs to somebody else
        return process
