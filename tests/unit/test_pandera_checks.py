"""Pandera's checks and schemas over batches."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pandera.pandas as pandera
import pyarrow as pa
import pytest

import datacheck
from datacheck.batch import Batch, Column
from datacheck.checks.base import Outcome
from datacheck.checks.row_checks import build_file_checks, build_row_checks
from datacheck.cleaning.plan import parse_plan
from datacheck.errors import SchemaError
from datacheck.findings import Finding, Severity, merge_findings
from datacheck.jobs.units.row_labels import RowLabels, label_rows
from datacheck.schema import Field, Schema
from datacheck.storage.documents import load_schema

NAN, INF = float("nan"), float("inf")
CHECK = pandera.Check


def run(schema: Schema, batch: Batch) -> list[Outcome]:
    checks = [*build_row_checks(schema, [name or "" for name in batch.names]), *build_file_checks(schema)]
    return [outcome for check in checks for outcome in check.run(batch)]


def run_arrow(schema: Any, row_start: int = 0, **columns: Any) -> dict[tuple[str | None, str | None], Outcome]:
    batch = Batch.from_arrow(pa.record_batch({name: pa.array(data) for name, data in columns.items()}), row_start)
    outcomes = run(load_schema(schema), batch)
    found = {(outcome.field, outcome.rule): outcome for outcome in outcomes}
    assert len(found) == len(outcomes)
    return found


def rows(outcome: Outcome) -> list[int]:
    return [] if outcome.rows is None else outcome.rows.tolist()


@pytest.mark.parametrize(
    ("check", "values", "violations"),
    [
        ({"notin": [1]}, pa.array([1, 2, None, 1]), [0, 3]),
        ({"ne": 1}, pa.array([1, 2]), [0]),
        ({"eq": 1}, pa.array([1.0, NAN, 2.0]), [2]),
        ({"in_range": [0, 1]}, pa.array([0.0, 1.0, 1.5, NAN, INF, None]), [2, 4]),
        ({"in_range": {"min_value": 0, "max_value": 1, "include_max": False}}, pa.array([0.0, 1.0]), [1]),
        ({"in_range": [0, 1, False]}, pa.array([0, 1]), [0]),
        ({"str_length": [1, 2]}, pa.array(["", "a", "abc", None]), [0, 2]),
        ({"str_length": 2}, pa.array(["a", "abc"]), [0]),
        ({"str_length": {"exact_value": 2}}, pa.array(["a", "ab"]), [0]),
        ({"str_startswith": "a"}, pa.array(["ab", "b"]).dictionary_encode(), [1]),
        ({"str_contains": "b+"}, pa.array(["ab", "c"], pa.large_string()), [1]),
        ({"str_endswith": "b"}, pa.array(["ab", "c"]), [1]),
        ({"notin": ["a"]}, pa.array(["a", "c"]), [0]),
        ({"gt": 0}, pa.array([True, False]), [1]),
        ({"notin": [2]}, pa.array([1, 2, 3], pa.uint64())[1:], [0]),
        ({"lt": 2}, pa.array([1, 3], pa.float16()), [1]),
    ],
    ids=str,
)
def test_a_check_by_name_checks_the_present_values(
    check: dict[str, Any], values: pa.Array, violations: list[int]
) -> None:
    ((_, outcome),) = run_arrow(Schema(fields={"a": Field(nullable=True, checks=check)}), a=values).items()
    assert (outcome.code, outcome.field, rows(outcome)) == ("DC207", "a", violations)
    assert outcome.num_violations == len(violations)
    present = [value for value in values.to_pylist() if value is not None and value == value]
    assert outcome.num_checked == len(present)


def test_a_check_by_name_says_which_and_where() -> None:
    schema = Schema(fields={"a": Field(checks={"notin": [1]})})
    ((_, outcome),) = run_arrow(schema, row_start=100, a=pa.array([5, 1], pa.int64())).items()
    assert outcome.rule == "notin(forbidden_values=[1])"
    assert [(example.row, example.value) for example in outcome.examples] == [(101, "1")]
    message = outcome.to_finding("f.parquet").message
    assert message == "1 of 2 values in 'a' fail notin(forbidden_values=[1]): found 1 (f.parquet, row 101)"


def test_a_check_reaches_the_values_inside_lists_and_structs() -> None:
    schema = Schema(fields={"l": Field(nullable=True, checks={"notin": [1]}), "s.x": Field(checks={"lt": 2})})
    lists = pa.array([[1, 2], None, [3, 1]])
    structs = pa.array([{"x": 1}, {"x": 5}, None])
    found = run_arrow(schema, l=lists, s=structs)
    inside = found["l[]", "notin(forbidden_values=[1])"]
    assert (rows(inside), inside.num_violations, inside.num_checked) == ([0, 2], 2, 4)
    assert [(example.row, example.index) for example in inside.examples] == [(0, (0,)), (2, (1,))]
    assert rows(found["s.x", "less_than(max_value=2)"]) == [1]


@pytest.mark.parametrize(
    ("array", "field", "violations"),
    [
        (np.array([[0, 1], [7, 0]]), Field(checks={"ne": 7}), [1]),
        (np.asfortranarray([[0, 1, 0], [7, 0, 7]]), Field(checks={"ne": 7}), [1]),
        (np.array([1, 7], ">i4"), Field(checks={"ne": 7}), [1]),
        (np.array([1, 7], ml_dtypes.bfloat16), Field(checks={"ne": 7}), [1]),
        (np.array([1, 7], ml_dtypes.bfloat16).view(np.uint16), Field(dtype="bfloat16", checks={"ne": 7}), [1]),
        (np.ma.masked_array([7, 7], [True, False]), Field(nullable=True, checks={"ne": 7}), [1]),
        (np.array([INF, 7, -INF]), Field(allow_inf=True, checks={"in_range": [0, 1]}), [1]),
    ],
    ids=str,
)
def test_a_check_by_name_over_numpy_columns(array: Any, field: Field, violations: list[int]) -> None:
    batch = Batch((Column(None, array),), len(array))
    (outcome,) = run(Schema(fields={None: field}), batch)
    assert (outcome.code, outcome.field, rows(outcome)) == ("DC207", None, violations)


def test_a_check_that_does_not_fit_the_dtype_is_a_finding() -> None:
    ((_, outcome),) = run_arrow(Schema(fields={"a": Field(checks={"str_length": 3})}), a=[1, 2]).items()
    assert (outcome.code, outcome.num_violations, outcome.rows) == ("DC207", 2, None)
    assert outcome.detail.startswith("it raised ")


def test_a_check_with_impossible_arguments_is_a_schema_error() -> None:
    with pytest.raises(SchemaError, match=r"fields\.a\.checks\.in_range"):
        build_row_checks(Schema(fields={"a": Field(checks={"in_range": [5, 1]})}), ["a"])


def test_a_check_of_a_missing_field_is_left_to_the_structure_check() -> None:
    schema = Schema(
        fields={"a": Field(checks={"ne": 1}), "a.b": Field(checks={"ne": 1}), "ab": Field(checks={"ne": 1})}
    )
    assert len(build_row_checks(schema, ["a"])) == 2


def test_a_registered_check_is_found_by_its_name() -> None:
    import pandera.extensions as extensions

    @extensions.register_check_method(statistics=["divisor"], supported_types=None)
    def is_multiple_of(series: Any, *, divisor: int) -> Any:
        return series % divisor == 0

    try:
        schema = Schema(fields={"a": Field(checks={"is_multiple_of": {"divisor": 2}})})
        assert rows(run_arrow(schema, a=[1, 2])["a", "is_multiple_of(divisor=2)"]) == [0]
    finally:
        del CHECK.REGISTERED_CUSTOM_CHECKS["is_multiple_of"]


def frame_schema(*checks: Any, **columns: Any) -> Schema:
    return load_schema(pandera.DataFrameSchema(columns, checks=list(checks)))


def column(*checks: Any, **words: Any) -> Any:
    return pandera.Column(checks=list(checks), **{"nullable": True, **words})


def is_even(series: Any) -> Any:
    return series % 2 == 0


@pytest.mark.parametrize(
    ("check", "violations", "num_checked"),
    [
        (CHECK(is_even), [1, 3], 3),
        (CHECK(lambda value: value > 2, element_wise=True), [0, 1], 3),
        (CHECK(is_even, n_failure_cases=1), [1, 3], 3),
        (CHECK(is_even, raise_warning=True), [1, 3], 3),
        (CHECK.ge(2, ignore_na=False), [1], 4),
        (CHECK(lambda series: series.notna(), ignore_na=False), [2], 4),
        (CHECK(lambda series: series.notna().tolist(), ignore_na=False), None, 4),
        (CHECK(lambda series: series.to_numpy() > 2), None, 3),
    ],
)
def test_a_custom_check_marks_its_rows(check: Any, violations: list[int] | None, num_checked: int) -> None:
    ((_, outcome),) = run_arrow(frame_schema(a=column(check)), row_start=10, a=[2, 1, None, 3]).items()
    assert (outcome.code, outcome.field, outcome.num_checked) == ("DC303", "a", num_checked)
    if violations is None:
        assert "it returned" in outcome.detail
        assert outcome.num_violations == num_checked
        return
    assert rows(outcome) == violations
    assert [example.row for example in outcome.examples] == [10 + row for row in violations]


def test_a_check_with_raise_warning_warns_and_removes_no_row() -> None:
    schema = frame_schema(a=column(CHECK(is_even, raise_warning=True), CHECK(lambda series: 1 / 0, raise_warning=True)))
    report = datacheck.scan(pa.table({"a": [1, 2]}), schema)
    assert [(finding.severity, finding.num_violations) for finding in report.findings] == [("warning", 1), ("error", 2)]
    warned = run_arrow(frame_schema(a=column(CHECK(is_even, raise_warning=True))), a=[1, 2])
    labels = RowLabels(2)
    label_rows(labels, warned.values(), parse_plan([{"action": "drop_row"}]))
    assert labels.kept.all()


def test_a_warning_beside_a_failure_of_one_rule_is_a_failure() -> None:
    warning = Finding("DC303", "a", "x", 1, 2, rule="r", severity=Severity.WARNING)
    for others, severity in (
        ([Finding("DC303", "a", "x", 0, 2, rule="r")], "warning"),
        ([Finding("DC303", "a", "x", 2, 2, rule="r")], "error"),
    ):
        for parts in ([warning, *others], [*others, warning]):
            assert [finding.severity for finding in merge_findings(parts)] == [severity]


def test_a_row_check_tells_nan_from_null() -> None:
    schema = frame_schema(CHECK(lambda frame: frame["a"] < frame["b"], name="order"), a=column(), b=column())
    outcome = run_arrow(schema, a=[1, 1, 1, None], b=[2.0, NAN, None, 2.0])[None, "order"]
    assert rows(outcome) == [1]
    assert (outcome.num_checked, outcome.examples[0].row) == (4, 1)


def test_a_row_check_may_return_a_frame() -> None:
    schema = frame_schema(CHECK(lambda frame: frame > 0, name="positive"), a=column(), b=column())
    assert rows(run_arrow(schema, a=[1, 0, None], b=[1, 1, -1])[None, "positive"]) == [1, 2]


def test_one_result_for_all_values_is_a_finding_that_marks_no_row() -> None:
    schema = frame_schema(
        CHECK(lambda frame: frame["a"].sum() > 100, name="large"),
        CHECK(lambda frame: np.bool_(True), name="fine"),
        a=column(
            CHECK(lambda groups: groups[True].max() < 0, groupby=lambda frame: frame.groupby(frame["a"] > 0), name="g")
        ),
    )
    found = run_arrow(schema, a=[1, -1])
    assert (found[None, "large"].num_violations, found[None, "large"].rows) == (2, None)
    assert found[None, "large"].detail == "one result for all 2 rows"
    assert found[None, "fine"].num_violations == 0
    assert found["a", "g"].num_violations == 2


def test_a_check_that_raises_is_a_finding_and_the_others_still_run() -> None:
    schema = frame_schema(
        CHECK(lambda frame: frame["nowhere"] > 0, name="lost"),
        a=column(CHECK(lambda series: 1 / 0, name="broken"), CHECK(is_even)),
    )
    found = run_arrow(schema, a=[1, 2])
    assert found["a", "broken"].detail == "it raised ZeroDivisionError: division by zero"
    assert (
        found[None, "lost"]
        .to_finding("f")
        .message.startswith("2 of 2 rows fail lost in the data frame: it raised KeyError")
    )
    assert rows(found["a", "is_even"]) == [0]


def test_checks_with_the_same_name_are_kept_apart() -> None:
    schema = frame_schema(
        a=column(CHECK(lambda s: s > 0), CHECK(lambda s: s > 1), CHECK(lambda s: s > 2, error="small"))
    )
    found = run_arrow(schema, a=[1])
    assert {rule: rows(outcome) for (_, rule), outcome in found.items()} == {
        "a lambda": [],
        "a lambda (2)": [0],
        "small": [0],
    }


def test_clean_rules_are_counted_too() -> None:
    found = run_arrow(frame_schema(a=column(CHECK(is_even))), a=[2, 4])
    assert (found["a", "is_even"].num_checked, found["a", "is_even"].num_violations) == (2, 0)


def test_constraints_of_the_fields_are_not_checked_twice() -> None:
    model = pandera.DataFrameSchema({"a": pandera.Column("float32", [CHECK.ge(0), CHECK(is_even)], nullable=False)})
    found = run_arrow(load_schema(model), a=pa.array([-1, None, 2], pa.float64()))
    assert list(found) == [("a", "is_even")]


def test_uniqueness_is_never_checked_in_a_batch() -> None:
    model = pandera.DataFrameSchema({"a": column(CHECK(is_even), unique=True)}, unique=["a"], report_duplicates="all")
    schema = load_schema(model)
    assert (schema.fields["a"].unique, schema.unique) == (True, (("a",),))
    assert [outcome.num_violations for outcome in run_arrow(schema, a=[2, 2]).values()] == [0]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2], pa.int64()),
        pa.array([1, None], pa.int64()),
        pa.array([1, None], pa.float32()),
        pa.array(["a", None]),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([True, None]),
        pa.array([1, None], pa.timestamp("us", "UTC")),
        pa.array([[1], None]),
    ],
    ids=lambda values: f"{values.type}-{values.null_count}",
)
def test_a_dtype_that_pandas_would_change_is_no_finding(values: pa.Array) -> None:
    names = {"int64": int, "float": "float32", "string": str, "bool": bool}
    dtype = names.get(str(values.type))
    model = pandera.DataFrameSchema({"a": pandera.Column(dtype, CHECK(lambda s: s == s), nullable=True)})
    assert all(outcome.num_violations == 0 for outcome in run_arrow(load_schema(model), a=values).values())


def test_pandera_checks_what_has_no_constraint() -> None:
    model = pandera.DataFrameSchema(
        {
            "when": pandera.Column(pandera.DateTime, nullable=True),
            "x_.*": pandera.Column("float32", CHECK.ge(0), regex=True),
            "b": pandera.Column(required=False),
            "a": pandera.Column(required=False),
        },
        ordered=True,
    )
    good = {"when": pa.array([1, None], pa.timestamp("ms")), "x_1": pa.array([1, 2], pa.float32())}
    found = run_arrow(load_schema(model), **good)
    assert all(outcome.num_violations == 0 for outcome in found.values())
    bad = {"when": ["no", "time"], "x_1": pa.array([-1, 2], pa.float32()), "x_2": pa.array([1, 2], pa.float64())}
    found = run_arrow(load_schema(model), **bad)
    broken = {key: outcome for key, outcome in found.items() if outcome.num_violations}
    assert {key[0] for key in broken} == {"when", "x_1", "x_2"}
    assert rows(found["x_1", "greater_than_or_equal_to(min_value=0)"]) == [0]


def test_nulls_that_only_pandera_refuses_mark_their_rows() -> None:
    model = pandera.DataFrameSchema({"x": pandera.Column(regex=True)})
    found = run_arrow(load_schema(model), x=[1.0, None])
    (outcome,) = [outcome for outcome in found.values() if outcome.num_violations]
    assert (outcome.field, rows(outcome)) == ("x", [1])


def test_parsers_run_before_the_checks() -> None:
    model = pandera.DataFrameSchema(
        {"a": pandera.Column(int, CHECK(is_even), parsers=pandera.Parser(lambda series: series * 2))}
    )
    assert all(outcome.num_violations == 0 for outcome in run_arrow(load_schema(model), a=[1, 3]).values())
    model = pandera.DataFrameSchema(
        {"b": pandera.Column(int, CHECK.ge(2))}, parsers=pandera.Parser(lambda frame: frame.assign(b=frame["a"] + 1))
    )
    found = run_arrow(load_schema(model), a=[0, 1])
    assert rows(found["b", "greater_than_or_equal_to(min_value=2)"]) == [0]


def test_a_parser_that_raises_is_a_finding() -> None:
    model = pandera.DataFrameSchema({"a": pandera.Column()}, parsers=pandera.Parser(lambda frame: 1 / 0))
    found = run_arrow(load_schema(model), a=[0, 1])
    assert any("ZeroDivisionError" in outcome.detail for outcome in found.values() if outcome.num_violations)


def test_checks_run_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from pandera.config import config_context

    model = pandera.DataFrameSchema({"x": pandera.Column("float32", regex=True)})
    with config_context(validation_enabled=False):
        found = run_arrow(load_schema(model), x=[1, 2])
    assert any(outcome.num_violations for outcome in found.values())


def test_numpy_columns_in_a_pandera_schema() -> None:
    schema = frame_schema(CHECK(lambda frame: frame["x"] > frame["m"], name="r"), x=column(CHECK(is_even)), m=column())
    big_endian = np.array([2, 1], ">i4")
    masked = np.ma.masked_array([9, 9], [True, False])
    batch = Batch((Column("x", big_endian), Column("m", masked), Column("image", np.zeros((2, 3)))), 2)
    found = {outcome.rule: rows(outcome) for outcome in run(schema, batch)}
    assert found == {"is_even": [1], "r": [1]}


def test_a_reference_in_a_schema_file_is_imported_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "checked_models.py").write_text(
        "import pandera.pandas as pa\n"
        "class Model(pa.DataFrameModel):\n"
        "    a: int = pa.Field(ge=0)\n"
        "    @pa.check('a')\n"
        "    def small(cls, series):\n        return series < 5\n"
        "    @pa.dataframe_check\n"
        "    def rows(cls, frame):\n        return frame['a'] != 3\n"
    )
    (tmp_path / "s.yaml").write_text("pandera: checked_models:Model\nfields: {a: {ge: 1}}")
    for reference in ("checked_models:Model", "s.yaml"):
        schema = load_schema(reference)
        assert schema.pandera == "checked_models:Model"
        found = run_arrow(schema, a=[9, 3, 0])
        assert rows(found["a", "small"]) == [0]
        assert rows(found[None, "rows"]) == [1]
    assert found["a", "greater_than_or_equal_to(min_value=0)"].num_violations == 0


def test_values_that_pandas_cannot_represent_are_a_finding() -> None:
    far = pa.array([2**31 - 1, 0], pa.date32())
    found = run_arrow(frame_schema(CHECK(lambda frame: frame["a"] > 0, name="r"), a=column()), a=[1, 2], b=far)
    (outcome,) = found.values()
    assert (outcome.num_violations, outcome.detail[:9]) == (2, "it raised")
    ((_, outcome),) = run_arrow(Schema(fields={"b": Field(checks={"ne": 1})}), b=far).items()
    assert (outcome.num_violations, outcome.detail[:9]) == (2, "it raised")


def test_an_empty_batch_raises_nothing() -> None:
    schema = frame_schema(CHECK(lambda frame: frame["a"] > 0, name="r"), a=column(CHECK(is_even)))
    found = run_arrow(schema, a=pa.array([], pa.int64()))
    assert [(outcome.num_checked, outcome.num_violations) for outcome in found.values()] == [(0, 0), (0, 0)]
