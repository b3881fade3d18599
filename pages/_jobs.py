"""Parts of the Run page that live longer than one click: the cost preview, the progress of a run, the gallery.

All work happens in subprocesses; these parts only start them, poll files and draw.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from delift_core import stages
from delift_core.config import RunConfig
from delift_core.errors import ConfigError, DeliftError
from delift_core.registry import METHODS, memory_of, work_of
from delift_core.runs import files, jobs
from delift_core.runs.records import JobRecord, RunRecord
from delift_core.types import Cost
from pages import _rulesform as rulesform
from pages import _widgets as widgets
from pages._command import command_for, command_text

__all__ = [
    "ACTIVE", "ASK_ABOVE", "MULTISHOT", "Estimate", "asked", "cancel", "command_for", "command_text", "estimate_of",
    "gallery", "live", "log", "multishot_file", "multishot_job", "resume", "show_cost", "show_run",
    "start_multishot", "title_of",
]  # fmt: skip

ASK_ABOVE = 30 * 60  # seconds: a longer run wants a tick before it starts
ACTIVE = ("queued", "running")
MULTISHOT: Any = "multishot"  # kind of job: sets of examples are measured

_children: dict[str, subprocess.Popen[bytes]] = {}  # our own measurements, kept so that they can be reaped


# --- cost preview --------------------------------------------------------------------------------------------------


@dataclass
class Estimate:
    """A cost estimate that a subprocess is working on: it loads the model, which a page must not."""

    key: str
    process: subprocess.Popen[bytes]
    output: Path
    errors: Path

    @classmethod
    def start(cls, key: str, config: RunConfig) -> Estimate:
        """Ask `delift estimate` about this configuration."""
        folder = Path(tempfile.mkdtemp(prefix="delift-estimate-"))
        words = [sys.executable, "-m", "delift_core", "estimate", *command_for(config)[2:], "--json"]
        output, errors = folder / "out.json", folder / "log.txt"
        with output.open("wb") as out, errors.open("wb") as log:
            process = subprocess.Popen(words, stdout=out, stderr=log, stdin=subprocess.DEVNULL)
        return cls(key, process, output, errors)

    def stop(self) -> None:
        """End it when nobody waits for it any more."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=10)

    @property
    def running(self) -> bool:
        """True while it is still measuring."""
        return self.process.poll() is None

    def result(self) -> tuple[Cost, str]:
        """Cost and pair plan, once it is not running any more; DeliftError where the configuration cannot run."""
        status = self.process.wait()
        text = self.output.read_text(encoding="utf-8").strip()
        record: dict[str, Any] = json.loads(text) if text else {}
        if status == 2 and "error" in record:
            raise ConfigError(record["error"])
        if status != 0:
            tail = self.errors.read_text(encoding="utf-8", errors="replace").strip()[-2_000:]
            raise RuntimeError(f"delift estimate ended with status {status}: {tail}")
        return Cost(**{f.name: record.get(f.name, 0) for f in dataclasses.fields(Cost)}), record["plan"]


def estimate_of(config: RunConfig) -> Estimate:
    """This session's estimate for a configuration, started at the first call.  Budget and seed do not change a cost."""
    key = config.with_(budget="1", seed=0).id
    held: Estimate | None = st.session_state.get("_estimate")
    if held is None or held.key != key:
        if held is not None:
            held.stop()
        held = st.session_state["_estimate"] = Estimate.start(key, config)
    return held


def show_cost(cost: Cost, config: RunConfig) -> None:
    """Time, memory and disk that a run takes, and what it computes, before it is started."""
    with st.container(horizontal=True, key="cost"):
        st.metric(
            "Time on this machine", widgets.seconds_text(cost.seconds), width="content", border=True,
            help="Measured just now on a few rows. Other programs that are busy make it longer.",
        )  # fmt: skip
        st.metric(
            "Memory", widgets.bytes_text(memory_of(config.method, cost, pairs=config.pairs)), width="content",
            border=True, help="For the numbers of the run; the models come on top.",
        )  # fmt: skip
        st.metric("Disk", widgets.bytes_text(cost.bytes), width="content", border=True)
    st.caption(work_of(config.method, cost, config.options, pairs=config.pairs))


