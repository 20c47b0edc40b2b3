"""Many small files, checked together: what is found of each is what is found of it alone."""

from __future__ import annotations

import tempfile
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
from datacheck.codes import CODES
from datacheck.jobs.units import small_files
from datacheck.jobs.units.small_files import MAX_FILES, MAX_GROUP_BYTES, SMALL_FILE_BYTES, group_small

VALUES = st.sampled_from([0.0, 1.0, -5.0, float("nan"), float("inf"), 1e300])
SCHEMA = Schema(
    fields={"x": {"dtype": "float32", "coerce": True, "ge": -1}, "s": {"dtype": "string", "required": False}}
)


@st.composite
def files(draw: st.DrawFn) -> Any:
    """A suffix, and what a file of it holds; or bytes that are no file at all."""
    kind = draw(st.sampled_from(["parquet", "double", "text", "list", "npy", "wide", "csv", "broken"]))
    size = draw(st.integers(0, 6))
    values = draw(st.lists(st.one_of(st.just(0.0), VALUES), min_size=size, max_size=size))
    if kind == "broken":
        return draw(st.sampled_from(["parquet", "npy"])), b"no data"
    if kind in ("npy", "wide"):
        return "npy", np.array(values, np.float64).reshape((size, 1) if kind == "wide" else (size,))
    if kind == "csv":
        return "csv", "x,s\n" + "".join(f"{value},a\n" for value in values)
    column = {
        "parquet": pa.array(values, pa.float32()),
        "double": pa.array([None, *values][:size], pa.float64()),
        "text": pa.array([str(value) if value != 1.0 else "word" for value in values], pa.string()),
        "list": pa.array([[value] for value in values], pa.list_(pa.float32())),
    }[kind]
    return "parquet", pa.table({"x": column, **({"s": ["a"] * size} if draw(st.booleans()) else {})})


def write(path: Path, data: Any) -> None:
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif isinstance(data, str):
        path.write_text(data)
    elif isinstance(data, np.ndarray):
        np.save(path, data)
    else:
        pq.write_table(data, path, row_group_size=4)


@pytest.mark.parametrize("schema", [None, SCHEMA])
@settings(max_examples=40, deadline=None)
@given(drawn=st.lists(files(), min_size=2, max_size=12), workers=st.integers(1, 2), together=st.integers(1, 5))
def test_what_is_found_of_a_file_does_not_depend_on_its_neighbours(
    schema: Schema | None, drawn: list[Any], workers: int, together: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        paths = [Path(name) / f"{index:02d}.{suffix}" for index, (suffix, _) in enumerate(drawn)]
        for path, (_, data) in zip(paths, drawn, strict=True):
            write(path, data)
        alone = [datacheck.scan(path, schema) for path in paths]
        patch.setattr(small_files, "MAX_FILES", together)
        patch.setattr(small_files, "SMALL_BATCH_BYTES", 100)
        report = datacheck.scan(paths, schema, workers=workers)
    of_files = [finding for finding in report.findings if not CODES[finding.code].about_inputs]
    assert of_files == [finding for one in alone for finding in one.findings]
    assert report.num_rows == sum(one.num_rows for one in alone)


@given(st.lists(st.sampled_from([0, 10, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1]), max_size=3 * MAX_FILES))
def test_every_file_is_in_one_group_and_a_large_one_alone(sizes: list[int]) -> None:
    groups = list(group_small(sizes))
    assert [index for group in groups for index in range(len(sizes))[group]] == list(range(len(sizes)))
    for group in groups:
        assert 1 <= len(sizes[group]) <= MAX_FILES
        assert len(sizes[group]) == 1 or max(sizes[group]) <= SMALL_FILE_BYTES
        assert len(sizes[group]) == 1 or sum(sizes[group]) <= MAX_GROUP_BYTES


def test_a_file_whose_batch_is_too_large_to_wait_is_read_to_its_end(tmp_path: Path) -> None:
    rows = (small_files.SMALL_BATCH_BYTES // 8) + 1
    for name in "ab":
        pq.write_table(pa.table({"x": np.zeros(rows)}), tmp_path / f"{name}.parquet", row_group_size=rows // 2)
    assert (tmp_path / "a.parquet").stat().st_size <= SMALL_FILE_BYTES
    report = datacheck.scan(tmp_path)
    assert report.ok
    assert report.num_rows == 2 * rows
