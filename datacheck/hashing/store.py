"""Row hashes, in memory or, beyond a limit, in partitions on disk: find repeated rows, and rows that two stores share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from datacheck.hashing.numbers import Hashes
from datacheck.leaves import BoolArray, IntArray
from datacheck.storage.os_errors import scratch_errors

__all__ = ["HashStore", "matches"]

#: Bytes of hashes that a store keeps in memory.
SPILL_BYTES = 128 << 20
_NUM_PARTITIONS = 64
#: Rows that are sorted by partition and written together.
_ROWS_WRITTEN = 1 << 20
#: Hashes that are looked up together, and the bits of a lookup table that still fits the cache.
_BLOCK, _MAX_BITS = 1 << 16, 24


class HashStore:
    """Hashes of one or more words, ``(rows,)`` or ``(rows, words)``, in dataset order.

    A row's ordinal is its position in that order. A context manager: leaving it deletes what was spilled to disk.
    """

    def __init__(self, spill_bytes: int = SPILL_BYTES) -> None:
        self.num_rows = 0
        self._spill_bytes = spill_bytes
        self._held: list[Hashes] = []
        self._held_rows = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: list[IO[bytes]] = []
        self._record = _record_dtype(())

    def __enter__(self) -> HashStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the memory and delete the files."""
        for file in self._files:
            # What does not fit on the disk any more need not be written.
            with suppress(OSError):
                file.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._held, self._held_rows, self._files, self._folder = [], 0, [], None

    @property
    def is_on_disk(self) -> bool:
        return bool(self._files)

    def add(self, hashes: Hashes) -> None:
        """Add the hashes of the next rows."""
        self._held.append(hashes)
        self._held_rows += len(hashes)
        self.num_rows += len(hashes)
        if self._held_rows * hashes.itemsize * hashes[:1].size > self._spill_bytes:
            self.spill()

    def spill(self) -> None:
        """Move the hashes in memory to disk."""
        with scratch_errors():
            self._spill()

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="datacheck-rows-")
            self._files = [(Path(self._folder.name) / f"{number:02d}").open("ab") for number in range(_NUM_PARTITIONS)]
        first = self.num_rows - self._held_rows
        while self._held:
            # One part at a time: a copy of all of them would take the memory that spilling is meant to free.
            first += self._write(self._held.pop(0), first)
        self._held_rows = 0
        for file in self._files:
            file.flush()

    def _write(self, hashes: Hashes, first: int) -> int:
        """Write hashes to their partitions and return their number; ``first`` is the ordinal of the first one."""
        self._record = _record_dtype(hashes.shape[1:])
        for start in range(0, len(hashes), _ROWS_WRITTEN):
            part = hashes[start : start + _ROWS_WRITTEN]
            partition = (_first_words(part) >> np.uint64(58)).astype(np.uint8)
            order = np.argsort(partition, kind="stable")
            records = np.empty(len(part), self._record)
            records["hash"], records["ordinal"] = part[order], order + (first + start)
            ends = np.searchsorted(partition[order], np.arange(_NUM_PARTITIONS + 1))
            for number, file in enumerate(self._files):
                file.write(records[ends[number] : ends[number + 1]].view(np.uint8).data)
        return len(hashes)

    def parts(self) -> Iterator[tuple[Hashes, IntArray | None]]:
        """Yield hashes that may equal each other, with their ordinals in order; None if these are 0, 1, 2 and so on."""
        if not self._files:
            if len(self._held) != 1:
                self._held = [np.concatenate(self._held) if self._held else np.empty(0, np.uint64)]
            yield self._held[0], None
            return
        self.spill()
        for file in self._files:
            records = np.fromfile(Path(file.name), self._record)
            yield np.ascontiguousarray(records["hash"]), np.ascontiguousarray(records["ordinal"])

    def has_repeated(self) -> bool:
        """Whether two rows have the same hash."""
        return any(len(_repeated(hashes)) for hashes, _ in self.parts())

    def repeated(self) -> IntArray:
        """The ordinals, sorted, of the rows whose hash occurred in an earlier row."""
        found = []
        for hashes, ordinals in self.parts():
            positions = _repeated(hashes)
            found.append(positions if ordinals is None else ordinals[positions])
        return np.sort(np.concatenate(found))


