"""As :mod:`datacheck.profile.row_keys`, of datasets that no process reads alone: units leave the hashes in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from datacheck.findings import MAX_EXAMPLES
from datacheck.hashing.key_files import (
    Keyed,
    KeyFile,
    Range,
    are_there,
    ranges_of,
    read_range,
    write_counts,
    write_key_files,
)
from datacheck.hashing.numbers import Hashes
from datacheck.hashing.store import match_hashes, repeated_positions
from datacheck.jobs.execution import Execution
from datacheck.jobs.sharding.result_store import digest
from datacheck.jobs.stage import Stage
from datacheck.leaves import IntArray
from datacheck.profile.row_hashes import RowHashes
from datacheck.profile.row_keys import FileMatches, RowPlace
from datacheck.profile.unit import UnitProfile
from datacheck.storage import storage_of

#: Bytes of hashes of small units that are together in one file.
_MAX_TOGETHER = 64 << 20


def folder_of(execution: Execution) -> str | None:
    """Where the workers of a job leave hashes; None where these stay in memory."""
    return None if execution.exchange is None else f"{execution.exchange}/hashes"


@contextmanager
def hashes_in_files(execution: Execution) -> Iterator[None]:
    """A job whose workers may leave hashes in files, which are deleted unless other processes share the job."""
    try:
        yield
    finally:
        if not execution.is_shared and (folder := folder_of(execution)) is not None:
            storage_of(folder).delete_folder(folder)


@dataclass(slots=True)
class HashWriter:
    """Leaves the hashes of units that follow each other in files: those of small units together, up to some megabytes.

    ``uri`` is the name of the first file, and how those of further ones begin.
    """

    uri: str
    row_files: list[KeyFile] = field(default_factory=list)
    unique_files: list[KeyFile] = field(default_factory=list)
    repeated: set[str] = field(default_factory=set)
    _waiting: list[UnitProfile] = field(default_factory=list)
    _num_bytes: int = 0
    _num_files: int = 0

    def add(self, profile: UnitProfile) -> None:
        """Add the hashes of the next unit."""
        self.repeated |= {name for name, parts in profile.unique.items() if parts is None}
        self._waiting.append(replace(UnitProfile(), unique=profile.unique, rows=profile.rows, keys=profile.keys))
        self._num_bytes += sum(one.hashes.nbytes for one in profile.hashed.values())
        self._num_bytes += sum(part.nbytes for parts in profile.unique.values() for part in parts or ())
        if self._num_bytes > _MAX_TOGETHER:
            self._write()

    def finish(self, merged: UnitProfile) -> UnitProfile:
        """The profile of all units, whose hashes are in files."""
        self._write()
        return replace(
            merged,
            unique=dict.fromkeys(sorted(self.repeated)),
            row_files=tuple(self.row_files),
            unique_files=tuple(self.unique_files),
        )

    def _write(self) -> None:
        hashed: dict[tuple[str, ...], list[RowHashes]] = {}
        unique: dict[str, list[Hashes]] = {}
        for profile in self._waiting:
            for key, one in profile.hashed.items():
                hashed.setdefault(key, []).append(one)
            for name, parts in profile.unique.items():
                if name not in self.repeated:
                    unique.setdefault(name, []).extend(parts or ())
        columns = {name: np.concatenate(parts) for name, parts in unique.items() if parts}
        files = write_key_files(
            f"{self.uri}-{self._num_files}" if self._num_files else self.uri,
            [
                *(_keyed(key, some) for key, some in hashed.items()),
                *(Keyed((name,), hashes, np.arange(len(hashes)), []) for name, hashes in columns.items()),
            ],
        )
        self.row_files += files[: len(hashed)]
        self.unique_files += files[len(hashed) :]
        self._waiting, self._num_bytes, self._num_files = [], 0, self._num_files + 1


def _keyed(key: tuple[str, ...], some: Sequence[RowHashes]) -> Keyed:
    """The hashes of the rows of several units."""
    hashes = np.concatenate([one.hashes for one in some])
    rows = np.concatenate([one.rows.all() for one in some])
    return Keyed(key, hashes, rows, [run for one in some for run in _groups(one)])


def _groups(hashed: RowHashes) -> list[tuple[int, int | None]]:
    """The first row of each row group."""
    return [(hashed.rows[start], group) for start, group in hashed.groups if start < len(hashed.rows)]


def has_hashes(profile: UnitProfile) -> bool:
    """Whether the files with the hashes of a unit are still there."""
    return are_there([*profile.row_files, *profile.unique_files])


@dataclass(slots=True)
class ExchangedKeys:
    """The hashes of rows or of a key in files, each of one unit or of several that follow each other."""

    execution: Execution
    uris: list[str] = field(default_factory=list)
    files: list[KeyFile] = field(default_factory=list)
    _found: list[tuple[ExchangedKeys, ExchangedMatches]] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        return sum(file.num_rows for file in self.files)

    def add(self, uri: str, file: KeyFile) -> None:
        """Add the rows of the next units."""
        self.uris.append(uri)
        self.files.append(file)

    def close(self) -> None:
        """Nothing: the files are the job's."""

    def is_any_in(self, train: ExchangedKeys) -> bool:
        """Whether the training data has some of the hashes."""
        return bool(self.find_in(train).parts)

    def find_in(self, train: ExchangedKeys) -> ExchangedMatches:
        """The rows whose hashes the training data has: each range of partitions is searched by whoever has time."""
        for known, found in self._found:
            if known is train:
                return found
        ranges = list(enumerate(ranges_of([*train.files, *self.files])))
        found = ExchangedMatches(self, f"{folder_of(self.execution)}/{_name(train, self)}")
        search = partial(_match, train=train.files, other=self.files, folder=found.folder)
        results = self.execution.map(search, ranges, stage=Stage("compare rows"))
        for (number, _), (counts, pairs) in zip(ranges, results, strict=True):
            if len(counts):
                found.add(number, counts, pairs, train)
        self._found.append((train, found))
        return found

    def totals(self) -> dict[str, int]:
        """How many rows each file has."""
        totals: dict[str, int] = {}
        for uri, file in zip(self.uris, self.files, strict=True):
            totals[uri] = totals.get(uri, 0) + file.num_rows
        return totals

    def place(self, number: int, row: int) -> RowPlace:
        """Where a row of the unit ``number`` is."""
        (group,) = self.files[number].groups_of(np.array([row])) if len(self.files[number].first_rows) else (None,)
        return RowPlace(self.uris[number], row, group)


