"""Fixed files that are one sample each: which sample of an output each of them is."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datacheck.errors import UsageError, nearest_name
from datacheck.formats import format_of_name, get_format
from datacheck.jobs.executors.isolated import Isolated
from datacheck.jobs.identify import states_of
from datacheck.jobs.inputs import Input, input_of, path_from_pipeline
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.reading_for_schema import read_options
from datacheck.jobs.scan import are_paths, inspect_file, lost_inspection
from datacheck.leaves import IntArray
from datacheck.publishing.identity import LABEL_FIELD, InputState
from datacheck.publishing.manifest import identity_of
from datacheck.publishing.output_names import LABEL, QUARANTINE
from datacheck.sources.annotations import with_labels
from datacheck.sources.discover import InputFile, discover
from datacheck.sources.label_files import find_labels
from datacheck.storage import storage_of
from datacheck.text import join_limited, plain


@dataclass(frozen=True, slots=True)
class FixedSample:
    """A fixed file that is one sample: the index of its account, and the file as an input that is named as the sample.

    ``states`` are the files of the input as they are now, if the file was fixed there; none for a copy.
    """

    account: int
    item: Input
    states: Sequence[InputState] = ()

    @property
    def rows(self) -> IntArray:
        return np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True)
class Given:
    """What was given to take back: files that are one sample each, and tables, as files or in memory.

    ``replaced`` are the files of the output that the samples replace, by their names there.
    """

    samples: Sequence[FixedSample] = ()
    tables: Any = None
    replaced: frozenset[str] = field(default=frozenset())


def sort_given(fixed: Any, pipeline: Pipeline, manifest: Mapping[str, Any]) -> Given:
    """Tell fixed samples from tables of fixed rows.

    Raises ``UsageError`` for a file that is no sample of the output, or one that is not in quarantine.
    """
    if not are_paths(fixed):
        return Given(tables=fixed)
    options = replace(read_options(pipeline.reading, pipeline.schema), by_columns=False, keep_going=False, rows="file")
    files = with_labels(discover(fixed, options)).files
    if not any(account["rows"] == "file" for account in manifest["inputs"]):
        return Given(tables=files)
    known = _Samples(pipeline, manifest, [fixed] if isinstance(fixed, str | os.PathLike) else fixed)
    chosen: dict[int, InputFile] = {}
    others = []
    for file in files:
        record = get_format(file.format) if file.format else format_of_name(file.uri)
        if record is not None and not (record.is_sample or record.is_arrays):
            others.append(file)
        elif (index := known.find(file.uri)) is not None and chosen.setdefault(index, file) is not file:
            name = plain(known.uri(index))
            raise UsageError(f"{plain(chosen[index].uri)} and {plain(file.uri)} are both {name}; keep one of them")
    samples = [known.sample(index, file) for index, file in sorted(chosen.items())]
    labels = {posixpath.normpath(uri) for sample in samples for uri, _ in sample.item.labels}
    tables = [file for file in others if posixpath.normpath(file.uri) not in labels]
    if not samples and not tables:
        raise UsageError("none of these files is a sample that is in quarantine; nothing was changed")
    replaced = frozenset(
        part["path"]
        for sample in samples
        for kind in (QUARANTINE, LABEL)
        for part in _files(manifest["inputs"][sample.account], kind)
    )
    return Given(samples, tables or None, replaced)


class _Samples:
    """The samples of an output, by the paths of their inputs and of their copies in the quarantine."""

    def __init__(
        self, pipeline: Pipeline, manifest: Mapping[str, Any], written: Sequence[str | os.PathLike[str]]
    ) -> None:
        self._pipeline, self._accounts = pipeline, manifest["inputs"]
        self._folders = [f"{os.fspath(path).rstrip('/')}/" for path in written]
        self._written = {posixpath.normpath(os.fspath(path)) for path in written}
        identity = identity_of(manifest)
        assert identity is not None
        states = (state for state in identity.inputs if state.field != LABEL_FIELD)
        #: The path of each input from the pipeline's folder.
        self._paths: dict[int, str] = {}
        self._quarantined: dict[str, int] = {}
        self._named: dict[str, list[int]] = {}
        for index, account in enumerate(self._accounts):
            state, *_ = itertools.islice(states, len(account["files"] or (None,)))
            if account["rows"] != "file":
                continue
            self._paths[index] = state.path
            self._named.setdefault(posixpath.basename(state.path), []).append(index)
            self._quarantined |= {part["path"]: index for part in _files(account, QUARANTINE)}
        self._indices = {path: index for index, path in self._paths.items()}

    def uri(self, index: int) -> str:
        return str(self._accounts[index]["uri"])

    def find(self, uri: str) -> int | None:
        """The index of the sample that a file is; None for an input that is not in quarantine, found in a folder."""
        index = self._indices.get(path_from_pipeline(uri, self._pipeline))
        is_input = index is not None
        if index is None:
            index = self._quarantined.get(self._name_in_output(uri))
        if index is None:
            index = self._by_name(uri)
        account = self._accounts[index]
        if not any(_files(account, QUARANTINE)):
            if is_input and posixpath.normpath(uri) not in self._written:
                return None
            why = (
                "could not be read, so it is in no quarantine; 'datacheck run' reads it again"
                if account["status"] != "cleaned"
                else "is not in quarantine: it was kept, dropped, or taken back"
            )
            raise UsageError(f"{plain(uri)}: {plain(self.uri(index))} {why}")
        return index

    def _name_in_output(self, uri: str) -> str:
        storage = storage_of(uri)
        folder = f"{storage_of(self._pipeline.output).resolve(self._pipeline.output).rstrip('/')}/"
        path = storage.resolve(uri)
        return path.removeprefix(folder) if path.startswith(folder) else ""

    def _by_name(self, uri: str) -> int:
        """The sample with the name of a file, and with the folders of it below the folder that was given."""
        root = max((folder for folder in self._folders if uri.startswith(folder)), key=len, default="")
        name = uri.removeprefix(root) if root else posixpath.basename(uri)
        same = [
            index
            for index in self._named.get(posixpath.basename(uri), ())
            if f"/{self._paths[index]}".endswith(f"/{name}")
        ]
        longest = max((_num_common(uri, self._paths[index]) for index in same), default=0)
        same = [index for index in same if _num_common(uri, self._paths[index]) == longest]
        if len(same) == 1:
            return same[0]
        if same:
            raise UsageError(
                f"{plain(uri)}: could be {join_limited([self.uri(index) for index in same])}; save it below the folders that"
                " tell them apart"
            )
        hint = nearest_name(name, [posixpath.basename(path) for path in self._quarantined])
        raise UsageError(f"{plain(uri)}: no sample of this output has this name; a fixed file keeps its name{hint}")

    def sample(self, index: int, file: InputFile) -> FixedSample:
        """The sample that a file is, with its label files: those beside the file, and otherwise those in the quarantine."""
        account = self._accounts[index]
        (path, *_) = _files(account, QUARANTINE)
        name = _below_split(path["path"], account)
        item = input_of(str(account["split"]), file, Isolated(inspect_file, lost_inspection)(file))
        if item.error is not None:
            raise UsageError(str(item.error))
        labels = {label: uri for uri, label in find_labels(file.uri, name)}
        is_input = path_from_pipeline(file.uri, self._pipeline) == self._paths[index]
        for part in () if is_input else _files(account, LABEL):
            labels.setdefault(_below_split(part["path"], account), f"{self._pipeline.output}/{part['path']}")
        given = tuple((uri, label) for label, uri in labels.items())
        item = replace(item, identity=file.uri, sample_name=name, labels=given)
        return FixedSample(index, item, states_of(item, self._pipeline) if is_input else ())


def _files(account: Mapping[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    return (part for part in account["outputs"] if part["kind"] == kind)


def _below_split(path: str, account: Mapping[str, Any]) -> str:
    return path.removeprefix(f"{QUARANTINE}/{account['split']}/")


def _num_common(path: str, other: str) -> int:
    """How many of their last parts two paths have in common."""
    number = 0
    for one, two in zip(reversed(path.split("/")), reversed(other.split("/")), strict=False):
        if one != two:
            break
        number += 1
    return number
