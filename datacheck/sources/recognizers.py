"""Recognizes files whose name says nothing and whose first bytes are not enough."""

from __future__ import annotations

import zipfile

from datacheck.storage.registry import storage_of

__all__ = ["is_safetensors", "is_torch_archive"]


def is_torch_archive(uri: str, head: bytes) -> bool:
    """Whether a file is a zip archive that ``torch.save`` wrote."""
    if not head.startswith(b"PK"):
        return False
    try:
        with storage_of(uri).open(uri) as file, zipfile.ZipFile(file) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def is_safetensors(_uri: str, head: bytes) -> bool:
    """Whether a file begins with the length of a JSON object and the object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30
