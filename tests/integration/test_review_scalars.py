"""Single numbers among the inputs: a scan looks at them, a run says that they have no rows, and goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

import datacheck

NUMBER = np.array(5.0)


def write(folder: Path, name: str, *arrays: np.ndarray) -> None:
    named = {f"a{position}": array for position, array in enumerate(arrays)}
    if name.endswith(".npy"):
        np.save(folder / name, arrays[0])
    elif name.endswith(".npz"):
        np.savez(folder / name, **named)
    else:
        pytest.importorskip("safetensors.numpy").save_file(named, folder / name)


def run(folder: Path, inputs: object) -> datacheck.RunReport:
    pipeline = folder / "p.yaml"
    pipeline.write_text(yaml.safe_dump({"inputs": {"train": inputs}, "output": {"path": "out"}}))
    return datacheck.run(pipeline, workers=1)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_run_says_that_a_number_has_no_rows_and_does_the_others(tmp_path: Path, name: str, count: int) -> None:
    write(tmp_path, name, *[NUMBER] * count)
    np.save(tmp_path / "rows.npy", np.ones(3))
    report = run(tmp_path, [name, "rows.npy"])
    assert [finding.code for finding in report.findings] == ["DC304"]
    assert not report.ok
    assert np.load(tmp_path / "out" / "train" / "rows.npy").tolist() == [1, 1, 1]


def test_a_number_is_no_column_of_a_table_of_one_row(tmp_path: Path) -> None:
    write(tmp_path, "x.npy", NUMBER)
    write(tmp_path, "y.npy", np.ones(1))
    report = run(tmp_path, {"x": "x.npy", "y": "y.npy"})
    assert [(finding.code, finding.detail[:20]) for finding in report.findings] == [("DC304", "'x' is not a column:")]


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_scan_looks_at_numbers(tmp_path: Path, name: str, count: int) -> None:
    write(tmp_path, name, *[np.array(np.nan)] * count)
    report = datacheck.scan(tmp_path / name)
    assert [(finding.code, finding.num_violations, finding.num_checked) for finding in report.findings] == [
        ("DC101", 1, 1)
    ] * (1 if name.endswith(".npy") else count)
