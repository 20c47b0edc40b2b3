"""Arrays with names that are read by ranges of rows: of a checkpoint, an HDF5 file, a Zarr store.

A format describes its arrays. Splitting them into units, reading in bounded memory, and what is said of damaged or
missing chunks is the same for all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datacheck.batch import Batch, Column
from datacheck.errors import SourceError
from datacheck.findings import Finding, Severity
from datacheck.schema.field_paths import matching_paths
from datacheck.sources.base import TARGET_BATCH_BYTES, InputInfo, ReadOptions, WorkUnit, split_rows
from datacheck.sources.error_translation import HARMLESS_BYTES, check_bytes, check_rows, to_source_error
from datacheck.sources.members import Member, plan_members
from datacheck.storage.base import Fingerprint
from datacheck.text import ordinal_list, quantity

Array = np.ndarray[Any, Any]

#: Attributes whose value stands for a missing one, by the CF conventions.
_MISSING = ("_FillValue", "missing_value")
#: A chunk is read once where the rows of a batch with whole chunks take no more than this; else in parts of this size.
MAX_CHUNK_BYTES = 256 << 20
_BATCH_BYTES = 4 << 20


class TooManyBytesError(Exception):
    """Rows whose values differ in size take too much memory together: fewer of them are to be read at a time."""


@dataclass(frozen=True, slots=True)
class NamedArray:
    """One array of a file.

    Attributes:
        name: its path in the file.
        shape, dtype: as it is stored; ``logical`` is the logical dtype where NumPy has none.
        read: ``(start, count)`` to the rows from ``start`` on.
        problem: why its values cannot be checked.
        chunk_rows: how many rows a stored chunk covers, so that each is read once.
        is_parameter: whether it is a weight of a model.
        unwritten: ranges ``(start, count)`` of rows without any written chunk; readers see ``fill`` there.
        num_chunks, num_unwritten: its chunks, and how many of them were never written.
        stored_bytes: the bytes that it takes in the file, where that is less than its values take.
        is_mapped: whether its rows are pages of the file, and not copied.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], Array] = field(compare=False)
    logical: str | None = None
    problem: str = ""
    chunk_rows: int = 1
    is_parameter: bool = False
    unwritten: tuple[tuple[int, int], ...] = ()
    num_chunks: int = 0
    num_unwritten: int = 0
    fill: Any = None
    stored_bytes: int | None = None
    is_mapped: bool = False

    @property
    def num_rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def checked(self, options: ReadOptions) -> NamedArray:
        """The array, with the problem that it claims far more values than are stored."""
        num_bytes = math.prod(self.shape) * self.dtype.itemsize
        limit = max(HARMLESS_BYTES, (self.stored_bytes or 0) * options.max_expansion_ratio)
        if self.problem or self.stored_bytes is None or num_bytes <= limit:
            return self
        problem = (
            f"it claims {num_bytes:,} bytes, of which {self.stored_bytes:,} are stored; if the file is trusted, raise"
        )
        return replace(self, problem=f"{problem} the limit max_expansion_ratio")

    def as_sample(self) -> NamedArray:
        """The whole array as the one row of its file."""
        read, num_rows = self.read, self.num_rows
        return replace(
            self,
            shape=(1, *self.shape),
            chunk_rows=1,
            unwritten=(),
            read=lambda _start, _count: read(0, num_rows)[None],
        )

    def member(self) -> Member:
        is_scalar = not self.problem and not self.shape
        num_rows = 0 if self.problem else self.num_rows
        return Member(self.name, num_rows, self.row_bytes, is_scalar, problem=self.problem, chunk_rows=self.chunk_rows)

    def column(self, values: Array) -> Column:
        return Column(self.name, values, self.logical, is_parameter=self.is_parameter)


def plan_arrays(
    uri: str, format_: str, fingerprint: Fingerprint, arrays: Sequence[NamedArray], options: ReadOptions, num_bytes: int
) -> InputInfo:
    """Split the arrays of a file into units: rows of one table if they have equally many, else one by one."""
    members = []
    holes = ""
    for one in arrays:
        if not one.problem:
            check_rows(uri, one.num_rows, one.num_rows * one.row_bytes, f"the array {one.name!r}")
        members.append(one.member())
        if one.num_unwritten and not holes:
            holes = f"{one.num_unwritten:,} of {quantity(one.num_chunks, 'chunk')} of {one.name!r} were never written"
    info = plan_members(uri, format_, fingerprint, members, options, holes)
    return replace(info, num_bytes=num_bytes)


def read_arrays(unit: WorkUnit, arrays: Sequence[NamedArray]) -> Iterator[Batch]:
    """The batches of a unit that :func:`plan_arrays` made."""
    if not unit.members:
        wanted = unit.options.columns
        chosen = [one for one in arrays if wanted is None or one.name in wanted]
        yield from _Reader(unit, chosen).batches(unit.row_start, unit.num_rows or 0)
        return
    by_name = {one.name: one for one in arrays}
    for name in unit.members:
        one = by_name[name]
        if one.problem:
            yield Batch((Column(name, np.empty(0, np.uint8), one.logical or str(one.dtype), one.problem),), 0)
            continue
        start, count = unit.range_of(one.num_rows)
        yield from _Reader(unit, [one]).batches(start, count)


