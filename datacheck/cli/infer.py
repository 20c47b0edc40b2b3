"""``datacheck schema infer``: a schema for data that has none yet."""

from __future__ import annotations

from os.path import lexists
from pathlib import Path
from typing import Annotated

import typer

from datacheck.cli.options import Workers
from datacheck.cli.output import printing, working

__all__ = ["infer"]


def infer(
    paths: Annotated[list[str], typer.Argument(help="Files, folders or globs.", metavar="PATH...", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="The schema file to write.", show_default="standard output"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    workers: Workers = None,
) -> int:
    """Write the schema that PATH... suggest, with what was seen in comments. The data passes it.

    Bounds leave headroom; few distinct texts or codes become a list; fields whose values all differ become keys. Read it
    before you use it: it says what the data was, not what it should be.
    """
    from datacheck.errors import OutputError
    from datacheck.profile.infer.infer import infer_with_notes
    from datacheck.publishing.named_file import write_named
    from datacheck.text import plain, quantity

    if output == "-":
        output = None
    if output and lexists(output) and not overwrite:
        raise OutputError(f"{plain(output)} is there already; give --overwrite to replace it, or another name")
    name = Path(output).name.partition(".")[0] if output else None
    with working() as progress:
        found = infer_with_notes(paths, name=name or None, workers=workers, progress=progress)
    text = found.to_yaml()
    with printing():
        if output is None:
            print(text, end="")
        else:
            write_named(output, text.encode())
            print(f"{plain(output)}: {quantity(len(found.schema.fields), 'field')}")
    return 0
