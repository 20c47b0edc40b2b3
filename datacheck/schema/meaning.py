"""What values mean: sentinels, texts, token ids, boxes and chats. Checks that these constraints agree with the dtype."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator

from datacheck.schema.dtypes import dtype_kind, integer_range
from datacheck.schema.validation import fault
from datacheck.schema.values import Scalar
from datacheck.text import count

Format = Literal["xyxy", "xywh", "cxcywh", "chat"]

BOX_FORMATS = ("xyxy", "xywh", "cxcywh")
_TEXT_KEYS = ("not_blank", "stripped", "printable", "no_variants")
_LENGTH_KEYS = ("min_length", "max_length")
_NUMBERS = (None, "integer", "float")


def _listed(value: object) -> object:
    return (value,) if isinstance(value, bool | int | float | str) else value


Missing = Annotated[tuple[Scalar, ...], BeforeValidator(_listed, json_schema_input_type=Scalar | tuple[Scalar, ...])]


class MeaningProtocol(Protocol):
    """The constraints of a field on what its values mean."""

    @property
    def dtype(self) -> str | None: ...
    @property
    def nullable(self) -> bool: ...
    @property
    def missing(self) -> tuple[bool | int | float | str, ...]: ...
    @property
    def not_blank(self) -> bool: ...
    @property
    def stripped(self) -> bool: ...
    @property
    def printable(self) -> bool: ...
    @property
    def min_length(self) -> int | None: ...
    @property
    def max_length(self) -> int | None: ...
    @property
    def vocab_size(self) -> int | None: ...
    @property
    def ignore_index(self) -> int | None: ...
    @property
    def format(self) -> Any: ...
    @property
    def within(self) -> tuple[float | str, float | str] | str | None: ...


def check_meaning(field: MeaningProtocol) -> None:
    """Raise a fault for the first constraint that no value of the dtype can have, or that contradicts another one."""
    kind = dtype_kind(field.dtype)
    for key in _TEXT_KEYS:
        if getattr(field, key) and kind not in (None, "string"):
            raise fault(key, f"values of {field.dtype} are not texts; leave '{key}' out")
    for key in _LENGTH_KEYS:
        if getattr(field, key) is not None and kind not in (None, "string", "binary"):
            raise fault(key, f"values of {field.dtype} have no length; leave '{key}' out")
    if field.min_length is not None and field.max_length is not None and field.min_length > field.max_length:
        raise fault("min_length", f"{field.min_length} is above 'max_length', which is {field.max_length}")
    _check_tokens(field, kind)
    _check_format(field, kind)


def _check_tokens(field: MeaningProtocol, kind: str | None) -> None:
    for key in ("vocab_size", "ignore_index"):
        if getattr(field, key) is not None and kind not in (None, "integer"):
            raise fault(key, f"values of {field.dtype} are not token ids or class ids; leave '{key}' out")
    if kind != "integer":
        return
    least, greatest = integer_range(str(field.dtype))
    if field.vocab_size is not None and field.vocab_size - 1 > greatest:
        raise fault(
            "vocab_size",
            f"{field.dtype} cannot hold {count(field.vocab_size)} token ids: its largest value is {count(greatest)}, and"
            " larger ids wrap around; correct the dtype or the size",
        )
    if field.ignore_index is not None and not least <= field.ignore_index <= greatest:
        raise fault("ignore_index", f"{field.dtype} cannot hold {field.ignore_index}; correct the value or the dtype")


def _check_format(field: MeaningProtocol, kind: str | None) -> None:
    if field.format in BOX_FORMATS and kind not in _NUMBERS:
        raise fault("format", f"values of {field.dtype} are not the coordinates of boxes; leave 'format' out")
    if field.format == "chat" and kind is not None:
        raise fault("format", "a chat is a list of messages, which have no one dtype; leave 'dtype' out")
    if field.within is not None:
        if field.format not in BOX_FORMATS:
            raise fault("within", "says where boxes must lie; set 'format' to xyxy, xywh or cxcywh")
        sizes = [size for size in field.within if not isinstance(size, str)]  # none of a name alone
        if not all(math.isfinite(size) and size > 0 for size in sizes):
            raise fault("within", f"expected the width and the height, both above 0, got {list(field.within)}")


def rules_of_images(fields: Mapping[str | None, Any]) -> Iterator[dict[str, str]]:
    """The expressions for boxes whose limits, a width and a height or the image itself, are fields of the row."""
    for path, field in fields.items():
        within = field.within
        if isinstance(within, str):
            sizes = [f"width({_named(within)})", f"height({_named(within)})"]
        elif within is not None and any(isinstance(size, str) for size in within):
            sizes = [_named(size) if isinstance(size, str) else repr(size) for size in within]
        else:
            continue
        name = "array" if path is None else _named(path)
        x1, y1, x2, y2 = (f"{name}[..., {index}]" for index in range(4))
        if field.format == "xywh":
            x2, y2 = f"{x1} + {x2}", f"{y1} + {y2}"
        elif field.format == "cxcywh":
            x1, y1, x2, y2 = f"{x1} - {x2} / 2", f"{y1} - {y2} / 2", f"{x1} + {x2} / 2", f"{y1} + {y2} / 2"
        rule = f"{x1} >= 0 and {y1} >= 0 and {x2} <= {sizes[0]} and {y2} <= {sizes[1]}"
        shown = within if isinstance(within, str) else f"[{within[0]}, {within[1]}]"
        yield {"expr": rule, "name": f"{path or 'array'} within {shown}"}


def _named(path: str) -> str:
    return path if path.isidentifier() and not keyword.iskeyword(path) else f"field({path!r})"
