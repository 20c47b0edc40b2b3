"""Merges the scans of units into scans of files, and finds duplicate keys across files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datacheck.checks.reading import error_finding
from datacheck.checks.structure import FieldFacts, check_structure
from datacheck.codes import DUPLICATE_ROW, MISSING_FIELD, OTHER_MISSING_KEY, UNDECODABLE, is_unread
from datacheck.errors import SourceError
from datacheck.findings import MAX_EXAMPLES, Example, Finding, merge_findings
from datacheck.formats import format_of_name
from datacheck.hashing.store import HashStore
from datacheck.jobs.file_verdict import Columns, FileVerdict, columns_of, with_count
from datacheck.jobs.units.scan import UnitScan
from datacheck.leaves import IntArray
from datacheck.row_spread import RowSpread
from datacheck.schema.keys import key_field
from datacheck.schema.model import Schema


class FileScan:
    """Merges the units of one file, in order; of a part of its units if ``is_partial``."""

    def __init__(self, uri: str, schema: Schema, *, is_file: bool = True, is_partial: bool = False) -> None:
        self.uri = uri
        self._is_file, self._is_partial = is_file, is_partial
        self.num_rows = 0
        self.error: SourceError | None = None
        self._schema = schema
        self._findings: list[Finding] = []
        self._fields: dict[str | None, FieldFacts] = {}
        self._names: dict[str | None, int] = {}
        #: The number of values by their kind, of each path whose dtype is not the same in all units.
        self._kinds: dict[str | None, Counter[str]] = {}
        self.num_values: dict[str | None, tuple[int, int]] = {}

    def add(self, unit: UnitScan) -> None:
        """Add the next unit."""
        self.num_rows += unit.num_rows
        self.error = self.error or unit.error
        self._findings = merge_findings([*self._findings, *unit.findings], keep_clean=True)
        for path, facts in unit.fields.items():
            known = self._fields.get(path)
            self._fields[path] = known.followed_by(facts) if known else facts
            if known and (path in self._kinds or known.dtype != facts.dtype):
                kinds = self._kinds.setdefault(path, Counter())
                kinds[_kind_of(known.dtype)] += 0 if kinds else self.num_values.get(path, (0, 0))[1]
                kinds[_kind_of(facts.dtype)] += unit.num_values.get(path, (0, 0))[1]
        for name, times in Counter(unit.names).items():
            self._names[name] = max(self._names.get(name, 0), times)
        for path, (slots, present) in unit.num_values.items():
            before = self.num_values.get(path, (0, 0))
            self.num_values[path] = (before[0] + slots, before[1] + present)

    def as_unit(self) -> UnitScan:
        """The units so far as one."""
        names = tuple(name for name, times in self._names.items() for _ in range(times))
        return UnitScan(self.num_rows, tuple(self._findings), self._fields, names, self.num_values, error=self.error)

    def counted_by_rules(self) -> list[Finding]:
        """What named rules counted, also where they found nothing."""
        return [finding for finding in self._findings if finding.rule is not None]

    def read_errors(self) -> list[Finding]:
        """The finding for a file that cannot be read to its end; empty if it can."""
        return [error_finding(self.error)] if self.error else []

    def findings(self) -> list[Finding]:
        """The findings of the file."""
        found = self.read_errors()
        if self._fields:
            names = [name for name, times in self._names.items() for _ in range(times)]
            record = format_of_name(self.uri)
            is_one_array = record is not None and record.is_one_array and set(names) <= self._schema.fields.keys()
            structure = check_structure(self._schema, self._fields, names, None, is_one_array=is_one_array)
            found += [outcome.to_finding(self.uri) for outcome in structure]
        if self._is_partial:
            # Units that were left out may have the field.
            found = [one for one in found if one.code != MISSING_FIELD]
        # What would describe an image is not missing where the image is damaged.
        damaged = {one.field for one in self._findings if one.code == UNDECODABLE}
        found = [
            one
            for one in found
            if one.code != MISSING_FIELD or one.field is None or one.field.partition(".")[0] not in damaged
        ]
        found += [
            with_count(one, self.num_rows, self.num_values)
            for one in merge_findings([*self._findings, *self._missing_keys()])
        ]
        found += self._other_types()
        is_readable = not self.error and not any(is_unread(one.code) for one in found)
        if not self.num_rows and is_readable:
            about_file = "the file is intact but has no rows; remove it, or check what wrote it"
            detail = about_file if self._is_file else "the data has no rows; check how it was selected"
            found.append(Finding("DC306", self.uri, None, 1, 1, detail=detail))
        return found

    def _missing_keys(self) -> Iterator[Finding]:
        """The keys that no record of some batch has, so that only the counts of the whole file show it."""
        if None in self._fields or None not in self.num_values:
            return
        undecoded = Counter[str | None]()
        for one in self._findings:
            undecoded[one.field] += one.num_violations if one.code == UNDECODABLE else 0
        for path, (slots, _) in self.num_values.items():
            if path is None or path.endswith("[]") or self._schema.field_for(path) is not None:
                continue
            above = path.rpartition(".")[0] or None
            num_objects = self.num_values.get(above, (0, 0))[1] - undecoded[above]
            if num_objects > slots and (above is None or self._fields[above].dtype == "struct"):
                yield Finding(OTHER_MISSING_KEY, self.uri, path, num_objects - slots, num_objects)

    def _other_types(self) -> Iterator[Finding]:
        """The values of another type than most that fill their units, none of which sees those of the others."""
        for path, kinds in self._kinds.items():
            (usual, most), *others = (+kinds).most_common() or [("", 0)]
            if others:
                detail = (
                    f"{' and '.join(kind for kind, _ in others)} among {usual}, from one part of the file to the next"
                )
                yield Finding("DC012", self.uri, path, kinds.total() - most, kinds.total(), detail=detail)

    def verdict(self, num_bytes: int) -> FileVerdict:
        """The verdict on the file."""
        return FileVerdict(self.uri, tuple(self.findings()), self.num_rows, num_bytes, self._columns())

    def _columns(self) -> Columns:
        if self.error is not None or self._is_partial:
            return ()
        return columns_of(self._fields, self.num_values)


def _kind_of(dtype: str) -> str:
    """What values of a dtype are in JSON; of the first of several."""
    first = dtype.partition(" and ")[0]
    if first.startswith("list<"):
        return "lists"
    return {"struct": "objects", "string": "strings", "bool": "booleans"}.get(first, "numbers")


@dataclass(frozen=True, slots=True)
class DuplicateRows:
    """Rows of one file that repeat an earlier row's key, of ``num_rows``."""

    key: tuple[str, ...]
    uri: str
    rows: IntArray
    row_groups: tuple[int | None, ...]
    num_rows: int

    def to_finding(self) -> Finding:
        """The finding, with the first of the rows."""
        shown = zip(self.rows[:MAX_EXAMPLES], self.row_groups[:MAX_EXAMPLES], strict=True)
        examples = tuple(Example(int(row), group, (), "") for row, group in shown)
        field, spread = key_field(self.key), RowSpread.of(self.rows)
        return Finding(DUPLICATE_ROW, self.uri, field, len(self.rows), self.num_rows, examples, spread=spread)


