"""The Arrow walker sees every value of every nested type once, and knows its row and its place inside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datacheck.arrow_leaves import walk_arrow
from datacheck.batch import Column

Place = tuple[str, int, tuple[int, ...]]

FLAT = [pa.float64(), pa.float32(), pa.float16(), pa.int8(), pa.uint64(), pa.bool_(), pa.string()]


def values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Python values of an Arrow type, nulls among them."""
    if pa.types.is_boolean(kind):
        base: st.SearchStrategy[Any] = st.booleans()
    elif pa.types.is_string(kind):
        base = st.text(max_size=3)
    elif pa.types.is_integer(kind):
        base = st.integers(0, 100)
    elif pa.types.is_floating(kind):
        base = st.sampled_from([0.0, 1.5, -2.0, float("inf"), float("-inf")])
    elif pa.types.is_fixed_size_list(kind):
        base = st.lists(values_of(kind.value_type), min_size=kind.list_size, max_size=kind.list_size)
    elif pa.types.is_struct(kind):
        base = st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    elif pa.types.is_map(kind):
        base = st.lists(st.tuples(st.text(max_size=2), values_of(kind.item_type)), max_size=3)
    else:
        base = st.lists(values_of(kind.value_type), max_size=3)
    return st.none() | base


def nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    return st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        st.tuples(inner, st.integers(1, 3)).map(lambda pair: pa.list_(*pair)),
        inner.map(lambda kind: pa.struct([("a", kind), ("b", pa.float32())])),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    )


TYPES = st.recursive(st.sampled_from(FLAT), nested, max_leaves=3)


def expected(path: str, kind: pa.DataType, value: Any, row: int, index: tuple[int, ...]) -> Iterator[tuple[Place, Any]]:
    """Every leaf value below ``value``, by recursion over plain Python: the oracle."""
    if not pa.types.is_nested(kind):
        yield (path, row, index), value
        return
    yield (path, row, index), "null" if value is None else "container"
    if value is None:
        return
    if pa.types.is_struct(kind):
        for field in kind:
            yield from expected(f"{path}.{field.name}", field.type, value[field.name], row, index)
    elif pa.types.is_map(kind):
        entry = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        for place, (key, item) in enumerate(value):
            yield from expected(f"{path}[]", entry, {"key": key, "value": item}, row, (*index, place))
    else:
        for place, item in enumerate(value):
            yield from expected(f"{path}[]", kind.value_type, item, row, (*index, place))


def walked(array: pa.Array) -> Iterator[tuple[Place, Any]]:
    for leaf in walk_arrow("c", array):
        rows, indices = leaf.locate(np.arange(len(leaf)))
        for position in range(len(leaf)):
            place = (leaf.path or "", int(rows[position]), tuple(int(digit) for digit in indices[position]))
            present = leaf.validity is None or bool(leaf.validity[position])
            if not leaf.is_numeric and pa.types.is_nested(leaf.values.type):
                yield place, "container" if present else "null"
            elif not present:
                yield place, None
            else:
                found = leaf.values[position]
                yield place, found.as_py() if isinstance(found, pa.Scalar) else found.item()


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_every_value_is_seen_once_at_its_place_whatever_the_type_and_the_slice(data: st.DataObject) -> None:
    kind = data.draw(TYPES)
    values = data.draw(st.lists(values_of(kind), max_size=6))
    start = data.draw(st.integers(0, len(values)))
    array = pa.array(values, kind)[start:]
    oracle = [pair for row, value in enumerate(values[start:]) for pair in expected("c", kind, value, row, ())]
    assert sorted(map(repr, walked(array))) == sorted(map(repr, oracle))


@pytest.mark.parametrize("encode", [lambda a: a.dictionary_encode(), lambda a: pa.compute.run_end_encode(a)])
def test_encoded_columns_are_seen_through(encode: Any) -> None:
    array = pa.array([1.0, 1.0, float("nan"), None, 2.0])
    (leaf,) = walk_arrow("c", encode(array))
    assert leaf.dtype == "float64"
    np.testing.assert_array_equal(leaf.values[leaf.validity], [1.0, 1.0, np.nan, 2.0])


def test_a_fixed_shape_tensor_with_a_permutation_gives_logical_indices() -> None:
    physical = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    kind = pa.fixed_shape_tensor(pa.float32(), (3, 2), permutation=[1, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(physical.reshape(-1)), 6)
    tensor = pa.ExtensionArray.from_storage(kind, storage)
    _, leaf = Column("t", tensor).leaves()
    rows, indices = leaf.locate(np.arange(12))
    logical = physical.transpose(0, 2, 1)
    for position in range(12):
        assert logical[(int(rows[position]), *map(int, indices[position]))] == leaf.values[position]


def test_a_null_slot_of_a_fixed_size_list_is_no_value() -> None:
    values = pa.array([1.0, 2.0, float("nan"), float("nan"), 5.0, 6.0])
    array = pa.FixedSizeListArray.from_arrays(values, 2, mask=pa.array([False, True, False]))
    _, leaf = walk_arrow("c", array)
    assert leaf.values.tolist() == [1.0, 2.0, 5.0, 6.0]
    assert leaf.locate(np.arange(4))[0].tolist() == [0, 0, 2, 2]


def test_a_union_says_that_it_cannot_be_looked_into() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1.0, 2.0]), pa.array(["a", "b"])])
    (leaf,) = walk_arrow("c", union)
    assert leaf.values is None
    assert "union" in leaf.problem
