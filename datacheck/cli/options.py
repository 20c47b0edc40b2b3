"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from datacheck.cli.help import CHECKS, INPUT, OUTPUT, PERFORMANCE, TEXT_TABLES
from datacheck.cli.parameters import argument, option

SCHEMA_HELP = "Schema file (YAML), or a pandera model as package.module:Model."
_FORMAT_HELP = "Report format: text, json, jsonl, sarif, junit, github, gitlab, markdown or html."


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
    html = "html"


class ColorChoice(StrEnum):
    """When to color text."""

    auto = "auto"
    always = "always"
    never = "never"


class RowsChoice(StrEnum):
    """What the rows of a file of arrays are."""

    file = "file"
    first_axis = "first-axis"


Pipeline = Annotated[str, argument("PIPELINE", "Pipeline file (YAML).")]
Format = Annotated[OutputFormat, option(OUTPUT, _FORMAT_HELP, "--format", "-f", metavar="FORMAT", default=True)]
Overwrite = Annotated[bool, option(OUTPUT, "Replace the output of a different run in this folder.", "--overwrite")]
Workers = Annotated[
    int | None,
    option(
        PERFORMANCE,
        "Number of units of work (files or parts of files) to process at the same time.",
        "--workers",
        "-w",
        min_value=1,
        metavar="N",
        default="number of processors, at most 16",
    ),
]

# Settings: the environment or the configuration file may set them too.
Paths = Annotated[
    list[str] | None, argument("PATH", "Files, folders or globs to check.", default="'paths' in the configuration")
]
Limit = Annotated[
    int | None,
    option(
        OUTPUT,
        "Findings up to which text lists all; beyond it, a table sums them up. 0 always lists all.",
        "--limit",
        "-n",
        metavar="N",
        default="40",
        min_value=0,
    ),
]
Quiet = Annotated[
    bool, option(OUTPUT, "Print only the last line of text: how much was found in what.", "--quiet", "-q")
]
Summary = Annotated[
    bool, option(OUTPUT, "Print only a table: how much of what in which field, in how many files.", "--summary")
]
ShowRows = Annotated[
    int,
    option(
        OUTPUT,
        "Also print the first N bad rows, as 'datacheck rows' does.",
        "--show-rows",
        metavar="N",
        default="none",
        min_value=0,
    ),
]
Formats = Annotated[
    list[OutputFormat] | None,
    option(
        OUTPUT, f"{_FORMAT_HELP} Repeat it for several reports.", "--format", "-f", metavar="FORMAT", default="text"
    ),
]
OutputFiles = Annotated[
    list[str] | None,
    option(
        OUTPUT,
        "Write the report of the preceding --format to this file.",
        "--output",
        "-o",
        metavar="FILE",
        default="standard output",
    ),
]
Color = Annotated[
    ColorChoice | None,
    option(OUTPUT, "When to color text: auto, always or never.", "--color", metavar="WHEN", default="auto"),
]
Schema = Annotated[str | None, option(CHECKS, SCHEMA_HELP, "--schema", "-s", metavar="SCHEMA")]
Select = Annotated[
    list[str] | None,
    option(
        CHECKS,
        "Codes that count, or prefixes of codes, such as DC1,DC9.",
        "--select",
        metavar="CODES",
        default="all codes",
    ),
]
Ignore = Annotated[
    list[str] | None,
    option(
        CHECKS,
        "Codes or prefixes to ignore. If --select matches too, the longer prefix wins.",
        "--ignore",
        metavar="CODES",
    ),
]
Severity = Annotated[
    list[str] | None,
    option(
        CHECKS,
        "Change the severity of a code to error, warning or info, such as DC906=warning.",
        "--severity",
        metavar="CODE=LEVEL",
    ),
]
Exclude = Annotated[
    list[str] | None,
    option(
        INPUT,
        "Skip files that match this pattern (.gitignore syntax). Can be repeated.",
        "--exclude",
        metavar="PATTERN",
    ),
]
Baseline = Annotated[
    str | None,
    option(
        CHECKS,
        "File of known findings, which do not fail.",
        "--baseline",
        metavar="FILE",
        default="datacheck-baseline.json, if it exists",
    ),
]
Notes = Annotated[
    bool | None,
    option(
        CHECKS,
        "Also note what looks wrong and no rule forbids, such as sentinels and outliers. Reads the data a second time;"
        " the exit code is the same.",
        "--notes/--no-notes",
        default="no notes",
    ),
]
Sample = Annotated[
    str | None,
    option(
        INPUT,
        "Check a share of the files only, for a first look at what is large: always the same units of work. The report says"
        " what was left out.",
        "--sample",
        metavar="SHARE",
        default="everything",
    ),
]
TrustStatistics = Annotated[
    bool | None,
    option(
        PERFORMANCE,
        "Leave Parquet columns unread where the statistics in the footer prove every rule, as far as their writer can be"
        " trusted. The report says how many.",
        "--trust-statistics",
        default="read everything",
    ),
]
NoBaseline = Annotated[bool, option(CHECKS, "Fail on known findings too.", "--no-baseline")]
Cache = Annotated[
    bool | None, option(PERFORMANCE, "Reuse the verdicts on unchanged files.", "--cache/--no-cache", default="cache")
]
CacheDir = Annotated[
    str | None,
    option(PERFORMANCE, "Folder for cached verdicts.", "--cache-dir", metavar="FOLDER", default="~/.cache/datacheck"),
]
Rows = Annotated[
    RowsChoice | None,
    option(
        INPUT,
        "What a file of arrays (.npy, .npz, .pt, .safetensors) holds: one sample (file), or many along its first axis"
        " (first-axis).",
        "--rows",
        metavar="WHAT",
        default="first-axis",
    ),
]
Reading = Annotated[
    list[str] | None,
    option(
        INPUT,
        "How to read files: any key of 'reading' in the configuration, such as verify_checksums=false,"
        " max_whole_file_bytes=4294967296 or table_version=12. Can be repeated.",
        "--reading",
        metavar="NAME=VALUE",
    ),
]
Config = Annotated[
    str | None,
    option(
        INPUT,
        "Configuration file (YAML or TOML).",
        "--config",
        metavar="FILE",
        default="the nearest datacheck.yaml or pyproject.toml",
    ),
]


