"""A record and a mapping to prompts and responses."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from delift_core.data.mapping import FieldMap
from delift_core.data.turns import Turn, TurnMode, answered, rendered, says_nothing, text_of, turns_of

Example = tuple[str, str | None]  # prompt, response
Extract = Callable[[dict[str, Any]], "list[Example] | str"]  # examples, or the problem as "kind: detail"

PASSAGE = 1000  # characters of a passage of plain text, about
_SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")


def extractor(mapping: FieldMap, turns: TurnMode, need_response: bool) -> Extract:
    """The function that makes examples of one record under this mapping.

    With `need_response`, an example without one is a problem; otherwise its response is None.
    """
    if mapping.messages:
        return _messages(mapping, turns, need_response)
    if mapping.instances and mapping.prompt:
        return _instances(mapping, need_response)
    if mapping.text and not mapping.prompt:
        return _passages(mapping.text, need_response)
    return _flat(mapping, need_response)


def _blank(text: str) -> bool:
    return not text or text.isspace()


def _missing(part: str, name: str, record: dict[str, Any]) -> str:
    found = ", ".join(str(key) for key in list(record)[:12]) or "none"
    return f"no field {name!r}: expected the {part} there; found: {found}. Map the {part} field and retry"


def _prompt_parts(mapping: FieldMap) -> list[str]:
    parts = (mapping.system, mapping.tools, mapping.context, mapping.prompt, mapping.input)
    return [name for name in parts if name]


def _flat(mapping: FieldMap, need_response: bool) -> Extract:
    parts, prompt_field, response_field = _prompt_parts(mapping), mapping.prompt or "", mapping.response

    def extract(record: dict[str, Any]) -> list[Example] | str:
        texts = []
        for name in parts:
            value = record.get(name)
            text = value if type(value) is str else text_of(value)
            if not _blank(text):
                texts.append(text)
            elif name == prompt_field and name not in record:
                return _missing("prompt", name, record)
        if not texts:
            return f"empty prompt: field {prompt_field!r} holds no text"
        prompt = texts[0] if len(texts) == 1 else "\n\n".join(texts)
        value = record.get(response_field) if response_field else None
        response = value if type(value) is str else _answer(value)
        if not _blank(response):
            return [(prompt, response)]
        if not need_response:
            return [(prompt, None)]
        if response_field is None:
            return "no response: the mapping names no response field"
        if response_field not in record:
            return _missing("response", response_field, record)
        return f"empty response: field {response_field!r} holds no text"

    return extract


def _answer(value: Any) -> str:
    """A response that is not plain text: alternatives give the first, conversations their last assistant turn."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        turns = turns_of(value)
        if not isinstance(turns, str):
            spoken = [turn.text for turn in turns if turn.role == "assistant"]
            return spoken[-1] if spoken else ""
    return text_of(value, first=True)


def _instances(mapping: FieldMap, need_response: bool) -> Extract:
    prompt_field, instances_field = mapping.prompt or "", mapping.instances or ""

    def extract(record: dict[str, Any]) -> list[Example] | str:
        if prompt_field not in record:
            return _missing("prompt", prompt_field, record)
        instances = record.get(instances_field)
        if not isinstance(instances, list) or not instances:
            return f"no instances: field {instances_field!r} holds no list of input and output pairs"
        examples: list[Example] = []
        for instance in instances:
            pair = instance if isinstance(instance, dict) else {}
            texts = [t for t in (text_of(record[prompt_field]), text_of(pair.get("input"))) if not _blank(t)]
            response = text_of(pair.get("output"), first=True)
            if texts and not (need_response and _blank(response)):
                examples.append(("\n\n".join(texts), None if _blank(response) else response))
        return examples or "empty response: no instance holds an output"

    return extract


def _messages(mapping: FieldMap, mode: TurnMode, need_response: bool) -> Extract:
    field, response_field = mapping.messages or "", mapping.response
    head = [name for name in (mapping.system, mapping.tools) if name]

    def extract(record: dict[str, Any]) -> list[Example] | str:
        value = record.get(field)
        if value is None:
            return _missing("messages", field, record)
        if isinstance(value, list) and value and (isinstance(value[0], str) or not _has_role(value[0])):
            return _user_turns(value, record.get(response_field) if response_field else None, mode, need_response)
        turns = _split_dialogue(value) if isinstance(value, str) and "\n\nAssistant:" in value else turns_of(value)
        if isinstance(turns, str):
            return turns
        turns = [Turn("system", text) for name in head if not says_nothing(text := text_of(record.get(name)))] + turns
        if response_field:
            answer = _answer(record.get(response_field))
            turns = [*turns, Turn("assistant", answer)] if not _blank(answer) else turns
        pairs = answered(turns, mode)
        if isinstance(pairs, str):
            if need_response or not (prompt := rendered(turns)):
                return pairs
            return [(prompt, None)]
        return list(pairs)

    return extract


def _has_role(item: Any) -> bool:
    return isinstance(item, dict) and any(key in item for key in ("role", "from", "speaker", "author"))


def _split_dialogue(text: str) -> list[Turn]:
    """Turns of one text that marks its speakers by "Human:" and "Assistant:" paragraphs."""
    parts = _SPEAKER.split("\n\n" + text.lstrip("\n"))
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = [Turn(roles[name], said.strip()) for name, said in zip(parts[1::2], parts[2::2], strict=True)]
    return turns if _blank(parts[0]) else [Turn("system", parts[0].strip()), *turns]


def _user_turns(value: list[Any], reference: Any, mode: TurnMode, need_response: bool) -> list[Example] | str:
    """Questions without roles; `reference` may hold an answer for each."""
    asked = [text for item in value if not _blank(text := text_of(item))]
    answers = [text_of(item) for item in reference] if isinstance(reference, list) else [text_of(reference)]
    if not asked:
        return "empty prompt: no turn holds text"
    both = list(itertools.takewhile(lambda pair: not _blank(pair[1]), zip(asked, answers, strict=False)))
    if both:
        turns = [turn for ask, answer in both for turn in (Turn("user", ask), Turn("assistant", answer))]
        pairs = answered(turns, mode)
        return pairs if isinstance(pairs, str) else list(pairs)
    if need_response:
        return "no response: the record holds the user's turns only"
    return [(text, None) for text in asked] if mode == "every" else [("\n\n".join(asked), None)]


def _passages(field: str, need_response: bool) -> Extract:
    def extract(record: dict[str, Any]) -> list[Example] | str:
        if field not in record:
            return _missing("text", field, record)
        if need_response:
            return "no response: plain text has no responses"
        return [(piece, None) for piece in passages(text_of(record[field]))] or "empty text: no passage in it"

    return extract


def passages(text: str, size: int = PASSAGE) -> list[str]:
    """Cut a text into passages of about `size` characters, at paragraph ends, sentence ends or blanks if any.

    Nothing but the white space at the cuts is lost.
    """
    pieces, start = [], 0
    while len(text) - start > size * 1.25:
        window = text[start : start + size]
        cut = max(window.rfind("\n\n"), window.rfind("\n"))
        if cut < size // 2:
            cut = max(window.rfind(mark) + 1 for mark in (". ", "! ", "? ", "。"))
        if cut < size // 2:
            cut = window.rfind(" ")
        cut = cut if cut >= size // 4 else size
        pieces.append(text[start : start + cut].strip())
        start += cut
    pieces.append(text[start:].strip())
    return [piece for piece in pieces if piece]
