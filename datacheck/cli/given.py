"""From options of a command line to settings of the gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datacheck.cli.options import ColorChoice
    from datacheck.gate.configuration import Configuration

__all__ = ["configuration_of"]


def configuration_of(
    *,
    schema: str | None,
    select: Sequence[str] | None,
    ignore: Sequence[str] | None,
    severity: Sequence[str] | None,
    exclude: Sequence[str] | None,
    config: str | None,
    baseline: str | None = None,
    no_baseline: bool = False,
    cache: bool | None = None,
    cache_dir: str | None = None,
    color: ColorChoice | None = None,
    workers: int | None = None,
) -> Configuration:
    """The configuration that holds for a command; raises ``ConfigurationError`` and ``UsageError``."""
    from datacheck.errors import UsageError
    from datacheck.gate.configuration import configure
    from datacheck.gate.environment import parse_pairs, split_list

    if baseline is not None and no_baseline:
        raise UsageError("--baseline and --no-baseline contradict each other; give one of them")
    given = {
        "schema": schema,
        "select": [code for text in select for code in split_list(text)] if select else None,
        "ignore": [code for text in ignore for code in split_list(text)] if ignore else None,
        "severity": parse_pairs([pair for text in severity for pair in split_list(text)], "--severity")
        if severity
        else None,
        "exclude": list(exclude) if exclude else None,
        "baseline": False if no_baseline else baseline,
        "cache": cache,
        "cache-dir": cache_dir,
        "color": None if color is None else color.value,
        "workers": workers,
    }
    named = {"cache": "--no-cache" if cache is False else "--cache"}
    if no_baseline:
        named["baseline"] = "--no-baseline"
    return configure(given, config=config, place=lambda key: named.get(key, f"--{key}"))
