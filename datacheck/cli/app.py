"""The command ``datacheck``: its subcommands, exit codes, and error messages."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import typer

from datacheck._version import __version__
from datacheck.cli import (
    baseline,
    compare,
    config,
    diff,
    explain,
    infer,
    init,
    replay,
    report_diff,
    requeue,
    rows,
    run,
    scan,
    schema,
    watch,
)
from datacheck.cli.exit_codes import CLEAN, COULD_NOT_RUN, INTERRUPTED, TERMINATED
from datacheck.cli.help import HelpCommand, HelpGroup
from datacheck.cli.report_outputs import OrderedCommand
from datacheck.cli.sharing import merging
from datacheck.cli.terminal import discard_stdout, flushed_stdout
from datacheck.cli.termination import Terminated
from datacheck.errors import DatacheckError, ShardFinished
from datacheck.storage.base import StoreError
from datacheck.text import plain

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
            # A command that ends with its reader returns nothing.
            code = command(*args, **kwargs) or CLEAN
            with flushed_stdout():
                pass
        except DatacheckError as error:
            message = "\n".join(plain(line, 4000) for line in str(error).splitlines())
            print(f"datacheck: {message}", file=sys.stderr)
            code = COULD_NOT_RUN
        except StoreError as error:
            print(f"datacheck: {plain(str(error.filename or 'object store'))}: {error.strerror}", file=sys.stderr)
            code = COULD_NOT_RUN
        except ShardFinished as finished:
            print(
                f"{finished}; once all shards have finished, 'datacheck merge' with the same command gives the result"
            )
        except Terminated:
            print(f"datacheck: {interrupted.replace('interrupted', 'terminated')}", file=sys.stderr)
            code = TERMINATED
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
        cls=HelpGroup,
        help=help_text,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=with_completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


#: The sections of the list of commands.
_CHECK, _CLEAN, _SET_UP, _TRAINING = "Check data", "Clean data", "Set up", "Training"


def build(wanted: str | None = None) -> typer.Typer:
    """The command line, or only the one command that is ``wanted``: building all of them takes 20 ms."""

    def add(
        group: typer.Typer, name: str, command: Callable[..., int], section: str = "Commands", **options: Any
    ) -> None:
        if wanted is not None and group is built and name != wanted:
            return
        kind = options.pop("cls", HelpCommand)
        group.command(name, cls=kind, rich_help_panel=section)(_with_exit_code(command, **options))

    def add_group(group: typer.Typer, name: str, section: str) -> None:
        if wanted is None:
            built.add_typer(group, name=name, rich_help_panel=section)

    built = _typer(
        "Find every value that would poison training, and show exactly where it is.",
        epilog="Exit codes: 0 clean, 1 findings, 2 could not run.",
        with_completion=True,
    )
    built.callback()(_root)
    add(built, "scan", scan.scan, _CHECK, cls=OrderedCommand)
    add(built, "rows", rows.rows, _CHECK)
    add(built, "compare", compare.compare, _CHECK, cls=OrderedCommand)
    add(built, "diff", report_diff.diff, _CHECK, cls=OrderedCommand)
    add(built, "explain", flushed_stdout()(explain.explain), _CHECK)
    add(built, "run", run.run, _CLEAN, interrupted=_RESUMABLE, cls=OrderedCommand)
    add(built, "fit", run.fit, _CLEAN)
    add(built, "clean", run.clean, _CLEAN, interrupted=_RESUMABLE)
    add(built, "requeue", requeue.requeue, _CLEAN, interrupted="interrupted; run the same command again")
    add(built, "init", init.init, _SET_UP)
    merges = _typer("Merge the results of shards.")
    add(merges, "run", merging(run.run), interrupted=_RESUMABLE, cls=OrderedCommand)
    add(merges, "scan", merging(scan.scan), cls=OrderedCommand)
    add(merges, "compare", merging(compare.compare), cls=OrderedCommand)
    add(merges, "fit", merging(run.fit))
    add(merges, "clean", merging(run.clean), interrupted=_RESUMABLE)
    schemas = _typer("Infer the schema of the shards.")
    add(schemas, "infer", merging(infer.infer))
    merges.add_typer(schemas, name="schema")
    add_group(merges, "merge", _CLEAN)
    schemas = _typer("Infer, check, compare and print schemas.")
    add(schemas, "check", schema.check)
    add(schemas, "show", flushed_stdout()(schema.show))
    add(schemas, "infer", infer.infer)
    add(schemas, "diff", diff.diff)
    add_group(schemas, "schema", _SET_UP)
    add(built, "config", flushed_stdout()(config.config), _SET_UP)
    baselines = _typer("Record known findings, so that only new ones fail.")
    # A group with a single command would become that command.
    baselines.callback()(_group)
    add(baselines, "write", flushed_stdout()(baseline.write))
    add_group(baselines, "baseline", _SET_UP)
    add(built, "watch", flushed_stdout()(watch.watch), _TRAINING, interrupted="no longer watching; the run goes on")
    add(built, "replay", replay.replay, _TRAINING)
    return built


#: Commands that are built alone. No other command shows in their help and errors.
_ALONE = ("scan", "run", "compare")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv``, by default the arguments of the process, and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    app = build(arguments[0] if arguments and arguments[0] in _ALONE else None)
    try:
        app(args=arguments, prog_name="datacheck")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else COULD_NOT_RUN
    return 0
