"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from datacheck.cli.help import CHECKS, INPUT, OUTPUT, PERFORMANCE

__all__ = [
    "SCHEMA_HELP",
    "Baseline",
    "Cache",
    "CacheDir",
    "Color",
    "ColorChoice",
    "Config",
    "Exclude",
    "Format",
    "Formats",
    "Ignore",
    "NoBaseline",
    "OutputFiles",
    "OutputFormat",
    "Overwrite",
    "Paths",
    "Pipeline",
    "Schema",
    "Select",
    "Severity",
    "Workers",
]

SCHEMA_HELP = "Schema file (YAML), or a pandera model as package.module:Model."
_FORMAT_HELP = "Report format: text, json, jsonl, sarif, junit, github, gitlab or markdown."


class OutputFormat(StrEnum):
    """The report formats."""

    text = "text"
    json = "json"
    jsonl = "jsonl"
    sarif = "sarif"
    junit = "junit"
    github = "github"
    gitlab = "gitlab"
    markdown = "markdown"


class ColorChoice(StrEnum):
    """When to color text."""

    auto = "auto"
    always = "always"
    never = "never"


Pipeline = Annotated[str, typer.Argument(help="Pipeline file (YAML).", metavar="PIPELINE", show_default=False)]
Format = Annotated[
    OutputFormat,
    typer.Option("--format", "-f", help=_FORMAT_HELP, metavar="FORMAT", rich_help_panel=OUTPUT),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the output of a different run in this folder.", rich_help_panel=OUTPUT),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-w",
        min=1,
        help="Number of units of work (files or parts of files) to process at the same time.",
        metavar="N",
        show_default="number of processors, at most 16",
        rich_help_panel=PERFORMANCE,
    ),
]

# Settings: the environment or the configuration file may set them too.
Paths = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, folders or globs to check.", metavar="PATH", show_default="'paths' in the configuration"
    ),
]
Formats = Annotated[
    list[OutputFormat] | None,
    typer.Option(
        "--format",
        "-f",
        help=f"{_FORMAT_HELP} Repeat it for several reports.",
        metavar="FORMAT",
        show_default="text",
        rich_help_panel=OUTPUT,
    ),
]
OutputFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        help="Write the report of the preceding --format to this file.",
        metavar="FILE",
        show_default="standard output",
        rich_help_panel=OUTPUT,
    ),
]
Color = Annotated[
    ColorChoice | None,
    typer.Option(
        "--color",
        help="When to color text: auto, always or never.",
        metavar="WHEN",
        show_default="auto",
        rich_help_panel=OUTPUT,
    ),
]
Schema = Annotated[
    str | None,
    typer.Option("--schema", "-s", help=SCHEMA_HELP, metavar="SCHEMA", show_default=False, rich_help_panel=CHECKS),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        help="Codes that count, or prefixes of codes, such as DC1,DC9.",
        metavar="CODES",
        show_default="all codes",
        rich_help_panel=CHECKS,
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        help="Codes or prefixes to ignore. The longer prefix wins over --select.",
        metavar="CODES",
        show_default=False,
        rich_help_panel=CHECKS,
    ),
]
Severity = Annotated[
    list[str] | None,
    typer.Option(
        "--severity",
        help="Change the severity of a code to error, warning or info, such as DC906=warning.",
        metavar="CODE=LEVEL",
        show_default=False,
        rich_help_panel=CHECKS,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Skip files that match this pattern (.gitignore syntax). Can be repeated.",
        metavar="PATTERN",
        show_default=False,
        rich_help_panel=INPUT,
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        help="File of known findings, which do not fail.",
        metavar="FILE",
        show_default="datacheck-baseline.json, if it exists",
        rich_help_panel=CHECKS,
    ),
]
NoBaseline = Annotated[bool, typer.Option("--no-baseline", help="Fail on known findings too.", rich_help_panel=CHECKS)]
Cache = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache",
        help="Reuse the verdicts on unchanged files.",
        show_default="cache",
        rich_help_panel=PERFORMANCE,
    ),
]
CacheDir = Annotated[
    str | None,
    typer.Option(
        "--cache-dir",
        help="Folder for cached verdicts.",
        metavar="FOLDER",
        show_default="~/.cache/datacheck",
        rich_help_panel=PERFORMANCE,
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="Configuration file (YAML or TOML).",
        metavar="FILE",
        show_default="the nearest datacheck.yaml or pyproject.toml",
        rich_help_panel=INPUT,
    ),
]
