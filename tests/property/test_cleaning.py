"""What a repair guarantees, whatever the data: form, rows, neighbours and the input stay as they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datacheck.batch import Batch, Column
from datacheck.checks.checker import Checker, RuleSet
from datacheck.cleaning.plan import parse_plan
from datacheck.cleaning.repairs import apply
from datacheck.numerics import SCREEN_WIDTH
from datacheck.schema.model import Field, Schema

WILD = st.one_of(st.floats(-10, 10, width=16), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0]))
NUMPY_DTYPES = st.sampled_from(["<f2", "<f4", "<f8", ">f4", ">f8"])

FILL = parse_plan(
    [
        {"action": "nan_to_num", "nan": 1, "posinf": 2, "neginf": -2},
        {"action": "impute", "strategy": "constant", "value": 3},
        {"action": "clip", "ge": -4, "le": 4},
    ]
)


def batch_of(data: Any) -> Batch:
    return Batch((Column("x", data),), len(data))


def filled(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.clip(np.nan_to_num(array, nan=1, posinf=2, neginf=-2), -4, 4)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    shape = draw(hnp.array_shapes(max_dims=4, min_side=0, max_side=5))
    array = draw(hnp.arrays(draw(NUMPY_DTYPES), shape, elements=WILD))
    axes = draw(st.permutations(range(array.ndim)))
    steps = draw(st.lists(st.sampled_from([1, 2, -1]), min_size=array.ndim, max_size=array.ndim))
    return array.transpose(axes)[tuple(slice(None, None, step) for step in steps)]


@given(arrays())
def test_an_array_of_any_memory_order_is_repaired_as_numpy_does(array: np.ndarray[Any, Any]) -> None:
    before = array.copy()
    repaired, _ = apply(batch_of(array), FILL, Schema())
    found = repaired.columns[0].data
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, filled(array))
    np.testing.assert_array_equal(array, before)


def nested(element: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[pa.DataType, list[Any]]]:
    """A nested Arrow type over float32, and rows of it with nulls at every level."""
    leaf: st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]] = st.just((pa.float32(), st.none() | element))

    def outer(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return inner.flatmap(
            lambda made: st.sampled_from(
                [
                    (pa.list_(made[0]), st.none() | st.lists(made[1], max_size=3)),
                    (pa.large_list(made[0]), st.none() | st.lists(made[1], max_size=3)),
                    (pa.list_view(made[0]), st.none() | st.lists(made[1], max_size=3)),
                    (pa.list_(made[0], 2), st.none() | st.lists(made[1], min_size=2, max_size=2)),
                    (
                        pa.struct([("a", made[0]), ("b", pa.float32())]),
                        st.none() | st.fixed_dictionaries({"a": made[1], "b": st.none() | element}),
                    ),
                ]
            )
        )

    return st.recursive(leaf, outer, max_leaves=3).flatmap(
        lambda made: st.tuples(st.just(made[0]), st.lists(made[1], min_size=1, max_size=6))
    )


def fill_tree(value: Any, kind: pa.DataType) -> Any:
    """The oracle: every number and every null among numbers is replaced, every other null stays."""
    if pa.types.is_floating(kind):
        return 3.0 if value is None else float(filled(np.float32(value)))
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: fill_tree(value[field.name], field.type) for field in kind}
    return [fill_tree(inner, kind.value_type) for inner in value]


@settings(max_examples=150, deadline=None)
@given(nested(WILD), st.data())
def test_a_nested_column_keeps_type_lengths_and_nulls(made: tuple[pa.DataType, list[Any]], data: st.DataObject) -> None:
    kind, rows = made
    start = data.draw(st.integers(0, len(rows)))
    column = pa.array(rows, kind).slice(start)
    before = column.to_pylist()
    plan = parse_plan([{**rule.model_dump(exclude_none=True), "fields": "*"} for rule in FILL.rules])
    repaired, _ = apply(batch_of(column), plan, Schema(fields={"x": Field(nullable=True)}, strict=False))
    found = repaired.columns[0].data
    found.validate(full=True)
    assert found.type == kind
    assert found.to_pylist() == [fill_tree(row, kind) for row in before]
    assert str(column.to_pylist()) == str(before)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 3 * SCREEN_WIDTH + 17), max_size=6, unique=True),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.booleans(),
)
def test_only_bad_values_change_wherever_they_stand(places: list[int], dtype: Any, as_arrow: bool) -> None:
    values = np.random.default_rng(0).uniform(-3, 3, 3 * SCREEN_WIDTH + 18).astype(dtype)
    dirty = values.copy()
    dirty[places] = [(math.nan, math.inf, -math.inf)[place % 3] for place in places]
    column = pa.array(dirty) if as_arrow else dirty
    repaired, counts = apply(batch_of(column), FILL, Schema())
    found = np.asarray(repaired.columns[0].data)
    np.testing.assert_array_equal(found, filled(dirty))
    assert sum(count.num_values for count in counts) == len(places)
    assert (repaired.columns[0].data is column) is (not places)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(1, 50), elements=WILD),
    st.lists(st.booleans(), min_size=50, max_size=50),
    st.sampled_from([None, -5, 0]),
    st.sampled_from([None, 5, 9]),
    st.booleans(),
)
def test_after_the_repairs_the_checks_find_nothing(
    values: np.ndarray[Any, Any], present: list[bool], ge: float | None, le: float | None, exclusive: bool
) -> None:
    bounds = {"gt": ge, "lt": le} if exclusive else {"ge": ge, "le": le}
    schema = Schema(fields={"x": Field(**bounds)})  # type: ignore[arg-type]
    rules = [
        {"action": "nan_to_num", "posinf": 1, "neginf": 2},
        {"action": "impute", "strategy": "constant", "value": 3},
        {"action": "clip"},
    ]
    batch = batch_of(pa.array(values, mask=~np.array(present[: len(values)])))
    repaired, _ = apply(batch, parse_plan(rules), schema)
    assert not any(outcome.num_violations for outcome in Checker(RuleSet(schema)).check(repaired))
