"""Data in memory: NaN stays NaN and null stays null, whatever holds them, and nothing is copied that need not be."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from source_files import join

import datacheck
from datacheck.arrow_layouts import no_rows
from datacheck.batch import Batch
from datacheck.errors import UsageError
from datacheck.numerics import nan_mask, posinf_mask
from datacheck.sources.memory import MEMORY_URI, batches_of

nan, inf = math.nan, math.inf


def counts(data: object) -> dict[str | None, tuple[int, int, int]]:
    """For each leaf that can be looked into: how many values are NaN, +inf and null."""
    found: dict[str | None, tuple[int, int, int]] = {}
    for leaf in leaves(data):
        if leaf.values is None:
            continue
        values = leaf.values
        numbers = (0, 0)
        if leaf.is_numeric and leaf.may_be_nonfinite:
            valid = slice(None) if leaf.validity is None else leaf.validity
            flat = np.ascontiguousarray(values)[valid]
            numbers = (int(nan_mask(flat, leaf.dtype).sum()), int(posinf_mask(flat, leaf.dtype).sum()))
        before = found.get(leaf.path, (0, 0, 0))
        found[leaf.path] = (before[0] + numbers[0], before[1] + numbers[1], before[2] + leaf.num_nulls)
    return found


def leaves(data: object) -> list[Any]:
    uri, batches = batches_of(data)
    assert uri == MEMORY_URI
    return [leaf for batch in batches for column in batch.columns for leaf in column.leaves()]


FRAMES: dict[str, tuple[Callable[[], Any], dict[str, tuple[int, int, int]]]] = {
    "NumPy floats": (lambda: [1.0, nan, inf], {"x": (1, 1, 0)}),
    "float32": (lambda: np.array([1, nan, inf], np.float32), {"x": (1, 1, 0)}),
    "masked floats": (lambda: pd.array([1.0, None, inf], dtype="Float64"), {"x": (0, 1, 1)}),
    "masked integers": (lambda: pd.array([1, None, 3], dtype="Int64"), {"x": (0, 0, 1)}),
    "Arrow floats": (
        lambda: pd.Series(pa.array([1.0, nan, None]), dtype=pd.ArrowDtype(pa.float64())).array,
        {"x": (1, 0, 1)},
    ),
    "objects that are numbers": (lambda: np.array([1, nan, None], object), {"x": (1, 0, 1)}),
    "objects that are text": (lambda: np.array(["a", nan, None], object), {"x": (0, 0, 2)}),
    "objects that are arrays": (lambda: [np.array([1.0, nan]), [inf], None], {"x": (0, 0, 1), "x[]": (1, 1, 0)}),
    "objects that are records": (lambda: [{"a": nan}, {"a": None}, {"a": inf}], {"x": (0, 0, 0), "x.a": (1, 1, 1)}),
    "text": (lambda: pd.array(["a", None, "b"], dtype="string"), {"x": (0, 0, 1)}),
    "categories": (lambda: pd.Categorical([1.0, None, inf]), {"x": (0, 1, 1)}),
    "times": (lambda: pd.to_datetime(["2020-01-01", None, "2020-01-02"]), {"x": (0, 0, 1)}),
    "times in a zone": (lambda: pd.to_datetime(["2020-01-01", None, "2020-01-02"], utc=True), {"x": (0, 0, 1)}),
    "sparse": (lambda: pd.arrays.SparseArray([0.0, nan, inf]), {"x": (1, 1, 0)}),
    "intervals": (
        lambda: pd.arrays.IntervalArray.from_breaks([0.0, 1.0, 2.0, inf]),
        {"x": (0, 0, 0), "x.left": (0, 0, 0), "x.right": (0, 1, 0)},
    ),
    "complex": (lambda: np.array([1, complex(0, nan), complex(inf, 0)]), {"x": (1, 1, 0)}),
    "booleans": (lambda: [True, False, True], {"x": (0, 0, 0)}),
}


@pytest.mark.parametrize("name", FRAMES)
def test_every_kind_of_column_of_pandas_keeps_nan_and_null_apart(name: str) -> None:
    make, expected = FRAMES[name]
    frame = pd.DataFrame({"first": [1, 2, 3]})
    frame["x"] = make()
    assert counts(frame) == {"first": (0, 0, 0), **expected}
    assert counts(frame["x"]) == expected
    assert counts(frame.iloc[:0])["first"] == (0, 0, 0)


def test_a_nan_that_a_masked_array_hides_beside_its_mask_is_found() -> None:
    array = pd.array([1.0, 2.0, None], dtype="Float64")
    array._data[0] = nan
    assert counts(pd.Series(array, name="x")) == {"x": (1, 0, 1)}


def test_a_column_of_mixed_objects_is_said_not_to_be_looked_into() -> None:
    found = leaves(pd.DataFrame({"x": [1.0, nan], "mixed": [1, "a"]}))
    assert {leaf.path: bool(leaf.problem) for leaf in found} == {"x": False, "mixed": True}


def test_columns_of_one_name_are_all_looked_at() -> None:
    frame = pd.DataFrame([[1.0, nan], [nan, nan]], columns=["x", "x"])
    assert counts(frame) == {"x": (3, 0, 0)}


def test_numbers_of_pandas_are_not_copied() -> None:
    frame = pd.DataFrame(np.arange(12.0).reshape(6, 2), columns=["a", "b"])
    (batch,) = batches_of(frame)[1]
    assert all(np.shares_memory(column.data, frame[column.name].to_numpy()) for column in batch.columns)


ARROW = pa.table({"x": [1.0, nan, None], "l": [[inf], None, [nan]]})


@pytest.mark.parametrize(
    "data",
    [
        ARROW,
        ARROW.to_batches()[0],
        pa.RecordBatchReader.from_batches(ARROW.schema, ARROW.to_batches(max_chunksize=2)),
        pa.concat_tables([ARROW.slice(0, 1), ARROW.slice(1)]),
    ],
    ids=["table", "record batch", "reader", "chunks"],
)
def test_arrow_is_looked_at_as_it_is(data: object) -> None:
    assert counts(data) == {"x": (1, 0, 1), "l": (0, 0, 1), "l[]": (1, 1, 0)}


def test_rows_of_chunks_are_counted_on() -> None:
    data = pa.chunked_array([[1.0], [2.0, nan]])
    batches = list(batches_of(data)[1])
    assert [batch.row_start for batch in batches] == [0, 1]
    assert counts(data) == {None: (1, 0, 0)}


def test_polars_is_looked_at_through_its_own_memory() -> None:
    polars = pytest.importorskip("polars")
    assert counts(polars.DataFrame({"x": [1.0, nan, None]})) == {"x": (1, 0, 1)}
    assert counts(polars.Series("s", [1.0, nan])) == {"s": (1, 0, 0)}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.array([[1, nan], [inf, 2]]), {None: (1, 1, 0)}),
        (np.asfortranarray([[1, nan], [inf, 2]]), {None: (1, 1, 0)}),
        (np.array([[1, nan], [inf, 2]]).T[::-1], {None: (1, 1, 0)}),
        (np.array([1, nan], ">f4"), {None: (1, 0, 0)}),
        (np.ma.masked_array([1, nan, inf], [False, False, True]), {None: (1, 0, 1)}),
        (np.array(nan), {None: (1, 0, 0)}),
        (np.array([(nan, 1)], [("a", "f4"), ("b", "i4")]), {"a": (1, 0, 0), "b": (0, 0, 0)}),
        (nan, {None: (1, 0, 0)}),
        (np.float32(nan), {None: (1, 0, 0)}),
        ([1.0, nan, 2], {None: (1, 0, 0)}),
        ({"x": np.array([nan]), "y": np.array([1, inf])}, {"x": (1, 0, 0), "y": (0, 1, 0)}),
        ({"x": {"y": [np.array([nan])]}, "n": 3}, {"x.y.0": (1, 0, 0)}),
        ([np.ones(2), np.array([nan])], {"0": (0, 0, 0), "1": (1, 0, 0)}),
        ({"x": np.ones(2), "lr": nan}, {"x": (0, 0, 0), "lr": (1, 0, 0)}),
        ({"f": pd.Series([nan], name="s"), "g": np.array([inf])}, {"f": (1, 0, 0), "g": (0, 1, 0)}),
        ({"f": pd.Series([nan, 1.0]), "g": np.array([inf]), "h": 3}, {"f": (1, 0, 0), "g": (0, 1, 0)}),
        ({"f": pa.chunked_array([[nan], [None]]), "g": pa.array([1.0])}, {"f": (1, 0, 1), "g": (0, 0, 0)}),
        ({"t": ARROW.select(["x"]), "u": pd.DataFrame({"v": [nan]})}, {"t.x": (1, 0, 1), "u.v": (1, 0, 0)}),
    ],
)
def test_arrays_and_structures_of_them_are_looked_at(data: object, expected: dict[str | None, Any]) -> None:
    assert counts(data) == expected


def test_series_and_arrays_of_equal_length_are_rows_of_one_table() -> None:
    (batch,) = batches_of({"x": pd.Series([1.0, nan]), "y": np.zeros((2, 3)), "z": pa.array([1, None])})[1]
    assert batch.names == ["x", "y", "z"]
    assert batch.num_rows == 2


def test_arrays_of_equal_length_are_rows_of_one_table() -> None:
    data = {"x": np.arange(12.0).reshape(6, 2), "y": np.arange(6)}
    (batch,) = batches_of(data)[1]
    assert batch.names == ["x", "y"]
    assert batch.num_rows == 6
    assert np.shares_memory(batch.columns[0].data, data["x"])


def test_a_large_array_comes_in_views_of_it() -> None:
    array = np.zeros((40, 1 << 20), np.float32)
    batches: list[Batch] = list(batches_of(array)[1])
    assert len(batches) > 1
    assert all(np.shares_memory(batch.columns[0].data, array) for batch in batches)
    assert join(batches)[None].shape == array.shape


def test_an_array_of_objects_is_said_not_to_be_looked_into() -> None:
    (leaf,) = leaves(np.array([nan, "a"], object))
    assert leaf.problem


def test_bits_of_ml_dtypes_are_known() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert counts(np.array([1, nan], ml_dtypes.bfloat16)) == {None: (1, 0, 0)}


class HasArray:
    """Hands out a NumPy array, as arrays of JAX do."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray[Any, Any]:
        return np.array([1, nan])


