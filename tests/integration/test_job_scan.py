"""``scan`` against NumPy: what it counts, where it says it is, and the JSON that it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from job_files import run_command
from source_files import FORMATS, make_table

import datacheck
from datacheck import Finding, Report, Schema

KINDS = {"DC101": np.isnan, "DC102": np.isposinf, "DC103": np.isneginf}
WORDS = {"DC101": "nan", "DC102": "inf", "DC103": "-inf"}

once_a_folder = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def found(report: Report) -> dict[tuple[str, str | None], Finding]:
    """The findings by code and field, each of which may be there once."""
    by_key = {(finding.code, finding.field): finding for finding in report.findings}
    assert len(by_key) == len(report.findings)
    return by_key


def places(finding: Finding) -> list[tuple[int | None, tuple[int, ...], str]]:
    return [(example.row, example.index, example.value) for example in finding.examples]


def expected_places(mask: np.ndarray[Any, Any], word: str) -> list[tuple[int, tuple[int, ...], str]]:
    """The first five violations in row order, as an array's own indices."""
    return [(int(row), tuple(map(int, index)), word) for row, *index in np.argwhere(mask)[:5].tolist()]


def assert_array_findings(report: Report, arrays: dict[str | None, np.ndarray[Any, Any]]) -> None:
    """The report has what NumPy finds in arrays whose first axis is the rows, and nothing else."""
    by_key = found(report)
    expected = {}
    for field, array in arrays.items():
        for code, find in KINDS.items():
            mask = find(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
            if mask.any():
                expected[code, field] = (int(mask.sum()), array.size, expected_places(mask, WORDS[code]))
    assert {
        key: (finding.num_violations, finding.num_checked, places(finding)) for key, finding in by_key.items()
    } == expected
    assert report.ok == (not expected)


values = st.sampled_from([0.0, -1.5, 3.0, np.nan, np.inf, -np.inf])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scanned")


@st.composite
def stored_arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays as an .npy may hold them: any float dtype and byte order, any layout, with a few bad values."""
    dtype = draw(st.sampled_from(["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"]))
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7))
    array = draw(npst.arrays(dtype, shape, elements=values, fill=st.just(0.0)))
    return np.asfortranarray(array) if draw(st.booleans()) else array


@once_a_folder
@given(array=stored_arrays())
def test_an_npy_of_any_dtype_and_layout_is_counted_as_numpy_counts_it(
    array: np.ndarray[Any, Any], folder: Path
) -> None:
    np.save(folder / "x.npy", array)
    assert_array_findings(datacheck.scan(folder / "x.npy"), {None: array})


@once_a_folder
@given(first=stored_arrays(), second=stored_arrays(), compressed=st.booleans())
def test_every_array_of_an_npz_is_counted_by_its_name(
    first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], compressed: bool, folder: Path
) -> None:
    (np.savez_compressed if compressed else np.savez)(folder / "x.npz", first=first, second=second)
    assert_array_findings(datacheck.scan(folder / "x.npz"), {"first": first, "second": second})


numbers = st.one_of(st.none(), values)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[float | None], list[float | None], int]:
    num_rows = draw(st.integers(1, 40))
    columns = [draw(st.lists(numbers, min_size=num_rows, max_size=num_rows)) for _ in range(2)]
    return columns[0], columns[1], draw(st.integers(1, 17))


def column_oracle(column: list[float | None], *, ge: float | None = None) -> dict[str, tuple[int, int, list[Any]]]:
    """What is wrong in a column: nulls of all slots, the rest of the values that are present."""
    found: dict[str, list[tuple[int, tuple[()], str]]] = {}
    for row, value in enumerate(column):
        if value is None:
            found.setdefault("DC104", []).append((row, (), "null"))
            continue
        for code, is_bad in KINDS.items():
            if is_bad(value):
                found.setdefault(code, []).append((row, (), WORDS[code]))
        if ge is not None and value < ge:
            found.setdefault("DC201", []).append((row, (), "-inf" if value == -np.inf else repr(value)))
    present = sum(value is not None for value in column)
    return {code: (len(rows), len(column) if code == "DC104" else present, rows[:5]) for code, rows in found.items()}


@once_a_folder
@given(table=tables())
def test_nulls_nan_infinities_and_bounds_of_a_parquet_file_are_four_things(
    table: tuple[list[float | None], list[float | None], int], folder: Path
) -> None:
    x, y, row_group_size = table
    path = folder / "t.parquet"
    arrays = {"x": pa.array(x, pa.float64(), from_pandas=False), "y": pa.array(y, pa.float32(), from_pandas=False)}
    pq.write_table(pa.table(arrays), path, row_group_size=row_group_size)
    by_key = found(datacheck.scan(path, Schema(fields={"x": {"ge": 0}, "y": {}})))
    expected = {(code, "x"): what for code, what in column_oracle(x, ge=0).items()}
    expected |= {(code, "y"): what for code, what in column_oracle(y).items()}
    assert {
        key: (finding.num_violations, finding.num_checked, places(finding)) for key, finding in by_key.items()
    } == expected
    for finding in by_key.values():
        for example in finding.examples:
            assert example.row is not None
            assert example.row_group == example.row // row_group_size


def test_who_does_the_work_changes_nothing(tmp_path: Path) -> None:
    for number, name in enumerate(("parquet", "npz", "csv")):
        FORMATS[name].write(tmp_path / f"{number}{FORMATS[name].suffix}", make_table(500))
    schema = Schema(unique="count", fields={"single": {"le": 1}, "double": {}, "count": {}})
    one = datacheck.scan(tmp_path, schema, workers=1)
    many = datacheck.scan(tmp_path, schema, workers=2)
    assert {finding.code for finding in one.findings} == {"DC101", "DC102", "DC103", "DC202", "DC301"}
    assert many.findings == one.findings
    assert (many.num_rows, many.num_bytes) == (one.num_rows, one.num_bytes)


def test_values_inside_lists_and_structs_are_named_by_their_path_and_placed_by_their_index(tmp_path: Path) -> None:
    rows = [
        {"s": {"a": 1.0, "v": [np.nan]}, "l": [[1.0, np.nan], []], "m": [("k", np.inf)]},
        {"s": None, "l": None, "m": None},
        {"s": {"a": np.nan, "v": None}, "l": [[], [0.0, 1.0, -np.inf]], "m": []},
    ]
    kind = pa.schema(
        {
            "s": pa.struct({"a": pa.float32(), "v": pa.list_(pa.float64())}),
            "l": pa.list_(pa.list_(pa.float16())),
            "m": pa.map_(pa.string(), pa.float64()),
        }
    )
    pq.write_table(pa.Table.from_pylist(rows, kind), tmp_path / "t.parquet", row_group_size=2)
    report = datacheck.scan(tmp_path / "t.parquet")
    seen = {
        (finding.code, finding.field): (finding.num_checked, *places(finding), finding.examples[0].row_group)
        for finding in report.findings
    }
    notes = {(code, field) for code, field in seen if code == "DC105"}
    assert notes == {("DC105", name) for name in ("s", "s.v", "l", "m")}
    assert {key: value for key, value in seen.items() if key not in notes} == {
        ("DC101", "s.v[]"): (1, (0, (0,), "nan"), 0),
        ("DC101", "l[][]"): (5, (0, (0, 1), "nan"), 0),
        ("DC102", "m[].value"): (1, (0, (0,), "inf"), 0),
        ("DC101", "s.a"): (2, (2, (), "nan"), 1),
        ("DC103", "l[][]"): (5, (2, (1, 2), "-inf"), 1),
    }


def test_rows_are_counted_within_their_file_and_files_stay_apart(tmp_path: Path) -> None:
    for name, row in (("a", 7), ("b", 2)):
        array = np.zeros(10, np.float32)
        array[row] = np.nan
        np.save(tmp_path / f"{name}.npy", array)
    report = datacheck.scan([tmp_path / "b.npy", tmp_path / "a.npy"])
    assert [(Path(finding.uri).name, places(finding)) for finding in report.findings] == [
        ("b.npy", [(2, (), "nan")]),
        ("a.npy", [(7, (), "nan")]),
    ]


def test_more_violations_than_examples_are_all_counted(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((100, 30), np.nan, np.float32))
    (finding,) = datacheck.scan(tmp_path / "x.npy").findings
    assert (finding.num_violations, finding.num_checked) == (3000, 3000)
    assert [example.index for example in finding.examples] == [(0,), (1,), (2,), (3,), (4,)]


def test_examples_are_the_first_rows_whatever_the_order_in_memory(tmp_path: Path) -> None:
    array = np.full((300, 40), np.nan, np.float32)
    np.save(tmp_path / "c.npy", array)
    np.save(tmp_path / "f.npy", np.asfortranarray(array))
    for name in ("c.npy", "f.npy"):
        (finding,) = datacheck.scan(tmp_path / name).findings
        assert [(example.row, example.index) for example in finding.examples] == [(0, (digit,)) for digit in range(5)]
    (finding,) = datacheck.scan(np.asfortranarray(array)).findings
    assert [example.index for example in finding.examples] == [(digit,) for digit in range(5)]


@pytest.fixture(scope="module")
def json_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("json")
    matrix = np.zeros((6, 3), np.float32)
    matrix[4, 2], matrix[5, 0], matrix[1, 1] = np.nan, np.inf, -np.inf
    np.save(folder / "a.npy", matrix)
    arrays = {"x": pa.array([1.0, None, -5.0, np.nan, 2.0]), "s": pa.array([{"a": np.nan}] * 5)}
    pq.write_table(pa.table(arrays), folder / "b.parquet", row_group_size=2)
    (folder / "schema.yaml").write_text("fields: {x: {ge: 0, required: false}, s.a: {required: false}}")
    done = run_command("scan", "a.npy", "b.parquet", "--format", "json", "-s", "schema.yaml", cwd=folder)
    assert done.returncode == 1
    assert done.stderr == ""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    report: dict[str, Any] = json.loads(done.stdout, parse_constant=refuse)
    return report


def test_the_json_has_the_documented_keys(json_report: dict[str, Any]) -> None:
    assert set(json_report) >= {"ok", "num_rows", "num_bytes", "seconds", "findings"}
    assert json_report["ok"] is False
    assert json_report["num_rows"] == 11
    assert json_report["seconds"] > 0
    documented = {"code", "name", "severity", "uri", "field", "num_violations", "num_checked", "examples"}
    for finding in json_report["findings"]:
        assert set(finding) >= documented
        assert all(set(example) == {"row", "row_group", "index", "value"} for example in finding["examples"])


def test_the_json_says_what_where_and_how_many_of_how_many(json_report: dict[str, Any]) -> None:
    described = {
        (finding["code"], finding["name"], finding["severity"], finding["uri"], finding["field"]): (
            finding["num_violations"],
            finding["num_checked"],
            [tuple(example.values()) for example in finding["examples"]],
        )
        for finding in json_report["findings"]
    }
    assert described == {
        ("DC101", "nan", "error", "a.npy", None): (1, 18, [(4, None, [2], "nan")]),
        ("DC102", "pos-inf", "error", "a.npy", None): (1, 18, [(5, None, [0], "inf")]),
        ("DC103", "neg-inf", "error", "a.npy", None): (1, 18, [(1, None, [1], "-inf")]),
        ("DC104", "null", "error", "b.parquet", "x"): (1, 5, [(1, 0, [], "null")]),
        ("DC201", "ge", "error", "b.parquet", "x"): (1, 4, [(2, 1, [], "-5.0")]),
        ("DC101", "nan", "error", "b.parquet", "x"): (1, 4, [(3, 1, [], "nan")]),
        ("DC101", "nan", "error", "b.parquet", "s.a"): (
            5,
            5,
            [(0, 0, [], "nan"), (1, 0, [], "nan"), (2, 1, [], "nan"), (3, 1, [], "nan"), (4, 2, [], "nan")],
        ),
    }


def test_the_json_of_python_and_that_of_the_command_agree(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1.0, np.nan]))
    printed = json.loads(run_command("scan", "--no-cache", str(tmp_path / "x.npy"), "-f", "json").stdout)
    here = json.loads(datacheck.scan(tmp_path / "x.npy").to_json())
    printed.pop("seconds")
    here.pop("seconds")
    assert printed == here


def test_a_report_reads_back_from_its_json(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1.0, np.nan]))
    report = datacheck.scan(tmp_path / "x.npy")
    read = Report.from_dict(json.loads(report.to_json()))
    assert read.findings == report.findings
    assert read.to_json() == report.to_json()


def test_memory_has_the_findings_of_the_file(tmp_path: Path) -> None:
    array = np.array([[1.0, np.nan], [np.inf, 0.0]], np.float32)
    np.save(tmp_path / "x.npy", array)
    (nan, infinity) = datacheck.scan(array).findings
    (nan_in_file, infinity_in_file) = datacheck.scan(tmp_path / "x.npy").findings
    assert (nan.examples, infinity.examples) == (nan_in_file.examples, infinity_in_file.examples)
    table = pa.table({"x": [1.0, None, np.nan]})
    pq.write_table(table, tmp_path / "t.parquet")
    in_memory, in_file = datacheck.scan(table).findings, datacheck.scan(tmp_path / "t.parquet").findings
    for findings in (in_memory, in_file):
        assert [(one.code, places(one), one.num_checked) for one in findings] == [
            ("DC101", [(2, (), "nan")], 2),
            ("DC104", [(1, (), "null")], 3),
        ]


def test_keys_are_unique_over_all_files_and_the_first_row_is_no_finding(tmp_path: Path) -> None:
    for name, keys in (("a", [1, 2, 2]), ("b", [3, 1, 3])):
        pq.write_table(pa.table({"k": keys}), tmp_path / f"{name}.parquet", row_group_size=1)
    report = datacheck.scan(tmp_path, Schema(fields={"k": {"unique": True}}))
    described = [
        (Path(finding.uri).name, finding.num_violations, finding.num_checked, [e.row for e in finding.examples])
        for finding in report.findings
    ]
    assert described == [("a.parquet", 1, 3, [2]), ("b.parquet", 2, 3, [1, 2])]


def test_a_value_that_cannot_be_converted_is_found_wherever_in_the_file_it_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, 1.0, 1e300, 1.0]}), tmp_path / "t.parquet", row_group_size=2)
    report = datacheck.scan(tmp_path / "t.parquet", Schema(fields={"x": {"dtype": "float32", "coerce": True}}))
    assert [finding.code for finding in report.findings] == ["DC003"]


def test_a_message_names_the_rows_of_every_row_group(tmp_path: Path) -> None:
    values = np.arange(30.0)
    values[[3, 12, 13, 25]] = np.nan
    pq.write_table(pa.table({"x": values}), tmp_path / "a.parquet", row_group_size=10)
    (finding,) = datacheck.scan(tmp_path / "a.parquet").findings
    assert finding.message.endswith("a.parquet, row group 0, row 3; row group 1, rows 12, 13; row group 2, row 25)")
    values[[26, 27]] = np.nan
    pq.write_table(pa.table({"x": values}), tmp_path / "a.parquet", row_group_size=10)
    (finding,) = datacheck.scan(tmp_path / "a.parquet").findings
    assert finding.message.endswith("row group 0, row 3; row group 1, rows 12, 13; row group 2, rows 25, 26, …)")
