"""Links to files in text reports, for terminals that open them (OSC 8)."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from datacheck.storage import storage_of
from datacheck.text import plain

#: What is before the name of a file: in the brackets at the end of a finding, or as the last cell of a table.
_START = re.compile(r" \(|  ")
#: How its end may look.
_END = re.compile(r", |\)")


def link_files(text: str, uris: Iterable[str]) -> str:
    """The text, in which the names of these files link to them: local ones that exist, and files of web servers."""
    targets = {plain(uri): target for uri in dict.fromkeys(uris) if (target := _target(uri)) is not None}
    shown = {plain(name, 60): target for name, target in targets.items()} | targets
    return "\n".join(_linked(line, shown) for line in text.split("\n")) if shown else text


def _linked(line: str, targets: Mapping[str, str]) -> str:
    for start in reversed([found.end() for found in _START.finditer(line)]):
        # The longest name first: a comma or a bracket may be part of it.
        for end in [*(found.start() for found in reversed([*_END.finditer(line, start)])), len(line)]:
            target = targets.get(line[start:end])
            if target is not None:
                return f"{line[:start]}\x1b]8;;{target}\x1b\\{line[start:end]}\x1b]8;;\x1b\\{line[end:]}"
    return line


def _target(uri: str) -> str | None:
    """The address of a file, quoted so that no character of it can end the link."""
    if uri.startswith(("https://", "http://")):
        return uri if uri.isascii() and uri.isprintable() and " " not in uri else None
    try:
        local = storage_of(uri).local_path(uri)
        if local is None or not os.path.lexists(local):
            return None
        address = Path(os.path.abspath(local)).as_uri()  # noqa: PTH100 - links stay as they are
    except (OSError, ValueError):
        return None
    return (
        address.replace("file://", f"file://{socket.gethostname()}", 1) if address.startswith("file:///") else address
    )
