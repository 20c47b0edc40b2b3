"""Writes ``docs/codes.md``, one section a code: ``python -m datacheck.codes.markdown docs/codes.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from datacheck.codes import CODES, Code

__all__ = ["main", "render_codes"]

_HEAD = """\
# Codes

<!-- Made by `python -m datacheck.codes.markdown docs/codes.md` from datacheck/codes/. Change it there. -->

`datacheck explain CODE` prints the same. A code means the same in a file, in a sample and in a layer's output, and keeps
its number and its meaning. Codes can be chosen by their beginning: `--select DC1` is all of NaN, infinities and nulls.
"""


def render_codes() -> str:
    """All codes as Markdown: a table of them, then a section for each."""
    return "\n".join([_HEAD, *_table(), *(line for code in CODES.values() for line in _section(code))])


def main(argv: list[str]) -> int:
    """Write to the file that is named."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m datacheck.codes.markdown FILE\n")
        return 2
    Path(argv[0]).write_text(render_codes(), encoding="utf-8")
    return 0


def _table() -> Iterator[str]:
    yield "| code | name | severity | family |"
    yield "|---|---|---|---|"
    for code in CODES.values():
        yield f"| [{code.code}](#{_anchor(code)}) | `{code.name}` | {code.severity} | {code.family} |"
    yield ""


def _section(code: Code) -> Iterator[str]:
    yield f"## {code.code} {code.name}"
    yield ""
    yield f"**Finds** ({code.severity}). {code.finds.strip()}"
    yield ""
    yield f"**Why.** {code.why.strip()}"
    yield ""
    yield f"**Example.** {code.example.strip()}"
    yield ""
    yield f"**Remedy.** {code.remedy.strip()}"
    yield ""


def _anchor(code: Code) -> str:
    return f"{code.code} {code.name}".lower().replace(" ", "-")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
