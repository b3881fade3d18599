"""Which layout the records of a source have: found by their fields, stated with evidence, overridden by a mapping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from delift_core.data.mapping import FieldMap
from delift_core.data.turns import looks_like_turns

_PROMPTS = (
    "instruction", "prompt", "question", "query", "problem", "input", "question_translated", "request", "definition",
    "sentence", "instructions", "user", "human",
)  # fmt: skip
_RESPONSES = (
    "output", "outputs", "response", "responses", "completion", "canonical_solution", "solution", "chosen", "answer",
    "answers", "target", "targets", "rationale", "answer_number", "answer_pivot", "label", "assistant", "gpt",
)  # fmt: skip
_CONTEXTS = ("passage", "body", "document", "article", "background")
_INPUTS = ("input", "inputs", "options", "choices")
_SYSTEMS = ("system", "system_prompt")
_IDS = (
    "id",
    "uid",
    "uuid",
    "_id",
    "question_id",
    "message_id",
    "conversation_id",
    "task_id",
    "example_id",
    "qid",
    "prompt_id",
)
_CONVERSATIONS = ("messages", "conversations", "conversation", "dialog", "dialogue", "utterances", "chat", "turns")
_TEXTS = ("text", "content", "passage", "document")

UNKNOWN = "unknown"


def known_field(name: str) -> bool:
    """True for a field name that some layout gives a meaning."""
    return name.strip().lower() in {*_PROMPTS, *_RESPONSES, *_CONVERSATIONS, *_TEXTS, *_CONTEXTS}


@dataclass(frozen=True)
class Schema:
    """The layout that was found: its name, the mapping it means, and what speaks for it."""

    name: str
    mapping: FieldMap
    evidence: str


class _Fields:
    """The fields of sampled records, by lower-case name, with how often each is filled."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.records = records
        self.filled: Counter[str] = Counter()
        self.seen: dict[str, None] = {}
        for record in records:
            for name, value in record.items():
                self.seen.setdefault(str(name))
                self.filled[str(name)] += value is not None and value != "" and value != []
        self.by_lower = {name.strip().lower(): name for name in reversed(self.seen)}

    def first(self, names: Sequence[str], *without: str | None) -> str | None:
        """The first of these fields that is there and filled in at least one record."""
        for name in names:
            found = self.by_lower.get(name)
            if found is not None and found not in without and self.filled[found]:
                return found
        return None

    def there(self, names: Sequence[str], *without: str | None) -> str | None:
        """The first of these fields that is there, filled or not."""
        return next((f for name in names if (f := self.by_lower.get(name)) is not None and f not in without), None)

    def values(self, name: str) -> list[Any]:
        return [value for record in self.records if (value := record.get(name)) is not None]

    def mostly(self, name: str | None, *kinds: type) -> bool:
        """At least half of the values that are set are of these types."""
        values = self.values(name) if name else []
        return bool(values) and sum(isinstance(value, kinds) for value in values) * 2 >= len(values)

    def turns(self, name: str) -> bool:
        values = self.values(name)
        return bool(values) and sum(looks_like_turns(value) for value in values) * 2 >= len(values)


def detect(records: Sequence[Mapping[str, Any]]) -> Schema:
    """The layout of the sampled records.  When none fits, the name is "unknown" and the mapping is empty."""
    fields = _Fields(records)
    for rule in (_tree, _preference, _conversation, _questions, _instances, _flat, _text):
        found = rule(fields)
        if found is not None:
            name, mapping = found
            identity = mapping.id or fields.first(_IDS, *mapping.to_json().values())
            if not fields.mostly(identity, str, int):
                identity = None
            return Schema(name, replace(mapping, id=identity), _evidence(fields, name, mapping))
    names = ", ".join(fields.seen) or "none"
    return Schema(UNKNOWN, FieldMap(), f"fields {names}: no known layout; map the prompt and the response by hand")


def explicit(mapping: FieldMap, records: Sequence[Mapping[str, Any]]) -> Schema:
    """The layout that a mapping given by hand means; the id is looked for when the mapping leaves it open."""
    fields = _Fields(records)
    if mapping.id is None:
        identity = fields.first(_IDS, *mapping.to_json().values())
        mapping = replace(mapping, id=identity if fields.mostly(identity, str, int) else None)
    parts = ", ".join(f"{part} = {name}" for part, name in mapping.to_json().items())
    return Schema("custom", mapping, f"mapped by hand: {parts}")


