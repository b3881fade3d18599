"""A subset as a dataset of the Hugging Face hub: data, manifest, and a card that says how it was made.

The token comes from the caller or from where `hf auth login` put it; it is handed to the hub's client and to nothing
else.  What is uploaded names no folder of this machine.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delift_core.data import is_hub_id, is_local, place_and_split
from delift_core.errors import ConfigError, WorkspaceError, unknown
from delift_core.registry import METHODS
from delift_core.runs import Run, Workspace, cut, files, manifest
from delift_core.sharing.exporting import ending_of, export_run

FORMATS = ("parquet", "jsonl", "trl", "trl-messages")
CARD, MANIFEST = "README.md", "manifest.json"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LONGEST = 96  # characters of a name on the hub
_SIGN_IN = (
    "Make a token with write access at huggingface.co/settings/tokens, then sign in on this machine with "
    "`hf auth login`, or set HF_TOKEN before delift starts."
)


@dataclass(frozen=True)
class Upload:
    """One file of the repository to be."""

    path: str  # in the repository
    bytes: int
    what: str


@dataclass(frozen=True)
class Pushed:
    """What was uploaded, or with a dry run what would be."""

    repo_id: str
    private: bool
    url: str  # of the dataset; empty after a dry run
    files: tuple[Upload, ...]
    notes: tuple[str, ...]  # what the format could not hold as it was
    card: str


def push(
    ws: Workspace,
    run: Run,
    repo_id: str,
    k: int | None = None,
    format: str = "parquet",
    private: bool = True,
    token: str | None = None,
    *,
    dry_run: bool = False,
) -> Pushed:
    """Upload the subset of the first `k` picks as the dataset `repo_id` ("owner/name"), in one commit.

    The repository is made if it is not there, private unless said otherwise; one that is there keeps its visibility.
    With `dry_run` everything is made and listed, and nothing leaves this machine: no token is needed.

    Raises ConfigError for a name that is none, a format outside `FORMATS`, a missing token or one that the hub does not
    take; WorkspaceError when the hub cannot be reached or refuses.
    """
    check(repo_id, format)
    token = None if dry_run else token or signed_in()
    if not dry_run and not token:
        raise ConfigError(f"There is no token of the Hugging Face hub. {_SIGN_IN}")
    with tempfile.TemporaryDirectory(prefix="delift-push-") as name:
        folder = Path(name)
        listed, notes, card = _prepare(ws, run, repo_id, k, format, folder)
        url = "" if dry_run else _upload(repo_id, private, token or "", folder, listed, run, k)
    return Pushed(repo_id, private, url, listed, notes, card)


def check(repo_id: str, format: str = "parquet") -> None:
    """Raise ConfigError for a name that no dataset can have, or a format that is not pushed."""
    if format not in FORMATS:
        raise unknown("format for the hub", format, FORMATS)
    bad = ".." in repo_id or "--" in repo_id or repo_id.endswith((".git", ".", "-"))
    if bad or len(repo_id) > _LONGEST or not _REPO.fullmatch(repo_id):
        raise ConfigError(
            f"{repo_id[:120]!r} is no name for a dataset on the hub. Give OWNER/NAME of letters, digits, - _ and ., at "
            f"most {_LONGEST} characters, such as me/dolly-best-1000."
        )


def signed_in() -> str | None:
    """The token that this machine is signed in with; None where it is not.  Never show it."""
    found: str | None = importlib.import_module("huggingface_hub").get_token()
    return found or None


# ------------------------------------------------------------------------------------------------ what is uploaded


def _prepare(
    ws: Workspace, run: Run, repo_id: str, k: int | None, format: str, folder: Path
) -> tuple[tuple[Upload, ...], tuple[str, ...], str]:
    data = f"data/train{ending_of(format)}"
    (folder / "data").mkdir()
    made = export_run(ws, run, folder / data, format=format, k=k)
    record = public(cut.manifest_at(run, run.k if k is None else k))
    files.write_json(folder / MANIFEST, record)
    card = card_of(record, repo_id, data, made.rows, made.notes)
    (folder / CARD).write_text(card, encoding="utf-8", errors="backslashreplace")
    what = {data: f"{made.rows:,} rows as {format}", MANIFEST: "the record that repeats the run", CARD: "dataset card"}
    listed = tuple(Upload(path, (folder / path).stat().st_size, text) for path, text in what.items())
    return listed, made.notes, card


def public(record: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without folders of this machine: paths become file names, the command line goes.  Its hash stays."""
    config = dict(record["config"])
    for name in ("model", "encoder"):
        config[name] = _named(config[name])
    clean = {
        **record, "config": config, "command": [],
        "inputs": [{**entry, "source": _public_source(entry["source"])} for entry in record["inputs"]],
        "models": [{**model, "name": _named(model["name"])} for model in record["models"]],
        "encoder": {**record["encoder"], "name": _named(record["encoder"]["name"])} if record["encoder"] else None,
    }  # fmt: skip
    assert manifest.digest(clean) == record["hash"], "a manifest's hash holds no places"
    return clean


