"""Rows and keys that stand in two data sets: which columns tell rows apart, which rows are in both, and where."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from datacheck.errors import SourceError, UsageError, nearest_name
from datacheck.findings import MAX_EXAMPLES, Example, Finding
from datacheck.hashing.store import matches
from datacheck.jobs.scan import inspect_file
from datacheck.leaves import IntArray
from datacheck.profile.dataset import DataProfile, Segment
from datacheck.profile.unit import is_one_number
from datacheck.sources import get_source
from datacheck.sources.base import InputInfo
from datacheck.sources.discover import InputFile
from datacheck.text import join_limited, plain

__all__ = [
    "RowColumns",
    "check_keys",
    "leaked",
    "may_be_chance",
    "may_leak",
    "require_columns",
    "row_columns",
    "split_keys",
]

#: Ordinals of one data set, and where the same stands in the other.
_Matches = Iterator[tuple[IntArray, IntArray]]

#: Places in the training data that a finding tells.
_MAX_PAIRS = 3
#: Pairs of rows from which on the chance that two different ones have the same hash is more than one in a million.
_MANY_PAIRS = 1 << 44


@dataclass(frozen=True, slots=True)
class RowColumns:
    """By which columns whole rows are told apart; none where they cannot be compared.

    ``is_partial`` says that some file has other columns as well, so that its rows have to be looked at again.
    ``notes`` say what is not compared.
    """

    names: frozenset[str | None] = frozenset()
    is_partial: bool = False
    notes: tuple[tuple[str | None, str], ...] = ()

    def findings(self, name: str) -> Iterator[Finding]:
        for uri, detail in self.notes:
            yield Finding("DC315", uri or name, "whole rows", 1, 1, detail=detail)


def check_keys(keys: Sequence[Sequence[str]], files: Sequence[InputFile]) -> None:
    """Raise ``UsageError`` for a key that names no column of the first file, before anything else is read."""
    wanted = {name for key in keys for name in key}
    if not wanted:
        return
    for file in files:
        info = inspect_file(file)
        if isinstance(info, SourceError):
            continue
        if wanted - _columns_of(info, tuple(wanted)):
            require_columns(keys, _columns_of(info, None), file.uri)
        return


def require_columns(keys: Sequence[Sequence[str]], known: set[str], uri: str) -> None:
    """Raise ``UsageError`` for a key that is not of the columns that are known."""
    for name in dict.fromkeys(name for key in keys for name in key):
        if known and name not in known:
            hint = nearest_name(name, known) or f"; there are {join_limited(sorted(known))}"
            raise UsageError(f"a key names '{plain(name)}', which is no column of {plain(uri)}{hint}")


def _columns_of(info: InputInfo, columns: tuple[str, ...] | None) -> set[str]:
    """The columns of a file, or those of some that it has."""
    options = replace(info.units[0].options, columns=columns, by_columns=False)
    try:
        batches = get_source(info.format).read(replace(info.units[0], options=options))
        return {name for batch in itertools.islice(batches, 1) for name in batch.names if name is not None}
    except SourceError:
        return set(columns or ())


def row_columns(
    train: DataProfile, other: DataProfile, exclude: Sequence[str], apart: Mapping[str | None, str]
) -> RowColumns:
    """Which columns whole rows of two data sets have in common; those ``apart`` have no value in common."""
    notes: list[tuple[str | None, str]] = []
    sides: list[set[frozenset[str | None]]] = []
    for profile in (train, other):
        found: set[frozenset[str | None]] = set()
        for file in profile.files:
            names = frozenset(file.names) - frozenset(exclude)
            if not file.aligned:
                notes.append((file.uri, "its arrays are not rows of one table"))
            elif is_one_number(names, file.fields):
                if profile is other:
                    notes.append((file.uri, "each is one number, which may well stand twice; name it as a key if not"))
            elif names:
                found.add(names)
        sides.append(found)
    known, others = sides
    if not known or not others:
        return RowColumns(notes=tuple(notes))
    columns, rest = frozenset.union(*others), frozenset[str | None]()
    if not others <= known:
        columns = frozenset.intersection(*known, *others)
        rest = frozenset.union(*known, *others) - columns
    split = [f"{name} ({apart[name]})" for name in columns if name in apart]
    columns -= apart.keys()
    if not columns:
        return RowColumns(notes=(*notes, (None, "the two data sets have no columns in common")))
    if any(is_one_number(columns, file.fields) for file in other.files):
        what = (
            f"all that the two data sets have in common is {_listed(columns)}, one number, which may well stand twice"
        )
        return RowColumns(notes=(*notes, (None, what)))
    if rest:
        notes.append(
            (None, f"not by {_listed(rest)}, which are in one of the data sets only; by all other fields they are")
        )
    if split:
        what = f"not by {_listed(split)}, of which no value is equal to one of the other dtype; by all other fields they are"
        notes.append((None, what))
    return RowColumns(columns, is_partial=bool(rest or split), notes=tuple(notes))


def _listed(names: Iterable[str | None]) -> str:
    return join_limited(sorted(map(str, names)))


def may_leak(train: DataProfile, other: DataProfile, key: tuple[str, ...] = ()) -> bool:
    """Whether a row, or a key, has a hash that stands in both."""
    return key in train.keys and key in other.keys and any(matches(train.keys[key], other.keys[key]))


def may_be_chance(train: DataProfile, other: DataProfile) -> bool:
    """Whether there are so many pairs of rows that two different ones may well have the same hash."""
    return train.num_rows * other.num_rows > _MANY_PAIRS


def split_keys(
    keys: Iterable[tuple[str, ...]], other: DataProfile, apart: Mapping[str | None, str]
) -> tuple[list[tuple[str, ...]], list[Finding]]:
    """The keys of which values can be equal, and a note on each of the others."""
    kept: list[tuple[str, ...]] = []
    notes: list[Finding] = []
    for key in keys:
        reasons = [f"{name} is {apart[name]}" for name in key if name in apart]
        if reasons:
            detail = f"no value is equal to one of the other dtype: {', '.join(reasons)}"
            notes.append(Finding("DC315", other.files[0].uri, ", ".join(key), 1, 1, detail=detail))
        else:
            kept.append(key)
    return kept, notes


def leaked(
    train: DataProfile,
    other: DataProfile,
    keys: Iterable[tuple[str, ...]],
    again: tuple[DataProfile, DataProfile] | None = None,
) -> Iterator[Finding]:
    """A finding for each file of ``other`` with rows that stand in the training data too; the empty key is the row.

    ``again`` are both data sets with other hashes: only rows that are alike by these, too, count.
    """
    for key in keys:
        if key not in train.keys or key not in other.keys:
            if key and other.num_rows and train.num_rows:
                detail = "one of the data sets lacks a column of this key"
                yield Finding("DC315", other.files[0].uri, ", ".join(key), 1, 1, detail=detail)
            continue
        found = matches(train.keys[key], other.keys[key])
        if again is not None:
            found = _confirmed(found, matches(again[0].keys[key], again[1].keys[key]), other.keys[key].num_rows)
        yield from _by_file(key, found, train.segments[key], other.segments[key])


def _confirmed(found: _Matches, again: _Matches, num_rows: int) -> _Matches:
    """The matches that are also found again."""
    seen = np.zeros(num_rows, np.bool_)
    for here, _ in again:
        seen[here] = True
    for here, there in found:
        yield here[seen[here]], there[seen[here]]


def _by_file(
    key: tuple[str, ...], found: _Matches, train: Sequence[Segment], other: Sequence[Segment]
) -> Iterator[Finding]:
    numbers: dict[str, int] = {}
    owners = np.array([numbers.setdefault(segment.uri, len(numbers)) for segment in other])
    uris = list(numbers)
    totals = np.bincount(owners, [len(segment.rows) for segment in other])
    starts, known_starts = (np.array([segment.start for segment in side]) for side in (other, train))
    counts = np.zeros(len(uris), np.int64)
    first: list[list[tuple[int, int]]] = [[] for _ in uris]
    for here, there in found:
        files = owners[np.searchsorted(starts, here, side="right") - 1]
        counts += np.bincount(files, minlength=len(uris))
        for file in np.unique(files).tolist():
            chosen = np.flatnonzero(files == file)[:MAX_EXAMPLES]
            pairs = zip(here[chosen].tolist(), there[chosen].tolist(), strict=True)
            first[file] = sorted([*first[file], *pairs])[:MAX_EXAMPLES]
    code, field = ("DC311", ", ".join(key)) if key else ("DC310", None)
    for file in np.flatnonzero(counts).tolist():
        examples: list[Example] = []
        told: list[str] = []
        for ordinal, origin in first[file]:
            _, row, group = _place(other, starts, ordinal)
            uri, origin_row, _ = _place(train, known_starts, origin)
            same = f"row {origin_row} of {plain(uri)}"
            examples.append(Example(row, group, (), same))
            told.append(f"row {row} is {'as ' if key else ''}{same}")
        detail = "; ".join(told[:_MAX_PAIRS])
        yield Finding(code, uris[file], field, int(counts[file]), int(totals[file]), tuple(examples), detail=detail)


def _place(segments: Sequence[Segment], starts: IntArray, ordinal: int) -> tuple[str, int, int | None]:
    """File, row and row group of an ordinal."""
    segment = segments[int(np.searchsorted(starts, ordinal, side="right")) - 1]
    offset = ordinal - segment.start
    group = next((group for start, group in reversed(segment.groups) if start <= offset), None)
    return segment.uri, segment.rows[offset], group
