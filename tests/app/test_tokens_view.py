"""Where an example helped, on the Utility page: when the model is read, colours that can be read, texts as texts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from delift_core.errors import ModelError
from delift_core.figures import Theme, alt_of
from delift_core.figures.tokens import SHOWN, changes, message, shade
from delift_core.review import token_detail
from delift_core.runs import warm
from delift_core.runs.warm import Busy
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from pages import _tokensview as tokensview
from pages._mapview import version_of
from tests.app.scored import store
from tests.app.steps import HOSTILE, said, visit

BUTTON = "Show where it helped"


def token(text: str, before: float, after: float, **more: Any) -> dict[str, Any]:
    return {"text": text, "count": 1, "end": False, "before": math.log(before), "after": math.log(after), **more}


def record(*tokens: dict[str, Any], notes: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "tokens": [*tokens, token("", 0.5, 0.9, end=True)], "d_before": 0.5, "d_after": 0.24, "l_before": -2.0,
        "l_after": -1.48, "l2": 0.26, "pmi": 0.52, "sentences": [f"It helps most at: “{HOSTILE}”."], "notes": notes,
    }  # fmt: skip


class Worker:
    """A worker that answers from memory."""

    def __init__(self, answer: dict[str, Any] | Exception, *, ready: bool = False) -> None:
        self.answer, self.ready, self.asked, self.busy = answer, ready, list[Mapping[str, Any]](), False

    def holds(self, question: Mapping[str, Any]) -> bool:
        return question in self.asked

    def ask(self, question: Mapping[str, Any], *, wait: float) -> dict[str, Any]:
        if isinstance(self.answer, Exception):
            raise self.answer
        self.asked.append(question)
        return self.answer


def serve(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> Worker:
    monkeypatch.setattr(tokensview, "worker", lambda: worker)
    return worker


def drawn(app: AppTest) -> dict[str, Any]:
    """What the browser is told of the response."""
    (found,) = [e for e in app.get("bidi_component") if "tokens" in str(e.proto.component_name)]
    sent: dict[str, Any] = json.loads(found.proto.json)
    return sent


def test_the_model_is_read_when_somebody_asks_and_the_answer_stays(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = serve(monkeypatch, Worker(record(token(HOSTILE, 0.1, 0.8))))
    run = store(ws, pool)
    visit(app, "utility", helped=pool.ids[3], candidate=pool.ids[6])
    assert not app.exception
    assert not worker.asked
    app.button(key="tokens.show").click().run()
    assert not app.exception
    (question,) = worker.asked
    assert question == {
        "run": run.id, "part": "pool", "row": 3, "example": 6, "version": version_of(run),
    }  # fmt: skip
    assert "0.5000 → 0.2400, utility +0.2600" in said(app)
    app.run()
    assert not any(button.label == BUTTON for button in app.button)


def test_a_warm_worker_is_asked_at_once_and_texts_stay_texts(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = serve(monkeypatch, Worker(record(token(HOSTILE, 0.1, 0.8), notes=("*A note*",)), ready=True))
    store(ws, pool)
    visit(app, "utility", helped=pool.ids[3], candidate=pool.ids[6])
    assert not app.exception
    assert len(worker.asked) == 1
    first, last = drawn(app)["tokens"]
    assert (first["text"], first["title"], first["mark"]) == (HOSTILE, "p 0.10 → 0.80", 2)
    assert last["end"]
    for kind in ("markdown", "caption", "info", "warning"):
        assert all("<script>" not in str(element.value) for element in app.get(kind)), kind
    frame = app.dataframe[0].value
    assert list(frame["token"]) == [HOSTILE, "(end of the response)"]
    assert list(frame["change"]) == pytest.approx([0.7, 0.4])
    assert any("largest change upwards is +0.70 at token 1" in chart.proto.alt for chart in app.get("plotly_chart"))


def test_what_went_wrong_is_said_and_can_be_tried_again(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, Worker(ModelError("The model has *changed*.")))
    store(ws, pool)
    visit(app, "utility", helped=pool.ids[3], candidate=pool.ids[6])
    app.button(key="tokens.show").click().run()
    assert not app.exception
    assert "The model has \\*changed\\*" in app.error[0].value
    assert app.button(key="tokens.show").label == BUTTON


def test_a_long_response_is_shown_in_part_and_says_so(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, Worker(record(*[token("x", 0.5, 0.6)] * 700), ready=True))
    store(ws, pool)
    visit(app, "utility", helped=pool.ids[3], candidate=pool.ids[6])
    assert len(drawn(app)["tokens"]) == SHOWN
    assert "The first 512 of 701 tokens" in said(app)
    assert len(app.dataframe[0].value) == 701


def test_without_a_language_model_the_page_says_what_can_be_said(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = serve(monkeypatch, Worker(record(), ready=True))
    run = store(ws, pool)
    monkeypatch.setattr(tokensview, "reads_texts", lambda method: False)
    visit(app, "utility", run=run.id, helped=pool.ids[3], candidate=pool.ids[6])
    assert not app.exception
    assert "compared the two rows as vectors" in said(app)
    assert not worker.asked


@pytest.mark.parametrize("ready", [True, False])
def test_while_the_worker_answers_somebody_else_the_page_says_so_and_does_not_wait(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    worker = serve(monkeypatch, Worker(Busy("busy"), ready=ready))
    worker.busy = ready
    store(ws, pool)
    visit(app, "utility", helped=pool.ids[3], candidate=pool.ids[6])
    assert not worker.asked and ("reading a pair for somebody else" in said(app)) == ready
    app.button(key="tokens.show").click().run()
    assert not app.exception and not app.error
    assert "reading a pair for somebody else" in said(app)
    worker.answer, worker.ready, worker.busy = record(token("x", 0.1, 0.8)), True, False
    app.button(key="tokens.again").click().run()
    assert not app.exception and "somebody else" not in said(app)
    assert len(worker.asked) == 1


def test_the_worker_is_that_of_the_workspace(ws: Workspace) -> None:
    assert tokensview.worker() is warm.shared(token_detail.worker_command(ws))


# --- colours ---------------------------------------------------------------------------------------------------------


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_shade_can_be_read_and_0_is_the_middle(theme: Theme) -> None:
    for step in range(-100, 101):
        paper, ink = shade(step / 100, theme)
        assert contrast(paper, ink) >= 4.5, (step, paper, ink)
    red, _, blue = (int(shade(0.3, theme)[0][at : at + 2], 16) for at in (1, 3, 5))
    assert blue > red, "purple where it rose"
    red, _, blue = (int(shade(-0.3, theme)[0][at : at + 2], 16) for at in (1, 3, 5))
    assert red > blue, "orange where it fell"
    assert shade(0.0, theme)[0] == {"light": "#f2f0f0", "dark": "#23262f"}[theme]


@pytest.mark.parametrize(("after", "mark"), [(0.52, 0), (0.6, 1), (0.9, 2), (0.4, -1), (0.1, -2)])
def test_a_change_is_marked_besides_its_colour(after: float, mark: int) -> None:
    sent = message([token("x", 0.5, after, count=3)], label="of a row")
    assert sent["tokens"][0]["mark"] == mark
    assert "3 tokens together" in sent["tokens"][0]["title"]
    assert {step["mark"] for step in sent["legend"]} >= {-2, -1, 0, 1, 2}


def test_the_figure_shows_token_names_as_letters() -> None:
    figure = changes([token(HOSTILE, 0.1, 0.8), token("b", 0.8, 0.1)])
    assert "<script>" not in figure.to_json()
    assert "<script>" not in str(figure.data[0].customdata)
    assert "0.45 without the example, 0.45 with it" in alt_of(figure)


def test_the_browser_builds_no_markup_from_texts() -> None:
    script = (Path(tokensview.__file__).parents[1] / "assets" / "tokens.js").read_text(encoding="utf-8")
    assert "textContent" in script
    assert not any(way in script for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write"))
