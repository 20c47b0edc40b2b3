"""Inferred schemas, how they are written, and the command."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_files import run_command, write_table

import datacheck
from datacheck.errors import SourceError, UsageError
from datacheck.profile.infer.infer import infer_with_notes
from datacheck.profile.infer.suggested_bounds import float_bounds, suggest_bounds
from datacheck.schema import parse_schema
from datacheck.schema.yaml_file import parse_yaml
from datacheck.storage.documents import load_schema

RANDOM = np.random.default_rng(0)


def constraints(column: Any) -> dict[str, Any]:
    """The constraints inferred from one column."""
    schema = datacheck.infer(pa.table({"x": column}))
    return schema.fields["x"].model_dump(exclude_defaults=True)


def note(column: Any) -> str:
    return infer_with_notes(pa.table({"x": column})).notes["x"]


@pytest.mark.parametrize(
    ("low", "high", "kind", "dtype", "expected"),
    [
        (-43, 1301, "float", "float32", (-200, 1500)),
        (0.0, 1.0, "float", "float64", (0, 1.1)),
        (0.2, 0.9, "float", "float64", (0.1, 1)),
        (-5.0, -1.0, "float", "float64", (-5.4, -0.6)),
        (3.0, 3.0, "float", "float64", (2.6, 3.4)),
        (0.0, 0.0, "float", "float64", (0, 1)),
        (-1e308, 1e308, "float", "float64", (-1.4e308, 1.4e308)),
        (-1.7e308, 1.7e308, "float", "float64", (None, None)),
        (0.0, 3.3e38, "float", "float32", (0, None)),
        (5e-324, 1e-323, "float", "float64", (5e-324, 1e-323)),
        (1, 12, "integer", "int32", (0, 14)),
        (0, 255, "integer", "uint8", (None, None)),
        (-128, 5, "integer", "int8", (None, 20)),
        (7, 7, "integer", "int64", (6, 8)),
        (10, 20, "duration", "duration[s]", (9, 21)),
        (2**63, 2**64 - 5, "integer", "uint64", (8 * 10**18, None)),
    ],
)
def test_bounds_have_a_margin_and_are_simple_numbers(
    low: Any, high: Any, kind: str, dtype: str, expected: tuple[Any, Any]
) -> None:
    limit = {"float32": 3.4028234663852886e38}.get(dtype, np.inf)
    found = float_bounds(low, high, limit) if kind == "float" else suggest_bounds(low, high, kind, dtype)
    assert found == expected


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_bounds_never_cut_off_values_nor_add_more_than_a_fifth(first: float, second: float) -> None:
    low, high = sorted((first, second))
    below, above = float_bounds(low, high, np.inf)
    spread = max((high / 8 - low / 8) * 8, abs(high) if low == high else 0)
    if below is not None and np.isfinite(spread):
        assert below <= low
        assert low - below <= max(0.2000001 * spread, 5e-324 * 3) or low == high == 0
    if above is not None and np.isfinite(spread):
        assert above >= high
        assert above - high <= max(0.2000001 * spread, 5e-324 * 3) or low == high == 0


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(RANDOM.integers(0, 2, 1000), pa.int8()), {"dtype": "int8", "isin": (0, 1)}),
        (pa.array([0, 1, 0]), {"dtype": "int64", "ge": 0, "le": 2}),
        (pa.array(["a", "b"] * 50), {"dtype": "string", "isin": ("a", "b")}),
        (pa.array([*["a", "b"] * 4, "c"]), {"dtype": "string"}),
        (pa.array([True, False, None]), {"dtype": "bool", "nullable": True}),
        (
            pa.array([1.5, np.nan, np.inf], pa.float16()),
            {"dtype": "float16", "allow_nan": True, "allow_inf": True, "ge": 1.3, "le": 1.7},
        ),
        (pa.array([[1.0, 2.0]] * 200), {"dtype": "float64", "shape": (2,), "ge": 0.9, "le": 2.1}),
        (pa.array([[1.0, 2.0]] * 9), {"dtype": "float64", "ge": 0.9, "le": 2.1}),
        (
            pa.array([datetime.date(2024, 1, 11), datetime.date(2024, 1, 31)]),
            {"dtype": "date32[day]", "ge": "2024-01-09", "le": "2024-02-02"},
        ),
        (
            pa.array([0, 10**9], pa.timestamp("ms", "UTC")),
            {"dtype": "timestamp[ms, tz=UTC]", "ge": "1969-12-30T00:00:00Z", "le": "1970-01-14T00:00:00Z"},
        ),
        (
            pa.array([0, 7200], pa.timestamp("s")),
            {"dtype": "timestamp[s]", "ge": "1969-12-31T23:48:00", "le": "1970-01-01T02:12:00"},
        ),
        (pa.nulls(3), {"nullable": True}),
    ],
)
def test_constraints_of_a_field(column: pa.Array, expected: dict[str, Any]) -> None:
    assert constraints(column) == expected


@pytest.mark.parametrize(
    ("name", "values", "is_key"),
    [
        ("user_id", range(10), True),
        ("userId", [f"u{number}" for number in range(10)], True),
        ("user_id", range(9), False),
        ("paid", range(100), False),
        ("price", range(1000), True),
        ("price", range(0, 10**6, 1000), False),
        ("name", [f"n{number}" for number in range(1000)], True),
        ("name", [f"n{number}" for number in range(999)], False),
        ("user_id", [*range(10), 3], False),
    ],
)
def test_a_key_is_a_field_whose_values_differ_by_more_than_chance(name: str, values: Any, is_key: bool) -> None:
    assert datacheck.infer(pa.table({name: list(values)})).fields[name].unique is is_key


def test_a_key_is_unique_over_all_files(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {"id": range(2000), "row_id": range(2000)}, 500)
    write_table(tmp_path / "b.parquet", {"id": range(2000, 4000), "row_id": range(2000)}, 500)
    schema = datacheck.infer(tmp_path)
    assert (schema.fields["id"].unique, schema.fields["row_id"].unique) == (True, False)


def test_a_field_of_only_some_files_is_not_required(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {"x": [1.0], "y": [1]})
    write_table(tmp_path / "b.parquet", {"x": [2.0], "s": [{"z": None}]})
    fields = datacheck.infer(tmp_path).fields
    assert {name: field.required for name, field in fields.items()} == {"x": True, "y": False, "s": False, "s.z": False}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([-43, 1301, None], pa.float32()), "seen: -43 .. 1301, 1 null of 3"),
        (pa.array([0.1, np.nan, np.inf, -np.inf], pa.float32()), "seen: 0.1 .. 0.1, 1 NaN, 1 +inf, 1 -inf of 4"),
        (pa.array(["a"] * 3000), "seen: 1 text, 3,000 values"),
        (pa.array([f"{number % 60}" for number in range(3000)]), "seen: more than 50 distinct texts, 3,000 values"),
        (pa.array(range(5)), "seen: 0 .. 4, all distinct, 5 values"),
        (pa.array(["a", "b"]), "seen: all distinct, 2 values"),
        (pa.array([[1], []]), "seen: lists of 0 .. 1 values, 2 values; seen: 1 .. 1, 1 value"),
        (pa.array([0], pa.timestamp("us", "UTC")), "seen: 1970-01-01T00:00:00 .. 1970-01-01T00:00:00, 1 value"),
        (pa.array([2**63 - 1], pa.timestamp("us")), "in timestamp[us], 1 value"),
    ],
)
def test_a_comment_describes_the_observed_values(column: pa.Array, expected: str) -> None:
    assert expected in note(column)


HOSTILE = [
    "a: b",
    "# x",
    "- y",
    "'",
    '"',
    "\n",
    "\nversion: 2",
    "\r# ",
    "\x1b[2J",
    "\u2028",
    "\u202e",
    "null",
    "~",
    "{",
    "x" * 300,
    " ",
    "",
    "é" * 200,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_texts_stay_inside_their_quotes(name: str) -> None:
    found = infer_with_notes(pa.table({name: pa.array([name, None] * 100), "n": pa.array([name] * 200)}), name=name)
    text = found.to_yaml()
    assert parse_schema(parse_yaml(text, "x"), "x") == found.schema
    assert found.schema.fields["n"].isin == ((name,) if len(name) <= 200 and len(name.encode()) <= 200 else None)


def test_a_hostile_path_does_not_end_its_comment(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a\nfields: {}\n.parquet", {"x": [1]})
    found = infer_with_notes(str(path))
    assert len([line for line in found.to_yaml().splitlines() if line.startswith("fields")]) == 1


def test_too_many_fields_for_a_file_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    inference = infer_with_notes({f"field_{number}": np.zeros(1) for number in range(20)})
    assert "# seen" in inference.to_yaml()
    monkeypatch.setattr("datacheck.profile.infer.infer.MAX_FILE_BYTES", len(inference.to_yaml()) - 1)
    text = inference.to_yaml()
    assert "# seen" not in text
    assert parse_schema(parse_yaml(text, "x"), "x") == inference.schema
    monkeypatch.setattr("datacheck.profile.infer.infer.MAX_FILE_BYTES", 500)
    with pytest.raises(UsageError, match="a schema of 20 fields does not fit a file of 500 bytes"):
        inference.to_yaml()


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {"x": [1]})
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(SourceError, match=r"b\.parquet"):
        datacheck.infer(tmp_path)


def test_the_command_goes_on_after_unreadable_files_and_lists_them(tmp_path: Path) -> None:
    for name in "bd":
        (tmp_path / f"{name}.parquet").write_bytes(b"PAR1 nothing")
    done = run_command("schema", "infer", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    write_table(tmp_path / "c.parquet", {"x": [1.0]})
    done = run_command("schema", "infer", tmp_path)
    assert done.returncode == 1
    assert list(parse_schema(parse_yaml(done.stdout, "written"), "written").fields) == ["x"]
    assert done.stdout.count("# Left out: ") == 2
    first, *listed = done.stderr.splitlines()
    assert first.endswith("left out 2 files that could not be read; the schema may be too strict for them:")
    assert [line.split(":")[0].rpartition("/")[2] for line in listed] == ["b.parquet", "d.parquet"]


def test_the_header_says_what_is_left_out(tmp_path: Path) -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1.0])])
    header = "\n".join(infer_with_notes(pa.table([union, union, [1], [2]], names=["u", "v", "w", "w"])).header)
    assert "Left out: 'u', whose values could not be read: " in header
    assert "More than one column is called 'w' (DC006)" in header
    (tmp_path / "a.csv").write_text("a,b\n1,2\n1\n")
    assert "Left out: 1 malformed record (DC305)" in "\n".join(infer_with_notes(tmp_path).header)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_the_schema_does_not_depend_on_the_executor(tmp_path: Path, executor: str) -> None:
    table = pa.table({"x": RANDOM.standard_normal(40_000), "id": range(40_000), "s": ["a", "b"] * 20_000})
    for number in range(3):
        pq.write_table(table.slice(number * 10_000, 10_000), tmp_path / f"{number}.parquet", row_group_size=3000)
    alone = datacheck.infer(tmp_path, workers=1)
    assert datacheck.infer(tmp_path, workers=3, executor=executor) == alone


@pytest.mark.slow
def test_the_command_writes_a_file_and_keeps_an_existing_one(tmp_path: Path) -> None:
    data = write_table(tmp_path / "data.parquet", {"x": [1.5, None], "id": [1, 2]})
    output = tmp_path / "people.yaml"
    done = run_command("schema", "infer", data, "-o", output)
    assert (done.returncode, done.stderr) == (0, "")
    schema = load_schema(output)
    assert schema.name == "people"
    assert schema.fields["x"].nullable
    assert run_command("scan", data, "--schema", output, "--no-cache").returncode == 0
    before = output.read_bytes()
    again = run_command("schema", "infer", data, "-o", output)
    assert again.returncode == 2
    assert "already exists; replace it with --overwrite" in again.stderr
    assert output.read_bytes() == before
    write_table(data, {"y": [1]})
    assert run_command("schema", "infer", data, "-o", output, "--overwrite").returncode == 0
    assert list(load_schema(output).fields) == ["y"]


@pytest.mark.slow
def test_the_command_prints_the_schema_by_default(tmp_path: Path) -> None:
    data = write_table(tmp_path / "data.parquet", {"x": [1.5, 3.0]})
    done = run_command("schema", "infer", data)
    assert done.returncode == 0
    assert "  # seen: 1.5 .. 3, 2 values\n  x:\n    dtype: float64\n" in done.stdout
    assert run_command("schema", "infer", tmp_path / "none").returncode == 2


@pytest.mark.parametrize("name", ["longdouble", "float128"])
def test_long_doubles_have_one_name_and_bounds_of_their_own(name: str) -> None:
    values = np.array([0, 1, 2], np.longdouble)
    assert datacheck.infer(values).fields[None].dtype == "longdouble"
    schema = {"fields": {None: {"dtype": name, "le": 0.1}}}
    assert datacheck.scan(values / np.longdouble(21), schema).ok
    just_above = np.array([np.longdouble(0.1) + np.longdouble("1e-18")])
    assert [found.code for found in datacheck.scan(just_above, schema).findings] == ["DC202"]
