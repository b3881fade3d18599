"""A worker process that keeps a model loaded between questions, and the two ends of talking to it.

Questions and answers are JSON objects, one a line, over the worker's standard input and output:

    {"ask": {...}} -> {"answer": {...}}  or  {"error": text, "kind": name of a DeliftError}

The page's end is `Warm`, one for each command line and server (`shared`); the worker's end is `serve`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from delift_core.errors import ConfigError, DataError, DeliftError, ModelError, WorkspaceError
from delift_core.runs import processes

IDLE_SECONDS = 600.0  # a worker that nobody asks for so long ends
FIRST_SECONDS = 120.0  # for the first answer, which loads the model
LATER_SECONDS = 60.0
KEPT = 256  # answers
_TAIL_BYTES = 1 << 14
_ERRORS: dict[str, type[DeliftError]] = {e.__name__: e for e in (ConfigError, DataError, ModelError, WorkspaceError)}

_workers: dict[tuple[str, ...], Warm] = {}
_registry = threading.Lock()


def shared(command: Sequence[str]) -> Warm:
    """The worker of this command line, one for the whole server; it starts at its first question."""
    with _registry:
        return _workers.setdefault(tuple(command), Warm(command))


def module_command(module: str, *words: str) -> list[str]:
    """The command line of a worker that is a module of ours.  -P keeps files of the current folder from standing in."""
    return [sys.executable, "-P", "-m", module, *words]


class Busy(WorkspaceError):
    """The worker answers somebody else, and did not come to an end in time."""


class _Lost(Exception):
    """The process ended, or did not answer in time."""


class Warm:
    """A worker process, started when first asked; questions take turns and answers are kept.

    The worker leads a group of its own, so that Ctrl-C on the server does not reach it; it ends when the server does,
    as its standard input is then at an end.
    """

    def __init__(
        self, command: Sequence[str], *, first: float = FIRST_SECONDS, later: float = LATER_SECONDS, kept: int = KEPT
    ) -> None:
        self.command, self.first, self.later, self.kept = tuple(command), first, later, kept
        self._turn = threading.Lock()
        self._answers: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._guard = threading.Lock()  # of the answers
        self._process: _Process | None = None

    @property
    def ready(self) -> bool:
        """True while a worker that has answered before is alive: the next answer comes without loading."""
        process = self._process
        return process is not None and process.answered and process.alive

    @property
    def pid(self) -> int | None:
        """The number of the living worker; None where there is none."""
        process = self._process
        return process.child.pid if process is not None and process.alive else None

    def holds(self, question: Mapping[str, Any]) -> bool:
        """True where the answer is kept."""
        with self._guard:
            return _line(question) in self._answers

    @property
    def busy(self) -> bool:
        """True while it answers a question."""
        return self._turn.locked()

    def ask(self, question: Mapping[str, Any], *, wait: float | None = None) -> dict[str, Any]:
        """The worker's answer, or the kept one.

        Other people's questions are waited for, at most `wait` seconds where that is given; then Busy is raised.

        A worker that is dead or does not answer in time is killed and started once more; a second failure raises
        WorkspaceError with the last line that it wrote to standard error.  A DeliftError of the worker is raised here.
        """
        line = _line(question)
        kept = self._kept(line)
        if kept is not None:
            return kept
        limit = wait if wait is not None else self.later if self.ready else self.first
        if not self._turn.acquire(timeout=limit):
            raise Busy("The model is reading for somebody else. Try again in a moment.")
        try:
            kept = self._kept(line)  # somebody before us may have asked the same
            if kept is not None:
                return kept
            reply = self._reply(line)
        finally:
            self._turn.release()
        if "error" in reply:
            raise _ERRORS.get(str(reply.get("kind")), DeliftError)(str(reply["error"]))
        answer: dict[str, Any] = reply["answer"]
        with self._guard:
            self._answers[line] = answer
            while len(self._answers) > self.kept:
                self._answers.popitem(last=False)
        return answer

    def stop(self) -> None:
        """End the worker, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _kept(self, line: str) -> dict[str, Any] | None:
        with self._guard:
            if line in self._answers:
                self._answers.move_to_end(line)
            return self._answers.get(line)

    def _reply(self, line: str) -> dict[str, Any]:
        why = ""
        for _ in range(2):
            if self._process is None or not self._process.alive:
                self._process = self._started()
            process = self._process
            try:
                return process.reply(line, self.later if process.answered else self.first)
            except _Lost as lost:
                self.stop()
                why = f"{lost} {process.last_words()}".strip()
        raise WorkspaceError(
            f"The worker that reads the model failed twice. {why} Look at the server's log, try again."
        )

    def _started(self) -> _Process:
        try:
            return _Process(self.command)
        except OSError as error:
            raise WorkspaceError(f"The worker did not start: {error}. Try again.") from error


