"""Where an example helped: the response of the helped row, token by token, before and after the example.

The model is read by a worker process that stays warm (delift_core/review/token_detail.py), never in the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from delift_core.errors import DeliftError
from delift_core.figures import alt_of
from delift_core.figures.tokens import SHOWN, changes, message
from delift_core.insight.tokens import table
from delift_core.registry import METHODS, reads_texts
from delift_core.review import token_detail
from delift_core.runs import warm
from delift_core.runs.run import Part, Run
from pages import _widgets as widgets
from pages._mapview import version_of

AGAIN = "tokens.again"  # the button of somebody who was told that the worker is busy
PATIENCE = 1.0  # seconds that the page waits while the worker answers somebody else
_ASSETS = Path(__file__).parents[1] / "assets"
_HTML = '<div class="tokens" tabindex="0" role="group" dir="auto"></div>\n<div class="legend"></div>\n'


def _text(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


_response = st.components.v2.component("delift_tokens", html=_HTML, css=_text("tokens.css"), js=_text("tokens.js"))


def worker() -> warm.Warm:
    """The worker of this workspace, one for the whole server; it starts at its first question."""
    return warm.shared(token_detail.worker_command(widgets.workspace()))


def where_it_helped(run: Run, part: Part, row: int, example: int) -> None:
    """The tokens of helped row `row` before and after candidate `example`, both as rows of their datasets.

    Runs whose pairs no language model read say so instead.
    """
    st.subheader("Where it helped")
    method = run.config.method
    if method not in METHODS or not reads_texts(method):
        st.caption(
            "This run compared the two rows as vectors; no language model read one as the example of the other, so "
            "there are no tokens to show. A run of delift, delift-task or delift-continual has them."
        )
        return
    # The version stands in the question so that a run that was made again is read again.
    _where({"run": run.id, "part": part, "row": row, "example": example, "version": version_of(run)})


@st.fragment(parallel=True)
def _where(question: dict[str, Any]) -> None:
    """Ask when somebody presses the button, or at once where the answer is quick; never wait for other people's."""
    held, slot = worker(), st.empty()
    quick = held.holds(question) or (held.ready and not held.busy)
    if not (quick or st.session_state.get(AGAIN)) and not _asked(slot, busy=held.busy):
        return
    try:
        with slot, st.spinner("Reading the response without and with the example"):
            record = held.ask(question, wait=PATIENCE)
    except warm.Busy:
        _asked(slot, busy=True, again=True)
        return
    except DeliftError as error:
        widgets.error_box(error)
        return
    slot.empty()
    show(record)


def _asked(slot: DeltaGenerator, *, busy: bool, again: bool = False) -> bool:
    """The button that asks, and what to expect of it; whether it was pressed."""
    with slot.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button(
            "Try again" if again else "Show where it helped", key=AGAIN if again else "tokens.show",
            icon=":material/refresh:" if again else ":material/format_ink_highlighter:",
        )  # fmt: skip
        if busy:
            st.caption("The model is busy: it is reading a pair for somebody else. That takes a few seconds.")
        else:
            st.caption("Loads the run's language model once, which takes some seconds; later pairs come at once.")
    return pressed


def show(record: dict[str, Any]) -> None:
    """One record of `token_detail`: the coloured response, the two lines, sentences and a table."""
    tokens, theme = record["tokens"], widgets.theme()
    st.caption(
        f"Distance to a sure answer {record['d_before']:.4f} → {record['d_after']:.4f}, utility {record['l2']:+.4f}. "
        f"Log probability per token {record['l_before']:.4f} → {record['l_after']:.4f}, PMI {record['pmi']:+.4f}."
    )
    left, right = st.columns([3, 2], gap="large")
    with left:
        label = "Response of the helped row; each token is marked by how much the example changed its probability"
        _response(data=message(tokens, label=label, theme=theme), key="tokens.response")
        if len(tokens) > SHOWN:
            st.caption(f"The first {SHOWN:,} of {len(tokens):,} tokens; the measures are of all of them.")
    with right:
        figure = changes(tokens, theme=theme)
        st.plotly_chart(figure, key="tokens.figure", config={"displayModeBar": False}, alt=alt_of(figure))
    st.markdown("\n".join(f"- {widgets.escape(sentence)}" for sentence in record["sentences"]))
    for note in record["notes"]:
        st.caption(widgets.escape(note))
    with st.expander("All tokens as a table"):
        st.dataframe(
            pd.DataFrame(table(tokens)), hide_index=True, height=min(360, 38 + 35 * len(tokens)),
            alt=f"The {len(tokens)} tokens with their probability without and with the example",
            column_config={
                name: st.column_config.NumberColumn(format=form)
                for name, form in (("before", "%.4f"), ("after", "%.4f"), ("change", "%+.4f"))
            },
        )  # fmt: skip
