"""Leaks between datasets: each level on planted rows, its edges, parts, and the known overlaps of real files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from delift_core.data import leaks, load
from delift_core.data.leaks import Leak, Leaks, find, find_close
from delift_core.data.words import is_unspaced, normalised
from delift_core.errors import Cancelled, ConfigError
from delift_core.types import Dataset

LONG = "a train leaves the old town at noon and reaches the far coast before the evening lamps are lit again"
THAI = "รถไฟออกจากเมืองเก่าตอนเที่ยงวันและถึงชายฝั่งก่อนที่โคมไฟยามเย็นจะสว่างขึ้นอีกครั้งหนึ่งในคืนนั้น"


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Dataset]:
    """made((prompt, response), ...) -> a dataset of these rows."""
    number = itertools.count()

    def make(*pairs: tuple[str, str | None]) -> Dataset:
        path = tmp_path / f"rows{next(number)}.jsonl"
        path.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in pairs))
        return load(path, tmp_path / "d", need_response=False).dataset

    return make


def levels(found: Leaks) -> dict[int, tuple[str, int]]:
    return {leak.row: (leak.level, leak.other) for leak in found}


def test_each_level_finds_its_planted_row_and_the_strictest_is_named(made: Callable[..., Dataset]) -> None:
    other = made(("Something else.", "x"), ("What is  2+2?", "Four."), (LONG, "yes"))
    pool = made(
        ("nothing in common here", "no"),
        ("What is  2+2?", "Four."),
        ("what is 2+2", "four"),
        ("WHAT IS “2+2”", "5"),
        (f"Consider this. {LONG.upper()}! Explain.", "ok"),
        ("unlike", f"I think that {LONG}."),
    )
    found = find(pool, other)
    assert found.items[:3] == (
        Leak(1, "exact", 1, "prompt and response"),
        Leak(2, "normalised", 1, "prompt and response"),
        Leak(3, "normalised", 1, "prompt"),
    )
    assert levels(found) == {
        1: ("exact", 1), 2: ("normalised", 1), 3: ("normalised", 1), 4: ("words", 2), 5: ("words", 2),
    }  # fmt: skip
    assert found.items[3].shared == LONG and found.rows.tolist() == [1, 2, 3, 4, 5]
    assert found.counts == {"exact": 1, "normalised": 2, "words": 2}
    assert find(pool, other, ["exact"]).rows.tolist() == [1]
    assert find(pool, other, ["words"]).rows.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Straße", "STRASSE", True),
        ("ﬁne — really", "fine really", True),
        ("ｗｉｄｅ", "wide", True),
        ("soft\u00adhyphen", "softhyphen", True),
        ("it's", "it’s", True),
        ("3 + 4", "3+4", True),
        ("3*4", "3 × 4", True),
        ("3-4", "3*4", False),
        ("3+4", "3-4", False),
        ("1.5", "15", False),
        ("a b", "ab", False),
        ("café", "cafe", False),
    ],
)
def test_small_edits_do_not_matter_and_meaning_does(one: str, two: str, same: bool) -> None:
    assert (normalised(one) == normalised(two)) is same


def test_a_run_has_to_be_as_long_as_asked(made: Callable[..., Dataset]) -> None:
    words = LONG.split()
    for count in (12, 13):
        pool = made(("before " + " ".join(words[2 : 2 + count]) + " after", "no"))
        assert len(find(pool, made((LONG, "yes")))) == (count == 13)
        assert len(find(pool, made((LONG, "yes")), words=12)) == 1


def test_a_run_across_prompt_and_response_or_two_rows_is_none(made: Callable[..., Dataset]) -> None:
    words = LONG.split()
    half = " ".join(words[:10]), " ".join(words[10:])
    assert not len(find(made(half, (half[0], "x"), (half[1], "y")), made((LONG, "yes"))))


def test_short_prompts_of_the_other_file_count_whole_and_short_answers_do_not(made: Callable[..., Dataset]) -> None:
    short, tiny = "how many eggs does the brown hen lay daily", "how many eggs does the hen lay"
    assert len(short.split()) == 9 and len(tiny.split()) == 7
    assert levels(find(made((f"tell me {short} please", "2")), made((short, "2")))) == {0: ("words", 0)}
    assert not len(find(made((short, "2")), made((f"tell me {short} please", "2")))), "only whole texts of the other"
    assert not len(find(made((f"tell me {tiny} please", "2")), made((tiny, "2"))))
    assert not len(find(made(("what", f"well {short} then")), made(("why", short))))


def test_symbols_make_no_run(made: Callable[..., Dataset]) -> None:
    pool = made(("Ann has some", "She sold 48/2=<<48/2=24>>24 in May."))
    assert not len(find(pool, made(("Bob has others", "He ate 48/2=<<48/2=24>>24 in June."))))


def test_scripts_without_spaces_are_compared_by_characters(made: Callable[..., Dataset]) -> None:
    assert is_unspaced(THAI) and not is_unspaced(LONG) and not is_unspaced("Привет, как дела")
    other = made((THAI, "ใช่"))
    assert levels(find(made((f"โปรดอ่าน {THAI[10:70]} แล้วตอบ", "ไม่")), other)) == {0: ("words", 0)}
    assert not len(find(made((f"โปรดอ่าน {THAI[10:40]} แล้วตอบ", "ไม่")), other)), "13 characters are no 13 words"


def test_of_two_scripts_in_one_row_the_first_row_of_the_other_file_is_named(made: Callable[..., Dataset]) -> None:
    other = made(("first", THAI), ("second", LONG))
    assert levels(find(made((f"so {LONG}", f"โปรดอ่าน {THAI}")), other)) == {0: ("words", 0)}
    assert levels(find(made((f"โปรดอ่าน {THAI}", f"so {LONG}")), made(("a", LONG), ("b", THAI)))) == {0: ("words", 0)}


def test_rows_that_hold_only_punctuation_match_only_when_exact(made: Callable[..., Dataset]) -> None:
    found = find(made(("???", "+"), ("!!!", "+"), ("...", "a")), made(("???", "+"), (";;", "b")))
    assert levels(found) == {0: ("exact", 0), 1: ("normalised", 0)}, "the second agrees in its response, +"


@pytest.mark.parametrize("how", [["exact"], ["normalised"], ["words"], leaks.LEVELS])
def test_parts_and_batches_change_nothing(
    made: Callable[..., Dataset], how: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(8)]

    def text(words: int) -> str:
        return " ".join(rng.choice(vocabulary, words))

    other = [(text(int(rng.integers(1, 12))), text(int(rng.integers(1, 12)))) for _ in range(60)]
    pool = [(text(int(rng.integers(1, 12))), text(int(rng.integers(1, 12)))) for _ in range(60)] + other[40:]
    one, two = made(*pool), made(*other)
    whole = find(one, two, how, words=4)
    assert len(whole)
    monkeypatch.setattr(leaks, "BATCH", 7)
    monkeypatch.setattr(leaks, "PART", 50)
    assert find(one, two, how, words=4).items == whole.items


def test_runs_are_those_of_a_plain_search(made: Callable[..., Dataset]) -> None:
    rng = np.random.default_rng(1)

    def rows(count: int) -> list[tuple[str, str]]:
        draw = [" ".join(f"w{i}" for i in rng.integers(0, 5, rng.integers(4, 12))) for _ in range(2 * count)]
        return list(zip(draw[::2], draw[1::2], strict=True))

    mine, theirs = rows(80), rows(6)

    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    def short(text: str) -> str:
        return f" {text} " if len(text.split()) == 4 else "\n"

    expected = [
        row
        for row, pair in enumerate(mine)
        if any(runs(a) & runs(b) for a in pair for other in theirs for b in other)
        or any(short(prompt) in f" {a} " for a in pair for prompt, _ in theirs)
    ]
    assert 0 < len(expected) < 80
    assert find(made(*mine), made(*theirs), ["words"], words=5).rows.tolist() == expected


def test_equal_hashes_of_different_words_are_no_leak(
    made: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    from delift_core.data import words

    monkeypatch.setattr(words, "hash", lambda word: len(word), raising=False)
    changed = LONG.replace("train", "bulls")
    assert not len(find(made((changed.split(" at ")[0] * 3, "x")), made((LONG.split(" at ")[0] * 3, "y")), words=6))
    assert len(find(made((f"so {LONG}", "x")), made((changed, "z"), (LONG, "y")))) == 1


@pytest.mark.parametrize(
    ("how", "words", "message"),
    [(["exakt"], 13, "Did you mean 'exact'"), ([], 13, "at least one level"), (["words"], 0, "at least 1 word")],
)
def test_wrong_settings_say_what_to_do(made: Callable[..., Dataset], how: list[str], words: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find(made(("a", "b")), made(("a", "b")), how, words=words)


def test_a_template_that_many_rows_share_stands_out(made: Callable[..., Dataset]) -> None:
    template = "below is an instruction that describes a task write a response that completes the request"
    pool = made(*((f"{template} {i}", "x") for i in range(5)), (f"so {LONG}", "x"))
    found = find(pool, made((f"{template} now", "y"), (LONG, "z")))
    assert len(found) == 6 and found.frequent(1) == [(" ".join(template.split()[:13]), 5)]


def test_the_json_form_counts_what_it_does_not_list(made: Callable[..., Dataset]) -> None:
    rows = [(f"question number {i}", "a") for i in range(9)]
    found = json.loads(json.dumps(find(made(*rows), made(*rows)).to_json(shown=4)))
    assert (found["leaks"], len(found["rows"]), found["more"], found["counts"]) == (9, 4, 5, {"exact": 9})
    assert found["rows"][3] == {"row": 3, "level": "exact", "other": 3, "shared": "prompt and response"}


def test_progress_rises_and_a_cancelled_search_stops(
    made: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "BATCH", 2)
    monkeypatch.setattr(leaks, "PART", 30)
    rows = made(*((f"question number {i}", "a") for i in range(9)))
    seen: list[float] = []

    def watch(stage: str, done: float, total: float, note: str = "") -> None:
        seen.append(done / total)
        if len(seen) > 500:
            raise Cancelled("stop")

    find(rows, rows, progress=watch)
    assert seen == sorted(seen) and seen[-1] == 1

    def cancel(stage: str, done: float, total: float, note: str = "") -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        find(rows, rows, progress=cancel)


# --- vectors -------------------------------------------------------------------------------------------------------


def test_close_vectors_are_found_in_blocks_with_the_nearest_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def unit(n: int) -> np.ndarray:
        x = rng.standard_normal((n, 16)).astype(np.float32)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    pool, other = unit(300), unit(40)
    pool[7], pool[250] = other[13], other[39]
    cosine = pool @ other.T
    expected = np.flatnonzero(cosine.max(axis=1) >= 0.6)
    assert 2 < len(expected) < 300
    for block, wide in ((1 << 24, 8_192), (200, 9)):
        monkeypatch.setattr(leaks, "BLOCK", block)
        monkeypatch.setattr(leaks, "WIDE", wide)
        found = find_close(pool, other, 0.6)
        assert found.rows.tolist() == expected.tolist()
        assert [leak.other for leak in found] == cosine[expected].argmax(axis=1).tolist()
    assert find_close(pool, other, 1.0).rows.tolist() == [7, 250]
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="threshold"):
            find_close(pool, other, wrong)


def test_findings_are_joined_by_the_stricter_level() -> None:
    texts = Leaks((Leak(2, "words", 0, "a run"), Leak(5, "exact", 1, "prompt and response")), 9, 3)
    vectors = Leaks(tuple(Leak(row, "vectors", 2, "cosine 0.99") for row in (1, 2, 5)), 9, 3)
    for both in (texts.joined(vectors), vectors.joined(texts)):
        assert levels(both) == {1: ("vectors", 2), 2: ("words", 0), 5: ("exact", 1)}


# --- real files ----------------------------------------------------------------------------------------------------


def test_real_files_leak_where_they_are_known_to_and_nowhere_else(shared: Path, tmp_path: Path) -> None:
    """The English part of MGSM is the first 250 questions of the GSM8K test file; SVAMP shares none of them."""

    def real(name: str) -> Dataset:
        return load(shared / "data" / f"{name}.jsonl", tmp_path, need_response=False).dataset

    test, train, mgsm = real("gsm8k_test"), real("gsm8k_train"), real("mgsm")
    copied = find(mgsm, test)
    assert copied.counts == {"normalised": 250}
    assert [leak.other for leak in copied] == list(range(250))
    language = mgsm.group("lang")
    assert {language[leak.row] for leak in copied} == {"en"}
    assert not len(find(real("svamp"), test))
    # The two splits share no question, but some passages: the same story with other numbers.
    split = find(train, test)
    assert set(split.counts) == {"words"} and 5 <= len(split) <= 50
    story = next(leak for leak in split if leak.row == 20)
    assert story.other == 632 and story.shared.startswith("bought stamps at the post office")
    assert story.shared in normalised(train.prompts[20]) and story.shared in normalised(test.prompts[632])
