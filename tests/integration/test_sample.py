"""A scan of a sample looks at the same units whoever runs it, says what it left out, and judges nothing that needs the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.errors import UsageError
from datacheck.gate.checking import check
from datacheck.jobs.sampling import Sample, parse_share

FILES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files, each with one NaN, and a large one of several units with a NaN in each of its rows."""
    root = tmp_path_factory.mktemp("sampled") / "data"
    root.mkdir()
    for number in range(FILES):
        values = np.zeros((50, 2), np.float32)
        values[number, 0] = np.nan
        np.save(root / f"{number:03}.npy", values)
    large = np.lib.format.open_memmap(root / "large.npy", "w+", np.float32, (1 << 19, 64))
    large[:, 0] = np.nan
    large.flush()
    return root


def places(report: datacheck.Report) -> list[tuple[str, str, int]]:
    return [(finding.code, finding.uri, finding.num_violations) for finding in report.findings]


def test_the_same_units_whatever_runs_them(folder: Path) -> None:
    one, two, three = (datacheck.scan(folder, sample="10%", workers=workers) for workers in (1, 2, 3))
    assert places(one) == places(two) == places(three)
    assert one.sample == two.sample == three.sample
    # Two units of the large file, and 40 small ones: a tenth is five, rounded up.
    assert one.sample.startswith("a sample: 5 of 42 units checked")


def test_a_sample_counts_only_what_it_read(folder: Path) -> None:
    report = datacheck.scan(folder, sample=0.1)
    errors = [finding for finding in report.findings if finding.is_error]
    # Which units are chosen depends on the folder: both of the large file may be among the five.
    assert len(errors) == report.num_files
    assert report.num_files in (4, 5)
    assert {finding.num_checked for finding in errors} <= {100, 1 << 24, 1 << 25}
    note = next(finding for finding in report.findings if finding.code == "DC916")
    assert (note.num_violations, note.num_checked) == (37, 42)
    assert "5 of 42 units" in report.to_text().splitlines()[-1]
    assert datacheck.Report.from_dict(json.loads(report.to_json())).sample == report.sample


def test_a_part_of_a_large_file_counts_only_its_rows(folder: Path) -> None:
    report = datacheck.scan(folder / "large.npy", sample="50%")
    (error,) = [finding for finding in report.findings if finding.is_error]
    assert error.num_violations == error.num_rows == report.num_rows == 1 << 18
    assert error.num_checked == 1 << 24
    assert report.num_bytes < (folder / "large.npy").stat().st_size * 0.6


def test_all_of_it_finds_what_a_scan_finds(folder: Path) -> None:
    assert places(datacheck.scan(folder, sample=1)) == places(datacheck.scan(folder))


def test_nothing_of_a_sample_is_cached(folder: Path, tmp_path: Path) -> None:
    settings = {"cache_dir": str(tmp_path / "cache")}
    sampled = check(folder, sample="10%", **settings)
    whole = check(folder, **settings)
    assert (sampled.num_unchanged, whole.num_unchanged, whole.num_files) == (0, 0, FILES + 1)
    assert check(folder, sample="10%", **settings).num_unchanged == 0
    assert check(folder, **settings).num_unchanged == FILES + 1


def test_keys_and_rules_about_the_dataset_are_not_judged(tmp_path: Path) -> None:
    for number in range(20):
        pq.write_table(pa.table({"id": [1, 1], "x": [1.0, 2.0]}), tmp_path / f"{number}.parquet")
    schema = datacheck.Schema.model_validate({"unique": ["id"], "fields": {"x": {"mean": {"ge": 100}}}})
    report = datacheck.scan(tmp_path, schema, sample="10%")
    assert [(finding.code, finding.severity) for finding in report.findings] == [
        ("DC916", "info"),
        ("DC005", "warning"),
    ]
    assert "a sample cannot tell" in report.findings[1].message
    assert not datacheck.scan(tmp_path, schema).ok


def test_arrays_that_a_sample_left_out_are_not_missing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, rows in (("a", 1 << 21), ("b", 1 << 22), ("c", 3 << 20)):
            file[name] = np.zeros((rows, 8), np.float32)
    schema = datacheck.Schema.model_validate({"fields": {name: {"dtype": "float32"} for name in "abc"}})
    report = datacheck.scan(tmp_path, schema, sample="20%")
    assert [finding.code for finding in report.findings] == ["DC916"]
    assert 0 < report.num_rows < (1 << 21) + (1 << 22) + (3 << 20)


def test_an_error_in_a_large_file_is_always_seen(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "large.npy").write_bytes(b"x" * (65 << 20))
    for number in range(30):
        np.save(tmp_path / f"{number}.npy", np.zeros(3))
    report = datacheck.scan(tmp_path, sample="5%")
    assert "DC901" in {finding.code for finding in report.findings}


@pytest.mark.slow
def test_the_command_says_what_it_looked_at(folder: Path) -> None:
    command = [sys.executable, "-m", "datacheck", "scan", "--no-cache", "--sample"]
    done = subprocess.run([*command, "2%", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a sample: 1 of 42 units checked" in done.stdout
    wrong = subprocess.run([*command, "many", str(folder)], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert (
        wrong.stderr == "datacheck: sample: expected a share such as 1% or 0.01, above 0 and at most 100%, got 'many'\n"
    )
    both = subprocess.run([*command, "1%", "--notes", str(folder)], capture_output=True, text=True, check=False)
    assert both.returncode == 2
    assert "leave one of them out" in both.stderr


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.5 %", 0.005), (".25", 0.25), (1, 1.0), ("100%", 1.0)])
def test_shares(text: str | float, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0", "-1%", "101%", "1e-3", "", "nan", float("nan"), 2])
def test_what_is_no_share(text: str | float) -> None:
    with pytest.raises(UsageError, match="expected a share"):
        parse_share(text)


def test_data_in_memory_has_no_sample() -> None:
    with pytest.raises(UsageError, match="no units to choose from"):
        datacheck.scan(np.zeros(3), sample="1%")


def test_a_larger_sample_has_the_units_of_a_smaller_one() -> None:
    units = [(f"{number}.npy", 0) for number in range(100)]
    small, large = Sample(0.05).choose(units), Sample(0.5).choose(units)
    assert len(small) == 5
    assert small < large
