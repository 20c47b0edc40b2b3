"""Profile a dataset: read its files once, in order and unit by unit, and merge the profiles of the units."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath
from typing import Any

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.formats import format_of_name, is_one_array
from datacheck.jobs.execution import Execution
from datacheck.jobs.file_differences import compare_files
from datacheck.jobs.sampling import rank_of, unit_bytes
from datacheck.jobs.scan import file_size, inspect_file
from datacheck.jobs.sharding.result_store import digest
from datacheck.jobs.stage import Stage
from datacheck.jobs.units.groups import group_units
from datacheck.jobs.units.scan import lost_error
from datacheck.jobs.unseen_fields import unseen_fields
from datacheck.profile.data_profile import DataProfile, FileProfile
from datacheck.profile.exchanged_keys import HashWriter, folder_of, has_hashes
from datacheck.profile.options import ProfileOptions
from datacheck.profile.unit import UnitProfile, merge_units, profile_batches, profile_unit
from datacheck.schema.model import Schema
from datacheck.sources.annotations import with_labels
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit
from datacheck.sources.discover import InputFile, Inputs, discover
from datacheck.sources.indexes import check_folders

#: The word in a path that names a split.
SPLIT = re.compile(r"(?<![a-z])(train|test|val|dev|eval|holdout)(?:ing|id|idation|uation)?(?![a-z])", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
#: Files whose names differ only in a number may be fields (``x1.npy``, ``x2.npy``) if they are so few, and in every dataset.
_MAX_NUMBERED = 16


def find_files(paths: Any, options: ReadOptions | None, dtypes: Iterable[tuple[str, str]] = ()) -> list[InputFile]:
    """The files of a dataset, as :func:`find_inputs` finds them."""
    return list(find_inputs(paths, options, dtypes).files)


def find_inputs(paths: Any, options: ReadOptions | None, dtypes: Iterable[tuple[str, str]] = ()) -> Inputs:
    """Find the files of a dataset, to be read a few columns at a time; ``dtypes`` serve formats that have none."""
    inputs = with_labels(discover(paths, options))
    files = [
        replace(
            file,
            options=replace(file.options, by_columns=True, dtypes=file.options.dtypes or tuple(dtypes), look_into=True),
        )
        for file in inputs.files
    ]
    return replace(inputs, files=files)


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of one dataset, a name for the nameless array of each, and what they were found in, where it is known."""

    files: Sequence[InputFile]
    names: Sequence[str | None]
    inputs: Inputs | None = None

    @classmethod
    def of(cls, files: Sequence[InputFile]) -> FileSet:
        return cls(files, [None] * len(files))

    @classmethod
    def find(cls, paths: Any, options: ReadOptions | None) -> FileSet:
        """The files that ``paths`` stand for."""
        inputs = find_inputs(paths, options)
        return replace(cls.of(inputs.files), inputs=inputs)

    def check(self, profile: DataProfile, schema: Schema) -> list[Finding]:
        """What is wrong with the dataset beyond its values: how its files were read, how they differ, what is missing."""
        verdicts = [file.verdict() for file in profile.files]
        found = [finding for verdict in verdicts for finding in verdict.findings]
        found += [*compare_files(verdicts, schema), *unseen_fields(verdicts)]
        return found if self.inputs is None else [*found, *check_folders(self.inputs)]

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
        return replace(self, files=files)


