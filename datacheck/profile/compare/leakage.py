"""Rows and keys that occur in two datasets: which ones to hash again, which ones match, and where they are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from datacheck.findings import MAX_EXAMPLES, Example, Finding, Severity
from datacheck.hashing.store import matches
from datacheck.leaves import IntArray
from datacheck.profile.compare.chance import ChanceMatches
from datacheck.profile.compare.dtype_alignment import DtypeAlignment, align_dtypes
from datacheck.profile.compare.row_columns import RowColumns, common_row_columns, comparable_keys
from datacheck.profile.data_profile import DataProfile, Segment
from datacheck.text import plain

#: The columns of a key; the empty key is the whole row.
Key = tuple[str, ...]

#: Ordinals in one dataset, and the ordinals of the same hashes in the training data.
_Matches = Iterator[tuple[IntArray, IntArray]]

#: Pairs of rows that a finding's detail names.
_MAX_PAIRS = 3
#: From this many pairs of rows on, two different ones share a hash with a chance of more than one in a million.
_MANY_PAIRS = 1 << 44


@dataclass(frozen=True, slots=True)
class LeakPlan:
    """What to compare: ``reuse`` are keys whose hashes are at hand, ``rehash`` those that need other columns or dtypes."""

    columns: RowColumns
    alignment: DtypeAlignment
    reuse: tuple[Key, ...]
    rehash: tuple[Key, ...]
    notes: tuple[Finding, ...]

    def steps(self) -> list[tuple[tuple[Key, ...], bool]]:
        """The keys to search for, and whether to hash them again; whole rows come first."""
        steps = [(self.reuse, False), (self.rehash, True)]
        if () in self.rehash:
            steps.reverse()
        return [(keys, is_rehashed) for keys, is_rehashed in steps if keys]


def plan_leak_search(
    train: DataProfile, other: DataProfile, name: str, keys: Iterable[Key], row_exclude: Sequence[str]
) -> LeakPlan:
    """Decide by which columns rows and keys are compared, and which hashes can be reused; ``name`` is the other dataset."""
    alignment = align_dtypes(train, other)
    columns = common_row_columns(train, other, row_exclude, alignment.disjoint)
    comparable, key_notes = comparable_keys(keys, other, alignment.disjoint)
    rehash = [key for key in comparable if alignment.affects(key)]
    reuse = [key for key in comparable if key not in rehash]
    if columns.names:
        needs_rehash = columns.is_partial or alignment.affects(columns.names)
        # A match of quick hashes covers only a few values of long rows.
        needs_rehash = needs_rehash or (train.is_quick and may_leak(train, other))
        (rehash if needs_rehash else reuse).insert(0, ())
    return LeakPlan(columns, alignment, tuple(reuse), tuple(rehash), (*columns.findings(name), *key_notes))


def may_leak(train: DataProfile, other: DataProfile, key: Key = ()) -> bool:
    """Whether some hash of rows, or of a key, occurs in both datasets."""
    return key in train.keys and key in other.keys and any(matches(train.keys[key], other.keys[key]))


def may_collide(train: DataProfile, other: DataProfile) -> bool:
    """Whether there are enough pairs of rows for two different ones to share a hash."""
    return train.num_rows * other.num_rows > _MANY_PAIRS


def find_leaks(
    train: DataProfile,
    other: DataProfile,
    keys: Iterable[Key],
    confirmation: tuple[DataProfile, DataProfile] | None = None,
    chance: Callable[[IntArray, Sequence[Segment]], ChanceMatches] | None = None,
    significance: float = 0.001,
) -> Iterator[Finding]:
    """Yield a finding for each file of ``other`` with rows or keys that also occur in the training data.

    ``confirmation`` holds both datasets hashed with another salt: only rows that match there, too, count. ``chance``
    says of the rows found how many are to be expected anyway; a number that chance explains is only a note.
    """
    for key in keys:
        if key not in train.keys or key not in other.keys:
            if key and other.num_rows and train.num_rows:
                detail = "a column of this key is missing in one of the datasets"
                yield Finding("DC315", other.files[0].uri, ", ".join(key), 1, 1, detail=detail)
            continue
        found = matches(train.keys[key], other.keys[key])
        if confirmation is not None:
            confirmed = matches(confirmation[0].keys[key], confirmation[1].keys[key])
            found = _confirm(found, confirmed, other.keys[key].num_rows)
        segments = train.segments[key], other.segments[key]
        if key or chance is None:
            yield from _findings_by_file(key, found, *segments)
            continue
        pairs = list(found)
        if pairs:
            expected = chance(np.concatenate([ordinals for ordinals, _ in pairs]), other.segments[key])
            for finding in _findings_by_file(key, iter(pairs), *segments):
                yield _with_chance(finding, expected, significance)


def _with_chance(finding: Finding, expected: ChanceMatches, significance: float) -> Finding:
    """The finding with the number of matches that chance explains; a note if it explains all."""
    number = expected.expected
    if expected.explains(significance):
        detail = f"{finding.detail}; about {number:,.0f} in all are expected by chance, so this may not be a leak"
        return replace(finding, severity=Severity.INFO, detail=detail)
    if number >= 0.5:
        return replace(finding, detail=f"{finding.detail}; chance explains only about {number:,.0f} in all")
    return finding


def _confirm(found: _Matches, confirmed: _Matches, num_rows: int) -> _Matches:
    """The matches that are also among the confirmed ones."""
    is_confirmed = np.zeros(num_rows, np.bool_)
    for ordinals, _ in confirmed:
        is_confirmed[ordinals] = True
    for ordinals, origins in found:
        yield ordinals[is_confirmed[ordinals]], origins[is_confirmed[ordinals]]


def _findings_by_file(
    key: Key, found: _Matches, train: Sequence[Segment], other: Sequence[Segment]
) -> Iterator[Finding]:
    """Count the matches of each file, and describe its first ones."""
    numbers: dict[str, int] = {}
    owners = np.array([numbers.setdefault(segment.uri, len(numbers)) for segment in other])
    totals = np.bincount(owners, [len(segment.rows) for segment in other])
    starts = np.array([segment.start for segment in other])
    counts = np.zeros(len(numbers), np.int64)
    first: list[list[tuple[int, int]]] = [[] for _ in numbers]
    for ordinals, origins in found:
        files = owners[np.searchsorted(starts, ordinals, side="right") - 1]
        counts += np.bincount(files, minlength=len(numbers))
        for file in np.unique(files).tolist():
            chosen = np.flatnonzero(files == file)[:MAX_EXAMPLES]
            pairs = zip(ordinals[chosen].tolist(), origins[chosen].tolist(), strict=True)
            first[file] = sorted([*first[file], *pairs])[:MAX_EXAMPLES]
    code, field = ("DC311", ", ".join(key)) if key else ("DC310", None)
    for uri, file in numbers.items():
        if counts[file]:
            examples, detail = _describe_pairs(first[file], train, other, "matches" if key else "is")
            yield Finding(code, uri, field, int(counts[file]), int(totals[file]), examples, detail=detail)


def _describe_pairs(
    pairs: Iterable[tuple[int, int]], train: Sequence[Segment], other: Sequence[Segment], verb: str
) -> tuple[tuple[Example, ...], str]:
    """Examples of matching rows, and a text with the first few."""
    examples: list[Example] = []
    texts: list[str] = []
    for ordinal, origin in pairs:
        _, row, group = _locate(other, ordinal)
        uri, origin_row, _ = _locate(train, origin)
        match = f"row {origin_row} of {plain(uri)}"
        examples.append(Example(row, group, (), match))
        texts.append(f"row {row} {verb} {match}")
    return tuple(examples), "; ".join(texts[:_MAX_PAIRS])


def _locate(segments: Sequence[Segment], ordinal: int) -> tuple[str, int, int | None]:
    """File, row and row group of an ordinal."""
    segment = segments[bisect_right(segments, ordinal, key=lambda segment: segment.start) - 1]
    offset = ordinal - segment.start
    group = next((group for start, group in reversed(segment.groups) if start <= offset), None)
    return segment.uri, segment.rows[offset], group