def field_names(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """All field names of the sampled records, in the order they appear."""
    return tuple(_Fields(records).seen)


def _evidence(fields: _Fields, name: str, mapping: FieldMap) -> str:
    parts = {field: part for part, field in mapping.to_json().items() if part != "id" or mapping.parent}
    used = [field for field in fields.seen if field in parts]
    vital = [field for field, part in parts.items() if part in ("prompt", "response", "messages", "instances", "text")]
    complete = sum(all(record.get(field) not in (None, "", []) for field in vital) for record in fields.records)
    meaning = ", ".join(f"{parts[field]} = {field}" for field in used)
    share = f"{' and '.join(vital)} filled in {complete:,} of the first {len(fields.records):,} records"
    return f"{', '.join(used)} -> {name} ({meaning}); {share}"


def _tree(fields: _Fields) -> tuple[str, FieldMap] | None:
    parent, text, role = fields.there(("parent_id",)), fields.first(("text", "content")), fields.first(("role",))
    identity = fields.first(("message_id", "id"))
    if parent and text and role and identity:
        return "message-tree", FieldMap(id=identity, parent=parent, role=role, text=text)
    return None


def _preference(fields: _Fields) -> tuple[str, FieldMap] | None:
    chosen, rejected = fields.first(("chosen",)), fields.first(("rejected",))
    if not (chosen and rejected):
        return None
    prompt, system = fields.first(("prompt", *_PROMPTS)), fields.first(_SYSTEMS)
    conversation = next((f for n in _CONVERSATIONS if (f := fields.first((n,))) and fields.turns(f)), None)
    if fields.turns(chosen) and all(len(value) > 1 for value in fields.values(chosen)[:20]):
        return "preference", FieldMap(messages=chosen, system=system)
    if conversation:
        return "preference", FieldMap(messages=conversation, response=chosen, system=system)
    if prompt:
        return "preference", FieldMap(
            prompt=prompt, response=chosen, system=system, input=fields.there(_INPUTS, prompt)
        )
    return "preference", FieldMap(
        messages=chosen
    )  # the dialogue stands in the text, as "\n\nHuman: ... \n\nAssistant: ..."


def _conversation(fields: _Fields) -> tuple[str, FieldMap] | None:
    names = [f for n in _CONVERSATIONS if (f := fields.first((n,)))] + list(fields.seen)
    for name in names:
        if not fields.turns(name):
            continue
        first = fields.values(name)[0]
        keys = first[0] if isinstance(first, list) and isinstance(first[0], dict) else {}
        schema = "sharegpt" if "from" in keys else "messages" if "role" in keys else "dialogue"
        return schema, FieldMap(messages=name, system=fields.first(_SYSTEMS), tools=fields.first(("tools",)))
    return None


def _questions(fields: _Fields) -> tuple[str, FieldMap] | None:
    """`turns`: the user's turns alone, as evaluation sets hold them, sometimes with reference answers."""
    turns = fields.first(("turns",))
    if turns and fields.mostly(turns, list):
        return "turns", FieldMap(messages=turns, response=fields.first(("reference",)))
    return None


def _instances(fields: _Fields) -> tuple[str, FieldMap] | None:
    prompt, instances = fields.first(("instruction",)), fields.first(("instances",))
    if prompt and instances and fields.mostly(instances, list):
        return "self-instruct", FieldMap(prompt=prompt, instances=instances)
    return None


def _flat(fields: _Fields) -> tuple[str, FieldMap] | None:
    definition = fields.first(("definition",))
    body = fields.first(("input",))
    prompt = definition if definition and body else fields.first(_PROMPTS)
    if prompt is None:
        return None
    response = fields.there([name for name in _RESPONSES if name != prompt.lower()], prompt)
    filled = fields.first([name for name in _RESPONSES if name != prompt.lower()], prompt)
    response = filled or response
    context = fields.there(("context",), prompt, response)
    before = fields.there(_CONTEXTS, prompt, response)
    after = fields.there(_INPUTS, prompt, response)
    system = fields.first(_SYSTEMS, prompt, response)
    key, answer = prompt.lower(), (response or "").lower()
    mapping = FieldMap(prompt=prompt, response=response, system=system, context=before or context, input=after)
    if key == "definition":
        return "natural-instructions", mapping
    if key == "instruction":
        if context:  # Dolly: the passage follows the instruction
            return "dolly", replace(mapping, context=before, input=context)
        return "alpaca", mapping
    if response is None:
        return "prompts", mapping
    if mapping.context and key.startswith("question"):
        return "squad", mapping
    if key == "input":
        return "input-target", mapping
    if key == "prompt":
        return ("prompt-completion" if answer == "completion" else "prompt-response"), mapping
    return "question-answer", mapping


def _text(fields: _Fields) -> tuple[str, FieldMap] | None:
    text = fields.first(_TEXTS)
    return ("text", FieldMap(text=text)) if text and fields.mostly(text, str) else None
