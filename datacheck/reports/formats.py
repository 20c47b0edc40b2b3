"""The report formats, and the module that writes each one, imported when first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from datacheck.errors import UsageError, nearest_name
from datacheck.reports.report import Report
from datacheck.reports.text import MAX_LINES

if TYPE_CHECKING:
    from datacheck.reports.distributions import FieldDistribution

#: Format -> ``module:function`` from a report to text.
FORMATS: dict[str, str] = {
    "text": "builtins:str",
    "json": "datacheck.reports.jsons:render_json",
    "jsonl": "datacheck.reports.jsons:render_jsonl",
    "sarif": "datacheck.reports.sarif:render",
    "junit": "datacheck.reports.junit:render",
    "github": "datacheck.reports.github:render",
    "gitlab": "datacheck.reports.gitlab:render",
    "markdown": "datacheck.reports.markdown:render",
    "html": "datacheck.reports.report:Report.to_html",
}

#: Formats that show the report unchanged. The others are for CI tools, which fail on any error in them.
_UNCHANGED = frozenset({"json", "jsonl"})


def render(
    report: Report,
    format: str,  # noqa: A002 - the option's name
    *,
    color: bool = False,
    distributions: Sequence[FieldDistribution] = (),
    limit: int = MAX_LINES,
) -> str:
    """Render a report in one of :data:`FORMATS`, without a final newline. ``color`` adds ANSI colors to text,
    ``limit`` is the number of findings from which text sums up, and ``distributions`` of fields are shown in HTML.

    Raises:
        UsageError: unknown format.
    """
    if format not in FORMATS:
        raise UsageError(
            f"unknown report format {format!r}{nearest_name(format, FORMATS)}; expected one of {', '.join(FORMATS)}"
        )
    if format == "html":
        return report.to_html(distributions).rstrip("\n")
    if format == "text":
        return _colored(report.to_text(limit)) if color else report.to_text(limit)
    module, _, name = FORMATS[format].partition(":")
    function: Callable[[Report], str] = getattr(importlib.import_module(module), name)
    return function(report if format in _UNCHANGED else report.for_ci())


def _colored(text: str) -> str:
    from datacheck.reports.color import colorize

    return colorize(text)
