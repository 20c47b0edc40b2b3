"""``datacheck schema diff``: the differences between two schemas."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from datacheck.cli.exit_codes import CLEAN, FINDINGS
from datacheck.cli.help import OUTPUT
from datacheck.cli.options import SCHEMA_HELP
from datacheck.cli.parameters import argument, option
from datacheck.cli.terminal import flushed_stdout


class DiffFormat(StrEnum):
    """The formats of a schema diff."""

    text = "text"
    json = "json"


def diff(
    first: Annotated[str, argument("OLD", SCHEMA_HELP)],
    second: Annotated[str, argument("NEW", SCHEMA_HELP)],
    *,
    format: Annotated[  # noqa: A002 - the option's name
        DiffFormat, option(OUTPUT, "Output format: text or json.", "--format", "-f", metavar="FORMAT", default=True)
    ] = DiffFormat.text,
) -> int:
    """Show what changed between two schemas.

    Each change says whether data that passes OLD may fail NEW. Exit codes: 0 equal, 1 different, 2 could not run.

    Example: datacheck schema diff old.yaml schemas/flights.yaml
    """
    from datacheck.schema.diff import diff_schemas
    from datacheck.storage.documents import load_schema

    found = diff_schemas(load_schema(first), load_schema(second))
    with flushed_stdout():
        print(found.to_json() if format is DiffFormat.json else found)
    return FINDINGS if found.changes else CLEAN
