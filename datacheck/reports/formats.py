"""The table of report formats: what each one is for, and the module that writes it, loaded when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from datacheck.errors import UsageError, nearest_name
from datacheck.reports.report import Report

__all__ = ["FORMATS", "render"]

#: Format -> ``module:function`` from a report to text.
FORMATS: dict[str, str] = {
    "text": "datacheck.reports.text:render",
    "json": "datacheck.reports.jsons:render_json",
    "jsonl": "datacheck.reports.jsons:render_jsonl",
    "sarif": "datacheck.reports.sarif:render",
    "junit": "datacheck.reports.junit:render",
    "github": "datacheck.reports.github:render",
    "gitlab": "datacheck.reports.gitlab:render",
    "markdown": "datacheck.reports.markdown:render",
}

#: Formats that are the report as it is; the others are for tools that fail by them.
_AS_IT_IS = frozenset({"text", "json", "jsonl"})


def render(report: Report, format: str, *, color: bool = False) -> str:  # noqa: A002 - the option's name
    """The report in a format, without a newline at its end; raises ``UsageError`` for an unknown format.

    Text is coloured where ``color`` says so, with the codes that terminals know.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no report format {format!r}{nearest_name(format, FORMATS)} ({', '.join(FORMATS)})")
    module, _, name = FORMATS[format].partition(":")
    function: Callable[[Report], str] = getattr(importlib.import_module(module), name)
    text = function(report if format in _AS_IT_IS else report.judged())
    if not (color and format == "text"):
        return text
    from datacheck.reports.color import paint

    return paint(text)
