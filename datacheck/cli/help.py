"""The layout of ``--help``, options in named groups, and what errors suggest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from datacheck.errors import nearest_name
from datacheck.text import plain

INPUT = "Input"
TEXT_TABLES = "CSV, TSV and TXT"
CHECKS = "Checks"
OUTPUT = "Output"
PERFORMANCE = "Performance"

_ORDER = ("Arguments", INPUT, TEXT_TABLES, CHECKS, OUTPUT, PERFORMANCE, "Options")
#: What other tools call a command.
_SYNONYMS = {
    "check": "scan",
    "validate": "scan",
    "lint": "scan",
    "test": "scan",
    "apply": "run",
    "repair": "run",
    "transform": "clean",
    "infer": "schema infer",
    "profile": "schema infer",
    "show": "schema show",
    "quarantine": "requeue",
    "drift": "compare",
    "version": "--version",
    "help": "--help",
}
_EXAMPLES = {
    "datacheck": (
        "datacheck scan data/",
        "datacheck init data/",
        "datacheck run pipeline.yaml --dry-run",
        "datacheck explain DC101",
    ),
    "schema": ("datacheck schema infer data/train -o schema.yaml", "datacheck schema check schema.yaml"),
    "baseline": ("datacheck baseline write data",),
    "merge": ("datacheck run pipeline.yaml --shard 1/2", "datacheck merge run pipeline.yaml"),
}


class HelpCommand(click.Command):
    """A command that lists its options by group. ``section`` is where a list of commands has it."""

    section = "Commands"

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        with _explained(self, ctx):
            return super().parse_args(ctx, args)

    def format_arguments(self, ctx: Any, formatter: Any) -> None:
        """Nothing: arguments are a group of the options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in _ORDER}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            groups[getattr(parameter, "group", "Options")].append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


@contextmanager
def _explained(command: Any, ctx: Any) -> Iterator[None]:
    try:
        yield
    except click.NoSuchOption as error:
        name = error.option_name
        raise click.NoSuchOption(name, _unknown_option(name, command, ctx), ctx=error.ctx) from None


def _unknown_option(name: str, command: Any, ctx: Any) -> str:
    """What is wrong with an option, with the nearest one; dashes make no name more like another."""
    known = {one.lstrip("-"): one for parameter in command.get_params(ctx) for one in parameter.opts}
    words = {word: option for word, option in known.items() if len(word) > 1}
    hint = nearest_name(name.lstrip("-"), words)
    other = name.swapcase()
    if hint:
        word = hint.partition("'")[2].partition("'")[0]
        hint = f"; did you mean '{words[word]}'?"
    elif other.lstrip("-") in known:
        hint = f"; did you mean '{other}'?"
    return f"unknown option '{plain(name, 60)}'{hint}"


class HelpGroup(click.Group):
    """A group that lists its commands by section, with examples, and knows what others call them."""

    section = "Commands"

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        with _explained(self, ctx):
            return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        width = formatter.width - 6 - max(map(len, self.commands))
        for name, command in self.commands.items():
            section = getattr(command, "section", "Commands")
            groups.setdefault(section, []).append((name, command.get_short_help_str(width)))
        for title, commands in groups.items():
            with formatter.section(title):
                formatter.write_dl(commands, col_max=max(map(len, self.commands)))
        if examples := _EXAMPLES.get(ctx.info_name):
            with formatter.section("Examples"):
                for example in examples:
                    formatter.write_text(example)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            synonym = _SYNONYMS.get(name.lower())
            known = synonym is not None and (synonym.startswith("-") or synonym.split()[0] in self.commands)
            hint = f"; did you mean '{synonym}'?" if known else nearest_name(name, self.commands)
            ctx.fail(f"unknown command '{plain(name, 60)}'{hint}")
        return super().resolve_command(ctx, args)
