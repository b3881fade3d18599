"""Export: the chosen rows as files, the rejected ones with reasons, and the record that makes the same subset again."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from delift_core.data import refusals
from delift_core.runs import cut, export
from delift_core.runs.run import Run
from delift_core.types import Dataset
from pages import _jobs as parts
from pages import _widgets as widgets

FORMATS = {
    "jsonl": ("JSONL", "The original records; for JSON Lines input the very bytes of the source.", "application/jsonl"),
    "parquet": ("Parquet", "The original records by value, one column per field.", "application/vnd.apache.parquet"),
    "csv": ("CSV", "The original records by value, one column per field, for a spreadsheet.", "text/csv"),
}  # fmt: skip
PREVIEW_ROWS = 20


def subset(run: Run, dataset: Dataset, k: int, kind: str) -> Callable[[], bytes]:
    """What a download button calls when it is pressed, and not before."""

    def build() -> bytes:
        with tempfile.TemporaryDirectory(prefix="delift-export-") as folder:
            out = Path(folder) / f"subset.{kind}"
            export.write_subset(run, dataset, out, format=kind, k=k)
            return out.read_bytes()

    return build


def rejected(run: Run, dataset: Dataset, k: int) -> Callable[[], bytes]:
    """The rejected rows with reasons, made when the button is pressed."""
    source = widgets.dataset_folder(dataset.fingerprint)

    def build() -> bytes:
        with tempfile.TemporaryDirectory(prefix="delift-export-") as folder:
            out = Path(folder) / "rejected.jsonl"
            subset = Path(folder) / "subset.jsonl"
            export.write_subset(run, dataset, subset, k=k, rejected=out, refusals=refusals(source))
            return out.read_bytes()

    return build


def manifest(run: Run, k: int) -> Callable[[], bytes]:
    """The manifest of the subset at this budget."""
    command = parts.command_for(cut.config_at(run, k))
    return lambda: json.dumps(cut.manifest_at(run, k, command=command), indent=2, ensure_ascii=False).encode()


st.title("Export")
run = widgets.require_run("Nothing to export yet: an export needs a finished run.")
dataset = widgets.open_dataset_cached(run.config.pool)
k = widgets.budget_slider(run)

with st.container(horizontal=True):
    st.metric("Rows", f"{k:,}", width="content", border=True)
    st.metric("Share of the full value", widgets.percent(widgets.share_of_full(run, k)), width="content", border=True)
    st.metric("Rows left out", f"{len(dataset) - k:,}", width="content", border=True)

left, right = st.columns([2, 3], gap="large")
with left:
    st.subheader("The subset")
    kind = st.segmented_control(
        "Format", list(FORMATS), default="jsonl", required=True, format_func=lambda name: FORMATS[name][0],
        key="format", persist_state="session",
    )  # fmt: skip
    title, note, mime = FORMATS[kind]
    st.caption(note)
    st.download_button(
        f"Download {k:,} rows as {title}", subset(run, dataset, k, kind), f"subset.{kind}", mime, key="get.subset",
        type="primary", icon=":material/download:", on_click="ignore",
    )  # fmt: skip
    st.subheader("The record of it")
    with st.container(horizontal=True):
        st.download_button(
            "Rejected rows with reasons", rejected(run, dataset, k), "rejected.jsonl", "application/jsonl",
            key="get.rejected", icon=":material/block:", on_click="ignore",
            help="Every row that is not in the subset, with why: beyond the budget, a copy, or refused when read.",
        )  # fmt: skip
        st.download_button(
            "Manifest", manifest(run, k), "manifest.json", "application/json", key="get.manifest",
            icon=":material/receipt_long:", on_click="ignore",
            help="Inputs with their hashes, row ids, models, options, seed and versions.",
        )  # fmt: skip
with right:
    st.subheader("Make it again")
    st.caption("From the manifest, or by the same choice; both give the same ids.")
    home = shlex.quote(str(widgets.workspace().root))
    st.code(f"delift replay manifest.json --workspace {home}", language="bash", wrap_lines=True)
    st.code(parts.command_text(cut.config_at(run, k), out="subset.jsonl"), language="bash", wrap_lines=True)

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
