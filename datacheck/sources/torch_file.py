"""``.pt`` and ``.pth``: files of ``torch.save``, loaded with ``weights_only=True`` and memory-mapped.

Loading never runs code. torch before 2.6 is refused: its ``weights_only`` can be bypassed.
"""

from __future__ import annotations

import re
import threading
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pickle import UnpicklingError
from typing import Any, ClassVar

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.archive import check_zip, open_zip, verify_stored
from datacheck.sources.base import REWRITE_FILE, InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.error_translation import (
    check_expansion,
    check_rows,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.members import plan_members
from datacheck.sources.numpy_pickles import is_numpy_value, numpy_stand_ins
from datacheck.sources.parameters import are_parameters, as_parameters
from datacheck.sources.structure import FoundArray, batches_of_array, batches_of_table, find_arrays
from datacheck.storage.base import Fingerprint
from datacheck.storage.registry import library_path, open_file
from datacheck.text import plain

#: Files of torch before 1.6 cannot be mapped: larger ones are refused.
MAX_LEGACY_BYTES = 512 << 20
_GLOBAL = re.compile(
    r"GLOBAL ([\w.]+)|Can only (?:build|create)[^<]*but got <class '([\w.]+)'>|unrecognized function ([^\n]{1,200})"
)
#: torch's list of safe globals is shared by the whole process.
_LOADING = threading.Lock()


class TorchSource:
    """Reads files of ``torch.save``: dicts, lists and tuples of tensors, state dicts, and tensor datasets."""

    format: ClassVar[str] = "torch"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        found = _load(uri, options)
        expanded = sum(one.num_rows * one.row_bytes for one in found)
        check_expansion(uri, expanded, fingerprint.size, len(found), options)
        for one in found:
            check_rows(uri, one.num_rows, one.num_rows * one.row_bytes, f"the tensor {one.name!r}")
        if found and found[0].name is None:
            if found[0].member().problem:
                return _plan_nameless(uri, self.format, fingerprint, found[0], options)
            # A single array is read whatever columns are requested, as in an .npy.
            options = replace(options, columns=None)
        return plan_members(uri, self.format, fingerprint, [one.member() for one in found], options)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        found = _load(unit.uri, unit.options)
        batches = self._read(unit, found)
        yield from map(as_parameters, batches) if are_parameters(one.name for one in found) else batches

    def _read(self, unit: WorkUnit, found: list[FoundArray]) -> Iterator[Batch]:
        if unit.options.verify_checksums and unit.index == 0:
            _verify_checksums(unit.uri, unit.options)
        if not unit.members:
            wanted = unit.options.columns
            chosen = [one for one in found if wanted is None or one.name is None or one.name in wanted]
            yield from batches_of_table(chosen, unit.row_start, unit.num_rows or 0)
            return
        by_name = {one.name or "": one for one in found}
        for name in unit.members:
            one = by_name[name]
            start, count = unit.range_of(one.num_rows)
            yield from batches_of_array(one, start, count)


def _load(uri: str, options: ReadOptions) -> list[FoundArray]:
    torch = _import_torch(uri)
    size = fingerprint_of(uri).size
    with open_file(uri) as file:
        is_zip = file.read_at(0, 2) == b"PK"
    records = _check_archive(uri, size, options) if is_zip else None
    if not is_zip and size > MAX_LEGACY_BYTES:
        problem = "it has the format of torch before 1.6, which must be read as a whole"
        raise SourceError("DC901", uri, problem, "load it and save it again with torch.save")
    with _LOADING, warnings.catch_warnings(), torch.serialization.safe_globals([_tensor_dataset()]):
        warnings.simplefilter("ignore")
        try:
            structure = _load_safely(torch, uri, is_zip)
        except UnpicklingError as error:
            raise _unpickling_error(uri, str(error)) from None
    found = find_arrays(uri, structure, options.max_members, with_plain=options.rows == "file")
    if records is not None:
        _check_storages(uri, found, records)
    return [one.with_rows(options.rows) for one in found]


def _load_safely(torch: Any, uri: str, is_zip: bool) -> Any:
    """The unpickled structure, with NumPy's values as ``PickledArray``."""
    try:
        return _load_once(torch, uri, is_zip)
    except UnpicklingError as error:
        if not is_numpy_value(_refused_name(str(error))):
            raise
    with numpy_stand_ins(torch.serialization):
        return _load_once(torch, uri, is_zip)


def _load_once(torch: Any, uri: str, is_zip: bool) -> Any:
    """The structure; its tensors are mapped where the file has a local path, else read into memory."""
    path = library_path(uri)
    if path is not None:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    with open_file(uri) as file:
        return torch.load(file, map_location="cpu", weights_only=True)


def _import_torch(uri: str) -> Any:
    try:
        import torch
    except ImportError:
        remedy = "install it with: pip install 'datacheck-ml[torch]'"
        raise SourceError("DC901", uri, "torch is required to read it, and is not installed", remedy) from None
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < (2, 6):
        problem = f"with torch {torch.__version__}, a file can run code even with weights_only=True"
        raise SourceError("DC901", uri, problem, "install torch 2.6 or newer")
    return torch


def _tensor_dataset() -> type:
    from torch.utils.data.dataset import TensorDataset

    return TensorDataset


def _check_archive(uri: str, size: int, options: ReadOptions) -> set[int]:
    """The sizes of an archive's members; raises ``SourceError`` if torch would map wrong bytes or run code."""
    with open_file(uri) as file, open_zip(file, options.max_members, uri) as archive:
        entries = check_zip(uri, archive, size, options)
    for entry in entries:
        if entry.filename.endswith(("/constants.pkl", "/code/")) or "/code/" in entry.filename:
            raise SourceError(
                "DC903", uri, "it is a TorchScript archive, which contains code", "save its state_dict instead"
            )
        if entry.compress_type != zipfile.ZIP_STORED:
            problem = f"the member {plain(entry.filename)!r} is compressed, but torch.save never compresses"
            raise SourceError("DC901", uri, problem, REWRITE_FILE)
    return {entry.file_size for entry in entries}


def _verify_checksums(uri: str, options: ReadOptions) -> None:
    """Raise ``SourceError`` if the bytes of a member do not have its checksum."""
    with open_file(uri) as file:
        if file.read_at(0, 2) != b"PK":
            return
        with open_zip(file, options.max_members, uri) as archive:
            for entry in archive.infolist():
                verify_stored(uri, file, entry)


def _check_storages(uri: str, found: list[FoundArray], records: set[int]) -> None:
    """Raise ``SourceError`` if a storage claims more bytes than its record has: it would reach into the next one."""
    for one in found:
        storage = getattr(one.values, "untyped_storage", None)
        if storage is not None and (claimed := storage().nbytes()) and claimed not in records:
            problem = (
                f"the tensor {plain(one.name or '')!r} claims a storage of {claimed:,} bytes, which does not exist"
            )
            raise SourceError("DC901", uri, problem, REWRITE_FILE)


def _refused_name(text: str) -> str:
    """The name of what ``torch.load`` refused to call, according to its message; empty for another message."""
    match = _GLOBAL.search(text)
    return "" if match is None else next(group for group in match.groups() if group)


def _unpickling_error(uri: str, text: str) -> SourceError:
    if not (name := plain(_refused_name(text))):
        # The cause comes after advice to users of torch.load.
        lines = [line.strip() for line in text.rpartition("WeightsUnpickler error:")[2].splitlines()]
        cause = next(filter(None, lines), "")
        return SourceError("DC901", uri, f"it cannot be unpickled ({plain(cause, 160)})", REWRITE_FILE)
    remedy = "save only tensors, or dicts and lists of tensors: datacheck never runs code from a file"
    return SourceError("DC903", uri, f"loading it needs {name!r}, which can run code", remedy)


def _plan_nameless(
    uri: str, format_: str, fingerprint: Fingerprint, found: FoundArray, options: ReadOptions
) -> InputInfo:
    """The only unit of a file with a single tensor that is not a table."""
    unit = WorkUnit(uri, format_, 0, fingerprint, 0, found.num_rows, members=("",), options=options)
    return InputInfo(uri, format_, fingerprint.size, found.num_rows, (unit,), False, found.member().problem)
