"""The values in a schema file: bounds, members of a list, keys, metadata."""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

#: The largest number of integers in a range.
_MAX_MEMBERS = 1 << 16


def _bound(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    value = unwrapped(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, or a string for strings and times, got {_described(value)}")
    if _is_huge(value):
        raise ValueError("is larger than any float64")
    if not math.isfinite(value):
        raise ValueError(f"must be finite, got {value}; use 'allow_nan' and 'allow_inf' to allow such values")
    return value


def _member(value: object) -> object:
    if value is None:
        raise ValueError("null cannot be listed; use 'nullable' to allow nulls")
    value = unwrapped(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        key = "allow_nan" if math.isnan(value) else "allow_inf"
        raise ValueError(f"{value} cannot be listed; use '{key}' to allow it")
    if _is_huge(value):
        raise ValueError("is larger than any float64")
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"expected a number, a string, true or false, got {_described(value)}")
    return value


def _members(value: object) -> object:
    """Accept ``{from: 0, to: 24}`` for all integers of a range."""
    if not isinstance(value, Mapping):
        return value
    if set(value) != {"from", "to"}:
        raise ValueError("expected a list of values, or all integers of a range: {from: 0, to: 24}")
    first, last = unwrapped(value["from"]), unwrapped(value["to"])
    for end in (first, last):
        if isinstance(end, bool) or not isinstance(end, int):
            raise ValueError(f"expected integers for 'from' and 'to', got {_described(end)}")
    assert isinstance(first, int)
    assert isinstance(last, int)
    if not 0 <= last - first < _MAX_MEMBERS:
        raise ValueError(f"{first} to {last} is not a range of 1 to {_MAX_MEMBERS:,} integers")
    return tuple(range(first, last + 1))


def _is_huge(value: object) -> bool:
    """Whether an integer is beyond float64, so that it cannot be compared."""
    return isinstance(value, int) and abs(value) > sys.float_info.max


def unwrapped(value: object) -> object:
    """A NumPy scalar as a Python scalar."""
    item = getattr(value, "item", None)
    return item() if item is not None and getattr(value, "ndim", None) == 0 else value


def _described(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)


def _as_key_lists(value: object) -> object:
    """Accept one composite key as in pandera (a list of names), or a list of keys."""
    if isinstance(value, str):
        return ((value,),)
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return (tuple(value),)
    return value if value is not None else ()


def as_expression(value: object) -> object:
    return {"expr": value} if isinstance(value, str) else value


def as_field(value: object) -> object:
    return {} if value is None else value


def _plain(value: object) -> object:
    """Convert metadata to values that YAML can hold."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise ValueError("has a key that is not a string")
            return {key: _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    inner = unwrapped(value)
    if inner is not value:
        return _plain(inner)
    raise ValueError(f"contains {value!r}, which a schema file cannot hold")


#: The name of a size in a shape, as jaxtyping has them.
#: The name of another field.
FieldName = Annotated[str, StringConstraints(min_length=1)]
DimensionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
Bound = Annotated[int | float | str, BeforeValidator(_bound)]
Scalar = Annotated[bool | int | float | str, BeforeValidator(_member)]
#: Values in a list, or a range of integers.
Members = Annotated[
    tuple[Scalar, ...],
    BeforeValidator(_members),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": ["boolean", "number", "string"]}, "minItems": 1},
                {
                    "type": "object",
                    "properties": {"from": {"type": "integer"}, "to": {"type": "integer"}},
                    "required": ["from", "to"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
Keys = Annotated[
    tuple[tuple[str, ...], ...],
    BeforeValidator(_as_key_lists),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "array", "items": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
            ]
        }
    ),
]
Plain = Annotated[dict[str, Any], BeforeValidator(_plain)]
