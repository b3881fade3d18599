"""Stability of a run: would the same rows be picked again?  Measured in the background when asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from delift_core import stages
from delift_core.errors import DeliftError
from delift_core.figures import alt_of, histogram
from delift_core.insight.stability import lucky, nearly
from delift_core.review import stability
from delift_core.runs import jobs
from delift_core.runs.run import Run
from delift_core.types import Dataset, Doubles, Indices
from pages import _widgets as widgets

JOB: Any = "stability"
ACTIVE = ("queued", "running")
NAMES = {"bootstrap": "Other rows to be helped", "seeds": "Other seeds", "encoders": "Other encoders"}
ALL_CHOSEN = (
    "Every row that could be chosen is chosen, so nothing can vary: any other condition leads to the same rows. A "
    "smaller budget has a stability that can be measured."
)
EXCERPT = 160  # characters of a row's prompt
LISTED = 20


def show_stability(run: Run, pool: Dataset, k: int) -> None:
    """How far the run's choice hangs on chance; `k` is the budget of the page, the measurement is of the run's own."""
    st.caption(
        "A choice is trusted more when slightly other conditions lead to the same rows. The run is chosen again from "
        "what it stored: with the helped rows drawn anew (bootstrap), with other seeds, with other encoders."
    )
    job = jobs.job(widgets.workspace(), run.id, JOB)
    active = job is not None and job.state in ACTIVE
    try:
        found = stability.read(widgets.workspace(), run.id)
    except DeliftError as error:
        widgets.error_box(error)
        found = None
    if run.k == widgets.candidates(run) or (found is not None and not math.isfinite(found.estimate.value)):
        st.info(ALL_CHOSEN, icon=":material/info:")
        return
    if active:
        _measuring(run.id)
    else:
        if job is not None and job.state not in ("done", *ACTIVE):
            _ended(job.state, job.error)
        label = "Measure again" if found is not None else "Measure stability"
        st.button(label, key="stability.start", icon=":material/repeat:", on_click=_start, args=(run.id,))
    if found is not None:
        _show(run, pool, k, found)


def _start(run_id: str) -> None:
    with widgets.guarded():
        stability.start(widgets.workspace(), run_id)


def _cancel(run_id: str) -> None:
    jobs.cancel(widgets.workspace(), run_id, JOB)


@st.fragment(run_every=1.0)
def _measuring(run_id: str) -> None:
    """The measurement under way; the page comes back when it has ended."""
    job = jobs.job(widgets.workspace(), run_id, JOB)
    if job is None or job.state not in ACTIVE:
        st.rerun()
    told = stages.told(job.stage or "", job.done or 0, job.total or 0)
    word = "Stopping" if job.cancel_at else f"{told} ({job.note})" if job.note else told
    st.progress(job.share, text=widgets.escape(word))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("You may close this page: the measurement goes on.")
        st.button("Cancel", key="stability.cancel", icon=":material/stop_circle:", on_click=_cancel, args=(run_id,))


def _ended(state: str, error: str) -> None:
    """A measurement that came to nothing."""
    if state == "cancelled":
        st.info("The measurement was cancelled; finished replicates are kept.", icon=widgets.STATE_ICONS[state])
        return
    why = widgets.escape(error or "It ended without a word.")
    st.warning(f"Stability was not measured. {why}", icon=widgets.STATE_ICONS[state])


def _show(run: Run, pool: Dataset, k: int, found: stability.Stability) -> None:
    with st.container(horizontal=True, key="stability.numbers"):
        for name, told in found.sources.items():
            if not math.isfinite(told.value):  # of this source alone: each of its replicates picks every row
                st.metric(NAMES[name], "nothing can vary", border=True, width="content")
                continue
            interval = "" if told.low is None else f"95 %: {told.low:.2f} to {told.high:.2f}"
            st.metric(
                NAMES[name], f"{told.value:.2f}, {told.word}", interval or None, delta_color="off", delta_arrow="off",
                border=True, width="content", help=f"{told.replicates} replicates with {stability.SOURCES[name]}.",
            )  # fmt: skip
    st.markdown(widgets.escape(found.estimate.sentence))
    told = (
        f"Measured at the run's own budget of {run.k:,} rows. 1: always the same rows; 0: no more alike than random "
        "subsets of that size (Nogueira, Sechidis and Brown 2018; below 0.4 is poor, above 0.75 excellent)."
    )
    if k != run.k:
        told += f" The budget shown elsewhere on this page is {k:,} rows."
    st.caption(told)
    for note in found.notes:
        st.caption(widgets.escape(note))
    _frequencies(run, pool, found)


def _frequencies(run: Run, pool: Dataset, found: stability.Stability) -> None:
    names = list(found.sources)
    source = names[0]
    if len(names) > 1:
        source = st.segmented_control(
            "Frequencies by", names, default=names[0], required=True, format_func=lambda name: NAMES[name],
            key="stability.source",
        )  # fmt: skip
    frequency = found.frequencies[source]
    picked = np.zeros(len(frequency), np.bool_)
    picked[run.picked] = True
    figure = histogram(
        np.where(frequency > 0, 100 * frequency, np.nan), label="% of replicates that pick a row",
        noun="rows picked at least once", chosen=picked, theme=widgets.theme(),
    )  # fmt: skip
    st.plotly_chart(figure, key="stability.histogram", config={"displayModeBar": False}, alt=alt_of(figure))
    columns = st.columns(2, gap="large")
    for column, title, text, rows in (
        (columns[0], "Picked by luck", "rows of the selection that replicates pick least often",
         lucky(frequency, run.picked, LISTED)),
        (columns[1], "Nearly picked", "other rows that replicates pick most often",
         nearly(frequency, run.picked, LISTED)),
    ):  # fmt: skip
        with column:
            st.markdown(f"**{title}**: {text}.")
            if len(rows):
                st.dataframe(table(pool, rows, frequency), hide_index=True, alt=f"{title}: {text}",
                             column_config={"replicates, %": st.column_config.NumberColumn(format="%.0f")})  # fmt: skip
            else:
                st.caption("None.")


def table(pool: Dataset, rows: Indices, frequency: Doubles) -> pd.DataFrame:
    """One line for each row: its id, how often replicates pick it, the beginning of its prompt."""
    prompts = [" ".join(pool.prompts[row].split()) for row in rows.tolist()]
    return pd.DataFrame(
        {
            "id": [pool.ids[row] for row in rows.tolist()], "replicates, %": 100 * frequency[rows],
            "prompt": [widgets.clip(text, EXCERPT) for text in prompts],
        }
    )  # fmt: skip
