"""What holds for every format: an oracle finds the same values, whoever does the work."""

from __future__ import annotations

import importlib.util
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_format import DIRTY, Written, expected, make_arrays, parameters
from source_files import shrink_units

import datacheck
from datacheck import ReadOptions, Report, Schema
from datacheck.errors import OutputError

#: Formats of checkpoints alone.
SCAN_ONLY = ("gguf", "gguf-quantised", "dcp")
every_format = pytest.mark.parametrize("name", parameters(DIRTY))


def write(name: str, folder: Path, seed: int = 0) -> Written:
    folder.mkdir(parents=True)
    return DIRTY[name].write(folder, *make_arrays(seed))


def check(report: Report, written: Written, name: str) -> None:
    """Compare what a scan found with what NumPy finds."""
    dirty = DIRTY[name]
    for path, fields in written.files.items():
        found: dict[Any, Any] = {}
        for one in report.findings:
            if one.code in ("DC101", "DC102", "DC103", "DC204") and one.uri == str(path):
                places = [(0 if written.is_sample else example.row, example.index) for example in one.examples]
                found[one.code, one.field] = (one.num_violations, one.num_checked, places)
        assert found == expected(fields, dirty)


@every_format
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_scan_finds_what_numpy_finds(
    name: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch, 600, 200)
    written = write(name, tmp_path / "data", seed=workers)
    check(datacheck.scan(written.path, Schema(fields=DIRTY[name].schema), workers=workers), written, name)


@pytest.mark.slow
def test_worker_processes_find_what_numpy_finds(tmp_path: Path) -> None:
    # Those of torch take seconds to import it, in each process.
    names = [
        name
        for name, one in DIRTY.items()
        if "torch" not in one.needs and all(map(importlib.util.find_spec, one.needs))
    ]
    written = {name: write(name, tmp_path / name) for name in names}
    fields = {name: {**rule, "required": False} for one in DIRTY.values() for name, rule in one.schema.items()}
    paths = [one.path for one in written.values()]
    report = datacheck.scan(paths, Schema(fields=fields), workers=2, executor="processes")
    assert len(written) > 20
    for name, one in written.items():
        check(report, one, name)


@pytest.mark.parametrize("kind", ["jsonl", "tar", "tfrecord", "mds", "parquet"])
@pytest.mark.parametrize(
    "name", [one for one in parameters(DIRTY) if one.values[0] in ("jsonl", "tfrecord", "mds", "tar")]
)
def test_rows_of_one_format_are_written_in_another(name: str, kind: str, tmp_path: Path) -> None:
    if kind in ("tfrecord", "jsonl"):
        pytest.importorskip({"tfrecord": "google_crc32c", "jsonl": "msgspec"}[kind])
    written = write(name, tmp_path / "data")
    output = {"path": str(tmp_path / "out"), "format": kind}
    pipeline = {"version": 1, "inputs": str(written.path), "output": output, "otherwise": "drop_row"}
    (tmp_path / "p.yaml").write_text(json.dumps(pipeline))
    try:
        report = datacheck.run(tmp_path / "p.yaml")
    except OutputError as error:
        assert "cannot hold" in str(error) or "only samples of tar" in str(error)
        return
    again = datacheck.scan(tmp_path / "out" / "data")
    assert again.num_rows == report.totals()["num_kept"] > 0
    assert not [one for one in again.findings if one.is_error]


@every_format
def test_every_door_takes_it(name: str, tmp_path: Path) -> None:
    """``infer``, ``compare``, ``open_dataset`` and ``run`` on the same files; a run keeps the rows without a bad value."""
    first, second = write(name, tmp_path / "a", 0), write(name, tmp_path / "b", 1)
    fields = next(iter(first.files.values()))
    names = {None if field is None else field.partition(".")[0].removesuffix("[]") for field in fields}
    assert names <= {field and field.partition(".")[0] for field in datacheck.infer(first.path).fields} | {"w"}
    compared = datacheck.compare(first.path, second.path, drift=find_spec("scipy") is not None)
    assert not any(one.code.startswith("DC9") for one in compared.findings)
    check_run(name, first, tmp_path)
    if first.is_sample:
        (tmp_path / "clean").mkdir()
        clean = [np.where(np.isfinite(values), values, 0.25).astype(np.float32) for values in make_arrays(2)]
        check_run(name, DIRTY[name].write(tmp_path / "clean", *clean), tmp_path / "clean")


def check_run(name: str, written: Written, folder: Path) -> None:
    schema = {
        "version": 1,
        "fields": {field: {**rule, "required": False} for field, rule in DIRTY[name].schema.items()},
    }
    (folder / "schema.yaml").write_text(json.dumps(schema))
    pipeline = {
        "inputs": {"train": str(written.path)},
        "output": {"path": str(folder / "out")},
        "schema": "schema.yaml",
    }
    (folder / "p.yaml").write_text(json.dumps({"version": 1, **pipeline, "otherwise": "drop_row"}))
    if name in SCAN_ONLY:
        with pytest.raises(OutputError, match="checkpoints are checked and compared, not cleaned"):
            datacheck.run(folder / "p.yaml")
        assert not (folder / "out").exists()
        return
    report = datacheck.run(folder / "p.yaml")
    good = [
        np.logical_and.reduce([~bad_rows(rows, name) for rows in fields.values()]) for fields in written.files.values()
    ]
    num_kept = sum(int(rows.sum()) for rows in good)
    assert list(report.totals().values()) == [sum(map(len, good)), num_kept, sum(map(len, good)) - num_kept, 0]
    if num_kept:
        options = ReadOptions(rows="file" if written.is_sample else None)
        output = datacheck.scan(folder / "out" / "train", folder / "schema.yaml", options=options)
        assert output.num_rows == num_kept
        assert not [one for one in output.findings if one.is_error]


def bad_rows(rows: Any, name: str) -> Any:
    limit = DIRTY[name].limit
    return np.array(
        [not np.isfinite(row).all() if limit is None else bool((np.asarray(row) >= limit).any()) for row in rows]
    )


@pytest.mark.torch
@every_format
def test_a_dataset_has_its_rows(name: str, tmp_path: Path) -> None:
    from datacheck.torch import open_dataset

    written = write(name, tmp_path / "a")
    dataset = open_dataset(written.path)
    row = 0
    for path, fields in written.files.items():
        for index in range(len(next(iter(fields.values())))):
            sample = dataset[row]
            assert dataset.origin(row).uri == str(path)
            for field, rows in fields.items():
                expected_value = np.asarray(rows[index], np.float64).reshape(-1)
                value = sample if field is None else value_of(sample, field)
                assert np.array_equal(np.asarray(value, np.float64).reshape(-1), expected_value, equal_nan=True), field
            row += 1
    assert len(dataset) == row


def value_of(sample: Any, field: str) -> Any:
    """The value at the path of a field."""
    if field in sample:
        return sample[field]
    name, _, rest = field.partition(".")
    value = sample[name.removesuffix("[]")]
    return value_of(value, rest) if rest and isinstance(value, dict) else value
