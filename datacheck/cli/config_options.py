"""Adds the options that override settings to a command, and passes it the resulting configuration."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

from datacheck.cli import options

if TYPE_CHECKING:
    from datacheck.cli.options import ColorChoice, RowsChoice
    from datacheck.gate.configuration import Configuration


Command = Callable[..., int]

#: Option -> its declaration and default.
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "schema": (options.Schema, None),
    "select": (options.Select, None),
    "ignore": (options.Ignore, None),
    "severity": (options.Severity, None),
    "exclude": (options.Exclude, None),
    "notes": (options.Notes, None),
    "baseline": (options.Baseline, None),
    "no_baseline": (options.NoBaseline, False),
    "cache": (options.Cache, None),
    "cache_dir": (options.CacheDir, None),
    "color": (options.Color, None),
    "rows": (options.Rows, None),
    "workers": (options.Workers, None),
    "reading": (options.Reading, None),
    "config": (options.Config, None),
}
#: Options that are keys of one setting, ``reading``.
_READING_OPTIONS: dict[str, Any] = {
    "csv_delimiter": options.CsvDelimiter,
    "csv_decimal": options.CsvDecimal,
    "csv_thousands": options.CsvThousands,
    "csv_quote": options.CsvQuote,
    "csv_encoding": options.CsvEncoding,
    "csv_null_values": options.CsvNullValues,
    "csv_header": options.CsvHeader,
    "csv_comment": options.CsvComment,
    "trust_statistics": options.TrustStatistics,
}
_OPTIONS |= {name: (declared, None) for name, declared in _READING_OPTIONS.items()}


def with_configuration(*, without: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Replace a command's parameter ``configuration`` by options, except those in ``without``, and build it from them."""
    names = [name for name in _OPTIONS if name not in without]

    def decorate(command: Command) -> Command:
        # Configuration is imported only for type checkers, to keep the start fast.
        hints = get_type_hints(command, localns={"Configuration": object}, include_extras=True)
        own = [
            part.replace(annotation=hints[part.name])
            for part in inspect.signature(command).parameters.values()
            if part.name != "configuration"
        ]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=declared)
            for name, (declared, default) in _OPTIONS.items()
            if name in names
        ]

        @functools.wraps(command)
        def configured(*args: Any, **kwargs: Any) -> int:
            given = {name: kwargs.pop(name) for name in names}
            return command(*args, configuration=_build_configuration(**given), **kwargs)

        # The parameters of a command are read from its signature, and their types from its annotations.
        signature = inspect.Signature([*own, *shared], return_annotation=int)
        configured.__signature__ = signature  # type: ignore[attr-defined]
        configured.__annotations__ = {name: part.annotation for name, part in signature.parameters.items()}
        return configured

    return decorate


def _build_configuration(
    *,
    config: str | None,
    schema: str | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    severity: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    notes: bool | None = None,
    baseline: str | None = None,
    no_baseline: bool = False,
    cache: bool | None = None,
    cache_dir: str | None = None,
    color: ColorChoice | None = None,
    rows: RowsChoice | None = None,
    workers: int | None = None,
    reading: Sequence[str] | None = None,
    **named_reading: Any,
) -> Configuration:
    """The configuration for a command. Raises ``ConfigurationError`` and ``UsageError``."""
    import os
    import sys

    from datacheck.errors import UsageError
    from datacheck.gate.configuration import configure
    from datacheck.gate.environment import parse_pairs, split_list, unknown_variables

    for problem in unknown_variables(os.environ):
        print(f"datacheck: {problem}", file=sys.stderr)

    if baseline is not None and no_baseline:
        raise UsageError("--baseline and --no-baseline contradict each other; give only one of them")

    def split(texts: Sequence[str] | None) -> list[str] | None:
        return [part for text in texts for part in split_list(text)] if texts else None

    pairs = split(severity)
    given = {
        "schema": schema,
        "select": split(select),
        "ignore": split(ignore),
        "severity": None if pairs is None else parse_pairs(pairs, "--severity", "CODE=LEVEL such as DC104=warning"),
        "exclude": list(exclude) if exclude else None,
        "notes": notes,
        "baseline": False if no_baseline else baseline,
        "cache": cache,
        "cache-dir": cache_dir,
        "color": None if color is None else color.value,
        "rows": None if rows is None else rows.value,
        "workers": workers,
        "reading": _reading(
            parse_pairs(reading or (), "--reading", "NAME=VALUE such as verify_checksums=false"), named_reading
        ),
    }
    named = {"cache": "--no-cache" if cache is False else "--cache", "reading": "command line"}
    if notes is False:
        named["notes"] = "--no-notes"
    if no_baseline:
        named["baseline"] = "--no-baseline"
    return configure(given, config=config, place_of=lambda key: named.get(key, f"--{key}"))


def _reading(pairs: Mapping[str, str], named: Mapping[str, Any]) -> dict[str, Any] | None:
    """``--reading`` and the options that are keys of it as the setting ``reading``; None if none is given."""
    reading: dict[str, Any] = {**pairs, **{name: value for name, value in named.items() if value is not None}}
    if reading.get("csv_delimiter") in ("\\t", "tab"):
        reading["csv_delimiter"] = "\t"
    if "csv_null_values" in reading:
        reading["csv_null_values"] = ["", *(word for word in reading["csv_null_values"].split(",") if word)]
    return reading or None
