"""``datacheck config``: the settings in effect, and where each one was set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from datacheck.cli.config_options import with_configuration
from datacheck.cli.parameters import argument

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration


@with_configuration()
def config(
    configuration: Configuration,
    paths: Annotated[list[str] | None, argument("FILE", "Files whose schema to show.")] = None,
) -> int:
    """Show the settings in effect and where each was set.

    A setting comes from the command line, the environment, a configuration file, or the default. With FILE, show the schema
    of each file, or that it is excluded.

    Example: datacheck config data/train/a.parquet
    """
    _print_table(_file_rows(paths, configuration) if paths else _setting_rows(configuration))
    return 0


def _setting_rows(configuration: Configuration) -> Iterator[tuple[str, str, str]]:
    """Setting, value and origin. A mapping has a row for each entry."""
    from datacheck.gate.cache import default_folder
    from datacheck.gate.settings import Settings

    for attribute, info in Settings.model_fields.items():
        key = info.alias or attribute
        value: Any = getattr(configuration.settings, attribute)
        if key in ("compare", "reading"):
            value = value.model_dump(by_alias=True, exclude_unset=True)
        if key == "baseline" and value is None and configuration.baseline is not None:
            yield key, _format_value(configuration.baseline), "default file, found"
        elif key == "cache-dir" and value is None:
            yield key, str(default_folder()), configuration.origin(key)
        elif isinstance(value, dict) and value:
            for entry, entry_value in value.items():
                name = f"{key}.{entry or '(the array)'}"
                yield name, _format_value(entry_value), configuration.origins.get(name, configuration.origin(key))
        else:
            yield key, _format_value(value), configuration.origin(key)


def _file_rows(paths: Sequence[str], configuration: Configuration) -> Iterator[tuple[str, str, str]]:
    from datacheck.gate.checking import exclude_patterns, schema_chooser

    excluded = exclude_patterns(configuration)
    choose_schema = schema_chooser(configuration)
    for path in paths:
        if excluded.match(path):
            yield path, "excluded", configuration.origin("exclude")
            continue
        schema = choose_schema(path)
        origin = configuration.origin("schema" if schema == configuration.settings.schema_ else "schemas")
        yield path, "none (no NaN, no infinity, no null in a number)" if schema is None else schema, origin


def _format_value(value: Any) -> str:
    """A value as text, ``-`` if it is empty."""
    if value is None or value in ((), {}):
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {entry}" for key, entry in value.items())
    return str(value)


def _print_table(rows: Iterable[tuple[str, str, str]]) -> None:
    from datacheck.reports.text import format_table
    from datacheck.text import plain

    for line in format_table([[plain(cell) for cell in row] for row in rows], "lll"):
        print(line)
