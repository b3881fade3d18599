"""What if: choose again by another objective, other options, another budget or other rules; nothing is scored."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from delift_core.errors import DeliftError
from delift_core.figures import alt_of
from delift_core.figures.whatif import MOST, Series, value_curves
from delift_core.registry import METHODS
from delift_core.registry import method as method_of
from delift_core.review import trying, whatif
from delift_core.runs import jobs
from delift_core.runs.run import Run
from delift_core.types import Dataset
from pages import _rulesform as rulesform
from pages import _widgets as widgets
from pages._changedrun import start_changed
from pages._mapview import version_of

OBJECTIVE, ROWS, QUOTA, CHOSEN = "whatif.objective", "whatif.rows", "whatif.quota", "whatif.variant"
TEXTS = {"pin": "whatif.pin", "ban": "whatif.ban"}
SOLVER = frozenset({"greedy", "accuracy", "epsilon", "sample", "tolerance", "iterations"})  # how it is solved
LISTED = 20  # rows that come in or go out which are shown with their text
EXCERPT = 160  # characters of it
VARIANTS = "_whatif.variants"  # in the session: what was tried, of all runs, the newest last
MOST_VARIANTS = 24
BEYOND = 3  # how far curves go beyond the largest budget, as a multiple of it


@dataclass(frozen=True, eq=False)
class Variant:
    """A choice that was tried in this session."""

    of: tuple[str, str]  # the run, and its version
    name: str
    found: whatif.Retried


@dataclass(frozen=True, eq=False)
class Trying:
    """A choice that a process is working on."""

    name: str
    trial: trying.Trial


def show_whatif(run: Run, pool: Dataset, k: int) -> None:
    """Try other choices from the evidence of a run, `k` rows unless said otherwise, and compare them with its own."""
    st.caption(
        "Choose again from what this run stored: another objective, its options, another budget, other rules. Nothing "
        "is scored and no model is read; values are those of this run's own objective, so they can be compared."
    )
    possible = _objectives(os.environ.get("DELIFT_HOME", ""), run.id, version_of(run))
    ready = {p.objective: p for p in possible if p.ready}
    if not ready:
        st.info("This run kept too little to choose again without scoring.", icon=":material/info:")
    else:
        with st.container(border=True, key="whatif.ask"):
            settings, name, quick = _ask(run, ready, k)
            busy = _key(run, "trying") in st.session_state
            if st.button("Try it", key="whatif.try", icon=":material/science:", type="primary", disabled=busy):
                _try(run, settings, name, quick)
            _refused(run)
    if _key(run, "trying") in st.session_state:
        _working(run)
    _not_possible(possible)
    variants = _variants(run)
    if variants:
        _compare(run, pool, variants)


@st.cache_resource(show_spinner="Looking at what this run stored", max_entries=8, ttl=60)
def _objectives(home: str, run_id: str, version: str) -> list[whatif.Possible]:
    return whatif.objectives_for(widgets.workspace(), Run.open(widgets.workspace(), run_id))


@st.cache_resource(show_spinner="Reading what this run stored", max_entries=2)
def _yardstick(home: str, run_id: str, version: str) -> whatif.Yardstick:
    return whatif.Yardstick.of(widgets.workspace(), Run.open(widgets.workspace(), run_id))


def _key(run: Run, name: str) -> str:
    return f"_whatif.{name}.{run.id}"


def _of(run: Run) -> tuple[str, str]:
    return run.id, version_of(run)


def _variants(run: Run) -> list[Variant]:
    return [v for v in st.session_state.get(VARIANTS, ()) if v.of == _of(run)]


# --- asking --------------------------------------------------------------------------------------------------------


def _ask(run: Run, ready: Mapping[str, whatif.Possible], k: int) -> tuple[dict[str, Any], str, bool]:
    """Widgets for everything that may change; returns the arguments of a retry, its name, and whether it is quick."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        objective = st.selectbox(
            "Objective", list(ready), format_func=lambda name: _title(ready[name]), key=OBJECTIVE, width=430,
        )  # fmt: skip
        rows = int(
            st.number_input(
                "Rows to keep", 1, widgets.candidates(run), k, step=1, key=f"{ROWS}.{run.id}.{k}", width=160,
                help="The budget. Values are compared with as many of the run's rows, where its order is nested.",
            )
        )  # fmt: skip
    chosen = ready[objective]
    own = objective == method_of(run.config.method).objective
    fields = [_starting_at(f, run.config.options.get(name) if own else None) for name, f in chosen.options.items()]
    key = f"whatif.option.{run.id}.{objective}"
    plain, expert = ([f for f in fields if not _blends(f) and (f.name in SOLVER) == inner] for inner in (False, True))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = widgets.options_form(plain, key=key)
        for f in filter(_blends, fields):
            low, high = float(f.metadata["min"]), float(f.metadata["max"])
            label = f.name.replace("_", " ").capitalize()
            value = st.slider(label, low, high, f.default, key=f"{key}.{f.name}", help=f.metadata["help"], width=320)
            if value != f.default:
                options[f.name] = value
    if expert:
        folded = st.expander("Advanced options", icon=":material/tune:", key="whatif.advanced")
        with folded.container(horizontal=True, vertical_alignment="bottom"):
            options |= widgets.options_form(expert, key=key)
    if own:
        options = {**{n: run.config.options[n] for n in chosen.options if n in run.config.options}, **options}
    rules = _rules(run)
    named = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in options.items()]
    name = ", ".join([objective, *named, f"{rows:,} rows", *_told(run, rules)])
    budget = None if rows == run.k else rows  # the run's own budget keeps its own words, and so its id
    return {"objective": objective, "options": options, "rows": budget, **rules}, name, chosen.quick


