"""Arrow types by the name of a dtype, for formats that hold only text."""

from __future__ import annotations

import re

import pyarrow as pa

_DECIMAL = re.compile(r"decimal(?:128)?\((\d{1,2}), ?(\d{1,2})\)")
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=([\w/+:-]{1,64})\]")


def arrow_type(dtype: str) -> pa.DataType | None:
    """The Arrow type of a dtype such as ``float32`` or ``timestamp[us]``; None if text cannot be converted to it.

    ``bfloat16`` and ``float8_*`` are read as float32, which can represent all of their values.
    """
    if dtype.startswith(("bfloat", "float8")):
        return pa.float32()
    if match := _DECIMAL.fullmatch(dtype):
        precision, scale = int(match[1]), int(match[2])
        return pa.decimal128(precision, scale) if 0 < precision <= 38 else None
    if match := _ZONED.fullmatch(dtype):
        return pa.timestamp(match[1], match[2])
    try:
        return pa.type_for_alias({"str": "string", "datetime64[ns]": "timestamp[ns]"}.get(dtype, dtype))
    except ValueError:
        return None
