"""Whether a plan makes sense for the fields that there are: what can be known before a row is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from datacheck.checks.structure import dtype_matches
from datacheck.cleaning.limits import schema_limits
from datacheck.cleaning.masks import broken_rule, name_of
from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.cleaning.rules import (
    Clip,
    DropField,
    Impute,
    NanToNum,
    Repair,
    Scalar,
    is_pattern,
    is_repair,
    path_matches,
)
from datacheck.cleaning.values import encode, family_of, why_not
from datacheck.errors import CleaningError, PipelineError, nearest_name
from datacheck.schema.keys import key_field, unique_keys
from datacheck.schema.model import Field, Schema
from datacheck.text import join_limited, plain

__all__ = ["validate_plan"]

_NO_FIELD = Field(nullable=True)


def validate_plan(plan: CleaningPlan, fields: Mapping[str | None, str], schema: Schema) -> CleaningPlan:
    """Check a plan against the fields of a dataset, and return it resolved for them.

    Args:
        fields: the leaf paths of the data, and the logical dtype of each.

    Raises:
        PipelineError: a rule contradicts itself, the fields or the schema.
        CleaningError: a repair does not apply to the dtype of its field.
    """
    containers = frozenset(path for path, dtype in fields.items() if path and family_of(dtype) == "container")
    bound = replace(plan, paths=frozenset(fields), containers=containers, nameless=_name_of_nameless(fields, schema))
    bound = replace(bound, keys=frozenset(_paths_of_keys(bound, schema)))
    _Validator(bound, fields, schema).check()
    return bound


def _name_of_nameless(fields: Mapping[str | None, str], schema: Schema) -> str | None:
    """The name that the schema has for the one array of an ``.npy``, where it has one."""
    if None in fields and None not in schema.fields and len(schema.fields) == 1:
        return next(iter(schema.fields))
    return None


def _paths_of_keys(plan: CleaningPlan, schema: Schema) -> Iterator[str | None]:
    """The leaves of keys that must be unique, but for those whose repetitions are only reported."""
    keys = [key for key in unique_keys(schema) if plan.decide(key_field(key), "DC301") is not Action.REPORT]
    names = {name for key in keys for name in key}
    for path in plan.paths:
        known = plan.nameless if path is None else path
        if known is None:
            is_of_key = () in keys
        else:
            is_of_key = any(known == name or known.startswith((f"{name}.", f"{name}[]")) for name in names)
        if is_of_key:
            yield path


class _Validator:
    def __init__(self, plan: CleaningPlan, fields: Mapping[str | None, str], schema: Schema) -> None:
        self.plan = plan
        self.schema = schema
        self.fields = {path: _logical(path, dtype, schema) for path, dtype in fields.items()}
        named_by_schema = [plan.nameless] if None in fields else list(schema.fields)
        self._known = sorted({path for path in (*fields, *named_by_schema) if path is not None})
        self._dropped: dict[str, int] = {}
        self._indicators: dict[str, int] = {}

    def check(self) -> None:
        for index, rule in enumerate(self.plan.rules):
            for name in rule.fields or ():
                self._check_name(index, name)
            if isinstance(rule, DropField):
                self._check_drop(index, rule)
            elif is_repair(rule):
                self._check_repair(index, rule)

    def _wrong(self, index: int, key: str, problem: str) -> PipelineError:
        return PipelineError(self.plan.place(index, key), problem)

    def _check_name(self, index: int, name: str) -> None:
        if name in self._dropped:
            raise self._wrong(index, "fields", f"'{plain(name)}' is dropped by clean[{self._dropped[name]}] before")
        if name == "*" or any(_speaks_of(name, path) for path in self._known):
            return
        known = join_limited(self._known)
        if None in self.fields:
            problem = f"there is no field '{plain(name)}': the array has no name; leave fields out"
        elif is_pattern(name):
            problem = f"'{plain(name)}' matches no field; known are {known}"
        else:
            problem = f"there is no field '{plain(name)}'{nearest_name(name, self._known) or f'; known are {known}'}"
        raise self._wrong(index, "fields", problem)

    def _check_drop(self, index: int, rule: DropField) -> None:
        for name in rule.fields:
            for outer in sorted(self.plan.containers):
                if name.startswith((f"{outer}.", f"{outer}[]")):
                    problem = f"'{plain(name)}' is a part of '{plain(outer)}', and only whole fields can be dropped"
                    raise self._wrong(index, "fields", problem)
        if None in self.fields and rule.matches(self.plan.nameless):
            raise self._wrong(index, "fields", "nothing would be left: the array is all that there is")
        for path in self.fields:
            if path is not None and rule.matches(path):
                self._dropped.setdefault(path, index)

    def _check_repair(self, index: int, rule: Repair) -> None:
        for path, dtype in self.fields.items():
            if path in self.plan.keys and self._is_named(rule, path):
                message = "is of a key that must be unique, and a repair could make two rows the same"
                raise self._wrong(index, "fields", f"{name_of(path)} {message}; drop or quarantine such rows")
            if path in self.plan.containers or all(step.index != index for step in self.plan.repairs_for(path)):
                continue
            problem = why_not(rule, dtype)
            if problem is None:
                self._check_values(index, rule, path, dtype)
                self._check_indicator(index, rule, path)
            elif self._is_named(rule, path):
                raise CleaningError(f"{self._place(index, rule)}: {name_of(path)} cannot be repaired: {problem}")

    def _is_named(self, rule: Repair, path: str | None) -> bool:
        """Whether a rule names a field itself, so that it must be able to repair it."""
        name = self.plan.nameless if path is None else path
        return any(not is_pattern(known) and path_matches(known, name) for known in rule.fields or ())

    def _check_values(self, index: int, rule: Repair, path: str | None, dtype: str) -> None:
        field = self.schema.field_for(path) or _NO_FIELD
        for key, value in _values_of(rule):
            if isinstance(value, int | float) and not (isinstance(rule, Clip) and family_of(dtype) == "int"):
                what = f"{self._place(index, rule)}: {key} for {name_of(path)}"
                if value and not encode(value, dtype, what):
                    raise CleaningError(f"{what} is {value!r}, which {dtype} can hold only as zero")
            if isinstance(rule, Clip):
                self._check_bound(index, key, value, path, dtype)
            elif family_of(dtype) != "complex":
                broken = broken_rule(value, dtype, field)
                if broken is not None:
                    problem = f"{value!r} is what the schema does not allow in {name_of(path)} ({broken})"
                    raise self._wrong(index, key, problem)
        needs_bounds = isinstance(rule, Clip) and rule.by_schema and self._is_named(rule, path)
        if needs_bounds and schema_limits(field, dtype) == (None, None):
            problem = f"the schema gives {name_of(path)} no bounds; say ge or le here, or there"
            raise self._wrong(index, "bounds", problem)

    def _check_bound(self, index: int, key: str, value: Scalar, path: str | None, dtype: str) -> None:
        """A bound that the schema does not allow would count as a repair, and the value be as wrong as before."""
        lowest, highest = schema_limits(self.schema.field_for(path) or _NO_FIELD, dtype)
        assert isinstance(value, int | float)
        if (lowest is not None and value < lowest) or (highest is not None and value > highest):
            shown = f"from {'any' if lowest is None else lowest} to {'any' if highest is None else highest}"
            raise self._wrong(index, key, f"{value!r} is not within what the schema allows in {name_of(path)}, {shown}")

    def _check_indicator(self, index: int, rule: Repair, path: str | None) -> None:
        if not isinstance(rule, Impute) or rule.indicator is False:
            return
        if path is None:
            problem = "an .npy holds one array, without a name: an indicator has no place to go"
            raise self._wrong(index, "indicator", problem)
        name = rule.indicator_name(path) or ""
        if name in self.fields or name in self.schema.fields:
            problem = f"there is a field '{plain(name)}' already; say another name, such as '{{field}}_imputed'"
            raise self._wrong(index, "indicator", problem)
        if name in self._indicators:
            problem = f"'{plain(name)}' is the indicator of clean[{self._indicators[name]}] too; say another name"
            raise self._wrong(index, "indicator", problem)
        self._indicators[name] = index

    def _place(self, index: int, rule: Repair) -> str:
        return f"{self.plan.place(index)} ({rule.action})"


def _values_of(rule: Repair) -> Iterator[tuple[str, Scalar]]:
    """The values that a rule says it writes, with their keys."""
    said: dict[str, Scalar | None]
    if isinstance(rule, NanToNum):
        said = {"nan": rule.nan, "posinf": rule.posinf, "neginf": rule.neginf}
    elif isinstance(rule, Clip):
        said = {"ge": rule.ge, "le": rule.le}
    else:
        said = {"value": rule.value}
    return ((key, value) for key, value in said.items() if value is not None)


def _speaks_of(name: str, path: str) -> bool:
    """Whether a rule's name is of a field, of a list, or of something inside a field whose inside is not known."""
    return path_matches(name, path) or name.startswith((f"{path}.", f"{path}[]"))


def _logical(path: str | None, dtype: str, schema: Schema) -> str:
    field = schema.field_for(path)
    if field is not None and field.dtype is not None and dtype_matches(dtype, field.dtype):
        return field.dtype
    return dtype
