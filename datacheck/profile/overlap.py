"""Rows and keys that stand in two data sets: which columns tell rows apart, which rows are in both, and where."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from datacheck.errors import SourceError, UsageError, nearest_name
from datacheck.findings import MAX_EXAMPLES, Example, Finding
from datacheck.job.scan import inspect_file
from datacheck.leaves import IntArray
from datacheck.profile.dataset import DataProfile, Segment
from datacheck.profile.store import matches
from datacheck.profile.unit import is_one_number
from datacheck.sources import get_source
from datacheck.sources.base import InputInfo
from datacheck.sources.discover import InputFile
from datacheck.text import join_limited, plain

__all__ = ["RowColumns", "check_keys", "leaked", "may_leak", "require_columns", "row_columns"]

#: Places in the training data that a finding tells.
_MAX_PAIRS = 3


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


def row_columns(train: DataProfile, other: DataProfile, exclude: Sequence[str]) -> RowColumns:
    """Which columns whole rows of two data sets have in common."""
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
    if others <= known:
        return RowColumns(frozenset.union(*others), notes=tuple(notes))
    common = frozenset.intersection(*known, *others)
    rest = sorted(str(name) for name in frozenset.union(*known, *others) - common)
    if not common:
        return RowColumns(notes=(*notes, (None, "the two data sets have no columns in common")))
    notes.append(
        (None, f"not by {join_limited(rest)}, which are in one of the data sets only; by all other fields they are")
    )
    return RowColumns(common, is_partial=True, notes=tuple(notes))


def may_leak(train: DataProfile, other: DataProfile) -> bool:
    """Whether a row may stand in both: where not all values are in the hashes of rows, alike ones may yet differ."""
    return () in train.keys and () in other.keys and len(matches(train.keys[()], other.keys[()])[0]) > 0


def leaked(train: DataProfile, other: DataProfile, keys: Iterable[tuple[str, ...]]) -> Iterator[Finding]:
    """A finding for each file of ``other`` with rows that stand in the training data too; the empty key is the row."""
    for key in keys:
        if key not in train.keys or key not in other.keys:
            if key and other.num_rows:
                detail = "one of the data sets lacks a column of this key"
                yield Finding("DC315", other.files[0].uri, ", ".join(key), 1, 1, detail=detail)
            continue
        here, there = matches(train.keys[key], other.keys[key])
        yield from _by_file(key, here, there, train.segments[key], other.segments[key])


def _by_file(
    key: tuple[str, ...],
    here: IntArray,
    there: IntArray,
    train: Sequence[Segment],
    other: Sequence[Segment],
) -> Iterator[Finding]:
    starts = np.array([segment.start for segment in other])
    owners = np.searchsorted(starts, here, side="right") - 1
    known_starts = np.array([segment.start for segment in train])
    for uri in dict.fromkeys(segment.uri for segment in other):
        owned = [index for index, segment in enumerate(other) if segment.uri == uri]
        chosen = np.flatnonzero(np.isin(owners, owned))
        if not len(chosen):
            continue
        examples: list[Example] = []
        pairs: list[str] = []
        for index in chosen[:MAX_EXAMPLES]:
            _, row, group = _place(other, starts, int(here[index]))
            origin, origin_row, _ = _place(train, known_starts, int(there[index]))
            same = f"row {origin_row} of {plain(origin)}"
            examples.append(Example(row, group, (), same))
            pairs.append(f"row {row} is {'as ' if key else ''}{same}")
        num_rows = sum(len(other[index].rows) for index in owned)
        code, field = ("DC311", ", ".join(key)) if key else ("DC310", None)
        yield Finding(code, uri, field, len(chosen), num_rows, tuple(examples), detail="; ".join(pairs[:_MAX_PAIRS]))


def _place(segments: Sequence[Segment], starts: IntArray, ordinal: int) -> tuple[str, int, int | None]:
    """File, row and row group of an ordinal."""
    segment = segments[int(np.searchsorted(starts, ordinal, side="right")) - 1]
    offset = ordinal - segment.start
    group = next((group for start, group in reversed(segment.groups) if start <= offset), None)
    return segment.uri, segment.rows[offset], group
