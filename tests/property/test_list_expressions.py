"""Rules about the values inside lists agree with NumPy, row by row, however the rows are split into units."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck.batch import Batch, Column
from datacheck.checks.expression import ExpressionCheck
from datacheck.schema import Expression
from datacheck.schema.reductions import distinct_of

VALUE = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, float("nan"), float("inf")])
#: Lists whose values and lengths collide often.
LISTS = st.none() | st.lists(VALUE, max_size=4)

Verdict = bool | None


def reduced(function: Callable[..., Any], values: Any) -> Any:
    """NumPy's result; None for what has no value in an empty list."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return None if not len(values) and function in (np.min, np.max, np.mean, np.std) else function(values)


#: The functions of one list, in NumPy.
REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "sum": np.sum,
    "mean": np.mean,
    "std": np.std,
    "min": np.min,
    "max": np.max,
    "norm": lambda x: np.sqrt(np.sum(x * x)),
    "len": len,
    "count": len,
    "size": np.size,
    "nunique": lambda x: len(np.unique(x)),
}
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


def split(batch: Batch, cuts: list[int]) -> list[Batch]:
    edges = [0, *sorted(cut % (batch.num_rows + 1) for cut in cuts), batch.num_rows]
    return [batch.slice(start, stop - start) for start, stop in itertools.pairwise(edges)]


def broken_rows(rule: str, batch: Batch, cuts: list[int]) -> tuple[list[int], int]:
    """The rows that break a rule, and the number of rows that were judged, over all units."""
    rows: list[int] = []
    num_checked = 0
    for part in split(batch, cuts):
        (outcome,) = ExpressionCheck(Expression(expr=rule)).run(part)
        assert outcome.code == "DC302", outcome
        num_checked += outcome.num_checked
        rows += [] if outcome.rows is None else part.file_rows(outcome.rows).tolist()
    return rows, num_checked


def check(rule: str, batch: Batch, cuts: list[int], verdicts: list[Verdict]) -> None:
    expected = [row for row, verdict in enumerate(verdicts) if verdict is False]
    assert broken_rows(rule, batch, cuts) == (expected, sum(verdict is not None for verdict in verdicts))


def of_lists(dtype: Any, **columns: Any) -> Batch:
    arrays = {name: pa.array(rows, pa.list_(dtype)) for name, rows in columns.items()}
    return Batch.from_arrow(pa.record_batch(arrays))


