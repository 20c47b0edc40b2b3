"""Objects are read in worker processes of every kind, forks of a process that has used the store included."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import Bucket
from torch.utils.data import DataLoader

import datacheck
from datacheck.storage import storage_of
from datacheck.torch import open_dataset

#: More than what is read when an object is opened.
NUM_ROWS = 60_000


@pytest.fixture
def table(bucket: Bucket) -> str:
    values = np.random.default_rng(0).standard_normal(NUM_ROWS)
    values[7] = np.nan
    content = io.BytesIO()
    pq.write_table(pa.table({"x": values, "y": np.arange(NUM_ROWS)}), content, row_group_size=NUM_ROWS // 4)
    bucket.put("data/x.parquet", content.getvalue())
    return f"{bucket.uri}/data/x.parquet"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_data_loader_reads_in_workers(method: str, table: str) -> None:
    dataset = open_dataset(table)
    assert dataset[0]["y"] == 0
    loader: DataLoader[Any] = DataLoader(dataset, 10_000, num_workers=2, multiprocessing_context=method)
    for _ in range(2 if method == "fork" else 1):
        assert sum(int(batch["y"].sum()) for batch in loader) == NUM_ROWS * (NUM_ROWS - 1) // 2


def test_worker_processes_of_a_job_read_and_write(table: str, bucket: Bucket) -> None:
    assert datacheck.scan(table, executor="processes", workers=2).findings == datacheck.scan(table).findings != []


def test_a_fork_does_all_that_its_parent_does(table: str, bucket: Bucket) -> None:
    storage = storage_of(bucket.uri)
    parent = storage.list(f"{bucket.uri}/data")

    def child() -> None:
        assert storage.list(f"{bucket.uri}/data") == parent
        with storage.open(table) as file:
            file.seek(200_000)
            tail = file.read()
        assert bucket.get("data/x.parquet").endswith(tail)
        assert len(tail) > 100_000
        with storage.create(f"{bucket.uri}/from/child") as written:
            written.write(b"content")
        storage.move_all([(f"{bucket.uri}/from/child", f"{bucket.uri}/to/child")])
        with pytest.raises(FileExistsError):
            storage.put(f"{bucket.uri}/to/child", b"", if_absent=True)
        with pytest.raises(FileNotFoundError):
            storage.open(f"{bucket.uri}/gone")

    assert in_fork(child)
    assert bucket.get("to/child") == b"content"
    assert "from/child" not in bucket.keys
    assert storage.list(f"{bucket.uri}/data") == parent


def test_the_fork_of_a_fork_has_a_helper_of_its_own(table: str, bucket: Bucket) -> None:
    storage = storage_of(bucket.uri)
    storage.stat(table)

    def child() -> None:
        storage.stat(table)
        assert in_fork(lambda: storage.stat(table))
        storage.stat(table)

    assert in_fork(child)


def test_the_helper_of_a_fork_ends_with_it(table: str, bucket: Bucket, tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys\n"
        "from datacheck.storage import storage_of\n"
        f"storage, uri = storage_of({table!r}), {table!r}\n"
        "storage.stat(uri)\n"
        "if not os.fork():\n"
        "    storage.stat(uri)\n"
        "    from datacheck.storage import fork_helper\n"
        "    print(fork_helper._helper.process.pid, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    limit = time.monotonic() + 10
    while Path(f"/proc/{int(done.stdout)}").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    assert not Path(f"/proc/{int(done.stdout)}").exists()


def in_fork(work: Any) -> bool:
    """Whether some work succeeds in a fork of this process, within a time."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.02)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError("the fork hangs")
