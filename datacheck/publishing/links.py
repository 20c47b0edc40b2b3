"""No link is followed out of an output folder: not to write there, and not to delete."""

from __future__ import annotations

from datacheck.errors import OutputError
from datacheck.storage import storage_of
from datacheck.storage.local import follow_no_links_in
from datacheck.text import plain


def is_inside(output: str, name: str) -> bool:
    """Whether a file, named relative to the output folder, lies in it, with no link and no ``..`` on the way."""
    steps = name.split("/")
    if any(step in ("", ".", "..") for step in steps):
        return False
    return _is_plain(output, "/".join((output, *steps[:-1])))


def check_no_link(output: str, folder: str) -> None:
    """Raise ``OutputError`` if a link leads a folder of the output elsewhere. The output folder itself may be a link."""
    if not _is_plain(output, folder):
        raise OutputError(
            f"{plain(folder)}: is a link, or lies behind one, and nothing is written or deleted through links in an output;"
            " remove the link, or choose another output"
        )


def _is_plain(output: str, folder: str) -> bool:
    storage = storage_of(output)
    # A link that appears after this look is not followed either.
    follow_no_links_in(output)
    return storage.resolve(folder) == f"{storage.resolve(output).rstrip('/')}{folder.removeprefix(output)}"
