"""Units on a Dask cluster of two worker processes on loopback, by its ``concurrent.futures`` executor."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import pytest
from job_files import contents, write_faulty_job

import datacheck
from datacheck.errors import UsageError

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    return write_faulty_job(tmp_path, 5)


def test_a_run_publishes_the_bytes_of_one_process(executor: Executor, pipeline: Path) -> None:
    folder = pipeline.parent
    datacheck.run(pipeline)
    (folder / "out").rename(folder / "expected")
    report = datacheck.run(pipeline, executor=executor)
    assert contents(folder / "out") == contents(folder / "expected")
    assert {"DC101", "DC301", "DC901"} <= {one.code for one in report.findings}


def test_a_scan_finds_the_same(executor: Executor, pipeline: Path) -> None:
    data = pipeline.parent / "data"
    found = datacheck.scan(data, {"unique": ["id"]}, executor=executor)
    assert found.findings == datacheck.scan(data, {"unique": ["id"]}).findings


def test_an_error_of_the_job_is_raised_as_it_is(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        datacheck.scan(tmp_path / "nothing.parquet", executor=executor)
