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

__all__ = ["FOLDER_KINDS", "copy_with", "files_of", "write_folders"]


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


def _samples(rows: list[bytes]) -> bytes:
    places = np.cumsum([4 * (len(rows) + 2), *map(len, rows)]).astype("<u4")
    return len(rows).to_bytes(4, "little") + places.tobytes() + b"".join(rows)


def _write_mds(folder: Path) -> None:
    folder.mkdir()
    values = np.linspace(0, 1, 4).astype("<f4").tobytes()
    array = bytes([34, (2 << 2) | 0, 2, 2]) + values
    text = b'{"a": [1.5]}'
    sizes = np.array([len(array), len(text)], "<u4").tobytes()
    content = _samples([sizes + array + text + values[:4]] * 20)
    (folder / "shard.00000.mds").write_bytes(content)
    shard = {
        "column_names": ["array", "json", "x"],
        "column_encodings": ["ndarray", "json", "float32"],
        "column_sizes": [None, None, 4],
        "raw_data": {"basename": "shard.00000.mds", "bytes": len(content), "hashes": {}},
        "zip_data": None,
        "samples": 20,
    }
    (folder / "index.json").write_text(json.dumps({"shards": [shard], "version": 2}))


def _write_litdata(folder: Path) -> None:
    folder.mkdir()
    values = np.linspace(0, 1, 4).astype("<f4").tobytes()
    tensor = np.array([0, 2, 2, 2], "<u4").tobytes() + values
    sizes = np.array([len(values), len(tensor)], "<u4").tobytes()
    content = _samples([sizes + values + tensor] * 20)
    (folder / "chunk-0-0.bin").write_bytes(content)
    config = {"data_format": ["no_header_tensor:0", "tensor"], "data_spec": "", "compression": None}
    chunk = {"filename": "chunk-0-0.bin", "chunk_bytes": len(content), "chunk_size": 20}
    (folder / "index.json").write_text(json.dumps({"chunks": [chunk], "config": config}))


def _write_zarr(folder: Path) -> None:
    import warnings

    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = zarr.open_group(str(folder), mode="w", zarr_format=3)
        root.create_array("x", data=np.linspace(0, 1, 50), chunks=(20,))
        root.create_array("s", data=np.arange(40), chunks=(5,), shards=(20,))


def _write_iceberg(folder: Path) -> None:
    import fastavro

    (folder / "metadata").mkdir(parents=True)
    (folder / "data").mkdir()
    pq.write_table(_table(), folder / "data" / "a.parquet")
    names = ("content", "int"), ("file_path", "string"), ("file_format", "string")
    file = {"type": "record", "name": "f", "fields": [{"name": name, "type": kind} for name, kind in names]}
    entry = {
        "type": "record",
        "name": "e",
        "fields": [{"name": "status", "type": "int"}, {"name": "data_file", "type": file}],
    }
    manifest = {"type": "record", "name": "m", "fields": [{"name": "manifest_path", "type": "string"}]}
    values = {"content": 0, "file_path": "s3://b/t/data/a.parquet", "file_format": "PARQUET"}
    for name, schema, record in (
        ("m.avro", entry, {"status": 1, "data_file": values}),
        ("s.avro", manifest, {"manifest_path": "s3://b/t/metadata/m.avro"}),
    ):
        with (folder / "metadata" / name).open("wb") as stream:
            fastavro.writer(stream, fastavro.parse_schema(schema), [record])
    snapshot = {"snapshot-id": 1, "manifest-list": "s3://b/t/metadata/s.avro"}
    metadata = {"format-version": 2, "location": "s3://b/t", "snapshots": [snapshot], "current-snapshot-id": 1}
    (folder / "metadata" / "v1.metadata.json").write_text(json.dumps(metadata))


def _write_lance(folder: Path) -> None:
    import lance

    lance.write_dataset(_table(), str(folder))


_WRITERS: dict[str, Callable[[Path], None]] = {
    "table-delta": _write_delta,
    "table-iceberg": _write_iceberg,
    "checkpoint-dcp": _write_dcp,
    "samples-mds": _write_mds,
    "samples-litdata": _write_litdata,
    "store.zarr": _write_zarr,
    "table.lance": _write_lance,
}
#: How the names of these datasets begin.
FOLDER_KINDS = frozenset(name.partition("-")[0] for name in _WRITERS)
