"""A file that another program cuts short while it is mapped is a finding with its name, not a bare signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from job_files import write_pipeline
from pyarrow import ipc

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the file is looked up in /proc")

#: A command during which one file is cut short, after it was mapped and before its values are looked at.
COMMAND = """
import os, sys
from datacheck.cli.app import main
from datacheck.storage.local import LocalFile
original = LocalFile.map
def map_and_truncate(self, offset, length):
    view = original(self, offset, length)
    if "large" in self.name:
        os.truncate(self.name, 100)
    return view
LocalFile.map = map_and_truncate
sys.exit(main(sys.argv[1:]))
"""

READ = """
import os, sys, threading, mmap
from datacheck.cli.terminal import progress_on_terminal
from datacheck.storage.truncated_files import surviving_truncation
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
    os.truncate(sys.argv[1], 5000)
if sys.argv[2] == "after":
    with progress_on_terminal(), surviving_truncation(sys.argv[1]):
        pass
    memory[8192]
with surviving_truncation("other", sys.argv[1]) as truncated:
    assert memory[4096] == 1 and not truncated
    reader = threading.Thread(target=lambda: print(memory[8192], memory[-1], memory[4096]))
    reader.start()
    reader.join()
    assert truncated == {sys.argv[1]}
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
    os.truncate(sys.argv[1], 0)
with progress_on_terminal():
    memory[0]
"""

#: Two threads fault at one page, of which one maps zeros first; then another file is truncated.
AT_ONCE = """
import ctypes, mmap, os, sys
from datacheck.storage import truncated_files
def truncated(path):
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    os.truncate(path, 0)
    return memory
with truncated_files.surviving_truncation(*sys.argv[1:]) as found:
    memory = truncated(sys.argv[1])
    assert memory[5000] == 0
    info = (ctypes.c_uint64 * 3)(0, 0, ctypes.addressof(ctypes.c_byte.from_buffer(memory, 5000)))
    truncated_files._HANDLER._handle(7, ctypes.addressof(info), 0)
    assert truncated(sys.argv[2])[0] == 0
    print(len(found))
"""

#: Two small files are checked together after they were read; one is truncated in between.
TOGETHER = """
import os, sys
import datacheck
from datacheck.jobs.units import small_files
original = small_files._scan_together
def truncate_and_scan(batches, uris, rules):
    # Not while another thread opens it.
    if any(uri.endswith("a.arrow") for uri in uris):
        os.truncate(sys.argv[1] + "/a.arrow", 100)
    return original(batches, uris, rules)
small_files._scan_together = truncate_and_scan
print(sorted((os.path.basename(one.uri), one.code) for one in datacheck.scan(sys.argv[1]).findings))
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.zeros(1 << 18), id="view"),
        pytest.param(np.zeros((20_000, 8), order="F"), id="copy"),
    ],
)
def test_a_scan_names_the_file_and_checks_the_others(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "large\n.npy", values)
    np.save(tmp_path / "other.npy", np.array([1.0, np.nan]))
    done = run(COMMAND, "scan", str(tmp_path), "--no-cache", "--format", "json")
    assert (done.returncode, done.stderr) == (1, "")
    found = {(Path(one["uri"]).name, one["code"]) for one in json.loads(done.stdout)["findings"]}
    assert found == {("large\n.npy", "DC908"), ("other.npy", "DC101")}


def test_a_run_publishes_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "large.npy", np.zeros((1 << 17, 2)))
    np.save(tmp_path / "in" / "other.npy", np.ones((4, 2)))
    done = run(COMMAND, "run", str(write_pipeline(tmp_path, str(tmp_path / "in"))))
    assert done.returncode == 1, done.stderr
    assert "DC908" in done.stdout
    outputs = sorted((tmp_path / "out").rglob("*.npy"))
    assert [np.load(path).tolist() for path in outputs] == [np.ones((4, 2)).tolist()]


def test_a_thread_is_no_hiding_place_and_the_handler_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"\1" * (1 << 16))
    done = run(READ, str(path), "within")
    assert (done.returncode, done.stdout) == (2, "0 0 1\n"), done.stderr
    assert done.stderr.count("x.bin: another program truncated it while it was") == 1
    path.write_bytes(bytes(1 << 16))
    assert run(READ, str(path), "after").returncode == -signal.SIGBUS


def test_threads_that_fault_at_once_leave_the_handler_in_place(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"\1" * 8192)
    done = run(AT_ONCE, *map(str, paths))
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


@pytest.mark.parametrize("num_rows", [100, 200_000])
def test_small_files_that_are_checked_together_may_be_truncated_in_between(num_rows: int, tmp_path: Path) -> None:
    for name in "ab":
        batch = pa.RecordBatch.from_arrays([pa.array(np.ones(num_rows))], ["x"])
        with ipc.new_file(tmp_path / f"{name}.arrow", batch.schema) as writer:
            writer.write_batch(batch)
    done = run(TOGETHER, str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "[('a.arrow', 'DC908')]\n"), done.stderr
