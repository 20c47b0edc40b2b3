"""Cross-field expressions: what the language accepts, what it means, and what the check reports."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

from datacheck.batch import Batch, Column
from datacheck.checks.base import Outcome
from datacheck.checks.expression import ExpressionCheck
from datacheck.checks.row_checks import build_row_checks
from datacheck.schema import Expression, Field, Schema
from datacheck.schema.expression import ExpressionSyntaxError, parse_expression

NAN, INF = float("nan"), float("inf")


def outcome_of(expression: str, **columns: Any) -> Outcome:
    batch = Batch.from_arrow(pa.record_batch({name: pa.array(values) for name, values in columns.items()}))
    (outcome,) = ExpressionCheck(Expression(expr=expression)).run(batch)
    return outcome


def verdicts(expression: str, **columns: Any) -> list[bool | None]:
    """True, false or unknown (None) for each row."""
    batch = Batch.from_arrow(pa.record_batch({name: pa.array(values) for name, values in columns.items()}))
    result: list[bool | None] = []
    for row in range(batch.num_rows):
        (outcome,) = ExpressionCheck(Expression(expr=expression)).run(batch.take(np.array([row])))
        assert outcome.code == "DC302", outcome
        result.append(None if outcome.num_checked == 0 else outcome.num_violations == 0)
    return result


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("arr_time > dep_time", ["arr_time", "dep_time"]),
        ("0 <= x <= 100 or is_null(x)", ["x"]),
        ("`odd name` == field('another one')", ["odd name", "another one"]),
        ("`a` + ` b ` > 0", ["a", " b "]),
        ("s == 'it is `quoted`' and s != \"don't\"", ["s"]),
        ("abs(-x) + +3 < min(x, y, 2) ** 2", ["x", "y"]),
        ("x in [1, -2.5] and y not in ('a',)", ["x", "y"]),
        ("is_late", ["is_late"]),
        ("not (a and b)", ["a", "b"]),
        ("field('struct.a') > 1", ["struct.a"]),
        ("(a > 1) == (b > 1)", ["a", "b"]),
        (" \n a > 1 ", ["a"]),
    ],
)
def test_names_are_found(text: str, names: list[str]) -> None:
    assert list(parse_expression(text).names) == names


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not an expression"),
        ("a >", "is not an expression"),
        ("a = 1", "write '==' to compare"),
        ("a > 1 && b > 1", "write 'and' instead of '&&'"),
        ("(a > 1) & (b > 1)", "write 'and' instead of '&'"),
        ("(a > 1) | (b > 1)", "write 'or' instead of '|'"),
        ("~a", "write 'not' instead of '~'"),
        ("a is None", "write is_null(x)"),
        ("a == None", "write is_null(x)"),
        ("a.b > 1", 'write field("a.b")'),
        ("a[b] > 1", "an index or axis that is not an integer"),
        ("a['b', 1] > 1", "an index or axis that is not an integer"),
        ("a[::2] > 1", "an index or axis that is not an integer"),
        ("sum(a, axis=b) > 1", "an index or axis that is not an integer"),
        ("sum(a, where=b) > 1", "the only one is 'axis'"),
        ("len(a, axis=0) > 1", "must have one argument"),
        ("sum(a, 0) > 1", "must have one argument and may have an axis"),
        ("min(a, b, axis=0) > 1", "must have 1 to 16 arguments"),
        ("any(a + 1)", "is a value, not a rule"),
        ("norm(a)", "is a value, not a rule"),
        ("b if a else c", "is not part of the language"),
        ("a + 1", "is a value, not a rule"),
        ("abs(a)", "is a value, not a rule"),
        ("1", "is a value, not a rule"),
        ("True", "is a constant"),
        ("1 < 2", "has no field"),
        ("a > 'x' + 1", "is used as a number"),
        ("-'x' < a", "is used as a number"),
        ("a > True + 1", "is used as a number"),
        ("a > 1e999", "write is_finite(x)"),
        ("a > 1j", "is not a number, string"),
        ("a > b'x'", "is not a number, string"),
        ("a > 99999999999999999999", "larger than any 64-bit integer"),
        ("a in b", "a list of constants"),
        ("a in []", "a list of constants"),
        ("a in [b]", "more than constants"),
        ("a in [1] < 3", "put 'in' last"),
        ("sqrt(a) > 1", "unknown function 'sqrt'"),
        ("mix(a, b) > 1", "did you mean 'min'?"),
        ("diff(a) == 1", "sequence: {by: series, on: time, step: 1}"),
        ("notnull(a)", "not is_null(x)"),
        ("between(a, 0, 1)", "low <= x <= high"),
        ("min() > 1", "must have 1 to 16 arguments"),
        ("is_null(a, b)", "must have one argument"),
        ("abs(x=a) > 1", "the only one is 'axis'"),
        ("field(a) > 1", "expects one name in quotes"),
        ("`a > 1", "back-tick"),
        ("__import__('os').system('true') == 0", "is not part of the language"),
        ("(lambda: 0)() > a", "is not part of the language"),
        ("[x for x in a] == 1", "is not part of the language"),
        ("(a := 1) > 0", "is not part of the language"),
        ("f'{a}' == 'x'", "is not part of the language"),
        ("a > 1; b", "is not an expression"),
        ("a > " + "+".join("1" * 900), "is too large"),
        ("a > " + "1" * 3000, "is longer than 2,000 characters"),
        ("a > " + "(" * 500 + "1" + ")" * 500, "is not an expression"),
        ("not " * 40 + "a", "is too large"),
        ("a > 1 \x00", "is not an expression"),
    ],
    ids=lambda text: text[:30],
)
def test_text_outside_the_language_is_rejected(text: str, problem: str) -> None:
    with pytest.raises(ExpressionSyntaxError) as error:
        parse_expression(text)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("expression", "columns", "expected"),
    [
        ("a < b", {"a": [1, 2, None], "b": [2.0, NAN, 1.0]}, [True, False, None]),
        ("not a < b", {"a": [1, 2, None], "b": [2.0, NAN, 1.0]}, [False, True, None]),
        ("a != b", {"a": [1.0, NAN], "b": [1.0, NAN]}, [False, True]),
        ("a > 0 and b > 0", {"a": [None, None, 1, 0], "b": [1, 0, 1, None]}, [None, False, True, False]),
        ("a > 0 or b > 0", {"a": [None, None, 1, 0], "b": [1, 0, None, None]}, [True, None, True, None]),
        ("not (a > 0 and b > 0)", {"a": [None, None, 0], "b": [1, 0, None]}, [None, True, True]),
        ("is_null(a) or a > 0", {"a": [None, 1, 0]}, [True, True, False]),
        ("is_nan(a)", {"a": [NAN, 1.0, None]}, [True, False, None]),
        ("is_finite(a)", {"a": [NAN, INF, 1.0]}, [False, False, True]),
        ("is_finite(a) and not is_nan(a)", {"a": [1, 2]}, [True, True]),
        ("0 <= a < 10", {"a": [0, 9, 10, -1]}, [True, True, False, False]),
        ("a / 0 > 1", {"a": [1, -1, 0]}, [True, False, False]),
        ("a // 0 == a // 0", {"a": [1, 0, -1]}, [False, False, False]),
        ("a % 0 >= 0 or a % 0 < 0", {"a": [1, 0]}, [False, False]),
        ("a // 2 == b and a % 2 == c", {"a": [-3, 3], "b": [-2, 1], "c": [1, 1]}, [True, True]),
        ("a / 2 == 1.5", {"a": [3, 2]}, [True, False]),
        ("a ** 2 == 9 and a ** -1 < 1", {"a": [3, -3, 2]}, [True, True, False]),
        ("abs(a) == 2", {"a": [-2, 2, 1]}, [True, True, False]),
        ("min(a, b, 3) == 1 and max(a, b) == 5", {"a": [1, 5, 1], "b": [5, 1, 1]}, [True, True, False]),
        ("min(a, b) < 9", {"a": [1.0, NAN], "b": [1.0, 1.0]}, [True, False]),
        ("a", {"a": [True, False, None]}, [True, False, None]),
        ("a + b == 1", {"a": [True, True], "b": [False, True]}, [True, False]),
        ("a == (b > 1)", {"a": [True, True], "b": [2, 1]}, [True, False]),
        ("a in [1, 2.5]", {"a": [1.0, 2.5, 3.0, NAN, None]}, [True, True, False, False, None]),
        ("a not in [1]", {"a": [1, 2, None]}, [False, True, None]),
        ("s in ['x', 'y']", {"s": ["x", "z", None]}, [True, False, None]),
        ("s < t and s == 'a'", {"s": ["a", "b", None], "t": ["b", "a", "c"]}, [True, False, None]),
        ("len(s) == 2", {"s": ["é1", "abc", None]}, [True, False, None]),
        ("len(v) > 1", {"v": [[1, 2], [1], None]}, [True, False, None]),
        ("is_null(v) or len(v) > 1", {"v": [[1, 2], [1], None]}, [True, False, True]),
        ("'a' == s", {"s": ["a", "b"]}, [True, False]),
        ("d < 0.5", {"d": [Decimal("0.10"), Decimal("0.90")]}, [True, False]),
        ("d == 0.1", {"d": [Decimal("0.10"), None]}, [True, None]),
    ],
)
def test_the_meaning_of_expressions(expression: str, columns: dict[str, Any], expected: list[bool | None]) -> None:
    assert verdicts(expression, **columns) == expected


BIG = 2**63 - 1


@pytest.mark.parametrize(
    ("expression", "columns", "expected"),
    [
        ("a + 1 > 0", {"a": [BIG]}, [True]),
        ("a - 1 < 0", {"a": [-BIG - 1]}, [True]),
        ("a * a > 0", {"a": [BIG, 2**32]}, [True, True]),
        ("-a > 0", {"a": [-BIG - 1]}, [True]),
        ("abs(a) > 0", {"a": [-BIG - 1]}, [True]),
        ("a // -1 > 0", {"a": [-BIG - 1]}, [True]),
        ("a == 9007199254740992.0", {"a": [2**53, 2**53 + 1]}, [True, False]),
        ("a < b", {"a": [2**53 + 1], "b": [float(2**53 + 2)]}, [True]),
        ("max(a, 0.5) == a", {"a": [2**53 + 1]}, [True]),
        ("a > b", {"a": np.array([2**64 - 1], np.uint64), "b": np.array([2**63 - 1], np.int64)}, [True]),
        ("a == 18446744073709551615", {"a": np.array([2**64 - 1, 2**63], np.uint64)}, [True, False]),
        ("a - b == 1", {"a": np.array([2**64 - 1], np.uint64), "b": np.array([2**64 - 2], np.uint64)}, [True]),
        ("a / a == 1", {"a": [2**53 + 1]}, [True]),
        ("a ** a > 1e300", {"a": [1000]}, [True]),
    ],
)
def test_large_integers_neither_wrap_nor_lose_digits(
    expression: str, columns: dict[str, Any], expected: list[bool | None]
) -> None:
    assert verdicts(expression, **columns) == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_constant_compared_with_a_narrow_field_is_rounded_to_its_dtype(dtype: Any) -> None:
    values = np.array([0.1], dtype)
    assert verdicts("x <= 0.1 and x >= 0.1 and x == 0.1 and x in [0.1]", x=values) == [True]
    assert verdicts("abs(-x) == 0.1 and 0.1 <= x <= 0.1", x=values) == [True]
    assert verdicts("x <= 1e6", x=np.array([np.inf], dtype)) == [False]


@pytest.mark.parametrize(
    ("expression", "columns", "expected"),
    [
        (
            "t > u",
            {"t": pa.array([2, 1], pa.timestamp("s")), "u": pa.array([10**9, 10**9], pa.timestamp("ns"))},
            [True, False],
        ),
        ("t - u == 1.5", {"t": pa.array([2500], pa.timestamp("ms")), "u": pa.array([1], pa.timestamp("s"))}, [True]),
        ("t >= '1970-01-01T00:00:01'", {"t": pa.array([1, 0], pa.timestamp("s"))}, [True, False]),
        ("t == '1970-01-01T01:00:00+01:00'", {"t": pa.array([0, None], pa.timestamp("us", "UTC"))}, [True, None]),
        ("'1970-01-02' == d", {"d": pa.array([1, 0], pa.date32())}, [True, False]),
        ("d <= t", {"d": pa.array([0], pa.date32()), "t": pa.array([1], pa.timestamp("ns"))}, [True]),
        ("c < '12:00' and c - c == 0", {"c": pa.array([1, 13 * 3600], pa.time32("s"))}, [True, False]),
        ("w < 90", {"w": pa.array([60_000, 91_000], pa.duration("ms"))}, [True, False]),
        ("t > u", {"t": pa.array([2**62], pa.timestamp("s")), "u": pa.array([2**62], pa.timestamp("ns"))}, [True]),
        ("t - u > 1e18", {"t": pa.array([2**62], pa.timestamp("s")), "u": pa.array([0], pa.timestamp("s"))}, [True]),
        ("max(t, u) == t", {"t": pa.array([2], pa.timestamp("s")), "u": pa.array([1], pa.timestamp("s"))}, [True]),
        ("t in ['1970-01-01', '1970-01-02']", {"t": pa.array([0, 5], pa.timestamp("s"))}, [True, False]),
    ],
)
def test_times(expression: str, columns: dict[str, Any], expected: list[bool | None]) -> None:
    assert verdicts(expression, **columns) == expected


@pytest.mark.parametrize(
    ("expression", "columns", "problem"),
    [
        ("a < 'x'", {"a": [1]}, "a number cannot be compared with a string"),
        ("a + s > 1", {"a": [1], "s": ["x"]}, "a number + a string is undefined"),
        ("a and a", {"a": [1]}, "a number is used as true or false"),
        ("a", {"a": [1.5]}, "a number is not true or false"),
        ("len(a) > 1", {"a": [1]}, "len() expects a string, a list or bytes"),
        ("is_nan(s)", {"s": ["x"]}, "is_nan() expects a number"),
        ("min(s, s) > 's'", {"s": ["x"]}, "min() expects numbers or times"),
        ("t > 'soon'", {"t": pa.array([1], pa.timestamp("s"))}, "not a time in ISO format"),
        ("t > '2024-01-01T00:00Z'", {"t": pa.array([1], pa.timestamp("s"))}, "leave it out"),
        ("t > '2024-01-01'", {"t": pa.array([1], pa.timestamp("s", "UTC"))}, "add one"),
        ("t > u", {"t": pa.array([1], pa.timestamp("s", "UTC")), "u": pa.array([1], pa.timestamp("s"))}, "with a zone"),
        ("t + 1 > u", {"t": pa.array([1], pa.timestamp("s")), "u": pa.array([1], pa.timestamp("s"))}, "is undefined"),
        ("v > 'x'", {"v": [[1]]}, "a list (a number) cannot be compared with a string"),
        ("v[0] > 1", {"v": [1]}, "a number has no values inside it"),
        ("v[0, 0] > 1", {"v": [[1]]}, "has 1 axis, fewer than the indexes"),
        ("sum(v) > 1", {"v": [1]}, "sum() expects a list, got a number"),
        ("max(v) > 1", {"v": [1]}, "with several arguments it is the smallest or largest"),
        ("sum(v) > 1", {"v": [["x"]]}, "sum() expects a list of numbers, got a list (a string)"),
        ("any(v)", {"v": [[1]]}, "any() expects true or false"),
        ("sum(v, axis=1) > 1", {"v": [[1]]}, "axis 1 does not exist in a list of 1 axis"),
        ("all(sum(v, axis=0) > 1)", {"v": [[[1], [2, 3]]]}, "only the last axis"),
        ("v < w", {"v": [[1]], "w": [[[1]]]}, "lists of 1 and 2 axes do not go together"),
        ("height(v) > 1", {"v": [[1]]}, "expects an image of 2 or 3 axes"),
        ("v > 1", {"v": [{"x": 1}]}, "of type struct"),
    ],
)
def test_a_dtype_that_does_not_fit_is_reported_as_not_checked(
    expression: str, columns: dict[str, Any], problem: str
) -> None:
    outcome = outcome_of(expression, **columns)
    assert (outcome.code, outcome.num_violations, outcome.rule) == ("DC005", 1, expression)
    assert problem in outcome.detail


def test_a_missing_column_is_reported_as_not_checked() -> None:
    outcome = outcome_of("a < b", a=[1, 2])
    assert (outcome.code, outcome.field, outcome.num_violations) == ("DC005", "b", 2)
    assert "the rule 'a < b' needs it" in outcome.detail


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("width > 0", "; did you mean 'weidth'?"),
        ("zzz > 0", "; the fields here are 'x', 'weidth'"),
        ("array[1] > 0", "; 'array' is an array without a name, and the fields here are 'x', 'weidth'"),
    ],
)
def test_a_missing_column_is_explained_by_the_columns_that_there_are(expression: str, hint: str) -> None:
    assert outcome_of(expression, x=[1], weidth=[2]).detail.endswith(f"needs it{hint}")


def test_a_column_of_nulls_makes_every_row_unknown() -> None:
    outcome = outcome_of("a + 1 < b and a > 'x'", a=pa.nulls(3), b=[1, 2, 3])
    assert (outcome.code, outcome.num_checked, outcome.num_violations) == ("DC302", 0, 0)


def test_the_outcome_says_which_rows_of_the_file_break_the_rule() -> None:
    record_batch = pa.record_batch({"a": [5, 1, None, 5], "b": pa.array([NAN, 2.0, 3.0, 4.0], pa.float32())})
    batch = Batch.from_arrow(record_batch, row_start=100, row_group=3)
    check = ExpressionCheck(Expression(expr="a < b", name="order"))
    (outcome,) = check.run(batch)
    assert (outcome.num_checked, outcome.num_violations, outcome.rule, outcome.detail) == (3, 2, "order", "a < b")
    assert outcome.rows is not None
    assert outcome.rows.tolist() == [0, 3]
    assert [(example.row, example.row_group, example.value) for example in outcome.examples] == [
        (100, 3, "a=5, b=nan"),
        (103, 3, "a=5, b=4.0"),
    ]
    assert outcome.to_finding("f.parquet").message.startswith("2 of 3 rows break order: a < b")


def test_only_the_first_examples_are_kept() -> None:
    outcome = outcome_of("a > 0", a=[0] * 100)
    assert [example.row for example in outcome.examples] == [0, 1, 2, 3, 4]
    assert outcome.num_violations == 100


def test_rows_that_were_taken_keep_their_origin() -> None:
    batch = Batch.from_arrow(pa.record_batch({"a": [1, 0, 0]})).take(np.array([2, 0]))
    (outcome,) = ExpressionCheck(Expression(expr="a > 0")).run(batch)
    assert [example.row for example in outcome.examples] == [2]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("s.a", [True, None, None]), ("s.t.b", [False, None, True]), ("s.x", "DC005"), ("z.a", "DC005")],
)
def test_fields_of_structs_are_found_by_their_path(path: str, expected: Any) -> None:
    column = pa.array([{"a": 1, "t": {"b": 0}}, None, {"a": None, "t": {"b": 2}}])
    if expected == "DC005":
        assert outcome_of(f"field('{path}') > 0", s=column).code == "DC005"
    else:
        assert verdicts(f"field('{path}') > 0", s=column) == expected


def test_fields_of_a_structured_array_are_found_by_their_names() -> None:
    array = np.array([(1, 2.0), (3, 2.0)], [("a", "i4"), ("b", "f8")])
    (outcome,) = ExpressionCheck(Expression(expr="a < b")).run(Batch((Column(None, array),), 2))
    assert (outcome.num_checked, outcome.num_violations) == (2, 1)


def numpy_outcome(expression: str, array: Any, dtype: str | None = None) -> Outcome:
    schema = Schema(fields={"x": Field(dtype=dtype, nullable=True)}, checks=[expression])
    (check,) = build_row_checks(schema, ["x"])
    (outcome,) = check.run(Batch((Column("x", array),), len(array) if array.ndim else 1))
    return outcome


@pytest.mark.parametrize(
    ("array", "dtype", "violations"),
    [
        (np.array([1.0, -1.0], ">f4"), None, 1),
        (np.asfortranarray(np.array([1, -1, 2])), None, 1),
        (np.arange(10)[::-3] - 4, None, 2),
        (np.array(-1.0), None, 1),
        (np.ma.masked_array([1, -1, -1], [False, True, False]), None, 1),
        (np.array([True, False]), None, 1),
        (np.array([1, -1], ml_dtypes.bfloat16), None, 1),
        (np.array([1, -1], ml_dtypes.bfloat16).view(np.uint16), "bfloat16", 1),
        (np.array([1, -1], ml_dtypes.float8_e4m3fn).view(np.uint8), "float8_e4m3fn", 1),
        (np.array([np.nan, 1], np.float16), None, 1),
    ],
    ids=str,
)
def test_numpy_columns(array: Any, dtype: str | None, violations: int) -> None:
    outcome = numpy_outcome("x > 0", array, dtype)
    assert (outcome.code, outcome.num_violations) == ("DC302", violations)


def test_numpy_text_and_times() -> None:
    assert numpy_outcome("x == 'a'", np.array(["a", "b"])).num_violations == 1
    assert numpy_outcome("x >= '1970-01-02'", np.array([0, 1, "NaT"], "datetime64[D]")).num_violations == 1
    day = datetime.timedelta(days=1)
    assert numpy_outcome("x < 90000", np.array([day, 2 * day], "timedelta64[s]")).num_violations == 1


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), complex), np.zeros(2, complex), np.array([1, "a"], object)], ids=str
)
def test_numpy_columns_that_a_rule_cannot_use_are_not_checked(array: Any) -> None:
    assert numpy_outcome("x > 0", array).code == "DC005"


def test_bfloat16_stored_as_integers_with_nulls() -> None:
    bits = np.array([1, -1, 0], ml_dtypes.bfloat16).view(np.uint16)
    batch = Batch.from_arrow(pa.record_batch({"x": pa.array(bits, mask=np.array([False, False, True]))}))
    schema = Schema(fields={"x": Field(dtype="bfloat16", nullable=True)}, checks=["x > 0"])
    (outcome,) = build_row_checks(schema, ["x"])[0].run(batch)
    assert (outcome.num_checked, outcome.num_violations) == (2, 1)


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.array(["a", "b", None], pa.large_string()),
        pa.array(["z", "a", "b", None])[1:],
    ],
    ids=lambda array: str(array.type)[:20],
)
def test_every_layout_of_text(array: pa.Array) -> None:
    assert verdicts("s == 'a' and len(s) == 1", s=array) == [True, False, None]


def test_views_of_text() -> None:
    outcome = outcome_of("s == 'a' and len(s) == 1", s=pa.array(["a", "b", None], pa.string_view()))
    assert (outcome.num_checked, outcome.num_violations) == (2, 1)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([9, 1, None, 3])[1:],
        pa.array([1, None, 3], pa.float16()),
        pa.array([1, None, 3], pa.uint8()),
        pa.array([1, None, 3], pa.int64()).dictionary_encode(),
    ],
    ids=lambda array: str(array.type)[:20],
)
def test_every_layout_of_numbers(array: pa.Array) -> None:
    assert verdicts("a < 2", a=array) == [True, None, False]


def test_an_empty_batch_has_an_empty_outcome() -> None:
    outcome = outcome_of("a < b and s in ['x']", a=pa.array([], pa.int64()), b=[], s=pa.array([], pa.string()))
    assert (outcome.num_checked, outcome.num_violations) == (0, 0)
