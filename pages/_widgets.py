"""What two pages or more share: workspace, current run, budget, status strip, forms made from options, errors.

State has four owners.  The URL holds what survives a reload and can be shared (`run`, `k`), the session holds unsaved
choices, the workspace on disk holds all else, and the caches here hold read-only handles keyed by id.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.pages_manager import PagesManager

from delift_core import sample
from delift_core.data import open_dataset, read_report
from delift_core.errors import DeliftError
from delift_core.figures import Theme
from delift_core.registry import METHODS
from delift_core.runs.records import RunRecord
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset

if TYPE_CHECKING:
    from delift_core.data.checks import Profile

OPENED, TAKEN = "dataset", "_pool.taken"  # session: what the Data page shows, and what Run made its pool for that
RUN_KEY = "run"  # query parameter: id of the run that Map, Utility and Export show
STRIP = "strip"  # fragment: the line on top of every page
BUDGET_KEY = "k"  # query parameter: rows kept, where the order is nested
ROW_KEY = "row"  # query parameter: id of the row in focus on Map, Audit and Compare
STATE_ICONS = {
    "queued": ":material/schedule:", "running": ":material/play_circle:", "done": ":material/check_circle:",
    "failed": ":material/error:", "cancelled": ":material/cancel:", "interrupted": ":material/power_off:",
}  # fmt: skip
_ADDRESS = re.compile(r"://|www(?=\.)|@", re.IGNORECASE)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:^=&])")


# --- workspace, runs, datasets -----------------------------------------------------------------------------------


def workspace() -> Workspace:
    """The workspace of this server (DELIFT_HOME, else ./workspace), opened once."""
    _enter_frame()
    return _open_workspace(os.environ.get("DELIFT_HOME", ""))


def _enter_frame() -> None:
    """Start over inside app.py where Streamlit has run a page alone.

    Until a server has called `st.navigation` once, Streamlit takes a folder named pages for its own older kind of app:
    its first visitor, if he comes by a page's address (a reload after a restart), would see that page without a frame.
    """
    if not PagesManager.uses_pages_directory:
        return
    PagesManager.uses_pages_directory = False
    if not st.session_state.get("_framed"):
        st.session_state["_framed"] = True
        st.rerun()


@st.cache_resource(show_spinner=False, max_entries=4)
def _open_workspace(home: str) -> Workspace:
    return Workspace.default()


@st.cache_resource(show_spinner="Preparing the sample run", max_entries=4)
def _install_sample(home: str) -> str | None:
    return sample.install(_open_workspace(home)) if sample.available() else None


def sample_run() -> str | None:
    """Id of the finished sample run, installed at the first call; None where this copy ships no sample."""
    return _install_sample(os.environ.get("DELIFT_HOME", ""))


@st.cache_resource(show_spinner=False, max_entries=8)
def _open_run(home: str, run_id: str, version: str) -> Run:
    return Run.open(_open_workspace(home), run_id)


def current_run_id() -> str | None:
    """The run named by the URL, else by this session, else the newest finished one, else the sample."""
    named = st.query_params.get(RUN_KEY) or st.session_state.get("_run")
    if named:
        return str(named)
    shipped = sample_run()
    done = [r for r in workspace().catalogue.runs() if r.state == "done" and r.id != shipped]
    return max(done, key=lambda r: r.created).id if done else shipped


def select_run(run_id: str) -> None:
    """Show this run from now on, on every page."""
    if run_id != current_run_id():
        st.session_state.pop(BUDGET_KEY, None)
        st.query_params.pop(BUDGET_KEY, None)
    st.session_state["_run"] = run_id
    st.query_params[RUN_KEY] = run_id


def keep_run_in_url() -> None:
    """A page change empties the URL; write the session's run back, so that a reload (a new session) finds it."""
    st.session_state["_framed"] = True
    run_id = current_run_id()
    if run_id is not None:
        st.session_state["_run"] = run_id
        if st.query_params.get(RUN_KEY) != run_id:
            st.query_params[RUN_KEY] = run_id


