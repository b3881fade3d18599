"""Which field of a record means what."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any

from delift_core.errors import DataError


@dataclass(frozen=True)
class FieldMap:
    """An explicit mapping from the fields of a record to their meaning.

    One of `prompt`, `messages` or `text` must be set.  The prompt of a row is made of the parts that are set, joined
    by a blank line, in this order: system, tools, context, prompt, input.
    """

    prompt: str | None = field(default=None, metadata={"help": "instruction or question"})
    response: str | None = field(default=None, metadata={"help": "the answer to learn; of a list, the first entry"})
    system: str | None = field(default=None, metadata={"help": "system text, shown first"})
    context: str | None = field(default=None, metadata={"help": "passage that stands before the prompt"})
    input: str | None = field(default=None, metadata={"help": "input or options that stand after the prompt"})
    tools: str | None = field(default=None, metadata={"help": "tool descriptions, shown after the system text"})
    messages: str | None = field(default=None, metadata={"help": "list of turns with a role and a text"})
    instances: str | None = field(
        default=None, metadata={"help": "list of input and output pairs that share the prompt"}
    )
    text: str | None = field(default=None, metadata={"help": "plain text without a response, cut into passages"})
    id: str | None = field(default=None, metadata={"help": "the record's own id"})
    parent: str | None = field(default=None, metadata={"help": "id of the message that this one answers (reply trees)"})
    role: str | None = field(default=None, metadata={"help": "who speaks (reply trees)"})

    def to_json(self) -> dict[str, str]:
        """The parts that are set."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> FieldMap:
        """Read `to_json`'s form.  An unknown part raises DataError."""
        known = {f.name for f in fields(cls)}
        for name, value in record.items():
            if name not in known:
                raise DataError(f"A mapping has no part {name!r}. Its parts: {', '.join(sorted(known))}.")
            if value is not None and not isinstance(value, str):
                raise DataError(f"Mapping part {name!r} wants the name of a field, not {value!r}.")
        return cls(**{name: value or None for name, value in record.items()})

    def check(self, found: Collection[str], where: str) -> None:
        """Raise DataError when the mapping is incomplete or names fields that no record has."""
        if not (self.prompt or self.messages or self.text):
            raise DataError("The mapping names neither a prompt, nor messages, nor a text field. Set one of them.")
        if self.parent and not (self.text and self.role and self.id):
            raise DataError("A reply tree needs the parts id, parent, role and text in the mapping. Set all four.")
        for part, name in self.to_json().items():
            if name not in found:
                close = difflib.get_close_matches(name, found, n=1, cutoff=0.6)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise DataError(
                    f"{where}: the mapping takes the {part} from field {name!r}, which no record has.{hint} "
                    f"Found: {', '.join(sorted(found)) or 'no fields'}. Map the {part} to one of these and retry."
                )
