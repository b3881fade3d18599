"""A subset as training libraries read it: TRL, LLaMA-Factory and Axolotl.  One line or object per picked row.

Layouts are those of TRL 1.16 (trl/data_utils.py, SFTTrainer), LLaMA-Factory 0.9.5 (data/converter.py, data/parser.py)
and Axolotl 0.19 (prompt_strategies/chat_template.py).  All columns have one type in every row, so that
`datasets.load_dataset("json", ...)` reads any part of a file.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from delift_core.errors import unknown
from delift_core.runs.files import HashingFile

Text = tuple[str, str]  # (role, text); the role is "user", "assistant" or "tool"
Chats = Callable[[], Iterator["Chat"]]  # the picked rows, each time from the start
Object = dict[str, Any]
SOFTWARE = {"trl": "TRL", "trl-messages": "TRL", "llama-factory": "LLaMA-Factory", "axolotl": "Axolotl"}
_LISTED = 12  # names of fields in one note
_TAGS = {"user": "human", "assistant": "gpt", "tool": "observation"}


@dataclass(frozen=True)
class Chat:
    """One row: the turns before the answer, and the answer to learn."""

    turns: tuple[Text, ...]  # without system turns
    answer: str
    text: str  # the turns as one text, as the scorer read them
    system: str = ""
    tools: str = ""  # a JSON list of tool descriptions
    parts: Text | None = None  # instruction and input, where the record has fields for them and no turns
    left: tuple[str, ...] = ()  # what of the record stands in none of these
    doubts: tuple[str, ...] = ()  # how the turns differ from the record's

    @property
    def several(self) -> bool:
        """Whether an answer stands among the turns before the one to learn."""
        return any(role == "assistant" for role, _ in self.turns)


@dataclass(frozen=True)
class Format:
    """What a format is for, and how its file is named."""

    title: str
    purpose: str
    ending: str
    mime: str


FORMATS: dict[str, Format] = {
    "trl": Format(
        "TRL", "For SFTTrainer: prompt and completion as messages; the loss is on the completion alone.", ".jsonl",
        "application/jsonl",
    ),
    "trl-messages": Format(
        "TRL messages", "For SFTTrainer: whole conversations under messages; set assistant_only_loss=True.", ".jsonl",
        "application/jsonl",
    ),
    "llama-factory": Format(
        "LLaMA-Factory", "Alpaca or ShareGPT JSON with its entry for dataset_info.json, in a zip.", ".zip",
        "application/zip",
    ),
    "axolotl": Format(
        "Axolotl", "JSONL for type: chat_template with the datasets: lines for the YAML file, in a zip.", ".zip",
        "application/zip",
    ),
}  # fmt: skip


@dataclass
class Survey:
    """What the rows hold together; it decides on columns and on what a reader must be told."""

    rows: int = 0
    several: int = 0
    system: bool = False
    tools: bool = False
    turns: bool = False  # a row needs more than instruction, input and history
    history: bool = False
    flat: int = 0  # rows whose turns LLaMA-Factory would refuse
    joined: int = 0
    left: dict[str, None] = field(default_factory=dict)
    doubts: dict[str, int] = field(default_factory=dict)

    def add(self, chat: Chat) -> None:
        """Count one row."""
        self.rows += 1
        self.several += chat.several
        self.system |= bool(chat.system)
        self.tools |= bool(chat.tools)
        self.history |= chat.parts is not None and len(chat.turns) > 1
        self.turns |= chat.parts is None and (len(chat.turns) > 1 or chat.turns[0][0] != "user")
        turns, joined = _alternating(chat)
        self.flat += turns is None
        self.joined += joined
        self.left.update(dict.fromkeys(chat.left))
        for doubt in chat.doubts:
            self.doubts[doubt] = self.doubts.get(doubt, 0) + 1


def write(out: HashingFile, format: str, chats: Chats) -> tuple[str, ...]:
    """Write the rows in a format of `FORMATS`; returns notes on what it could not carry or had to change.

    Reads the rows twice, one at a time.  An unknown format raises ConfigError.
    """
    if format not in FORMATS:
        raise unknown("export format", format, FORMATS)
    survey = Survey()
    for chat in chats():
        survey.add(chat)
    notes = notes_of(format, survey)
    if format == "llama-factory":
        _llama_factory(out, chats, survey, notes)
    elif format == "axolotl":
        _axolotl(out, chats, survey, notes)
    else:
        for chat in chats():
            out.write(_line(record_of(format, chat, survey)))
    return notes


def record_of(format: str, chat: Chat, survey: Survey) -> Object:
    """One row as the format holds it."""
    if format == "llama-factory":
        return _sharegpt(chat, survey) if _is_sharegpt(survey) else _alpaca(chat, survey)
    if format == "axolotl":
        messages = _messages(chat, trained=survey.several > 0)
        return {"messages": messages, **({"tools": chat.tools or "[]"} if survey.tools else {})}
    tools = {"tools": chat.tools or "null"} if survey.tools else {}
    messages = _messages(chat)
    if format == "trl":
        return {"prompt": messages[:-1], "completion": messages[-1:], **tools}
    return {"messages": messages, **tools}


# ------------------------------------------------------------------------------------------------ TRL and Axolotl


def _messages(chat: Chat, *, trained: bool = False) -> list[Object]:
    """Role and content of every turn; with `trained`, whether the loss counts it."""
    turns = [("system", chat.system)] if chat.system else []
    turns += [*chat.turns, ("assistant", chat.answer)]
    last = len(turns) - 1
    extra = [{"train": i == last} if trained else {} for i in range(len(turns))]
    return [{"role": role, "content": text, **more} for (role, text), more in zip(turns, extra, strict=True)]


def _axolotl(out: HashingFile, chats: Chats, survey: Survey, notes: tuple[str, ...]) -> None:
    snippet = [
        "datasets:",
        "  - path: subset.jsonl",
        "    ds_type: json",
        "    type: chat_template",
        "    field_messages: messages",
        "    message_property_mappings:",
        "      role: role",
        "      content: content",
        '    roles_to_train: ["assistant"]',
        "    train_on_eos: turn",
        *(["    message_field_training: train"] if survey.several else []),
        *(["    field_tools: tools"] if survey.tools else []),
    ]
    with _archive(out) as archive:
        with _member(archive, "subset.jsonl") as member:
            for chat in chats():
                member.write(_line(record_of("axolotl", chat, survey)))
        _text(archive, "datasets.yaml", "\n".join(snippet))
        how = "Put subset.jsonl beside your configuration, and the lines of datasets.yaml into it."
        _text(archive, "README.txt", _readme("Axolotl", how, survey, notes))


# ------------------------------------------------------------------------------------------------ LLaMA-Factory


def _is_sharegpt(survey: Survey) -> bool:
    return survey.turns or survey.tools


def _alpaca(chat: Chat, survey: Survey) -> Object:
    """Instruction, input and output; the earlier turns as pairs where a row has any."""
    instruction, given = chat.parts or (chat.turns[-1][1], "")
    record = {"instruction": instruction, "input": given, "output": chat.answer}
    if survey.system:
        record["system"] = chat.system
    if survey.history:
        before = [text for _, text in chat.turns[:-1]]
        return {**record, "history": [list(pair) for pair in zip(before[::2], before[1::2], strict=True)]}
    return record


def _sharegpt(chat: Chat, survey: Survey) -> Object:
    """Turns that alternate between (human, observation) and (gpt, function_call), as the converter demands."""
    turns, _ = _alternating(chat)
    spoken = [*(turns or [("user", chat.text)]), ("assistant", chat.answer)]
    called = bool(chat.tools) or any(role == "tool" for role, _ in spoken)
    record: Object = {"conversations": [_turn(role, text, called) for role, text in spoken]}
    if survey.system:
        record["system"] = chat.system
    if survey.tools:
        record["tools"] = chat.tools
    return record


def _turn(role: str, text: str, called: bool) -> Object:
    calls = _calls(text) if called and role == "assistant" else None
    return {"from": "function_call", "value": calls} if calls else {"from": _TAGS[role], "value": text}


def _calls(text: str) -> str | None:
    """The text as LLaMA-Factory's calls (name and arguments of each), or None where it is no call."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    calls = [
        c.get("function", c) if isinstance(c, dict) else c for c in (value if isinstance(value, list) else [value])
    ]
    if not calls or not all(isinstance(call, dict) and {"name", "arguments"} <= call.keys() for call in calls):
        return None
    return text if isinstance(value, dict) and "function" not in value else json.dumps(calls, ensure_ascii=False)