def _title(possible: whatif.Possible) -> str:
    known = METHODS.get(possible.method)
    return f"{possible.objective}: {known.title.lower()}" if known else possible.objective


def _starting_at(f: dataclasses.Field[Any], value: Any) -> dataclasses.Field[Any]:
    """The same option, whose widget begins with another value."""
    if value is None:
        return f
    begun = copy.copy(f)
    begun.default = value
    return begun


def _blends(f: dataclasses.Field[Any]) -> bool:
    """Whether an option blends two aims: a share between 0 and 1."""
    return isinstance(f.default, float) and (f.metadata.get("min"), f.metadata.get("max")) == (0, 1)


def _rules(run: Run) -> dict[str, Any]:
    """Quota, pins and bans; they begin as those of the run."""
    with st.expander("Rules of the choice", icon=":material/rule:", key="whatif.rules"):
        quota = st.text_input(
            "Quota", run.config.quota, key=f"{QUOTA}.{run.id}", placeholder="none",
            help="As on the Run page: COLUMN: proportional, COLUMN: even, or rules such as source: web<=20%.",
        )  # fmt: skip
        found: dict[str, Any] = {"quota": (quota or "").strip()}
        columns = st.columns(2)
        for (name, key), column, label in zip(
            TEXTS.items(), columns, ("Pinned: come first", "Banned: never picked"), strict=True
        ):
            text = column.text_area(
                f"{label}, one id a line", "\n".join(getattr(run.config, name)), key=f"{key}.{run.id}", height=90
            )
            found[name] = list(rulesform.ids_of(text or ""))
    return found


def _told(run: Run, rules: Mapping[str, Any]) -> list[str]:
    """Rules that differ from the run's, in a few words."""
    told = []
    if rules["quota"] != run.config.quota:
        told.append(f"quota {rules['quota']}" if rules["quota"] else "no quota")
    for name in TEXTS:
        if tuple(rules[name]) != getattr(run.config, name):
            told.append(f"{len(rules[name]):,} {name}ned")
    return told


def _not_possible(possible: list[whatif.Possible]) -> None:
    others = [p for p in possible if not p.ready]
    if others:
        with st.expander(f"Not possible from this run: {len(others)}", icon=":material/block:", key="whatif.others"):
            table = pd.DataFrame({"objective": [p.objective for p in others], "why": [p.why_not for p in others]})
            st.dataframe(table, hide_index=True, alt="Objectives that this run's evidence does not serve, and why")


