"""Bytes out of a file: unpacking gzip and zstd in pieces, with caps, and cutting them into lines."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from delift_core.errors import DataError

Compression = Literal["", "gzip", "zstd"]

CHUNK = 1 << 20  # bytes of plain text handed on at a time
_ZSTD_PIECE = 1 << 10  # a compressed byte of zstd can unpack to 32 KiB, so the pieces stay small
_RATIO_FLOOR = 256 << 20  # below this many unpacked bytes no ratio is suspicious


@dataclass(frozen=True)
class ReadLimits:
    """What a reader accepts before it says no.  All sizes in bytes."""

    record_bytes: int = 16 << 20  # one line or record; longer ones are refused, the rest of the file is read
    unpacked_bytes: int = 64 << 30  # a whole source after unpacking
    ratio: float = 300.0  # unpacked over packed, past the first 256 MiB: what only a decompression bomb reaches
    tree_bytes: int = 512 << 20  # reply trees are joined in memory


DEFAULT_LIMITS = ReadLimits()


def compression_of(head: bytes) -> Compression:
    """The compression that the first bytes of a file tell."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    return ""


def chunks(path: Path, limits: ReadLimits, *, compression: Compression | None = None) -> Iterator[bytes]:
    """The plain bytes of a file in pieces of about 1 MiB.

    Raises DataError when the compressed data is broken or cut short, or unpacks to more than the limits allow.
    """
    with path.open("rb") as stream:
        if compression is None:
            compression = compression_of(stream.read(4))
            stream.seek(0)
        unpack = {"": _plain, "gzip": _gunzip, "zstd": _unzstd}[compression]
        size = 0
        for piece in unpack(stream, path.name):
            size += len(piece)
            if (
                compression
                and size > min(_RATIO_FLOOR, limits.unpacked_bytes // 2)
                and size > limits.ratio * stream.tell()
            ):
                raise DataError(
                    f"{path.name} unpacks to more than {limits.ratio:g} times its size, as a decompression bomb does. "
                    "If you trust it, unpack it yourself and load the plain file."
                )
            if size > limits.unpacked_bytes:
                raise DataError(
                    f"{path.name} holds more than {limits.unpacked_bytes:,} bytes unpacked, the limit for one file. "
                    "Split it into smaller files and load one."
                )
            yield piece


def _plain(stream: BinaryIO, name: str) -> Iterator[bytes]:
    while piece := stream.read(CHUNK):
        yield piece


def _gunzip(stream: BinaryIO, name: str) -> Iterator[bytes]:
    member, fresh = zlib.decompressobj(wbits=31), False
    while data := stream.read(CHUNK):
        while data:
            if member.eof:
                data = data.lstrip(b"\0")  # zero padding between or after members is allowed
                if not data:
                    break
                member, fresh = zlib.decompressobj(wbits=31), True
            try:
                piece = member.decompress(data, CHUNK)
            except zlib.error as error:
                where = "has bytes after its end that are not gzip" if fresh else "is broken"
                raise DataError(
                    f"{name}: the gzip data {where} ({error}). Fetch or pack it again and check it with `gzip -t`."
                ) from error
            fresh = fresh and not piece
            data = member.unused_data if member.eof else member.unconsumed_tail
            if piece:
                yield piece
    while not member.eof and (piece := member.decompress(member.unconsumed_tail, CHUNK)):
        yield piece
    if not member.eof:
        raise DataError(f"{name}: the gzip data ends too early, the file is cut short. Fetch or pack it again.")


def _unzstd(stream: BinaryIO, name: str) -> Iterator[bytes]:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    frame = unpacker.decompressobj()
    while data := stream.read(_ZSTD_PIECE):
        while data:
            if frame.eof:
                frame = unpacker.decompressobj()
            try:
                piece = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise DataError(
                    f"{name}: the zstd data is broken ({error}). Fetch or pack it again and check it with `zstd -t`."
                ) from error
            data = frame.unused_data if frame.eof else b""
            if piece:
                yield piece
    if not frame.eof:
        raise DataError(f"{name}: the zstd data ends too early, the file is cut short. Fetch or pack it again.")


@dataclass(frozen=True)
class TooLong:
    """A line that passed the limit: its first bytes and its whole length."""

    head: bytes
    length: int


def lines(pieces: Iterator[bytes], limit: int) -> Iterator[bytes | TooLong]:
    """Lines without their line feed, in order; a UTF-8 mark at the very start is dropped.

    A line longer than `limit` bytes is never held in memory: it comes as `TooLong`.
    """
    parts: list[bytes] = []
    size, first = 0, True

    def joined() -> bytes | TooLong:
        nonlocal parts, size
        line: bytes | TooLong = TooLong(b"".join(parts)[:4096], size) if size > limit else b"".join(parts)
        parts, size = [], 0
        return line

    for piece in pieces:
        if first:
            piece, first = piece.removeprefix(b"\xef\xbb\xbf"), False
        start, *rest = piece.split(b"\n")
        if size <= limit:
            parts.append(start)
        size += len(start)
        if not rest:
            continue
        yield joined()
        last = rest.pop()
        for line in rest:
            yield line if len(line) <= limit else TooLong(line[:4096], len(line))
        parts, size = [last], len(last)
    if size:
        yield joined()
