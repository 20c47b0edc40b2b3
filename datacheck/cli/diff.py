"""``datacheck schema diff``: what is otherwise in one schema than in another."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["diff"]

_HELP = "A schema file (YAML), or package.module:Model of pandera."


class DiffFormat(StrEnum):
    """How the differences are printed."""

    text = "text"
    json = "json"


def diff(
    first: Annotated[str, typer.Argument(help=_HELP, metavar="A", show_default=False)],
    second: Annotated[str, typer.Argument(help=_HELP, metavar="B", show_default=False)],
    format: Annotated[DiffFormat, typer.Option("--format", "-f", help="How it is printed.")] = DiffFormat.text,  # noqa: A002
) -> int:
    """Say how B differs from A, and whether data that passes A may fail B.

    Exit codes: 0 the same, 1 different, 2 could not run.
    """
    from datacheck.schema.diff import diff_schemas
    from datacheck.schema.loading import load_schema

    found = diff_schemas(load_schema(first), load_schema(second))
    print(found.to_json() if format is DiffFormat.json else found)
    return 1 if found.changes else 0