@settings(max_examples=40)
@given(
    rows=st.lists(LISTS, min_size=1, max_size=6),
    function=st.sampled_from(sorted(REDUCTIONS)),
    operator=st.sampled_from(sorted(OPERATORS)),
    limit=st.sampled_from([0, 1, 2.5]),
    cuts=st.lists(st.integers(0, 99), max_size=2),
    is_narrow=st.booleans(),
)
def test_a_reduction_compared_with_a_number(
    rows: Any, function: str, operator: str, limit: float, cuts: list[int], is_narrow: bool
) -> None:
    def verdict(values: Any) -> Verdict:
        if values is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reduced(REDUCTIONS[function], np.array(values, np.float64))
            return None if found is None else bool(OPERATORS[operator](found, limit))

    batch = of_lists(pa.float32() if is_narrow else pa.float64(), x=rows)
    check(f"{function}(x) {operator} {limit}", batch, cuts, [verdict(row) for row in rows])


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(LISTS, LISTS, st.none() | VALUE), min_size=1, max_size=6),
    operator=st.sampled_from(sorted(OPERATORS)),
    quantifier=st.sampled_from(["", "all", "any", "not any", "sum"]),
    other=st.sampled_from(["y", "s", "x + y", "-y", "min(x, y)", "abs(y)"]),
    cuts=st.lists(st.integers(0, 99), max_size=2),
)
def test_an_elementwise_comparison(rows: Any, operator: str, quantifier: str, other: str, cuts: list[int]) -> None:
    def verdict(row: Any) -> Verdict:
        x, y, s = row
        if x is None or (s is None if other == "s" else y is None):
            return None
        if other != "s" and len(x) != len(y):
            return False  # lists of different lengths break the rule
        a, b = np.array(x, np.float64), np.array(y or [], np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            right = {
                "y": lambda: b,
                "s": lambda: s,
                "x + y": lambda: a + b,
                "-y": lambda: -b,
                "min(x, y)": lambda: np.minimum(a, b),
                "abs(y)": lambda: np.abs(b),
            }[other]()
            truth = OPERATORS[operator](a, right)
        return {
            "": lambda: bool(np.all(truth)),
            "all": lambda: bool(np.all(truth)),
            "any": lambda: bool(np.any(truth)),
            "not any": lambda: not np.any(truth),
            "sum": lambda: bool(np.sum(truth) >= 1),
        }[quantifier]()

    batch = of_lists(pa.float64(), x=[row[0] for row in rows], y=[row[1] for row in rows])
    scalars = Column("s", pa.array([row[2] for row in rows], pa.float64()))
    comparison = f"x {operator} {other}"
    rule = {"": comparison, "sum": f"sum({comparison}) >= 1"}.get(quantifier, f"{quantifier}({comparison})")
    check(rule, batch.with_columns((*batch.columns, scalars)), cuts, [verdict(row) for row in rows])


@settings(max_examples=40)
@given(
    rows=st.lists(LISTS, min_size=1, max_size=6),
    index=st.integers(-3, 3),
    cuts=st.lists(st.integers(0, 99), max_size=2),
)
def test_an_index_beyond_the_end_breaks_the_rule(rows: Any, index: int, cuts: list[int]) -> None:
    def verdict(values: Any) -> Verdict:
        if values is None:
            return None
        return -len(values) <= index < len(values) and values[index] > 0

    check(f"x[{index}] > 0", of_lists(pa.float32(), x=rows), cuts, [verdict(row) for row in rows])
    guarded = [None if row is None else bool(not -len(row) <= index < len(row) or row[index] > 0) for row in rows]
    is_short = f"len(x) <= {index}" if index >= 0 else f"len(x) < {-index}"
    check(f"{is_short} or x[{index}] > 0", of_lists(pa.float32(), x=rows), cuts, guarded)


@settings(max_examples=40)
@given(
    rows=st.lists(LISTS, min_size=1, max_size=6),
    bounds=st.tuples(st.none() | st.integers(-3, 3), st.none() | st.integers(-3, 3)),
    cuts=st.lists(st.integers(0, 99), max_size=2),
)
def test_a_slice_is_that_of_numpy(rows: Any, bounds: tuple[int | None, int | None], cuts: list[int]) -> None:
    text = ":".join("" if bound is None else str(bound) for bound in bounds)
    verdicts = [None if row is None else bool(np.sum(np.array(row, float)[slice(*bounds)]) <= 1) for row in rows]
    check(f"sum(x[{text}]) <= 1", of_lists(pa.float64(), x=rows), cuts, verdicts)


@settings(max_examples=40)
@given(rows=st.lists(LISTS, min_size=1, max_size=6), cuts=st.lists(st.integers(0, 99), max_size=2))
def test_is_sorted(rows: Any, cuts: list[int]) -> None:
    def verdict(values: Any) -> Verdict:
        return None if values is None else all(a <= b for a, b in itertools.pairwise(values))

    check("is_sorted(x)", of_lists(pa.float32(), x=rows), cuts, [verdict(row) for row in rows])


INTEGER = st.sampled_from([-(2**63), -(2**53) - 1, -1, 0, 1, 2**53 + 1, 2**62, 2**63 - 1])


@settings(max_examples=40)
@given(
    rows=st.lists(st.none() | st.lists(st.none() | INTEGER, max_size=4), min_size=1, max_size=5),
    rule=st.sampled_from(
        [
            ("sum(x) >= 0", lambda x: sum(x) >= 0),
            ("sum(x) == x[0]", lambda x: len(x) > 0 and sum(x) == x[0]),
            ("all(x * 2 > -3)", lambda x: all(one * 2 > -3 for one in x)),
            ("x + 1 > 0.5", lambda x: all(one + 1 > 0.5 for one in x)),
            ("nunique(x) == len(x)", lambda x: len(set(x)) == len(x)),
            ("count(x != 0) < 2", lambda x: sum(one != 0 for one in x) < 2),
            ("is_sorted(x)", lambda x: sorted(x) == x),
            ("max(abs(x)) < 9223372036854775808", lambda x: None if not x else max(map(abs, x)) < 2**63),
            ("mean(x) < 9007199254740992", lambda x: None if not x else sum(x) / len(x) < 2**53),
        ]
    ),
    cuts=st.lists(st.integers(0, 99), max_size=2),
)
def test_integers_never_wrap_around(rows: Any, rule: tuple[str, Callable[[Any], Verdict]], cuts: list[int]) -> None:
    rows = [None if row is None else [one for one in row if one is not None] for row in rows]
    check(rule[0], of_lists(pa.int64(), x=rows), cuts, [None if row is None else rule[1](row) for row in rows])


@settings(max_examples=40)
@given(
    rows=st.lists(st.none() | st.lists(st.none() | VALUE, max_size=4), min_size=1, max_size=6),
    function=st.sampled_from(["sum", "mean", "std", "min", "max", "norm", "nunique", "count"]),
    cuts=st.lists(st.integers(0, 99), max_size=2),
)
def test_nulls_in_a_list_are_left_out_of_its_reductions(rows: Any, function: str, cuts: list[int]) -> None:
    def verdict(values: Any) -> Verdict:
        if values is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reduced(REDUCTIONS[function], np.array([one for one in values if one is not None], float))
        return None if found is None else bool(found <= 1)

    check(f"{function}(x) <= 1", of_lists(pa.float64(), x=rows), cuts, [verdict(row) for row in rows])


@settings(max_examples=40)
@given(
    rows=st.lists(st.none() | st.lists(st.none() | st.booleans(), max_size=3), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 99), max_size=2),
)
def test_any_and_all_are_three_valued(rows: Any, cuts: list[int]) -> None:
    def any_of(values: Any) -> Verdict:
        if values is None or (None in values and True not in values):
            return None
        return True in values

    def all_of(values: Any) -> Verdict:
        if values is None or (None in values and False not in values):
            return None
        return False not in values

    batch = of_lists(pa.bool_(), x=rows)
    check("any(x)", batch, cuts, [any_of(row) for row in rows])
    check("all(x)", batch, cuts, [all_of(row) for row in rows])
    check("x", batch, cuts, [all_of(row) for row in rows])
    check("not x", batch, cuts, [None if any_of(row) is None else not any_of(row) for row in rows])


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    shape = tuple(draw(st.lists(st.integers(0, 3), min_size=2, max_size=3)))
    array = np.array(draw(st.lists(VALUE, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))).reshape(shape)
    return np.asfortranarray(array) if draw(st.booleans()) else array


