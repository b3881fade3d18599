"""Rows of a dataset as the turns that their prompts were made of, read back from the original records.

What is read back must render to the very prompt that was scored; where it does not, the prompt stands in one user turn,
and the row says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from delift_core.data import FieldMap, Report
from delift_core.data.turns import ROLE_KEYS, TEXT_KEYS, Turn, rendered, says_nothing, text_of, turns_of
from delift_core.errors import ConfigError
from delift_core.runs.formats import Chat, Text
from delift_core.types import Dataset, Indices

AS_TEXT = "the conversation could not be taken apart, so it stands in one user turn as text"
BY_NAMES = "the conversation was cut at its speakers' names, as the record holds it as text or in several messages"
MOVED = "system turns from later in the conversation stand at its start"
TWICE = "the chosen answer follows another answer, so the turns before it stand in one user turn as text"
EARLIER = "the earlier turns of 'history' are carried along; the scorer did not read them"
HISTORY = "history"
_NAMED = re.compile(r"(?:\A|\n\n)(User|Assistant): ")
_KNOWN = {*ROLE_KEYS, *TEXT_KEYS, "tool_calls", "function_call"}


def chats_of(dataset: Dataset, report: Report, rows: Indices | Sequence[int]) -> Iterator[Chat]:
    """Each of these rows as turns and answer, in the given order.

    `report` is the dataset's: it says which field means what.  Raises ConfigError at a row without a response.
    """
    prompts, responses = dataset.prompts, dataset.responses
    for row, line in zip(rows, dataset.originals_of(rows), strict=True):
        prompt, answer = prompts[int(row)], responses[int(row)]
        if not answer:
            raise ConfigError(
                f"Row {dataset.ids[int(row)]} of {dataset.name} has no response, and training formats hold prompt and "
                "response. Export as jsonl, parquet or csv."
            )
        yield chat_of(json.loads(line), report.mapping, report.turns, prompt, answer)


def chat_of(record: Any, mapping: FieldMap, turns: str, prompt: str, answer: str) -> Chat:
    """One record's row, given by its prompt and response, as turns and answer."""
    record = record if isinstance(record, dict) else {}
    conversation = bool(mapping.messages or mapping.parent)
    found = _spoken(record, mapping, turns, prompt, answer) if conversation else _flat(record, mapping, prompt, answer)
    if found is None and conversation:
        found = _by_names(prompt, answer)
    if found is None:
        doubts = (AS_TEXT,) if conversation and _NAMED.match(prompt) else ()
        found = Chat((("user", prompt),), answer, prompt, doubts=doubts)
    left = dict.fromkeys((*_left(record, mapping, answer, found), *found.left))
    return Chat(
        found.turns, found.answer, found.text, found.system, found.tools, found.parts, tuple(left), found.doubts
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ fields


def _flat(record: dict[str, Any], mapping: FieldMap, prompt: str, answer: str) -> Chat | None:
    """A row whose prompt is made of fields: system, tools, context, prompt, input."""
    head = [_filled(record, name) for name in (mapping.system, mapping.tools)]
    instruction = [t for name in (mapping.context, mapping.prompt) if (t := _filled(record, name))]
    given = _filled(record, mapping.input)
    if mapping.instances:
        given = next((t for t in _inputs(record, mapping.instances, answer) if _glued(*instruction, t) == prompt), "")
    text = _glued(*instruction, given)
    if not text or _glued(*head, text) != prompt:
        return None
    tools = tools_of(record.get(mapping.tools)) if mapping.tools else ""
    system = _glued(head[0], "" if tools else head[1])
    earlier = _history(record) if HISTORY not in mapping.to_json().values() else ()
    parts = (_glued(*instruction), given) if instruction else (given, "")
    turns: tuple[Text, ...] = (*earlier, ("user", text))
    return Chat(turns, answer, text, system, tools, parts, doubts=(EARLIER,) if earlier else ())


def _inputs(record: dict[str, Any], field: str, answer: str) -> Iterator[str]:
    """The inputs of a shared instruction's instances with this output."""
    instances = record.get(field)
    for pair in instances if isinstance(instances, list) else []:
        if isinstance(pair, dict) and text_of(pair.get("output"), first=True) == answer:
            yield text if not _blank(text := text_of(pair.get("input"))) else ""


def _history(record: dict[str, Any]) -> tuple[Text, ...]:
    """Earlier turns as LLaMA-Factory's alpaca layout has them: a list of [question, answer]."""
    pairs = record.get(HISTORY)
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair) for pair in pairs
    ):
        return ()
    return tuple(turn for asked, told in pairs for turn in (("user", asked), ("assistant", told)))