# --- trying --------------------------------------------------------------------------------------------------------


def _try(run: Run, settings: Mapping[str, Any], name: str, quick: bool) -> None:
    """Choose again: here where it takes a moment, else in a process of its own."""
    st.session_state.pop(_key(run, "refused"), None)
    try:
        if quick and _measured_here(run):
            stick = _yardstick(os.environ.get("DELIFT_HOME", ""), run.id, version_of(run))
            _add(run, Variant(_of(run), name, whatif.retry(widgets.workspace(), run, yardstick=stick, **settings)))
        else:
            trial = trying.Trial.start(widgets.workspace(), run.id, settings)
            st.session_state[_key(run, "trying")] = Trying(name, trial)
    except DeliftError as error:
        st.session_state[_key(run, "refused")] = str(error)


def _measured_here(run: Run) -> bool:
    """Whether the run's own objective is quick enough to value rows within the page."""
    own = method_of(run.config.method).objective
    possible = _objectives(os.environ.get("DELIFT_HOME", ""), run.id, version_of(run))
    return any(p.quick for p in possible if p.objective == own)


def _add(run: Run, variant: Variant) -> None:
    """List a variant; the same one again takes the place of the older, and the oldest of all makes room."""
    kept = [v for v in st.session_state.get(VARIANTS, ()) if (v.of, v.name) != (variant.of, variant.name)]
    st.session_state[VARIANTS] = [*kept, variant][-MOST_VARIANTS:]
    st.session_state[f"{CHOSEN}.{run.id}"] = variant.name


def _refused(run: Run) -> None:
    text = st.session_state.get(_key(run, "refused"))
    if text:
        st.error(widgets.escape(text), icon=":material/error:")


def _stop(run: Run) -> None:
    under_way: Trying | None = st.session_state.pop(_key(run, "trying"), None)
    if under_way is not None:
        under_way.trial.stop()


@st.fragment(run_every=1.0)
def _working(run: Run) -> None:
    """The retry under way; the page comes back when it has ended."""
    under_way: Trying | None = st.session_state.get(_key(run, "trying"))
    if under_way is None:
        st.rerun()
    if not under_way.trial.running:
        del st.session_state[_key(run, "trying")]
        try:
            _add(run, Variant(_of(run), under_way.name, under_way.trial.result()))
        except DeliftError as error:
            st.session_state[_key(run, "refused")] = str(error)
        st.rerun()
    stage, share = under_way.trial.progress
    st.progress(share, text=f"{widgets.escape(under_way.name)}: {widgets.escape(stage)}")
    st.button("Cancel", key="whatif.cancel", icon=":material/stop_circle:", on_click=_stop, args=(run,))


# --- comparing -----------------------------------------------------------------------------------------------------


def _compare(run: Run, pool: Dataset, variants: list[Variant]) -> None:
    st.subheader("Tried in this session")
    shown = table(run, variants)
    st.dataframe(
        shown, hide_index=True, placeholder="–",
        alt=f"This run and {len(variants)} other choices: value, overlap, rows, tokens",
        column_config={
            "value, % of the run's": st.column_config.NumberColumn(format="%.2f", help=VALUE_HELP),
            "rows shared, %": st.column_config.NumberColumn(format="%.1f", help="Jaccard index of the two sets."),
        },
    )  # fmt: skip
    _curves(run, variants)
    names = [v.name for v in variants]
    held = st.session_state.get(f"{CHOSEN}.{run.id}")
    if held is not None and held not in names:
        st.session_state[f"{CHOSEN}.{run.id}"] = names[-1]
    name = st.selectbox("Look at", names, key=f"{CHOSEN}.{run.id}", width=560)
    variant = next(v for v in variants if v.name == name)
    with st.container(horizontal=True):
        st.button(
            "Make it a run", key="whatif.make", icon=":material/play_circle:", on_click=_make, args=(run, variant)
        )
        st.button("Remove", key="whatif.remove", icon=":material/delete:", on_click=_remove, args=(run, variant))
    _made(run)
    for note in variant.found.notes:
        st.caption(widgets.escape(note))
    for column, title, rows in zip(
        st.columns(2, gap="large"), ("come in", "go out"), (variant.found.entered, variant.found.left), strict=True
    ):
        with column:
            st.markdown(f"**{len(rows):,} rows {title}**{f', the first {LISTED}' if len(rows) > LISTED else ''}")
            if len(rows):
                st.dataframe(_texts(pool, rows[:LISTED]), hide_index=True, alt=f"Rows that {title}, with their prompts")


