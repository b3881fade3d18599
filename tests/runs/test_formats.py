"""Training formats: turns come back from every layout, each library reads its own file, nothing is lost in silence."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from delift_core.data import load
from delift_core.errors import ConfigError
from delift_core.runs import files, formats
from delift_core.runs.formats import Chat
from delift_core.sharing.chats import AS_TEXT, BY_NAMES, EARLIER, MOVED, TWICE, chats_of


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALL = json.dumps({"name": "add", "arguments": {"a": 1}})
TOOLS = [{"name": "add", "description": "adds", "parameters": {"type": "object"}}]
ALPACA = [
    {"instruction": "Q1", "input": "I1", "output": "A1", "system": "S", "topic": "x"},
    {"instruction": "Q2", "input": "", "output": "A2 ü\u2028", "system": "", "topic": None},
    {"instruction": "Q3", "input": "", "output": "A3", "system": "", "history": [["h1", "g1"], ["h2", "g2"]]},
]
MESSAGES = [
    {"messages": [turn("system", "S"), turn("user", "Q"), turn("assistant", "A")]},
    {"messages": [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")], "source": "w"},
    {"messages": [turn("user", "a"), turn("user", "b", name="Bo"), turn("assistant", "c")]},
    {"messages": [turn("assistant", "Hello"), turn("user", "q"), turn("assistant", "r"), turn("user", "bye")]},
    {"messages": [turn("user", "q"), turn("assistant", "one"), turn("assistant", "two")]},
    {"messages": [turn("user", "q"), turn("system", "late"), turn("assistant", "r")]},
]
CALLS = [
    {"tools": json.dumps(TOOLS), "conversations": [
        {"from": "human", "value": "1?"}, {"from": "function_call", "value": CALL},
        {"from": "observation", "value": "one"}, {"from": "gpt", "value": "It is one."},
    ]},
    {"tools": "[]", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
]  # fmt: skip
SOURCES = {"alpaca": ALPACA, "messages": MESSAGES, "calls": CALLS}


def read(records: list[dict[str, Any]], folder: Path, **more: Any) -> list[Chat]:
    folder.mkdir(exist_ok=True)
    source = folder / "source.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    loaded = load(source, folder / "datasets", **more)
    return list(chats_of(loaded.dataset, loaded.report, range(len(loaded.dataset))))


@pytest.fixture(params=SOURCES)
def chats(request: pytest.FixtureRequest, tmp_path: Path) -> list[Chat]:
    return read(SOURCES[request.param], tmp_path)


def save(chats: list[Chat], format: str, folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of an export by name, and its notes."""
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    notes = formats.write(files.HashingFile(buffer), format, lambda: iter(chats))
    if formats.FORMATS[format].ending == ".zip":
        with zipfile.ZipFile(io.BytesIO(buffer.getvalue())) as archive:
            assert archive.testzip() is None
            archive.extractall(folder)
    else:
        (folder / "subset.jsonl").write_bytes(buffer.getvalue())
    return {path.name: path for path in folder.iterdir()}, notes


def rows(path: Path, cache: Path) -> list[dict[str, Any]]:
    """What `datasets.load_dataset` reads."""
    datasets = pytest.importorskip("datasets")
    found: list[dict[str, Any]] = datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(cache)
    ).to_list()
    return found


# ------------------------------------------------------------------------------------------------ turns come back


def test_fields_become_instruction_input_system_and_history(tmp_path: Path) -> None:
    first, second, third = read(ALPACA, tmp_path)
    assert first == Chat((("user", "Q1\n\nI1"),), "A1", "Q1\n\nI1", "S", parts=("Q1", "I1"), left=("topic",))
    assert second.left == () and second.answer == "A2 ü\u2028"  # an empty field is no loss
    assert [text for _, text in third.turns] == ["h1", "g1", "h2", "g2", "Q3"] and third.doubts == (EARLIER,)


