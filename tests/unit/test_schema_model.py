"""What a schema accepts, and the errors for contradictions."""

from __future__ import annotations

import datetime
import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from datacheck.errors import SchemaError
from datacheck.schema import Expression, Field, Schema, parse_schema


def problems(mapping: dict[Any, Any]) -> str:
    with pytest.raises(SchemaError) as error:
        parse_schema(mapping, "s.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("field", "place", "problem"),
    [
        ({"ge": 3, "le": 1}, "ge", "3 is above 'le', which is 1"),
        ({"gt": 3, "lt": 3}, "gt", "3 is the same as 'lt'"),
        ({"ge": 3, "lt": 3}, "ge", "3 is the same as 'lt'"),
        ({"gt": 3, "le": 3}, "gt", "3 is the same as 'le'"),
        ({"ge": "b", "le": "a", "dtype": "string"}, "ge", "b is above 'le'"),
        ({"ge": "2024-02-01", "le": "2024-01-31", "dtype": "date32[day]"}, "ge", "is above 'le'"),
        (
            {"dtype": "timestamp[us, tz=UTC]", "ge": "2024-01-01T00:00Z", "lt": "2024-01-01T01:00+01:00"},
            "ge",
            "the same",
        ),
        ({"dtype": "decimal128(5, 2)", "ge": "10", "le": "9.5"}, "ge", "10 is above"),
        ({"ge": 1, "le": "x"}, "ge", "one bound is a string and another is a number"),
        ({"ge": float("nan")}, "ge", "must be finite"),
        ({"le": float("inf")}, "le", "must be finite"),
        ({"ge": 10**400}, "ge", "larger than any float64"),
        ({"isin": [-(10**400)]}, "isin[0]", "larger than any float64"),
        ({"ge": True}, "ge", "expected a number"),
        ({"ge": [1]}, "ge", "got a list"),
        ({"dtype": "uint8", "ge": 256}, "ge", "no value of uint8 is >= 256"),
        ({"dtype": "uint8", "lt": 0}, "lt", "no value of uint8 is < 0"),
        ({"dtype": "int8", "gt": 127}, "gt", "no value of int8"),
        ({"dtype": "float16", "ge": 1e6}, "ge", "no value of float16"),
        ({"dtype": "float32", "ge": "low"}, "ge", "'low' is not a number"),
        ({"dtype": "string", "ge": 3}, "ge", "3 is not a string"),
        ({"dtype": "bool", "ge": 0}, "ge", "list the allowed values in 'isin'"),
        ({"dtype": "complex64", "le": 0}, "le", "have no order"),
        ({"dtype": "timestamp[us]", "ge": "soon"}, "ge", "not a time in ISO form"),
        ({"dtype": "timestamp[us]", "ge": "2024-02-30"}, "ge", "not a time in ISO form"),
        ({"dtype": "timestamp[us]", "ge": "2024-01-01T00:00:00Z"}, "ge", "leave the offset out"),
        ({"dtype": "timestamp[us, tz=UTC]", "ge": "2024-01-01"}, "ge", "such as '2024-01-01T00:00:00Z'"),
        ({"dtype": "timestamp[s]", "ge": "2024-01-01T00:00:00.5"}, "ge", "more precise than timestamp[s]"),
        ({"dtype": "date32[day]", "ge": "2024-01-01T10:00"}, "ge", "write only the date"),
        ({"dtype": "time64[us]", "ge": "25:00"}, "ge", "not a time in ISO form"),
        ({"dtype": "duration[s]", "ge": 0.5}, "ge", "not an integer"),
        ({"dtype": "decimal128(5, 2)", "ge": "x"}, "ge", "is not a number"),
        ({"isin": []}, "isin", "the list is empty"),
        ({"isin": [1, None]}, "isin[1]", "use 'nullable'"),
        ({"isin": [float("nan")]}, "isin[0]", "use 'allow_nan'"),
        ({"isin": [float("-inf")]}, "isin[0]", "use 'allow_inf'"),
        ({"isin": [1, "a"]}, "isin", "mixes strings, numbers and booleans"),
        ({"isin": [0, True]}, "isin", "mixes"),
        ({"isin": [1, 7], "le": 5}, "isin[1]", "7 can never pass, because 'le' requires <= 5"),
        ({"isin": ["a"], "ge": 5}, "isin[0]", "cannot be compared with 'ge'"),
        ({"dtype": "int8", "isin": [300]}, "isin[0]", "not a value that int8 can hold"),
        ({"dtype": "int16", "lt": 50257}, "lt", "int16 cannot hold 50257: its values lie in [-32768, 32767]"),
        ({"dtype": "uint8", "ge": -1}, "ge", "uint8 cannot hold -1"),
        ({"dtype": "uint8", "le": 256}, "le", "uint8 cannot hold 256"),
        ({"dtype": "uint8", "lt": 257}, "lt", "uint8 cannot hold 257"),
        ({"dtype": "float16", "le": 1e6}, "le", "float16 cannot hold 1000000.0"),
        ({"dtype": "float16", "isin": [1e6]}, "isin[0]", "not a value that float16 can hold"),
        ({"dtype": "bfloat16", "gt": -1e39}, "gt", "bfloat16 cannot hold -1e+39"),
        ({"dtype": "decimal128(5, 2)", "le": 1000}, "le", "decimal128(5, 2) cannot hold 1000"),
        ({"dtype": "decimal128(5, 2)", "isin": [0.125]}, "isin[0]", "not a value that decimal128(5, 2) can hold"),
        ({"dtype": "int16", "checks": {"less_than": 50257}}, "checks.less_than", "int16 cannot hold 50257"),
        ({"dtype": "float32", "gt": 0.1, "lt": 0.1000000001}, "gt", "no value can pass"),
        ({"dtype": "int8", "isin": [0.5]}, "isin[0]", "not a value that int8 can hold"),
        ({"dtype": "bool", "isin": [1]}, "isin[0]", "not true or false"),
        ({"dtype": "float32", "isin": [True]}, "isin[0]", "is not a number"),
        ({"dtype": "string", "isin": [1]}, "isin[0]", "put it in quotes"),
        ({"dtype": "binary", "isin": ["a"]}, "isin", "cannot be listed"),
        ({"dtype": "int32", "allow_nan": True}, "allow_nan", "int32 has no NaN"),
        ({"dtype": "string", "allow_inf": True}, "allow_inf", "string has no NaN or infinity"),
        ({"dtype": "int32", "str_matches": "a"}, "str_matches", "not strings"),
        ({"str_matches": "("}, "str_matches", "not a regular expression"),
        ({"str_matches": "a", "isin": ["a", "b"]}, "isin[1]", "can never pass"),
        ({"dtype": "flaot32"}, "dtype", "did you mean 'float32'?"),
        ({"dtype": "Float32"}, "dtype", "did you mean 'float32'?"),
        ({"dtype": "category"}, "dtype", "give the dtype of the values"),
        ({"dtype": "object"}, "dtype", "can hold anything"),
        ({"dtype": "list<float>"}, "dtype", "innermost values"),
        ({"dtype": 3}, "dtype", "expected a string"),
        ({"shape": [3, "x y"]}, "shape[1]", "expected an integer"),
        ({"shape": [-1]}, "shape[0]", "greater than or equal to 0"),
        ({"shape": [True]}, "shape[0]", "expected an integer"),
        ({"shape": 3}, "shape", "expected a list"),
        ({"nullable": "perhaps"}, "nullable", "expected true or false"),
        ({"nullable": "yes"}, "nullable", "expected true or false"),
        ({"coerce": 1}, "coerce", "expected true or false"),
        ({"dtpye": "int8"}, "dtpye", "did you mean 'dtype'?"),
        ({"min": 3}, "min", "write 'ge'"),
        ({"checks": {"str_len": 3}}, "checks.str_len", "did you mean 'str_length'?"),
        ({"checks": {"in_range": 3}}, "checks.in_range", "min_value, max_value"),
        ({"checks": ["notin"]}, "checks", "expected a mapping"),
        (
            {"dtype": "float32", "checks": {"ge": "zero"}},
            "checks.ge",
            "'zero' is not a number, but the dtype is float32",
        ),
        (
            {"dtype": "float32", "checks": {"in_range": {"min_value": 0, "max_value": "b"}}},
            "checks.in_range.max_value",
            "not a",
        ),
        ({"dtype": "float32", "checks": {"isin": ["a"]}}, "checks.isin", "is not a number"),
        ({"dtype": "float32", "checks": {"str_length": 3}}, "checks.str_length", "values of float32 are not strings"),
        ({"dtype": "string", "checks": {"eq": 3}}, "checks.eq", "3 is not a string"),
        ({"dtype": "date32[day]", "checks": {"gt": "soon"}}, "checks.gt", "not a time in ISO format"),
        ({"checks": {"isin": 3}}, "checks.isin", "expected a list, got 3"),
        ({"checks": {"str_length": "a"}}, "checks.str_length", "expected an integer, got 'a'"),
        ({"checks": {"str_contains": 3}}, "checks.str_contains", "expected a string, got 3"),
        ({"checks": {"in_range": [0, 1, "no"]}}, "checks.in_range", "expected true or false, got 'no'"),
        ({"ge": "zero", "mean": {"le": 3}}, "ge", "'zero' is not a number, but 'mean' says that the values are"),
        ({"ge": "zero"}, "ge", "'zero' is neither a number nor a time; if the values are strings, add 'dtype: string'"),
        ({"checks": {"in_range": [0, "ten"]}}, "checks.in_range", "'ten' is neither a number nor a time"),
        ({"isin": ["a"], "allow_nan": True}, "isin[0]", "'a' is not a number, but 'allow_nan' says"),
        ({"metadata": {"when": object()}}, "metadata", "a schema file cannot hold"),
    ],
)
def test_a_contradiction_in_a_field_is_reported_with_its_path(field: dict[str, Any], place: str, problem: str) -> None:
    text = problems({"fields": {"dep_delay": field}})
    assert text.startswith(f"s.yaml: fields.dep_delay.{place}: ")
    assert problem in text


