from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from delift_core.errors import ModelError
from delift_core.models.causal import BUILTIN, identify_causal, load_causal, load_tokenizer
from tests.models.conftest import save_model

CPU = {"device": "cpu", "dtype": "float32"}


@pytest.mark.parametrize(("kind", "context"), [("llama", 96), ("gpt2", 64), ("qwen2", 96)])
def test_a_folder_loads_ready_to_score_and_says_what_it_is(tmp_path: Path, kind: str, context: int) -> None:
    folder = save_model(tmp_path / f"tiny-{kind}", kind)
    model = load_causal(str(folder), **CPU)
    assert model.context == context
    assert not model.model.training
    assert not any(p.requires_grad for p in model.model.parameters())
    assert model.identity.name == f"tiny-{kind}"
    assert (model.identity.device, model.identity.dtype) == ("cpu", "float32")
    assert model.identity.parameters == sum(p.numel() for p in model.model.parameters())
    assert next(model.model.parameters()).dtype == torch.float32
    logits = model.model(input_ids=torch.tensor([model.encode("What is two?")])).logits
    assert logits.shape[-1] == model.model.config.vocab_size
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_identifying_a_model_gives_what_loading_it_gives(tmp_path: Path, kind: str) -> None:
    folder = save_model(tmp_path / "model", kind)
    assert identify_causal(str(folder)) == load_causal(str(folder)).identity


def test_the_loaded_weights_are_those_in_the_file(llama: Path) -> None:
    stored = load_file(llama / "model.safetensors")
    loaded = load_causal(str(llama), **CPU).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())


def test_the_device_is_a_gpu_with_bfloat16_when_there_is_one_and_is_stated(llama: Path) -> None:
    identity = load_causal(str(llama)).identity
    expected = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    assert (identity.device, identity.dtype) == expected


def test_precision_can_be_asked_for_and_becomes_part_of_the_identity(llama: Path) -> None:
    half = load_causal(str(llama), device="cpu", dtype="bfloat16")
    assert half.identity == replace(identify_causal(str(llama), **CPU), dtype="bfloat16")
    assert next(half.model.parameters()).dtype == torch.bfloat16


