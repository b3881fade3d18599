"""Training documents for the built-in language model: an example, then queries that may profit from it.

A model that has only seen ordinary text ignores its in-context example, and then every utility is noise.  So each
document is one example followed by several queries that share it (as the scoring engine does), and what helps varies:
the same row, a row of the same task, a row of another task, or no example.  Half of the documents restyle the whole
task (a wrapper around each response, a dropped task definition, numbers in marks): then the way to answer can be
learnt from the example and from nowhere else.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, EOS, RESERVED = 0, 1, 2
UNSEEN_SOURCES = ("gsm8k_train", "llm_adapters", "flan_cot_creak", "flan_cot_qasc")
MAX_CHARACTERS = 1600


@dataclass(frozen=True)
class Row:
    """One training row; `group` is its task, or a cluster of near-identical instructions."""

    prompt: str
    response: str
    source: str
    group: int = -1


@dataclass(frozen=True)
class Mix:
    """Shares of document kinds.  What an example is drawn from, and how often the task is restyled."""

    drill: float = 0.06
    no_example: float = 0.18
    same_row: float = 0.12
    same_group: float = 0.52
    restyle: float = 0.5
    queries: int = 4
    prompt_weight: float = 0.15
    head_tokens: int = 140
    body_tokens: int = 100
    query_tokens: int = 140
    response_tokens: int = 120


@dataclass
class Packed:
    """Token sequences of one batch: ids, next-token weights, positions, document and segment of each token."""

    ids: Tensor  # (B, T + 1) int64
    weights: Tensor  # (B, T) float32, weight of predicting ids[:, 1:]
    positions: Tensor  # (B, T) int64
    mask: Tensor  # (B, 1, T, T) bool, True where attention is allowed


def read_rows(corpus: Path, held_out: Path) -> list[Row]:
    """Rows of the corpus without the evaluation sources and without the held-out tasks, grouped by task."""
    banned = tuple(json.loads(held_out.read_text(encoding="utf-8")).values())
    rows: list[Row] = []
    with corpus.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            prompt = record["prompt"].strip()
            response = record["response"].removesuffix("<|endoftext|>").strip()
            if record["source"] in UNSEEN_SOURCES or prompt.startswith(banned):
                continue
            if prompt and response and len(prompt) <= MAX_CHARACTERS and len(response) <= MAX_CHARACTERS:
                rows.append(Row(prompt, response, record["source"]))
    return _grouped(rows)


def _grouped(rows: list[Row]) -> list[Row]:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    names: dict[str, int] = {}
    labels = [-1] * len(rows)
    others = [i for i, row in enumerate(rows) if row.source != "natural_instructions"]
    for i, row in enumerate(rows):
        if row.source == "natural_instructions":
            labels[i] = names.setdefault(row.prompt.split("\n\n")[0], len(names))
    features = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), max_features=30_000, sublinear_tf=True), TruncatedSVD(64, random_state=0)
    ).fit_transform([rows[i].prompt[:500] + "\n" + rows[i].response[:120] for i in others])
    features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-9
    clusters = MiniBatchKMeans(max(2, len(others) // 40), random_state=0, n_init=1, batch_size=4096).fit_predict(
        features
    )
    for i, cluster in zip(others, clusters, strict=True):
        labels[i] = len(names) + int(cluster)
    return [Row(r.prompt, r.response, r.source, g) for r, g in zip(rows, labels, strict=True)]


@dataclass
class Style:
    """A way to restyle every row of one document alike, so that only the example tells how to answer."""

    prefix: str = ""
    suffix: str = ""
    drop_definition: bool = False
    upper: bool = False
    marks: tuple[str, str] | None = None

    @classmethod
    def random(cls, rng: random.Random, words: list[str]) -> Style:
        """A plain style, or one with a random wrapper of real words and punctuation."""
        style = cls(drop_definition=rng.random() < 0.4)

        def some(most: int) -> str:
            return " ".join(rng.choice(words) for _ in range(rng.randint(1, most)))

        if rng.random() < 0.75:
            style.prefix = rng.choice(
                [
                    f"{some(5)} ",
                    f"{some(3)}: ",
                    f"{some(2).upper()}\n",
                    f"# {some(1)}\n",
                    '"',
                    "- ",
                    "(",
                    f"The {some(3)} is ",
                    "",
                ]
            )
            style.suffix = rng.choice(
                ["", "", ".", "!", f" {some(3)}", f"\n{some(3)}", '"', ")", f"\n#### {some(1)}", f" [{some(1)}]"]
            )
        style.upper = rng.random() < 0.08
        if rng.random() < 0.15:
            style.marks = rng.choice(
                [("<<", ">>"), ("[", "]"), ("$", ""), ("{", "}"), ("*", "*"), ("", ".0"), ("", "%")]
            )
        return style

    def apply(self, row: Row) -> tuple[str, str]:
        """Prompt and response of the row in this style."""
        prompt, response = row.prompt, row.response
        if self.drop_definition and row.source == "natural_instructions" and "\n\n" in prompt:
            prompt = prompt.split("\n\n", 1)[1]
        if self.marks is not None:
            response = " ".join(
                f"{self.marks[0]}{word}{self.marks[1]}" if word.isdigit() else word for word in response.split(" ")
            )
        if self.upper:
            response = response.upper()
        return prompt, f"{self.prefix}{response}{self.suffix}"


@dataclass
class Documents:
    """An endless seeded source of packed training batches."""

    rows: list[Row]
    tokenizer: Tokenizer
    mix: Mix
    rng: random.Random
    groups: list[list[int]] = field(init=False)
    words: list[str] = field(init=False)

    def __post_init__(self) -> None:
        members: dict[int, list[int]] = {}
        for i, row in enumerate(self.rows):
            members.setdefault(row.group, []).append(i)
        self.groups = [group for group in members.values() if len(group) > 1]
        self._members = members
        # A task of 400 rows should come oftener than one of 4, but not a hundred times oftener.
        self._group_weights = np.cumsum([len(g) ** 0.6 for g in self.groups]).tolist()
        self.words = [w for row in self.rows[:: max(1, len(self.rows) // 4000)] for w in row.response.split()[:8]]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def _example(self, prompt: str, response: str) -> list[int]:
        head, body = self._encode(f"Example:\n{prompt}\n"), self._encode(f"{response}\n\n")
        return head[: self.mix.head_tokens] + body[: self.mix.body_tokens]

    def _query(self, prompt: str, response: str) -> tuple[list[int], list[int]]:
        return (
            self._encode(f"Query:\n{prompt}\n")[-self.mix.query_tokens :],
            [*self._encode(response)[: self.mix.response_tokens], EOS],
        )

    def _drill(self) -> list[tuple[list[int], list[float]]]:
        rng, vocabulary = self.rng, self.tokenizer.get_vocab_size()
        piece = [rng.randrange(RESERVED, vocabulary) for _ in range(rng.randint(8, 48))]
        between = [rng.randrange(RESERVED, vocabulary) for _ in range(rng.randint(0, 24))]
        return [(piece + between + piece, [0.0] * (len(piece) + len(between) + 1) + [1.0] * (len(piece) - 1))]

    def document(self) -> list[tuple[list[int], list[float]]]:
        """Segments (ids, weight of predicting each id).  Segment 0 is the prefix that all later ones see."""
        rng, mix = self.rng, self.mix
        if rng.random() < mix.drill:
            return self._drill()
        if rng.random() < 0.8:
            group = rng.choices(self.groups, cum_weights=self._group_weights)[0]
        else:
            group = self._members[self.rows[rng.randrange(len(self.rows))].group]
        style = Style.random(rng, self.words) if rng.random() < mix.restyle else Style()
        queries = rng.sample(group, min(len(group), mix.queries))
        draw = rng.random()
        segments: list[tuple[list[int], list[float]]] = [([], [])]
        if draw >= mix.no_example:
            draw -= mix.no_example
            if draw < mix.same_row:
                example = queries[0]
            elif draw < mix.same_row + mix.same_group:
                example = rng.choice(group)
                if rng.random() < 0.5:  # an unrelated query under this example: it must learn not to be led astray
                    queries[-1] = rng.randrange(len(self.rows))
            else:
                example = rng.randrange(len(self.rows))
            prefix = self._example(*style.apply(self.rows[example]))
            segments[0] = (prefix, [mix.prompt_weight] * len(prefix))
        for q in queries:
            row = self.rows[q]
            prompt, response = self._query(*(style if row.group == self.rows[group[0]].group else Style()).apply(row))
            # Utility is a mean per row, so a short response must not drown among long ones.
            weight = 3.0 / len(response) ** 0.5
            segments.append((prompt + response, [mix.prompt_weight] * len(prompt) + [weight] * len(response)))
        return segments

    def batch(self, rows: int, length: int) -> Packed:
        """Pack documents into `rows` sequences of `length` tokens; one that does not fit is cut."""
        ids = np.full((rows, length + 1), PAD, np.int64)
        weights = np.zeros((rows, length + 1), np.float32)
        positions = np.zeros((rows, length + 1), np.int64)
        document = np.full((rows, length + 1), -1, np.int64)
        segment = np.zeros((rows, length + 1), np.int64)
        for b in range(rows):
            end, number = 0, 0
            while end < length:
                prefix_length = 0
                for s, (tokens, w) in enumerate(self.document()):
                    take = min(len(tokens), length + 1 - end)
                    if take <= 0:
                        continue
                    part = slice(end, end + take)
                    ids[b, part], weights[b, part] = tokens[:take], w[:take]
                    weights[b, end] = 0.0  # its predecessor is another segment
                    positions[b, part] = prefix_length + np.arange(take)
                    document[b, part], segment[b, part] = number, s
                    if s == 0:
                        prefix_length = len(tokens)
                    end += take
                number += 1
        doc, seg = torch.from_numpy(document[:, :-1]), torch.from_numpy(segment[:, :-1])
        seen = (doc[:, :, None] == doc[:, None, :]) & ((seg[:, None, :] == 0) | (seg[:, :, None] == seg[:, None, :]))
        seen &= torch.ones(length, length, dtype=torch.bool).tril()
        return Packed(
            torch.from_numpy(ids),
            torch.from_numpy(weights[:, 1:].copy()),
            torch.from_numpy(positions[:, :-1].copy()),
            seen[:, None],
        )
