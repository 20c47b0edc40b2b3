"""Conversion of schemas to and from pandera."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from pandera.errors import SchemaErrors
from pandera.typing import Series

from datacheck.errors import SchemaError
from datacheck.schema import Field, Schema
from datacheck.schema.pandera_reading import from_pandera, remainder
from datacheck.schema.pandera_remainder import left_to_pandera
from datacheck.storage.documents import load_schema

NAN, INF = float("nan"), float("inf")

FIELDS = {
    "nothing": Field(),
    "bounds": Field(dtype="float32", ge=-1, lt=5.5),
    "exclusive": Field(dtype="int16", gt=0, le=9, nullable=True),
    "lenient": Field(dtype="float64", allow_nan=True, allow_inf=True, ge=0, title="t", description="d"),
    "infinite": Field(dtype="float64", allow_inf=True, le=3, nullable=True),
    "nan": Field(dtype="float16", allow_nan=True, isin=(0.5, 1)),
    "text": Field(dtype="string", str_matches="^[a-z]+", isin=("a", "b"), unique=True),
    "flag": Field(dtype="bool", nullable=True, isin=(True,)),
    "complex": Field(dtype="complex64"),
    "brain": Field(dtype="bfloat16", ge=0),
    "narrow": Field(dtype="float8_e4m3fn"),
    "when": Field(dtype="timestamp[us]", ge="2024-01-01", lt="2025-01-01T12:30:00.5"),
    "zoned": Field(dtype="timestamp[ms, tz=Europe/Paris]", ge="2024-01-01T00:00:00Z"),
    "day": Field(dtype="date32[day]", isin=("2024-01-31",)),
    "hour": Field(dtype="time64[us]", le="12:30:00"),
    "wait": Field(dtype="duration[s]", ge=0, isin=(1, 2)),
    "money": Field(dtype="decimal128(10, 2)", ge="0.00"),
    "bytes": Field(dtype="binary"),
    "image": Field(dtype="uint8", shape=(None, 24, 3), ge=1, checks={"notin": [7]}),
    "checked": Field(dtype="string", checks={"str_length": {"min_value": 1, "max_value": 3}, "str_startswith": "a"}),
    "optional": Field(required=False, coerce=True, dtype="uint64", metadata={"source": "x", "more": {"a": [1]}}),
    "untyped": Field(ge=0, allow_inf=True),
    "untyped-text": Field(ge="a", le="b", str_matches="[ab]"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_survives_conversion_to_pandera_and_back(name: str) -> None:
    schema = Schema(fields={name: FIELDS[name]})
    there = schema.to_pandera()
    assert from_pandera(there) == schema
    assert from_pandera(pickle.loads(pickle.dumps(there))) == schema


def test_a_schema_survives_conversion_to_pandera_and_back() -> None:
    schema = Schema(
        name="all",
        description="everything",
        strict=True,
        coerce=True,
        unique=[["text", "flag"], ["day"]],
        fields={**FIELDS, "struct": {"nullable": True}, "struct.a": {"ge": 0}, "list[]": {"dtype": "float32", "ge": 1}},
        checks=["bounds < exclusive", {"expr": "`untyped` > 0", "name": "positive", "description": "why"}],
        metadata={"owner": "me"},
    )
    assert from_pandera(schema.to_pandera()) == schema


def test_a_field_without_a_name_has_no_column() -> None:
    with pytest.raises(SchemaError, match="a field without a name"):
        Schema(fields={None: Field()}).to_pandera()


def verdict(schema: Schema, frame: pd.DataFrame) -> bool:
    try:
        schema.to_pandera().validate(frame, lazy=True)
    except SchemaErrors:
        return False
    return True


def masked(values: list[float], nulls: list[bool]) -> pd.Series:
    return pd.Series(pd.arrays.FloatingArray(np.array(values), np.array(nulls)))


def arrow(values: list[float], nulls: list[bool]) -> pd.Series:
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array(np.array(values), mask=np.array(nulls))))


@pytest.mark.parametrize("make", [masked, arrow])
@pytest.mark.parametrize(
    ("words", "value", "is_null", "passes"),
    [
        ({}, 1.0, False, True),
        ({}, NAN, False, False),
        ({}, INF, False, False),
        ({}, -INF, False, False),
        ({}, 0.0, True, False),
        ({"nullable": True}, 0.0, True, True),
        ({"nullable": True}, NAN, False, False),
        ({"nullable": True}, INF, False, False),
        ({"nullable": True, "ge": 0}, NAN, False, False),
        ({"nullable": True, "ge": 0}, INF, False, False),
        ({"allow_nan": True}, NAN, False, True),
        ({"allow_nan": True}, 0.0, True, False),
        ({"allow_nan": True}, INF, False, False),
        ({"allow_nan": True, "ge": 0}, NAN, False, True),
        ({"allow_nan": True, "ge": 0}, -1.0, False, False),
        ({"allow_inf": True, "ge": 0}, -INF, False, True),
        ({"allow_inf": True, "ge": 0}, NAN, False, False),
        ({"allow_inf": True, "ge": 0}, -1.0, False, False),
        ({"allow_inf": True, "allow_nan": True, "nullable": True, "le": 1}, INF, False, True),
    ],
)
def test_pandera_rejects_the_same_values_where_pandas_tells_nan_from_null(
    make: Any, words: dict[str, Any], value: float, is_null: bool, passes: bool
) -> None:
    frame = pd.DataFrame({"a": make([1.0, value], [False, is_null])})
    assert verdict(Schema(fields={"a": words}), frame) is passes


@pytest.mark.parametrize(
    ("words", "value", "passes"),
    [
        ({}, 1.0, True),
        ({}, NAN, False),
        ({}, INF, False),
        ({"nullable": True}, NAN, True),  # NumPy cannot tell it from a null
        ({"nullable": True}, -INF, False),
        ({"allow_nan": True}, NAN, True),
        ({"nullable": True, "ge": 0}, -INF, False),
        ({"allow_inf": True, "ge": 0}, -INF, True),
        ({"allow_inf": True, "ge": 0}, -1.0, False),
        ({"allow_nan": True, "ge": 0}, -1.0, False),
        ({"gt": 1}, 1.0, False),
        ({"isin": [1, 2]}, 3.0, False),
        ({"checks": {"notin": [3]}}, 3.0, False),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", None])
def test_pandera_rejects_the_same_values_in_numpy_columns(
    dtype: str | None, words: dict[str, Any], value: float, passes: bool
) -> None:
    start = 2.0 if "gt" in words else 1.0
    frame = pd.DataFrame({"a": np.array([start, value], dtype or "float64")})
    assert verdict(Schema(fields={"a": {"dtype": dtype, **words}}), frame) is passes


@pytest.mark.parametrize(
    ("words", "series", "passes"),
    [
        ({"dtype": "int32"}, pd.Series([1], dtype="int32"), True),
        ({"dtype": "int32"}, pd.Series([1], dtype="int64"), False),
        ({"dtype": "int32", "nullable": True}, pd.Series([1, None], dtype="Int32"), True),
        ({"dtype": "bool", "nullable": True}, pd.Series([True, None], dtype="boolean"), True),
        ({"dtype": "string"}, pd.Series(["a"], dtype="str"), True),
        ({"dtype": "string"}, pd.Series([1]), False),
        ({"dtype": "string", "str_matches": "b"}, pd.Series(["ab"], dtype="str"), False),
        (
            {"dtype": "timestamp[us]", "ge": "2024-01-01"},
            pd.Series(pd.to_datetime(["2024-01-01"])).dt.as_unit("us"),
            True,
        ),
        (
            {"dtype": "timestamp[us]", "ge": "2024-01-02"},
            pd.Series(pd.to_datetime(["2024-01-01"])).dt.as_unit("us"),
            False,
        ),
        ({"dtype": "timestamp[us]"}, pd.Series([1]), False),
        ({"unique": True}, pd.Series([1, 1]), False),
        ({"dtype": "duration[s]", "ge": 0}, pd.Series(pd.to_timedelta([1], unit="s")), True),
        ({"dtype": "duration[ms]", "lt": 1000}, pd.Series(pd.to_timedelta([1], unit="s")), False),
        ({"dtype": "duration[s]", "isin": [2]}, pd.Series(pd.to_timedelta([1], unit="s")), False),
        ({"dtype": "date32[day]", "ge": "2024-01-02"}, pd.Series([pd.Timestamp("2024-01-01").date()]), False),
        ({"dtype": "decimal128(5, 2)", "ge": "0"}, pd.Series([__import__("decimal").Decimal("-0.1")]), False),
    ],
    ids=str,
)
def test_pandera_checks_other_dtypes(words: dict[str, Any], series: pd.Series, passes: bool) -> None:
    assert verdict(Schema(fields={"a": words}), pd.DataFrame({"a": series})) is passes


def test_pandera_checks_expressions_keys_and_columns() -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [2.0, NAN, 5.0], "c": [1, 1, 1]})
    assert verdict(Schema(fields={"a": {}, "b": {"nullable": True}, "c": {}}, checks=["a < b"]), frame)
    assert not verdict(Schema(fields={"a": {}, "b": {"nullable": True}, "c": {}}, checks=["b < a"]), frame)
    assert not verdict(Schema(fields={"a": {}}, strict=True), frame)
    assert not verdict(Schema(fields={"z": {}}), frame)
    assert verdict(Schema(fields={"z": {"required": False}}), frame)
    assert not verdict(Schema(unique=["c"]), frame)
    assert not verdict(Schema(unique=[["a"], ["c"]]), frame)
    assert verdict(Schema(unique=[["a"], ["a", "c"]]), frame)


class Flights(pandera.DataFrameModel):
    """A model as pandera's users write it."""

    a: int = pandera.Field(ge=3, nullable=True, notin=[7], metadata={"unit": "minutes"})
    b: float = pandera.Field(in_range={"min_value": 1, "max_value": 3, "include_max": False})
    c: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    s: str = pandera.Field(str_length={"min_value": 2}, isin=["aa", "ab"], str_matches="a", unique=True)

    class Config:
        """What holds for the frame."""

        strict = True
        unique = ["a", "b"]  # noqa: RUF012


