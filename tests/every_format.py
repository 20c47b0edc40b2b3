"""A dirty dataset of every format, made from the same arrays, and what an oracle in NumPy finds in it."""

from __future__ import annotations

import importlib.util
import io
import json
import struct
import tarfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import FORMATS, gguf_bytes

Array = np.ndarray[Any, Any]
#: The fields of a file: arrays whose first axis is the rows, or one array a row.
Fields: TypeAlias = Mapping[str | None, Array | Sequence[Array]]

NUM_ROWS = 97
RULES: dict[str, Callable[[Any], Any]] = {"DC101": np.isnan, "DC102": np.isposinf, "DC103": np.isneginf}


@dataclass(frozen=True)
class Written:
    """A dataset: what to scan, the fields of each of its files, and whether a file is one sample."""

    path: Path
    files: Mapping[Path, Fields]
    is_sample: bool = False


@dataclass(frozen=True)
class DirtyFormat:
    """How to write a dataset into an empty folder. ``schema`` is what it is scanned with, ``limit`` where ids go wrong."""

    write: Callable[[Path, Array, Array], Written]
    needs: tuple[str, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None


def make_arrays(seed: int, num_rows: int = NUM_ROWS) -> tuple[Array, Array]:
    """A column ``(rows,)`` and a block ``(rows, 3)`` of float32 with NaN and infinities at random places."""
    random = np.random.default_rng(seed)
    made = []
    for shape in ((num_rows,), (num_rows, 3)):
        values = random.standard_normal(shape).astype(np.float32)
        for bad in (np.nan, np.inf, -np.inf):
            values[random.random(shape) < 0.07] = bad
        made.append(values)
    return made[0], made[1]


def expected(fields: Fields, dirty: DirtyFormat) -> dict[tuple[str, str | None], tuple[int, int, list[Any]]]:
    """For each code and field: how many values, of how many, and the row and index of the first five."""
    rules = RULES if dirty.limit is None else {"DC204": lambda values: values >= dirty.limit}
    found = {}
    for name, rows in fields.items():
        masks = {code: [np.argwhere(rule(row)) for row in rows] for code, rule in rules.items()}
        for code, of_rows in masks.items():
            places = [(row, tuple(index)) for row, indices in enumerate(of_rows) for index in indices.tolist()]
            if places:
                found[code, name] = (len(places), sum(np.size(row) for row in rows), places[:5])
    return found


def parameters(dirty: Mapping[str, DirtyFormat]) -> list[Any]:
    """Formats as parameters of a test; those whose library is not installed are skipped."""
    made = []
    for name, one in dirty.items():
        missing = [module for module in one.needs if importlib.util.find_spec(module) is None]
        made.append(pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")))
    return made


# How each is written


def _table_format(name: str) -> DirtyFormat:
    form = FORMATS[name]

    def write(folder: Path, x: Array, block: Array) -> Written:
        path = folder / f"data{form.suffix}"
        table = {"single": x, "double": block[:, 0].astype(np.float64), "count": np.arange(len(x))}
        form.write(path, table)
        return Written(path, {path: {"single": x, "double": table["double"]}})

    return DirtyFormat(write, (form.needs,) if form.needs else ())


def _write_npy(folder: Path, x: Array, block: Array) -> Written:
    np.save(folder / "x.npy", np.asfortranarray(block))
    return Written(folder / "x.npy", {folder / "x.npy": {None: block}})


def _write_txt(folder: Path, x: Array, block: Array) -> Written:
    np.savetxt(folder / "x.txt", block)
    return Written(folder / "x.txt", {folder / "x.txt": {f"column_{index}": block[:, index] for index in range(3)}})


def _write_tar(folder: Path, x: Array, block: Array) -> Written:
    with tarfile.open(folder / "shard.tar", "w") as archive:
        for row, (value, values) in enumerate(zip(x, block, strict=True)):
            array = io.BytesIO()
            np.save(array, values)
            for suffix, content in (("npy", array.getvalue()), ("json", json.dumps({"x": float(value)}).encode())):
                info = tarfile.TarInfo(f"{row:05}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return Written(folder / "shard.tar", {folder / "shard.tar": {"npy[]": block, "json.x": x}})


def _ids(x: Array) -> Array:
    return np.where(np.isfinite(x), 7 + np.arange(len(x)) % 90, 100).astype(np.uint16)


def _write_tokens(folder: Path, x: Array, block: Array) -> Written:
    ids = _ids(x)
    ids.tofile(folder / "train.bin")
    return Written(folder, {folder / "train.bin": {"tokens": ids}})


def _write_megatron(folder: Path, x: Array, block: Array) -> Written:
    sequences = np.split(_ids(block.reshape(-1)), np.cumsum(np.arange(20)))
    lengths = np.array(list(map(len, sequences)))
    np.concatenate(sequences).tofile(folder / "data.bin")
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, len(lengths), len(lengths) + 1)
    pointers = (np.cumsum(lengths) - lengths) * 2
    parts = lengths.astype("<i4"), pointers.astype("<i8"), np.arange(len(lengths) + 1, dtype="<i8")
    (folder / "data.idx").write_bytes(head + b"".join(part.tobytes() for part in parts))
    return Written(folder, {folder / "data.bin": {"tokens[]": sequences}})


def _samples(rows: Sequence[bytes]) -> bytes:
    places = np.cumsum([4 * (len(rows) + 2), *map(len, rows)]).astype("<u4")
    return len(rows).to_bytes(4, "little") + places.tobytes() + b"".join(rows)


def _halves(folder: Path, suffix: str, x: Array) -> list[tuple[Path, slice]]:
    middle = len(x) // 2
    return [(folder / f"shard.00000{suffix}", slice(middle)), (folder / f"shard.00001{suffix}", slice(middle, None))]


def _write_mds(folder: Path, x: Array, block: Array) -> Written:
    shards, files = [], {}
    for path, rows in _halves(folder, ".mds", x):
        ragged = [one[: row % 4] for row, one in enumerate(block[rows])]
        samples = [
            struct.pack("<I", 2 + values.nbytes) + bytes([1 << 2, len(values)]) + values.tobytes() + value.tobytes()
            for value, values in zip(x[rows], ragged, strict=True)
        ]
        path.write_bytes(_samples(samples))
        shard = {
            "column_names": ["block", "x"],
            "column_encodings": ["ndarray:float32", "float32"],
            "column_sizes": [None, 4],
        }
        raw = {"basename": path.name, "bytes": path.stat().st_size, "hashes": {}}
        shards.append({**shard, "raw_data": raw, "zip_data": None, "samples": len(samples)})
        files[path] = {"x": x[rows], "block[]": ragged}
    (folder / "index.json").write_text(json.dumps({"shards": shards, "version": 2}))
    return Written(folder, files)


def _write_litdata(folder: Path, x: Array, block: Array) -> Written:
    chunks, files = [], {}
    for path, rows in _halves(folder, ".bin", x):
        samples = [
            struct.pack("<2I", 8, values.nbytes) + struct.pack("<d", value) + values.tobytes()
            for value, values in zip(x[rows], block[rows], strict=True)
        ]
        path.write_bytes(_samples(samples))
        chunks.append({"filename": path.name, "chunk_bytes": path.stat().st_size, "chunk_size": len(samples)})
        files[path] = {"0": x[rows], "1[]": block[rows]}
    config = {"data_format": ["float", "no_header_tensor:1"], "data_spec": "", "compression": None}
    (folder / "index.json").write_text(json.dumps({"chunks": chunks, "config": config}))
    return Written(folder, files)


def _write_delta(folder: Path, x: Array, block: Array) -> Written:
    (folder / "_delta_log").mkdir()
    actions: list[Any] = [
        {"protocol": {"minReaderVersion": 1}},
        {"metaData": {"partitionColumns": [], "schemaString": "{}"}},
    ]
    files = {}
    for path, rows in _halves(folder, ".parquet", x):
        pq.write_table(pa.table({"x": x[rows], "y": block[rows, 0]}), path)
        actions.append({"add": {"path": path.name, "partitionValues": {}}})
        files[path] = {"x": x[rows], "y": block[rows, 0]}
    pq.write_table(pa.table({"x": x}), folder / "removed.parquet")
    (folder / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))
    return Written(folder, files)


def _write_iceberg(folder: Path, x: Array, block: Array) -> Written:
    from iceberg_files import write_table

    files = {}
    for path, rows in _halves(folder / "data", ".parquet", x):
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"x": x[rows], "y": block[rows, 0]}), path)
        files[path] = {"x": x[rows], "y": block[rows, 0]}
    write_table(folder, [{"content": 0, "file_path": f"data/{path.name}"} for path in files])
    return Written(folder, files)