# --- sets of examples ----------------------------------------------------------------------------------------------


def start_multishot(run_id: str, rows: int) -> None:
    """Measure sets of examples of a finished run in the background, unless that is under way; the page may close."""
    ws = widgets.workspace()
    held = multishot_job(run_id)
    if held is not None and held.state in ACTIVE:
        return
    words = [*jobs.worker_command(ws, run_id, MULTISHOT), "--rows", str(rows)]
    project = str(Path(__file__).parents[1])  # so that the worker finds this very delift_core, installed or not
    paths = os.pathsep.join([project, *filter(None, [os.environ.get("PYTHONPATH")])])
    log = ws.run_folder(run_id) / f"log_{MULTISHOT}.txt"
    with files.disk_errors(log), log.open("wb") as out:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    _children[run_id] = child
    ws.catalogue.update_run(run_id, kind=MULTISHOT, state="running", pid=child.pid, started=time.time(), cancel_at=None)


def multishot_job(run_id: str) -> JobRecord | None:
    """The measurement of a run's sets, after looking whether its worker still lives; None where there never was one."""
    ws = widgets.workspace()
    if run_id in _children and _children[run_id].poll() is not None:
        del _children[run_id]
    job = jobs.job(ws, run_id, MULTISHOT)
    if job is not None and job.state == "interrupted" and _written_since(multishot_file(run_id), job.started):
        ws.catalogue.update_run(run_id, kind=MULTISHOT, state="done", error="")  # it said so by its file
        return jobs.job(ws, run_id, MULTISHOT)
    return job


def multishot_file(run_id: str) -> Path:
    """Where the measurement of a run's sets lies once it is done."""
    return widgets.workspace().run_folder(run_id) / "multishot.json"


def _written_since(path: Path, moment: float | None) -> bool:
    return path.is_file() and path.stat().st_mtime >= (moment or 0.0)


# --- progress ------------------------------------------------------------------------------------------------------


def resume(run_id: str) -> None:
    """Start a cancelled, failed or interrupted run again; finished blocks are not computed again."""
    jobs.resume(widgets.workspace(), run_id)
    widgets.select_run(run_id)


def cancel(run_id: str) -> None:
    """Ask a run to stop after the block it is working on."""
    jobs.cancel(widgets.workspace(), run_id)


@st.fragment(run_every=1.0)
def live(run_id: str) -> None:
    """Stage, progress, time left and log tail of a run that is under way; redraws itself once a second."""
    ws = widgets.workspace()
    state = jobs.state(ws, run_id)
    if state not in ACTIVE:
        st.rerun()
    record = ws.catalogue.run(run_id)
    job = record.job
    told = stages.told(job.stage or "", job.done or 0, job.total or 0)
    left = "" if record.eta is None else f", about {widgets.seconds_text(record.eta)} left"
    st.progress(job.share, text=widgets.escape(f"{told}{left}"))
    with st.container(horizontal=True, vertical_alignment="center"):
        note = f"{widgets.escape(record.note)}. " if record.note else ""
        st.caption(f"{note}You may close this page: the run goes on.")
        st.button("Cancel", key=f"cancel.{run_id}", icon=":material/stop_circle:", on_click=cancel, args=(run_id,))
    log(run_id)


def log(run_id: str, lines: int = 12) -> None:
    """The last lines of a run's log, as text."""
    tail = jobs.log_tail(widgets.workspace(), run_id, lines)
    if tail:
        st.code("\n".join(tail), language=None, wrap_lines=True)


def has_pairs(config: RunConfig) -> bool:
    """Whether the run's method scores pairs, which the Utility page shows."""
    return "+" in config.method or (config.method in METHODS and METHODS[config.method].scorer is not None)