def _name(*keys: ExchangedKeys) -> str:
    return digest([[(file.uri, file.offset) for file in one.files] for one in keys])


def _match(
    wanted: tuple[int, Range], train: Sequence[KeyFile], other: Sequence[KeyFile], folder: str
) -> tuple[IntArray, IntArray]:
    """The rows of a range that are in the training data, too.

    How many in each unit, ``(units, 2)``, and the first of each with the unit and row in the training data, ``(pairs, 4)``.
    Of whole rows a file says which ones they are.
    """
    number, part = wanted
    left, right = read_range(train, part), read_range(other, part)
    positions, origins = match_hashes(left.hashes, right.hashes)
    if not len(positions):
        return np.empty((0, 2), np.int64), np.empty((0, 4), np.int64)
    owners = right.owners(positions)
    if not other[0].key:
        write_counts(f"{folder}/{number}", right, positions, 0)
    units, starts, counts = np.unique(owners, return_index=True, return_counts=True)
    order = np.lexsort((right.rows[positions], owners))
    chosen = order[np.arange(len(order)) - np.repeat(starts, counts) < MAX_EXAMPLES]
    found, origin = positions[chosen], origins[chosen]
    pairs = [owners[chosen], right.rows[found], left.owners(origin), left.rows[origin]]
    return np.stack([units, counts], axis=1), np.stack(pairs, axis=1)


@dataclass(slots=True)
class ExchangedMatches:
    """The rows of a dataset that the training data has, too; ``folder`` has them in a file for each of ``parts``."""

    of: ExchangedKeys
    folder: str
    parts: list[int] = field(default_factory=list)
    _counts: dict[int, int] = field(default_factory=dict)
    _first: dict[str, list[tuple[int, int, int, int]]] = field(default_factory=dict)
    _train: ExchangedKeys | None = None

    def add(self, part: int, counts: IntArray, pairs: IntArray, train: ExchangedKeys) -> None:
        """Add what was found in a range."""
        self.parts.append(part)
        self._train = train
        for unit, count in counts.tolist():
            self._counts[unit] = self._counts.get(unit, 0) + count
        by_file: dict[str, list[tuple[int, int, int, int]]] = {}
        for unit, row, train_unit, train_row in pairs.tolist():
            by_file.setdefault(self.of.uris[unit], []).append((unit, row, train_unit, train_row))
        for uri, some in by_file.items():
            self._first[uri] = sorted([*self._first.get(uri, ()), *some])[:MAX_EXAMPLES]

    @property
    def files(self) -> list[FileMatches]:
        """The files of the dataset."""
        files = {uri: FileMatches(uri, total) for uri, total in self.of.totals().items()}
        for unit, count in self._counts.items():
            files[self.of.uris[unit]].num_found += count
        for uri, pairs in self._first.items():
            assert self._train is not None
            files[uri].pairs = [(self.of.place(*pair[:2]), self._train.place(*pair[2:])) for pair in pairs]
        return list(files.values())


@dataclass(slots=True)
class ExchangedColumns:
    """The hashes of columns whose values may all be different, in files. Those that repeat a value are found in one pass."""

    execution: Execution
    files: dict[str, list[KeyFile]] = field(default_factory=dict)
    _repeated: set[str] | None = None

    def column(self, name: str) -> ExchangedColumn:
        """One of the columns, which may have no files yet."""
        self.files.setdefault(name, [])
        return ExchangedColumn(self, name)

    def repeated(self) -> set[str]:
        """The columns that repeat a value."""
        if self._repeated is None:
            names = list(self.files)
            wanted = [(number, one) for number, name in enumerate(names) for one in ranges_of(self.files[name])]
            search = partial(_has_repeated, files=[self.files[name] for name in names])
            results = self.execution.map(search, wanted, stage=Stage("compare columns"))
            found = [number for (number, _), is_repeated in zip(wanted, results, strict=True) if is_repeated]
            self._repeated = {names[number] for number in found}
        return self._repeated


def _has_repeated(wanted: tuple[int, Range], files: Sequence[Sequence[KeyFile]]) -> bool:
    number, part = wanted
    return bool(len(repeated_positions(read_range(files[number], part).hashes)))


@dataclass(frozen=True, slots=True)
class ExchangedColumn:
    """One of the columns."""

    columns: ExchangedColumns
    name: str

    @property
    def num_rows(self) -> int:
        return sum(file.num_rows for file in self.columns.files[self.name])

    def has_repeated(self) -> bool:
        """Whether two rows have the same hash."""
        return self.name in self.columns.repeated()

    def close(self) -> None:
        """Leave the column out."""
        self.columns.files.pop(self.name, None)