# ------------------------------------------------------------------------------------------------ conversations


def _spoken(record: dict[str, Any], mapping: FieldMap, mode: str, prompt: str, answer: str) -> Chat | None:
    """A row of a conversation: the turns before the assistant turn that is its answer."""
    turns = turns_of(record.get(mapping.messages)) if mapping.messages else "none"
    if isinstance(turns, str):
        return None
    heads = (_filled(record, name) for name in (mapping.system, mapping.tools))
    head = [Turn("system", text) for text in heads if not says_nothing(text)]
    tools = tools_of(record.get(mapping.tools)) if mapping.tools else ""
    if mapping.response and rendered([*head, *turns]) == prompt:
        return _chat(turns, answer, record, mapping, tools, ())
    for place in reversed(range(len(turns))):
        if turns[place] == ("assistant", answer) and rendered([*head, *turns[:place]]) == prompt:
            after = mode == "last" and place + 1 < len(turns)
            left = (f"{mapping.messages}: turns after the last answer",) if after else ()
            return _chat(turns[:place], answer, record, mapping, tools, left)
    return None


def _chat(
    before: Sequence[Turn], answer: str, record: dict[str, Any], mapping: FieldMap, tools: str, left: tuple[str, ...]
) -> Chat | None:
    said = [turn for turn in before if turn.text]
    others = [turn for turn in said if turn.role != "system"]
    own = [turn.text for turn in said if turn.role == "system"]
    if not others:
        return None
    head = [_filled(record, mapping.system), "" if tools else _filled(record, mapping.tools)]
    head = ["" if says_nothing(text) else text for text in head]
    text = rendered(others)
    moved = (MOVED,) if any(turn.role == "system" for turn in said[len(own) :]) else ()
    if others[-1].role == "assistant":
        return Chat((("user", text),), answer, text, _glued(*head, *own), tools, left=left, doubts=(*moved, TWICE))
    turns = tuple((turn.role, turn.text) for turn in others)
    return Chat(turns, answer, text, _glued(*head, *own), tools, left=left, doubts=moved)


def _by_names(prompt: str, answer: str) -> Chat | None:
    """A conversation that is only there as text, cut at "User:" and "Assistant:" where these strictly alternate."""
    marks = list(_NAMED.finditer(prompt))
    if (
        len(marks) < 3
        or any((mark[1] == "User") != (i % 2 == 0) for i, mark in enumerate(marks))
        or len(marks) % 2 == 0
    ):
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(prompt)]
    turns = [
        Turn("user" if mark[1] == "User" else "assistant", prompt[mark.end() : end])
        for mark, end in zip(marks, ends, strict=True)
    ]
    system, text = prompt[: marks[0].start()], rendered(turns)
    if _glued(system, text) != prompt or not all(turn.text for turn in turns):
        return None
    return Chat(tuple((turn.role, turn.text) for turn in turns), answer, text, system, doubts=(BY_NAMES,))


def tools_of(value: Any) -> str:
    """Tool descriptions as a JSON list of objects; empty where there are none, or they are plain text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ""
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list) or not value or not all(isinstance(tool, dict) for tool in value):
        return ""
    return json.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------ what stays behind


def _left(record: dict[str, Any], mapping: FieldMap, answer: str, chat: Chat) -> Iterator[str]:
    """What of the record is in no turn: other fields, further answers, other keys of turns."""
    used = set(mapping.to_json().values()) - {mapping.id}
    if EARLIER in chat.doubts:
        used.add(HISTORY)
    for name, value in record.items():
        if name not in used and value not in (None, "", [], {}):
            yield str(name)
    several = record.get(mapping.response) if mapping.response and not mapping.messages else None
    if isinstance(several, list) and len({text_of(v) for v in several}) > 1 and not isinstance(several[0], dict):
        yield f"{mapping.response}: further answers"
    spoken = record.get(mapping.messages) if mapping.messages else None
    for turn in spoken if isinstance(spoken, list) else []:
        if isinstance(turn, dict):
            yield from (
                f"{mapping.messages}: {key}" for key, value in turn.items() if key not in _KNOWN and value is not None
            )


def _filled(record: dict[str, Any], name: str | None) -> str:
    text = text_of(record.get(name)) if name else ""
    return "" if _blank(text) else text


def _blank(text: str) -> bool:
    return not text or text.isspace()


def _glued(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)
