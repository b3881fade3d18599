"""Compiled work on several cores: kernels release the interpreter's lock, so plain threads do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

MOST = 8  # cores beyond which memory, not arithmetic, is what is waited for


def cores() -> int:
    """How many cores this process may use, up to MOST."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST, allowed))


def side_by_side(work: Sequence[Callable[[], object]]) -> None:
    """Do all of it, one thread each, and come back when the last is done; the first error is raised."""
    if len(work) == 1:
        work[0]()
        return
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(each) for each in work]:
            done.result()
