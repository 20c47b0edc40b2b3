"""Sinks: one output format a file. Formats are looked up by name, and loaded when they are asked for."""

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
    """The formats that can be written, sorted: datacheck's own and those of other packages."""
    return tuple(
        sorted(
            {
                *(name for name, record in BUILT_IN.items() if record.sink),
                *(name for name, record in plugin_formats().items() if record.sink),
            }
        )
    )


def get_sink(format: str, options: Mapping[str, object] | None = None) -> Sink:  # noqa: A002 - the word of pipeline files
    """The sink for a format, such as ``parquet``.

    ``options`` are the sink's own, such as ``{"compression": "zstd"}``. Raises ``OutputError`` for a format that cannot
    be written and ``UsageError`` for an option that the format does not have.
    """
    sink_class = _load(format)
    given = dict(options or {})
    known = {field.name for field in fields(sink_class)} if is_dataclass(sink_class) else given.keys()
    for name in given.keys() - known:
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise UsageError(f"output format {format} has no option '{plain(name)}'{nearest_name(name, known)}; {has}")
    return sink_class(**given)


def _load(format: str) -> type[Sink]:  # noqa: A002
    for formats in (BUILT_IN, plugin_formats()):
        if format in formats and formats[format].sink:
            return cast("type[Sink]", load(formats[format].sink))
    if format in _PICKLED:
        raise OutputError(f"format '{format}' is not written, since reading it can run code; write safetensors")
    known = sink_formats()
    raise OutputError(
        f"unknown output format '{plain(format)}'{nearest_name(format, known)}; use one of {', '.join(known)}"
    )