@settings(max_examples=40)
@given(array=arrays(), axis=st.integers(-2, 1), is_tensor=st.booleans(), cuts=st.lists(st.integers(0, 99), max_size=2))
def test_arrays_and_tensor_columns_along_an_axis(
    array: np.ndarray[Any, Any], axis: int, is_tensor: bool, cuts: list[int]
) -> None:
    axis = axis if array.ndim == 3 else max(-1, min(axis, 0))
    column: Any = array
    if is_tensor and array.size:
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(array))
    batch = Batch((Column("x", column),), len(array))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sums = [np.sum(row, axis=axis) for row in array]
        verdicts: list[Verdict] = [bool(np.all(one <= 1)) for one in sums]
    check(f"all(sum(x, axis={axis}) <= 1)", batch, cuts, verdicts)
    check("x[..., :2] <= 1", batch, cuts, [bool(np.all(row[..., :2] <= 1)) for row in array])
    check(
        f"size(x, {axis}) == {array.shape[1:][axis]} and ndim(x) == {array.ndim - 1}", batch, cuts, [True] * len(array)
    )


@settings(max_examples=40)
@given(
    rows=st.lists(st.none() | st.lists(st.lists(VALUE, max_size=3), max_size=3), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 99), max_size=2),
)
def test_lists_of_lists(rows: Any, cuts: list[int]) -> None:
    batch = Batch.from_arrow(pa.record_batch({"x": pa.array(rows, pa.list_(pa.list_(pa.float32())))}))

    def of(function: Callable[[Any], Verdict]) -> list[Verdict]:
        return [None if row is None else function(row) for row in rows]

    check("sum(x) <= 1", batch, cuts, of(lambda row: bool(sum(sum(inner) for inner in row) <= 1)))
    check("sum(x, axis=-1) <= 1", batch, cuts, of(lambda row: all(sum(inner) <= 1 for inner in row)))
    check("x[:, 0] < x[:, 1]", batch, cuts, of(lambda row: all(len(i) > 1 and i[0] < i[1] for i in row)))
    check("len(x) < 3 and size(x) < 4", batch, cuts, of(lambda row: len(row) < 3 and sum(map(len, row)) < 4))
    check("len(x[1:]) <= 1", batch, cuts, of(lambda row: len(row[1:]) <= 1))


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, pa.list_view, lambda inner: pa.list_(inner, 2)])
def test_every_list_layout_with_null_rows_and_slices(kind: Any) -> None:
    array = pa.array([[1.0, 2.0], None, [3.0, 1.0], [9.0, 9.0]], kind(pa.float32()))[1:]
    batch = Batch.from_arrow(pa.record_batch({"x": array}))
    assert broken_rows("x[0] < x[1]", batch, []) == ([1, 2], 2)
    assert broken_rows("max(x) < 5", batch, [1]) == ([2], 2)
    assert broken_rows("is_null(x) or len(x) == 2", batch, []) == ([], 3)


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("x[0] > 1", [0]),
        ("any(x != -100)", [0]),
        ("sum(x) == 0 and len(x) == 0", [1]),
        ("x > 3", []),
        ("max(x) > 3", []),
        ("len(x) == count(x)", [1]),
        ("not any(x == 1)", []),
    ],
)
def test_a_list_without_a_type_is_a_list_of_nulls(rule: str, broken: list[int]) -> None:
    batch = Batch.from_arrow(pa.record_batch({"x": pa.array([[], [None], None], pa.list_(pa.null()))}))
    assert broken_rows(rule, batch, [1])[0] == broken


