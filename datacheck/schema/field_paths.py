"""Finds the field of a schema for a path: by name, by pattern, or as a column of another field.

In a name, ``*`` stands for any characters, and ``[]`` for the index of a list as well: ``layer.*`` has the weights of all
layers, ``[].edge_index`` one in each sample of a list, and ``boxes[].x`` the ``x`` of each box. A name without a pattern
comes first, then the patterns in their order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

from datacheck.schema.field_parts import part_fields, split_part_path

FieldType = TypeVar("FieldType")


def is_pattern(name: str) -> bool:
    """Whether a field's name stands for several paths: ``layer.*``, ``[].x``."""
    return "*" in name or name.startswith("[].")


@lru_cache(maxsize=4096)
def pattern_of(name: str) -> re.Pattern[str] | None:
    """What the paths of a name look like; None for a name that stands for itself."""
    if "*" not in name and "[]" not in name:
        return None
    text = re.escape(name).replace(r"\*", ".*").replace(r"\[\]", r"(?:\[\]|(?:^|(?<!^)\.)\d+)")
    return re.compile(text, re.DOTALL)


def matching_paths(name: str, paths: Collection[str | None]) -> list[str]:
    """The paths that a field's name stands for."""
    pattern = pattern_of(name)
    if pattern is None:
        return [name] if name in paths else []
    return [path for path in paths if path is not None and (path == name or pattern.fullmatch(path))]


def dtypes_of(paths: Iterable[str], dtypes: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The dtype of each path, from the dtypes of fields, whose names may be patterns."""
    known: dict[str | None, str] = dict(dtypes)
    found = ((path, known.get(path) or _by_name(known, path)) for path in paths)
    return tuple((path, dtype) for path, dtype in found if dtype is not None)


def find_field(fields: Mapping[str | None, FieldType], path: str) -> FieldType | None:
    """The field for a path; for values inside a list, the field of the list."""
    if not fields:
        return None
    found = _by_name(fields, path)
    if found is not None:
        return found
    split = split_part_path(path)
    if split is None:
        return None
    base, key = split
    owner = next(iter(fields.values())) if base is None and len(fields) == 1 else fields.get(base)
    owner = owner if owner is not None or base is None else _by_name(fields, base)
    return None if owner is None else part_fields(owner).get(key)


def _by_name(fields: Mapping[str | None, FieldType], path: str) -> FieldType | None:
    while True:
        if path in fields:
            return fields[path]
        # Only here are all names looked at, which would take as long for each of very many fields.
        for name, pattern in _patterns(tuple(fields)):
            if pattern.fullmatch(path):
                return fields[name]
        if not path.endswith("[]"):
            return None
        path = path.removesuffix("[]")


@lru_cache(maxsize=256)
def _patterns(names: tuple[str | None, ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    found = ((name, pattern_of(name)) for name in names if name is not None)
    return tuple((name, pattern) for name, pattern in found if pattern is not None)
