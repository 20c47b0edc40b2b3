"""A strict schema does not allow what looks like a fault, and what is listed is what a scan with it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_files import run_command, write_table

import datacheck
from datacheck.profile.infer.infer import infer_with_notes

RANDOM = np.random.default_rng(0)
USUAL = RANDOM.normal(20, 8, 2000).astype(np.float32)
FAULTS = st.sampled_from([np.nan, np.inf, -np.inf, -999.99, 9999.0, 1e20, 1e6, -4e5])


@given(
    st.lists(st.tuples(FAULTS, st.integers(1, 30)), max_size=3, unique_by=lambda fault: repr(fault[0])),
    st.integers(1, 3),
)
@settings(max_examples=25)
def test_a_scan_reports_the_faults_and_nothing_else(
    tmp_path_factory: Any, faults: list[tuple[float, int]], parts: int
) -> None:
    values = np.concatenate([USUAL, *(np.full(number, fault, np.float32) for fault, number in faults)])
    values = np.random.default_rng(len(faults)).permutation(values)
    folder: Path = tmp_path_factory.mktemp("faults")
    for number, part in enumerate(np.array_split(values, parts)):
        write_table(folder / f"{number}.parquet", {"x": part}, 700)
    strict = infer_with_notes(folder, with_list=True)
    report = datacheck.scan(folder, strict.schema)
    assert [finding for finding in strict.listed if not finding.code.startswith("DC5")] == list(report.findings)
    rows = dict.fromkeys(("DC101", "DC102", "DC103", "DC201", "DC202"), 0)
    for finding in report.findings:
        rows[finding.code] += finding.num_violations
    finite = values[np.isfinite(values)]
    assert rows["DC101"] == np.isnan(values).sum()
    assert rows["DC102"] == (values == np.inf).sum()
    # Infinities lie beyond the bounds, too.
    assert rows["DC201"] == (finite < -900).sum() + (values == -np.inf).sum()
    assert rows["DC202"] == (finite > 900).sum() + (values == np.inf).sum()
    assert datacheck.scan(folder, datacheck.infer(folder, permissive=True)).ok


#: Columns of 600 clean values, and what may be planted in a few of their rows.
CLEAN: dict[str, tuple[pa.Array, list[Any]]] = {
    "float": (pa.array(USUAL[:600]), [np.nan, np.inf, -np.inf, -999.0, 1e20]),
    "double": (pa.array(USUAL[:600].astype(np.float64)), [np.nan, -9999.0, 1e300]),
    "integer": (pa.array(RANDOM.integers(0, 100, 600)), [-999, 99_999]),
    "category": (pa.array(["fridge", "oven", "tap"] * 200), ["fridge ", "OVEN", " tap"]),
    "text": (pa.array([f"text {number}" for number in range(600)]), ["", "  ", "M\ufffdnchen"]),
    "vector": (
        pa.array(list(RANDOM.normal(size=(600, 4))), pa.list_(pa.float64(), 4)),
        [[0.1, np.nan, 0, 0], [0, np.inf, 1, 0]],
    ),
    "list": (pa.array([[0.5 * (row % 7), 1.0] for row in range(600)], pa.list_(pa.float32())), [[0.5, np.nan]]),
}


@given(st.data())
@settings(max_examples=20)
def test_every_kind_of_planted_fault_is_what_a_scan_reports(tmp_path_factory: Any, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(CLEAN)), min_size=1, max_size=3, unique=True))
    planted: dict[str, dict[int, Any]] = {
        name: data.draw(st.dictionaries(st.integers(0, 599), st.sampled_from(CLEAN[name][1]), max_size=3))
        for name in names
    }
    columns = {}
    for name, faults in planted.items():
        values = CLEAN[name][0].to_pylist()
        columns[name] = pa.array([faults.get(row, value) for row, value in enumerate(values)], CLEAN[name][0].type)
    folder: Path = tmp_path_factory.mktemp("planted")
    table = pa.table(columns)
    cut = data.draw(st.integers(1, 599))
    for number, part in enumerate((table.slice(0, cut), table.slice(cut))):
        pq.write_table(part, folder / f"{number}.parquet", row_group_size=250)
    strict = infer_with_notes(folder, with_list=True)
    report = datacheck.scan(folder, strict.schema)
    assert [one for one in strict.listed if not one.code.startswith("DC5")] == list(report.findings)
    rows = {name: set[int]() for name in names}
    for one in report.findings:
        first = 0 if one.uri.endswith("0.parquet") else cut
        rows[str(one.field).removesuffix("[]")] |= {first + int(example.row or 0) for example in one.examples}
    assert rows == {name: set(faults) for name, faults in planted.items()}
    assert datacheck.scan(folder, datacheck.infer(folder, permissive=True)).ok


@pytest.mark.parametrize(
    ("column", "constraints"),
    [
        (pa.array(["fridge"] * 500 + ["oven"] * 500 + ["fridge "]), {"isin": ("fridge", "oven"), "stripped": True}),
        (pa.array(["fridge"] * 500 + ["OVEN"] * 500 + ["oven"]), {"isin": ("OVEN", "fridge")}),
        (pa.array([f"text {number}" for number in range(200)] + ["", " "]), {"not_blank": True}),
        (pa.array([f"t{number}" for number in range(100)] * 2 + ["M\ufffdnchen"]), {"printable": True}),
        (pa.array(np.append(USUAL, np.full(30, -9999.0, np.float32))), {"ge": -20, "le": 55}),
        (pa.array(np.append(RANDOM.integers(0, 100, 3000), [-999] * 9)), {"ge": 0, "le": 110}),
    ],
)
def test_what_looks_like_a_fault_is_not_allowed(column: pa.Array, constraints: dict[str, Any]) -> None:
    table = pa.table({"x": column})
    field = datacheck.infer(table).fields["x"].model_dump(exclude_defaults=True)
    assert {key: field.get(key) for key in constraints} == constraints
    loose = datacheck.infer(table, permissive=True)
    assert datacheck.scan(table, loose).ok
    assert not datacheck.scan(table, datacheck.infer(table)).ok


def test_many_nan_are_meant_and_those_of_pandas_are_nulls() -> None:
    assert datacheck.infer({"x": np.append(USUAL[:80], [np.nan] * 20)}).fields["x"].allow_nan
    assert not datacheck.infer({"x": np.append(USUAL, np.nan)}).fields["x"].allow_nan
    field = datacheck.infer(pd.DataFrame({"x": np.append(USUAL, np.nan)})).fields["x"]
    assert (field.allow_nan, field.nullable) == (True, True)


def test_a_heavy_tail_is_no_fault() -> None:
    values = RANDOM.pareto(0.7, 20_000)
    assert datacheck.scan({"x": values}, datacheck.infer({"x": values})).ok


@pytest.mark.parametrize(
    ("column", "remark"),
    [
        (pa.array([0.0, *USUAL.tolist()[:99]]), "1 zero (1 %)"),
        (pa.array(USUAL), "quantiles 1 % "),
        (pa.array(np.append(USUAL, np.full(30, -999.99, np.float32))), "-999.99 occurs 30 times: a sentinel?"),
        (pa.array(np.repeat([-1.0, 0.0, 1.0], 40)), "only 3 different values: -1 (40), 0 (40), 1 (40)"),
        (pa.array([20.0] * 50), "one value only"),
        (pa.array(["a"] * 100 + ["", "  "]), "1 empty; 1 blank"),
        (pa.array(["fridge"] * 100 + ["fridge "]), "'fridge ' once, a variant of 'fridge'?"),
        (pa.array(["fridge"] * 200 + ["oven"] * 2), "'oven' twice"),
        (pa.array([0] * 200 + [7]), "7 once"),
        (pa.array(range(100)), "uint8 would hold them"),
        (pa.array(np.linspace(-32760, 32767, 300).astype(np.int16)), "they reach the limits of int16: larger ones may"),
        (pa.array(np.arange(100) * 1.0), "all are integers"),
    ],
)
def test_comments_tell_what_a_person_wants_to_know(column: pa.Array, remark: str) -> None:
    assert remark in infer_with_notes(pa.table({"x": column})).notes["x"]


@pytest.mark.slow
def test_the_command_writes_the_schema_and_shows_the_list(tmp_path: Path) -> None:
    data = write_table(tmp_path / "a.parquet", {"x": np.append(USUAL, np.nan), "k": np.zeros(2001)})
    done = run_command("schema", "infer", data, "-o", tmp_path / "s.yaml")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[2] == "What looks wrong in the data (1 error, 1 note):"
    assert lines[3].startswith("  DC101 1 of 2,001 values are NaN in 'x' (")
    assert lines[4].startswith("  DC504 info: all 2,001 values in 'k' are 0. As a rule: min_distinct: 2 (")
    done = run_command("schema", "infer", data, "--permissive")
    assert "allow_nan: true" in done.stdout
    assert "DC504" not in done.stdout
    assert "DC504 info" in done.stderr


def test_how_files_differ_is_listed(tmp_path: Path) -> None:
    for number in range(3):
        column = pa.array([1, 2], pa.int64() if number else pa.int32())
        write_table(tmp_path / f"{number}.parquet", {"x": column})
    (finding,) = infer_with_notes(tmp_path, with_list=True).listed
    assert finding.message.startswith("'x' has different dtypes in 3 files: int32 in 1: '0.parquet'")


@pytest.mark.slow
def test_values_that_are_allowed_because_they_are_frequent_are_named(tmp_path: Path) -> None:
    x = [np.inf if row % 5 == 0 else float(row) for row in range(100)]
    write_table(tmp_path / "data" / "a.parquet", {"x": x, "y": [1.0, np.nan] + [2.0] * 98})
    sentence = "NaN or infinities are allowed where more than 5 % are, in 'x': remove allow_nan and allow_inf"
    for command in (("schema", "infer", "data", "-o", "s.yaml"), ("init", "data", "-o", "project")):
        assert sentence in run_command(*command, cwd=tmp_path).stdout
    for file in ("s.yaml", "project/schema.yaml"):
        assert f"# {sentence}" in (tmp_path / file).read_text()
    done = run_command("schema", "infer", "data", "-o", "p.yaml", "--permissive", cwd=tmp_path)
    assert "more than 5 %" not in done.stdout + (tmp_path / "p.yaml").read_text()
