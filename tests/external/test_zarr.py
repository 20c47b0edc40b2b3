"""Zarr 2 and 3, as the library writes them: missing chunks apart from NaN, damaged ones named, bombs refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


def test_values_that_stand_for_missing_ones_are_nulls(tmp_path: Path) -> None:
    array = store(tmp_path / "a.zarr", 3).create_array("t", data=np.float32([1, -999, 3]))
    array.attrs["_FillValue"] = -999
    assert found(tmp_path / "a.zarr") == [("DC104", "t", 1)]


def test_damaged_metadata_and_files_under_its_name_are_findings(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", 3).create_array("x", data=np.ones(3))
    (tmp_path / "a.zarr" / "x" / "zarr.json").write_text(json.dumps({"zarr_format": 3}))
    (tmp_path / "b.zarr").write_bytes(b"x")
    assert {one.code for one in datacheck.scan([tmp_path / "a.zarr", tmp_path / "b.zarr"]).findings} <= {
        "DC901",
        "DC306",
    }


def test_each_store_can_be_one_sample(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", 3).create_array("x", data=np.array([[1.0, NAN]]))
    (finding,) = datacheck.scan(tmp_path / "a.zarr", options=ReadOptions(rows="file")).findings
    assert (finding.examples[0].row, finding.examples[0].index) == (None, (0, 1))
