"""JSON Lines, plain or compressed, and JSON files with a list of records.

A file is cut into units of whole lines. Each line is parsed on its own, so that a line which is not JSON is one finding and
the others are read. NaN and Infinity, which JSON lacks and Python writes, are read as what they are.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, ClassVar, cast

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column, Fault, MalformedRow
from datacheck.errors import SourceError
from datacheck.leaves import IntArray
from datacheck.sources.base import REWRITE_FILE, TARGET_UNIT_BYTES, InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.dtypes import arrow_type
from datacheck.sources.error_translation import check_records, translate_inspect_errors, translate_read_errors
from datacheck.sources.json_columns import (
    MAX_KEYS,
    JsonColumns,
    TooManyKeysError,
    TooManyPathsError,
)
from datacheck.sources.json_keys import duplicate_keys, may_have_duplicates
from datacheck.sources.json_list import read_elements
from datacheck.sources.json_values import bytes_of_values
from datacheck.sources.optional import import_library
from datacheck.sources.packed import is_packed, open_packed, read_blocks_of
from datacheck.sources.text_lines import BOM, LineBlock, LineCount, read_lines
from datacheck.sources.text_parsing import Notation, convert_cells
from datacheck.storage.registry import open_file

#: Bytes that are parsed at a time.
BLOCK_BYTES = 1 << 20
#: Bytes in which lines are counted at a time, which stay in the processor's cache.
_COUNT_BYTES = 1 << 18
#: A longer line is not read, since its values take many times its bytes.
MAX_LINE_BYTES = 64 << 20
#: Characters of a bad line that are kept.
MAX_LINE_TEXT = 1000
#: The name of the values where they are not objects.
VALUE = "value"
_HEAD_BYTES = 1 << 16
#: The number of lines read to tell whether a file is JSON.
_MAX_HEAD_LINES = 20


class JsonLinesSource:
    """Reads JSON Lines: one record per line, each an object whose keys are the columns, or any other value."""

    format: ClassVar[str] = "jsonl"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        import_library(uri, "msgspec", "json")
        fingerprint = fingerprint_of(uri)
        _check_text(uri, options)
        _check_lines(uri, options)
        units: list[WorkUnit] = []
        num_rows = None
        if is_packed(uri) or fingerprint.size <= TARGET_UNIT_BYTES:
            units.append(WorkUnit(uri, self.format, 0, fingerprint, options=options))
        else:
            counts = list(_count_lines(uri))
            num_rows = sum(count.num_rows for count in counts)
            row, start, line = 0, 0, 1
            for index, count in enumerate(counts):
                unit = WorkUnit(uri, self.format, index, fingerprint, row, count.num_rows, options=options)
                units.append(replace(unit, byte_start=start, byte_stop=start + count.num_bytes, first_line=line))
                row, start, line = row + count.num_rows, start + count.num_bytes, line + count.num_lines
        return InputInfo(uri, self.format, fingerprint.size, num_rows, tuple(units))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        are_objects = _starts_with(unit.uri, unit.options, b"{")
        with open_packed(unit.uri, unit.options) as stream:
            reader = _Reader(unit, are_objects=are_objects)
            num_bytes = -1
            if unit.byte_start:
                # A type that changes where a unit begins is found by what the file begins with.
                reader.expect_types_of(read_lines(read_blocks_of(stream, -1, BLOCK_BYTES), 1, MAX_LINE_BYTES))
            if unit.byte_stop is not None:
                num_bytes = unit.byte_stop - unit.byte_start
                stream.seek(unit.byte_start)  # type: ignore[attr-defined]
            blocks = read_blocks_of(stream, num_bytes, BLOCK_BYTES)
            yield from reader.batches(read_lines(blocks, unit.first_line, MAX_LINE_BYTES))


class JsonSource(JsonLinesSource):
    """Reads a ``.json`` file: a list of records, JSON Lines under that name, or one record."""

    format: ClassVar[str] = "json"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        if not _starts_with(uri, options, b"[") and _is_lines(uri, options):
            return super().inspect(uri, options)
        import_library(uri, "msgspec", "json")
        fingerprint = fingerprint_of(uri)
        _check_text(uri, options)
        if not _starts_with(uri, options, b"[") and not _starts_with(uri, options, b"{"):
            raise SourceError("DC901", uri, "it is not JSON: it begins neither with [ nor with {", REWRITE_FILE)
        unit = WorkUnit(uri, self.format, 0, fingerprint, options=options)
        return InputInfo(uri, self.format, fingerprint.size, None, (unit,))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        is_list = _starts_with(unit.uri, unit.options, b"[")
        if not is_list and _is_lines(unit.uri, unit.options):
            yield from super().read(unit)
            return
        with open_packed(unit.uri, unit.options) as stream:
            blocks = read_blocks_of(stream, -1, BLOCK_BYTES)
            elements = read_elements(blocks, MAX_LINE_BYTES, is_list=is_list)
            yield from _Reader(unit, are_objects=None).batches(elements)


def read_records(unit: WorkUnit, lines: bytes, *, are_objects: bool) -> list[Batch]:
    """The batches of some lines in memory, as of a file whose records ``are_objects`` or other values."""
    reader = _Reader(unit, are_objects=are_objects)
    return list(reader.batches(read_lines([lines], unit.first_line, MAX_LINE_BYTES)))


def _head(uri: str, options: ReadOptions) -> bytes:
    with open_packed(uri, options) as stream:
        return stream.read(_HEAD_BYTES)


def _starts_with(uri: str, options: ReadOptions, mark: bytes) -> bool:
    return _head(uri, options).removeprefix(BOM).lstrip().startswith(mark)


def _is_lines(uri: str, options: ReadOptions) -> bool:
    """Whether a ``.json`` file is JSON Lines: its first line is a whole record, and there are more."""
    head = _head(uri, options).removeprefix(BOM).lstrip()
    first, newline, rest = head.partition(b"\n")
    if not newline or not rest.lstrip().startswith(b"{"):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


def _check_text(uri: str, options: ReadOptions) -> None:
    head = _head(uri, options)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError("DC901", uri, "it is UTF-16, and JSON is UTF-8", "rewrite it as UTF-8")
    if head[:1] == b"\0":
        raise SourceError("DC901", uri, "it begins with zero bytes, so it is not JSON", "rewrite the file")


def _check_lines(uri: str, options: ReadOptions) -> None:
    """Raise ``SourceError`` (DC901) where none of a file's first lines is JSON: it is of another format."""
    head = _head(uri, options)
    lines = head.removeprefix(BOM).split(b"\n")
    lines = lines[:-1] if len(head) == _HEAD_BYTES and len(lines) > 1 else lines
    lines = [line for line in lines if line.strip()][:_MAX_HEAD_LINES]
    if lines and lines[0].strip() == b"[":
        raise SourceError("DC901", uri, "it is a list over several lines, not JSON Lines", "rename it to .json")
    problem = ""
    for line in lines:
        _, problem = _parse_loosely(line)
        if not problem:
            return
    if lines and (len(lines) > 1 or len(lines[0]) < _HEAD_BYTES):
        problem = f"none of its first {len(lines):,} lines is JSON" if len(lines) > 1 else f"its line is {problem}"
        fix = (
            "JSON Lines has one whole record on each line; rename a file with a list to .json" if len(lines) > 1 else ""
        )
        raise SourceError("DC901", uri, problem, fix or REWRITE_FILE)


