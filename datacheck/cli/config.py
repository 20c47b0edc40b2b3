"""``datacheck config``: what holds, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datacheck.cli.config_options import configured

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration

__all__ = ["config"]


@configured()
def config(
    configuration: Configuration,
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Files, of which to say what holds for them.", metavar="[FILE...]", show_default=False),
    ] = None,
) -> int:
    """Print every setting, its value, and where that came from: the command line, the environment, a file, or the default.

    With FILE..., print which schema holds for each, or that it is excluded.
    """
    _print_table(list(_of_files(paths, configuration) if paths else _rows(configuration)))
    return 0


def _rows(configuration: Configuration) -> Iterator[tuple[str, str, str]]:
    """Setting, value and origin; a mapping has a row for each entry."""
    from datacheck.gate.cache import default_folder
    from datacheck.gate.settings import Settings

    for name, info in Settings.model_fields.items():
        key = info.alias or name
        value: Any = getattr(configuration.settings, name)
        if key == "compare":
            value = value.model_dump(by_alias=True, exclude_unset=True)
        if key == "baseline" and value is None and configuration.baseline is not None:
            yield key, _shown(configuration.baseline), "found there"
        elif key == "cache-dir" and value is None:
            yield key, str(default_folder()), configuration.origin(key)
        elif isinstance(value, dict) and value:
            for entry, of_entry in value.items():
                place = f"{key}.{entry or '(the array)'}"
                yield place, _shown(of_entry), configuration.origins.get(place, configuration.origin(key))
        else:
            yield key, _shown(value), configuration.origin(key)


def _of_files(paths: Sequence[str], configuration: Configuration) -> Iterator[tuple[str, str, str]]:
    from datacheck.gate.checking import exclude_patterns, schema_chooser

    excluded = exclude_patterns(configuration)
    choose = schema_chooser(configuration)
    for path in paths:
        if excluded.match(path):
            yield path, "excluded", configuration.origin("exclude")
            continue
        schema = choose(path)
        origin = configuration.origin("schema" if schema == configuration.settings.schema_ else "schemas")
        yield path, "no NaN, no infinity" if schema is None else schema, origin


def _shown(value: Any) -> str:
    """A value in words; nothing is ``-``."""
    if value is None or value in ((), {}):
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {entry}" for key, entry in value.items())
    return str(value)


def _print_table(rows: Sequence[tuple[str, str, str]]) -> None:
    from datacheck.text import plain

    shown = [tuple(plain(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
    for name, value, origin in shown:
        print(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
