"""Row hashes, in memory or, beyond a limit, in partitions on disk: find repeated rows, and rows that two stores share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from datacheck.distinct import distinct
from datacheck.hashing.numbers import Hashes
from datacheck.leaves import BoolArray, IntArray
from datacheck.storage.os_errors import scratch_errors

#: Hashes, and their ordinals in order; None if these are 0, 1, 2 and so on.
Part = tuple[Hashes, IntArray | None]

#: Bytes of hashes that a store keeps in memory.
SPILL_BYTES = 32 << 20
_NUM_PARTITIONS = 64
#: Rows that are sorted by partition and written together.
_ROWS_WRITTEN = 1 << 20
#: Hashes looked up together, and the bits of a lookup table that still fits the cache.
_BLOCK, _MAX_BITS = 1 << 16, 24
#: Hashes that are sorted to be looked up.
_SORTED_BLOCK = 1 << 18


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

    def parts(self) -> Iterator[Part]:
        """Yield hashes that may equal each other."""
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
        return any(len(repeated_positions(hashes)) for hashes, _ in self.parts())

    def repeated(self) -> IntArray:
        """The ordinals, sorted, of the rows whose hash occurred in an earlier row."""
        found = []
        for hashes, ordinals in self.parts():
            positions = repeated_positions(hashes)
            found.append(positions if ordinals is None else ordinals[positions])
        return np.sort(np.concatenate(found))


def _record_dtype(words: tuple[int, ...]) -> np.dtype[Any]:
    return np.dtype([("hash", "<u8", words), ("ordinal", "<i8")])


def _first_words(hashes: Hashes) -> Hashes:
    return hashes if hashes.ndim == 1 else np.ascontiguousarray(hashes[:, 0])


def _repeated_words(words: Hashes) -> Hashes:
    """The words that occur more than once, sorted."""
    ordered = np.sort(words)
    return distinct(ordered[1:][ordered[1:] == ordered[:-1]])


def repeated_positions(hashes: Hashes) -> IntArray:
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


def common_parts(first: HashStore, second: HashStore) -> Iterator[tuple[Part, Part]]:
    """The parts of two stores side by side: a hash that is in both is in parts of the same number."""
    if first.is_on_disk is not second.is_on_disk:
        (second if first.is_on_disk else first).spill()
    return zip(first.parts(), second.parts(), strict=True)


def matches(first: HashStore, second: HashStore) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the ordinals in ``second`` of hashes that occur in ``first``, and their first ordinals there.

    They come in parts, each in order, because all of them together may not fit in memory.
    """
    for (left, left_ordinals), (right, right_ordinals) in common_parts(first, second):
        found, origins = match_hashes(left, right)
        if len(found):
            yield (
                found if right_ordinals is None else right_ordinals[found],
                origins if left_ordinals is None else left_ordinals[origins],
            )


def match_hashes(left: Hashes, right: Hashes) -> tuple[IntArray, IntArray]:
    """The positions in ``right`` of hashes that occur in ``left``, in order, and the first position of each there."""
    left_places, right_places = _candidates(_first_words(left), _first_words(right))
    if left.ndim == 2 and right.ndim == 2:
        found_right, found_left = _match_words(left[left_places], right[right_places])
        return right_places[found_right], left_places[found_left]
    known, firsts = _distinct(left, left_places)
    found: list[tuple[IntArray, IntArray]] = []
    for start in range(0, len(right_places) if len(known) else 0, _SORTED_BLOCK):
        places = right_places[start : start + _SORTED_BLOCK]
        wanted = right[places]
        positions = places_in_sorted(known, wanted)
        is_known = known[positions] == wanted
        found.append((places[is_known], firsts[positions[is_known]]))
    nothing = np.empty(0, np.int64)
    return np.concatenate([nothing, *(one for one, _ in found)]), np.concatenate([nothing, *(one for _, one in found)])


def _match_words(left: Hashes, right: Hashes) -> tuple[IntArray, IntArray]:
    """As :func:`match_hashes`, for a few hashes of several words."""
    keys = np.concatenate([left, right])
    # A stable sort: of equal hashes the first of the left ones comes first.
    order = np.lexsort(keys.T)
    is_first = np.append(np.ones(min(1, len(keys)), np.bool_), ~_equals_previous(keys[order]))
    firsts = order[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    is_found = (order >= len(left)) & (firsts < len(left))
    found, origins = order[is_found] - len(left), firsts[is_found]
    in_order = np.argsort(found)
    return found[in_order], origins[in_order]


def _distinct(hashes: Hashes, places: IntArray) -> tuple[Hashes, IntArray]:
    """The distinct hashes at some places, sorted, and the first place of each; few at a time, as most may be equal."""
    found = [
        (values, some[firsts])
        for some in np.array_split(places, -(-len(places) // _ROWS_WRITTEN) or 1)
        for values, firsts in [np.unique(hashes[some], return_index=True)]
    ]
    if len(found) == 1:
        return found[0]
    values, order = np.unique(np.concatenate([one for one, _ in found]), return_index=True)
    return values, np.concatenate([firsts for _, firsts in found])[order]


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


def count_in(values: Hashes, counts: IntArray, wanted: Hashes) -> IntArray:
    """How often each wanted hash occurs, where ``values``, which are sorted, occur ``counts`` times."""
    if not len(values):
        return np.zeros(len(wanted), np.int64)
    found = places_in_sorted(values, wanted)
    return np.where(values[found] == wanted, counts[found], 0)


def places_in_sorted(ordered: Hashes, wanted: Hashes) -> IntArray:
    """The place of each wanted hash in ``ordered``, which is not empty; any place for one that is not there.

    In their order, hashes are looked up more than ten times as fast: neighbours are in the cache.
    """
    order = np.argsort(wanted)
    places = np.empty(len(wanted), np.int64)
    places[order] = np.minimum(np.searchsorted(ordered, wanted[order]), len(ordered) - 1)
    return places


def _mask_in_sorted(ordered: Hashes, wanted: Hashes) -> BoolArray:
    if not len(ordered):
        return np.zeros(len(wanted), np.bool_)
    mask = np.empty(len(wanted), np.bool_)
    for start in range(0, len(wanted), _SORTED_BLOCK):
        part = wanted[start : start + _SORTED_BLOCK]
        mask[start : start + _SORTED_BLOCK] = ordered[places_in_sorted(ordered, part)] == part
    return mask
