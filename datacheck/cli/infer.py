"""``datacheck schema infer``: suggest a schema for data that has none."""

from __future__ import annotations

import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated

from datacheck.cli.config_options import with_configuration
from datacheck.cli.exit_codes import CLEAN, FINDINGS
from datacheck.cli.help import CHECKS, OUTPUT
from datacheck.cli.parameters import argument, option
from datacheck.cli.sharing import (
    Address,
    ExecutorChoice,
    ExecutorName,
    Results,
    ShardChoice,
    end_of_shard,
    executor_for,
)
from datacheck.cli.terminal import flushed_stdout, progress_on_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from datacheck.errors import SourceError
    from datacheck.findings import Finding
    from datacheck.gate.configuration import Configuration
    from datacheck.profile.infer.infer import Inference


#: Findings to list; a scan prints them all.
_MAX_LISTED = 100

#: The options that a command without checks does not have.
NO_CHECKS = [
    "trust_statistics",
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


Page = Annotated[
    str | None,
    option(
        OUTPUT,
        "Also write a page: the draft, what looks wrong, distributions.",
        "--html",
        metavar="FILE",
        default="none",
    ),
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
    html: Page = None,
    executor: ExecutorChoice = ExecutorName.threads,
    address: Address = None,
    shard: ShardChoice = None,
    results: Results = None,
) -> int:
    """Suggest a schema for the data, and list what looks wrong in it.

    Bounds leave some room beyond the observed values, few distinct strings or codes become a list of allowed values, and
    fields without duplicates become keys. Comments in the file show what was observed.

    What looks like a fault is not allowed: a few NaN or infinities, a sentinel such as -999, outliers, rare variants of a
    text. A scan with the schema reports what is listed, too. With --permissive the data passes.

    Review the schema before you use it: it describes the data as it was, not as it should be.

    Files that cannot be read are left out and listed at the end, and the exit code is 1.

    Example: datacheck schema infer data/train -o schemas/train.yaml
    """
    from datacheck.jobs.execution import Execution
    from datacheck.profile.infer.infer import infer_with_notes

    if output == "-":
        output = None
    if output and not overwrite:
        _require_new(output)
    name = PurePosixPath(output).name.partition(".")[0] if output else None
    chosen = executor_for(shard, results, executor, address)
    with progress_on_terminal() as progress:
        found = infer_with_notes(
            paths,
            name=name or None,
            execution=Execution(configuration.settings.workers, chosen, progress),
            options=configuration.settings.read_options,
            permissive=permissive,
            with_list=True,
        )
    end_of_shard(chosen)
    with flushed_stdout():
        _write_schema(output, found)
        print_list(found.listed, sys.stderr if output is None else sys.stdout)
    if html is not None:
        _write_page(html, found, paths, configuration)
    _print_unread(found.errors)
    return FINDINGS if found.errors else CLEAN


def _require_new(output: str) -> None:
    from datacheck.errors import OutputError
    from datacheck.storage.documents import exists
    from datacheck.storage.os_errors import output_errors
    from datacheck.text import plain

    with output_errors(output, in_parts=False):
        is_there = exists(output)
    if is_there:
        raise OutputError(f"{plain(output)} already exists; replace it with --overwrite, or choose another name")


def _write_schema(output: str | None, found: Inference) -> None:
    from datacheck.publishing.named_file import write_named
    from datacheck.text import plain, quantity

    if output is None:
        print(found.to_yaml(), end="")
    else:
        write_named(output, found.to_yaml().encode())
        print(f"{plain(output)}: {quantity(len(found.schema.fields), 'field')}")
        if found.frequent:
            print(found.frequent)


def _write_page(path: str, found: Inference, inputs: list[str], configuration: Configuration) -> None:
    from datacheck.profile.distributions import distributions
    from datacheck.profile.infer.page import page_of_inference
    from datacheck.publishing.named_file import write_named

    settings = configuration.settings
    shown = distributions({"data": inputs}, options=settings.read_options, workers=settings.workers)
    write_named(path, page_of_inference(found, shown).encode())


def _print_unread(errors: Sequence[SourceError]) -> None:
    """List the files that the schema doesn't describe."""
    from datacheck.text import plain, quantity

    if errors:
        files = quantity(len(errors), "file")
        problem = f"left out {files} that could not be read; the schema may be too strict for them:"
        print(f"datacheck: {problem}", file=sys.stderr)
    for error in errors:
        print(f"  {plain(str(error))}", file=sys.stderr)


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
