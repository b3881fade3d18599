"""Run: say what you want, see what it costs, start it; then watch it, or come back to it."""

from __future__ import annotations

import dataclasses
from typing import Any

import streamlit as st

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.errors import DeliftError
from delift_core.registry import (
    AUTO,
    BEST,
    DENSE,
    ENCODERS,
    NEAREST,
    Method,
    option_fields,
    reads,
    reads_texts,
    score_of,
    scorer_of,
    sparse_plan,
)
from pages import _compareview as compareview
from pages import _jobs as parts
from pages import _rulesform as rulesform
from pages import _widgets as widgets
from pages._language import warn_language
from pages._methodcards import choose_method

PAIRS = [AUTO, DENSE, BEST, "surrogate:0.1", "knn:12", "landmarks:50"]
NEAR = [AUTO, DENSE, NEAREST, "knn:128"]
SETTINGS = frozenset(f.name for f in dataclasses.fields(RunConfig))
FORM_FIELDS = ("template", "kind", "scale", "keep_duplicates", "seed")  # settings that get a widget

ROLES = {
    "pool": "Pool: the rows to choose from",
    "target": "Target: what it should get good at",
    "existing": "Existing: the rows already trained on",
}
BUDGETS = {"percent": (30.0, 0.1, 5.0), "rows": (500.0, 1.0, 100.0), "tokens": (200_000.0, 1.0, 10_000.0)}
TOKENS = "tok"  # how a budget in tokens ends


def choose_budget() -> str:
    """The budget as the command line writes it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        unit = st.segmented_control(
            "Budget in", list(BUDGETS), default="percent", required=True, key="unit", persist_state="session"
        )
        start, low, step = BUDGETS[unit]
        amount = st.number_input(
            f"Budget, {unit}", low, None, start, step, format="%g" if unit == "percent" else "%.0f",
            key=f"budget.{unit}", persist_state="session", width=220,
        )  # fmt: skip
    return {"percent": f"{amount:g}%", "rows": f"{amount:.0f}", "tokens": f"{amount:.0f}tok"}[unit]


def show_copies(pool: str | None) -> None:
    """Of how many rows a percentage is, where that is not all of them."""
    dataset = widgets.open_dataset_cached(pool) if pool else None
    if dataset is not None and (copies := len(dataset) - len(dataset.unique)):
        st.caption(
            f"The percentage is of {len(dataset.unique):,} rows: of the {len(dataset):,}, {copies:,} exact copies are "
            "left out. Advanced options can keep them."
        )


def choose_model(read: frozenset[str]) -> dict[str, Any]:
    """The language model, the encoder, both or none, by what is read."""
    chosen: dict[str, Any] = {}
    if read & {"model", "tokenizer"}:
        alone = "" if "model" in read else " Only its tokenizer is read, to count tokens."
        model = st.text_input(
            "Language model", "builtin", key="model", persist_state="session",
            help=f"builtin (shipped with this program, small), a Hugging Face id, or a folder on the server.{alone}",
        )  # fmt: skip
        chosen["model"] = model.strip() or "builtin"
    if "encoder" in read:
        also = " It finds the pairs worth scoring, where not all are." if "model" in read else ""
        encoder = st.selectbox(
            "Sentence encoder", list(ENCODERS), key="encoder", accept_new_options=True, persist_state="session",
            help=f"minilm, fast, or type a sentence-transformers id.{also}",
        )  # fmt: skip
        chosen["encoder"] = str(encoder)
    return chosen


def settings_of(method: Method, options: dict[str, Any]) -> set[str]:
    """Which of the general settings the method looks at."""
    made = (scorer_of(method.name, options, {}), score_of(method.name, options, {}))
    found = {"keep_duplicates", "seed"}
    if any(hasattr(part, "template") for part in made):
        found.add("template")
    if method.scorer is not None:
        found.add("scale")
    return found | {"kind"} if reads_texts(method.name) else found


def choose_settings(method: Method) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the run and options of the method, generated from their dataclass fields."""
    with st.expander("Advanced options", icon=":material/tune:", key="advanced"):
        settings: dict[str, Any] = {}
        general = st.container(horizontal=True, vertical_alignment="bottom")
        fields = option_fields(method.name, settings=SETTINGS).values()
        options = widgets.options_form(fields, key=f"option.{method.name}")
        with general:
            if sparse := sparse_plan(method.name):
                passes = reads_texts(method.name)
                settings["pairs"] = st.selectbox(
                    "Pairs", PAIRS if passes else NEAR, key="setting.pairs" if passes else "setting.near",
                    accept_new_options=True, persist_state="session",
                    help=f"Which pairs are scored. auto: all of them unless they are too many, then {sparse}. A plan "
                    "scores fewer, and reports on a checked sample how far that is from all.",
                )  # fmt: skip
            shown = settings_of(method, options)
            for f in dataclasses.fields(RunConfig):
                if f.name in FORM_FIELDS and f.name in shown:
                    value = widgets.option_widget(f, f"setting.{f.name}")
                    if value is not None:
                        settings[f.name] = value
        return settings, options


