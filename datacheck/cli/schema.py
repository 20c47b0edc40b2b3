"""``datacheck schema``: look at schemas without data."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["check", "show"]

References = Annotated[
    list[str],
    typer.Argument(
        help="Schema files (YAML), or package.module:Model of pandera.", metavar="SCHEMA...", show_default=False
    ),
]


def check(
    schemas: References,
    skip_others: Annotated[
        bool, typer.Option("--skip-others", help="Pass over files that are neither a schema nor a pipeline.")
    ] = False,
) -> int:
    """Say whether each SCHEMA is right, and where it is not.

    Pipelines and datacheck.yaml are told by what is in them, and checked as what they are.
    """
    import sys

    from datacheck.errors import ConfigurationError
    from datacheck.gate.documents import check_document
    from datacheck.text import plain

    wrong = 0
    for reference in schemas:
        try:
            words = check_document(reference, skip_others=skip_others)
        except ConfigurationError as error:
            print(error, file=sys.stderr)
            wrong += 1
        else:
            print(f"{plain(reference)}: {words}")
    return 2 if wrong else 0


def show(
    schema: Annotated[
        str, typer.Argument(help="A schema file (YAML), or package.module:Model of pandera.", metavar="SCHEMA")
    ],
) -> int:
    """Print SCHEMA as YAML, as datacheck understands it: a pandera model becomes a schema file."""
    from datacheck.schema.loading import dump_schema, load_schema

    print(dump_schema(load_schema(schema)), end="")
    return 0
