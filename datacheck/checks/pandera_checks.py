"""DC207 and DC303: the pandera checks of a field, and the pandera schema of a schema.

A check that judges each value or row by itself runs batch by batch. Every other one may look at neighbours, or at all
rows: it runs on the whole file.

Nulls are not checked (``nullable`` does that), unless a check asks for them with ``ignore_na=False``; the same is true
for NaN in the checks of one column. A check that raises, or that returns something else than booleans, is a finding.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from datacheck.checks.base import Outcome
from datacheck.checks.pandera_frames import frame_of, leaf_series, plain_frame
from datacheck.checks.rules import format_value
from datacheck.distinct import distinct
from datacheck.errors import SchemaError
from datacheck.findings import MAX_EXAMPLES, Example, Severity
from datacheck.leaves import FLOAT_FORMATS, IntArray, Leaf
from datacheck.numerics import nan_mask, neginf_mask, posinf_mask
from datacheck.schema.builtin_checks import BUILTIN_CHECKS, SET_CHECKS, arguments_of, canonical_check, describe_check
from datacheck.schema.pandera_dtypes import pandas_constant
from datacheck.schema.pandera_remainder import left_to_pandera
from datacheck.schema.rounding import round_arguments
from datacheck.text import plain, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datacheck.batch import Batch
    from datacheck.schema.model import Schema


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a pandera check: the failing labels, or None for a check with one result for all values."""

    num_checked: int
    failed: Any = None
    passed: bool = True
    problem: str = ""


class PanderaFieldCheck:
    """Runs one pandera check by name over the values of one field, including those inside lists."""

    def __init__(self, schema: Schema, path: str | None, name: str) -> None:
        from pandera.api.checks import Check

        self._schema = schema
        self._field = schema.fields[path]
        self._path = path
        self._arguments = arguments_of(name, self._field.checks[name]) or {}
        self._name = canonical_check(name)
        self.rule = describe_check(self._name, self._arguments)
        self._checks: dict[str, Any] = {}
        try:
            check = getattr(Check, self._name)(**self._arguments)
        except Exception as error:  # whatever pandera finds wrong with the arguments
            raise SchemaError(f"schema: fields.{path}.checks.{name}", plain(str(error))) from error
        self.needs_whole_file = not _is_per_row(check)

    @property
    def paths(self) -> tuple[str | None, ...]:
        """The path whose values it checks."""
        return (self._path,)

    def not_run(self, problem: str) -> list[Outcome]:
        """The outcome where the check could not run, and why."""
        return [Outcome("DC005", self._path, 1, 1, rule=self.rule, detail=f"{self.rule} {problem}")]

    def run(self, batch: Batch) -> list[Outcome]:
        """One outcome for each leaf of the field."""
        return [
            self._run_leaf(leaf, batch)
            for column in batch.columns
            for leaf in column.leaves()
            if self._schema.field_for(leaf.path) is self._field and _is_flat(leaf)
        ]

    def _run_leaf(self, leaf: Leaf, batch: Batch) -> Outcome:
        dtype = self._field.dtype
        if dtype in FLOAT_FORMATS and isinstance(leaf.values, np.ndarray) and leaf.values.dtype == FLOAT_FORMATS[dtype]:
            leaf = Leaf(leaf.path, leaf.values, dtype, leaf.validity, leaf.levels, leaf.shape)
        positions = self._checked_positions(leaf)
        try:
            series = leaf_series(leaf, positions)
        except Exception as error:  # pandas cannot represent some of Arrow's types and values
            return _whole_outcome("DC207", leaf.path, self.rule, _raised(error, len(positions)))
        try:
            check = self._check_for(leaf.dtype)
        except (ValueError, TypeError, OverflowError) as error:
            return _whole_outcome("DC207", leaf.path, self.rule, _raised(error, len(positions)))
        with _pandera_enabled():
            result = apply_check(check, series)
        if result.failed is None:
            return _whole_outcome("DC207", leaf.path, self.rule, result)
        failed = np.sort(np.asarray(result.failed, np.int64))
        rows, indices = leaf.locate(failed[:MAX_EXAMPLES])
        examples = tuple(
            Example(int(row), batch.row_group, tuple(int(digit) for digit in index), _value_at(leaf, int(position)))
            for row, index, position in zip(batch.file_rows(rows), indices, failed, strict=False)
        )
        found = leaf.rows(failed) if len(failed) else None
        return Outcome("DC207", leaf.path, len(positions), len(failed), found, examples, self.rule)

    def _check_for(self, dtype: str) -> Any:
        """The check with its constants as values of a dtype; constants of a user's own check stay as they are."""
        from pandera.api.checks import Check

        if dtype not in self._checks:
            arguments = self._arguments
            if self._name in BUILTIN_CHECKS and self._name != "str_length":
                arguments = round_arguments(arguments, partial(pandas_constant, dtype=dtype))
            self._checks[dtype] = getattr(Check, self._name)(**arguments)
        return self._checks[dtype]

    def _checked_positions(self, leaf: Leaf) -> IntArray:
        """Positions of the values to check: not null, not NaN, and not an allowed infinity."""
        mask = np.ones(len(leaf), np.bool_) if leaf.validity is None else leaf.validity.copy()
        if leaf.may_be_nonfinite and leaf.is_numeric:
            mask &= ~nan_mask(leaf.values, leaf.dtype)
            if self._field.allow_inf:
                mask &= ~(posinf_mask(leaf.values, leaf.dtype) | neginf_mask(leaf.values, leaf.dtype))
        return np.flatnonzero(mask)


