"""Sources: one format a file, a table of them, and the entry points ``datacheck.sources`` for those of others."""

from __future__ import annotations

import functools
import importlib
import zipfile
from pathlib import Path

from datacheck.errors import SourceError, UsageError, nearest_name
from datacheck.sources.base import InputInfo, ReadOptions, Source, WorkUnit
from datacheck.sources.discover import InputFile, expand_inputs
from datacheck.sources.plugins import plugin_format, plugin_sources
from datacheck.sources.probe import read_head
from datacheck.sources.suffixes import BUILT_IN_SUFFIXES, format_of_name
from datacheck.text import plain

__all__ = [
    "BUILT_IN",
    "InputFile",
    "InputInfo",
    "ReadOptions",
    "Source",
    "WorkUnit",
    "expand_inputs",
    "format_of",
    "get_source",
    "known_suffixes",
    "source_for",
]

#: The built-in sources: format -> ``module:Class``, imported when one is asked for.
BUILT_IN: dict[str, str] = {
    "aligned": "datacheck.sources.aligned:AlignedSource",
    "arrow": "datacheck.sources.arrow_file:ArrowSource",
    "csv": "datacheck.sources.csv:CsvSource",
    "npy": "datacheck.sources.npy:NpySource",
    "npz": "datacheck.sources.npz:NpzSource",
    "parquet": "datacheck.sources.parquet:ParquetSource",
    "safetensors": "datacheck.sources.safetensors:SafetensorsSource",
    "torch": "datacheck.sources.torch_file:TorchSource",
}

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
#: How files of a format begin. CSV has no such mark, and an Arrow stream need not have one.
_MAGIC: dict[str, tuple[bytes, ...]] = {
    "parquet": (b"PAR1", b"PARE"),
    "arrow": (b"ARROW1", b"FEA1", b"\xff\xff\xff\xff"),
    "npy": (b"\x93NUMPY",),
    "npz": _ZIP,
    "torch": (*_ZIP, b"\x80"),
}
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".tar", ".tgz", ".7z")


@functools.cache
def get_source(format: str) -> Source:  # noqa: A002 - the word that units and reports use
    """The source of a format by its name; raises ``UsageError`` for an unknown one."""
    if format in BUILT_IN:
        module, _, name = BUILT_IN[format].partition(":")
        source: Source = getattr(importlib.import_module(module), name)()
        return source
    if format in plugin_sources():
        return plugin_sources()[format]
    known = sorted({*BUILT_IN, *plugin_sources()})
    raise UsageError(f"no source reads the format {format!r}{nearest_name(format, known)} (known: {', '.join(known)})")


def source_for(uri: str) -> Source:
    """The source that reads a file: by the suffix of its name, confirmed by its first bytes; raises ``SourceError``."""
    return get_source(format_of(uri))


def format_of(uri: str) -> str:
    """The format of a file; raises ``SourceError``."""
    head = read_head(uri)
    named = format_of_name(uri) or plugin_format(uri)
    if named is None:
        found = _format_of_head(uri, head)
        if found is None:
            raise SourceError("DC909", uri, _unknown(uri), f"known suffixes: {' '.join(known_suffixes())}")
        return found
    if named in BUILT_IN:
        _confirm(uri, named, head)
    return named


def known_suffixes() -> list[str]:
    """The suffixes of all formats, sorted."""
    return sorted({*BUILT_IN_SUFFIXES, *(suffix for source in plugin_sources().values() for suffix in source.suffixes)})


def _confirm(uri: str, named: str, head: bytes) -> None:
    if head.startswith(b"PARE"):
        raise SourceError("DC905", uri, "the Parquet file is encrypted", "decrypt it first: datacheck takes no keys")
    if named in _MAGIC and head.startswith(_MAGIC[named]):
        return
    other = _format_of_head(uri, head)
    if other is not None and other != named and named not in _strict():
        raise SourceError("DC901", uri, f"its name says {named}, its first bytes say {other}", "rename it")
    if named in _strict():
        instead = f"; they are those of {other}" if other else ""
        remedy = "rename it" if other else "write the file again, or take it out of the inputs"
        raise SourceError("DC901", uri, f"its first bytes are not those of {named}{instead}", remedy)


def _strict() -> set[str]:
    return set(_MAGIC) - {"arrow"}


def _format_of_head(uri: str, head: bytes) -> str | None:
    if head.startswith(_ZIP):
        return "torch" if _is_torch_zip(uri) else "npz"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:
        return "safetensors"
    return next((name for name in ("parquet", "arrow", "npy") if head.startswith(_MAGIC[name])), None)


def _is_torch_zip(uri: str) -> bool:
    try:
        with zipfile.ZipFile(uri) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _unknown(uri: str) -> str:
    name = plain(Path(uri).name)
    if name.lower().endswith(_PACKED):
        return f"{name!r} is packed, and is read only once it is unpacked"
    return f"neither the name {name!r} nor its first bytes are of a known format"
