"""Formats that no other benchmark reads, each beside the library that training reads it with, which checks nothing."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import datacheck
from benchmarks.bench import Bench, is_installed
from benchmarks.results import Section, time_ratio
from benchmarks.timing import Contender, processor_time, race

__all__ = ["measure"]

Array: TypeAlias = np.ndarray[Any, Any]
_ROWS, _FEATURES, _PARTS, _SIDE = 24_000, 256, 8, 256
_RATE = 16_000
_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Case:
    """How the values are written into an empty folder, and how ``peer`` reads what was written."""

    name: str
    peer: str
    write: Callable[[Path, Array], Path]
    read: Callable[[Path], object]
    needs: tuple[str, ...] = ()


def measure(bench: Bench) -> Section:
    """Each format in turn; one lies on the disk at a time."""
    section = Section(
        "formats",
        "the other formats, float32 unless they have none; page cache warm, one worker each, by processor time",
        [
            "datacheck.scan(path, workers=1) from a path to a report, all values checked; the others read, and check nothing."
        ],
    )
    values = np.random.default_rng(0).standard_normal((bench.rows(_ROWS, 512), _FEATURES)).astype(np.float32)
    for case in _CASES:
        if missing := [library for library in case.needs if not is_installed(library)]:
            section.notes.append(f"{case.name}: not measured, since it is not installed: {', '.join(missing)}.")
            continue
        with bench.room("formats") as room, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _measure(section, case, case.write(room, values))
    return section


def _measure(section: Section, case: _Case, path: Path) -> None:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    ours, peer = f"{case.name}: datacheck", f"{case.name}: {case.peer}"
    contenders = [Contender(ours, lambda: _num_errors(path), 0), Contender(peer, lambda: case.read(path))]
    num_bytes = sum(file.stat().st_size for file in files)
    timings = race(contenders, num_bytes=num_bytes, clock=processor_time, min_seconds=_SECONDS)
    section.add_timings(timings.values())
    section.claims.append(time_ratio(f"{ours} / {peer}", timings[ours], timings[peer]))


def _num_errors(path: Path) -> int:
    return sum(one.is_error for one in datacheck.scan(path, workers=1).findings)


# Tables


def _table(values: Array) -> pa.Table:
    columns = values[: len(values) // 16 * 16].reshape(-1, 16)
    return pa.table({f"f{at:02}": column for at, column in enumerate(columns.T.copy())})


def _write_orc(room: Path, values: Array) -> Path:
    from pyarrow import orc

    orc.write_table(_table(values), room / "x.orc")
    return room / "x.orc"


def _read_orc(path: Path) -> int:
    from pyarrow import orc

    rows: int = orc.read_table(path).num_rows
    return rows


def _write_avro(room: Path, values: Array) -> Path:
    import fastavro

    table = _table(values[: len(values) // 8])
    fields = [{"name": name, "type": "float"} for name in table.column_names]
    with (room / "x.avro").open("wb") as file:
        fastavro.writer(
            file, fastavro.parse_schema({"type": "record", "name": "row", "fields": fields}), table.to_pylist()
        )
    return room / "x.avro"


def _read_avro(path: Path) -> int:
    import fastavro

    with path.open("rb") as file:
        return sum(1 for _ in fastavro.reader(file))


def _write_parts(folder: Path, values: Array) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"part-{number}.parquet" for number in range(_PARTS)]
    for name, rows in zip(names, np.array_split(values, _PARTS), strict=True):
        pq.write_table(_table(rows), folder / name)
    return names


def _read_parts(path: Path) -> int:
    return sum(pq.read_table(part).num_rows for part in path.rglob("*.parquet"))


def _write_delta(room: Path, values: Array) -> Path:
    actions: list[Any] = [{"protocol": {"minReaderVersion": 1}}]
    actions.append({"metaData": {"partitionColumns": [], "schemaString": "{}"}})
    actions += [{"add": {"path": name, "partitionValues": {}}} for name in _write_parts(room, values)]
    (room / "_delta_log").mkdir()
    (room / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))
    return room


def _write_iceberg(room: Path, values: Array) -> Path:
    import fastavro

    def write(name: str, fields: dict[str, Any], rows: Sequence[Any]) -> str:
        with (room / "metadata" / name).open("wb") as file:
            fastavro.writer(file, _avro_record("r", fields), rows)
        return f"s3://bucket/table/metadata/{name}"

    files = [
        {"content": 0, "file_path": f"s3://bucket/table/data/{name}", "file_format": "PARQUET", "record_count": 0}
        for name in _write_parts(room / "data", values)
    ]
    (room / "metadata").mkdir()
    file_fields = {"content": "int", "file_path": "string", "file_format": "string", "record_count": "long"}
    fields = {"status": "int", "sequence_number": "long", "data_file": _avro_record("f", file_fields)}
    manifest = write("m.avro", fields, [{"status": 1, "sequence_number": 1, "data_file": file} for file in files])
    fields = {"manifest_path": "string", "sequence_number": "long", "partition_spec_id": "int"}
    listed = write("s.avro", fields, [{"manifest_path": manifest, "sequence_number": 1, "partition_spec_id": 0}])
    metadata = {
        "format-version": 2,
        "location": "s3://bucket/table",
        "snapshots": [{"snapshot-id": 1, "manifest-list": listed}],
        "current-snapshot-id": 1,
        "partition-specs": [{"spec-id": 0, "fields": []}],
    }
    (room / "metadata" / "v1.metadata.json").write_text(json.dumps(metadata))
    return room


def _avro_record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": one, "type": kind} for one, kind in fields.items()]}


def _write_lance(room: Path, values: Array) -> Path:
    import lance

    lance.write_dataset(_table(values), str(room / "x.lance"))
    return room / "x.lance"


def _read_lance(path: Path) -> int:
    import lance

    rows: int = lance.dataset(str(path)).to_table().num_rows
    return rows


def _write_saved_dataset(room: Path, values: Array) -> Path:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset(_table(values)).save_to_disk(str(room / "x"))
    return room / "x"


def _read_saved_dataset(path: Path) -> int:
    import datasets

    rows = datasets.load_from_disk(str(path)).with_format("numpy")
    return sum(len(batch["f00"]) for batch in rows.iter(10_000))


# Shards of samples


def _shard(samples: Sequence[bytes]) -> bytes:
    places = np.cumsum([4 * (len(samples) + 2), *map(len, samples)]).astype("<u4")
    return len(samples).to_bytes(4, "little") + places.tobytes() + b"".join(samples)


def _write_mds(room: Path, values: Array) -> Path:
    path = room / "shard.00000.mds"
    path.write_bytes(_shard([struct.pack("<d", row[0]) + row.tobytes() for row in values]))
    sizes = {"column_names": ["label", "x"], "column_sizes": [8, 4 * _FEATURES]}
    encodings = {"column_encodings": ["float64", f"ndarray:float32:{_FEATURES}"]}
    raw = {"basename": path.name, "bytes": path.stat().st_size, "hashes": {}}
    shard = {**sizes, **encodings, "raw_data": raw, "zip_data": None, "samples": len(values)}
    (room / "index.json").write_text(json.dumps({"shards": [shard], "version": 2}))
    return room


def _write_litdata(room: Path, values: Array) -> Path:
    path = room / "chunk-0-0.bin"
    path.write_bytes(_shard([struct.pack("<2Id", 8, row.nbytes, row[0]) + row.tobytes() for row in values]))
    config = {"data_format": ["float", "no_header_tensor:1"], "data_spec": "", "compression": None}
    chunk = {"filename": path.name, "chunk_bytes": path.stat().st_size, "chunk_size": len(values)}
    (room / "index.json").write_text(json.dumps({"chunks": [chunk], "config": config}))
    return room


def _read_shard(path: Path, start: int) -> float:
    """What the readers of both formats do: of each sample its place, its bytes, a float and an array."""
    (shard,) = (file for file in path.iterdir() if file.suffix != ".json")
    total = 0.0
    with shard.open("rb") as file:
        count = int.from_bytes(file.read(4), "little")
        for number in range(count):
            file.seek(4 + 4 * number)
            begin, end = struct.unpack("<2I", file.read(8))
            file.seek(begin)
            sample = file.read(end - begin)
            total += struct.unpack_from("<d", sample, start)[0] + np.frombuffer(sample, "<f4", offset=start + 8)[0]
    return total


# Checkpoints


def _tensors(values: Array) -> dict[str, Array]:
    return {f"layer.{number}": part for number, part in enumerate(np.array_split(values, _PARTS))}


def _write_safetensors(room: Path, values: Array) -> Path:
    from safetensors.numpy import save_file

    save_file(_tensors(values), room / "x.safetensors")
    return room / "x.safetensors"


def _read_safetensors(path: Path) -> int:
    from safetensors.numpy import load_file

    return len(load_file(path))


def _write_torch(room: Path, values: Array) -> Path:
    import torch

    torch.save({name: torch.from_numpy(part) for name, part in _tensors(values).items()}, room / "x.pt")
    return room / "x.pt"


def _read_torch(path: Path) -> int:
    import torch

    return len(torch.load(path, weights_only=True))


def _write_dcp(room: Path, values: Array) -> Path:
    import torch
    from torch.distributed import checkpoint

    checkpoint.save({name: torch.from_numpy(part) for name, part in _tensors(values).items()}, checkpoint_id=room)
    return room


def _read_dcp(path: Path) -> None:
    import torch
    from torch.distributed import checkpoint

    metadata = checkpoint.FileSystemReader(path).read_metadata().state_dict_metadata
    checkpoint.load({name: torch.empty(one.size) for name, one in metadata.items()}, checkpoint_id=path)


def _write_gguf(room: Path, values: Array) -> Path:
    from gguf import GGUFWriter

    writer = GGUFWriter(room / "x.gguf", "llama")
    for name, part in _tensors(values).items():
        writer.add_tensor(name, part)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return room / "x.gguf"


def _read_gguf(path: Path) -> float:
    from gguf import GGUFReader

    return sum(float(tensor.data.max()) for tensor in GGUFReader(path).tensors)


# Media


def _write_audio(room: Path, values: Array, suffix: str, subtype: str) -> Path:
    import soundfile

    for number, part in enumerate(np.array_split(values.reshape(-1) / 8, _PARTS)):
        soundfile.write(room / f"{number}{suffix}", part.clip(-0.9, 0.9), _RATE, subtype)
    return room


def _read_audio(path: Path) -> int:
    import soundfile

    return sum(len(soundfile.read(file, dtype="float32")[0]) for file in path.iterdir())


def _pictures(values: Array) -> Array:
    return values[: len(values) // _SIDE * _SIDE].reshape(-1, _SIDE, _SIDE)


def _write_tiff(room: Path, values: Array) -> Path:
    import tifffile

    for number, picture in enumerate(_pictures(values)):
        tifffile.imwrite(room / f"{number:04}.tif", picture)
    return room


def _read_tiff(path: Path) -> int:
    import tifffile

    return sum(tifffile.imread(file).size for file in path.iterdir())


def _write_nifti(room: Path, values: Array) -> Path:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(_pictures(values).T, np.eye(4)), room / "x.nii")
    return room / "x.nii"


def _read_nifti(path: Path) -> float:
    import nibabel

    return float(nibabel.load(path).get_fdata(dtype=np.float32).max())


def _write_exr(room: Path, values: Array) -> Path:
    import OpenEXR

    for number, picture in enumerate(_pictures(values)):
        header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}
        OpenEXR.File(header, {"Z": picture}).write(str(room / f"{number:04}.exr"))
    return room


def _read_exr(path: Path) -> int:
    import OpenEXR

    return sum(OpenEXR.File(str(file)).channels()["Z"].pixels.size for file in path.iterdir())


def _write_dicom(room: Path, values: Array) -> Path:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    for number, picture in enumerate(_pictures(values)):
        meta, made = FileMetaDataset(), Dataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        made.file_meta, made.SOPClassUID = meta, CTImageStorage
        meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = f"1.2.{number + 1}"
        made.Rows, made.Columns = picture.shape
        made.SamplesPerPixel, made.BitsAllocated, made.BitsStored, made.HighBit = 1, 16, 16, 15
        made.PixelRepresentation, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.PixelData = (picture * 1000).astype("<i2").tobytes()
        made.save_as(room / f"{number:04}.dcm", enforce_file_format=True)
    return room


def _read_dicom(path: Path) -> int:
    import pydicom

    return sum(pydicom.dcmread(file).pixel_array.size for file in path.iterdir())


_CASES = (
    _Case("ORC", "pyarrow", _write_orc, _read_orc),
    _Case("Avro", "fastavro", _write_avro, _read_avro, ("fastavro",)),
    _Case("Delta", "pyarrow over its files", _write_delta, _read_parts),
    _Case("Iceberg", "pyarrow over its files", _write_iceberg, _read_parts, ("fastavro",)),
    _Case("Lance", "lance", _write_lance, _read_lance, ("lance",)),
    _Case("save_to_disk", "datasets as NumPy", _write_saved_dataset, _read_saved_dataset, ("datasets",)),
    _Case("MDS", "a loop over samples", _write_mds, lambda path: _read_shard(path, 0)),
    _Case("LitData", "a loop over samples", _write_litdata, lambda path: _read_shard(path, 8)),
    _Case("safetensors", "load_file", _write_safetensors, _read_safetensors, ("safetensors",)),
    _Case("torch .pt", "torch.load", _write_torch, _read_torch, ("torch",)),
    _Case("DCP", "checkpoint.load", _write_dcp, _read_dcp, ("torch",)),
    _Case("GGUF", "gguf, max() of each", _write_gguf, _read_gguf, ("gguf",)),
    _Case("WAV", "soundfile", lambda room, x: _write_audio(room, x, ".wav", "FLOAT"), _read_audio, ("soundfile",)),
    _Case("FLAC", "soundfile", lambda room, x: _write_audio(room, x, ".flac", "PCM_16"), _read_audio, ("soundfile",)),
    _Case("TIFF", "tifffile", _write_tiff, _read_tiff, ("tifffile",)),
    _Case("NIfTI", "nibabel, max()", _write_nifti, _read_nifti, ("nibabel",)),
    _Case("OpenEXR", "OpenEXR", _write_exr, _read_exr, ("OpenEXR",)),
    _Case("DICOM", "pydicom", _write_dicom, _read_dicom, ("pydicom",)),
)