def test_a_model_becomes_a_schema() -> None:
    schema = load_schema(Flights)
    assert schema == Schema(
        name="Flights",
        strict=True,
        unique=["a", "b"],
        fields={
            "a": {
                "dtype": "int64",
                "ge": 3,
                "nullable": True,
                "checks": {"notin": {"forbidden_values": [7]}},
                "metadata": {"unit": "minutes"},
            },
            "b": {"dtype": "float64", "ge": 1, "lt": 3},
            "c": {"dtype": "timestamp[us, tz=UTC]"},
            "s": {
                "dtype": "string",
                "unique": True,
                "isin": ["aa", "ab"],
                "str_matches": "a",
                "checks": {"str_length": {"min_value": 2}},
            },
        },
        description="A model as pandera's users write it.",
    ).model_copy(update={"description": schema.description})
    assert left_to_pandera(schema) is None


@pytest.mark.parametrize(
    ("dtype", "word"),
    [
        ("float32", "float32"),
        ("int8", "int8"),
        ("Int64", "int64"),
        ("boolean", "bool"),
        (str, "string"),
        (float, "float64"),
        (np.dtype("complex64"), "complex64"),
        (pd.StringDtype(), "string"),
        (pd.ArrowDtype(pa.float32()), "float32"),
        (pd.ArrowDtype(pa.timestamp("us", "UTC")), "timestamp[us, tz=UTC]"),
        (pd.ArrowDtype(pa.decimal128(5, 2)), "decimal128(5, 2)"),
        (pd.ArrowDtype(pa.list_(pa.float32())), "float32"),
        (pd.DatetimeTZDtype("us", "Europe/Paris"), "timestamp[us, tz=Europe/Paris]"),
        ("date", "date32[day]"),
        (object, None),
        (None, None),
    ],
    ids=str,
)
def test_dtypes_are_converted(dtype: Any, word: str | None) -> None:
    schema = from_pandera(pandera.DataFrameSchema({"a": pandera.Column(dtype)}))
    assert schema.fields["a"].dtype == word
    assert left_to_pandera(schema) is None


