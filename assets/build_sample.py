"""Rebuild the sample under assets/sample: about 2,000 real rows, a small target, and one finished run over them.

    python -m assets.build_sample [--data DIR] [--rows-only] [--blocks-only]

The rows come from the folder with real instruction data beside the project (see its README for the sources); the run is
`delift-task` with the built-in model, so that the map, the heatmap and the export have something to show at once.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delift_core import pipeline
from delift_core.encoded import causal_model
from delift_core.evidence import sides_of
from delift_core.preflight import checked
from delift_core.runs import Run, Workspace
from delift_core.runs.blocks import DiskStore
from delift_core.sample import FOLDER as SAMPLE
from delift_core.sample import install
from delift_core.scoring.job import Job

ROOT = Path(__file__).parents[1]
LONGEST = 1200  # characters of prompt and response together: scoring the sample must stay a matter of minutes
TARGET_ROWS = 48


@dataclass(frozen=True)
class Source:
    """A file of the data folder: how many rows of it, what they are called, and under which licence."""

    file: str
    task: str
    rows: int
    licence: str
    origin: str
    response: str = "response"


SOURCES = (
    Source("gsm8k_train.jsonl", "grade-school maths", 260, "MIT", "openai/grade-school-math", "answer"),
    Source("dolly_15k_en.jsonl", "open questions", 450, "CC BY-SA 3.0", "databricks/databricks-dolly-15k"),
    Source("natural_instructions.jsonl", "", 600, "as each row says", "allenai/natural-instructions", "output"),
    Source("gpteacher_codegen.jsonl", "code", 200, "MIT", "teknium1/GPTeacher"),
    Source("gpteacher_toolformer.jsonl", "tool calls", 190, "MIT", "teknium1/GPTeacher"),
    Source("llm_adapters_boolq_train.jsonl", "yes or no", 150, "ODC-By", "LLM-Adapters, BoolQ", "output"),
    Source("llm_adapters_arc_easy_train.jsonl", "science choices", 150, "ODC-By", "LLM-Adapters, ARC-Easy", "output"),
)  # fmt: skip
INSTRUCTION_TASKS = 10  # of natural_instructions


def prompt_of(record: dict[str, Any]) -> str:
    """The prompt of a record in any of the sources' schemas."""
    parts = (record.get(key) for key in ("Definition", "instruction", "question", "context", "input"))
    texts = (part[0] if isinstance(part, list) else part for part in parts)
    return "\n\n".join(text.strip() for text in texts if text and text.strip())


def short_rows(data: Path, source: Source) -> Iterator[dict[str, str]]:
    """Rows of one source that are not too long, with their task, origin and licence beside them."""
    with (data / source.file).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            record = json.loads(line)
            response = record[source.response]
            response = (response[0] if isinstance(response, list) else response).strip()
            prompt = prompt_of(record)
            if response and prompt and len(prompt) + len(response) <= LONGEST:
                yield {
                    "id": f"{Path(source.file).stem}:{number}",
                    "instruction": prompt,
                    "response": response,
                    "task": source.task or record["Categories"][0].lower(),
                    "subtask": record.get("Task", ""),
                    "origin": source.origin,
                    "licence": record.get("Instance License", [source.licence])[0]
                    if "Instance License" in record
                    else source.licence,
                }


