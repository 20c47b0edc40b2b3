"""Full disks, limits, read-only file systems and SIGKILL give an error that suggests a fix, and never a partial file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import datacheck
from datacheck.batch import Batch, Column
from datacheck.errors import OutputError
from datacheck.hashing.store import HashStore
from datacheck.publishing.named_file import write_named
from datacheck.publishing.staging import StagingArea
from datacheck.sinks import get_sink
from datacheck.sinks.concatenate import concatenate
from datacheck.storage.local import LocalStorage
from datacheck.storage.os_errors import output_errors

FORMATS = ("arrow", "csv", "npy", "npz", "parquet", "safetensors")
KILLER = Path(__file__).with_name("kill_while_publishing.py")


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def large_batch() -> Batch:
    values = np.random.default_rng(0).standard_normal(400_000)
    return Batch((Column("x", values),), len(values))


def put(path: Path, content: bytes) -> None:
    with output_errors(path):
        LocalStorage().put(str(path), content)


def write_large(fmt: str, path: Path) -> None:
    batch = large_batch()
    writer = get_sink(fmt).open(str(path), batch.take(np.arange(0)))
    for start in range(0, batch.num_rows, 50_000):
        writer.write(batch.take(np.arange(start, start + 50_000)))
    writer.close()


def test_a_report_that_does_not_fit_on_the_disk_promises_no_parts(tmp_path, monkeypatch):
    def put(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalStorage, "put", put)
    with pytest.raises(OutputError, match=r"r\.txt: cannot be written: the disk is full; free space and run again$"):
        write_named(tmp_path / "r.txt", b"x")


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_full_disk_is_reported_and_finished_parts_are_kept(fmt, small_disk):
    (small_disk / "finished").write_bytes(b"x" * 1000)
    with pytest.raises(OutputError, match="the disk is full; free space and run again: finished parts are kept"):
        write_large(fmt, small_disk / "part")
    assert [path.name for path in small_disk.iterdir()] == ["finished"]
    mount("-o", "remount,size=64m", str(small_disk))
    write_large(fmt, small_disk / "part")
    assert sorted(path.name for path in small_disk.iterdir()) == ["finished", "part"]


def test_a_full_disk_leaves_the_old_file(small_disk):
    put(small_disk / "f", b"old")
    with pytest.raises(OutputError, match="the disk is full"):
        put(small_disk / "f", b"x" * (2 << 20))
    assert (small_disk / "f").read_bytes() == b"old"
    assert [path.name for path in small_disk.iterdir()] == ["f"]


def test_a_full_disk_stops_a_concatenation(small_disk, tmp_path):
    write_large("npy", tmp_path / "part")
    with pytest.raises(OutputError, match="the disk is full"):
        concatenate("npy", [str(tmp_path / "part")], str(small_disk / "joined"))
    assert list(small_disk.iterdir()) == []


def test_a_full_temporary_folder_is_an_error_where_hashes_are_spilled(small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with (
        pytest.raises(
            OutputError, match="temporary files cannot be written: the disk is full, in the temporary folder"
        ),
        HashStore(1000) as store,
    ):
        store.add(np.arange(1 << 20, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    assert list(small_disk.iterdir()) == []


def test_a_full_temporary_folder_blames_no_file(small_disk, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    np.savez_compressed(tmp_path / "a.npz", x=np.asfortranarray(np.arange(1e6).reshape(1000, 1000) % 97))
    (finding,) = datacheck.scan(tmp_path / "a.npz").findings
    assert finding.code == "DC910"
    assert finding.detail == (
        f"the disk is full, in the temporary folder {small_disk}; free space there, or set TMPDIR to a folder with more"
        " room, and run again"
    )


def test_a_full_disk_leaves_a_unit_unrecorded(small_disk):
    with StagingArea(str(small_disk)) as area:
        with pytest.raises(OutputError, match="the disk is full"):
            area.record_unit("u", {"note": "x" * (2 << 20)})
        assert area.finished_units() == {}
        area.record_unit("u", {})
        assert list(area.finished_units()) == ["u"]


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_read_only_file_system_is_reported(fmt, small_disk):
    mount("-o", "remount,ro", str(small_disk))
    with pytest.raises(OutputError, match="the file system is read-only"):
        write_large(fmt, small_disk / "part")
    with pytest.raises(OutputError, match="the file system is read-only"):
        StagingArea(str(small_disk))
    mount("-o", "remount,rw", str(small_disk))


LIMITED = """
    import resource, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from test_publishing import FORMATS, write_large
    from datacheck.errors import OutputError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    for fmt in FORMATS:
        try:
            write_large(fmt, Path(sys.argv[1]) / fmt)
        except OutputError as error:
            print(error)
"""


def test_a_file_size_limit_is_reported_and_leaves_no_file(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(FORMATS)
    assert all("the file is larger than the system allows" in line and "run again" in line for line in lines)
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


FORBIDDEN = """
    import os, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from test_publishing import FORMATS, large_batch, write_large
    from datacheck.errors import OutputError
    from datacheck.sinks import get_sink
    from datacheck.publishing.staging import StagingArea
    for fmt in FORMATS:
        get_sink(fmt)
    large_batch()  # nobody may not read the modules that it imports
    os.chdir(sys.argv[1])
    if os.geteuid() == 0:
        os.setuid(65534)
    for write in (*(lambda fmt=fmt: write_large(fmt, Path("part")) for fmt in FORMATS), lambda: StagingArea(".")):
        try:
            write()
        except OutputError as error:
            print(error)
"""


def test_a_folder_without_permission_is_reported(tmp_path):
    tmp_path.chmod(0o555)
    command = [sys.executable, "-c", textwrap.dedent(FORBIDDEN), str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(FORMATS) + 1
    assert all("permission denied; make the folder writable" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "rounds"), [("old_or_new", 100), ("killed_and_resumed", 8)])
def test_a_kill_at_any_instant_leaves_no_partial_file(scenario, rounds, tmp_path):
    command = [sys.executable, str(KILLER), scenario, str(tmp_path), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= rounds // 2
