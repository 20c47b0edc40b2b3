"""CSV and TSV, plain or gzipped: streamed by pyarrow as text, with types inferred from the whole file.

pyarrow's own inference looks at the first block only, fails on the first value that does not fit, and turns "NaN" into
null. So cells are read as text and converted here, and NaN stays NaN.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from shlex import quote
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from datacheck.batch import Batch, Column, MalformedRow
from datacheck.errors import SourceError
from datacheck.sources.base import TARGET_UNIT_BYTES, InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.csv_types import ColumnTypes
from datacheck.sources.error_translation import check_expansion, translate_inspect_errors, translate_read_errors
from datacheck.sources.text_parsing import convert
from datacheck.storage.registry import open_file
from datacheck.text import quantity

__all__ = ["CsvSource"]

#: Bytes that are parsed at a time; no line may be longer.
BLOCK_BYTES = 4 << 20
#: Bytes in which the header must end.
MAX_HEADER_BYTES = 1 << 20
#: Characters of a malformed line that are kept.
MAX_LINE_TEXT = 1000
#: Delimiters to try on a file that seems to have one column, and how many of its lines must agree.
_DELIMITERS = (";", "\t", "|", ",")
_LINES_LOOKED_AT = 20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class CsvSource:
    """Reads CSV and TSV files with a header line.

    A file is one unit, since only reading from the start tells whether a line break is inside quotes. Lines with more or
    fewer cells than the header are in ``Batch.malformed``, and have row numbers, too.
    """

    format: ClassVar[str] = "csv"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        _read_header(uri, options)
        unit = WorkUnit(uri, self.format, 0, fingerprint, options=options)
        return InputInfo(uri, self.format, fingerprint.size, None, (unit,))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        try:
            yield from _read(unit.uri, unit.options)
        except pa.ArrowInvalid as error:
            raise _to_source_error(unit.uri, unit.options, error) from error


@dataclass(frozen=True, slots=True)
class _CsvFile:
    """A file and its header: the column names, and how many empty lines come before them."""

    uri: str
    options: ReadOptions
    names: list[str]
    num_empty: int

    @property
    def wanted(self) -> list[int]:
        columns = self.options.columns
        return [index for index, name in enumerate(self.names) if columns is None or name in columns]

    @property
    def num_skipped(self) -> int:
        """Lines to skip before the header: an empty line is a cell in a table of one column, and ignored in any other."""
        return self.num_empty if len(self.names) == 1 else 0

    @property
    def first_number(self) -> int:
        """The parser's number of the first row: it counts from 1, and counts the header."""
        return self.num_skipped + 2


@dataclass(frozen=True, slots=True)
class _TextBlock:
    """Some rows as text, the malformed lines among them, and their numbers."""

    columns: list[pa.Array]
    num_rows: int
    row_start: int
    rows: np.ndarray[Any, np.dtype[np.int64]] | None
    malformed: tuple[MalformedRow, ...]


def _delimiter(uri: str, options: ReadOptions) -> str:
    return "\t" if uri.lower().endswith((".tsv", ".tsv.gz")) else options.csv_delimiter


@contextmanager
def _open_stream(uri: str, options: ReadOptions) -> Iterator[_Stream]:
    with open_file(uri) as file:
        if uri.lower().endswith(".gz"):
            with gzip.open(file) as expanded:
                yield _Bounded(uri, expanded, options)
        else:
            yield file


