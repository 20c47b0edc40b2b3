"""Scanning small files in groups: read one by one, checked together, and again separately if something was found.

The fixed cost of a check is the same for ten values as for a million. So the rows of files with the same columns are
checked as one batch. Files with violations are then checked again on their own, so that findings do not depend on the
other files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.checks.checker import Checker, RuleSet
from datacheck.checks.structure import FieldFacts, FieldMap
from datacheck.checks.unseen import kind_of_unseen
from datacheck.dataset_rules.dataset_state import is_across_files
from datacheck.distinct import distinct
from datacheck.errors import DatacheckError, SourceError
from datacheck.jobs.units.proofs import can_prove
from datacheck.jobs.units.scan import UnitScan, read_unit, scan_batches, scan_unit, whole_file_of_unit
from datacheck.sources.base import WorkUnit, check_unchanged
from datacheck.sources.error_translation import translate_bugs, truncated_error
from datacheck.storage.registry import hold_in_memory
from datacheck.storage.truncated_files import surviving_truncation

#: Larger files are read on their own.
SMALL_FILE_BYTES = 1 << 20
#: The most decoded bytes of a small file's batch that is checked together with others.
SMALL_BATCH_BYTES = 2 << 20
#: The most files, and bytes of files, that are read together.
MAX_FILES, MAX_GROUP_BYTES = 32, 4 << 20

#: The bytes of a value of each of Arrow's numeric types, by id: asking Arrow for the bytes of a column is slower.
_WIDTHS = {
    kind().id: kind().bit_width // 8
    for kind in (
        *(pa.int8, pa.int16, pa.int32, pa.int64, pa.uint8, pa.uint16, pa.uint32, pa.uint64),
        *(pa.float16, pa.float32, pa.float64),
    )
}

Layout = tuple[tuple[str | None, Any], ...]


def group_small(sizes: Sequence[int]) -> Iterator[slice]:
    """Group neighbouring files to read together, by their sizes."""
    start = held = 0
    for stop, size in enumerate(sizes):
        size = size if size <= SMALL_FILE_BYTES else MAX_GROUP_BYTES + 1
        if stop > start and (held + size > MAX_GROUP_BYTES or stop - start == MAX_FILES):
            yield slice(start, stop)
            start, held = stop, 0
        held += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def hold_small(uri: str) -> None:
    """Read a small file at once, so that inspecting and reading it in this thread take it from memory."""
    hold_in_memory(uri, SMALL_FILE_BYTES)


def scan_small(units: Iterable[WorkUnit], rules: RuleSet) -> list[UnitScan]:
    """The results of :func:`scan_unit` for units that are each the only one of their file."""
    found: dict[int, UnitScan] = {}
    waiting: dict[Layout, list[tuple[int, WorkUnit, Batch]]] = {}
    can_wait = not rules.has_row_checks and not is_across_files(rules)
    uris: list[str] = []
    for index, unit in enumerate(units):
        uris.append(unit.uri)
        try:
            if can_prove(unit, rules):
                found[index] = scan_unit(unit, rules)
                continue
            with translate_bugs(unit.uri):
                batches = read_unit(unit)
                begun = list(islice(batches, 1))
                layout = _layout(begun[0]) if begun and can_wait else None
                if layout is not None:
                    begun += islice(batches, 1)
                if layout is not None and len(begun) == 1:
                    waiting.setdefault(layout, []).append((index, unit, begun[0]))
                else:
                    whole = whole_file_of_unit(unit, rules)
                    found[index] = scan_batches(chain(_popped(begun), batches), unit.uri, rules, whole)
        except SourceError as error:
            found[index] = UnitScan(error=error)
    for some in waiting.values():
        found.update(_scan_waiting(some, rules))
    return [found[index] for index in range(len(uris))]


def _popped(begun: list[Batch]) -> Iterator[Batch]:
    """The batches, which are not kept: each may be large."""
    while begun:
        yield begun.pop(0)


def _scan_waiting(some: Sequence[tuple[int, WorkUnit, Batch]], rules: RuleSet) -> Iterator[tuple[int, UnitScan]]:
    """The scans of files with the same columns. Their values may be in mapped files, which must not have changed until now."""
    batches, uris = [batch for _, _, batch in some], [unit.uri for _, unit, _ in some]
    with surviving_truncation(*uris) as truncated:
        try:
            scanned = list(_scan_together(batches, uris, rules))
        except DatacheckError:
            raise
        except Exception:  # one of them makes datacheck fail: which one is found by checking each alone
            scanned = [_scan_alone(batch, uri, rules) for batch, uri in zip(batches, uris, strict=True)]
    for (index, unit, _), scan in zip(some, scanned, strict=True):
        try:
            if unit.uri in truncated:
                raise truncated_error(unit.uri)
            check_unchanged(unit.uri, unit.fingerprint)
            yield index, scan
        except SourceError as error:
            yield index, UnitScan(error=error)


def _scan_alone(batch: Batch, uri: str, rules: RuleSet) -> UnitScan:
    try:
        with translate_bugs(uri):
            return scan_batches([batch], uri, rules)
    except SourceError as error:
        return UnitScan(error=error)


def _layout(batch: Batch) -> Layout | None:
    """What batches must have in common to be checked together; None for a batch that is checked alone."""
    is_whole = not (batch.malformed or batch.unreadable or batch.findings or batch.faults)
    if not is_whole or not batch.num_rows or not batch.columns:
        return None
    layout = []
    num_bytes = 0
    for column in batch.columns:
        kind = _kind(column)
        if kind is None:
            return None
        layout.append((column.name, (kind, column.untyped)))
        num_bytes += _WIDTHS[kind] * batch.num_rows if kind in _WIDTHS else column.num_bytes
    return tuple(layout) if num_bytes <= SMALL_BATCH_BYTES else None


def _kind(column: Column) -> Any:
    data = column.data
    if column.problem or column.words is not None or column.dtype is not None or column.is_media:
        return None
    if column.is_parameter:
        # Whether all of it is zero is asked of each file.
        return None
    if isinstance(data, np.ndarray):
        is_plain = type(data) is np.ndarray and data.ndim and data.dtype.kind in "?biufc"
        return (data.dtype, data.shape[1:], column.is_sample) if is_plain else None
    kind = data.type
    if kind.id in _WIDTHS:
        return kind.id
    is_plain = not (kind.num_fields or pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType))
    return kind if is_plain else None


def _scan_together(batches: Sequence[Batch], uris: Sequence[str], rules: RuleSet) -> Iterable[UnitScan]:
    if len(batches) == 1:
        yield scan_batches(batches, uris[0], rules)
        return
    checker = Checker(rules, with_rows=True)
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    columns = tuple(map(_joined, zip(*(batch.columns for batch in batches), strict=True)))
    outcomes = [one for one in checker.check(Batch(columns, int(starts[-1]))) if one.num_violations]
    rows = [one.rows for one in outcomes if one.rows is not None]
    if len(rows) < len(outcomes):
        dirty = set(range(len(batches)))
    else:
        dirty = {int(row) for some in rows for row in distinct(np.searchsorted(starts, some, side="right") - 1)}
    clean: dict[tuple[Any, ...], UnitScan] = {}
    for index, batch in enumerate(batches):
        if index in dirty:
            yield scan_batches([batch], uris[index], rules)
            continue
        own = (batch.num_rows, *(_own_facts(column, batch.num_rows) for column in batch.columns))
        if own not in clean:
            clean[own] = _clean_scan(batch, checker.fields)
        yield clean[own]


def _own_facts(column: Column, num_rows: int) -> tuple[bool, str] | None:
    """What files that are checked together may differ in: whether a column is all null, and what no check sees in it."""
    data = column.data
    if isinstance(data, np.ndarray):
        return None
    return data.null_count == num_rows, "" if data.type.id in _WIDTHS else _unseen(column)


def _unseen(column: Column) -> str:
    return kind_of_unseen(next(column.leaves()), is_array=False)


def _joined(columns: Sequence[Column]) -> Column:
    data = [column.data for column in columns]
    joined = np.concatenate(data) if isinstance(data[0], np.ndarray) else pa.concat_arrays(data)
    return replace(columns[0], data=joined)


def _clean_scan(batch: Batch, joined: FieldMap) -> UnitScan:
    """The scan of one file without findings, given the facts of the files that were checked together with it."""
    fields = dict(joined)
    empty: dict[str | None, tuple[int, int]] = {}
    for column in batch.columns:
        facts = fields[column.name]
        if isinstance(column.data, np.ndarray):
            fields[column.name] = _of_file(facts, batch.num_rows)
            continue
        if column.data.type.id not in _WIDTHS:
            unseen = _unseen(column)
            fields[column.name] = replace(facts, unseen=unseen) if unseen != facts.unseen else facts
        if column.data.null_count == batch.num_rows:
            empty[column.name] = (batch.num_rows, 0)
    return UnitScan(batch.num_rows, fields=fields, names=tuple(batch.names), num_values=empty)


def _of_file(facts: FieldFacts, num_rows: int) -> FieldFacts:
    if not facts.is_array or facts.shape is None:
        return facts
    return replace(facts, shape=(num_rows, *facts.shape[1:]))
