"""``datacheck schema check`` and ``show``: work with schemas without data."""

from __future__ import annotations

from typing import Annotated

from datacheck.cli.exit_codes import CLEAN, COULD_NOT_RUN
from datacheck.cli.help import INPUT
from datacheck.cli.options import SCHEMA_HELP
from datacheck.cli.parameters import argument, option
from datacheck.cli.terminal import flushed_stdout


def check(
    schemas: Annotated[
        list[str],
        argument("SCHEMA", "Schema, pipeline or configuration files, or pandera models as package.module:Model."),
    ],
    *,
    skip_others: Annotated[
        bool, option(INPUT, "Skip files that are neither a schema nor a pipeline.", "--skip-others")
    ] = False,
) -> int:
    """Check schema, pipeline and configuration files for errors.

    The kind of a file is recognized by its content. Every error names the file and the key.

    Example: datacheck schema check schemas/flights.yaml
    """
    import sys

    from datacheck.errors import ConfigurationError
    from datacheck.gate.documents import check_document
    from datacheck.text import plain

    num_wrong = 0
    for reference in schemas:
        try:
            description = check_document(reference, skip_others=skip_others)
        except ConfigurationError as error:
            print(error, file=sys.stderr)
            num_wrong += 1
        else:
            with flushed_stdout():
                print(f"{plain(reference)}: {description}")
    return COULD_NOT_RUN if num_wrong else CLEAN


def show(
    schema: Annotated[str, argument("SCHEMA", SCHEMA_HELP)],
) -> int:
    """Print a schema as YAML, as datacheck reads it.

    This also converts a pandera model to a schema file.

    Example: datacheck schema show schemas/flights.yaml
    """
    from datacheck.storage.documents import load_schema

    print(load_schema(schema).to_yaml(), end="")
    return 0
