"""What a schema says about a dataset as a whole: which fields it reads, and whether its constraints agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from datacheck.schema.dimensions import needs_whole_files
from datacheck.schema.dtypes import dtype_kind
from datacheck.schema.field_parts import parts_of
from datacheck.schema.validation import fault

#: The shares of numbers that are not classes. In other fields only ``null`` is none.
SPECIAL_SHARES = ("nan", "inf", "zero")
_NUMBERS = ("integer", "float")
_OF_NUMBERS = ("mean", "std", "quantiles")
_RULES = ("unique", "sequence", "determines", "references", "splits", "own_checks")
_STATISTICS = ("min_distinct", "max_distinct", "covers", "mean", "std", "quantiles", "share", "max_age", "no_variants")


class _Schema(Protocol):
    @property
    def sequence(self) -> Iterable[Any]: ...
    @property
    def determines(self) -> Iterable[Any]: ...
    @property
    def references(self) -> Iterable[Any]: ...
    @property
    def splits(self) -> Any: ...


def dataset_fields(schema: _Schema) -> Iterator[str]:
    """The fields that the rules of a schema about a dataset name."""
    for sequence in schema.sequence:
        yield from sequence.by
        if sequence.on is not None:
            yield sequence.on
    for rule in schema.determines:
        yield from (*rule.fields, *rule.determine)
    for reference in schema.references:
        yield from reference.fields
    if schema.splits is not None:
        for key in (*schema.splits.apart, *schema.splits.within):
            yield from key
        if schema.splits.time is not None:
            yield schema.splits.time.on


def has_rules_across_files(schema: Any) -> bool:
    """Whether a schema has a rule that no file shows alone: a unique key, or a rule about the dataset."""
    if any(getattr(schema, name) for name in _RULES) or schema.num_rows is not None or schema.num_files is not None:
        return True
    if needs_whole_files(schema):
        return True
    fields = [part for field in schema.fields.values() for part in (field, *parts_of(field)[1].values())]
    return any(field.unique or _has_statistics(field) for field in fields)


def is_of_moment(schema: Any) -> bool:
    """Whether the verdict on a dataset depends on more than its files: on the time, on other files, or on code."""
    has_code = bool(schema.own_checks) or any(field.own_checks for field in schema.fields.values())
    return bool(has_code or schema.references or any(field.max_age is not None for field in schema.fields.values()))


def _has_statistics(field: Any) -> bool:
    """Whether a field has constraints on its values over the whole dataset."""
    if any(getattr(field, name) not in (None, (), {}, False) for name in _STATISTICS):
        return True
    return bool(field.own_checks) or "unique_values_eq" in field.checks


def check_dataset_constraints(field: Any) -> None:
    """Raise a fault for the first contradiction between the constraints of a field on the whole dataset."""
    kind = dtype_kind(field.dtype)
    for name in _OF_NUMBERS:
        if getattr(field, name) not in (None, {}) and kind not in (None, *_NUMBERS):
            raise fault(name, f"values of {field.dtype} are not numbers; leave '{name}' out")
    if field.max_age is not None and kind not in (None, "timestamp", "date", "time"):
        raise fault("max_age", f"values of {field.dtype} are not times; leave 'max_age' out")
    lowest, highest = field.min_distinct, field.max_distinct
    if highest is not None and (lowest or 0) > highest:
        raise fault("min_distinct", f"{lowest} is more than 'max_distinct: {highest}' admits")
    if field.covers is not None:
        _check_covers(field, highest)
    _check_shares(field.share, kind)


def _check_covers(field: Any, highest: int | None) -> None:
    if not field.covers:
        raise fault("covers", "the list is empty; list the values that must occur, or leave 'covers' out")
    if highest is not None and len(set(field.covers)) > highest:
        raise fault("covers", f"lists more values than 'max_distinct: {highest}' admits")
    for position, value in enumerate(field.covers):
        if field.isin is not None and value not in field.isin:
            raise fault(("covers", position), f"{value!r} is not in 'isin', so it can never occur")


def _check_shares(shares: Mapping[str, Any], kind: str | None) -> None:
    for name in shares:
        if kind == "float" or kind is None or name == "null":
            continue
        if kind == "string" and name in SPECIAL_SHARES:
            continue  # a word of the text
        if name in ("nan", "inf"):
            raise fault(("share", name), f"only floating-point values can be {name}")
        if kind == "integer" and name != "zero" and not name.lstrip("+-").isdecimal():
            raise fault(("share", name), f"expected null, zero or an integer, got {name!r}")
