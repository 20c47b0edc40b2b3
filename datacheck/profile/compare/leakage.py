"""Rows and keys that occur in two datasets: which ones to hash again, which ones match, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from datacheck.findings import Example, Finding, Severity
from datacheck.profile.compare.chance import Chance
from datacheck.profile.compare.dtype_alignment import DtypeAlignment, align_dtypes
from datacheck.profile.compare.row_columns import RowColumns, common_row_columns, comparable_keys
from datacheck.profile.data_profile import DataProfile, RowKeys
from datacheck.profile.exchanged_keys import ExchangedKeys, ExchangedMatches
from datacheck.profile.row_keys import FileMatches, LocalKeys, LocalMatches
from datacheck.text import plain

#: The columns of a key; the empty key is the whole row.
Key = tuple[str, ...]

#: The rows of one dataset that the training data has, too.
RowMatches = LocalMatches | ExchangedMatches

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
    return key in train.keys and key in other.keys and is_any_in(other.keys[key], train.keys[key])


def may_collide(train: DataProfile, other: DataProfile) -> bool:
    """Whether there are enough pairs of rows for two different ones to share a hash."""
    return train.num_rows * other.num_rows > _MANY_PAIRS


def is_any_in(keys: RowKeys, train: RowKeys) -> bool:
    """Whether the training data has some of the hashes."""
    if isinstance(keys, LocalKeys):
        return keys.is_any_in(cast("LocalKeys", train))
    return keys.is_any_in(cast("ExchangedKeys", train))


def find_in(keys: RowKeys, train: RowKeys) -> RowMatches:
    """The rows whose hashes the training data has."""
    if isinstance(keys, LocalKeys):
        return keys.find_in(cast("LocalKeys", train))
    return keys.find_in(cast("ExchangedKeys", train))


def find_leaks(
    train: DataProfile,
    other: DataProfile,
    keys: Iterable[Key],
    chance: Callable[[RowMatches], Chance] | None = None,
    significance: float = 0.001,
) -> Iterator[Finding]:
    """Yield a finding for each file of ``other`` with rows or keys that also occur in the training data.

    ``chance`` says of the rows found how many are to be expected anyway; a number that chance explains is only a note.
    """
    for key in keys:
        if key not in train.keys or key not in other.keys:
            if key and other.num_rows and train.num_rows:
                detail = "a column of this key is missing in one of the datasets"
                yield Finding("DC315", other.files[0].uri, ", ".join(key), 1, 1, detail=detail)
            continue
        found = find_in(other.keys[key], train.keys[key])
        findings = list(_findings_by_file(key, found.files))
        expected = chance(found) if findings and not key and chance is not None else None
        for finding in findings:
            yield finding if expected is None else _with_chance(finding, expected, significance)


def _with_chance(finding: Finding, expected: Chance, significance: float) -> Finding:
    """The finding with the number of matches that chance explains; a note if it explains all."""
    number = expected.expected
    if expected.explains(significance):
        detail = f"{finding.detail}; about {number:,.0f} in all are expected by chance, so this may not be a leak"
        return replace(finding, severity=Severity.INFO, detail=detail)
    if number >= 0.5:
        return replace(finding, detail=f"{finding.detail}; chance explains only about {number:,.0f} in all")
    return finding


def _findings_by_file(key: Key, files: Iterable[FileMatches]) -> Iterator[Finding]:
    """How many matches each file has, and where the first are."""
    code, field, verb = ("DC311", ", ".join(key), "matches") if key else ("DC310", None, "is")
    for file in files:
        if not file.num_found:
            continue
        examples: list[Example] = []
        texts: list[str] = []
        for place, origin in file.pairs:
            match = f"row {origin.row} of {plain(origin.uri)}"
            examples.append(Example(place.row, place.row_group, (), match))
            texts.append(f"row {place.row} {verb} {match}")
        detail = "; ".join(texts[:_MAX_PAIRS])
        yield Finding(code, file.uri, field, file.num_found, file.num_rows, tuple(examples), detail=detail)