def profile_files(
    sets: Sequence[FileSet],
    options: ProfileOptions,
    execution: Execution,
    *,
    max_bytes: int | None = None,
    in_files: bool = True,
) -> list[DataProfile]:
    """Profile several datasets; their files are read in one pass, in order.

    With ``max_bytes``, only some units are read of a file that is larger. Where there is a folder for them, hashes are left
    there ``in_files``.
    """
    tasks = list(itertools.chain.from_iterable(zip(one.files, one.names, strict=True) for one in sets))
    progress = execution.progress
    progress.start("profile", len(tasks), sum(file_size(file.uri) for file, _ in tasks))
    inspected: list[_Inspected] = []
    profile = _Profile(options)
    if in_files and (folder := folder_of(execution)) is not None:
        profile = _Profile(options, f"{folder}/{digest([options])}")
    inspected_files = execution.map(
        partial(_inspect, profile=profile, travels=execution.travels),
        tasks,
        lambda task: _Inspected(lost_error(task[0].uri)),
        stage=Stage("profile files", is_valid=_has_hashes),
    )
    for found in inspected_files:
        found = found if max_bytes is None else found.restrict(max_bytes)
        inspected.append(found)
        if found.profile is not None and isinstance(found.info, InputInfo):
            progress.advance(1, found.profile.num_rows, found.info.num_bytes)
    # Notes of several units say less of where the values of a file lie.
    grouped = group_units(map(_units_left, inspected), sys.maxsize if options.with_notes else None)
    work = [
        (units, name)
        for groups, (_, name) in zip(grouped, tasks, strict=True)
        for group in groups
        for units in profile.split(group)
    ]
    unit_profiles = execution.map(
        profile,
        work,
        lambda task: UnitProfile(error=lost_error(task[0][0].uri)),
        stage=Stage("profile units", is_valid=has_hashes),
    )
    files = iter(zip(inspected, grouped, strict=True))
    profiles: list[DataProfile] = []
    try:
        for one in sets:
            profiles.append(DataProfile(execution))
            for file in one.files:
                found, groups = next(files)
                parts = [profile.split(group) for group in groups]
                for counts in _add_file(profiles[-1], file.uri, found, parts, unit_profiles):
                    progress.advance(*counts)
    except BaseException:
        for made in profiles:
            made.close()
        raise
    return profiles


@dataclass(frozen=True, slots=True)
class _Profile:
    """Profiles units of one file that follow each other; their hashes are left in a folder, if there is one."""

    options: ProfileOptions
    folder: str | None = None

    def split(self, group: Sequence[WorkUnit]) -> Sequence[Sequence[WorkUnit]]:
        """What is done at once of a group: with hashes in memory one unit, lest many be in memory together."""
        return [group] if self.folder is not None else [[unit] for unit in group]

    def __call__(self, task: tuple[Sequence[WorkUnit], str | None]) -> UnitProfile:
        units, name = task
        if self.folder is None:
            (unit,) = units
            return profile_unit((unit, name), self.options)
        writer = HashWriter(f"{self.folder}/{digest([task])}")
        profiles = (profile_unit((unit, name), self.options) for unit in units)
        return writer.finish(merge_units(profiles, writer.add))