class PanderaSchemaCheck:
    """Runs the part of a pandera schema that the fields do not check: what goes row by row, or what needs a whole file.

    A check with a result for each value or row marks rows. A check with one result for all values marks no rows.
    """

    def __init__(self, schema: Schema, left: Any, *, whole_file: bool) -> None:
        self._schema = schema
        checks = [
            *((name, check, column.regex) for name, column in left.columns.items() for check in column.checks),
            *((None, check, False) for check in left.checks),
        ]
        self._has_parsers = bool(left.parsers) or any(column.parsers for column in left.columns.values())
        #: Each check with its column, whether that is a pattern, and its name in findings.
        self._checks = [
            (name, check, is_pattern, rule)
            for (name, check, is_pattern), rule in zip(checks, _labels(checks), strict=True)
            if whole_file == (self._has_parsers or not _is_per_row(check))
        ]
        # pandas gives a column of nulls another dtype in a batch than in the file.
        structure_is_whole = self._has_parsers or any(column.dtype is not None for column in left.columns.values())
        self._structure = _structure_of(left) if whole_file == structure_is_whole else None
        needs_all = bool(left.checks or left.ordered or self._has_parsers)
        needs_all = needs_all or any(column.regex for column in left.columns.values())
        grouped = any(check.groupby is not None for _, check, _, _ in self._checks)
        self._names = None if needs_all or grouped else list(left.columns)

    @classmethod
    def of(cls, schema: Schema, *, whole_file: bool) -> list[PanderaSchemaCheck]:
        """The check, if a pandera schema has anything of this kind that the fields do not check."""
        left = left_to_pandera(schema)
        if left is None:
            return []
        check = cls(schema, left, whole_file=whole_file)
        return [check] if check._checks or check._structure is not None else []

    @property
    def paths(self) -> tuple[str | None, ...] | None:
        """The columns that it needs; None for all."""
        return None if self._names is None else tuple(self._names)

    def not_run(self, problem: str) -> list[Outcome]:
        """The outcomes where the checks could not run, and why."""
        rules = [(name, rule) for name, _, _, rule in self._checks]
        if self._structure is not None:
            rules.append((None, "its structure"))
        return [Outcome("DC005", name, 1, 1, rule=rule, detail=f"{rule} {problem}") for name, rule in rules]

    def run(self, batch: Batch) -> list[Outcome]:
        """One outcome for each check, and one for each other error that pandera reports."""
        try:
            with _pandera_enabled():
                return self._run(batch)
        except Exception as error:  # pandas cannot represent some of Arrow's types and values
            return [_whole_outcome("DC303", None, "its frame", _raised(error, batch.num_rows))]

    def _run(self, batch: Batch) -> list[Outcome]:
        outcomes: list[Outcome] = []
        frame = None
        if self._structure is not None:
            frame = plain_frame(batch, self._names, self._schema)
            frame, outcomes = self._validate_structure(frame, batch)
        if frame is None or not self._has_parsers:
            frame = frame_of(batch, self._names, self._schema)
        for name, check, is_pattern, rule in self._checks:
            for column in _matching(name, is_pattern, frame):
                outcomes.append(self._run_check(check, rule, column, frame, batch))
        return outcomes

    def _run_check(self, check: Any, rule: str, column: str | None, frame: Any, batch: Batch) -> Outcome:
        if column is None or check.groupby is not None:
            result = apply_check(check, frame, column)
        else:
            result = apply_check(check, frame[column])
        if result.failed is None:
            outcome = _whole_outcome("DC303", column, rule, result)
        else:
            rows = distinct(np.asarray(result.failed, np.int64))
            outcome = _row_outcome(rule, rows, result.num_checked, batch, _values(frame, column))
        # A check that could not run did not warn: its result is unknown.
        return replace(outcome, severity=Severity.WARNING) if check.raise_warning and not result.problem else outcome

    def _validate_structure(self, frame: Any, batch: Batch) -> tuple[Any, list[Outcome]]:
        """The frame after pandera's parsers, and the errors in its dtypes, nulls and columns."""
        from pandera.errors import SchemaErrors

        assert self._structure is not None
        checked = Outcome("DC303", None, batch.num_rows, rule="its structure")
        try:
            return self._structure.validate(frame, lazy=True), [checked]
        except SchemaErrors as errors:
            return frame, [_structure_outcome(error, frame, batch) for error in errors.schema_errors]
        except Exception as error:  # a user's parser may raise anything
            return frame, [_whole_outcome("DC303", None, "its parsers", _raised(error, batch.num_rows))]


