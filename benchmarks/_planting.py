"""Pools of real rows in which something is planted, and the picks of a method from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from delift_core import constraints, evidence
from delift_core.config import Budget, RunConfig
from delift_core.data import load
from delift_core.encoded import token_counts, tokenizer_of
from delift_core.inputs import Inputs
from delift_core.models.causal import BUILTIN
from delift_core.types import BlockStore, Dataset

CHARACTERS = 900  # of a row at most: about what the encoder reads of it
SEEDS = 20  # of random
SETTINGS = {f.name for f in fields(RunConfig)}
TEXTS = ("Definition", "instruction", "context", "input", "output", "response")

Record = dict[str, Any]
Tasks = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class Pick:
    """A method, with settings and options as a run has them."""

    method: str
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As the tables show it."""
        return " ".join([self.method, *(f"{key}={value}" for key, value in self.given.items())])


RANDOM = Pick("random")


@dataclass(frozen=True)
class Bench:
    """Where rows come from, where pools are written, and where vectors and passes are kept."""

    data: Path
    work: Path
    store: BlockStore
    characters: int = CHARACTERS  # of a row at most

    def read(self, name: str) -> list[Record]:
        """The distinct records of a data file that are short enough."""
        with (self.data / f"{name}.jsonl").open(encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        texts = ["\n".join(str(record.get(key, "")) for key in TEXTS) for record in records]
        return list({t: r for t, r in zip(texts, records, strict=True) if len(t) <= self.characters}.values())

    def tasks(self, wanted: Sequence[str] | None = None) -> Tasks:
        """Records by task: of the tasks wanted, or of ten, each the largest of its category."""
        found: dict[str, list[Record]] = {}
        for record in self.read("natural_instructions"):
            found.setdefault(record["Task"].removesuffix(".json"), []).append(record)
        if wanted is not None:
            return {task: found[task] for task in wanted}
        largest = sorted(found, key=lambda task: (-len(found[task]), task))
        of_category = {found[task][0]["Categories"][0]: task for task in reversed(largest)}
        return {task: found[task] for task in sorted(of_category.values(), key=largest.index)[:10]}

    def held_out(self) -> Tasks:
        """Records of the tasks that the built-in model was not trained on."""
        return self.tasks(list(json.loads((BUILTIN / "held_out.json").read_text(encoding="utf-8"))))

    def dataset(self, records: Sequence[Record]) -> Dataset:
        """Records as a dataset, read as any file is."""
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / "rows.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return load(path, self.work / "datasets").dataset

    def order(self, pick: Pick, budget: str, pool: Dataset, seed: int = 0, **others: Dataset) -> list[int]:
        """Rows of the pool in the order in which the method takes them, up to the budget.  Exact copies count."""
        settings = {key: value for key, value in pick.given.items() if key in SETTINGS}
        options = {key: value for key, value in pick.given.items() if key not in SETTINGS}
        config = RunConfig(
            pool.fingerprint, method=pick.method, budget=budget, keep_duplicates=True, seed=seed, options=options,
            **settings,
        )  # fmt: skip
        inputs = Inputs(config, pool, **others)
        tokens = token_counts(pool, tokenizer_of(config), self.store)
        limit = Budget.parse(budget).limit(tokens)
        screened = constraints.screen(inputs, limit, tokens)
        found = evidence.gather(inputs, tokens, self.store)
        ruled = constraints.resolve(inputs, screened, limit, tokens, found.vectors, self.store).limit
        return inputs.objective.select(found.evidence, ruled, seed=seed).order[: limit.rows].tolist()

    def orders(self, pick: Pick, budget: str, pool: Dataset, **others: Dataset) -> Iterator[list[int]]:
        """One order; of random, one for each seed."""
        for seed in range(SEEDS if pick == RANDOM else 1):
            yield self.order(pick, budget, pool, seed, **others)

    def share(self, pick: Pick, budget: str, pool: Dataset, wanted: Sequence[bool], **others: Dataset) -> float:
        """The share of the picks that are wanted; the mean of the orders."""
        orders = self.orders(pick, budget, pool, **others)
        return float(np.mean([np.mean([wanted[row] for row in order]) for order in orders]))


def drawn(tasks: Tasks, each: int, more: int, seed: int) -> tuple[list[Record], dict[str, list[Record]]]:
    """A shuffled pool of `each` rows of every task, and `more` other rows of each, by task.

    The field `task` says which; a task with too few rows raises SystemExit.
    """
    rng = np.random.default_rng(seed)
    pool: list[Record] = []
    others: dict[str, list[Record]] = {}
    for task, records in tasks.items():
        if len(records) < each + more:
            raise SystemExit(f"{task} has {len(records)} rows, not {each + more}. Take fewer --rows.")
        mixed = [{**records[i], "task": task} for i in rng.permutation(len(records))]
        pool += mixed[:each]
        others[task] = mixed[each : each + more]
    return [pool[i] for i in rng.permutation(len(pool))], others


def edited(record: Record, how: str, rng: np.random.Generator) -> Record:
    """A near-copy: another final "mark", other "case", or one "word" less."""
    prompt, words = record["instruction"], record["response"].split(" ")
    if how == "word" and len(words) > 1:
        gone = int(rng.integers(len(words)))
        return {**record, "response": " ".join(words[:gone] + words[gone + 1 :])}
    if how == "case":
        return {**record, "instruction": prompt.swapcase()}
    return {**record, "instruction": prompt.rstrip(".?!") if prompt[-1] in ".?!" else f"{prompt}."}


def spoilt(
    pool: Sequence[Record], strangers: Sequence[Record], share: float, seed: int
) -> tuple[list[Record], set[int]]:
    """The pool with the responses of some rows exchanged, and which rows these are.

    Each gets the response of a row of another task that stands nowhere else: one of the pool's own would hand its
    answer to that row.
    """
    rng = np.random.default_rng([seed, 1])  # not the permutation that the random control draws
    wrong = rng.permutation(len(pool))[: round(share * len(pool))].tolist()
    left = [strangers[i] for i in rng.permutation(len(strangers))]
    found = list(pool)
    for at in wrong:
        giver = next(i for i, record in enumerate(left) if record["task"] != pool[at]["task"])
        found[at] = {**pool[at], "output": left.pop(giver)["output"]}
    return found, set(wrong)
