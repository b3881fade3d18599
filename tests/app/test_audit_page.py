"""The Audit page: search in three ways, edits that are saved, undone and made a run, coverage and risks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.review import editing, risks
from delift_core.review.editing import Change
from delift_core.runs import jobs
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from pages import _searchview
from pages._editsview import pending_count
from tests.app.scored import store
from tests.app.steps import HOSTILE, said, visit

VIEWS = ("Search and edit", "Edits", "Coverage", "Risks")  # the others have tests of their own


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Runs that are submitted are noted down, not computed."""
    submitted: list[RunConfig] = []

    def submit(ws: Workspace, config: RunConfig, **more: object) -> str:
        submitted.append(config)
        return ws.catalogue.add_run(config).id

    monkeypatch.setattr(jobs, "submit", submit)
    monkeypatch.setattr(jobs, "start_map", lambda ws, id: True)
    return submitted


def look(app: AppTest, view: str, **query: str) -> AppTest:
    return visit(app, "audit", audit=view, **query)


def found(app: AppTest) -> int:
    """How many rows match, as the page says it."""
    [line] = [m.value for m in app.markdown if "rows match" in m.value]
    return int(line.removeprefix("**").split()[0].replace(",", ""))


def table(app: AppTest) -> list[str]:
    return list(app.dataframe[0].value["id"])


def edit(app: AppTest, action: str, reason: str = "because", who: str = "Ada") -> AppTest:
    """Give a reason and a name, and press the button for all rows that match."""
    app.segmented_control(key="edit.scope").set_value("all that match")
    app.text_input(key="edit.reason").set_value(reason)
    app.text_input(key="edit.who").set_value(who).run()
    return app.button(key=f"edit.{action}").click().run()


# --- every view ----------------------------------------------------------------------------------------------------


def test_without_a_run_the_page_says_what_it_needs(app: AppTest, no_sample: None) -> None:
    visit(app, "audit")
    assert not app.exception
    assert "Nothing to audit yet" in said(app)


def test_the_sample_opens_in_every_view(app: AppTest) -> None:
    visit(app, "audit")
    for view in VIEWS:
        app.segmented_control(key="audit").set_value(view).run()
        assert not app.exception and not app.error
        assert app.segmented_control(key="audit").value == view


def test_a_method_without_pairs_and_hostile_rows_open_in_every_view(
    app: AppTest, no_sample: None, finished: Run
) -> None:
    visit(app, "audit", run=finished.id)
    for view in VIEWS:
        app.segmented_control(key="audit").set_value(view).run()
        assert not app.exception and not app.error
        for kind in ("markdown", "caption", "info", "warning"):
            assert all("<script>" not in str(element.value).replace("\\<", "") for element in app.get(kind)), kind
        assert ("scores no pairs" in said(app)) == (view == "Coverage")


# --- search --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"q": "add 1"}, 11), ({"q": r"^Add \d and", "search": "regex"}, 8), ({"show": "selected"}, 8),
        ({"q": "selected AND topic = 'sums'", "search": "SQL"}, 4),
        ({"show": "rejected", "column": "topic", "value": "sums"}, 13),
        ({"q": "SELECT id FROM rows WHERE rank <= 3", "search": "SQL"}, 3), ({"q": "nowhere"}, 0),
    ],
)  # fmt: skip
def test_a_search_stands_in_the_url(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, query: dict[str, str], count: int
) -> None:
    run = store(ws, pool)
    look(app, "Search and edit", run=run.id, **query)
    assert not app.exception and not app.error
    assert found(app) == count
    if count:
        picks = app.dataframe[0].value["pick"].dropna().to_numpy()
        assert (np.diff(picks) > 0).all()


@pytest.mark.parametrize(
    ("query", "mode", "told"),
    [("nope > 1", "SQL", "The columns of rows are"), ("DROP TABLE rows", "SQL", "nothing else"), ("(", "regex", "RE2")],
)
def test_what_cannot_be_searched_is_told_and_the_next_search_works(
    app: AppTest, no_sample: None, finished: Run, query: str, mode: str, told: str
) -> None:
    look(app, "Search and edit", run=finished.id, q=query, search=mode)
    assert not app.exception
    assert told in app.error[0].value.replace("\\", "")
    app.text_input(key="q").set_value("").run()
    assert not app.error
    assert found(app) == 39


