"""``datacheck schema diff``: the differences between two schemas."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from datacheck.cli.exit_codes import CLEAN, FINDINGS
from datacheck.cli.help import OUTPUT
from datacheck.cli.options import SCHEMA_HELP

__all__ = ["diff"]


class DiffFormat(StrEnum):
    """The formats of a schema diff."""

    text = "text"
    json = "json"


def diff(
    first: Annotated[str, typer.Argument(help=SCHEMA_HELP, metavar="OLD", show_default=False)],
    second: Annotated[str, typer.Argument(help=SCHEMA_HELP, metavar="NEW", show_default=False)],
    *,
    format: Annotated[  # noqa: A002 - the option's name
        DiffFormat,
        typer.Option("--format", "-f", help="Output format: text or json.", metavar="FORMAT", rich_help_panel=OUTPUT),
    ] = DiffFormat.text,
) -> int:
    """Show what changed between two schemas.

    Each change says whether data that passes OLD may fail NEW. Exit codes: 0 equal, 1 different, 2 could not run.

    Example: datacheck schema diff old.yaml schemas/flights.yaml
    """
    from datacheck.schema.diff import diff_schemas
    from datacheck.schema.loading import load_schema

    found = diff_schemas(load_schema(first), load_schema(second))
    print(found.to_json() if format is DiffFormat.json else found)
    return FINDINGS if found.changes else CLEAN
