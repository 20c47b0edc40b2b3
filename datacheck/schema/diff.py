"""The differences between two schemas, and what they mean for data that passed the first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Flag, auto
from typing import Any

from datacheck.schema.dtypes import dtype_kind
from datacheck.schema.model import Field, Schema
from datacheck.schema.pandera_dataset import SCHEMA_RULES
from datacheck.schema.times import parse_clock, parse_moment
from datacheck.text import plain, quantity

#: A field that is not in the schema: it is optional, and its nulls are checked only where it is numeric.
_ABSENT = Field(nullable=True, required=False)
_ANNOTATIONS = ("title", "description", "metadata", "name", "version")
#: Limits of one number, and whether a larger one is stricter.
_LIMITS = {"min_length": True, "max_length": False, "vocab_size": False}
_LOWER, _UPPER = ("ge", "gt"), ("le", "lt")


class Effect(Flag):
    """The effect of a change: data that passed may fail, data that failed may pass, or neither."""

    NONE = 0
    STRICTER = auto()
    LOOSER = auto()
    BOTH = STRICTER | LOOSER

    @property
    def description(self) -> str:
        return {
            Effect.NONE: "no effect on data",
            Effect.STRICTER: "stricter",
            Effect.LOOSER: "looser",
            Effect.BOTH: "stricter and looser",
        }[self]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: its path in the schema and the values before and after, None if added or removed."""

    path: tuple[str | None, ...]
    before: Any
    after: Any
    effect: Effect

    @property
    def place(self) -> str:
        return ".".join("null" if part is None else part for part in self.path)

    def to_dict(self) -> dict[str, Any]:
        """The change as plain JSON values."""
        return {
            "path": list(self.path),
            "before": self.before,
            "after": self.after,
            "stricter": Effect.STRICTER in self.effect,
            "looser": Effect.LOOSER in self.effect,
        }

    def __str__(self) -> str:
        if self.before is None:
            what = f"added {_in_stated(self.after)}"
        elif self.after is None:
            what = f"removed, was {_in_stated(self.before)}"
        else:
            what = f"{_in_stated(self.before)} -> {_in_stated(self.after)}"
        return f"{plain(self.place)}: {what} ({self.effect.description})"


def _in_stated(value: Any) -> str:
    return plain(json.dumps(value, ensure_ascii=False), 120)


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """All changes from one schema to another."""

    changes: tuple[Change, ...]

    @property
    def is_stricter(self) -> bool:
        """Whether data that passed the first schema may fail the second."""
        return any(Effect.STRICTER in change.effect for change in self.changes)

    @property
    def is_looser(self) -> bool:
        """Whether data that failed the first schema may pass the second."""
        return any(Effect.LOOSER in change.effect for change in self.changes)

    def to_json(self) -> str:
        """The changes as JSON."""
        record = {
            "same": not self.changes,
            "stricter": self.is_stricter,
            "looser": self.is_looser,
            "changes": [change.to_dict() for change in self.changes],
        }
        return json.dumps(record, indent=2)

    def __str__(self) -> str:
        if not self.changes:
            return "the two schemas are the same"
        return "\n".join([*map(str, self.changes), f"{quantity(len(self.changes), 'change')}: {self._conclusion()}"])

    def _conclusion(self) -> str:
        if self.is_stricter and self.is_looser:
            return "some stricter, some looser; data that passed the first may fail the second, and the reverse"
        if self.is_stricter:
            return "stricter; data that passed the first may fail the second"
        if self.is_looser:
            return "looser; data that passed the first passes the second"
        return "none affects data"


def diff_schemas(first: Schema, second: Schema) -> SchemaDiff:
    """Compare two schemas, field by field and constraint by constraint."""
    return SchemaDiff((*_schema_changes(first, second), *_fields_changes(first, second)))


def _schema_changes(first: Schema, second: Schema) -> Iterator[Change]:
    effects: dict[str, Callable[[Any, Any], Effect]] = {
        "strict": _effect_of_switch(Effect.STRICTER),
        "coerce": _effect_of_switch(Effect.LOOSER),
        "missing": lambda _before, _after: Effect.BOTH,
        "tolerances": lambda _before, _after: Effect.BOTH,
        "pandera": _effect_of_rule,
    }
    for option in ("name", "description", "strict", "coerce", "missing", "tolerances", "pandera", "metadata"):
        before, after = (schema.model_dump(mode="json", include={option})[option] for schema in (first, second))
        if before != after:
            effect = effects[option](before, after) if option in effects else Effect.NONE
            yield Change((option,), before, after, effect)
    yield from _unique_changes(first, second)
    yield from _dataset_changes(first, second)
    old_rules, new_rules = ({rule.label: rule.expr for rule in schema.checks} for schema in (first, second))
    for label in dict.fromkeys([*old_rules, *new_rules]):
        old, new = old_rules.get(label), new_rules.get(label)
        if old != new:
            yield Change(("checks", label), old, new, _effect_of_rule(old, new))


