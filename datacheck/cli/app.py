"""The command ``datacheck``: its commands, its exit codes, and how errors are shown."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import ParamSpec

import typer

from datacheck._version import __version__
from datacheck.cli import baseline, compare, config, diff, explain, infer, replay, run, scan, schema
from datacheck.cli.exit_codes import COULD_NOT_RUN, INTERRUPTED
from datacheck.cli.output import printing
from datacheck.cli.outputs import OrderedCommand
from datacheck.errors import DatacheckError
from datacheck.text import plain

__all__ = ["app", "main"]

_GO_ON = "interrupted; nothing partial was published. The same command again goes on from here."

P = ParamSpec("P")


def _ending(command: Callable[P, int], interrupted: str = "interrupted") -> Callable[P, None]:
    """The command, ending the program with its exit code, and with a message instead of a traceback where it cannot run.

    ``interrupted`` is what is said after Ctrl-C.
    """

    @functools.wraps(command)
    def ended(*args: P.args, **kwargs: P.kwargs) -> None:
        code = 0
        try:
            code = command(*args, **kwargs)
            with printing():
                pass
        except DatacheckError as error:
            message = "\n".join(plain(line, 4000) for line in str(error).splitlines())
            print(f"datacheck: {message}", file=sys.stderr)
            code = COULD_NOT_RUN
        except KeyboardInterrupt:
            print(f"datacheck: {interrupted}", file=sys.stderr)
            code = INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has seen enough.
            pass
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


def _group() -> None:
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
    built.command("run")(_ending(run.run, _GO_ON))
    built.command("scan", cls=OrderedCommand)(_ending(scan.scan))
    built.command("compare", cls=OrderedCommand)(_ending(compare.compare))
    built.command("fit")(_ending(run.fit))
    built.command("clean")(_ending(run.clean, _GO_ON))
    schemas = _typer("Infer, compare and look at schemas.")
    schemas.command("check")(_ending(printing()(schema.check)))
    schemas.command("show")(_ending(printing()(schema.show)))
    schemas.command("infer")(_ending(infer.infer))
    schemas.command("diff")(_ending(printing()(diff.diff)))
    built.add_typer(schemas, name="schema")
    built.command("config")(_ending(printing()(config.config)))
    baselines = _typer("Findings that are known, so that only new ones fail.")
    # With one command only, a group would be that command.
    baselines.callback()(_group)
    baselines.command("write")(_ending(printing()(baseline.write)))
    built.add_typer(baselines, name="baseline")
    built.command("replay")(_ending(printing()(replay.replay)))
    built.command("explain")(_ending(printing()(explain.explain)))
    return built


app = _build()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (those of the process unless given) and return its exit code."""
    try:
        app(args=None if argv is None else list(argv), prog_name="datacheck")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else COULD_NOT_RUN
    return 0