def choose_rows(data: Path, seed: int = 0) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The pool and the target: a seeded draw from every source; the target is maths rows outside the pool."""
    rng = random.Random(seed)
    pool: list[dict[str, str]] = []
    target: list[dict[str, str]] = []
    for source in SOURCES:
        rows = list(short_rows(data, source))
        if source.file.startswith("natural_instructions"):
            common = Counter(row["subtask"] for row in rows if row["subtask"])
            kept = sorted(rng.sample(sorted(name for name, count in common.items() if count >= 60), INSTRUCTION_TASKS))
            rows = [r for name in kept for r in rng.sample([r for r in rows if r["subtask"] == name], 60)]
        drawn = rng.sample(rows, source.rows + (TARGET_ROWS if not target else 0))
        if not target:
            target, drawn = drawn[:TARGET_ROWS], drawn[TARGET_ROWS:]
        pool += drawn
    rng.shuffle(pool)
    return pool, target


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """One JSON object a line; an empty field is left out."""
    lines = [json.dumps({k: v for k, v in row.items() if v}, ensure_ascii=False) for row in rows]
    staging = path.with_suffix(".writing")
    staging.write_text("\n".join(lines) + "\n", encoding="utf-8")
    staging.replace(path)


def write_licences(path: Path) -> None:
    """Where each part of the sample comes from, and under which licence it may be used."""
    table = "\n".join(
        f"| {s.task or 'ten tasks of natural instructions'} | {s.rows} | {s.origin} | {s.licence} |" for s in SOURCES
    )
    path.write_text(
        "# Sources and licences of the sample\n\n"
        "Rows were drawn with a fixed seed; only field names were changed. Each row names its origin and licence.\n\n"
        f"| task | rows | origin | licence |\n|---|---|---|---|\n{table}\n\n"
        f"`target.jsonl` holds {TARGET_ROWS} further rows of openai/grade-school-math (train split, MIT). Some rows\n"
        "are share-alike (CC BY-SA 3.0 and 4.0), so treat the pool as a whole as share-alike.\n",
        encoding="utf-8",
    )


def keep_blocks(ws: Workspace, run: Run, store: DiskStore) -> None:
    """Write the scored pairs of the run as blocks, so that a run with other picks of the sample scores nothing anew."""
    inputs = checked(ws, run.config)
    helped, candidates = sides_of(inputs, "target")
    l2, pmi = run.utility("target", "l2"), run.utility("target", "pmi")
    job = inputs.scorer.job(helped, candidates, causal_model(run.config.model))
    lengths = np.array([len(e.prompt) + len(e.response) for e in examples_of(job)])
    for first, last, tile in job.tiles:
        alone = {"d": l2.baseline[first:last], "l": pmi.baseline[first:last]}
        store.put(tile.key(None), alone)
        room = tile.layout.classes[-1][0]
        for a, b in tile.spans:
            block = {
                "d": alone["d"][:, None] - l2.values[first:last, a:b],
                "l": alone["l"][:, None] + pmi.values[first:last, a:b],
                "cut": lengths[a:b] > room,
            }
            store.put(tile.key((a, b)), block)


def examples_of(job: Job) -> Sequence[Any]:
    """The candidates of a job as examples."""
    return job.template.examples(job.candidates.prompts, job.candidates.responses)


def forget_the_machine(path: Path) -> None:
    """Name the inputs by their place in the project; the manifest's hash leaves places out."""
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for entry in manifest["inputs"]:
        entry["source"] = f"assets/sample/{entry['name']}"
    path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def write_blocks(ws: Workspace, run: Run) -> None:
    """Replace the blocks of the sample."""
    shutil.rmtree(SAMPLE / "blocks", ignore_errors=True)
    keep_blocks(ws, run, DiskStore(SAMPLE / "blocks"))


def main() -> None:
    """Write the rows, run the method over them, and keep the finished run beside them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with the real data")
    parser.add_argument("--rows-only", action="store_true", help="write pool, target and licences, without the run")
    parser.add_argument("--blocks-only", action="store_true", help="write the blocks of the run that is there")
    arguments = parser.parse_args()
    SAMPLE.mkdir(parents=True, exist_ok=True)
    if arguments.blocks_only:
        with tempfile.TemporaryDirectory() as folder:
            ws = Workspace(Path(folder))
            write_blocks(ws, Run.open(ws, install(ws)))
        return
    pool, target = choose_rows(arguments.data)
    write_rows(SAMPLE / "pool.jsonl", pool)
    write_rows(SAMPLE / "target.jsonl", target)
    write_licences(SAMPLE / "LICENCES.md")
    print(f"{len(pool)} rows in the pool, {len(target)} in the target")
    if arguments.rows_only:
        return
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace(Path(folder))
        done = pipeline.select(
            SAMPLE / "pool.jsonl", target=SAMPLE / "target.jsonl", method="delift-task", budget="10%", workspace=ws.root
        )
        pipeline.draw_map(ws, done.id)
        shutil.rmtree(SAMPLE / "run", ignore_errors=True)
        shutil.copytree(ws.run_folder(done.id), SAMPLE / "run", ignore=shutil.ignore_patterns("log*.txt"))
        forget_the_machine(SAMPLE / "run" / "manifest.json")
        write_blocks(ws, done)
        print(f"run {done.id}: {done.k} rows, {done.selection.head(done.k).share:.1%} of the value of the whole pool")


if __name__ == "__main__":
    main()
