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


def leave_hashes(profile: UnitProfile, uri: str) -> UnitProfile:
    """The profile of a unit, whose hashes are in a file."""
    unique = {name: np.concatenate(parts) for name, parts in profile.unique.items() if parts is not None}
    files = write_key_files(
        uri,
        [
            *(Keyed(key, one.hashes, one.rows.all(), _groups(one)) for key, one in profile.hashed.items()),
            *(Keyed((name,), hashes, np.arange(len(hashes)), []) for name, hashes in unique.items()),
        ],
    )
    num_keys = len(profile.hashed)
    left: dict[str, list[Hashes] | None] = {name: parts for name, parts in profile.unique.items() if parts is None}
    return replace(profile, rows=None, keys={}, unique=left, row_files=files[:num_keys], unique_files=files[num_keys:])


def _groups(hashed: RowHashes) -> list[tuple[int, int | None]]:
    """The first row of each row group."""
    return [(hashed.rows[start], group) for start, group in hashed.groups if start < len(hashed.rows)]


def has_hashes(profile: UnitProfile) -> bool:
    """Whether the files with the hashes of a unit are still there."""
    return are_there([*profile.row_files, *profile.unique_files])


@dataclass(slots=True)
class ExchangedKeys:
    """The hashes of rows or of a key in files, one a unit."""

    execution: Execution
    uris: list[str] = field(default_factory=list)
    files: list[KeyFile] = field(default_factory=list)
    _found: list[tuple[ExchangedKeys, ExchangedMatches]] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        return sum(file.num_rows for file in self.files)

    def add(self, uri: str, file: KeyFile) -> None:
        """Add the rows of the next unit."""
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
