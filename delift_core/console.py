"""How the command line talks: progress with the time left, tables, durations."""

from __future__ import annotations

import sys
import time
from typing import Any

from delift_core import stages


def duration(seconds: float) -> str:
    """Seconds as a person says them: "42 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


class Bar:
    """A `Progress` on standard error: one line, rewritten on a terminal; elsewhere one line per tenth of a stage."""

    def __init__(self) -> None:
        self.stage, self.text, self.started, self.shown, self.open = "", "", 0.0, -1.0, False
        self.terminal = sys.stderr.isatty()

    def __call__(self, stage: str, done: float, total: float, note: str = "") -> None:
        """Show it, unless too little has changed since the last time."""
        now = time.monotonic()
        if stage != self.stage:
            self.close()
            self.stage, self.started, self.shown, self.first = stage, now, -1.0, done
        share = done / total if total else 1.0
        step = 0.005 if self.terminal else 0.1
        if share == self.shown or (share < 1 and share - self.shown < step):
            return
        self.shown = share
        fresh = done - self.first  # blocks found on disk took no time, so they must not count towards the speed
        left = (now - self.started) * (total - done) / fresh if fresh > 0 else None
        text = (
            stages.told(stage, done, total)
            + (f", {duration(left)} left" if left and share < 1 else "")
            + (f"  {note}" if note else "")
        )
        if text == self.text:
            return
        self.text, self.open = text, self.terminal
        print(
            f"\r\033[K{text}" if self.terminal else text, end="" if self.terminal else "\n", file=sys.stderr, flush=True
        )

    def close(self) -> None:
        """End the line, so that what follows starts on its own."""
        if self.open:
            print(file=sys.stderr)
            self.open = False


def table(answer: dict[str, Any]) -> str:
    """A JSON object as lines for a person."""
    width = max(map(len, answer), default=0)
    return "\n".join(f"{key:<{width}}  {_cell(value)}" for key, value in answer.items() if value is not None)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