def test_a_model_is_known_again_in_another_folder_of_the_same_name(llama: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / llama.name
    shutil.copytree(llama, elsewhere)
    assert identify_causal(str(elsewhere)) == identify_causal(str(llama))


def test_other_weights_or_another_tokenizer_are_another_model(llama: Path, tmp_path: Path) -> None:
    first = identify_causal(str(llama)).hash
    other = save_model(tmp_path / "other" / llama.name, seed=1)
    assert identify_causal(str(other)).hash != first
    tokenizer = json.loads((llama / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"]["add_prefix_space"] = True
    (llama / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    assert identify_causal(str(llama)).hash != first


def test_encoding_adds_nothing_and_reads_markers_in_a_row_as_text(llama: Path) -> None:
    text = load_tokenizer(str(llama))
    assert text.eos_id == 1
    row = "It is <eos> four.<pad>"
    ids = text.encode(row)
    assert text.eos_id not in ids
    assert 0 not in ids
    assert text.tokenizer.decode(ids) == row
    assert text.encode("") == []


def test_joined_pieces_are_encoded_apart(llama: Path) -> None:
    text = load_tokenizer(str(llama))
    texts = ["What is two", "", "plus two?", "año"]
    assert text.encode_all(texts) == [text.encode(t) for t in texts]
    assert text.encode_all([]) == []


def test_tokens_are_counted_without_weights_and_in_any_number(llama: Path) -> None:
    (llama / "model.safetensors").unlink()
    text = load_tokenizer(str(llama))
    texts = ["What is two plus two?", "", "año"] * 2000
    counts = text.count_tokens(t for t in texts)
    assert counts.dtype == np.int64
    assert counts.tolist() == [len(text.encode(t)) for t in texts[:3]] * 2000
    assert text.count_tokens([]).shape == (0,)


def test_a_split_model_loads_and_a_missing_part_is_named(llama: Path) -> None:
    whole = load_causal(str(llama), **CPU).model.state_dict()
    tensors = load_file(llama / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({k: tensors[k] for k in keys}, llama / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {k: file for file, keys in parts.items() for k in keys}}
    (llama / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (llama / "model.safetensors").unlink()
    split = load_causal(str(llama), **CPU).model.state_dict()
    assert all(torch.equal(split[name], tensor) for name, tensor in whole.items())
    (llama / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002\.safetensors"):
        load_causal(str(llama))


def test_an_index_cannot_name_a_file_outside_the_folder(llama: Path) -> None:
    shutil.move(llama / "model.safetensors", llama.parent / "model.safetensors")
    index = {"weight_map": {"x": "../model.safetensors"}}
    (llama / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match="lacks"):
        load_causal(str(llama))


def test_a_folder_without_weights_says_what_it_expected(llama: Path) -> None:
    (llama / "model.safetensors").unlink()
    for call in (load_causal, identify_causal):
        with pytest.raises(ModelError, match=r"no weights: expected model\.safetensors"):
            call(str(llama))


def test_a_pickle_is_never_opened(llama: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (Path.write_text, (tmp_path / "trapped", "ran"))  # type: ignore[return-value]

    (llama / "model.safetensors").unlink()
    torch.save({"x": Trap()}, llama / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickle \(pytorch_model\.bin\).*save_pretrained"):
        load_causal(str(llama))
    assert not (tmp_path / "trapped").exists()


def test_code_beside_a_model_is_never_run(llama: Path, tmp_path: Path) -> None:
    (llama / "modeling_own.py").write_text(f"open({str(tmp_path / 'trapped')!r}, 'w')", encoding="utf-8")
    config = json.loads((llama / "config.json").read_text(encoding="utf-8"))
    own = {"AutoConfig": "modeling_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    (llama / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": own}), encoding="utf-8")
    with pytest.raises(ModelError, match="code that comes with a model is never run"):
        load_causal(str(llama))
    (llama / "config.json").write_text(json.dumps(config | {"auto_map": own}), encoding="utf-8")
    load_causal(str(llama))  # a known type needs none of it
    assert not (tmp_path / "trapped").exists()


def test_a_folder_without_tokenizer_says_so(llama: Path) -> None:
    (llama / "tokenizer.json").unlink()
    (llama / "tokenizer_config.json").unlink()
    for call in (load_causal, identify_causal, load_tokenizer):
        with pytest.raises(ModelError, match="no tokenizer"):
            call(str(llama))


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "\x00\x01"])
def test_a_broken_small_file_is_a_model_error(llama: Path, file: str, content: str) -> None:
    (llama / file).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match="tiny-llama"):
        load_causal(str(llama))


def test_truncated_weights_are_a_model_error(llama: Path) -> None:
    weights = llama / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="weights of tiny-llama cannot be read"):
        load_causal(str(llama))


def test_missing_tensors_are_never_filled_at_random(llama: Path) -> None:
    tensors = load_file(llama / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, llama / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"do not fit.*1 tensors.*layers\.1\.mlp\.up_proj"):
        load_causal(str(llama))


def test_weights_of_another_shape_are_a_model_error(llama: Path) -> None:
    config = json.loads((llama / "config.json").read_text(encoding="utf-8"))
    (llama / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}), encoding="utf-8")
    with pytest.raises(ModelError, match="weights of tiny-llama"):
        load_causal(str(llama))


def test_a_tokenizer_larger_than_the_model_is_refused(llama: Path) -> None:
    tokenizer = json.loads((llama / "tokenizer.json").read_text(encoding="utf-8"))
    size = len(tokenizer["model"]["vocab"])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    tokenizer["added_tokens"].append({"id": size, "content": "<more>", **flags})
    (llama / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ModelError, match="do not belong together"):
        load_causal(str(llama))


def test_a_padding_marker_beyond_the_model_does_no_harm(llama: Path) -> None:
    config = json.loads((llama / "tokenizer_config.json").read_text(encoding="utf-8"))
    (llama / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "<beyond>"}), encoding="utf-8")
    model = load_causal(str(llama), **CPU)
    assert len(model.tokenizer) > model.model.config.vocab_size
    assert max(model.encode("<beyond> four")) < model.model.config.vocab_size


