"""SelectIT: the model rates each row, and a rating counts as far as the model is sure of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from delift_core.errors import ConfigError
from delift_core.scoring.layout import Suffix, lay_out
from delift_core.scoring.rows import Rows
from delift_core.scoring.rowwise import QUERY_TOKENS, Arrays, RowJob, checked, cut_notes
from delift_core.scoring.templates import Query, Tokens, beginning
from delift_core.types import BlockStore, Cost, Doubles, Progress, Scores, no_progress

if TYPE_CHECKING:
    from delift_core.models.causal import CausalModel
    from delift_core.scoring.engine import Check, Engine

ASK = (
    "Rate from 1 to 5 how accurately the response follows the instruction. Answer with the number alone.",
    "On a scale of 1 to 5, where 5 is best, score how correct and complete this response to the instruction is. "
    "Give only the score.",
    "Judge the response below: does it do what the instruction asks, without mistakes? Assign a mark between 1 (not at "
    "all) and 5 (fully), and nothing else.",
    "Evaluate the quality of the following answer to the given instruction. State a single number from 1 to 5; a "
    "higher number means a better answer.",
    "How well does the response serve the person who wrote the instruction? Reply with one rating, 1 for very badly up "
    "to 5 for very well.",
)
OPENING, MIDDLE, CLOSING = "\nInstruction:\n", "\nResponse:\n", "\nThe answer is:\n"
DIGITS = ("1", "2", "3", "4", "5")


def rating_tokens(model: CausalModel) -> tuple[Tokens, ...]:
    """Tokens that a rating of 1 to 5 may be, five for each way of writing it: bare, and after a space.

    A way counts when it adds exactly one token to the end of the prompt.  Raises ConfigError when neither does.
    """
    end, missing = model.encode(CLOSING), getattr(model.tokenizer, "unk_token_id", None)
    ways = []
    for space in ("", " "):
        ids = [model.encode(f"{CLOSING}{space}{digit}") for digit in DIGITS]
        last = tuple(each[-1] for each in ids if len(each) == len(end) + 1 and each[:-1] == end)
        if len(set(last)) == len(DIGITS) and missing not in last:
            ways.append(last)
    if not ways:
        raise ConfigError(
            f"{model.identity.name} has no single token for each of the ratings 1 to 5, so SelectIT cannot read them. "
            "Take another model, or the score ifd or loss."
        )
    return tuple(dict.fromkeys(ways))


def sentence_level(ratings: Doubles, alpha: float) -> Doubles:
    """Scores (n,) from the probabilities (n, prompts, digits) of each digit; see SelectIT."""
    best = ratings.max(-1)
    gaps = (best[..., None] - ratings).sum(-1) / (ratings.shape[-1] - 1)
    token_level = (ratings.argmax(-1) + 1) * gaps  # (n, prompts)
    scores: Doubles = token_level.mean(-1) / (1 + alpha * token_level.std(-1))
    return scores


@dataclass(frozen=True)
class SelectIT:
    r"""Token- and sentence-level self-rating.  SelectIT, arXiv 2402.16705.

    The model is asked with K = 5 prompts to rate a row from 1 to 5.  With p_k the probability of digit k as the next
    token (bare and after a space together), normalised over the five digits, and b the likeliest digit,

        token level     S_q = b * 1/4 sum_{k != b} (p_b - p_k)         of prompt q; in [0, 5]
        sentence level  S   = mean_q S_q / (1 + alpha std_q S_q)       std over the five prompts (divisor 5)

    The highest S are the best rows.  (The authors' rating prompts ask now for 1 to 5, now for 0 to 5; these are five of
    our own that all ask for 1 to 5.  The level over several models is left out: score with each and average.)

    A sequence is [beginning] prompt q "\nInstruction:\n" x "\nResponse:\n" y "\nThe answer is:\n", its pieces
    tokenised apart.  5n passes.  `score` and `estimate` are described in `rowwise.RowScore`.
    """

    name: ClassVar[str] = "selectit"
    reads: ClassVar[str] = "model"
    needs_target: ClassVar[bool] = False
    needs_response: ClassVar[bool] = True

    alpha: float = field(
        default=0.2, metadata={"help": "how much disagreement between the rating prompts costs", "min": 0.0}
    )
    query_tokens: int = field(default=QUERY_TOKENS, metadata={"help": "most tokens of a row's prompt", "min": 8})

    def score(
        self,
        rows: Rows,
        model: CausalModel,
        *,
        target: Rows | None = None,
        store: BlockStore,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Scores:
        """S of every row, (n,) in [0, 5]; `target` and `seed` do not count.

        Raises ConfigError for a model whose tokenizer has no token for each digit.
        """
        arrays = self._job(model).arrays(checked(rows, self.name), store, progress)
        values = sentence_level(arrays["ratings"], self.alpha)
        return Scores(values, rows.indices, True, self.name, cut_notes(arrays))

    def estimate(self, rows: Rows, model: CausalModel, *, target: Rows | None = None, seed: int = 0) -> Cost:
        """What `score` will take."""
        return self._job(model).cost(checked(rows, self.name))

    def _job(self, model: CausalModel) -> RowJob:
        ways = rating_tokens(model)
        start = beginning(model.tokenizer)
        prefixes = tuple((*start, *ids) for ids in model.encode_all([ask + OPENING for ask in ASK]))
        middle, closing = (tuple(ids) for ids in model.encode_all([MIDDLE, CLOSING]))

        def laid_out(part: Rows) -> Rated:
            layout = lay_out(
                [Query((), tuple(ids), (), tuple(ids), middle) for ids in model.encode_all(part.prompts)],
                model.encode_all(part.responses),
                eos=model.eos_id,
                context=model.context,
                example_fixed=max(map(len, prefixes)) + len(closing),
                example_tokens=0,
                query_tokens=self.query_tokens,
            )
            rows = tuple(Suffix(row.tokens + closing, ways[0][:1]) for row in layout.alone)
            return Rated(prefixes, rows, ways, (layout.cut_prompts, layout.cut_responses))

        depends = {"literals": [*ASK, OPENING, MIDDLE, CLOSING, *DIGITS], "limits": [self.query_tokens]}
        return RowJob(self.name, model, depends, laid_out)


@dataclass(frozen=True, eq=False)
class Rated:
    """A block of rows to rate, after each of the rating prompts; what stands as a label only marks the place."""

    prefixes: tuple[Tokens, ...]
    rows: tuple[Suffix, ...]
    ways: tuple[Tokens, ...]
    cut: tuple[int, int]

    @property
    def longest(self) -> int:
        """The most tokens of any sequence."""
        return max(map(len, self.prefixes)) + max(map(len, self.rows))

    @property
    def passes(self) -> int:
        """Rows times rating prompts."""
        return len(self.rows) * len(self.prefixes)

    @property
    def labels(self) -> int:
        """The head runs once for every digit, at the end of each row."""
        return self.passes * len(self.ways) * len(DIGITS)

    def tokens(self, shared: bool) -> int:
        """Tokens read."""
        before = sum(map(len, self.prefixes))
        return before * (1 if shared else len(self.rows)) + len(self.prefixes) * sum(map(len, self.rows))

    def compute(self, engine: Engine, check: Check) -> Arrays:
        """`ratings` (B, prompts, digits) float64: the probability of each digit, summing to 1 over the digits."""
        digits = [token for way in self.ways for token in way]
        ratings = np.empty((len(self.rows), len(self.prefixes), len(DIGITS)), np.float64)
        batches = engine.prepare(self.rows, np.arange(len(self.rows), dtype=np.int64))
        for q, prefix in enumerate(self.prefixes):
            seen = engine.read(prefix)
            for batch in batches:
                check()
                log_p = engine.options(seen, batch, digits).double().view(-1, len(self.ways), len(DIGITS)).logsumexp(1)
                ratings[batch.positions, q] = log_p.softmax(-1).cpu().numpy()
        return {"ratings": ratings, "cut": np.array([self.cut], np.int64)}
