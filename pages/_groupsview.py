"""Whom a run's subset serves, group by group, and what its constraints found: rows too close to others, domains."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from delift_core import pipeline
from delift_core.config import Domains
from delift_core.errors import DeliftError
from delift_core.insight.fairness import Fairness, Group
from delift_core.quota import Quota
from delift_core.runs.run import Run
from delift_core.types import Dataset
from pages import _widgets as widgets

BY, COUNT, FOUND = "groups.by", "groups.clusters", "_groups.found"
CLUSTERS = "cluster"
AT_ONCE = 20_000  # rows; of a larger pool nothing is read before somebody chooses
LEVELS = {
    "exact": "as exact copies", "normalised": "as the same but for case and punctuation",
    "words": "by 13 words in a row", "vectors": "by the cosine of sentence vectors",
}  # fmt: skip
ROLES = {"target": "target", "existing": "existing", "holdout": "held-out"}


# --- groups --------------------------------------------------------------------------------------------------------


def show_groups(run: Run, pool: Dataset, k: int) -> None:
    """Shares of pool and subset by a column, or by clusters once somebody asks for them."""
    st.subheader("Groups")
    options = [*pool.fields, *([] if CLUSTERS in pool.fields else [CLUSTERS])]
    by, clusters = _usual(run, pool)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Groups by", options, index=options.index(by) if by in options else None, key=f"{BY}.{run.id}",
            format_func=lambda name: "cluster of sentence vectors" if name == CLUSTERS else name,
            placeholder="a column, or clusters", width=260, persist_state="session",
        )  # fmt: skip
        clustered, wanted = chosen == CLUSTERS and CLUSTERS not in pool.fields, False
        if clustered:
            count = st.number_input("Clusters", 2, 1000, clusters, step=1, key=COUNT, width=120)
            chosen = f"{CLUSTERS}:{count}"
            wanted = st.button("Find clusters", key="groups.go", icon=":material/bubble_chart:")
    if chosen is None:
        st.caption("Choose a column to see how large a share of each group the subset holds.")
        return
    try:
        found = _by_clusters(run, chosen, wanted) if clustered else _by_column(run, chosen)
    except DeliftError as error:
        widgets.error_box(error)
        return
    if found is None:
        st.caption("Clusters take the sentence vectors of all rows: those that are not stored yet are computed first.")
        return
    st.markdown(f"**{widgets.escape(found.sentence)}**")
    if k != run.k:
        st.caption(f"This is said of the run's own {run.k:,} rows, not of the {k:,} that the slider stands at.")
    frame = table(found)
    percents = ("of the pool", "of the subset", "value covered")
    st.dataframe(
        frame, hide_index=True, height=min(420, 40 + 35 * len(frame)), alt=found.sentence,
        column_config={name: st.column_config.NumberColumn(format="percent") for name in percents},
    )  # fmt: skip
    told = ["Ratio: share of the subset over share of the pool; 1 is in proportion."]
    if found.covered is not None:
        told.append("Value covered: of what the whole pool could do for the group's rows, what the subset does.")
    if found.folded:
        told.append(f"{found.folded:,} more groups stand together in the last line.")
    st.caption(" ".join(told))


def table(found: Fairness) -> pd.DataFrame:
    """One line for each group, the worst-served one marked."""
    groups: list[Group] = [*found.groups, *([found.other] if found.other else [])]
    columns: dict[str, Any] = {
        "group": [widgets.clip(g.name, 80) for g in groups],
        "rows": [g.rows for g in groups],
        "picked": [g.picked for g in groups],
        "of the pool": [g.share for g in groups],
        "of the subset": [g.picked_share for g in groups],
        "ratio": [round(g.ratio, 2) for g in groups],
    }
    if any(g.covered is not None for g in groups):
        columns["value covered"] = [g.covered for g in groups]
    if any(g.picked_tokens is not None for g in groups):
        columns["tokens picked"] = [g.picked_tokens for g in groups]
    if found.worst is not None:
        columns[" "] = ["served worst" if g.name == found.worst else "" for g in groups]
    return pd.DataFrame(columns)


def _usual(run: Run, pool: Dataset) -> tuple[str | None, int]:
    """What to group by before anybody chooses, and how many clusters: as the run's quota, else the only column."""
    quota = Quota.parse(run.config.quota) if run.config.quota else None
    if quota is not None and quota.clusters:
        return CLUSTERS, quota.clusters
    by = quota.by if quota is not None else pool.fields[0] if len(pool.fields) == 1 else None
    return by if len(pool) <= AT_ONCE else None, 10


def _by_column(run: Run, column: str) -> Fairness:
    return _report(os.environ.get("DELIFT_HOME", ""), run.id, widgets.version_of(run), column)


