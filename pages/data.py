"""Data: load instruction data, see how it was understood, what was refused and why, and what is in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from delift_core import figures, pipeline
from delift_core.data import FieldMap, Preview, is_local, place_and_split, preview, refusals
from delift_core.data.turns import apart
from delift_core.errors import DeliftError, SplitError
from delift_core.registry import ENCODERS
from delift_core.types import Dataset
from pages import _widgets as widgets
from pages._language import BUILT_IN, warn_language
from pages._nearview import near_found, show_near_copies

UPLOAD, SERVER, HUB = "Upload a file", "Path on the server", "Hugging Face id"
PLACES = {
    SERVER: ("File, or save_to_disk folder, on the server", "/data/pool.jsonl"),
    HUB: ("Dataset id on the Hugging Face hub", "tatsu-lab/alpaca"),
}
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst")
ROLES = {
    "pool": "Pool: choose from these rows",
    "target": "Target: what it should get good at",
    "existing": "Existing: already trained on",
}
TURNS = {"last": "The last answer; all before it is the prompt", "every": "One row for every answer"}
MAIN_PARTS = ("prompt", "input", "response", "messages")
NO_FIELD = "–"
CHUNK = 1 << 20  # bytes
SHOWN_REFUSALS = 200
ROWS, REFUSED, COPIES, CONTENTS = "Rows", "Refused rows", "Near-copies", "What is in it"


# --- where the data comes from -----------------------------------------------------------------------------------


def keep_upload(upload: Any) -> Path:
    """Move an upload from memory to the workspace, piece by piece; its name there is its hash, not the user's."""
    folder = widgets.workspace().uploads
    digest, part = hashlib.sha256(), folder / f"{upload.file_id}.part"
    with part.open("wb") as out:
        while piece := upload.read(CHUNK):
            digest.update(piece)
            out.write(piece)
    suffix = "".join(s.lower() for s in Path(upload.name).suffixes[-2:] if s.lower() in SUFFIXES)
    return part.replace(folder / f"{digest.hexdigest()[:32]}{suffix}")


