"""Validating a cleaning plan against the fields of a dataset and the schema, before a row is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from datacheck.checks.structure import dtype_matches
from datacheck.cleaning.limits import schema_limits
from datacheck.cleaning.masks import describe_field, find_broken_rule
from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.cleaning.rules import (
    Clip,
    DropField,
    Impute,
    NanToNum,
    Repair,
    Rule,
    Scalar,
    ToNull,
    is_pattern,
    is_repair,
    path_matches,
)
from datacheck.cleaning.values import dtype_family, encode, find_incompatibility
from datacheck.errors import CleaningError, PipelineError, nearest_name
from datacheck.schema.field_parts import part_fields, part_path, parts_of, split_part_path
from datacheck.schema.keys import key_field, unique_keys
from datacheck.schema.model import Field, Schema
from datacheck.text import join_limited, plain

_NO_FIELD = Field(nullable=True)


def validate_plan(plan: CleaningPlan, fields: Mapping[str | None, str], schema: Schema) -> CleaningPlan:
    """Check a plan against the fields of a dataset, and return it resolved for them.

    Args:
        fields: the leaf paths of the data, and the logical dtype of each.

    Raises:
        PipelineError: a rule contradicts itself, the fields or the schema.
        CleaningError: a repair does not apply to the dtype of its field.
    """
    containers = frozenset(path for path, dtype in fields.items() if path and dtype_family(dtype) == "container")
    bound = replace(plan, paths=frozenset(fields), containers=containers, nameless=name_of_nameless(fields, schema))
    parts = {path: found for path in bound.paths - containers if (found := part_paths(path, schema))}
    bound = replace(bound, keys=frozenset(_paths_of_keys(bound, schema)), parts=parts)
    _Validator(bound, fields, schema).check()
    return bound


def name_of_nameless(fields: Mapping[str | None, str], schema: Schema) -> str | None:
    """The schema's name for the one array of an ``.npy``; None if it has none."""
    if None in fields and None not in schema.fields and len(schema.fields) == 1:
        return next(iter(schema.fields))
    return None


def part_paths(path: str | None, schema: Schema) -> tuple[str, ...]:
    """The paths of the columns and channels of a leaf that have rules."""
    field = schema.field_for(path)
    _, parts = ("", {}) if field is None else parts_of(field)
    return tuple(part_path(None if path is None else path.removesuffix("[]"), key) for key in parts)


