"""Delta, Iceberg and Lance as their own libraries write them: the rows of a version, no more and no fewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import datacheck
from datacheck import ReadOptions

pytestmark = pytest.mark.filterwarnings("ignore")
NAN = np.nan


def table(start: int = 0) -> pa.Table:
    x = np.arange(start, start + 100.0)
    x[5] = NAN
    return pa.table({"x": x, "day": [f"d {index % 3}" for index in range(100)], "n": np.arange(100)})


def count(path: Path, version: int | None = None) -> tuple[int, int]:
    report = datacheck.scan(path, options=ReadOptions(table_version=version))
    return report.num_rows, sum(one.num_violations for one in report.findings if one.code == "DC101")


def test_a_delta_table_has_the_rows_that_its_library_reads(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    path = str(tmp_path / "t")
    deltalake.write_deltalake(path, table(), partition_by=["day"])
    for number in range(12):
        deltalake.write_deltalake(path, table(100 * number), mode="append")
    delta = deltalake.DeltaTable(path)
    delta.delete("n < 50")
    delta.create_checkpoint()
    deltalake.write_deltalake(path, table(9000), mode="append")
    for version in (0, 5, 13, None):
        read = deltalake.DeltaTable(path, version=version).to_pyarrow_table()
        expected = (read.num_rows, int(np.isnan(read["x"].to_numpy()).sum()))
        assert count(tmp_path / "t", version) == expected
    assert len(set(read["day"].to_pylist())) == 3


def test_an_iceberg_table_has_the_rows_that_its_library_reads(tmp_path: Path) -> None:
    pytest.importorskip("pyiceberg")
    pytest.importorskip("sqlalchemy")
    from pyiceberg.catalog.memory import InMemoryCatalog

    catalog = InMemoryCatalog("c", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("n")
    made = catalog.create_table("n.t", schema=table().schema)
    for number in range(3):
        made.append(table(100 * number))
    made.delete("n < 50")
    for snapshot in made.snapshots():
        read = made.scan(snapshot_id=snapshot.snapshot_id).to_arrow()
        expected = (read.num_rows, int(np.isnan(read["x"].to_numpy()).sum()))
        assert count(tmp_path / "n" / "t", snapshot.snapshot_id) == expected


def test_a_lance_dataset_has_the_rows_that_its_library_reads(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    path = tmp_path / "t.lance"
    lance.write_dataset(table(), path)
    for number in range(3):
        lance.write_dataset(table(100 * number), path, mode="append")
    lance.dataset(path).delete("n >= 10 AND n < 50")
    for version in (1, 3, None):
        read = lance.dataset(path, version=version).to_table()
        assert count(path, version) == (read.num_rows, int(np.isnan(read["x"].to_numpy()).sum()))
    (finding,) = datacheck.scan(tmp_path, workers=2).findings
    assert (finding.code, finding.num_violations, finding.examples[0].row) == ("DC101", 4, 5)
    (finding,) = datacheck.scan(path, options=ReadOptions(table_version=9)).findings
    assert "it has no version 9; the newest is 5 (" in finding.message
    next((path / "data").iterdir()).write_bytes(b"LANC")
    findings = datacheck.scan(path).findings
    assert "DC901" in {one.code for one in findings}
    assert not any(".rs:" in one.message for one in findings)


def test_the_scales_of_quantised_blocks_are_where_gguf_has_them(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from datacheck.sources.gguf import _QUANTISED

    for number, blocks in _QUANTISED.items():
        kind = gguf.GGMLQuantizationType(number)
        assert (kind.name, gguf.constants.GGML_QUANT_SIZES[kind]) == (
            blocks.name,
            (blocks.num_values, blocks.num_bytes),
        )
        for _, offset, dtype in blocks.scales:
            packed = np.zeros((1, blocks.num_bytes), np.uint8)
            packed[0, :] = 1
            packed[0, offset : offset + np.dtype(dtype).itemsize] = 0xFF  # NaN in every one of these dtypes
            try:
                values = gguf.quants.dequantize(packed, kind)
            except NotImplementedError:
                continue
            assert np.isnan(values).any() or kind.name == "MXFP4", kind.name
