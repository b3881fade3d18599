"""Arguments of the commands.  Settings and options come from dataclass fields, so a new one is a flag by itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delift_core.config import RunConfig
    from delift_core.runs.workspace import Workspace
    from delift_core.types import Progress


def file_argument(sub: argparse.ArgumentParser) -> None:
    """The source to inspect."""
    sub.add_argument("file", metavar="FILE", help="dataset file, save_to_disk folder or Hugging Face id")
    _mapping(sub, "--fields", "the file")


def _mapping(sub: argparse.ArgumentParser, flag: str, whose: str) -> None:
    sub.add_argument(
        flag, metavar="ROLE=NAME,...", help=f"field mapping of {whose}, e.g. prompt=question,response=answer"
    )
    if flag == "--fields":
        sub.add_argument(
            "--turns",
            choices=("last", "every"),
            default="last",
            help="conversations: last answer or one row per answer",
        )


def choice_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of select, estimate and submit: the datasets, the method, and every setting and option there is."""
    import dataclasses

    from delift_core import registry
    from delift_core.config import RunConfig

    sub.add_argument(
        "pool", metavar="POOL", help="rows to choose from: a file, a Hugging Face id, or a loaded dataset's fingerprint"
    )
    sub.add_argument("--target", metavar="T", help="rows of the task to get good at")
    sub.add_argument(
        "--existing", metavar="E", help="rows already trained on: a file, or manifest.json of the run that picked them"
    )
    sub.add_argument("--holdout", metavar="H", help="evaluation rows that the subset must not come close to")
    for flag, whose in (
        ("--fields", "the pool"),
        ("--target-fields", "the target"),
        ("--existing-fields", "the existing rows"),
        ("--holdout-fields", "the held-out rows"),
    ):
        _mapping(sub, flag, whose)
    settings = {f.name: f for f in dataclasses.fields(RunConfig)}
    sub.add_argument(
        "--method", default="delift", metavar="NAME",
        help=f"one of {', '.join(registry.METHODS)}, or SCORER+OBJECTIVE such as icl+graph-cut (default: delift)",
    )  # fmt: skip
    sub.add_argument("--budget", default="30%", help="rows to keep: 30%%, 500 or 200ktok (default: 30%%)")
    for name in ("model", "encoder", "pairs", "template", "kind", "scale", "seed", "keep_duplicates"):
        _flag(sub, settings[name], "setting")
    rules = sub.add_argument_group("what the picks must respect")
    for name in ("quota", "once", "guard", "domains"):
        _flag(rules, settings[name], "setting")
    for name in ("pin", "ban"):
        rules.add_argument(
            f"--{name}", dest=f"setting_{name}", type=_ids, default=argparse.SUPPRESS, metavar="ID,ID|@FILE",
            help=f"{settings[name].metadata['help']}; @FILE holds one id a line",
        )  # fmt: skip
    sub.add_argument("--yes", action="store_true", help="start without asking, however long it takes")
    group = sub.add_argument_group("options of the methods")
    seen: dict[str, dataclasses.Field[Any]] = {}
    for method in registry.METHODS:
        for name, option in registry.option_fields(method, settings=frozenset(settings)).items():
            if name not in seen:
                seen[name] = option
                _flag(group, option, "option")


def score_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of score: the datasets, what to score, the model's settings, every option of a row score."""
    import dataclasses

    from delift_core import registry
    from delift_core.config import RunConfig

    sub.add_argument("pool", metavar="POOL", help="candidates: a file, a Hugging Face id, or a dataset's fingerprint")
    sub.add_argument("--target", metavar="T", help="rows to be helped (default: the pool's own)")
    sub.add_argument("--out", required=True, metavar="FILE.npz", help="file for the arrays")
    sub.add_argument(
        "--score", default="icl", choices=("icl", *registry.ROW_SCORES),
        help="icl: in-context utility of pairs; the others: one number for each row of the pool (default: icl)",
    )  # fmt: skip
    _mapping(sub, "--fields", "the pool")
    _mapping(sub, "--target-fields", "the target")
    settings = {f.name: f for f in dataclasses.fields(RunConfig)}
    for name in ("model", "encoder", "pairs", "template", "seed", "keep_duplicates"):
        _flag(sub, settings[name], "setting")
    for name, option in registry.option_fields("delift", settings=frozenset(settings)).items():
        if name in ("example_tokens", "query_tokens"):
            _flag(sub, option, "option")
    sub.add_argument("--yes", action="store_true", help="start without asking, however long it takes")
    sub.set_defaults(existing=None, existing_fields=None, holdout=None, holdout_fields=None)
    group = sub.add_argument_group("options of the row scores")
    seen = {*settings, "example_tokens", "query_tokens"}
    for score in registry.ROW_SCORES:
        for option in dataclasses.fields(registry.resolve(registry.ROW_SCORES, "row score", score)):
            if option.init and option.name not in seen:
                seen.add(option.name)
                _flag(group, option, "score")


def _ids(text: str) -> tuple[str, ...]:
    """Ids with commas between them, or one a line of @FILE; raises ArgumentTypeError where it cannot be read."""
    from pathlib import Path

    if not text.startswith("@"):
        return tuple(filter(None, (part.strip() for part in text.split(","))))
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        told = f"The ids in {text[1:]} cannot be read ({error})."
        raise argparse.ArgumentTypeError(f"{told} Give a text file with one id a line.") from None
    return tuple(filter(None, (line.strip() for line in lines)))


