"""The figure of sets: every number where it belongs, intervals around the means, and nothing for what is missing."""

from __future__ import annotations

import json
from typing import Any

import plotly.io as pio
import pytest

from delift_core import figures
from delift_core.figures.shots import shots


def told(k: int, together: float, **more: Any) -> dict[str, Any]:
    return {
        "shots": k, "rows": 50, "together": together, "interval": [together - 0.02, together + 0.03], "best": 0.1,
        "predicted_max": 0.11, "control": 0.04, **more,
    }  # fmt: skip


def record(*summary: dict[str, Any], kind: str = "l2") -> dict[str, Any]:
    return {"kind": kind, kind: {"summary": list(summary)}}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_four_lines_are_drawn_over_the_numbers_of_examples(theme: Any) -> None:
    figure = shots(record(told(2, 0.12), told(8, 0.2)), theme=theme)
    lines = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert lines == {
        "as many random picks together": (["2", "8"], [0.04, 0.04]),
        "the best example alone": (["2", "8"], [0.1, 0.1]),
        "what pairs predict": (["2", "8"], [0.11, 0.11]),
        "these examples together": (["2", "8"], [0.12, 0.2]),
    }
    assert figure.layout.xaxis.type == "category"
    json.loads(pio.to_json(figure))


def test_the_interval_reaches_as_far_down_and_up_as_it_was_measured() -> None:
    bars = shots(record(told(2, 0.12, interval=[0.1, 0.2]))).data[-1].error_y
    assert (list(bars.arrayminus), list(bars.array)) == (pytest.approx([0.02]), pytest.approx([0.08]))


def test_the_sentence_states_every_number() -> None:
    assert figures.alt_of(shots(record(told(2, 0.12), told(4, 0.15)))) == (
        "Mean utility over 50 rows: 2 together 0.12 (0.1 to 0.15), the best alone 0.1, predicted by pairs 0.11; "
        "4 together 0.15 (0.13 to 0.18), the best alone 0.1, predicted by pairs 0.11."
    )


def test_what_is_missing_is_left_out() -> None:
    figure = shots(record(told(2, 0.12, predicted_max=None, interval=[None, None], rows=1), kind="pmi"))
    assert "what pairs predict" not in [trace.name for trace in figure.data]
    assert figures.alt_of(figure) == "Mean utility over 1 row: 2 together 0.12, the best alone 0.1."
    assert "nats per token" in figure.layout.yaxis.title.text
    json.loads(pio.to_json(figure))
