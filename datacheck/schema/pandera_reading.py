"""From pandera: what a pandera schema says in our words, and what is left that only pandera can check."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from datacheck.errors import SchemaError
from datacheck.schema.model import Field, Schema
from datacheck.schema.pandera_dtypes import pandas_value, plain_value, word_of_dtype
from datacheck.schema.validation import validate
from datacheck.schema.words import BUILTIN_CHECKS
from datacheck.text import plain

__all__ = [
    "CARRIED",
    "OWN_CHECK",
    "as_pandera_schema",
    "from_pandera",
    "remainder",
    "words_of_column",
    "words_of_schema",
]

#: The key in pandera's ``metadata`` under which words travel that pandera does not have.
CARRIED: Final = "datacheck"
#: How the names of checks begin that stand for such words.
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
    """What a pandera column says: ``words`` of a field, and the checks and dtype that have none.

    ``sources`` gives, for each check that became words, those words.
    """

    words: dict[str, Any]
    checks: tuple[Any, ...]
    sources: tuple[tuple[Any, dict[str, Any]], ...]
    dtype_is_left: bool


def as_pandera_schema(found: Any, place: str) -> Any:
    """The ``DataFrameSchema`` that a pandera object is or describes; ``SchemaError`` for what cannot be served."""
    import pandera.pandas as pandera

    if isinstance(found, type) and hasattr(found, "to_schema"):
        try:
            found = found.to_schema()
        except Exception as error:  # whatever pandera finds wrong with the user's model
            raise SchemaError(place, f"pandera cannot make a schema of it: {plain(str(error))}") from error
    if not isinstance(found, pandera.DataFrameSchema):
        kind = f"{type(found).__module__}.{type(found).__name__}"
        raise SchemaError(place, f"is a {kind}; a pandera.pandas DataFrameSchema or DataFrameModel is needed")
    _refuse_unserved(found, place)
    return found


def _refuse_unserved(schema: Any, place: str) -> None:
    from pandera.api.hypotheses import Hypothesis

    if schema.index is not None:
        raise SchemaError(place, "has an index, and the rows of a file have none; make it a column")
    checks: list[tuple[str | None, Any]] = [(None, check) for check in schema.checks]
    for name, column in schema.columns.items():
        if not isinstance(name, str):
            raise SchemaError(place, f"has a column {name!r}; the fields of a file are named by text")
        if column.regex and column.unique:
            raise SchemaError(place, f"asks that the columns '{name}' (a pattern) are unique; name each of them")
        checks += [(name, check) for check in column.checks]
    for name, check in checks:
        if isinstance(check, Hypothesis) or check.name == "unique_values_eq":
            where = "the data frame" if name is None else f"'{name}'"
            problem = f"the check {check.name} of {where} judges the whole data set, which batches cannot"
            raise SchemaError(place, f"{problem}; leave it to pandera")


def from_pandera(found: Any, reference: str | None = None) -> Schema:
    """The schema that says what a pandera ``DataFrameSchema`` or ``DataFrameModel`` says.

    Built-in checks become words of the fields, or entries of ``checks``. What has no word (custom checks, parsers,
    patterns of column names) stays in force: by ``pandera: reference`` where a reference is given, otherwise by the
    object itself, which the schema then keeps. NaN and infinities are refused unless the metadata that
    :func:`~datacheck.schema.to_pandera` wrote allows them: pandera's ``nullable`` allows nulls alone. Raises
    ``SchemaError`` for an index, for statistical hypotheses and for other checks of the whole data set.
    """
    place = reference or "pandera schema"
    pandera_schema = as_pandera_schema(found, place)
    schema = validate(Schema, words_of_schema(pandera_schema), place, SchemaError)
    if remainder(pandera_schema, schema) is None:
        return schema
    if reference is not None:
        return validate(Schema, {**words_of_schema(pandera_schema), "pandera": reference}, place, SchemaError)
    return schema.keep_pandera(pandera_schema)


def words_of_schema(schema: Any) -> dict[str, Any]:
    """A pandera schema in our words, as the mapping of a :class:`Schema`."""
    carried = _carried(schema)
    unique = schema.unique or []
    words: dict[str, Any] = {
        "name": schema.name,
        "description": schema.description,
        "strict": schema.strict is True,
        "coerce": bool(schema.coerce),
        "unique": [[unique] if isinstance(unique, str) else list(unique)] if unique else [],
        "metadata": _own_metadata(schema),
        # What a parser makes of the data is not in the file, so only pandera can say whether it holds.
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
    """A pandera column in our words, and what is left."""
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
    """The words that say a built-in check; None where there are none, or they are taken by another check."""
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
    """Whether the check runs pandera's own function of its name, and not one that the user gave the same name."""
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


def remainder(pandera_schema: Any, schema: Schema) -> Any:
    """The part of a pandera schema that ``schema`` does not check already; None where nothing is left.

    Uniqueness is never part of it: only the whole data set can tell.
    """
    import pandera.pandas as pandera

    if pandera_schema.parsers:
        columns = {name: _without_unique(column) for name, column in pandera_schema.columns.items()}
    else:
        columns = {
            name: left
            for name, column in pandera_schema.columns.items()
            if (left := _column_left(column, pandera_schema.dtype, schema.fields.get(name))) is not None
        }
    checks = [check for check in pandera_schema.checks if not (check.name or "").startswith(OWN_CHECK)]
    if pandera_schema.ordered:
        columns = {
            name: columns.get(name) or pandera.Column(nullable=True, required=False) for name in pandera_schema.columns
        }
    elif not columns and not checks and not pandera_schema.parsers:
        return None
    return pandera.DataFrameSchema(
        columns, checks, parsers=pandera_schema.parsers, ordered=pandera_schema.ordered, name=pandera_schema.name
    )


def _column_left(column: Any, frame_dtype: Any, field: Field | None) -> Any:
    """What a field leaves of a column: the same column, without what the field says."""
    import pandera.pandas as pandera

    if column.regex or column.parsers:
        return _without_unique(column)
    found = words_of_column(column, frame_dtype)
    field = field or Field(nullable=True, required=False)
    checks = [*found.checks, *(check for check, words in found.sources if not _says(field, words))]
    dtype = found.words.get("dtype")
    dtype_is_left = found.dtype_is_left or (dtype is not None and field.dtype != dtype)
    nullable = bool(column.nullable or not field.nullable)
    required = bool(column.required and not field.required)
    if not checks and not dtype_is_left and nullable and not required:
        return None
    return pandera.Column(
        (column.dtype or frame_dtype) if dtype_is_left else None,
        checks,
        nullable=nullable,
        required=required,
        coerce=column.coerce and dtype_is_left,
    )


def _says(field: Field, words: Mapping[str, Any]) -> bool:
    """Whether a field says what the words of a check say."""
    for word, value in words.items():
        stated = getattr(field, word)
        if word == "checks":
            if any(stated.get(name) != arguments for name, arguments in value.items()):
                return False
        elif stated is None or _as_pandera_has_it(stated, field.dtype) != value:
            return False
    return True


def _as_pandera_has_it(value: Any, dtype: str | None) -> Any:
    if isinstance(value, tuple):
        return [_as_pandera_has_it(member, dtype) for member in value]
    return plain_value(pandas_value(value, dtype))


def _without_unique(column: Any) -> Any:
    copied = copy.copy(column)
    copied.unique = False
    return copied
