"""Stores of arrays and records: HDF5, Zarr, TFRecord and safetensors, beside the loops that read them and check nothing."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import datacheck
from benchmarks.bench import Bench, is_installed
from benchmarks.results import Claim, Section, time_ratio
from benchmarks.timing import Contender, Timing, processor_time, race

__all__ = ["measure"]

_ROWS, _FEATURES, _RECORDS = 256_000, 256, 60_000
_BLOCK_ROWS, _CHUNK_ROWS = 4096, 1024


def measure(bench: Bench) -> Section:
    """Each format in turn; one file lies on the disk at a time."""
    section = Section(
        "stores",
        "float32 rows of 256 in HDF5, Zarr and tf.train.Example records; page cache warm, one worker each; processor time",
        [
            "datacheck.scan(path, workers=1) from a path to a report, all values checked; the others read, and check nothing.",
            "bare: the library in a loop over blocks of rows; of TFRecord, protobuf and both checksums.",
        ],
    )
    values = np.random.default_rng(0).standard_normal((bench.rows(_ROWS, 1000), _FEATURES)).astype(np.float32)
    with bench.room("stores") as room:
        if is_installed("h5py", section):
            _measure_hdf5(room, section, values)
        if is_installed("zarr", section):
            _measure_zarr(room, section, values)
        if is_installed("google_crc32c", section):
            _measure_tfrecord(room, section, values[: bench.rows(_RECORDS, 100)])
    return section


def _scan(path: Path) -> Callable[[], int]:
    return lambda: sum(one.is_error for one in datacheck.scan(path, workers=1).findings)


def _claims(section: Section, timings: dict[str, Timing], ours: str, target: float | None) -> list[Claim]:
    section.add_timings(timings.values())
    return [time_ratio(f"{ours} / {name}", timings[ours], timings[name], target) for name in timings if name != ours]


def _blocks(array: Any) -> int:
    return sum(len(array[start : start + _BLOCK_ROWS]) for start in range(0, array.shape[0], _BLOCK_ROWS))


def _measure_hdf5(room: Path, section: Section, values: np.ndarray[Any, Any]) -> None:
    import h5py

    kinds: dict[str, dict[str, Any]] = {
        "contiguous": {},
        "chunked": {"chunks": (_CHUNK_ROWS, _FEATURES)},
        "gzip": {"chunks": (_CHUNK_ROWS, _FEATURES), "compression": "gzip", "compression_opts": 1, "shuffle": True},
    }
    for kind, options in kinds.items():
        path = room / f"{kind}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=values, **options)

        def bare(path: Path = path) -> int:
            with h5py.File(path) as file:
                return _blocks(file["x"])

        ours = f"HDF5, {kind}: datacheck"
        contenders = [Contender(ours, _scan(path), 0), Contender(f"HDF5, {kind}: h5py", bare)]
        timings = race(contenders, num_bytes=values.nbytes, clock=processor_time)
        section.claims += _claims(section, timings, ours, 1.3)
        path.unlink()


def _measure_zarr(room: Path, section: Section, values: np.ndarray[Any, Any]) -> None:
    import zarr

    path = room / "x.zarr"
    zarr.open_group(str(path), mode="w").create_array("x", data=values, chunks=(_CHUNK_ROWS, _FEATURES))

    def bare() -> int:
        return _blocks(zarr.open_group(str(path), mode="r")["x"])

    ours = "Zarr, zstd: datacheck"
    timings = race(
        [Contender(ours, _scan(path), 0), Contender("Zarr, zstd: zarr", bare)],
        num_bytes=values.nbytes,
        clock=time.process_time,
    )
    section.claims += _claims(section, timings, ours, None)


def _measure_tfrecord(room: Path, section: Section, values: np.ndarray[Any, Any]) -> None:
    """Records of equal size, and records of text: tokens and scores of as many values as a text has, and its bytes."""
    random = np.random.default_rng(1)
    tokens = random.integers(0, 50_257, 1 << 20)

    def equal(row: int) -> dict[str, Any]:
        return {"vector": values[row], "label": np.array([row % 10])}

    def varying(row: int) -> dict[str, Any]:
        start, size = int(random.integers(0, len(tokens) // 2)), int(random.integers(20, 400))
        found = {"tokens": tokens[start : start + size], "label": np.array([row % 10])}
        return {**found, "scores": values[row, : size % 200], "text": b"text " * size}

    for name, record_of in (("equal records", equal), ("records of different sizes", varying)):
        path = room / "x.tfrecord"
        _write_records(path, (record_of(row) for row in range(len(values))))
        ours = f"TFRecord, {name}: datacheck"
        bare = Contender(f"TFRecord, {name}: protobuf and checksums", partial(_read_records, path), len(values))
        timings = race([Contender(ours, _scan(path), 0), bare], num_bytes=path.stat().st_size, clock=time.process_time)
        section.claims += _claims(section, timings, ours, 1.3)
        path.unlink()


def _write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    from google_crc32c import value as crc32c

    from datacheck.sources.tf_example import example_class
    from datacheck.sources.tfrecord import frame

    kind = example_class()
    with path.open("wb") as file:
        for record in records:
            example = kind()
            for name, value in record.items():
                feature = example.features.feature[name]
                if isinstance(value, bytes):
                    feature.bytes_list.value.append(value)
                else:
                    held = feature.float_list if value.dtype.kind == "f" else feature.int64_list
                    held.value.extend(value.tolist())
            file.write(frame(example.SerializeToString(), crc32c))


def _read_records(path: Path) -> int:
    """How many records there are, each read as a loop that trains on it would."""
    from google_crc32c import value as crc32c

    from datacheck.sources.tf_example import example_class
    from datacheck.sources.tfrecord import masked_crc

    kind, number = example_class(), 0
    with path.open("rb") as file:
        while header := file.read(12):
            length, checksum = struct.unpack("<QI", header)
            data, end = file.read(length), file.read(4)
            if masked_crc(header[:8], crc32c) != checksum or masked_crc(data, crc32c) != struct.unpack("<I", end)[0]:
                raise ValueError("a checksum is wrong")
            for feature in kind.FromString(data).features.feature.values():
                found = feature.WhichOneof("kind")
                if found == "bytes_list":
                    list(feature.bytes_list.value)
                else:
                    np.array(getattr(feature, found).value, np.float32 if found == "float_list" else np.int64)
            number += 1
    return number
