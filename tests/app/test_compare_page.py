"""The Compare page: which runs the URL names, what is said of them at any budget, maps, rows, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.figures.comparison import of_two
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from pages import _compareview as parts
from tests import small
from tests.app.scored import K, store
from tests.app.steps import HOSTILE, said, visit

pytestmark = pytest.mark.usefixtures("no_sample")


@pytest.fixture
def ids(ws: Workspace, pool: Dataset) -> list[str]:
    """Two random runs of ten rows, and a scored one with a map."""
    base = RunConfig(pool=pool.fingerprint, method="random", budget="10")
    return [pipeline.run(ws, base.with_(seed=seed)).id for seed in (0, 1)] + [store(ws, pool).id]


def open_page(app: AppTest, ids: list[str], **more: str) -> AppTest:
    visit(app, "compare", **{"with": ",".join(ids)}, **more)
    assert not app.exception
    return app


def tables(app: AppTest, column: str) -> list[dict[str, list[object]]]:
    return [frame.value.to_dict("list") for frame in app.dataframe if column in frame.value.columns]


def words(app: AppTest) -> str:
    return said(app).replace("\\", "")


def test_without_a_finished_run_the_page_says_so(app: AppTest) -> None:
    visit(app, "compare")
    assert not app.exception and "looks at finished runs" in said(app) and not app.button


def test_one_run_alone_shows_the_ways_on(app: AppTest, ws: Workspace, pool: Dataset, tmp_path: Path) -> None:
    ids = [store(ws, pool).id, ws.catalogue.add_run(RunConfig(pool=pool.fingerprint, seed=9)).id]
    open_page(app, ids)
    assert not app.exception and "There is one finished run" in said(app) and not app.multiselect
    app.button(key="compare.What if").click().run()
    assert app.segmented_control(key="about").value == "What if"
    app.segmented_control(key="about").set_value("Runs side by side").run()
    opened = pipeline.add_dataset(ws, small.write(tmp_path / "other.jsonl", small.rows(5)))
    app.session_state["dataset"] = opened.fingerprint  # what was looked at on Data is not what is asked for here
    app.button(key="compare.another").click().run()
    assert not app.exception and app.title[0].value == "Run"
    assert app.selectbox(key="role.pool").value == pool.fingerprint


def test_one_chosen_of_several_runs_shows_the_ways_on(app: AppTest, ids: list[str]) -> None:
    open_page(app, ids[:1])
    assert not app.exception and "Choose two to four runs above" in said(app)
    assert app.button(key="compare.another")


def test_the_page_says_what_the_command_line_says(app: AppTest, ws: Workspace, ids: list[str]) -> None:
    open_page(app, ids[:2], by="topic")
    found = pipeline.compare(ws, ids[:2], "topic")
    assert all(sentence in words(app) for sentence in found.sentences)
    assert tables(app, "shared rows")[0]["shared rows"] == [found.pairs[0].common]
    app.segmented_control(key="view").set_value("groups").run()
    assert tables(app, "group")[0]["group"] == [g.group for g in found.groups]
    assert tables(app, "tokens a row")[0]["rows"] == [10, 10]


def test_the_current_run_and_one_of_the_same_pool_are_there_at_first(app: AppTest, ids: list[str]) -> None:
    visit(app, "compare", run=ids[0])
    assert not app.exception
    chosen = app.multiselect(key="compare.runs").value
    assert chosen[0] == ids[0] and len(chosen) == 2
    assert app.query_params["with"] == ",".join(chosen)


def test_the_url_follows_the_choice_and_wins_when_it_is_new(app: AppTest, ids: list[str]) -> None:
    open_page(app, ids[:2])
    app.multiselect(key="compare.runs").set_value(ids[1:]).run()
    assert app.query_params["with"] == ",".join(ids[1:])
    app.query_params["with"] = ",".join([ids[0], "<b>gone</b>", ids[2]])
    app.run()
    assert app.multiselect(key="compare.runs").value == [ids[0], ids[2]]
    assert "\\<b\\>gone" in app.warning[0].value


@pytest.mark.parametrize(
    ("view", "key", "name", "first"),
    [("rows", "rows", "only delift", "every run"), ("value", "under", "delift", "each its own objective")],
)
def test_a_choice_that_other_runs_do_not_have_falls_back(
    app: AppTest, ids: list[str], view: str, key: str, name: str, first: str
) -> None:
    open_page(app, ids[1:], view=view)
    app.selectbox(key=key).set_value(f"{name} {ids[2][:8]}").run()
    app.multiselect(key="compare.runs").set_value([ids[1], ids[0]]).run()
    assert not app.exception and all(s.value == first for s in app.selectbox if s.key == key)
    app.multiselect(key="compare.runs").set_value(ids[:1]).run()
    assert not app.exception and "Choose two to four" in said(app)


def test_one_budget_for_all_is_looked_up(app: AppTest, ws: Workspace, ids: list[str]) -> None:
    open_page(app, ids, at="one budget", common="5")
    assert tables(app, "shared rows")[0]["by chance"] == [round(25 / 38, 1)] * 3
    app.slider(key="common").set_value(3).run()
    assert not app.exception and "(3 rows)" in words(app)
    app.segmented_control(key="at").set_value("own budgets").run()
    assert f"({K} rows)" in words(app) and "(10 rows)" in words(app)


def test_orders_that_are_not_nested_stay_at_their_own_budgets(app: AppTest, ws: Workspace, pool: Dataset) -> None:
    ids = [store(ws, pool, nested=False).id, store(ws, pool, method="random").id]
    open_page(app, ids)
    assert not app.slider and "not nested" in said(app)
    assert "known at this one alone" in said(app)


def test_every_run_is_valued_under_the_utility_of_another(app: AppTest, ws: Workspace, ids: list[str]) -> None:
    open_page(app, ids, view="value")
    frame = tables(app, "picks of")[0]
    assert set(frame["under the utility of"]) == {f"delift {ids[2][:8]}"} and len(frame["picks of"]) == 2
    expected = {w.picks: w.of_pool for w in pipeline.compare(ws, ids).worth}
    assert dict(zip(frame["picks of"], frame["of what the pool covers"], strict=True)) == pytest.approx(expected)
    assert len(app.get("plotly_chart")) == 1 and "Without a value" in said(app)
    app.selectbox(key="under").set_value(f"delift {ids[2][:8]}").run()
    assert not app.exception and "Without a value" not in said(app)


def test_large_utilities_are_read_when_somebody_asks(
    app: AppTest, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "AT_ONCE", 0)
    open_page(app, ids, view="value")
    assert "Under the utility" not in said(app) and not tables(app, "picks of")
    app.toggle(key="compare.worths").set_value(True).run()
    assert not app.exception and tables(app, "picks of")


def test_two_runs_get_two_maps_of_one_place_and_colour(app: AppTest, ws: Workspace, ids: list[str]) -> None:
    open_page(app, ids[1:], view="maps")
    view = parts.compare_view(ids[1:], parts.finished_runs())
    headers, codes = [], []
    for place in (0, 1):
        message = view.layer_of_two(place, (0, 1), view.own, "light", 3)
        length = int.from_bytes(message[:4], "little")
        headers.append(json.loads(message[4 : 4 + length]))
        codes.append(np.frombuffer(message[4 + length :], np.uint8))
    assert headers[0]["key"] != headers[1]["key"] and [h["focus"] for h in headers] == [3, 3]
    assert np.array_equal(codes[0] & 127, codes[1] & 127)
    for place, run in enumerate(view.runs):
        assert set(np.flatnonzero(codes[place] & 128)) == set(run.picked.tolist())
    chosen = view.lineup.chosen(view.own)
    assert np.array_equal(codes[0] & 127, of_two(*chosen, names=view.names, theme="light").codes)
    assert len(app.get("bidi_component")) == 4


def test_of_three_runs_one_map_says_in_how_many_and_a_pair_can_be_chosen(app: AppTest, ids: list[str]) -> None:
    open_page(app, ids, view="maps")
    assert len(app.get("bidi_component")) == 2
    app.selectbox(key="pair").select_index(3).run()
    assert not app.exception and len(app.get("bidi_component")) == 4


def test_without_a_map_or_with_two_pools_the_page_says_why(
    app: AppTest, ws: Workspace, pool: Dataset, ids: list[str], tmp_path: Path
) -> None:
    open_page(app, ids[:2], view="maps")
    assert "None of these runs has a map yet" in said(app) and not app.get("bidi_component")
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"instruction": f"Say {i}.", "output": str(i)}) + "\n" for i in range(30)))
    second = pipeline.run(ws, RunConfig(pool=pipeline.add_dataset(ws, other).fingerprint, method="random", budget="9"))
    app.multiselect(key="compare.runs").set_value([ids[0], second.id]).run()
    assert not app.exception and "Their pools differ" in said(app) and "different pools" in said(app)
    app.segmented_control(key="view").set_value("rows").run()
    only = tables(app, f"pick in random {second.id[:8]}")
    app.selectbox(key="rows").select_index(2).run()
    assert not app.exception and (only or tables(app, f"pick in random {second.id[:8]}"))


def test_the_rows_are_those_of_every_run_or_of_one_alone(app: AppTest, ws: Workspace, ids: list[str]) -> None:
    open_page(app, ids[:2], view="rows")
    view = parts.compare_view(ids[:2], parts.finished_runs())
    picked = [set(run.picked.tolist()) for run in view.runs]
    pool = view.pools[0]
    for index, expected in enumerate((picked[0] & picked[1], picked[0] - picked[1], picked[1] - picked[0])):
        app.selectbox(key="rows").select_index(index).run()
        assert not app.exception
        shown = tables(app, "prompt")[0]["id"] if expected else []
        assert sorted(map(str, shown)) == sorted(pool.ids[row] for row in expected)


def test_a_focused_row_says_where_it_stands_and_its_text_stays_text(
    app: AppTest, pool: Dataset, ids: list[str]
) -> None:
    open_page(app, ids[1:], view="maps", row=pool.ids[3])
    texts = [str(element.value) for element in app.text]
    assert texts.count(HOSTILE) == 2 and any(f"delift {ids[2][:8]}: " in text for text in texts)
    app.text_input(key="row").set_value("<i>no such</i>").run()
    assert "No row has the id" in app.warning[0].value and "<i>" not in app.warning[0].value.replace("\\<", "")


def test_rows_that_are_gone_are_an_error_on_the_page(app: AppTest, ws: Workspace, ids: list[str]) -> None:
    (ws.run_folder(ids[1]) / "selection.parquet").unlink()
    open_page(app, ids[:2])
    assert any("damaged" in error.value for error in app.error)


def test_the_run_page_shows_the_way_here_once_there_are_two(app: AppTest, ids: list[str]) -> None:
    visit(app, "run")
    assert not app.exception and not [m for m in app.multiselect if m.key == "compare.runs"]
    assert "Compare finished runs" in [link.proto.label for link in app.get("page_link")]
