"""Pipes, devices, sockets and files that claim to be endless, among the data: named in a finding, and never waited for."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from job_files import write_pipeline

import datacheck
from datacheck.storage.registry import LOCAL, library_path

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files in folders"),
    pytest.mark.timeout(60),
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One good array among what is no file."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    np.save(folder / "good.npy", np.arange(6.0).reshape(3, 2))
    os.mkfifo(folder / "pipe.npy")
    (folder / "zero.csv").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("in/socket.parquet")
        yield folder


def test_a_scan_and_a_run_name_them_and_go_on(data: Path) -> None:
    special = {"pipe.npy", "zero.csv", "socket.parquet"}
    for report in (datacheck.scan("in"), datacheck.run(write_pipeline(data.parent, "in"))):
        assert {Path(one.uri).name for one in report.findings if one.code == "DC902"} == special
        assert sum("it is a pipe or a device" in one.message for one in report.findings) == 3
        assert report.num_rows == 3


def test_what_becomes_a_pipe_while_the_job_runs_is_not_waited_for(data: Path) -> None:
    for read in (LOCAL.open, LOCAL.content_hash, library_path):
        for name in ("pipe.npy", "zero.csv"):
            with pytest.raises(OSError, match="it is a pipe or a device"):
                read(f"in/{name}")


def test_a_file_of_a_terabyte_of_nothing_does_not_keep_a_run(data: Path) -> None:
    for path in data.iterdir():
        if path.name != "good.npy":
            path.unlink()
    (data / "large.npy").write_bytes(b"\x93NUMPY and then nothing")
    os.truncate(data / "large.npy", 1 << 40)
    report = datacheck.run(write_pipeline(data.parent, "in"))
    assert (report.num_rows, [Path(one.uri).name for one in report.findings if one.is_error]) == (3, ["large.npy"])


@pytest.mark.skipif(sys.platform != "linux", reason="files of the kernel")
def test_of_a_file_of_the_kernel_no_more_is_hashed_than_it_says_to_have() -> None:
    assert LOCAL.content_hash("/proc/self/maps") == f"sha256:{hashlib.sha256().hexdigest()}"