def _count_lines(uri: str) -> Iterator[LineCount]:
    """The lines of a plain file, in parts of about ``TARGET_UNIT_BYTES`` that end with a line."""
    with open_file(uri) as file:
        count = LineCount()
        for block in read_lines(read_blocks_of(file, -1, min(_COUNT_BYTES, BLOCK_BYTES)), 1, MAX_LINE_BYTES):
            count = count.plus(block)
            if count.num_bytes >= TARGET_UNIT_BYTES:
                yield count
                count = LineCount()
        if count.num_bytes:
            yield count


@dataclass(slots=True)
class _Parsed:
    """The records of some lines: which lines they are, and which lines are bad."""

    records: list[Any]
    places: IntArray | None = None
    bad: list[tuple[int, str, str]] = field(default_factory=list)


class _Reader:
    """Reads the lines of one unit into batches."""

    def __init__(self, unit: WorkUnit, *, are_objects: bool | None, types: dict[str, str] | None = None) -> None:
        import msgspec

        self._unit, self._are_objects = unit, are_objects
        self._row = unit.row_start
        self._decode_lines: Callable[[bytes], list[Any]] = msgspec.json.Decoder().decode_lines
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
        self._dtypes = dict(unit.options.dtypes)
        self._keys: set[str] = set()
        self._types: dict[str, str] = {} if types is None else types

    def expect_types_of(self, blocks: Iterator[LineBlock]) -> None:
        """Expect the types that the values of the first of some blocks have, as after reading it."""
        first = replace(self._unit, row_start=0)
        for block in islice(blocks, 1):
            for _ in _Reader(first, are_objects=self._are_objects, types=self._types)._batches_of(block):
                pass

    def batches(self, blocks: Iterator[LineBlock]) -> Iterator[Batch]:
        is_empty = True
        for block in blocks:
            found = self._batches_of(block)
            while (batch := _next(found)) is not None:
                is_empty = False
                yield batch
            self._row += block.num_rows
            check_records(self._unit.uri, self._row, self._unit.fingerprint.size, self._unit.options)
        if is_empty:
            yield Batch((), 0, self._unit.row_start)

    def _parse(self, block: LineBlock) -> _Parsed:
        try:
            is_small = len(block.data) <= 2 * BLOCK_BYTES
            records = self._decode_lines(block.data) if is_small and block.may_be_whole else None
        except Exception:  # any of its lines may be why: each is parsed alone
            records = None
        if records is None or len(records) != block.num_rows or not self._are_of_one_kind(records):
            return self._parse_lines(block)
        return _Parsed(records)

    def _are_of_one_kind(self, records: Sequence[Any]) -> bool:
        if self._are_objects is None and records:
            self._are_objects = type(records[0]) is dict
        return not self._are_objects or set(map(type, records)) <= {dict}

    def _parse_lines(self, block: LineBlock) -> _Parsed:
        parsed = _Parsed([])
        places = []
        for index, line in enumerate(block.lines()):
            record, problem = self._parse_line(line)
            if not problem and self._are_objects is None:
                self._are_objects = type(record) is dict
            if not problem and self._are_objects and type(record) is not dict:
                problem = f"expected an object, got {_KINDS.get(type(record), 'a value')}"
            if problem:
                parsed.bad.append((index, _shown(line), problem))
            else:
                places.append(index)
                parsed.records.append(record)
        parsed.places = np.array(places, np.int64)
        return parsed

    def _parse_line(self, line: bytes | str) -> tuple[Any, str]:
        """A record, and what is wrong with the line; empty if nothing is."""
        if isinstance(line, str):
            return None, line
        if len(line) > BLOCK_BYTES and (num_bytes := bytes_of_values(line)) > self._unit.options.max_bytes_at_once:
            return None, f"its values would take about {num_bytes:,} bytes; raise max_expanded_bytes if it is trusted"
        try:
            return self._decode(line), ""
        except Exception:  # of strict JSON: which constants and characters Python takes is seen next
            return _parse_loosely(line)

    def _batches_of(self, block: LineBlock) -> Iterator[Batch]:
        parsed = self._parse(block)
        records, num_records = parsed.records, len(parsed.records)
        places = np.arange(len(records), dtype=np.int64) if parsed.places is None else parsed.places
        is_first = True
        pieces = [(0, len(records))]
        while pieces:
            start, stop = pieces.pop()
            try:
                columns, faults, num_keys = self._columns(
                    records if stop - start == num_records else records[start:stop]
                )
            except TooManyPathsError:
                raise self._too_many("paths") from None
            except TooManyKeysError:
                if stop - start == 1:
                    raise self._too_many("keys") from None
                middle = (start + stop) // 2
                pieces += [(middle, stop), (start, middle)]
                continue
            chosen = places[start:stop]
            faults += self._duplicates(block, chosen, num_keys, is_whole=stop - start == block.num_rows)
            is_plain = not parsed.bad and block.is_plain and stop - start == num_records
            if not pieces:
                # Before the columns are checked: millions of objects are freed faster while the processor still has them.
                records.clear()
            yield Batch(
                tuple(columns),
                stop - start,
                self._row,
                rows=None if is_plain else self._row + chosen,
                malformed=tuple(self._malformed(block, parsed)) if is_first else (),
                line_start=block.first_line if is_plain else None,
                lines=None if is_plain else block.line_numbers[chosen],
                faults=tuple(faults),
                raw=block.raw(None if is_plain else chosen),
                is_ragged=True,
            )
            is_first = False

    def _too_many(self, what: str) -> SourceError:
        problem = f"its records have too many different {what}, more than {MAX_KEYS:,}"
        return SourceError("DC904", self._unit.uri, problem, "store what the keys name as values")

    def _duplicates(self, block: LineBlock, chosen: IntArray, num_keys: int, *, is_whole: bool) -> tuple[Fault, ...]:
        """What is wrong with the keys of some records; where only some columns are wanted, that is not looked for."""
        if self._unit.options.columns is not None or not len(chosen):
            return ()
        if is_whole and not may_have_duplicates(block.data, num_keys):
            return ()
        lines = list(block.lines())
        return tuple(duplicate_keys([line for index in chosen.tolist() if isinstance(line := lines[index], bytes)]))

    def _columns(self, records: Sequence[Any]) -> tuple[list[Column], tuple[Fault, ...], int]:
        wanted = self._unit.options.columns
        if not self._are_objects:
            records = [{VALUE: record} for record in records]
        if not records:
            return [], (), 0
        builder = JsonColumns(self._dtypes, self._types)
        columns = [self._typed(column) for column in builder.of(records, wanted)]
        self._keys.update(str(column.name) for column in columns)
        if len(self._keys) > MAX_KEYS:
            raise self._too_many("keys")
        # The name of the column of values that are not objects is not a key of theirs.
        return columns, tuple(builder.faults), builder.num_keys - (0 if self._are_objects else len(records))

    def _typed(self, column: Column) -> Column:
        """Text as the times that the schema says it is: JSON has none of its own."""
        dtype = self._dtypes.get(column.name or "")
        kind, data = None if dtype is None else arrow_type(dtype), cast("pa.Array", column.data)
        if kind is None or not pa.types.is_temporal(kind) or not pa.types.is_string(data.type):
            return column
        values, unconvertible = convert_cells(data, kind, Notation())
        words = None if unconvertible is None else column.data
        return Column(column.name, values, unconvertible=unconvertible, words=words, absent=column.absent)

    def _malformed(self, block: LineBlock, parsed: _Parsed) -> Iterator[MalformedRow]:
        for index, text, problem in parsed.bad:
            yield MalformedRow(self._row + index, text, problem, int(block.line_numbers[index]))


def _next(batches: Iterator[Batch]) -> Batch | None:
    """The next batch, None after the last; made without the garbage collector.

    Parsed JSON has no cycles, and millions of objects: looking for cycles in them would take as long as parsing.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return next(batches, None)
    finally:
        if was_enabled:
            gc.enable()


def _shown(line: bytes | str) -> str:
    """How a line begins."""
    return "" if isinstance(line, str) else line[: MAX_LINE_TEXT * 4].decode("utf-8", "replace")[:MAX_LINE_TEXT]


_KINDS = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean", type(None): "null"}


def _parse_loosely(line: bytes) -> tuple[Any, str]:
    """A record as Python's ``json`` reads it, with NaN and infinities; and what is wrong with it."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 (byte 0x{line[error.start]:02x} at position {error.start})"
    try:
        record = json.loads(text)
        if "\\u" in text:
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None, "not text: a surrogate without its other half, such as \\ud800"
    except RecursionError:
        return None, "nested too deeply"
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} (column {error.colno})"
    except ValueError as error:
        return None, f"not JSON: {str(error).partition(';')[0]}"
    return record, ""
