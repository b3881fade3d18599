"""The parts that pages share, one by one."""

from __future__ import annotations

import dataclasses
import re

import pytest
from streamlit.testing.v1 import AppTest

from delift_core.config import RunConfig
from delift_core.registry import METHODS
from pages import _jobs
from pages import _widgets as widgets


def form() -> None:
    import dataclasses

    import streamlit as st

    from pages._widgets import options_form
    from tests.app.steps import Options

    st.session_state["made"] = options_form(dataclasses.fields(Options), key="o")


def test_every_field_of_a_dataclass_becomes_a_widget_with_its_limits_and_help() -> None:
    at = AppTest.from_function(form).run()
    assert not at.exception
    share, rounds = at.number_input(key="o.share"), at.number_input(key="o.rounds")
    assert (share.min, share.max, share.value, share.help) == (0.0, 1.0, 0.5, "how much")
    assert (rounds.min, rounds.value) == (1, 3)
    assert at.checkbox(key="o.exact").value is False
    assert at.get_by_key("o.how").value == "clip"
    assert at.text_input(key="o.label").value == "plain"


def test_only_what_differs_from_the_default_is_returned() -> None:
    at = AppTest.from_function(form).run()
    assert at.session_state["made"] == {}
    at.number_input(key="o.share").set_value(0.25)
    at.checkbox(key="o.exact").check()
    at.run()
    assert at.session_state["made"] == {"share": 0.25, "exact": True}


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b>",
        "[a](http://b)",
        "**x**",
        "`code`",
        "$x^2$",
        ":material/home:",
        "# title",
        "a\nb",
        "~~x~~",
        "![i](x)",
    ],
)
def test_escaped_text_leaves_no_markdown_that_is_active(text: str) -> None:
    escaped = widgets.escape(text)
    assert "\n" not in escaped
    bare = escaped
    for character in "\\`*_{}[]()<>#+-.!|~$:^=&":
        bare = bare.replace(f"\\{character}", "")
    assert not set(bare) & set("`*_[]<>#~$:!")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "a second"), (12.4, "12 s"), (600, "10 min"), (7200, "2.0 h"), (float("inf"), "unknown")],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert widgets.seconds_text(seconds) == text


@pytest.mark.parametrize("method", METHODS)
def test_the_command_line_parses_back_to_the_same_settings(method: str) -> None:
    from delift_core import cli

    config = RunConfig(
        pool="a" * 64, target="b" * 64, method=method, budget="12.5%", seed=3, kind="pmi", keep_duplicates=True
    )
    words = list(_jobs.command_for(config))[1:]
    args = cli._parser(words).parse_args(words)
    assert (args.pool, args.target, args.method, args.budget) == (config.pool, config.target, method, "12.5%")
    given = {name.removeprefix("setting_"): value for name, value in vars(args).items() if name.startswith("setting_")}
    assert config == RunConfig(pool=args.pool, target=args.target, method=args.method, budget=args.budget, **given)


def test_every_setting_of_a_run_reaches_the_command_line() -> None:
    base = RunConfig(pool="a" * 64)
    other = {
        "seed": 5, "keep_duplicates": True, "target": "b" * 64, "existing": "c" * 64, "budget": "7",
        "method": "delift-continual", "pairs": "knn:5", "holdout": "d" * 64, "quota": "topic: even", "once": 0.9,
        "domains": "topic:2", "guard": "words", "pin": ("one",), "ban": ("two",),
    }  # fmt: skip
    for f in dataclasses.fields(RunConfig):
        if f.name in ("pool", "options"):
            continue
        value = other.get(f.name, "other")
        if "choices" in f.metadata:
            value = next(choice for choice in f.metadata["choices"] if choice != f.default)
        changed = base.with_(**{f.name: value})
        assert _jobs.command_for(changed) != _jobs.command_for(base), f.name


@pytest.mark.parametrize(
    "address", ["https://example.org/x", "HTTP://example.org", "www.example.org", "me@example.org"]
)
def test_an_address_is_no_link(address: str) -> None:
    bare = widgets.escape(address).replace("\\", "")
    assert bare != address
    assert bare.replace("\u2060", "") == address
    assert not re.search(r"(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+\.", bare, re.IGNORECASE)
