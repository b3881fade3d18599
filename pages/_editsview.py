"""Edits of a run: those of this session that are not saved, the log of the saved ones, their price, and the new run."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from delift_core.config import RunConfig
from delift_core.errors import DeliftError
from delift_core.review import editing
from delift_core.review.editing import Change, Edits, Price, Standing
from delift_core.runs import cut
from delift_core.runs.records import Edit
from delift_core.runs.run import Run
from delift_core.types import Dataset, Indices
from pages import _widgets as widgets
from pages._changedrun import start_from
from pages._mapview import version_of

PENDING, PRICE = "_edits.pending", "_edits.price"  # by run id; the last price
WHO, ALL = "edit.who", "edits.all"
LOG, NAMED, LISTED = 20, 6, 200  # saved edits shown at first; rows that an edit names; rows that come in or go out
DONE = {"pin": "Pin", "ban": "Ban", "unpin": "Unpin", "unban": "Unban"}
RULES = (
    "Pinned rows come first, in the order in which they were pinned; banned rows are never picked. Of two edits about "
    "the same row the later one wins. What the run itself pins or bans stays until an edit takes it back."
)


# --- what this session has not saved -------------------------------------------------------------------------------


def pending(run_id: str) -> list[Change]:
    """This session's edits of a run that are not saved yet, in their order."""
    held: dict[str, list[Change]] = st.session_state.setdefault(PENDING, {})
    return held.setdefault(run_id, [])


def pending_count(run_id: str) -> int:
    """How many edits of a run this session has not saved."""
    return len(st.session_state.get(PENDING, {}).get(run_id, ()))


def note_changes(run: Run, pool: Dataset, changes: Sequence[Change]) -> None:
    """Add edits to those that are not saved; raises ConfigError where one of them could not be."""
    for change in changes:
        editing.check_change(change, len(pool))
    pending(run.id).extend(changes)
    st.toast(f"{sum(len(c.rows) for c in changes):,} rows noted. Save them under Edits.", icon=":material/edit_note:")


def current_edits(run: Run, pool: Dataset) -> Edits:
    """The run's pins and bans after everybody's saved edits and this session's others."""
    return editing.fold(run.config, pool, [*widgets.workspace().catalogue.edits(run.id), *pending(run.id)])


def key_of(edits: Edits) -> str:
    """A short name for what edits come to, to cache by."""
    return hashlib.blake2b(edits.pinned.tobytes() + b"|" + edits.banned.tobytes(), digest_size=12).hexdigest()


def standing(run: Run, pool: Dataset, k: int, edits: Edits) -> Standing:
    """How the pool's rows stand at this budget after these edits."""
    home = os.environ.get("DELIFT_HOME", "")
    return _standing(home, run.id, version_of(run), k, key_of(edits), run, pool, edits)


@st.cache_resource(show_spinner=False, max_entries=8)
def _standing(
    home: str, run_id: str, version: str, k: int, key: str, _run: Run, _pool: Dataset, _edits: Edits
) -> Standing:
    return Standing.of(_run, _pool, k, _edits)


def ask_who() -> str:
    """The name that the log keeps, remembered in this session."""
    who = st.text_input("Your name", key=WHO, placeholder="for the log", persist_state="session", width=220)
    return who or ""


# --- the view ------------------------------------------------------------------------------------------------------


def show_edits(run: Run, pool: Dataset, k: int) -> None:
    """Unsaved edits, the log, the price of all that count, and the run they make."""
    edits, log = current_edits(run, pool), widgets.workspace().catalogue.edits(run.id)
    _show_pending(run, pool)
    st.subheader("Saved edits")
    if log:
        _show_log(run, pool, log)
    else:
        st.caption("None yet. Saved edits are seen by everybody who opens this run; they can be undone, never lost.")
    st.subheader("The edited subset")
    st.caption(RULES)
    with st.container(horizontal=True, key="edits.numbers"):
        st.metric("Rows pinned", f"{len(edits.pinned):,}", width="content", border=True)
        st.metric("Rows banned", f"{len(edits.banned):,}", width="content", border=True)
        st.metric("Rows kept", f"{k:,}", width="content", border=True)
    try:
        config, own = editing.edited_config(run, pool, edits, k), cut.config_at(run, k)
    except DeliftError as error:
        widgets.error_box(error)
        config = own = None
    if config is not None and config == own:
        st.caption("The edits that count change nothing, so this run is the edited subset.")
    elif config is not None:
        _price_and_run(run, pool, k, edits, config)
    _show_versions(run)


def _show_pending(run: Run, pool: Dataset) -> None:
    changes = pending(run.id)
    st.subheader("Not saved yet")
    if not changes:
        st.caption("Nothing. Find rows under Search and edit, then pin or ban them; only you see that until you save.")
        return
    st.caption("Only this session knows of these edits: a reload forgets them.")
    with st.container(border=True, height=300 if len(changes) > 5 else "content", key="edits.pending"):
        for place, change in enumerate(changes):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.text(f"{DONE[change.action]} {_rows_text(pool, change.rows)}. {change.reason}", width="stretch")
                st.button(
                    "Remove", key=f"edits.remove.{place}", icon=":material/close:", type="tertiary",
                    on_click=_remove, args=(changes, place, change),
                )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        who = ask_who()
        named = bool(who.strip())
        if st.button(
            f"Save {len(changes):,}", key="edits.save", type="primary", icon=":material/save:", disabled=not named,
            help=None if named else "Give your name first: the log keeps one with every edit.",
        ):  # fmt: skip
            try:
                _save(run, who)
            except DeliftError as error:
                widgets.error_box(error)
            else:
                st.rerun()


