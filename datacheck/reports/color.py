"""ANSI colors for text reports: each code by its severity, and the summary line."""

from __future__ import annotations

import re

_RESET = "\x1b[0m"
_BY_MARK = {"": "\x1b[31m", "warning: ": "\x1b[33m", "info: ": "\x1b[34m"}
_FIXED = "\x1b[32m"

_FINDING = re.compile(r"^(DC\d{3})( (?:warning|info): | )", re.MULTILINE)
_SUMMARY = re.compile(r"^(no findings|[\d,]+ errors?|fixed:)", re.MULTILINE)


def colorize(text: str) -> str:
    """The text with ANSI color codes.

    Names from data never begin a line, so they cannot pass for a code or a summary.
    """
    text = _FINDING.sub(lambda match: f"{_BY_MARK[match[2].lstrip()]}{match[1]}{_RESET}{match[2]}", text)
    return _SUMMARY.sub(lambda match: f"{_summary_color(match[1])}{match[1]}{_RESET}", text)


def _summary_color(summary: str) -> str:
    return _FIXED if summary in ("no findings", "fixed:") or summary.startswith("0 ") else _BY_MARK[""]
