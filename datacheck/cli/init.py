"""``datacheck init``: from a folder of data to a schema, a pipeline and a configuration that run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from datacheck.cli.config_options import with_configuration
from datacheck.cli.exit_codes import CLEAN, FINDINGS
from datacheck.cli.help import OUTPUT
from datacheck.cli.infer import NO_CHECKS, print_list
from datacheck.cli.parameters import argument, option
from datacheck.cli.terminal import flushed_stdout, progress_on_terminal

if TYPE_CHECKING:
    from datacheck.gate.configuration import Configuration


@with_configuration(without=NO_CHECKS)
def init(
    configuration: Configuration,
    folder: Annotated[str, argument("FOLDER", "Folder of data, or one file.")],
    *,
    output: Annotated[
        str, option(OUTPUT, "Folder to write to.", "--output", "-o", metavar="FOLDER", default="the current folder")
    ] = "",
    overwrite: Annotated[bool, option(OUTPUT, "Replace existing files.", "--overwrite")] = False,
) -> int:
    """Draft a schema, a pipeline and a configuration.

    Writes schema.yaml, as 'schema infer' suggests it, pipeline.yaml, in which rows that break the schema are set aside, and
    datacheck.yaml, the configuration of 'datacheck scan'. It asks nothing: its choices are explained in comments. Splits are
    those that the paths name: train, val, test. What looks wrong in the data is listed.

    Files that cannot be read are left out and listed at the end, and the exit code is 1.

    Example: datacheck init data/
    """
    from datacheck.errors import OutputError
    from datacheck.gate.locate import YAML
    from datacheck.gate.project import PIPELINE, SCHEMA, draft_project
    from datacheck.jobs.execution import Execution
    from datacheck.publishing.named_file import write_named
    from datacheck.storage.documents import exists, join_path
    from datacheck.text import plain, quantity

    targets = {name: join_path(output, name) for name in (SCHEMA, PIPELINE, YAML)}
    existing = [path for path in targets.values() if exists(path)]
    if existing and not overwrite:
        raise OutputError(
            f"{plain(existing[0])} already exists; replace it with --overwrite, or choose another folder with -o"
        )
    with progress_on_terminal() as progress:
        project = draft_project(
            folder,
            output,
            options=configuration.settings.read_options,
            execution=Execution(configuration.settings.workers, progress=progress),
        )
    with flushed_stdout():
        _make_folder(output)
        for name, text in project.files.items():
            write_named(targets[name], text.encode())
        print(f"{plain(targets[SCHEMA])}: {quantity(project.num_fields, 'field')}")
        if project.frequent:
            print(project.frequent)
        print(f"{plain(targets[PIPELINE])}: run it with 'datacheck run {plain(targets[PIPELINE])}'")
        print(f"{plain(targets[YAML])}: 'datacheck scan' uses it")
        print_list(project.listed, sys.stdout)
    for error in project.errors:
        print(f"datacheck: left out: {plain(str(error))}", file=sys.stderr)
    return FINDINGS if project.errors else CLEAN


def _make_folder(path: str) -> None:
    from datacheck.storage import storage_of
    from datacheck.storage.os_errors import output_errors

    with output_errors(path, in_parts=False):
        storage_of(path).make_folder(path or ".")
