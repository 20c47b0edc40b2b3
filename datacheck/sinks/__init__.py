"""Sinks write output, one format per file. Formats are looked up by name and imported when first used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import cast

from datacheck.errors import OutputError, UsageError, nearest_name
from datacheck.formats import BUILT_IN, load, plugin_formats
from datacheck.sinks.base import PartWriter, Sink
from datacheck.text import plain

__all__ = ["PartWriter", "Sink", "get_sink", "sink_formats"]

_PICKLED = frozenset({"bin", "ckpt", "pkl", "pt", "pth", "torch"})


def sink_formats() -> tuple[str, ...]:
    """The formats that can be written, built in or from other packages, sorted."""
    return tuple(sorted({record.name for record in (*BUILT_IN.values(), *plugin_formats().values()) if record.sink}))


def get_sink(format: str, options: Mapping[str, object] | None = None) -> Sink:  # noqa: A002 - the word of pipeline files
    """The sink for a format, such as ``parquet``.

    ``options`` are the sink's own, such as ``{"compression": "zstd"}``. Raises ``OutputError`` for a format that cannot
    be written and ``UsageError`` for an unknown option.
    """
    sink_class = _load(format)
    options = dict(options or {})
    known = {field.name for field in fields(sink_class)} if is_dataclass(sink_class) else options.keys()
    for name in options.keys() - known:
        listed = f"use one of {', '.join(sorted(known))}" if known else "it has no options"
        raise UsageError(f"output format {format}: unknown option '{plain(name)}'{nearest_name(name, known)}; {listed}")
    return sink_class(**options)


def _load(format: str) -> type[Sink]:  # noqa: A002
    for formats in (BUILT_IN, plugin_formats()):
        if format in formats and formats[format].sink:
            return cast("type[Sink]", load(formats[format].sink))
    if format in _PICKLED:
        raise OutputError(f"format '{format}' cannot be written, since reading it can execute code; write safetensors")
    known = sink_formats()
    if (record := BUILT_IN.get(format)) is not None:
        instead = (
            f"write {record.written_as}" if record.written_as else "checkpoints are checked and compared, not cleaned"
        )
        raise OutputError(f"{record.title} cannot be written: {instead}")
    hint = nearest_name(format, known) or f"; use one of {', '.join(known)}"
    raise OutputError(f"unknown output format '{plain(format)}'{hint}")
