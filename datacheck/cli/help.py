"""Declarations of options and arguments, and the layout of ``--help``: options in named groups."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["CHECKS", "INPUT", "OUTPUT", "PERFORMANCE", "TEXT_TABLES", "HelpCommand", "argument", "option"]

INPUT = "Input"
TEXT_TABLES = "CSV, TSV and TXT"
CHECKS = "Checks"
OUTPUT = "Output"
PERFORMANCE = "Performance"

_ORDER = ("Arguments", INPUT, TEXT_TABLES, CHECKS, OUTPUT, PERFORMANCE, "Options")


def option(
    group: str,
    text: str,
    *names: str,
    metavar: str | None = None,
    default: str | bool = False,
    min_value: int | None = None,
) -> Any:
    """Declare an option with the help ``text``. ``default`` describes the default value, or True shows the value itself."""
    return typer.Option(*names, help=text, metavar=metavar, show_default=default, min=min_value, rich_help_panel=group)


def argument(metavar: str, text: str, *, default: str | bool = False) -> Any:
    """Declare an argument with the help ``text``. ``default`` describes the default value."""
    return typer.Argument(help=text, metavar=metavar, show_default=default)


class HelpCommand(TyperCommand):
    """A command that lists its options by ``rich_help_panel``, in plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in _ORDER}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                groups["Arguments"].append((parameter.metavar or record[0], record[1]))
            else:
                groups[getattr(parameter, "rich_help_panel", None) or "Options"].append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)
