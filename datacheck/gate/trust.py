"""Whose cache it is: entries of a folder that others can write to are believed only if this user wrote them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

_SECRET_NAME = "cache-key"  # noqa: S105 - the name of the file
_SECRET_BYTES = 32


def key_for(folder: Path, name: str, own_folder: Path) -> bytes | None:
    """The key that signs the entries of the cache ``name`` in ``folder``; None if there is none to trust.

    A folder that only this user can write to needs none, so that it can move to another machine, as caches of CI do. For
    any other, the key is a secret in the user's ``own_folder``.
    """
    return b"" if _is_writable_by_me_alone(folder, name) else _secret(own_folder)


def _is_writable_by_me_alone(folder: Path, name: str) -> bool:
    """Whether no other user can change the folder and the file in it, by their owners and modes."""
    path = folder / name
    try:
        return _is_mine(folder.stat()) and (not os.path.lexists(path) or _is_mine(path.lstat()))
    except OSError:
        return False


def _is_mine(state: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):
        # Windows says by lists of its own who may write: they are not read.
        return False
    return state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_private(state: os.stat_result) -> bool:
    """Whether no other user can read a file. On Windows it lies in the user's own folder, which others cannot open."""
    return not hasattr(os, "geteuid") or (state.st_uid == os.geteuid() and not state.st_mode & 0o077)


def _secret(folder: Path) -> bytes | None:
    path = folder / _SECRET_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, os.urandom(_SECRET_BYTES))
                # A link fails where another process was faster: all use the same secret.
                path.hardlink_to(partial)
            finally:
                os.close(descriptor)
                partial.unlink()
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or not _is_private(state):
            return None
        secret = path.read_bytes()
    except (OSError, RuntimeError):
        return None
    return secret if len(secret) == _SECRET_BYTES else None
