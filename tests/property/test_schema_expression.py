"""The vectors and the exact evaluator agree, and both agree with Python, for every expression of the language."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from datacheck.schema.evaluate import evaluate
from datacheck.schema.exact_algebra import ExactAlgebra
from datacheck.schema.expression import ExpressionSyntaxError, fold, parse_expression
from datacheck.schema.operands import ExpressionTypeError, operand_of


def exact_algebra(columns: dict[str, Any], size: int) -> ExactAlgebra:
    return ExactAlgebra({name: column.exactly(np.arange(size)) for name, column in columns.items()}, size)


INT64 = st.one_of(
    st.integers(-4, 4), st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**53 + 1, -(2**63), 2**63 - 1])
)
FLOAT = st.one_of(st.floats(), st.integers(-4, 4).map(float), st.sampled_from([2.0**53, 2.0**63, -0.0]))

NUMBERS = st.recursive(
    st.sampled_from(["a", "b", "x", "y", "0", "1", "2.5", "-3", "9223372036854775807"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), inner).map(
            lambda t: f"({' '.join(t)})"
        ),
        st.tuples(st.sampled_from(["abs", "-"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
    ),
    max_leaves=6,
)
COMPARISONS = st.one_of(
    st.tuples(NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBERS).map(" ".join),
    st.tuples(NUMBERS, st.sampled_from(["in", "not in"]), st.just("[1, 2.5, -3]")).map(" ".join),
    st.tuples(NUMBERS, NUMBERS, NUMBERS).map(" < ".join),
    st.tuples(st.sampled_from(["is_null", "is_nan", "is_finite"]), NUMBERS).map(lambda t: f"{t[0]}({t[1]})"),
)
RULES = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({' '.join(t)})"),
        inner.map(lambda rule: f"(not {rule})"),
    ),
    max_leaves=4,
).filter(lambda rule: re.search(r"\b[abxy]\b", rule))


@given(
    rule=RULES,
    integers=st.lists(st.tuples(st.none() | INT64, st.none() | INT64), min_size=1, max_size=4),
    floats=st.lists(st.tuples(st.none() | FLOAT, st.none() | FLOAT), min_size=4, max_size=4),
)
def test_vectors_agree_with_one_row_at_a_time(
    rule: str, integers: list[tuple[Any, Any]], floats: list[tuple[Any, Any]]
) -> None:
    parsed = parse_expression(rule)
    size = len(integers)
    data = {
        "a": pa.array([pair[0] for pair in integers], pa.int64()),
        "b": pa.array([pair[1] for pair in integers], pa.int64()),
        "x": pa.array([pair[0] for pair in floats[:size]], pa.float64()),
        "y": pa.array([pair[1] for pair in floats[:size]], pa.float64()),
    }
    columns = {name: operand_of(array) for name, array in data.items()}
    truth, known = evaluate(parsed, columns, size)
    with np.errstate(all="ignore"):
        exact = fold(parsed.tree, exact_algebra(columns, size))
    assert exact.kind == "bool"
    exact_known = np.broadcast_to(True if exact.valid is None else exact.valid, size)
    assert known.tolist() == exact_known.tolist(), (rule, data)
    assert truth.tolist() == (np.broadcast_to(exact.values, size) & exact_known).tolist(), (rule, data)


INTEGER_RULES = st.recursive(
    st.sampled_from(["a", "b", "1", "3"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"({' '.join(t)})"),
        st.tuples(st.sampled_from(["abs", "-"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
    ),
    max_leaves=6,
)


@given(
    rule=st.tuples(INTEGER_RULES, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), INTEGER_RULES)
    .map(" ".join)
    .filter(lambda rule: re.search(r"\b[ab]\b", rule)),
    rows=st.lists(st.tuples(INT64, INT64), min_size=1, max_size=4),
)
def test_integer_arithmetic_matches_python(rule: str, rows: list[tuple[int, int]]) -> None:
    columns = {name: operand_of(np.array([row[place] for row in rows])) for place, name in enumerate("ab")}
    truth, known = evaluate(parse_expression(rule), columns, len(rows))
    assert known.all()
    allowed = {"__builtins__": {}, "abs": abs, "min": min, "max": max}
    expected = [eval(rule, allowed, {"a": first, "b": second}) for first, second in rows]
    assert truth.tolist() == expected


@example(bits=[0x7F800001], constant=0.0)  # a signalling NaN
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8), constant=st.floats(width=32, allow_nan=False))
def test_a_narrow_float_compares_with_a_constant_as_in_numpy(bits: list[int], constant: float) -> None:
    if math.isinf(constant):
        return
    values = np.array(bits, np.uint32).view(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = values <= constant
    truth, _ = evaluate(parse_expression(f"x <= {constant!r}"), {"x": operand_of(values)}, len(values))
    assert truth.tolist() == expected.tolist()


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        parsed = parse_expression(text)
    except ExpressionSyntaxError:
        return
    columns = {name: operand_of(pa.array([1, None, 3])) for name in parsed.names}
    with contextlib.suppress(ExpressionTypeError):
        truth, known = evaluate(parsed, columns, 3)
        assert not (truth & ~known).any()
