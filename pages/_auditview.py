"""Coverage and risks of a subset: who is served, what a quota costs, near-copies, leaks, personal data."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from delift_core.data.leaks import Leaks
from delift_core.errors import DeliftError
from delift_core.insight.uncovered import HALF, Uncovered, uncovered
from delift_core.pipeline import THRESHOLD, expected_seconds
from delift_core.quota import CLUSTERS, Quota
from delift_core.review import editing, risks
from delift_core.review.editing import Change
from delift_core.review.risks import Personal
from delift_core.runs import cut
from delift_core.runs.run import Part, Run
from delift_core.types import Dataset, Indices
from pages import _changedrun as changedrun
from pages import _editsview as editsview
from pages import _widgets as widgets
from pages._groupsview import LEVELS, show_constraints, show_groups
from pages._nearview import READERS, show_sets

PRICE, COPIES, CLOSE, LOOKED = "_quota.price", "_near.subset", "_leaks.subset", "_personal.subset"
CLUSTER = "cluster of sentence vectors"
KINDS = {"proportional": "as in the pool", "even": "the same of each"}
AT_ONCE = 1_000  # chosen rows that are looked through for personal data before anybody asks
SHOWN = 200


# --- coverage ------------------------------------------------------------------------------------------------------


def show_coverage(run: Run, pool: Dataset, k: int) -> None:
    """Groups, the price of a quota, and the rows that are served worst."""
    show_groups(run, pool, k)
    st.subheader("What would a quota cost?")
    try:
        _quota(run, pool, k)
    except DeliftError as error:
        widgets.error_box(error)
    st.subheader("Rows that are served worst")
    parts: list[Part] = [part for part in ("pool", "target") if any(p == part for p, _ in run.utilities)]
    if not parts:
        st.caption("This method scores no pairs, so what a row gets from the subset is not known.")
        return
    part = parts[0]
    if len(parts) > 1:
        part = st.segmented_control("Rows of the", parts, default=part, required=True, key="worst.part")
    try:
        _worst(run, pool, part, k)
    except DeliftError as error:
        widgets.error_box(error)


def _quota(run: Run, pool: Dataset, k: int) -> None:
    """Price a quota, and start the run that has it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = st.selectbox("Quota by", [*pool.fields, CLUSTER], key="whatif.by", persist_state="session", width=240)
        kind = st.segmented_control(
            "Rows of each group", list(KINDS), default="proportional", required=True, key="whatif.kind",
            format_func=lambda name: KINDS[name], persist_state="session",
        )  # fmt: skip
        wanted = st.button("What would it cost?", key="whatif.go", icon=":material/balance:")
    text = str(Quota("cluster", CLUSTERS, kind) if by == CLUSTER else Quota(by, None, kind))
    asked = ("quota", run.id, k, text)
    if wanted:
        with st.spinner("Choosing again from what the run stored"):
            st.session_state[PRICE] = (asked, editing.price(widgets.workspace(), run, k, quota=text))
    held = st.session_state.get(PRICE)
    if held is None or held[0] != asked:
        st.caption("The subset is chosen again under the quota, from the evidence that the run stored.")
        return
    editsview.show_price(held[1], pool, k)
    if st.button(f"Start the run with {widgets.escape(text)}", key="whatif.run", icon=":material/play_arrow:"):
        changedrun.start_from(run, cut.config_at(run, k).with_(quota=text))


@st.cache_resource(show_spinner="Comparing what each row gets", max_entries=8)
def _uncovered(home: str, run_id: str, version: str, part: Part, k: int, _run: Run) -> Uncovered:
    picks = _run.selection.order[:k]
    return uncovered(
        _run.utility(part), picks, skip=picks if part == "pool" else None, same=part == "pool"
    )  # fmt: skip