@dataclass(frozen=True, slots=True)
class _Inspected:
    """What a file's header says, and the file's profile if it is one unit."""

    info: InputInfo | SourceError
    profile: UnitProfile | None = None

    def restrict(self, max_bytes: int) -> _Inspected:
        """The file with its first units, at least one, up to a number of bytes."""
        info = self.info
        if isinstance(info, SourceError) or info.num_bytes <= max_bytes or len(info.units) == 1:
            return self
        number = max(1, len(info.units) * max_bytes // info.num_bytes)
        chosen = sorted(info.units, key=lambda unit: rank_of(unit.uri, unit.index))[:number]
        units = tuple(sorted(chosen, key=lambda unit: unit.index))
        return _Inspected(replace(info, units=units, num_bytes=sum(unit_bytes(unit, info) for unit in units)))


def _has_hashes(found: _Inspected) -> bool:
    return found.profile is None or has_hashes(found.profile)


def _inspect(task: tuple[InputFile, str | None], profile: _Profile, *, travels: bool) -> _Inspected:
    """Read the header of a file, and profile it right away if it is one unit, as most files of large datasets are."""
    file, name = task
    info = inspect_file(file, travels=travels)
    if isinstance(info, SourceError) or len(info.units) != 1:
        return _Inspected(info)
    return _Inspected(info, profile((info.units, name)))


def _units_left(file: _Inspected) -> Sequence[WorkUnit]:
    """The units of a file that are not profiled yet."""
    return () if isinstance(file.info, SourceError) or file.profile is not None else file.info.units


def _add_file(
    profile: DataProfile,
    uri: str,
    inspected: _Inspected,
    groups: Sequence[Sequence[Sequence[WorkUnit]]],
    unit_profiles: Iterator[UnitProfile],
) -> Iterator[tuple[int, int, int]]:
    """Add a file to the profile, and yield the numbers of units, rows and bytes that the progress does not count yet.

    ``groups`` of its units are merged before they are added; each has one profile for some of its units.
    """
    info = inspected.info
    if isinstance(info, SourceError):
        profile.files.append(FileProfile(uri, error=info))
        return
    file = FileProfile(uri, info.format, num_bytes=info.num_bytes, aligned=info.aligned)
    profile.files.append(file)
    take_hashes = partial(profile.add_hashes, file)
    if inspected.profile is not None:
        profile.add(file, merge_units([inspected.profile], take_hashes))
    for parts in groups:
        merged = merge_units(itertools.islice(unit_profiles, len(parts)), take_hashes)
        units = [unit for part in parts for unit in part]
        num_rows = merged.num_rows
        profile.add(file, merged)
        yield len(units), num_rows, sum(unit_bytes(unit, info) for unit in units)


def profile_memory(data: Any, options: ProfileOptions, name: str | None = None) -> DataProfile:
    """Profile data in memory; ``name`` tells several datasets in memory apart."""
    from datacheck.sources.memory import batches_of

    uri, batches = batches_of(data)
    uri = name or uri
    profile = DataProfile()
    file = FileProfile(uri, "memory")
    profile.files.append(file)
    found = profile_batches(_count_bytes(batches, file), options, uri=uri)
    profile.add(file, merge_units([found], partial(profile.add_hashes, file)))
    return profile


def _count_bytes(batches: Iterable[Batch], file: FileProfile) -> Iterator[Batch]:
    next_row = 0
    for batch in batches:
        if batch.counts_rows:
            # Arrays that are not rows of one table come one after another, each from row 0 on.
            file.aligned = file.aligned and batch.row_start == next_row
            next_row = batch.row_start + batch.num_rows
        file.num_bytes += sum(column.num_bytes for column in batch.columns)
        yield batch


def nameless_names(datasets: Sequence[Sequence[InputFile]], fields: Container[str | None]) -> list[list[str | None]]:
    """Name the nameless array of each file after it where the training data, which comes first, has several kinds of arrays.

    ``X_train.npy`` and ``y_train.npy`` are ``X`` and ``y``, unless they are among the ``fields`` of a schema by their whole
    name. Files that differ only in a number are parts of one array, or its samples.
    """

    def name_of(uri: str) -> str:
        stem = stem_of(uri)
        return stem if stem in fields else SPLIT.sub("", stem).strip("_-. ") or stem

    named = [
        {name_of(file.uri) for file in files if is_one_array(file.uri) and file.options.rows != "file"}
        for files in datasets
    ]
    kinds = {_NUMBER.sub("#", name) for name in named[0]}
    are_same = len(named[0]) <= _MAX_NUMBERED and all(names == named[0] for names in named)
    is_numbered = len(kinds) < len(named[0]) and not (are_same and kinds != {"#"})

    def name(uri: str) -> str | None:
        if not is_one_array(uri) or len(kinds if is_numbered else named[0]) < 2:
            return None
        return _NUMBER.sub("", name_of(uri)).strip("_-. ") or "#" if is_numbered else name_of(uri)

    return [[name(file.uri) for file in files] for files in datasets]


def kind_of_file(uri: str) -> str:
    """The name of a file without its numbers, in which parts of one dataset differ."""
    return _NUMBER.sub("#", stem_of(uri))


def _is_tabular(uri: str) -> bool:
    record = format_of_name(uri)
    return record is not None and record.is_tabular


def stem_of(uri: str) -> str:
    """The name of a file without its folder and its suffix."""
    return PurePath(uri).name.partition(".")[0]