def test_conversations_keep_their_turns_and_say_what_changed(tmp_path: Path) -> None:
    plain, two, crowd, greeting, twice, late = read(MESSAGES, tmp_path)
    assert (plain.system, plain.turns, plain.answer) == ("S", (("user", "Q"),), "A")
    assert two.turns == (("user", "a"), ("assistant", "b"), ("user", "c")) and two.left == ("source",)
    assert crowd.turns == (("user", "a"), ("user", "b")) and crowd.left == ("messages: name",)
    assert greeting.turns[0] == ("assistant", "Hello") and greeting.left == ("messages: turns after the last answer",)
    assert twice.turns == (("user", "User: q\n\nAssistant: one"),) and (twice.answer, twice.doubts) == ("two", (TWICE,))
    assert (late.system, late.turns, late.doubts) == ("late", (("user", "q"),), (MOVED,))


def test_each_answer_of_a_conversation_is_a_row_with_the_turns_before_it(tmp_path: Path) -> None:
    chats = read([MESSAGES[1], {"messages": MESSAGES[1]["messages"][2:]}], tmp_path, turns="every")
    assert [(len(chat.turns), chat.answer) for chat in chats] == [(1, "b"), (3, "d"), (1, "d")]


def test_tool_turns_and_descriptions_come_back(tmp_path: Path) -> None:
    call, plain = read(CALLS, tmp_path)
    assert [role for role, _ in call.turns] == ["user", "assistant", "tool"] and json.loads(call.tools) == TOOLS
    assert call.system == "" and plain.tools == ""


def test_conversations_that_are_only_there_as_text_are_cut_at_the_names_and_said_so(tmp_path: Path) -> None:
    tree = [
        {"message_id": "1", "parent_id": None, "role": "prompter", "text": "Q"},
        {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "A"},
        {"message_id": "3", "parent_id": "2", "role": "prompter", "text": "R"},
        {"message_id": "4", "parent_id": "3", "role": "assistant", "text": "B"},
        {"message_id": "5", "parent_id": "4", "role": "prompter", "text": "T\n\nUser: no turn"},
        {"message_id": "6", "parent_id": "5", "role": "assistant", "text": "C"},
    ]
    one, two, three = read(tree, tmp_path)
    assert one.turns == (("user", "Q"),) and one.doubts == ()
    assert [text for _, text in two.turns] == ["Q", "A", "R"] and two.doubts == (BY_NAMES,)
    assert len(three.turns) == 1 and three.doubts == (AS_TEXT,)  # it could be cut in two ways, so it is not cut


def test_a_shared_instruction_finds_the_input_of_its_answer(tmp_path: Path) -> None:
    pairs = [{"input": "I", "output": "A"}, {"input": "", "output": "B"}]
    assert [c.parts for c in read([{"instruction": "Q", "instances": pairs}], tmp_path)] == [("Q", "I"), ("Q", "")]


@pytest.mark.parametrize("name", ["glaive_toolcall_en_demo", "natural_instructions", "dolly_15k_en", "taskmaster4"])
def test_real_rows_come_back_without_a_doubt(shared: Path, tmp_path: Path, name: str) -> None:
    with (shared / "data" / f"{name}.jsonl").open(encoding="utf-8") as stream:
        records = [json.loads(line) for line, _ in zip(stream, range(150), strict=False)]
    chats = read(records, tmp_path)
    assert chats and not [chat for chat in chats if chat.doubts]


def test_rows_without_a_response_are_refused_with_the_formats_that_take_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Row 0 of source.jsonl has no response.*jsonl, parquet or csv"):
        read([{"prompt": "Q"}], tmp_path, need_response=False)


# ------------------------------------------------------------------------------------------------ files of all formats