def test_categories_become_members() -> None:
    column = pandera.Column(pd.CategoricalDtype(["a", "b"]))
    assert from_pandera(pandera.DataFrameSchema({"a": column})).fields["a"].isin == ("a", "b")


def test_the_dtype_of_a_frame_applies_to_its_columns() -> None:
    schema = from_pandera(pandera.DataFrameSchema({"a": pandera.Column()}, dtype="float32"))
    assert schema.fields["a"].dtype == "float32"


def even(series: Any) -> Any:
    return series % 2 == 0


CHECK = pandera.Check


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({"a": pandera.Column(checks=CHECK(even))}, {"a": ["even"]}),
        ({"a": pandera.Column(checks=[CHECK.ge(1), CHECK.ge(2)])}, {"a": ["greater_than_or_equal_to"]}),
        ({"a": pandera.Column(checks=[CHECK.notin([1]), CHECK.notin([2])])}, {"a": ["notin"]}),
        ({"a": pandera.Column(checks=CHECK.ge(1, ignore_na=False))}, {"a": ["greater_than_or_equal_to"]}),
        ({"a": pandera.Column(checks=CHECK.ge(1, raise_warning=True))}, {"a": ["greater_than_or_equal_to"]}),
        ({"a": pandera.Column(checks=CHECK.str_matches(re.compile("A", re.IGNORECASE)))}, {"a": ["str_matches"]}),
        (
            {"a": pandera.Column(checks=CHECK(even, name="greater_than_or_equal_to"))},
            {"a": ["greater_than_or_equal_to"]},
        ),
        ({"a": pandera.Column(checks=CHECK.isin([object]))}, {"a": ["isin"]}),
        ({"a": pandera.Column(pandera.DateTime)}, {"a": []}),
        ({"a|b": pandera.Column(checks=CHECK.ge(1), regex=True)}, {"a|b": ["greater_than_or_equal_to"]}),
        ({"a": pandera.Column(checks=CHECK.ge(1), parsers=pandera.Parser(even))}, {"a": ["greater_than_or_equal_to"]}),
        ({"a": pandera.Column(checks=CHECK.str_matches(re.compile("A")))}, None),
        ({"a": pandera.Column(checks=[CHECK.gt(1), CHECK.lt(2), CHECK.ne(1.5)])}, None),
    ],
)
def test_what_has_no_constraint_stays_with_pandera(schema: Any, left: dict[str, list[str]] | None) -> None:
    found = from_pandera(pandera.DataFrameSchema(schema))
    rest = left_to_pandera(found)
    names = rest and {name: [check.name for check in column.checks] for name, column in rest.columns.items()}
    assert names == left
    assert (found.pandera_object is not None) is (left is not None)