def apply_check(check: Any, data: Any, key: str | None = None) -> CheckResult:
    """Run a pandera check on a series or a frame."""
    import pandas as pd

    try:
        backend_type = check.get_backend(data)
        backend = backend_type(_with_function(check))
        shown = backend.preprocess(data, key)
        output = backend.apply(shown)
    except Exception as error:  # a user's check may raise anything
        return _raised(error, len(data))
    num_checked = len(shown) if isinstance(shown, pd.Series) else len(data)
    if isinstance(output, bool | np.bool_):
        return CheckResult(num_checked, passed=bool(output))
    if not isinstance(output, pd.Series | pd.DataFrame):
        return CheckResult(
            num_checked, passed=False, problem=f"it returned {plain(type(output).__name__)} instead of booleans"
        )
    try:
        # Unknown comes from a null, which `nullable` checks.
        known = output.astype("boolean").fillna(True).astype(bool)
    except (TypeError, ValueError):
        return CheckResult(num_checked, passed=False, problem=f"it returned values of dtype {plain(_dtype_of(output))}")
    if isinstance(known, pd.DataFrame):
        known = (known | data.isna() if check.ignore_na and known.shape == data.shape else known).all(axis=1)
    if not known.index.isin(data.index).all() or isinstance(shown, dict):
        return CheckResult(num_checked, passed=bool(known.all()))
    return CheckResult(num_checked, failed=known.index[~known.to_numpy()])


def _with_function(check: Any) -> Any:
    """The check with the function that is registered for its name now, as pandera's own call uses it.

    A check created before pandera loaded its pandas functions has a function that cannot take a series.
    """
    name = _builtin_name(check)
    if name is not None:
        check = copy(check)
        check._check_fn = check.get_builtin_check_fn(name)
    return check


def _builtin_name(check: Any) -> str | None:
    """The name of pandera's own function that a check runs; None for a user's function, whatever its name."""
    name = getattr(check._check_fn, "__name__", None)
    if name is None or not check.is_builtin_check(name):
        return None
    return name if type(check.get_builtin_check_fn(name)) is type(check._check_fn) else None


def _is_per_row(check: Any) -> bool:
    """Whether the result for a value or row depends only on it."""
    if check.groupby is not None:
        return False
    name = _builtin_name(check)
    return bool(check.element_wise) or (name in BUILTIN_CHECKS and name not in SET_CHECKS)


def _dtype_of(output: Any) -> str:
    return str(output.dtype) if hasattr(output, "dtype") else ", ".join(str(dtype) for dtype in set(output.dtypes))


def _raised(error: Exception, num_checked: int) -> CheckResult:
    return CheckResult(num_checked, passed=False, problem=f"it raised {type(error).__name__}: {plain(str(error))}")


