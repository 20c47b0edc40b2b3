"""Which paths may be written, and what parts are called."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from datacheck.errors import OutputError
from datacheck.text import plain

__all__ = ["check_output_outside_inputs", "safe_part_name"]

_STEM_LIMIT = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")

_Identity = tuple[int, int]


def safe_part_name(uri: str, unit_index: int) -> str:
    """The name of a unit's part, without a suffix: the input's own name, a hash of its whole path, the unit's index.

    It depends on its arguments alone, is plain ASCII, names no other folder, and differs for inputs of the same name.

    >>> safe_part_name("train/flights-2013.parquet", 3)
    'flights-2013-41441512c47d-00003'
    """
    base = uri.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem = base.rpartition(".")[0] or base
    stem = _UNSAFE.sub("_", stem).strip("._-")[:_STEM_LIMIT] or "part"
    digest = hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{stem}-{digest}-{unit_index:05d}"


def check_output_outside_inputs(output: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise ``OutputError`` where ``output``, a file or a folder, would overwrite an input or be read as one.

    That is: it is an input (by path, symbolic link or hard link), it lies inside an input folder, or an input lies
    inside it. Links are followed, and folders are told by device and inode, so that no other spelling of a path passes.
    """
    target = Path(os.path.realpath(output))
    lineage = [identity for folder in (target, *target.parents) if (identity := _identity(folder)) is not None]
    itself = _identity(target)
    for given in inputs:
        source = Path(os.path.realpath(given))
        identity = _identity(source)
        if source == target or (identity is not None and identity == itself):
            raise OutputError(
                f"{_shown(output)}: is the input {_shown(given)}; choose another output: inputs are never overwritten"
            )
        if source in target.parents or (identity in lineage and source.is_dir()):
            raise OutputError(
                f"{_shown(output)}: lies inside the input {_shown(given)} and would be read as one the next time;"
                " choose an output outside it"
            )
        if target in source.parents or (itself is not None and itself in map(_identity, source.parents)):
            raise OutputError(
                f"{_shown(output)}: holds the input {_shown(given)}; choose a folder of its own:"
                " inputs are never overwritten"
            )


def _identity(path: Path) -> _Identity | None:
    """Device and inode, or None where there is nothing (or nothing that may be looked at)."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _shown(path: str | os.PathLike[str]) -> str:
    return plain(os.fspath(path))
