"""The checks before any reader: does the file exist, is it a regular file, and is it the data or only a pointer to it?"""

from __future__ import annotations

import functools
import posixpath
from shlex import quote

from datacheck.errors import SourceError
from datacheck.formats import unread_format_of_name
from datacheck.sources.dataset_folders import dataset_folder
from datacheck.storage.base import Fingerprint, StoreError
from datacheck.storage.os_calls import NOT_REGULAR
from datacheck.storage.os_errors import machine_failure
from datacheck.storage.registry import storage_of
from datacheck.text import plain

#: How many bytes of a file are examined.
HEAD_BYTES = 512

_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = b"/annex/objects/"
_DVC = (b"outs:\n", b"md5:", b"deps:\n", b"wdir:")


def read_head(uri: str) -> bytes:
    """The first bytes of a file that may hold data; none of a folder that is one dataset.

    Raises ``SourceError``: DC902 for what does not exist, is not a regular file or must not be read, DC906 for a pointer of
    Git LFS, git-annex or DVC, DC907 for zero bytes.
    """
    storage = storage_of(uri)
    try:
        info = storage.stat(uri, recent=True)
        if info.kind == "folder":
            if dataset_folder(storage, uri) is not None:
                return b""
            if (unread := unread_format_of_name(uri)) is not None and unread.is_folder:
                problem = f"'{plain(posixpath.basename(uri))}' is {unread.name}, which datacheck does not read"
                raise SourceError("DC909", uri, problem, unread.remedy)
            raise SourceError("DC902", uri, "expected a file, got a folder", "name the files in it, or the folder")
        if info.kind == "other":
            raise SourceError("DC902", uri, NOT_REGULAR, "write it to a file first")
        head = head_of(uri, info.fingerprint)
    except FileNotFoundError:
        raise _missing(uri) from None
    except StoreError as error:
        raise SourceError("DC910", uri, *(machine_failure(error) or ("", ""))) from None
    except (OSError, ValueError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SourceError("DC902", uri, problem, "check the path and its permissions") from None
    if not head:
        raise SourceError("DC907", uri, "the file is empty (zero bytes)", "rewrite it, or remove it from the inputs")
    if pointer := _pointer(uri, head, info.fingerprint.size):
        raise pointer
    return head


@functools.lru_cache(maxsize=64)  # the format is found first, and the file is inspected next
def head_of(uri: str, fingerprint: Fingerprint) -> bytes:  # noqa: ARG001 - a changed file is read again
    """The first bytes of a file with a fingerprint; raises ``OSError``."""
    with storage_of(uri).open(uri, recent=True) as file:
        return file.read_at(0, HEAD_BYTES)


def _missing(uri: str) -> SourceError:
    storage = storage_of(uri)
    if storage.exists(f"{uri}.dvc"):
        remedy = f"fetch the data with `dvc pull {quote(f'{uri}.dvc')}`"
        return SourceError("DC906", uri, "only its DVC pointer is here", remedy)
    target = storage.link_target(uri)
    if target is not None:
        if "annex/objects" in target:
            return SourceError(
                "DC906",
                uri,
                "it is a git-annex link to data that has not been fetched",
                f"run `git annex get {quote(uri)}`",
            )
        return SourceError("DC902", uri, "it is a link to a file that does not exist", "fix or remove the link")
    return SourceError("DC902", uri, "no such file", "check the path")


def _pointer(uri: str, head: bytes, size: int) -> SourceError | None:
    if head.startswith(_LFS):
        # Quoted, so that a file name cannot run as a command where this is pasted.
        remedy = f"fetch the data with `git lfs pull --include={quote(uri)}`"
        return SourceError("DC906", uri, "it is a Git LFS pointer", remedy)
    if size < HEAD_BYTES and head.startswith(_ANNEX):
        return SourceError("DC906", uri, "it is a git-annex pointer", f"run `git annex get {quote(uri)}`")
    if uri.endswith(".dvc") and any(line in head for line in _DVC):
        return SourceError("DC906", uri, "it is a DVC pointer", f"fetch the data with `dvc pull {quote(uri)}`")
    return None
