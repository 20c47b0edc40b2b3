"""One bad file, row group or value never ends the check of the others, and is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.batch import Column
from datacheck.sources import ReadOptions


def _codes(report: Any) -> list[tuple[str, str]]:
    return sorted((finding.code, Path(finding.uri).name) for finding in report.findings)


@pytest.mark.parametrize("schema", [None, {"unique": [["x"]]}, {"checks": ["x >= 0"]}])
@pytest.mark.parametrize("num_rows", [3, 30_000])
def test_a_bug_of_datacheck_in_one_file_is_a_finding_of_that_file(
    schema: object, num_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        values = np.arange(num_rows, dtype=float) + (0.5 if name == "b" else 1000 * ord(name))
        values[1] = np.nan
        pq.write_table(pa.table({"x": values, name: values}), tmp_path / f"{name}.parquet")
    leaves = Column.leaves

    def failing(self: Column, **options: Any) -> Any:
        if self.name == "b":
            raise ZeroDivisionError("planted")
        return leaves(self, **options)

    monkeypatch.setattr(Column, "leaves", failing)
    report = datacheck.scan(tmp_path, schema)  # type: ignore[arg-type]
    assert [code for code, name in _codes(report) if name == "b.parquet" and code.startswith("DC9")] == ["DC915"]
    assert {name for code, name in _codes(report) if code == "DC101"} >= {"a.parquet", "c.parquet"}
    (finding,) = [one for one in report.findings if one.code == "DC915"]
    assert "ZeroDivisionError: planted in " in finding.message
    assert "report this" in finding.message


@pytest.mark.parametrize("schema", [None, {"checks": ["a >= 0"]}])
def test_a_broken_page_names_row_group_and_column_and_the_others_are_read(schema: object, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    x = np.arange(30.0)
    x[[3, 13, 23]] = np.nan
    table = pa.table({"a": np.arange(30.0) + 100, "x": x})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True, row_group_size=10)
    data = bytearray(path.read_bytes())
    data[data.index(x[10:13].tobytes()) + 1] ^= 4
    path.write_bytes(data)
    report = datacheck.scan(path, schema)  # type: ignore[arg-type]
    by_code = {finding.code: finding for finding in report.findings}
    assert set(by_code) == {"DC901", "DC101"}
    assert "row group 1, column 'x'" in by_code["DC901"].message
    assert [example.row for example in by_code["DC101"].examples] == [3, 23]
    lax = datacheck.scan(path, schema, options=ReadOptions(verify_checksums=False))  # type: ignore[arg-type]
    assert {finding.code for finding in lax.findings} == {"DC101"}


@pytest.mark.torch
def test_a_byte_changed_under_the_checksum_of_a_pt_is_a_finding(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pt"
    torch.save({"w": torch.arange(100.0)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(np.arange(5, 9, dtype=np.float32).tobytes())] ^= 1
    path.write_bytes(data)
    (finding,) = datacheck.scan(path).findings
    assert finding.code == "DC901"
    assert "checksum" in finding.message
    assert datacheck.scan(path, options=ReadOptions(verify_checksums=False)).ok


def _bad_text() -> pa.Array:
    offsets, data = np.array([0, 2, 4, 6], np.int32), b"ok\xff\xfezz"
    return pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ""])
@pytest.mark.parametrize(
    ("schema", "others"),
    [
        (None, set()),
        ({"fields": {"s": {"isin": ["ok", "zz"]}}}, {"DC205"}),
        ({"fields": {"s": {"str_matches": "[a-z]+"}}}, {"DC206"}),
        ({"fields": {"s": {"str_matches": "(?=[a-z])"}}}, {"DC206", "DC005"}),
        ({"fields": {"s": {"unique": True}}}, set()),
        ({"checks": ["s == 'ok'"]}, {"DC302", "DC005"}),
    ],
)
def test_text_that_is_not_utf8_is_a_finding_whatever_else_is_checked(
    suffix: str, schema: object, others: set[str], tmp_path: Path
) -> None:
    table = pa.table({"s": _bad_text()})
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path)
    elif suffix:
        with ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    report = datacheck.scan(path if suffix else table, schema)  # type: ignore[arg-type]
    found = {finding.code: finding for finding in report.findings}
    assert "DC208" in found
    assert set(found) <= {"DC208", *others}
    assert (found["DC208"].num_violations, [one.row for one in found["DC208"].examples]) == (1, [1])


FAR_TIMES = [
    pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32()),
    pa.array([0, 2**55], pa.int64()).view(pa.timestamp("s")),
    pa.array([0, 2**55], pa.int64()).view(pa.timestamp("s", "UTC")),
    pa.array([0, 86_400_000 * 10**8], pa.int64()).view(pa.date64()),
]


@pytest.mark.parametrize("times", FAR_TIMES, ids=lambda times: str(times.type))
def test_times_beyond_the_range_of_python_are_compared_and_shown(times: pa.Array) -> None:
    limit = "2020-01-01T00:00:00Z" if getattr(times.type, "tz", None) else "2020-01-01"
    for schema, code in (
        ({"fields": {"t": {"le": limit}}}, "DC202"),
        ({"fields": {"t": {"isin": ["1970-01-01T00:00:00Z" if "Z" in limit else "1970-01-01"]}}}, "DC205"),
        ({"checks": [f"t < '{limit}'"]}, "DC302"),
    ):
        (finding,) = datacheck.scan(pa.table({"t": times}), schema).findings  # type: ignore[arg-type]
        assert (finding.code, finding.num_violations) == (code, 1)
        assert finding.examples[0].row == 1
        assert finding.examples[0].value
    schema = {"fields": {"t": {"dtype": "string", "coerce": True}}}
    assert {one.code for one in datacheck.scan(pa.table({"t": times}), schema).findings} <= {"DC003"}  # type: ignore[arg-type]


def test_text_beyond_unicode_in_an_npy_is_not_checked_and_the_other_files_are(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([0x110000, 65], np.uint32).view("<U1"))
    np.save(tmp_path / "b.npy", np.array([1.0, np.nan]))
    assert _codes(datacheck.scan(tmp_path)) == [("DC005", "a.npy"), ("DC101", "b.npy")]


def test_an_arrow_file_by_polars_is_read(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"x": [1.0, float("nan")], "c": ["a", "b"]}).with_columns(
        polars.col("c").cast(polars.Categorical)
    )
    for compression in ("uncompressed", "lz4", "zstd"):
        frame.write_ipc(tmp_path / "x.arrow", compression=compression)
        frame.write_ipc_stream(tmp_path / "x.arrows", compression=compression)
        assert _codes(datacheck.scan(tmp_path)) == [("DC101", "x.arrow"), ("DC101", "x.arrows")]
    assert [finding.code for finding in datacheck.scan(frame).findings] == ["DC101"]
