"""Several examples together: does a set help a row as its pairs say?  What papers on pairwise utility leave open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from delift_core.errors import ConfigError, DataError, unknown
from delift_core.scoring.layout import CLASSES, Suffix
from delift_core.scoring.rows import Rows
from delift_core.scoring.rowwise import Arrays, Parts, Readings, RowJob, checked, laid_out, taken
from delift_core.scoring.shots import MultiShotUtility, Prompts, SetPlan, result_of
from delift_core.scoring.templates import Example, Tokens, bind, chained
from delift_core.types import BlockStore, Cost, Floats, Indices, Kind, Progress, Utility, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel
    from delift_core.scoring.engine import Check, Engine

STAGE = "multishot"
VERSION = 1  # of the numbers in a block; raise when they change
ROWS = 16  # of a block: each row is read many times, behind long prompts
ORDERS = ("best-last", "best-first")


@dataclass(frozen=True)
class MultiShot:
    """True utility of several examples together, beside what pairwise utilities make of them.

        U_i(A) = d(i | -) - d(i | A)        PMI_i(A) = l(i | A) - l(i | -)

    with d and l of in-context utility (DELIFT, arXiv 2411.04425) and A the k selected rows of the largest pairwise
    utility for row i, as one prompt.  Facility location takes U_i(A) for max_{j in A} max(U_ij, 0), a modular function
    takes it for the sum.  The control is k random members of the selection.  A row's copies are never shown to it,
    copies among the selected count once, and a missing utility makes no helper.

    All prompts of a row end in the same query and response, cut for the longest of them, so that the examples are the
    only difference.  k examples are shortened alike: each to `example_tokens`, or a half, a quarter, an eighth of it.
    The best example stands next to the query by default, as models lean on what they read last (arXiv 2102.09690).
    2 + 2 K passes a row.
    """

    name: ClassVar[str] = "multishot"

    template: str = field(default="delift", metadata={"help": "prompt template", "choices": ("delift", "chat")})
    shots: tuple[int, ...] = field(default=(2, 4, 8), metadata={"help": "numbers of examples shown together"})
    order: str = field(default="best-last", metadata={"help": "where the best example stands", "choices": ORDERS})
    example_tokens: int = field(
        default=256, metadata={"help": "most tokens of an example's prompt and response together", "min": 8}
    )
    query_tokens: int = field(default=512, metadata={"help": "most tokens of a helped row's prompt", "min": 8})
    rows: int = field(default=200, metadata={"help": "helped rows to measure, drawn by the seed", "min": 1})

    def measure(
        self,
        selected: Rows,
        helped: Rows,
        utility: Utility,
        model: CausalModel,
        *,
        store: BlockStore,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> MultiShotUtility:
        """Show `selected` rows (in pick order) together to at most `rows` of the `helped` ones.

        `utility` is raw, l2 or pmi; its helped and candidate indices are those of `helped` and `selected`, and pairs or
        rows may be missing.  Finished blocks of rows come from `store`, the others go there.  `progress` counts rows
        and may raise Cancelled at any time.  Raises ConfigError when an option, the selection, the template or the
        context do not go with so many examples, DataError when a side is empty or the utilities know too little of it.
        """
        plan = self._plan(selected, helped, utility, seed)
        blocks = list[Arrays]()
        for start in range(0, len(plan.helped), ROWS):
            part = plan.helped.part(start, start + ROWS)
            say = _from(start, len(plan.helped), progress)
            blocks.append(self._job(plan, model, part).arrays(part, store, say))
        arrays = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return result_of(plan, utility.kind, arrays, seed)

    def estimate(self, selected: Rows, helped: Rows, utility: Utility, model: CausalModel, *, seed: int = 0) -> Cost:
        """What `measure` will take on this machine with nothing stored; `pairs` counts passes over a row."""
        plan = self._plan(selected, helped, utility, seed)
        return self._job(plan, model, plan.helped).cost(plan.helped)

    def _plan(self, selected: Rows, helped: Rows, utility: Utility, seed: int) -> SetPlan:
        selected, least = self._distinct(selected, utility.kind), min(self.shots)
        helpers = _helpers(selected, utility)
        place: dict[int, int] = {}
        for at, index in enumerate(checked(helped, self.name).indices):
            place.setdefault(int(index), at)
        known = sorted(place.keys() & set(utility.helped.tolist()))
        if not known:
            raise DataError(
                f"The utilities speak of none of the {len(place)} rows to be helped. Give rows of the dataset that was "
                "scored as helped, or score these."
            )
        best: dict[int, tuple[Indices, Floats]] = {}
        looked = 0
        for index in map(int, np.random.default_rng(seed).permutation(known)):
            looked += 1
            found = helpers(index, helped.keys[place[index]])
            if len(found[0]) >= least:
                best[index] = found
            if len(best) == self.rows:
                break
        if not best:
            raise DataError(f"No row has known utilities of {least} selected rows. Score more pairs a row, or all.")
        most = max(len(order) for order, _ in best.values())
        shots = tuple(k for k in sorted(set(self.shots)) if k <= most)
        notes = []
        if len(known) < len(place):
            notes.append(f"{len(place) - len(known)} of {len(place)} rows have no utilities and were left out.")
        if len(best) < looked:
            notes.append(f"{looked - len(best)} of {looked} rows know fewer than {least} helpers and were left out.")
        if left := [str(k) for k in sorted(set(self.shots)) if k > most]:
            notes.append(
                f"Sets of {' and '.join(left)} were left out: of {len(selected)} different selected rows, no row has "
                f"known utilities of more than {most}."
            )
        rows = [index for index in place if index in best]
        top, given = np.full((len(rows), shots[-1]), -1), np.full((len(rows), shots[-1]), np.nan, np.float32)
        keys, prompts = np.array(selected.keys), dict[int, Prompts]()
        by_content = np.argsort(keys)  # so that a draw depends on neither the pick order nor the other rows
        for at, index in enumerate(rows):
            order, values = (found[: shots[-1]] for found in best[index])
            top[at, : len(order)], given[at, : len(order)] = order, values
            key = helped.keys[place[index]]
            drawn = np.random.default_rng([seed, int(key, 16)]).permutation(by_content)
            prompts[index] = self._prompts(order.tolist(), drawn[keys[drawn] != key].tolist(), shots)
        helped = taken(helped, [place[index] for index in rows])
        return SetPlan(shots, helped, selected, prompts, top, given, tuple(notes))

    def _distinct(self, selected: Rows, kind: Kind) -> Rows:
        """The first of each of the selected rows; ConfigError where an option or their number is wrong."""
        if min(self.shots, default=0) < 2:
            raise ConfigError(f"A set has 2 examples or more; shots is {self.shots}. Set it to (2, 4, 8), say.")
        if self.order not in ORDERS:
            raise unknown("order of examples", self.order, ORDERS)
        if kind in ("cosine", "centred"):
            raise ConfigError("Cosines do not say by how much a row helps. Score the rows with icl, then measure sets.")
        first: dict[str, int] = {}
        for at, key in enumerate(checked(selected, self.name).keys):
            first.setdefault(key, at)
        if len(first) < min(self.shots):
            raise ConfigError(
                f"The selection has {len(first)} different rows, and {min(self.shots)} are to be shown together. "
                "Select more rows, or set shots to smaller numbers (2 or more)."
            )
        return taken(selected, list(first.values()))

    def _prompts(self, best: list[int], drawn: list[int], shots: Sequence[int]) -> Prompts:
        """Columns of one row: nothing, its best helper, each set, each control; none where helpers are too few."""
        sets = {0: [], 1: best[:1]}
        for column, k in enumerate(shots, 2):
            if k <= len(best):
                sets |= {column: best[:k], column + len(shots): drawn[:k]}
        return {column: tuple(at[:: -1 if self.order == "best-last" else 1]) for column, at in sets.items()}

    def _job(self, plan: SetPlan, model: CausalModel, part: Rows) -> RowJob:
        """How rows are laid out, and what the block `part` is known by beside its model and rows."""
        template, most = bind(self.template, model), plan.shots[-1]
        fixed = sum(example.fixed for example in chained(template, [""] * most, [""] * most))
        chosen, keys = plan.selected, plan.selected.keys

        def lay_out(part: Rows) -> _Block:
            try:
                layout = laid_out(
                    part, model, template, self.query_tokens,
                    example_fixed=fixed, example_tokens=most * self.example_tokens,
                )  # fmt: skip
            except ConfigError as error:
                raise ConfigError(f"{error} Or show fewer together: shots is {self.shots}.") from error
            whole, short, places = list[Suffix](), list[int](), list[tuple[int, int]]()
            for row, index in enumerate(part.indices):
                for column, at in plan.prompts[int(index)].items():
                    suffix, cut = (layout.after if at else layout.alone)[row], 0
                    if at:
                        shown = chained(template, [chosen.prompts[j] for j in at], [chosen.responses[j] for j in at])
                        before, cut = _shortened(shown, model.context - len(suffix), self.example_tokens)
                        suffix = Suffix(before + suffix.tokens, suffix.labels)
                    whole.append(suffix)
                    short.append(cut)
                    places.append((row, column))
            contexts: Mapping[str, Parts] = {"all": [((), whole, np.arange(len(whole)))]}
            trimmed = (layout.cut_prompts, layout.cut_responses)
            return _Block(contexts, len(whole), trimmed, places, short, (len(part), 2 + 2 * len(plan.shots)))

        depends = {
            "numbers": VERSION,
            "template": [template.name, *template.literals],
            "limits": [self.example_tokens, self.query_tokens, *plan.shots],
            "shown": [[(c, [keys[j] for j in at]) for c, at in plan.prompts[int(i)].items()] for i in part.indices],
        }
        return RowJob(self.name, model, depends, lay_out)


@dataclass(frozen=True, eq=False)
class _Block(Readings):
    """A few rows behind several prompts each.  No two prompts agree, so examples are packed with the row."""

    places: list[tuple[int, int]]  # row and column of each sequence
    short: list[int]  # examples shortened in each
    shape: tuple[int, int]

    def compute(self, engine: Engine, check: Check) -> Arrays:
        """Distance d, log-likelihood l, shortened examples and tokens, row by prompt, `shape` each."""
        from delift_core.scoring.engine import score

        [(_, whole, everyone)] = self.contexts["all"]
        d, likelihood = score(engine, {(): engine.prepare(whole, everyone)}, len(whole), check)
        arrays: Arrays = {"cut": np.array([self.cut])}
        for name, values in (("d", d), ("l", likelihood), ("short", self.short), ("tokens", [*map(len, whole)])):
            arrays[name] = np.full(self.shape, np.nan, np.float32)
            arrays[name][tuple(np.array(self.places).T)] = values
        return arrays


def _from(start: int, whole: int, progress: Progress) -> Progress:
    """Progress of a block, told as that of all rows."""

    def say(stage: str, done: float, total: float, note: str = "") -> None:
        progress(STAGE, start + done, whole, note)

    return say


def _helpers(selected: Rows, utility: Utility) -> Callable[[int, str], tuple[Indices, Floats]]:
    """A function that gives a row's helpers, best first, by position among the selected, and their utilities."""
    rows = {int(index): at for at, index in enumerate(utility.helped)}
    columns = {int(index): at for at, index in enumerate(utility.candidates)}
    known = np.array([at for at, index in enumerate(selected.indices) if int(index) in columns], np.int64)
    if not len(known):
        raise DataError(
            f"The utilities speak of none of the {len(selected)} selected rows. Give the utilities that the rows were "
            "selected by, or score these rows as candidates."
        )
    at, keys, values = (
        [columns[int(index)] for index in selected.indices[known]],
        np.array(selected.keys),
        utility.values,
    )
    stored = None if isinstance(values, np.ndarray) else values[:, at].tocsr()

    def of(index: int, key: str) -> tuple[Indices, Floats]:
        found = np.full(len(selected), np.nan, np.float32)
        if stored is None:
            found[known] = values[rows[index], at]
        else:
            some = slice(*stored.indptr[rows[index] : rows[index] + 2])
            found[known[stored.indices[some]]] = stored.data[some]
        found[keys == key] = np.nan
        order = np.argsort(-found, kind="stable")[: np.isfinite(found).sum()]  # NaN comes last, ties as picked
        return order, found[order]

    return of


def _shortened(shown: Sequence[Example], room: int, most: int) -> tuple[Tokens, int]:
    """The examples one after the other within `room` tokens, each of at most `most`, and how many are shortened."""
    room -= sum(example.fixed for example in shown)
    ladder = (most >> step for step in range(CLASSES))
    each = next((size for size in ladder if len(shown) * size <= room), room // len(shown))
    short = sum(len(example.prompt) + len(example.response) > each for example in shown)
    return tuple(chain.from_iterable(example.cut(each) for example in shown)), short