def _worst(run: Run, pool: Dataset, part: Part, k: int) -> None:
    """The worst-served rows, with the chosen row that serves each best and the best row there is."""
    found = _uncovered(os.environ.get("DELIFT_HOME", ""), run.id, widgets.version_of(run), part, k, run)
    st.markdown(f"**{widgets.escape(found.sentence)}**")
    if part == "pool":
        st.caption("Rows of the subset are not counted: who is trained on needs no other.")
    if not len(found.rows):
        return
    helped = pool if part == "pool" else widgets.open_dataset_cached(str(run.config.target))
    frame = pd.DataFrame(
        {
            "row": [widgets.clip(helped.ids[row], 40) for row in found.rows],
            "missing": found.shortfall,
            "gets": found.given,
            "could get": found.possible,
            "best chosen row": [widgets.clip(pool.ids[row], 40) if row >= 0 else "none helps" for row in found.chosen],
            "best possible row": [widgets.clip(pool.ids[row], 40) for row in found.best],
            "prompt": [widgets.clip(helped.prompts[row], 160) for row in found.rows],
        }
    )
    numbers = {name: st.column_config.NumberColumn(format="%.4g") for name in ("missing", "gets", "could get")}
    event = st.dataframe(
        frame, hide_index=True, height=min(320, 40 + 35 * len(frame)), key=f"worst.table.{part}.{k}", on_select="rerun",
        selection_mode="single-row", column_config=numbers, alt=found.sentence,
    )  # fmt: skip
    kind = run.utility(part).kind
    st.caption(
        f"The {len(found.rows):,} rows of the largest shortfall, of {found.short:,} that get less than they could. "
        f"Utility: {kind}. Choose a line to read the rows; less than {HALF:.0%} counts as badly served."
    )
    lines = event.selection.rows
    if lines and lines[0] < len(found.rows):
        _side_by_side(helped, pool, found, lines[0])


def _side_by_side(helped: Dataset, pool: Dataset, found: Uncovered, line: int) -> None:
    sides = (("Badly served", helped, found.rows[line]), ("Best chosen row", pool, found.chosen[line]),
             ("Best possible row", pool, found.best[line]))  # fmt: skip
    for column, (title, dataset, row) in zip(st.columns(3), sides, strict=True):
        with column, st.container(border=True, height=340, autoscroll=False):
            if row < 0:
                st.text(f"{title}: none helps")
                continue
            st.text(f"{title}, id {widgets.clip(dataset.ids[row], 60)}")
            _texts(dataset.prompts[row], dataset.responses[row])


def _texts(prompt: str, response: str) -> None:
    for title, text in (("Prompt", prompt), ("Response", response)):
        st.caption(title)
        widgets.plain(text or "(none)")


# --- risks ---------------------------------------------------------------------------------------------------------


def show_risks(run: Run, pool: Dataset, k: int) -> None:
    """Near-copies inside the subset, rows too close to other data, personal data."""
    picks = run.selection.order[:k]
    st.caption(f"This looks at the {k:,} rows that the run chose. Edits count once they are a run of their own.")
    for title, show in (
        ("Near-copies inside the subset", _near_copies), ("Rows that also stand elsewhere", _leaks),
        ("Personal data", _personal),
    ):  # fmt: skip
        st.subheader(title)
        try:
            show(run, pool, picks)
        except DeliftError as error:
            widgets.error_box(error)
    show_constraints(run, pool)


def _ban(run: Run, pool: Dataset, rows: Sequence[int], reason: str, key: str) -> None:
    """The button that bans what was found."""
    if st.button(f"Ban these {len(rows):,} rows", key=key, icon=":material/block:"):
        editsview.note_changes(run, pool, [Change("ban", tuple(rows), reason)])
        st.rerun()


def _near_copies(run: Run, pool: Dataset, picks: Indices) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        encoder = st.selectbox(
            "Compared by", list(READERS), format_func=lambda name: READERS[name], key="risk.encoder", width=320,
            persist_state="session",
        )  # fmt: skip
        threshold = st.number_input(
            "Least cosine", 0.5, 1.0, THRESHOLD, step=0.01, key="risk.threshold", width=160, persist_state="session"
        )
        wanted = st.button("Look for near-copies", key="risk.near", icon=":material/content_copy:")
    asked = (run.id, len(picks), encoder, threshold)
    if wanted:
        bar = st.progress(0.0, text="Looking for near-copies")

        def tell(stage: str, done: float, total: float, note: str = "") -> None:
            bar.progress(min(1.0, done / total) if total else 0.0, text=f"Looking for near-copies: {stage}")

        found = risks.near_copies_in(
            widgets.workspace(), pool.fingerprint, picks, encoder=encoder, threshold=threshold, progress=tell
        )
        st.session_state[COPIES] = (asked, found)
        bar.empty()
    held = st.session_state.get(COPIES)
    if held is None or held[0] != asked:
        seconds = widgets.seconds_text(expected_seconds(len(pool.unique), encoder))
        st.caption(f"The rows' vectors are read, or computed once for the whole pool: about {seconds} the first time.")
        return
    found = held[1]
    st.markdown(f"**{widgets.escape(found.sentence)}**")
    for note in found.notes:
        st.caption(note)
    if found.sets:
        show_sets(pool, found, _texts)
        st.caption("A run with near-copies counted once (Run page, What the picks must respect) takes one row of each.")


