"""A dataset passes the permissive schema inferred from it, and a scan with the strict one reports what was listed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from profile_data import arrays, tables

import datacheck
from datacheck.profile.infer.infer import infer_with_notes
from datacheck.schema import parse_schema
from datacheck.schema.yaml_file import parse_yaml

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def failures(data: Any, schema: Any) -> set[tuple[str, str, str | None, str]]:
    report = datacheck.scan(data, schema)
    return {
        (finding.code, finding.uri, finding.field, finding.detail) for finding in report.findings if finding.is_error
    }


def check(data: Any) -> None:
    inference = infer_with_notes(data, name="x", permissive=True)
    # Findings that no schema can prevent: duplicate names, values that cannot be read, files that differ.
    found = failures(data, datacheck.Schema())
    unavoidable = {failure for failure in found if failure[0] in ("DC005", "DC006", "DC305")}
    # A word among numbers stays a fault: the schema says that the field is numeric.
    words = {(uri, field) for code, uri, field, _ in found if code == "DC007"}
    remaining = {
        failure
        for failure in failures(data, inference.schema)
        if failure[0] not in ("DC007", "DC316", "DC317") and not (failure[0] == "DC003" and failure[1:3] in words)
    }
    assert remaining == unavoidable
    assert parse_schema(parse_yaml(inference.to_yaml(), "written"), "written") == inference.schema
    strict = infer_with_notes(data, name="x", with_list=True)
    # Notes are listed, too, and the columns that some files lack, which are no fault of a field that is not required.
    listed = {finding for finding in strict.listed if not finding.code.startswith(("DC5", "DC316", "DC317"))}
    reported = {one for one in datacheck.scan(data, strict.schema).findings if one.code not in ("DC316", "DC317")}
    assert listed == reported if strict.has_faults else strict.schema == inference.schema


@pytest.mark.slow
@given(tables())
@settings(QUIET, max_examples=120)
def test_of_tables_in_memory(table: pa.Table) -> None:
    check(table)


@example(np.array([2, 3], np.longdouble) * np.longdouble("1e308"))
@example(-np.array([2, 3], np.longdouble) * np.longdouble("1e4000"))
@given(arrays() | st.dictionaries(st.text(max_size=3), arrays(), min_size=1, max_size=3))
@settings(QUIET, max_examples=100)
def test_of_arrays_in_memory(data: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(data)


@pytest.mark.slow
@given(st.lists(tables(max_columns=2), min_size=1, max_size=3))
@settings(QUIET, max_examples=40)
def test_of_parquet_files_with_different_schemas(tmp_path_factory: Any, tables: list[pa.Table]) -> None:
    folder: Path = tmp_path_factory.mktemp("parquet")
    num_written = 0
    for table in tables:
        try:
            pq.write_table(table, folder / f"{num_written}.parquet", row_group_size=3)
            num_written += 1
        except pa.ArrowException:
            (folder / f"{num_written}.parquet").unlink(missing_ok=True)
    # Parquet stores times of day in other units, and cannot read back some of them.
    readable = (
        not any(finding.code == "DC901" for finding in datacheck.scan(str(folder)).findings) if num_written else False
    )
    if readable:
        check(str(folder))


CELLS = st.sampled_from(
    ["", "NA", "1", "-7", "2.5", "nan", "inf", "18446744073709551615", "x", "true", "2024-01-31", "1e400"]
)


@pytest.mark.slow
@given(st.lists(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), min_size=1, max_size=3))
@example([[("", "1"), ("1", "")]])
@settings(QUIET, max_examples=100)
def test_of_csv_files_with_different_schemas(tmp_path_factory: Any, files: list[list[tuple[str, str]]]) -> None:
    folder: Path = tmp_path_factory.mktemp("csv")
    for number, rows in enumerate(files):
        (folder / f"{number}.csv").write_text("\n".join(["id,b", *(",".join(row) for row in rows)]) + "\n")
    check(str(folder))


@given(st.lists(arrays(), min_size=1, max_size=2))
@example([np.array(1.5e40), np.array([], np.float16)])
@settings(QUIET, max_examples=40)
def test_of_npy_files_with_different_schemas(tmp_path_factory: Any, arrays: list[np.ndarray[Any, Any]]) -> None:
    folder: Path = tmp_path_factory.mktemp("npy")
    for number, array in enumerate(arrays):
        if not array.dtype.hasobject:
            np.save(folder / f"{number}.npy", array)
    if any(folder.iterdir()):
        check(str(folder))
