"""Several reports from one check: ``--format sarif -o x.sarif --format text``. Each ``-o`` belongs to the format before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datacheck.cli.help import HelpCommand
from datacheck.cli.terminal import flushed_stdout
from datacheck.errors import UsageError
from datacheck.text import plain

if TYPE_CHECKING:
    from datacheck.reports.distributions import FieldDistribution
    from datacheck.reports.report import Report


_ORDER = "datacheck.order"
#: Stands for standard output.
_STDOUT = "-"


class OrderedCommand(HelpCommand):
    """A command that records the order of its options, for :func:`pair_outputs`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Parsing consumes the list.
        rest: list[str] = super().parse_args(ctx, list(args))
        _, _, order = self.make_parser(ctx).parse_args(args=args)
        ctx.meta[_ORDER] = [parameter.name for parameter in order]
        return rest


@dataclass(frozen=True, slots=True)
class ReportOutput:
    """A report format and its file. ``path`` None is standard output. ``is_explicit``: an ``-o`` chose it."""

    format: str
    path: str | None = None
    is_explicit: bool = False


def pair_outputs(ctx: Any, formats: Sequence[str], paths: Sequence[str], default: str) -> list[ReportOutput]:
    """Pair formats with files. Raises ``UsageError`` for a file without a format, and for two formats to one file."""
    given_formats, given_paths = iter(formats), iter(paths)
    outputs: list[ReportOutput] = []
    for name in ctx.meta[_ORDER]:
        if name == "format":
            outputs.append(ReportOutput(next(given_formats)))
        elif name == "output":
            path = next(given_paths)
            if not outputs or outputs[-1].is_explicit:
                raise UsageError(f"-o {plain(path)} needs a format before it: --format FORMAT -o {plain(path)}")
            outputs[-1] = ReportOutput(outputs[-1].format, None if path == _STDOUT else path, is_explicit=True)
    outputs = outputs or [ReportOutput(default)]
    _check_distinct(outputs)
    return outputs


def _check_distinct(outputs: Sequence[ReportOutput]) -> None:
    printed = [output.format for output in outputs if output.path is None]
    if len(printed) > 1:
        raise UsageError(
            f"{' and '.join(printed)} would all go to standard output; give all but one of them a file, such as "
            f"--format {printed[0]} -o FILE"
        )
    files = [output.path for output in outputs if output.path is not None]
    for path in files:
        if files.count(path) > 1:
            raise UsageError(f"-o {plain(path)} is given twice; each format needs its own file")


def limit_of_text(limit: int | None, *, quiet: bool, summary: bool) -> int:
    """How much of the findings text shows. Raises ``UsageError`` for options that contradict each other."""
    from datacheck.reports.text import LAST_LINE_ONLY, MAX_LINES, TABLE_ONLY

    if quiet + summary + (limit is not None) > 1:
        raise UsageError("give only one of --limit, --quiet and --summary")
    return LAST_LINE_ONLY if quiet else TABLE_ONLY if summary else MAX_LINES if limit is None else limit


def write_reports(
    report: Report,
    outputs: Sequence[ReportOutput],
    color: str,
    distributions: Callable[[], Sequence[FieldDistribution]] | None = None,
    limit: int | None = None,
) -> None:
    """Write files first, each one atomically, then print. Raises ``OutputError``.

    ``distributions`` finds what a page shows of the fields. ``limit`` is the number of findings from which
    text sums up.
    """
    from datacheck.publishing.named_file import write_named
    from datacheck.reports.formats import render
    from datacheck.reports.text import MAX_LINES

    has_page = any(output.format == "html" for output in outputs)
    fields = distributions() if distributions is not None and has_page else ()
    most = MAX_LINES if limit is None else limit
    for output in outputs:
        if output.path is not None:
            text = render(report, output.format, color=color == "always", distributions=fields, limit=most)
            # Every format escapes names that are not Unicode, so a lone surrogate here is a bug.
            write_named(output.path, f"{text}\n".encode())
    for output in outputs:
        if output.path is None:
            with flushed_stdout():
                text = render(report, output.format, color=_use_color(color), distributions=fields, limit=most)
                if output.format == "text":
                    print(_with_links(text, report) if _shows_links() else text)
                else:
                    _print_utf8(text)


def _print_utf8(text: str) -> None:
    """Print what programs read: in UTF-8, as files are, whatever the encoding of stdout is (on Windows often another)."""
    import sys

    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        print(text)
        return
    sys.stdout.flush()
    binary.write(f"{text}\n".encode())


def _use_color(color: str) -> bool:
    """Whether to color stdout. ``auto`` does so on a terminal.

    NO_COLOR (no-color.org) turns it off and FORCE_COLOR (force-color.org) turns it on. NO_COLOR wins.
    """
    import os
    import sys

    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


#: What terminals that open links (OSC 8) say of themselves.
_WITH_LINKS = ("WT_SESSION", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "DOMTERM", "WEZTERM_PANE", "GHOSTTY_RESOURCES_DIR")
_PROGRAMS_WITH_LINKS = ("iTerm.app", "vscode", "WezTerm", "Hyper", "ghostty", "Tabby", "rio")
_TERMS_WITH_LINKS = ("xterm-kitty", "alacritty", "foot", "xterm-ghostty", "contour")


def _shows_links() -> bool:
    """Whether stdout is a terminal that shows links. FORCE_HYPERLINK says so, or with 0 that it is not."""
    import os
    import sys

    variables = os.environ
    forced = variables.get("FORCE_HYPERLINK")
    if forced is not None:
        return forced not in ("", "0", "false")
    if not sys.stdout.isatty() or variables.get("TERM") == "dumb":
        return False
    vte = variables.get("VTE_VERSION", "")
    return (
        any(variables.get(name) for name in _WITH_LINKS)
        or variables.get("TERM_PROGRAM") in _PROGRAMS_WITH_LINKS
        or variables.get("TERM") in _TERMS_WITH_LINKS
        or (vte.isdecimal() and int(vte) >= 5000)
    )


def _with_links(text: str, report: Report) -> str:
    from datacheck.reports.links import link_files

    return link_files(text, [finding.uri for finding in report.findings])
