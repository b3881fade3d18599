"""What the picks must respect, on the Run page: quota, near-copies, held-out rows, guard, domains, pins and bans."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from typing import Any

import numpy as np
import streamlit as st

from delift_core.config import Domains, Guard, RunConfig
from delift_core.errors import ConfigError
from delift_core.quota import Quota
from delift_core.registry import Method
from pages import _widgets as widgets

QUOTA, BY, COUNT, KIND = "rule.quota", "quota.by", "quota.count", "quota.kind"
NO_QUOTA, CLUSTERS, COLUMN = "none", "clusters", "column: "  # what the builder groups by
KINDS = {"proportional": "as in the pool", "even": "the same of each", "bounds": "by rules of your own"}
START = Quota.parse("cluster: *>=1").bounds  # own rules begin with a row of every group
LEVELS = {
    "exact": "exact copies",
    "normalised": "same but for case, punctuation",
    "words": "13 words in a row the same",
}
RULES = ("quota", "once", "domains", "holdout", "guard", "pin", "ban")  # settings of a run
SHOWN = 12  # groups of a column that are named
HELP = {f.name: f.metadata.get("help") for f in dataclasses.fields(RunConfig)}


def ask_rules(method: Method, pool: str | None) -> dict[str, Any]:
    """Widgets for every rule; returns the settings of a run that are not at their default."""
    fields = widgets.open_dataset_cached(pool).fields if pool else ()
    found: dict[str, Any] = {}
    with st.expander("What the picks must respect", icon=":material/rule:", key="rules"):
        found["quota"] = _quota(pool, fields)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            found["once"] = st.number_input(
                "Take near-copies once, from cosine", 0.0, 1.0, 0.0, step=0.01, format="%g", key="rule.once",
                width=270, persist_state="session", help=HELP["once"],
            )  # fmt: skip
            if method.needs_target:
                found["domains"] = _domains(fields)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            found["holdout"] = widgets.choose_dataset("holdout", "Held out: rows for evaluation", optional=True)
            found["guard"] = _guard()
        for name, column, label in zip(("pin", "ban"), st.columns(2), ("Pinned: come first", "Banned: never picked"),
                                       strict=True):  # fmt: skip
            text = column.text_area(
                f"{label}, one id a line", key=f"rule.{name}", height=90, persist_state="session", help=HELP[name]
            )
            found[name] = ids_of(text or "")
    chosen = {name: value for name, value in found.items() if value}
    if chosen:
        st.caption(f"The picks must respect: {widgets.escape(rules_text(chosen))}.")
    return chosen


def ids_of(text: str) -> tuple[str, ...]:
    """Ids, one a line, as `--pin @FILE` reads them."""
    return tuple(filter(None, (line.strip() for line in text.splitlines())))


def reads_vectors(rules: dict[str, Any]) -> bool:
    """Whether rules look at sentence vectors, so that an encoder is read whatever the method."""
    clusters = rules.get("quota", "").partition(":")[0].strip() == "cluster"  # whether or not the rest can be read
    return clusters or "once" in rules or "domains" in rules or Guard.parse(rules.get("guard", "")).cosine is not None


def rules_of(config: RunConfig) -> dict[str, Any]:
    """The rules of a run, those at rest left out."""
    return {name: getattr(config, name) for name in RULES if getattr(config, name)}


def rules_text(rules: dict[str, Any]) -> str:
    """Rules in a few words."""
    return "; ".join(_told(name, value) for name, value in rules.items())


def _told(name: str, value: Any) -> str:
    if name in ("pin", "ban"):
        return f"{len(value):,} {name}ned row{'' if len(value) == 1 else 's'}"
    if name == "holdout":
        return f"held-out {widgets.clip(widgets.dataset_name(value), 40)}"
    if name == "once":
        return f"near-copies from cosine {value:g} once"
    if name == "domains" and (domains := Domains.parse(value)):
        return f"the {domains.nearest} groups of {domains.column} nearest to the target"
    return f"{name} {value}"


# --- quota ---------------------------------------------------------------------------------------------------------


def _quota(pool: str | None, fields: tuple[str, ...]) -> str:
    """The quota as text; choices above it write that text, and follow it when it is written by hand."""
    by = _follow()
    options = [NO_QUOTA, *dict.fromkeys([*(COLUMN + name for name in fields), *([by] if by else [])]), CLUSTERS]
    options = list(dict.fromkeys(options))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("Quota by", options, format_func=_by_name, key=BY, on_change=_write, width=230)
        if st.session_state[BY] == CLUSTERS:
            st.session_state.setdefault(COUNT, 10)
            st.number_input("Clusters", 2, 1000, step=1, key=COUNT, on_change=_write, width=130)
        if st.session_state[BY] != NO_QUOTA:
            st.session_state.setdefault(KIND, "proportional")
            st.segmented_control(
                "Rows of each group", list(KINDS), format_func=lambda kind: KINDS[kind], required=True, key=KIND,
                on_change=_write,
            )  # fmt: skip
        text = st.text_input(
            "Quota as text", key=QUOTA, placeholder="none", persist_state="session", width="stretch",
            help="COLUMN: proportional, COLUMN: even, or rules, such as `source: web<=20%, books>=100, *>=10`. "
            "A number is rows, or a percentage of the budget; `*` is every group without a rule of its own. "
            "cluster:10 in place of a column groups by sentence vectors. Names with signs stand in double quotes.",
        )  # fmt: skip
    column = st.session_state[BY].removeprefix(COLUMN)
    if pool and st.session_state[BY] != NO_QUOTA and column in fields:
        _groups_of(pool, column)
    return (text or "").strip()


def _by_name(option: str) -> str:
    if option == NO_QUOTA:
        return "no quota"
    return "cluster of sentence vectors" if option == CLUSTERS else option.removeprefix(COLUMN)


def _follow() -> str | None:
    """Set the choices to what the text says; returns what it groups by, None where it says nothing that can be read."""
    text = st.session_state.get(QUOTA) or ""
    try:
        quota = Quota.parse(text) if text.strip() else None
    except ConfigError:  # the form shows it beside the button
        st.session_state.setdefault(BY, NO_QUOTA)
        return None
    if quota is None:
        st.session_state[BY] = NO_QUOTA
        return None
    by = CLUSTERS if quota.clusters else COLUMN + quota.by
    st.session_state[BY], st.session_state[KIND] = by, quota.kind
    if quota.clusters:
        st.session_state[COUNT] = quota.clusters
    return by


def _write() -> None:
    """Write the choices down as text."""
    by, kind = st.session_state[BY], st.session_state.get(KIND) or "proportional"
    if by == NO_QUOTA:
        st.session_state[QUOTA] = ""
        return
    clusters = int(st.session_state.get(COUNT) or 10) if by == CLUSTERS else None
    name = "cluster" if clusters else by.removeprefix(COLUMN)
    st.session_state[QUOTA] = str(Quota(name, clusters, kind, START if kind == "bounds" else ()))


@st.cache_resource(show_spinner=False, max_entries=32)
def _sizes(home: str, fingerprint: str, column: str) -> Counter[str]:
    dataset = widgets.open_dataset_cached(fingerprint)
    values = dataset.group(column)
    return Counter(values[row] or "(empty)" for row in dataset.unique.tolist())


def _groups_of(pool: str, column: str) -> None:
    """The largest groups of a column, by the names that a quota gives them."""
    sizes = _sizes(os.environ.get("DELIFT_HOME", ""), pool, column)
    named = (
        f"{widgets.clip(str(Quota(name, None, 'even')).removesuffix(': even'), 40)} {count:,}"
        for name, count in sizes.most_common(SHOWN)
    )
    more = f", and {len(sizes) - SHOWN:,} more" if len(sizes) > SHOWN else ""
    st.caption(f"Groups and their rows: {widgets.escape(', '.join(named))}{more}.")


# --- domains and guard ---------------------------------------------------------------------------------------------


def _domains(fields: tuple[str, ...]) -> str:
    column = st.selectbox(
        "Only the groups nearest to the target, by", list(fields), index=None, key="rule.domains", width=300,
        placeholder="a column" if fields else "the pool has no columns", disabled=not fields, persist_state="session",
        help=HELP["domains"],
    )  # fmt: skip
    number = st.number_input(
        "How many groups", 1, None, 3, step=1, key="rule.nearest", width=150, persist_state="session",
        disabled=column is None,
    )  # fmt: skip
    return f"{column}:{number}" if column else ""


def _guard() -> str:
    levels = st.pills(
        "Leave out what is too close to target, existing or held-out rows", list(LEVELS), selection_mode="multi",
        format_func=lambda name: LEVELS[name], key="rule.guard", persist_state="session",
        help="Nothing chosen: rows that the existing data holds, and whatever of the three is close to a held-out row.",
    )  # fmt: skip
    cosine = st.number_input(
        "Too close from cosine", 0.0, 1.0, 0.0, step=0.01, format="%g", key="rule.cosine", width=170,
        persist_state="session",
        help="Of sentence vectors, such as 0.95; 0: off.",
    )  # fmt: skip
    number = [np.format_float_positional(cosine, trim="-")] if cosine else []
    return ",".join([*(level for level in Guard.LEVELS if level in levels), *number])
