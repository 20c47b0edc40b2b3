"""The bad rows themselves, as they are in the file: what a finding only counts and locates."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from heapq import merge
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import RAW_NAME, Batch, Column, MalformedRow
from datacheck.checks.base import Outcome
from datacheck.checks.checker import Checker, RuleSet, load_libraries
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.reading import error_finding, to_findings
from datacheck.checks.rules import format_value
from datacheck.codes import CODES, MALFORMED_ROW, OWN_CODE, WRONG_LABEL, codes_with_prefix, is_unread, nearest_code
from datacheck.distinct import distinct
from datacheck.errors import SourceError, UsageError
from datacheck.findings import Finding
from datacheck.jobs.executors.isolated import Isolated, may_crash
from datacheck.jobs.file_results import FileScan
from datacheck.jobs.reading_for_schema import read_options
from datacheck.jobs.scan import inspect_file, lost_inspection
from datacheck.jobs.units.scan import UnitScan, lost_error
from datacheck.leaves import IntArray
from datacheck.schema.loading import SchemaLike
from datacheck.sources import get_source
from datacheck.sources.annotations import with_labels
from datacheck.sources.base import ReadOptions, WorkUnit
from datacheck.sources.discover import InputFile, discover
from datacheck.sources.error_translation import translate_bugs
from datacheck.storage.documents import load_schema
from datacheck.text import plain


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of a file with a violation.

    ``found`` has the codes it breaks, each with its field or rule. ``values`` has the value of each column as text, of
    arrays their dtype and shape. ``line`` is the line of a text file, from 1.
    """

    uri: str
    row: int
    line: int | None
    found: tuple[tuple[str, str], ...]
    values: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "uri": self.uri,
            "row": self.row,
            **({} if self.line is None else {"line": self.line}),
            "found": [{"code": code, "field": subject} for code, subject in self.found],
            "values": self.values,
        }


def find_bad_rows(
    paths: Any,
    schema: SchemaLike | Callable[[str], SchemaLike] = None,
    *,
    codes: Collection[str] = (),
    fields: Collection[str] = (),
    options: ReadOptions | None = None,
    unchecked: list[Finding] | None = None,
) -> Iterator[BadRow]:
    """The rows with violations, in the order of the files, read only as far as they are asked for.

    Args:
        paths: files, folders or globs.
        schema: as for :func:`datacheck.scan`, or a function from a file to it.
        codes: only rows that break one of these; a prefix such as ``DC1`` stands for its codes about rows.
        fields: only violations in these fields, or of the rules of these names.
        options: how to read files.
        unchecked: gets the findings about what could not be read or checked, so that its rows may be bad too, and, unless
            ``codes`` or ``fields`` are given, those on the label files of images, whose errors are in no row.

    Raises:
        UsageError: a code is unknown, or is not about single rows; a path matches nothing.
        SourceError: a file cannot be read; not with ``unchecked``.
        SchemaError: the schema is wrong.
    """
    codes = [one for code in codes for one in _selected(code)]
    inputs = discover(paths, options)
    if unchecked is not None and not codes and not fields:
        inputs = with_labels(inputs)
        unchecked += inputs.labels or ()
    for file in inputs.files:
        loaded = load_schema(schema(file.uri) if callable(schema) else schema)
        load_libraries(loaded)
        reading = replace(read_options(file.options, loaded), by_columns=False, keep_going=unchecked is not None)
        search = _Search(replace(file, options=reading), RuleSet(loaded), codes, fields)
        try:
            yield from search.rows()
        except SourceError as error:
            if unchecked is None:
                raise
            search.scanned.error = error
        if unchecked is not None:
            unchecked += search.unchecked()
    if unknown := [code for code in codes if code not in CODES]:
        raise UsageError(f"no schema of these files names a check with the code {unknown[0]}")


class _Search:
    """Searches the rows of one file."""

    def __init__(self, file: InputFile, rules: RuleSet, codes: Collection[str], fields: Collection[str]) -> None:
        self._file, self._rules, self._codes, self._fields = file, rules, codes, fields
        self.scanned = FileScan(file.uri, rules.schema)

    def rows(self) -> Iterator[BadRow]:
        """The rows with violations; raises ``SourceError`` where the file cannot be read."""
        info = Isolated(inspect_file, lost_inspection)(self._file)
        if isinstance(info, SourceError):
            raise info
        for unit in info.units:
            if may_crash(unit) and (error := Isolated(_try, lambda unit: lost_error(unit.uri))(unit)):
                raise error
            checker = Checker(self._rules, with_rows=True)
            with translate_bugs(*unit.uris):
                for batch in get_source(unit.format).read(unit):
                    yield from self._of_batch(batch, checker)
            self.scanned.add(UnitScan(fields=checker.fields))

    def _of_batch(self, batch: Batch, checker: Checker) -> Iterator[BadRow]:
        outcomes = checker.check_coerced(batch, coerce_batch(batch, checker.schema))
        found = [one for one in to_findings(outcomes, self._file.uri) if is_unread(one.code)]
        found += [*map(error_finding, batch.unreadable), *(one for one in batch.findings if _is_in_no_row(one.code))]
        if found:
            self.scanned.add(UnitScan(findings=tuple(found)))
        is_wanted = (not self._codes or MALFORMED_ROW in self._codes) and not self._fields
        yield from merge(
            _rows(self._file.uri, batch, _by_row(outcomes, self._codes, self._fields)),
            _malformed_rows(self._file.uri, batch.malformed if is_wanted else ()),
            key=lambda one: one.row,
        )

    def unchecked(self) -> Iterator[Finding]:
        """What of the file could not be read or checked, as far as it was searched, and labels that contradict it."""
        for one in self.scanned.findings():
            is_wanted = not self._fields or one.field is None or {one.field, one.rule} & set(self._fields)
            if _is_in_no_row(one.code) and one.is_error and is_wanted:
                yield one