def open_run_cached(record: RunRecord) -> Run:
    """A finished run, opened once for all pages; the handle is shared and read-only."""
    return _open_run(os.environ.get("DELIFT_HOME", ""), record.id, str(record.finished))


def version_of(run: Run) -> str:
    """What tells a run from the same one made again, by which caches know it."""
    return f"{run.manifest['hash']} {run.manifest['created']}"


def current_run() -> Run | None:
    """The run named by `current_run_id`, opened; None when there is none or it is not finished."""
    run_id = current_run_id()
    if run_id is None:
        return None
    record = workspace().catalogue.run(run_id)
    if record.state != "done":
        return None
    return open_run_cached(record)


def require_run(text: str) -> Run:
    """The current finished run; without one, say `text` with a way on and stop the page."""
    try:
        run = current_run()
    except DeliftError as error:
        error_box(error)
        st.stop()
    if run is None:
        run_id = current_run_id()
        state = workspace().catalogue.run(run_id).state if run_id else None
        st.info(text if state is None else f"{text} The run that is selected here is {state}.", icon=":material/info:")
        st.page_link("pages/run.py", label="Go to Run", icon=":material/play_circle:")
        st.stop()
    return run


@st.cache_resource(show_spinner="Opening the rows", max_entries=16)
def _open_dataset(home: str, fingerprint: str) -> Dataset:
    return open_dataset(_open_workspace(home).dataset_folder(fingerprint))


def open_dataset_cached(fingerprint: str) -> Dataset:
    """The dataset of this fingerprint, memory-mapped; the handle is shared and read-only."""
    return _open_dataset(os.environ.get("DELIFT_HOME", ""), fingerprint)


@st.cache_resource(show_spinner="Reading the rows", max_entries=16)
def _profile(home: str, fingerprint: str) -> Profile:
    from delift_core.data.checks import profile  # the language model behind it is only read when somebody looks

    return profile(_open_dataset(home, fingerprint))


def profile_cached(fingerprint: str) -> Profile:
    """Lengths, duplicates, languages and personal data of a dataset."""
    return _profile(os.environ.get("DELIFT_HOME", ""), fingerprint)


def dataset_folder(fingerprint: str) -> Path:
    """Where a dataset lies in the workspace."""
    return workspace().dataset_folder(fingerprint)


def dataset_report(fingerprint: str) -> Any:
    """What was read and what was refused, as the reader wrote it."""
    return read_report(dataset_folder(fingerprint))


# --- budget and strip --------------------------------------------------------------------------------------------


def current_k(run: Run) -> int:
    """Rows kept: the budget slider's value (URL `k`) where the order is nested, else the run's own k."""
    if not run.selection.nested:
        return run.k
    value = st.session_state.get(BUDGET_KEY, st.query_params.get(BUDGET_KEY, run.k))
    try:
        k = int(value)
    except (TypeError, ValueError):
        return run.k
    return k if 1 <= k <= len(run.selection) else run.k


def budget_slider(run: Run, *, label: str = "Budget, in rows", fragment: str | None = None) -> int:
    """The slider over the nested order, shared by Map, Utility and Export through the URL; returns k.

    With `fragment`, the key of the fragment that it stands in, a move draws that and the strip anew, and nothing else.
    """
    if not run.selection.nested or len(run.selection) < 2:
        st.caption(f"{run.k:,} rows. This order is not nested: another budget needs another run.")
        return run.k
    held = st.session_state.get(BUDGET_KEY)
    if held is not None and not 1 <= held <= len(run.selection):
        del st.session_state[BUDGET_KEY]
    k = st.slider(
        label,
        1,
        len(run.selection),
        run.k,
        key=BUDGET_KEY,
        bind="query-params",
        on_change=None if fragment is None else lambda: st.rerun([fragment, STRIP]),
        help="The order is nested: a smaller budget is the start of the same list; nothing is computed again.",
    )
    return int(k)


