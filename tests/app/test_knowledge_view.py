"""The knowledge view: counts, thresholds, the rows of each category, groups, and runs without a language model."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from delift_core.insight.coverage import places
from delift_core.insight.knowledge import LABELS, TAUGHT, knowledge
from delift_core.runs.run import Run
from delift_core.runs.workspace import Workspace
from delift_core.types import Dataset
from pages import _knowledgeview as view
from tests.app.scored import K, store
from tests.app.steps import said

pytestmark = pytest.mark.usefixtures("no_sample")


def script() -> None:
    import streamlit as st

    from pages import _widgets as widgets
    from pages._knowledgeview import show_knowledge

    run = widgets.require_run("No run.")
    pool = widgets.open_dataset_cached(run.config.pool)
    show_knowledge(run, pool, int(st.query_params.get("k", run.k)), on_focus=lambda row: None)


def shown(run: Run, k: int = K) -> AppTest:
    app = AppTest.from_function(script, default_timeout=60)
    app.query_params["run"], app.query_params["k"] = run.id, str(k)
    app.run()
    assert not app.exception
    return app


def open_rows(app: AppTest, run: Run, kind: str = "l2") -> AppTest:
    """No row counts as known: the fixture's rows all start at the same distance."""
    app.slider(key=f"knowledge.known.{run.id}.pool.{kind}").set_value(0.0).run()
    assert not app.exception
    return app


def test_the_counts_are_those_of_the_engine_at_every_budget(ws: Workspace, pool: Dataset) -> None:
    run = store(ws, pool)
    utility = run.utility("pool", "l2")
    taught = []
    for k in (1, K):
        found = knowledge(utility, places(utility, run.selection.order[:k]), same=True, known=0.0)
        assert all(s in said(open_rows(shown(run, k), run)).replace("\\", "") for s in found.sentences)
        taught.append(int(found.counts[TAUGHT]))
    assert 0 < taught[0] < taught[1]


def test_thresholds_move_rows_between_categories(ws: Workspace, pool: Dataset) -> None:
    run = store(ws, pool)
    app = shown(run)
    stem = f"{run.id}.pool.l2"
    app.slider(key=f"knowledge.known.{stem}").set_value(1.0).run()
    assert not app.exception and f"the model knows already: {len(pool.unique)} (100 %)" in said(app).replace("\\", "")
    app.slider(key=f"knowledge.known.{stem}").set_value(0.0).run()
    highest = app.slider(key=f"knowledge.gain.{stem}").max
    app.slider(key=f"knowledge.gain.{stem}").set_value(highest).run()
    assert not app.exception and "the model knows already: 0 (0 %)" in said(app).replace("\\", "")


def test_both_measures_and_every_category_open(ws: Workspace, pool: Dataset) -> None:
    run = store(ws, pool)
    app = shown(run)
    app.segmented_control(key=f"knowledge.kind.{run.id}.pool").set_value("pmi").run()
    assert not app.exception and "mean loss" in said(app)
    open_rows(app, run, "pmi")
    found = knowledge(run.utility("pool", "pmi"), np.arange(len(pool.unique))[::-1][:K], same=True, known=0.0)
    assert np.count_nonzero(found.counts) >= 2
    for category in range(4):
        app.selectbox(key="knowledge.category").set_value(category).run()
        assert not app.exception
        frames = [f.value for f in app.dataframe if "with the subset" in f.value.columns]
        assert [len(f) for f in frames] == [n for n in [found.counts[category]] if n]
        if frames:
            assert list(frames[0]["id"]) == [pool.ids[int(i)] for i in found.helped[found.rows(category)]]


def test_groups_show_the_share_of_their_rows_in_each_category(ws: Workspace, pool: Dataset) -> None:
    run = store(ws, pool)
    app = shown(run)
    app.selectbox(key="knowledge.by").set_value("topic").run()
    assert not app.exception
    [frame] = [f.value for f in app.dataframe if "group" in f.value.columns]
    assert frame["rows"].sum() == len(pool.unique)
    assert frame[[c for c in LABELS if c in frame]].sum(axis=1).tolist() == pytest.approx([1.0] * len(frame))


def test_a_run_without_a_language_model_says_why_and_what_to_do(ws: Workspace, pool: Dataset) -> None:
    app = shown(store(ws, pool, method="random"))
    assert "no language model" in said(app) and "delift-task" in said(app) and not app.slider


def test_the_map_gets_a_code_for_every_row_of_the_pool(ws: Workspace, pool: Dataset) -> None:
    run = store(ws, pool)
    codes, labels, colours = view.colour_codes(run, len(pool), K, "light")
    assert len(labels) == len(colours)
    assert codes.shape == (len(pool),) and labels[int(codes[5])] == view.MISSING, "an exact copy is not measured"
    assert codes[pool.unique].tolist() == view.knowledge_of(run, "pool", "l2", K).categories.tolist()