@pytest.mark.parametrize(
    "field",
    [
        {"dtype": "uint8", "ge": 0, "lt": 256},
        {"dtype": "int8", "gt": -129},
        {"dtype": "float32", "le": 3.4028235e38},
        {"dtype": "float16", "le": 65504},
        {"dtype": "int16", "ge": 0.5},
        {"dtype": "float32", "isin": [0.1], "le": 0.1},
        {"dtype": "decimal128(5, 2)", "lt": 999.99},
        {"dtype": "uint16", "checks": {"notin": [-999]}},
    ],
    ids=str,
)
def test_a_bound_that_the_dtype_reaches_is_fine(field: dict[str, Any]) -> None:
    assert Field(**field).dtype == field["dtype"]


@pytest.mark.parametrize(
    ("schema", "place", "problem"),
    [
        ({"unique": [[]]}, "unique[0]", "is empty"),
        ({"unique": [["a", "a"]]}, "unique[0]", "twice"),
        ({"unique": ["a[]"]}, "unique[0]", "inside a list"),
        ({"fields": {"a[]": {"unique": True}}}, "fields.'a[]'.unique", "are not rows"),
        ({"checks": ["a > 1", "a > 1"]}, "checks[1]", "already names checks[0]"),
        (
            {"checks": [{"expr": "a > 1", "name": "x"}, {"expr": "a > 2", "name": "x"}]},
            "checks[1]",
            "'x' already names",
        ),
        ({"checks": [{"name": "x"}]}, "checks[0].expr", "is required"),
        ({"checks": ["a +"]}, "checks[0]", "is not an expression"),
        ({"version": 2}, "version", "reads version 1"),
        ({"pandera": "no reference"}, "pandera", "expected 'package.module:Name'"),
        ({"columns": {}}, "columns", "write 'fields'"),
        ({"fields": []}, "fields", "expected a mapping"),
        ({"fields": {"odd name": {"ge": []}}}, "fields.'odd name'.ge", "got a list"),
        ({"fields": {None: {"ge": []}}}, "fields.null.ge", "got a list"),
        ({"fields": {"a": 3}}, "fields.a", "expected a mapping, got 3"),
        ({"strict": "filter"}, "strict", "expected true or false"),
    ],
)
def test_a_contradiction_in_a_schema_is_reported_with_its_path(
    schema: dict[str, Any], place: str, problem: str
) -> None:
    text = problems(schema)
    assert text.startswith(f"s.yaml: {place}: ")
    assert problem in text