def _record_dtype(words: tuple[int, ...]) -> np.dtype[Any]:
    return np.dtype([("hash", "<u8", words), ("ordinal", "<i8")])


def _first_words(hashes: Hashes) -> Hashes:
    return hashes if hashes.ndim == 1 else np.ascontiguousarray(hashes[:, 0])


def _repeated_words(words: Hashes) -> Hashes:
    """The words that occur more than once, sorted."""
    ordered = np.sort(words)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _repeated(hashes: Hashes) -> IntArray:
    """The positions of hashes that occur at an earlier position."""
    words = _first_words(hashes)
    shared = _repeated_words(words)
    if not len(shared):
        return np.empty(0, np.int64)
    candidates = np.flatnonzero(_mask_in_sorted(shared, words))
    keys = hashes[candidates].reshape(len(candidates), -1)
    # Stable sorts: among equal hashes the first position comes first.
    order = np.argsort(keys[:, 0], kind="stable")
    is_repeated = _equals_previous(keys[order])
    if not np.array_equal(is_repeated, _equals_previous(keys[order, :1])):
        order = np.lexsort(keys.T)
        is_repeated = _equals_previous(keys[order])
    return candidates[order[1:][is_repeated]]


def _equals_previous(keys: Hashes) -> BoolArray:
    mask: BoolArray = np.logical_and.reduce(keys[1:] == keys[:-1], axis=1)
    return mask


def matches(first: HashStore, second: HashStore) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the ordinals in ``second`` of hashes of one word that occur in ``first``, and their first ordinals there.

    They come in parts, each in order, because all of them together may not fit in memory.
    """
    if first.is_on_disk is not second.is_on_disk:
        (second if first.is_on_disk else first).spill()
    for (left, left_ordinals), (right, right_ordinals) in zip(first.parts(), second.parts(), strict=True):
        found, origins = _match(left, right)
        if len(found):
            yield (
                found if right_ordinals is None else right_ordinals[found],
                origins if left_ordinals is None else left_ordinals[origins],
            )


def _match(left: Hashes, right: Hashes) -> tuple[IntArray, IntArray]:
    """The positions in ``right`` of hashes that occur in ``left``, in order, and the first position of each there."""
    left_places, right_places = _candidates(left, right)
    known = np.sort(left[left_places])
    # Sorted hashes are looked up many times faster, and usually none is found.
    if not _mask_in_sorted(known, np.sort(right[right_places])).any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    right_places = right_places[_mask_in_sorted(known, right[right_places])]
    left_places = left_places[_mask_in_sorted(np.sort(right[right_places]), left[left_places])]
    distinct, firsts = np.unique(left[left_places], return_index=True)
    return right_places, left_places[firsts[np.searchsorted(distinct, right[right_places])]]


def _candidates(left: Hashes, right: Hashes) -> tuple[IntArray, IntArray]:
    """The positions on either side of hashes that may occur on the other: nearly all others are ruled out by a few bits."""
    left_places = _may_occur(left, right, 0)
    return left_places, _may_occur(right, left[left_places], _MAX_BITS)


def _may_occur(hashes: Hashes, others: Hashes, shift: int) -> IntArray:
    """The positions, in order, of hashes that may be among others: all that are, and about an eighth of the rest.

    Hashes are compared by a few of their bits, from bit ``shift`` on.
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


def _mask_in_sorted(ordered: Hashes, wanted: Hashes) -> BoolArray:
    if not len(ordered):
        return np.zeros(len(wanted), np.bool_)
    positions = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    mask: BoolArray = ordered[positions] == wanted
    return mask
