"""Row scores without a model: response length, and importance by words against a plain count."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import murmurhash3_32

from delift_core.errors import Cancelled, ConfigError, DataError
from delift_core.models.causal import TextTokenizer
from delift_core.scoring import dsir, longest
from delift_core.scoring.dsir import ImportanceResampling
from delift_core.scoring.longest import Longest
from delift_core.scoring.rows import Rows
from delift_core.scoring.rowwise import taken
from delift_core.types import MemoryStore
from tests.scoring.conftest import byte_tokenizer, some_rows

TOKENIZER = TextTokenizer(byte_tokenizer(bos=True), 0)
POOL, TARGET = some_rows(60, 1, first=30), some_rows(12, 2, longest=20)
PLAIN = ImportanceResampling(gumbel=False)


def words(prompt: str, response: str) -> Counter[int]:
    """Buckets of the words and pairs of words of a row."""
    found = re.findall(r"\w+|[^\w\s]", f"{prompt}\n{response}".lower())
    grams = [*found, *(f"{a} {b}" for a, b in pairwise(found))]
    return Counter(abs(murmurhash3_32(gram.encode(), seed=0)) % 10_000 for gram in grams)


def plain(rows: Rows, target: Rows, smoothing: float) -> list[float]:
    """The formula, row by row."""
    counted = [words(x, y) for x, y in zip(rows.prompts, rows.responses, strict=True)]
    wanted = sum((words(x, y) for x, y in zip(target.prompts, target.responses, strict=True)), Counter())
    pool = sum(counted, Counter())
    mixed = {
        b: (1 - smoothing) * wanted[b] / wanted.total() + smoothing * pool[b] / pool.total() for b in pool
    }  # fmt: skip
    return [
        sum(c * math.log(mixed[b] / (pool[b] / pool.total())) for b, c in row.items()) if row else math.nan
        for row in counted
    ]


# ------------------------------------------------------------------------------------------------------------- longest


def test_the_longest_are_those_of_most_response_tokens() -> None:
    found = Longest().score(POOL, TOKENIZER, store=MemoryStore())
    assert found.values.tolist() == [len(y.encode()) for y in POOL.responses], "bytes are tokens; no end is added"
    assert found.higher_is_better
    assert found.candidates.tolist() == POOL.indices.tolist()
    assert found.values.dtype == np.float64


def test_parts_change_nothing_and_a_run_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Longest().score(POOL, TOKENIZER, store=MemoryStore())
    monkeypatch.setattr(longest, "ROWS", 7)
    assert Longest().score(POOL, TOKENIZER, store=MemoryStore()).values.tolist() == whole.values.tolist()

    def stop(stage: str, done: float, total: float, note: str = "") -> None:
        if done >= 14:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        Longest().score(POOL, TOKENIZER, store=MemoryStore(), progress=stop)


def test_a_row_without_a_response_is_named() -> None:
    with pytest.raises(DataError, match="row 8 has none"):
        Longest().score(Rows(["a"], [""], np.array([8])), TOKENIZER, store=MemoryStore())


# ---------------------------------------------------------------------------------------------------------------- dsir


@pytest.mark.parametrize("smoothing", [0.01, 0.1, 1.0])
def test_the_weight_is_the_log_ratio_summed_over_words_and_pairs(smoothing: float) -> None:
    found = ImportanceResampling(gumbel=False, smoothing=smoothing).score(POOL, target=TARGET, store=MemoryStore())
    assert found.values == pytest.approx(plain(POOL, TARGET, smoothing), rel=1e-9, abs=1e-9)
    assert found.higher_is_better
    assert smoothing < 1 or found.values == pytest.approx(0, abs=1e-9), "with the pool's words alone nothing is told"


def test_top_k_with_noise_draws_rows_in_proportion_to_their_weights() -> None:
    rows, target = Rows(["cat", "dog", "cow"], ["", "", ""], np.arange(3)), Rows(["cat dog cat"], ["?"], np.arange(1))
    weights = np.exp(PLAIN.score(rows, target=target, store=MemoryStore()).values)
    draws = [
        int(ImportanceResampling().score(rows, target=target, store=MemoryStore(), seed=seed).values.argmax())
        for seed in range(1500)
    ]
    assert np.bincount(draws, minlength=3) / 1500 == pytest.approx(weights / weights.sum(), abs=0.04)


def test_noise_belongs_to_seed_and_row_whatever_order_the_rows_come_in() -> None:
    score = ImportanceResampling()
    first = score.score(POOL, target=TARGET, store=MemoryStore(), seed=4).values
    p = np.random.default_rng(0).permutation(len(POOL))
    moved = score.score(taken(POOL, p), target=TARGET, store=MemoryStore(), seed=4)
    assert moved.values == pytest.approx(first[p])
    assert moved.candidates.tolist() == POOL.indices[p].tolist()
    assert not np.allclose(score.score(POOL, target=TARGET, store=MemoryStore(), seed=5).values, first)


def test_counts_are_kept_in_blocks_and_their_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PLAIN.score(POOL, target=TARGET, store=MemoryStore()).values
    monkeypatch.setattr(dsir, "ROWS", 17)
    store = MemoryStore()
    assert PLAIN.score(POOL, target=TARGET, store=store).values == pytest.approx(whole)
    assert len(store.blocks) == 5
    monkeypatch.setattr(dsir, "_count", lambda *_: pytest.fail("counted again"))
    assert PLAIN.score(POOL, target=TARGET, store=store).values == pytest.approx(whole)


def test_rows_without_a_word_are_refused_and_prompts_alone_are_compared_where_one_side_has_no_more() -> None:
    rows = Rows(["Red apple", " \n", "Green pear"], ["tasty", "", "sour"], np.array([3, 4, 9]))
    target = Rows(["red apple"], [""], np.arange(1))
    found = PLAIN.score(rows, target=target, store=MemoryStore())
    assert np.isnan(found.values).tolist() == [False, True, False]
    assert found.values[0] > found.values[2]
    assert found.notes == (
        "One side has no responses, so prompts alone were compared.",
        "1 rows are out: they hold no word.",
    )
    alone = PLAIN.score(Rows(rows.prompts, ["", "", ""], rows.indices), target=target, store=MemoryStore())
    assert alone.values == pytest.approx(found.values, nan_ok=True)


def test_a_target_is_wanted() -> None:
    with pytest.raises(ConfigError, match="Give a target"):
        PLAIN.score(POOL, store=MemoryStore())
    with pytest.raises(ConfigError, match="Give a target"):
        PLAIN.estimate(POOL, target=taken(TARGET, []))
    with pytest.raises(DataError, match="wants rows"):
        PLAIN.score(taken(POOL, []), target=TARGET, store=MemoryStore())


def test_on_real_rows_the_target_task_comes_first(shared: Path) -> None:
    texts: dict[str, list[tuple[str, str]]] = {}
    with (shared / "data" / "natural_instructions.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts.setdefault(row["Task"], []).append((f"{row['Definition'][0]}\n{row['input']}", str(row["output"])))
    chosen = [name for name in sorted(texts) if len(texts[name]) >= 60][:10]
    rows = [(*pair, task) for task, name in enumerate(chosen) for pair in texts[name][:60]]
    of = lambda part: Rows([r[0] for r in part], [r[1] for r in part], np.arange(len(part)))  # noqa: E731
    pool, target = rows[:-12], rows[-12:]
    found = PLAIN.score(of(pool), target=of(target), store=MemoryStore())
    best = np.argsort(-found.values)[:48]
    assert np.mean([pool[i][2] == 9 for i in best]) >= 0.8


# ---------------------------------------------------------------------------------------------------------------- both


def test_the_estimate_counts_no_passes_and_loads_no_tensor_library() -> None:
    for cost in (Longest().estimate(POOL, TOKENIZER), PLAIN.estimate(POOL, target=TARGET)):
        assert (cost.pairs, cost.tokens, cost.flops) == (0, 0, 0)
        assert 0 < cost.seconds < 10
    assert PLAIN.estimate(POOL, target=TARGET).bytes > 0
    code = (
        "import sys\nimport numpy as np\nfrom delift_core.scoring.dsir import ImportanceResampling\n"
        "from delift_core.scoring.longest import Longest\nfrom delift_core.scoring.rows import Rows\n"
        "before = [m for m in ('torch', 'sklearn', 'scipy') if m in sys.modules]\n"
        "from delift_core.types import MemoryStore\nrows = Rows(['a b'], ['c'], np.arange(1))\n"
        "ImportanceResampling().score(rows, target=rows, store=MemoryStore())\n"
        "print(before, 'torch' in sys.modules, Longest.reads, ImportanceResampling.reads)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[] False tokenizer texts"
