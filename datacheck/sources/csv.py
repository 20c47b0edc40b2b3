"""CSV, TSV and other text tables, plain or gzipped, with types inferred from the whole file.

pyarrow's own inference looks at the first block only, fails on the first value that does not fit, and turns "NaN" into
null. So cells are read as text and converted here, and NaN stays NaN.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from shlex import quote
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from datacheck.batch import Batch, Column, MalformedRow
from datacheck.errors import SourceError
from datacheck.leaves import IntArray
from datacheck.schema.field_paths import dtypes_of
from datacheck.sources.base import TARGET_UNIT_BYTES, InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.csv_header import Header, read_header
from datacheck.sources.csv_lines import LineTooLongError, TextBlock, read_blocks
from datacheck.sources.csv_types import ColumnTypes
from datacheck.sources.error_translation import translate_inspect_errors, translate_read_errors
from datacheck.sources.packed import ByteStream, open_packed
from datacheck.sources.recognizers import is_number_table
from datacheck.sources.text_parsing import Notation, convert, convert_cells
from datacheck.text import quantity

#: Bytes that are parsed at a time; no line may be much longer.
BLOCK_BYTES = 4 << 20
#: Columns that are parsed together: for each, Arrow keeps a table of the words for null, of 10 kB.
_MAX_PARSED_COLUMNS = 8192
#: Tables of more columns than this are parsed in larger blocks.
_WIDE_COLUMNS = 16_384
#: Bytes in which the header must end.
MAX_HEADER_BYTES = 1 << 20
#: Characters of a malformed line that are kept.
MAX_LINE_TEXT = 1000
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class CsvSource:
    """Reads CSV and TSV files.

    A file is one unit, since only reading from the start tells whether a line break is inside quotes. Lines with more or
    fewer cells than the header, or with a quote that is not closed, are in ``Batch.malformed``, and have row numbers, too.
    """

    format: ClassVar[str] = "csv"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        _open_table(uri, options)
        unit = WorkUnit(uri, self.format, 0, fingerprint, options=options)
        return InputInfo(uri, self.format, fingerprint.size, None, (unit,))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        try:
            yield from _read(_open_table(unit.uri, unit.options))
        except (pa.ArrowInvalid, LineTooLongError, UnicodeError) as error:
            raise _to_source_error(unit.uri, unit.options, error) from error


class TxtSource(CsvSource):
    """Reads text files of numbers, as ``np.savetxt`` and YOLO write them: separated by blanks, without a header."""

    format: ClassVar[str] = "txt"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        if options.csv_delimiter is None and not is_number_table(uri):
            fix = "set csv_delimiter (--csv-delimiter) to read it as a table: a character, or 'whitespace'"
            raise SourceError("DC909", uri, "it is text, and not a table of numbers", fix)
        return super().inspect(uri, options)


@dataclass(frozen=True, slots=True)
class _Table:
    """A file and its header."""

    uri: str
    options: ReadOptions
    header: Header

    @property
    def wanted(self) -> list[int]:
        names = self.header.names
        columns = None if self.options.columns is None else set(self.options.columns)
        return [index for index, name in enumerate(names) if columns is None or name in columns]

    @property
    def notation(self) -> Notation:
        return Notation(self.options.csv_decimal, self.options.csv_thousands)

    @property
    def skips_empty_lines(self) -> bool:
        """An empty line is a cell in a table of one column, and ignored in any other."""
        dialect = self.header.dialect
        return len(self.header.names) > 1 or bool(dialect.comment) or dialect.delimiter is None


@dataclass(frozen=True, slots=True)
class _Cells:
    """Some rows as text, the malformed lines among them, and their numbers and lines."""

    columns: list[pa.Array]
    num_rows: int
    row_start: int
    rows: IntArray | None = None
    malformed: tuple[MalformedRow, ...] = ()
    line_start: int | None = None
    lines: IntArray | None = None


@contextmanager
def _open_stream(uri: str, options: ReadOptions) -> Iterator[ByteStream]:
    """The bytes of a file, decompressed, as UTF-8."""
    with open_packed(uri, options) as stream:
        yield _as_utf8(stream, options)


def _as_utf8(stream: ByteStream, options: ReadOptions) -> ByteStream:
    if codecs.lookup(options.csv_encoding).name in ("utf-8", "ascii"):
        return stream
    return _Transcoded(stream, options.csv_encoding)


class _Transcoded(io.RawIOBase):
    """A stream in another encoding, as UTF-8."""

    def __init__(self, stream: ByteStream, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read(self, size: int = -1) -> bytes:
        while data := self._stream.read(size):
            if text := self._decoder.decode(data):
                return text.encode("utf-8", "surrogatepass")
        return self._decoder.decode(b"", final=True).encode()


def _open_table(uri: str, options: ReadOptions) -> _Table:
    try:
        with _open_stream(uri, options) as file:
            head = b""
            while len(head) < MAX_HEADER_BYTES and (chunk := file.read(MAX_HEADER_BYTES - len(head))):
                head += chunk
    except UnicodeError as error:
        raise _to_source_error(uri, options, error) from None
    if head.startswith(_UTF16):
        raise SourceError("DC901", uri, "it is UTF-16, not UTF-8", _encoding_fix(uri, "utf-16"))
    if b"\0" in head:
        raise SourceError("DC901", uri, "it contains zero bytes, so it is not text", "check that it is a CSV file")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError as error:
        raise _not_utf8(uri, error.start, head[error.start], 1 + head.count(b"\n", 0, error.start)) from None
    return _Table(uri, options, read_header(uri, text, options))


def _read(table: _Table) -> Iterator[Batch]:
    names = [table.header.names[index] for index in table.wanted]
    kinds, held = _infer_types(table, ColumnTypes(names, dtypes_of(names, table.options.dtypes), table.notation))
    is_empty = True
    for cells in held if held is not None else _read_cells(table):
        columns = tuple(
            _column(table, name, words, kinds, index)
            for index, (name, words) in enumerate(zip(names, cells.columns, strict=True))
        )
        yield Batch(
            columns,
            cells.num_rows,
            cells.row_start,
            rows=cells.rows,
            malformed=cells.malformed,
            line_start=cells.line_start,
            lines=cells.lines,
        )
        is_empty = False
    if is_empty:
        kinds_of = zip(names, kinds.types, strict=True)
        yield Batch(tuple(Column(name, pa.nulls(0, kind)) for name, kind in kinds_of), 0)


def _column(table: _Table, name: str, words: pa.Array, kinds: ColumnTypes, index: int) -> Column:
    """The cells in the type of their column."""
    kind = kinds.types[index]
    if kinds.has_words(index):
        values, unconvertible = convert_cells(words, kind, table.notation)
        return Column(name, values, unconvertible=unconvertible, words=words)
    converted = convert(words, kind, table.notation)
    if converted is None:
        raise SourceError("DC901", table.uri, f"a value of {name!r} is no longer {kind}", "run again")
    return Column(name, converted, untyped=kinds.is_untyped_text(index))


def _infer_types(table: _Table, kinds: ColumnTypes) -> tuple[ColumnTypes, list[_Cells] | None]:
    """The types that fit the whole file; and its text, if that is small enough to keep."""
    held: list[_Cells] | None = None
    while True:
        again = False
        kinds.start()
        blocks = held if held is not None else _read_cells(table)
        kept: list[_Cells] | None = []
        num_bytes = 0
        for cells in blocks:
            again = kinds.see(cells.columns) or again
            num_bytes += sum(column.nbytes for column in cells.columns)
            if kept is not None:
                kept.append(cells)
                kept = kept if num_bytes <= TARGET_UNIT_BYTES else None
        held = kept
        # Widening is rare after the first block, and terminates: no type is tried twice.
        if not again and not kinds.find_numbers_with_words():
            return kinds, held


def _read_cells(table: _Table) -> Iterator[_Cells]:
    """The file's rows as text, without the header."""
    row = 0
    with _open_stream(table.uri, table.options) as stream:
        # Each column of a block costs the same, however few rows it has.
        block_bytes = BLOCK_BYTES * min(max(len(table.header.labels) // _WIDE_COLUMNS, 1), 8)
        blocks = read_blocks(stream, table.header.dialect, skip_lines=table.header.num_lines, block_bytes=block_bytes)
        for block in blocks:
            cells = _parse(table, block, row)
            num_rows = cells.num_rows + len(cells.malformed)
            if num_rows:
                yield cells
            row += num_rows


def _parse(table: _Table, block: TextBlock, row: int) -> _Cells:
    """A block of records as cells; ``row`` is the number of its first row."""
    skipped: list[Any] = []
    columns, num_rows = _parse_records(table, block.data, skipped)
    if not skipped and not block.bad and num_rows == block.num_lines and block.starts is None:
        return _Cells(columns, num_rows, row, line_start=block.first_line)
    num_records = num_rows + len(skipped)
    lines = block.lines(num_records)
    num_bad = np.searchsorted([bad.num_before for bad in block.bad], np.arange(num_records), side="right")
    rows = np.arange(row, row + num_records) + num_bad
    malformed = [
        MalformedRow(row + bad.num_before + index, _shown(bad.text), bad.problem, bad.line)
        for index, bad in enumerate(block.bad)
    ]
    for line in skipped:
        record = line.number - 1
        problem = f"{quantity(line.actual_columns, 'cell')} instead of {line.expected_columns}"
        text = (line.text or "")[:MAX_LINE_TEXT]
        malformed.append(MalformedRow(int(rows[record]), text, problem, None if lines is None else int(lines[record])))
    is_row = np.ones(num_records, np.bool_)
    is_row[[line.number - 1 for line in skipped]] = False
    return _Cells(
        columns,
        num_rows,
        row,
        rows[is_row] if malformed else None,
        tuple(sorted(malformed, key=lambda one: one.row)),
        lines=None if lines is None else lines[is_row],
    )


def _shown(text: bytes) -> str:
    return text[: MAX_LINE_TEXT * 4].decode("utf-8", "replace")[:MAX_LINE_TEXT]


def _parse_records(table: _Table, data: bytes, skipped: list[Any]) -> tuple[list[pa.Array], int]:
    """The wanted columns of whole records as text; records with another number of cells are added to ``skipped``."""
    wanted, labels = table.wanted, table.header.labels
    if not data or (table.skips_empty_lines and not data.strip(b"\r\n")):
        return [pa.nulls(0, pa.string())] * len(wanted), 0
    chosen = [labels[index] for index in wanted] or labels[:1]
    columns: list[pa.Array] = []
    for start in range(0, len(chosen), _MAX_PARSED_COLUMNS):
        skipped.clear()
        parsed = _parse_columns(table, data, chosen[start : start + _MAX_PARSED_COLUMNS], skipped)
        columns += map(_whole, parsed.columns)
    return columns[: len(wanted)], parsed.num_rows


def _parse_columns(table: _Table, data: bytes, chosen: list[str], skipped: list[Any]) -> pa.Table:
    def skip(line: Any) -> str:
        skipped.append(line)
        return "skip"

    dialect = table.header.dialect
    return pa_csv.read_csv(
        pa.BufferReader(data),
        # Only one thread numbers the lines.
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=table.header.labels),
        parse_options=pa_csv.ParseOptions(
            delimiter=dialect.column_delimiter.decode(),
            quote_char=dialect.quote.decode() or False,
            newlines_in_values=True,
            invalid_row_handler=skip,
            ignore_empty_lines=table.skips_empty_lines,
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(chosen, pa.string()),
            include_columns=chosen,
            null_values=list(table.options.csv_null_values),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, pa.string())


def _to_source_error(uri: str, options: ReadOptions, error: Exception) -> SourceError:
    text = str(error)
    if isinstance(error, LineTooLongError):
        return SourceError(
            "DC901", uri, f"a line is longer than {BLOCK_BYTES:,} bytes", "check that it is a table of text"
        )
    if isinstance(error, UnicodeError):
        problem = f"it is not {options.csv_encoding} ({text})"
        return SourceError("DC901", uri, problem, "set csv_encoding (--csv-encoding) to its encoding")
    if "UTF8" in text:
        return _find_bad_byte(uri, options)
    return SourceError("DC901", uri, text.splitlines()[0] if text else "it cannot be parsed", "check its quotes")


def _find_bad_byte(uri: str, options: ReadOptions) -> SourceError:
    decoder = codecs.getincrementaldecoder("utf-8")()
    position, line = 0, 1
    with open_packed(uri, options) as file:
        while chunk := file.read(1 << 20):
            waiting = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                start = error.start
                line += error.object.count(b"\n", 0, start)
                return _not_utf8(uri, position - waiting + start, error.object[start], line)
            line += chunk.count(b"\n")
            position += len(chunk)
    return SourceError("DC901", uri, "it ends in the middle of a UTF-8 character", "it is truncated: rewrite it")


def _not_utf8(uri: str, position: int, byte: int, line: int) -> SourceError:
    problem = f"it is not UTF-8: byte {position:,} is 0x{byte:02x} (line {line:,})"
    return SourceError("DC901", uri, problem, _encoding_fix(uri, "latin-1"))


def _encoding_fix(uri: str, encoding: str) -> str:
    # Quoted, so that a file name cannot run as a command where this is pasted.
    name = quote(uri)
    return f"set csv_encoding (--csv-encoding), or convert it, for example: iconv -f {encoding} -t utf-8 {name}"
