"""Comparisons and schemas of data that several processes share: hashes are in files, and nobody has those of all rows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import write_table

import datacheck
from datacheck.errors import WorkerLostError
from datacheck.jobs.sharding.merge import Merge
from datacheck.jobs.sharding.shards import Shard


def columns(seed: int, num_rows: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "sex": random.choice(["m", "f"], num_rows).tolist(),
        "age": random.integers(18, 60, num_rows),
        "weight": random.integers(0, 5, num_rows).astype(np.float32),
    }


def by_chance() -> tuple[list[Any], list[Any]]:
    """Rows of few values, which two datasets share by chance; one file lacks a column."""
    short = {name: values for name, values in columns(7, 60).items() if name != "weight"}
    return [columns(seed, 400) for seed in range(3)], [columns(5, 300), short, columns(6, 200)]


def leaked() -> tuple[list[Any], list[Any]]:
    """Rows of rare values, some of which are in both datasets, within a file and across files."""
    train = [{**columns(seed, 300), "x": np.random.default_rng(seed).normal(size=300)} for seed in range(3)]
    other = [{**columns(seed, 200), "x": np.random.default_rng(seed).normal(size=200)} for seed in range(10, 12)]
    for file, row, origin, place in ((0, 7, 0, 3), (0, 8, 2, 5), (1, 199, 1, 299), (1, 0, 0, 3)):
        for name, values in other[file].items():
            values[row] = train[origin][name][place]
    return train, other


def numbered() -> tuple[list[Any], list[Any]]:
    """Leaked rows that differ in the number of the row."""
    train, other = leaked()
    train = [{"n": np.arange(300) + 1000 * number, **one} for number, one in enumerate(train)]
    other = [{"n": np.arange(200) + 5000 * number + 90_000, **one} for number, one in enumerate(other)]
    return train, other


def rounded() -> tuple[list[Any], list[Any]]:
    """Keys that are equal only as floats."""
    big = np.arange(100) * 2 + 2**53 + 1
    noise = np.random.default_rng(0).standard_normal((3, 100))
    return (
        [{"id": big, "x": noise[0]}, {"id": big + 1000, "x": noise[1]}],
        [{"id": big.astype(np.float64), "x": noise[2]}],
    )


@pytest.fixture(params=[by_chance, leaked, numbered, rounded])
def datasets(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    # Each row group is a unit.
    monkeypatch.setattr("datacheck.sources.parquet.TARGET_UNIT_BYTES", 1)
    for name, files in zip(("train", "other"), request.param(), strict=True):
        for number, one in enumerate(files):
            write_table(Path(name, f"{number}.parquet"), one, row_group_size=90)
    return str(request.param.__name__)


def shared(call: Any, count: int = 2) -> Any:
    for index in range(count):
        call(executor=Shard(index + 1, count, "shared"))
    return call(executor=Merge("shared"))


@pytest.mark.slow
@pytest.mark.parametrize(("rows_at_once", "is_confirmed"), [(1 << 22, False), (40, True)])
def test_what_is_found_in_files_of_hashes_is_what_one_process_finds(
    datasets: str, rows_at_once: int, is_confirmed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.hashing.key_files._ROWS_AT_ONCE", rows_at_once)
    if is_confirmed:
        monkeypatch.setattr("datacheck.profile.compare.leakage._MANY_PAIRS", 0)
    key = {"by_chance": None, "leaked": "x", "numbered": [("n",), ("x", "age")], "rounded": "id"}[datasets]
    compare = partial(datacheck.compare, "train", "other", key=key, drift=False)
    expected = compare()
    found = {one.code: one.severity.value for one in expected.findings if one.code in ("DC310", "DC311")}
    assert found == {
        "by_chance": {"DC310": "info"},
        "leaked": {"DC310": "error", "DC311": "error"},
        "numbered": {"DC310": "warning", "DC311": "error"},
        "rounded": {"DC311": "warning"},
    }.get(datasets)
    # Neither a shard nor the merge has the hashes of all rows.
    monkeypatch.setattr("datacheck.hashing.store.HashStore.add", None)
    assert replace(shared(compare), seconds=0) == replace(expected, seconds=0)


def test_a_schema_knows_unique_columns_by_files_of_hashes(datasets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    infer = partial(datacheck.infer, "train")
    expected = infer()
    monkeypatch.setattr("datacheck.hashing.store.HashStore.add", None)
    assert shared(infer) == expected
    assert [path for path, field in expected.fields.items() if field.unique] == {"rounded": ["id"]}.get(datasets, [])


@pytest.mark.parametrize("datasets", [leaked], indirect=True)
@pytest.mark.parametrize(
    ("damaged", "stage"),
    [("hashes/*/*", "compare-rows"), ("hashes/*-chance/*/*", "expect-rows"), ("hashes/*/0", "expect-rows")],
)
def test_a_damaged_file_of_hashes_is_an_error(datasets: str, damaged: str, stage: str) -> None:
    compare = partial(datacheck.compare, "train", "other", drift=False)
    shared(compare, 1)
    files = [path for path in Path("shared").rglob(damaged) if path.is_file()]
    results = list(Path("shared").rglob(f"{stage}*/*"))
    assert files
    assert results
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for path in results:
        path.unlink()
    with pytest.raises(WorkerLostError, match="is damaged; remove the folder of results, and start again"):
        compare(executor=Shard(1, 1, "shared"))
