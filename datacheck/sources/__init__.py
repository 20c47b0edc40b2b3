"""Sources: one format a file. Formats are looked up in :mod:`datacheck.formats`."""

from datacheck.sources.base import InputInfo, ReadOptions, Source, WorkUnit
from datacheck.sources.detect import format_of, get_source, source_for
from datacheck.sources.discover import InputFile, expand_inputs

__all__ = [
    "InputFile",
    "InputInfo",
    "ReadOptions",
    "Source",
    "WorkUnit",
    "expand_inputs",
    "format_of",
    "get_source",
    "source_for",
]
