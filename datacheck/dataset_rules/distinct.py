"""DC324: the number of different values of a field in the dataset, and the values that must occur.

A state keeps the first different values, only as many as the rule can ask for, in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.arrow_layouts import python_value
from datacheck.batch import Batch
from datacheck.checks.rules import format_value
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part
from datacheck.dataset_rules.field_values import FieldValues, Source, values_of
from datacheck.findings import Example, Finding
from datacheck.leaves import has_nonfinite
from datacheck.numerics import nan_mask, to_float
from datacheck.schema.builtin_checks import arguments_of
from datacheck.schema.rounding import round_float
from datacheck.schema.scalars import arrow_scalar
from datacheck.text import join_limited, quantity

__all__ = ["DistinctRule"]

DISTINCT = "DC324"
#: Values whose different ones are found together.
_BLOCK = 1 << 16
#: Where a value is: file, row, row group.
_Place = tuple[str, int, int | None]


@dataclass(frozen=True, slots=True)
class DistinctRule:
    """What a schema says about the different values of one field."""

    source: Source

    @property
    def columns(self) -> tuple[str | None, ...]:
        return (self.source.column,)

    @property
    def only(self) -> tuple[Any, ...] | None:
        """The values that must be exactly those of the field (pandera's ``unique_values_eq``)."""
        given = self.source.field.checks.get("unique_values_eq")
        arguments = None if given is None else arguments_of("unique_values_eq", given)
        return None if arguments is None else tuple(arguments["values"])

    @property
    def required(self) -> tuple[Any, ...]:
        """The values that must occur."""
        return tuple(dict.fromkeys([*(self.source.field.covers or ()), *(self.only or ())]))

    @property
    def num_wanted(self) -> int:
        """The number of different values that it may have to know."""
        field = self.source.field
        return max(field.min_distinct or 0, 0 if field.max_distinct is None else field.max_distinct + 1)

    def start(self, part: Part) -> DistinctState:
        return DistinctState(self, part)

    def restore(self, record: Any, part: Part) -> DistinctState:
        state = DistinctState(self, part)
        state.num_values, state.problem = int(record["num_values"]), str(record["problem"])
        state.values = {value: (str(uri), int(row), group) for value, uri, row, group in record["values"]}
        state.missing = {int(index) for index in record["missing"]}
        state.num_others = int(record["num_others"])
        other = record["first_other"]
        state.first_other = None if other is None else (str(other[0]), (str(other[1]), int(other[2]), other[3]))
        return state


class DistinctState:
    """The first different values of a field, and those of its required values that have not occurred."""

    def __init__(self, rule: DistinctRule, part: Part) -> None:
        self._rule, self._source, self._part = rule, rule.source, part
        self._required, self._is_closed = rule.required, rule.only is not None
        self.num_values = 0
        self.values: dict[Any, _Place] = {}
        #: Values that are known, to leave them out quickly; not all of them need be.
        self._known: Any = None
        #: The required values that have not occurred, by their index.
        self.missing = set(range(len(self._required)))
        self.num_others = 0
        self.first_other: tuple[str, _Place] | None = None
        self.problem = ""

    @property
    def _is_full(self) -> bool:
        return len(self.values) >= self._rule.num_wanted

    def update(self, batch: Batch) -> None:
        for found in values_of(batch, self._source):
            values, numbered = _comparable(found)
            self.num_values += len(values)
            for start in range(0, len(values), _BLOCK):
                if self._is_full and not self.missing and not self._is_closed:
                    break
                self._add(values[start : start + _BLOCK], start, found, numbered, batch)

    def _add(self, values: Any, start: int, found: FieldValues, kept: Any, batch: Batch) -> None:
        """Add some values; ``kept`` are the indices of all of them among those of the leaf, None if they are the same."""

        def place(index: int) -> _Place:
            index += start
            row = found.row_of(index if kept is None else int(kept[index]))
            return self._part.uri, int(batch.file_rows(np.array([row]))[0]), batch.row_group

        self._add_new(values, place)
        if self._required and (self.missing or self._is_closed):
            try:
                members = _members(self._required, values, found.leaf.dtype)
            except ValueError as error:
                self.problem = self.problem or str(error)
                return
            self._find_members(values, members, place)

    def _add_new(self, values: Any, place: Any) -> None:
        """Add the first values that are not known yet, as many as are wanted."""
        array = pa.array(values) if isinstance(values, np.ndarray) else values
        left: Any = None
        while not self._is_full:
            if left is None and self._known_of(array.type) is not None:
                is_new = pc.invert(pc.is_in(array, self._known_of(array.type)))
                left = np.flatnonzero(is_new.to_numpy(zero_copy_only=False))
            wanted = self._rule.num_wanted - len(self.values)
            # No more than may be needed: most values of a field of floats are different.
            some = array[: 2 * wanted + 64] if left is None else array.take(pa.array(left[: 2 * wanted + 64]))
            encoded = some.dictionary_encode()
            if not len(encoded.dictionary):
                return
            firsts = np.flatnonzero(np.diff(np.maximum.accumulate(encoded.indices.to_numpy()), prepend=-1))
            for value, first in zip(map(_plain, encoded.dictionary), firsts.tolist(), strict=True):
                if value not in self.values and not self._is_full:
                    self.values[value] = place(first if left is None else int(left[first]))
            self._known = encoded.dictionary if self._known is None else _joined(self._known, encoded.dictionary)
            if len(some) == (len(array) if left is None else len(left)):
                return
            left = None

    def _known_of(self, kind: pa.DataType) -> Any:
        """The known values in the type of others; None if there are none in it."""
        return self._known if self._known is not None and self._known.type == kind else None

    def _find_members(self, values: Any, members: pa.Array, place: Any) -> None:
        array = pa.array(values) if isinstance(values, np.ndarray) else values
        index = pc.index_in(array, members)
        self.missing -= set(pc.unique(index).drop_null().to_pylist())
        if self._is_closed and index.null_count:
            first = int(np.flatnonzero(index.is_null().to_numpy(zero_copy_only=False))[0])
            self.num_others += index.null_count
            if self.first_other is None:
                self.first_other = format_value(_plain(array[first])), place(first)

    def merge(self, other: DistinctState) -> None:
        self.problem = self.problem or other.problem
        self.num_values += other.num_values
        for value, place in other.values.items():
            if self._is_full:
                break
            self.values.setdefault(value, place)
        self.missing &= other.missing
        self.num_others += other.num_others
        self.first_other = self.first_other or other.first_other

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        uri = context.uris[0]
        if self.problem:
            detail = f"values that must occur: {self.problem}"
            yield DatasetOutcome(Finding("DC005", uri, self._source.path, 1, 1, detail=detail))
            return
        for rule, detail, number, total, examples in self._faults():
            where = examples[0][0] if examples else uri
            shown = tuple(example for _, example in examples)
            yield DatasetOutcome(Finding(DISTINCT, where, self._source.path, number, total, shown, rule, detail))

    def _faults(self) -> Iterator[tuple[str, str, int, int, list[tuple[str, Example]]]]:
        field = self._source.field
        known = list(self.values)
        lowest, highest = field.min_distinct, field.max_distinct
        if lowest is not None and len(known) < lowest:
            shown = join_limited([format_value(value) for value in known], 3)
            if len(known) == 1:
                what = f"is constant: all {quantity(self.num_values, 'value')} are {format_value(known[0])}"
            else:
                what = f"has {quantity(len(known), 'different value')}{f' ({shown})' if known else ''}"
            yield "min_distinct", f"{what}; expected at least {lowest}", 1, 1, []
        if highest is not None and len(known) > highest:
            uri, row, group = self.values[known[highest]]
            example = uri, Example(row, group, (), format_value(known[highest]))
            detail = f"has more than {quantity(highest, 'different value')}; the next one is"
            yield "max_distinct", f"{detail} {format_value(known[highest])}", 1, 1, [example]
        if self.missing:
            absent = [format_value(self._required[index]) for index in sorted(self.missing)]
            total = len(self._required)
            detail = f"lacks {len(absent)} of {total} values that must occur: {join_limited(absent)}"
            yield "covers", detail, len(absent), total, []
        if self.first_other is not None:
            value, (uri, row, group) = self.first_other
            detail = f"has values that are not listed, in {quantity(self.num_others, 'value')}: {value}"
            example = uri, Example(row, group, (), value)
            yield "unique_values_eq", detail, self.num_others, self.num_values, [example]

    def __getstate__(self) -> Any:
        return {**vars(self), "_known": None}

    def close(self) -> None:
        """Nothing is on disk."""

    def to_json(self) -> Any:
        return {
            "num_values": self.num_values,
            "problem": self.problem,
            "values": [[value, *place] for value, place in self.values.items()],
            "missing": sorted(self.missing),
            "num_others": self.num_others,
            "first_other": None if self.first_other is None else [self.first_other[0], *self.first_other[1]],
        }


def _joined(known: pa.Array, more: pa.Array) -> pa.Array:
    return pa.concat_arrays([known, more]).unique() if known.type == more.type else more


def _comparable(found: FieldValues) -> tuple[Any, Any]:
    """The values without NaN, in a type that Arrow can tell apart, and their indices where some were left out."""
    values = found.values
    if not isinstance(values, np.ndarray):
        kind = values.type
        is_short = pa.types.is_decimal(kind) and kind.byte_width < 16
        return (values.cast(pa.decimal128(kind.precision, kind.scale)) if is_short else values), None
    if values.dtype.kind == "c":
        return pa.array([str(value) for value in values.tolist()]), None
    floats, kept = to_float(values, found.leaf.dtype), None
    if has_nonfinite(found.leaf.dtype):
        is_nan = nan_mask(values, found.leaf.dtype)
        if is_nan.any():
            kept = np.flatnonzero(~is_nan)
            floats = floats[kept]
        if floats.dtype.itemsize > 8:
            floats = floats.astype(np.float64)
        floats = floats + floats.dtype.type(0)  # -0.0 is 0.0
    return np.ascontiguousarray(floats.astype(floats.dtype.newbyteorder("="), copy=False)), kept


def _plain(value: pa.Scalar) -> Any:
    """A value that JSON can hold, and that equals itself after that."""
    plain = python_value(value)
    return plain if isinstance(plain, bool | int | float | str) else format_value(plain)


def _members(required: tuple[Any, ...], values: Any, dtype: str) -> pa.Array:
    """The required values in the type of the values; null for one that the type does not have."""
    if not isinstance(values, np.ndarray):
        return pa.array([arrow_scalar(value, values.type).as_py() for value in required], values.type)
    kind = pa.from_numpy_dtype(values.dtype)
    found: list[Any] = []
    for value in required:
        scalar = arrow_scalar(value, pa.bool_() if dtype == "bool" else kind).as_py()
        if has_nonfinite(dtype):
            found.append(round_float(scalar, dtype))
        elif isinstance(scalar, float) and not scalar.is_integer():
            found.append(None)
        else:
            limits = None if dtype == "bool" else np.iinfo(values.dtype)
            fits = limits is None or limits.min <= scalar <= limits.max
            found.append((scalar if limits is None else int(scalar)) if fits else None)
    return pa.array(found, kind)
