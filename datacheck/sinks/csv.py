"""CSV that keeps null, NaN, the infinities and the empty string apart.

A null is an empty cell, NaN is ``nan``, the infinities are ``inf`` and ``-inf``, an empty string is ``""``: strings are
always quoted and nothing else is. Numbers have the fewest digits that read back to the same bits; only the sign and
payload of a NaN, which CSV cannot express, are lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.csv

from datacheck.arrow_layouts import decode, is_encoded
from datacheck.batch import Batch, Column
from datacheck.errors import OutputError, UsageError
from datacheck.sinks.columns import arrow_array, cannot_hold, check_types, column_name, logical_dtype
from datacheck.sinks.writer import FileWriter
from datacheck.text import plain


@dataclass(frozen=True, slots=True)
class CsvSink:
    """Writes CSV with a header line; ``delimiter`` is a single ASCII character."""

    format: ClassVar[str] = "csv"
    suffix: ClassVar[str] = ".csv"

    delimiter: str = ","

    def __post_init__(self) -> None:
        if (
            not isinstance(self.delimiter, str)
            or len(self.delimiter) != 1
            or not self.delimiter.isascii()
            or self.delimiter in '"\r\n'
        ):
            raise UsageError(
                f"csv: expected a single character as delimiter, such as ',' or '\\t', got {self.delimiter!r}"
            )

    def open(self, uri: str, template: Batch) -> CsvWriter:
        return CsvWriter(uri, template, self.delimiter)


class CsvWriter(FileWriter):
    """Writes one CSV file."""

    def __init__(self, uri: str, template: Batch, delimiter: str) -> None:
        super().__init__(uri)
        arrays = [arrow_array(column) for column in template.columns]
        self._types = [array.type for array in arrays]
        kinds = [_text_type(column, kind) for column, kind in zip(template.columns, self._types, strict=True)]
        self.schema = pa.schema(list(zip(map(column_name, template.columns), kinds, strict=True)))
        options = pyarrow.csv.WriteOptions(include_header=True, delimiter=delimiter, quoting_style="needed")
        file = self._open()
        with self._guarded():
            self._writer = pyarrow.csv.CSVWriter(file, self.schema, write_options=options)

    def _write(self, batch: Batch) -> None:
        arrays = [arrow_array(column) for column in batch.columns]
        check_types(batch, [array.type for array in arrays], self._types)
        if len(arrays) == 1 and arrays[0].null_count:
            raise OutputError(
                f"column '{plain(self.schema.names[0])}' is the only column and has nulls, which become empty lines"
                " that csv readers skip; parquet and arrow can hold it"
            )
        converted = [_as_text_type(array, kind) for array, kind in zip(arrays, self.schema.types, strict=True)]
        self._writer.write_batch(pa.RecordBatch.from_arrays(converted, schema=self.schema))

    def _finish(self) -> None:
        self._writer.close()


#: The types that a cell can hold.
_TEXT_TYPES = tuple(
    getattr(pa.types, f"is_{name}")
    for name in "string large_string boolean integer floating decimal date time timestamp duration null".split()  # noqa: SIM905
)


def _text_type(column: Column, kind: pa.DataType) -> pa.DataType:
    """The type that a column is written as; raises ``OutputError`` if a cell cannot hold its values."""
    types = pa.types
    if logical_dtype(column) is not None:
        raise cannot_hold(
            column, logical_dtype(column), "csv would write its bits as integers; parquet and safetensors can hold it"
        )
    if isinstance(kind, pa.FixedShapeTensorType):
        raise cannot_hold(
            column, f"an array of shape {tuple(kind.shape)} per row", "csv cannot hold it; parquet, npy and npz can"
        )
    if isinstance(kind, pa.BaseExtensionType):
        return _text_type(column, kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _text_type(column, kind.value_type)
    if kind == pa.string_view():
        return pa.large_string()
    if not any(is_type(kind) for is_type in _TEXT_TYPES):
        raise cannot_hold(column, kind, "csv cannot hold it; parquet and arrow can")
    return kind


def _as_text_type(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        return _as_text_type(array.storage, kind)
    if is_encoded(array.type):
        return _as_text_type(decode(array), kind)
    return array if array.type == kind else array.cast(kind)
