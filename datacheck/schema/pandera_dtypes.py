"""Dtypes and values in pandera's and pandas' words, both ways."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

from datacheck.batch import arrow_dtype
from datacheck.schema.dtypes import canonical_dtype, dtype_kind
from datacheck.schema.protocols import FieldProtocol

__all__ = ["pandas_value", "pandera_dtype", "plain_value", "word_of_dtype"]

_NULLABLE = {"int": "Int", "uint": "UInt"}


def word_of_dtype(dtype: Any) -> tuple[str | None, bool]:
    """Our name for one of pandera's dtypes, and whether that says all of it.

    ``(None, False)`` is a dtype that has no name of ours and that pandera must go on to check: a time without a zone,
    of which pandera accepts every unit, or a dtype of the user's own.
    """
    import numpy as np
    import pandas as pd

    name = type(dtype).__name__
    inner = getattr(dtype, "type", None)
    if name == "Date":
        return "date32[day]", True
    if name == "Decimal" and hasattr(dtype, "precision"):
        return canonical_dtype(f"decimal128({dtype.precision}, {dtype.scale})"), True
    if isinstance(inner, pd.ArrowDtype):
        word = canonical_dtype(_innermost(arrow_dtype(inner.pyarrow_dtype)))
        return word, word is not None
    if isinstance(inner, pd.DatetimeTZDtype):
        word = canonical_dtype(f"timestamp[{inner.unit}, tz={inner.tz}]")
        return word, word is not None and not getattr(dtype, "time_zone_agnostic", False)
    if isinstance(inner, pd.StringDtype):
        return "string", True
    if isinstance(inner, pd.CategoricalDtype):
        return None, True
    inner = getattr(inner, "numpy_dtype", inner)
    if isinstance(inner, np.dtype):
        if inner.kind in "SU":
            return "string", True
        if inner.kind == "O":
            # 'object' says nothing of the values; classes of that storage other than pandera's own Object do.
            return None, name == "Object"
        if inner.kind not in "mM":
            word = canonical_dtype(inner.name)
            return word, word is not None
    return None, False


def _innermost(name: str) -> str:
    while match := re.fullmatch(
        r"(?:list|large_list|fixed_size_list)<(?:\w+: )?(.+?)(?: not null)?>(?:\[\d+\])?", name
    ):
        name = match[1]
    return {"float": "float32", "halffloat": "float16"}.get(name, name)


def pandera_dtype(field: FieldProtocol) -> Any:
    """What pandera should ask of a column of the field; None where pandas has no dtype that says it."""
    from pandera.engines import pandas_engine

    dtype, kind = field.dtype, dtype_kind(field.dtype)
    if dtype is None or field.shape is not None:
        return None
    if kind == "integer" and field.nullable:
        stem = dtype.rstrip("0123456789")
        return f"{_NULLABLE[stem]}{dtype.removeprefix(stem)}"
    if kind == "bool":
        return "boolean" if field.nullable else "bool"
    if kind in ("integer", "complex", "float") and dtype[:4] in (
        "int8",
        "int1",
        "int3",
        "int6",
        "uint",
        "comp",
        "floa",
    ):
        return None if dtype.startswith("float8") else dtype
    if kind == "string":
        return "str"
    if kind == "timestamp":
        match = re.fullmatch(r"timestamp\[(\w+)(?:, tz=(.+))?\]", dtype)
        return pandas_engine.DateTime(unit=match[1], tz=match[2]) if match else None
    return None


def pandas_value(value: Any, dtype: str | None) -> Any:
    """A bound or a member as pandas compares it with the values of a column of the dtype."""
    import pandas as pd

    match dtype_kind(dtype):
        case "duration":
            return pd.Timedelta(value, unit=str(dtype)[len("duration[") : -1])  # type: ignore[arg-type]
        case "timestamp":
            return pd.Timestamp(value)
        case "date":
            return datetime.date.fromisoformat(value)
        case "clock":
            return datetime.time.fromisoformat(value)
        case "decimal":
            return Decimal(str(value))
    return value


def plain_value(value: Any) -> Any:
    """An argument of a pandera check as plain values that a schema file can hold; None where it cannot."""
    import pandas as pd

    if isinstance(value, bool | int | float | str):
        return value
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, re.Pattern):
        return value.pattern if value.flags == re.compile("").flags else None
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)
    if isinstance(value, list | tuple | range):
        members = [plain_value(member) for member in value]
        return None if any(member is None for member in members) else members
    item = getattr(value, "item", None)
    return plain_value(item()) if item is not None and getattr(value, "ndim", 1) == 0 else None
