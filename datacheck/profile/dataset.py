"""A data set, profiled: its files in order, unit by unit, each read once, and what they say put together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePath
from typing import Any

from datacheck.batch import Batch
from datacheck.checks.structure import FieldFacts
from datacheck.errors import SourceError
from datacheck.formats import find_format, format_of_name
from datacheck.hashing.store import HashStore
from datacheck.jobs.executors.local import ExecutorLike, map_in_order
from datacheck.jobs.progress import Progress
from datacheck.jobs.scan import inspect_file, unit_bytes
from datacheck.profile.coalesce_batches import Groups
from datacheck.profile.leaf import LeafProfile
from datacheck.profile.unit import (
    Asked,
    LeafKey,
    News,
    RowHashes,
    RowNumbers,
    UnitProfile,
    profile_batches,
    profile_unit,
)
from datacheck.sources import expand_inputs
from datacheck.sources.base import InputInfo, ReadOptions
from datacheck.sources.discover import InputFile

__all__ = [
    "DataProfile",
    "FileProfile",
    "FileSet",
    "Segment",
    "find_files",
    "nameless_names",
    "profile_files",
    "profile_memory",
    "stem_of",
]


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of one unit among those of the data set: the first one's ordinal, and where they are."""

    start: int
    uri: str
    rows: RowNumbers
    groups: Groups


@dataclass(slots=True)
class FileProfile:
    """What is known of one file: its format, its fields, and how many rows it has."""

    uri: str
    format: str = ""
    num_rows: int = 0
    num_bytes: int = 0
    num_malformed: int = 0
    fields: dict[str | None, FieldFacts] = field(default_factory=dict)
    names: dict[str | None, int] = field(default_factory=dict)
    news: dict[str | None, News] = field(default_factory=dict)
    aligned: bool = True
    error: SourceError | None = None

    @property
    def has_dtypes(self) -> bool:
        """Whether the file itself says which dtypes its columns have."""
        record = find_format(self.format) if self.format else None
        return record is None or record.has_dtypes


@dataclass(slots=True)
class DataProfile:
    """What is known of a data set. A context manager, for the hashes that it may keep on disk.

    ``unique`` holds the hashes of each column whose values may all be different. ``rows`` and ``keys`` hold those of
    whole rows and of keys, ``segments`` where each ordinal among them is; the key of whole rows is the empty one, and
    ``is_quick`` says that not all of their values are in it.
    """

    files: list[FileProfile] = field(default_factory=list)
    leaves: dict[LeafKey, LeafProfile] = field(default_factory=dict)
    unique: dict[str, HashStore] = field(default_factory=dict)
    keys: dict[tuple[str, ...], HashStore] = field(default_factory=dict)
    segments: dict[tuple[str, ...], list[Segment]] = field(default_factory=dict)
    is_quick: bool = False
    _not_unique: set[str] = field(default_factory=set, repr=False)

    def __enter__(self) -> DataProfile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what may be on disk."""
        for store in [*self.unique.values(), *self.keys.values()]:
            store.close()

    @property
    def num_rows(self) -> int:
        return sum(file.num_rows for file in self.files)

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)

    @property
    def errors(self) -> list[SourceError]:
        return [file.error for file in self.files if file.error is not None]

    def of_path(self, path: str | None) -> list[LeafProfile]:
        """The profiles of one path, one for each dtype."""
        return [profile for (other, _), profile in self.leaves.items() if other == path]

    def add(self, file: FileProfile, unit: UnitProfile) -> None:
        """Add the next unit of the last file."""
        file.num_rows += unit.num_rows
        file.num_malformed += unit.num_malformed
        file.error = file.error or unit.error
        for path, facts in unit.fields.items():
            known = file.fields.get(path)
            file.fields[path] = known.followed_by(facts) if known else facts
        for name, times in unit.names.items():
            file.names[name] = max(file.names.get(name, 0), times)
        for path, news in unit.news.items():
            file.news.setdefault(path, News()).merge(news)
        for key, profile in unit.leaves.items():
            if key in self.leaves:
                self.leaves[key].merge(profile)
            else:
                self.leaves[key] = profile
        self._add_unique(unit)
        self.is_quick = self.is_quick or unit.is_quick
        if file.aligned:
            if unit.rows is not None:
                self._add_rows((), file.uri, unit.rows)
            for names, hashed in unit.keys.items():
                self._add_rows(names, file.uri, hashed)

    def _add_unique(self, unit: UnitProfile) -> None:
        for name, parts in unit.unique.items():
            if parts is None:
                self._not_unique.add(name)
                if name in self.unique:
                    self.unique.pop(name).close()
            elif name not in self._not_unique:
                store = self.unique.setdefault(name, HashStore())
                for part in parts:
                    store.add(part)

    def _add_rows(self, key: tuple[str, ...], uri: str, hashed: RowHashes) -> None:
        store = self.keys.setdefault(key, HashStore())
        self.segments.setdefault(key, []).append(Segment(store.num_rows, uri, hashed.rows, hashed.groups))
        store.add(hashed.hashes)


def find_files(paths: Any, options: ReadOptions | None, dtypes: Iterable[tuple[str, str]] = ()) -> list[InputFile]:
    """The files of a data set, to be read a few columns at a time; ``dtypes`` are for formats that have none."""
    files = expand_inputs(paths, options)
    return [
        replace(file, options=replace(file.options, by_columns=True, dtypes=file.options.dtypes or tuple(dtypes)))
        for file in files
    ]


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of one data set, and what the nameless array of each is called."""

    files: Sequence[InputFile]
    names: Sequence[str | None]

    @classmethod
    def of(cls, files: Sequence[InputFile]) -> FileSet:
        return cls(files, [None] * len(files))

    def only(self, paths: Iterable[str | None]) -> FileSet:
        """The files to be read for some fields alone, as far as a file lets its columns be asked for."""
        columns = tuple(path for path in paths if path is not None)
        # A field inside another one has no column of its name, and then all of them are read.
        are_columns = not any("." in path or "[]" in path for path in columns)
        files = [
            replace(file, options=replace(file.options, columns=columns))
            if are_columns and not file.options.partitions and _is_tabular(file.uri)
            else file
            for file in self.files
        ]
        return FileSet(files, self.names)


