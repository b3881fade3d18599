"""The warm worker: one process that answers in turn, is started again when it dies, and ends with its parent."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from delift_core.errors import ConfigError, WorkspaceError
from delift_core.runs import warm

# A worker that does what it is told: echo with its own number, die, hang, fail, talk rubbish.
SCRIPT = """
import os, sys, time
from pathlib import Path
from delift_core.errors import ConfigError
from delift_core.runs import warm

def answer(ask):
    what = ask.get("do")
    if what == "die" or (what == "die once" and not os.path.exists(ask["mark"])):
        if what == "die once":
            Path(ask["mark"]).touch()
        print("out of luck", file=sys.stderr)
        os._exit(3)
    if what == "hang":
        time.sleep(60)
    if what == "refuse":
        raise ConfigError("No such part. Take another.")
    if what == "rubbish":
        answers.write(b"not json\\n")
        answers.flush()
    return {"said": ask, "pid": os.getpid()}

answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
warm.serve(answer, sys.stdin.buffer, answers, idle=float(sys.argv[1]), deserted=lambda: os._exit(0))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., warm.Warm]]:
    script = tmp_path / "worker.py"
    script.write_text(SCRIPT)
    made: list[warm.Warm] = []

    def begin(idle: float = 60.0, **limits: float) -> warm.Warm:
        made.append(warm.Warm([sys.executable, str(script), str(idle)], **{"first": 30.0, **limits}))  # type: ignore[arg-type]
        return made[-1]

    yield begin
    for worker in made:
        worker.stop()


def ended(pid: int, seconds: float = 10.0) -> bool:
    """The process is gone, and no zombie is left."""
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not psutil.pid_exists(pid)


def test_it_starts_when_first_asked_and_one_process_answers_everything(start: Callable[..., warm.Warm]) -> None:
    worker = start()
    assert not worker.ready and worker.pid is None
    first, second = worker.ask({"n": 1}), worker.ask({"n": 2})
    assert (first["said"], second["said"]) == ({"n": 1}, {"n": 2})
    assert first["pid"] == second["pid"] == worker.pid
    assert worker.ready
    assert os.getpgid(first["pid"]) == first["pid"] != os.getpgid(0)  # Ctrl-C on the server does not reach it
    worker.stop()
    assert ended(first["pid"])


def test_answers_are_kept_and_the_oldest_is_forgotten(start: Callable[..., warm.Warm]) -> None:
    worker = start(kept=2)
    for n in (1, 2):
        worker.ask({"n": n})
    worker.ask({"n": 1})
    worker.ask({"n": 3})
    assert [worker.holds({"n": n}) for n in (1, 2, 3)] == [True, False, True]
    worker.stop()
    assert worker.ask({"n": 1})["said"] == {"n": 1}
    assert worker.pid is None, "a kept answer needs no process"


def test_a_mistake_of_the_asker_is_raised_here_and_the_worker_lives_on(start: Callable[..., warm.Warm]) -> None:
    worker = start()
    with pytest.raises(ConfigError, match=r"No such part\. Take another\."):
        worker.ask({"do": "refuse"})
    assert worker.ready
    assert not worker.holds({"do": "refuse"})


def test_a_dead_worker_is_started_once_more(start: Callable[..., warm.Warm], tmp_path: Path) -> None:
    worker = start()
    before = worker.ask({})["pid"]
    assert worker.ask({"do": "die once", "mark": str(tmp_path / "mark")})["pid"] != before
    os.kill(worker.ask({"n": 1})["pid"], 9)
    assert worker.ask({"n": 2})["said"] == {"n": 2}


@pytest.mark.parametrize(
    ("question", "told"),
    [("die", r"status 3.*out of luck"), ("hang", "did not answer within"), ("rubbish", "something else than JSON")],
)
def test_a_second_failure_says_why_and_leaves_no_process(
    start: Callable[..., warm.Warm], question: str, told: str
) -> None:
    worker = start(later=0.3)
    pid = worker.ask({})["pid"]
    worker.first = 1.0 if question == "hang" else 30.0
    with pytest.raises(WorkspaceError, match=rf"failed twice.*{told}"):
        worker.ask({"do": question})
    assert worker.pid is None
    assert ended(pid)
    assert not [c for c in psutil.Process().children() if "worker.py" in " ".join(c.cmdline())]


def test_a_command_that_cannot_start_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="did not start"):
        warm.Warm([str(tmp_path / "missing")]).ask({})


def test_it_ends_when_nobody_asks_and_is_started_again_later(start: Callable[..., warm.Warm]) -> None:
    worker = start(idle=0.2)
    pid = worker.ask({"n": 1})["pid"]
    process = worker._process
    assert ended(pid)
    assert process is not None and process.child.returncode == 0, "in peace, not by an abort"
    assert not worker.ready
    assert worker.ask({"n": 2})["pid"] != pid


def test_it_ends_with_its_parent_also_in_the_midst_of_an_answer(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(SCRIPT)
    code = (
        "import os, sys, threading, time\nfrom delift_core.runs import warm\n"
        f"worker = warm.Warm([sys.executable, {str(script)!r}, '60'])\n"
        "print(worker.ask({})['pid'], flush=True)\n"
        "threading.Thread(target=worker.ask, args=({'do': 'hang'},), daemon=True).start()\n"
        "time.sleep(0.3)\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ended(int(done.stdout))


def test_questions_of_several_sessions_take_turns(start: Callable[..., warm.Warm]) -> None:
    worker, found = start(), []
    threads = [threading.Thread(target=lambda n=n: found.append(worker.ask({"n": n % 5}))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer["pid"] for answer in found}) == 1
    assert sorted(answer["said"]["n"] for answer in found) == sorted(n % 5 for n in range(20))


def test_a_worker_that_is_busy_for_too_long_is_not_waited_for(start: Callable[..., warm.Warm]) -> None:
    worker = start(later=0.3)
    worker.ask({})
    assert not worker.busy
    with worker._turn:
        assert worker.busy
        for limits in ({}, {"wait": 0.0}):
            with pytest.raises(warm.Busy, match="for somebody else"):
                worker.ask({"n": 1}, **limits)


def test_one_worker_for_each_command() -> None:
    assert warm.shared(["a", "b"]) is warm.shared(("a", "b"))
    assert warm.shared(["a", "c"]) is not warm.shared(["a", "b"])


def test_serving_ends_with_the_questions() -> None:
    out, gone = io.BytesIO(), []
    lines = b"".join(json.dumps({"ask": {"n": n}}).encode() + b"\n" for n in range(3))
    warm.serve(lambda ask: {"n": ask["n"] + 1}, io.BytesIO(lines), out, deserted=lambda: gone.append(1))
    assert [json.loads(line)["answer"]["n"] for line in out.getvalue().splitlines()] == [1, 2, 3]
