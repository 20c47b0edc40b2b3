"""``datacheck schema infer``: suggest a schema for data that has none."""

from __future__ import annotations

import sys
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from datacheck.cli.config_options import with_configuration
from datacheck.cli.exit_codes import CLEAN, FINDINGS
from datacheck.cli.help import CHECKS, OUTPUT, argument, option
from datacheck.cli.terminal import flushed_stdout, progress_on_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from datacheck.findings import Finding
    from datacheck.gate.configuration import Configuration

__all__ = ["infer", "print_list"]

#: Findings to list; a scan prints them all.
_MAX_LISTED = 100

#: The options that a command without checks does not have.
NO_CHECKS = [
    "schema",
    "select",
    "ignore",
    "severity",
    "exclude",
    "notes",
    "baseline",
    "no_baseline",
    "cache",
    "cache_dir",
    "color",
]


@with_configuration(without=NO_CHECKS)
def infer(
    configuration: Configuration,
    paths: Annotated[list[str], argument("PATH", "Files, folders or globs.")],
    *,
    output: Annotated[
        str | None, option(OUTPUT, "Schema file to write.", "--output", "-o", metavar="FILE", default="standard output")
    ] = None,
    overwrite: Annotated[bool, option(OUTPUT, "Replace an existing file.", "--overwrite")] = False,
    permissive: Annotated[
        bool, option(CHECKS, "Allow everything that occurs in the data, so that it passes.", "--permissive")
    ] = False,
) -> int:
    """Suggest a schema for the data, and list what looks wrong in it.

    Bounds leave some room beyond the observed values, few distinct strings or codes become a list of allowed values, and
    fields without duplicates become keys. Comments in the file show what was observed.

    What looks like a fault is not allowed: a few NaN or infinities, a sentinel such as -999, outliers, rare variants of a
    text. A scan with the schema reports exactly what is listed. With --permissive the data passes.

    Review the schema before you use it: it describes the data as it was, not as it should be.

    Files that cannot be read are left out and listed at the end, and the exit code is 1.

    Example: datacheck schema infer data/train -o schemas/train.yaml
    """
    from datacheck.errors import OutputError
    from datacheck.jobs.execution import Execution
    from datacheck.profile.infer.infer import infer_with_notes
    from datacheck.publishing.named_file import write_named
    from datacheck.text import plain, quantity

    if output == "-":
        output = None
    if output and lexists(output) and not overwrite:
        raise OutputError(f"{plain(output)} already exists; replace it with --overwrite, or choose another name")
    name = Path(output).name.partition(".")[0] if output else None
    with progress_on_terminal() as progress:
        found = infer_with_notes(
            paths,
            name=name or None,
            execution=Execution(configuration.settings.workers, progress=progress),
            options=configuration.settings.read_options,
            permissive=permissive,
            with_list=True,
        )
    text = found.to_yaml()
    with flushed_stdout():
        if output is None:
            print(text, end="")
        else:
            write_named(output, text.encode())
            print(f"{plain(output)}: {quantity(len(found.schema.fields), 'field')}")
        print_list(found.listed, sys.stderr if output is None else sys.stdout)
    if not found.errors:
        return CLEAN
    files = quantity(len(found.errors), "file")
    print(
        f"datacheck: left out {files} that could not be read; the schema may be too strict for them:", file=sys.stderr
    )
    for error in found.errors:
        print(f"  {plain(str(error))}", file=sys.stderr)
    return FINDINGS


def print_list(listed: Sequence[Finding], stream: TextIO) -> None:
    """List what looks wrong in the data: first what a scan with the schema reports, then notes."""
    from datacheck.reports.text import num_by_severity, render_finding

    if not listed:
        return
    print(f"\nWhat looks wrong in the data ({num_by_severity(listed)}):", file=stream)
    for finding in listed[:_MAX_LISTED]:
        print(f"  {render_finding(finding)}", file=stream)
    if len(listed) > _MAX_LISTED:
        print(f"  and {len(listed) - _MAX_LISTED:,} more; 'datacheck scan --notes' prints them all", file=stream)
