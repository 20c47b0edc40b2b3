"""DC302: rows for which a cross-field expression of the schema is false."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from datacheck.checks.base import Outcome
from datacheck.checks.expression_columns import Data, find_column, show_value, with_indexes
from datacheck.errors import nearest_name
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.leaves import FLOAT_FORMATS
from datacheck.numerics import keep_freed_memory, to_float
from datacheck.schema.evaluate import evaluate
from datacheck.schema.field_parts import NAMELESS
from datacheck.schema.model import Expression, Schema
from datacheck.schema.operands import ExpressionTypeError, Operand, operand_of
from datacheck.text import join_limited, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from datacheck.batch import Batch
    from datacheck.leaves import BoolArray
    from datacheck.schema.expression import ParsedExpression


_MAX_SHOWN = 6
#: Values of lists that are evaluated together: few enough for the processor's cache, enough that NumPy's calls cost little.
_BLOCK_VALUES = 1 << 17
#: More than all arrays of a block that are freed together.
_KEPT_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class ExpressionCheck:
    """Evaluates one expression over its columns.

    A row that a null makes unknown is not counted; a NaN makes a comparison false, which breaks the rule. If a column
    is missing, or its dtype does not fit the expression, the outcome is ``DC005``.
    """

    expression: Expression
    schema: Schema = field(default_factory=Schema)
    _parsed: ParsedExpression = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", with_indexes(self.expression.expr, self.schema))

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that the expression needs."""
        return self._parsed.names

    def run(self, batch: Batch) -> list[Outcome]:
        """One outcome with the rows that break the rule."""
        parsed = self._parsed
        if self._is_of_other_files(batch):
            return []
        data: dict[str, Data] = {}
        for name in parsed.names:
            found = find_column(batch, name, self.schema)
            if found is None:
                problem = f"it is missing, but the rule '{self.expression.label}' needs it{_hint(name, batch)}"
                return [self._not_checked(batch, name, problem)]
            data[name] = found.reshape(1) if getattr(found, "ndim", 1) == 0 else found
        try:
            truth, known = self._evaluate(parsed, data, batch)
        except (ExpressionTypeError, pa.ArrowException) as error:
            return [self._not_checked(batch, parsed.names[0], f"the rule '{self.expression.label}': {error}")]
        rows = np.flatnonzero(known & ~truth).astype(np.int64)
        return [
            Outcome(
                "DC302",
                None,
                int(np.count_nonzero(known)),
                len(rows),
                rows if len(rows) else None,
                self._examples(batch, rows[:MAX_EXAMPLES], data),
                self.expression.label,
                self._detail(),
                reads=tuple(parsed.names),
            )
        ]

    def _evaluate(
        self, parsed: ParsedExpression, data: Mapping[str, Data], batch: Batch
    ) -> tuple[BoolArray, BoolArray]:
        """The verdicts on all rows, a few at a time, so that the values of their lists stay in the processor's cache."""
        dtypes = {column.name: column.dtype for column in batch.columns}
        columns = {
            name: _operand(column, self._format_of(name, column, dtypes.get(name))) for name, column in data.items()
        }
        num_rows = batch.num_rows
        keep_freed_memory(_KEPT_BYTES)
        truth, known = np.empty(num_rows, np.bool_), np.empty(num_rows, np.bool_)
        for rows in _blocks(columns.values(), num_rows):
            part = {name: column.cut(rows.start, rows.stop) for name, column in columns.items()}
            truth[rows], known[rows] = evaluate(parsed, part, rows.stop - rows.start)
        return truth, known

    def _is_of_other_files(self, batch: Batch) -> bool:
        """Whether the batch is the one array of a file, and the rule is about fields of the schema in other files."""
        names = [column.name for column in batch.columns if isinstance(column.data, np.ndarray)]
        is_one_array = len(batch.columns) == len(names) == 1 and names[0] is not None
        fields = self.schema.fields
        return (
            is_one_array and names[0] in fields and all(one in fields and one != names[0] for one in self._parsed.names)
        )

    def _detail(self) -> str:
        if self.expression.name is not None:
            return self.expression.expr
        return self.expression.description or "it is false"

    def _not_checked(self, batch: Batch, name: str, problem: str) -> Outcome:
        if None in batch.names and name not in batch.names:
            problem += f"; the array of the file is called '{NAMELESS}' in a rule"
        return Outcome("DC005", name, batch.num_rows, batch.num_rows, rule=self.expression.label, detail=problem)

    def _format_of(self, name: str, data: Data, dtype: str | None) -> str | None:
        """The narrow format that NumPy lacks (bfloat16, stored as uint16 or not) in which a column is; None for others."""
        if isinstance(data, np.ndarray) and data.dtype.name in FLOAT_FORMATS:
            return str(data.dtype.name)
        dtype = dtype or getattr(self.schema.field_for(name), "dtype", None)
        if dtype not in FLOAT_FORMATS:
            return None
        storage = FLOAT_FORMATS[dtype]
        kind = data.dtype if isinstance(data, np.ndarray) else _innermost(data.type)
        return dtype if kind == (storage if isinstance(data, np.ndarray) else pa.from_numpy_dtype(storage)) else None

    def _examples(
        self, batch: Batch, rows: np.ndarray[Any, np.dtype[np.int64]], data: dict[str, Data]
    ) -> tuple[Example, ...]:
        shown = dict(list(data.items())[:_MAX_SHOWN])
        return tuple(
            Example(
                int(file_row),
                batch.row_group,
                (),
                ", ".join(f"{plain(name, 60)}={show_value(column, int(row))}" for name, column in shown.items()),
            )
            for row, file_row in zip(rows, batch.file_rows(rows), strict=True)
        )


def _hint(name: str, batch: Batch) -> str:
    """What a name that is no field may have meant: the nearest field, or else those that there are."""
    names = [one for one in batch.names if one is not None]
    if near := nearest_name(name, names):
        return near
    if not names:
        return ""
    are = (
        f"the field here is {join_limited(names)}" if len(names) == 1 else f"the fields here are {join_limited(names)}"
    )
    return f"; '{NAMELESS}' is an array without a name, and {are}" if name == NAMELESS else f"; {are}"


def _innermost(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a list, or of the lists inside it."""
    while isinstance(kind, pa.BaseExtensionType) or hasattr(kind, "value_type"):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return kind


def _unwrapped(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _operand(data: Data, narrow: str | None) -> Operand:
    if narrow is None:
        return operand_of(data)
    storage = FLOAT_FORMATS[narrow]
    if isinstance(data, np.ndarray) and data.dtype != storage:
        data = np.ascontiguousarray(data).view(storage)

    def widen(stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return to_float(stored.astype(storage), narrow).astype(np.float64)

    return operand_of(data, narrow, widen)


def _blocks(columns: Iterable[Operand], num_rows: int) -> Iterator[slice]:
    """Slices of rows with about ``_BLOCK_VALUES`` values in the columns with lists; all rows at once without such columns."""
    widest = max((one.axes.count(one.axes.ndim) for one in columns if one.axes is not None), default=0)
    step = max(1, num_rows * _BLOCK_VALUES // widest) if widest else max(1, num_rows)
    return (slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step))
