"""Lists of a sample that a schema speaks of as a whole, as the columns of lists that files have.

A list of numbers is an array. Any other, such as one of texts, of boxes or of tensors of unequal lengths, becomes a list of
Arrow where the schema has a field for it, ``words``, or for its entries, ``boxes[].x``: its paths, rules and codes are then
those of the same list in a file. Fields that name single entries, ``size.0``, leave it a container.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from datacheck.schema.model import Schema

__all__ = ["ListPaths", "as_arrow_list", "is_plain"]


@dataclass(frozen=True, slots=True)
class ListPaths:
    """The paths at which lists are taken as a whole.

    ``named`` have a field of their own; of ``entered`` the schema names the entries, so that tensors are lists there too,
    and of ``maps`` the keys or values of pairs.
    """

    named: frozenset[str] = frozenset()
    entered: frozenset[str] = frozenset()
    maps: frozenset[str] = frozenset()

    @classmethod
    def of(cls, schema: Schema) -> ListPaths:
        """The paths that a schema has."""
        names = [name for name in schema.fields if name is not None]
        entered = {name.partition("[]")[0] for name in names if "[]" in name}
        inside = {name.rpartition(".")[0] for name in names if "[]" not in name}
        named = {
            name for name in names if "[]" not in name and not any(f"{part}.".startswith(f"{name}.") for part in inside)
        }
        maps = {name.partition("[]")[0] for name in names if name.endswith(("[].key", "[].value"))}
        return cls(frozenset(named), frozenset(entered), frozenset(maps))

    def hold(self, path: str | None, value: Any) -> bool:
        """Whether the value at a path is a list that is taken as a whole."""
        if path in self.entered:
            return isinstance(value, list | tuple | set | frozenset | torch.Tensor | np.ndarray)
        if isinstance(value, torch.Tensor):
            return path in self.named and value.is_nested
        return path in self.named and self.may_hold(path, type(value))

    def may_hold(self, path: str | None, kind: type) -> bool:
        """Whether values of a type may be lists at a path."""
        if path in self.entered:
            return True
        return path in self.named and issubclass(kind, list | tuple | set | frozenset) and not hasattr(kind, "_fields")


def as_arrow_list(value: Any, *, is_map: bool) -> pa.Array:
    """One list as an Arrow array of one row; raises ``ValueError``, ``TypeError`` or ``pa.ArrowException`` where it is none."""
    entries = _plain(value)
    if is_map and all(isinstance(entry, list) and len(entry) == 2 for entry in entries):
        entries = [{"key": key, "value": part} for key, part in entries]
    return pa.array([entries])


def is_plain(value: Any) -> bool:
    """Whether a list is of Python's own values, so that the list of Arrow that it becomes can become it again."""
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
