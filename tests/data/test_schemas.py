"""Layouts: each is found from one plain record, and a mapping by hand overrides it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from delift_core.data import FieldMap, load
from delift_core.data.examples import extractor, passages
from delift_core.data.schemas import detect
from delift_core.data.turns import apart
from delift_core.errors import DataError

USER, BOT = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("alpaca", {"instruction": "Q", "input": "", "output": "A"}, "Q", "A"),
    ("alpaca", {"instruction": "Q", "input": "I", "response": "A"}, "Q\n\nI", "A"),
    ("alpaca", {"instruction": "Q", "output": "A", "answer": "no"}, "Q", "A"),
    ("dolly", {"instruction": "Q", "context": "C", "response": "A", "category": "x"}, "Q\n\nC", "A"),
    ("prompt-completion", {"prompt": "Q", "completion": "A"}, "Q", "A"),
    ("prompt-response", {"prompt": "Q", "response": "A"}, "Q", "A"),
    ("prompt-response", {"task_id": "t", "prompt": "Q", "canonical_solution": "A", "test": "x"}, "Q", "A"),
    ("question-answer", {"question": "Q", "answer": "A"}, "Q", "A"),
    ("question-answer", {"question": "Q", "options": ["a", "b"], "rationale": "A", "correct": "a"}, "Q\n\na\nb", "A"),
    ("question-answer", {"question": "Q", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "answer": "A"},
     "Q\n\nA) x\nB) y", "A"),
    ("question-answer", {"question": "Q", "answer_number": 18, "lang": "en"}, "Q", "18"),
    ("input-target", {"input": "Q", "target": "A", "task": "t"}, "Q", "A"),
    ("natural-instructions", {"Definition": ["D"], "input": "I", "output": ["A", "B"]}, "D\n\nI", "A"),
    ("squad", {"context": "C", "question": "Q", "answers": {"text": ["A", "B"], "answer_start": [0]}}, "C\n\nQ", "A"),
    ("squad", {"Body": "C", "Question": "Q", "Answer": 51.0}, "C\n\nQ", "51.0"),
    ("self-instruct", {"instruction": "Q", "instances": [{"input": "I", "output": "A"}]}, "Q\n\nI", "A"),
    ("messages", {"messages": [USER, BOT]}, "Q", "A"),
    ("messages", {"prompt": "other", "messages": [{"role": "system", "content": "S"}, USER, BOT]}, "S\n\nQ", "A"),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, BOT]}, "Q", "A"),
    ("messages", {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]},
     "Q", '[{"name": "f"}]'),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, "Q", "A"),
    (
        "sharegpt",
        {"tools": "T", "conversations": [
            {"from": "human", "value": "Q"}, {"from": "function_call", "value": "F"},
            {"from": "observation", "value": "O"}, {"from": "gpt", "value": "A"},
        ]},
        "T\n\nUser: Q\n\nAssistant: F\n\nTool: O", "A",
    ),
    ("dialogue", {"utterances": [{"speaker": "user", "text": "Q"}, {"speaker": "assistant", "text": "A"}]}, "Q", "A"),
    ("preference", {"prompt": "Q", "chosen": "A", "rejected": "B"}, "Q", "A"),
    ("preference", {"chosen": [USER, BOT], "rejected": [USER, USER]}, "Q", "A"),
    ("preference", {"prompt": "Q", "chosen": [USER, BOT], "rejected": [USER, BOT]}, "Q", "A"),
    ("preference", {"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"},
      "rejected": {"from": "gpt", "value": "B"}}, "Q", "A"),
    ("preference", {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"}, "Q", "A"),
    ("turns", {"turns": ["Q", "R"], "reference": ["A", "B"]}, "User: Q\n\nAssistant: A\n\nUser: R", "B"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "record", "prompt", "response"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_layout_is_found_and_gives_prompt_and_response(
    schema: str, record: dict[str, Any], prompt: str, response: str
) -> None:
    found = detect([record, record])
    assert found.name == schema
    assert schema in found.evidence and "2 of the first 2" in found.evidence
    assert extractor(found.mapping, "last", True)(record) == [(prompt, response)]
    for name in found.mapping.to_json().values():
        assert (name in record and name in found.evidence) or name == found.mapping.id


def test_every_assistant_turn_can_be_an_example_with_all_before_as_prompt() -> None:
    record = {"messages": [USER, BOT, {"role": "user", "content": "Q2"}, {"role": "assistant", "content": "A2"}, USER]}
    mapping = detect([record]).mapping
    every = extractor(mapping, "every", True)(record)
    assert every == [("Q", "A"), ("User: Q\n\nAssistant: A\n\nUser: Q2", "A2")]
    assert extractor(mapping, "last", True)(record) == every[-1:]


def test_user_turns_alone_serve_without_responses_only() -> None:
    record = {"turns": [{"content": "Q"}, {"content": "R"}]}
    mapping = detect([record]).mapping
    assert extractor(mapping, "last", False)(record) == [("Q\n\nR", None)]
    assert extractor(mapping, "every", False)(record) == [("Q", None), ("R", None)]
    assert str(extractor(mapping, "last", True)(record)).startswith("no response")


def test_a_reply_tree_gives_one_row_per_answer_with_the_thread_as_prompt(tmp_path: Path) -> None:
    def message(name: str, parent: str | None, role: str, text: str) -> dict[str, Any]:
        return {"message_id": name, "parent_id": parent, "role": role, "text": text}

    rows = [
        message("3", "2", "prompter", "Q2"), message("4", "3", "assistant", "A2"), message("1", None, "prompter", "Q"),
        message("2", "1", "assistant", "A"), message("5", "gone", "assistant", "X"), message("6", "7", "prompter", "L"),
        message("7", "6", "assistant", "L"),
    ]  # fmt: skip
    path = tmp_path / "tree.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    loaded = load(path, tmp_path / "d")
    assert loaded.report.schema == "message-tree"
    assert list(loaded.dataset.prompts) == ["User: Q\n\nAssistant: A\n\nUser: Q2", "Q"]
    assert list(loaded.dataset.ids) == ["4", "2"] and loaded.dataset.original(0) == rows[1]
    assert loaded.report.joined == 3 and loaded.report.reasons == {"parent missing": 1, "reply loop": 1}


def test_a_mapping_by_hand_overrides_the_detection(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text('{"instruction": "I", "output": "O", "frage": "F", "antwort": "A", "id": 7}\n')
    loaded = load(path, tmp_path / "d", mapping=FieldMap(prompt="frage", response="antwort"))
    assert (loaded.dataset.prompts[0], loaded.dataset.responses[0], loaded.dataset.ids[0]) == ("F", "A", "7")
    assert loaded.report.schema == "custom"


def test_a_wrong_mapping_names_the_fields_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text('{"prompt": "p", "answer": "a"}\n')
    with pytest.raises(DataError, match=r"response from field 'answr'.*Did you mean 'answer'\? Found: answer, prompt"):
        load(path, tmp_path / "d", mapping=FieldMap(prompt="prompt", response="answr"))
    with pytest.raises(DataError, match="neither a prompt"):
        load(path, tmp_path / "d", mapping=FieldMap(response="answer"))
    with pytest.raises(DataError, match="no part 'promt'"):
        FieldMap.from_json({"promt": "x"})
    assert not list(tmp_path.glob("d/*"))


def test_a_field_map_survives_json() -> None:
    mapping = FieldMap(prompt="q", response="a", id="n")
    assert FieldMap.from_json(json.loads(json.dumps(mapping.to_json()))) == mapping


@pytest.mark.parametrize("text", ["", "x" * 5000, "a b " * 900, ("Sentence one. " * 40 + "\n\n") * 9, "日本。" * 1200])
def test_passages_lose_nothing_but_white_space(text: str) -> None:
    pieces = passages(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(piece) <= 1250 for piece in pieces)


@pytest.mark.parametrize("tools", ["[]", "{}", " null ", "", None])
def test_a_conversation_without_tools_does_not_say_so_in_its_prompt(tools: str | None) -> None:
    record = {"messages": [USER, BOT], "tools": tools}
    assert extractor(detect([record]).mapping, "last", True)(record) == [("Q", "A")]


TOOLS = '[{"name": "add", "parameters": {"a": "int"}}]'


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("What is 2 + 2?", ("", "What is 2 + 2?")),
        (f"{TOOLS}\n\nAdd 2 and 2.", (TOOLS, "Add 2 and 2.")),
        (f"Be kind.\n\n{TOOLS}\n\nAdd 2 and 2.", (f"Be kind.\n\n{TOOLS}", "Add 2 and 2.")),
        (f"{TOOLS}\n\nUser: Hi\n\nAssistant: Yes?", (TOOLS, "User: Hi\n\nAssistant: Yes?")),
        ("User: Hi\n\nAssistant: Yes?\n\nUser: Bye", ("", "User: Hi\n\nAssistant: Yes?\n\nUser: Bye")),
        ("[1, 2, 3]\n\nWhat is the sum?", ("", "[1, 2, 3]\n\nWhat is the sum?")),
        ("{broken\n\nWhy?", ("", "{broken\n\nWhy?")),
    ],
)
def test_a_question_is_told_apart_from_tools_and_system_text(prompt: str, parts: tuple[str, str]) -> None:
    assert apart(prompt) == parts
