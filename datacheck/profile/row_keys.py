"""The hashes of the rows, or of a key, of a dataset, and which of them another dataset has."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from datacheck.findings import MAX_EXAMPLES
from datacheck.hashing.store import HashStore, matches
from datacheck.leaves import IntArray
from datacheck.profile.coalesce_batches import RowGroupStarts
from datacheck.profile.row_hashes import RowHashes, RowNumbers


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of one unit within the dataset: the ordinal of the first one, and where they are."""

    start: int
    uri: str
    rows: RowNumbers
    groups: RowGroupStarts


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where a row is."""

    uri: str
    row: int
    row_group: int | None


@dataclass(slots=True)
class FileMatches:
    """The rows of a file that the training data has, too: how many of how many, and the first, each with the row there."""

    uri: str
    num_rows: int = 0
    num_found: int = 0
    pairs: list[tuple[RowPlace, RowPlace]] = field(default_factory=list)


@dataclass(slots=True)
class LocalKeys:
    """The hashes of rows or of a key in this process, in dataset order, and where they are."""

    store: HashStore = field(default_factory=HashStore)
    segments: list[Segment] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        return self.store.num_rows

    def add(self, uri: str, hashed: RowHashes) -> None:
        """Add the rows of the next unit."""
        self.segments.append(Segment(self.store.num_rows, uri, hashed.rows, hashed.groups))
        self.store.add(hashed.hashes)

    def close(self) -> None:
        """Delete what was spilled to disk."""
        self.store.close()

    def is_any_in(self, train: LocalKeys) -> bool:
        """Whether the training data has some of the hashes."""
        return any(matches(train.store, self.store))

    def find_in(self, train: LocalKeys) -> LocalMatches:
        """The rows whose hashes the training data has."""
        files = {segment.uri: FileMatches(segment.uri) for segment in self.segments}
        for segment in self.segments:
            files[segment.uri].num_rows += len(segment.rows)
        numbers = {uri: number for number, uri in enumerate(files)}
        owners = np.array([numbers[segment.uri] for segment in self.segments])
        starts = np.array([segment.start for segment in self.segments])
        first: list[list[tuple[int, int]]] = [[] for _ in files]
        counts = np.zeros(len(files), np.int64)
        found: list[IntArray] = []
        for ordinals, origins in matches(train.store, self.store):
            found.append(ordinals)
            of_files = owners[np.searchsorted(starts, ordinals, side="right") - 1]
            counts += np.bincount(of_files, minlength=len(files))
            for number in np.unique(of_files).tolist():
                chosen = np.flatnonzero(of_files == number)[:MAX_EXAMPLES]
                pairs = zip(ordinals[chosen].tolist(), origins[chosen].tolist(), strict=True)
                first[number] = sorted([*first[number], *pairs])[:MAX_EXAMPLES]
        for file, count, some in zip(files.values(), counts.tolist(), first, strict=True):
            file.num_found = count
            file.pairs = [(self._place(ordinal), train._place(origin)) for ordinal, origin in some]
        return LocalMatches(list(files.values()), found, self)

    def _place(self, ordinal: int) -> RowPlace:
        segment = self.segments[bisect_right(self.segments, ordinal, key=lambda segment: segment.start) - 1]
        offset = ordinal - segment.start
        group = next((group for start, group in reversed(segment.groups) if start <= offset), None)
        return RowPlace(segment.uri, segment.rows[offset], group)

    def spans(self) -> Iterator[tuple[str, int, int]]:
        """For each file, the ordinal of its first row and how many rows it has."""
        spans: dict[str, tuple[int, int]] = {}
        for segment in self.segments:
            start, count = spans.get(segment.uri, (segment.start, 0))
            spans[segment.uri] = start, count + len(segment.rows)
        return ((uri, start, count) for uri, (start, count) in spans.items())


@dataclass(frozen=True, slots=True)
class LocalMatches:
    """The rows of a dataset that the training data has, too, by file, and their ordinals in the dataset."""

    files: list[FileMatches]
    ordinals: list[IntArray]
    of: LocalKeys