def title_of(config: RunConfig) -> str:
    """What the run's method is for."""
    return METHODS[config.method].title if config.method in METHODS else widgets.escape(config.method)


def asked(config: RunConfig) -> str:
    """The budget and the pool of a run in a few words, fit for Markdown."""
    return f"{widgets.escape(config.budget)} of {widgets.escape(widgets.clip(widgets.dataset_name(config.pool), 40))}"


def show_run(run_id: str) -> None:
    """The state of one run and what can be done with it now."""
    ws = widgets.workspace()
    try:
        state = jobs.state(ws, run_id)
        record = ws.catalogue.run(run_id)
    except DeliftError as error:
        widgets.error_box(error)
        return
    with st.container(border=True, key=f"current.{run_id}"):
        st.subheader(f"{title_of(record.config)}: {asked(record.config)}")
        if state in ACTIVE:
            live(run_id)
        elif state == "done":
            st.success("This run is finished.", icon=":material/check_circle:")
            with st.container(horizontal=True):
                st.page_link("pages/map.py", label="See the map", icon=":material/scatter_plot:", width="content")
                if has_pairs(record.config):
                    st.page_link(
                        "pages/utility.py", label="See the utility", icon=":material/grid_on:", width="content"
                    )
                st.page_link("pages/export.py", label="Export", icon=":material/download:", width="content")
        else:
            said = {"failed": "The run failed.", "cancelled": "The run was cancelled; finished blocks are kept."}
            text = record.error or said.get(state, "The worker ended without a word; finished blocks are kept.")
            (st.error if state == "failed" else st.warning)(widgets.escape(text), icon=widgets.STATE_ICONS[state])
            st.button("Resume", key=f"resume.{run_id}", icon=":material/restart_alt:", on_click=resume, args=(run_id,))
            log(run_id)


# --- gallery -------------------------------------------------------------------------------------------------------


def gallery(shown: int = 12) -> None:
    """The newest runs as cards: what was asked, the curve of value against budget, the state; a card opens its run."""
    ws = widgets.workspace()
    records = jobs.runs(ws)
    if not records:
        st.caption("No runs yet.")
        return
    if len(records) > shown and not st.toggle(f"Show all {len(records)} runs", key="gallery.all"):
        records = records[:shown]
    grid = st.grid(4, min_column_width=260, border=True, key="gallery")
    for record in records:
        with grid.cell():
            _card(record)


def _card(record: RunRecord) -> None:
    try:
        config, state = record.config, record.state
    except DeliftError as error:  # written by a version that is too old or too new
        st.caption(f"Run {widgets.escape(record.id[:8])}: {widgets.escape(str(error))}")
        return
    st.markdown(f"**{title_of(config)}**{' (sample)' if record.id == widgets.sample_run() else ''}")
    rules = widgets.clip(rulesform.rules_text(rulesform.rules_of(config)), 120)
    told = f"{widgets.escape(config.method)}, {asked(config)}, seed {config.seed}"
    st.caption(f"{told}; {widgets.escape(rules)}" if rules else told)
    if state == "done":
        selected, share = record.summary.get("selected", 0), record.summary.get("share")
        if share is None:  # the method gives rows no value
            st.metric("rows kept", f"{selected:,}")
        else:
            curve = record.summary.get("curve")
            st.metric(
                f"of the full value, {selected:,} rows", widgets.percent(share), chart_data=curve, chart_type="area"
            )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{widgets.STATE_ICONS[state]} {state}, {widgets.escape(record.id[:8])}", width="content")
        st.button("Open", key=f"open.{record.id}", on_click=widgets.select_run, args=(record.id,), type="tertiary")
        if state in ("failed", "cancelled", "interrupted"):
            st.button("Resume", key=f"again.{record.id}", on_click=resume, args=(record.id,), type="tertiary")