def _whole_outcome(code: str, path: str | None, rule: str, result: CheckResult) -> Outcome:
    """The outcome of a check with one result for all values, or that could not run."""
    if result.passed:
        return Outcome(code, path, result.num_checked, rule=rule)
    detail = result.problem or f"one result for all {quantity(result.num_checked, 'row')}"
    return Outcome(code, path, result.num_checked, max(1, result.num_checked), rule=rule, detail=detail)


def _values(frame: Any, column: str | None) -> Any:
    return None if column is None else frame[column]


def _row_outcome(rule: str, rows: IntArray, num_checked: int, batch: Batch, values: Any) -> Outcome:
    """The outcome for the rows that fail a check of ``values``, which is a series, or None for the whole frame."""
    shown = rows[:MAX_EXAMPLES]
    examples = tuple(
        Example(int(file_row), batch.row_group, (), "" if values is None else _shown(values.iloc[int(row)]))
        for row, file_row in zip(shown, batch.file_rows(shown), strict=True)
    )
    column = None if values is None else values.name
    return Outcome("DC303", column, num_checked, len(rows), rows if len(rows) else None, examples, rule)


def _structure_outcome(error: Any, frame: Any, batch: Batch) -> Outcome:
    """The outcome for an error that pandera raised itself."""
    import pandas as pd

    reason = getattr(error.reason_code, "name", "SCHEMA").lower().replace("_", " ")
    column = getattr(error.schema, "name", None) if not hasattr(error.schema, "columns") else None
    column = column if column in frame.columns else None
    rule = f"{reason}: {plain(str(error.check))}" if error.check is not None else reason
    cases = error.failure_cases
    if isinstance(cases, pd.DataFrame) and "index" in cases and cases["index"].notna().all():
        rows = distinct(cases["index"].to_numpy(np.int64))
        return _row_outcome(rule, rows, batch.num_rows, batch, _values(frame, column))
    result = CheckResult(batch.num_rows, passed=False, problem=plain(str(error).splitlines()[0]))
    return _whole_outcome("DC303", column, rule, result)


def _structure_of(left: Any) -> Any:
    """The part of a pandera schema other than checks: parsers, dtypes, nulls, required columns, their order."""
    import pandera.pandas as pandera

    columns = {}
    for name, column in left.columns.items():
        says_something = column.dtype is not None or not column.nullable or column.required or column.parsers
        if says_something or left.ordered:
            columns[name] = pandera.Column(
                column.dtype,
                parsers=column.parsers,
                nullable=column.nullable,
                required=column.required,
                coerce=column.coerce,
                regex=column.regex,
            )
    if not columns and not left.parsers:
        return None
    return pandera.DataFrameSchema(columns, parsers=left.parsers, ordered=left.ordered)


def _labels(checks: list[tuple[str | None, Any, bool]]) -> list[str]:
    """A name for each check, unique within its column."""
    labels: list[str] = []
    taken: set[tuple[str | None, str]] = set()
    for column, check, _ in checks:
        label = described = _label(check)
        number = 1
        while (column, label) in taken:
            number += 1
            label = f"{described} ({number})"
        taken.add((column, label))
        labels.append(label)
    return labels


def _label(check: Any) -> str:
    name = str(check.name or "check")
    if name == "<lambda>":
        return str(check.error) if check.error else "a lambda"
    return describe_check(name, check.statistics) if check.statistics else name


def _matching(name: str | None, is_pattern: bool, frame: Any) -> list[str | None]:
    """The columns that a check applies to; None for the whole frame."""
    import re

    if name is None:
        return [None]
    if not is_pattern:
        return [name] if name in frame.columns else []
    return [column for column in frame.columns if re.match(name, str(column))]


@contextmanager
def _pandera_enabled() -> Iterator[None]:
    """Turn pandera's checks on, whatever the environment says: a disabled check would pass silently."""
    from pandera.config import ValidationDepth, config_context

    with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        yield


def _is_flat(leaf: Leaf) -> bool:
    return leaf.values is not None and (leaf.is_numeric or not pa.types.is_nested(leaf.values.type))


def _value_at(leaf: Leaf, position: int) -> str:
    return _shown(leaf_series(leaf, np.array([position])).iloc[0])


def _shown(value: Any) -> str:
    import pandas as pd

    if value is None or value is pd.NA or value is pd.NaT:
        return "null"
    return format_value(value)
