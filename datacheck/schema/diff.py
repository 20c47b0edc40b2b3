"""What is otherwise in one schema than in another, and what that means for data that passed the first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Flag, auto
from typing import Any

from datacheck.schema.dtypes import dtype_kind
from datacheck.schema.model import Field, Schema
from datacheck.schema.times import parse_clock, parse_moment
from datacheck.text import plain, quantity

__all__ = ["Change", "Effect", "SchemaDiff", "diff_schemas"]

#: What holds for a field that a schema does not name: it may be absent, and its nulls are not judged.
_UNNAMED = Field(nullable=True, required=False)
_NEUTRAL = ("title", "description", "metadata", "name", "version")
_LOWER, _UPPER = ("ge", "gt"), ("le", "lt")


class Effect(Flag):
    """What a change does to data: some that passed may fail, some that failed may pass, or neither."""

    NONE = 0
    STRICTER = auto()
    LOOSER = auto()
    BOTH = STRICTER | LOOSER

    @property
    def word(self) -> str:
        return {
            Effect.NONE: "no effect on data",
            Effect.STRICTER: "stricter",
            Effect.LOOSER: "looser",
            Effect.BOTH: "stricter and looser",
        }[self]


@dataclass(frozen=True, slots=True)
class Change:
    """One word that differs: its path in the schema, what it was and what it is, None where it was or is not there."""

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
            what = f"added {_in_words(self.after)}"
        elif self.after is None:
            what = f"removed, was {_in_words(self.before)}"
        else:
            what = f"{_in_words(self.before)} -> {_in_words(self.after)}"
        return f"{plain(self.place)}: {what} ({self.effect.word})"


def _in_words(value: Any) -> str:
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
        return "\n".join([*map(str, self.changes), f"{quantity(len(self.changes), 'change')}: {self._verdict()}"])

    def _verdict(self) -> str:
        if self.is_stricter and self.is_looser:
            return "stricter in some, looser in others; data that passed the first may fail the second, and the reverse"
        if self.is_stricter:
            return "stricter; data that passed the first may fail the second"
        if self.is_looser:
            return "looser; data that passed the first passes the second"
        return "none of them matters to data"


def diff_schemas(first: Schema, second: Schema) -> SchemaDiff:
    """The changes from ``first`` to ``second``: field by field, word by word."""
    return SchemaDiff((*_of_schema(first, second), *_of_fields(first, second)))


def _of_schema(first: Schema, second: Schema) -> Iterator[Change]:
    effects: dict[str, Callable[[Any, Any], Effect]] = {
        "strict": _when_true(Effect.STRICTER),
        "coerce": _when_true(Effect.LOOSER),
    }
    for word in ("name", "description", "strict", "coerce", "pandera", "metadata"):
        before, after = getattr(first, word), getattr(second, word)
        if before != after:
            effect = effects.get(word, lambda *_: Effect.NONE)(before, after)
            yield Change((word,), before, after, _added(before, after) if word == "pandera" else effect)
    keys = {", ".join(key): list(key) for key in (*first.unique, *second.unique)}
    had, has = ({", ".join(key) for key in schema.unique} for schema in (first, second))
    for name, key in keys.items():
        if (name in had) is not (name in has):
            yield _one_sided(("unique", name), key, was=name in had)
    before_rules, after_rules = ({rule.label: rule.expr for rule in schema.checks} for schema in (first, second))
    for label in dict.fromkeys([*before_rules, *after_rules]):
        old, new = before_rules.get(label), after_rules.get(label)
        if old != new:
            yield Change(("checks", label), old, new, _added(old, new))


def _one_sided(path: tuple[str | None, ...], value: Any, *, was: bool) -> Change:
    """A rule that only one of the schemas has."""
    return Change(path, value, None, Effect.LOOSER) if was else Change(path, None, value, Effect.STRICTER)


def _of_fields(first: Schema, second: Schema) -> Iterator[Change]:
    for name in dict.fromkeys([*first.fields, *second.fields]):
        before, after = first.fields.get(name), second.fields.get(name)
        if before is not None and after is not None:
            yield from _of_field(name, before, after)
            continue
        old, new = before or _UNNAMED, after or _UNNAMED
        effect = Effect.NONE
        for change in _of_field(name, old, new):
            effect |= change.effect
        if before is None and first.strict:
            effect |= Effect.LOOSER
        if after is None and second.strict:
            effect |= Effect.STRICTER
        yield Change(("fields", name), _words(before), _words(after), effect)


def _words(field: Field | None) -> dict[str, Any] | None:
    return None if field is None else field.model_dump(mode="json", exclude_defaults=True)


def _of_field(name: str | None, before: Field, after: Field) -> Iterator[Change]:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    for side, words in (("lower bound", _LOWER), ("upper bound", _UPPER)):
        stated = {word for word in words for field in (old, new) if field[word] is not None}
        effect = _effect_of_bounds(words, before, after)
        if len(stated) < 2:
            yield from (
                Change(("fields", name, word), old[word], new[word], effect)
                for word in stated
                if not _same(old[word], new[word])
            )
        elif any(not _same(old[word], new[word]) for word in words):
            # Of two words the tighter one holds, so they are told together.
            both = [{word: field[word] for word in words if field[word] is not None} or None for field in (old, new)]
            yield Change(("fields", name, side), both[0], both[1], effect)
    for word in old:
        if word in (*_LOWER, *_UPPER) or _same(old[word], new[word]):
            continue
        if word == "checks":
            yield from _of_checks(name, old[word], new[word])
        else:
            yield Change(("fields", name, word), old[word], new[word], _effect(word, before, after))


def _same(before: Any, after: Any) -> bool:
    """Whether two plain values are equal; to Python true is 1."""
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_same, before, after))
    return bool(before == after) and isinstance(before, bool) is isinstance(after, bool)


def _of_checks(name: str | None, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for check in dict.fromkeys([*old, *new]):
        if check in old and check in new:
            if old[check] != new[check]:
                yield Change(("fields", name, "checks", check), old[check], new[check], Effect.BOTH)
        else:
            value = old.get(check, new.get(check))
            yield _one_sided(("fields", name, "checks", check), {} if value is None else value, was=check in old)


def _effect(word: str, before: Field, after: Field) -> Effect:
    if word in _NEUTRAL:
        return Effect.NONE
    old, new = getattr(before, word), getattr(after, word)
    if word in ("nullable", "allow_nan", "allow_inf", "coerce"):
        return _when_true(Effect.LOOSER)(old, new)
    if word in ("required", "unique"):
        return _when_true(Effect.STRICTER)(old, new)
    if word == "isin" and old is not None and new is not None:
        return _effect_of_members(set(map(_member, old)), set(map(_member, new)))
    if word == "shape" and old is not None and new is not None:
        return _effect_of_shapes(old, new)
    return _added(old, new)


def _when_true(effect: Effect) -> Callable[[Any, Any], Effect]:
    """The effect of a switch that is turned on; turned off it has the other one."""
    return lambda before, after: (
        Effect.NONE if bool(before) == bool(after) else effect if after else Effect.BOTH & ~effect
    )


def _added(before: Any, after: Any) -> Effect:
    """The effect of a rule that is added, removed, or replaced by another one."""
    if before is None:
        return Effect.STRICTER
    return Effect.LOOSER if after is None else Effect.BOTH


def _member(value: Any) -> tuple[type, Any]:
    """A member, with what tells true from 1."""
    return (bool if isinstance(value, bool) else str if isinstance(value, str) else float, value)


def _effect_of_members(old: set[Any], new: set[Any]) -> Effect:
    effect = Effect.NONE
    if old - new:
        effect |= Effect.STRICTER
    if new - old:
        effect |= Effect.LOOSER
    return effect


def _effect_of_shapes(old: tuple[int | None, ...], new: tuple[int | None, ...]) -> Effect:
    if len(old) != len(new):
        return Effect.BOTH
    effect = Effect.NONE
    for before, after in zip(old, new, strict=True):
        if before != after:
            effect |= _added(before, after)
    return effect


def _effect_of_bounds(words: tuple[str, str], before: Field, after: Field) -> Effect:
    """The effect of one side's two words, inclusive and exclusive, taken together."""
    sign = 1 if words is _LOWER else -1
    old, new = _tightest(before, words, sign), _tightest(after, words, sign)
    if old is None or new is None:
        return Effect.NONE if old is new else _added(old, new)
    if isinstance(old[0], str) is not isinstance(new[0], str):
        return Effect.BOTH
    if isinstance(old[0], str):
        tighter, looser = (new > old, new < old) if sign > 0 else (_below(new, old), _below(old, new))
    else:
        tighter, looser = new > old, new < old
    return Effect.STRICTER if tighter else Effect.LOOSER if looser else Effect.NONE


