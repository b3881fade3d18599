"""Search and edit: rows found by words, by a pattern or by SQL; some or all of them pinned or banned."""

from __future__ import annotations

import hashlib
import os

import pandas as pd
import streamlit as st

from delift_core.data.search import column_names, search, values_of, with_value
from delift_core.errors import DeliftError
from delift_core.quota import EMPTY
from delift_core.review import editing
from delift_core.review.editing import WHICH, Change, Edits, Standing
from delift_core.runs.run import Run
from delift_core.types import Dataset, Indices
from pages import _editsview as editsview
from pages import _widgets as widgets
from pages._mapview import version_of

QUERY, BY, SHOW, COLUMN, VALUE = "q", "search", "show", "column", "value"  # also in the URL
TEXTS, WAY = "_search.texts", "_search.way"  # in the session: what was last looked for, by way; the way of that
REASON, SCOPE, TABLE, TURN = "edit.reason", "edit.scope", "audit.table", "_audit.turn"
MODES = {"text": "text", "regex": "regex", "SQL": "sql"}
CHOSEN, MATCHING = "chosen in the table", "all that match"
SHOWN, ASK_ABOVE = 500, 1_000  # rows of the table; edits of more rows than this want a tick
HELP = {
    "text": "Looked for in id, prompt and response; upper and lower case are the same.",
    "regex": "A pattern (RE2) in id, prompt or response, such as `(?i)\\bkilo(metres|grams)\\b`.",
    "SQL": "A condition, such as `length(response) > 200 AND selected`, or one SELECT that returns row or id.",
}

EXAMPLES = {
    "text": "all rows, or such as: river",
    "regex": "such as: ^Write .*poem",
    "SQL": "such as: length(response) > 200",
}


def show_search(run: Run, pool: Dataset, k: int) -> None:
    """The search, what it found in pick order, and the buttons that edit it."""
    edits = editsview.current_edits(run, pool)
    standing = editsview.standing(run, pool, k, edits)
    try:
        found = _ask(run, pool, k, edits, standing)
    except DeliftError as error:
        widgets.error_box(error)
        return
    kept = int(standing.selected[found].sum())
    st.markdown(f"**{len(found):,} of {len(pool):,} rows match.** {kept:,} of those are selected.")
    if not len(found):
        st.caption("Try fewer words, another way to search, or no filter.")
        return
    shown = found[:SHOWN]
    chosen = _table(pool, shown, standing)
    if len(found) > len(shown):
        st.caption(f"The first {len(shown):,} in pick order. Buttons below reach all {len(found):,}.")
    _edit_bar(run, pool, found, chosen, edits)
    if len(chosen):
        _card(pool, int(chosen[0]), standing)


# --- asking --------------------------------------------------------------------------------------------------------


