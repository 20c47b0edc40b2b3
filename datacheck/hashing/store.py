"""Hashes of rows, in memory or, beyond a bound, in partitions on disk: which are repeated, and which stand in both of two."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from datacheck.hashing.numbers import Hashes
from datacheck.leaves import IntArray

__all__ = ["HashStore", "matches"]

#: Bytes of hashes that are kept in memory.
SPILL_BYTES = 128 << 20
_NUM_PARTITIONS = 64
#: Rows that are put in order of their partitions and written together.
_ROWS_WRITTEN = 1 << 20
#: Hashes that are looked up together, and bits of them at most, for a table that stays in the cache.
_BLOCK, _MAX_BITS = 1 << 16, 24
_RECORD = np.dtype([("hash", "<u8"), ("ordinal", "<i8")])


class HashStore:
    """Hashes in the order of the data set. A context manager: what it keeps on disk goes with it."""

    def __init__(self, spill_bytes: int = SPILL_BYTES) -> None:
        self.num_rows = 0
        self._spill_bytes = spill_bytes
        self._held: list[Hashes] = []
        self._held_rows = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> HashStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything."""
        for file in self._files:
            file.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._held, self._held_rows, self._files, self._folder = [], 0, [], None

    @property
    def is_on_disk(self) -> bool:
        return bool(self._files)

    def add(self, hashes: Hashes) -> None:
        """Add the hashes ``(rows,)`` of the next rows."""
        self._held.append(hashes)
        self._held_rows += len(hashes)
        self.num_rows += len(hashes)
        if self._held_rows * 8 > self._spill_bytes:
            self.spill()

    def spill(self) -> None:
        """Move what is in memory to disk."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="datacheck-rows-")
            self._files = [(Path(self._folder.name) / f"{number:02d}").open("ab") for number in range(_NUM_PARTITIONS)]
        first = self.num_rows - self._held_rows
        while self._held:
            # One part after the other: all of them at once would take several times the memory that is to be spared.
            first += self._write(self._held.pop(0), first)
        self._held_rows = 0
        for file in self._files:
            file.flush()

    def _write(self, hashes: Hashes, first: int) -> int:
        """Write hashes, of which the first has the ordinal ``first``, to their partitions; how many they are."""
        for start in range(0, len(hashes), _ROWS_WRITTEN):
            part = hashes[start : start + _ROWS_WRITTEN]
            partition = (part >> np.uint64(58)).astype(np.uint8)
            order = np.argsort(partition, kind="stable")
            records = np.empty(len(part), _RECORD)
            records["hash"], records["ordinal"] = part[order], order + (first + start)
            ends = np.searchsorted(partition[order], np.arange(_NUM_PARTITIONS + 1))
            for number, file in enumerate(self._files):
                records[ends[number] : ends[number + 1]].tofile(file)
        return len(hashes)

    def parts(self) -> Iterator[tuple[Hashes, IntArray | None]]:
        """Hashes that may equal each other, and their ordinals; None where these are 0, 1, 2 and so on."""
        if not self._files:
            if len(self._held) != 1:
                self._held = [np.concatenate(self._held) if self._held else np.empty(0, np.uint64)]
            yield self._held[0], None
            return
        self.spill()
        for file in self._files:
            records = np.fromfile(Path(file.name), _RECORD)
            yield np.ascontiguousarray(records["hash"]), np.ascontiguousarray(records["ordinal"])

    def has_repeated(self) -> bool:
        """Whether two rows have the same hash."""
        return any(_has_equal(hashes) for hashes, _ in self.parts())


def _has_equal(hashes: Hashes) -> bool:
    ordered = np.sort(hashes)
    return bool((ordered[1:] == ordered[:-1]).any())


def matches(first: HashStore, second: HashStore) -> Iterator[tuple[IntArray, IntArray]]:
    """The ordinals in ``second`` of hashes that stand in ``first``, and where each stands there first.

    They come in parts, each in order: all of them together may be more than memory holds.
    """
    if first.is_on_disk is not second.is_on_disk:
        (second if first.is_on_disk else first).spill()
    for (left, left_ordinals), (right, right_ordinals) in zip(first.parts(), second.parts(), strict=True):
        # Nearly all hashes are ruled out by a few of their bits, and only the others have to be put in order.
        places = _may_be_in(left, right, 0)
        found = _may_be_in(right, left[places], _MAX_BITS)
        ordered = np.sort(left[places])
        # In order, they are looked up many times faster, and most often there is none.
        if not _mask_in_sorted(ordered, np.sort(right[found])).any():
            continue
        found = found[_mask_in_sorted(ordered, right[found])]
        places = places[_mask_in_sorted(np.sort(right[found]), left[places])]
        distinct, where = np.unique(left[places], return_index=True)
        origin = places[where[np.searchsorted(distinct, right[found])]]
        yield (
            found if right_ordinals is None else right_ordinals[found],
            origin if left_ordinals is None else left_ordinals[origin],
        )


def _may_be_in(hashes: Hashes, others: Hashes, shift: int) -> IntArray:
    """The places, in order, of hashes that may be among others: all of those that are, and about an eighth of the rest.

    They are told by some bits, which begin at ``shift``.
    """
    num_bits = min(_MAX_BITS, (8 * len(others)).bit_length())
    mask, lowest = np.uint64((1 << num_bits) - 1), np.uint64(shift)
    known = np.zeros(1 << num_bits, np.bool_)
    for start in range(0, len(others), _BLOCK):
        known[(others[start : start + _BLOCK] >> lowest & mask).view(np.int64)] = True
    found = [
        np.flatnonzero(known.take((hashes[start : start + _BLOCK] >> lowest & mask).view(np.int64))) + start
        for start in range(0, len(hashes), _BLOCK)
    ]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _mask_in_sorted(ordered: Hashes, wanted: Hashes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if not len(ordered):
        return np.zeros(len(wanted), np.bool_)
    places = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    mask: np.ndarray[Any, np.dtype[np.bool_]] = ordered[places] == wanted
    return mask
