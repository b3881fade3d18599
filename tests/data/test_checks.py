"""The profile of a dataset: lengths, languages, copies, personal data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from delift_core.data import load
from delift_core.data.checks import foreign, luhn, personal_data, profile, shared_rows
from delift_core.types import Dataset

ENGLISH = "The quick brown fox jumps over the lazy dog because it was told to do so."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund, weil man es ihm gesagt hat."


def dataset(tmp_path: Path, pairs: list[tuple[str, str | None]]) -> Dataset:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in pairs))
    return load(path, tmp_path / "d", need_response=False).dataset


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "write to jane.doe+x@example.co.uk now"),
        ("phone", "call +49 170 1234567 today"),
        ("phone", "call (555) 123-4567"),
        ("ip address", "host 192.168.10.254 answered"),
        ("ip address", "The host is 192.168.10.254."),
        ("credit card", "card 4111 1111 1111 1111."),
        ("iban", "IBAN DE89 3704 0044 0532 0130 00 please"),
        ("social security number", "ssn 078-05-1120"),
        ("secret key", "key AKIAIOSFODNN7EXAMPLE"),
    ],
)
def test_personal_data_is_found(kind: str, text: str) -> None:
    assert kind in personal_data(text)


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3",
        "version 1.2.3.4.5",
        "300.1.1.1",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "in 1999-2005",
        "a@b",
        "3.14159265358979",
    ],
)
def test_look_alikes_are_not(text: str) -> None:
    assert personal_data(text) == {}


def test_luhn_catches_every_single_wrong_digit() -> None:
    number = "4539148803436467"
    assert luhn(number)
    for place in range(len(number)):
        wrong = str((int(number[place]) + 1) % 10)
        assert not luhn(number[:place] + wrong + number[place + 1 :])


def test_a_profile_counts_all_rows_and_hides_what_it_found(tmp_path: Path) -> None:
    rows = [(ENGLISH, "yes"), (ENGLISH, "yes"), (GERMAN, "ja"), ("mail me: someone@example.com", "ok")]
    seen = profile(dataset(tmp_path, rows))
    assert (seen.rows, seen.sampled, seen.duplicates) == (4, 4, 1)
    assert seen.languages["en"] >= 2 and seen.languages["de"] == 1
    assert seen.personal == {"email": 1}
    assert seen.examples[0].row == 3 and "someone@example" not in seen.examples[0].text
    assert seen.response_chars is not None and sum(seen.response_chars.counts) == sum(seen.prompt_chars.counts) == 4
    assert seen.prompt_chars.largest == len(GERMAN)
    json.dumps(seen.to_json())


def test_a_profile_of_one_unlabelled_row_has_no_response_lengths(tmp_path: Path) -> None:
    seen = profile(dataset(tmp_path, [("hello", None)]), sample=1)
    assert seen.response_chars is None and sum(seen.prompt_chars.counts) == 1 and seen.languages == {"short": 1}


def test_shared_rows_need_prompt_and_response_to_agree(tmp_path: Path) -> None:
    one = dataset(tmp_path, [("a", "b"), ("c", "d"), ("a", "b")])
    other = dataset(tmp_path, [("a", "b"), ("c", "x")])
    assert shared_rows(one, other).tolist() == [0, 2]


CODE = "def add(a, b):\n    total = [x + y for x, y in zip(a, b)]\n    return sum(total) * len(a) // 2\n"
MATHS = (
    r"$$\\sum_{k=1}^n k^2 = \\frac{n(n+1)(2n+1)}{6}, \\quad \\int_0^1 x^2\\,dx = \\tfrac13, \\alpha\\beta > \\gamma$$"
)


@pytest.mark.parametrize(("text", "share"), [(ENGLISH, 0.0), (GERMAN, 1.0), (CODE, 0.0), (MATHS, 0.0), ("1 + 1", 0.0)])
def test_rows_in_another_language_are_told_from_english_code_and_maths(tmp_path: Path, text: str, share: float) -> None:
    found = foreign(dataset(tmp_path, [(f"{i}", text) for i in range(8)]))
    assert (found.share, found.language) == (share, "de" if share else "")


@pytest.mark.parametrize(
    ("name", "share"), [("dolly_15k_fi", 0.9), ("dolly_15k_en", 0.0), ("humaneval", 0.0), ("gsm8k_test", 0.0)]
)
def test_finnish_is_found_in_real_rows_and_code_and_maths_are_not(
    tmp_path: Path, shared: Path, name: str, share: float
) -> None:
    lines = (shared / "data" / f"{name}.jsonl").read_text().splitlines(keepends=True)[:150]
    (tmp_path / "few.jsonl").write_text("".join(lines))
    found = foreign(load(tmp_path / "few.jsonl", tmp_path / "d", need_response=False).dataset)
    assert found.share >= share if share else found.share == 0