def _remove(changes: list[Change], place: int, change: Change) -> None:
    """Take away the edit at a place, unless a second press came late and another stands there."""
    if place < len(changes) and changes[place] is change:
        del changes[place]


def _save(run: Run, who: str) -> None:
    editing.save(widgets.workspace(), run.id, pending(run.id), who)
    pending(run.id).clear()


def _show_log(run: Run, pool: Dataset, log: Sequence[Edit]) -> None:
    newest = list(reversed(log))
    if len(log) > LOG and not st.toggle(f"Show all {len(log):,}", key=ALL):
        newest = newest[:LOG]
    with st.container(border=True, height=360 if len(newest) > 4 else "content", key="edits.log"):
        for edit in newest:
            with st.container(horizontal=True, vertical_alignment="center"):
                when = time.strftime("%Y-%m-%d %H:%M", time.localtime(edit.at))
                what = f"{DONE.get(edit.action, edit.action)} {_rows_text(pool, edit.rows)}"
                state = "UNDONE. " if edit.undone else ""
                st.text(f"{when}  {state}{widgets.clip(edit.who, 40)}: {what}. {edit.reason}", width="stretch")
                word, icon = ("Redo", "redo") if edit.undone else ("Undo", "undo")
                st.button(  # one key for both words: a second press that comes before the page is drawn again counts
                    word, key=f"edits.turn.{edit.id}", icon=f":material/{icon}:", type="tertiary",
                    on_click=_turn, args=(run.id, edit.id),
                )  # fmt: skip


def _turn(run_id: str, edit: int) -> None:
    """Undo a saved edit, or make it count again, by how the log is at this moment."""
    with widgets.guarded():
        editing.turn(widgets.workspace(), run_id, edit)


def _rows_text(pool: Dataset, rows: Sequence[int]) -> str:
    named = ", ".join(widgets.clip(pool.ids[row], 40) for row in rows[:NAMED])
    more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
    return f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'} ({named}{more})"


# --- price and run -------------------------------------------------------------------------------------------------


def _price_and_run(run: Run, pool: Dataset, k: int, edits: Edits, config: RunConfig) -> None:
    ws, unsaved = widgets.workspace(), pending_count(run.id)
    asked = ("edits", run.id, k, key_of(edits))
    try:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            if st.button("What does it cost?", key="edits.price", icon=":material/balance:"):
                with st.spinner("Choosing again from what the run stored"):
                    st.session_state[PRICE] = (asked, editing.price(ws, run, k, edits=edits))
            label = "Save and make it a run" if unsaved else "Make it a run"
            nameless = bool(unsaved) and not (st.session_state.get(WHO) or "").strip()
            if st.button(
                label, key="edits.run", type="primary", icon=":material/play_arrow:", disabled=nameless,
                help="Give your name above first: the log keeps one with every edit." if nameless else None,
            ):  # fmt: skip
                if unsaved:
                    _save(run, st.session_state.get(WHO) or "")
                start_from(run, config)
    except DeliftError as error:
        widgets.error_box(error)
    held = st.session_state.get(PRICE)
    if held is not None and held[0] == asked:
        show_price(held[1], pool, k)


def show_price(price: Price, pool: Dataset, k: int) -> None:
    """The value with and without, and which rows come in and go out."""
    st.markdown(f"**{widgets.escape(price.sentence)}**")
    if price.k != k:
        st.caption(f"The rules leave {price.k:,} rows to pick, not {k:,}.")
    for note in price.notes:
        st.caption(widgets.escape(note))
    for column, title, rows in zip(st.columns(2), ("Come in", "Go out"), (price.entered, price.left), strict=True):
        with column:
            st.caption(f"{title}: {len(rows):,}")
            if len(rows):
                st.dataframe(
                    rows_table(pool, rows[:LISTED]),
                    hide_index=True,
                    height=min(240, 40 + 35 * len(rows)),
                    alt=f"Rows that {title.lower()}",
                )
            if len(rows) > LISTED:
                st.caption(f"The first {LISTED:,}.")


def rows_table(pool: Dataset, rows: Indices) -> pd.DataFrame:
    """Ids and the beginnings of the texts."""
    taken = pool.table.select(["id", "prompt", "response"]).take(rows)
    return pd.DataFrame(
        {name: [widgets.clip(t or "", 160) for t in taken[name].to_pylist()] for name in taken.column_names}
    )


def _show_versions(run: Run) -> None:
    """Ways back: the runs that differ from this one in pins and bans alone."""
    records = editing.versions(widgets.workspace(), run.config)[:8]
    if not records:
        return
    st.caption("The same run with other pins and bans:")
    with st.container(horizontal=True):
        for record in records:
            pins, bans = len(record.config.pin), len(record.config.ban)
            st.button(
                f"{record.id[:8]}: {pins:,} pinned, {bans:,} banned", key=f"edits.open.{record.id}",
                on_click=widgets.select_run, args=(record.id,), icon=":material/history:",
            )  # fmt: skip
