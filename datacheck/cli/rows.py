"""``datacheck rows``: print the bad rows themselves."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated

from datacheck.cli.config_options import with_configuration
from datacheck.cli.exit_codes import CLEAN, FINDINGS
from datacheck.cli.help import CHECKS, OUTPUT
from datacheck.cli.options import Paths
from datacheck.cli.parameters import option
from datacheck.cli.terminal import flushed_stdout
from datacheck.text import plain

if TYPE_CHECKING:
    from datacheck.findings import Finding
    from datacheck.gate.configuration import Configuration
    from datacheck.jobs.bad_rows import BadRow


_MAX_COLUMNS = 8
_MAX_WIDTH = 28
_MAX_UNCHECKED = 20
_FORMATS = ("text", "jsonl")

_WITHOUT = (
    "trust_statistics",
    "select",
    "ignore",
    "severity",
    "notes",
    "baseline",
    "no_baseline",
    "cache",
    "cache_dir",
    "color",
    "rows",
    "workers",
)


@with_configuration(without=_WITHOUT)
def rows(
    configuration: Configuration,
    paths: Paths = None,
    *,
    where: Annotated[
        list[str] | None,
        option(
            CHECKS,
            "Only rows with this code, such as DC101, nan or all of DC1. Repeat it for several.",
            "--where",
            metavar="CODE",
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        option(CHECKS, "Only violations in this field, or of the rule of this name.", "--field", metavar="NAME"),
    ] = None,
    limit: Annotated[
        int, option(OUTPUT, "Rows to print; 0 for all.", "--limit", "-n", metavar="N", default=True, min_value=0)
    ] = 20,
    columns: Annotated[
        str | None,
        option(
            OUTPUT, "Columns to print, with commas between.", "--columns", metavar="A,B", default="the bad ones first"
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        str, option(OUTPUT, "Text or jsonl.", "--format", "-f", metavar="FORMAT", default=True)
    ] = "text",
) -> int:
    """Print the bad rows themselves.

    Values are as they are in the file. Files are read only until enough rows are found. Rows are counted from 0, lines from 1.

    Example: datacheck rows data/train --where DC101 --limit 5
    """
    from datacheck.codes import code_named
    from datacheck.errors import UsageError, nearest_name

    if format not in _FORMATS:
        raise UsageError(f"--format {plain(format)}: expected text or jsonl{nearest_name(format, _FORMATS)}")
    unchecked: list[Finding] = []
    codes = list(map(code_named, where or ()))
    found = find_configured_rows(paths, configuration, unchecked, codes=codes, fields=field or ())
    shown = list(islice(found, limit)) if limit else found
    wanted = tuple(name.strip() for name in columns.split(",")) if columns else ()
    num_rows = _print_lines(shown) if format == "jsonl" else _print_text(list(shown), limit, unchecked, wanted)
    _print_unchecked(unchecked)
    return FINDINGS if num_rows or unchecked else CLEAN


def _print_lines(rows: Iterable[BadRow]) -> int:
    """Print rows as JSON lines; how many there were."""
    number = 0
    with flushed_stdout():
        for number, one in enumerate(rows, 1):  # noqa: B007 - where it ended is the result
            print(json.dumps(one.to_dict(), allow_nan=False))
    return number


def _print_text(rows: Sequence[BadRow], limit: int, unchecked: Sequence[Finding], wanted: Sequence[str]) -> int:
    """Print rows as a table; how many there were."""
    from datacheck.codes import WRONG_LABEL

    with flushed_stdout():
        if not rows and any(one.code != WRONG_LABEL for one in unchecked):
            print("no bad rows in what could be checked")
        else:
            print_rows(rows, wanted)
        if limit and len(rows) == limit:
            print(f"the first {limit:,}; --limit 0 prints all")
    return len(rows)


def _print_unchecked(unchecked: Sequence[Finding]) -> None:
    from datacheck.codes import WRONG_LABEL
    from datacheck.reports.text import errors_text

    labels = [one for one in unchecked if one.code == WRONG_LABEL]
    others = [one for one in unchecked if one.code != WRONG_LABEL]
    for text, some in (
        ("label files have errors, which are in no row:", labels),
        ("what could not be read or checked may have bad rows too:", others),
    ):
        if some:
            print(f"datacheck: {text}\n{errors_text(some, _MAX_UNCHECKED)}", file=sys.stderr)


def find_configured_rows(
    paths: Sequence[str] | None,
    configuration: Configuration,
    unchecked: list[Finding],
    codes: Sequence[str] = (),
    fields: Sequence[str] = (),
) -> Iterator[BadRow]:
    """The bad rows of files, each by the schema that the configuration has for it. ``unchecked`` is as for `find_bad_rows`."""
    from datacheck.gate.checking import schema_chooser
    from datacheck.jobs.bad_rows import find_bad_rows

    settings = configuration.settings
    return find_bad_rows(
        paths or settings.paths or ".",
        schema_chooser(configuration),
        codes=codes,
        fields=fields,
        options=settings.read_options,
        unchecked=unchecked,
    )


def print_rows(found: Sequence[BadRow], wanted: Sequence[str] = ()) -> None:
    """Print rows as a table, with the ``wanted`` columns or the bad ones first."""
    from datacheck.reports.text import format_table

    if not found:
        print("no bad rows")
        return
    names = list(wanted) or _columns_of(found)
    has_lines = any(one.line is not None for one in found)
    head = (
        "file",
        "row",
        *(("line",) if has_lines else ()),
        "found",
        *(plain(name or "value", _MAX_WIDTH) for name in names),
    )
    lines = [
        (
            plain(one.uri, 60),
            f"{one.row}",
            *((f"{one.line or ''}",) if has_lines else ()),
            ", ".join(dict.fromkeys(code for code, _ in one.found)),
            *(plain(one.values.get(name, ""), _MAX_WIDTH) for name in names),
        )
        for one in found
    ]
    for line in format_table([head, *lines], "lr" + "r" * has_lines + "l" * (len(names) + 1)):
        print(line)


def _columns_of(found: Sequence[BadRow]) -> list[str]:
    """The columns to print: those with violations, then the first others."""
    bad = dict.fromkeys(subject.partition(".")[0].partition("[")[0] for one in found for _, subject in one.found)
    every = dict.fromkeys(name for one in found for name in one.values)
    return [*(name for name in bad if name in every), *(name for name in every if name not in bad)][:_MAX_COLUMNS]
