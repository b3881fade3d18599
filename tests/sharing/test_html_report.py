"""The report: whole in one file, closed to the network, safe with hostile rows, honest about what is not there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.errors import ConfigError
from delift_core.figures import alt_of
from delift_core.figures.scatter import scatter, shown
from delift_core.figures.style import REJECTED
from delift_core.runs import Run, Workspace, cut, manifest
from delift_core.sharing import exporting, html_parts, html_report
from tests.app.scored import K, store
from tests.app.steps import HOSTILE

SHORT = '"><svg onload=hacked()>'


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def run(ws: Workspace, tmp_path: Path) -> Run:
    """Forty hostile rows in two groups, one of a hostile name; with a map and utilities."""
    source = tmp_path / "pool.jsonl"
    rows = [
        {"id": f"{i}{SHORT}", "instruction": f"{i} {HOSTILE}", "output": HOSTILE, SHORT: SHORT if i % 4 else "b"}
        for i in range(40)
    ]
    rows[7]["output"] = ""
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return store(ws, pipeline.add_dataset(ws, source, name="<b>pool</b>.jsonl"))


class Page(HTMLParser):
    """What a browser would find in the file."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        last = self.tags[-1][0] if self.tags else ""
        if last == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif last != "style":
            self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_file_is_closed_to_the_network(ws: Workspace, run: Run) -> None:
    text = html_report.build(ws, run)
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form", "a"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "action"} & set(attributes)
    ((_, meta),) = [(tag, a) for tag, a in page.tags if a.get("http-equiv")]
    policy = dict(part.strip().split(" ", 1) for part in str(meta["content"]).split(";"))
    assert policy["default-src"] == "'none'" and "http" not in str(meta["content"])
    assert "'unsafe-inline'" not in policy["script-src"] and "'unsafe-eval'" not in policy["script-src"]
    run_scripts = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digests = {"'sha256-" + base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() + "'" for s in run_scripts}
    assert digests == set(policy["script-src"].split()) and len(run_scripts) == 2


def test_hostile_rows_names_and_ids_stay_text(ws: Workspace, run: Run) -> None:
    ws.catalogue.add_edit(run.id, "pin", [1], reason=HOSTILE, who=SHORT)
    text = html_report.build(ws, run, command=("delift", "select", HOSTILE))
    page = Page(text)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not {"svg", "b>pool", "img"} & {tag for tag, _ in page.tags}
    assert sum(tag == "script" for tag, _ in page.tags) == 6  # two that run, two figures in two themes
    assert HOSTILE in page.said and SHORT in page.said  # every letter of it can be read
    assert "<script>hacked" not in text and "onload=hacked()>" not in text.replace("&gt;", "")


def test_the_report_holds_what_a_reader_has_to_know(ws: Workspace, run: Run) -> None:
    edit = ws.catalogue.add_edit(run.id, "ban", [3], reason="wrong answer", who="Ada")
    ws.catalogue.undo_edit(edit.id)
    said = Page(html_report.build(ws, run, command=("delift", "select", "pool.jsonl"))).said
    for words in (
        f"{K} rows chosen from <b>pool</b>.jsonl", "Configuration", "Value against budget", "knee", "A *note*.",
        "By " + SHORT, "helped only by rows left out", "ranked, and beyond the budget", "wrong answer", "Ada", "undone",
        "refused when the file was read: empty response", run.manifest["hash"], "delift replay manifest.json",
        f"delift export --id {run.id} --k {K}", "delift select pool.jsonl", "Map of 39 rows; 8 are selected.",
    ):  # fmt: skip
        assert words in said, words
    rows = run.table["row"][:K].to_pylist()
    assert said.index(f"{rows[0]}{SHORT}") < said.index(f"{rows[1]}{SHORT}")  # in pick order


def test_another_budget_tells_of_its_own_subset(ws: Workspace, run: Run) -> None:
    said = Page(html_report.build(ws, run, 3)).said
    assert "3 rows chosen from" in said and "The picks" in said
    assert cut.manifest_at(run, 3)["hash"] in said and run.manifest["hash"] not in said
    with pytest.raises(ConfigError, match="Budget of 99 rows"):
        html_report.build(ws, run, 99)


def test_each_figure_has_both_themes_and_says_its_finding(ws: Workspace, run: Run) -> None:
    page = Page(html_report.build(ws, run))
    data = {str(attributes["id"]): json.loads(text) for attributes, text in page.scripts if attributes.get("type")}
    assert set(data) == {"curve-light", "curve-dark", "map-light", "map-dark"}
    assert data["map-light"]["layout"]["font"] != data["map-dark"]["layout"]["font"]
    boxes = [attributes for _, attributes in page.tags if "data-figure" in attributes]
    for box in boxes:
        assert box["role"] == "img" and len(str(box["aria-label"])) > 20 and str(box["aria-label"]) in page.said
    assert len(boxes) == 2