def _flag(parser: Any, field: Any, prefix: str) -> None:
    """One dataclass field as a flag; without the flag the dataclass's own default holds."""
    name, default, meta = field.name, field.default, field.metadata
    flag, dest = "--" + name.replace("_", "-"), f"{prefix}_{name}"
    usual = "auto" if name == "pairs" else default
    text = str(meta.get("help", name.replace("_", " "))).replace("%", "%%") + f" (default: {usual})"
    common: dict[str, Any] = {"dest": dest, "default": argparse.SUPPRESS, "help": text}
    if isinstance(default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    elif "or_begins" in meta:
        parser.add_argument(flag, metavar="|".join((*meta["choices"], "FILE")), **common)
    elif "choices" in meta:
        parser.add_argument(flag, choices=tuple(meta["choices"]), **common)
    else:
        parser.add_argument(flag, type=type(default), metavar=type(default).__name__.upper(), **common)


def out_arguments(sub: argparse.ArgumentParser) -> None:
    """Where the records go."""
    sub.add_argument("--out", metavar="FILE", help="write the chosen records: .jsonl, .parquet or .csv")
    sub.add_argument(
        "--rejected", metavar="FILE", help="write the other records with the reason for each (needs --out)"
    )


def id_argument(sub: argparse.ArgumentParser) -> None:
    """Which run."""
    sub.add_argument("--id", required=True, metavar="ID", help="run id, as `delift runs` lists it")


def report_arguments(sub: argparse.ArgumentParser) -> None:
    """Which run, and what its groups are."""
    id_argument(sub)
    sub.add_argument(
        "--by",
        metavar="COLUMN",
        help="a column of the pool, or cluster:10 (default: the run's quota, or the only column)",
    )


def compare_arguments(sub: argparse.ArgumentParser) -> None:
    """Which runs, and the groups to compare."""
    sub.add_argument("runs", nargs="+", metavar="RUN", help="two to four run ids")
    sub.add_argument("--by", metavar="COLUMN", help="compare the shares of this column's groups as well")


def multishot_arguments(sub: argparse.ArgumentParser) -> None:
    """Which run, how many examples together, how many rows."""
    id_argument(sub)
    sub.add_argument("--shots", type=int, nargs="+", default=[2, 4, 8], metavar="K", help="examples shown together")
    sub.add_argument("--rows", type=int, default=50, help="helped rows to measure, drawn at random (default: 50)")


def tokens_arguments(sub: argparse.ArgumentParser) -> None:
    """Which run, which helped row, which example."""
    id_argument(sub)
    sub.add_argument("--row", required=True, metavar="ID", help="id of the helped row")
    sub.add_argument("--example", required=True, metavar="ID", help="id of the row that is shown as the example")
    sub.add_argument("--part", choices=("pool", "target", "existing"), help="which pairs (default: target, else pool)")


def stability_arguments(sub: argparse.ArgumentParser) -> None:
    """Which run, how many replicates."""
    id_argument(sub)
    sub.add_argument("--replicates", type=int, default=20, help="bootstrap replicates, at least 2 (default: 20)")


def why_arguments(sub: argparse.ArgumentParser) -> None:
    """Which run, which row, which budget."""
    id_argument(sub)
    sub.add_argument("--row", required=True, metavar="ID", help="id of the row")
    sub.add_argument("--k", type=int, metavar="ROWS", help="at this budget (default: the run's)")


def export_arguments(sub: argparse.ArgumentParser) -> None:
    """Which run, which budget, and what to write of it."""
    from delift_core.sharing import exporting

    id_argument(sub)
    sub.add_argument("--k", type=int, metavar="ROWS", help="keep the first so many picks (default: the run's budget)")
    sub.add_argument("--format", choices=exporting.FORMATS, help="format of --out (default: its ending says it)")
    sub.add_argument(
        "--out", metavar="FILE",
        help="write the subset: .jsonl, .parquet, .csv, or .zip for llama-factory and axolotl",
    )  # fmt: skip
    sub.add_argument("--rejected", metavar="FILE", help="write the other records with reasons (needs --out)")
    sub.add_argument("--report", metavar="FILE.html", help="write one self-contained page about the subset")


def runs_arguments(sub: argparse.ArgumentParser) -> None:
    """What else to do with runs."""
    sub.add_argument("--cancel", metavar="ID", help="cancel this run; finished blocks are kept")


def replay_arguments(sub: argparse.ArgumentParser) -> None:
    """The manifest, and where things are now."""
    sub.add_argument("manifest", metavar="MANIFEST", help="manifest.json of an earlier run")
    for role in ("pool", "target", "existing", "holdout"):
        sub.add_argument(
            f"--{role}", metavar="FILE", help=f"where the {role} is now, if the workspace does not have it"
        )
    sub.add_argument("--model", metavar="ID|DIR", help="where the language model is now, if it was moved")
    sub.add_argument("--encoder", metavar="ID|DIR", help="where the sentence encoder is now, if it was moved")
    out_arguments(sub)


def workspace(args: argparse.Namespace) -> Workspace:
    """The workspace that was named, or the default one."""
    from pathlib import Path

    from delift_core.runs.workspace import Workspace

    return Workspace(Path(args.workspace)) if args.workspace else Workspace.default()


def configuration(ws: Workspace, args: argparse.Namespace, progress: Progress) -> RunConfig:
    """Load the datasets into the workspace and say in one object what was asked for."""
    from delift_core import pipeline, registry

    given = vars(args)
    settings = {k.removeprefix("setting_"): v for k, v in given.items() if k.startswith("setting_")}
    options = {k.removeprefix("option_"): v for k, v in given.items() if k.startswith("option_")}
    return pipeline.configure(
        ws, args.pool, target=args.target, existing=args.existing, holdout=args.holdout, method=args.method,
        budget=args.budget, turns=args.turns,
        fields={
            "pool": args.fields, "target": args.target_fields, "existing": args.existing_fields,
            "holdout": args.holdout_fields,
        },
        progress=progress, **{"pairs": registry.AUTO, **settings}, **options,
    )  # fmt: skip