def _paths_of_keys(plan: CleaningPlan, schema: Schema) -> Iterator[str | None]:
    """The leaves of unique keys, except for keys whose duplicates are only reported."""
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
        self._parts = {self._named(part): path for path, parts in plan.parts.items() for part in parts}
        self._known = sorted({path for path in (*fields, *named_by_schema, *self._parts) if path is not None})
        self._dropped: dict[str, int] = {}
        self._indicators: dict[str, int] = {}

    def _named(self, part: str) -> str:
        """The path of a column or channel as rules name it: with the name of the nameless array."""
        split = split_part_path(part)
        is_nameless = split is not None and split[0] is None and self.plan.nameless is not None
        return part_path(self.plan.nameless, split[1]) if is_nameless and split else part

    def check(self) -> None:
        for index, rule in enumerate(self.plan.rules):
            for name in rule.fields or ():
                self._check_name(index, name)
            self._check_part(index, rule)
            if isinstance(rule, DropField):
                self._check_drop(index, rule)
            elif is_repair(rule):
                self._check_repair(index, rule)

    def _wrong(self, index: int, key: str, problem: str) -> PipelineError:
        return PipelineError(self.plan.location(index, key), problem)

    def _check_part(self, index: int, rule: Rule) -> None:
        """Check a rule that names a column or channel."""
        for name in rule.fields or ():
            if name not in self._parts:
                continue
            if isinstance(rule, DropField):
                raise self._wrong(
                    index, "fields", f"'{plain(name)}' is part of a field; only whole fields can be dropped"
                )
            if isinstance(rule, Clip | Impute) and rule.per_feature:
                problem = f"'{plain(name)}' is part of a field, and has one statistic; remove this key"
                raise self._wrong(index, "per_feature", problem)
            if isinstance(rule, Impute) and rule.indicator is not False:
                raise self._wrong(index, "indicator", f"is for a whole field, and '{plain(name)}' is part of one")
            if is_repair(rule) and self.plan.repairs_for(name):
                dtype = self.fields[self._parts[name]]
                if (unfit := find_incompatibility(rule, dtype)) is not None:
                    place = self._location(index, rule)
                    raise CleaningError(f"{place}: {describe_field(name)} cannot be repaired: {unfit}")
                self._check_values(index, rule, name, dtype)

    def _check_name(self, index: int, name: str) -> None:
        if name in self._dropped:
            raise self._wrong(
                index, "fields", f"'{plain(name)}' is already dropped by clean[{self._dropped[name]}] before"
            )
        if name == "*" or any(_applies_to(name, path) for path in self._known):
            return
        known = join_limited(self._known)
        if None in self.fields:
            problem = f"unknown field '{plain(name)}': the array has no name; remove 'fields'"
        elif is_pattern(name):
            problem = f"'{plain(name)}' matches no field; choose from {known}"
        else:
            problem = f"unknown field '{plain(name)}'{nearest_name(name, self._known) or f'; choose from {known}'}"
        raise self._wrong(index, "fields", problem)

    def _check_drop(self, index: int, rule: DropField) -> None:
        for name in rule.fields:
            for outer in sorted(self.plan.containers):
                if name.startswith((f"{outer}.", f"{outer}[]")):
                    problem = f"'{plain(name)}' is part of '{plain(outer)}'; only whole fields can be dropped"
                    raise self._wrong(index, "fields", problem)
        if None in self.fields and rule.matches(self.plan.nameless):
            raise self._wrong(index, "fields", "dropping the array would leave nothing")
        for path in self.fields:
            if path is not None and rule.matches(path):
                self._dropped.setdefault(path, index)

    def _check_repair(self, index: int, rule: Repair) -> None:
        for path, dtype in self.fields.items():
            if path in self.plan.keys and self._is_named(rule, path):
                message = "is part of a unique key, and a repair could create duplicates"
                raise self._wrong(index, "fields", f"{describe_field(path)} {message}; drop or quarantine such rows")
            if path in self.plan.containers or all(step.index != index for step in self.plan.repairs_for(path)):
                continue
            problem = find_incompatibility(rule, dtype)
            if problem is None:
                self._check_values(index, rule, path, dtype)
                self._check_indicator(index, rule, path)
            elif self._is_named(rule, path):
                raise CleaningError(
                    f"{self._location(index, rule)}: {describe_field(path)} cannot be repaired: {problem}"
                )

    def _is_named(self, rule: Repair, path: str | None) -> bool:
        """Whether a rule names a field explicitly, so that it must be able to repair it."""
        name = self.plan.nameless if path is None else path
        return any(not is_pattern(known) and path_matches(known, name) for known in rule.fields or ())

    def _check_values(self, index: int, rule: Repair, path: str | None, dtype: str) -> None:
        field = self.schema.field_for(path) or _NO_FIELD
        for key, value in _values_of(rule):
            if isinstance(value, int | float) and not (isinstance(rule, Clip) and dtype_family(dtype) == "int"):
                what = f"{self._location(index, rule)}: {key} for {describe_field(path)}"
                if value and not encode(value, dtype, what):
                    raise CleaningError(f"{what} is {value!r}, which {dtype} rounds to zero")
            if isinstance(rule, Clip):
                self._check_bound(index, key, value, path, dtype)
            elif dtype_family(dtype) != "complex":
                broken = find_broken_rule(value, dtype, field)
                if broken is not None:
                    problem = f"{value!r} violates the schema of {describe_field(path)} ({broken})"
                    raise self._wrong(index, key, problem)
        needs_bounds = isinstance(rule, Clip) and rule.by_schema and self._is_named(rule, path)
        fields = [field, *part_fields(field).values()]
        if needs_bounds and all(schema_limits(one, dtype) == (None, None) for one in fields):
            problem = f"the schema has no bounds for {describe_field(path)}; set ge or le in the rule or in the schema"
            raise self._wrong(index, "bounds", problem)

    def _check_bound(self, index: int, key: str, value: Scalar, path: str | None, dtype: str) -> None:
        """Reject a bound outside the schema's: a clipped value would count as repaired, and still be out of bounds."""
        lowest, highest = schema_limits(self.schema.field_for(path) or _NO_FIELD, dtype)
        assert isinstance(value, int | float)
        if (lowest is not None and value < lowest) or (highest is not None and value > highest):
            shown = f"from {'any' if lowest is None else lowest} to {'any' if highest is None else highest}"
            raise self._wrong(
                index, key, f"{value!r} is outside the schema's bounds for {describe_field(path)}, {shown}"
            )

    def _check_indicator(self, index: int, rule: Repair, path: str | None) -> None:
        if not isinstance(rule, Impute) or rule.indicator is False:
            return
        if path is None:
            problem = "an .npy file holds one unnamed array, so it has no room for an indicator"
            raise self._wrong(index, "indicator", problem)
        name = rule.indicator_name(path) or ""
        if name in self.fields:
            problem = f"field '{plain(name)}' already exists; choose another name, such as '{{field}}_imputed'"
            raise self._wrong(index, "indicator", problem)
        listed = self.schema.fields.get(name)
        if listed is not None and listed.dtype not in (None, "bool"):
            problem = f"the schema lists '{plain(name)}' as {listed.dtype}, and an indicator is bool"
            raise self._wrong(index, "indicator", problem)
        if name in self._indicators:
            problem = f"'{plain(name)}' is also the indicator of clean[{self._indicators[name]}]; choose another name"
            raise self._wrong(index, "indicator", problem)
        self._indicators[name] = index

    def _location(self, index: int, rule: Repair) -> str:
        return f"{self.plan.location(index)} ({rule.action})"


def _values_of(rule: Repair) -> Iterator[tuple[str, Scalar]]:
    """The values that a rule writes, with their keys."""
    said: dict[str, Scalar | None]
    if isinstance(rule, NanToNum):
        said = {"nan": rule.nan, "posinf": rule.posinf, "neginf": rule.neginf}
    elif isinstance(rule, Clip):
        said = {"ge": rule.ge, "le": rule.le}
    else:
        said = {} if isinstance(rule, ToNull) else {"value": rule.value}
    return ((key, value) for key, value in said.items() if value is not None)


def _applies_to(name: str, path: str) -> bool:
    """Whether a rule's name matches a field, a list, or something inside a field of unknown structure."""
    return path_matches(name, path) or name.startswith((f"{path}.", f"{path}[]"))


def _logical(path: str | None, dtype: str, schema: Schema) -> str:
    field = schema.field_for(path)
    if field is not None and field.dtype is not None and dtype_matches(dtype, field.dtype):
        return field.dtype
    return dtype