def _below(first: tuple[Any, bool], second: tuple[Any, bool]) -> bool:
    """Whether an upper bound of text is the tighter one."""
    return first[0] < second[0] or (first[0] == second[0] and first[1] and not second[1])


def _tightest(field: Field, words: tuple[str, str], sign: int) -> tuple[Any, bool] | None:
    """The bound that decides, larger where it is tighter (but for upper bounds of text), and whether it is exclusive."""
    found: list[tuple[Any, bool]] = []
    for word, is_exclusive in zip(words, (False, True), strict=True):
        bound = getattr(field, word)
        if bound is not None:
            value = _comparable(bound, field.dtype)
            found.append((value if isinstance(value, str) else sign * value, is_exclusive))
    if not found:
        return None
    if sign < 0 and all(isinstance(value, str) for value, _ in found):
        return min(found, key=lambda bound: (bound[0], not bound[1]))
    return max(found)


def _comparable(bound: Any, dtype: str | None) -> Any:
    """A bound as a number, or as text where it is text."""
    if not isinstance(bound, str):
        return bound
    kind = dtype_kind(dtype)
    moment = parse_clock(bound) if kind == "clock" else parse_moment(bound) if kind in ("date", "timestamp") else None
    if moment is not None:
        return moment.nanoseconds
    return Decimal(bound) if kind == "decimal" else bound
