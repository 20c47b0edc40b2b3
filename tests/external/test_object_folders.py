"""Formats that are folders, in a bucket: read there where datacheck reads their files itself, and a clear error elsewhere."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from s3_server import Bucket

import datacheck

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from test_sources_sample_shards import f4, write_mds

pytestmark = pytest.mark.filterwarnings("ignore")
TABLE = pa.table({"x": np.array([1.0, np.nan, 3.0])})


def codes(uri: str) -> list[tuple[str, int]]:
    return [(one.code, one.num_violations) for one in datacheck.scan(uri).findings]


def test_a_delta_table_is_read_by_its_log(tmp_path: Path, bucket: Bucket) -> None:
    deltalake = pytest.importorskip("deltalake")
    for mode in ("append", "append", "overwrite"):
        deltalake.write_deltalake(str(tmp_path / "t"), TABLE, mode=mode)
    bucket.upload(tmp_path, "d")
    assert codes(f"{bucket.uri}/d/t") == [("DC101", 1)], "two of the files are in the log no longer"


def test_mds_shards_are_read_by_their_index(tmp_path: Path, bucket: Bucket) -> None:
    write_mds(tmp_path / "mds", {"x": "float32"}, [[f4(1.0)], [f4(np.nan)]])
    bucket.upload(tmp_path, "d")
    assert codes(f"{bucket.uri}/d/mds/") == codes(str(tmp_path / "mds")) == [("DC101", 1)]


def test_an_iceberg_table_is_read_where_it_lies(tmp_path: Path, bucket: Bucket) -> None:
    pytest.importorskip("pyiceberg")
    pytest.importorskip("sqlalchemy")
    from pyiceberg.catalog.memory import InMemoryCatalog

    catalog = InMemoryCatalog("c", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("n")
    catalog.create_table("n.t", schema=TABLE.schema).append(TABLE)
    bucket.upload(tmp_path / "n", "n")
    # Its metadata name the files where they were written.
    shutil.rmtree(tmp_path / "n")
    assert codes(f"{bucket.uri}/n/t") == [("DC101", 1)]


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_stores_are_read_chunk_by_chunk(version: int, tmp_path: Path, bucket: Bucket) -> None:
    """Arrays in groups, in shards, of more chunks than one listing has folders, with chunks that are missing or damaged."""
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    values = np.arange(600.0).reshape(60, 10)
    values[7, 3] = values[33, 9] = np.nan
    root.create_array("g/x", data=values, chunks=(5, 4))
    if version == 3:
        root.create_array("g/y", data=values, chunks=(5, 5), shards=(10, 10))
    holes = root.create_array("holes", shape=(60, 2), chunks=(10, 2), dtype="f4", fill_value=np.nan)
    holes[:40] = 1
    zarr.open_array(str(tmp_path / "b.zarr"), mode="w", shape=(60, 10), chunks=(5, 10), dtype="f8")[:] = values
    damaged = root.create_array("damaged", data=values, chunks=(30, 10))
    path = tmp_path / "a.zarr/damaged" / damaged.metadata.encode_chunk_key((1, 0))
    path.write_bytes(path.read_bytes()[:40])
    bucket.upload(tmp_path, "d")
    for name in ("a.zarr", "b.zarr"):
        here, there = (datacheck.scan(f"{folder}/{name}").findings for folder in (tmp_path, f"{bucket.uri}/d"))
        assert len(here) == (1 if name == "b.zarr" else 5 if version == 3 else 4)
        assert [(one.code, one.field, one.num_violations, one.examples) for one in there] == [
            (one.code, one.field, one.num_violations, one.examples) for one in here
        ]


def test_what_only_its_library_reads_is_to_be_copied(tmp_path: Path, bucket: Bucket) -> None:
    pytest.importorskip("lance").write_dataset(TABLE, str(tmp_path / "a.lance"))
    bucket.upload(tmp_path, "d")
    (error,) = datacheck.scan(f"{bucket.uri}/d/a.lance").findings
    assert error.code == "DC901"
    assert "or copy it here" in error.message