class _Stream(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Bounded(io.RawIOBase):
    """A stream that stops at the limits of decompression."""

    def __init__(self, uri: str, stream: _Stream, options: ReadOptions) -> None:
        self._uri, self._stream, self._options = uri, stream, options
        self._packed, self._expanded = fingerprint_of(uri).size, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._expanded += len(data)
        check_expansion(self._uri, self._expanded, self._packed, 1, self._options)
        return data


def _read_header(uri: str, options: ReadOptions) -> tuple[list[str], int]:
    """The names in the first non-empty line, and how many empty lines come before it."""
    with _open_stream(uri, options) as file:
        head = file.read(MAX_HEADER_BYTES)
    if head.startswith(_UTF16):
        raise SourceError("DC901", uri, "it is UTF-16, not UTF-8", f"convert it: iconv -f utf-16 -t utf-8 {quote(uri)}")
    if b"\0" in head:
        raise SourceError("DC901", uri, "it contains zero bytes, so it is not text", "check that it is a CSV file")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(uri, options))
        rows = list(itertools.islice(itertools.dropwhile(lambda row: not row[1], enumerate(reader)), 1))
    except UnicodeDecodeError as error:
        raise _not_utf8(uri, error.start, head[error.start]) from None
    except csv.Error as error:
        raise SourceError("DC901", uri, f"the header cannot be parsed ({error})", "check its quotes") from None
    if not rows:
        raise SourceError("DC901", uri, "it has no header, only empty lines", "write column names in its first line")
    num_empty, names = rows[0]
    if len(names) == 1:
        _check_delimiter(uri, text, _delimiter(uri, options))
    return names, num_empty


def _check_delimiter(uri: str, text: str, delimiter: str) -> None:
    """Refuse a file of one column whose lines all have as many cells with another delimiter: it would be read as text."""
    for other in _DELIMITERS:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=other)
        try:
            counts = {len(cells) for cells in itertools.islice(lines, _LINES_LOOKED_AT) if cells}
        except csv.Error:
            continue
        if other != delimiter and len(counts) == 1 and 1 not in counts:
            problem = f"its one column looks like {counts.pop()} columns separated by {other!r}, not {delimiter!r}"
            raise SourceError("DC901", uri, problem, f"set csv_delimiter: {other!r}, in a pipeline under 'reading'")


def _read(uri: str, options: ReadOptions) -> Iterator[Batch]:
    file = _CsvFile(uri, options, *_read_header(uri, options))
    names = [file.names[index] for index in file.wanted]
    kinds, held = _infer_types(file, ColumnTypes(names, options.dtypes))
    flags = [(kinds.is_untyped(index), kinds.is_mostly_numbers(index)) for index in range(len(names))]
    is_empty = True
    for lines in held if held is not None else _read_text(file):
        columns = []
        for name, cells, kind, (untyped, numbers) in zip(names, lines.columns, kinds.types, flags, strict=True):
            converted = convert(cells, kind)
            if converted is None:
                raise SourceError("DC901", uri, f"a value of {name!r} is no longer {kind}", "run again")
            columns.append(Column(name, converted, untyped=untyped, is_mostly_numbers=numbers))
        yield Batch(tuple(columns), lines.num_rows, lines.row_start, rows=lines.rows, malformed=lines.malformed)
        is_empty = False
    if is_empty:
        kinds_of = zip(names, kinds.types, strict=True)
        yield Batch(tuple(Column(name, pa.nulls(0, kind)) for name, kind in kinds_of), 0)


def _infer_types(file: _CsvFile, kinds: ColumnTypes) -> tuple[ColumnTypes, list[_TextBlock] | None]:
    """The types that fit the whole file; and its text, if that is small enough to keep."""
    while True:
        again = False
        kinds.start()
        held: list[_TextBlock] | None = []
        held_bytes = 0
        for lines in _read_text(file):
            again = kinds.see(lines.columns) or again
            held_bytes += sum(column.nbytes for column in lines.columns)
            if held is not None:
                held.append(lines)
                held = held if held_bytes <= TARGET_UNIT_BYTES else None
        # Widening is rare after the first block, and terminates: no type is tried twice.
        if not again:
            return kinds, held