def candidates(run: Run) -> int:
    """Rows that could have been picked: the accepted ones, exact copies once unless the run kept them."""
    pool = open_dataset_cached(run.config.pool)
    return len(pool) if run.config.keep_duplicates else len(pool.unique)


def copies_text(run: Run) -> str:
    """Why fewer rows can be picked than the pool has, in a sentence; empty where all can."""
    rows, possible = len(open_dataset_cached(run.config.pool)), candidates(run)
    if rows == possible:
        return ""
    copies = rows - possible
    told = "1 is an exact copy of another" if copies == 1 else f"{copies:,} are exact copies of others"
    return f"The pool has {rows:,} rows: {told}, so {possible:,} can be picked."


def share_of_full(run: Run, k: int) -> float:
    """Value of the first k picks over the value of the whole pool; NaN where that is worth nothing."""
    return run.selection.head(k).share if run.selection.nested else run.selection.share


def percent(share: float) -> str:
    """A share as a short percentage; a dash where it is not defined."""
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


@st.fragment(key=STRIP)
def status_strip() -> None:
    """One line on every page: dataset, run, objective, k, percent of the full value."""
    run_id = current_run_id()
    if run_id is None:
        st.caption("No run yet. Load a dataset on the Data page, then choose rows on the Run page.")
        return
    try:
        record = workspace().catalogue.run(run_id)
        run = current_run()
    except DeliftError as error:
        st.caption(f"**Run** {escape(clip(run_id, 16))} cannot be shown. {escape(str(error))}")
        return
    name = METHODS[record.config.method].title if record.config.method in METHODS else record.config.method
    parts = [
        f"**Dataset** {escape(dataset_name(record.config.pool))}",
        f"**Run** {STATE_ICONS[record.state]} {escape(run_id[:8])}{' (sample)' if run_id == sample_run() else ''}",
        f"**Objective** {escape(name)} ({escape(record.config.method)})",
    ]
    if run is None:
        parts.append(f"**State** {record.state}")
    else:
        k = current_k(run)
        parts.append(f"**Selected** {k:,} of {candidates(run):,} rows")
        share = share_of_full(run, k)
        if not math.isnan(share):
            parts.append(f"**Value** {percent(share)} of full")
    from pages._editsview import pending_count  # which imports this module

    if count := pending_count(run_id):
        parts.append(f"**Edits** {count:,} unsaved")
    with st.container(horizontal=True, gap="medium", key="strip"):
        for part in parts:
            st.caption(part, width="content")


def choose_dataset(role: str, label: str, *, optional: bool = False) -> str | None:
    """A dataset for a role; those loaded for it come first."""
    records = sorted(workspace().catalogue.datasets(), key=lambda r: (role not in r.roles, -r.added))
    names = {r.fingerprint: f"{r.name} ({r.rows:,} rows)" for r in records}
    return st.selectbox(
        label, list(names), index=None if optional else 0, format_func=lambda f: names.get(f, f), key=f"role.{role}",
        placeholder="Choose a dataset", persist_state="session",
    )  # fmt: skip


def dataset_name(fingerprint: str) -> str:
    """The name under which a dataset was loaded; its fingerprint's start when it is not in the catalogue."""
    for record in workspace().catalogue.datasets():
        if record.fingerprint == fingerprint:
            return str(record.name)
    return fingerprint[:12]


# --- one row -------------------------------------------------------------------------------------------------------


def row_named(find: Callable[[str], int | None], typed: str | None) -> int | None:
    """The row whose id was typed: first exactly as it stands, then without the space around it; None for none."""
    if not typed:
        return None
    row = find(typed)
    return find(typed.strip()) if row is None else row


def ask_row(
    find: Callable[[str], int | None], example: str, answer: DeltaGenerator, *, width: int | Literal["stretch"] = 340
) -> int | None:
    """The box for the id of the row in focus, which is also the URL's; that no row has an id is said in `answer`."""
    typed = st.text_input(
        "Go to a row (id)", key=ROW_KEY, bind="query-params", placeholder=f"such as {clip(example, 40)}", width=width,
        help="The id of one row, as the tables show it. To find rows by their text, use Search and edit on Audit.",
    )  # fmt: skip
    row = row_named(find, typed)
    if row is None and typed and typed.strip():
        told = f"No row has the id {escape(clip(typed.strip(), 60))}. Ids here look like {escape(clip(example, 40))}."
        answer.warning(f"{told} To find rows by their text, use Search and edit on Audit.")
    return row


