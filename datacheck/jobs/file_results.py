"""Merging the scans of units into those of their files, and finding duplicate keys across files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from datacheck.checks.structure import FieldFacts, check_structure
from datacheck.codes import CODES, DUPLICATE_ROW, OTHER_MISSING_KEY, Family
from datacheck.errors import SourceError
from datacheck.findings import MAX_EXAMPLES, Example, Finding, merge_findings
from datacheck.formats import format_of_name
from datacheck.hashing.keys import KeyHashes
from datacheck.hashing.store import HashStore
from datacheck.jobs.file_verdict import ColumnSummary, FileVerdict
from datacheck.jobs.units.scan import UnitScan, error_finding
from datacheck.leaves import IntArray
from datacheck.row_spread import RowSpread
from datacheck.schema.keys import key_field
from datacheck.schema.model import Schema

__all__ = ["DuplicateRows", "Duplicates", "FileScan"]


class FileScan:
    """Merges the units of one file, in order."""

    def __init__(self, uri: str, schema: Schema, *, is_file: bool = True) -> None:
        self.uri = uri
        self._is_file = is_file
        self.num_rows = 0
        self.error: SourceError | None = None
        self._schema = schema
        self._findings: list[Finding] = []
        self._fields: dict[str | None, FieldFacts] = {}
        self._names: dict[str | None, int] = {}
        self.num_values: dict[str | None, tuple[int, int]] = {}

    def add(self, unit: UnitScan) -> None:
        """Add the next unit."""
        self.num_rows += unit.num_rows
        self.error = self.error or unit.error
        self._findings = merge_findings([*self._findings, *unit.findings], keep_clean=True)
        for path, facts in unit.fields.items():
            known = self._fields.get(path)
            self._fields[path] = known.followed_by(facts) if known else facts
        for name, times in Counter(unit.names).items():
            self._names[name] = max(self._names.get(name, 0), times)
        for path, (slots, present) in unit.num_values.items():
            before = self.num_values.get(path, (0, 0))
            self.num_values[path] = (before[0] + slots, before[1] + present)

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
        found += [self._with_count(one) for one in merge_findings([*self._findings, *self._missing_keys()])]
        is_readable = not self.error and not any(
            CODES[one.code].family is Family.UNREADABLE or one.code == "DC005" for one in found
        )
        if not self.num_rows and is_readable:
            about_file = "the file is intact but has no rows; remove it, or check what wrote it"
            detail = about_file if self._is_file else "the data has no rows; check how it was selected"
            found.append(Finding("DC306", self.uri, None, 1, 1, detail=detail))
        return found

    def _missing_keys(self) -> Iterator[Finding]:
        """The keys that no record of some batch has, so that only the counts of the whole file show it."""
        if None in self._fields or None not in self.num_values:
            return
        for path, (slots, _) in self.num_values.items():
            if path is None or path.endswith("[]") or self._schema.field_for(path) is not None:
                continue
            above = path.rpartition(".")[0] or None
            num_objects = self.num_values.get(above, (0, 0))[1]
            if num_objects > slots and (above is None or self._fields[above].dtype == "struct"):
                yield Finding(OTHER_MISSING_KEY, self.uri, path, num_objects - slots, num_objects)

    def verdict(self, num_bytes: int) -> FileVerdict:
        """The verdict on the file."""
        return FileVerdict(self.uri, tuple(self.findings()), self.num_rows, num_bytes, self._columns())

    def _columns(self) -> tuple[ColumnSummary, ...]:
        if self.error is not None:
            return ()
        return tuple(
            ColumnSummary(path, facts.dtype, self._is_null(path), facts.unseen) for path, facts in self._fields.items()
        )

    def _is_null(self, path: str | None) -> bool:
        slots, present = self.num_values.get(path, (0, 0))
        # One row says nothing about a file.
        return slots > 1 and not present

    def _with_count(self, finding: Finding) -> Finding:
        """Set the number of rows or values in the file, unless the finding is from a named rule, which counts itself.

        The spread is that over the whole file.
        """
        code = CODES[finding.code]
        if finding.spread is not None:
            finding = replace(finding, spread=finding.spread.over(self.num_rows))
        if finding.rule is not None:
            return finding
        if code.level == "row":
            return replace(finding, num_checked=self.num_rows)
        if not code.counts_values or finding.field not in self.num_values:
            return finding
        slots, present = self.num_values[finding.field]
        if code.becomes_null:
            present += finding.num_violations
        return replace(finding, num_checked=slots if code.counts_nulls else present)


@dataclass(frozen=True, slots=True)
class DuplicateRows:
    """Rows of one file that repeat an earlier row's key."""

    key: tuple[str, ...]
    uri: str
    rows: IntArray
    row_groups: tuple[int | None, ...]


class Duplicates:
    """Finds rows that repeat a key, across all files. A context manager, because it may spill to disk."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, ...], HashStore] = {}
        self._segments: dict[tuple[str, ...], list[tuple[int, str, KeyHashes]]] = {}

    def __enter__(self) -> Duplicates:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores.values():
            store.__exit__()

    def add(self, uri: str, keys: Iterable[KeyHashes]) -> None:
        """Add the keys of the next unit, in the order of the dataset."""
        for key in keys:
            store = self._stores.setdefault(key.key, HashStore())
            # The hashes go to the store; what stays is where the rows are.
            where = replace(key, hashes=np.empty((0, 2), np.uint64))
            self._segments.setdefault(key.key, []).append((store.num_rows, uri, where))
            store.add(key.hashes)

    def rows(self) -> Iterator[DuplicateRows]:
        """The rows that repeat an earlier key, by key and file."""
        for key, store in self._stores.items():
            segments = self._segments[key]
            ordinals = store.repeated()
            starts = np.array([start for start, _, _ in segments])
            owner = np.searchsorted(starts, ordinals, side="right") - 1
            by_file: dict[str, tuple[list[IntArray], list[int | None]]] = {}
            for index in np.unique(owner):
                start, uri, where = segments[index]
                rows = where.rows[ordinals[owner == index] - start]
                collected, groups = by_file.setdefault(uri, ([], []))
                collected.append(rows)
                groups += [where.row_group] * len(rows)
            for uri, (parts, groups) in by_file.items():
                yield DuplicateRows(key, uri, np.concatenate(parts), tuple(groups))

    def findings(self) -> Iterator[Finding]:
        """One finding per key and file with duplicates."""
        for found in self.rows():
            rows, groups = found.rows[:MAX_EXAMPLES], found.row_groups[:MAX_EXAMPLES]
            examples = tuple(Example(int(row), group, (), "") for row, group in zip(rows, groups, strict=True))
            field = key_field(found.key)
            checked = self._num_rows(found.key, found.uri)
            spread = RowSpread.of(found.rows)
            yield Finding(DUPLICATE_ROW, found.uri, field, len(found.rows), checked, examples, spread=spread)

    def _num_rows(self, key: tuple[str, ...], uri: str) -> int:
        return sum(len(where.rows) + where.num_unknown for _, owner, where in self._segments[key] if owner == uri)