def _alternating(chat: Chat) -> tuple[list[Text] | None, bool]:
    """The turns with neighbours of one role joined, and whether any were; None where they still do not alternate."""
    turns: list[Text] = []
    for role, text in chat.turns:
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{text}")
        else:
            turns.append((role, text))
    fits = len(turns) % 2 == 1 and all((role == "assistant") == (i % 2 == 1) for i, (role, _) in enumerate(turns))
    return (turns, len(turns) < len(chat.turns)) if fits else (None, False)


def _llama_factory(out: HashingFile, chats: Chats, survey: Survey, notes: tuple[str, ...]) -> None:
    shaped = _is_sharegpt(survey)
    names: list[tuple[str, str]] = (
        [("messages", "conversations")]
        if shaped
        else [("prompt", "instruction"), ("query", "input"), ("response", "output")]
    )
    names += [("system", "system")] if survey.system else []
    names += [("tools", "tools")] if survey.tools else []
    names += [("history", "history")] if survey.history and not shaped else []
    entry = {
        "file_name": "delift_subset.json",
        "formatting": "sharegpt" if shaped else "alpaca",
        "columns": dict(names),
    }
    with _archive(out) as archive:
        with _member(archive, "delift_subset.json") as member:
            start = b"[\n"
            for chat in chats():
                member.write(start + _line(record_of("llama-factory", chat, survey)).rstrip(b"\n"))
                start = b",\n"
            member.write(b"\n]\n")
        _text(archive, "dataset_info.json", json.dumps({"delift_subset": entry}, indent=2))
        how = (
            "Unpack into a folder of its own and train with dataset_dir: THAT FOLDER, dataset: delift_subset; or move "
            "delift_subset.json into your data folder and its entry into your dataset_info.json."
        )
        _text(archive, "README.txt", _readme("LLaMA-Factory", how, survey, notes))


