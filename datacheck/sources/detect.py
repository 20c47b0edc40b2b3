"""Finds the format of a file, by its name and its first bytes, and the source that reads it."""

from __future__ import annotations

import functools
from pathlib import PurePath

from datacheck.errors import SourceError, UsageError
from datacheck.formats import (
    UNREAD,
    Format,
    format_of_name,
    get_format,
    known_suffixes,
    load,
    recognize,
    unread_format_of,
)
from datacheck.sources.base import REWRITE_FILE, InputInfo, Source
from datacheck.sources.dataset_folders import dataset_folder
from datacheck.sources.discover import InputFile
from datacheck.sources.probe import read_head
from datacheck.storage.registry import storage_of
from datacheck.text import join_fitting, plain

_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".tar", ".tgz", ".7z")


@functools.cache
def get_source(format: str) -> Source:  # noqa: A002 - the word that units and reports use
    """The source of a format by its name; raises ``UsageError`` for an unknown one."""
    if format == "memory":
        in_memory: Source = load("datacheck.sources.memory:MemorySource")()
        return in_memory
    record = get_format(format)
    if not record.source:
        raise UsageError(f"format {format!r} can be written, but not read")
    source: Source = load(record.source)()
    return source


def source_for(uri: str, format: str = "") -> Source:  # noqa: A002 - the word that units and reports use
    """The source that reads a file: of ``format``, or by the suffix of its name and its first bytes; raises ``SourceError``."""
    return get_source(format or format_of(uri).name)


def inspect_input(file: InputFile) -> InputInfo:
    """What the header of a file says; raises ``SourceError``, DC911 for a missing file that a log or an index names."""
    try:
        return source_for(file.uri, file.format).inspect(file.uri, file.options)
    except SourceError as error:
        if error.code != "DC902" or not file.format or storage_of(file.uri).exists(file.uri):
            raise
        problem = f"{error.problem}, and the log or index of its dataset names it"
        raise SourceError(
            "DC911", file.uri, problem, "fetch or restore it, or pin a version of a table whose files exist"
        ) from None


def format_of(uri: str) -> Format:
    """The format of a file, or of a folder that is one dataset; raises ``SourceError``."""
    head = read_head(uri)
    if not head and (dataset := dataset_folder(storage_of(uri), uri)) is not None:
        return dataset
    record = format_of_name(uri)
    if record is not None and not record.shares_suffix:
        _confirm(uri, record, head)
        return record
    found = recognize(uri, head)
    if found is None:
        raise _unknown(uri, head)
    return found


def _confirm(uri: str, named: Format, head: bytes) -> None:
    """Raise ``SourceError`` (DC901) where the first bytes of a file contradict its name."""
    if head.startswith(b"PARE"):
        raise SourceError(
            "DC905", uri, "the Parquet file is encrypted", "decrypt it first: datacheck does not take keys"
        )
    if head.startswith(named.magic):
        return
    is_required = bool(named.magic) and named.requires_magic
    other = recognize(uri, head)
    if other is not None and other.output_name != named.output_name and not is_required:
        raise SourceError("DC901", uri, f"its name says {named.name}, its first bytes say {other.name}", "rename it")
    if is_required:
        unread = next((one for one in UNREAD if one.magic and head.startswith(one.magic)), None)
        instead, fix = "do not", REWRITE_FILE
        if other is not None:
            instead, fix = f"say {other.name}", "rename it"
        elif unread is not None:
            instead, fix = f"say {unread.name}", unread.remedy
        raise SourceError("DC901", uri, f"its name says {named.name}, its first bytes {instead}", fix)


def _unknown(uri: str, head: bytes) -> SourceError:
    name = plain(PurePath(uri).name)
    if (unread := unread_format_of(name, head)) is not None:
        return SourceError("DC909", uri, f"{name!r} is {unread.name}, which datacheck does not read", unread.remedy)
    if name.lower().endswith((".yaml", ".yml")):
        remedy = "give a schema to --schema, and a pipeline to 'datacheck run'"
        return SourceError("DC909", uri, f"{name!r} is a YAML file, not data", remedy)
    if name.lower().endswith(_PACKED):
        problem = f"{name!r} is compressed or an archive; unpack it first"
    else:
        problem = f"neither the name {name!r} nor its first bytes belong to a known format"
    return SourceError("DC909", uri, problem, f"known suffixes: {join_fitting(known_suffixes())}")