def test_every_problem_is_reported_on_a_line() -> None:
    text = problems({"fields": {"a": {"ge": 3, "le": 1}, "b": {"dtpye": "x"}}, "versoin": 1})
    assert [line.split(": ")[1] for line in text.splitlines()] == ["fields.a.ge", "fields.b.dtpye", "versoin"]


def test_a_long_list_of_problems_is_cut() -> None:
    text = problems({"fields": {f"f{number}": {"ge": 3, "le": 1} for number in range(40)}})
    assert len(text.splitlines()) == 11
    assert text.endswith("and 30 more problems")


def test_hostile_names_are_escaped_in_messages() -> None:
    text = problems({"fields": {"a\x1b[31m": {"ge": 3, "le": 1}}})
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("int", "int64"),
        ("float", "float64"),
        ("str", "string"),
        ("double", "float64"),
        ("date", "date32[day]"),
        ("datetime64[us]", "timestamp[us]"),
        ("datetime64[ns, UTC]", "timestamp[ns, tz=UTC]"),
        ("timestamp[us,tz=Europe/Paris]", "timestamp[us, tz=Europe/Paris]"),
        ("decimal128(10,2)", "decimal128(10, 2)"),
        ("fixed_size_binary[16]", "fixed_size_binary[16]"),
        ("bfloat16", "bfloat16"),
        ("float8_e4m3fn", "float8_e4m3fn"),
    ],
)
def test_dtypes_have_one_name(written: str, means: str) -> None:
    assert Field(dtype=written).dtype == means