def test_trl_reads_prompt_and_completion_as_messages(chats: list[Chat], tmp_path: Path) -> None:
    saved, _ = save(chats, "trl", tmp_path / "out")
    found = rows(saved["subset.jsonl"], tmp_path / "cache")
    assert len(found) == len(chats)
    for row, chat in zip(found, chats, strict=True):
        assert row["completion"] == [turn("assistant", chat.answer)]
        system = [turn("system", chat.system)] if chat.system else []
        assert row["prompt"] == [*system, *(turn(*said) for said in chat.turns)]
        assert row["prompt"][-1]["role"] in ("user", "tool")
        assert json.loads(row.get("tools", "null")) == (json.loads(chat.tools) if chat.tools else None)
    whole = rows(save(chats, "trl-messages", tmp_path / "whole")[0]["subset.jsonl"], tmp_path / "cache")
    assert [row["messages"] for row in whole] == [row["prompt"] + row["completion"] for row in found]


def test_llama_factory_gets_columns_that_its_entry_names(chats: list[Chat], tmp_path: Path) -> None:
    saved, _ = save(chats, "llama-factory", tmp_path / "out")
    entry = json.loads(saved["dataset_info.json"].read_text())["delift_subset"]
    found = rows(saved[entry["file_name"]], tmp_path / "cache")
    assert len(found) == len(chats) and set(entry["columns"].values()) == set(found[0])
    for row, chat in zip(found, chats, strict=True):
        said = [t["value"] for t in row["conversations"]] if "conversations" in row else [row["output"]]
        assert said[-1] == chat.answer
        tags = [t["from"] in ("human", "observation") for t in row.get("conversations", [])]
        assert tags == [i % 2 == 0 for i in range(len(tags))]  # the converter skips what does not alternate


def test_alpaca_is_kept_where_it_holds_all_and_sharegpt_taken_where_not(tmp_path: Path) -> None:
    saved, notes = save(read(ALPACA, tmp_path), "llama-factory", tmp_path / "alpaca")
    found = json.loads(saved["delift_subset.json"].read_text(encoding="utf-8"))
    assert found[0] == {"instruction": "Q1", "input": "I1", "output": "A1", "system": "S", "history": []}
    assert found[2]["history"] == [["h1", "g1"], ["h2", "g2"]]
    assert "Field 'topic' stays behind: LLaMA-Factory's layout has no place for it." in notes
    saved, notes = save(read(MESSAGES, tmp_path / "m"), "llama-factory", tmp_path / "sharegpt")
    found = json.loads(saved["delift_subset.json"].read_text(encoding="utf-8"))
    assert [t["value"] for t in found[2]["conversations"]] == ["a\n\nb", "c"]
    assert found[3]["conversations"][0]["value"] == "Assistant: Hello\n\nUser: q"
    said = "\n".join(notes)
    assert "1 row: neighbouring turns" in said and "1 row: the turns do not alternate" in said
    assert "mask_history: true" in said and said.replace("\n", "") in saved["README.txt"].read_text().replace("\n", "")


def test_calls_are_llama_factory_s_own_where_they_are_calls(tmp_path: Path) -> None:
    nested = json.dumps([{"type": "function", "function": {"name": "add", "arguments": "{}"}}])
    calls = [
        CALLS[0],
        {**CALLS[0], "conversations": [*CALLS[0]["conversations"][:1], {"from": "gpt", "value": nested}]},
    ]
    saved, _ = save(read(calls, tmp_path), "llama-factory", tmp_path / "out")
    one, two = json.loads(saved["delift_subset.json"].read_text())
    assert [t["from"] for t in one["conversations"]] == ["human", "function_call", "observation", "gpt"]
    assert one["conversations"] == CALLS[0]["conversations"]  # as it came
    assert json.loads(two["conversations"][-1]["value"]) == [{"name": "add", "arguments": "{}"}]


