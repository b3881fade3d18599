"""What a comparison found, as sentences and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from delift_core.insight.compare import Comparison
from pages import _widgets as widgets

_SHARES = ("of what its own picks cover", "of what the pool covers", "share", "share by chance")


def show_sentences(sentences: Sequence[str]) -> None:
    """Findings, one line each."""
    st.markdown("\n".join(f"- {widgets.escape(sentence)}" for sentence in sentences))


def show_table(columns: Mapping[str, Sequence[Any]], alt: str, key: str) -> None:
    """Numbers as a table, shares in percent."""
    percents = {
        name: st.column_config.NumberColumn(format="percent")
        for name in columns
        if name in _SHARES or name.endswith(" share")
    }
    frame = pd.DataFrame(columns)
    st.dataframe(
        frame, hide_index=True, height=min(420, 40 + 35 * len(frame)), column_config=percents, alt=alt, key=key
    )  # fmt: skip


def sizes_table(found: Comparison) -> dict[str, list[Any]]:
    """One line for each run."""
    return {
        "run": [s.name for s in found.sizes],
        "rows": [s.rows for s in found.sizes],
        "tokens": [s.tokens for s in found.sizes],
        "tokens a row": [None if s.mean_tokens is None else round(s.mean_tokens, 1) for s in found.sizes],
        "median": [s.median_tokens for s in found.sizes],
    }


def pairs_table(found: Comparison) -> dict[str, list[Any]]:
    """One line for each two runs."""
    return {
        "runs": [f"{p.one} and {p.two}" for p in found.pairs],
        "shared rows": [p.common for p in found.pairs],
        "by chance": [None if p.chance is None else round(p.chance, 1) for p in found.pairs],
        "Jaccard": [round(p.jaccard, 3) for p in found.pairs],
        "rank correlation": [None if p.correlation is None else round(p.correlation, 3) for p in found.pairs],
    }


def worth_table(found: Comparison) -> dict[str, list[Any]]:
    """One line for the picks of one run under the utility of another."""
    return {
        "picks of": [w.picks for w in found.worth],
        "under the utility of": [w.utility for w in found.worth],
        "of what its own picks cover": [w.of_own for w in found.worth],
        "of what the pool covers": [w.of_pool for w in found.worth],
        "picks unknown there": [w.unknown for w in found.worth],
    }


def groups_table(found: Comparison) -> dict[str, list[Any]]:
    """One line for each group, the largest first; the small ones together."""
    lines = [*found.groups, *([found.other] if found.other else [])]
    table: dict[str, list[Any]] = {"group": [widgets.clip(line.group, 80) for line in lines]}
    for place, size in enumerate(found.sizes):
        table[f"{size.name} share"] = [line.shares[place] for line in lines]
    return table


def overlaps_table(found: Comparison) -> dict[str, list[Any]]:
    """One line for each two runs and number of first picks."""
    lines = [(pair, overlap) for pair in found.pairs for overlap in pair.overlaps]
    return {
        "runs": [f"{pair.one} and {pair.two}" for pair, _ in lines],
        "first picks": [overlap.k for _, overlap in lines],
        "share": [overlap.share for _, overlap in lines],
        "share by chance": [overlap.chance for _, overlap in lines],
    }


def held_text(chosen: NDArray[np.bool_]) -> str:
    """How many rows of (E, M) all, some and one of the runs pick, in one sentence."""
    held = chosen.sum(axis=0)
    every, some = int((held == len(chosen)).sum()), int((held > 0).sum())
    return f"{some:,} rows are picked by some run, {every:,} by every one, {int((held == 1).sum()):,} by one alone."
