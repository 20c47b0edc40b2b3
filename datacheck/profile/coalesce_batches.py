"""Small batches coalesced into larger ones, so that the fixed cost of profiling a batch is paid once for many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from datacheck.batch import Batch

#: The row of a batch where each row group starts, and the number of the row group.
RowGroupStarts = tuple[tuple[int, int | None], ...]

#: Rows of a coalesced batch at most.
_MAX_ROWS = 1 << 15


@dataclass(frozen=True, slots=True)
class CoalescedBatch:
    """A batch, and the row groups of its rows."""

    batch: Batch
    groups: RowGroupStarts

    def group_of(self, row: int) -> int | None:
        """The row group of a row of the batch."""
        return next(group for start, group in reversed(self.groups) if start <= row)


def coalesce_batches(batches: Iterable[Batch]) -> Iterator[CoalescedBatch]:
    """Yield the batches in order, with consecutive small ones concatenated."""
    held: list[Batch] = []
    num_held = 0
    for batch in batches:
        if held and (num_held + batch.num_rows > _MAX_ROWS or not _is_consecutive(held[-1], batch)):
            yield _concatenate(held)
            held, num_held = [], 0
        if batch.num_rows and batch.num_rows * 2 <= _MAX_ROWS and _can_concatenate(batch):
            held.append(batch)
            num_held += batch.num_rows
        else:
            if held:
                yield _concatenate(held)
                held, num_held = [], 0
            yield CoalescedBatch(batch, ((0, batch.row_group),))
    if held:
        yield _concatenate(held)


def _can_concatenate(batch: Batch) -> bool:
    """Whether the batch consists of whole rows, in columns whose memory can simply be copied."""
    return (
        batch.counts_rows
        and batch.rows is None
        and not batch.malformed
        and not (batch.faults or batch.findings or batch.unreadable)
        and all(
            isinstance(column.data, pa.Array)
            and not column.problem
            and column.words is None
            and _is_flat(column.data.type)
            for column in batch.columns
        )
    )


def _is_flat(kind: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_consecutive(first: Batch, second: Batch) -> bool:
    """Whether the second batch's rows follow the first's, in columns of the same names and types."""
    return (
        second.row_start == first.row_start + first.num_rows
        and first.names == second.names
        and all(
            isinstance(before.data, pa.Array)
            and isinstance(after.data, pa.Array)
            and before.data.type == after.data.type
            for before, after in zip(first.columns, second.columns, strict=True)
        )
    )


def _concatenate(batches: list[Batch]) -> CoalescedBatch:
    first = batches[0]
    groups = tuple((batch.row_start - first.row_start, batch.row_group) for batch in batches)
    if len(batches) == 1:
        return CoalescedBatch(first, groups)
    columns = tuple(
        replace(column, data=pa.concat_arrays([batch.columns[index].data for batch in batches]))
        for index, column in enumerate(first.columns)
    )
    whole = Batch(columns, sum(batch.num_rows for batch in batches), first.row_start, first.row_group)
    return CoalescedBatch(whole, groups)
