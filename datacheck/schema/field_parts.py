"""The columns and channels of a field: rules for one index of an axis, beside those for all values.

``columns`` are indices of the last axis, ``channels`` indices of the first axis of one row's value. Their keys are all
numbers, or names in the order of the axis. The values at an index have a path of their own: ``windows[3]``,
``boxes[x1]``; ``array[3]`` for the nameless array of an ``.npy``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import PlainSerializer
from pydantic_core import PydanticCustomError

from datacheck.schema.validation import fault

#: A column is written with all that it states: what it forbids is a default elsewhere.
AS_STATED: Final = PlainSerializer(lambda part: part.model_dump(mode="json", exclude_unset=True))
#: What the nameless array is called in expressions and paths.
NAMELESS: Final = "array"
_PARTS: Final = ("columns", "channels")
#: Keys that are about the field as a whole.
_OF_FIELD: Final = ("dtype", "shape", "unique", "required", "coerce", "checks", "own_checks", "max_age", *_PARTS)
#: What a field allows everywhere, a column can forbid; not the other way round.
_ALLOWED: Final = ("nullable", "allow_nan", "allow_inf")


def as_parts(value: object) -> object:
    """Keys that are integers in Python, as they are in a file: text."""
    if not isinstance(value, Mapping):
        return value
    return {str(key) if isinstance(key, int) and not isinstance(key, bool) else key: one for key, one in value.items()}


def parts_of(field: Any) -> tuple[str, Mapping[str, Any]]:
    """Which of ``columns`` and ``channels`` a field has, and them by name."""
    for name in _PARTS:
        if getattr(field, name):
            return name, getattr(field, name)
    return "", {}


def index_of(field: Any, key: str) -> int | None:
    """The index that a column's or channel's key stands for; None if there is no such column."""
    _, parts = parts_of(field)
    if key not in parts:
        return int(key) if key.isdecimal() else None
    return int(key) if key.isdecimal() else list(parts).index(key)


def named_index(name: str, schema: Any) -> tuple[str, tuple[Any, ...]] | None:
    """The field of a column that an expression names, such as ``boxes["x1"]``, and its index; None for any other name."""
    split = None if name in schema.fields else split_part_path(name)
    if split is None:
        return None
    base, key = split
    field = schema.field_for(base)
    index = None if field is None else index_of(field, key)
    if index is None:
        return None
    return base or NAMELESS, (index,) if parts_of(field)[0] == "channels" else (Ellipsis, index)


def part_path(path: str | None, key: str) -> str:
    """The path of the values at an index of an axis."""
    return f"{NAMELESS if path is None else path}[{key}]"


def split_part_path(path: str) -> tuple[str | None, str] | None:
    """The field and the key of a path such as ``boxes[x1]``; None for any other path."""
    base, bracket, key = path.rpartition("[")
    if not bracket or not path.endswith("]") or key == "]":
        return None
    return (None if base == NAMELESS else base), key[:-1]


def part_fields(field: Any) -> dict[str, Any]:
    """The rules of each column or channel, without what the field's own rules report already."""
    _, parts = parts_of(field)
    return {key: part.model_copy(update=_inherited(field, part)) for key, part in parts.items()}


def _inherited(field: Any, part: Any) -> dict[str, Any]:
    forbidden = {key: key in part.model_fields_set and not getattr(part, key) for key in _ALLOWED}
    allowed = {key: not (getattr(field, key) and is_forbidden) for key, is_forbidden in forbidden.items()}
    return {"dtype": field.dtype, **allowed}


def check_parts(field: Any, check: Callable[[Any], None]) -> None:
    """Raise a fault for the first contradiction between a field and its columns; ``check`` checks one field."""
    name, parts = parts_of(field)
    if field.columns and field.channels:
        raise fault("channels", "a field has 'columns' (of its last axis) or 'channels' (of its first), not both")
    numbers = [key for key in parts if key.isdecimal()]
    if numbers and len(numbers) < len(parts):
        raise fault((name, min(set(parts) - set(numbers))), "is a name among numbers; use one of the two for all")
    size = _size(field, name)
    if size is not None and parts:
        beyond = [key for key in numbers if int(key) >= size]
        if beyond:
            raise fault((name, beyond[0]), f"the shape says that there are {size:,}, counted from 0")
        if not numbers and len(parts) != size:
            raise fault(name, f"names {len(parts)} of {size:,}; name all, or use their numbers")
    for key, part in parts.items():
        for stated in part.model_fields_set:
            if stated in _OF_FIELD:
                raise fault((name, key, stated), f"belongs to the whole field, not to one of its {name}")
        for stated in _ALLOWED:
            if getattr(part, stated) and not getattr(field, stated):
                problem = f"the field forbids it; set '{stated}: true' for the field, and false for the other {name}"
                raise fault((name, key, stated), problem)
        try:
            check(part.model_copy(update={"dtype": field.dtype}))
        except PydanticCustomError as error:
            context = error.context or {}
            raise fault((name, key, *context.get("at", ())), str(context.get("problem", error))) from None


def _size(field: Any, name: str) -> int | None:
    """The number of columns that the shape gives; channels may come after an axis for the rows."""
    if name != "columns" or not field.shape or not isinstance(field.shape[-1], int):
        return None
    return field.shape[-1]
