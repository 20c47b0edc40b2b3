"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = [
    "Baseline",
    "CacheDir",
    "CacheSwitch",
    "Color",
    "ColorChoice",
    "Config",
    "Exclude",
    "Format",
    "Formats",
    "Ignore",
    "NoBaseline",
    "Output",
    "OutputFormat",
    "Overwrite",
    "Paths",
    "Pipeline",
    "Schema",
    "Select",
    "SeverityOf",
    "Workers",
]


class OutputFormat(StrEnum):
    """How a report is printed."""

    text = "text"
    json = "json"
    jsonl = "jsonl"
    sarif = "sarif"
    junit = "junit"
    github = "github"
    gitlab = "gitlab"
    markdown = "markdown"


class ColorChoice(StrEnum):
    """Whether text is coloured."""

    auto = "auto"
    always = "always"
    never = "never"


Schema = Annotated[
    str | None,
    typer.Option(
        "--schema", "-s", help="A schema file (YAML), or package.module:Model of pandera.", show_default=False
    ),
]
Format = Annotated[OutputFormat, typer.Option("--format", "-f", help="How the report is printed.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", "-w", min=1, help="How many parts are worked on at a time.", show_default="one a processor"
    ),
]
Pipeline = Annotated[str, typer.Argument(help="A pipeline file (YAML).", metavar="PIPELINE", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output of another run in the same folder.")]

# Of the gate: what is left unset here may be set in the environment or in a file.
Paths = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders or globs.", metavar="[PATH...]", show_default="'paths' of the configuration"),
]
Formats = Annotated[
    list[OutputFormat] | None,
    typer.Option("--format", "-f", help="How the report is written; may be given several times.", show_default="text"),
]
Output = Annotated[
    list[str] | None,
    typer.Option(
        "--output", "-o", help="The file for the --format before it.", metavar="FILE", show_default="standard output"
    ),
]
Color = Annotated[ColorChoice | None, typer.Option("--color", help="Whether text is coloured.", show_default="auto")]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select", help="Codes that count, or their beginnings: DC1,DC9.", metavar="CODES", show_default="all"
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", help="Codes that do not count; the longer one decides.", metavar="CODES", show_default=False
    ),
]
SeverityOf = Annotated[
    list[str] | None,
    typer.Option("--severity", help="CODE=error, warning or info.", metavar="CODE=LEVEL", show_default=False),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Paths to leave out, as in .gitignore.", metavar="PATTERN", show_default=False),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        help="Known findings, which do not fail.",
        metavar="FILE",
        show_default="datacheck-baseline.json, if it is there",
    ),
]
NoBaseline = Annotated[bool, typer.Option("--no-baseline", help="Let known findings fail, too.")]
CacheSwitch = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache", help="Whether verdicts of unchanged files are used again.", show_default="cache"
    ),
]
CacheDir = Annotated[
    str | None,
    typer.Option("--cache-dir", help="Where verdicts are kept.", metavar="FOLDER", show_default="~/.cache/datacheck"),
]
Config = Annotated[
    str | None,
    typer.Option("--config", help="The configuration file.", metavar="FILE", show_default="the nearest one"),
]