def _write_audio(folder: Path, x: Array, block: Array) -> Written:
    import soundfile

    block = np.where(np.isfinite(block), np.clip(block, -0.9, 0.9), block)
    soundfile.write(folder / "a.wav", block, 8000, "FLOAT")
    return Written(folder / "a.wav", {folder / "a.wav": {"audio.values[]": block.reshape(1, -1)}}, is_sample=True)


def _write_image(folder: Path, x: Array, block: Array) -> Written:
    from PIL import Image

    Image.fromarray(block).save(folder / "a.tif")
    return Written(folder / "a.tif", {folder / "a.tif": {"image.values[]": block.reshape(1, -1)}}, is_sample=True)


def _write_float_tiff(folder: Path, x: Array, block: Array) -> Written:
    import tifffile

    pages = np.stack([block, block[::-1]]).astype(np.float16)
    tifffile.imwrite(folder / "a.tif", pages, photometric="minisblack")
    return Written(folder / "a.tif", {folder / "a.tif": {"image.values[]": pages.reshape(1, -1)}}, is_sample=True)


def _write_nifti(folder: Path, x: Array, block: Array) -> Written:
    import nibabel

    volume = block[:60].reshape(6, 10, 3)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "a.nii.gz")
    return Written(folder / "a.nii.gz", {folder / "a.nii.gz": {"values": volume[None]}}, is_sample=True)


