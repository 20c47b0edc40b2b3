"""One small table in every format that has a source, and how it is read back as NumPy arrays."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from datacheck.batch import Batch
from datacheck.formats import BUILT_IN
from datacheck.sources import InputInfo, ReadOptions, base, get_source, source_for
from datacheck.sources.tf_example import example_class
from datacheck.sources.tfrecord import frame

Table = dict[str, np.ndarray[Any, Any]]


def make_table(num_rows: int = 1000) -> Table:
    """A float32 column with NaN and both infinities, a float64 column, and an int64 column."""
    random = np.random.default_rng(num_rows)
    single = random.standard_normal(num_rows).astype(np.float32)
    single[::7], single[3::11], single[5::13] = np.nan, np.inf, -np.inf
    # Values that float32 can hold, too, which is all that some formats have.
    double = random.standard_normal(num_rows).astype(np.float32).astype(np.float64)
    return {"single": single, "double": double, "count": np.arange(num_rows)}


def _arrow(table: Table) -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in table.items()})


def _write_parquet(path: Path, table: Table) -> None:
    pq.write_table(_arrow(table), path, row_group_size=300)


def _write_arrow_file(path: Path, table: Table, compression: str | None = None) -> None:
    arrow = _arrow(table)
    with ipc.new_file(path, arrow.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(arrow, max_chunksize=170)


def _write_lz4(path: Path, table: Table) -> None:
    _write_arrow_file(path, table, "lz4")


def _write_stream(path: Path, table: Table, compression: str | None = None) -> None:
    arrow = _arrow(table)
    with ipc.new_stream(path, arrow.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(arrow, max_chunksize=170)


def _csv_text(table: Table) -> str:
    rows = [",".join(map(str, row)) for row in zip(*(values.tolist() for values in table.values()), strict=True)]
    return "\n".join([",".join(table), *rows]) + "\n"


def _write_csv(path: Path, table: Table) -> None:
    path.write_text(_csv_text(table))


def _write_csv_gz(path: Path, table: Table) -> None:
    path.write_bytes(gzip.compress(_csv_text(table).encode()))


def _json_lines(table: Table) -> str:
    rows = zip(*(values.tolist() for values in table.values()), strict=True)
    return "".join(json.dumps(dict(zip(table, row, strict=True))) + "\n" for row in rows)


def _write_json_lines(path: Path, table: Table) -> None:
    path.write_text(_json_lines(table))


def _write_json_lines_zst(path: Path, table: Table) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(_json_lines(table).encode())


def _write_json(path: Path, table: Table) -> None:
    path.write_text(json.dumps(list(map(json.loads, _json_lines(table).splitlines())), indent=1))


def _write_npz(path: Path, table: Table) -> None:
    np.savez(path, **table)  # type: ignore[arg-type]


def _write_npz_compressed(path: Path, table: Table) -> None:
    np.savez_compressed(path, **table)  # type: ignore[arg-type]


def _write_safetensors(path: Path, table: Table) -> None:
    from safetensors.numpy import save_file

    save_file(table, path)


def _write_hdf5(path: Path, table: Table) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in table.items():
            file[name] = values


def _write_hdf5_chunked(path: Path, table: Table) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in table.items():
            file.create_dataset(name, data=values, chunks=(64,), compression="gzip", maxshape=(None,))


def tfrecord_bytes(records: Iterable[bytes]) -> bytes:
    from google_crc32c import value

    return b"".join(frame(record, value) for record in records)


def example(**features: Any) -> bytes:
    """A serialized ``tf.train.Example``: floats, integers or bytes by name."""
    made = example_class()()
    for name, values in features.items():
        values = list(values) if isinstance(values, list | tuple | np.ndarray) else [values]
        kinds = {float: "float_list", np.float32: "float_list", np.float64: "float_list", bytes: "bytes_list"}
        kind = kinds.get(type(values[0]), "int64_list") if values else "float_list"
        getattr(made.features.feature[name], kind).value.extend(values)
    return made.SerializeToString(deterministic=True)


def _write_tfrecord(path: Path, table: Table) -> None:
    columns = {**table, "double": table["double"].astype(np.float32)}
    rows = zip(*columns.values(), strict=True)
    path.write_bytes(tfrecord_bytes(example(**dict(zip(columns, row, strict=True))) for row in rows))


def _write_tfrecord_gz(path: Path, table: Table) -> None:
    _write_tfrecord(path, table)
    path.write_bytes(gzip.compress(path.read_bytes()))


def _write_orc(path: Path, table: Table) -> None:
    from pyarrow import orc

    # The smallest stripe that Arrow writes has 1,024 rows.
    orc.write_table(_arrow(table), path, stripe_size=1024, batch_size=1024)


def _write_avro(path: Path, table: Table) -> None:
    import fastavro

    kinds = {"single": "float", "double": "double", "count": "long"}
    fields = [{"name": name, "type": kind} for name, kind in kinds.items()]
    schema = fastavro.parse_schema({"type": "record", "name": "row", "fields": fields})
    columns = [values.tolist() for values in table.values()]
    records = [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, codec="deflate", sync_interval=2000)


def _write_torch(path: Path, table: Table) -> None:
    import torch

    torch.save({name: torch.from_numpy(values) for name, values in table.items()}, path)


def gguf_bytes(
    tensors: dict[str, tuple[int, tuple[int, ...], bytes]], order: str = "<", metadata: bytes = b"", num_values: int = 0
) -> bytes:
    """A GGUF file of tensors: type, shape and bytes of each."""

    def text(value: str) -> bytes:
        return struct.pack(f"{order}Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack(f"{order}IQQ", 3, len(tensors), num_values) + metadata
    offset, data = 0, b""
    for name, (kind, shape, content) in tensors.items():
        head += text(name) + struct.pack(f"{order}I{len(shape)}QIQ", len(shape), *reversed(shape), kind, offset)
        data += content + bytes(-len(content) % 32)
        offset = len(data)
    return head + bytes(-len(head) % 32) + data


def _write_gguf(path: Path, table: Table) -> None:
    kinds = {"float32": 0, "float64": 28, "int64": 27}
    path.write_bytes(
        gguf_bytes({name: (kinds[one.dtype.name], one.shape, one.tobytes()) for name, one in table.items()})
    )


@dataclass(frozen=True)
class Format:
    """How to write one kind of file. ``is_text`` has no mark of where it ends; ``splits`` into units of few rows."""

    suffix: str
    write: Callable[[Path, Table], None]
    needs: str = ""
    is_text: bool = False
    splits: bool = True


FORMATS: dict[str, Format] = {
    "parquet": Format(".parquet", _write_parquet),
    "arrow": Format(".arrow", _write_arrow_file),
    "arrow-lz4": Format(".feather", _write_lz4),
    "stream": Format(".arrows", _write_stream),
    "csv": Format(".csv", _write_csv, is_text=True, splits=False),
    "csv.gz": Format(".csv.gz", _write_csv_gz, splits=False),
    "jsonl": Format(".jsonl", _write_json_lines, needs="msgspec", is_text=True),
    "jsonl.zst": Format(".jsonl.zst", _write_json_lines_zst, needs="msgspec", splits=False),
    "json": Format(".json", _write_json, needs="msgspec", is_text=True, splits=False),
    "npz": Format(".npz", _write_npz),
    "npz-compressed": Format(".npz", _write_npz_compressed, splits=False),
    "safetensors": Format(".safetensors", _write_safetensors, needs="safetensors"),
    "torch": Format(".pt", _write_torch, needs="torch"),
    "gguf": Format(".gguf", _write_gguf),
    "hdf5": Format(".h5", _write_hdf5, needs="h5py"),
    "hdf5-chunked": Format(".nc", _write_hdf5_chunked, needs="h5py"),
    "tfrecord": Format(".tfrecord", _write_tfrecord, needs="google_crc32c"),
    "tfrecord.gz": Format(".tfrecord.gz", _write_tfrecord_gz, needs="google_crc32c", splits=False),
    "orc": Format(".orc", _write_orc, splits=False),
    "avro": Format(".avro", _write_avro, needs="fastavro", splits=False),
}


#: The formats that a run cleans.
CLEANED = tuple(name for name in FORMATS if name != "gguf")


def parameters(names: Iterable[str] = FORMATS) -> list[Any]:
    """Formats as parameters of a test; those whose library is not installed are skipped."""
    made = []
    for name in names:
        needs = FORMATS[name].needs
        missing = bool(needs) and importlib.util.find_spec(needs) is None
        made.append(pytest.param(FORMATS[name], id=name, marks=pytest.mark.skipif(missing, reason=f"needs {needs}")))
    return made


def shrink_units(monkeypatch: pytest.MonkeyPatch, unit_bytes: int = 4096, batch_bytes: int = 1024) -> None:
    """Let units and batches be small, so that a small file has many."""
    for name in BUILT_IN:
        # A module that is imported later would keep the small sizes.
        get_source(name)
    monkeypatch.setattr(base.split_rows, "__defaults__", (unit_bytes,))
    sizes = {
        "TARGET_UNIT_BYTES": unit_bytes,
        "TARGET_BATCH_BYTES": batch_bytes,
        "BLOCK_BYTES": batch_bytes,
        "JOIN_BELOW_BYTES": batch_bytes // 2,
    }
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("datacheck.sources"):
            for name, size in sizes.items():
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, size)


def inspect(path: Path | str, options: ReadOptions | None = None) -> InputInfo:
    return source_for(str(path)).inspect(str(path), options or ReadOptions())


def read_batches(info: InputInfo) -> list[Batch]:
    source = source_for(info.uri)
    return [batch for unit in info.units for batch in source.read(unit)]


def read_table(path: Path | str, options: ReadOptions | None = None) -> dict[str | None, np.ndarray[Any, Any]]:
    """All columns of a file, each as one array over all batches."""
    return join(read_batches(inspect(path, options)))


def join(batches: list[Batch]) -> dict[str | None, np.ndarray[Any, Any]]:
    parts: dict[str | None, list[np.ndarray[Any, Any]]] = {}
    for batch in batches:
        for column in batch.columns:
            data = column.data
            values = data if isinstance(data, np.ndarray) else data.to_numpy(zero_copy_only=False)
            parts.setdefault(column.name, []).append(values)
    return {name: arrays[0] if arrays[0].ndim == 0 else np.concatenate(arrays) for name, arrays in parts.items()}
