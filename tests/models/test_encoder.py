from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from delift_core.errors import Cancelled, ModelError, WorkspaceError
from delift_core.models import encoder as encoders
from delift_core.models import static
from delift_core.models.encoder import (
    MINILM_SHA256,
    SHIPPED,
    Encoder,
    MiniLM,
    Static,
    identify_encoder,
    load_encoder,
    unit,
)
from delift_core.models.static import RECIPE, Recipe, read_table, shrink, words, write_table
from delift_core.registry import ENCODERS, resolve
from delift_core.types import Identity

TEXTS = [
    "What is the capital of Spain?",
    "Name the capital city of Spain.",
    "def add(a, b):\n    return a + b",
    "",
    "año 北京 🧿",
    "A long row. " * 400,
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM.load(device="cpu")


@pytest.fixture(scope="module")
def static_encoder() -> Static:
    """`fast` with a table of random vectors, for everything that does not hang on their quality."""
    tokenizer = encoders._tokenizer()
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float32)
    return Static(table, tokenizer, Identity("fast", "test", "encoder"))


@pytest.fixture(params=["minilm", "static_encoder"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    loaded: Encoder = request.getfixturevalue(request.param)
    return loaded


def test_the_registry_names_the_shipped_encoders() -> None:
    assert {name: resolve(ENCODERS, "encoder", name) for name in ENCODERS} == SHIPPED


def test_rows_are_unit_vectors_in_float32(encoder: Encoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape[0] == len(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_has_the_same_vector_alone_in_any_order_and_in_any_company(encoder: Encoder) -> None:
    together = encoder.encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose(np.vstack([encoder.encode([t]) for t in TEXTS]), together, atol=1e-5)


def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.encode(["x"]).shape[1])


def test_a_marker_written_in_a_row_is_text(encoder: Encoder) -> None:
    with_marker, without = encoder.encode(["one [SEP] [CLS] two", "one two"])
    assert not np.allclose(with_marker, without, atol=1e-3)


def test_progress_counts_every_text_and_may_cancel(encoder: Encoder) -> None:
    seen: list[tuple[str, float, float]] = []
    encoder.encode(TEXTS, progress=lambda stage, done, total, note="": seen.append((stage, done, total)))
    assert seen[-1] == ("encode", len(TEXTS), len(TEXTS))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)

    def cancel(stage: str, done: float, total: float, note: str = "") -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        encoder.encode(TEXTS, progress=cancel)


def test_minilm_equals_sentence_transformers(minilm: MiniLM) -> None:
    reference = load_encoder(str(encoders._folder()), device="cpu")
    np.testing.assert_allclose(minilm.encode(TEXTS), reference.encode(TEXTS), atol=1e-5)
    assert reference.identity == identify_encoder(str(encoders._folder()), device="cpu")
    assert reference.encode([]).shape == (0, 384)


def test_minilm_puts_a_paraphrase_nearer_than_code(minilm: MiniLM) -> None:
    first, paraphrase, code = minilm.encode(TEXTS[:3])
    assert first @ paraphrase > 0.8 > 0.3 > first @ code


def test_minilm_says_what_it_is_and_how_large(minilm: MiniLM) -> None:
    assert minilm.identity == identify_encoder("minilm", device="cpu")
    assert minilm.identity.hash == MINILM_SHA256
    # The file also holds the 512 position numbers, which are no parameters.
    assert minilm.identity.parameters == sum(p.numel() for p in minilm.model.parameters()) + 512


def test_altered_weights_of_minilm_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    shutil.copytree(encoders._folder(), folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr(encoders, "_folder", lambda: folder)
    for name in ("minilm", "fast"):
        with pytest.raises(ModelError, match=f"should have sha256 {MINILM_SHA256}.*Install the package again"):
            load_encoder(name, cache=tmp_path)
    weights.unlink()
    with pytest.raises(ModelError, match="but it is no file"):
        identify_encoder("minilm")


class FakeMeans:
    """Stands in for MiniLM while distilling: a fixed random vector per token, and a count of how often it ran."""

    def __init__(self) -> None:
        self.runs = 0

    def load(self, *, device: str) -> FakeMeans:
        return self

    def means(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        self.runs += 1
        assert {len(sequence) for sequence in ids} == {3}
        return np.random.default_rng(0).normal(size=(len(ids), 300)).astype(np.float32)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> FakeMeans:
    fake = FakeMeans()
    monkeypatch.setattr(encoders, "MiniLM", fake)
    return fake


def test_fast_is_distilled_once_and_then_read(teacher: FakeMeans, tmp_path: Path) -> None:
    first = load_encoder("fast", cache=tmp_path)
    again = load_encoder("fast", cache=tmp_path)
    assert teacher.runs == 1
    assert np.array_equal(first.encode(TEXTS), again.encode(TEXTS))
    assert first.identity == again.identity == identify_encoder("fast")
    assert first.encode(["x"]).shape == (1, RECIPE.dimensions)
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]


def test_fast_keeps_its_table_in_the_workspace_by_default(
    teacher: FakeMeans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELIFT_HOME", str(tmp_path / "here"))
    load_encoder("fast")
    assert len(list((tmp_path / "here" / "models").glob("fast-*.safetensors"))) == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other"])
def test_a_damaged_table_is_made_again(teacher: FakeMeans, tmp_path: Path, damage: str) -> None:
    expected = load_encoder("fast", cache=tmp_path).encode(TEXTS)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if damage == "other":
        save_file({"table": load_file(file)["table"] * 2}, file)
    else:
        file.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-9]), "empty": b""}[damage])
    assert np.array_equal(load_encoder("fast", cache=tmp_path).encode(TEXTS), expected)
    assert teacher.runs == 2


