"""Zarr 2 and 3, as the library writes them: missing chunks apart from NaN, damaged ones named, bombs refused."""

from __future__ import annotations

import gc
import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
from memory_storage import MemoryStorage

import datacheck
from datacheck import ReadOptions
from datacheck.findings import Severity

zarr = pytest.importorskip("zarr")
pytestmark = pytest.mark.filterwarnings("ignore")
NAN = np.nan
VERSIONS = pytest.mark.parametrize("version", [2, 3])


def found(path: Path, **options: Any) -> list[tuple[str, str | None, int]]:
    return [(one.code, one.field, one.num_violations) for one in datacheck.scan(path, **options).findings]


def store(path: Path, version: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zarr.open_group(str(path), mode="w", zarr_format=version)


@VERSIONS
@pytest.mark.parametrize("seed", range(2))
def test_counts_and_places_equal_numpy(version: int, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((203, 7)).astype(np.float32)
    values[random.random(values.shape) < 0.03] = NAN
    root = store(tmp_path / "a.zarr", version)
    for name, chunks in (("rows", (50, 7)), ("both", (20, 3)), ("one", (203, 7))):
        root.create_array(f"group/{name}", data=values, chunks=chunks)
    mask = np.isnan(values)
    places = [tuple(map(int, place)) for place in np.argwhere(mask)[:5]]
    for workers in (1, 3):
        findings = datacheck.scan(tmp_path, workers=workers).findings
        assert [(one.field, one.num_violations) for one in findings] == [
            (f"group/{name}", int(mask.sum())) for name in ("both", "one", "rows")
        ]
        assert all([(shown.row, *shown.index) for shown in one.examples] == places for one in findings)


@VERSIONS
def test_chunks_that_are_missing_are_not_nan(version: int, tmp_path: Path) -> None:
    root = store(tmp_path / "a.zarr", version)
    holes = root.create_array("holes", shape=(1000, 2), chunks=(100, 2), dtype="f4", fill_value=NAN)
    holes[300:600] = 1
    holes[350, 1] = NAN
    zeros = root.create_array("zeros", shape=(100,), chunks=(10,), dtype="f4")
    zeros[:50] = 1
    findings = datacheck.scan(tmp_path / "a.zarr").findings
    assert [(one.field, one.code, one.num_violations, one.num_checked, one.severity) for one in findings] == [
        ("holes", "DC101", 1, 600, Severity.ERROR),
        ("holes", "DC009", 7, 10, Severity.ERROR),
        ("zeros", "DC009", 5, 10, Severity.WARNING),
    ]


def test_nan_over_a_fill_value_of_nan_is_a_hole_that_the_schema_may_allow(tmp_path: Path) -> None:
    array = store(tmp_path / "a.zarr", 3).create_array("x", shape=(100,), chunks=(10,), dtype="f4", fill_value=NAN)
    array[:] = 1
    array[20:30] = NAN
    for schema, severity in ((None, Severity.ERROR), ({"fields": {"x": {"allow_nan": True}}}, Severity.WARNING)):
        (finding,) = datacheck.scan(tmp_path / "a.zarr", schema).findings
        assert (finding.code, finding.num_violations, finding.severity) == ("DC009", 1, severity)


def test_pickled_objects_are_refused_and_other_arrays_are_read(tmp_path: Path) -> None:
    group = store(tmp_path / "a.zarr", 2)
    group.create_array("x", data=np.ones(10), chunks=(5,))
    group.create_group("deep").create_array("y", data=np.array([1, NAN]))
    metadata = json.loads((tmp_path / "a.zarr" / "x" / ".zarray").read_text())
    metadata |= {"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]}
    (tmp_path / "a.zarr" / "x" / ".zarray").write_text(json.dumps(metadata))
    assert found(tmp_path / "a.zarr") == [("DC005", "x", 1), ("DC101", "deep/y", 1)]
    (finding,) = datacheck.scan(tmp_path / "a.zarr" / "x").findings
    assert finding.code == "DC901"
    assert "its values are pickled, and datacheck never runs code from a file" in finding.message


@pytest.mark.parametrize("compressors", ["auto", None])
def test_an_empty_shard_is_not_one_that_was_never_written(compressors: str | None, tmp_path: Path) -> None:
    root = store(tmp_path / "a.zarr", 3)
    root.create_array("x", data=np.ones(100), chunks=(10,), shards=(50,), compressors=compressors)
    (tmp_path / "a.zarr" / "x" / "c" / "1").write_bytes(b"")
    assert found(tmp_path / "a.zarr") == [("DC901", "x", 1)]


def test_shards_are_read_whole(tmp_path: Path) -> None:
    values = np.arange(1000.0)
    values[777] = NAN
    store(tmp_path / "a.zarr", 3).create_array("x", data=values, chunks=(10,), shards=(250,))
    assert found(tmp_path / "a.zarr") == [("DC101", "x", 1)]
    shard = tmp_path / "a.zarr" / "x" / "c" / "2"
    shard.write_bytes(shard.read_bytes()[:-20])
    report = datacheck.scan(tmp_path / "a.zarr")
    assert [(one.code, one.field) for one in report.findings] == [("DC101", "x"), ("DC901", "x")]
    assert "from row 500 on" in report.findings[1].message


@VERSIONS
def test_a_store_of_one_array_and_arrays_that_consolidated_metadata_hide_are_read(version: int, tmp_path: Path) -> None:
    zarr.save_array(str(tmp_path / "one.zarr"), np.array([1.0, NAN]), zarr_format=version)
    assert found(tmp_path / "one.zarr") == [("DC101", "array", 1)]
    root = store(tmp_path / "a.zarr", version)
    root.create_array("x", data=np.zeros(3) + 1)
    zarr.consolidate_metadata(str(tmp_path / "a.zarr"))
    root.create_array("later", data=np.array([NAN, 1, 2]))
    assert found(tmp_path / "a.zarr") == [("DC101", "later", 1)]


def test_bombs_are_refused_before_they_expand(tmp_path: Path) -> None:
    root = store(tmp_path / "a.zarr", 3)
    root.create_array("declared", shape=(10**6, 10**6), chunks=(1000, 1000), dtype="f8")
    for name, codec in (
        ("zstd", zarr.codecs.ZstdCodec()),
        ("gzip", zarr.codecs.GzipCodec()),
        ("blosc", zarr.codecs.BloscCodec()),
    ):
        root.create_array(name, data=np.ones(100), chunks=(100,), compressors=[codec])
        big = tmp_path / f"{name}.zarr"
        other = zarr.open_group(str(big), mode="w", zarr_format=3)
        other.create_array(name, data=np.zeros(1 << 22) + 1, chunks=(1 << 22,), compressors=[codec])
        chunk = big / name / "c" / "0"
        (tmp_path / "a.zarr" / name / "c" / "0").write_bytes(chunk.read_bytes())
    findings = datacheck.scan(tmp_path / "a.zarr").findings
    assert {one.field: one.code for one in findings} == {
        "declared": "DC005", "zstd": "DC904", "gzip": "DC904", "blosc": "DC904",
    }  # fmt: skip


@pytest.mark.parametrize("compressor", ["zstd", "gzip", "blosc"])
def test_chunks_inside_shards_are_bounded_before_they_expand(compressor: str, tmp_path: Path) -> None:
    codecs = {"zstd": zarr.codecs.ZstdCodec(), "gzip": zarr.codecs.GzipCodec(), "blosc": zarr.codecs.BloscCodec()}
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    made = group.create_array(
        "x", shape=(4096,), chunks=(1024,), shards=(4096,), dtype="f4", compressors=codecs[compressor]
    )
    made[:] = np.arange(4096)
    assert found(tmp_path / "x.zarr") == []
    bombs = zarr.open_group(str(tmp_path / "bomb.zarr"), mode="w")
    size = 64 << 20
    bombs.create_array("x", shape=(size,), chunks=(size,), dtype="f4", compressors=codecs[compressor], fill_value=1)[
        :
    ] = 0
    bomb = (tmp_path / "bomb.zarr/x/c/0").read_bytes()
    places = np.full((4, 2), 2**64 - 1, "<u8")
    places[1] = 0, len(bomb)
    index = places.tobytes()
    (tmp_path / "x.zarr/x/c/0").write_bytes(bomb + index + google_crc32c.value(index).to_bytes(4, "little"))
    ((code, *_),) = found(tmp_path / "x.zarr")
    assert code == "DC904"


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 9)


def _zstd(data: bytes) -> bytes:
    """One frame that declares its size."""
    return pa.compress(data, codec="zstd", asbytes=True)


def _zstd_stream(data: bytes) -> bytes:
    """One frame that declares no size."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


HONEST, EXPANDED = np.arange(1000, dtype="<f4").tobytes(), bytes(32 << 20)
SKIPPED_FRAME = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"


@pytest.mark.parametrize(
    ("codec", "chunk", "codes"),
    [
        ("gzip", _gzip(HONEST), set()),
        ("gzip", _gzip(HONEST[:400]) + _gzip(HONEST[400:]), set()),
        ("gzip", _gzip(HONEST) + _gzip(EXPANDED), {"DC904"}),
        ("zstd", _zstd(HONEST), set()),
        ("zstd", _zstd_stream(HONEST), set()),
        ("zstd", _zstd_stream(EXPANDED), {"DC904"}),
        ("zstd", _zstd(HONEST) + _zstd(EXPANDED), {"DC904"}),
        ("zstd", SKIPPED_FRAME + _zstd(EXPANDED), {"DC904"}),
    ],
)
def test_all_that_a_chunk_holds_counts(codec: str, chunk: bytes, codes: set[str], tmp_path: Path) -> None:
    codecs = {"gzip": zarr.codecs.GzipCodec(), "zstd": zarr.codecs.ZstdCodec()}
    array = store(tmp_path / "a.zarr", 3).create_array("x", shape=(1000,), dtype="f4", compressors=codecs[codec])
    array[:] = 1
    (tmp_path / "a.zarr/x/c/0").write_bytes(chunk)
    assert {code for code, _, _ in found(tmp_path / "a.zarr")} == codes


def test_arrays_that_are_compressed_twice_are_not_read(tmp_path: Path) -> None:
    twice = [zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec()]
    store(tmp_path / "a.zarr", 3).create_array("x", data=np.ones(1000), compressors=twice)
    assert [code for code, _, _ in found(tmp_path / "a.zarr")] == ["DC005"]


def test_a_shard_that_is_shorter_than_its_index_is_not_asked_for_each_chunk(tmp_path: Path) -> None:
    array = store(tmp_path / "a.zarr", 3).create_array(
        "x", shape=(1 << 22,), chunks=(1,), shards=(1 << 22,), dtype="f4"
    )
    shard = Path(str(tmp_path), "a.zarr", array.path, "c", "0")
    shard.parent.mkdir()
    shard.write_bytes(b"x" * 20_000)
    assert [code for code, _, _ in found(tmp_path / "a.zarr")] == ["DC901"]


@VERSIONS
def test_claims_of_metadata_are_bounded(version: int, tmp_path: Path) -> None:
    name, shapes = ("zarr.json", "chunk_grid") if version == 3 else (".zarray", "chunks")
    for shape, chunks in (
        ([1 << 50], [1 << 20]),
        ([1 << 40], [1 << 40]),
        ([1 << 30] * 8, [1] * 8),
        ([10], [0]),
        ([-1], [1]),
    ):
        store(tmp_path / "a.zarr", version).create_array("x", data=np.ones(3, np.float32))
        path = tmp_path / "a.zarr" / "x" / name
        metadata = json.loads(path.read_text())
        metadata["shape"] = shape
        metadata[shapes] = {"name": "regular", "configuration": {"chunk_shape": chunks}} if version == 3 else chunks
        path.write_text(json.dumps(metadata))
        assert [code in ("DC005", "DC901") for code, _, _ in found(tmp_path / "a.zarr")] == [True]


@VERSIONS
def test_metadata_of_a_node_are_bounded_in_every_storage(
    version: int, tmp_path: Path, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = store(tmp_path / "a.zarr", version).create_group("inner")
    root.attrs["notes"] = ["x"] * 1000
    memory.upload(tmp_path, "memory://data")
    monkeypatch.setattr("datacheck.sources.zarr._MAX_METADATA_BYTES", 1000)
    name = "inner/zarr.json" if version == 3 else "inner/.zattrs"
    for path in (str(tmp_path / "a.zarr"), "memory://data/a.zarr"):
        (finding,) = datacheck.scan(path).findings
        assert (finding.code, name in finding.message) == ("DC904", True)


def test_a_folder_that_leads_back_to_its_store_is_a_finding(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", 3)
    (tmp_path / "a.zarr" / "again").symlink_to(".")
    assert [code for code, _, _ in found(tmp_path / "a.zarr")] == ["DC901"]


def test_values_that_stand_for_missing_ones_are_nulls(tmp_path: Path) -> None:
    array = store(tmp_path / "a.zarr", 3).create_array("t", data=np.float32([1, -999, 3]))
    array.attrs["_FillValue"] = -999
    assert found(tmp_path / "a.zarr") == [("DC104", "t", 1)]


def test_an_array_with_damaged_metadata_is_named_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group = store(tmp_path / "a.zarr", 3)
    for name in ("b", "c", "x"):
        group.create_array(name, data=np.array([1, NAN]))
    (tmp_path / "a.zarr" / "b" / "zarr.json").write_text("{")
    (tmp_path / "a.zarr" / "c" / "zarr.json").write_text(json.dumps({"zarr_format": 3}))
    assert set(found(tmp_path / "a.zarr")) == {("DC005", "b", 1), ("DC005", "c", 1), ("DC101", "x", 1)}
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_damaged_metadata_and_files_under_its_name_are_findings(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", 3).create_array("x", data=np.ones(3))
    (tmp_path / "a.zarr" / "x" / "zarr.json").write_text(json.dumps({"zarr_format": 3}))
    (tmp_path / "b.zarr").write_bytes(b"x")
    assert {one.code for one in datacheck.scan([tmp_path / "a.zarr", tmp_path / "b.zarr"]).findings} <= {
        "DC005",
        "DC901",
    }


def test_each_store_can_be_one_sample(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", 3).create_array("x", data=np.array([[1.0, NAN]]))
    (finding,) = datacheck.scan(tmp_path / "a.zarr", options=ReadOptions(rows="file")).findings
    assert (finding.examples[0].row, finding.examples[0].index) == (None, (0, 1))
