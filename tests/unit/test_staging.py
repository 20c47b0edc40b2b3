"""The staging area of an output: records of finished units, and the lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from datacheck.errors import OutputError
from datacheck.publishing.staging import StagingArea


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_recorded_units_are_found_by_the_next_run(tmp_path):
    with StagingArea(str(tmp_path / "out")) as area:
        assert area.finished_units() == {}
        Path(area.part_uri("p.parquet")).write_bytes(b"part")
        area.record_unit("b.1", {"parts": ["p.parquet"], "rows": 3})
        area.record_unit("a", {})
    with StagingArea(str(tmp_path / "out")) as area:
        assert area.finished_units() == {"a": {}, "b.1": {"parts": ["p.parquet"], "rows": 3}}
        assert Path(area.part_uri("p.parquet")).read_bytes() == b"part"
        area.forget_unit("b.1")
        assert list(area.finished_units()) == ["a"]


def test_an_unreadable_record_is_ignored(tmp_path):
    with StagingArea(str(tmp_path)) as area:
        area.record_unit("good", {"rows": 1})
        Path(area.units, "cut.json").write_bytes(b'{"rows": ')
        Path(area.units, "list.json").write_bytes(b"[]")
        Path(area.units, "binary.json").write_bytes(b"\xff\xfe\x00")
        assert area.finished_units() == {"good": {"rows": 1}}


def test_a_cleared_area_can_be_created_again(tmp_path):
    area = StagingArea(str(tmp_path))
    area.record_unit("a", {})
    area.clear()
    assert names(tmp_path) == []
    with StagingArea(str(tmp_path)) as again:
        assert again.finished_units() == {}


def test_two_runs_cannot_write_to_one_output(tmp_path):
    with (
        StagingArea(str(tmp_path)),
        pytest.raises(OutputError, match=f"another run \\(process {os.getpid()}\\) is writing"),
    ):
        StagingArea(str(tmp_path))
    StagingArea(str(tmp_path)).close()


def test_a_lock_is_released_when_its_process_dies(tmp_path):
    program = f"""
        import os, signal
        from datacheck.publishing.staging import StagingArea
        area = StagingArea({str(tmp_path)!r})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -9
    StagingArea(str(tmp_path)).close()


def test_a_worker_that_outlives_its_run_does_not_hold_the_lock(tmp_path):
    program = f"""
        import os, signal, time
        from datacheck.publishing.staging import StagingArea
        area = StagingArea({str(tmp_path)!r})
        worker = os.fork()
        if worker == 0:
            os.close(1)
            time.sleep(60)
            os._exit(0)
        print(worker, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, check=False)
    assert done.returncode == -9
    try:
        StagingArea(str(tmp_path)).close()
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_forked_workers_do_not_release_the_lock(tmp_path):
    with StagingArea(str(tmp_path)), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        worker = os.fork()
        if worker == 0:
            os._exit(0)
        os.waitpid(worker, 0)
        with pytest.raises(OutputError, match="another run"):
            StagingArea(str(tmp_path))


def test_an_area_removes_partial_files_of_killed_runs(tmp_path):
    with StagingArea(str(tmp_path)) as area:
        leftovers = [Path(folder, ".x.1-2.partial") for folder in (tmp_path, area.folder, area.parts, area.units)]
    for path in leftovers:
        path.touch()
    with StagingArea(str(tmp_path)):
        assert not any(path.exists() for path in leftovers)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / ".datacheck").mkdir()
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".datacheck" / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match="symbolic link"):
        StagingArea(str(tmp_path))
    assert (tmp_path / "victim").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\0b"])
def test_names_outside_the_area_are_refused(name, tmp_path):
    with StagingArea(str(tmp_path)) as area:
        with pytest.raises(OutputError, match="cannot name a part"):
            area.part_uri(name)
        with pytest.raises(OutputError, match="cannot name a part"):
            area.record_unit(name, {})


def test_an_output_that_is_a_file_is_reported(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match=r"not a folder|already exists"):
        StagingArea(str(tmp_path / "out"))
