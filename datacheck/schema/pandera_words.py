"""What a pandera schema or column says, in datacheck's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from datacheck.schema.builtin_checks import BUILTIN_CHECKS
from datacheck.schema.pandera_dtypes import plain_value, word_of_dtype

__all__ = ["CARRIED", "OWN_CHECK", "ColumnWords", "words_of_column", "words_of_schema"]

#: The key in pandera's ``metadata`` for words that pandera does not have.
CARRIED: Final = "datacheck"
#: The prefix of the names of checks that implement such words.
OWN_CHECK: Final = "datacheck: "

_WORDS: Final = {
    "greater_than_or_equal_to": ("ge", "min_value"),
    "greater_than": ("gt", "min_value"),
    "less_than_or_equal_to": ("le", "max_value"),
    "less_than": ("lt", "max_value"),
    "isin": ("isin", "allowed_values"),
    "str_matches": ("str_matches", "pattern"),
}


@dataclass(frozen=True, slots=True)
class ColumnWords:
    """A pandera column as ``words`` of a field, with the checks and the dtype that have no word.

    ``sources`` pairs each check that became words with those words.
    """

    words: dict[str, Any]
    checks: tuple[Any, ...]
    sources: tuple[tuple[Any, dict[str, Any]], ...]
    dtype_is_left: bool


def words_of_schema(schema: Any) -> dict[str, Any]:
    """A pandera schema as the mapping of a :class:`datacheck.Schema`."""
    carried = _carried(schema)
    unique = schema.unique or []
    words: dict[str, Any] = {
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
            name: words_of_column(column, schema.dtype).words
            for name, column in schema.columns.items()
            if not column.regex and not column.parsers
        },
    }
    fields = {**words["fields"], **carried.pop("fields", {})}
    return {**words, **carried, "fields": fields}


def words_of_column(column: Any, frame_dtype: Any = None) -> ColumnWords:
    """A pandera column in datacheck's words, and what has no word."""
    dtype = frame_dtype if column.dtype is None else column.dtype
    words: dict[str, Any] = {
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
        words["dtype"], is_all = word_of_dtype(dtype)
        dtype_is_left = not is_all
        categories = plain_value(getattr(dtype, "categories", None))
        if categories:
            words["isin"] = categories
    left = []
    sources = []
    for check in column.checks:
        if (check.name or "").startswith(OWN_CHECK):
            continue
        found = _words_of_check(check, words)
        if found is None:
            left.append(check)
            continue
        sources.append((check, found))
        words["checks"] = {**words.get("checks", {}), **found.pop("checks", {})}
        words.update(found)
    carried = _carried(column)
    if carried.get("dtype") is not None:
        dtype_is_left = False
    return ColumnWords({**words, **carried}, tuple(left), tuple(sources), dtype_is_left)


def _words_of_check(check: Any, taken: Mapping[str, Any]) -> dict[str, Any] | None:
    """The words for a built-in check; None if it has none, or if another check has taken them."""
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
    if name in _WORDS:
        word, argument = _WORDS[name]
        found = {word: arguments.get(argument)}
    elif name == "in_range":
        low = "ge" if arguments.get("include_min", True) else "gt"
        high = "le" if arguments.get("include_max", True) else "lt"
        found = {low: arguments.get("min_value"), high: arguments.get("max_value")}
    elif name in taken.get("checks", {}):
        return None
    else:
        return {"checks": {name: arguments}}
    if None in found.values() or any(taken.get(word) is not None for word in found):
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
