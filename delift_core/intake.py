"""From files and words to a `RunConfig`: the same for the command line, the Python API and the page."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delift_core import registry
from delift_core.config import Budget, RunConfig
from delift_core.errors import ConfigError, DataError, unknown
from delift_core.quota import Quota
from delift_core.sources import MANIFEST, Turns, add_dataset, find_dataset, picked_before
from delift_core.types import Dataset, Progress, no_progress

if TYPE_CHECKING:
    from delift_core.data import FieldMap
    from delift_core.runs import Workspace, manifest

_SETTINGS = frozenset(f.name for f in dataclasses.fields(RunConfig))
_NOT_SETTINGS = {"pool", "target", "existing", "holdout", "method", "budget", "options"}


def parse_fields(text: str | None) -> FieldMap | None:
    """Read "prompt=question,response=answer"; an unknown role or a broken pair raises ConfigError."""
    if not text:
        return None
    from delift_core.data import FieldMap

    known = {f.name for f in dataclasses.fields(FieldMap) if f.init}
    chosen: dict[str, str] = {}
    for pair in text.split(","):
        role, sign, name = (piece.strip() for piece in pair.partition("="))
        if not sign or not name:
            raise ConfigError(
                f"Field mapping {pair!r} is not ROLE=NAME. Write it like prompt=question,response=answer."
            )
        if role not in known:
            raise unknown("role in the field mapping:", role, known)
        chosen[role] = name
    return FieldMap(**chosen)


def inspect(
    source: str | Path, *, fields: str | None = None, turns: Turns = "last", progress: Progress = no_progress
) -> dict[str, Any]:
    """Read a source to its end and say what it holds; nothing is kept.

    A file without any response is reported with labelled = false, and not refused: it may still serve as a target.
    """
    from delift_core import data

    mapping = parse_fields(fields)
    with tempfile.TemporaryDirectory(prefix="delift-inspect-") as folder:
        loaded = _load_either(data, source, Path(folder), mapping, turns, progress)
        report, dataset = loaded.report, loaded.dataset
        return {
            "schema": report.schema, "rows": report.rows, "refused": report.refused, "reasons": dict(report.reasons),
            "duplicates": report.duplicates, "labelled": dataset.labelled, "format": report.format,
            "evidence": report.evidence, "mapping": report.mapping.to_json(),
            "fields": list(report.fields), "fingerprint": dataset.fingerprint, "sha256": report.source_sha256,
        }  # fmt: skip


def _load_either(
    data: Any, source: str | Path, folder: Path, mapping: FieldMap | None, turns: Turns, progress: Progress
) -> Any:
    try:
        return data.load(source, folder, mapping=mapping, turns=turns, progress=progress)
    except DataError:
        if not _has_no_responses(source, mapping):
            raise
        return data.load(source, folder, mapping=mapping, turns=turns, need_response=False, progress=progress)


def _has_no_responses(source: str | Path, mapping: FieldMap | None) -> bool:
    """Whether a source is prompts or plain text by its layout; a response field that is always empty is a mistake."""
    from delift_core import data

    seen = data.preview(source, mapping=mapping, rows=1)
    return bool(seen.mapping.to_json()) and not seen.mapping.response and not seen.mapping.instances


def configure(
    ws: Workspace,
    pool: str | Path,
    *,
    target: str | Path | None = None,
    existing: str | Path | None = None,
    holdout: str | Path | None = None,
    method: str = "delift",
    budget: str | int = "30%",
    turns: Turns = "last",
    fields: Mapping[str, str | FieldMap | None] | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> RunConfig:
    """Load the datasets and put everything that decides the ids into one object.

    Args:
        ws: where datasets are kept.
        pool: rows to choose from: a file, a folder, a hub id, or the fingerprint of a dataset of the workspace.
        target: rows of the task to get good at.
        existing: rows already trained on; the manifest.json of an earlier run stands for the rows that it picked.
        holdout: evaluation rows; pool rows that are too close to one are left out.
        method: a name that `delift methods` lists, or SCORER+OBJECTIVE.
        budget: rows (500), a share ("30%") or tokens ("200ktok").
        turns: of a conversation, the last answer, or one row per answer.
        fields: field mapping by role ("pool", "target", "existing").
        progress: of reading.
        settings: the other settings of `RunConfig` (model, encoder, seed, ...) and options of the method.

    Raises ConfigError for names and settings, before any file is read, and DataError for files.
    """
    chosen = registry.method(method)
    named = _SETTINGS - _NOT_SETTINGS
    general: dict[str, Any] = {k: str(v) if isinstance(v, Path) else v for k, v in settings.items() if k in named}
    options = {k: v for k, v in settings.items() if k not in named}
    if "template" in general:
        general["template"] = _template(str(general["template"]))
    draft = normal(RunConfig(pool="", method=method, budget=str(budget), options=options, **general))
    sources: dict[str, str | Path] = {"pool": pool}
    for role, source, needed in (
        ("target", target, chosen.needs_target),
        ("existing", existing, chosen.needs_existing),
    ):
        if needed and source is None:
            raise ConfigError(f"Method {method} needs {role} rows: {_WHY[role]}. Give --{role} FILE.")
        if source is not None and not needed:
            users = [m.name for m in registry.METHODS.values() if getattr(m, f"needs_{role}")]
            raise ConfigError(
                f"Method {method} does not look at {role} rows. Leave --{role} out, or choose one that does: "
                f"{', '.join(users)}."
            )
        if source is not None:
            sources[role] = source
    if holdout is not None:
        sources["holdout"] = holdout
    prints: dict[str, str] = {}
    for role, source in sources.items():
        known = find_dataset(ws, str(source))
        given, strict = (fields or {}).get(role), chosen.needs_response and role != "holdout"
        if known and (given or (role == "pool" and turns != "last")):
            raise ConfigError(
                f"{source} is a dataset of the workspace, which was read already, so a field mapping or turns cannot "
                "change it. Give its file instead, or leave them out."
            )
        mapping = parse_fields(given) if isinstance(given, str) else given
        if role == "existing" and str(source).endswith(MANIFEST):
            known = picked_before(ws, Path(source), progress=progress).fingerprint
        prints[role] = known or _read(ws, source, role, mapping, turns, strict, progress).fingerprint
    return draft.with_(**prints)


def _template(name: str) -> str:
    """A template's name, or the definition that a file holds: then the run does not need the file again."""
    from delift_core.scoring.definition import check_template, read_template

    if name.lstrip().startswith("{"):
        return check_template(name)
    return read_template(name) if name.endswith((".toml", ".json")) else name


