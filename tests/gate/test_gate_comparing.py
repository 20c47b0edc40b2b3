"""``datacheck compare`` with a configuration: schema, thresholds and excluded files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Write = Callable[[str, str], Path]
Run = Callable[..., Any]


def save_ids(name: str, ids: Sequence[int]) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"id": ids, "x": [number * 10.0 if "train" in name else number * 21.0 for number in ids]}), path
    )


def compared(run: Run, *options: str) -> list[tuple[str, str, int]]:
    """Code, dataset and number of violations of each error in a comparison of train and test."""
    done = run("compare", "data/train", "data/test", "--no-drift", "-f", "json", *options)
    assert done.err == ""
    report = json.loads(done.out)
    found = [(entry["code"], entry["uri"], entry["num_violations"]) for entry in report["findings"]]
    assert done.code == bool(found)
    return found


@pytest.fixture
def splits(folder: Path) -> None:
    save_ids("data/train/a.parquet", [1, 2, 3])
    save_ids("data/test/a.parquet", [3, 4])


@pytest.mark.usefixtures("splits")
def test_keys_come_from_the_schema_of_the_training_data(run: Run, write: Write) -> None:
    write("s.yaml", "unique: [[id]]\n")
    write("other.yaml", "unique: [[x]]\n")
    assert compared(run) == []
    write("datacheck.yaml", "schemas: {data/train/: s.yaml, data/: other.yaml}\n")
    assert compared(run) == [("DC311", "data/test/a.parquet", 1)]
    assert compared(run, "--schema", "other.yaml") == []
    write("datacheck.yaml", "schema: s.yaml\n")
    assert compared(run) == [("DC311", "data/test/a.parquet", 1)]


@pytest.mark.usefixtures("splits")
def test_excluded_files_are_not_compared(run: Run, write: Write) -> None:
    save_ids("data/train/raw/b.parquet", [4])
    assert compared(run, "--key", "id") == [("DC311", "data/test/a.parquet", 2)]
    write("datacheck.yaml", "exclude: [raw/]\n")
    assert [(code, number) for code, _, number in compared(run, "--key", "id")] == [("DC311", 1)]
    write("datacheck.yaml", "exclude: [data/test/]\n")
    done = run("compare", "data/train", "data/test")
    assert (done.code, done.out) == (2, "")
    assert (
        done.err
        == "datacheck: data/test: nothing to compare, because 'exclude' in the configuration matches all of its files\n"
    )


@pytest.mark.usefixtures("splits")
def test_training_data_with_several_schemas_is_an_error(run: Run, write: Write) -> None:
    save_ids("data/train/b.parquet", [7])
    write("s.yaml", "unique: [[id]]\n")
    write("datacheck.yaml", "schemas: {data/train/a.parquet: s.yaml}\n")
    done = run("compare", "data/train", "data/test", "--no-drift")
    assert (done.code, done.out) == (2, "")
    assert "data/train: its files have different schemas ('none', 's.yaml'); choose one with --schema" in done.err
    assert compared(run, "--schema", "s.yaml") == [("DC311", "data/test/a.parquet", 1)]


@pytest.mark.usefixtures("splits")
def test_options_override_the_configured_thresholds(run: Run, write: Write) -> None:
    write("datacheck.yaml", "compare: {key: id}\n")
    assert compared(run) == [("DC311", "data/test/a.parquet", 1)]
    assert compared(run, "--key", "x") == []


@pytest.mark.parametrize("arguments", [["scan", "data"], ["config"], ["compare", "data/train", "data/test"]])
@pytest.mark.usefixtures("splits")
def test_every_command_reports_a_wrong_threshold(run: Run, write: Write, arguments: list[str]) -> None:
    write("datacheck.yaml", "compare: {psii: 1, ks: 2}\n")
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "datacheck.yaml: compare.psii: unknown key 'psii'; did you mean 'psi'?" in done.err
    assert "datacheck.yaml: compare.ks: must be less than or equal to 1, got 2" in done.err
    assert run("schema", "check", "datacheck.yaml").code == 2


def test_config_shows_the_configured_thresholds(run: Run, write: Write) -> None:
    write("datacheck.yaml", "compare: {psi: 0.5, row-exclude: [n]}\n")
    rows = [line.split(None, 2) for line in run("config").out.splitlines() if line.startswith("compare")]
    assert rows == [["compare.psi", "0.5", "datacheck.yaml"], ["compare.row-exclude", "n", "datacheck.yaml"]]
