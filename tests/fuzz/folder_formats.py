"""Small datasets that are folders, which the fuzzer makes mutants of: one file in them is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from volume_files import write_installed

__all__ = ["FOLDER_KINDS", "copy_with", "files_of", "write_folders"]


def write_folders(folder: Path) -> list[Path]:
    """One small dataset of every format that is a folder, where its writer is installed."""
    return write_installed(folder, _WRITERS)


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
    """A table with rows deleted by position and by value."""
    from iceberg_files import LOCATION, write_table

    tables = {
        "a": _table(),
        "p": pa.table({"file_path": [f"{LOCATION}/data/a.parquet"], "pos": [4]}),
        "e": pa.table({"n": [7, 9]}, pa.schema([pa.field("n", pa.int64(), metadata={"PARQUET:field_id": "2"})])),
    }
    (folder / "data").mkdir(parents=True)
    files: list[dict[str, Any]] = []
    for content, (name, table) in enumerate(tables.items()):
        pq.write_table(table, folder / "data" / f"{name}.parquet")
        ids = {"equality_ids": [2]} if name == "e" else {}
        files.append({"content": content, "file_path": f"data/{name}.parquet", "sequence": content + 1, **ids})
    write_table(folder, files)


def _write_lance(folder: Path) -> None:
    import lance

    lance.write_dataset(_table(), str(folder))


def _write_save_to_disk(folder: Path) -> None:
    """As Hugging Face writes it."""
    folder.mkdir()
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, _table().schema) as to,
    ):
        to.write_table(_table())
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    features = {name: {"dtype": kind, "_type": "Value"} for name, kind in (("x", "float64"), ("n", "int64"))}
    splits = {"train": {"name": "train", "num_examples": 50}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features, "splits": splits}))


def _write_sharded_weights(folder: Path) -> None:
    folder.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(40)
    name = "model-00001-of-00001.safetensors"
    (folder / name).write_bytes(content)
    index = {"metadata": {"total_size": 40}, "weight_map": {"w": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _write_labels(folder: Path) -> None:
    """Images with labels of COCO, YOLO (boxes, polygons, poses) and VOC."""
    from PIL import Image

    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number, name in enumerate("ab"):
        picture = Image.new("RGB", (64, 48))
        picture.putpixel((number, 0), (255, 0, 0))
        picture.save(folder / "images" / f"{name}.png")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81.0, "iscrowd": 0}
    runs = {"size": [48, 64], "counts": [0, 10, 3062]}
    record = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {**box, "segmentation": [[0, 0, 9, 0, 9, 9]]},
            {**box, "id": 2, "segmentation": runs, "iscrowd": 1},
        ],
    }
    (folder / "instances.json").write_text(json.dumps(record))
    (folder / "data.yaml").write_text("path: .\ntrain: images\nnames: {0: cat}\nkpt_shape: [2, 3]\n")
    lines = "0 0.5 0.5 1 1", "0 0.1 0.1 0.9 0.1 0.9 0.9", "0 0.5 0.5 0.2 0.2 0.1 0.1 2 0.3 0.3 0"
    (folder / "labels" / "a.txt").write_text("\n".join(lines))
    corners = "<xmin>1</xmin><ymin>1</ymin><xmax>64</xmax><ymax>48</ymax>"
    head = "<filename>b.png</filename><size><width>64</width><height>48</height><depth>3</depth></size>"
    voc = f"<object><name>cat</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>"
    (folder / "images" / "b.xml").write_text(f"<annotation>{head}{voc}</annotation>")


_WRITERS: dict[str, Callable[[Path], None]] = {
    "table-delta": _write_delta,
    "table-iceberg": _write_iceberg,
    "checkpoint-dcp": _write_dcp,
    "checkpoint-sharded": _write_sharded_weights,
    "table-huggingface": _write_save_to_disk,
    "samples-mds": _write_mds,
    "samples-litdata": _write_litdata,
    "store.zarr": _write_zarr,
    "table.lance": _write_lance,
    "labels-images": _write_labels,
}
#: How the names of these datasets begin.
FOLDER_KINDS = frozenset(name.partition("-")[0] for name in _WRITERS)
