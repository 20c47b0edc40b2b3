"""The different values of a batch, in the order in which they occur, and the first different ones of a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import python_value
from datacheck.batch import Batch
from datacheck.checks.rules import format_value
from datacheck.dataset_rules.field_values import FieldValues
from datacheck.dataset_rules.group_rows import row_groups
from datacheck.dataset_rules.member_screen import MemberScreen
from datacheck.leaves import IntArray, has_nonfinite
from datacheck.numerics import is_finite, nan_mask, to_float

#: Values whose different ones are found together.
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Block:
    """Some values of a field, without nulls and NaN: a NumPy array of numbers, or an Arrow array.

    ``positions`` say where the values stand in ``found``; of consecutive values, only the first is given. ``counts`` say
    how often each occurs, where each is here once.
    """

    values: Any
    found: FieldValues
    positions: IntArray | int
    counts: IntArray | None = None

    def places(self, batch: Batch, which: IntArray) -> dict[str, Any]:
        """The file, the row and the row group of some of the values, as columns of a table."""
        positions = which + self.positions if isinstance(self.positions, int) else self.positions[which]
        rows = batch.file_rows(self.found.rows_of(positions))
        return {"file": np.zeros(len(rows), np.int32), "row": rows, "row_group": row_groups(batch, len(rows))}


def blocks_of(found: FieldValues) -> Iterator[Block]:
    """The values of a field in a batch, a few at a time. Of a dictionary each value that occurs is there once."""
    if found.codes is not None:
        number = len(found.values)
        firsts = np.full(number, len(found.codes), np.int64)
        firsts[found.codes[::-1]] = np.arange(len(found.codes) - 1, -1, -1)
        order = np.argsort(firsts, kind="stable")
        order = order[: np.count_nonzero(firsts < len(found.codes))]
        counts = np.bincount(found.codes, minlength=number)[order]
        values, kept = _comparable(found.values.take(pa.array(order)), found.leaf.dtype)
        yield Block(values, found, firsts[order] if kept is None else firsts[order][kept], counts)
        return
    for start in range(0, len(found.values), _BLOCK):
        part = found.values[start : start + _BLOCK]
        values, kept = _comparable(part, found.leaf.dtype)
        yield Block(values, found, start if kept is None else start + kept)


class FirstValues:
    """The first ``limit`` different values of a dataset and where each first occurs, as columns of ``table``.

    ``is_text`` says that the values are written as JSON, because they have several types.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.table: pa.Table | None = None
        self.is_text = False
        self._screen: MemberScreen | None = None

    def __len__(self) -> int:
        return 0 if self.table is None else int(self.table.num_rows)

    @property
    def is_full(self) -> bool:
        return len(self) >= self._limit

    def shown(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Some of the values, as findings show them."""
        column = [] if self.table is None else self.table.column("value")[start:stop]
        values = map(plain_value, column)
        return [format_value(json.loads(value) if self.is_text else value) for value in values]

    def add(self, block: Block, batch: Batch) -> None:
        """Add the first values of a block that are not known yet, as many as are wanted."""
        while not self.is_full:
            left = self._unknown(block.values)
            # No more than may be needed: most values of a field of floats are different.
            some = left[: 2 * (self._limit - len(self)) + 64]
            if len(some):
                encoded = as_arrow(block.values, some).dictionary_encode()
                firsts = some[_first_places(encoded)]
                self._append(pa.table({"value": encoded.dictionary, **block.places(batch, firsts)}))
            if len(some) == len(left):
                return

    def merge(self, other: FirstValues, first_file: int) -> None:
        """Add the values of the next part of the dataset, whose files are counted from ``first_file``."""
        if other.table is None or self.is_full:
            return
        files = pa.array(other.table.column("file").to_numpy() + np.int32(first_file))
        self._append(other.table.set_column(1, "file", files), is_text=other.is_text)

    def _append(self, more: pa.Table, *, is_text: bool = False) -> None:
        """Add values, some of which may be known."""
        self._screen = None
        known = more.slice(0, 0) if self.table is None else self.table
        if self.is_text or is_text or known.column("value").type != more.column("value").type:
            known = known if self.is_text else _with_text(known)
            more = more if is_text else _with_text(more)
            self.is_text = True
        together = pa.concat_tables([known, more]).combine_chunks()
        firsts = _first_places(together.column("value").combine_chunks().dictionary_encode())
        self.table = together.take(pa.array(firsts[: self._limit])).combine_chunks()

    def _unknown(self, values: Any) -> IntArray:
        """The positions of values that may not be known: of all that are not, and of others only if their types differ."""
        known = None if self.table is None else self.table.column("value")
        if known is None or known.type != _arrow_type(values):
            return np.arange(len(values))
        if not isinstance(values, np.ndarray):
            return _absent(values, known)
        if self._screen is None:
            members = known.to_numpy().view(np.uint8) if values.dtype.kind == "b" else known.to_numpy()
            self._screen = MemberScreen(members)
        left = self._screen.outside(values)
        return left[_absent(as_arrow(values, left), known)] if len(left) else left

    def __getstate__(self) -> Any:
        return {**vars(self), "_screen": None}


def _arrow_type(values: Any) -> pa.DataType:
    return pa.from_numpy_dtype(values.dtype) if isinstance(values, np.ndarray) else values.type


def as_arrow(values: Any, which: IntArray | None = None) -> pa.Array:
    """All of some values, or those at some positions, as an Arrow array."""
    if isinstance(values, np.ndarray):
        return pa.array(values if which is None else values[which])
    return values if which is None else values.take(pa.array(which))


def plain_value(value: pa.Scalar) -> Any:
    """A value that JSON can hold, and that equals itself after that."""
    plain = python_value(value)
    return plain if isinstance(plain, bool | int | float | str) else format_value(plain)


def _absent(values: pa.Array, known: Any) -> IntArray:
    """The positions of the values that are not among others."""
    is_known = pc.is_in(values, value_set=known.combine_chunks() if isinstance(known, pa.ChunkedArray) else known)
    return np.flatnonzero(~is_known.to_numpy(zero_copy_only=False))


def _first_places(encoded: pa.DictionaryArray) -> IntArray:
    """Where each value of a dictionary, which is in the order of the rows, first occurs."""
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    return (
        np.flatnonzero(np.diff(np.maximum.accumulate(indices), prepend=-1)) if len(indices) else np.empty(0, np.int64)
    )


def _with_text(table: pa.Table) -> pa.Table:
    """The values as JSON, so that values of different types can be told apart: 1 and 1.0 are equal."""
    plain = [plain_value(value) for value in table.column("value")]
    whole = [int(one) if isinstance(one, float) and one.is_integer() else one for one in plain]
    return table.set_column(0, "value", pa.array([json.dumps(one) for one in whole], pa.string()))


def _comparable(values: Any, dtype: str) -> tuple[Any, IntArray | None]:
    """The values without NaN, in a type that Arrow can tell apart, and their indices where some were left out."""
    if not isinstance(values, np.ndarray):
        kind = values.type
        is_short = pa.types.is_decimal(kind) and kind.byte_width < 16
        return (values.cast(pa.decimal128(kind.precision, kind.scale)) if is_short else values), None
    if values.dtype.kind == "c":
        return pa.array([str(value) for value in values.tolist()]), None
    floats, kept = to_float(values, dtype), None
    if has_nonfinite(dtype):
        if not is_finite(values, dtype):
            kept = np.flatnonzero(~nan_mask(values, dtype))
            floats = floats[kept]
        if floats.dtype.itemsize > 8:
            floats = floats.astype(np.float64)
        floats = floats + floats.dtype.type(0)  # -0.0 is 0.0
    return np.ascontiguousarray(floats.astype(floats.dtype.newbyteorder("="), copy=False)), kept
