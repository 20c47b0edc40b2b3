"""Checks of the user's own: classes and functions with their own codes, which a schema names.

    import datacheck

    @datacheck.own_check("X101", "are odd")
    def even(values):
        return values % 2 == 1          # True: a violation

A schema that names ``package.module:even`` imports that module, so it runs its code, as one with ``pandera:`` does.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from datacheck.checks.rules import ValueRule
from datacheck.codes import register_code
from datacheck.codes.code import Code, Family
from datacheck.errors import SchemaError, nearest_name
from datacheck.leaves import BoolArray, Leaf
from datacheck.numerics import to_float
from datacheck.schema.dataset_models import OwnCheck
from datacheck.schema.model import Field, Schema
from datacheck.schema.references import REFERENCE, import_reference
from datacheck.text import plain

ENTRY_POINTS = "datacheck.checks"
_CODE = re.compile(r"X\d{3,6}", re.ASCII)


class ValueCheck:
    """A check of the values of a field. Subclass it, or decorate a function with :func:`own_check`.

    Attributes:
        code: the code of its findings: X and at least three digits.
        message: what is wrong with the values, after "3 of 10 values in 'x'": ``are odd``.
        why: why that is bad, for ``datacheck explain``.
    """

    code: ClassVar[str]
    message: ClassVar[str]
    why: ClassVar[str] = ""

    def screen(self, values: Any) -> bool:  # noqa: ARG002 - for those that can
        """Whether some values may be violations: cheap, may be wrong for good values, never for bad ones."""
        return True

    def mask(self, values: Any) -> Any:
        """True for each violation, ``(values,)``.

        Numbers are a NumPy array, anything else is an Arrow array. Its result for nulls does not count.
        """
        raise NotImplementedError


class DatasetCheck:
    """A check of the dataset as a whole: a state that takes batches in order, and merges with the state of the next part.

    Its attributes are its state. They must be plain JSON values, so that they can be sent and saved.

    Attributes:
        code: the code of its findings: X and at least three digits.
        message: what is wrong with the dataset: ``the classes are not balanced``.
        columns: the fields that it reads.
        why: why that is bad, for ``datacheck explain``.
    """

    code: ClassVar[str]
    message: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    why: ClassVar[str] = ""

    def update(self, columns: dict[str, Any]) -> None:
        """Add a batch: for each of ``columns`` a NumPy array, or an Arrow array."""
        raise NotImplementedError

    def merge(self, other: Any) -> None:
        """Add the state of the next part of the dataset."""
        raise NotImplementedError

    def problems(self) -> list[str]:
        """What is wrong with the whole dataset, one text a problem; empty if nothing is."""
        raise NotImplementedError


def own_check(code: str, message: str, *, why: str = "") -> Callable[[Callable[..., Any]], type[ValueCheck]]:
    """Make a function of values (and further arguments by name) a :class:`ValueCheck`; it returns its mask."""

    def decorate(function: Callable[..., Any]) -> type[ValueCheck]:
        def start(self: Any, **arguments: Any) -> None:
            self.arguments = arguments

        def mask(self: Any, values: Any) -> Any:
            return function(values, **self.arguments)

        members = {"code": code, "message": message, "why": why, "__init__": start, "mask": mask}
        described = {
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            "__qualname__": function.__qualname__,
        }
        return type(function.__name__, (ValueCheck,), {**members, **described})

    return decorate


def _load(named: OwnCheck, place: str = "own_checks") -> ValueCheck | DatasetCheck:
    """A check of the user's, with its arguments; raises ``SchemaError``."""
    try:
        return _made(named)
    except SchemaError as error:
        raise SchemaError(f"{place}: {error.place}", error.problem) from error


