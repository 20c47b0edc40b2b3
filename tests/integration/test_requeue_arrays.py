"""Quarantined rows of arrays and archives that somebody fixed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import contents, manifest_of, quarantine_of, write_pipeline

import datacheck
from datacheck.errors import UsageError

Arrays = dict[str, np.ndarray[Any, Any]]


def save_npz(path: Path, arrays: Arrays) -> None:
    np.savez(path, **arrays)


def save_hdf5(path: Path, arrays: Arrays) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


def load_hdf5(path: Path) -> Arrays:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        return {name: values[()] for name, values in file.items()}


def save_safetensors(path: Path, arrays: Arrays) -> None:
    pytest.importorskip("safetensors.numpy").save_file(arrays, path)


def load_safetensors(path: Path) -> Arrays:
    return dict(pytest.importorskip("safetensors.numpy").load_file(path))


FORMATS: dict[str, tuple[str, Callable[[Path, Arrays], None], Callable[[Path], Arrays]]] = {
    "npz": (".npz", save_npz, lambda path: dict(np.load(path))),
    "hdf5": (".h5", save_hdf5, load_hdf5),
    "safetensors": (".safetensors", save_safetensors, load_safetensors),
}


def make(dtype: str = "float32", shape: tuple[int, ...] = (2, 3)) -> Arrays:
    x = np.arange(10 * np.prod(shape, dtype=int)).reshape(10, *shape).astype(dtype)
    x[[2, 5, 7]] = np.nan
    return {"x": x, "y": np.arange(10)}


def bad_rows(output: Path) -> pd.DataFrame:
    table = quarantine_of(output)
    assert table is not None
    return table.to_pandas()


def fill(rows: pd.DataFrame, name: str, *values: float) -> pd.DataFrame:
    """The rows of which all values are replaced."""
    rows[name] = [
        np.full_like(old, value) if np.ndim(old) else value for old, value in zip(rows[name], values, strict=True)
    ]
    return rows


def requeued(output: Path) -> list[Path]:
    return [
        output / part["path"]
        for account in manifest_of(output)["inputs"]
        for part in account["outputs"]
        if part["kind"] == "rows" and "rows" in part
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_fixed_rows_of_an_archive_become_an_archive_of_their_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suffix, save, load = FORMATS[name]
    save(tmp_path / f"a{suffix}", make())
    rules = [{"action": "clip", "fields": "x", "bounds": "schema"}]
    pipeline = write_pipeline(tmp_path, f"a{suffix}", rules, schema={"fields": {"x": {"le": 55}, "y": {}}})
    datacheck.run(pipeline)
    output = tmp_path / "out"
    fill(bad_rows(output), "x", 1, np.nan, 99).to_parquet("fixed.parquet")
    report = datacheck.requeue(pipeline, "fixed.parquet")
    assert report.run.totals() == {"num_read": 10, "num_kept": 9, "num_dropped": 0, "num_quarantined": 1}
    (taken,) = requeued(output)
    arrays = load(taken)
    assert {key: values.dtype for key, values in arrays.items()} == {"x": np.float32, "y": np.int64}
    np.testing.assert_array_equal(arrays["x"], np.stack([np.full((2, 3), 1), np.full((2, 3), 55)]))
    assert arrays["y"].tolist() == [2, 7]
    assert bad_rows(output)["row"].tolist() == [5]
    # The rest, given in the nested lists that Arrow makes of a tensor.
    rows = bad_rows(output)
    table = pa.table({"x": [[[1.0, 2, 3], [4, 5, 6]]], **{key: rows[key] for key in rows if key != "x"}})
    assert datacheck.requeue(pipeline, table).ok
    assert load(requeued(output)[1])["x"].tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert datacheck.run(pipeline).totals()["num_kept"] == 10


@pytest.mark.parametrize(
    ("dtype", "shape"), [(">f4", (3,)), ("float16", ()), ("complex64", (3,)), ("complex128", ()), ("longdouble", (2,))]
)
def test_fixed_rows_have_the_dtype_of_their_array(
    dtype: str, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    array = make(dtype, shape)["x"]
    np.save("a.npy", array)
    pipeline = write_pipeline(tmp_path, "a.npy")
    datacheck.run(pipeline)
    rows = bad_rows(tmp_path / "out").drop(index=1)
    if dtype == "longdouble":
        rows["array"] = [array[0].tobytes()] * 2
    else:
        fill(rows, "array", 4, 4)
    assert datacheck.requeue(pipeline, rows).num_kept == 2
    (taken,) = map(np.load, requeued(tmp_path / "out"))
    assert taken.dtype == array.dtype
    expected = array[0] if dtype == "longdouble" else np.full((2, *shape), 4 + 4j if np.iscomplexobj(array) else 4)
    np.testing.assert_array_equal(taken, np.broadcast_to(expected, (2, *shape)))


@pytest.mark.torch
def test_aligned_arrays_stay_aligned_and_rows_know_their_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datacheck.torch import open_dataset

    monkeypatch.chdir(tmp_path)
    arrays = make()
    for name, values in arrays.items():
        np.save(f"{name}.npy", values)
    schema = {"unique": [["y"]], "fields": {"x": {}, "y": {}}}
    pipeline = write_pipeline(tmp_path, {"train": {"x": "x.npy", "y": "y.npy"}}, schema=schema)
    datacheck.run(pipeline)
    output = tmp_path / "out"
    rows = fill(bad_rows(output), "x", 1, 2, 3)
    rows.loc[1, "y"] = 4
    report = datacheck.requeue(pipeline, rows)
    assert (report.num_kept, report.num_quarantined) == (2, 1)
    assert "DC301" in [one.code for one in report.findings]
    assert sorted(path.name for path in requeued(output)) == ["x.requeued-1.npy", "y.requeued-1.npy"]
    dataset = open_dataset(str(output))
    assert sorted(int(sample["y"]) for sample in dataset) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert all(dataset.origin(index).row == int(dataset[index]["y"]) for index in range(len(dataset)))


def test_an_input_that_is_called_like_a_requeued_file_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.array([0, np.nan]))
    np.save("a.requeued-1.npy", np.array([1, np.nan]))
    pipeline = write_pipeline(tmp_path, ["a.npy", "a.requeued-1.npy"])
    datacheck.run(pipeline)
    assert datacheck.requeue(pipeline, bad_rows(tmp_path / "out").assign(array=[2.0, 3.0])).ok
    names = [part["path"] for account in manifest_of(tmp_path / "out")["inputs"] for part in account["outputs"]]
    assert len(set(names)) == len(names)
    kept = [np.load(tmp_path / "out" / name).tolist() for name in names if name.endswith(".npy")]
    assert sorted(kept) == [[0], [1], [2], [3]]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(4))
def test_a_killed_command_loses_no_array(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, values in make().items():
        np.save(f"{name}.npy", values)
    pipeline = write_pipeline(tmp_path, {"train": {"x": "x.npy", "y": "y.npy"}})
    datacheck.run(pipeline)
    rows = fill(bad_rows(tmp_path / "out"), "x", 1, 2, 3)
    original, calls = os.replace, 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > at:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dying)
        with suppress(Killed):
            datacheck.requeue(pipeline, rows)
    totals = datacheck.run(pipeline).totals()
    if totals["num_quarantined"]:
        datacheck.requeue(pipeline, rows)
    x, y = (np.concatenate([np.load(path) for path in (tmp_path / "out").rglob(f"{name}*.npy")]) for name in "xy")
    assert sorted(y.tolist()) == list(range(10))
    assert np.isfinite(x).all()
    listed = {part["path"] for account in manifest_of(tmp_path / "out")["inputs"] for part in account["outputs"]}
    assert set(contents(tmp_path / "out")) - {"manifest.json"} == listed


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([[1.0, 2], [1, 2], [1, 2]], "row 0 has 2 values, and rows of the array have 6, of shape [2, 3]"),
        ([[1.0] * 6, None, [1] * 6], "has a null in place of a list"),
        ([["a"] * 6] * 3, "is string, and the array has float32"),
        ([1.0, 2, 3], "row 0 has 1 values"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_changed(
    values: list[Any], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **make())
    pipeline = write_pipeline(tmp_path, "a.npz")
    datacheck.run(pipeline)
    before = contents(tmp_path / "out")
    rows = quarantine_of(tmp_path / "out")
    assert rows is not None
    with pytest.raises(UsageError, match="fixed rows") as raised:
        datacheck.requeue(pipeline, rows.set_column(0, "x", pa.array(values)))
    assert problem in str(raised.value)
    assert contents(tmp_path / "out") == before


@pytest.mark.torch
def test_bfloat16_is_given_as_its_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import load_file

    monkeypatch.chdir(tmp_path)
    torch.save(torch.tensor([[1.0, 2], [3, torch.nan]], dtype=torch.bfloat16), "a.pt")
    pipeline = write_pipeline(tmp_path, "a.pt")
    datacheck.run(pipeline)
    rows = bad_rows(tmp_path / "out")
    with pytest.raises(UsageError, match="bfloat16 as the integers of its bits: give them as uint16"):
        datacheck.requeue(pipeline, rows.assign(array=[[3.0, 4.0]]))
    bits = torch.tensor([3.0, 4], dtype=torch.bfloat16).view(torch.uint16).numpy()
    assert datacheck.requeue(pipeline, rows.assign(array=[bits])).ok
    (taken,) = map(load_file, requeued(tmp_path / "out"))
    (tensor,) = taken.values()
    assert tensor.dtype == torch.bfloat16
    assert tensor.tolist() == [[3, 4]]


def test_arrays_may_be_requeued_into_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **make())
    pipeline = write_pipeline(tmp_path, "a.npz", output={"path": "out", "format": "parquet"})
    datacheck.run(pipeline)
    assert datacheck.requeue(pipeline, fill(bad_rows(tmp_path / "out"), "x", 1, 2, 3)).ok
    (taken,) = map(pq.read_table, requeued(tmp_path / "out"))
    assert taken["y"].to_pylist() == [2, 5, 7]
    assert json.loads(json.dumps(taken["x"].to_pylist()[0])) == [1.0] * 6