def _is_in_no_row(code: str) -> bool:
    return code == WRONG_LABEL or is_unread(code)


def _try(unit: WorkUnit) -> SourceError | None:
    """Read a unit to its end, to show whether that can be done here: its bad rows may be more than could be sent."""
    with suppress(SourceError):
        for _ in get_source(unit.format).read(unit):
            pass
    return None


def _selected(code: str) -> list[str]:
    """The codes that one of them, or a prefix, stands for; raises ``UsageError`` for what is about no rows."""
    if OWN_CODE.fullmatch(code):
        # It is known once a schema names its check.
        return [code]
    found = sorted(codes_with_prefix(code)) if code else []
    if not found:
        raise UsageError(f"unknown code {code!r}{nearest_code(code)}")
    of_rows = [one for one in found if CODES[one].level in ("value", "row")]
    if not of_rows:
        what = f"{code} ({CODES[code].name}) is" if code in CODES else f"the codes {code} are"
        raise UsageError(f"{what} not about single rows; 'datacheck scan' says where it is")
    return of_rows


def _by_row(
    outcomes: list[Outcome], codes: Collection[str], fields: Collection[str]
) -> dict[int, list[tuple[str, str]]]:
    found: dict[int, list[tuple[str, str]]] = {}
    for outcome in outcomes:
        subject = outcome.rule or outcome.field or ""
        is_wanted = (not codes or outcome.code in codes) and (not fields or {outcome.field, outcome.rule} & set(fields))
        if outcome.rows is not None and outcome.reported and is_wanted:
            for row in distinct(outcome.rows).tolist():
                found.setdefault(row, []).append((outcome.code, subject))
    return dict(sorted(found.items()))


def _rows(uri: str, batch: Batch, found: dict[int, list[tuple[str, str]]]) -> Iterator[BadRow]:
    if not found:
        return
    rows = np.fromiter(found, np.int64, len(found))
    for row, file_row, broken in zip(rows.tolist(), batch.file_rows(rows).tolist(), found.values(), strict=True):
        values = {column.name or "": _value_of(column, np.array([row])) for column in batch.columns}
        values |= _values_of_other_type(batch, row, values)
        yield BadRow(uri, file_row, batch.line_of(file_row), tuple(broken), values)


def _values_of_other_type(batch: Batch, row: int, names: Collection[str]) -> dict[str, str]:
    """The values of the columns that hold one of another type than most, where the column itself has none."""
    shown: dict[str, str] = {}
    for fault in batch.faults:
        if fault.code != "DC012" or row not in fault.rows:
            continue
        path = fault.field or ""
        known = dict(fault.examples)
        if path in names:
            shown[path] = known.get(row, "of another type")
        elif fits := [name for name in names if path.startswith((f"{name}.", f"{name}["))]:
            shown[max(fits, key=len)] = f"{path}: {known.get(row, 'of another type')}"
    if shown and batch.raw is not None and batch.raw.format == "jsonl":
        with suppress(ValueError, RecursionError):
            record = json.loads(batch.raw.take(np.array([row])).array[0].as_py())
            shown |= {name: format_value(record[name]) for name in shown if name in record}
    return shown


def _malformed_rows(uri: str, malformed: Iterable[MalformedRow]) -> Iterator[BadRow]:
    for one in malformed:
        values = {RAW_NAME: plain(f"{one.problem}: {one.text}")}
        yield BadRow(uri, one.row, one.line, ((MALFORMED_ROW, ""),), values)


def _value_of(column: Column, row: IntArray) -> str:
    if column.problem:
        return column.problem
    data = column.take(row).data
    if isinstance(data, np.ndarray):
        if data.ndim > 1 and data[0].size > 1:
            shape = ", ".join(map(str, data.shape[1:]))
            return f"{column.dtype or data.dtype}[{shape}]"
        return format_value(data.reshape(-1)[0] if data.size else None)
    if pa.types.is_float32(data.type) and data[0].is_valid:
        return format_value(np.float32(data[0].as_py()))
    try:
        return format_value(data[0].as_py())
    except (ValueError, OverflowError):  # a time that Python cannot hold, a text that is not UTF-8
        return str(data[0])