def _dataset_changes(first: Schema, second: Schema) -> Iterator[Change]:
    """The changes of rules about the dataset; rules in a list are compared one by one."""
    old, new = (schema.model_dump(mode="json", exclude_defaults=True) for schema in (first, second))
    for name in SCHEMA_RULES:
        before, after = old.get(name), new.get(name)
        if isinstance(before or after, list):
            rules = [*(before or ()), *(rule for rule in after or () if rule not in (before or ()))]
            for rule in rules:
                if (rule in (before or ())) is not (rule in (after or ())):
                    yield _added_or_removed((name,), rule, was=rule in (before or ()))
        elif before != after:
            yield Change((name,), before, after, _effect_of_rule(before, after))


def _unique_changes(first: Schema, second: Schema) -> Iterator[Change]:
    keys = {", ".join(key): list(key) for key in (*first.unique, *second.unique)}
    old, new = ({", ".join(key) for key in schema.unique} for schema in (first, second))
    for name, key in keys.items():
        if (name in old) is not (name in new):
            yield _added_or_removed(("unique", name), key, was=name in old)


def _added_or_removed(path: tuple[str | None, ...], value: Any, *, was: bool) -> Change:
    """The change for a rule that only one of the schemas has."""
    return Change(path, value, None, Effect.LOOSER) if was else Change(path, None, value, Effect.STRICTER)


def _fields_changes(first: Schema, second: Schema) -> Iterator[Change]:
    for name in dict.fromkeys([*first.fields, *second.fields]):
        before, after = first.fields.get(name), second.fields.get(name)
        if before is not None and after is not None:
            yield from _field_changes(name, before, after)
            continue
        old, new = before or _ABSENT, after or _ABSENT
        effect = Effect.NONE
        for change in _field_changes(name, old, new):
            effect |= change.effect
        # Nulls in numbers are errors in a field that no schema names.
        if before is None and (first.strict or new.nullable):
            effect |= Effect.LOOSER
        if after is None and (second.strict or old.nullable):
            effect |= Effect.STRICTER
        yield Change(("fields", name), _stated(before), _stated(after), effect)


def _stated(field: Field | None) -> dict[str, Any] | None:
    return None if field is None else field.model_dump(mode="json", exclude_defaults=True)


def _field_changes(name: str | None, before: Field, after: Field) -> Iterator[Change]:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    for side, bounds in (("lower bound", _LOWER), ("upper bound", _UPPER)):
        stated = {constraint for constraint in bounds for field in (old, new) if field[constraint] is not None}
        effect = _effect_of_bounds(bounds, before, after)
        if len(stated) < 2:
            yield from (
                Change(("fields", name, constraint), old[constraint], new[constraint], effect)
                for constraint in stated
                if not _same(old[constraint], new[constraint])
            )
        elif any(not _same(old[constraint], new[constraint]) for constraint in bounds):
            # The tighter of two bounds decides, so they are reported together.
            both = [{name: value[name] for name in bounds if value[name] is not None} or None for value in (old, new)]
            yield Change(("fields", name, side), both[0], both[1], effect)
    for constraint in old:
        if constraint in (*_LOWER, *_UPPER) or _same(old[constraint], new[constraint]):
            continue
        if constraint == "checks":
            yield from _check_changes(name, old[constraint], new[constraint])
        else:
            yield Change(
                ("fields", name, constraint), old[constraint], new[constraint], _effect(constraint, before, after)
            )


def _same(before: Any, after: Any) -> bool:
    """Whether two plain values are equal; unlike in Python, true is not 1."""
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_same, before, after))
    return bool(before == after) and isinstance(before, bool) is isinstance(after, bool)


