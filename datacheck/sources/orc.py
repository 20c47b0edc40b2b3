"""ORC: stripes, each decoded as a whole by Arrow, after its size has been bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa

from datacheck.arrow_layouts import no_rows
from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.sources.base import (
    TARGET_BATCH_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    fingerprint_of,
    plan_in_order,
    split_rows,
)
from datacheck.sources.error_translation import (
    check_rows,
    to_source_error,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.orc_stripes import Tail, read_tail, takes_more
from datacheck.storage.base import DataFile
from datacheck.storage.registry import open_file


class OrcSource:
    """Reads ``.orc`` files. A unit is a stripe."""

    format: ClassVar[str] = "orc"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        with open_file(uri) as file:
            orc, tail = _open(file, options)
            counts = [stripe.num_rows for stripe in tail.stripes]
            if len(counts) != orc.nstripes or sum(counts) != orc.nrows:
                raise ValueError("the stripes of its footer have another number of rows than the file")
        for count in counts:
            check_rows(uri, count, fingerprint.size * options.max_expansion_ratio, "a stripe")
        unit = WorkUnit(uri, self.format, 0, fingerprint, 0, 0, options=options)
        return plan_in_order(unit, ((count, {"row_groups": (index,)}) for index, count in enumerate(counts)))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        options = unit.options
        with open_file(unit.uri) as file:
            orc, tail = _open(file, options)
            schema: pa.Schema = orc.schema
            names = [name for name in schema.names if options.columns is None or name in options.columns]
            if not unit.row_groups:
                yield Batch.from_arrow(no_rows(schema.field(name) for name in names), unit.row_start)
            for stripe in unit.row_groups:
                try:
                    columns = [index for index, name in enumerate(schema.names) if name in names]
                    if takes_more(file, tail, tail.stripes[stripe], columns, limit := options.max_bytes_at_once):
                        problem = f"its data would take more than {limit:,} bytes"
                        raise SourceError(
                            "DC904", unit.uri, problem, "if the file is trusted, raise max_expanded_bytes"
                        )
                    batch = orc.read_stripe(stripe, columns=names) if names else None
                except Exception as error:
                    if not options.keep_going:
                        raise
                    found = error if isinstance(error, SourceError) else to_source_error(unit.uri, error)
                    detail = f"stripe {stripe} cannot be read: {found.problem}; {found.remedy}"
                    finding = Finding(found.code, unit.uri, None, 1, 1, detail=detail)
                    yield Batch((), unit.num_rows or 0, unit.row_start, findings=(finding,))
                    continue
                if batch is not None:
                    ranges = split_rows(batch.num_rows, batch.nbytes / max(1, batch.num_rows), TARGET_BATCH_BYTES)
                    for start, count in ranges:
                        yield Batch.from_arrow(batch.slice(start, count), unit.row_start + start)


def _open(file: DataFile, options: ReadOptions) -> tuple[Any, Tail]:
    """The file as Arrow reads it, and its tail, which is looked at first."""
    from pyarrow import orc

    tail = read_tail(file, options.max_bytes_at_once)
    return orc.ORCFile(file), tail
