"""Named dimensions, as jaxtyping has them, where people meet them: arrays, columns, files, samples, pipelines."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck import Schema
from datacheck.batch import Batch
from datacheck.checks.dimensions import DimensionCheck
from datacheck.dataset_rules.base import Context, Part
from datacheck.dataset_rules.dimensions import DimensionsRule
from datacheck.errors import SchemaError

IMAGES = Schema(fields={"image": {"shape": ["N", 3, "H", "W"]}, "mask": {"shape": ["N", "H", "W"]}})
TOKENS = {"input_ids": {"shape": ["T"], "nullable": True}, "labels": {"shape": ["T"], "nullable": True}}


def messages(data: Any, schema: Any, **options: Any) -> list[str]:
    return [f"{one.code} {one.message}" for one in datacheck.scan(data, schema, **options).findings]


def test_images_and_masks_of_one_size_are_clean(tmp_path: Path) -> None:
    np.savez(tmp_path / "ok.npz", image=np.zeros((4, 3, 8, 9)), mask=np.zeros((4, 8, 9)))
    assert messages(tmp_path / "ok.npz", IMAGES) == []


def test_a_mask_of_another_size_is_named_with_both(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 3, 8, 8)), mask=np.zeros((2, 8, 9)))
    (found,) = messages(tmp_path / "a.npz", IMAGES)
    assert found == (
        "DC307 2 of 2 rows have different sizes of W in image [N, 3, H, W], mask [N, H, W]: found image 8, mask 9"
        f" ({tmp_path}/a.npz, rows 0, 1)"
    )


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_arrays_of_one_file_with_unequal_rows(tmp_path: Path, is_in_memory: bool) -> None:
    arrays = {"image": np.zeros((4, 3, 8, 8)), "mask": np.zeros((3, 8, 9))}
    np.savez(tmp_path / "b.npz", **arrays)
    found = messages(arrays if is_in_memory else tmp_path / "b.npz", IMAGES)
    assert [one.partition(" (")[0] for one in found] == [
        "DC304 the arrays have unequal numbers of rows: 'image' has 4 rows, 'mask' has 3 rows",
        "DC308 W is not one size: image [N, 3, H, W], mask [N, H, W]: 'image' has 8, 'mask' has 9",
    ]


def test_two_files_that_belong_together_have_the_same_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "X_train.npy", np.ones((800, 4), np.float32))
    np.save(tmp_path / "y_train.npy", np.ones(798, np.int64))
    fields = {"X_train": {"dtype": "float32", "shape": ["N", 4]}, "y_train": {"dtype": "int64", "shape": ["N"]}}
    schema = Schema(fields=fields, dimensions={"N": "dataset"})
    files = [tmp_path / "X_train.npy", tmp_path / "y_train.npy"]
    (found,) = messages(files, schema)
    assert found.startswith(
        "DC304 the arrays have unequal numbers of rows: 'X_train' of X_train.npy has 800 rows, 'y_train' of y_train.npy"
        " has 798 rows"
    )
    np.save(tmp_path / "y_train.npy", np.ones(800, np.int64))
    assert messages(files, schema) == []


def test_each_file_of_one_array_is_held_to_the_field_with_its_name(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full(3, 5.0))
    np.save(tmp_path / "y.npy", np.full(3, 5))
    schema = Schema(fields={"x": {"le": 4}, "y": {"le": 9}}, checks=["y >= 5", "x > 9"])
    found = messages([tmp_path / "x.npy", tmp_path / "y.npy"], schema)
    assert [one.partition(":")[0] for one in found] == [
        "DC202 3 of 3 values in 'x' are not <= 4",
        "DC302 3 of 3 rows break x > 9",
    ]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_dimension_of_the_dataset_is_one_size_in_all_files(tmp_path: Path, workers: int) -> None:
    for number, width in enumerate([8, 8, 6]):
        rows = pa.array([[1.0] * width] * 50, pa.list_(pa.float32()))
        pq.write_table(pa.table({"v": rows}), tmp_path / f"p{number}.parquet", row_group_size=7)
    schema = Schema(fields={"v": {"shape": ["D"]}}, dimensions={"D": "dataset"})
    (found,) = messages(tmp_path, schema, workers=workers)
    assert (
        "D is not one size: v [D]: 'v' of p0.parquet has 8, 'v' of p1.parquet has 8, 'v' of p2.parquet has 6" in found
    )
    assert messages(tmp_path, Schema(fields={"v": {"shape": ["D"]}}, dimensions={"D": "file"})) == []
    assert messages(tmp_path, Schema(fields={"v": {"shape": ["D"]}})) == []


LENGTHS = st.none() | st.integers(0, 3)


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=8), cuts=st.lists(st.integers(0, 99), max_size=2)
)
def test_the_lengths_of_two_lists_agree_with_python_for_any_split(rows: Any, cuts: list[int]) -> None:
    def lists(place: int) -> pa.Array:
        return pa.array([None if row[place] is None else [1] * row[place] for row in rows], pa.list_(pa.int64()))

    batch = Batch.from_arrow(pa.record_batch({"input_ids": lists(0), "labels": lists(1)}))
    edges = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    broken: list[int] = []
    for start, stop in itertools.pairwise(edges):
        part = batch.slice(start, stop - start)
        (outcome,) = DimensionCheck(Schema(fields=TOKENS)).run(part)
        broken += [] if outcome.rows is None else part.file_rows(outcome.rows).tolist()
    assert broken == [row for row, (a, b) in enumerate(rows) if a is not None and b is not None and a != b]


@settings(max_examples=60)
@given(st.lists(st.none() | st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=6))
def test_lists_of_lists_have_a_shape(rows: Any) -> None:
    values = [None if row is None else [[0.0] * length for length in row] for row in rows]
    table = pa.table({"m": pa.array(values, pa.list_(pa.list_(pa.float64())))})
    report = datacheck.scan(table, Schema(fields={"m": {"shape": [None, 2], "nullable": True}}))
    broken = [row for row in rows if row is not None and any(length != 2 for length in row)]
    assert sum(one.num_violations for one in report.findings) == len(broken)
    square = datacheck.scan(table, Schema(fields={"m": {"shape": ["K", "K"], "nullable": True}}))
    expected = [row for row in rows if row and set(row) != {len(row)}]
    assert sum(one.num_violations for one in square.findings) == len(expected)


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"fields": {"x": {"shape": ["H W"]}}}, "fields.x.shape[0]): expected an integer, a name such as H"),
        ({"fields": {"x": {"shape": ["H"]}}, "dimensions": {"W": "file"}}, "dimensions.W): is in no 'shape'"),
        ({"fields": {"x": {"shape": ["H"]}}, "dimensions": {"H": "split"}}, "dimensions.H): must be 'row', 'file'"),
    ],
)
def test_a_name_or_scope_that_cannot_be_is_an_error_with_its_place(mapping: Any, problem: str) -> None:
    with pytest.raises(SchemaError) as error:
        Schema(**mapping)
    assert problem in str(error.value)


def test_rows_of_different_sizes_are_quarantined(tmp_path: Path) -> None:
    table = pa.table({"input_ids": [[1, 2], [1], [4, 5]], "labels": [[1, 1], [1, 1], [1, 1]]})
    pq.write_table(table, tmp_path / "train.parquet")
    lines = ["version: 1", "schema: s.yaml", "inputs: {train: train.parquet}", "output: {path: out}"]
    (tmp_path / "p.yaml").write_text("\n".join([*lines, "clean: [{action: quarantine, codes: DC307}]"]))
    (tmp_path / "s.yaml").write_text("fields:\n  input_ids: {shape: [T]}\n  labels: {shape: [T]}\n")
    (account,) = datacheck.run(tmp_path / "p.yaml").accounts
    assert (account.num_kept, account.num_quarantined) == (2, 1)


def test_sizes_that_were_remembered_are_judged_the_same(tmp_path: Path) -> None:
    for number, width in enumerate([8, 6]):
        table = pa.table({"v": pa.array([[1.0] * width] * 5, pa.list_(pa.float32()))})
        pq.write_table(table, tmp_path / f"p{number}.parquet")
    rule = DimensionsRule(Schema(fields={"v": {"shape": ["D"]}}, dimensions={"D": "dataset"}))
    states = []
    for number in range(2):
        state = rule.start(Part(f"p{number}.parquet"))
        state.update(Batch.from_arrow(pq.read_table(tmp_path / f"p{number}.parquet").to_batches()[0]))
        states.append(pickle.loads(pickle.dumps(state)))
    states[0].merge(states[1])
    (outcome,) = states[0].outcomes(Context(("p0.parquet", "p1.parquet")))
    assert outcome.finding.detail == "v [D]: 'v' of p0.parquet has 8, 'v' of p1.parquet has 6"
