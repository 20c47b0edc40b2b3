"""``datacheck watch``: show a training run that a guard writes down, live."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from datacheck.cli.help import OUTPUT
from datacheck.cli.parameters import argument, option

if TYPE_CHECKING:
    from datacheck.reports.training_run import RunReader


#: Seconds between two looks at the files.
PERIOD = 0.5


def watch(
    run_dir: Annotated[Path, argument("RUN_DIR", "Folder that was given to the guard as run_dir.")],
    once: Annotated[bool, option(OUTPUT, "Show the run as it is now, and exit.", "--once")] = False,
    html: Annotated[
        str | None,
        option(
            OUTPUT,
            "Write a page of the run as it is now to this file, and exit.",
            "--html",
            metavar="FILE",
            default="none",
        ),
    ] = None,
    every: Annotated[
        float,
        option(
            OUTPUT, "Seconds between two lines, where stdout is not a terminal.", "--every", metavar="S", default=True
        ),
    ] = 30.0,
) -> int:
    """Show a training run live.

    That is its loss, gradient norm and loss scale, its trips and its bad samples. The run writes its files with
    Guard(..., run_dir=RUN_DIR). Stop watching with Ctrl-C; the run is not touched.

    Example: datacheck watch runs/1
    """
    from datacheck.errors import UsageError
    from datacheck.reports.training_run import RunReader
    from datacheck.text import plain

    if not run_dir.is_dir():
        raise UsageError(
            f"{plain(str(run_dir))}: no such folder; a guard makes it: Guard(model, optimizer, run_dir={plain(str(run_dir))!r})"
        )
    if not every > 0:
        raise UsageError(f"--every {every}: expected a number of seconds above 0")
    reader = RunReader(run_dir)
    if html is not None:
        from datacheck.publishing.named_file import write_named
        from datacheck.reports.html.training import page_of_run

        write_named(html, page_of_run(reader.read(), run_dir.resolve().name).encode())
        return 0
    if reader.read().step is None:
        name = plain(str(run_dir))
        print(
            f"datacheck: {name} has no step of a training run yet; Guard(..., run_dir={name!r}) writes them",
            file=sys.stderr,
        )
    if sys.stdout.isatty():
        _show(reader, once=once)
    else:
        _print_lines(reader, once=once, every=every)
    return 0


def _show(reader: RunReader, *, once: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from datacheck.cli.run_screen import draw_run

    name = reader.folder.name or str(reader.folder)
    console = Console()
    if once:
        console.print(draw_run(reader.read(), time.time(), name))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            run = reader.read()
            live.update(draw_run(run, time.time(), name), refresh=True)
            if run.has_ended:
                return
            time.sleep(PERIOD)


def _print_lines(reader: RunReader, *, once: bool, every: float) -> None:
    while True:
        run = reader.read()
        print(run.summary(), flush=True)
        for step, diagnosis in run.diagnoses.items() if once or run.has_ended else ():
            print(f"step {step:,}: {diagnosis.headline}")
        if once or run.has_ended:
            return
        time.sleep(every)
