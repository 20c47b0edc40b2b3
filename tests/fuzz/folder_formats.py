"""Small datasets that are folders, which the fuzzer makes mutants of: one file in them is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["copy_with", "files_of", "write_folders"]


def write_folders(folder: Path) -> list[Path]:
    """One small dataset of every format that is a folder, where its writer is installed."""
    written = []
    for name, write in _WRITERS.items():
        with suppress(ImportError):
            write(folder / name)
            written.append(folder / name)
    return written


def copy_with(original: Path, target: Path, changed: Path, content: bytes) -> None:
    """Copy a dataset to ``target``, with one of its files changed."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(original, target)
    (target / changed.relative_to(original)).write_bytes(content)


def files_of(original: Path) -> Iterator[Path]:
    """The files of a dataset."""
    yield from sorted(path for path in original.rglob("*") if path.is_file())


def _table() -> pa.Table:
    return pa.table({"x": np.linspace(0, 1, 50), "n": list(range(50))})


def _write_delta(folder: Path) -> None:
    (folder / "_delta_log").mkdir(parents=True)
    (folder / "day=1").mkdir()
    pq.write_table(_table(), folder / "day=1" / "a.parquet")
    fields = [{"name": "x", "type": "double"}, {"name": "day", "type": "integer"}]
    actions = [
        {"protocol": {"minReaderVersion": 1}},
        {"metaData": {"schemaString": json.dumps({"fields": fields}), "partitionColumns": ["day"]}},
        {"add": {"path": quote("day=1/a.parquet"), "partitionValues": {"day": "1"}}},
    ]
    (folder / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))


def _write_dcp(folder: Path) -> None:
    import warnings

    import torch
    import torch.distributed.checkpoint as checkpoint

    state = {"w": torch.arange(40.0).reshape(8, 5), "b": torch.ones(8, dtype=torch.bfloat16), "lr": 0.1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint.save(state, checkpoint_id=folder)


_WRITERS: dict[str, Callable[[Path], None]] = {"table-delta": _write_delta, "checkpoint-dcp": _write_dcp}
