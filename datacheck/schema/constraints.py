"""Checks that the constraints of a field agree: bounds with the dtype and each other, members with the bounds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Any

from datacheck.schema.builtin_checks import (
    BUILTIN_CHECKS,
    argument_problem,
    arguments_of,
    canonical_check,
    check_problem,
)
from datacheck.schema.dtypes import decimal_scale, dtype_kind, integer_range, largest_decimal, largest_float
from datacheck.schema.protocols import FieldProtocol
from datacheck.schema.rounding import integer_of, round_constant, scaled_limit
from datacheck.schema.times import Moment, parse_clock, parse_moment
from datacheck.schema.validation import fault

_BOUNDS = ("ge", "gt", "le", "lt")
_SYMBOLS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
#: The built-in checks of pandera that are bounds, and the end of the range that each bound is.
_KEYS_OF_CHECKS = {
    "greater_than_or_equal_to": "ge",
    "greater_than": "gt",
    "less_than_or_equal_to": "le",
    "less_than": "lt",
}
_ENDS = {"ge": "min", "gt": "min", "le": "max", "lt": "max"}
_PASSES: dict[str, Callable[[Any, Any], bool]] = {"ge": ge, "gt": gt, "le": le, "lt": lt}
_UNIT_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
#: Keys that only fields of numbers have.
_OF_NUMBERS = ("allow_nan", "allow_inf", "mean", "std", "vocab_size")
_NUMBERS = ("integer", "float", "decimal", "duration")


def number_of(value: object, kind: str | None) -> object:
    """Convert a number written as a string (``"1e5"``), if the dtype is numeric."""
    if not isinstance(value, str) or kind not in _NUMBERS or kind == "decimal":
        return value
    for convert in (int, float):
        try:
            return convert(value)
        except ValueError:
            continue
    return value


def check_field(field: FieldProtocol) -> None:
    """Raise a fault for the first contradiction between the constraints of a field."""
    kind = dtype_kind(field.dtype)
    _check_flags(field, kind)
    _check_arguments(field, kind)
    _check_implied_numbers(field)
    for key in _BOUNDS:
        bound = getattr(field, key)
        if bound is not None:
            _check_bound(key, bound, field.dtype, kind)
    _check_order(field, kind)
    for key in _BOUNDS:
        _check_word(key, getattr(field, key), field)
    _check_reach(field, kind)
    if field.isin is not None:
        _check_members(field, kind)
    _check_pattern(field, kind)
    _check_missing(field, kind)


def _check_arguments(field: FieldProtocol, kind: str | None) -> None:
    """Raise a fault for an argument of a check of pandera that is of the wrong type."""
    for name, given in field.checks.items():
        if (problem := check_problem(name, given)) is not None:
            raise fault(("checks", name), problem)
        long = canonical_check(name)
        if long.startswith("str_") and kind not in (None, "string"):
            raise fault(("checks", name), f"values of {field.dtype} are not strings; leave '{name}' out")
        for argument, value in (arguments_of(name, given) or {}).items() if long in BUILTIN_CHECKS else ():
            at = ("checks", name, argument) if isinstance(given, Mapping) else ("checks", name)
            if problem := argument_problem(long, argument, value):
                raise fault(at, f"{problem}, got {value!r}")
            if not long.startswith("str_") and not argument.startswith("include_"):
                for one in value if argument.endswith("values") else [value]:
                    # Whether a time fits its dtype is pandera's to say.
                    if kind not in ("date", "clock", "timestamp") or (isinstance(one, str) and not _moment(one, kind)):
                        _check_value(at, one, field.dtype, kind)
                    if argument.endswith("_value"):
                        _check_word(at, one, field)


def _check_implied_numbers(field: FieldProtocol) -> None:
    """Raise a fault for text where no dtype is stated, but other keys say that the values are numbers."""
    implied = next((key for key in _OF_NUMBERS if getattr(field, key)), None)
    if field.dtype is not None or implied is None:
        return
    bounds = [(key, getattr(field, key)) for key in _BOUNDS]
    members = [(("isin", position), value) for position, value in enumerate(field.isin or ())]
    for at, value in [*bounds, *members]:
        if isinstance(value, str):
            raise fault(at, f"{value!r} is not a number, but '{implied}' says that the values are")


def _check_missing(field: FieldProtocol, kind: str | None) -> None:
    """Raise a fault for a sentinel that the dtype cannot hold. In a text file, a word can mark a missing number."""
    if field.dtype is None or field.coerce:
        return
    for position, value in enumerate(field.missing):
        if kind == "string" and not isinstance(value, str):
            _check_value(("missing", position), value, field.dtype, kind)
        elif not isinstance(value, str) and not can_hold(field.dtype, value):
            raise fault(
                ("missing", position), f"{field.dtype} cannot hold {value!r}, so it occurs nowhere; leave it out"
            )


def can_hold(dtype: str, value: float) -> bool:
    """Whether a number is one of a dtype, but for its rounding; of dtypes without a fixed range all are."""
    kind = dtype_kind(dtype)
    if kind == "integer":
        low, high = integer_range(dtype)
        return low <= value <= high and value == int(value)
    return kind != "float" or abs(value) <= largest_float(dtype)


def _check_flags(field: FieldProtocol, kind: str | None) -> None:
    for key in ("allow_nan", "allow_inf"):
        if getattr(field, key) and kind not in (None, "float", "complex"):
            raise fault(key, f"{field.dtype} has no NaN or infinity; leave '{key}' out")


def _check_bound(key: str, bound: object, dtype: str | None, kind: str | None) -> None:
    if kind in ("bool", "complex", "binary", "other"):
        remedy = "list the allowed values in 'isin'" if kind == "bool" else f"leave '{key}' out"
        raise fault(key, f"values of {dtype} have no order, so they cannot have bounds; {remedy}")
    _check_value(key, bound, dtype, kind)


def _check_value(key: str | tuple[str | int, ...], value: object, dtype: str | None, kind: str | None) -> None:
    """Raise a fault if ``value`` cannot be compared with values of the dtype."""
    is_text = isinstance(value, str)
    if kind in ("integer", "float", "duration") and (is_text or isinstance(value, bool)):
        raise fault(key, f"{value!r} is not a number, but the dtype is {dtype}")
    if kind == "duration" and isinstance(value, float):
        raise fault(key, f"{value!r} is not an integer; a duration counts in the unit of its dtype, {dtype}")
    if kind == "decimal" and (isinstance(value, bool) or not _is_decimal(value)):
        raise fault(key, f"{value!r} is not a number, but the dtype is {dtype}")
    if kind == "string" and not is_text:
        raise fault(key, f"{value!r} is not a string, but the dtype is {dtype}; put it in quotes")
    if kind in ("date", "clock", "timestamp"):
        _check_time(key, value, str(dtype), kind)


def _check_word(key: str | tuple[str | int, ...], bound: object, field: FieldProtocol) -> None:
    """Raise a fault for a word as a bound where nothing says that the values are strings: it may mean a number."""
    says_strings = (
        field.dtype or field.str_matches or field.isin or any(name.startswith("str_") for name in field.checks)
    )
    if isinstance(bound, str) and not (says_strings or _is_decimal(bound) or parse_moment(bound) or parse_clock(bound)):
        raise fault(key, f"{bound!r} is neither a number nor a time; if the values are strings, add 'dtype: string'")


def _is_decimal(value: object) -> bool:
    try:
        return Decimal(str(value)).is_finite()
    except ArithmeticError:
        return False


def _check_time(key: str | tuple[str | int, ...], value: object, dtype: str, kind: str) -> None:
    moment = _moment(value, kind)
    if moment is None:
        example = {"date": "2024-01-31", "clock": "12:30:00", "timestamp": "2024-01-31T12:30:00"}[kind]
        raise fault(key, f"{value!r} is not a time in ISO format such as '{example}', but the dtype is {dtype}")
    if kind == "date" and moment.has_clock:
        raise fault(key, f"{value!r} has a time of day, but the dtype is {dtype}; write only the date")
    if kind == "timestamp" and "tz=" in dtype and not moment.has_offset:
        remedy = f"add one, such as '{value}{_offset(moment)}'"
        raise fault(key, f"{value!r} has no offset, but the dtype is {dtype}; {remedy}")
    if kind == "timestamp" and "tz=" not in dtype and moment.has_offset:
        raise fault(key, f"{value!r} has an offset, but {dtype} has no time zone; leave the offset out")
    unit = re.search(r"\[(s|ms|us|ns)", dtype)
    if unit and moment.num_digits > _UNIT_DIGITS[unit[1]]:
        raise fault(key, f"{value!r} is more precise than {dtype} can hold")


def _offset(moment: Moment) -> str:
    return "Z" if moment.has_clock else "T00:00:00Z"


def _moment(value: object, kind: str | None) -> Moment | None:
    if not isinstance(value, str):
        return None
    return parse_clock(value) if kind == "clock" else parse_moment(value)


def _sort_key(dtype: str | None, kind: str | None) -> Callable[[Any], Any]:
    """The key that orders bounds and members: time, number or string."""
    if kind in ("date", "timestamp", "clock"):
        return lambda value: _moment(value, kind).nanoseconds  # type: ignore[union-attr]
    if kind == "decimal":
        return lambda value: Decimal(str(value))
    return lambda value: round_constant(value, str(dtype)) if kind == "float" else value


def _check_order(field: FieldProtocol, kind: str | None) -> None:
    """Refuse bounds without a value between them."""
    order = _sort_key(field.dtype, kind)
    stated = {key: getattr(field, key) for key in _BOUNDS if getattr(field, key) is not None}
    if kind is None and len({isinstance(bound, str) for bound in stated.values()}) > 1:
        raise fault(next(iter(stated)), "one bound is a string and another is a number; use one of the two for both")
    for low_key in ("ge", "gt"):
        for high_key in ("le", "lt"):
            if low_key not in stated or high_key not in stated:
                continue
            low, high = order(stated[low_key]), order(stated[high_key])
            strict = low_key == "gt" or high_key == "lt"
            if low > high or (strict and low == high):
                relation = "above" if low > high else "the same as"
                other = f"'{high_key}', which is {stated[high_key]}"
                raise fault(low_key, f"{stated[low_key]} is {relation} {other}: no value can pass")


def _check_reach(field: FieldProtocol, kind: str | None) -> None:
    """Refuse bounds that no value of the dtype can satisfy, and bounds that all of them do."""
    stated: dict[str, tuple[Any, tuple[str, ...]]] = {key: (getattr(field, key), (key,)) for key in _BOUNDS}
    for name, given in field.checks.items():
        key = _KEYS_OF_CHECKS.get(canonical_check(name))
        if key is not None:
            stated[name] = ((arguments_of(name, given) or {}).get(f"{_ENDS[key]}_value"), ("checks", name))
    for name, (bound, at) in stated.items():
        key = _KEYS_OF_CHECKS.get(canonical_check(name), name)
        if bound is not None:
            _check_bound_reach(key, bound, at, str(field.dtype), kind)


def _check_bound_reach(key: str, bound: Any, at: tuple[str, ...], dtype: str, kind: str | None) -> None:
    reach = _reach_of(dtype, kind)
    if reach is None or isinstance(bound, bool) or not isinstance(bound, int | float | str):
        return
    least, greatest = reach
    value = Decimal(str(bound)) if kind == "decimal" else round_constant(bound, dtype)
    extreme = greatest if _ENDS[key] == "min" else least
    if not _PASSES[key](extreme, value):
        raise fault(at, f"no value of {dtype} is {_SYMBOLS[key]} {bound}; its values lie in [{least}, {greatest}]")
    # 'lt: 256' of uint8 says what its values are; 'lt: 257' was written for another dtype.
    beyond = 1 if kind == "integer" and key in ("gt", "lt") else 0
    if not least - beyond <= value <= greatest + beyond:
        raise fault(
            at, f"{dtype} cannot hold {bound}: its values lie in [{least}, {greatest}]; correct the bound or the dtype"
        )


def _reach_of(dtype: str, kind: str | None) -> tuple[Any, Any] | None:
    """The smallest and the largest value of a dtype; None if it has no such bounds."""
    if kind == "integer":
        return integer_range(dtype)
    if kind == "float":
        greatest = largest_float(dtype)
        return -greatest, greatest
    if kind == "decimal":
        largest = largest_decimal(dtype)
        return -largest, largest
    return None


def _check_members(field: FieldProtocol, kind: str | None) -> None:
    members = field.isin or ()
    if not members:
        raise fault("isin", "the list is empty, so no value can pass; list the allowed values, or leave 'isin' out")
    if kind in ("complex", "other", "binary"):
        raise fault("isin", f"values of {field.dtype} cannot be listed in a schema; leave 'isin' out")
    types = {bool if isinstance(value, bool) else str if isinstance(value, str) else float for value in members}
    if len(types) > 1:
        raise fault("isin", "the list mixes strings, numbers and booleans; a field has one dtype")
    for position, value in enumerate(members):
        at = ("isin", position)
        if kind == "bool" and not isinstance(value, bool):
            raise fault(at, f"{value!r} is not true or false, but the dtype is bool")
        _check_value(at, value, field.dtype, kind)
        _check_member_exists(at, value, field.dtype, kind)
        _check_member_in_bounds(at, value, field, kind)


def _check_member_exists(at: tuple[str | int, ...], value: Any, dtype: str | None, kind: str | None) -> None:
    reach = _reach_of(str(dtype), kind)
    if reach is None:
        return
    number = Decimal(str(value)) if kind == "decimal" else round_constant(value, str(dtype))
    is_whole = kind != "integer" or integer_of(value) is not None
    is_exact = kind != "decimal" or number == scaled_limit(number, "ge", decimal_scale(str(dtype)))
    if not (is_whole and is_exact and reach[0] <= number <= reach[1]):
        raise fault(at, f"{value!r} is not a value that {dtype} can hold")


def _check_member_in_bounds(at: tuple[str | int, ...], value: Any, field: FieldProtocol, kind: str | None) -> None:
    order = _sort_key(field.dtype, kind)
    for key, test in _PASSES.items():
        bound = getattr(field, key)
        if bound is None:
            continue
        if isinstance(value, str) is not isinstance(bound, str) and kind != "decimal":
            raise fault(at, f"{value!r} cannot be compared with '{key}', which is {bound!r}")
        if not test(order(value), order(bound)):
            raise fault(at, f"{value!r} can never pass, because '{key}' requires {_SYMBOLS[key]} {bound}")


def _check_pattern(field: FieldProtocol, kind: str | None) -> None:
    if field.str_matches is None:
        return
    if kind not in (None, "string"):
        raise fault("str_matches", f"values of {field.dtype} are not strings; leave 'str_matches' out")
    try:
        pattern = re.compile(field.str_matches)
    except (re.error, RecursionError, OverflowError) as error:
        raise fault("str_matches", f"{field.str_matches!r} is not a regular expression: {error}") from None
    for position, value in enumerate(field.isin or ()):
        if not isinstance(value, str):
            raise fault("str_matches", "the members of 'isin' are not strings, so none can pass both")
        if not pattern.match(value):
            raise fault(("isin", position), f"{value!r} does not match {field.str_matches!r}, so it can never pass")