# ------------------------------------------------------------------------------------------------ notes and files


def notes_of(format: str, survey: Survey) -> tuple[str, ...]:
    """What a reader must be told of rows in this format."""
    name, notes = SOFTWARE[format], []
    if survey.left:
        names = [repr(entry) for entry in survey.left]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        one = len(names) == 1
        listed = (
            f"{'Field' if one else 'Fields'} {', '.join(names[:_LISTED])}{more} {'stays' if one else 'stay'} behind"
        )
        notes.append(f"{listed}: {name}'s layout has no place for {'it' if one else 'them'}.")
    notes += [f"{_rows(count)}: {doubt}." for doubt, count in survey.doubts.items()]
    if format == "llama-factory" and _is_sharegpt(survey):
        if survey.joined:
            notes.append(f"{_rows(survey.joined)}: neighbouring turns of one speaker are joined for LLaMA-Factory.")
        if survey.flat:
            notes.append(
                f"{_rows(survey.flat)}: the turns do not alternate as LLaMA-Factory needs, so they stand in one user "
                "turn as text, the way they were scored."
            )
    if survey.several:
        advice = {
            "trl": "the completion holds the chosen answer alone; earlier answers stand in the prompt",
            "trl-messages": "assistant_only_loss trains on all of them; the format trl trains on the chosen one alone",
            "llama-factory": "set mask_history: true to train on the last one alone, which is the one that was chosen",
            "axolotl": "message_field_training lets only the last one count, which is the one that was chosen",
        }[format]
        notes.append(f"{_rows(survey.several)} with several answers: {advice}.")
    return tuple(notes)


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _readme(name: str, how: str, survey: Survey, notes: tuple[str, ...]) -> str:
    lines = [f"{_rows(survey.rows)} that delift chose, in pick order, for {name}.", how, *notes]
    return "\n\n".join(lines)


def _line(record: Object) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


@contextmanager
def _archive(out: HashingFile) -> Iterator[zipfile.ZipFile]:
    """A zip whose bytes depend on its contents alone."""
    with zipfile.ZipFile(_Sink(out), "w", zipfile.ZIP_DEFLATED) as archive:
        yield archive


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = zipfile.ZipInfo(name)  # dated 1980
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    mode: Literal["w"] = "w"
    return archive.open(info, mode, force_zip64=True)


def _text(archive: zipfile.ZipFile, name: str, text: str) -> None:
    with _member(archive, name) as member:
        member.write(f"{text}\n".encode(errors="backslashreplace"))


class _Sink(io.RawIOBase):
    """A hashing file as zipfile wants one: it can be written to, and not moved in."""

    def __init__(self, out: HashingFile) -> None:
        self.out = out

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self.out.write(data)

    def tell(self) -> int:
        return self.out.tell()

    def flush(self) -> None:
        self.out.flush()
