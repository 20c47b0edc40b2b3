"""The command ``datacheck``: its commands, its exit codes, and how errors are shown."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import ParamSpec

import typer

from datacheck import __version__
from datacheck.cli import explain, run, scan, schema
from datacheck.errors import DatacheckError

__all__ = ["COULD_NOT_RUN", "INTERRUPTED", "app", "main"]

COULD_NOT_RUN = 2
#: What a shell reports for a process that SIGINT ended.
INTERRUPTED = 130

P = ParamSpec("P")


def _ending(command: Callable[P, int]) -> Callable[P, None]:
    """The command, ending the program with its exit code, and with a message instead of a traceback where it cannot run."""

    @functools.wraps(command)
    def ended(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
        except DatacheckError as error:
            print(f"datacheck: {error}", file=sys.stderr)
            code = COULD_NOT_RUN
        except KeyboardInterrupt:
            print(
                "datacheck: interrupted; nothing partial was published. The same command again goes on from here.",
                file=sys.stderr,
            )
            code = INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has seen enough. What is still buffered must not fail at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        raise typer.Exit(code)

    return ended


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"datacheck {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _typer(help_text: str, **options: str) -> typer.Typer:
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,  # type: ignore[arg-type]
    )


def _build() -> typer.Typer:
    built = _typer(
        "Finds every value that would poison training, says exactly where it is, and does what it was told to do about it.",
        epilog="Exit codes: 0 clean, 1 findings, 2 could not run.",
    )
    built.callback()(_root)
    built.command("run")(_ending(run.run))
    built.command("scan")(_ending(scan.scan))
    built.command("fit")(_ending(run.fit))
    built.command("clean")(_ending(run.clean))
    schemas = _typer("Look at schemas without data.")
    schemas.command("check")(_ending(schema.check))
    schemas.command("show")(_ending(schema.show))
    built.add_typer(schemas, name="schema")
    built.command("explain")(_ending(explain.explain))
    return built


app = _build()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (those of the process unless given) and return its exit code."""
    try:
        app(args=None if argv is None else list(argv), prog_name="datacheck")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else COULD_NOT_RUN
    return 0
