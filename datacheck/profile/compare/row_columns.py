"""The columns by which the rows and keys of two datasets can be compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from datacheck.errors import SourceError, UsageError, nearest_name
from datacheck.findings import Finding
from datacheck.jobs.executors.isolated import Isolated
from datacheck.jobs.scan import inspect_file, lost_inspection
from datacheck.profile.data_profile import DataProfile
from datacheck.profile.infer.fields import looks_like_key
from datacheck.profile.unit import is_one_number
from datacheck.schema.dtypes import dtype_kind
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit
from datacheck.sources.discover import InputFile
from datacheck.text import join_limited, plain

#: A set of column names, as one file has them.
_Names = frozenset[str | None]
#: The file that a note is about, None for the whole dataset, and the note.
_Note = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class RowColumns:
    """The columns by which whole rows are compared; none if they cannot be.

    ``is_partial`` says that some file has further columns, so that its rows must be hashed again. ``notes`` say what is
    not compared.
    """

    names: frozenset[str | None] = frozenset()
    is_partial: bool = False
    notes: tuple[_Note, ...] = ()

    def findings(self, name: str) -> Iterator[Finding]:
        for uri, detail in self.notes:
            yield Finding("DC315", uri or name, "whole rows", 1, 1, detail=detail)


def check_keys(keys: Sequence[Sequence[str]], files: Sequence[InputFile]) -> None:
    """Raise ``UsageError`` if a key column is not in the first readable file, before the others are read."""
    wanted = {name for key in keys for name in key}
    if not wanted:
        return
    for file in files:
        info = Isolated(inspect_file, lost_inspection)(file)
        if isinstance(info, SourceError):
            continue
        unit = info.units[0]
        if wanted - _read_names(unit, tuple(wanted)):
            require_columns(keys, _read_names(unit, None), file.uri)
        return


def require_columns(keys: Sequence[Sequence[str]], known: set[str], uri: str) -> None:
    """Raise ``UsageError`` if a key column is not one of the known columns."""
    for name in dict.fromkeys(name for key in keys for name in key):
        if known and name not in known:
            hint = nearest_name(name, known) or f"; its columns are {join_limited(sorted(known))}"
            raise UsageError(f"key column '{plain(name)}' is not in {plain(uri)}{hint}")


def _read_names(unit: WorkUnit, columns: tuple[str, ...] | None) -> set[str]:
    """The columns of a file, restricted to ``columns`` if given."""
    chosen = replace(unit, options=replace(unit.options, columns=columns, by_columns=False))
    return Isolated(_names_of, lambda _: set(columns or ()))(chosen)


def _names_of(unit: WorkUnit) -> set[str]:
    try:
        batches = get_source(unit.format).read(unit)
        return {name for batch in itertools.islice(batches, 1) for name in batch.names if name is not None}
    except SourceError:
        return set(unit.options.columns or ())


def common_row_columns(
    train: DataProfile, other: DataProfile, exclude: Sequence[str], disjoint: Mapping[str | None, str]
) -> RowColumns:
    """Find the columns that rows of both datasets have, without the disjoint ones, whose values cannot be equal."""
    known, train_notes = _column_sets(train, exclude)
    others, other_notes = _column_sets(other, exclude, note_numbers=True)
    notes = [*train_notes, *other_notes]
    if not known or not others:
        return RowColumns(notes=tuple(notes))
    columns, rest = frozenset.union(*others), _Names()
    if not others <= known:
        columns = frozenset.intersection(*known, *others)
        rest = frozenset.union(*known, *others) - columns
    left_out = [f"{name} ({disjoint[name]})" for name in columns if name in disjoint]
    columns -= disjoint.keys()
    if not columns:
        return RowColumns(notes=(*notes, (None, "the datasets have no columns in common")))
    if any(is_one_number(columns, file.fields) for file in other.files):
        detail = f"the only common column is {_list_names(columns)}, a single number, which may repeat by chance"
        return RowColumns(notes=(*notes, (None, detail)))
    if rest:
        notes.append((None, f"only one of the datasets has {_list_names(rest)}; rows were compared without them"))
    if left_out:
        detail = f"the dtypes of {_list_names(left_out)} have no values in common; rows were compared without them"
        notes.append((None, detail))
    return RowColumns(columns, is_partial=bool(rest or left_out), notes=tuple(notes))


def numbering_columns(train: DataProfile, other: DataProfile, names: frozenset[str | None]) -> frozenset[str]:
    """The columns whose values are all different, so that they may only number the rows: integers, and named like keys.

    Where they leave no more than one number to compare, only those are taken that are named like keys or count without
    large gaps: large random integers differ, too, and are what rows have in common.
    """
    found = frozenset(
        name
        for name in names
        if name is not None
        and all(_is_unique(profile, name) for profile in (train, other))
        and (looks_like_key(name) or all(dtype_kind(leaf.dtype) == "integer" for leaf in other.of_path(name)))
    )
    if names - found and not _is_one_number(other, names - found):
        return found
    return frozenset(name for name in found if looks_like_key(name) or _counts(other, name))


def _is_one_number(profile: DataProfile, names: frozenset[str | None]) -> bool:
    return any(is_one_number(names, file.fields) for file in profile.files)


def _counts(profile: DataProfile, name: str) -> bool:
    """Whether the integers of a column are about as many as their range is wide."""
    return all(
        isinstance(leaf.low, int) and isinstance(leaf.high, int) and leaf.high - leaf.low < 2 * leaf.num_present
        for leaf in profile.of_path(name)
    )


def _is_unique(profile: DataProfile, name: str) -> bool:
    store = profile.unique.get(name)
    return store is not None and store.num_rows == profile.num_rows > 1 and not store.has_repeated()


def _column_sets(
    profile: DataProfile, exclude: Sequence[str], *, note_numbers: bool = False
) -> tuple[set[_Names], list[_Note]]:
    """The different sets of columns that make up the rows of files, and notes on files whose rows are not compared."""
    found: set[_Names] = set()
    notes: list[_Note] = []
    for file in profile.files:
        names = frozenset(file.names) - frozenset(exclude)
        if not file.aligned:
            notes.append((file.uri, "its arrays are not rows of one table"))
        elif is_one_number(names, file.fields):
            if note_numbers:
                notes.append((file.uri, "each row is one number, which may repeat by chance; if not, name it as a key"))
        elif names:
            found.add(names)
    return found, notes


def _list_names(names: Iterable[str | None]) -> str:
    return join_limited(sorted(map(str, names)))


def comparable_keys(
    keys: Iterable[tuple[str, ...]], other: DataProfile, disjoint: Mapping[str | None, str]
) -> tuple[list[tuple[str, ...]], list[Finding]]:
    """The keys whose values can be equal, and a note on each of the others."""
    kept: list[tuple[str, ...]] = []
    notes: list[Finding] = []
    for key in keys:
        reasons = [f"{name} is {disjoint[name]}" for name in key if name in disjoint]
        if reasons:
            detail = f"its dtypes have no values in common: {', '.join(reasons)}"
            notes.append(Finding("DC315", other.files[0].uri, ", ".join(key), 1, 1, detail=detail))
        else:
            kept.append(key)
    return kept, notes