def _check_changes(name: str | None, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for check in dict.fromkeys([*old, *new]):
        if check in old and check in new:
            if old[check] != new[check]:
                yield Change(("fields", name, "checks", check), old[check], new[check], Effect.BOTH)
        else:
            value = old.get(check, new.get(check))
            yield _added_or_removed(("fields", name, "checks", check), {} if value is None else value, was=check in old)


def _effect(constraint: str, before: Field, after: Field) -> Effect:
    if constraint in _ANNOTATIONS:
        return Effect.NONE
    old, new = getattr(before, constraint), getattr(after, constraint)
    if constraint in ("nullable", "allow_nan", "allow_inf", "coerce"):
        return _effect_of_switch(Effect.LOOSER)(old, new)
    if constraint in ("required", "unique", "not_blank", "stripped", "printable", "no_variants"):
        return _effect_of_switch(Effect.STRICTER)(old, new)
    if constraint == "isin" and old is not None and new is not None:
        return _effect_of_members(set(map(_member, old)), set(map(_member, new)))
    if constraint == "missing":
        return Effect.BOTH
    if constraint in _LIMITS and old is not None and new is not None:
        return Effect.STRICTER if (new > old) is _LIMITS[constraint] else Effect.LOOSER
    if constraint == "shape" and old is not None and new is not None:
        return _effect_of_shapes(old, new)
    default = Field.model_fields[constraint].default
    return _effect_of_rule(*(None if value == default else value for value in (old, new)))


def _effect_of_switch(effect: Effect) -> Callable[[Any, Any], Effect]:
    """The effect of a switch: ``effect`` when it is turned on, the opposite when it is turned off."""
    return lambda before, after: (
        Effect.NONE if bool(before) == bool(after) else effect if after else Effect.BOTH & ~effect
    )


def _effect_of_rule(before: Any, after: Any) -> Effect:
    """The effect of a rule that is added, removed or replaced."""
    if before is None:
        return Effect.STRICTER
    return Effect.LOOSER if after is None else Effect.BOTH


def _member(value: Any) -> tuple[type, Any]:
    """A member with its type, which tells true from 1."""
    return (bool if isinstance(value, bool) else str if isinstance(value, str) else float, value)


def _effect_of_members(old: set[Any], new: set[Any]) -> Effect:
    effect = Effect.NONE
    if old - new:
        effect |= Effect.STRICTER
    if new - old:
        effect |= Effect.LOOSER
    return effect


def _effect_of_shapes(old: tuple[int | str | None, ...], new: tuple[int | str | None, ...]) -> Effect:
    if len(old) != len(new):
        return Effect.BOTH
    effect = Effect.NONE
    for before, after in zip(old, new, strict=True):
        if before != after:
            effect |= _effect_of_rule(before, after)
    return effect


def _effect_of_bounds(constraints: tuple[str, str], before: Field, after: Field) -> Effect:
    """The effect of the inclusive and the exclusive bound of one side together."""
    sign = 1 if constraints is _LOWER else -1
    old, new = _tightest(before, constraints, sign), _tightest(after, constraints, sign)
    if old is None or new is None:
        return Effect.NONE if old is new else _effect_of_rule(old, new)
    if isinstance(old[0], str) is not isinstance(new[0], str):
        return Effect.BOTH
    if isinstance(old[0], str):
        tighter, looser = (new > old, new < old) if sign > 0 else (_below(new, old), _below(old, new))
    else:
        tighter, looser = new > old, new < old
    return Effect.STRICTER if tighter else Effect.LOOSER if looser else Effect.NONE


def _below(first: tuple[Any, bool], second: tuple[Any, bool]) -> bool:
    """Whether the first of two upper bounds on strings is tighter."""
    return first[0] < second[0] or (first[0] == second[0] and first[1] and not second[1])


def _tightest(field: Field, constraints: tuple[str, str], sign: int) -> tuple[Any, bool] | None:
    """The tighter bound, as a value that is larger if tighter (except upper bounds on strings), and if it is exclusive."""
    found: list[tuple[Any, bool]] = []
    for constraint, is_exclusive in zip(constraints, (False, True), strict=True):
        bound = getattr(field, constraint)
        if bound is not None:
            value = _comparable(bound, field.dtype)
            found.append((value if isinstance(value, str) else sign * value, is_exclusive))
    if not found:
        return None
    if sign < 0 and all(isinstance(value, str) for value, _ in found):
        return min(found, key=lambda bound: (bound[0], not bound[1]))
    return max(found)


def _comparable(bound: Any, dtype: str | None) -> Any:
    """A bound as a number, or as a string if it is one."""
    if not isinstance(bound, str):
        return bound
    kind = dtype_kind(dtype)
    moment = parse_clock(bound) if kind == "clock" else parse_moment(bound) if kind in ("date", "timestamp") else None
    if moment is not None:
        return moment.nanoseconds
    return Decimal(bound) if kind == "decimal" else bound