def test_parsers_of_the_frame_leave_everything_but_uniqueness_to_pandera() -> None:
    schema = pandera.DataFrameSchema(
        {"a": pandera.Column("float32", CHECK.ge(1), unique=True)}, parsers=pandera.Parser(even), strict=True
    )
    found = from_pandera(schema)
    assert (found.fields, found.strict) == ({}, True)
    rest = left_to_pandera(found)
    assert rest.columns["a"].checks == schema.columns["a"].checks
    assert not rest.columns["a"].unique
    assert schema.columns["a"].unique


def test_uniqueness_is_checked_over_the_dataset() -> None:
    schema = pandera.DataFrameSchema(
        {"a": pandera.Column(unique=True), "b": pandera.Column(checks=CHECK(even))}, unique=["a", "b"]
    )
    found = from_pandera(schema)
    assert (found.unique, found.fields["a"].unique) == ((("a", "b"),), True)
    rest = left_to_pandera(found)
    assert rest.unique is None
    assert "a" not in rest.columns


def test_constraints_that_the_schema_loosens_stay_with_pandera() -> None:
    stated = pandera.DataFrameSchema({"a": pandera.Column("float32", CHECK.ge(1), nullable=False, required=True)})
    own = Schema(fields={"a": Field(dtype="float64", ge=0, nullable=True, required=False)})
    rest = remainder(stated, own).columns["a"]
    assert (str(rest.dtype), rest.nullable, rest.required) == ("float32", False, True)
    assert [check.name for check in rest.checks] == ["greater_than_or_equal_to"]


