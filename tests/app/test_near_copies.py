"""Near-copies: found in a loaded dataset, and shown on the Data page after somebody asks, side by side, as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from delift_core import nearcopies, pipeline
from delift_core.errors import ConfigError, ModelError
from delift_core.models.encoder import unit
from delift_core.nearcopies import MEMBERS, SHOWN, expected_seconds, find_near_copies
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset, Floats, Identity, Progress, no_progress
from tests.app.steps import HOSTILE, said, visit

VIEW = "Near-copies"


class Letters:
    """An encoder that needs no model: how often each byte stands in a text."""

    identity = Identity("letters", "0" * 64, "encoder")
    read = 0  # texts

    def encode(self, texts: Sequence[str], *, progress: Progress = no_progress) -> Floats:
        Letters.read += len(texts)
        return unit(np.array([np.bincount(list(t.encode()), minlength=256) for t in texts], np.float32))


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> type[Letters]:
    monkeypatch.setattr(nearcopies, "identify_encoder", lambda name: Letters.identity)
    monkeypatch.setattr(nearcopies, "sentence_encoder", lambda name, cache: Letters())
    Letters.read = 0
    return Letters


def records() -> list[dict[str, str]]:
    """Three rows alike and hostile, forty alike, an exact copy of one of them, and two on their own."""
    rows = [{"instruction": "abcdefgh" * 9, "output": "x" * 50}]
    rows += [{"instruction": HOSTILE + " same" * 9, "output": HOSTILE + end} for end in (".", "!", "?")]
    rows += [{"instruction": f"Translate the sentence number {i} into French.", "output": "Voilà."} for i in range(40)]
    return [*rows, rows[-1], {"instruction": "0123456789" * 5, "output": "9876543210"}]


@pytest.fixture
def repeating(ws: Workspace, tmp_path: Path) -> Dataset:
    path = tmp_path / "repeating.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in records()), encoding="utf-8")
    return pipeline.add_dataset(ws, path)


def test_sets_are_counted_and_the_largest_are_named_by_rows_of_the_dataset(ws: Workspace, repeating: Dataset) -> None:
    found = find_near_copies(ws, repeating.fingerprint)
    assert (found.compared, found.groups, found.grouped, found.repeats) == (45, 2, 43, 41)
    assert [(one.size, one.rows[0]) for one in found.sets] == [(40, 4), (3, 1)]
    assert [len(one.rows) for one in found.sets] == [1 + MEMBERS, 3]
    for one in found.sets:
        assert one.cosines[0] == 1
        assert list(one.cosines[1:]) == sorted(one.cosines[1:])
        assert min(one.cosines) >= 0.95
    assert "43 of 45 different rows stand in 2 sets" in found.sentence
    assert "4 rows would be left" in found.sentence
    again = json.loads(json.dumps(found.to_json()))
    assert (again["repeats"], again["sets"][1]["rows"][0], again["sentence"]) == (41, 1, found.sentence)


def test_another_threshold_reads_what_is_stored(
    ws: Workspace, repeating: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_near_copies(ws, repeating.fingerprint)
    assert Letters.read == 45
    monkeypatch.setattr(nearcopies, "sentence_encoder", lambda name, cache: pytest.fail("the encoder was loaded again"))
    monkeypatch.setattr("delift_core.neighbours.graph", lambda *_, **__: pytest.fail("the graph was computed again"))
    strict = find_near_copies(ws, repeating.fingerprint, threshold=1.0)
    assert strict.repeats < 41
    assert find_near_copies(ws, repeating.fingerprint, threshold=0.99).repeats >= strict.repeats


def test_rows_on_their_own_make_no_sets(ws: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "apart.jsonl"
    path.write_text("".join(json.dumps({"instruction": c * 9, "output": c}) + "\n" for c in "abcdef"))
    found = find_near_copies(ws, pipeline.add_dataset(ws, path).fingerprint)
    assert (found.groups, found.repeats, found.sets) == (0, 0, ())
    assert found.sentence.startswith("None of 6")


def test_without_all_responses_the_prompts_alone_are_compared_and_it_says_so(ws: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    rows = [{"instruction": "abc", "output": "x"}, {"instruction": "abc", "output": "yyyyyyyyyyyy"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"instruction": "zzz", "output": ""}]))
    found = find_near_copies(ws, pipeline.add_dataset(ws, path, need_response=False).fingerprint)
    assert found.repeats == 1
    assert "prompts alone" in found.notes[0]


def test_no_more_sets_are_named_than_a_page_shows(ws: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"instruction": chr(65 + i) * 40, "output": mark} for i in range(SHOWN + 3) for mark in ".!"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = find_near_copies(ws, pipeline.add_dataset(ws, path).fingerprint)
    assert (found.groups, len(found.sets)) == (SHOWN + 3, SHOWN)


def test_a_wrong_threshold_and_a_wrong_encoder_are_refused(
    ws: Workspace, repeating: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="cosine"):
        find_near_copies(ws, repeating.fingerprint, threshold=95)
    monkeypatch.undo()
    with pytest.raises(ModelError):
        find_near_copies(ws, repeating.fingerprint, encoder="no/such-encoder")


def test_the_time_it_takes_grows_with_the_rows_and_is_unknown_for_other_encoders() -> None:
    assert 0 < expected_seconds(1_000, "fast") < expected_seconds(1_000, "minilm") < expected_seconds(9_000, "minilm")
    assert np.isnan(expected_seconds(1_000, "somebody/else"))


# --- the page --------------------------------------------------------------------------------------------------------


def asked(app: AppTest) -> AppTest:
    visit(app, "data")
    app.segmented_control(key="view").set_value(VIEW).run()
    return app.button(key="near.go").click().run()


def test_nothing_is_computed_before_somebody_asks(app: AppTest, no_sample: None, repeating: Dataset) -> None:
    visit(app, "data")
    app.segmented_control(key="view").set_value(VIEW).run()
    assert not app.exception
    assert Letters.read == 0
    assert "for 45 rows" in said(app)
    assert not any(metric.label == VIEW for metric in app.metric)


def test_the_sets_are_shown_with_their_texts_side_by_side(app: AppTest, no_sample: None, repeating: Dataset) -> None:
    asked(app)
    assert not app.exception
    assert not app.error
    assert "43 of 45 different rows stand in 2 sets" in said(app).replace("\\", "")
    assert {metric.label: metric.value for metric in app.metric}[VIEW] == "41"
    assert list(app.dataframe[0].value["rows"]) == [40, 3]
    texts = [element.value for element in app.text]
    assert "Translate the sentence number 0 into French." in texts
    assert sum("Translate the sentence" in text for text in texts) == 3
    assert "least like it, of 40 rows" in said(app)


def test_another_set_is_opened_and_hostile_rows_stay_text(app: AppTest, no_sample: None, repeating: Dataset) -> None:
    asked(app).number_input(key="near.set").set_value(2).run()
    assert not app.exception
    texts = [element.value for element in app.text]
    assert {HOSTILE + end for end in (".", "!", "?")} <= set(texts)
    for kind in ("markdown", "caption", "info", "warning"):
        assert all("<script>" not in str(element.value) for element in app.get(kind)), kind


def test_a_new_threshold_is_told_without_asking_again(app: AppTest, no_sample: None, repeating: Dataset) -> None:
    asked(app).number_input(key="near.threshold").set_value(1.0).run()
    assert not app.exception
    assert "cosine 1 or more" in said(app).replace("\\", "")
    assert Letters.read == 45


def test_another_encoder_waits_until_somebody_asks(app: AppTest, no_sample: None, repeating: Dataset) -> None:
    asked(app).selectbox(key="near.encoder").set_value("minilm").run()
    assert not app.exception
    assert "stand in 2 sets" not in said(app).replace("\\", "")
    assert "about 1 s" in said(app).replace("\\", "")


def test_the_proposed_cosine_fits_rows_that_the_encoder_cannot_read(
    app: AppTest, no_sample: None, ws: Workspace, tmp_path: Path
) -> None:
    said_in_finnish = "Aurinko laskee illalla, ja silloin kaupungin kadut hiljenevät ja lamput syttyvät, numero"
    path = tmp_path / "finnish.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"{i}", "response": f"{said_in_finnish} {i}"}) + "\n" for i in range(9))
    )
    pipeline.add_dataset(ws, path)
    visit(app, "data")
    assert "Most rows are not in English" in said(app) and "multilingual" in said(app)
    app.get_by_key("view").set_value(VIEW).run()
    assert app.number_input(key="near.threshold").value == 0.99
    app.number_input(key="near.threshold").set_value(0.97).run()
    assert app.number_input(key="near.threshold").value == 0.97, "what a person sets stays"
    app.selectbox(key="near.encoder").set_value("minilm").run()
    assert app.number_input(key="near.threshold").value == 0.95
    app.switch_page("pages/run.py").run()
    assert "Most rows are not in English" in said(app), "the encoder chosen there is the same"


def test_an_encoder_that_cannot_be_loaded_is_an_error_on_the_page(
    app: AppTest, no_sample: None, repeating: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Identity:
        raise ModelError("The sentence encoder is missing.")

    monkeypatch.setattr(nearcopies, "identify_encoder", missing)
    asked(app)
    assert not app.exception
    assert "encoder is missing" in app.error[0].value