def _ask(run: Run, pool: Dataset, k: int, edits: Edits, standing: Standing) -> Indices:
    """The rows that match, in pick order."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        mode = st.segmented_control(
            "Search by", list(MODES), default="text", required=True, key=BY, bind="query-params", on_change=_change_way,
        )  # fmt: skip
        query = (
            st.text_input("Search", key=QUERY, bind="query-params", placeholder=EXAMPLES[mode], help=HELP[mode]) or ""
        )
    st.session_state[WAY] = mode
    if mode == "SQL":
        names = ", ".join(column_names(pool, standing.columns))
        st.caption(f"{HELP[mode]} Columns of rows: {widgets.escape(names)}.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        which = st.segmented_control("Rows", list(WHICH), default="all", required=True, key=SHOW, bind="query-params")
        column = value = None
        if pool.fields:
            column = st.selectbox(
                "Only where", list(pool.fields), index=None, key=COLUMN, bind="query-params", width=200,
                placeholder="any column",
            )  # fmt: skip
        if column is not None:
            names = [
                EMPTY if name is None else name
                for name, _ in _values(os.environ.get("DELIFT_HOME", ""), pool.fingerprint, column)
            ]
            value = st.selectbox(
                "is", names, index=None, key=VALUE, bind="query-params", accept_new_options=True, width=240,
                placeholder="any value",
            )  # fmt: skip
    home, version, field = os.environ.get("DELIFT_HOME", ""), version_of(run), (column, value)
    key = editsview.key_of(edits)
    return _found(home, run.id, version, k, key, query, MODES[mode], which, *field, pool, standing)


def _change_way() -> None:
    """Put away what was looked for in the old way, and take up what was last looked for in the new one."""
    texts = st.session_state.setdefault(TEXTS, {})
    texts[st.session_state.get(WAY, "text")] = st.session_state.get(QUERY) or ""
    st.session_state[QUERY] = texts.get(st.session_state[BY], "")


@st.cache_resource(show_spinner=False, max_entries=32)
def _values(home: str, fingerprint: str, column: str) -> list[tuple[str | None, int]]:
    return values_of(widgets.open_dataset_cached(fingerprint), column)


@st.cache_resource(show_spinner="Searching", max_entries=32)
def _found(
    home: str, run_id: str, version: str, k: int, edits: str, query: str, how: str, which: str, column: str | None,
    value: str | None, _pool: Dataset, _standing: Standing,
) -> Indices:  # fmt: skip
    rows = search(_pool, query, how, columns=_standing.columns)
    mask = _standing.which(which)
    if column is not None and value is not None:
        mask = mask & with_value(_pool, column, None if value == EMPTY else value)
    return _standing.by_pick(rows[mask[rows]])


# --- what was found ------------------------------------------------------------------------------------------------


def _table(pool: Dataset, shown: Indices, standing: Standing) -> Indices:
    """The table of the rows; returns those that are chosen in it."""
    frame = pd.DataFrame(
        {
            "selected": standing.selected[shown],
            "edit": [
                "pinned" if p else "banned" if b else ""
                for p, b in zip(standing.pinned[shown], standing.banned[shown], strict=True)
            ],
            "pick": pd.array([rank + 1 if rank >= 0 else None for rank in standing.rank[shown]], dtype="Int64"),
            "gain": standing.gain[shown],
        }
    )
    frame = pd.concat([editsview.rows_table(pool, shown), frame], axis=1)
    frame = frame[["id", "selected", "edit", "pick", "gain", "prompt", "response"]]
    event = st.dataframe(
        frame, hide_index=True, height=380, key=_table_key(shown), on_select="rerun", selection_mode="multi-row",
        alt=f"{len(shown):,} rows that match, in pick order",
        column_config={
            "id": st.column_config.TextColumn(width=120),
            "gain": st.column_config.NumberColumn(format="%.4g", width=80),
            "selected": st.column_config.CheckboxColumn(width=70), "pick": st.column_config.NumberColumn(width=60),
            "edit": st.column_config.TextColumn(width=70),
        },
    )  # fmt: skip
    return shown[[line for line in event.selection.rows if line < len(shown)]]


def _table_key(shown: Indices) -> str:
    """Another table for other rows and after each edit: no line stays chosen that stood for another row."""
    name = hashlib.blake2b(shown.tobytes(), digest_size=8).hexdigest()
    return f"{TABLE}.{st.session_state.get(TURN, 0)}.{name}"


def _card(pool: Dataset, row: int, standing: Standing) -> None:
    """The texts of the first chosen row."""
    rank = int(standing.rank[row])
    where = (
        f"pick {rank + 1:,}, {'selected' if standing.selected[row] else 'rejected'}" if rank >= 0 else "never picked"
    )
    with st.container(border=True, key="audit.card"):
        st.text(f"Row {widgets.clip(pool.ids[row], 80)}: {where}")
        for column, title, text in zip(
            st.columns(2), ("Prompt", "Response"), (pool.prompts[row], pool.responses[row]), strict=True
        ):
            with column:
                st.caption(title)
                widgets.plain(text or "(none)")


# --- editing -------------------------------------------------------------------------------------------------------


def _edit_bar(run: Run, pool: Dataset, found: Indices, chosen: Indices, edits: Edits) -> None:
    """Pin, ban or release the chosen rows, or all that match."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scope = st.segmented_control("Rows to edit", [CHOSEN, MATCHING], default=CHOSEN, required=True, key=SCOPE)
        reason = st.text_input("Why", key=REASON, placeholder="the reason, for the log", persist_state="session") or ""
        editsview.ask_who()
    rows = found if scope == MATCHING else chosen
    agreed = True
    if len(rows) > ASK_ABOVE:
        asked = hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()
        agreed = st.checkbox(f"Yes, all {len(rows):,} rows.", key=f"edit.agreed.{asked}")
    some = f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}"
    waiting = not len(rows) or not agreed
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = [
            name
            for name, label, icon in (
                ("pin", f"Pin {some}", "push_pin"), ("ban", f"Ban {some}", "block"),
                ("free", "Unpin or unban", "settings_backup_restore"),
            )
            if st.button(label, key=f"edit.{name}", icon=f":material/{icon}:", disabled=waiting)
        ]  # fmt: skip
        if count := editsview.pending_count(run.id):
            st.caption(f"{count:,} unsaved {'edit' if count == 1 else 'edits'}: save under Edits.", width="content")
        elif not len(rows):
            st.caption("Choose rows in the table, or take all that match.", width="content")
    if not pressed:
        return
    try:
        those = tuple(rows.tolist())
        if pressed[0] == "free":
            changes = editing.release(run.config, pool, those, edits, reason)
        else:
            changes = [Change("pin" if pressed[0] == "pin" else "ban", those, reason)]
        editsview.note_changes(run, pool, changes)
    except DeliftError as error:
        widgets.error_box(error)
    else:
        st.session_state[TURN] = st.session_state.get(TURN, 0) + 1
        st.rerun()
