"""Finished blocks on disk: one file per key, checked by its sha256 when read; what cannot be read counts as missing."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delift_core.runs import files

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,80}-([0-9a-f]{16,64})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,80}")
_SEAL = b"sha256:"  # then 64 hex digits: the comment of the zip file, over all bytes before it
_SEAL_BYTES = len(_SEAL) + 64


@dataclass(frozen=True)
class DiskStore:
    """A `BlockStore` in a folder that many processes may use at once.

    A block is an ordinary .npz file (pickle off) whose zip comment is the sha256 of all that stands before it.
    """

    folder: Path

    def path(self, key: str) -> Path:
        """Where the block of this key lives; a key that `block_key` cannot have made raises ValueError."""
        match = _KEY.fullmatch(key)
        if not match:
            raise ValueError(f"{key!r} is not a block key")
        return self.folder / match[1][:2] / f"{key}.npz"

    def get(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The block's arrays, or None when it is missing, cut short, altered or unreadable."""
        try:
            data = self.path(key).read_bytes()
        except OSError:
            return None
        body, seal = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
        if seal != _SEAL + hashlib.sha256(body).hexdigest().encode():
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def put(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the block whole or not at all; a full disk raises WorkspaceError."""
        path = self.path(key)
        sealed = _sealed(arrays)
        files.make_folder(path.parent)
        with files.atomic(path) as out:
            out.write(sealed)

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def sweep(self) -> int:
        """Remove what killed processes left behind; returns how many files."""
        return files.sweep(self.folder)

    def bytes(self) -> int:
        """What all blocks take on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*/*.npz"))


def _sealed(arrays: Mapping[str, NDArray[Any]]) -> memoryview:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a name for an array")
            member = zipfile.ZipInfo(f"{name}.npy")  # with a fixed date: same arrays, same bytes
            with archive.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, np.asanyarray(array), allow_pickle=False)
    buffer.seek(-2, io.SEEK_END)  # the length of the comment ends the zip file
    buffer.write(struct.pack("<H", _SEAL_BYTES))
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    buffer.write(_SEAL + digest.encode())
    return buffer.getbuffer()
