"""The same run as a command line: same configuration, same ids."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from collections.abc import Sequence

from delift_core.config import RunConfig
from delift_core.registry import AUTO, sparse_plan
from delift_core.runs import files
from pages import _widgets as widgets

DATASETS = ("target", "existing", "holdout")
SHORT = 12  # digits of a fingerprint that a person has to read
INLINE = 200  # characters of ids that stand in the command itself; longer lists go into a file


def command_for(config: RunConfig) -> tuple[str, ...]:
    """The words of the command line that makes the same run: same configuration, same ids.

    Datasets stand there by fingerprint: they are in the workspace already, with the field mapping they were read with.
    Row ids that a list with commas cannot carry go into a file of the workspace.  Where not even that can carry them
    (line breaks, spaces at the ends), the words repeat the run from its manifest instead.
    """
    home = ("--workspace", str(widgets.workspace().root))
    words = ["delift", "select", config.pool]
    for role in DATASETS:
        if fingerprint := getattr(config, role):
            words += [f"--{role}", fingerprint]
    words += ["--method", config.method, "--budget", config.budget]
    for f in dataclasses.fields(RunConfig):
        value = getattr(config, f.name)
        if f.name in ("pool", "method", "budget", "options", "pin", "ban", *DATASETS):
            continue
        if f.name == "pairs":  # the command line's own default is to choose by cost
            if sparse_plan(config.method) and value != AUTO:
                words += _flag(f.name, value)
        elif value != f.default:
            words += _flag(f.name, value)
    for name in ("pin", "ban"):
        if ids := getattr(config, name):
            text = _listed(ids)
            if text is None:
                return ("delift", "replay", "manifest.json", *home)
            words += _flag(name, text)
    for name, value in config.options.items():
        words += _flag(name, value)
    return (*words, *home)


def command_text(config: RunConfig, *, out: str | None = None) -> str:
    """`command_for` as one line for a shell, with a file to write when asked for; fingerprints by their beginning."""
    datasets = {config.pool, *(getattr(config, role) for role in DATASETS)}
    words = (word[:SHORT] if word in datasets else word for word in command_for(config))
    return shlex.join((*words, *(("--out", out) if out else ())))


def _flag(name: str, value: object) -> list[str]:
    flag, text = f"--{name.replace('_', '-')}", str(value)
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _listed(ids: Sequence[str]) -> str | None:
    """Row ids as --pin and --ban read them: with commas, or @FILE; None where neither can carry them."""
    text = ",".join(ids)
    whole = all(name and name == name.strip() for name in ids)
    if whole and len(text) <= INLINE and not text.startswith("@") and not any("," in name for name in ids):
        return text
    if not whole or any(name.splitlines() != [name] for name in ids):
        return None
    lines = "".join(f"{name}\n" for name in ids).encode()
    folder = files.make_folder(widgets.workspace().root / "ids")
    path = folder / f"{hashlib.sha256(lines).hexdigest()[:16]}.txt"
    if not path.is_file():
        with files.atomic(path) as out:
            out.write(lines)
    return f"@{path}"