@dataclass(frozen=True, slots=True)
class _Segment:
    """The rows of a batch whose keys begin at ``start`` in the store: a range, where they follow each other."""

    start: int
    uri: str
    rows: IntArray | range
    row_group: int | None
    num_unknown: int

    def rows_at(self, ordinals: IntArray) -> IntArray:
        positions = ordinals - self.start
        if isinstance(self.rows, range):
            return positions + self.rows.start
        return self.rows[positions]


def _compact(rows: IntArray) -> IntArray | range:
    """The same rows as a range, which takes no memory to speak of, where they follow each other."""
    if len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows) and bool((np.diff(rows) == 1).all()):
        return range(int(rows[0]), int(rows[-1]) + 1)
    return rows


class Duplicates:
    """Finds rows that repeat a key, across all files. A context manager, because it may spill to disk."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, ...], HashStore] = {}
        self._segments: dict[tuple[str, ...], list[_Segment]] = {}

    def __enter__(self) -> Duplicates:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores.values():
            store.__exit__()

    def add(self, uri: str, unit: UnitScan) -> None:
        """Add the keys of the next unit, in the order of the dataset."""
        for key in unit.keys:
            store = self._stores.setdefault(key.key, HashStore())
            # The hashes go to the store; what stays is where the rows are.
            where = _Segment(store.num_rows, uri, _compact(key.rows), key.row_group, key.num_unknown)
            self._segments.setdefault(key.key, []).append(where)
            store.add(key.hashes)

    def rows(self) -> Iterator[DuplicateRows]:
        """The rows that repeat an earlier key, by key and file."""
        for key, store in self._stores.items():
            segments = self._segments[key]
            ordinals = store.repeated()
            starts = np.array([segment.start for segment in segments])
            owner = np.searchsorted(starts, ordinals, side="right") - 1
            by_file: dict[str, tuple[list[IntArray], list[int | None]]] = {}
            for index in np.unique(owner):
                where = segments[index]
                rows = where.rows_at(ordinals[owner == index])
                collected, groups = by_file.setdefault(where.uri, ([], []))
                collected.append(rows)
                groups += [where.row_group] * len(rows)
            for uri, (parts, groups) in by_file.items():
                yield DuplicateRows(key, uri, np.concatenate(parts), tuple(groups), self._num_rows(key, uri))

    def _num_rows(self, key: tuple[str, ...], uri: str) -> int:
        return sum(len(where.rows) + where.num_unknown for where in self._segments[key] if where.uri == uri)
