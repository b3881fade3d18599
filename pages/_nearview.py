"""Near-copies on the Data page: rows that are all but the same as another, in sets, with their texts side by side."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from delift_core.pipeline import THRESHOLD, CopySet, NearCopies, expected_seconds, find_near_copies
from delift_core.types import Dataset
from pages import _widgets as widgets
from pages._language import is_foreign

READERS = {
    "fast": "fast: words, whatever their order",
    "minilm": "minilm: meaning, the first 256 tokens",
}
FOUND, ASKED = "_near.found", "_near.asked"  # the last report; (fingerprint, encoder) of the last search
FITTED = "_near.fitted"  # the least cosine that was proposed last
FOREIGN = 0.99  # proposed where most rows are in another language than the encoder `fast` knows
SIDE_BY_SIDE = 3  # rows of an open set
Texts = Callable[[str, str], None]  # shows a prompt and a response


def near_found(fingerprint: str) -> NearCopies | None:
    """The last report on near-copies of this dataset that this session has seen."""
    found: NearCopies | None = st.session_state.get(FOUND)
    return found if found is not None and found.fingerprint == fingerprint else None


def search_near_copies(fingerprint: str, encoder: str, threshold: float) -> None:
    """Look for near-copies and draw the page anew; vectors that were encoded before the page was left are kept."""
    bar = st.progress(0.0, text="Looking for near-copies")

    def show(stage: str, done: float, total: float, note: str = "") -> None:
        bar.progress(min(1.0, done / total) if total else 0.0, text=f"Looking for near-copies: {stage}")

    st.session_state[FOUND] = find_near_copies(
        widgets.workspace(), fingerprint, encoder=encoder, threshold=threshold, progress=show
    )
    st.rerun()


def fit_threshold(fingerprint: str, encoder: str) -> None:
    """Make the least cosine fit encoder and rows, wherever those change it; what a person then sets stays.

    Measured on random pairs of rows: of English ones about 1 in 100,000 reach 0.95 by either encoder; of Finnish ones
    4 in 100 do by `fast`, which knows English words only, and 6 in a million reach 0.99.
    """
    fitting = FOREIGN if encoder == "fast" and is_foreign(fingerprint) else THRESHOLD
    if st.session_state.get(FITTED, THRESHOLD) != fitting:
        st.session_state["near.threshold"] = fitting
    st.session_state[FITTED] = fitting


def show_near_copies(dataset: Dataset, show: Texts) -> None:
    """Rows that are all but the same as another: how many, and the largest sets with their texts side by side."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        encoder = st.selectbox(
            "Compared by", list(READERS), format_func=lambda name: READERS[name], key="near.encoder", width=320,
            persist_state="session",
        )  # fmt: skip
        fit_threshold(dataset.fingerprint, encoder)
        threshold = st.number_input(
            "Least cosine", 0.5, 1.0, THRESHOLD, step=0.01, key="near.threshold", width=160, persist_state="session",
            help="Of a row with the first row of its set: 1 is the same text to the encoder.",
        )  # fmt: skip
        if st.button("Look for near-copies", key="near.go", icon=":material/content_copy:"):
            st.session_state[ASKED] = (dataset.fingerprint, encoder)
    if st.session_state.get(ASKED) != (dataset.fingerprint, encoder):
        seconds = widgets.seconds_text(expected_seconds(len(dataset.unique), encoder))
        st.caption(
            f"Every row is turned into a vector and compared with its nearest ones: about {seconds} for "
            f"{len(dataset.unique):,} rows on two cores, the first time. Another threshold is then told at once. "
            "What is finished stays when you leave the page."
        )
        return
    found = near_found(dataset.fingerprint)
    if found is None or (found.encoder, found.threshold) != (encoder, threshold):
        search_near_copies(dataset.fingerprint, encoder, threshold)
        return
    st.markdown(f"**{widgets.escape(found.sentence)}**")
    for note in found.notes:
        st.caption(note)
    if found.sets:
        st.caption(
            "A long text that rows share, such as a task's definition, makes them alike. Look before you drop any."
        )
        show_sets(dataset, found, show)


def show_sets(dataset: Dataset, found: NearCopies, show: Texts) -> None:
    """The largest sets as a table, and one of them opened."""
    table = {
        "set": list(range(1, len(found.sets) + 1)),
        "rows": [one.size for one in found.sets],
        "first row": [widgets.clip(dataset.ids[one.rows[0]], 60) for one in found.sets],
        "least cosine": [min(one.cosines) for one in found.sets],
    }
    alt = (
        f"The {len(found.sets)} largest of {found.groups} sets of near-copies, the largest of {found.sets[0].size} rows"
    )
    st.dataframe(table, hide_index=True, height=min(300, 38 + 35 * len(found.sets)), alt=alt)
    if found.groups > len(found.sets):
        st.caption(f"The {len(found.sets)} largest of {found.groups:,} sets.")
    place = 1
    if len(found.sets) > 1:
        place = st.number_input(f"Open set, 1 to {len(found.sets)}", 1, len(found.sets), 1, key="near.set", width=220)
    show_set(dataset, found.sets[place - 1], show)


def show_set(dataset: Dataset, one: CopySet, show: Texts) -> None:
    """The first row of a set beside those that are least like it."""
    for column, row, cosine in zip(st.columns(SIDE_BY_SIDE), one.rows, one.cosines, strict=False):
        with column, st.container(border=True, height=420, autoscroll=False):
            told = "the first of its set" if row == one.rows[0] else f"cosine {cosine:.3f} with the first"
            st.caption(f"Row {row + 1:,}, id {widgets.escape(widgets.clip(dataset.ids[row], 60))}: {told}")
            show(dataset.prompts[row], dataset.responses[row])
    if one.size > min(len(one.rows), SIDE_BY_SIDE):
        st.caption(f"The first row and those least like it, of {one.size:,} rows.")