def _named(name: str) -> str:
    """A model's name; of a folder its last part, where a hub id (owner/name) is not one that is here."""
    path = Path(name)
    return path.name if path.is_absolute() or name.startswith((".", "~")) or path.exists() else name


def _public_source(source: str) -> str:
    place, _ = place_and_split(source)
    on_hub = is_hub_id(str(place)) and not is_local(place)
    return source if on_hub else Path(str(place)).name


def card_of(record: Mapping[str, Any], repo_id: str, data: str, rows: int, notes: Sequence[str]) -> str:
    """The dataset card: how the subset was made, from a manifest without private places."""
    config = record["config"]
    method = METHODS[config["method"]].title if config["method"] in METHODS else config["method"]
    pool: Mapping[str, Any] = next((i for i in record["inputs"] if i["role"] == "pool"), {"name": "a pool", "rows": 0})
    value, full = record["value"], record["full_value"]
    head = ["---", "configs:", "- config_name: default", f"  data_files: {data}", "tags:", "- delift",
            "- data-selection", "---"]  # fmt: skip
    facts: list[tuple[str, Any]] = [
        ("method", f"{method} ({config['method']})"), ("budget", f"{record['budget']} = {rows:,} rows"),
        ("seed", record["seed"]), ("model", config["model"]), ("encoder", config["encoder"]),
        *((f"option {name}", given) for name, given in config.get("options", {}).items()),
        *((name, config[name]) for name in ("quota", "once", "guard", "domains") if config.get(name)),
    ]  # fmt: skip
    if value is not None and full:
        facts.append(("share of the whole pool's value", f"{100 * value / full:.1f} %"))
    inputs = [
        f"| {entry['role']} | {_code(entry['name'])} | {entry['rows']:,} | {_code(entry['fingerprint'][:16])} |"
        for entry in record["inputs"]
    ]
    chosen = f"{rows:,} of {pool['rows']:,} rows" if pool["rows"] else f"{rows:,} rows"
    order = (
        "Rows stand in the order they were picked: the first half is the best subset of half the size."
        if record["nested"] else "Another size needs another run."
    )  # fmt: skip
    lines = [
        *head, "", f"# {repo_id.partition('/')[2]}", "",
        f"{chosen} of {_code(pool['name'])}, chosen by delift. {order}", "",
        "## How it was made", "", "| setting | value |", "|---|---|",
        *(f"| {name} | {_code(given)} |" for name, given in facts), "",
        "| input | file | rows | fingerprint |", "|---|---|---|---|", *inputs, "",
        f"Manifest hash: `{record['hash']}`. `{MANIFEST}` holds row ids, options, versions and hashes; with the source "
        "file the run can be repeated:", "", "    delift replay manifest.json --pool FILE", "",
        *(["## Notes", "", *(f"- {_code(note)}" for note in [*record["notes"], *notes]), ""]
          if record["notes"] or notes else []),
        "## Licence", "",
        "The rows are those of the source, under its licence. Look it up before you make this public.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _code(value: Any) -> str:
    """Text of unknown origin as code in a Markdown table: on one line, and never markup."""
    line = " ".join(str(value).split()).replace("`", "'").replace("|", "¦")[:200]
    return f"`{line}`" if line else ""


# ------------------------------------------------------------------------------------------------ the hub


def _upload(
    repo_id: str, private: bool, token: str, folder: Path, listed: Sequence[Upload], run: Run, k: int | None
) -> str:
    hub = importlib.import_module("huggingface_hub")
    api = hub.HfApi(token=token)
    with _hub_errors(repo_id, token):
        address = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        if private and not api.repo_info(repo_id, repo_type="dataset").private:
            raise ConfigError(f"{repo_id} exists already and is public. Give another name, or push it as public.")
        operations = [hub.CommitOperationAdd(path_in_repo=f.path, path_or_fileobj=folder / f.path) for f in listed]
        api.create_commit(
            repo_id, operations, repo_type="dataset",
            commit_message=f"{run.k if k is None else k} rows chosen by delift (run {run.id})",
        )  # fmt: skip
    return str(address)


@contextmanager
def _hub_errors(repo_id: str, token: str) -> Iterator[None]:
    """What the hub or the network refuses, as a user's error in which no token stands."""
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise WorkspaceError(
            "This machine is set to work offline (HF_HUB_OFFLINE). Unset it and start delift again to push."
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        told = _told(error, token)
        if status in (401, 403):
            raise ConfigError(
                f"The hub does not let this token write to {repo_id} ({told}). It needs write access, and the name "
                f"must be yours or your organisation's. {_SIGN_IN}"
            ) from None
        raise WorkspaceError(f"The hub refused the upload to {repo_id}: {told}. Nothing else was changed.") from None
    except errors.HFValidationError as error:
        raise ConfigError(f"The hub does not take the name {repo_id}: {_told(error, token)}.") from None
    except (errors.HTTPError, OSError) as error:
        raise WorkspaceError(
            f"The hub could not be reached ({_told(error, token)}). Check the network and push again; what is there "
            "already is not uploaded twice."
        ) from None


def _told(error: Exception, token: str) -> str:
    line = " ".join(str(error).split()).replace(token, "[token]") if token else " ".join(str(error).split())
    return line[:300].rstrip(".") or type(error).__name__
