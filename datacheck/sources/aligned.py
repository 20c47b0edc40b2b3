"""Array files that are aligned row by row (windows and their targets), read as the columns of one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from datacheck.batch import Batch, Column
from datacheck.errors import SourceError
from datacheck.formats import format_of_name
from datacheck.sources.base import InputInfo, ReadOptions, Source, WorkUnit, split_rows
from datacheck.sources.detect import get_source
from datacheck.sources.error_translation import translate_read_errors
from datacheck.storage.base import Fingerprint


def inspect_aligned(files: Mapping[str, str], options: ReadOptions) -> InputInfo:
    """Look at files of one array each, by field name; raises ``SourceError`` (DC304) if their numbers of rows differ.

    The first file's name stands for all of them.
    """
    options = replace(options, rows=None)
    infos = {field: _source_of_array(uri).inspect(uri, options) for field, uri in files.items()}
    lengths = {field: info.num_rows or 0 for field, info in infos.items()}
    first = next(iter(files.values()))
    for field, info in infos.items():
        if not info.aligned:
            raise SourceError(
                "DC304", info.uri, f"'{field}' is not a column: {info.problem}", "remove it from the table"
            )
    if len(set(lengths.values())) > 1:
        problem = ", ".join(f"'{field}' has {rows:,} rows" for field, rows in lengths.items())
        raise SourceError("DC304", first, problem, "write them from the same rows")
    num_rows, num_bytes = next(iter(lengths.values())), sum(info.num_bytes for info in infos.values())
    arrays = tuple((field, uri, infos[field].units[0].fingerprint) for field, uri in files.items())
    units = tuple(
        WorkUnit(first, AlignedSource.format, index, arrays[0][2], start, count, arrays=arrays, options=options)
        for index, (start, count) in enumerate(split_rows(num_rows, num_bytes / max(1, num_rows)))
    )
    return InputInfo(first, AlignedSource.format, num_bytes, num_rows, units)


class AlignedSource:
    """Reads a range of rows of several array files at once."""

    format: ClassVar[str] = "aligned"

    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        """Inspect one file as a table of one column; see :func:`inspect_aligned`."""
        return inspect_aligned({"array": uri}, options)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        columns = tuple(_read_column(unit, *array) for array in unit.arrays)
        yield Batch(columns, unit.num_rows or 0, unit.row_start)


def _source_of_array(uri: str) -> Source:
    """The source of an array file. A file with any other name is read as ``.npy``, whose reader refuses it."""
    record = format_of_name(uri)
    return get_source(record.name if record is not None and record.is_one_array else "npy")


def _read_column(unit: WorkUnit, field: str, uri: str, fingerprint: Fingerprint) -> Column:
    source = _source_of_array(uri)
    part = replace(unit, uri=uri, format=source.format, fingerprint=fingerprint, arrays=())
    columns = [batch.columns[0] for batch in source.read(part)]
    if len(columns) == 1:
        return replace(columns[0], name=field)
    pieces = [np.asarray(column.data) for column in columns]
    # An explicit dtype: concatenate would otherwise change the byte order.
    joined = np.concatenate(pieces, dtype=pieces[0].dtype)
    return replace(columns[0], name=field, data=joined)
