"""Pushing to the hub, against a stand-in for its client: nothing here touches the network."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pyarrow.parquet as pq
import pytest
from huggingface_hub import errors

from delift_core import pipeline
from delift_core.config import RunConfig
from delift_core.errors import ConfigError, WorkspaceError
from delift_core.runs import Run, Workspace, manifest
from delift_core.sharing import hubpush

TOKEN = "hf_" + "secret" * 5


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def run(ws: Workspace, tmp_path: Path) -> Run:
    source = tmp_path / "private folder" / "pool`|x.jsonl"
    source.parent.mkdir()
    rows = [{"instruction": f"Add {i}", "output": str(i), "topic": "sums"} for i in range(20)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = pipeline.add_dataset(ws, source)
    config = RunConfig(pool=pool.fingerprint, method="random", budget="8")
    return pipeline.run(ws, config, command=("delift", "select", str(source)))


class Hub:
    """What was asked of the hub."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}
        self.failure = failure
        self.token: str | None = None
        self.public = False

    def __call__(self, token: str) -> Hub:
        self.token = token
        return self

    def create_repo(self, repo_id: str, **more: Any) -> str:
        self.calls.append(("create_repo", {"repo_id": repo_id, **more}))
        if self.failure:
            raise self.failure
        return f"https://hub/datasets/{repo_id}"

    def repo_info(self, repo_id: str, **more: Any) -> Any:
        return SimpleNamespace(private=not self.public)

    def create_commit(self, repo_id: str, operations: Any, **more: Any) -> None:
        self.calls.append(("create_commit", {"repo_id": repo_id, **more}))
        self.files = {o.path_in_repo: Path(o.path_or_fileobj).read_bytes() for o in operations}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", made)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    return made


def test_data_manifest_and_card_go_up_in_one_commit(ws: Workspace, run: Run, hub: Hub, tmp_path: Path) -> None:
    pushed = hubpush.push(ws, run, "me/sums", k=5, token=TOKEN)
    (made, about), (committed, commit) = hub.calls
    assert (made, committed) == ("create_repo", "create_commit") and hub.token == TOKEN
    assert about == {"repo_id": "me/sums", "repo_type": "dataset", "private": True, "exist_ok": True}
    assert commit["repo_type"] == "dataset" and pushed.url == "https://hub/datasets/me/sums"
    assert set(hub.files) == {"data/train.parquet", "manifest.json", "README.md"} == {f.path for f in pushed.files}
    assert {f.path: f.bytes for f in pushed.files} == {path: len(data) for path, data in hub.files.items()}
    (tmp_path / "back.parquet").write_bytes(hub.files["data/train.parquet"])
    assert pq.read_table(tmp_path / "back.parquet")["instruction"].to_pylist() == [
        f"Add {row}" for row in run.selection.order[:5]
    ]


def test_no_token_and_no_folder_of_this_machine_is_uploaded(
    ws: Workspace, run: Run, hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    hubpush.push(ws, run, "me/sums", format="trl", token=TOKEN)
    everything = b"\n".join(hub.files.values()).decode() + caplog.text + "".join(capfd.readouterr())
    everything += "".join(p.read_text(errors="replace") for p in ws.root.rglob("*") if p.suffix in (".json", ".txt"))
    assert TOKEN not in everything and "hf_secret" not in everything
    uploaded = b"\n".join(hub.files.values()).decode()
    assert str(tmp_path) not in uploaded and "private folder" not in uploaded
    (tmp_path / "manifest.json").write_bytes(hub.files["manifest.json"])
    assert manifest.read(tmp_path / "manifest.json")["hash"] == run.manifest["hash"]  # it still proves itself


def test_the_card_says_how_the_subset_was_made_and_carries_no_markup(ws: Workspace, run: Run, hub: Hub) -> None:
    card = hubpush.push(ws, run, "me/sums", format="trl", dry_run=True).card
    assert card.startswith("---\nconfigs:\n- config_name: default\n  data_files: data/train.jsonl\n")
    assert "8 of 20 rows of `pool'¦x.jsonl`" in card and run.manifest["hash"] in card
    assert "Field 'topic' stays behind" in card and "(random)" in card


def test_a_dry_run_lists_the_files_and_asks_for_no_token(ws: Workspace, run: Run, hub: Hub) -> None:
    planned = hubpush.push(ws, run, "me/sums", format="jsonl", dry_run=True)
    assert [f.path for f in planned.files] == ["data/train.jsonl", "manifest.json", "README.md"] and planned.url == ""
    assert all(f.bytes > 0 for f in planned.files) and hub.calls == [] and hub.token is None


def test_the_token_of_this_machine_is_used_where_none_is_given(
    ws: Workspace, run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"no token.*settings/tokens.*hf auth login"):
        hubpush.push(ws, run, "me/sums")
    assert hub.calls == []
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    hubpush.push(ws, run, "me/sums", private=False)
    assert hub.token == TOKEN and hub.calls[0][1]["private"] is False


def refused(status: int) -> Exception:
    httpx = pytest.importorskip("httpx2")
    answer = httpx.Response(status, request=httpx.Request("POST", "https://hub"))
    return errors.HfHubHTTPError(f"{status} for {TOKEN}", response=answer)


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (lambda: refused(403), ConfigError, "write access"),
        (lambda: refused(401), ConfigError, "hf auth login"),
        (lambda: refused(500), WorkspaceError, "refused the upload"),
        (lambda: errors.OfflineModeIsEnabled("offline"), WorkspaceError, "HF_HUB_OFFLINE"),
        (lambda: ConnectionError(f"no route, {TOKEN}"), WorkspaceError, "could not be reached"),
        (lambda: errors.HTTPError(f"no host, {TOKEN}"), WorkspaceError, "could not be reached"),
    ],
)
def test_what_the_hub_refuses_is_told_without_the_token(
    ws: Workspace, run: Run, hub: Hub, failure: Any, kind: type[Exception], words: str
) -> None:
    hub.failure = failure()
    with pytest.raises(kind, match=words) as caught:
        hubpush.push(ws, run, "me/sums", token=TOKEN)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["sums", "me/", "/x", "me/a b", "me/../x", "me/x.git", "a/b/c", "me/" + "x" * 99, "m\n/x"]
)
def test_names_that_the_hub_cannot_have_are_refused(ws: Workspace, run: Run, hub: Hub, name: str) -> None:
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        hubpush.push(ws, run, name, token=TOKEN)
    assert hub.calls == []


def test_formats_that_are_not_pushed_are_told(ws: Workspace, run: Run) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'parquet'"):
        hubpush.push(ws, run, "me/sums", format="parquett", token=TOKEN)


def test_models_and_sources_keep_their_hub_names_only() -> None:
    entry = {"role": "pool", "name": "n", "fingerprint": "f", "rows": 1, "refused": 0}
    record = {
        "config": {"model": "/home/me/llama", "encoder": "org/encoder"}, "command": ["delift", "/home/me"],
        "inputs": [{**entry, "source": "/home/me/p.jsonl"}, {**entry, "source": "org/set#train"}],
        "models": [{"name": "/home/me/llama", "hash": "h"}], "encoder": {"name": "org/encoder", "hash": "h"},
    }  # fmt: skip
    record["hash"] = manifest.digest(record)
    clean = hubpush.public(record)
    assert "/home" not in json.dumps(clean)
    assert (clean["config"]["model"], clean["config"]["encoder"]) == ("llama", "org/encoder")
    assert [i["source"] for i in clean["inputs"]] == ["p.jsonl", "org/set#train"]
    assert SimpleNamespace(**clean).hash == record["hash"]
