"""A file that another program cuts short while it is mapped ends the command with its name, not with a bare signal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the file is looked up in /proc")

#: A scan during which the file is cut short, after it was mapped and before its values are looked at.
SCAN = """
import os, sys
from datacheck.cli.app import main
from datacheck.jobs.units import scan, small_files
original = scan.read_unit
def read_unit(unit):
    for batch in original(unit):
        os.truncate(unit.uri, 4096)
        yield batch
scan.read_unit = small_files.read_unit = read_unit
sys.exit(main(["scan", *sys.argv[1:]]))
"""

READ = """
import os, sys, threading, mmap
from datacheck.cli.bus_error import name_truncated_files
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
    os.truncate(sys.argv[1], 0)
if sys.argv[2] == "after":
    with name_truncated_files():
        pass
    memory[4096]
with name_truncated_files():
    reader = threading.Thread(target=lambda: memory[4096])
    reader.start()
    reader.join()
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_scan_names_the_file(workers: str, tmp_path: Path) -> None:
    path = tmp_path / "large\n.npy"
    np.save(path, np.zeros(1 << 18))
    done = run(SCAN, str(path), "--workers", workers)
    assert done.returncode == 2, done.stderr
    assert "large\\012.npy: another program truncated it while it was being read; run again" in done.stderr
    assert done.stdout == ""


def test_a_thread_is_no_hiding_place_and_the_handler_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(1 << 16))
    done = run(READ, str(path), "within")
    assert (done.returncode, done.stderr.count("x.bin: another program truncated it while it was")) == (2, 1)
    path.write_bytes(bytes(1 << 16))
    assert run(READ, str(path), "after").returncode == -signal.SIGBUS