def _read_text(file: _CsvFile) -> Iterator[_TextBlock]:
    """The file's rows as text, without the header."""
    skipped = _SkippedLines(file)
    num_columns, row = len(file.wanted), 0
    with _open_stream(file.uri, file.options) as stream:
        for body in _without_header(_reader(file, stream, skipped.skip)):
            malformed = skipped.take(row, body.num_rows)
            stop = row + body.num_rows + len(malformed)
            if stop > row:
                rows = _rows_between(row, stop, malformed) if malformed else None
                yield _TextBlock(body.columns[:num_columns], body.num_rows, row, rows, malformed)
            row = stop
    if rest := skipped.take_rest():
        yield _TextBlock([pa.nulls(0, pa.string())] * num_columns, 0, row, None, rest)


class _SkippedLines:
    """The malformed lines that the parser skipped, kept until the rows that surround them arrive.

    The parser is a block ahead of its reader, so lines of the next block may be here before its rows.
    """

    def __init__(self, file: _CsvFile) -> None:
        self._file = file
        self._waiting: deque[Any] = deque()

    def skip(self, line: Any) -> str:
        """The parser calls this for each malformed line."""
        self._waiting.append(line)
        return "skip"

    def take(self, row: int, num_rows: int) -> tuple[MalformedRow, ...]:
        """The lines among the next ``num_rows`` rows, which begin at ``row``; a malformed line has a row number, too."""
        stop = row + num_rows
        taken = []
        while self._waiting and self._waiting[0].number - self._file.first_number < stop:
            taken.append(self._describe(self._waiting.popleft()))
            stop += 1
        return tuple(taken)

    def take_rest(self) -> tuple[MalformedRow, ...]:
        """The lines after the last row."""
        return tuple(map(self._describe, self._waiting))

    def _describe(self, line: Any) -> MalformedRow:
        problem = f"{quantity(line.actual_columns, 'cell')} instead of {line.expected_columns}"
        return MalformedRow(line.number - self._file.first_number, (line.text or "")[:MAX_LINE_TEXT], problem)


def _without_header(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches without the first row of all."""
    is_header_ahead = True
    for batch in batches:
        yield batch.slice(1) if is_header_ahead and batch.num_rows else batch
        is_header_ahead = is_header_ahead and not batch.num_rows


def _rows_between(start: int, stop: int, malformed: Sequence[MalformedRow]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The numbers of the rows from ``start`` to ``stop`` that are not malformed."""
    return np.setdiff1d(np.arange(start, stop), [line.row for line in malformed], assume_unique=True)


def _reader(file: _CsvFile, stream: _Stream, skip: Callable[[Any], str]) -> Any:
    labels = [str(index) for index in range(len(file.names))]
    return pa_csv.open_csv(
        stream,
        # Only one thread numbers the lines.
        read_options=pa_csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=labels, skip_rows=file.num_skipped
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=_delimiter(file.uri, file.options),
            newlines_in_values=True,
            invalid_row_handler=skip,
            ignore_empty_lines=len(labels) > 1,
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(labels, pa.string()),
            include_columns=[labels[index] for index in file.wanted] or labels[:1],
            null_values=list(file.options.csv_null_values),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _to_source_error(uri: str, options: ReadOptions, error: Exception) -> SourceError:
    text = str(error)
    if "UTF8" in text:
        return _find_bad_byte(uri, options)
    if "straddl" in text:
        problem = f"a line is longer than {BLOCK_BYTES:,} bytes"
        return SourceError("DC901", uri, problem, "look for an unclosed quote")
    return SourceError("DC901", uri, text.splitlines()[0] if text else "it cannot be parsed", "check its quotes")


def _find_bad_byte(uri: str, options: ReadOptions) -> SourceError:
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = 0
    with _open_stream(uri, options) as file:
        while chunk := file.read(1 << 20):
            waiting = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return _not_utf8(uri, position - waiting + error.start, error.object[error.start])
            position += len(chunk)
    return SourceError("DC901", uri, "it ends in the middle of a UTF-8 character", "it is truncated: rewrite it")


def _not_utf8(uri: str, position: int, byte: int) -> SourceError:
    problem = f"it is not UTF-8: byte {position:,} is 0x{byte:02x}"
    return SourceError("DC901", uri, problem, f"convert it, for example: iconv -f latin1 -t utf-8 {quote(uri)}")