def test_each_way_of_searching_keeps_its_own_text(app: AppTest, no_sample: None, finished: Run) -> None:
    look(app, "Search and edit", run=finished.id, q=r"^Add \d and", search="regex")
    assert found(app) == 8
    app.segmented_control(key="search").set_value("SQL").run()
    assert not app.error and app.text_input(key="q").value == "" and found(app) == 39
    assert "length(response)" in app.text_input(key="q").placeholder
    app.text_input(key="q").set_value("row < 3").run()
    assert found(app) == 3
    app.segmented_control(key="search").set_value("regex").run()
    assert app.text_input(key="q").value == r"^Add \d and" and found(app) == 8
    app.segmented_control(key="search").set_value("SQL").run()
    assert app.text_input(key="q").value == "row < 3" and found(app) == 3
    assert app.query_params["q"] in (["row < 3"], "row < 3")


def test_chosen_lines_are_edited_and_their_texts_shown_as_text(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool)
    look(app, "Search and edit", run=run.id, q="hacked")
    assert app.button(key="edit.ban").disabled
    name = app.dataframe[0].proto.id.rpartition("-")[2]
    app.session_state[name] = {"selection": {"rows": [0]}}
    app.run()
    assert [t.value for t in app.text].count(HOSTILE) == 2
    app.text_input(key="edit.reason").set_value("an attack").run()
    app.button(key="edit.ban").click().run()
    assert not app.exception and not app.error
    [change] = app.session_state["_edits.pending"][run.id]
    assert change == Change("ban", (3,), "an attack")
    assert list(app.dataframe[0].value["edit"]) == ["banned"]
    assert app.button(key="edit.ban").disabled  # nothing stays chosen


def test_all_that_match_reaches_beyond_the_table_and_many_rows_want_a_tick(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_searchview, "SHOWN", 5)
    monkeypatch.setattr(_searchview, "ASK_ABOVE", 20)
    run = store(ws, pool)
    look(app, "Search and edit", run=run.id, column="topic", value="sums")
    assert found(app) == 17 and len(table(app)) == 5
    edit(app, "ban")
    assert set(app.session_state["_edits.pending"][run.id][0].rows) == set(
        np.flatnonzero(np.array(pool.group("topic")) == "sums").tolist()
    )
    app.selectbox(key="column").set_value(None).run()
    assert found(app) == 39
    app.segmented_control(key="edit.scope").set_value("all that match").run()
    assert app.button(key="edit.ban").disabled
    [tick] = [box for box in app.checkbox if "39 rows" in box.label]
    tick.check().run()
    assert not app.button(key="edit.ban").disabled


def test_an_edit_without_a_reason_and_a_release_of_nothing_are_told(
    app: AppTest, no_sample: None, finished: Run
) -> None:
    look(app, "Search and edit", run=finished.id, q="add 10 and")
    edit(app, "pin", reason=" ")
    assert "Say why" in app.error[0].value
    edit(app, "free")
    assert "nothing to take back" in app.error[0].value
    assert not app.exception


# --- edits ---------------------------------------------------------------------------------------------------------


def test_edits_are_saved_undone_and_redone(app: AppTest, no_sample: None, ws: Workspace, finished: Run) -> None:
    look(app, "Search and edit", run=finished.id, q="add 10 and")
    edit(app, "pin", "a good sum")
    app.segmented_control(key="audit").set_value("Edits").run()
    assert "Pin 1 row (10). a good sum" in said(app)
    app.button(key="edits.save").click().run()
    assert not app.exception and not app.error
    [logged] = ws.catalogue.edits(finished.id)
    assert (logged.action, logged.rows, logged.who, logged.reason) == ("pin", (9,), "Ada", "a good sum")
    assert "Ada: Pin 1 row (10)" in said(app)
    app.button(key=f"edits.turn.{logged.id}").click().run()
    assert "UNDONE. Ada" in said(app) and app.button(key=f"edits.turn.{logged.id}").label == "Redo"
    assert ws.catalogue.edits(finished.id)[0].undone
    assert "change nothing" in said(app)
    button = app.button(key=f"edits.turn.{logged.id}")
    for undone in (False, True, False):  # the same button again, as by presses that come before the page is drawn anew
        button.click().run()
        assert ws.catalogue.edits(finished.id)[0].undone is undone
        button.set_value(False)
    assert app.button(key="edits.run")


