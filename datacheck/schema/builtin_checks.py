"""The names and arguments of pandera's built-in checks, for a field's ``checks``, without importing pandera."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from datacheck.errors import nearest_name

#: The required and the optional arguments of each built-in check, in order.
BUILTIN_CHECKS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "equal_to": (("value",), ()),
    "not_equal_to": (("value",), ()),
    "greater_than": (("min_value",), ()),
    "greater_than_or_equal_to": (("min_value",), ()),
    "less_than": (("max_value",), ()),
    "less_than_or_equal_to": (("max_value",), ()),
    "in_range": (("min_value", "max_value"), ("include_min", "include_max")),
    "isin": (("allowed_values",), ()),
    "notin": (("forbidden_values",), ()),
    "str_matches": (("pattern",), ()),
    "str_contains": (("pattern",), ()),
    "str_startswith": (("string",), ()),
    "str_endswith": (("string",), ()),
    "str_length": ((), ("min_value", "max_value", "exact_value")),
    "unique_values_eq": (("values",), ()),
}

#: The built-in checks with one result for all values: rules about the dataset. Every other one judges each value by itself.
SET_CHECKS: Final = frozenset({"unique_values_eq"})

_SHORT: Final = {
    "eq": "equal_to",
    "ne": "not_equal_to",
    "gt": "greater_than",
    "ge": "greater_than_or_equal_to",
    "lt": "less_than",
    "le": "less_than_or_equal_to",
    "between": "in_range",
}


def arguments_of(name: str, given: object) -> dict[str, Any] | None:
    """The arguments of a check by name, given as a mapping, as a list in order, or as a single value.

    None if they do not fit, or if the check is not built in and they are not named.
    """
    required, optional = BUILTIN_CHECKS.get(_SHORT.get(name, name), ((), ()))
    known = (*required, *optional)
    if isinstance(given, Mapping):
        arguments = dict(given)
        if not known:
            return arguments
    elif not known:
        return {} if given is None else None
    elif isinstance(given, list | tuple) and len(known) > 1:
        if len(given) > len(known):
            return None
        arguments = dict(zip(known, given, strict=False))
    else:
        arguments = {known[0]: given}
    return arguments if set(required) <= arguments.keys() <= set(known) and arguments else None


def canonical_check(name: str) -> str:
    """The long name of a check, as pandera registers it."""
    return _SHORT.get(name, name)


def check_problem(name: str, given: object) -> str | None:
    """The problem with an entry of a field's ``checks``; None if there is none."""
    long = canonical_check(name)
    if long not in BUILTIN_CHECKS:
        if _is_registered(name):
            return None if given is None or isinstance(given, Mapping) else "takes its arguments as a mapping"
        hint = nearest_name(name, BUILTIN_CHECKS) or f"; known checks: {', '.join(BUILTIN_CHECKS)}"
        return f"unknown pandera check{hint}"
    if arguments_of(name, given) is None:
        required, optional = BUILTIN_CHECKS[long]
        wanted = [*required, *(f"{name} (optional)" for name in optional)]
        return f"expected the arguments of {long}: {', '.join(wanted)}"
    return None


def argument_problem(name: str, argument: str, value: object) -> str:
    """What was expected of an argument of a built-in check, by its long name; empty where the value is of that type."""
    if argument.startswith("include_"):
        return "" if isinstance(value, bool) else "expected true or false"
    if argument.endswith("values"):
        return "" if isinstance(value, list | tuple | set | frozenset) else "expected a list"
    if name == "str_length":
        is_length = isinstance(value, int) and not isinstance(value, bool)
        return "" if value is None or is_length else "expected an integer"
    if name.startswith("str_"):
        return "" if isinstance(value, str | tuple | re.Pattern) else "expected a string"
    return "expected a single value" if isinstance(value, list | tuple | Mapping) else ""


def _is_registered(name: str) -> bool:
    """Whether the user registered the check with pandera (``pandera.extensions.register_check_method``)."""
    from pandera.api.checks import Check

    return name in Check.REGISTERED_CUSTOM_CHECKS


def describe_check(name: str, arguments: Mapping[str, Any]) -> str:
    """A check with its arguments, such as ``str_length(min_value=1)``."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