@pytest.mark.parametrize(
    ("field", "word", "value"),
    [
        ({"dtype": "float32", "ge": "1e5"}, "ge", 100000.0),
        ({"dtype": "int64", "isin": ["1", 2]}, "isin", (1, 2)),
        ({"dtype": "string", "isin": ["1"]}, "isin", ("1",)),
        ({"ge": "1e5"}, "ge", "1e5"),
        ({"dtype": "decimal128(5, 2)", "ge": Decimal("1.10")}, "ge", "1.10"),
        ({"dtype": "date32[day]", "ge": datetime.date(2024, 1, 31)}, "ge", "2024-01-31"),
        ({"dtype": "timestamp[us]", "ge": datetime.datetime(2024, 1, 31, 12)}, "ge", "2024-01-31T12:00:00"),
        ({"ge": np.float32(0.5)}, "ge", 0.5),
        ({"isin": np.array([1, 2])}, "isin", (1, 2)),
        ({"isin": [True, False]}, "isin", (True, False)),
        ({"shape": (None, np.int64(3))}, "shape", (None, 3)),
        ({"metadata": {"a": (1, np.float64(2))}}, "metadata", {"a": [1, 2.0]}),
    ],
)
def test_values_are_converted_for_the_dtype(field: dict[str, Any], word: str, value: object) -> None:
    assert getattr(Field(**field), word) == value


@pytest.mark.parametrize(
    ("written", "means"),
    [("a", (("a",),)), (["a", "b"], (("a", "b"),)), ([["a"], ["b", "c"]], (("a",), ("b", "c"))), ([], ()), (None, ())],
)
def test_unique_is_one_key_or_a_list_of_keys(written: Any, means: tuple[tuple[str, ...], ...]) -> None:
    assert Schema(unique=written).unique == means


def test_short_forms_of_a_field_and_an_expression() -> None:
    schema = parse_schema({"fields": {"a": None}, "checks": ["a > 1"]}, "s.yaml")
    assert schema.fields == {"a": Field()}
    assert schema.checks == (Expression(expr="a > 1"),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Field(ge=3, le=1), "Field(ge): 3 is above 'le', which is 1: no value can pass"),
        (lambda: Field(max=1), "Field(max): unknown key 'max'; write 'le'"),
        (lambda: Schema(fields={"a": {"ge": 3, "le": 1}}), "Schema(fields.a.ge): 3 is above"),
        (lambda: Expression(expr="1"), "Expression(expr): '1' is a value, not a rule"),
    ],
)
def test_invalid_arguments_in_python_raise_the_same_error(make: Any, message: str) -> None:
    with pytest.raises(SchemaError) as error:
        make()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("names", "path", "found"),
    [
        (["a", "b"], "a", "a"),
        (["a"], "a[]", "a"),
        (["a", "a[]"], "a[]", "a[]"),
        (["a"], "a[][]", "a"),
        (["a"], "a.b", None),
        (["a"], None, "a"),
        (["a", "b"], None, None),
        (["a", None], None, None),
    ],
)
def test_the_field_of_a_leaf_is_found_by_its_path(names: list[str | None], path: str | None, found: str | None) -> None:
    schema = Schema(fields={name: Field(title=str(name)) for name in names})
    governing = schema.field_for(path)
    if None in names and path is None:
        found = "None"
    assert (governing and governing.title) == found


def test_a_schema_pickles() -> None:
    schema = Schema(fields={"a": Field(ge=1), None: Field(shape=(None, 3))}, checks=["a > 1"], unique=["a"])
    assert pickle.loads(pickle.dumps(schema)) == schema