class _Process:
    """One worker, from its start to its end.  A thread reads what it says, and reaps it when it ends."""

    def __init__(self, command: Sequence[str]) -> None:
        project = str(Path(__file__).parents[2])  # so that a worker finds this very delift_core, installed or not
        paths = [project, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment,
            start_new_session=True,
        )  # fmt: skip
        self.answered = False
        self.lines: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(target=self._listen, name="delift-warm", daemon=True).start()

    @property
    def alive(self) -> bool:
        """True until it has ended."""
        return self.child.poll() is None

    def reply(self, line: str, seconds: float) -> dict[str, Any]:
        """Send a line and wait for the one that answers it; raises _Lost where none comes."""
        assert self.child.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # that it has ended (and is closed) shows when its answer is read
            self.child.stdin.write(line.encode() + b"\n")
            self.child.stdin.flush()
        try:
            found = self.lines.get(timeout=seconds)
        except Empty:
            raise _Lost(f"It did not answer within {seconds:.0f} s.") from None
        if found is None:
            raise _Lost(f"It ended with status {self.child.wait()}.")
        try:
            reply: dict[str, Any] = json.loads(found)
        except ValueError:
            raise _Lost("It answered with something else than JSON.") from None
        self.answered = True
        return reply

    def last_words(self) -> str:
        """The last line of its standard error, as a sentence; empty where it wrote none."""
        size = self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, size - _TAIL_BYTES))
        lines = self.errors.read().decode("utf-8", errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"Its last line: {last[:500]}." if last else ""

    def kill(self) -> None:
        """End it with its group, at once."""
        if self.alive:
            processes.of(self.child.pid).kill_group()
        self.child.kill()
        self.child.wait()

    def _listen(self) -> None:
        assert self.child.stdout is not None
        with self.child.stdout as said:
            for line in said:
                self.lines.put(line)
        self.child.wait()
        assert self.child.stdin is not None
        with suppress(BrokenPipeError):
            self.child.stdin.close()
        self.lines.put(None)


def serve(
    answer: Callable[[dict[str, Any]], Mapping[str, Any]],
    questions: IO[bytes],
    answers: IO[bytes],
    *,
    idle: float = IDLE_SECONDS,
    deserted: Callable[[], None] = lambda: None,
) -> None:
    """The worker's life: one answer for each line, until the questions end or none comes for `idle` seconds.

    `deserted` is called then: also in the midst of an answer that nobody waits for any more.
    """
    waiting: SimpleQueue[bytes | None] = SimpleQueue()

    def listen() -> None:
        for line in questions:
            waiting.put(line)
        waiting.put(None)
        deserted()

    threading.Thread(target=listen, name="delift-questions", daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=idle)
        except Empty:
            deserted()
            return
        if line is None:
            return
        try:
            reply: dict[str, Any] = {"answer": answer(json.loads(line)["ask"])}
        except DeliftError as error:
            reply = {"error": str(error), "kind": type(error).__name__}
        answers.write(json.dumps(reply).encode() + b"\n")
        answers.flush()


def _line(question: Mapping[str, Any]) -> str:
    return json.dumps({"ask": question}, sort_keys=True)