def test_to_pandera_includes_the_checks_of_the_pandera_object() -> None:
    schema = from_pandera(pandera.DataFrameSchema({"a": pandera.Column(int, [CHECK.ge(0), CHECK(even)])}))
    made = schema.to_pandera()
    made.validate(pd.DataFrame({"a": [2]}))
    with pytest.raises(pandera.errors.SchemaError, match="even"):
        made.validate(pd.DataFrame({"a": [3]}))
    assert from_pandera(made).fields == schema.fields


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: pandera.DataFrameSchema({}, index=pandera.Index(int)), "has an index"),
        (lambda: pandera.DataFrameSchema({1: pandera.Column()}), "has a column 1"),
        (lambda: pandera.DataFrameSchema({"a.*": pandera.Column(regex=True, unique=True)}), "name each unique column"),
        (
            lambda: pandera.DataFrameSchema(
                {"a": pandera.Column(checks=pandera.Hypothesis(lambda x: (0, 1), relationship=lambda s, p: True))}
            ),
            "a statistical test",
        ),
        (lambda: pandera.SeriesSchema(int), "expected a pandera.pandas DataFrameSchema or DataFrameModel"),
    ],
)
def test_what_cannot_be_checked_in_files_is_refused(make: Any, problem: str) -> None:
    with pytest.raises(SchemaError) as error:
        from_pandera(make())
    assert problem in str(error.value)


def test_a_contradiction_in_a_pandera_schema_is_an_error_with_its_path() -> None:
    with pytest.raises(SchemaError, match=r"pandera schema: fields\.a\.ge: 3 is above 'le'"):
        from_pandera(pandera.DataFrameSchema({"a": pandera.Column(checks=[CHECK.ge(3), CHECK.le(1)])}))


def test_a_schema_with_a_pandera_object_pickles_if_the_object_does() -> None:
    schema = from_pandera(pandera.DataFrameSchema({"a": pandera.Column(checks=CHECK(even))}))
    again = pickle.loads(pickle.dumps(schema))
    assert left_to_pandera(again).columns["a"].checks[0].name == "even"
    assert copy.deepcopy(schema) == schema


def test_metadata_that_cannot_be_written_is_left_out() -> None:
    column = pandera.Column(metadata={"kept": 1, "dropped": object(), "nothing": None})
    schema = from_pandera(pandera.DataFrameSchema({"a": column}))
    assert schema.fields["a"].metadata == {"kept": 1, "nothing": None}
    assert "kept: 1" in schema.to_yaml()


def test_what_pandera_does_not_check_is_listed_and_comes_back() -> None:
    fields: dict[str, Any] = {
        "x": {"dtype": "float32", "ge": 0, "mean": {"ge": 1}},
        "boxes": {"format": "xyxy", "within": ["w", "h"], "columns": {0: {"ge": 0}}},
        "vector": {"shape": [3], "ge": 1, "nullable": True},
        "rows[].q": {"gt": 1},
    }
    schema = Schema(missing=(-999,), num_rows={"ge": 1}, splits={"apart": "p"}, fields=fields)
    assert schema.not_in_pandera == (
        "missing",
        "splits",
        "fields.boxes.columns",
        "fields.boxes.format",
        "fields.vector.shape",
        "fields.vector.ge",
        "fields.'rows[].q'",
    )
    assert load_schema(schema.to_pandera()) == schema
    assert Schema(fields={"x": fields["x"]}, checks=["x < 3"]).not_in_pandera == ()


def test_boxes_within_fields_of_the_row_are_a_check_of_pandera() -> None:
    made = Schema(fields={"b": {"format": "xywh", "within": ["w", 9]}}).to_pandera()
    frame = pd.DataFrame({"b": [[0.0, 0, 2, 2], [0.0, 0, 4, 2]], "w": [3, 3]})
    made.validate(frame[:1])
    with pytest.raises(pandera.errors.SchemaError):
        made.validate(frame)
