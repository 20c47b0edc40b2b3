"""The screen of a sample for the rules across its fields: expressions and named dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from datacheck.checks.expression_columns import with_indexes
from datacheck.checks.sentinels import has_missing
from datacheck.leaves import FLOAT_FORMATS
from datacheck.schema.dimensions import row_dimensions
from datacheck.schema.expression import ParsedExpression
from datacheck.schema.field_paths import is_pattern
from datacheck.schema.model import Schema
from datacheck.schema.row_screen import UncertainError, compile_screen

#: Combinations of dtypes to remember for one expression.
_MAX_KNOWN: Final = 64
_TENSOR_DTYPES: Final = frozenset(
    {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
    | {torch.float16, torch.float32, torch.float64}
)


class RowScreen:
    """Whether a sample certainly keeps the rules across its fields; other samples need the exact check."""

    def __init__(self, schema: Schema) -> None:
        self._rules = [_Rule(with_indexes(expression.expr, schema)) for expression in schema.row_rules]
        self._dimensions = [
            [(axis.path, axis.position, len(axis.field.shape)) for axis in axes]
            for axes in row_dimensions(schema).values()
        ]

    @classmethod
    def of(cls, schema: Schema) -> Callable[[Any], bool]:
        """The screen for a schema, which lets no sample pass where the exact check alone knows the values."""
        fields = schema.fields
        is_simple = not has_missing(schema) and not schema.coerce and not any(one.coerce for one in fields.values())
        has_pandera = schema.pandera is not None or schema.pandera_object is not None
        has_pandera = has_pandera or any(one.checks for one in fields.values())
        # Integers that store other formats, and paths that stand for several values.
        has_patterns = any(
            path is None or is_pattern(path) or "[]" in path or (one.dtype in FLOAT_FORMATS and one.dtype != "float16")
            for path, one in fields.items()
        )
        return cls(schema) if is_simple and not has_pandera and not has_patterns else lambda _: False

    def __call__(self, sample: Any) -> bool:
        values: dict[str, Any] = {}
        try:
            with np.errstate(all="ignore"):
                return all(rule.holds(sample, values) for rule in self._rules) and all(
                    self._is_one_size(axes, sample, values) for axes in self._dimensions
                )
        except Exception:  # what does not fit a rule is for the exact check to say
            return False

    def _is_one_size(self, axes: Any, sample: Any, values: dict[str, Any]) -> bool:
        sizes = set()
        for path, position, ndim in axes:
            shape = np.shape(_value_of(sample, path, values))
            place = position - (ndim - len(shape))
            if ndim - len(shape) not in (0, 1):
                return False
            if place >= 0:
                sizes.add(shape[place])
        return len(sizes) < 2


class _Rule:
    """An expression, compiled once for each combination of dtypes."""

    def __init__(self, parsed: ParsedExpression) -> None:
        self._parsed = parsed
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def holds(self, sample: Any, values: dict[str, Any]) -> bool:
        row = {name: _value_of(sample, name, values) for name in self._parsed.names}
        dtypes = tuple([getattr(value, "dtype", None) for value in row.values()])
        code = self._compiled.get(dtypes)
        if code is None:
            code = compile_screen(self._parsed, [_narrow(dtype) for dtype in dtypes])
            if len(self._compiled) < _MAX_KNOWN:
                self._compiled[dtypes] = code
        return bool(code(row))


def _narrow(dtype: Any) -> str | None:
    """The name of a float dtype that is narrower than float64."""
    return dtype.name if dtype is not None and dtype.kind == "f" and dtype.itemsize < 8 else None


def _value_of(sample: Any, name: str, values: dict[str, Any]) -> Any:
    """The value of a field as a NumPy array, a Python number or a string."""
    if name not in values:
        values[name] = _plain(_part(sample, name))
    return values[name]


def _part(sample: Any, name: str) -> Any:
    if type(sample) is dict:
        if name in sample:
            return sample[name]
    elif type(sample) in (tuple, list) and name.isdecimal():
        return sample[int(name)]
    outer, dot, inner = name.partition(".")
    if not dot:
        raise UncertainError
    return _part(_part(sample, outer), inner)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is torch.Tensor and value.dtype in _TENSOR_DTYPES and value.layout is torch.strided:
        return value.detach().numpy()
    if kind is np.ndarray or isinstance(value, np.number | np.bool_):
        if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8 and value.dtype.isnative:
            return value
    elif kind is bool:
        return np.bool_(value)
    elif kind is float or (kind is int and abs(value) < 2**62):
        return value
    elif kind is str:
        value.encode()
        return value
    elif kind is list and value and set(map(type, value)) <= {int, float}:
        array = np.asarray(value)
        if array.dtype.kind in "if":
            return array
    raise UncertainError