def _made(named: OwnCheck) -> ValueCheck | DatasetCheck:
    found = import_reference(named.check) if REFERENCE.fullmatch(named.check) else _entry_point(named.check)
    if not isinstance(found, type) or not issubclass(found, ValueCheck | DatasetCheck):
        problem = f"expected a subclass of datacheck.ValueCheck or DatasetCheck, got {plain(repr(found), 80)}"
        raise SchemaError(named.check, problem)
    if not isinstance(getattr(found, "code", None), str) or not isinstance(getattr(found, "message", None), str):
        raise SchemaError(named.check, "needs a 'code' and a 'message'")
    if not _CODE.fullmatch(found.code):
        raise SchemaError(named.check, f"its code must be X and at least three digits, got {plain(found.code, 40)!r}")
    try:
        made = found(**named.arguments)
    except Exception as error:  # whatever the user's own class raises is a fault of the configuration
        kind = type(error).__name__
        raise SchemaError(named.check, f"cannot be made with its arguments: {kind}: {plain(str(error))}") from error
    if not register_code(_code_of(found)):
        raise SchemaError(named.check, f"the code {found.code} belongs to another check")
    return made


def _entry_point(name: str) -> Any:
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name not in entries:
        hint = (
            nearest_name(name, entries) or f"; write package.module:name, or register it in the group '{ENTRY_POINTS}'"
        )
        raise SchemaError(name, f"no check with this name is installed{hint}")
    try:
        return entries[name].load()
    except Exception as error:
        raise SchemaError(name, f"importing it failed: {type(error).__name__}: {plain(str(error))}") from error


def _code_of(check: type[ValueCheck | DatasetCheck]) -> Code:
    is_of_values = issubclass(check, ValueCheck)
    # The braces of a message are text, not placeholders.
    message = check.message.replace("{", "{{").replace("}", "}}")
    return Code(
        code=check.code,
        name=f"{check.__module__}:{check.__qualname__}",
        family=Family.OWN,
        level="value" if is_of_values else "dataset",
        message=f"{{violations}} of {{checked}} values in {{field}} {message}"
        if is_of_values
        else f"{message}: {{detail}}",
        finds=(check.__doc__ or check.message).strip(),
        why=check.why or "It is a check of your own.",
        example=f"    {check.code} ...",
        remedy=f"See {check.__module__}.",
        cacheable=False,
        tolerable=is_of_values,
        shows_values=is_of_values,
        about_inputs=not is_of_values,
    )


def register_own_checks(schema: Schema) -> None:
    """Import the checks that a schema names, so that their codes are known; raises ``SchemaError``."""
    for path, field in schema.fields.items():
        for named in field.own_checks:
            place = f"fields.{path}.own_checks"
            if not isinstance(_load(named, place), ValueCheck):
                raise SchemaError(place, f"{named.check} is about the dataset; name it outside of 'fields'")
    load_dataset_checks(schema)


def load_dataset_checks(schema: Schema) -> list[DatasetCheck]:
    """The checks of a schema about the dataset, without any state; raises ``SchemaError``."""
    found = []
    for named in schema.own_checks:
        check = _load(named)
        if not isinstance(check, DatasetCheck):
            raise SchemaError("own_checks", f"{named.check} is about values; name it in a field")
        found.append(check)
    return found


def own_rules(leaf: Leaf, field: Field | None) -> list[ValueRule]:
    """The rules for a field's checks of the user's own."""
    if field is None or not field.own_checks or leaf.values is None:
        return []
    if not leaf.is_numeric and leaf.values.type.num_fields:
        return []
    checks = [check for named in field.own_checks if isinstance(check := _load(named), ValueCheck)]
    return [ValueRule(check.code, _mask_of(check), screened=False) for check in checks]


def _mask_of(check: ValueCheck) -> Callable[[Leaf, slice], BoolArray]:
    def mask(leaf: Leaf, part: slice) -> BoolArray:
        if leaf.is_numeric:
            values, number = to_float(leaf.values[part], leaf.dtype), len(leaf.values[part])
        else:
            values = leaf.values[part.start : part.stop]
            number = len(values)
        if not check.screen(values):
            return np.zeros(number, np.bool_)
        found = np.asarray(check.mask(values))
        if found.shape != (number,) or found.dtype != np.bool_:
            raise TypeError(f"its mask must be {number} booleans, got {found.dtype} of shape {found.shape}")
        return found

    return mask