@pytest.mark.parametrize(
    "data", [np.zeros((3, 0)), pa.array([[]] * 3, pa.list_(pa.float64(), 0))], ids=["array", "list"]
)
@pytest.mark.parametrize("function", ["std", "mean", "min"])
def test_an_empty_axis_has_no_value(data: Any, function: str) -> None:
    schema = {"checks": [f"{function}(x) > 0"]}
    assert datacheck.scan({"x": data} if isinstance(data, np.ndarray) else pa.table({"x": data}), schema).findings == ()


def test_different_values_of_lists_of_many_lengths() -> None:
    random = np.random.default_rng(0)
    lengths = random.permutation([*range(150), *[0, 1, 4, 5] * 9])
    rows = [random.integers(0, 9, length).tolist() for length in lengths]
    for dtype in (pa.int64(), pa.float32()):
        for number in (0, 1, 4, 9):
            verdicts = [len(set(row)) == number for row in rows]
            check(f"nunique(x) == {number}", of_lists(dtype, x=rows), [50], verdicts)


#: Values that are equal in some dtypes and different in others, by dtype.
DISTINCT: dict[str, list[Any]] = {
    "float16": [0.0, -0.0, 1.0, float("nan"), -float("nan"), float("inf"), 65504.0],
    "float32": [0.0, -0.0, 1.0, float("nan"), -float("nan"), -float("inf"), 1e-45],
    "float64": [0.0, -0.0, 1.0, float("nan"), 1 + 2**-52, -1e300],
    "bool": [False, True],
    "int8": [0, -1, 127],
    "uint16": [0, 1, 65535],
    "uint32": [0, 1, 2**31, 2**32 - 1],
    "int64": [0, 2**32, -(2**63), 2**63 - 1],
}


