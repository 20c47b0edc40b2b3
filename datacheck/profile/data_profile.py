"""The profile of a dataset, merged from the profiles of its units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from datacheck.checks.structure import FieldFacts
from datacheck.errors import SourceError
from datacheck.findings import Finding, merge_findings
from datacheck.formats import find_format
from datacheck.hashing.store import HashStore
from datacheck.jobs.execution import Execution
from datacheck.jobs.file_verdict import FileVerdict, columns_of, with_count
from datacheck.profile.exchanged_keys import ExchangedColumn, ExchangedColumns, ExchangedKeys
from datacheck.profile.leaf import LeafProfile
from datacheck.profile.new_values import NewValues
from datacheck.profile.notes.leaf_notes import LeafNotes
from datacheck.profile.notes.row_lengths import RowLengths
from datacheck.profile.notes.spans import Span
from datacheck.profile.row_keys import LocalKeys
from datacheck.profile.unit import LeafKey, UnitProfile, add_part, merge_by_key

#: The hashes of a dataset's rows or of one of its keys. All datasets of a comparison have the same kind.
RowKeys = LocalKeys | ExchangedKeys


@dataclass(slots=True)
class FileProfile:
    """The format, fields and number of rows of one file.

    ``findings`` come from reading it. ``num_values`` has for each path the number of slots, and of slots with a value.
    """

    uri: str
    format: str = ""
    num_rows: int = 0
    num_bytes: int = 0
    num_malformed: int = 0
    fields: dict[str | None, FieldFacts] = field(default_factory=dict)
    names: dict[str | None, int] = field(default_factory=dict)
    new_values: dict[str | None, NewValues] = field(default_factory=dict)
    spans: dict[LeafKey, Span] = field(default_factory=dict)
    aligned: bool = True
    error: SourceError | None = None
    findings: list[Finding] = field(default_factory=list)
    num_values: dict[str | None, tuple[int, int]] = field(default_factory=dict)

    @property
    def has_dtypes(self) -> bool:
        """Whether the file itself says which dtypes its columns have."""
        record = find_format(self.format) if self.format else None
        return record is None or record.has_dtypes

    def verdict(self) -> FileVerdict:
        """What reading the file found, and its columns, to be compared with other files."""
        found = [with_count(one, self.num_rows, self.num_values) for one in merge_findings(self.findings)]
        columns = () if self.error is not None else columns_of(self.fields, self.num_values)
        return FileVerdict(self.uri, tuple(found), self.num_rows, self.num_bytes, columns)


@dataclass(slots=True)
class DataProfile:
    """The profile of a dataset. A context manager, because its hashes may be spilled to disk.

    ``keys_of`` has for each path its keys in ``leaves``, one per dtype.
    ``unique`` holds the hashes of each column whose values may all be different. ``keys`` holds the hashes of each key,
    the empty key standing for whole rows. ``is_quick`` says that the row hashes leave out some values. With ``execution``,
    units leave hashes in files.
    """

    execution: Execution | None = None

    files: list[FileProfile] = field(default_factory=list)
    leaves: dict[LeafKey, LeafProfile] = field(default_factory=dict)
    keys_of: dict[str | None, list[LeafKey]] = field(default_factory=dict)
    notes: dict[LeafKey, LeafNotes] = field(default_factory=dict)
    row_lengths: RowLengths = field(default_factory=RowLengths)
    unique: dict[str, HashStore | ExchangedColumn] = field(default_factory=dict)
    keys: dict[tuple[str, ...], RowKeys] = field(default_factory=dict)
    is_quick: bool = False
    _not_unique: set[str] = field(default_factory=set, repr=False)
    _columns: ExchangedColumns | None = field(default=None, repr=False)

    def __enter__(self) -> DataProfile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was spilled to disk."""
        for store in [*self.unique.values(), *self.keys.values()]:
            store.close()

    @property
    def num_rows(self) -> int:
        return sum(file.num_rows for file in self.files)

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)

    @property
    def errors(self) -> list[SourceError]:
        return [file.error for file in self.files if file.error is not None]

    @property
    def is_model(self) -> bool:
        """Whether the arrays of all files are weights of a model."""
        fields = [facts for file in self.files for facts in file.fields.values()]
        return bool(fields) and all(facts.is_parameter or facts.problem for facts in fields)

    def of_path(self, path: str | None) -> list[LeafProfile]:
        """The profiles of one path, one per dtype."""
        return [self.leaves[key] for key in self.keys_of.get(path, ())]

    def add(self, file: FileProfile, unit: UnitProfile) -> None:
        """Add the next unit of ``file``, the last file so far, or several that were merged. Hashes are added apart."""
        add_part(file, unit)
        file.error = file.error or unit.error
        file.findings = merge_findings([*file.findings, *unit.findings]) if unit.findings else file.findings
        for key, notes in unit.notes.items():
            notes.set_file(file.uri)
            file.spans[key] = Span.of(unit.leaves[key]).merged(file.spans.get(key))
        merge_by_key(self.notes, unit.notes)
        unit.row_lengths.set_file(file.uri)
        self.row_lengths.merge(unit.row_lengths)
        for key, profile in unit.leaves.items():
            slots, present = file.num_values.get(profile.path, (0, 0))
            file.num_values[profile.path] = (slots + profile.num_slots, present + profile.num_present)
            if key not in self.leaves:
                self.keys_of.setdefault(profile.path, []).append(key)
        merge_by_key(self.leaves, unit.leaves)
        self.is_quick = self.is_quick or unit.is_quick

    def add_hashes(self, file: FileProfile, unit: UnitProfile) -> None:
        """Add the hashes of the next unit of ``file``, or the files with those of several."""
        self._add_unique(unit)
        if file.aligned:
            for names, some in unit.hashed.items():
                cast("LocalKeys", self.keys.setdefault(names, LocalKeys())).add(file.uri, some)
            for one in unit.row_files:
                assert self.execution is not None
                keys = self.keys.setdefault(one.key, ExchangedKeys(self.execution))
                cast("ExchangedKeys", keys).add(file.uri, one)

    def _add_unique(self, unit: UnitProfile) -> None:
        for name, parts in unit.unique.items():
            if parts is None:
                self._not_unique.add(name)
                if name in self.unique:
                    self.unique.pop(name).close()
            elif name not in self._not_unique:
                store = cast("HashStore", self.unique.setdefault(name, HashStore()))
                for part in parts:
                    store.add(part)
        for one in unit.unique_files:
            (name,) = one.key
            if name not in self._not_unique:
                assert self.execution is not None
                self._columns = self._columns or ExchangedColumns(self.execution)
                self.unique[name] = self._columns.column(name)
                self._columns.files[name].append(one)
