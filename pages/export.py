"""Export: the chosen rows for training, the rejected ones with reasons, and the record that makes the subset again."""

from __future__ import annotations

import streamlit as st

from pages import _exportview as view
from pages import _widgets as widgets

PREVIEW_ROWS = 20
FORMAT_KEY = "format"

st.title("Export")
run = widgets.require_run("Nothing to export yet: an export needs a finished run.")
dataset = widgets.open_dataset_cached(run.config.pool)
k = widgets.budget_slider(run)

with st.container(horizontal=True):
    st.metric("Rows", f"{k:,}", width="content", border=True)
    st.metric("Share of the full value", widgets.percent(widgets.share_of_full(run, k)), width="content", border=True)
    st.metric("Rows left out", f"{len(dataset) - k:,}", width="content", border=True)

if told := widgets.copies_text(run):
    st.caption(told)

left, right = st.columns([2, 3], gap="large")
with left:
    st.subheader("The subset")
    kind = st.pills(
        "Format", list(view.FORMATS), default="jsonl", required=True, format_func=lambda name: view.FORMATS[name][0],
        key=FORMAT_KEY, bind="query-params", wrap=True,
    )  # fmt: skip
    title, purpose, mime = view.FORMATS[kind]
    st.caption(purpose)
    button = st.container()
    st.subheader("How it was chosen")
    with st.container(horizontal=True):
        st.download_button(
            "Rejected rows with reasons", view.rejected(run, k), "rejected.jsonl", "application/jsonl",
            key="get.rejected", icon=":material/block:", on_click="ignore",
            help="Every row that is not in the subset, with why: beyond the budget, a copy, or refused when read.",
        )  # fmt: skip
        st.download_button(
            "Manifest", view.manifest(run, k), "manifest.json", "application/json", key="get.manifest",
            icon=":material/receipt_long:", on_click="ignore",
            help="Inputs with their hashes, row ids, models, options, seed and versions. It names your files by their "
            "folders; the copy that goes to the hub does not.",
        )  # fmt: skip
        st.download_button(
            "HTML report", view.report(run, k), "report.html", "text/html", key="get.report",
            icon=":material/description:", on_click="ignore",
            help="One file to hand on: settings, value curve, map, coverage by group, notes, top picks. About 5 MB; it "
            "opens without a network.",
        )  # fmt: skip
with right:
    possible = view.show_preview(run, k, kind)
with button:
    st.download_button(
        f"Download {k:,} rows as {title}", view.subset(run, k, kind), view.file_name(kind), mime, key="get.subset",
        type="primary", icon=":material/download:", on_click="ignore", disabled=not possible,
    )  # fmt: skip

view.show_commands(run, k, kind)

with st.expander("Push to the Hugging Face hub", icon=":material/cloud_upload:", key="hub"):
    view.show_hub(run, k)

rows = [int(row) for row in run.selection.order[: min(k, PREVIEW_ROWS)]]
st.subheader(f"The first {len(rows)} picks" if len(rows) < k else "The picks")
st.dataframe(
    {
        "rank": list(range(1, len(rows) + 1)),
        "id": [dataset.ids[row] for row in rows],
        "gain": [float(gain) for gain in run.selection.gains[: len(rows)]],
        "prompt": [widgets.clip(dataset.prompts[row], 300) for row in rows],
        "response": [widgets.clip(dataset.responses[row], 300) for row in rows],
    },
    column_config={
        "rank": st.column_config.NumberColumn(width=60), "gain": st.column_config.NumberColumn(format="%.4f", width=90),
        "id": st.column_config.TextColumn(width=120),
    },
    hide_index=True, alt=f"The first {len(rows)} of {k} chosen rows in the order they were picked",
)  # fmt: skip