def test_saving_wants_a_name_and_an_edit_can_be_removed(
    app: AppTest, no_sample: None, ws: Workspace, finished: Run
) -> None:
    look(app, "Search and edit", run=finished.id, q="add 10 and")
    edit(app, "pin", who=" ")
    app.segmented_control(key="audit").set_value("Edits").run()
    assert app.button(key="edits.save").disabled and app.button(key="edits.run").disabled
    app.button(key="edits.remove.0").click().run()
    assert not app.error and not app.exception
    assert "Nothing. Find rows" in said(app)
    assert ws.catalogue.edits(finished.id) == []


def test_two_people_do_not_see_each_other_s_unsaved_edits_and_lose_none_of_the_saved(
    app: AppTest, no_sample: None, ws: Workspace, finished: Run
) -> None:
    other = AppTest.from_file(str(Path(__file__).parents[2] / "app.py"), default_timeout=60)
    for person, query, who in ((app, "add 10 and", "Ada"), (other, "add 12 and", "Bo")):
        look(person, "Search and edit", run=finished.id, q=query)
        edit(person, "ban", f"by {who}", who)
        person.segmented_control(key="audit").set_value("Edits").run()
    assert "by Ada" in said(app) and "by Bo" not in said(app)
    assert "by Bo" in said(other) and "by Ada" not in said(other)
    for person in (app, other):
        person.button(key="edits.save").click().run()
        assert not person.exception and not person.error
    app.run()
    for person in (app, other):
        assert "Ada: Ban" in said(person) and "Bo: Ban" in said(person)
    assert editing.edits_of(ws, finished.id).banned.tolist() == [9, 11]


def test_what_is_unsaved_is_counted_for_the_strip(app: AppTest, no_sample: None, finished: Run) -> None:
    assert pending_count(finished.id) == 0
    look(app, "Search and edit", run=finished.id, q="add 10 and")
    edit(app, "ban")
    assert "1 unsaved edit:" in said(app)


def test_make_it_a_run_asks_for_the_run_of_the_same_pins_and_bans(
    app: AppTest, no_sample: None, ws: Workspace, finished: Run, no_worker: list[RunConfig]
) -> None:
    out = finished.manifest["ids"][0]
    look(app, "Search and edit", run=finished.id, q=f"id = '{out}'", search="SQL")
    edit(app, "ban")
    app.text_input(key="q").set_value("id = '20'").run()
    edit(app, "pin")
    app.segmented_control(key="audit").set_value("Edits").run()
    app.button(key="edits.price").click().run()
    assert not app.exception and not app.error
    assert "comes in, 1 out" in said(app)
    app.button(key="edits.run").click().run()
    assert not app.exception and not app.error
    wanted = finished.config.with_(pin=("20",), ban=(out,))
    assert no_worker == [wanted]
    assert len(ws.catalogue.edits(finished.id)) == 2  # saved with it
    assert app.query_params["run"] in ([wanted.id], wanted.id)
    app.button(key="edits.back").click().run()
    assert app.query_params["run"] in ([finished.id], finished.id)
    done = pipeline.run(ws, wanted)
    assert done.manifest["ids"][0] == "20" and out not in done.manifest["ids"]
    again = pipeline.select(
        finished.config.pool, method="random", budget=10, pin=["20"], ban=[out], workspace=ws.root, pairs="dense"
    )  # fmt: skip
    assert again.manifest["ids"] == done.manifest["ids"]
    app.run()
    assert f"edits.open.{done.id}" in [button.key for button in app.button]  # a way there


def test_rules_that_cannot_be_followed_are_told_when_the_run_is_asked_for(
    app: AppTest, no_sample: None, finished: Run, no_worker: list[RunConfig]
) -> None:
    look(app, "Search and edit", run=finished.id, column="topic", value="sums")
    edit(app, "pin")
    app.segmented_control(key="audit").set_value("Edits").run()
    app.button(key="edits.run").click().run()
    assert not app.exception
    assert "are pinned, but the budget is 10 rows" in app.error[0].value.replace("\\", "")
    assert not no_worker