def take_opened() -> None:
    """The pool that a link asks for, else the one that was opened on the Data page last, until another is chosen."""
    linked, opened = st.query_params.pop("pool", None), st.session_state.get(widgets.OPENED)
    if linked or opened != st.session_state.get(widgets.TAKEN):
        st.session_state[widgets.TAKEN] = opened
        pools = {r.fingerprint for r in widgets.workspace().catalogue.datasets() if linked or "pool" in r.roles}
        if (wanted := linked or opened) in pools:
            st.session_state["role.pool"] = wanted


def ask() -> RunConfig | None:
    """The whole form; None while something it needs is missing (and the form says what)."""
    method = choose_method()
    take_opened()
    data = st.container(horizontal=True, vertical_alignment="bottom")
    with data:
        roles: dict[str, str | None] = {"pool": widgets.choose_dataset("pool", ROLES["pool"])}
        for role, needed in (("target", method.needs_target), ("existing", method.needs_existing)):
            if needed:
                roles[role] = widgets.choose_dataset(role, ROLES[role], optional=True)
    budget = choose_budget()
    show_copies(roles["pool"])
    rules = rulesform.ask_rules(method, roles["pool"])
    settings, options = choose_settings(method)
    read = set(reads(method.name, options, pairs=settings.get("pairs", DENSE)))
    if budget.endswith(TOKENS):
        read.add("tokenizer")
    if rulesform.reads_vectors(rules):
        read.add("encoder")
    with data:
        model = choose_model(frozenset(read))
    if roles["pool"]:
        warn_language(
            roles["pool"], encoder=model.get("encoder"), model=model.get("model") if "model" in read else None
        )
    missing = [role for role, fingerprint in roles.items() if not fingerprint]
    if missing:
        st.info(f"{method.title} needs a {' and a '.join(missing)}. Choose it above, or load it on the Data page.")
        return None
    ws = widgets.workspace()
    config = pipeline.configure(
        ws, method=method.name, budget=budget, **roles, **rules, **model, **settings, **options
    )  # fmt: skip
    pipeline.check(ws, config)
    return config


def start(config: RunConfig) -> None:
    """Hand the run to a subprocess and show it."""
    run_id = pipeline.submit(widgets.workspace(), config, command=parts.command_for(config))
    widgets.select_run(run_id)


@st.fragment(run_every=0.7)
def wait_for(estimate: parts.Estimate) -> None:
    """Look every moment whether the cost is known; then draw the page again."""
    if not estimate.running:
        st.rerun()
    st.caption("Measuring how long this run takes on this machine…")
    st.button("Score and select", type="primary", disabled=True, key="start.waiting", icon=":material/play_arrow:")


def price_and_start(config: RunConfig) -> RunConfig | None:
    """The cost, the tick that a long run wants, and the button; returns what the button starts, once that is known."""
    estimate = parts.estimate_of(config)
    if estimate.running:
        wait_for(estimate)
        return None
    cost, plan = estimate.result()
    config = config.with_(pairs=plan)
    parts.show_cost(cost, config)
    agreed = True
    if cost.seconds > parts.ASK_ABOVE:
        agreed = st.checkbox(
            f"This takes about {widgets.seconds_text(cost.seconds)}. Start it all the same.", key=f"agreed.{config.id}"
        )
    st.button(
        "Score and select", type="primary", disabled=not agreed, key="start", icon=":material/play_arrow:",
        on_click=start, args=(config,),
    )  # fmt: skip
    return config


st.title("Run")
named = st.query_params.get(widgets.RUN_KEY)
if named and named != widgets.sample_run():
    parts.show_run(named)

st.header("What do you want?")
if not widgets.workspace().catalogue.datasets():
    st.info("No data yet: load a dataset first.", icon=":material/info:")
    st.page_link("pages/data.py", label="Go to Data", icon=":material/database:")
else:
    try:
        config = ask()
        if config is not None:
            st.caption("The same run from a terminal (`source .venv/bin/activate` first):")
            command = st.empty()
            with st.container():
                settled = price_and_start(config)
            command.code(parts.command_text(settled or config), language="bash", wrap_lines=True)
    except DeliftError as error:
        widgets.error_box(error)

st.header("Runs")
parts.gallery()
compareview.ask_comparison()