def test_no_folder_of_this_machine_stands_in_what_is_shared(ws: Workspace, tmp_path: Path) -> None:
    private = tmp_path / "private folder"
    source = private / "pool.jsonl"
    source.parent.mkdir()
    rows = [{"instruction": f"Add {i}", "output": str(i) if i else "", "topic": f"t{i % 2}"} for i in range(20)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = pipeline.add_dataset(ws, source)
    made = pipeline.run(ws, RunConfig(pool=pool.fingerprint, method="random", budget="8"))
    config = made.config.with_(model=str(private / "my-model"), encoder=str(private / "my-encoder"))
    command = (
        "delift", "select", str(source), f"--model={private}/my-model", "--pin", f"@{private}/ids.txt", "--seed", "3",
        "--workspace", str(ws.root), f"--workspace={ws.root}", "--out", "~/mine/subset.jsonl",
    )  # fmt: skip
    weights = [{"name": str(private / "my-model"), "kind": "causal-lm", "parameters": 1, "dtype": "float32",
                "device": "cpu", "hash": "0"}]  # fmt: skip
    record = {**made.manifest, "config": config.to_json(), "models": weights, "command": command}
    record["hash"] = manifest.digest(record)
    made = replace(made, config=config, manifest=record)
    for k in (None, 5):
        told = html_report.build(ws, made, k, command=() if k is None else command)
        assert "delift select pool.jsonl --model=my-model --pin @ids.txt --seed 3 --out subset.jsonl" in Page(told).said
        assert "my-encoder" in told and all(place not in told for place in (str(tmp_path), "private folder", "~/"))
    for format in exporting.FORMATS:
        folder = tmp_path / format
        folder.mkdir()
        rejected = folder / "rejected.jsonl"
        out = folder / f"subset{exporting.ending_of(format)}"
        exporting.export_run(ws, made, out, format=format, rejected=rejected)
        for path in (out, rejected):
            held = [path.read_bytes()]
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    held = [archive.read(name) for name in archive.namelist()]
            assert held and not any(str(tmp_path).encode() in text or b"private folder" in text for text in held), path


@pytest.mark.parametrize("case", ["no map", "no utilities", "not nested"])
def test_what_is_not_there_is_said(ws: Workspace, run: Run, case: str) -> None:
    pool = html_report.open_dataset(ws.dataset_folder(run.config.pool))
    if case == "no map":
        for path in run.folder.glob("map*.npy"):
            path.unlink()
        said = Page(html_report.build(ws, run)).said
        assert "No map was drawn of this run" in said and f"delift map --id {run.id}" in said
    elif case == "no utilities":
        said = Page(html_report.build(ws, store(ws, pool, method="random"))).said
        assert "scores no pairs of rows" in said and "value covered" not in said
    else:
        said = Page(html_report.build(ws, store(ws, pool, nested=False))).said
        assert "The order is not nested" in said and "Value against budget" in said


def test_columns_that_make_no_groups_are_not_shown(ws: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "p.jsonl"
    rows = [{"instruction": f"q{i}", "output": "a", "number": i, "one": "x"} for i in range(250)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = Page(html_report.build(ws, store(ws, pipeline.add_dataset(ws, source), method="random"))).said
    assert "no column of short values that makes groups" in said


def test_the_file_appears_whole_and_never_over_an_input(ws: Workspace, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert html_report.write(ws, run, out) == out.stat().st_size
    assert out.read_text(encoding="utf-8").endswith("</html>\n")
    with pytest.raises(ConfigError, match=r"one of \.html"):
        html_report.write(ws, run, tmp_path / "report.json")
    source = tmp_path / "input.html"
    source.write_text('{"instruction": "q", "output": "a"}\n{"instruction": "r", "output": "a"}\n')
    config = RunConfig(pool=pipeline.add_dataset(ws, source).fingerprint, method="random", budget="1")
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="made from"):
        html_report.write(ws, pipeline.run(ws, config), source)
    assert source.read_bytes() == before and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("cell", "kind"),
    [("0.08918", "number"), ("1,234", "number"), ("27.2 %", "number"), ("1.2e-05", "number"), (3, "number"),
     ("7 dwarfs", "text"), ("9" * 60, "text"), ("", "text")],
)  # fmt: skip
def test_numbers_are_not_broken_into_two_lines(cell: object, kind: str) -> None:
    assert f'<td class="{kind}">' in html_parts.table(("x",), [(cell,)])


# ------------------------------------------------------------------------------------------------ the map's points


@pytest.mark.parametrize("most", [100, 1_000, 5_000])
def test_all_selected_points_are_drawn_up_to_the_cap_and_the_rest_is_spread(most: int) -> None:
    random = np.random.default_rng(0)
    places = np.concatenate([random.normal(0, 1, (3_600, 2)), random.normal(9, 1, (400, 2))]).astype(np.float32)
    chosen = np.zeros(4_000, bool)
    chosen[::20] = True
    rows = shown(places, chosen, most)
    assert len(rows) == len(set(rows.tolist())) == min(most, 4_000)
    assert chosen[rows].sum() == min(200, most)
    rest = rows[~chosen[rows]]
    if len(rest):
        assert abs((rest >= 3_600).mean() - 0.1) < 0.02  # the small cloud has its share


def test_a_large_map_says_how_many_points_it_draws_and_asks_for_webgl() -> None:
    places = {"pool": np.random.default_rng(0).normal(size=(9_000, 2)).astype(np.float32)}
    chosen = np.arange(9_000) < 50
    rank = np.where(chosen, np.arange(9_000), -1)
    large = scatter(places, chosen, rank, most=6_000)
    assert "6,000 of 9,000 points are drawn: all selected ones" in alt_of(large)
    assert sum(len(trace.x) for trace in large.data) == 6_000 and {t.type for t in large.data} == {"scattergl"}
    figure = html_parts.Figure("map", large, large)
    colours = [trace.marker.color for trace in large.data[:2]]
    assert REJECTED not in colours, "the grey of a map that can be zoomed is too faint on paper"
    assert "'unsafe-eval'" in re.findall('content="([^"]*script-src[^"]*)"', html_parts.page("t", [], [figure]))[0]
    assert "<script" not in html_parts.page("t", [html_parts.text("<script>")], []).replace("script-src", "")
