"""Pandera schemas and columns as constraints of datacheck fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from datacheck.schema.builtin_checks import BUILTIN_CHECKS
from datacheck.schema.pandera_dtypes import dtype_name, plain_value

#: The key in pandera's ``metadata`` for constraints that pandera does not have.
CARRIED: Final = "datacheck"
#: The prefix of the names of checks that implement such constraints.
OWN_CHECK: Final = "datacheck: "

_CONSTRAINTS: Final = {
    "greater_than_or_equal_to": ("ge", "min_value"),
    "greater_than": ("gt", "min_value"),
    "less_than_or_equal_to": ("le", "max_value"),
    "less_than": ("lt", "max_value"),
    "isin": ("isin", "allowed_values"),
    "str_matches": ("str_matches", "pattern"),
}


@dataclass(frozen=True, slots=True)
class ColumnConstraints:
    """A pandera column as ``constraints`` of a field, and the checks and the dtype that cannot be expressed as such.

    ``sources`` pairs each check with the constraints that it became.
    """

    constraints: dict[str, Any]
    checks: tuple[Any, ...]
    sources: tuple[tuple[Any, dict[str, Any]], ...]
    dtype_is_left: bool


def schema_mapping(schema: Any) -> dict[str, Any]:
    """A pandera schema as the mapping of a :class:`datacheck.Schema`."""
    carried = _carried(schema)
    unique = schema.unique or []
    mapping: dict[str, Any] = {
        "name": schema.name,
        "description": schema.description,
        "strict": schema.strict is True,
        "coerce": bool(schema.coerce),
        "unique": [[unique] if isinstance(unique, str) else list(unique)] if unique else [],
        "metadata": _own_metadata(schema),
        # A parser's output is not in the file, so only pandera can check it.
        "fields": {}
        if schema.parsers
        else {
            name: column_constraints(column, schema.dtype).constraints
            for name, column in schema.columns.items()
            if not column.regex and not column.parsers
        },
    }
    fields = {**mapping["fields"], **carried.pop("fields", {})}
    return {**mapping, **carried, "fields": fields}


def column_constraints(column: Any, frame_dtype: Any = None) -> ColumnConstraints:
    """The constraints of a pandera column."""
    dtype = frame_dtype if column.dtype is None else column.dtype
    constraints: dict[str, Any] = {
        "nullable": bool(column.nullable),
        "required": bool(column.required),
        "unique": bool(column.unique),
        "coerce": bool(column.coerce),
        "title": column.title,
        "description": column.description,
        "metadata": _own_metadata(column),
    }
    dtype_is_left = False
    if dtype is not None:
        constraints["dtype"], is_all = dtype_name(dtype)
        dtype_is_left = not is_all
        categories = plain_value(getattr(dtype, "categories", None))
        if categories:
            constraints["isin"] = categories
    left = []
    sources = []
    for check in column.checks:
        if (check.name or "").startswith(OWN_CHECK):
            continue
        found = _check_constraints(check, constraints)
        if found is None:
            left.append(check)
            continue
        sources.append((check, found))
        constraints["checks"] = {**constraints.get("checks", {}), **found.pop("checks", {})}
        constraints.update(found)
    carried = _carried(column)
    if carried.get("dtype") is not None:
        dtype_is_left = False
    return ColumnConstraints({**constraints, **carried}, tuple(left), tuple(sources), dtype_is_left)


def _check_constraints(check: Any, taken: Mapping[str, Any]) -> dict[str, Any] | None:
    """The constraints for a built-in check; None if it has none, or if another check already set them."""
    from pandera.api.checks import Check

    plainly = check.ignore_na and not check.raise_warning and check.groupby is None and not check.element_wise
    name = check.name
    if not plainly or name not in BUILTIN_CHECKS or not Check.is_builtin_check(name):
        return None
    given = {key: value for key, value in (check.statistics or {}).items() if value is not None}
    arguments = {key: plain_value(value) for key, value in given.items()}
    if any(value is None for value in arguments.values()) or not _is_builtin(check):
        return None
    found: dict[str, Any]
    if name in _CONSTRAINTS:
        constraint, argument = _CONSTRAINTS[name]
        found = {constraint: arguments.get(argument)}
    elif name == "in_range":
        low = "ge" if arguments.get("include_min", True) else "gt"
        high = "le" if arguments.get("include_max", True) else "lt"
        found = {low: arguments.get("min_value"), high: arguments.get("max_value")}
    elif name in taken.get("checks", {}):
        return None
    else:
        return {"checks": {name: arguments}}
    if None in found.values() or any(taken.get(constraint) is not None for constraint in found):
        return None
    return found


def _is_builtin(check: Any) -> bool:
    """Whether the check runs pandera's own function, and not a user's function with the same name."""
    from pandera.api.checks import Check

    try:
        return bool(check == getattr(Check, check.name)(**(check.statistics or {})))
    except TypeError:
        return False


def _carried(component: Any) -> dict[str, Any]:
    carried = (component.metadata or {}).get(CARRIED)
    return dict(carried) if isinstance(carried, Mapping) else {}


def _own_metadata(component: Any) -> dict[str, Any]:
    metadata = {str(key): value for key, value in (component.metadata or {}).items() if key != CARRIED}
    return {key: value for key, value in metadata.items() if value is None or plain_value(value) is not None}
