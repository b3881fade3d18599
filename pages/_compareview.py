"""Finished runs side by side on the Run page: what their picks share, and what each is worth to the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from delift_core import pipeline
from delift_core.errors import DeliftError
from delift_core.insight.compare import Comparison
from delift_core.runs.records import RunRecord
from pages import _widgets as widgets
from pages._rulesform import rules_of, rules_text

RUNS, BY, FOUND = "compare.runs", "compare.by", "_compare.found"
MOST = 4
SHARES = ("of what its own picks cover", "of what the pool covers", "share", "share by chance")


def ask_comparison() -> None:
    """Choose two to four finished runs and compare them; nothing is read before somebody asks."""
    finished = {r.id: r for r in widgets.workspace().catalogue.runs() if r.state == "done" and _readable(r)}
    if len(finished) < 2:
        return
    st.subheader("Compare runs")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Two to four finished runs", list(finished), format_func=lambda name: _label(finished[name]), key=RUNS,
            max_selections=MOST, placeholder="Choose runs", persist_state="session", select_all=False, wrap=True,
        )  # fmt: skip
        by = _column([finished[name] for name in chosen if name in finished])
        ready = len(chosen) >= 2
        if st.button("Compare", key="compare.go", icon=":material/compare_arrows:", disabled=not ready):
            st.session_state[FOUND] = None
            try:
                found = pipeline.compare(widgets.workspace(), chosen, by)
            except DeliftError as error:
                widgets.error_box(error)
                return
            st.session_state[FOUND] = ((*chosen, by), found)
    held = st.session_state.get(FOUND)
    if held is not None and held[0] == (*chosen, by):
        show(held[1])


def _readable(record: RunRecord) -> bool:
    try:
        return bool(record.config)
    except DeliftError:  # written by a version that is too old or too new; its card says so
        return False


def _label(record: RunRecord) -> str:
    config = record.config
    pool = widgets.clip(widgets.dataset_name(config.pool), 30)
    rules = widgets.clip(rules_text(rules_of(config)), 60)
    told = f"{config.method}, {config.budget} of {pool}, seed {config.seed}{f'; {rules}' if rules else ''}"
    return f"{record.id[:8]}: {told}"


def _column(records: Sequence[RunRecord]) -> str | None:
    """A column that the pools of all chosen runs have."""
    try:
        each = [widgets.open_dataset_cached(r.config.pool).fields for r in records]
    except DeliftError as error:
        widgets.error_box(error)
        each = []
    shared = [name for name in each[0] if all(name in fields for fields in each)] if each else []
    found: str | None = st.selectbox(
        "Groups", shared, index=None, key=BY, placeholder="no groups", disabled=not shared, width=190,
        persist_state="session", help="A column whose groups are compared as well.",
    )  # fmt: skip
    return found if found in shared else None


def show(found: Comparison) -> None:
    """The findings as sentences, and the numbers behind them as tables."""
    st.markdown("\n".join(f"- {widgets.escape(sentence)}" for sentence in found.sentences))
    tables = {
        "Shared picks": (pairs(found), "What each two runs share, beside what two random choices would"),
        "Worth to each other": (worth(found), "What the picks of one run cover under the utility of another"),
        "Groups": (groups(found), "Share of each group in each run"),
        "First picks": (overlaps(found), "Share of the first k picks that each two runs share"),
        "Sizes": (sizes(found), "Rows and tokens of each run"),
    }
    filled = {title: told for title, told in tables.items() if any(told[0].values())}
    for tab, (columns, alt) in zip(st.tabs(list(filled)), filled.values(), strict=True):
        with tab:
            _table(columns, alt)


def _table(columns: Mapping[str, Sequence[Any]], alt: str) -> None:
    shares = {
        name: st.column_config.NumberColumn(format="percent")
        for name in columns
        if name in SHARES or name.endswith(" share")
    }
    frame = pd.DataFrame(columns)
    st.dataframe(frame, hide_index=True, height=min(420, 40 + 35 * len(frame)), column_config=shares, alt=alt)


def sizes(found: Comparison) -> dict[str, list[Any]]:
    """One line for each run."""
    return {
        "run": [s.name for s in found.sizes],
        "rows": [s.rows for s in found.sizes],
        "tokens": [s.tokens for s in found.sizes],
        "tokens a row": [None if s.mean_tokens is None else round(s.mean_tokens, 1) for s in found.sizes],
        "median": [s.median_tokens for s in found.sizes],
    }


def pairs(found: Comparison) -> dict[str, list[Any]]:
    """One line for each two runs."""
    return {
        "runs": [f"{p.one} and {p.two}" for p in found.pairs],
        "shared rows": [p.common for p in found.pairs],
        "by chance": [None if p.chance is None else round(p.chance, 1) for p in found.pairs],
        "Jaccard": [round(p.jaccard, 3) for p in found.pairs],
        "rank correlation": [None if p.correlation is None else round(p.correlation, 3) for p in found.pairs],
    }


def worth(found: Comparison) -> dict[str, list[Any]]:
    """One line for the picks of one run under the utility of another."""
    return {
        "picks of": [w.picks for w in found.worth],
        "under the utility of": [w.utility for w in found.worth],
        "of what its own picks cover": [w.of_own for w in found.worth],
        "of what the pool covers": [w.of_pool for w in found.worth],
    }


def groups(found: Comparison) -> dict[str, list[Any]]:
    """One line for each group, the largest first; the small ones together."""
    lines = [*found.groups, *([found.other] if found.other else [])]
    table: dict[str, list[Any]] = {"group": [line.group for line in lines]}
    for place, size in enumerate(found.sizes):
        table[f"{size.name} share"] = [line.shares[place] for line in lines]
    return table


def overlaps(found: Comparison) -> dict[str, list[Any]]:
    """One line for each two runs and number of first picks."""
    lines = [(pair, overlap) for pair in found.pairs for overlap in pair.overlaps]
    return {
        "runs": [f"{pair.one} and {pair.two}" for pair, _ in lines],
        "first picks": [overlap.k for _, overlap in lines],
        "share": [overlap.share for _, overlap in lines],
        "share by chance": [overlap.chance for _, overlap in lines],
    }
