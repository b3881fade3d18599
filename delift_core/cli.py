"""The command line.  `delift COMMAND --help` lists the options; --json prints one JSON object on standard output.

Exit status: 0, 2 for a mistake that the user can mend, 1 for a bug.  What is not the answer goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from delift_core import flags
from delift_core.console import Bar, duration, table
from delift_core.errors import Cancelled, ConfigError, DeliftError

if TYPE_CHECKING:
    from delift_core.runs import Run
    from delift_core.types import Cost

ASK_ABOVE = 30 * 60  # seconds: a longer run must not start by accident

Command = Callable[[argparse.Namespace], "dict[str, Any]"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser(argv).parse_args(argv)
    args.argv = argv
    try:
        answer = args.call(args)
    except DeliftError as error:
        if args.json:
            print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        print(f"delift: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("delift: stopped. Finished blocks are kept; the same command goes on from there.", file=sys.stderr)
        return 130
    status = int(answer.pop("status", 0))
    text = answer.pop("text", None)
    try:
        print(json.dumps(answer) if args.json else text or table(answer), flush=True)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="delift", description="Choose the rows of an instruction dataset that are worth training on."
    )
    parser.add_argument("--version", action="version", version=f"delift {_version()}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    wanted = next((a for a in argv if not a.startswith("-")), None)
    for name, (call, text, arguments) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(call=call)
        if name == wanted:  # the options of the objectives cost an import, so only the wanted command builds its own
            for build in arguments:
                build(sub)
        sub.add_argument(
            "--workspace", metavar="DIR", help="folder for all results (default: DELIFT_HOME or ./workspace)"
        )
        sub.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _version() -> str:
    from delift_core import __version__

    return __version__


# ---------------------------------------------------------------------------------------------------- commands


def _inspect(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline

    return pipeline.inspect(args.file, fields=args.fields, turns=args.turns, progress=Bar())


def _estimate(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline

    bar, ws = Bar(), flags.workspace(args)
    config, cost = pipeline.settled(ws, flags.configuration(ws, args, bar))
    cost = cost or pipeline.estimate(ws, config)
    return {
        "pairs": cost.pairs, "tokens": cost.tokens, "flops": cost.flops, "seconds": round(cost.seconds, 2),
        "bytes": cost.bytes, "plan": config.pairs, "method": config.method, "run": config.id,
    }  # fmt: skip


def _select(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline

    started, bar, ws = time.monotonic(), Bar(), flags.workspace(args)
    pipeline.check_out(args.out, args.rejected, (args.pool, args.target, args.existing, args.holdout))
    config, cost = pipeline.settled(ws, flags.configuration(ws, args, bar))
    _ask_if_long(cost or pipeline.estimate_if_long(ws, config), args.yes)
    run = pipeline.run(ws, config, progress=bar, command=("delift", *args.argv))
    bar.close()
    if args.out:
        pipeline.export(ws, run, args.out, rejected=args.rejected)
    return {**_summary(run), "seconds": round(time.monotonic() - started, 3), "out": args.out}


def _score(args: argparse.Namespace) -> dict[str, Any]:
    from pathlib import Path

    from delift_core import pipeline

    started, bar, ws = time.monotonic(), Bar(), flags.workspace(args)
    out = Path(args.out)
    pipeline.check_out(out, None, (args.pool, args.target), endings=(".npz",))
    pairs = "delift-task" if args.target else "delift"
    args.method, args.budget = pairs if args.score == "icl" else args.score, "100%"
    config = flags.configuration(ws, args, bar)
    notes: tuple[str, ...] = ()
    if args.score == "icl":
        config, cost = pipeline.settled(ws, config)
        _ask_if_long(cost or pipeline.estimate_if_long(ws, config), args.yes)
        arrays = pipeline.utilities(ws, config, progress=bar)
    else:
        options = {k.removeprefix("score_"): v for k, v in vars(args).items() if k.startswith("score_")}
        arrays, notes = pipeline.row_scores(ws, config, args.score, options, progress=bar)
    bar.close()
    pipeline.write(out, arrays)
    told = {"score": args.score, "pairs": config.pairs} if args.score == "icl" else {"score": args.score}
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    return {
        **told, "arrays": shapes, "notes": list(notes), "out": args.out,
        "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip


def _multishot(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline

    bar = Bar()
    found = pipeline.multishot(flags.workspace(args), args.id, shots=args.shots, rows=args.rows, progress=bar)
    bar.close()
    lines = [s["sentence"] for s in found[found["kind"]]["summary"]]
    return {"run": args.id, **found, "text": "\n".join([*lines, *found["notes"]])}


def _tokens(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core.review import token_detail

    record = token_detail.by_id(flags.workspace(args), args.id, args.row, args.example, args.part)
    return {**record, "text": token_detail.as_text(record)}


def _stability(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core.review import stability

    bar, ws = Bar(), flags.workspace(args)
    found = stability.measure(ws, args.id, replicates=args.replicates, progress=bar)
    bar.close()
    measured = stability.read(ws, args.id)
    assert measured is not None
    lines = [f"{name}: {told.sentence}" for name, told in measured.sources.items()]
    return {**found, "text": "\n".join([*lines, *found["notes"]])}


def _submit(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline
    from delift_core.runs import jobs

    bar, ws = Bar(), flags.workspace(args)
    config, cost = pipeline.settled(ws, flags.configuration(ws, args, bar))
    _ask_if_long(cost or pipeline.estimate_if_long(ws, config), args.yes)
    run_id = pipeline.submit(ws, config, command=("delift", *args.argv))
    return {"run": run_id, "state": jobs.state(ws, run_id), "folder": str(ws.run_folder(run_id))}


def _run(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline

    run = pipeline.work(flags.workspace(args), args.id, progress=Bar())
    return _summary(run)


def _map(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline

    points = pipeline.draw_map(flags.workspace(args), args.id, progress=Bar())
    return {"run": args.id, "points": {part: len(xy) for part, xy in points.items()}}


def _runs(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core.runs import jobs

    ws = flags.workspace(args)
    if args.cancel:
        jobs.cancel(ws, args.cancel)
        return {"run": args.cancel, "state": jobs.state(ws, args.cancel)}
    names = {d.fingerprint: d.name for d in ws.catalogue.datasets()}
    rows = [
        {
            "run": r.id, "state": r.state, "method": r.config.method, "budget": r.config.budget,
            "pool": names.get(r.config.pool, r.config.pool[:12]), "created": r.created, "stage": r.stage,
            "done": r.done, "total": r.total, "eta": r.eta, "error": r.error, "selected": r.summary.get("selected"),
            "share": r.summary.get("share"),
        }
        for r in jobs.runs(ws)
    ]  # fmt: skip
    lines = [f"{r['run']}  {r['state']:<11}  {r['method']:<16}  {r['budget']:>8}  {r['pool']}" for r in rows]
    return {"runs": rows, "text": "\n".join(lines) or "no runs yet: start one with `delift select POOL`"}


def _replay(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline

    ws, bar = flags.workspace(args), Bar()
    pipeline.check_out(args.out, args.rejected)
    sources = {role: getattr(args, role) for role in ("pool", "target", "existing", "holdout") if getattr(args, role)}
    moved = {name: getattr(args, name) for name in ("model", "encoder") if getattr(args, name)}
    replayed = pipeline.replay(
        ws, args.manifest, sources=sources, progress=bar, command=("delift", *args.argv), **moved
    )
    bar.close()
    for line in replayed.differences:
        print(f"delift: {line}", file=sys.stderr)
    out = args.out if replayed.same else None
    if out:
        pipeline.export(ws, replayed.run, out, rejected=args.rejected)
    elif args.out:
        print(f"delift: other rows came out than the manifest names, so {args.out} was not written.", file=sys.stderr)
    answer = {"same": replayed.same, "differences": list(replayed.differences), "out": out}
    return {**_summary(replayed.run), **answer, "status": 0 if replayed.same else 2}


def _report(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline

    bar = Bar()
    found = pipeline.report(flags.workspace(args), args.id, args.by, progress=bar)
    bar.close()
    head = f"{'group':<32}{'pool':>16}{'subset':>16}{'ratio':>8}{'covered':>10}"
    lines = [
        f"{g.name[:31]:<32}{f'{g.rows:,} {g.share:6.1%}':>16}{f'{g.picked:,} {g.picked_share:6.1%}':>16}"
        f"{g.ratio:>8.2f}{'' if g.covered is None else f'{g.covered:.1%}':>10}"
        for g in (*found.groups, *([found.other] if found.other else []))
    ]
    return {"run": args.id, **found.to_json(), "text": "\n".join([head, *lines, found.sentence])}


def _compare(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import pipeline

    found = pipeline.compare(flags.workspace(args), args.runs, args.by)
    return {"runs": args.runs, **found.to_json(), "text": "\n".join(found.sentences)}


def _why(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core.review import explaining

    opened = explaining.Explainer.open(flags.workspace(args), args.id)
    found = opened.explain(opened.find(args.row), args.k)
    return {"run": args.id, **found.to_json(), "text": explaining.as_text(found).rstrip()}


def _export(args: argparse.Namespace) -> dict[str, Any]:
    from pathlib import Path

    from delift_core.runs import Run
    from delift_core.sharing import exporting, html_report

    if not (args.out or args.report):
        raise ConfigError("Say what to write: --out FILE, --report FILE.html, or both.")
    ws = flags.workspace(args)
    run = Run.open(ws, args.id)
    sources = exporting.sources_of(run)
    exporting.check_out(args.report, None, sources, endings=html_report.ENDINGS)
    names = [Path(name).resolve() for name in (args.out, args.rejected, args.report) if name]
    if len(set(names)) < len(names):
        raise ConfigError("Two of --out, --rejected and --report name one file. Give each its own.")
    kept = [(ws.root / folder).resolve() for folder in ("runs", "datasets", "blocks")]
    if inside := next((name for name in names if any(name.is_relative_to(folder) for folder in kept)), None):
        raise ConfigError(f"{inside} lies where the workspace keeps its own files. Choose another folder.")
    answer: dict[str, Any] = {"run": run.id, "k": run.k if args.k is None else args.k}
    if args.out or args.rejected:
        exporting.check_out(args.out, args.rejected, sources, endings=exporting.endings_of(args.format))
        made = exporting.export_run(ws, run, args.out, format=args.format, k=args.k, rejected=args.rejected)
        answer |= {
            "out": args.out, "records": made.records, "bytes": made.bytes, "sha256": made.sha256,
            "rejected": made.rejected, "notes": list(made.notes),
        }  # fmt: skip
    if args.report:
        answer |= {"report": args.report, "report_bytes": html_report.write(ws, run, args.report, args.k)}
    return answer


def _methods(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import registry

    rows, lines = [], []
    for family, title in registry.FAMILIES.items():
        lines += ["", title]
        for m in (m for m in registry.METHODS.values() if m.family == family):
            needs = ["pool", *(["target"] if m.needs_target else []), *(["existing"] if m.needs_existing else [])]
            rows.append({
                "name": m.name, "family": m.family, "scorer": m.scorer, "score": m.score, "objective": m.objective,
                "title": m.title, "summary": m.summary, "needs": needs, "responses": m.needs_response, "cost": m.cost,
                "paper": m.paper,
            })  # fmt: skip
            lines.append(f"  {m.name:<20} {m.title}: {m.summary} Needs {', '.join(needs)}; {m.cost}. [{m.paper}]")
    lines += ["", "SCORER+OBJECTIVE is a method as well: scorers " + ", ".join(registry.SCORERS) + "; objectives "
              + ", ".join(registry.over_pairs()) + "."]  # fmt: skip
    return {"methods": rows, "text": "\n".join(lines).strip()}


def _doctor(args: argparse.Namespace) -> dict[str, Any]:
    from delift_core import doctor

    report = doctor.examine(flags.workspace(args))
    return {**report, "text": doctor.as_text(report)}


def _summary(run: Run) -> dict[str, Any]:
    """A finished run as the commands answer it."""
    kept = {
        key: run.summary[key] for key in ("run", "rows", "selected", "value", "full_value", "share", "method", "budget")
    }
    return {**kept, "notes": run.notes, "manifest": str(run.folder / "manifest.json")}


COMMANDS: dict[str, tuple[Command, str, tuple[Callable[[argparse.ArgumentParser], None], ...]]] = {
    "inspect": (_inspect, "say what a file holds and which rows are refused, and why", (flags.file_argument,)),
    "estimate": (_estimate, "say what a selection would cost, from a one-second warm-up", (flags.choice_arguments,)),
    "select": (_select, "choose rows and write them", (flags.choice_arguments, flags.out_arguments)),
    "score": (_score, "write utilities of pairs, or scores of rows, as arrays", (flags.score_arguments,)),
    "multishot": (
        _multishot,
        "show a run's best helpers together, and say how far pairs are from sets",
        (flags.multishot_arguments,),
    ),
    "stability": (
        _stability,
        "choose a finished run again under other conditions, and say how far the rows stay the same",
        (flags.stability_arguments,),
    ),
    "tokens": (_tokens, "show token by token where an example helped a row", (flags.tokens_arguments,)),
    "submit": (_submit, "the same as select, in the background", (flags.choice_arguments,)),
    "run": (_run, "do the work of a submitted run (resumes where it stopped)", (flags.id_argument,)),
    "map": (_map, "draw the map of a finished run", (flags.id_argument,)),
    "runs": (_runs, "list the runs of the workspace", (flags.runs_arguments,)),
    "report": (_report, "say group by group whom a run's subset serves", (flags.report_arguments,)),
    "compare": (_compare, "set two to four runs side by side", (flags.compare_arguments,)),
    "why": (_why, "say why a row was chosen, or why not", (flags.why_arguments,)),
    "export": (
        _export,
        "write a finished run's subset in any format, or a report of it",
        (flags.export_arguments,),
    ),
    "replay": (_replay, "repeat a run from its manifest and compare the ids", (flags.replay_arguments,)),
    "methods": (_methods, "list the methods, with what each needs and costs", ()),
    "doctor": (_doctor, "say what is installed, what is missing and how to get it", ()),
}


# ---------------------------------------------------------------------------------------------------- talking


def _ask_if_long(cost: Cost | None, yes: bool) -> None:
    """Let a person confirm a run above the limit; without a terminal, refuse and say how to go on."""
    if cost is None or cost.seconds <= ASK_ABOVE or yes:
        return
    text = f"This run is estimated at {duration(cost.seconds)} ({cost.pairs:,} pairs, {cost.tokens:,} tokens)."
    if not sys.stdin.isatty():
        raise ConfigError(f"{text} Add --yes to start it, or take a smaller pool, a target, or the method delift-se.")
    print(f"{text} Start it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Cancelled("Not started. A smaller pool, a target, or the method delift-se takes less time.")