def test_axolotl_trains_on_the_chosen_answer_alone(chats: list[Chat], tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    saved, _ = save(chats, "axolotl", tmp_path / "out")
    (entry,) = yaml.safe_load(saved["datasets.yaml"].read_text())["datasets"]
    found = rows(saved[entry["path"]], tmp_path / "cache")
    assert entry["type"] == "chat_template" and len(found) == len(chats)
    several = any(chat.several for chat in chats)
    assert ("message_field_training" in entry) == several and ("field_tools" in entry) == ("tools" in found[0])
    if several:
        for row in found:
            assert [message["train"] for message in row["messages"]] == [False] * (len(row["messages"]) - 1) + [True]


@pytest.mark.parametrize("format", formats.FORMATS)
def test_the_same_rows_give_the_same_bytes(format: str, tmp_path: Path) -> None:
    chats, both = read(MESSAGES, tmp_path), [io.BytesIO(), io.BytesIO()]
    for buffer in both:
        formats.write(files.HashingFile(buffer), format, lambda: iter(chats))
    assert both[0].getvalue() == both[1].getvalue()
    with pytest.raises(ConfigError, match="Did you mean 'trl'"):
        formats.write(files.HashingFile(io.BytesIO()), "trll", lambda: iter(chats))


# ------------------------------------------------------------------------------------------------ the libraries


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    folder = Path(formats.__file__).parents[1] / "models" / "builtin"
    made = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    made.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"})
    made.add_tokens(["<|im_start|>"], special_tokens=True)
    made.chat_template = CHATML
    return made


def test_trl_itself_takes_every_row(chats: list[Chat], tmp_path: Path) -> None:
    utils = pytest.importorskip("trl.data_utils", exc_type=ImportError)
    saved, _ = save(chats, "trl", tmp_path / "out")
    for row, chat in zip(rows(saved["subset.jsonl"], tmp_path / "cache"), chats, strict=True):
        row.pop("tools", None)
        assert utils.is_conversational(row)
        made = utils.apply_chat_template(row, tokenizer())
        assert made["completion"] == f"{chat.answer}<|im_end|>\n" and chat.turns[-1][1] in made["prompt"]


def test_llama_factory_itself_skips_no_row(chats: list[Chat], tmp_path: Path) -> None:
    parser = pytest.importorskip("llamafactory.data.parser", exc_type=ImportError)
    loader = pytest.importorskip("llamafactory.data.loader", exc_type=ImportError)
    save(chats, "llama-factory", tmp_path / "out")
    (attributes,) = parser.get_dataset_list(["delift_subset"], str(tmp_path / "out"))
    data = SimpleNamespace(
        dataset_dir=str(tmp_path / "out"), streaming=False, preprocessing_num_workers=None, overwrite_cache=True,
        max_samples=None, media_dir=str(tmp_path),
    )  # fmt: skip
    model = SimpleNamespace(cache_dir=str(tmp_path / "cache"), hf_hub_token=None)
    found = loader._load_single_dataset(attributes, model, data, SimpleNamespace(local_process_index=0))
    assert len(found) == len(chats)
    for row, chat in zip(found, chats, strict=True):
        assert row["_response"][-1]["content"] == chat.answer and (row["_system"] or "") == chat.system
        assert row["_prompt"] and row["_prompt"][-1]["role"] in ("user", "observation")


def test_axolotl_itself_labels_the_answer_and_nothing_else(chats: list[Chat], tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    strategies = pytest.importorskip("axolotl.prompt_strategies.chat_template", exc_type=ImportError)
    mapping = pytest.importorskip("axolotl.utils.dict", exc_type=ImportError)
    saved, _ = save(chats, "axolotl", tmp_path / "out")
    (entry,) = yaml.safe_load(saved["datasets.yaml"].read_text())["datasets"]
    made = tokenizer()
    settings = mapping.DictDefault(
        {"sequence_len": 4096, "train_on_inputs": False, "chat_template": "tokenizer_default"}
    )
    strategy = strategies.load(made, settings, entry)
    for row, chat in zip(rows(saved[entry["path"]], tmp_path / "cache"), chats, strict=True):
        found = strategy.tokenize_prompt(row)
        learnt = made.decode([label for label in found["labels"] if label != -100])
        assert learnt.replace("<|im_end|>", "").split() == chat.answer.split()
