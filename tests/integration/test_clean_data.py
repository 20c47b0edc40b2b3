"""Cleaning data in memory: what a run does to the same rows in a file, in the type that the data had."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck import FindingsError, clean_data
from datacheck.errors import CleaningError, PipelineError, UsageError

NAN, INF = np.nan, np.inf
MEAN = [{"action": "impute", "strategy": "mean"}]
ZERO = [{"action": "nan_to_num", "nan": 0}]

numbers = st.lists(st.sampled_from([0.0, 1.5, -2.0, NAN, INF, 1e6]), min_size=1, max_size=12)
rules = st.lists(
    st.sampled_from(
        [
            {"action": "impute", "strategy": "constant", "value": 3, "fields": ["a"]},
            {"action": "nan_to_num", "posinf": 5, "fields": ["a", "b"]},
            {"action": "drop_row", "fields": ["b"], "codes": ["DC101"]},
            {"action": "drop_field", "fields": ["b"]},
            {"action": "clip", "ge": -1, "le": 2, "fields": ["a"]},
            {"action": "quarantine", "fields": ["k"]},
        ]
    ),
    max_size=3,
    unique_by=str,
)


@given(values=numbers, chosen=rules, otherwise=st.sampled_from(["quarantine", "drop_row", "report"]), data=st.data())
@settings(max_examples=25, deadline=None)
def test_memory_and_files_keep_the_same_rows_with_the_same_values(
    values: list[float], chosen: list[dict[str, Any]], otherwise: str, data: st.DataObject, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("run")
    keys = data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)))
    table = pa.table({"a": values, "b": values[::-1], "k": pa.array(keys, pa.int64())})
    schema = {"unique": [["k"]], "fields": {"a": {"le": 1000}, "k": {"ge": 0}}}
    pq.write_table(table, folder / "in.parquet")
    pipeline = {
        "schema": schema,
        "inputs": {"data": "in.parquet"},
        "clean": chosen,
        "otherwise": otherwise,
        "output": {"path": "out"},
    }
    (folder / "p.yaml").write_text(yaml.safe_dump(pipeline))
    try:
        report = datacheck.run(folder / "p.yaml")
    except (CleaningError, PipelineError) as error:
        with pytest.raises(type(error)):
            clean_data(table, chosen, schema, otherwise=otherwise)
        return
    cleaned = clean_data(table, chosen, schema, otherwise=otherwise)
    assert cleaned.report.totals() == report.totals()
    outputs = [output for account in report.accounts for output in account.outputs if output["kind"] == "rows"]
    files = [pq.read_table(folder / "out" / output["path"]) for output in outputs]
    written = pa.concat_tables(files) if files else table.slice(0, 0)
    if files:
        assert cleaned.data.schema.names == written.schema.names
        for name in written.schema.names:
            np.testing.assert_array_equal(cleaned.data[name].to_numpy(), written[name].to_numpy())
    assert sorted([*cleaned.rows.tolist(), *cleaned.removed.tolist()]) == list(range(len(values)))
    by_file = {(one.code, one.field, one.num_violations) for one in report.findings}
    assert {(one.code, one.field, one.num_violations) for one in cleaned.report.findings} == by_file


@given(values=numbers, chosen=rules, otherwise=st.sampled_from(["quarantine", "drop_row", "report"]))
@settings(max_examples=30, deadline=None)
def test_every_kind_of_data_is_cleaned_alike(values: list[float], chosen: list[dict[str, Any]], otherwise: str) -> None:
    arrays = {"a": np.array(values), "b": np.array(values[::-1]), "k": np.arange(len(values))}
    kinds: list[Any] = [pa.table(arrays), pd.DataFrame(arrays)]
    with suppress(ImportError):
        import polars

        kinds.append(polars.DataFrame(arrays))
    try:
        expected = clean_data(arrays, chosen, otherwise=otherwise)
    except (CleaningError, PipelineError) as error:
        for kind in kinds:
            with pytest.raises(type(error)):
                clean_data(kind, chosen, otherwise=otherwise)
        return
    for kind in kinds:
        cleaned = clean_data(kind, chosen, otherwise=otherwise)
        assert cleaned.report.totals() == expected.report.totals()
        np.testing.assert_array_equal(cleaned.rows, expected.rows)
        assert cleaned.reasons == expected.reasons
        for name, column in expected.data.items():
            np.testing.assert_array_equal(np.asarray(cleaned.data[name]), column)
            assert np.asarray(cleaned.data[name]).dtype == column.dtype


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a": np.array([1, NAN, 3, 4], np.float32),
            "i": pd.array([1, None, 3, 4], "Int64"),
            "c": pd.Categorical(["x", "y", None, "x"]),
            "t": pd.array(["p", None, "q", "r"], "string"),
            "o": ["p", None, "q", "r"],
            "d": pd.date_range("2024-01-01", periods=4, tz="UTC"),
        },
        index=pd.Index([10, 20, 20, 40], name="id"),
    )


REPAIRS = [
    {"action": "impute", "strategy": "mean", "fields": "a", "indicator": True},
    {"action": "impute", "strategy": "constant", "value": 7, "fields": "i"},
    {"action": "impute", "strategy": "constant", "value": "z", "fields": ["c", "t", "o"]},
]


def test_a_frame_keeps_its_dtypes_its_index_and_its_order() -> None:
    given_frame = frame()
    given_frame.attrs["origin"] = "here"
    before = given_frame.copy()
    cleaned = clean_data(given_frame, REPAIRS).data
    pd.testing.assert_frame_equal(given_frame, before)
    assert cleaned.dtypes.drop(["a_missing", "c"]).equals(before.dtypes.drop("c"))
    assert cleaned.index.equals(before.index)
    assert cleaned.index.name == "id"
    assert cleaned.attrs == {"origin": "here"}
    assert cleaned["a"].tolist() == pytest.approx([1, 8 / 3, 3, 4])
    assert cleaned["a_missing"].tolist() == [False, True, False, False]
    assert cleaned["i"].tolist() == [1, 7, 3, 4]
    assert cleaned["c"].tolist() == ["x", "y", "z", "x"]
    assert list(cleaned["c"].cat.categories) == ["x", "y", "z"]
    assert cleaned["t"].tolist() == cleaned["o"].tolist() == ["p", "z", "q", "r"]


def test_removed_rows_are_given_back_with_their_values_and_reasons() -> None:
    cleaned = clean_data(
        frame(), [{"action": "drop_row", "fields": "i"}], {"fields": {"d": {"ge": "2024-01-02T00:00:00Z"}}}
    )
    assert cleaned.rows.tolist() == [2, 3]
    assert cleaned.removed.tolist() == [0, 1]
    assert cleaned.quarantined.index.tolist() == [10]
    assert [reason.partition(":")[0] for reason in cleaned.reasons] == ["DC201 in 'd'", "DC101 in 'a'; DC104 in 'i'"]
    assert cleaned.report.totals() == {"num_read": 4, "num_kept": 2, "num_dropped": 1, "num_quarantined": 1}
    assert str(cleaned.report).endswith("s)")
    assert "kept 2 of 4 rows" in str(cleaned.report)


def test_two_columns_of_one_name_stay_apart() -> None:
    twice = pd.DataFrame([[1.0, NAN], [NAN, 2.0]], columns=["a", "a"])
    cleaned = clean_data(twice, ZERO, otherwise="report").data
    assert cleaned.to_numpy().tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert list(cleaned.columns) == ["a", "a"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f4", np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_equal_what_numpy_makes_of_them(dtype: Any, order: Any) -> None:
    values = np.array([[1, NAN, 3], [INF, 5, NAN], [7, 8, 9]], dtype, order=order)
    before = values.copy()
    cleaned = clean_data(values, [{"action": "nan_to_num", "nan": 2, "posinf": 4}]).data
    assert cleaned.dtype == values.dtype
    np.testing.assert_array_equal(cleaned, np.nan_to_num(values, nan=2, posinf=4))
    np.testing.assert_array_equal(values, before)
    assert not np.shares_memory(cleaned, values)
    dropped = clean_data(values, otherwise="drop_row")
    np.testing.assert_array_equal(dropped.data, values[np.isfinite(values).all(1)])
    assert not np.shares_memory(clean_data(np.ones((3, 2))).data, values)


def test_a_mapping_of_arrays_is_a_table() -> None:
    data = {"x": np.array([[1.0, NAN], [3, 4]]), "y": np.ma.array([1, 2], mask=[0, 1]), "z": [1, 2]}
    cleaned, report = clean_data(data, [{"action": "drop_row", "fields": "y"}], otherwise="report")
    assert cleaned["x"].shape == (1, 2)
    assert cleaned["z"] == [1]
    assert report.totals()["num_dropped"] == 1


def test_lists_and_lists_of_dicts_stay_what_they_are() -> None:
    lists = {"x": [1.0, NAN, 3.0], "s": ["a", None, "c"]}
    assert clean_data(lists, [MEAN[0] | {"fields": "x"}], otherwise="report").data == {
        "x": [1.0, 2.0, 3.0],
        "s": ["a", None, "c"],
    }
    image = np.array([1.0, 2.0])
    rows = [{"x": 1.0, "image": image}, {"x": NAN, "image": image, "note": "b"}, {"x": INF}]
    rules = [MEAN[0] | {"fields": "x"}, {"action": "drop_field", "fields": "note"}]
    cleaned = clean_data(rows, rules, {"fields": {"x": {}, "image": {"nullable": True}}})
    assert [row["x"] for row in cleaned.data] == [1.0, 1.0]
    assert [list(row) for row in cleaned.data] == [["x", "image"], ["x", "image"]]
    assert cleaned.data[0]["image"] is image
    assert cleaned.quarantined == [{"x": INF}]
    assert np.isnan(rows[1]["x"]), "the data itself is not changed"
    with pytest.raises(UsageError, match="'x': values of different types"):
        clean_data([{"x": 1}, {"x": "b"}])


def test_a_hugging_face_dataset_stays_one_with_its_features() -> None:
    datasets = pytest.importorskip("datasets")
    features = {"x": datasets.Value("float32"), "label": datasets.ClassLabel(names=["no", "yes"])}
    rows = {"x": [1.0, NAN, 3.0, INF, 5.0], "label": [0, 1, 1, 0, 7]}
    table = pa.table({"x": pa.array(rows["x"], pa.float32()), "label": rows["label"]})
    made = datasets.Dataset(table, datasets.DatasetInfo(features=datasets.Features(features)), split="train")
    cleaned = clean_data(made.with_format("numpy").select([4, 3, 2, 1, 0]), MEAN)
    assert cleaned.data.features == made.features
    assert (cleaned.data.split, cleaned.data.format["type"]) == ("train", "numpy")
    assert cleaned.data["x"][:].tolist() == [3.0, 2.0, 1.0], "the label 7 is none of two classes"
    assert cleaned.quarantined["label"][:].tolist() == [7, 0]
    assert cleaned.removed.tolist() == [0, 1]
    with pytest.raises(UsageError, match="several splits"):
        clean_data(datasets.DatasetDict({"train": made}))


def test_an_arrow_table_keeps_its_schema() -> None:
    fields = [pa.field("a", pa.float32(), metadata={"unit": "m"}), pa.field("l", pa.list_(pa.float64()))]
    table = pa.table({"a": [1.0, None, 3.0], "l": [[1.0], [NAN, 2.0], None]}, pa.schema(fields, {"made": "here"}))
    filled = [{"action": "impute", "strategy": "constant", "value": 0, "fields": ["a", "l[]"]}]
    cleaned = clean_data(table, filled, {"fields": {"l": {"nullable": True}}}).data
    assert cleaned.schema.equals(table.schema, check_metadata=True)
    assert cleaned["l"].to_pylist() == [[1.0], [0.0, 2.0], None]
    assert clean_data(table["a"], filled[:1] and MEAN).data.to_pylist() == [1.0, 2.0, 3.0]


def test_polars_stays_polars() -> None:
    polars = pytest.importorskip("polars")
    data = polars.DataFrame(
        {"a": [1.0, None, 3.0], "e": ["x", None, "y"]}, schema_overrides={"e": polars.Enum(["x", "y"])}
    )
    cleaned = clean_data(data, [{"action": "impute", "strategy": "mean", "fields": "a", "indicator": True}]).data
    assert cleaned.schema == {"a": polars.Float64, "e": polars.Enum(["x", "y"]), "a_missing": polars.Boolean}
    assert cleaned["a"].to_list() == [1.0, 2.0, 3.0]
    assert clean_data(data["a"], otherwise="drop_row").data.to_list() == [1.0, 3.0]
    with pytest.raises(UsageError, match=r"LazyFrame; call .collect\(\) first"):
        clean_data(data.lazy())


@pytest.mark.torch
def test_tensors_stay_tensors() -> None:
    import torch

    half = torch.tensor([1, float("nan")], dtype=torch.bfloat16)
    cleaned = clean_data({"h": half, "k": torch.tensor([1, 2])}, ZERO).data
    assert cleaned["h"].dtype == torch.bfloat16
    assert cleaned["h"].tolist() == [1.0, 0.0]
    assert half.isnan().any()
    assert clean_data(half).data.tolist() == [1.0]
    mixed = clean_data({"h": half, "t": ["a", "b"]}).data
    assert (mixed["h"].dtype, mixed["h"].tolist(), mixed["t"]) == (torch.bfloat16, [1.0], ["a"])
    with pytest.raises(UsageError, match="to_dense"):
        clean_data(torch.eye(2).to_sparse())


def test_what_is_learned_from_the_training_data_is_applied_to_other_data() -> None:
    train = clean_data({"a": np.array([1.0, NAN, 3.0])}, MEAN)
    test = clean_data({"a": np.array([NAN, 100.0])}, MEAN, statistics=train.statistics)
    assert test.data["a"].tolist() == [2.0, 100.0]
    assert test.statistics is train.statistics
    with pytest.raises(CleaningError):
        clean_data({"a": np.array([NAN])}, ZERO, statistics=train.statistics)


def test_a_pipeline_gives_rules_and_schema(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "schema: {fields: {a: {le: 2}}}\ninputs: x.parquet\nclean: [{action: clip, fields: a, bounds: schema}]\n"
        "output: {path: out}\n"
    )
    data = {"a": np.array([1.0, 5.0, NAN])}
    assert clean_data(data, tmp_path / "p.yaml").data["a"].tolist() == [1.0, 2.0]
    assert clean_data(data, datacheck.load_pipeline(tmp_path / "p.yaml"), otherwise="drop_row").report.totals()[
        "num_dropped"
    ]


def test_rules_about_the_dataset_hold_for_what_is_kept() -> None:
    schema = {"unique": [["k"]], "fields": {"k": {}}, "num_rows": {"ge": 3}}
    cleaned = clean_data(pd.DataFrame({"k": [1, 2, 1]}), (), schema)
    assert cleaned.data["k"].tolist() == [1, 2]
    assert {one.code for one in cleaned.report.findings} == {"DC301", "DC325"}
    assert not cleaned.report.ok


def test_a_fail_rule_raises_with_the_report() -> None:
    with pytest.raises(FindingsError, match="DC101 1 of 2 values are NaN in 'a'") as raised:
        clean_data({"a": np.array([1.0, NAN])}, otherwise="fail")
    assert raised.value.report.failed == {"DC101": 1}
    again = pickle.loads(pickle.dumps(raised.value))
    assert str(again) == str(raised.value)
    assert isinstance(again, ValueError)


def test_a_fail_rule_comes_before_repairs_that_learned_nothing() -> None:
    with pytest.raises(FindingsError, match="DC001 'e' is missing"):
        clean_data({"a": np.array([1.0, NAN])}, MEAN, {"fields": {"e": {}}}, otherwise="fail")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "empty mapping"),
        ({"a": np.ones(2), "b": np.ones(3)}, r"different numbers of rows \('a' 2, 'b' 3\)"),
        ({"a": {"b": np.ones(2)}}, "'a': expected an array, got dict"),
        (np.float64(1), "cannot clean data of type float64|no rows"),
        (np.array(1.0), "no rows"),
        ("data.parquet", "cannot clean data of type str"),
        ([1.0, 2.0], "cannot clean data of type list"),
    ],
)
def test_what_cannot_be_cleaned_is_said(data: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        clean_data(data, ZERO)


@pytest.mark.parametrize(
    ("given_rules", "message"),
    [
        ({"action": "nan_to_num"}, "expected a list of rules, got one rule"),
        ([{"action": "imput"}], "did you mean 'impute'"),
        ([{"action": "impute", "strategy": "mean", "fields": "b"}], "unknown field 'b'"),
    ],
)
def test_wrong_rules_are_named(given_rules: Any, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        clean_data({"a": np.ones(2)}, given_rules)


def test_no_rows_and_all_rows_removed() -> None:
    assert len(clean_data(pd.DataFrame({"a": np.empty(0)}), otherwise="report").data) == 0
    cleaned = clean_data(pd.DataFrame({"a": [NAN, NAN], "b": ["x", "y"]}))
    assert cleaned.data.shape == (0, 2)
    assert cleaned.quarantined.shape == (2, 2)


def test_a_median_that_is_no_integer_says_how_to_leave_integers_alone() -> None:
    with pytest.raises(CleaningError, match=r"use most_frequent or a constant, or say which 'fields' the rule is for"):
        clean_data(pd.DataFrame({"i": [1, 2], "x": [1.0, NAN]}), [{"action": "impute", "strategy": "median"}])


def test_statistics_may_be_a_file_and_the_result_says_what_it_is(tmp_path: Path) -> None:
    train = clean_data({"a": np.array([1.0, NAN, 3.0])}, MEAN)
    assert train.statistics is not None
    (tmp_path / "s.json").write_text(train.statistics.to_json())
    assert clean_data({"a": np.array([NAN])}, MEAN, statistics=tmp_path / "s.json").data["a"].tolist() == [2.0]
    with pytest.raises(UsageError, match="datacheck fit"):
        clean_data({"a": np.array([NAN])}, MEAN, statistics=tmp_path / "none.json")
    assert repr(train).startswith("CleanData: kept 3 of 3 rows; see .data, .report")
    assert train._repr_html_() == train.report._repr_html_()


@pytest.mark.parametrize(
    "kind",
    [pa.string_view(), pa.binary_view(), pa.list_(pa.string_view()), pa.run_end_encoded(pa.int32(), pa.string())],
)
def test_rows_are_removed_from_tables_of_any_type(kind: pa.DataType) -> None:
    values = [None if row % 3 else ["a"] if kind == pa.list_(pa.string_view()) else "a" for row in range(6)]
    if pa.types.is_run_end_encoded(kind):
        column = pa.RunEndEncodedArray.from_arrays(pa.array(range(1, 7), pa.int32()), pa.array(values))
    else:
        column = pa.array(values, pa.binary() if kind == pa.binary_view() else kind).cast(kind)
    table = pa.table({"x": [1.0, np.nan] * 3, "other": column})
    data = pa.concat_tables([table, table])
    cleaned = datacheck.clean_data(data, [{"action": "drop_row", "fields": "x", "codes": "DC101"}]).data
    assert cleaned.schema == data.schema
    assert cleaned["other"].to_pylist() == [column.to_pylist()[row] for row in (0, 2, 4)] * 2
