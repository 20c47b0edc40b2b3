"""To pandera: a schema as a ``DataFrameSchema``, with which pandas users can validate data frames.

What pandera has no constraint for (``allow_nan``, ``allow_inf``, ``shape``) travels in pandera's ``metadata`` under the key
``datacheck``, and is read back from there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from datacheck.errors import SchemaError
from datacheck.schema.builtin_checks import BUILTIN_CHECKS, arguments_of, canonical_check
from datacheck.schema.dtypes import dtype_kind
from datacheck.schema.evaluate import evaluate
from datacheck.schema.expression import parse_expression
from datacheck.schema.field_parts import named_index
from datacheck.schema.field_paths import is_pattern
from datacheck.schema.list_functions import take_item
from datacheck.schema.operands import Operand, operand_of
from datacheck.schema.pandera_constraints import CARRIED, OWN_CHECK, column_constraints, schema_mapping
from datacheck.schema.pandera_dataset import SCHEMA_RULES, field_rules, frame_rules
from datacheck.schema.pandera_dtypes import pandas_constant, pandas_value, pandera_dtype
from datacheck.schema.pandera_meaning import meaning_checks
from datacheck.schema.pandera_remainder import left_to_pandera
from datacheck.schema.protocols import ExpressionProtocol, FieldProtocol, SchemaProtocol
from datacheck.schema.rounding import round_arguments
from datacheck.schema.validation import join_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


_BOUNDS = {
    "ge": "greater_than_or_equal_to",
    "gt": "greater_than",
    "le": "less_than_or_equal_to",
    "lt": "less_than",
}

_NEVER_OF_SCHEMAS = ("missing", "dimensions", "num_files", "references", "splits", "own_checks", "tolerances")
_NEVER_OF_FIELDS = ("shape", "columns", "channels", "format", "ignore_index", "own_checks")
#: What a column of arrays is checked for.
_ALWAYS_OF_FIELDS = ("nullable", "unique", "required", "coerce", "title", "description", "metadata")


def to_pandera(schema: SchemaProtocol) -> Any:
    """Convert a schema into a pandera ``DataFrameSchema``; see :meth:`datacheck.Schema.to_pandera`."""
    made = _build_schema(schema)
    left = left_to_pandera(schema)
    if left is None:
        return made
    for name, column in left.columns.items():
        if name in made.columns and not column.regex:
            made.columns[name].checks = [*made.columns[name].checks, *column.checks]
            made.columns[name].parsers = [*made.columns[name].parsers, *column.parsers]
        else:
            made = made.add_columns({name: column})
    made.checks = [*made.checks, *left.checks]
    made.parsers = [*made.parsers, *left.parsers]
    made.ordered = left.ordered
    return made


def _build_schema(schema: SchemaProtocol) -> Any:
    """The schema as a ``DataFrameSchema``, without what its ``pandera`` adds."""
    import pandera.pandas as pandera

    if None in schema.fields:
        raise SchemaError("to_pandera", "the schema has a field without a name, which a data frame cannot have")
    names = [name for name in schema.fields if name is not None]
    nested = [name for name in names if _is_nested(name, schema)]
    keys = [list(key) for key in schema.unique]
    made = pandera.DataFrameSchema(
        {name: _build_column(schema.fields[name]) for name in names if name not in nested},
        checks=[*_expressions(schema), *_further_keys(keys[1:]), *_own_checks(frame_rules(schema))],
        strict=schema.strict,
        coerce=schema.coerce,
        unique=keys[0] if keys else None,
        name=schema.name,
        description=schema.description,
        metadata=schema.metadata or None,
    )
    said = schema_mapping(made)
    carried: dict[str, Any] = {}
    if nested:
        carried["fields"] = {
            name: schema.fields[name].model_dump(mode="json", exclude_defaults=True) for name in nested
        }
    if len(keys) > 1:
        carried["unique"] = keys
    if schema.checks:
        carried["checks"] = [check.model_dump(mode="json", exclude_defaults=True) for check in schema.checks]
    rules = schema.model_dump(mode="json", exclude_defaults=True)
    carried |= {name: rules[name] for name in (*SCHEMA_RULES, "tolerances", "missing") if name in rules}
    if said["metadata"] != schema.metadata:
        carried["metadata"] = schema.metadata
    if carried:
        made.metadata = {**schema.metadata, CARRIED: carried}
    return made


def _build_column(field: FieldProtocol) -> Any:
    """The field as a pandera ``Column``; constraints that pandera lacks go into its metadata."""
    import pandera.pandas as pandera

    kind = dtype_kind(field.dtype)
    may_be_nan = kind in (None, "float", "complex") and field.shape is None
    column = pandera.Column(
        pandera_dtype(field),
        []
        if field.shape is not None
        else [
            *_finite_checks(field, may_be_nan),
            *_value_checks(field, kind, may_be_nan),
            *_own_checks(field_rules(field)),
        ],
        # pandas cannot tell a NumPy NaN from a null, so a field that allows one must accept the other.
        nullable=field.nullable or (field.allow_nan and may_be_nan),
        unique=field.unique,
        coerce=field.coerce,
        required=field.required,
        title=field.title,
        description=field.description,
        metadata=field.metadata or None,
    )
    said = type(field).model_validate(column_constraints(column).constraints).model_dump(mode="json")
    carried = {
        constraint: value for constraint, value in field.model_dump(mode="json").items() if value != said[constraint]
    }
    if carried:
        column.metadata = {**field.metadata, CARRIED: carried}
    return column


def not_in_pandera(schema: SchemaProtocol) -> Iterator[str]:
    """The places of a schema that a pandera schema carries along, but does not check; see :meth:`Schema.not_in_pandera`."""
    stated = schema.model_dump(mode="json", exclude_defaults=True)
    yield from (key for key in _NEVER_OF_SCHEMAS if key in stated)
    for name, field in schema.fields.items():
        keys = field.model_dump(mode="json", exclude_defaults=True)
        if name is None or _is_nested(name, schema):
            yield join_path(["fields", name])
            continue
        left = [key for key in keys if (key not in _ALWAYS_OF_FIELDS if field.shape else key in _NEVER_OF_FIELDS)]
        yield from (join_path(["fields", name, key]) for key in left)


def _is_nested(name: str, schema: SchemaProtocol) -> bool:
    """Whether a path leads into a column, so that a data frame has no column for it."""
    if "[]" in name or is_pattern(name):
        return True
    parts = name.split(".")
    return any(".".join(parts[:length]) in schema.fields for length in range(1, len(parts)))


def _own_checks(rules: Iterable[tuple[str, Any]]) -> list[Any]:
    """Checks of rules about the dataset; they see nulls."""
    from pandera.api.checks import Check

    return [Check(function, name=f"{OWN_CHECK}{name}", ignore_na=False) for name, function in rules]


def _finite_checks(field: FieldProtocol, may_be_nan: bool) -> list[Any]:
    from pandera.api.checks import Check

    checks = []
    if may_be_nan and not field.allow_nan:
        checks.append(Check(has_no_nan, name=f"{OWN_CHECK}no NaN", ignore_na=False))
    if may_be_nan and field.allow_nan and not field.nullable:
        checks.append(Check(has_no_null, name=f"{OWN_CHECK}no null", ignore_na=False))
    if may_be_nan and not field.allow_inf:
        checks.append(Check(has_no_infinity, name=f"{OWN_CHECK}no infinity", ignore_na=False))
    return checks


def _value_checks(field: FieldProtocol, kind: str | None, may_be_nan: bool) -> list[Any]:
    from pandera.api.checks import Check

    checks = []
    # pandera's own bounds reject NaN and infinities that the field allows, and its statistics cannot hold a duration.
    is_own = kind == "duration" or (may_be_nan and (field.allow_nan or field.allow_inf))
    for constraint, check in _BOUNDS.items():
        bound = getattr(field, constraint)
        if bound is None:
            continue
        value = pandas_value(bound, field.dtype)
        if is_own:
            constraints = {"bound": value, "check": check, "inf": field.allow_inf}
            checks.append(Check(is_within, name=f"{OWN_CHECK}{constraint}", ignore_na=False, **constraints))
        else:
            checks.append(getattr(Check, check)(value))
    if field.isin is not None:
        members = [pandas_value(value, field.dtype) for value in field.isin]
        own = Check(is_among, name=f"{OWN_CHECK}isin", members=members)
        checks.append(own if kind == "duration" else Check.isin(members))
    if field.str_matches is not None:
        checks.append(Check.str_matches(field.str_matches))
    checks += meaning_checks(field)
    for name, given in field.checks.items():
        arguments = arguments_of(name, given) or {}
        if field.dtype is not None and canonical_check(name) in BUILTIN_CHECKS:
            arguments = round_arguments(arguments, partial(pandas_constant, dtype=field.dtype))
        checks.append(getattr(Check, canonical_check(name))(**arguments))
    return checks


def _expressions(schema: SchemaProtocol) -> list[Any]:
    from pandera.api.checks import Check

    return [
        Check(
            is_true,
            name=f"{OWN_CHECK}{check.label}",
            ignore_na=False,
            expression=check.expr,
            **_columns_of(check, schema),
        )
        for check in schema.row_rules
    ]


def _columns_of(check: ExpressionProtocol, schema: SchemaProtocol) -> dict[str, Any]:
    """The columns of fields that an expression names: the field of each and the index."""
    names = parse_expression(check.expr).names
    found = {name: one for name in names if (one := named_index(name, schema)) is not None}
    return {"columns": found} if found else {}


def _further_keys(keys: Sequence[list[str]]) -> list[Any]:
    from pandera.api.checks import Check

    return [Check(is_unique, name=f"{OWN_CHECK}unique {key}", ignore_na=False, key=key) for key in keys]


def _floats(series: Any) -> tuple[Any, Any] | None:
    """The values of a float series and which of them are present; None for other dtypes."""
    import numpy as np
    import pandas as pd

    if isinstance(series.dtype, np.dtype):
        return (series.to_numpy(), np.ones(len(series), bool)) if series.dtype.kind in "fc" else None
    if not pd.api.types.is_float_dtype(series.dtype):
        return None
    operand = _operand(series)
    return operand.values, np.ones(len(series), bool) if operand.valid is None else operand.valid


def _operand(series: Any) -> Operand:
    """A series for the evaluator; NaN stays NaN where the dtype can tell it from a null."""
    import numpy as np
    import pyarrow as pa

    if isinstance(series.dtype, np.dtype):
        return operand_of(pa.array(series, from_pandas=True))
    return operand_of(pa.array(series.array, from_pandas=False))


def has_no_nan(series: Any) -> Any:
    """False where a value is NaN and the dtype can tell it from a null."""
    import numpy as np

    found = _floats(series)
    if found is None or isinstance(series.dtype, np.dtype):
        return ~series.isna() | True
    values, valid = found
    return series.isna() | ~(np.isnan(values) & valid)


def has_no_null(series: Any) -> Any:
    """False where there is a null and the dtype can tell it from NaN."""
    import numpy as np

    found = _floats(series)
    if isinstance(series.dtype, np.dtype) and found is not None:
        return ~series.isna() | True
    present = ~series.isna()
    return present if found is None else (present | found[1])


def has_no_infinity(series: Any) -> Any:
    """False where a value is an infinity."""
    import numpy as np

    found = _floats(series)
    if found is None:
        return ~series.isna() | True
    values, valid = found
    return series.isna() | ~(np.isinf(values) & valid)


def is_within(series: Any, *, bound: Any, check: str, inf: bool) -> Any:
    """True where a value is within the bound, null, NaN, or an infinity that is allowed."""
    import operator

    import numpy as np

    compare = {
        "greater_than_or_equal_to": operator.ge,
        "greater_than": operator.gt,
        "less_than_or_equal_to": operator.le,
        "less_than": operator.lt,
    }[check]
    found = _floats(series)
    if found is None:
        return series.isna() | compare(series, bound).fillna(True).astype(bool)
    values, valid = found
    passes = compare(values, bound) | np.isnan(values) | ~valid
    return series.isna() | (passes | np.isinf(values) if inf else passes)


def is_among(series: Any, *, members: list[Any]) -> Any:
    """True where a value is one of the members."""
    return series.isin(members)


def is_true(frame: Any, *, expression: str, columns: Mapping[str, tuple[str, Sequence[Any]]] | None = None) -> Any:
    """True where an expression of the schema is true or unknown; ``columns`` are the parts of fields that it names."""
    import numpy as np
    import pandas as pd

    parsed = parse_expression(expression)
    operands = {name: _operand(frame[name]) for name in parsed.names if name not in (columns or {})}
    is_short = np.zeros(len(frame), bool)
    for name, (field, indexes) in (columns or {}).items():
        operands[name], beyond = take_item(_operand(frame[field]), indexes)
        is_short |= False if beyond is None else beyond
    truth, known = evaluate(parsed, operands, len(frame))
    return pd.Series((truth | ~known) & ~is_short, index=frame.index)


def is_unique(frame: Any, *, key: list[str]) -> Any:
    """True where no other row has the same key."""
    return ~frame.duplicated(subset=key, keep=False)
