from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delift_core.errors import WorkspaceError
from delift_core.runs.blocks import DiskStore
from delift_core.types import BlockStore, block_key

from .conftest import leftovers

KEY = block_key("utility", columns=[0, 64])
ARRAYS = {"l2": np.arange(12, dtype=np.float32).reshape(3, 4), "n": np.array(7), "file": np.array(["a", "ü"])}


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "blocks")


def test_a_block_comes_back_as_it_was(store: DiskStore) -> None:
    assert isinstance(store, BlockStore)
    assert store.get(KEY) is None and KEY not in store
    store.put(KEY, ARRAYS)
    back = DiskStore(store.folder).get(KEY)
    assert back is not None and list(back) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)
    assert store.bytes() == store.path(KEY).stat().st_size


def test_a_block_is_an_ordinary_npz_file_and_the_same_arrays_give_the_same_bytes(store: DiskStore) -> None:
    store.put(KEY, ARRAYS)
    first = store.path(KEY).read_bytes()
    store.put(KEY, ARRAYS)
    assert store.path(KEY).read_bytes() == first
    with np.load(store.path(KEY), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["l2"], ARRAYS["l2"])


@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_makes_the_block_missing(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    store = DiskStore(tmp_path_factory.mktemp("blocks"))
    store.put(KEY, ARRAYS)
    data = bytearray(store.path(KEY).read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    store.path(KEY).write_bytes(data)
    assert store.get(KEY) is None


@settings(max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_block_cut_anywhere_is_missing_and_can_be_written_again(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    store = DiskStore(tmp_path_factory.mktemp("blocks"))
    store.put(KEY, ARRAYS)
    data = store.path(KEY).read_bytes()
    store.path(KEY).write_bytes(data[: int(share * len(data))])
    assert store.get(KEY) is None
    store.put(KEY, ARRAYS)
    assert KEY in store


def test_a_block_with_a_valid_seal_that_holds_an_object_is_never_unpickled(store: DiskStore) -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        store.put(KEY, {"x": np.array([{}], dtype=object)})
    assert KEY not in store


def test_a_folder_in_the_place_of_a_block_counts_as_missing(store: DiskStore) -> None:
    store.path(KEY).mkdir(parents=True)
    assert store.get(KEY) is None


@pytest.mark.parametrize("key", ["", "x", "../../etc/passwd", "a/b-" + "0" * 32, "a-" + "0" * 32 + "/..", "a-0F" * 9])
def test_a_key_that_is_a_path_is_refused(store: DiskStore, key: str) -> None:
    for use in (lambda: store.get(key), lambda: store.put(key, ARRAYS)):
        with pytest.raises(ValueError, match="block key"):
            use()
    with pytest.raises(ValueError, match="name for an array"):
        store.put(KEY, {"../x": np.zeros(1)})
    assert not store.folder.exists()


def test_a_full_disk_leaves_no_block_and_the_old_one_untouched(
    store: DiskStore, fill_disk: Callable[[int], None]
) -> None:
    store.put(KEY, ARRAYS)
    other = block_key("utility", columns=[64, 128])
    fill_disk(0)
    for key in (KEY, other):
        with pytest.raises(WorkspaceError, match="disk is full"):
            store.put(key, {"l2": np.ones(3)})
    assert KEY in store and store.get(other) is None
    assert leftovers(store.folder) == []


def test_a_really_full_disk_keeps_the_blocks_that_were_finished(small_disk: Path) -> None:
    store = DiskStore(small_disk / "blocks")
    keys = [block_key("utility", number=n) for n in range(20)]
    with pytest.raises(WorkspaceError, match="disk is full"):
        for n, key in enumerate(keys):
            store.put(key, {"x": np.full(20_000, n, dtype=np.int64)})
    finished = [n for n, key in enumerate(keys) if key in store]
    assert finished == list(range(len(finished))) and 3 <= len(finished) < 7
    for n in finished:
        block = store.get(keys[n])
        assert block is not None and (block["x"] == n).all()
    assert leftovers(store.folder) == []


WRITER = """
import sys, numpy as np
from pathlib import Path
from delift_core.runs.blocks import DiskStore
store = DiskStore(Path(sys.argv[1]))
print("ready", flush=True)
n = 0
while True:
    store.put(sys.argv[2], {"x": np.full(200_000, n)})
    n += 1
"""


def test_killed_writers_and_readers_at_work_never_meet_a_torn_block(store: DiskStore) -> None:
    for _ in range(2):
        arguments = [sys.executable, "-c", WRITER, str(store.folder), KEY]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            seen = 0
            while seen < 15:
                if store.path(KEY).exists():
                    block = store.get(KEY)
                    assert block is not None and len(np.unique(block["x"])) == 1 and len(block["x"]) == 200_000
                    seen += 1
            writer.kill()
        assert store.get(KEY) is not None
    assert store.sweep() == 0  # parts that are not old may belong to a living process
    assert len(leftovers(store.folder)) <= 2


def test_the_seal_is_the_hash_of_all_before_it(store: DiskStore) -> None:
    store.put(KEY, ARRAYS)
    data = store.path(KEY).read_bytes()
    assert data.endswith(b"sha256:" + hashlib.sha256(data[:-71]).hexdigest().encode())