def _leaks(run: Run, pool: Dataset, picks: Indices) -> None:
    """Compare the chosen rows with any other dataset; the target first."""
    others = {r.fingerprint: f"{r.name} ({r.rows:,} rows)" for r in widgets.workspace().catalogue.datasets()}
    others.pop(pool.fingerprint, None)
    guarded = run.manifest.get("constraints", {}).get("leaks", {})
    if guarded:
        st.caption(
            f"The run kept rows out that are too close to {' and '.join(guarded)} rows; see the end of this view."
        )
    if not others:
        st.caption("There is no other dataset to compare with. Load your target or evaluation rows on the Data page.")
        return
    first = next((f for f in (run.config.target, run.config.holdout) if f in others), None)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = sorted(others, key=lambda f: f != first)
        other = st.selectbox(
            "Compare with", options, format_func=lambda f: others[f], key=f"risk.other.{run.id}", width=320
        )
        wanted = st.button("Compare", key="risk.leaks", icon=":material/compare_arrows:")
    asked = (run.id, len(picks), other)
    if wanted:
        with st.spinner("Comparing texts"):
            st.session_state[CLOSE] = (asked, risks.close_to(pool, picks, widgets.open_dataset_cached(other)))
    held = st.session_state.get(CLOSE)
    if held is None or held[0] != asked:
        st.caption("Looks for exact copies, and for prompts that are the same but for case and punctuation.")
        return
    _show_leaks(run, pool, widgets.open_dataset_cached(other), held[1], others[other])


def _show_leaks(run: Run, pool: Dataset, other: Dataset, found: Leaks, name: str) -> None:
    if not len(found):
        st.markdown(f"**None of the {found.pool:,} chosen rows also stands in {widgets.escape(name)}.**")
        return
    counts = "; ".join(f"{count:,} {LEVELS[level]}" for level, count in found.counts.items())
    st.markdown(f"**{len(found):,} of {found.pool:,} chosen rows also stand in {widgets.escape(name)}: {counts}.**")
    shown = found.items[:SHOWN]
    frame = {
        "chosen row": [widgets.clip(pool.ids[leak.row], 40) for leak in shown],
        "found": [LEVELS[leak.level] for leak in shown],
        "other row": [widgets.clip(other.ids[leak.other], 40) for leak in shown],
        "prompt": [widgets.clip(pool.prompts[leak.row], 160) for leak in shown],
    }
    st.dataframe(frame, hide_index=True, height=min(320, 40 + 35 * len(shown)), alt=f"Chosen rows that stand in {name}")
    if len(found) > len(shown):
        st.caption(f"The first {len(shown):,}.")
    _ban(run, pool, found.rows.tolist(), f"also stands in {name}", "risk.leaks.ban")


@st.cache_resource(show_spinner="Looking for personal data", max_entries=8)
def _looked(home: str, run_id: str, version: str, k: int, _pool: Dataset, _picks: Indices) -> Personal:
    return risks.personal_in(_pool, _picks)


def _personal(run: Run, pool: Dataset, picks: Indices) -> None:
    asked = (run.id, len(picks))
    if len(picks) > AT_ONCE and st.session_state.get(LOOKED) != asked:
        if not st.button(f"Look through {len(picks):,} rows", key="risk.personal", icon=":material/person_search:"):
            st.caption("Looks for e-mail and IP addresses, numbers of telephones, cards and accounts, secret keys.")
            return
        st.session_state[LOOKED] = asked
    home, version = os.environ.get("DELIFT_HOME", ""), widgets.version_of(run)
    found = _looked(home, run.id, version, len(picks), pool, picks)
    st.markdown(f"**{widgets.escape(found.sentence)}**")
    if not found.rows:
        st.caption("Patterns only: names and postal addresses are not found.")
        return
    frame = {
        "kind": [one.kind for one in found.examples],
        "row": [widgets.clip(pool.ids[one.row], 40) for one in found.examples],
        "text": [one.text for one in found.examples],
    }
    st.dataframe(frame, hide_index=True, height=min(320, 40 + 35 * len(found.examples)), alt="Examples, masked")
    st.caption(f"At most {risks.EXAMPLES} examples of each kind, masked. Patterns only, so look before you ban.")
    kinds = st.pills(
        "Kinds to ban", list(found.rows), default=list(found.rows), selection_mode="multi", key="risk.kinds"
    )
    rows = sorted({row for kind in kinds for row in found.rows[kind]})
    if rows:
        _ban(run, pool, rows, f"personal data: {', '.join(kinds)}", "risk.personal.ban")
