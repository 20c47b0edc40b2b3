"""Comparing two datasets: leaks, drift, rates, categories, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import run_command, write_table

import datacheck
from datacheck import Report, Schema, Thresholds
from datacheck.errors import ConfigurationError, UsageError
from datacheck.findings import Finding, Severity
from datacheck.profile.compare.thresholds import read_thresholds

pytest.importorskip("scipy")


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def people(num_rows: int, seed: int, **columns: Any) -> dict[str, Any]:
    """A table without repeated rows."""
    source = random(seed)
    return {
        "person": source.permutation(num_rows) + seed * 10**6,
        "height": source.standard_normal(num_rows).astype(np.float32),
        "town": source.choice(["A", "B", "C"], num_rows),
        **columns,
    }


def codes(report: Report) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.field) for finding in report.findings]


def only(report: Report, code: str) -> Finding:
    (found,) = [finding for finding in report.findings if finding.code == code]
    return found


def arrow(columns: dict[str, Any]) -> pa.Table:
    return pa.table(columns)


def test_similar_datasets_have_no_findings(tmp_path: Path) -> None:
    train = write_table(tmp_path / "train.parquet", people(5000, 1), 700)
    test = write_table(tmp_path / "test.parquet", people(2000, 2), 300)
    report = datacheck.compare(train, test)
    assert codes(report) == [("DC312", "person")]
    assert datacheck.compare(train, test, thresholds=Thresholds(exclude=("person",))).findings == ()
    # A key identifies rows, so its distribution is not compared.
    assert datacheck.compare(train, test, key="person").findings == ()
    assert codes(datacheck.compare(train, test, key="person,town")) == [("DC312", "person")]
    assert (report.num_files, report.num_rows) == (2, 7000)


# Leaks


@pytest.mark.parametrize("row_group_size", [50, 100_000])
def test_leaked_rows_are_located_in_both_datasets(tmp_path: Path, row_group_size: int) -> None:
    train, test = people(1000, 1), people(200, 2)
    for name in train:
        test[name][[7, 120]] = train[name][[950, 3]]
    write_table(
        tmp_path / "train" / "a.parquet", {name: values[:500] for name, values in train.items()}, row_group_size
    )
    write_table(
        tmp_path / "train" / "b.parquet", {name: values[500:] for name, values in train.items()}, row_group_size
    )
    write_table(tmp_path / "test.parquet", test, row_group_size)
    found = only(datacheck.compare(tmp_path / "train", tmp_path / "test.parquet"), "DC310")
    assert (found.num_violations, found.num_checked) == (2, 200)
    assert [example.row for example in found.examples] == [7, 120]
    assert [example.row_group for example in found.examples] == [7 // row_group_size, 120 // row_group_size]
    assert found.detail == (
        f"row 7 is row 450 of {tmp_path}/train/b.parquet; row 120 is row 3 of {tmp_path}/train/a.parquet"
    )
    assert found.is_error


def test_leaked_keys_are_found_even_if_the_rows_differ(tmp_path: Path) -> None:
    train, test = people(1000, 1), people(200, 2)
    test["person"][[5, 6]] = train["person"][[10, 11]]
    first, second = write_table(tmp_path / "a.parquet", train), write_table(tmp_path / "b.parquet", test)
    report = datacheck.compare(first, second, key=["person", "person,town"], drift=False)
    by_key = {finding.field: finding for finding in report.findings}
    assert by_key["person"].num_violations == 2
    assert by_key["person"].detail.startswith(f"row 5 matches row 10 of {first}")
    same_town = int((test["town"][[5, 6]] == train["town"][[10, 11]]).sum())
    assert ("person, town" in by_key) is (same_town > 0)


def test_unique_fields_of_a_schema_are_keys_unless_others_are_named() -> None:
    train, test = arrow(people(100, 1)), arrow({**people(50, 2), "person": people(100, 1)["person"][:50]})
    schema = Schema.model_validate({"fields": {"person": {"unique": True}}})
    fields = [field for code, field in codes(datacheck.compare(train, test, schema=schema)) if code == "DC311"]
    assert fields == ["person"]
    named = datacheck.compare(train, test, schema=schema, key="town", drift=False)
    assert [field for code, field in codes(named) if code == "DC311"] == ["town"]


@pytest.mark.parametrize("in_memory", [False, True])
def test_an_unknown_key_column_is_an_error(tmp_path: Path, in_memory: bool) -> None:
    table = arrow(people(10, 1))
    path = write_table(tmp_path / "x.parquet", people(10, 1))
    data, place = (table, "<memory>") if in_memory else (path, str(path))
    with pytest.raises(UsageError, match=rf"key column 'persn' is not in {place}; did you mean 'person'\?"):
        datacheck.compare(data, data, key="person,persn", drift=False)
    with pytest.raises(UsageError, match=r"'zzz' is not in .*; its columns are 'height', 'person', 'town'"):
        datacheck.compare(data, data, key="zzz", drift=False)


def test_a_reader_that_can_be_read_only_once_is_compared() -> None:
    wide = np.zeros((50, 400), np.float32)
    wide[:, 0] = np.arange(50)
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(wide.reshape(-1)), 400), "n": range(50)})
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    assert only(datacheck.compare(table, reader, drift=False), "DC310").num_violations == 50


def test_rows_are_compared_by_their_common_columns() -> None:
    train, test = people(300, 1), people(100, 2)
    for name in train:
        test[name][3] = train[name][200]
    report = datacheck.compare(arrow({**train, "label": [1] * 300}), arrow(test), drift=False)
    assert only(report, "DC310").num_violations == 1
    assert ("DC001", "label") in codes(report)
    assert "only one of the datasets has 'label'" in only(report, "DC315").detail


@pytest.mark.parametrize("name", ["id", "position"])
def test_row_numbers_hide_leaks_also_beside_large_random_integers(name: str) -> None:
    source = random(1)
    train = {name: np.arange(500), "x": source.standard_normal(500), "seed": source.integers(0, 10**9, 500)}
    other = {name: np.arange(500, 600), "x": source.standard_normal(100), "seed": source.integers(0, 10**9, 100)}
    for column in ("x", "seed"):
        other[column][:40] = train[column][:40]
    found = only(datacheck.compare(arrow(train), arrow(other), drift=False), "DC310")
    assert (found.num_violations, found.severity) == (40, Severity.WARNING)
    assert f"compare with --row-exclude {name}" in found.detail


def test_row_numbers_hide_leaks_until_they_are_excluded() -> None:
    people_twice = people(300, 1)
    train, test = arrow({**people_twice, "n": range(300)}), arrow({**people_twice, "n": range(300, 600)})
    assert only(datacheck.compare(train, test, drift=False), "DC310").severity is Severity.WARNING
    report = datacheck.compare(train, test, thresholds=Thresholds(row_exclude=("n",)), drift=False)
    assert only(report, "DC310").num_violations == 300
    assert only(report, "DC310").severity is Severity.ERROR


@pytest.mark.parametrize("width", [2, 30, 500])
@pytest.mark.parametrize("blank", [False, True])
def test_rows_of_arrays_leak_too(tmp_path: Path, width: int, blank: bool) -> None:
    """Even if the few values that are hashed first are the same in all rows."""
    train = random(1).standard_normal((400, width)).astype(np.float32)
    test = random(2).standard_normal((100, width)).astype(np.float32)
    if blank:
        train[:, 1:] = test[:, 1:] = 0
    test[9] = train[333]
    np.save(tmp_path / "train.npy", train)
    np.save(tmp_path / "test.npy", test)
    report = datacheck.compare(tmp_path / "train.npy", tmp_path / "test.npy")
    found = only(report, "DC310")
    assert (found.num_violations, found.examples[0].row) == (1, 9)
    assert "row 9 is row 333" in found.detail


def test_arrays_of_several_files_are_compared_by_name(tmp_path: Path) -> None:
    for split, seed, shift in (("train", 1, 0.0), ("test", 2, 9.0)):
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "inputs.npy", random(seed).standard_normal((500, 4)))
        np.save(tmp_path / split / "targets.npy", random(seed).standard_normal(500) + shift)
    report = datacheck.compare(tmp_path / "train", tmp_path / "test")
    assert [(code, field) for code, field in codes(report) if code != "DC315"] == [("DC312", "targets")]
    # A repeated target is not a leak.
    assert "each row is one number" in only(report, "DC315").detail


def test_arrays_that_are_not_one_table_are_reported(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(20.0), y=np.arange(30.0))
    report = datacheck.compare(tmp_path / "a.npz", tmp_path / "a.npz")
    assert {finding.detail for finding in report.findings} == {"its arrays are not rows of one table"}


# Fields


def fields(train: Any, other: Any, **options: Any) -> list[Finding]:
    """The findings on a column of two datasets without common rows."""
    first, second = (
        pa.table({"x": column, "n": random(seed).standard_normal(len(column))})
        for seed, column in enumerate((train, other))
    )
    thresholds = Thresholds(**options.pop("limits", {}))
    found = datacheck.compare(first, second, thresholds=thresholds, **options).findings
    return [finding for finding in found if finding.code != "DC330"]  # the times of random samples overlap


def test_shifted_numbers_are_drift() -> None:
    train = random(1).standard_normal(5000)
    (found,) = fields(train, random(2).standard_normal(3000) + 1)
    assert found.code == "DC312"
    assert found.message.startswith("'x' has drifted from the training data: PSI ")
    assert fields(train, random(2).standard_normal(3000) + 0.1) == []
    assert [found.code for found in fields(train, random(2).standard_normal(3000) + 0.1, limits={"ks": 0.03})] == [
        "DC312"
    ]
    assert fields(train, random(2).standard_normal(3000) + 1, drift=False) == []


@pytest.mark.parametrize(
    "kind",
    [pa.int32(), pa.uint8(), pa.float16(), pa.duration("s"), pa.timestamp("ns"), pa.date32(), pa.decimal128(9, 2)],
)
def test_every_kind_of_number_and_time_can_drift(kind: pa.DataType) -> None:
    low, high = pa.array(random(1).integers(0, 50, 500)), pa.array(random(2).integers(40, 90, 500))
    step = pa.int32() if kind == pa.date32() else pa.int64()

    def made(values: pa.Array) -> pa.Array:
        return (
            values.cast(step).cast(kind)
            if pa.types.is_temporal(kind)
            else values.cast(pa.float64()).cast(kind, safe=False)
        )

    assert [found.code for found in fields(made(low), made(high))] == ["DC312"]
    assert fields(made(low), made(low)) == []


def test_medians_of_times_are_formatted_as_times() -> None:
    train, other = (pa.array([day] * 500, pa.int32()).cast(pa.date32()) for day in (0, 366))
    (found,) = fields(train, other)
    assert "the median is 1971-01-02T00:00:00, in the training data 1970-01-01T00:00:00" in found.detail


@pytest.mark.parametrize(("rule", "value"), [("null", None), ("NaN", np.nan), ("inf", np.inf), ("inf", -np.inf)])
def test_a_changed_rate_is_reported(rule: str, value: Any) -> None:
    whole = pa.array(random(1).standard_normal(2000))
    gaps = pa.array([value if number % 10 == 0 else float(number % 7) for number in range(2000)])
    found = [finding for finding in fields(whole, gaps) if finding.code == "DC313"]
    assert [(finding.rule, finding.num_violations, finding.num_checked) for finding in found] == [(rule, 200, 2000)]
    assert found[0].detail == "0 % (0 of 2,000) in the training data to 10 % (200 of 2,000)"
    assert [finding for finding in fields(whole, gaps, limits={"rate": 0.2}) if finding.code == "DC313"] == []


def test_one_null_in_a_few_rows_does_not_change_a_rate() -> None:
    assert fields(pa.array([1.0] * 8), pa.array([1.0] * 7 + [None])) == []


def test_new_categories_are_located(tmp_path: Path) -> None:
    train = write_table(tmp_path / "train.parquet", {"n": range(300), "town": ["A", "B", None] * 100})
    towns = ["A", "B"] * 50
    towns[44], towns[71], towns[93] = "C", "D\x1b", "C"
    test = write_table(tmp_path / "test.parquet", {"n": range(1000, 1100), "town": towns}, 30)
    found = only(datacheck.compare(train, test), "DC314")
    assert (found.num_violations, found.num_checked) == (3, 100)
    assert [(example.row, example.row_group, example.value) for example in found.examples[:2]] == [
        (44, 1, "C"),
        (71, 2, "D\\x1b"),
    ]
    assert "\x1b" not in found.message


@pytest.mark.parametrize(
    "make",
    [lambda values: pa.array([[value] for value in values]), lambda values: pa.array(values).dictionary_encode()],
)
def test_new_categories_are_found_in_lists_and_dictionaries(make: Any) -> None:
    (found,) = fields(make(["a", "b"] * 50), make(["a", "b"] * 49 + ["a", "c"]))
    assert (found.code, found.num_violations, found.examples[0].row) == ("DC314", 1, 99)


def test_a_changed_distribution_of_categories_is_drift() -> None:
    (found,) = fields(pa.array(["a", "b"] * 300), pa.array(["a"] * 580 + ["b"] * 20))
    assert found.code == "DC312"
    assert (
        found.detail == ("Jensen-Shannon distance 0.45 (limit 0.2); 96.7 % are 'a', in the training data 50 %")
        or "are 'a'" in found.detail
        or "are 'b'" in found.detail
    )
    assert fields(pa.array([True, False] * 300), pa.array([True] * 580 + [False] * 20))[0].code == "DC312"


def test_integers_are_categories_if_the_schema_lists_them() -> None:
    train, other = pa.array([0, 1] * 100 + [2]), pa.array([0, 1] * 99 + [0, 7])
    assert fields(train, other) == []
    schema = Schema.model_validate({"fields": {"x": {"isin": [0, 1]}}})
    (found,) = fields(train, other, schema=schema)
    assert (found.code, found.examples[0].value) == ("DC314", "7")


@pytest.mark.parametrize(
    ("train", "other", "why"),
    [
        (pa.array([f"t{n}" for n in range(5000)]), pa.array(["t1"] * 99), "it has more than 1,000 distinct values"),
        (
            pa.array([f"t{n}" for n in range(50)]),
            pa.array(["t1"] * 99),
            "50 distinct texts among 50 are too many",
        ),
        (pa.array([b"a"] * 50), pa.array([b"b"] * 50), "values of binary have neither an order nor categories"),
        (pa.array([1] * 50), pa.array(["b"] * 50), "its values are of different kinds"),
    ],
)
def test_what_cannot_be_compared_is_reported(train: pa.Array, other: pa.Array, why: str) -> None:
    found = [finding for finding in fields(train, other) if (finding.code, finding.field) == ("DC315", "x")]
    assert [finding.detail.startswith(why) for finding in found] == [True]
    assert not found[0].is_error


def test_too_many_new_categories_are_one_finding() -> None:
    found = fields(pa.array(["a"] * 500), pa.array([f"t{n}" for n in range(5000)]))
    assert ("DC314", "more than 1,000 distinct values, in the training data 1") in [(f.code, f.detail) for f in found]


def test_another_dtype_is_reported_and_its_numbers_are_compared() -> None:
    values = random(1).integers(0, 9, 500)
    (found,) = fields(pa.array(values, pa.int64()), pa.array(values, pa.float32()))
    assert (found.code, found.detail) == ("DC003", "float32, but int64 in the training data")
    assert [f.code for f in fields(pa.array(values, pa.int64()), pa.array(values + 90, pa.float32()))] == [
        "DC003",
        "DC312",
    ]


def test_text_files_have_no_dtypes_to_differ(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "\n".join(f"{n},{n % 3}" for n in range(100)))
    (tmp_path / "b.csv").write_text("x,y\n" + "\n".join(f"{n + 0.5},{n % 3}" for n in range(100)))
    assert datacheck.compare(tmp_path / "a.csv", tmp_path / "b.csv").findings == ()


def test_a_field_of_only_one_dataset_is_reported() -> None:
    report = datacheck.compare(
        {"a": np.arange(9.0), "b": np.arange(9)}, {"a": np.arange(20.0, 29), "c": np.arange(9)}, drift=False
    )
    assert codes(report) == [("DC315", "whole rows"), ("DC001", "b"), ("DC315", "c")]


def test_bfloat16_stored_in_integers_is_compared_by_value() -> None:
    def stored(values: Any) -> Any:
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)

    schema = Schema.model_validate({"fields": {"x": {"dtype": "bfloat16"}}})
    train, other = random(1).standard_normal(1000), random(2).standard_normal(1000)
    other[::4] = np.nan
    found = datacheck.compare({"x": stored(train)}, {"x": stored(other)}, schema=schema).findings
    assert [(finding.code, finding.rule) for finding in found if finding.is_error] == [("DC313", "NaN")]


def test_a_dataset_without_rows_is_reported() -> None:
    none, some = pa.table({"x": pa.array([], pa.float64())}), pa.table({"x": [1.0]})
    for sides in ((none, some), (some, none)):
        report = datacheck.compare(*sides)
        assert ("DC306", None) in codes(report)
        assert report.ok


@pytest.mark.parametrize("key", ["", " , ", ["person", ""], [[]], [5]])
def test_a_key_without_fields_is_an_error(key: Any) -> None:
    data = arrow(people(10, 1))
    with pytest.raises(UsageError, match="names no fields"):
        datacheck.compare(data, data, key=key)
    if isinstance(key, str):
        with pytest.raises(ConfigurationError, match="--key: key: must name a field"):
            read_thresholds({"key": [key]}, "--key")


def test_a_file_that_cannot_be_read_is_a_finding_and_the_rest_is_compared(tmp_path: Path) -> None:
    train, test = people(300, 1), people(100, 1)
    write_table(tmp_path / "train" / "a.parquet", train)
    (tmp_path / "train" / "b.parquet").write_bytes(b"PAR1 nothing")
    write_table(tmp_path / "test.parquet", {name: train[name][:100] for name in test})
    report = datacheck.compare(tmp_path / "train", tmp_path / "test.parquet", drift=False)
    assert codes(report) == [("DC901", None), ("DC310", None)]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_the_report_does_not_depend_on_the_executor(tmp_path: Path, executor: str) -> None:
    for split, seed in (("train", 1), ("test", 2)):
        (tmp_path / split).mkdir()
        for part in range(3):
            table = arrow({**people(20_000, seed * 10 + part), "z": random(part).standard_normal(20_000) + seed})
            pq.write_table(table, tmp_path / split / f"{part}.parquet", row_group_size=7000)
    sides = (tmp_path / "train", tmp_path / "test")
    alone = datacheck.compare(*sides, workers=1)
    together = datacheck.compare(*sides, workers=3, executor=executor)
    assert alone.findings == together.findings
    assert len(alone.findings) >= 2


def test_the_same_data_does_not_drift() -> None:
    data = arrow({"a": random(1).standard_normal(200_000), "b": random(2).integers(0, 9, 200_000)})
    assert codes(datacheck.compare(data, data)) == [("DC310", None)]


# Thresholds and the command


def test_an_invalid_threshold_is_an_error_that_names_its_place() -> None:
    with pytest.raises(ConfigurationError, match=r"datacheck\.yaml: compare: psii: .*did you mean 'psi'"):
        read_thresholds({"psii": 1}, "datacheck.yaml: compare")
    with pytest.raises(ConfigurationError, match=r"--ks: ks"):
        read_thresholds({"ks": 2}, "--ks")
    found = read_thresholds({"key": ["a, b", ["c"]], "row-exclude": "x"}, "")
    assert (found.key, found.row_exclude) == ((("a", "b"), ("c",)), ("x",))


@pytest.mark.slow
def test_options_of_the_command_override_the_configuration(tmp_path: Path) -> None:
    write_table(tmp_path / "train.parquet", people(2000, 1))
    write_table(
        tmp_path / "test.parquet", {**people(1000, 2), "height": random(5).standard_normal(1000, np.float32) + 2}
    )
    plain = run_command("compare", "train.parquet", "test.parquet", cwd=tmp_path)
    assert (plain.returncode, plain.stderr) == (1, "")
    assert "DC312 'height'" in plain.stdout
    (tmp_path / "datacheck.yaml").write_text("compare: {exclude: [person, height]}\n")
    assert run_command("compare", "train.parquet", "test.parquet", cwd=tmp_path).returncode == 0
    options = ("--exclude", "person", "--psi", "50", "--ks", "1", "--format", "json")
    loose = run_command("compare", "train.parquet", "test.parquet", *options, cwd=tmp_path)
    assert loose.returncode == 0
    strict = run_command(
        "compare", "train.parquet", "test.parquet", "--exclude", "person", "--format", "json", cwd=tmp_path
    )
    assert [finding["code"] for finding in json.loads(strict.stdout)["findings"]] == ["DC312"]
    (tmp_path / "datacheck.yaml").write_text("severity: {DC31: warning, DC0: info}\n")
    assert run_command("compare", "train.parquet", "test.parquet", "--no-drift", cwd=tmp_path).returncode == 0
    (tmp_path / "datacheck.yaml").write_text("compare: {psi: -1}\n")
    wrong = run_command("compare", "train.parquet", "test.parquet", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "datacheck.yaml: compare" in wrong.stderr
    assert "psi: must be greater than 0" in wrong.stderr


def test_comparing_needs_another_dataset(tmp_path: Path) -> None:
    data = write_table(tmp_path / "train.parquet", people(10, 1))
    with pytest.raises(UsageError, match="nothing to compare"):
        datacheck.compare(data)


def _save_arrays(folder: Path, **arrays: Any) -> str:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return str(folder)


def _rows(seed: int, shift: float = 0) -> Any:
    return np.random.default_rng(seed).normal(shift, 1, (200, 3))


def test_numbered_files_are_parts_of_one_array(tmp_path: Path) -> None:
    train = _save_arrays(tmp_path / "train", **{f"{number:03}": _rows(number) for number in range(4)})
    test = _save_arrays(tmp_path / "test", **{f"{number:03}": _rows(number) for number in (9, 3)})
    (leak,) = datacheck.compare(train, test).findings
    assert (leak.code, leak.num_violations, leak.uri) == ("DC310", 200, f"{test}/003.npy")
    assert leak.examples[0].value == f"row 0 of {train}/003.npy"
    shifted = _save_arrays(tmp_path / "shifted", part_7=_rows(7, shift=5), part_8=_rows(8, shift=5))
    assert {(one.code, one.field) for one in datacheck.compare(train, shifted).findings} == {("DC312", None)}


def test_arrays_are_named_without_the_split_that_their_file_names(tmp_path: Path) -> None:
    train = _save_arrays(tmp_path / "a", X_train=_rows(1), y_train=np.arange(200) % 3)
    test = _save_arrays(tmp_path / "b", X_test=_rows(2), y_test=np.arange(200) % 3 + (np.arange(200) == 17) * 9)
    found = {(one.code, one.field) for one in datacheck.compare(train, test).findings if one.severity is Severity.ERROR}
    assert found == {("DC314", "y")}
    assert not datacheck.compare(train, test, schema={"version": 1, "fields": {"X_train": {}, "y_train": {}}}).ok


def test_rows_of_several_arrays_leak_file_by_file(tmp_path: Path) -> None:
    ids = np.stack([np.arange(200), np.arange(200) % 7], axis=1)
    train = _save_arrays(tmp_path / "train", x1=_rows(1), x2=ids)
    other = _save_arrays(tmp_path / "other", x1=np.concatenate([_rows(2), _rows(1)[:50]]), x2=ids + 1000)
    (leak,) = (one for one in datacheck.compare(train, other, drift=False).findings if one.code == "DC310")
    assert (leak.num_violations, leak.num_checked, leak.severity) == (50, 250, Severity.ERROR)
    assert leak.uri == f"{other}/x1.npy"
