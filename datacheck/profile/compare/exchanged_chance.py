"""As :mod:`datacheck.profile.compare.chance`, of hashes in files: the work on each column and unit is shared."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from datacheck.hashing.key_files import (
    KeyFile,
    Range,
    damaged,
    put,
    ranges_of,
    read_at,
    read_counts,
    read_range,
    read_rows,
    write_counts,
)
from datacheck.hashing.store import count_in
from datacheck.jobs.sharding.result_store import digest
from datacheck.jobs.stage import Stage
from datacheck.leaves import IntArray
from datacheck.profile.compare.chance import Chance, expected_matches, log_chances
from datacheck.profile.exchanged_keys import ExchangedKeys, ExchangedMatches

_CHECKSUM_BYTES = 4


class ExchangedChance(Chance):
    """How many of the rows of a dataset, which were compared with the training data, match by chance."""

    def __init__(self, found: ExchangedMatches) -> None:
        super().__init__(sum(file.num_found for file in found.files))
        self._found = found
        self._totals = found.of.totals()
        self._expected = float(sum(self._totals.values()))
        self._num_train = dict.fromkeys(self._totals, math.inf)
        self._logs = ""

    @property
    def expected(self) -> float:
        return self._expected

    def add(self, columns: Sequence[tuple[ExchangedKeys, ExchangedKeys]]) -> None:
        """Add columns: the hashes of each in the training data and in the other dataset."""
        execution = self._found.of.execution
        name = digest(
            [self._logs, *([(file.uri, file.offset) for file in one.files] for pair in columns for one in pair)]
        )
        folder = f"{self._found.folder}-chance/{name}"
        ranges = [ranges_of([*train.files, *other.files]) for train, other in columns]
        wanted = [(column, *one) for column, some in enumerate(ranges) for one in enumerate(some)]
        count = partial(_count, columns=[(train.files, other.files) for train, other in columns], folder=folder)
        for _ in execution.map(count, wanted, stage=Stage("count values")):
            pass
        for train, other in columns:
            for uri in self._compared(other):
                self._num_train[uri] = min(self._num_train[uri], train.num_rows)
        add = partial(
            _add_columns,
            found=(self._found.folder, tuple(self._found.parts), len(self._found.of.files)),
            columns=[
                (len(some), len(other.files), train.num_rows)
                for some, (train, other) in zip(ranges, columns, strict=True)
            ],
            before=self._logs,
            folder=folder,
        )
        total = 0.0
        for one in execution.map(add, self._units(columns), stage=Stage("expect rows")):
            total += one
        self._expected, self._logs = total, folder

    def _compared(self, other: ExchangedKeys) -> set[str]:
        """The files of which a column has all rows."""
        return {uri for uri, count in other.totals().items() if self._totals.get(uri, 0) == count}

    def _units(self, columns: Sequence[tuple[ExchangedKeys, ExchangedKeys]]) -> list[_Unit]:
        """The units of rows, each with the units of the columns that have some of these rows."""
        by_column = [_by_file(other, self._compared(other)) for _, other in columns]
        files = self._found.of.files
        return [
            _Unit(
                number, file, self._num_train[uri], tuple(_same_rows(file, by_uri.get(uri, [])) for by_uri in by_column)
            )
            for number, (uri, file) in enumerate(zip(self._found.of.uris, files, strict=True))
        ]


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit of rows: its number, the file with their hashes, and for each column the units that have some of its rows."""

    number: int
    file: KeyFile
    num_train: float
    units: tuple[tuple[int, ...], ...]


def _by_file(keys: ExchangedKeys, uris: set[str]) -> Mapping[str, list[tuple[int, int]]]:
    """For each of some files the first row and the number of its units that have rows."""
    found: dict[str, list[tuple[int, int]]] = {}
    for number, (uri, file) in enumerate(zip(keys.uris, keys.files, strict=True)):
        if uri in uris and len(file.first_rows):
            found.setdefault(uri, []).append((int(file.first_rows[0]), number))
    return found


def _same_rows(file: KeyFile, units: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Units that may have rows of a unit: from the one that has its first row on."""
    if not len(file.first_rows):
        return ()
    first = int(file.first_rows[0])
    before = [number for start, number in units if start <= first]
    return (*before[-1:], *(number for start, number in units if first < start <= file.last_row))


def _count(
    wanted: tuple[int, int, Range], columns: Sequence[tuple[Sequence[KeyFile], Sequence[KeyFile]]], folder: str
) -> int:
    """Count how often the training data has each value of a range of a column, and leave that in a file by units."""
    column, number, part = wanted
    train, other = columns[column]
    left, right = read_range(train, part), read_range(other, part)
    counts = count_in(*np.unique(left.hashes, return_counts=True), right.hashes)
    write_counts(f"{folder}/{column}-{number}", right, np.arange(len(counts)), counts)
    return number


def _add_columns(
    unit: _Unit,
    found: tuple[str, tuple[int, ...], int],
    columns: Sequence[tuple[int, int, int]],
    before: str,
    folder: str,
) -> float:
    """Add columns to the chances of the rows of a unit; returns how many are expected to match."""
    rows = read_rows(unit.file)
    found_folder, parts, num_units = found
    is_found = np.zeros(len(rows), np.int64)
    for part in parts:
        is_found[np.searchsorted(rows, read_counts(f"{found_folder}/{part}", unit.number, num_units)["row"])] = 1
    logs = _read_logs(f"{before}/logs-{unit.number}", len(rows)) if before else np.zeros(len(rows))
    for column, (numbers, (num_parts, num_files, num_train)) in enumerate(zip(unit.units, columns, strict=True)):
        if not numbers:
            continue
        occurrences = np.zeros(len(rows), np.int64)
        for part in range(num_parts):
            for number in numbers:
                _set_counts(occurrences, rows, read_counts(f"{folder}/{column}-{part}", number, num_files))
        logs += log_chances(occurrences - is_found, num_train)
    content = logs.tobytes()
    put(f"{folder}/logs-{unit.number}", zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little") + content)
    return expected_matches(logs, unit.num_train)


def _set_counts(occurrences: IntArray, rows: IntArray, counts: Any) -> None:
    """Set the occurrences of the rows that were counted."""
    if not len(rows) or not len(counts):
        return
    places = np.minimum(np.searchsorted(rows, counts["row"]), len(rows) - 1)
    is_here = rows[places] == counts["row"]
    occurrences[places[is_here]] = counts["count"][is_here]


def _read_logs(uri: str, num_rows: int) -> np.ndarray[Any, Any]:
    content = read_at(uri, 0, _CHECKSUM_BYTES + 8 * num_rows)
    logs = content[_CHECKSUM_BYTES:]
    if zlib.crc32(logs) != int.from_bytes(content[:_CHECKSUM_BYTES], "little"):
        raise damaged(uri)
    return np.frombuffer(logs, np.float64).copy()
