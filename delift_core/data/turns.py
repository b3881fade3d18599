"""Conversations: turns of every common dialect to roles and texts, and to prompt and response."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

TurnMode = Literal["last", "every"]

_ROLES = {
    "user": "user", "human": "user", "prompter": "user", "customer": "user", "instruction": "user", "question": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "ai": "assistant", "agent": "assistant", "bing": "assistant", "bard": "assistant", "answer": "assistant",
    "function_call": "assistant", "tool_call": "assistant", "output": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "function_response": "tool", "tool_response": "tool",
    "ipython": "tool",
}  # fmt: skip
_JSON = re.compile(r"(?:\A|\n\n)(?=[\[{])")  # where a paragraph of JSON may begin
_TOOL_KEYS = {"function", "parameters", "description", "input_schema"}
_NAMES = {"user": "User", "assistant": "Assistant", "tool": "Tool", "system": "System"}
ROLE_KEYS = ("role", "from", "speaker", "author")
TEXT_KEYS = ("content", "value", "text", "utterance", "message", "parts")


class Turn(NamedTuple):
    """One turn: its role (user, assistant, system or tool) and its text."""

    role: str
    text: str


def looks_like_turns(value: Any) -> bool:
    """A non-empty list of objects that each have a role."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(item, dict) and any(isinstance(item.get(key), str) for key in ROLE_KEYS) for item in value[:4]
        )
    )


def text_of(value: Any, *, first: bool = False) -> str:
    """A field's value as text.

    Lists are joined by line breaks (`first`: the first entry alone, for alternative answers); objects give their text
    or content; typed parts their text; options with labels "A) ..." lines; numbers and booleans as JSON has them.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        texts = [text for item in value if (text := text_of(item, first=first))]
        return texts[0] if first and texts else "\n".join(texts)
    if isinstance(value, dict):
        labels, options = value.get("label"), value.get("text")
        if isinstance(labels, list) and isinstance(options, list) and len(labels) == len(options):
            return "\n".join(f"{label}) {text_of(option)}" for label, option in zip(labels, options, strict=True))
        for key in TEXT_KEYS:
            if key in value:
                return text_of(value[key], first=first)
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, int | float):
        return json.dumps(value)
    return str(value)


def turns_of(value: Any) -> list[Turn] | str:
    """The turns of a conversation, or its problem.  Knows role/content, from/value, speaker/text and tool calls."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return "messages are not a list: the field holds plain text"
    if not isinstance(value, list | tuple):
        return f"messages are not a list: the field holds {type(value).__name__}"
    turns: list[Turn] = []
    for item in value:
        if not isinstance(item, dict):
            return "a message is not an object: expected a role and a text in each"
        name = next((item[key] for key in ROLE_KEYS if isinstance(item.get(key), str)), None)
        if name is None:
            return f"a message has no role: expected one of {', '.join(ROLE_KEYS)}"
        role = _ROLES.get(name.strip().lower())
        if role is None:
            return f"unknown role: {name[:40]!r}; known: {', '.join(sorted(_ROLES))}"
        text = next((text_of(item[key]) for key in TEXT_KEYS if item.get(key) is not None), "")
        if calls := item.get("tool_calls") or item.get("function_call"):
            text = "\n".join(part for part in (text, json.dumps(calls, ensure_ascii=False, default=str)) if part)
        turns.append(Turn(role, text))
    return turns


def rendered(turns: Sequence[Turn]) -> str:
    """A prompt from the turns before a response: the bare text for a single turn, else one named paragraph per turn."""
    system = [turn.text for turn in turns if turn.role == "system" and turn.text]
    others = [turn for turn in turns if turn.role != "system" and turn.text]
    if len(others) == 1 and others[0].role == "user":
        body = [others[0].text]
    else:
        body = [f"{_NAMES[turn.role]}: {turn.text}" for turn in others]
    return "\n\n".join(system + body)


def answered(turns: Sequence[Turn], mode: TurnMode) -> list[tuple[str, str]] | str:
    """Prompt and response pairs: the last assistant turn with all before it, or one pair for each assistant turn."""
    places = [i for i, turn in enumerate(turns) if turn.role == "assistant" and turn.text and not turn.text.isspace()]
    if not places:
        return "no assistant turn: the conversation has nothing to learn from"
    pairs = []
    for place in places if mode == "every" else places[-1:]:
        before = turns[:place]
        if any(turn.role in ("user", "tool") and turn.text and not turn.text.isspace() for turn in before):
            pairs.append((rendered(before), turns[place].text))
    return pairs or "no user turn: nothing stands before the assistant's answer"


def apart(prompt: str) -> tuple[str, str]:
    """A prompt as what stands before the question (system text, tools) and the question; for showing it only.

    The question begins at the first named user turn, else behind the JSON that describes tools; the first part is empty
    where neither is found.
    """
    before, mark, after = prompt.partition("\n\nUser: ")
    if mark and not before.startswith("User: "):
        return before, f"User: {after}"
    for place in _JSON.finditer(prompt):
        try:
            value, end = json.JSONDecoder().raw_decode(prompt, place.end())
        except (ValueError, RecursionError):
            continue
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict) and _TOOL_KEYS & first.keys() and (question := prompt[end:].strip()):
            return prompt[:end], question
    return "", prompt


def says_nothing(text: str) -> bool:
    """True for a blank text, and for the ways to write that a conversation has no system text or tools."""
    return text.strip() in ("", "[]", "{}", "null", "None")
