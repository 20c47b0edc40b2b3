"""Colour for a report that is shown as text: codes by severity, and the line that sums up."""

from __future__ import annotations

import re

__all__ = ["paint"]

_RESET = "\x1b[0m"
_BY_MARK = {"": "\x1b[31m", "warning: ": "\x1b[33m", "info: ": "\x1b[34m"}
_FIXED = "\x1b[32m"

_FINDING = re.compile(r"^(DC\d{3})( (?:warning|info): | )", re.MULTILINE)
_SUMMARY = re.compile(r"^(no findings|[\d,]+ errors?|fixed:)", re.MULTILINE)


def paint(text: str) -> str:
    """The text with SGR codes. Names from data cannot begin a line, so they cannot be taken for what is painted."""
    text = _FINDING.sub(lambda match: f"{_BY_MARK[match[2].lstrip()]}{match[1]}{_RESET}{match[2]}", text)
    return _SUMMARY.sub(lambda match: f"{_summary_color(match[1])}{match[1]}{_RESET}", text)


def _summary_color(words: str) -> str:
    return _FIXED if words in ("no findings", "fixed:") or words.startswith("0 ") else _BY_MARK[""]
