"""Which suffix belongs to which format, so that a folder can be listed without importing any reader."""

from __future__ import annotations

import os

__all__ = ["BUILT_IN_SUFFIXES", "TABULAR_FORMATS", "format_of_name"]

#: Suffix -> format, for the built-in formats.
BUILT_IN_SUFFIXES: dict[str, str] = {
    ".parquet": "parquet",
    ".parq": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".npy": "npy",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".pt": "torch",
    ".pth": "torch",
}

#: Formats of named columns, to which the folders of a hive layout add columns.
TABULAR_FORMATS = frozenset({"arrow", "csv", "parquet"})


def format_of_name(uri: str) -> str | None:
    """The built-in format that a file's name stands for; None where it stands for none."""
    name = os.path.basename(uri).lower()  # noqa: PTH119 - called several times a file
    return next((format_ for suffix, format_ in BUILT_IN_SUFFIXES.items() if name.endswith(suffix)), None)
