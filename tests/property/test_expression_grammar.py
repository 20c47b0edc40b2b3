"""Every expression of the language agrees with NumPy, as vectors over many rows and as the screen of one."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datacheck.batch import Batch, Column
from datacheck.checks.expression import ExpressionCheck
from datacheck.schema import Expression
from datacheck.schema.expression import FUNCTIONS, ExpressionSyntaxError, parse_expression
from datacheck.schema.row_screen import UncertainError, compile_screen

#: A part of a rule, and the same in NumPy.
Pair = tuple[str, str]


def call(function: str, numpy: str, inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return inner.map(lambda one: (f"{function}({one[0]})", numpy.format(one[1])))


def joined(
    symbols: list[str], left: st.SearchStrategy[Pair], right: st.SearchStrategy[Pair]
) -> st.SearchStrategy[Pair]:
    parts = st.tuples(left, st.sampled_from(symbols), right)
    return parts.map(lambda t: (f"({t[0][0]} {t[1]} {t[2][0]})", f"({t[0][1]} {t[1]} {t[2][1]})"))


def same(*texts: str) -> st.SearchStrategy[Pair]:
    return st.sampled_from([(text, text) for text in texts])


REDUCTIONS = {
    "sum": "np.sum({})",
    "mean": "np.mean({})",
    "std": "np.std({})",
    "min": "np.min({})",
    "max": "np.max({})",
    "norm": "np.sqrt(np.sum(np.float64(1) * {0} * {0}))",
    "count": "np.size({})",
    "len": "len({})",
    "nunique": "len(np.unique({}))",
}
CONSTANT = same("0", "1", "-2", "0.5", "3")
#: One value for each of the ``n`` positions of a row.
VECTOR = st.recursive(
    same("x", "y", "k", "m[:, 0]", "m[..., -1]") | st.just(("sum(m, axis=-1)", "np.sum(m, axis=-1)")),
    lambda inner: (
        joined(["+", "-", "*"], inner, inner | CONSTANT | same("s", "i"))
        | joined(["%", "//"], inner, same("2"))
        | call("abs", "np.abs({})", inner)
        | call("-", "-({})", inner)
        | st.tuples(inner, inner).map(lambda t: (f"max({t[0][0]}, {t[1][0]})", f"np.maximum({t[0][1]}, {t[1][1]})"))
    ),
    max_leaves=3,
)
NUMBER = st.recursive(
    CONSTANT
    | same("s", "i", "x[0]", "x[-1]", "m[0, 1]")
    | st.one_of([call(name, numpy, VECTOR | same("x[:1]", "m")) for name, numpy in REDUCTIONS.items()]),
    lambda inner: (
        joined(["+", "-", "*"], inner, inner) | joined(["/"], inner, same("2", "s")) | call("abs", "np.abs({})", inner)
    ),
    max_leaves=3,
)
COMPARED = ["<", "<=", ">", ">=", "==", "!="]
MEMBERS = st.just(("[0, 0.5, -2]", "[0, 0.5, -2]"))
EACH = joined(COMPARED, VECTOR, VECTOR | NUMBER) | st.tuples(VECTOR, MEMBERS).map(
    lambda t: (f"({t[0][0]} in {t[1][0]})", f"np.isin({t[0][1]}, {t[1][1]})")
)
RULE = st.recursive(
    joined(COMPARED, NUMBER, NUMBER)
    | EACH
    | call("any", "np.any({})", EACH)
    | call("all", "np.all({})", EACH)
    | call("is_finite", "np.isfinite({})", NUMBER | VECTOR)
    | call("is_sorted", "np.all(({0})[:-1] <= ({0})[1:])", VECTOR),
    lambda inner: (
        st.tuples(inner, inner).map(lambda t: (f"({t[0][0]} and {t[1][0]})", f"np.logical_and({t[0][1]}, {t[1][1]})"))
        | st.tuples(inner, inner).map(lambda t: (f"({t[0][0]} or {t[1][0]})", f"np.logical_or({t[0][1]}, {t[1][1]})"))
        | inner.map(lambda one: (f"(not {one[0]})", f"np.logical_not({one[1]})"))
    ),
    max_leaves=3,
).filter(lambda pair: re.search(r"\b[xymksi]\b", pair[0]) is not None)

FLOAT = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, float("nan")])
#: Lengths whose sums and means are exact.
LENGTH = st.sampled_from([1, 2, 4])


@st.composite
def rows(draw: Any) -> list[dict[str, Any]]:
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    integers = draw(st.sampled_from([np.int8, np.int64]))
    length = draw(LENGTH)

    def floats(shape: tuple[int, ...]) -> Any:
        number = int(np.prod(shape))
        return np.array(draw(st.lists(FLOAT, min_size=number, max_size=number)), dtype).reshape(shape)

    return [
        {
            "x": floats((length,)),
            "y": floats((length,)),
            "m": floats((length, 2)),
            "k": np.array(draw(st.lists(st.integers(-3, 3), min_size=length, max_size=length)), integers),
            "s": dtype(draw(FLOAT.filter(bool))),
            "i": integers(draw(st.integers(-3, 3))),
        }
        for _ in range(draw(st.integers(1, 3)))
    ]


def verdict_of_numpy(text: str, row: dict[str, Any]) -> bool:
    wide = {name: value.astype(np.int64 if value.dtype.kind == "i" else np.float64) for name, value in row.items()}
    with np.errstate(all="ignore"):
        return bool(np.all(eval(text, {"np": np}, wide)))


def batch_of(table: list[dict[str, Any]], *, as_lists: bool) -> Batch:
    columns = []
    for name in table[0]:
        stacked = np.stack([np.asarray(row[name]) for row in table])
        is_list = as_lists and stacked.ndim == 2
        columns.append(Column(name, pa.array(list(stacked)) if is_list else stacked))
    return Batch(tuple(columns), len(table))


@settings(max_examples=300)
@given(rule=RULE, table=rows(), as_lists=st.booleans())
def test_a_rule_is_that_of_numpy(rule: Pair, table: list[dict[str, Any]], as_lists: bool) -> None:
    expected = [verdict_of_numpy(rule[1], row) for row in table]
    (outcome,) = ExpressionCheck(Expression(expr=rule[0])).run(batch_of(table, as_lists=as_lists))
    assert outcome.code == "DC302", outcome
    broken = set() if outcome.rows is None else set(outcome.rows.tolist())
    assert broken == {index for index, holds in enumerate(expected) if not holds}, rule
    parsed = parse_expression(rule[0])
    for row, holds in zip(table, expected, strict=True):
        narrow = [row[name].dtype.name if row[name].dtype == np.float32 else None for name in parsed.names]
        with np.errstate(all="ignore"):
            assert compile_screen(parsed, narrow)(row) is holds, rule


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("a + 1 > a", {"a": np.int64(2**63 - 1)}),
        ("a == b", {"a": np.int64(2**53 + 1), "b": np.float64(2**53)}),
        ("a % b == 0", {"a": np.int64(1), "b": np.int64(0)}),
        ("x < y", {"x": np.zeros(2), "y": np.zeros(3)}),
        ("x + y > -1", {"x": np.zeros((2, 1)), "y": np.zeros(2)}),
        ("max(x) < 3", {"x": np.zeros(0)}),
        ("x[3] == 0", {"x": np.zeros(2)}),
        ("sum(x) > 0", {"x": np.full(4, 2**62)}),
        ("len(a) == 1", {"a": np.float64(1)}),
        ("a != b", {"a": np.uint64(2**64 - 1), "b": np.int64(-1)}),
        ("abs(a) >= 0", {"a": np.int64(-(2**63))}),
    ],
)
def test_the_screen_of_a_row_leaves_what_it_cannot_tell_to_the_exact_check(rule: str, row: dict[str, Any]) -> None:
    assert not is_certain(rule, row)


def is_certain(rule: str, row: dict[str, Any]) -> bool:
    parsed = parse_expression(rule)
    try:
        with np.errstate(all="ignore"):
            return bool(compile_screen(parsed, [None] * len(parsed.names))(row))
    except (UncertainError, IndexError):
        return False


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_misspelt_function_gets_the_nearest_name(function: str) -> None:
    with pytest.raises(ExpressionSyntaxError, match=f"'{function}'"):
        parse_expression(f"{function}_(x) > 0")
