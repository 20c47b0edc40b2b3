"""Nested structures of values: their parts, one walk over them, and the same structure with other leaves.

A structure is built of mappings, sequences (named tuples and PackedSequence too), sets, dataclasses and attrs classes.
With ``objects``, it also has the parts of objects that list them with ``to_dict``: graphs of PyG, TensorDict.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch

#: Levels of nesting that are followed.
MAX_DEPTH = 32

_SEQUENCES = (tuple, list, set, frozenset, deque)
_ATOMS = (type(None), str, bytes, int, float, torch.Tensor, torch.Size, np.ndarray, np.generic)


def is_container(kind: type, *, objects: bool = False) -> bool:
    """Whether values of a type have named parts."""
    if issubclass(kind, Mapping | tuple | list | set | frozenset | deque):
        return True
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__"):
        return True
    return objects and callable(getattr(kind, "to_dict", None)) and not issubclass(kind, _ATOMS)


def parts_of(value: Any, *, objects: bool = False) -> Iterable[tuple[str, Any]] | None:
    """The parts of a container by name (a key, a field, a position); None for anything else."""
    if isinstance(value, _ATOMS):
        return None
    if isinstance(value, Mapping):
        return ((str(key), part) for key, part in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return zip(value._fields, value, strict=True)
    if isinstance(value, _SEQUENCES):
        return ((str(index), part) for index, part in enumerate(value))
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        names: Iterable[str] = (field.name for field in dataclasses.fields(kind))
    elif hasattr(kind, "__attrs_attrs__"):
        names = (field.name for field in kind.__attrs_attrs__)
    else:
        listed = value.to_dict() if is_container(kind, objects=objects) else None
        return ((str(key), part) for key, part in listed.items()) if isinstance(listed, Mapping) else None
    return ((name, getattr(value, name)) for name in names if hasattr(value, name))


def walk(
    value: Any, path: str | None = None, *, objects: bool = False, above: tuple[int, ...] = ()
) -> Iterator[tuple[str | None, Any]]:
    """The path and value of every leaf of a structure; paths join names with dots: ``encoder.3.weight``.

    ``above`` are the ids of the containers that lead here: one that holds itself is a leaf.
    """
    parts = parts_of(value, objects=objects) if _may_open(value, above) else None
    if parts is None:
        yield path, value
        return
    above = (*above, id(value))
    for name, part in parts:
        yield from walk(part, name if path is None else f"{path}.{name}", objects=objects, above=above)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors of a structure, such as the output of a module."""
    found: list[torch.Tensor] = []
    if isinstance(value, torch.Tensor):
        found.append(value)
    else:
        _add_tensors(value, (), found)
    return found


def _add_tensors(value: Any, above: tuple[int, ...], found: list[torch.Tensor]) -> None:
    kind = type(value)
    parts: Iterable[Any]
    # A guard comes here at each step, and the names of parts cost more than the tensors among them.
    if kind is tuple or kind is list:
        parts = value
    elif kind is dict:
        parts = value.values()
    else:
        parts = [part for _, part in parts_of(value) or ()]
    if not parts or not _may_open(value, above):
        return
    above = (*above, id(value))
    for part in parts:
        if isinstance(part, torch.Tensor):
            found.append(part)
        else:
            _add_tensors(part, above, found)


def _may_open(value: Any, above: tuple[int, ...]) -> bool:
    return len(above) < MAX_DEPTH and id(value) not in above


def with_parts(value: Any, new: Mapping[str, Any]) -> Any:
    """A copy of a container with other values for some of its parts; the container itself is not written to."""
    if isinstance(value, Mapping):
        return _with_items(value, {key: new[str(key)] for key in value if str(key) in new})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(new.get(name, part) for name, part in zip(value._fields, value, strict=True)))
    if isinstance(value, _SEQUENCES):
        return type(value)([new.get(str(index), part) for index, part in enumerate(value)])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        settable = {field.name for field in dataclasses.fields(value) if field.init}
        return dataclasses.replace(value, **{name: part for name, part in new.items() if name in settable})
    changed = copy.copy(value)
    for name, part in new.items():
        setattr(changed, name, part)
    return changed


def _with_items(value: Mapping[Any, Any], new: Mapping[Any, Any]) -> Any:
    changed = copy.copy(value) if isinstance(value, MutableMapping) else dict(value)
    for key, part in new.items():
        changed[key] = part
    return changed


def map_structure(
    value: Any,
    function: Callable[[Any], Any],
    is_leaf: Callable[[Any], bool] | None = None,
    above: tuple[int, ...] = (),
) -> Any:
    """The structure with ``function(leaf)`` for each leaf. ``is_leaf`` says which containers to take as one leaf.

    Mappings, lists and tuples are always copied, so that later changes to the original do not reach the copy; other
    objects only where a leaf in them changed. ``above`` is as in :func:`walk`.
    """
    may_open = _may_open(value, above) and not (is_leaf is not None and is_leaf(value))
    parts = parts_of(value) if may_open else None
    if parts is None:
        return function(value)
    above = (*above, id(value))
    if isinstance(value, Mapping):
        # By key and not by name: 1 and "1" are two keys.
        return _with_items(value, {key: map_structure(part, function, is_leaf, above) for key, part in value.items()})
    old = dict(parts)
    new = {name: map_structure(part, function, is_leaf, above) for name, part in old.items()}
    is_same = not isinstance(value, list | tuple) and all(new[name] is part for name, part in old.items())
    return value if is_same else with_parts(value, new)
