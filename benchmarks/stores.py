"""Stores of arrays and records: HDF5, Zarr, TFRecord and safetensors, beside the loops that read them and check nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import datacheck
from benchmarks.bench import Bench, is_installed
from benchmarks.results import Claim, Section, time_ratio
from benchmarks.timing import Contender, Timing, race

__all__ = ["measure"]

_ROWS, _FEATURES, _RECORDS = 256_000, 256, 60_000
_BLOCK_ROWS, _CHUNK_ROWS = 4096, 1024


def measure(bench: Bench) -> Section:
    """Each format in turn; one file lies on the disk at a time."""
    section = Section(
        "stores",
        "float32 rows of 256 in HDF5, Zarr and tf.train.Example records; page cache warm, one worker each",
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
    return lambda: len(datacheck.scan(path, workers=1).findings)


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
        timings = race(
            [Contender(ours, _scan(path), 0), Contender(f"HDF5, {kind}: h5py", bare)], num_bytes=values.nbytes
        )
        section.claims += _claims(section, timings, ours, 1.3)
        path.unlink()


def _measure_zarr(room: Path, section: Section, values: np.ndarray[Any, Any]) -> None:
    import zarr

    path = room / "x.zarr"
    zarr.open_group(str(path), mode="w").create_array("x", data=values, chunks=(_CHUNK_ROWS, _FEATURES))

    def bare() -> int:
        return _blocks(zarr.open_group(str(path), mode="r")["x"])

    ours = "Zarr, zstd: datacheck"
    timings = race([Contender(ours, _scan(path), 0), Contender("Zarr, zstd: zarr", bare)], num_bytes=values.nbytes)
    section.claims += _claims(section, timings, ours, None)


def _measure_tfrecord(room: Path, section: Section, values: np.ndarray[Any, Any]) -> None:
    from google_crc32c import value as crc32c

    from datacheck.sources.tf_example import example_class
    from datacheck.sources.tfrecord import frame, masked_crc

    kind, path = example_class(), room / "x.tfrecord"
    with path.open("wb") as file:
        for row, vector in enumerate(values):
            example = kind()
            example.features.feature["vector"].float_list.value.extend(vector.tolist())
            example.features.feature["label"].int64_list.value.append(row % 10)
            file.write(frame(example.SerializeToString(), crc32c))

    def bare() -> int:
        number = 0
        with path.open("rb") as file:
            while header := file.read(12):
                length, checksum = struct.unpack("<QI", header)
                data, end = file.read(length), file.read(4)
                if (
                    masked_crc(header[:8], crc32c) != checksum
                    or masked_crc(data, crc32c) != struct.unpack("<I", end)[0]
                ):
                    raise ValueError("a checksum is wrong")
                features = kind.FromString(data).features.feature
                np.array(features["vector"].float_list.value, np.float32)
                number += len(features["label"].int64_list.value)
        return number

    ours = "TFRecord: datacheck"
    contenders = [Contender(ours, _scan(path), 0), Contender("TFRecord: protobuf and checksums", bare)]
    section.claims += _claims(section, race(contenders, num_bytes=path.stat().st_size), ours, 1.3)
    path.unlink()
