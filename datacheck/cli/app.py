"""The command ``datacheck``: its subcommands, exit codes, and error messages."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import typer

from datacheck._version import __version__
from datacheck.cli import baseline, compare, config, diff, explain, infer, init, replay, rows, run, scan, schema, watch
from datacheck.cli.exit_codes import COULD_NOT_RUN, INTERRUPTED
from datacheck.cli.help import HelpCommand
from datacheck.cli.report_outputs import OrderedCommand
from datacheck.cli.terminal import discard_stdout, flushed_stdout
from datacheck.errors import DatacheckError
from datacheck.text import plain

__all__ = ["app", "main"]

_RESUMABLE = "interrupted; nothing partial was published. Run the same command again to continue from here."

P = ParamSpec("P")


def _with_exit_code(command: Callable[P, int], interrupted: str = "interrupted") -> Callable[P, None]:
    """The command, exiting with the code that it returns, and printing errors without a traceback.

    ``interrupted`` is the message after Ctrl-C.
    """

    @functools.wraps(command)
    def exiting(*args: P.args, **kwargs: P.kwargs) -> None:
        code = 0
        try:
            code = command(*args, **kwargs)
            with flushed_stdout():
                pass
        except DatacheckError as error:
            message = "\n".join(plain(line, 4000) for line in str(error).splitlines())
            print(f"datacheck: {message}", file=sys.stderr)
            code = COULD_NOT_RUN
        except KeyboardInterrupt:
            print(f"datacheck: {interrupted}", file=sys.stderr)
            code = INTERRUPTED
        except BrokenPipeError:
            # The reader of our output, such as head, closed the pipe.
            discard_stdout()
        raise typer.Exit(code)

    return exiting


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"datacheck {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", "-V", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def _group() -> None:
    pass


def _typer(help_text: str, epilog: str | None = None, *, with_completion: bool = False) -> typer.Typer:
    return typer.Typer(
        help=help_text,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=with_completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _build() -> typer.Typer:
    def add(group: typer.Typer, name: str, command: Callable[..., int], **options: Any) -> None:
        group.command(name, cls=options.pop("cls", HelpCommand))(_with_exit_code(command, **options))

    built = _typer(
        "Find every value that would poison training, and show exactly where it is.",
        epilog="Exit codes: 0 clean, 1 findings, 2 could not run.",
        with_completion=True,
    )
    built.callback()(_root)
    add(built, "init", init.init)
    add(built, "run", run.run, interrupted=_RESUMABLE, cls=OrderedCommand)
    add(built, "scan", scan.scan, cls=OrderedCommand)
    add(built, "rows", flushed_stdout()(rows.rows))
    add(built, "compare", compare.compare, cls=OrderedCommand)
    add(built, "fit", run.fit)
    add(built, "clean", run.clean, interrupted=_RESUMABLE)
    schemas = _typer("Infer, check, compare and print schemas.")
    add(schemas, "check", flushed_stdout()(schema.check))
    add(schemas, "show", flushed_stdout()(schema.show))
    add(schemas, "infer", infer.infer)
    add(schemas, "diff", flushed_stdout()(diff.diff))
    built.add_typer(schemas, name="schema")
    add(built, "config", flushed_stdout()(config.config))
    baselines = _typer("Record known findings, so that only new ones fail.")
    # A group with a single command would become that command.
    baselines.callback()(_group)
    add(baselines, "write", flushed_stdout()(baseline.write))
    built.add_typer(baselines, name="baseline")
    add(built, "replay", flushed_stdout()(replay.replay))
    add(built, "watch", flushed_stdout()(watch.watch), interrupted="no longer watching; the run goes on")
    add(built, "explain", flushed_stdout()(explain.explain))
    return built


app = _build()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv``, by default the arguments of the process, and return its exit code."""
    try:
        app(args=None if argv is None else list(argv), prog_name="datacheck")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else COULD_NOT_RUN
    return 0
