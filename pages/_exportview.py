"""Parts of the Export page: files that are made when a button is pressed, the first record, the report, the hub."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from delift_core.errors import DeliftError
from delift_core.runs import cut, formats
from delift_core.runs.run import Run
from delift_core.sharing import exporting, html_report, hubpush
from pages import _jobs as parts
from pages import _widgets as widgets
from pages._widgets import version_of

PLAIN = {
    "jsonl": ("JSONL", "The original records; for JSON Lines input the very bytes of the source.", "application/jsonl"),
    "parquet": ("Parquet", "The original records by value, one column per field.", "application/vnd.apache.parquet"),
    "csv": ("CSV", "The original records by value, one column per field, for a spreadsheet.", "text/csv"),
}  # fmt: skip
FORMATS = {**PLAIN, **{name: (f.title, f.purpose, f.mime) for name, f in formats.FORMATS.items()}}
SHOWN = 4_000  # characters of the first record
REPO, HUB_FORMAT, PUBLIC, SURE = "hub.repo", "hub.format", "hub.public", "hub.sure"
_DONE = "_hub.done"


# --- files that a button makes -------------------------------------------------------------------------------------


def subset(run: Run, k: int, kind: str) -> Callable[[], bytes]:
    """What a download button calls when it is pressed, and not before: the subset, written to disk row by row."""
    ws = widgets.workspace()

    def build() -> bytes:
        with tempfile.TemporaryDirectory(prefix="delift-export-") as folder:
            out = Path(folder) / file_name(kind)
            exporting.export_run(ws, run, out, format=kind, k=k)
            return out.read_bytes()

    return build


def rejected(run: Run, k: int) -> Callable[[], bytes]:
    """The rejected rows with reasons, made when the button is pressed."""
    ws = widgets.workspace()

    def build() -> bytes:
        with tempfile.TemporaryDirectory(prefix="delift-export-") as folder:
            out = Path(folder) / "rejected.jsonl"
            exporting.export_run(ws, run, Path(folder) / "subset.jsonl", k=k, rejected=out)
            return out.read_bytes()

    return build


def manifest(run: Run, k: int) -> Callable[[], bytes]:
    """The manifest of the subset at this budget."""
    command = parts.command_for(cut.config_at(run, k))
    return lambda: json.dumps(cut.manifest_at(run, k, command=command), indent=2, ensure_ascii=False).encode()


def report(run: Run, k: int) -> Callable[[], bytes]:
    """The HTML report at this budget, made when the button is pressed."""
    ws, command = widgets.workspace(), parts.command_for(cut.config_at(run, k))

    def build() -> bytes:
        with tempfile.TemporaryDirectory(prefix="delift-export-") as folder:
            out = Path(folder) / "report.html"
            html_report.write(ws, run, out, k, command=command)
            return out.read_bytes()

    return build


def file_name(kind: str) -> str:
    """What a subset in this format is called when it is downloaded."""
    return f"subset{exporting.ending_of(kind)}"


# --- what will be downloaded ---------------------------------------------------------------------------------------


@st.cache_data(show_spinner="Reading the first rows", max_entries=64)
def _preview(home: str, version: str, run_id: str, k: int, kind: str, _run: Run) -> exporting.Preview:
    return exporting.preview(widgets.workspace(), _run, kind, k)


def show_preview(run: Run, k: int, kind: str) -> bool:
    """The first record in the format, with what the format cannot carry; False where it cannot be written at all."""
    st.subheader("The first record")
    try:
        # What decides on a preview are the first picks alone, so most budgets share one.
        looked = min(k, exporting.LOOKED_AT) if run.selection.nested else k
        found = _preview(os.environ.get("DELIFT_HOME", ""), version_of(run), run.id, looked, kind, run)
    except DeliftError as error:
        widgets.error_box(error)
        return False
    st.code(widgets.clip(found.text, SHOWN), language=None, wrap_lines=True, height=260)
    if len(found.text) > SHOWN:
        st.caption(f"The first {SHOWN:,} of {len(found.text):,} characters.")
    if found.notes:
        seen = "" if found.rows >= k else f" (seen in the first {found.rows:,} rows)"
        told = "\n".join(f"- {widgets.escape(note)}" for note in found.notes)
        st.info(f"What is not as it was{seen}:\n\n{told}", icon=":material/info:")
    return True


# --- command lines -------------------------------------------------------------------------------------------------


def show_commands(run: Run, k: int, kind: str) -> None:
    """The command lines that write the same files, and those that make the same subset elsewhere."""
    home = ["--workspace", str(widgets.workspace().root)]
    base = ["delift", "export", "--id", run.id, *(["--k", str(k)] if k != run.k else [])]
    files = [*base, "--format", kind, "--out", file_name(kind), "--rejected", "rejected.jsonl", *home]
    st.subheader("The same from the command line")
    st.caption("These files:")
    st.code(
        f"{shlex.join(files)}\n{shlex.join([*base, '--report', 'report.html', *home])}",
        language="bash",
        wrap_lines=True,
    )
    st.caption("The same choice again, from the manifest or from the settings; both give the same ids:")
    replay = shlex.join(["delift", "replay", "manifest.json", *home])
    made = parts.command_text(cut.config_at(run, k), out="subset.jsonl")
    st.code(f"{replay}\n{made}", language="bash", wrap_lines=True)


# --- the hub -------------------------------------------------------------------------------------------------------


def show_hub(run: Run, k: int) -> None:
    """A form that lists what would be uploaded, and uploads it once somebody has said so."""
    st.caption(
        "Uploads the rows, the manifest and a card that says how the subset was made to your account on the Hugging "
        "Face hub. No folder of this machine is named in them."
    )
    repo = st.text_input("Dataset", key=REPO, placeholder="owner/name", persist_state="session", width=420).strip()
    kind = st.segmented_control(
        "Format on the hub", list(hubpush.FORMATS), default=hubpush.FORMATS[0], required=True, key=HUB_FORMAT,
        format_func=lambda name: FORMATS[name][0],
    )  # fmt: skip
    public = st.checkbox("Anyone may see it", key=PUBLIC, help="Without this the dataset is private.")
    if not repo:
        st.caption("Give a name to see what would be uploaded.")
        return
    asked = (run.id, k, repo, kind, public)
    left, right = st.columns(2)
    with left:
        if st.button("List what would be uploaded", key="hub.list", icon=":material/list:"):
            _push(run, k, repo, kind, public, dry_run=True)
    with right:
        sure = st.checkbox(f"Upload {k:,} rows to {widgets.escape(repo)}", key=".".join((SURE, *map(str, asked))))
        if st.button("Upload", key="hub.go", icon=":material/cloud_upload:", disabled=not sure):
            with st.spinner("Uploading"):
                _push(run, k, repo, kind, public, dry_run=False)
    held = st.session_state.get(_DONE)
    if held is not None and held[0] == asked:
        _pushed(held[1])


def _push(run: Run, k: int, repo: str, kind: str, public: bool, *, dry_run: bool) -> None:
    st.session_state.pop(_DONE, None)
    try:
        made = hubpush.push(widgets.workspace(), run, repo, k, kind, not public, dry_run=dry_run)
    except DeliftError as error:
        widgets.error_box(error)
        return
    st.session_state[_DONE] = ((run.id, k, repo, kind, public), made)


def _pushed(made: hubpush.Pushed) -> None:
    where = f"{widgets.escape(made.repo_id)} ({'private' if made.private else 'public'})"
    if made.url:
        st.success(f"Uploaded to {where}.", icon=":material/cloud_done:")
        st.code(made.url, language=None)
    else:
        st.info(f"Nothing was uploaded. This would go to {where}:", icon=":material/list:")
    st.dataframe(
        {
            "file": [f.path for f in made.files],
            "size": [widgets.bytes_text(f.bytes) for f in made.files],
            "what": [f.what for f in made.files],
        },
        hide_index=True, alt=f"The {len(made.files)} files of the dataset with their sizes",
    )  # fmt: skip
    for note in made.notes:
        st.caption(widgets.escape(note))
    st.caption("The dataset card:")
    st.code(made.card, language=None, wrap_lines=True, height=240)