def _write_dicom(folder: Path, x: Array, block: Array) -> Written:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ParametricMapStorage

    pixels = block[:60].reshape(6, 10, 3)[..., 0]
    meta, made = FileMetaDataset(), Dataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, ParametricMapStorage
    made.file_meta, made.SOPClassUID = meta, ParametricMapStorage
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.BitsAllocated, made.PhotometricInterpretation = 1, 32, "MONOCHROME2"
    made.FloatPixelData = pixels.tobytes()
    made.save_as(folder / "a.dcm", enforce_file_format=True)
    return Written(folder / "a.dcm", {folder / "a.dcm": {"pixels": pixels[None]}}, is_sample=True)


def _write_exr(folder: Path, x: Array, block: Array) -> Written:
    import OpenEXR

    pixels = np.ascontiguousarray(block[:90].reshape(9, 10, 3))
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"RGB": pixels}).write(str(folder / "a.exr"))
    return Written(
        folder / "a.exr",
        {folder / "a.exr": {name: pixels[None, ..., at] for at, name in enumerate("RGB")}},
        is_sample=True,
    )


def _write_dcp(folder: Path, x: Array, block: Array) -> Written:
    import torch
    import torch.distributed.checkpoint as checkpoint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint.save({"w": torch.from_numpy(block), "b": torch.from_numpy(x)}, checkpoint_id=folder)
    return Written(folder, {folder: {"w": block, "b": x}})


def _write_zarr(folder: Path, x: Array, block: Array) -> Written:
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = zarr.open_group(str(folder / "a.zarr"), mode="w", zarr_format=3)
        root.create_array("x", data=x, chunks=(20,))
        root.create_array("block", data=block, chunks=(5, 3), shards=(20, 3))
    return Written(folder / "a.zarr", {folder / "a.zarr": {"x": x, "block": block}})


def _write_lance(folder: Path, x: Array, block: Array) -> Written:
    import lance

    lance.write_dataset(pa.table({"x": x, "y": block[:, 0]}), str(folder / "a.lance"), max_rows_per_file=40)
    return Written(folder / "a.lance", {folder / "a.lance": {"x": x, "y": block[:, 0]}})


def _write_scales(folder: Path, x: Array, block: Array) -> Written:
    """Blocks of GGUF's Q8_0: a scale in float16 and 32 integers each."""
    scales = x.astype(np.float16)
    blocks = b"".join(scale.tobytes() + bytes(range(32)) for scale in scales)
    content = gguf_bytes({"w": (8, (len(x), 32), blocks), "b": (0, (len(x),), x.tobytes())})
    (folder / "q.gguf").write_bytes(content)
    return Written(folder / "q.gguf", {folder / "q.gguf": {"w.scale": scales[:, None], "b": x}})


_TOKENS = {"tokens": {"dtype": "uint16", "lt": 100}}
DIRTY: dict[str, DirtyFormat] = {
    **{name: _table_format(name) for name in FORMATS},
    "npy": DirtyFormat(_write_npy),
    "txt": DirtyFormat(_write_txt),
    "tar": DirtyFormat(_write_tar),
    "tokens": DirtyFormat(_write_tokens, schema=_TOKENS, limit=100),
    "megatron": DirtyFormat(_write_megatron, schema={"tokens[]": _TOKENS["tokens"]}, limit=100),
    "mds": DirtyFormat(_write_mds),
    "litdata": DirtyFormat(_write_litdata),
    "delta": DirtyFormat(_write_delta),
    "iceberg": DirtyFormat(_write_iceberg, ("fastavro",)),
    "audio": DirtyFormat(_write_audio, ("soundfile",)),
    "image": DirtyFormat(_write_image, ("PIL",)),
    "float-tiff": DirtyFormat(_write_float_tiff, ("tifffile",)),
    "nifti": DirtyFormat(_write_nifti, ("nibabel",)),
    "dicom": DirtyFormat(_write_dicom, ("pydicom",)),
    "exr": DirtyFormat(_write_exr, ("OpenEXR",)),
    "dcp": DirtyFormat(_write_dcp, ("torch",)),
    "zarr": DirtyFormat(_write_zarr, ("zarr",)),
    "lance": DirtyFormat(_write_lance, ("lance",)),
    "gguf-quantised": DirtyFormat(_write_scales),
}