def test_a_table_is_read_as_it_was_written_up_to_half_precision(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    write_table(tmp_path / "deep" / "table.safetensors", table)
    read = read_table(tmp_path / "deep" / "table.safetensors")
    assert read is not None
    assert np.array_equal(read, table.astype(np.float16).astype(np.float32))
    assert read_table(tmp_path / "nothing.safetensors") is None


def test_a_full_disk_leaves_nothing_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(static.os, "fsync", full)
    with pytest.raises(WorkspaceError, match=r"No space left on device\. Free some space"):
        write_table(tmp_path / "table.safetensors", np.zeros((4, 4), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_the_table_keeps_distances_when_no_axis_is_dropped_and_nothing_is_weighted() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    kept = shrink(vectors, Recipe(dimensions=6, smoothing=1e9))
    apart = lambda v: np.linalg.norm(v[:, None] - v[None], axis=2)  # noqa: E731
    np.testing.assert_allclose(apart(kept), apart(vectors), atol=1e-4)
    variance = kept.var(0)
    assert (np.diff(variance) <= 1e-6).all()  # principal axes, the widest first


def test_frequent_tokens_weigh_less() -> None:
    vectors = np.tile(np.eye(4, dtype=np.float32), (25, 1))
    lengths = np.linalg.norm(shrink(vectors, Recipe(dimensions=3)), axis=1)
    assert (np.diff(lengths[::4]) > 0).all()


def test_markers_carry_no_meaning() -> None:
    vocabulary = {"[PAD]": 0, "[unused1]": 1, "[UNK]": 2, "[": 3, "the": 4, "##s": 5, "[SEP]": 6}
    assert words(vocabulary) == [3, 4, 5]


def test_another_recipe_or_encoder_has_another_hash() -> None:
    hashes = {RECIPE.hash("a"), RECIPE.hash("b"), Recipe(dimensions=128).hash("a"), Recipe(smoothing=1e-3).hash("a")}
    assert len(hashes) == 4
    assert RECIPE.hash("a") == Recipe().hash("a")


def test_a_row_of_zeros_gets_a_direction_too() -> None:
    np.testing.assert_allclose(unit(np.array([[0, 0], [3, 4]], np.float32)), [[1, 0], [0.6, 0.8]])


@pytest.fixture
def sentence_folder(tmp_path: Path) -> Path:
    """A sentence-transformers folder with a tiny random BERT."""
    from transformers import BertConfig, BertModel

    folder = tmp_path / "tiny-sentence"
    torch.manual_seed(0)
    tokenizer = encoders._tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=tokenizer.get_vocab_size(), **sizes)).save_pretrained(folder)
    for file in ("modules.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "sentence_bert_config.json"):
        shutil.copy(encoders._folder() / file, folder / file)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def test_a_sentence_transformers_folder_loads(sentence_folder: Path) -> None:
    encoder = load_encoder(str(sentence_folder), device="cpu")
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], vectors, atol=1e-5)
    assert encoder.identity == identify_encoder(str(sentence_folder), device="cpu")
    assert encoder.identity.name == "tiny-sentence"


def test_an_encoder_with_a_module_of_its_own_is_refused(sentence_folder: Path, tmp_path: Path) -> None:
    (sentence_folder / "own.py").write_text(f"open({str(tmp_path / 'trapped')!r}, 'w')", encoding="utf-8")
    modules = json.loads((sentence_folder / "modules.json").read_text(encoding="utf-8"))
    modules.append({"idx": 3, "name": "3", "path": "", "type": "own.Module"})
    (sentence_folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(ModelError, match=r"own\.Module.*never run"):
        load_encoder(str(sentence_folder))
    assert not (tmp_path / "trapped").exists()


def test_a_module_cannot_lie_outside_its_folder(sentence_folder: Path) -> None:
    modules = json.loads((sentence_folder / "modules.json").read_text(encoding="utf-8"))
    modules[1]["path"] = "../elsewhere"
    (sentence_folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(ModelError, match=r"in \.\./elsewhere"):
        identify_encoder(str(sentence_folder))


def test_an_encoder_with_only_a_pickle_is_refused(sentence_folder: Path) -> None:
    (sentence_folder / "model.safetensors").rename(sentence_folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only as a pickle \(pytorch_model\.bin\)"):
        load_encoder(str(sentence_folder))


@pytest.mark.parametrize(
    ("file", "says"),
    [("modules.json", "not a sentence-transformers model"), ("model.safetensors", "no weights in safetensors")],
)
def test_an_encoder_that_lacks_a_file_is_refused(sentence_folder: Path, file: str, says: str) -> None:
    (sentence_folder / file).unlink()
    with pytest.raises(ModelError, match=says):
        load_encoder(str(sentence_folder))


@pytest.mark.parametrize("content", ["{", "[1]", '[{"type": 3}]'])
def test_a_broken_list_of_modules_is_a_model_error(sentence_folder: Path, content: str) -> None:
    (sentence_folder / "modules.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"modules\.json of tiny-sentence"):
        load_encoder(str(sentence_folder))


def test_truncated_encoder_weights_are_a_model_error(sentence_folder: Path) -> None:
    weights = sentence_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(ModelError, match=r"model\.safetensors.*cannot be read"):
        identify_encoder(str(sentence_folder))


def test_an_unknown_encoder_is_sought_on_the_hub_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"no folder minilmm.*hub cannot be reached"):
        load_encoder("minilmm")