def _of_text(name: str, metavar: str, text: str, default: str) -> Any:
    return option(TEXT_TABLES, text, f"--csv-{name}", metavar=metavar, default=default)


CsvDelimiter = Annotated[
    str | None,
    _of_text(
        "delimiter",
        "CHARACTER",
        "The column separator; 'whitespace' for any number of blanks, '\\t' for a tab.",
        "a comma; in .tsv a tab; in .txt what the file has",
    ),
]
CsvDecimal = Annotated[str | None, _of_text("decimal", "CHARACTER", "The decimal mark of numbers, '.' or ','.", "'.'")]
CsvThousands = Annotated[str | None, _of_text("thousands", "CHARACTER", "The thousands separator of numbers.", "none")]
CsvQuote = Annotated[
    str | None, _of_text("quote", "CHARACTER", "The quote character around cells; '' if quotes are text.", "'\"'")
]
CsvEncoding = Annotated[str | None, _of_text("encoding", "NAME", "The encoding, such as latin-1 or utf-16.", "utf-8")]
CsvNullValues = Annotated[
    str | None,
    _of_text(
        "null-values",
        "WORDS",
        "Words that mean null, instead of the default ones, such as 'NA,-,n.d.'. An empty cell is always null.",
        "the words that pandas reads as missing, except nan",
    ),
]
CsvHeader = Annotated[
    bool | None,
    option(
        TEXT_TABLES,
        "Whether the first line has names. Otherwise columns are called column_0, column_1 and so on.",
        "--csv-header/--no-csv-header",
        default="names, except in a .txt of numbers",
    ),
]
CsvComment = Annotated[str | None, _of_text("comment", "TEXT", "Skip lines that begin with this.", "none; in .txt '#'")]
