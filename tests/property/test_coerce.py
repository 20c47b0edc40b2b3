"""Conversion is by value: what a value becomes depends on the value alone, whatever stands beside it."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_files import contents, kept_table, manifest_of, quarantine_of, write_pipeline

import datacheck
from datacheck.batch import Batch, Column
from datacheck.checks.coerce import coerce_batch
from datacheck.schema.model import Schema

WORDS = st.one_of(
    st.sampled_from(
        [
            *(
                "1",
                "-7",
                "+5",
                "5.0",
                "300",
                "1e3",
                "0x1F",
                "99999999999999999999",
                "1e300",
                "-1e400",
                "inf",
                "-Infinity",
            ),
            *(
                "nan",
                "NaN",
                "true",
                "FALSE",
                "0",
                "",
                " 6",
                "abc",
                "é",
                "2020-01-02",
                "2020-02-30",
                "2020-01-02 10:00:00",
            ),
        ]
    ),
    st.integers(-(10**12), 10**12).map(str),
    st.floats(width=32).map(repr),
    st.text(max_size=4),
)
INTEGER_DTYPES = ["int16", "uint64"]
NUMBERS = [0.0, -0.0, 1.0, 0.5, 255.0, 256.0, 2.0**24 + 1, 2.0**31, 2.0**63, 2.0**64, 1e39, 1e300, np.nan, np.inf, -1.0]
INTEGERS = [0, 1, 2, 127, 128, 2048, 2049, 2050, 2**24 + 1, 2**24 + 2, 2**53 + 1, 2**60, 2**63 - 1, -1, -(2**63)]
TIMES = [datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5, 6), datetime.datetime(1600, 1, 1)]
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any], list[str]]] = [
    (pa.string(), WORDS, ["int8", "int64", "float16", "float32", "float64", "bool", "date32", "timestamp[ns]"]),
    (pa.large_string(), WORDS, ["uint8", "decimal128(10, 2)"]),
    (
        pa.float64(),
        st.sampled_from(NUMBERS),
        ["int8", "uint8", "int64", "uint64", "float16", "float32", "bool", "string"],
    ),
    (pa.float64(), st.sampled_from(NUMBERS), ["decimal128(10, 2)"]),
    (pa.int64(), st.sampled_from(INTEGERS), ["int8", "uint64", "float16", "float32", "float64", "bool", "string"]),
    (pa.timestamp("us"), st.sampled_from(TIMES), ["date32", "timestamp[s]", "timestamp[ns]"]),
    (
        pa.decimal128(20, 2),
        st.sampled_from([Decimal("1.00"), Decimal("1.25"), Decimal("300"), Decimal("-123456789012345.5")]),
        ["int8", "float32", "decimal128(5, 1)", "string"],
    ),
    (pa.binary(), st.sampled_from([b"a", b"\xff", b"12"]), ["string"]),
]
CASES = [(kind, values, dtype) for kind, values, dtypes in KINDS for dtype in dtypes]


def converted(data: Any, dtype: str) -> list[Any]:
    """Each value as it is after the conversion, in words; what did not convert as ``unconvertible``."""
    schema = Schema(fields={"x": {"dtype": dtype, "coerce": True}})
    (column,) = coerce_batch(Batch((Column("x", data),), len(data)), schema).columns
    unconvertible = np.zeros(len(data), bool) if column.unconvertible is None else column.unconvertible
    found = column.data.tolist() if isinstance(column.data, np.ndarray) else column.data.to_pylist()
    words = [str(value) for value in found]
    return [
        (str(column.dtype), "unconvertible" if bad else word)
        for word, bad in zip(words, unconvertible.tolist(), strict=True)
    ]


@pytest.mark.parametrize(("kind", "values", "dtype"), CASES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_value_converts_alike_alone_and_in_company(
    kind: pa.DataType, values: st.SearchStrategy[Any], dtype: str, data: st.DataObject
) -> None:
    drawn = data.draw(st.lists(st.one_of(st.none(), values), min_size=1, max_size=8))
    array = pa.array([None, *drawn], kind)[1:]
    together = converted(array, dtype)
    alone = [converted(array[row : row + 1], dtype)[0] for row in range(len(array))]
    assert together == alone
    assert all(word != "unconvertible" for value, (_, word) in zip(drawn, together, strict=True) if value is None)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float16", "float32", "complex64"])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_number_of_an_array_converts_alike_alone_and_in_company(dtype: str, data: st.DataObject) -> None:
    drawn = data.draw(
        st.one_of(*(st.lists(st.sampled_from(some), min_size=1, max_size=8) for some in (NUMBERS, INTEGERS)))
    )
    array = np.array(drawn)
    together = converted(array, dtype)
    assert together == [converted(array[row : row + 1], dtype)[0] for row in range(len(array))]


@settings(max_examples=40, deadline=None)
@given(
    drawn=st.lists(st.sampled_from([*NUMBERS, *INTEGERS]), min_size=1, max_size=8),
    dtype=st.sampled_from(["int16", "uint64"]),
)
def test_a_number_is_an_integer_where_python_says_so(drawn: list[float], dtype: str) -> None:
    limits = np.iinfo(dtype)
    array = np.array(drawn, np.float64)
    expected = [
        str(int(x))
        if np.isfinite(x) and x == int(x) and limits.min <= int(x) <= limits.max and abs(x) <= 2**53
        else "unconvertible"
        for x in array
    ]
    assert [word for _, word in converted(array, dtype)] == expected
    assert [word for _, word in converted(pa.array(array), dtype)] == expected


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Numbers as text, with a few words among them, a key, and a bound that some break."""
    cells = [str(row) for row in range(200)]
    for row in (7, 8, 90, 199):
        cells[row] = f"word {row}"
    cells[50] = "1000"
    return _write(tmp_path, cells, 200)


