"""Compares the files of one dataset: fields that some lack, that have another dtype in some, or no value in some.

Which files belong together is decided by their format, their folder, their names and their fields. The majority is taken
to be right, and the findings name the others.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from datacheck.findings import Finding, Severity
from datacheck.formats import Format, format_of_name
from datacheck.jobs.file_verdict import Columns, ColumnSummary, FileVerdict, files_by_columns
from datacheck.jobs.split_names import split_in_name
from datacheck.schema.model import Schema
from datacheck.text import join_limited

#: Kinds of layouts that are compared with each other; folders of more have nothing in common.
_MAX_KINDS = 100
#: Numbers and identifiers in names, except in dtypes (``fp16``).
_NUMBERS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,}|(?<!fp)(?<!bf)(?<!int)(?<!float)\d+")
_KINDS = (
    (re.compile(r"u?int\d+|float\d+|decimal.*"), "numbers"),
    (re.compile(r"date.*|time.*|duration.*"), "times"),
    (re.compile(r"string|binary"), "text"),
)


@dataclass(slots=True)
class _Dataset:
    """Files that belong together, by their columns. Names of files are given from ``folder``."""

    folder: str
    format: Format | None
    fields: frozenset[str | None]
    patterns: set[str] = field(default_factory=set)
    files: dict[Columns, list[str]] = field(default_factory=dict)

    @property
    def num_files(self) -> int:
        return sum(map(len, self.files.values()))

    def takes(self, fields: frozenset[str | None], patterns: set[str]) -> bool:
        """Whether files with these fields and patterns of names belong to the dataset."""
        ours, theirs = _ignoring_case(self.fields), _ignoring_case(fields)
        is_alike = 2 * len(ours & theirs) >= len(ours | theirs)
        is_named_alike = not patterns.isdisjoint(self.patterns)
        if self.format is not None and self.format.is_tabular:
            return is_alike or is_named_alike
        return is_alike and is_named_alike


def _ignoring_case(fields: Iterable[str | None]) -> set[str | None]:
    return {name and name.casefold() for name in fields}


def compare_files(verdicts: Iterable[FileVerdict], schema: Schema) -> list[Finding]:
    """The findings on files that differ from the others of their dataset. What the schema says is left to its checks."""
    datasets = list(_datasets(verdicts))
    findings: list[Finding] = []
    for one in datasets:
        if one.num_files > (2 if one.format is not None and one.format.is_one_array else 1):
            findings += _missing(one, schema)
            findings += _dtypes(one, schema)
            findings += _nulls(one)
    for some in _across_folders(datasets):
        findings += _dtypes(some, schema, Severity.WARNING)
    return findings


# Which files belong together


def _datasets(verdicts: Iterable[FileVerdict]) -> Iterator[_Dataset]:
    groups: dict[tuple[str, str, str], list[FileVerdict]] = {}
    for verdict in verdicts:
        format_ = format_of_name(verdict.uri)
        if verdict.columns and verdict.num_rows and format_ is not None:
            key = (_folder(verdict.uri), format_.name, split_in_name(verdict.uri))
            groups.setdefault(key, []).append(verdict)
    for (folder, _, _), group in groups.items():
        yield from _split(folder, format_of_name(group[0].uri), group)


def _split(folder: str, format_: Format | None, group: Sequence[FileVerdict]) -> list[_Dataset]:
    """Split the files of one format and folder into datasets, the most common fields first."""
    layouts: dict[frozenset[str | None], dict[Columns, list[str]]] = {}
    for columns, uris in files_by_columns(group).items():
        fields = frozenset(column.path for column in columns)
        layouts.setdefault(fields, {})[columns] = uris
    found: list[_Dataset] = []
    for fields, files in sorted(layouts.items(), key=lambda item: -sum(map(len, item[1].values()))):
        by_pattern: dict[str, dict[Columns, list[str]]] = {}
        for columns, uris in files.items():
            for uri in uris:
                pattern = _NUMBERS.sub("#", posixpath.basename(uri).lower())
                by_pattern.setdefault(pattern, {}).setdefault(columns, []).append(uri)
        for pattern, some in by_pattern.items():
            takers = (one for one in found[:_MAX_KINDS] if one.takes(fields, {pattern}))
            dataset = next(takers, None)
            if dataset is None:
                dataset = _Dataset(folder, format_, fields)
                found.append(dataset)
            dataset.patterns.add(pattern)
            for columns, uris in some.items():
                dataset.files.setdefault(columns, []).extend(uris)
    return found


def _folder(uri: str) -> str:
    """The folder of a file, above the folders of its partitions."""
    folder = posixpath.dirname(uri)
    while "=" in posixpath.basename(folder):
        folder = posixpath.dirname(folder)
    return folder


def _across_folders(datasets: Sequence[_Dataset]) -> Iterator[_Dataset]:
    """Tables with the same fields in several folders or splits, each file with what most files of its dataset have."""
    alike: dict[tuple[str, frozenset[str | None]], list[_Dataset]] = {}
    for one in datasets:
        if one.format is not None and one.format.is_tabular:
            alike.setdefault((one.format.name, one.fields), []).append(one)
    for some in alike.values():
        if len(some) > 1:
            merged = _Dataset("", some[0].format, some[0].fields)
            for one in some:
                usual = max(one.files, key=lambda columns: len(one.files[columns]))
                merged.files.setdefault(usual, []).extend(uri for uris in one.files.values() for uri in uris)
            yield merged


# How they differ


def _missing(dataset: _Dataset, schema: Schema) -> Iterator[Finding]:
    present = {columns: {column.path for column in columns} for columns in dataset.files}
    paths = dict.fromkeys(column.path for columns in dataset.files for column in columns)
    for path in paths:
        if path is None or schema.field_for(path) is not None or _is_partition(path, dataset):
            continue
        with_it = [uri for columns, uris in dataset.files.items() if path in present[columns] for uri in uris]
        without = [
            uri
            for columns, uris in dataset.files.items()
            if path not in present[columns] and _parent(path) in (None, *present[columns])
            for uri in uris
        ]
        if not without:
            continue
        is_rare = len(with_it) < len(without)
        odd = sorted(with_it if is_rare else without)
        detail = f"{'only in' if is_rare else 'missing in'} {len(odd):,}: {_names(dataset, odd)}"
        variants = [other for other in paths if other and other != path and other.casefold() == path.casefold()]
        if variants:
            detail += f"; only its case differs from {join_limited(variants)}"
        yield Finding("DC316", odd[0], path, len(odd), dataset.num_files, detail=detail)


def _parent(path: str) -> str | None:
    """The field that holds a nested one, whose absence is what counts."""
    stem = path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]
    return stem or None


def _dtypes(dataset: _Dataset, schema: Schema, severity: Severity | None = None) -> Iterator[Finding]:
    record = dataset.format

    def has_dtype(path: str | None) -> bool:
        is_nested = path is not None and ("." in path or "[" in path)
        return record is None or (record.has_dtypes and (record.has_nested_dtypes or not is_nested))

    by_path = _values_by_path(dataset, lambda column: (_dtype_of if has_dtype(column.path) else _kind_of)(column))
    for path, by_dtype in by_path.items():
        by_dtype.pop("", None)
        declared = schema.field_for(path)
        if len(by_dtype) < 2 or (declared is not None and declared.dtype is not None):
            continue
        usual = max(by_dtype, key=lambda dtype: len(by_dtype[dtype]))
        odd = {dtype: uris for dtype, uris in by_dtype.items() if dtype != usual}
        described = [f"{dtype} in {len(uris):,}: {_names(dataset, uris)}" for dtype, uris in odd.items()]
        detail = "; ".join([*described, f"{usual} in {len(by_dtype[usual]):,}"])
        found = sorted(uri for uris in odd.values() for uri in uris)
        num_files = sum(map(len, by_dtype.values()))
        weight = severity or (None if has_dtype(path) else Severity.WARNING)
        yield Finding("DC317", found[0], path, len(found), num_files, detail=detail, severity=weight)


def _nulls(dataset: _Dataset) -> Iterator[Finding]:
    for path, by_state in _values_by_path(dataset, lambda column: "null" if column.is_null else "").items():
        odd, others = sorted(by_state.get("null", ())), by_state.get("", ())
        if odd and len(odd) <= len(others) and not _is_partition(path, dataset):
            yield Finding("DC318", odd[0], path, len(odd), len(odd) + len(others), detail=_names(dataset, odd))


def _values_by_path(
    dataset: _Dataset, value_of: Callable[[ColumnSummary], str]
) -> dict[str | None, dict[str, list[str]]]:
    """For each field, the files by the value of a function of the field's summary."""
    found: dict[str | None, dict[str, list[str]]] = {}
    for columns, uris in dataset.files.items():
        for column in columns:
            found.setdefault(column.path, {}).setdefault(value_of(column), []).extend(uris)
    return found


def _dtype_of(column: ColumnSummary) -> str:
    """The dtype to compare: none for a list, whose values are compared, and for a field without values."""
    return "" if column.is_null or column.dtype == "null" or column.dtype.startswith("list<") else column.dtype


def _kind_of(column: ColumnSummary) -> str:
    """What a format without dtypes says: integers and floats are both numbers."""
    dtype = _dtype_of(column)
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(dtype)), dtype)


def _is_partition(path: str | None, dataset: _Dataset) -> bool:
    """Whether a field comes from the names of folders."""
    uris = next(iter(dataset.files.values()))
    return any(part.startswith(f"{path}=") for part in uris[0].removeprefix(dataset.folder).split("/"))


def _names(dataset: _Dataset, uris: Sequence[str]) -> str:
    prefix = f"{dataset.folder}/" if dataset.folder else ""
    return join_limited([uri.removeprefix(prefix) for uri in sorted(uris)], 5)
