"""Profile a dataset: read its files once, in order and unit by unit, and merge the profiles of the units."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath
from typing import Any

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.formats import format_of_name
from datacheck.jobs.executors.local import ExecutorLike, map_in_order
from datacheck.jobs.progress import Progress
from datacheck.jobs.scan import inspect_file, unit_bytes
from datacheck.jobs.units.scan import lost_error
from datacheck.profile.data_profile import DataProfile, FileProfile
from datacheck.profile.options import ProfileOptions
from datacheck.profile.unit import UnitProfile, profile_batches, profile_unit
from datacheck.sources import expand_inputs
from datacheck.sources.base import InputInfo, ReadOptions
from datacheck.sources.discover import InputFile

__all__ = [
    "FileSet",
    "find_files",
    "nameless_names",
    "profile_files",
    "profile_memory",
    "stem_of",
]


def find_files(paths: Any, options: ReadOptions | None, dtypes: Iterable[tuple[str, str]] = ()) -> list[InputFile]:
    """Find the files of a dataset, to be read a few columns at a time; ``dtypes`` serve formats that have none."""
    files = expand_inputs(paths, options)
    return [
        replace(
            file,
            options=replace(file.options, by_columns=True, dtypes=file.options.dtypes or tuple(dtypes), look_into=True),
        )
        for file in files
    ]


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of one dataset, and a name for the nameless array of each."""

    files: Sequence[InputFile]
    names: Sequence[str | None]

    @classmethod
    def of(cls, files: Sequence[InputFile]) -> FileSet:
        return cls(files, [None] * len(files))

    def only(self, paths: Iterable[str | None]) -> FileSet:
        """The same files, read only for some fields where the format can select columns."""
        columns = tuple(path for path in paths if path is not None)
        # A nested field is no column of its own; then all columns are read.
        are_columns = not any("." in path or "[]" in path for path in columns)
        files = [
            replace(file, options=replace(file.options, columns=columns))
            if are_columns and not file.options.partitions and _is_tabular(file.uri)
            else file
            for file in self.files
        ]
        return FileSet(files, self.names)


def profile_files(
    sets: Sequence[FileSet], options: ProfileOptions, *, workers: int | None, executor: ExecutorLike, progress: Progress
) -> list[DataProfile]:
    """Profile several datasets; their files are read in one pass, in order."""
    tasks = list(itertools.chain.from_iterable(zip(one.files, one.names, strict=True) for one in sets))
    progress.start("profile", len(tasks), 0)
    inspected: list[_Inspected] = []
    inspected_files = map_in_order(
        partial(_inspect, options=options),
        tasks,
        workers,
        executor,
        lost=lambda task: _Inspected(lost_error(task[0].uri)),
    )
    for found in inspected_files:
        inspected.append(found)
        if found.profile is not None and isinstance(found.info, InputInfo):
            progress.advance(1, found.profile.num_rows, found.info.num_bytes)
    units = [
        (unit, name)
        for found, (_, name) in zip(inspected, tasks, strict=True)
        if isinstance(found.info, InputInfo) and found.profile is None
        for unit in found.info.units
    ]
    unit_profiles = map_in_order(
        partial(profile_unit, options=options),
        units,
        workers,
        executor,
        lost=lambda task: UnitProfile(error=lost_error(task[0].uri)),
    )
    files = iter(inspected)
    profiles: list[DataProfile] = []
    try:
        for one in sets:
            profiles.append(DataProfile())
            for file in one.files:
                for unit_profile, num_bytes in _add_file(profiles[-1], file.uri, next(files), unit_profiles):
                    progress.advance(1, unit_profile.num_rows, num_bytes)
    except BaseException:
        for profile in profiles:
            profile.close()
        raise
    return profiles


@dataclass(frozen=True, slots=True)
class _Inspected:
    """What a file's header says, and the file's profile if it is one unit."""

    info: InputInfo | SourceError
    profile: UnitProfile | None = None


def _inspect(task: tuple[InputFile, str | None], options: ProfileOptions) -> _Inspected:
    """Read the header of a file, and profile it right away if it is one unit, as most files of large datasets are."""
    file, name = task
    info = inspect_file(file)
    if isinstance(info, SourceError) or len(info.units) != 1:
        return _Inspected(info)
    return _Inspected(info, profile_unit((info.units[0], name), options))


def _add_file(
    profile: DataProfile, uri: str, inspected: _Inspected, unit_profiles: Iterator[UnitProfile]
) -> Iterator[tuple[UnitProfile, int]]:
    """Add a file to the profile, and yield its units that the progress does not count yet."""
    info = inspected.info
    if isinstance(info, SourceError):
        profile.files.append(FileProfile(uri, error=info))
        return
    file = FileProfile(uri, info.format, num_bytes=info.num_bytes, aligned=info.aligned)
    profile.files.append(file)
    for unit in info.units:
        found = inspected.profile or next(unit_profiles)
        profile.add(file, found)
        if inspected.profile is None:
            yield found, unit_bytes(unit, info)


def profile_memory(data: Any, options: ProfileOptions, name: str | None = None) -> DataProfile:
    """Profile data in memory; ``name`` tells several datasets in memory apart."""
    from datacheck.sources.memory import batches_of

    uri, batches = batches_of(data)
    uri = name or uri
    profile = DataProfile()
    file = FileProfile(uri, "memory")
    profile.files.append(file)
    profile.add(file, profile_batches(_count_bytes(batches, file), options))
    return profile


def _count_bytes(batches: Iterable[Batch], file: FileProfile) -> Iterator[Batch]:
    next_row = 0
    for batch in batches:
        if batch.counts_rows:
            # Arrays that are not rows of one table come one after another, each from row 0 on.
            file.aligned = file.aligned and batch.row_start == next_row
            next_row = batch.row_start + batch.num_rows
        file.num_bytes += sum(column.data.nbytes for column in batch.columns)
        yield batch


def nameless_names(files: Sequence[InputFile], train: Sequence[InputFile]) -> list[str | None]:
    """Name nameless arrays after their files if the training data has several such names; None otherwise."""
    kinds = {stem_of(file.uri) for file in train if _is_one_array(file.uri) and file.options.rows != "file"}
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
