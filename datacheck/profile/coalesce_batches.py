"""Small batches put together: what it costs to look at a batch at all is then paid once for many of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from datacheck.batch import Batch

__all__ = ["Groups", "Joined", "join_small"]

#: Where row groups begin among the rows of a batch, and which ones they are.
Groups = tuple[tuple[int, int | None], ...]

#: Rows that are put together at most.
_ENOUGH = 1 << 15


@dataclass(frozen=True, slots=True)
class Joined:
    """A batch, and the row groups that its rows are of."""

    batch: Batch
    groups: Groups

    def group_of(self, row: int) -> int | None:
        """The row group of a row of the batch."""
        return next(group for start, group in reversed(self.groups) if start <= row)


def join_small(batches: Iterable[Batch]) -> Iterator[Joined]:
    """The batches in order, those of few rows put together where they follow each other."""
    held: list[Batch] = []
    num_held = 0
    for batch in batches:
        if held and (num_held + batch.num_rows > _ENOUGH or not _follows(held[-1], batch)):
            yield _joined(held)
            held, num_held = [], 0
        if batch.num_rows and batch.num_rows * 2 <= _ENOUGH and _is_simple(batch):
            held.append(batch)
            num_held += batch.num_rows
        else:
            if held:
                yield _joined(held)
                held, num_held = [], 0
            yield Joined(batch, ((0, batch.row_group),))
    if held:
        yield _joined(held)


def _is_simple(batch: Batch) -> bool:
    """Whether the batch is whole rows, and its columns are put together by copying their memory."""
    return (
        batch.counts_rows
        and batch.rows is None
        and not batch.malformed
        and all(
            isinstance(column.data, pa.Array) and not column.problem and _copies(column.data.type)
            for column in batch.columns
        )
    )


def _copies(kind: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _follows(first: Batch, second: Batch) -> bool:
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


def _joined(batches: list[Batch]) -> Joined:
    first = batches[0]
    groups = tuple((batch.row_start - first.row_start, batch.row_group) for batch in batches)
    if len(batches) == 1:
        return Joined(first, groups)
    columns = tuple(
        replace(column, data=pa.concat_arrays([batch.columns[index].data for batch in batches]))
        for index, column in enumerate(first.columns)
    )
    whole = Batch(columns, sum(batch.num_rows for batch in batches), first.row_start, first.row_group)
    return Joined(whole, groups)
