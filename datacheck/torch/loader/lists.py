"""Turn the lists of a sample into Arrow lists where the schema has fields for them, so that they are checked as in a file.

A list of numbers is an array. Other lists (of strings, boxes, tensors of unequal lengths) become Arrow lists if the schema
has a field for the list, ``words``, or for its entries, ``boxes[].x``. Fields of single entries, ``size.0``, leave it a
container.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from datacheck.schema.model import Schema


@dataclass(frozen=True, slots=True)
class ListPaths:
    """The paths at which lists become Arrow lists.

    Attributes:
        named: lists with a field of their own.
        entered: lists with fields for their entries; tensors count as lists here.
        maps: lists of pairs with fields for the keys or values.
    """

    named: frozenset[str] = frozenset()
    entered: frozenset[str] = frozenset()
    maps: frozenset[str] = frozenset()

    @classmethod
    def of(cls, schema: Schema) -> ListPaths:
        """The paths in a schema."""
        names = [name for name in schema.fields if name is not None]
        entered = {name.partition("[]")[0] for name in names if "[]" in name}
        inside = {name.rpartition(".")[0] for name in names if "[]" not in name}
        named = {
            name for name in names if "[]" not in name and not any(f"{part}.".startswith(f"{name}.") for part in inside)
        }
        maps = {name.partition("[]")[0] for name in names if name.endswith(("[].key", "[].value"))}
        return cls(frozenset(named), frozenset(entered), frozenset(maps))

    def hold(self, path: str | None, value: Any) -> bool:
        """Whether the value at a path becomes an Arrow list."""
        if path in self.entered:
            return isinstance(value, list | tuple | set | frozenset | torch.Tensor | np.ndarray)
        if isinstance(value, torch.Tensor):
            return path in self.named and value.is_nested
        return path in self.named and self.may_hold(path, type(value))

    def may_hold(self, path: str | None, kind: type) -> bool:
        """Whether values of a type may become Arrow lists at a path."""
        if path in self.entered:
            return True
        return path in self.named and issubclass(kind, list | tuple | set | frozenset) and not hasattr(kind, "_fields")


def as_arrow_list(value: Any, *, is_map: bool) -> pa.Array:
    """One list as an Arrow array of one row; raises ``ValueError``, ``TypeError`` or ``pa.ArrowException``."""
    entries = _plain(value)
    if is_map and all(isinstance(entry, list) and len(entry) == 2 for entry in entries):
        entries = [{"key": key, "value": part} for key, part in entries]
    return pa.array([entries])


def is_plain(value: Any) -> bool:
    """Whether a list holds plain Python values only, so that its Arrow list can be turned back into it."""
    return type(value) in (list, tuple) and all(map(_is_plain_entry, value))


def _is_plain_entry(value: Any) -> bool:
    if isinstance(value, list):
        return type(value) is list and all(map(_is_plain_entry, value))
    if isinstance(value, dict):
        return (
            type(value) is dict
            and all(type(name) is str for name in value)
            and all(map(_is_plain_entry, value.values()))
        )
    return value is None or type(value) in (bool, int, float, str, bytes)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [part.tolist() for part in value.detach().unbind()] if value.is_nested else value.detach().tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _plain(part) for name, part in zip(value._fields, value, strict=True)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    return value
