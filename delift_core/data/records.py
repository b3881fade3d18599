"""What every reader yields: one record of the source, or the reason why there is none."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from typing import Any, NamedTuple


class Record(NamedTuple):
    """One record of a source.  `problem` is set where it could not be read; then `value` is None."""

    line: int  # 1-based line (text formats) or record number (others)
    value: Any
    raw: bytes | None = None  # the very bytes, for JSON Lines
    problem: str | None = None  # "kind: detail"; equal kinds are counted together
    text: str = ""  # what stood there, shortened, when there is a problem


class StrictDecoder(json.JSONDecoder):
    """JSON as RFC 8259 has it.  `constants` collects NaN and Infinity, which the standard library would let pass."""

    def __init__(self) -> None:
        self.constants: list[str] = []
        super().__init__(parse_constant=self.constants.append)

    def problem(self) -> str | None:
        """The problem of the value that was decoded last, if it held a constant that JSON does not know."""
        if not self.constants:
            return None
        name = self.constants[0]
        self.constants.clear()
        return f"{name} is not JSON: write null or a number in its place"


def record_bytes(record: Record) -> bytes:
    """The record as one line of JSON: the source's bytes for JSON Lines, its value otherwise.

    Values that JSON lacks are written as their nearest JSON form: dates as ISO 8601, decimals as text, bytes as UTF-8
    or base64, a missing number (NaN, as table formats store it) as null.
    """
    if record.raw is not None:
        return record.raw
    try:
        text = json.dumps(record.value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        text = json.dumps(_without_nan(record.value), ensure_ascii=False, allow_nan=False, default=_plain)
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates survive only as escapes
        return json.dumps(_without_nan(record.value), default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    return repr(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


def shortened(text: str, limit: int = 2000) -> str:
    """The text, cut with an ellipsis past `limit` characters, always encodable as UTF-8."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.encode("utf-8", "replace").decode()
