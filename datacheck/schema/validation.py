"""Validates a configuration with its pydantic model; errors give the path and the nearest valid name."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from datacheck.errors import ConfigurationError, SchemaError, nearest_name
from datacheck.text import join_limited, plain

ModelType = TypeVar("ModelType", bound=BaseModel)

_MAX_PROBLEMS = 10
_FAULT = "datacheck_fault"

#: What was expected, by pydantic's name of the error.
_EXPECTED = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "dict_type": "expected a mapping",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "int_from_float": "expected an integer",
    "int_parsing": "expected an integer",
    "int_type": "expected an integer",
    "list_type": "expected a list",
    "mapping_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "model_type": "expected a mapping",
    "none_required": "must be left out",
    "string_type": "expected a string",
    "tuple_type": "expected a list",
}


def fault(at: str | Sequence[str | int | None], problem: str) -> PydanticCustomError:
    """The error that a model's validator raises to report ``problem`` at the key ``at`` inside the model."""
    path = (at,) if isinstance(at, str) else tuple(at)
    return PydanticCustomError(_FAULT, "{problem}", {"problem": problem, "at": path})


def validate(
    model: type[ModelType], mapping: Mapping[Any, Any], place: str, error_type: type[ConfigurationError] = SchemaError
) -> ModelType:
    """Validate ``mapping`` as an instance of ``model``; raises ``error_type`` with ``place: dotted.path: problem``.

    Every problem is reported, one per line. An unknown key comes with the nearest known key; for names from other tools
    a model can have a class variable ``SYNONYMS``, which maps them to its own.
    """
    try:
        return model.model_validate(mapping)
    except ValidationError as error:
        problems = describe_errors(model, mapping, error)
        places = [f"{place}: {path}" if path else place for path, _ in problems]
        others = [f"{where}: {problem}" for where, (_, problem) in zip(places[1:], problems[1:], strict=True)]
        if len(others) >= _MAX_PROBLEMS:
            others[_MAX_PROBLEMS - 1 :] = [f"and {len(others) - _MAX_PROBLEMS + 1:,} more problems"]
        raise error_type(places[0], "\n".join([problems[0][1], *others])) from None


def describe_errors(model: type[BaseModel], data: object, error: ValidationError) -> list[tuple[str, str]]:
    """A dotted path and a problem for each part of a validation error."""
    found: dict[str, str] = {}
    for details in error.errors(include_url=False):
        context = details.get("ctx", {})
        at = tuple(context.get("at", ())) if details["type"] == _FAULT else ()
        keys, location = _keys_of(data, details)
        found.setdefault(join_path((*keys, *at)), _describe(model, location, details))
    return list(found.items())


def join_path(parts: Iterable[object]) -> str:
    """``fields.dep_delay.ge``, ``checks[0].expr``, ``fields.'odd name'.dtype``."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        name = "null" if part is None else plain(str(part))
        if not name.replace("_", "a").replace("-", "a").isalnum():
            name = f"'{name}'"
        path += f".{name}" if path else name
    return path


def _keys_of(data: object, details: ErrorDetails) -> tuple[list[object], list[object]]:
    """The part of an error's location that the user wrote: pydantic adds names of union members and functions."""
    keys: list[object] = []
    location = [part for part in details["loc"] if part != "[key]"]
    current = data
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if isinstance(current, Mapping):
            # pydantic writes the key null as text.
            key = None if part == "None" and part not in current and None in current else part
            if key in current:
                keys.append(key)
                current = current[key]
            elif last and details["type"] == "missing":
                keys.append(part)
        elif isinstance(current, list | tuple) and isinstance(part, int) and part < len(current):
            keys.append(part)
            current = current[part]
        elif isinstance(current, BaseModel) and part in type(current).model_fields:
            keys.append(part)
            current = getattr(current, str(part))
    return keys, keys


def _describe(model: type[BaseModel], location: list[object], details: ErrorDetails) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return _unknown_key(_model_at(model, location[:-1]), str(location[-1]))
    if kind == "missing":
        return "is required"
    if kind == _FAULT:
        return str(details["ctx"]["problem"])
    if kind in ("value_error", "assertion_error"):
        return str(details["ctx"]["error"])
    expected = _EXPECTED.get(kind)
    if expected is None:
        expected = details["msg"].replace("Input should be ", "must be ", 1)
    return f"{expected}, got {_shown(details['input'])}"


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return plain(repr(value), 60)


def _unknown_key(model: type[BaseModel] | None, name: str) -> str:
    unknown = f"unknown key '{plain(name, 60)}'"
    if model is None:
        return unknown
    known = [field.alias or key for key, field in model.model_fields.items()]
    synonyms: Mapping[str, str] = getattr(model, "SYNONYMS", {})
    if name.lower() in synonyms:
        return f"{unknown}; write {synonyms[name.lower()]}"
    return unknown + (nearest_name(name, known) or f"; known keys: {join_limited(known, 30)}")


def _model_at(annotation: Any, location: Sequence[object]) -> type[BaseModel] | None:
    """The model for a location; None if it is not a single model."""
    if get_origin(annotation) is Annotated:
        return _model_at(get_args(annotation)[0], location)
    if get_origin(annotation) in (Union, types.UnionType):
        found = [model for member in get_args(annotation) if (model := _model_at(member, location)) is not None]
        return found[0] if len(found) == 1 else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not location:
            return annotation
        for key, field in annotation.model_fields.items():
            if location[0] in (key, field.alias):
                return _model_at(field.annotation, location[1:])
        return None
    arguments = [argument for argument in get_args(annotation) if argument is not Ellipsis]
    if not arguments:
        return None
    if not location:
        # A single entry that was written without its list.
        return _model_at(arguments[0], ()) if get_origin(annotation) is tuple else None
    return _model_at(arguments[-1], location[1:])
