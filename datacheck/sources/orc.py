"""ORC: stripes, each decoded as a whole by Arrow, after its size has been bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa

from datacheck.batch import Batch
from datacheck.findings import Finding
from datacheck.sources.base import TARGET_BATCH_BYTES, InputInfo, ReadOptions, WorkUnit, fingerprint_of, split_rows
from datacheck.sources.error_translation import (
    check_bytes,
    check_rows,
    to_source_error,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.protobuf_wire import fields_of
from datacheck.storage.registry import open_file

__all__ = ["OrcSource"]

#: The numbers of fields in the messages of https://orc.apache.org/specification/ORCv1.
_FOOTER, _STRIPES, _STRIPE_ROWS = 2, 3, 5


class OrcSource:
    """Reads ``.orc`` files. A unit is a stripe."""

    format: ClassVar[str] = "orc"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        with open_file(uri) as file:
            orc = _open(file)
            counts = _stripe_rows(orc)
            row_bytes = sum(map(_width, orc.schema.types))
        for count in counts:
            check_rows(uri, count, fingerprint.size * options.max_expansion_ratio, "a stripe")
            check_bytes(uri, count * row_bytes, options.max_bytes_at_once, "a stripe")
        units, row = [], 0
        for index, count in enumerate(counts or [0]):
            groups = (index,) if counts else ()
            units.append(WorkUnit(uri, self.format, index, fingerprint, row, count, row_groups=groups, options=options))
            row += count
        return InputInfo(uri, self.format, fingerprint.size, row, tuple(units))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        options = unit.options
        with open_file(unit.uri) as file:
            orc = _open(file)
            schema: pa.Schema = orc.schema
            names = [name for name in schema.names if options.columns is None or name in options.columns]
            if not unit.row_groups:
                none = [pa.nulls(0, schema.field(name).type) for name in names]
                yield Batch.from_arrow(pa.RecordBatch.from_arrays(none, names), unit.row_start)
            for stripe in unit.row_groups:
                try:
                    batch = orc.read_stripe(stripe, columns=names) if names else None
                except Exception as error:
                    if not options.keep_going:
                        raise
                    found = to_source_error(unit.uri, error)
                    detail = f"stripe {stripe} cannot be read: {found.problem}; {found.remedy}"
                    finding = Finding(found.code, unit.uri, None, 1, 1, detail=detail)
                    yield Batch((), unit.num_rows or 0, unit.row_start, findings=(finding,))
                    continue
                if batch is not None:
                    ranges = split_rows(batch.num_rows, batch.nbytes / max(1, batch.num_rows), TARGET_BATCH_BYTES)
                    for start, count in ranges:
                        yield Batch.from_arrow(batch.slice(start, count), unit.row_start + start)


def _open(file: Any) -> Any:
    from pyarrow import orc

    return orc.ORCFile(file)


def _stripe_rows(orc: Any) -> list[int]:
    """The number of rows of each stripe, which Arrow does not give."""
    footer = next((value for number, value in fields_of(orc.reader.serialized_file_tail()) if number == _FOOTER), b"")
    assert not isinstance(footer, int)
    stripes = [
        dict(fields_of(value))
        for number, value in fields_of(footer)
        if number == _STRIPES and not isinstance(value, int)
    ]
    counts = [int(stripe.get(_STRIPE_ROWS, 0)) for stripe in stripes]
    if len(counts) != orc.nstripes or sum(counts) != orc.nrows:
        raise ValueError("the stripes of its footer have another number of rows than the file")
    return counts


def _width(kind: pa.DataType) -> int:
    """The least bytes of a decoded value."""
    try:
        width: int = max(1, kind.bit_width // 8)
        return width
    except ValueError:
        return 4 + sum(_width(kind.field(index).type) for index in range(kind.num_fields) if pa.types.is_struct(kind))