VALUE_HELP = "Value under this run's own objective, over that of as many of its rows. A dash: sets have no value."


def table(run: Run, variants: list[Variant]) -> pd.DataFrame:
    """This run and what was tried beside it, one line each."""
    own: dict[str, Any] = {
        "choice": "this run", "value, % of the run's": 100.0, "rows": run.k, "rows shared, %": 100.0, "in": 0, "out": 0,
        "tokens": int(run.tokens[: run.k].sum()) if run.tokens is not None else None, "seconds": None,
    }  # fmt: skip
    lines = [own]
    for variant in variants:
        found = variant.found
        lines.append(
            {
                "choice": variant.name, "value, % of the run's": 100 * found.share, "rows": found.k,
                "rows shared, %": 100 * found.overlap, "in": len(found.entered), "out": len(found.left),
                "tokens": found.tokens, "seconds": round(found.seconds, 2),
            }
        )  # fmt: skip
    if all(np.isnan(v.found.share) for v in variants):
        own["value, % of the run's"] = None
    shown = pd.DataFrame(lines)
    shown["tokens"] = shown["tokens"].astype("Int64")
    return shown


def _curves(run: Run, variants: list[Variant]) -> None:
    """Value against budget, of the run and of what was tried."""
    valued = [v for v in variants if np.isfinite(v.found.own) and v.found.own]
    if not valued:
        st.caption("The objective of this run gives sets of rows no value, so there are no curves to compare.")
        return
    if len(valued) >= MOST:
        st.caption(f"The curves of the last {MOST - 1} choices.")
        valued = valued[1 - MOST :]
    most = BEYOND * max(run.k, *(v.found.k for v in valued))
    sizes = np.arange(1, (min(most, len(run.selection)) if run.selection.nested else run.k) + 1)
    series = [Series("this run", sizes, run.selection.value[: len(sizes)] / run.selection.value[run.k - 1])]
    for variant in valued:
        found = variant.found
        near = found.sizes <= most
        series.append(Series(variant.name, found.sizes[near], found.curve[near] / found.own, found.k))
    figure = value_curves(series, run.k, theme=widgets.theme(), y=f"% of the run's value at {run.k:,} rows")
    st.plotly_chart(figure, key="whatif.curves", config={"displayModeBar": False}, alt=alt_of(figure))


def _texts(pool: Dataset, rows: Any) -> pd.DataFrame:
    prompts = [" ".join(pool.prompts[row].split()) for row in rows]
    return pd.DataFrame(
        {"id": [pool.ids[row] for row in rows], "prompt": [widgets.clip(text, EXCERPT) for text in prompts]}
    )


def _remove(run: Run, variant: Variant) -> None:
    st.session_state[VARIANTS] = [v for v in st.session_state.get(VARIANTS, ()) if v is not variant]


def _make(run: Run, variant: Variant) -> None:
    """Start the run that chooses this way; its blocks are there, so it is quick."""
    with widgets.guarded():
        st.session_state[_key(run, "made")] = start_changed(run, variant.found.config)


def _made(run: Run) -> None:
    """The run that was made of a variant, and the way to it."""
    made = st.session_state.get(_key(run, "made"))
    if made is None:
        return
    state = jobs.state(widgets.workspace(), made)
    with st.container(horizontal=True, vertical_alignment="center"):
        icon = widgets.STATE_ICONS[state or "queued"]
        st.markdown(f"{icon} Run {widgets.escape(made[:8])} was started. It is {state}.", width="content")
        st.button("Open it", key="whatif.open", on_click=widgets.select_run, args=(made,), type="tertiary")
        st.page_link("pages/run.py", label="See its progress", icon=":material/play_circle:", width="content")