def test_a_model_that_does_not_continue_text_is_refused(llama: Path) -> None:
    (llama / "config.json").write_text(json.dumps({"model_type": "t5"}), encoding="utf-8")
    with pytest.raises(ModelError, match="type t5, which is not a causal language model"):
        load_causal(str(llama))


def test_no_end_of_text_token_is_an_error_that_says_where_to_set_it(llama: Path) -> None:
    (llama / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    config = json.loads((llama / "config.json").read_text(encoding="utf-8"))
    assert load_tokenizer(str(llama)).eos_id == 1  # config.json says it
    (llama / "config.json").write_text(json.dumps(config | {"eos_token_id": None}), encoding="utf-8")
    with pytest.raises(ModelError, match="which token ends a text"):
        load_tokenizer(str(llama))


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "gpt2"])
def test_an_unreachable_hub_model_says_what_to_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for call in (load_causal, identify_causal, load_tokenizer):
        with pytest.raises(ModelError, match=f"the hub cannot be reached.*hf download {name}"):
            call(name)


def test_a_hub_model_in_this_machines_cache_loads_offline_with_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--some--model"
    save_model(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit, encoding="utf-8")
    import huggingface_hub

    fetch = huggingface_hub.snapshot_download
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **options: fetch(name, cache_dir=tmp_path / "hub", **options)
    )
    identity = load_causal("some/model", **CPU).identity
    assert (identity.name, identity.hash) == ("some/model", commit)
    assert identify_causal("some/model", **CPU) == identity
    assert load_causal("some/model", revision=commit, **CPU).identity == identity


@pytest.mark.parametrize(
    ("name", "says"),
    [("/no/such/folder", "No model folder at"), ("a/b/c", "No model folder at"), ("", "No model folder|has no config")],
)
def test_a_name_that_is_neither_folder_nor_hub_id_is_an_error(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load_causal(name)


def test_a_file_is_not_a_model(llama: Path) -> None:
    with pytest.raises(ModelError, match=r"is a file\. Give the folder"):
        load_causal(str(llama / "model.safetensors"))


def test_a_revision_is_for_hub_ids(llama: Path) -> None:
    for name in (str(llama), "builtin"):
        with pytest.raises(ModelError, match="revision"):
            load_causal(name, revision="main")


@pytest.mark.parametrize("wrong", [{"device": "toaster"}, {"device": "cuda:99x"}, {"dtype": "float7"}])
def test_an_unknown_device_or_precision_is_an_error(llama: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"is not understood\. Give auto"):
        load_causal(str(llama), **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error(llama: Path) -> None:
    with pytest.raises(ModelError, match="'cuda' is not there"):
        load_causal(str(llama), device="cuda")


@pytest.mark.skipif(
    not (BUILTIN / "model.safetensors").exists(), reason="the built-in weights are not in this checkout"
)
def test_the_built_in_model_loads_and_is_small() -> None:
    model = load_causal("builtin", **CPU)
    assert model.identity.name == "builtin"
    assert 3e6 <= model.identity.parameters <= 10e6
    assert sum(file.stat().st_size for file in BUILTIN.iterdir() if file.is_file()) <= 20e6
    ids = model.encode("How many eggs are 16 - 3?")
    assert model.tokenizer.decode(ids) == "How many eggs are 16 - 3?"
    assert ids[-1] != model.eos_id