def test_what_hands_out_an_array_is_looked_at() -> None:
    assert counts(HasArray()) == {None: (1, 0, 0)}


def test_what_cannot_be_checked_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot check data of type object; pass paths, NumPy"):
        batches_of(object())


@pytest.mark.torch
def test_tensors_and_models_are_looked_at() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[1.0, nan], [inf, 2.0]])
    assert counts(tensor) == {None: (1, 1, 0)}
    assert counts(tensor.T.to(torch.bfloat16)) == {None: (1, 1, 0)}
    assert counts({"x": tensor, "y": [torch.ones(3)]}) == {"x": (1, 1, 0), "y.0": (0, 0, 0)}
    assert counts(torch.utils.data.TensorDataset(tensor)) == {"tensors.0": (1, 1, 0)}
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = nan
    assert counts(model) == {"weight": (1, 0, 0), "bias": (0, 0, 0)}
    (batch,) = batches_of(tensor)[1]
    assert np.shares_memory(batch.columns[0].data, tensor.numpy())


def test_nothing_is_imported_that_the_data_does_not_need(run_python: Callable[[str], str]) -> None:
    program = """
import sys, numpy as np
from datacheck.sources.memory import batches_of
for data in (np.ones(3), {"x": np.ones(3)}, [1.0]):
    for batch in batches_of(data)[1]:
        [leaf for column in batch.columns for leaf in column.leaves()]
print([name for name in ("torch", "pandas", "polars", "safetensors") if name in sys.modules])
"""
    assert run_python(program).strip() == "[]"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "got an empty list; pass paths, NumPy"),
        ({}, "got an empty dict; pass paths"),
        ([1, 2], r"got a list of plain integers or text without an array; pass numpy\.asarray\(data\), or paths"),
        ({"a": [1, 2]}, r"a dict of plain integers .* pass pandas\.DataFrame\(data\), or"),
        (["a.csv", None], "expected a list of paths only, got one with a NoneType"),
        ([Path("a.csv"), 3], "expected strings or path objects, got int among them"),
        (3, "cannot check data of type int; pass paths"),
        (None, "cannot check data of type NoneType"),
    ],
)
def test_what_holds_no_data_says_what_to_pass(data: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        datacheck.scan(data)


def test_data_of_no_rows_is_not_called_a_file() -> None:
    (finding,) = datacheck.scan(np.zeros((0, 3))).findings
    assert finding.code == "DC306"
    assert "file" not in finding.message


@pytest.mark.parametrize("mode", ["sparse", "dense"])
def test_runs_inside_other_types_may_have_no_rows(mode: str) -> None:
    runs = pa.run_end_encoded(pa.int64(), pa.float32())
    kinds = [
        runs,
        pa.struct([("a", runs)]),
        pa.union([pa.field("u", runs)], mode),
        pa.dictionary(pa.int8(), runs),
        pa.uuid(),
    ]
    kinds += [
        pa.list_(runs),
        pa.list_(runs, 2),
        pa.large_list(runs),
        pa.large_list_view(runs),
        pa.map_(pa.string(), runs),
    ]
    batch = no_rows(pa.field(str(index), kind) for index, kind in enumerate(kinds))
    assert (batch.num_rows, batch.schema.types) == (0, kinds)
    batch.validate(full=True)
    # Of the union it is said that it cannot be checked, and of the others nothing.
    assert {(finding.code, finding.field) for finding in datacheck.scan(batch).findings} == {("DC005", "2")}
