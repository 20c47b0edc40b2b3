"""Storage: local files, and whatever else is registered, behind one protocol."""

from datacheck.storage.base import DataFile, Entry, FileInfo, Fingerprint, Storage
from datacheck.storage.registry import open_file, read_bytes, register_storage, storage_of

__all__ = [
    "DataFile",
    "Entry",
    "FileInfo",
    "Fingerprint",
    "Storage",
    "open_file",
    "read_bytes",
    "register_storage",
    "storage_of",
]