_WHY = {"target": "some rows of the task to get good at", "existing": "the rows already trained on"}


def _read(
    ws: Workspace,
    source: str | Path,
    role: str,
    mapping: FieldMap | None,
    turns: Turns,
    strict: bool,
    progress: Progress,
) -> Dataset:
    """Rows with responses where the file has any, so that one file is one dataset whatever the method needs."""
    try:
        return add_dataset(ws, source, role=role, mapping=mapping, turns=turns, progress=progress)
    except DataError:
        if strict or not _has_no_responses(source, mapping):
            raise
        return add_dataset(ws, source, role=role, mapping=mapping, turns=turns, need_response=False, progress=progress)


def normal(config: RunConfig) -> RunConfig:
    """The one way to write a choice, so that it has one id: the budget in its short form, no option at its default.

    Checks method, budget and options; a wrong one raises ConfigError.
    """
    known = registry.option_fields(config.method, settings=_SETTINGS)
    for name in config.options:
        if name not in known:
            raise unknown(f"setting or option of method {config.method}:", name, {*known, *_SETTINGS - _NOT_SETTINGS})
    registry.objective_of(config.method, config.options)  # these three check values
    registry.scorer_of(config.method, config.options, {})
    registry.score_of(config.method, config.options, {})
    # A float that was given as a whole number is the same setting.
    given = {k: type(known[k].default)(v) for k, v in sorted(config.options.items())}
    options = {k: v for k, v in given.items() if v != known[k].default}
    changes: dict[str, Any] = {"budget": str(Budget.parse(config.budget)), "options": options}
    if config.quota:
        changes["quota"] = str(Quota.parse(config.quota))
    if config.pairs != registry.AUTO:
        changes["pairs"] = registry.plan_name(config.pairs)
    sparse = registry.sparse_plan(config.method)
    if sparse is None:
        changes["pairs"] = registry.DENSE
    elif sparse == registry.NEAREST and config.pairs.partition(":")[0] not in {"knn", registry.DENSE, registry.AUTO}:
        raise ConfigError(
            f"Pair plan {config.pairs!r}: method {config.method} compares vectors, which takes knn:K (such as "
            f"{registry.NEAREST}) or dense. Plans of other kinds choose among passes of a language model."
        )
    if config.model != "builtin" and Path(config.model).is_dir():
        changes["model"] = str(Path(config.model).resolve())  # a worker may stand in another folder
    if config.encoder not in registry.ENCODERS and Path(config.encoder).is_dir():
        changes["encoder"] = str(Path(config.encoder).resolve())
    return config.with_(**changes)


def manifest_inputs(ws: Workspace, datasets: Mapping[str, Dataset]) -> list[manifest.Input]:
    """What a manifest says of the datasets of a run, by role."""
    from delift_core.data import read_report
    from delift_core.runs import manifest

    listed = []
    for role, dataset in datasets.items():
        report = read_report(ws.dataset_folder(dataset.fingerprint))
        place = ws.catalogue.dataset(dataset.fingerprint).source
        listed.append(manifest.Input(
            role, dataset.name, dataset.fingerprint, report.source_sha256, len(dataset), report.refused, place,
            mapping=report.mapping.to_json(), turns=report.turns, labelled=dataset.labelled,
        ))  # fmt: skip
    return listed
