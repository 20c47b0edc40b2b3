"""The command ``datacheck``: its subcommands, exit codes, and error messages."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import click
from click.shell_completion import get_completion_class

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
from datacheck.cli.parameters import parameters_of
from datacheck.cli.report_outputs import OrderedCommand
from datacheck.cli.sharing import merging
from datacheck.cli.terminal import discard_closed_stdout, flushed_stdout
from datacheck.cli.termination import Terminated
from datacheck.errors import DatacheckError, ShardFinished
from datacheck.storage.base import StoreError
from datacheck.text import plain

_RESUMABLE = "interrupted; nothing partial was published. Run the same command again to continue from here."

_SHELLS = ("bash", "zsh", "fish")

P = ParamSpec("P")


def _with_exit_code(command: Callable[P, int], interrupted: str) -> Callable[P, None]:
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
            # The reader of our output, such as head, closed the pipe; of any other pipe it is an error.
            code = CLEAN if discard_closed_stdout() else COULD_NOT_RUN
        raise click.exceptions.Exit(code)

    return exiting


def _show_version(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        print(f"datacheck {__version__}")
        ctx.exit()


def _show_completion(ctx: click.Context, _: click.Parameter, shell: str | None) -> None:
    kind = get_completion_class(shell) if shell is not None else None
    if kind is not None:
        print(kind(ctx.command, {}, "datacheck", "_DATACHECK_COMPLETE").source())
        ctx.exit()


def _root_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--version", "-V"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Print the version and exit.",
        ),
        click.Option(
            ["--show-completion"],
            type=click.Choice(_SHELLS),
            metavar="SHELL",
            is_eager=True,
            expose_value=False,
            callback=_show_completion,
            help=f"Print what the start-up file of a shell needs to complete options and codes: {', '.join(_SHELLS)}.",
        ),
    ]


_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def _group(help_text: str, epilog: str | None = None, params: list[click.Parameter] | None = None) -> HelpGroup:
    return HelpGroup(help=help_text, epilog=epilog, params=params, no_args_is_help=True, context_settings=_HELP)


def _command(
    name: str,
    command: Callable[..., int],
    section: str,
    cls: type[HelpCommand] = HelpCommand,
    interrupted: str = "interrupted",
) -> HelpCommand:
    exiting = _with_exit_code(command, interrupted)
    takes_context = "ctx" in inspect.signature(command).parameters
    made = cls(
        name,
        callback=click.pass_context(exiting) if takes_context else exiting,
        params=parameters_of(command),
        help=inspect.getdoc(command),
        context_settings=_HELP,
    )
    made.section = section
    return made


#: The sections of the list of commands.
_CHECK, _CLEAN, _SET_UP, _TRAINING = "Check data", "Clean data", "Set up", "Training"


def build(wanted: str | None = None) -> HelpGroup:
    """The command line, or only the one command that is ``wanted``: building all of them takes 20 ms."""

    def add(
        group: HelpGroup, name: str, command: Callable[..., int], section: str = "Commands", **options: Any
    ) -> None:
        if wanted is not None and group is built and name != wanted:
            return
        group.add_command(_command(name, command, section, **options))

    def add_group(group: HelpGroup, name: str, section: str) -> None:
        if wanted is None:
            group.section = section
            built.add_command(group, name)

    built = _group(
        "Find every value that would poison training, and show exactly where it is.",
        epilog="Exit codes: 0 clean, 1 findings, 2 could not run.",
        params=_root_options(),
    )
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
    merges = _group("Merge the results of shards.")
    add(merges, "run", merging(run.run), interrupted=_RESUMABLE, cls=OrderedCommand)
    add(merges, "scan", merging(scan.scan), cls=OrderedCommand)
    add(merges, "compare", merging(compare.compare), cls=OrderedCommand)
    add(merges, "fit", merging(run.fit))
    add(merges, "clean", merging(run.clean), interrupted=_RESUMABLE)
    schemas = _group("Infer the schema of the shards.")
    add(schemas, "infer", merging(infer.infer))
    merges.add_command(schemas, "schema")
    add_group(merges, "merge", _CLEAN)
    add(built, "config", flushed_stdout()(config.config), _SET_UP)
    schemas = _group("Infer, check, compare and print schemas.")
    add(schemas, "check", schema.check)
    add(schemas, "show", flushed_stdout()(schema.show))
    add(schemas, "infer", infer.infer)
    add(schemas, "diff", diff.diff)
    add_group(schemas, "schema", _SET_UP)
    baselines = _group("Record known findings, so that only new ones fail.")
    add(baselines, "write", flushed_stdout()(baseline.write))
    add_group(baselines, "baseline", _SET_UP)
    add(built, "watch", flushed_stdout()(watch.watch), _TRAINING, interrupted="no longer watching; the run goes on")
    add(built, "replay", replay.replay, _TRAINING)
    return built


#: Commands that are built alone. No other command shows in their help and errors.
_ALONE = ("scan", "run", "compare")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv``, by default the arguments of the process, and return its exit code."""
    # Looking for plugins of pydantic opens the description of every installed package; the models here need none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    arguments = list(sys.argv[1:] if argv is None else argv)
    app = build(arguments[0] if arguments and arguments[0] in _ALONE else None)
    try:
        app.main(args=arguments, prog_name="datacheck")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else COULD_NOT_RUN