@settings(max_examples=60)
@given(data=st.data(), dtype=st.sampled_from(sorted(DISTINCT)), enough=st.none() | st.integers(1, 4))
def test_distinct_values_of_lists_are_those_of_numpy(data: st.DataObject, dtype: str, enough: int | None) -> None:
    lists = data.draw(st.lists(st.lists(st.sampled_from(DISTINCT[dtype]), max_size=5), max_size=6))
    repeats = data.draw(st.sampled_from([1, 3000]))  # lists of very different lengths are counted in several groups
    arrays = [np.array(one * (repeats if index == 0 else 1), dtype) for index, one in enumerate(lists)]
    runs = np.cumsum([0, *map(len, arrays)])
    flat = np.concatenate([*arrays, np.array([], dtype)])
    expected = np.array([len(np.unique(one)) for one in arrays], np.int64)
    found = distinct_of(flat, runs, len(arrays), enough)
    capped = (lambda counts: counts) if enough is None else (lambda counts: np.minimum(counts, enough))
    np.testing.assert_array_equal(capped(found), capped(expected))
    for one, count in zip(arrays, expected, strict=True):
        assert capped(distinct_of(one, len(one), 1, enough)) == capped(count)


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("nunique(x) > 1", [0, 1, 4]),
        ("1 < nunique(x)", [0, 1, 4]),
        ("nunique(x) == 1", [0, 2, 3]),
        ("1 <= nunique(x) < 3", [0, 3]),
        ("nunique(x) in [0, 2]", [1, 3, 4]),
        ("not nunique(x) >= 2.5", [3]),
        ("nunique(x) > -1", []),
        ("nunique(x) == len(x)", [3, 4]),
        ("any(x > 2) == (nunique(x) > 2)", [2]),
    ],
)
def test_numbers_of_distinct_values_in_comparisons(rule: str, broken: list[int]) -> None:
    nan = float("nan")
    batch = of_lists(pa.float32(), x=[[], [1], [3, nan], [1, 2, 3, 3], [nan, nan], None])
    assert broken_rows(rule, batch, [])[0] == broken


def test_a_column_is_cut_at_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of lists, nulls and integers beyond int64, judged a few rows at a time."""
    monkeypatch.setattr("datacheck.checks.expression._BLOCK_VALUES", 2)
    nested = pa.array([[[1, 2], []], None, [[3]], [[], [4, 5, 6]], [[7], [8]]], pa.list_(pa.list_(pa.int8())))
    large = pa.array([1, 2**64 - 1, None, 2**63, 5], pa.uint64())
    lists = pa.array([[2**64 - 1], [1, 2], None, [2**63, 0], []], pa.list_(pa.uint64()))
    batch = Batch.from_arrow(pa.record_batch({"x": nested, "y": large, "z": lists}))
    assert broken_rows("sum(x) < 15", batch, [1]) == ([3, 4], 4)
    assert broken_rows("x[0, 0] > 0", batch, []) == ([3], 4)
    assert broken_rows(f"y < {2**63}", batch, [])[0] == [1, 3]
    assert broken_rows(f"all(z < {2**63})", batch, [])[0] == [0, 3]
    assert broken_rows(f"max(z) - y < {2**63}", batch, [])[0] == [0]
