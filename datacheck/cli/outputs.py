"""Several reports of one check: ``--format sarif -o x.sarif --format text``, each file to the format before it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from datacheck.cli.output import printing
from datacheck.errors import UsageError
from datacheck.text import plain

if TYPE_CHECKING:
    from datacheck.reports.report import Report

__all__ = ["OrderedCommand", "ReportOutput", "pair_outputs", "write_reports"]

_ORDER = "datacheck.order"
#: The name by which standard output may be called.
_STDOUT = "-"


class OrderedCommand(TyperCommand):
    """A command that knows in which order its options were given; see :func:`pair_outputs`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Parsing changes the list, and is done again below.
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[_ORDER] = [parameter.name for parameter in order]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


@dataclass(frozen=True, slots=True)
class ReportOutput:
    """A report in one format, to a file, or to standard output where ``path`` is None. ``is_placed``: an ``-o`` says so."""

    format: str
    path: str | None = None
    is_placed: bool = False


def pair_outputs(ctx: Any, formats: Sequence[str], paths: Sequence[str], default: str) -> list[ReportOutput]:
    """Which format goes where. Raises ``UsageError`` for a file without a format, and for two formats to one place."""
    given_formats, given_paths = iter(formats), iter(paths)
    outputs: list[ReportOutput] = []
    for name in ctx.meta[_ORDER]:
        if name == "format":
            outputs.append(ReportOutput(next(given_formats)))
        elif name == "output":
            path = next(given_paths)
            if not outputs or outputs[-1].is_placed:
                raise UsageError(f"-o {plain(path)} belongs to no format; write --format FORMAT -o {plain(path)}")
            outputs[-1] = ReportOutput(outputs[-1].format, None if path == _STDOUT else path, is_placed=True)
    outputs = outputs or [ReportOutput(default)]
    _check(outputs)
    return outputs


def _check(outputs: Sequence[ReportOutput]) -> None:
    printed = [output.format for output in outputs if output.path is None]
    if len(printed) > 1:
        raise UsageError(
            f"{' and '.join(printed)} would both go to standard output; give all but one a file, as in "
            f"--format {printed[0]} -o FILE"
        )
    files = [output.path for output in outputs if output.path is not None]
    for path in files:
        if files.count(path) > 1:
            raise UsageError(f"-o {plain(path)} is given twice; each format needs a file of its own")


def write_reports(report: Report, outputs: Sequence[ReportOutput], color: str) -> None:
    """Write files first, each at once or not at all, then print; raises ``OutputError``."""
    from datacheck.publishing.named_file import write_named
    from datacheck.reports.formats import render

    for output in outputs:
        if output.path is not None:
            text = render(report, output.format, color=color == "always")
            # Names that are not Unicode are written as escapes by every format; a lone surrogate here is a defect.
            write_named(output.path, f"{text}\n".encode())
    for output in outputs:
        if output.path is None:
            with suppress(BrokenPipeError), printing():
                print(render(report, output.format, color=_shows_color(color)))


def _shows_color(color: str) -> bool:
    """What ``auto`` comes to: colour on a terminal that can show it.

    NO_COLOR (no-color.org) forbids it, and FORCE_COLOR (force-color.org) asks for it everywhere; of both the first holds.
    """
    import os
    import sys

    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")