# --- text, errors, forms -----------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Text of unknown origin for a place that reads Markdown: shown letter by letter, on one line.

    Addresses become links only after Markdown has taken its backslashes away, so an invisible word joiner breaks them.
    """
    line = _ADDRESS.sub(lambda found: f"{found[0]}\u2060", " ".join(str(text).split()))
    return _MARKDOWN.sub(r"\\\1", line)


def clip(text: str, length: int) -> str:
    """At most `length` characters, with an ellipsis where something was cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def plain(text: str, *, limit: int = 4_000) -> None:
    """Row text as text, never as Markdown or HTML; long ones are cut and the page says so."""
    st.text(clip(text, limit), width="stretch")
    if len(text) > limit:
        st.caption(f"The first {limit:,} of {len(text):,} characters.")


def error_box(error: DeliftError) -> None:
    """A mistake the user can mend, as the engine words it.  Bugs are not caught: they stay visible."""
    st.error(escape(str(error)), icon=":material/error:")


@contextmanager
def guarded() -> Iterator[None]:
    """Show a user's mistake in the page and stop there; anything else is a bug and passes through."""
    try:
        yield
    except DeliftError as error:
        error_box(error)
        st.stop()


def theme() -> Theme:
    """The theme that the browser shows."""
    return "dark" if st.context.theme.type == "dark" else "light"


def options_form(options: Iterable[dataclasses.Field[Any]], *, key: str) -> dict[str, Any]:
    """Widgets for dataclass fields that are options; returns the values that differ from the defaults.

    Field metadata gives "help", "min", "max" and "choices".  Defaults are left out, so that a configuration written
    here and one written on the command line have the same id.
    """
    chosen: dict[str, Any] = {}
    for f in options:
        value = option_widget(f, f"{key}.{f.name}")
        if value is not None:
            chosen[f.name] = value
    return chosen


def option_widget(f: dataclasses.Field[Any], key: str) -> Any:
    """A widget for one field; returns its value, or None while it stands at the default."""
    default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
    value = _widget(f, default, key)
    return None if value == default else value


def _widget(f: dataclasses.Field[Any], default: Any, key: str) -> Any:
    meta, label = f.metadata, f.name.replace("_", " ").capitalize()
    shown: dict[str, Any] = {"key": key, "help": meta.get("help"), "persist_state": "session"}
    if "choices" in meta:
        choices: Sequence[Any] = list(meta["choices"])
        if "or_begins" in meta:
            return st.selectbox(label, choices, index=choices.index(default), accept_new_options=True, **shown)
        if len(choices) <= 5:
            return st.segmented_control(label, choices, default=default, required=True, **shown)
        return st.selectbox(label, choices, index=choices.index(default), **shown)
    if isinstance(default, bool):
        return st.checkbox(label, default, **shown)
    if isinstance(default, int):
        return st.number_input(label, meta.get("min"), meta.get("max"), default, step=1, width=220, **shown)
    if isinstance(default, float):
        low, high = (None if meta.get(end) is None else float(meta[end]) for end in ("min", "max"))
        return st.number_input(label, low, high, default, step=default / 10 or 0.1, format="%g", width=220, **shown)
    return st.text_input(label, "" if default is dataclasses.MISSING else str(default), **shown)


def seconds_text(seconds: float) -> str:
    """A duration a person reads at a glance."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 1:
        return "a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h"


def bytes_text(size: float) -> str:
    """A size a person reads at a glance."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:.1f} TB"


def ago(moment: float) -> str:
    """How long ago a time (seconds since 1970) was."""
    return f"{seconds_text(max(0.0, time.time() - moment))} ago"