def _write(folder: Path, cells: list[str], row_group_size: int) -> Path:
    path = folder / "data" / "a.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"x": cells, "id": range(len(cells))}), path, row_group_size=row_group_size)
    return path


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row_group_size=st.integers(1, 200), workers=st.integers(1, 4), batch_bytes=st.sampled_from([200, 1000, 1 << 20]))
def test_a_run_sets_aside_the_rows_that_do_not_convert_and_no_others(
    words: Path, tmp_path_factory: pytest.TempPathFactory, row_group_size: int, workers: int, batch_bytes: int
) -> None:
    cells = pq.read_table(words)["x"].to_pylist()
    folder = tmp_path_factory.mktemp("run")
    _write(folder, cells, row_group_size)
    schema = {"fields": {"x": {"dtype": "int32", "coerce": True, "le": 500}, "id": {}}, "unique": [["id"]]}
    pipeline = write_pipeline(folder, {"train": "data"}, schema=schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datacheck.sources.parquet.TARGET_BATCH_BYTES", batch_bytes)
        run = datacheck.run(pipeline, workers=workers, executor="threads")
        report = datacheck.scan(folder / "data", Schema(**schema))
    aside = quarantine_of(folder / "out", "train")
    assert sorted(aside["row"].to_pylist()) == [7, 8, 50, 90, 199]
    by_row = {row["row"]: (row["x"], row["codes"]) for row in aside.to_pylist()}
    assert by_row[7] == ("word 7", ["DC003"])
    assert by_row[50] == ("1000", ["DC202"])
    kept = kept_table(folder / "out", "train")
    assert kept["x"].type == pa.int32()
    assert kept["x"].to_pylist() == [row for row in range(200) if row not in (7, 8, 50, 90, 199)]
    for findings in (run.findings, report.findings):
        found = {finding.code: finding for finding in findings}
        assert set(found) == {"DC003", "DC202"}
        assert (found["DC003"].num_violations, found["DC003"].num_checked) == (4, 200)
        assert [(e.row, e.value) for e in found["DC003"].examples] == [(r, f"word {r}") for r in (7, 8, 90, 199)]
        assert [e.row_group for e in found["DC003"].examples] == [r // row_group_size for r in (7, 8, 90, 199)]
        assert found["DC202"].num_checked == 196
    (record,) = manifest_of(folder / "out")["inputs"]
    assert (record["num_read"], record["num_kept"], record["num_quarantined"]) == (200, 195, 5)
    assert contents(folder / "out")