@st.cache_resource(show_spinner="Reading the groups", max_entries=32)
def _report(home: str, run_id: str, version: str, column: str) -> Fairness:
    return pipeline.report(widgets.workspace(), run_id, column)


def _by_clusters(run: Run, by: str, wanted: bool) -> Fairness | None:
    """The report on clusters, computed when `wanted`; else the one that this session has seen, or None."""
    if wanted:
        bar = st.progress(0.0, text="Finding clusters")

        def show(stage: str, done: float, total: float, note: str = "") -> None:
            bar.progress(min(1.0, done / total) if total else 0.0, text=f"Finding clusters: {stage}")

        st.session_state[FOUND] = (run.id, by, pipeline.report(widgets.workspace(), run.id, by, progress=show))
        bar.empty()
    held: tuple[str, str, Fairness] | None = st.session_state.get(FOUND)
    return held[2] if held is not None and held[:2] == (run.id, by) else None


# --- what the constraints found ------------------------------------------------------------------------------------


def show_constraints(run: Run, pool: Dataset) -> None:
    """Rows that were left out as too close to other data, side by side with it, and how far the domains lie."""
    found = run.manifest.get("constraints", {})
    leaks, domains = found.get("leaks", {}), found.get("domains", [])
    if leaks:
        st.subheader("Rows too close to other data")
        role = next(iter(leaks))
        if len(leaks) > 1:
            role = st.segmented_control(
                "Too close to", list(leaks), default=role, required=True, key="leaks.role",
                format_func=lambda name: ROLES.get(name, name),
            )  # fmt: skip
        _show_leaks(run, pool, role, leaks[role])
    if domains:
        st.subheader("Domains by distance to the target")
        _show_domains(run, domains)


def _show_leaks(run: Run, pool: Dataset, role: str, record: Mapping[str, Any]) -> None:
    name = ROLES.get(role, role)
    counts = "; ".join(f"{count:,} {LEVELS.get(level, level)}" for level, count in record["counts"].items())
    st.markdown(
        f"{record['leaks']:,} of {record['pool']:,} rows are too close to one of {record['other']:,} {name} rows "
        f"and were left out{f': {widgets.escape(counts)}' if counts else ''}."
    )
    if not record["rows"]:
        return
    if record["frequent"]:
        with st.expander("Runs of words that they share", key="leaks.runs"):
            st.dataframe(
                {"run": [f["run"] for f in record["frequent"]], "rows": [f["rows"] for f in record["frequent"]]},
                hide_index=True, alt="Shared runs of words by how many rows hold them",
            )  # fmt: skip
            st.caption("A run that many rows hold may be a template of the data and no leak.")
    shown = record["rows"]
    place = 1
    if len(shown) > 1:
        place = st.number_input(f"Open row, 1 to {len(shown)}", 1, len(shown), 1, key=f"leaks.open.{role}", width=200)
    one = shown[place - 1]
    try:
        other = widgets.open_dataset_cached(getattr(run.config, role))
    except DeliftError as error:
        widgets.error_box(error)
        return
    st.text(f"Found {LEVELS.get(one['level'], one['level'])}. Shared: {widgets.clip(one['shared'], 300)}")
    texts = (pool.prompts[one["row"]], pool.responses[one["row"]])
    tall = max(map(len, (*texts, other.prompts[one["other"]], other.responses[one["other"]]))) > 400
    for column, title, dataset, row in zip(
        st.columns(2), ("Row of the pool", f"The {name} row"), (pool, other), (one["row"], one["other"]), strict=True
    ):
        with column, st.container(border=True, height=360 if tall else "content", autoscroll=False):
            st.text(f"{title}, id {widgets.clip(dataset.ids[row], 60)}")
            for part, text in (("Prompt", dataset.prompts[row]), ("Response", dataset.responses[row])):
                st.caption(part)
                widgets.plain(text or "(none)")
    if record["more"]:
        st.caption(f"The first {len(shown):,}; {record['more']:,} more are not listed.")


def _show_domains(run: Run, domains: Sequence[Mapping[str, Any]]) -> None:
    wanted = Domains.parse(run.config.domains)
    kept = wanted.nearest if wanted is not None else len(domains)
    frame = pd.DataFrame({
        "group": [widgets.clip(str(d["domain"]), 80) for d in domains],
        "rows": [d["rows"] for d in domains],
        "distance": [d["distance"] for d in domains],
        "kept": [place < kept for place in range(len(domains))],
    })  # fmt: skip
    st.dataframe(
        frame, hide_index=True, height=min(420, 40 + 35 * len(frame)),
        alt=f"{len(domains)} groups by distance to the target, the nearest {kept} kept",
    )  # fmt: skip
    st.caption("Optimal transport distance of each group's sentence vectors to the target's, the nearest first.")
