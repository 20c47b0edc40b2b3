"""A file takes memory by its batches, not by its size: ten batches of 16 MiB peak little above one. So does a folder."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from every_format import DIRTY, make_arrays
from source_files import example, gguf_bytes, tfrecord_bytes

pytest.importorskip("msgspec")
h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak of a process from /proc")

#: How much more a file of 160 MiB may take than one of 16 MiB; held as a whole it would take 144 MiB more, or a multiple.
MAX_GROWTH_MIB = 112
#: Scans each file in turn, the small one first, and prints the peak of the process after each, in MiB.
_SCAN = """
import json, sys
import datacheck
from datacheck.jobs.executors import isolated
isolated.may_crash = lambda _: False  # the process whose peak is measured reads the file
peaks = []
for path in sys.argv[1:]:
    report = datacheck.scan(path, workers=1)
    assert report.ok, report
    lines = open("/proc/self/status").read().splitlines()
    peaks.append(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10)
print(json.dumps(peaks))
"""
MIB = 1 << 20


def _values(num_bytes: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num_bytes // 1024, 256), np.float32)


def _jsonl(path: Path, num_bytes: int) -> None:
    line = json.dumps({"text": "word " * 400, "score": 0.5, "tags": ["a", "b"]}).encode() + b"\n"
    path.write_bytes(line * (num_bytes // len(line)))


def _json(path: Path, num_bytes: int) -> None:
    record = json.dumps({"text": "word " * 400, "score": 0.5}).encode()
    path.write_bytes(b"[" + b",".join([record] * (num_bytes // len(record))) + b"]")


def _csv(path: Path, num_bytes: int) -> None:
    line = b"0.5,1.25,abcdefgh," + b"x" * 200 + b"\n"
    path.write_bytes(b"a,b,c,d\n" + line * (num_bytes // len(line)))


def _tar(path: Path, num_bytes: int) -> None:
    array = io.BytesIO()
    np.save(array, np.zeros(16_000, np.float32))
    with tarfile.open(path, "w") as archive:
        for number in range(num_bytes // 64_000):
            info = tarfile.TarInfo(f"{number:06}.npy")
            info.size = len(array.getvalue())
            archive.addfile(info, io.BytesIO(array.getvalue()))


def _tfrecord(path: Path, num_bytes: int) -> None:
    record = tfrecord_bytes([example(x=np.zeros(16_000, np.float32), label=1)])
    path.write_bytes(record * (num_bytes // len(record)))


def _hdf5(path: Path, num_bytes: int) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=_values(num_bytes), chunks=(1024, 256), shuffle=True)


def _tokens(path: Path, num_bytes: int) -> None:
    np.arange(num_bytes // 2, dtype=np.uint16).tofile(path)


def _arrow(path: Path, num_bytes: int) -> None:
    batch = pa.record_batch({"x": np.random.default_rng(0).standard_normal(1 << 17)})
    with ipc.new_file(path, batch.schema, options=ipc.IpcWriteOptions(compression="lz4")) as writer:
        for _ in range(num_bytes // batch.nbytes):
            writer.write_batch(batch)


def _parquet(path: Path, num_bytes: int) -> None:
    table = pa.table({"x": np.random.default_rng(0).standard_normal(num_bytes // 8)})
    pq.write_table(table, path, row_group_size=1 << 20)


def _orc(path: Path, num_bytes: int) -> None:
    table = pa.table({"x": np.random.default_rng(0).standard_normal(num_bytes // 8)})
    orc.write_table(table, path, stripe_size=8 * MIB)


def _mds(path: Path, num_bytes: int) -> None:
    row = struct.pack("<I", 40_005) + b"\6" + struct.pack("<I", 10_000) + bytes(40_000)
    count = num_bytes // len(row)
    places = np.arange(count + 1) * len(row) + 4 * (count + 2)
    path.write_bytes(count.to_bytes(4, "little") + places.astype("<u4").tobytes() + row * count)
    fields = {"column_names": ["x"], "column_encodings": ["ndarray:float32"], "column_sizes": [None]}
    raw = {"basename": path.name, "bytes": path.stat().st_size, "hashes": {}}
    index = path.with_name("index.json")
    shards = json.loads(index.read_text())["shards"] if index.exists() else []
    index.write_text(json.dumps({"shards": [*shards, {**fields, "raw_data": raw, "zip_data": None, "samples": count}]}))


def _litdata(path: Path, num_bytes: int) -> None:
    path.mkdir()
    row = struct.pack("<2Id", 8, 40_000, 0.5) + bytes(40_000)
    count = num_bytes // len(row)
    places = np.arange(count + 1) * len(row) + 4 * (count + 2)
    (path / "chunk.bin").write_bytes(count.to_bytes(4, "little") + places.astype("<u4").tobytes() + row * count)
    config = {"data_format": ["float", "no_header_tensor:1"], "data_spec": "", "compression": None}
    chunk = {"filename": "chunk.bin", "chunk_bytes": (path / "chunk.bin").stat().st_size, "chunk_size": count}
    (path / "index.json").write_text(json.dumps({"chunks": [chunk], "config": config}))


def _avro(path: Path, num_bytes: int) -> None:
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "x", "type": "bytes"}, {"name": "y", "type": "double"}],
    }
    record = {"x": bytes(60_000), "y": 0.5}
    with path.open("wb") as file:
        fastavro.writer(file, schema, [record] * (num_bytes // 60_000))


def _npy(path: Path, num_bytes: int) -> None:
    np.save(path, _values(num_bytes))


def _npz(path: Path, num_bytes: int) -> None:
    np.savez(path, *np.split(_values(num_bytes), 16))


def _safetensors(path: Path, num_bytes: int) -> None:
    pytest.importorskip("safetensors.numpy").save_file({"x": _values(num_bytes)}, path)


def _gguf(path: Path, num_bytes: int) -> None:
    values = _values(num_bytes)
    path.write_bytes(gguf_bytes({"x": (0, values.shape, values.tobytes())}))


def _torch(path: Path, num_bytes: int) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"x": torch.from_numpy(_values(num_bytes))}, path)


def _dcp(path: Path, num_bytes: int) -> None:
    torch = pytest.importorskip("torch")
    from torch.distributed import checkpoint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint.save({"x": torch.from_numpy(_values(num_bytes))}, checkpoint_id=path)


def _zarr(path: Path, num_bytes: int) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.open_group(str(path), mode="w").create_array("x", data=_values(num_bytes), chunks=(1024, 256))


def _lance(path: Path, num_bytes: int) -> None:
    lance = pytest.importorskip("lance")
    lance.write_dataset(pa.table({"x": _values(num_bytes).reshape(-1)}), str(path))


def _saved_dataset(path: Path, num_bytes: int) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    # Batches have 1,000 rows, and rows of a few bytes would touch every page of the map, which counts as memory here.
    rows = pa.FixedSizeListArray.from_arrays(_values(num_bytes).reshape(-1), 256)
    datasets.Dataset(pa.table({"x": rows})).save_to_disk(str(path))


def _table(name: str) -> Callable[[Path, int], None]:
    """A table with a log, or a token bin with an index: as many rows as take so many bytes, of four float32 at least."""

    def write(path: Path, num_bytes: int) -> None:
        path.mkdir()
        x, block = make_arrays(0, num_bytes // 16)
        DIRTY[name].write(path, np.nan_to_num(x, posinf=0, neginf=0), np.nan_to_num(block, posinf=0, neginf=0))

    return write


def _wav(path: Path, block: np.ndarray) -> None:
    pytest.importorskip("soundfile").write(path, (block / 100).reshape(-1), 16_000, "FLOAT")


def _png(path: Path, block: np.ndarray) -> None:
    # Three bytes a pixel, each row of the block one row of pixels.
    pixels = (block[:, :255] * 50 + 128).clip(0, 255).astype(np.uint8).reshape(len(block), -1, 3)
    pytest.importorskip("PIL.Image").fromarray(pixels.repeat(4, axis=1)).save(path, compress_level=1)


def _tif(path: Path, block: np.ndarray) -> None:
    pytest.importorskip("tifffile").imwrite(path, block)


def _nii(path: Path, block: np.ndarray) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(block[..., None], np.eye(4)), path)


def _samples(name: str) -> Callable[[Path, int], None]:
    """A folder of samples of 4 MiB: a file is read as a whole, and a folder is not."""
    writers = {"wav": _wav, "png": _png, "tif": _tif, "nii": _nii}

    def write(path: Path, num_bytes: int) -> None:
        path.mkdir()
        block = _values(4 * MIB)
        for number in range(num_bytes // block.nbytes):
            writers[name](path / f"{number:03}.{name}", block + np.float32(number))

    return write


FORMATS: dict[str, Callable[[Path, int], None]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tar": _tar,
    ".tfrecord": _tfrecord,
    ".h5": _hdf5,
    ".bin": _tokens,
    ".arrow": _arrow,
    ".parquet": _parquet,
    ".orc": _orc,
    ".avro": _avro,
    ".mds": _mds,
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".gguf": _gguf,
    ".pt": _torch,
    ".dcp": _dcp,
    ".zarr": _zarr,
    ".lance": _lance,
    ".saved": _saved_dataset,
    ".litdata": _litdata,
    **{f".{name}": _table(name) for name in ("delta", "iceberg", "megatron")},
    **{f".{name}": _samples(name) for name in ("wav", "png", "tif", "nii")},
}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_memory_does_not_grow_with_the_file(suffix: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"train_{name}{suffix}" for name in ("small", "large")]
    # Text takes longest to read.
    large_bytes = (80 if suffix in (".jsonl", ".json") else 160) * MIB
    for path, num_bytes in zip(paths, (16 * MIB, large_bytes), strict=True):
        FORMATS[suffix](path, num_bytes)
    command = [sys.executable, "-c", _SCAN, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout)
    limit = MAX_GROWTH_MIB if large_bytes > 80 * MIB else MAX_GROWTH_MIB // 2
    assert large - small <= limit, (small, large)
