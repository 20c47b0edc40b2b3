"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["Format", "OutputFormat", "Overwrite", "Pipeline", "Schema", "Workers"]


class OutputFormat(StrEnum):
    """How a report is printed."""

    text = "text"
    json = "json"


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
