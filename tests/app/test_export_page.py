"""The Export page: formats with their first record, files that a button makes, command lines, the hub."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
from streamlit.testing.v1 import AppTest

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.sharing import hubpush
from delift_core.types import Dataset
from pages import _exportview as view
from tests.app.scored import store
from tests.app.steps import HOSTILE, said, visit

REPO = "me/sums"


def code(app: AppTest) -> str:
    return "\n".join(str(element.value) for element in app.code)


@pytest.mark.parametrize("kind", list(view.FORMATS))
def test_each_format_shows_its_first_record_and_downloads_it(
    app: AppTest, no_sample: None, pool: Dataset, finished: Run, kind: str
) -> None:
    visit(app, "export", run=finished.id)
    app.pills(key="format").set_value(kind).run()
    assert not app.exception and not app.error
    assert view.FORMATS[kind][1] in said(app)
    first = pool.prompts[int(finished.picked[0])]
    assert first in code(app)
    content = view.subset(finished, 10, kind)()
    if kind in ("jsonl", "trl", "trl-messages"):
        assert len(content.splitlines()) == 10 and first in content.decode()
    elif view.file_name(kind).endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert any(first.encode() in archive.read(name) for name in archive.namelist())
    assert ("Field 'topic' stays behind" in said(app).replace("\\", "")) == (kind in view.formats.FORMATS)


def test_a_format_in_the_url_is_shown(app: AppTest, no_sample: None, finished: Run) -> None:
    visit(app, "export", run=finished.id, format="LLaMA-Factory")
    assert not app.exception
    assert app.pills(key="format").value == "llama-factory" and '"instruction"' in code(app)


def test_the_command_lines_write_the_very_files(
    app: AppTest, no_sample: None, ws: Workspace, finished: Run, tmp_path: Path
) -> None:
    visit(app, "export", run=finished.id, k="4")
    app.pills(key="format").set_value("trl").run()
    lines = [shlex.split(line) for line in code(app).splitlines() if line.startswith("delift ")]
    files = next(words for words in lines if "--format" in words)
    assert files[:8] == ["delift", "export", "--id", finished.id, "--k", "4", "--format", "trl"]
    assert "subset.jsonl" in files and "rejected.jsonl" in files and str(ws.root) in files
    assert any("--report" in words for words in lines) and any(words[1] == "replay" for words in lines)


def test_hostile_rows_are_text_and_notes_are_escaped(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    row = next(i for i, prompt in enumerate(pool.prompts) if prompt == HOSTILE)
    run = pipeline.run(ws, RunConfig(pool=pool.fingerprint, method="random", budget="3", pin=(pool.ids[row],)))
    visit(app, "export", run=run.id)
    assert not app.exception
    assert "<script>hacked=1" in code(app)  # a code block, where it is text
    assert all("<script>" not in str(element.value) for element in app.markdown)


def test_rows_without_a_response_can_be_had_in_plain_formats_only(
    app: AppTest, no_sample: None, ws: Workspace, tmp_path: Path
) -> None:
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"What is {i}?"}) + "\n" for i in range(9)))
    pool = pipeline.add_dataset(ws, source, need_response=False)
    run = pipeline.run(ws, RunConfig(pool=pool.fingerprint, method="random", budget="3"))
    visit(app, "export", run=run.id)
    assert not app.error
    app.pills(key="format").set_value("trl").run()
    assert not app.exception
    assert "3 of the 3 picked rows of prompts" in app.error[0].value.replace("\\", "")
    button = next(b for b in app.get("download_button") if "Download" in b.proto.label)
    assert button.proto.disabled


def test_the_report_and_the_rejected_rows_come_at_the_budget_shown(
    no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool)
    page = view.report(run, 3)().decode()
    assert page.startswith("<!doctype html>") and "3 rows chosen from sums.jsonl" in page
    left = [json.loads(line) for line in view.rejected(run, 3)().splitlines()]
    assert len(left) == 37 and any(entry["reason"].startswith("refused") for entry in left)
    assert json.loads(view.manifest(run, 3)())["k"] == 3


# ------------------------------------------------------------------------------------------------ the hub


def test_the_hub_lists_first_and_uploads_only_once_it_was_confirmed(
    app: AppTest, no_sample: None, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[tuple[object, ...]] = []
    plain = hubpush.push

    def push(ws: Workspace, run: Run, repo: str, k: int, kind: str, private: bool, *, dry_run: bool) -> hubpush.Pushed:
        pushed.append((run.id, repo, k, kind, private, dry_run))
        return plain(ws, run, repo, k, kind, private, dry_run=True)

    monkeypatch.setattr(hubpush, "push", push)
    visit(app, "export", run=finished.id)
    assert not pushed and not any(button.key == "hub.go" for button in app.button)
    app.text_input(key="hub.repo").set_value(REPO).run()
    assert app.button(key="hub.go").disabled
    app.button(key="hub.list").click().run()
    assert not app.exception
    assert pushed == [(finished.id, REPO, 10, "parquet", True, True)]
    assert list(app.dataframe[0].value["file"]) == ["data/train.parquet", "manifest.json", "README.md"]
    assert "Nothing was uploaded" in said(app)
    next(box for box in app.checkbox if str(box.key).startswith("hub.sure")).check().run()
    assert not app.button(key="hub.go").disabled
    app.button(key="hub.go").click().run()
    assert pushed[-1] == (finished.id, REPO, 10, "parquet", True, False)
    app.checkbox(key="hub.public").check().run()  # another upload wants its own confirmation
    assert app.button(key="hub.go").disabled and "Nothing was uploaded" not in said(app)


def test_without_a_token_the_page_says_how_to_sign_in(
    app: AppTest, no_sample: None, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    visit(app, "export", run=finished.id)
    app.text_input(key="hub.repo").set_value(REPO).run()
    next(box for box in app.checkbox if str(box.key).startswith("hub.sure")).check().run()
    app.button(key="hub.go").click().run()
    assert not app.exception
    assert "hf auth login" in app.error[0].value


def test_a_name_that_is_none_is_told(app: AppTest, no_sample: None, finished: Run) -> None:
    visit(app, "export", run=finished.id)
    app.text_input(key="hub.repo").set_value("no name").run()
    app.button(key="hub.list").click().run()
    assert not app.exception
    assert "OWNER/NAME" in app.error[0].value
