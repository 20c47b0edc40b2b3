"""Units on a Dask cluster of two worker processes on loopback, by its ``concurrent.futures`` executor."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pytest
from job_files import contents, write_pipeline, write_table

import datacheck
from datacheck.errors import UsageError

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")
CLEAN = [
    {"action": "impute", "strategy": "mean", "fields": "x"},
    {"action": "impute", "strategy": "median", "fields": "y"},
]


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(5):
        x, y = rng.normal(size=(2, 2000))
        x[::50], y[7::90] = np.nan, np.nan
        write_table(tmp_path / f"data/{number}.parquet", {"id": np.arange(2000) + 1990 * number, "x": x, "y": y})
    (tmp_path / "data/broken.parquet").write_bytes(b"PAR1")
    return tmp_path


def test_a_run_publishes_the_bytes_of_one_process(executor: Executor, folder: Path) -> None:
    pipeline = write_pipeline(folder, "data", CLEAN, schema={"unique": [["id"]]}, name="job")
    datacheck.run(pipeline)
    (folder / "out").rename(folder / "expected")
    report = datacheck.run(pipeline, executor=executor)
    assert contents(folder / "out") == contents(folder / "expected")
    assert {"DC101", "DC301", "DC901"} <= {one.code for one in report.findings}


def test_a_scan_finds_the_same(executor: Executor, folder: Path) -> None:
    found = datacheck.scan(folder / "data", {"unique": ["id"]}, executor=executor)
    assert found.findings == datacheck.scan(folder / "data", {"unique": ["id"]}).findings


def test_an_error_of_the_job_is_raised_as_it_is(executor: Executor, folder: Path) -> None:
    with pytest.raises(UsageError):
        datacheck.scan(folder / "nothing.parquet", executor=executor)
