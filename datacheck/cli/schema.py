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


def check(schemas: References) -> int:
    """Say whether each SCHEMA is right, and where it is not."""
    import sys

    from datacheck.errors import SchemaError
    from datacheck.schema.loading import load_schema
    from datacheck.text import plain, quantity

    wrong = 0
    for reference in schemas:
        try:
            schema = load_schema(reference)
        except SchemaError as error:
            print(error, file=sys.stderr)
            wrong += 1
        else:
            print(
                f"{plain(reference)}: {quantity(len(schema.fields), 'field')}, {quantity(len(schema.checks), 'check')}"
            )
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