def profile_files(
    sets: Sequence[FileSet], asked: Asked, *, workers: int | None, executor: ExecutorLike, progress: Progress
) -> list[DataProfile]:
    """A profile of each data set; all of their files are read in one go, in order."""
    tasks = list(itertools.chain.from_iterable(zip(one.files, one.names, strict=True) for one in sets))
    progress.start("profile", len(tasks), 0)
    look = partial(_look, asked=asked)
    looks: list[tuple[InputInfo | SourceError, UnitProfile | None]] = []
    for info, done in map_in_order(look, tasks, workers, executor):
        looks.append((info, done))
        if done is not None and isinstance(info, InputInfo):
            progress.advance(1, done.num_rows, info.num_bytes)
    units = [
        (unit, name)
        for (info, done), (_, name) in zip(looks, tasks, strict=True)
        if isinstance(info, InputInfo) and done is None
        for unit in info.units
    ]
    results = map_in_order(partial(profile_unit, asked=asked), units, workers, executor)
    found = iter(looks)
    profiles: list[DataProfile] = []
    try:
        for one in sets:
            profiles.append(DataProfile())
            for file in one.files:
                for unit_profile, num_bytes in _collect(profiles[-1], file.uri, *next(found), results):
                    progress.advance(1, unit_profile.num_rows, num_bytes)
    except BaseException:
        for profile in profiles:
            profile.close()
        raise
    return profiles


def _look(task: tuple[InputFile, str | None], asked: Asked) -> tuple[InputInfo | SourceError, UnitProfile | None]:
    """What the file's header says, and its profile where it is one unit: most files of a data set of many are."""
    file, name = task
    info = inspect_file(file)
    if isinstance(info, SourceError) or len(info.units) != 1:
        return info, None
    return info, profile_unit((info.units[0], name), asked)


def _collect(
    profile: DataProfile,
    uri: str,
    info: InputInfo | SourceError,
    done: UnitProfile | None,
    results: Iterator[UnitProfile],
) -> Iterator[tuple[UnitProfile, int]]:
    """Add a file to the profile; the units that were not told of yet are told."""
    if isinstance(info, SourceError):
        profile.files.append(FileProfile(uri, error=info))
        return
    file = FileProfile(uri, info.format, num_bytes=info.num_bytes, aligned=info.aligned)
    profile.files.append(file)
    for unit in info.units:
        found = done or next(results)
        profile.add(file, found)
        if done is None:
            yield found, unit_bytes(unit, info)


def profile_memory(data: Any, asked: Asked, name: str | None = None) -> DataProfile:
    """Profile data that is in memory already; ``name`` is what it is called, where several data sets are."""
    from datacheck.sources.memory import batches_of

    uri, batches = batches_of(data)
    uri = name or uri
    profile = DataProfile()
    file = FileProfile(uri, "memory")
    profile.files.append(file)
    profile.add(file, profile_batches(_counted(batches, file), asked))
    return profile


def _counted(batches: Iterable[Batch], file: FileProfile) -> Iterator[Batch]:
    next_row = 0
    for batch in batches:
        if batch.counts_rows:
            # Arrays that are no rows of one table come one after the other, each from its first row on.
            file.aligned = file.aligned and batch.row_start == next_row
            next_row = batch.row_start + batch.num_rows
        file.num_bytes += sum(column.data.nbytes for column in batch.columns)
        yield batch


def nameless_names(files: Sequence[InputFile], train: Sequence[InputFile]) -> list[str | None]:
    """What nameless arrays are called: by their files, where the training data has several kinds of them."""
    kinds = {stem_of(file.uri) for file in train if _is_one_array(file.uri)}
    return [stem_of(file.uri) if len(kinds) > 1 and _is_one_array(file.uri) else None for file in files]


def _is_one_array(uri: str) -> bool:
    record = format_of_name(uri)
    return record is not None and record.is_one_array


def _is_tabular(uri: str) -> bool:
    record = format_of_name(uri)
    return record is not None and record.is_tabular


def stem_of(uri: str) -> str:
    """The name of a file without its folder and its suffix."""
    return PurePath(uri).name.partition(".")[0]