def ask_source() -> tuple[str, str] | None:
    """(place, name) of the data to look at; None while nothing was given."""
    where = st.segmented_control(
        "Where is the data?", [UPLOAD, SERVER, HUB], default=UPLOAD, required=True, key="where", persist_state="session"
    )
    if where == UPLOAD:
        turn = st.session_state.setdefault("upload.turn", 0)
        upload = st.file_uploader(
            "JSONL, JSON, CSV, TSV, Parquet, Arrow or text; plain, gzip or zstd", key=f"upload.{turn}",
            help="For a larger file, put it on the server and give its path.",
        )  # fmt: skip
        if upload is not None:
            st.session_state["source"] = (str(keep_upload(upload)), upload.name)
            st.session_state["upload.turn"] = turn + 1  # an empty uploader frees the memory that held the file
            st.rerun()
    else:
        label, hint = PLACES[where]
        with st.form("place", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
            text = st.text_input(label, placeholder=hint, key=f"place.{where}").strip()
            if st.form_submit_button("Look at it", icon=":material/search:") and text:
                st.session_state["source"] = (text, Path(text).name if where == SERVER else text)
    source: tuple[str, str] | None = st.session_state.get("source")
    return source


@st.cache_data(show_spinner="Reading the first rows", max_entries=32)
def look(place: str, stamp: float, parts: Mapping[str, str] | None, turns: str) -> Preview:
    """The first rows of a source as it is understood; `stamp` is the file's time of change."""
    return preview(place, mapping=None if parts is None else FieldMap.from_json(dict(parts)), turns=turns)


def map_fields(seen: Preview) -> FieldMap | None:
    """Field mapper, filled in with what was detected; None while nothing was changed."""
    found = seen.mapping.to_json()
    chosen: dict[str, str | None] = {}
    with st.container(horizontal=True, vertical_alignment="bottom", key="mapper"):
        more = st.session_state.get("map.more", False)
        for f in dataclasses.fields(FieldMap):
            chosen[f.name] = found.get(f.name)
            if not (more or f.name in found or f.name in MAIN_PARTS):
                continue
            options = [NO_FIELD, *dict.fromkeys([*seen.fields, *filter(None, [found.get(f.name)])])]
            value = st.selectbox(
                f.name.capitalize(), options, index=options.index(found.get(f.name, NO_FIELD)),
                key=f"map.{f.name}.{seen.evidence}", help=f.metadata.get("help"), width=190,
            )  # fmt: skip
            chosen[f.name] = None if value == NO_FIELD else value
        st.toggle("All parts", key="map.more", help="Also system text, tools, reply trees and other rare parts.")
    mapping = FieldMap(**chosen)
    return None if mapping == seen.mapping else mapping


def conversation(prompt: str, response: str) -> None:
    """One row as a conversation, as plain text: the question first, what stands before it folded behind."""
    head, question = apart(prompt)
    with st.chat_message("user", avatar=":material/person:"):
        widgets.plain(question, limit=1_200)
        if head:
            with st.expander("System text and tools, which stand before the question"):
                widgets.plain(head, limit=1_200)
    if response:
        with st.chat_message("assistant", avatar=":material/smart_toy:"):
            widgets.plain(response, limit=1_200)


def show_head(seen: Preview) -> None:
    """The first three rows as conversations, or why they are none."""
    for column, made in zip(st.columns(3), seen.examples[:3], strict=False):
        with column, st.container(border=True, height=340, autoscroll=False):
            if isinstance(made, str):
                st.warning(f"This row would be refused: {widgets.escape(made)}", icon=":material/block:")
            else:
                for prompt, response in made[:3]:
                    conversation(prompt, response or "")


def offer_splits(error: SplitError) -> None:
    """Let the user choose one of the splits that reading has met; where a split was chosen already, say what is wrong.

    A JSON document is read to its end before all its arrays are known, so this may come as late as loading.
    """
    source = st.session_state.get("source")
    if source is None or source[0] in st.session_state.get("splits", {}):
        widgets.error_box(error)
        return
    st.session_state.setdefault("splits", {})[source[0]] = error.splits
    st.rerun()


def add() -> None:
    """Look at a source, correct the mapping, load it."""
    source = ask_source()
    if source is None:
        return
    place, name = source
    st.subheader(widgets.escape(name))
    if splits := st.session_state.get("splits", {}).get(place):
        split = st.selectbox("Split", splits, key="split", width=300, help="This source holds several; load one.")
        place, name = f"{place}#{split}", f"{name}#{split}"
    path = Path(place_and_split(place)[0])
    stamp = path.stat().st_mtime if is_local(path) else 0.0
    detected = look(place, stamp, None, "last")
    st.markdown(f"**{widgets.escape(detected.schema)}**, {detected.format}: {widgets.escape(detected.evidence)}")
    mapping = map_fields(detected)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        role = st.selectbox("Role", list(ROLES), format_func=lambda r: ROLES[r], key="new.role", width=300)
        turns = st.selectbox("Conversations", list(TURNS), format_func=lambda t: TURNS[t], key="new.turns", width=340)
        unlabelled = st.checkbox(
            "Keep rows without a response", key="new.unlabelled",
            help="Otherwise they are refused. Some methods need no response: delift-se, got-d and random among them.",
        )  # fmt: skip
    show_head(look(place, stamp, None if mapping is None else mapping.to_json(), turns))
    with st.container(horizontal=True):
        go = st.button("Load", type="primary", icon=":material/upload:", key="load")
        if st.button("Discard", key="discard"):
            st.session_state.pop("source", None)
            st.rerun()
    if go:
        bar = st.progress(0.0, text="Reading")

        def show(stage: str, done: float, total: float, note: str = "") -> None:
            bar.progress(min(1.0, done / total) if total else 0.0, text=f"{stage}: {note}")

        dataset = pipeline.add_dataset(
            widgets.workspace(), place, role=role, mapping=mapping, turns=turns, need_response=not unlabelled,
            name=name, progress=show,
        )  # fmt: skip
        st.session_state.pop("source", None)
        st.session_state["dataset"] = dataset.fingerprint
        refused = widgets.dataset_report(dataset.fingerprint).refused
        st.session_state["said"] = f"{len(dataset):,} rows loaded, {refused:,} refused. Run chooses from them."
        st.rerun()


# --- what is in a loaded dataset ---------------------------------------------------------------------------------


def show_rows(dataset: Dataset) -> None:
    """Three rows as conversations, from anywhere in the dataset."""
    first = st.number_input(
        f"First row, of {len(dataset):,}",
        1,
        max(1, len(dataset) - 2),
        1,
        step=3,
        key="first",
        width=260,
    )
    for column, index in zip(st.columns(3), range(first - 1, min(first + 2, len(dataset))), strict=False):
        with column, st.container(border=True, height=460, autoscroll=False):
            st.caption(f"Row {index + 1:,}, id {widgets.escape(widgets.clip(dataset.ids[index], 60))}")
            conversation(dataset.prompts[index], dataset.responses[index])


def counts(table: Mapping[str, int], what: str, alt: str) -> None:
    """A small table of names and how many rows each has."""
    st.dataframe({what: list(table), "rows": list(table.values())}, hide_index=True, alt=alt)


def show_refused(fingerprint: str) -> None:
    """Refused rows with line, reason and text; all of them to download."""
    report, folder = widgets.dataset_report(fingerprint), widgets.dataset_folder(fingerprint)
    if not report.refused:
        st.caption("No row was refused.")
        return
    counts(report.reasons, "reason", f"Reasons for which {report.refused} rows were refused")
    rows = pd.DataFrame([dataclasses.asdict(r) for r in islice(refusals(folder), SHOWN_REFUSALS)])
    st.dataframe(
        rows, hide_index=True, column_config={"line": st.column_config.NumberColumn(width=80)},
        alt=f"The first {len(rows)} refused rows with line, reason and text",
    )  # fmt: skip
    if report.refused > len(rows):
        st.caption(f"The first {len(rows):,} of {report.refused:,}.")

    def everything() -> bytes:
        lines = (json.dumps(dataclasses.asdict(r), ensure_ascii=False) for r in refusals(folder))
        return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")

    st.download_button(
        "Download the refused rows", everything, "refused.jsonl", "application/jsonl", key="get.refused",
        icon=":material/download:", on_click="ignore",
    )  # fmt: skip


def group_line(name: str, values: Iterable[str | None]) -> dict[str, Any]:
    """How many different values a field has, and the commonest of them."""
    series = pd.Series(list(values), dtype="object").dropna()
    common = series.value_counts().head(3)
    shown = [widgets.clip(str(value), 40) for value in common.index]
    return {"field": name, "different values": int(series.nunique()), "commonest": shown}


def show_contents(dataset: Dataset) -> None:
    """Lengths, languages, personal data, and the fields that can serve as groups."""
    found = widgets.profile_cached(dataset.fingerprint)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Length of prompts and responses")
        chart = figures.lengths(found, theme=widgets.theme())
        st.plotly_chart(chart, key="lengths", config={"displayModeBar": False}, alt=figures.alt_of(chart))
        st.subheader("Fields usable as groups")
        if dataset.fields:
            table = pd.DataFrame([group_line(name, dataset.group(name)) for name in dataset.fields])
            st.dataframe(table, hide_index=True, alt="Short fields of the source with the number of different values")
        else:
            st.caption("The data has no extra field with short values.")
    with right:
        st.subheader("Languages")
        counts(found.languages, "language", "Languages found in a sample of the rows")
        st.subheader("Personal data")
        if found.personal:
            counts(found.personal, "kind", "Rows that seem to hold personal data, by kind")
            examples = pd.DataFrame(
                [{"row": e.row + 1, "id": dataset.ids[e.row], "kind": e.kind, "text": e.text} for e in found.examples]
            )
            st.dataframe(examples, hide_index=True, alt="Examples of what was found, masked, with their rows")
        else:
            st.caption("No e-mail address, telephone number, IP address or card number was found.")
        if found.sampled < found.rows:
            st.caption(f"Languages and personal data are those of {found.sampled:,} rows drawn at random.")


def loaded() -> None:
    """The datasets of the workspace, and one of them opened."""
    names = {r.fingerprint: f"{r.name} ({r.rows:,} rows)" for r in widgets.workspace().catalogue.datasets()}
    if not names:
        st.caption("No dataset is loaded yet. Drop a file above, or try the sample.")
        return
    if st.session_state.get("dataset") not in names:
        done = widgets.current_run()  # who comes to look at a run wants its pool, not what was loaded last
        pool = done.config.pool if done else None
        st.session_state["dataset"] = pool if pool in names else next(iter(names))
    fingerprint = st.selectbox(
        "Dataset", list(names), format_func=lambda f: names.get(f, f), key="dataset", persist_state="session"
    )
    record = widgets.workspace().catalogue.dataset(fingerprint)
    dataset, report = widgets.open_dataset_cached(fingerprint), widgets.dataset_report(fingerprint)
    with st.container(horizontal=True):
        st.metric("Rows", f"{record.rows:,}", border=True, width="content")
        st.metric("Refused", f"{record.refused:,}", border=True, width="content")
        st.metric("Exact copies", f"{len(dataset) - len(dataset.unique):,}", border=True, width="content")
        if near := near_found(fingerprint):
            st.metric(
                "Near-copies", f"{near.repeats:,}", border=True, width="content",
                help=f"Rows that repeat another at a cosine of {near.threshold:g} or more, by {near.encoder}.",
            )  # fmt: skip
        st.metric("Read as", record.schema, border=True, width="content")
        st.metric("Responses", "in every row" if dataset.labelled else "not in every row", border=True, width="content")
    roles = ", ".join(record.roles)
    st.caption(f"Loaded as {widgets.escape(roles)}. {widgets.escape(report.evidence)}")
    warn_language(fingerprint, encoder=next(iter(ENCODERS)), model=BUILT_IN)
    view = st.segmented_control(
        "Show", [ROWS, REFUSED, COPIES, CONTENTS], default=ROWS, required=True, key="view",
        label_visibility="collapsed", persist_state="session",
    )  # fmt: skip
    if view == ROWS:
        show_rows(dataset)
    elif view == REFUSED:
        show_refused(fingerprint)
    elif view == COPIES:
        show_near_copies(dataset, conversation)
    else:
        show_contents(dataset)


st.title("Data")
if said := st.session_state.pop("said", None):
    st.toast(said, icon=":material/check_circle:")
with st.container(border=True, key="add"):
    try:
        add()
    except SplitError as error:
        offer_splits(error)
    except DeliftError as error:
        widgets.error_box(error)
    shipped = widgets.sample_run()
    if shipped is None:
        st.caption("This copy ships no sample.")
    elif st.button("Try the sample", key="sample", icon=":material/science:", help="A finished run on real rows."):
        widgets.select_run(shipped)
        st.switch_page("pages/map.py", query_params={widgets.RUN_KEY: shipped})
st.header("Loaded data")
try:
    loaded()
except DeliftError as error:
    widgets.error_box(error)