class _Reader:
    """Reads rows of arrays of equal length, and collects which chunks cannot be read."""

    def __init__(self, unit: WorkUnit, arrays: Sequence[NamedArray]) -> None:
        self._unit, self._arrays = unit, arrays
        self._damaged: dict[str, list[int]] = {}
        self._errors: dict[str, Exception] = {}

    def batches(self, start: int, count: int) -> Iterator[Batch]:
        unwritten = self._arrays[0].unwritten if len(self._arrays) == 1 and self._unit.options.keep_going else ()
        for first, number, is_written in _split_at(unwritten, start, count):
            if is_written:
                yield from self._written(first, number)
            else:
                # Readers see the fill value here. That is one finding on the array, not one for each value.
                yield Batch((), number, first)
        found = [*(self._unwritten() if start == 0 else ()), *map(self._damage, self._damaged)]
        if found:
            yield Batch((), 0, start, counts_rows=False, findings=tuple(found))

    def _written(self, start: int, count: int) -> Iterator[Batch]:
        row_bytes = sum(one.row_bytes for one in self._arrays)
        chunk_rows = max((one.chunk_rows for one in self._arrays), default=1)
        multiple = chunk_rows if chunk_rows * row_bytes <= MAX_CHUNK_BYTES else 1
        # Arrays of this size are read into memory that was used before; larger ones into pages that are new each time.
        is_copied = not all(one.is_mapped for one in self._arrays)
        target = min(TARGET_BATCH_BYTES, _BATCH_BYTES) if is_copied else TARGET_BATCH_BYTES
        if multiple < chunk_rows:
            # Each batch decodes a larger chunk from its beginning, so that there are to be few of them.
            target = max(target, MAX_CHUNK_BYTES)
        left = [(start + first, number) for first, number in split_rows(count, row_bytes, target, multiple=multiple)]
        left.reverse()
        while left:
            first, number = left.pop()
            columns: list[Column] = []
            rest: list[Batch] = []
            for one in self._arrays:
                check_bytes(
                    self._unit.uri,
                    number * one.row_bytes,
                    self._unit.options.max_bytes_at_once,
                    f"a row of {one.name!r}",
                )
                try:
                    columns.append(one.column(one.read(first, number)))
                except TooManyBytesError:
                    half = number // 2
                    left += [(first + half, number - half), (first, half)]
                    break
                except Exception as error:
                    if not self._unit.options.keep_going:
                        raise
                    rest += self._by_chunks(one, first, number, error)
            else:
                yield Batch(tuple(columns), number, first)
                yield from rest

    def _by_chunks(self, one: NamedArray, start: int, count: int, error: Exception) -> Iterator[Batch]:
        """What can be read of rows in which a chunk is damaged."""
        step = max(1, min(one.chunk_rows, count))
        for first in range(start, start + count, step):
            number = min(step, start + count - first)
            try:
                if number == count:
                    raise error
                yield Batch((one.column(one.read(first, number)),), number, first, counts_rows=False)
            except Exception as found:
                self._damaged.setdefault(one.name, []).append(first)
                self._errors.setdefault(one.name, found)

    def _damage(self, name: str) -> Finding:
        rows = self._damaged[name]
        cause = self._errors[name]
        error = cause if isinstance(cause, SourceError) else to_source_error(self._unit.uri, cause)
        where = ordinal_list("row", rows[:5], len(rows) > 5)
        noun = "chunk" if any(one.name == name and one.num_chunks for one in self._arrays) else "row"
        detail = f"{quantity(len(rows), noun)} of {name!r} cannot be read, from {where} on: {error.problem}"
        return Finding(error.code, self._unit.uri, name, len(rows), len(rows), detail=f"{detail}; {error.remedy}")

    def _unwritten(self) -> Iterator[Finding]:
        for one in self._arrays:
            if one.num_unwritten:
                is_bad = one.fill is not None and one.dtype.kind in "fc" and not np.isfinite(one.fill)
                if is_bad and np.isnan(one.fill):
                    is_bad = not any(matching_paths(name, [one.name]) for name in self._unit.options.nan_fields)
                severity = Severity.ERROR if is_bad else Severity.WARNING
                detail = (
                    f"readers see the fill value {one.fill} there" if one.fill is not None else "they hold no value"
                )
                if one.unwritten:
                    starts = [start for start, _ in one.unwritten]
                    detail += f", from {ordinal_list('row', starts[:5], len(starts) > 5)} on"
                yield Finding(
                    "DC009",
                    self._unit.uri,
                    one.name,
                    one.num_unwritten,
                    one.num_chunks,
                    detail=detail,
                    severity=severity,
                )


def _split_at(holes: Sequence[tuple[int, int]], start: int, count: int) -> Iterator[tuple[int, int, bool]]:
    """A range of rows in parts ``(start, count, is_written)``, given the sorted ranges of rows that are not."""
    end = start + count
    for first, number in holes:
        begin, stop = max(first, start), min(first + number, end)
        if begin >= stop:
            continue
        if begin > start:
            yield start, begin - start, True
        yield begin, stop - begin, False
        start = stop
    if start < end or not count:
        yield start, end - start, True


def missing_values(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """The values that mark a missing one; NaN is not one of these, because it already counts as missing."""
    found = []
    for name in _MISSING:
        if dtype.kind in "iuf" and name in attributes:
            with suppress(TypeError, ValueError, OSError):
                value = np.asarray(attributes[name]).astype(dtype).reshape(-1)[:1]
                if len(value) and not (dtype.kind == "f" and np.isnan(value[0])):
                    found.append(value[0])
    return tuple(found)


def ranges_without(present: list[int], total: int) -> list[tuple[int, int]]:
    """The ranges ``(start, stop)`` between sorted numbers below ``total``."""
    edges = [-1, *present, total]
    return [(before + 1, after) for before, after in itertools.pairwise(edges) if after > before + 1]


def read_masked(read: Any, missing: tuple[Any, ...], start: int, count: int) -> Any:
    """Rows with the values that stand for missing ones masked."""
    values = read(start, count)
    mask = np.isin(values, missing)
    return np.ma.MaskedArray(values, mask) if mask.any() else values
