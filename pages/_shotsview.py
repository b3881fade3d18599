"""Sets of examples on the Utility page: what several rows give together, beside what pairs and the best alone say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from delift_core.errors import DeliftError
from delift_core.figures import alt_of
from delift_core.figures.shots import shots
from delift_core.registry import reads_texts
from delift_core.runs import jobs
from delift_core.runs.files import read_json
from delift_core.runs.run import Run
from delift_core.types import Dataset
from pages import _jobs
from pages import _widgets as widgets

FORMAT = 1  # of the record that this page can read
TEMPLATES = ("delift", "chat")  # that can show several examples
NAMES = {"l2": "distance", "pmi": "log probability"}
ROWS = 50  # measured unless somebody says otherwise


def sets_of_examples(run: Run, datasets: Mapping[str, Dataset]) -> None:
    """Do pairs tell the truth about sets?  Measured when asked for; runs without a language model have no such section.

    `datasets` holds the pool, and the target where the run has one.
    """
    scored = reads_texts(run.config.method)
    if not scored or not any((part, run.config.kind) in run.utilities for part in datasets):
        return
    st.subheader("Do pairs tell the truth about sets?")
    st.caption(
        "A selection is valued by pairs: how much one example helps one row. Here the picks that help a row most are "
        "shown to the model together, and what they give is compared with the best of them alone and with the pairs."
    )
    if run.config.template not in TEMPLATES:
        st.caption("The template of this run shows one example only. Score a run with the template delift or chat.")
        return
    record = _stored(run.id)
    job = _jobs.multishot_job(run.id)
    if job is not None and job.state in _jobs.ACTIVE:
        _measuring(run.id)
    else:
        if job is not None and job.state != "done":
            _ended(run.id, job.state)
        _ask(run.id, again=record is not None)
    if record is not None:
        _show(record, datasets[record["part"]], datasets["pool"])


def _stored(run_id: str) -> dict[str, Any] | None:
    """The measurement on disk; None where there is none that this page can read."""
    path = _jobs.multishot_file(run_id)
    if not path.is_file():
        return None
    try:
        record = read_json(path)
    except DeliftError as error:
        widgets.error_box(error)
        return None
    if record.get("version") != FORMAT:
        st.warning("The sets of this run were measured by another version. Measure them again.")
        return None
    return record


def _start(run_id: str) -> None:
    with widgets.guarded():
        _jobs.start_multishot(run_id, int(st.session_state["shots.rows"]))


def _ask(run_id: str, *, again: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Rows to measure", 2, 10_000, ROWS, key="shots.rows", width=160,
            help="Drawn at random. Each is read eight times, behind up to eight examples.",
        )  # fmt: skip
        label = "Measure again" if again else "Measure sets"
        st.button(label, key="shots.start", icon=":material/groups:", on_click=_start, args=(run_id,))


def _cancel(run_id: str) -> None:
    jobs.cancel(widgets.workspace(), run_id, _jobs.MULTISHOT)


@st.fragment(run_every=1.0)
def _measuring(run_id: str) -> None:
    """The last word of the measurement under way; the page comes back when it has ended."""
    job = _jobs.multishot_job(run_id)
    if job is None or job.state not in _jobs.ACTIVE:
        st.rerun()
    said = jobs.log_tail(widgets.workspace(), run_id, 1, _jobs.MULTISHOT)
    with st.container(horizontal=True, vertical_alignment="center"):
        word = "stopping" if job.cancel_at else said[0] if said else "loading the model"
        st.markdown(f":material/hourglass_top: Measuring sets of examples: {widgets.escape(word)}", width="content")
        st.button("Cancel", key="shots.cancel", icon=":material/stop_circle:", on_click=_cancel, args=(run_id,))
    st.caption("You may close this page: the measurement goes on.")


def _ended(run_id: str, state: str) -> None:
    """A measurement that came to nothing, by the last line of its log."""
    if state == "cancelled":
        st.info("The measurement was cancelled; finished blocks are kept.", icon=widgets.STATE_ICONS[state])
        return
    said = jobs.log_tail(widgets.workspace(), run_id, 1, _jobs.MULTISHOT)
    why = said[0].removeprefix("delift: ") if said else "It ended without a word."
    st.warning(f"The sets were not measured. {widgets.escape(why)}", icon=widgets.STATE_ICONS[state])


def _show(record: Mapping[str, Any], helped: Dataset, pool: Dataset) -> None:
    reading = record[record["kind"]]
    left, right = st.columns([3, 2], gap="large")
    with left:
        figure = shots(record, theme=widgets.theme())
        st.plotly_chart(figure, key="shots.figure", config={"displayModeBar": False}, alt=alt_of(figure))
    with right:
        st.markdown("\n".join(f"- {widgets.escape(told['sentence'])}" for told in reading["summary"]))
        for note in record["notes"]:
            st.caption(widgets.escape(note))
    st.dataframe(
        table(record, helped.ids, pool.ids), hide_index=True, height=min(300, 38 + 35 * len(record["helped"])),
        alt=f"The {len(record['helped'])} measured rows: utility of the best example alone and of sets",
    )  # fmt: skip


def table(record: Mapping[str, Any], helped: Sequence[str], pool: Sequence[str]) -> pd.DataFrame:
    """One line for each measured row: what the model says without an example, with the best one, and with sets."""
    reading = record[record["kind"]]
    columns: dict[str, Any] = {
        "row": [helped[i] for i in record["helped"]],
        f"{NAMES[record['kind']]} without": reading["alone"],
        "best alone": reading["best"],
    }
    for name, values in (("together", "together"), ("random", "control"), ("pairs predict", "predicted_max")):
        for at, k in enumerate(record["shots"]):
            column = [row[at] for row in reading[values]]
            if any(value is not None for value in column):
                columns[f"{k} {name}"] = column
    columns["examples, the best first"] = [[pool[j] for j in shown if j >= 0] for shown in record["shown"]]
    return pd.DataFrame(columns)