# --- coverage and risks --------------------------------------------------------------------------------------------


def test_a_quota_is_priced_and_its_run_started(
    app: AppTest, no_sample: None, ws: Workspace, finished: Run, no_worker: list[RunConfig]
) -> None:
    look(app, "Coverage", run=finished.id)
    app.segmented_control(key="whatif.kind").set_value("even").run()
    app.button(key="whatif.go").click().run()
    assert not app.exception and not app.error
    price = editing.price(ws, finished, finished.k, quota="topic: even")
    assert price.sentence in said(app).replace("\\", "")
    app.button(key="whatif.run").click().run()
    assert not app.exception and not app.error
    assert no_worker == [finished.config.with_(quota="topic: even")]


def test_the_worst_served_rows_stand_with_who_serves_them(
    app: AppTest, no_sample: None, ws: Workspace, pool: Dataset
) -> None:
    run = store(ws, pool)  # its picks are the last rows, and near rows help each other
    look(app, "Coverage", run=run.id)
    assert not app.exception and not app.error
    [frame] = [f.value for f in app.dataframe if "missing" in f.value]
    assert frame["row"][0] == pool.ids[0]
    assert frame["missing"].is_monotonic_decreasing
    assert set(frame["best chosen row"]) <= {*(pool.ids[r] for r in run.picked), "none helps"}
    assert "of 30 rows get less than half" in said(app)


@pytest.fixture
def personal(ws: Workspace, tmp_path: Path) -> Run:
    """A run over rows of which two hold an address, and one stands in another file as well."""
    rows = [{"instruction": f"Write letter {i}.", "output": f"Dear {i}."} for i in range(12)]
    rows[2]["output"] = "Mail ada.lovelace@example.org, please."
    rows[4]["output"] = "Mail bob@example.org or 10.20.30.40 now."
    path = tmp_path / "letters.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held = tmp_path / "held.jsonl"
    held.write_text(json.dumps({"instruction": "write LETTER 7", "output": "No."}) + "\n")
    pipeline.add_dataset(ws, held, role="holdout")
    return pipeline.run(
        ws, RunConfig(pool=pipeline.add_dataset(ws, path).fingerprint, method="random", budget="12")
    )  # fmt: skip


def test_personal_data_is_masked_and_its_rows_can_be_banned(app: AppTest, no_sample: None, personal: Run) -> None:
    look(app, "Risks", run=personal.id)
    assert not app.exception and not app.error
    assert "2 of 12 rows seem to hold personal data: email 2, ip address 1." in said(app).replace("\\", "")
    [frame] = [f.value for f in app.dataframe if "kind" in f.value]
    assert not any("lovelace@" in text or "bob@" in text for text in frame["text"])
    app.button_group(key="risk.kinds").set_value(["email"]).run()
    app.button(key="risk.personal.ban").click().run()
    assert not app.exception and not app.error
    [change] = app.session_state["_edits.pending"][personal.id]
    assert (change.rows, change.reason) == ((2, 4), "personal data: email")


def test_chosen_rows_that_stand_in_another_file_are_found_and_banned(
    app: AppTest, no_sample: None, personal: Run
) -> None:
    look(app, "Risks", run=personal.id)
    app.button(key="risk.leaks").click().run()
    assert not app.exception and not app.error
    assert "1 of 12 chosen rows also stand in held" in said(app).replace("\\", "")
    app.button(key="risk.leaks.ban").click().run()
    [change] = app.session_state["_edits.pending"][personal.id]
    assert change.rows == (7,)


def test_near_copies_are_looked_for_among_the_chosen_rows_alone(
    ws: Workspace, personal: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.app.test_near_copies import Letters

    monkeypatch.setattr(risks, "sentence_encoder", lambda name, cache: Letters())
    picks = np.array([1, 3, 5, 11])
    few = risks.near_copies_in(ws, personal.config.pool, picks, threshold=0.9)
    every = risks.near_copies_in(ws, personal.config.pool, np.arange(12), threshold=0.9)
    assert (few.compared, every.compared) == (4, 12)
    assert set(np.concatenate([one.rows for one in few.sets])) <= set(picks)
    assert few.grouped <= every.grouped
