"""Atomic publishing, the staging area, and which paths may be written."""

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
from datacheck.publishing.output_paths import check_output_outside_inputs, safe_part_name
from datacheck.publishing.staging import StagingArea
from datacheck.storage.atomic import (
    publish,
    publish_all,
    remove_partials,
    sync_directory,
    sync_file,
    write_atomically,
    write_file,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    for content in (b"old", b"new"):
        write_atomically(tmp_path / "f", content)
        assert (tmp_path / "f").read_bytes() == content
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failed_write_leaves_the_old_file_and_no_other(error, tmp_path):
    write_atomically(tmp_path / "f", b"old")

    def fill(file):
        file.write(b"half")
        raise error

    expected = OutputError if isinstance(error, OSError) else error
    with pytest.raises(expected):
        write_file(tmp_path / "f", fill)
    assert names(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_link_that_stands_at_the_target_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "input").write_bytes(b"input")
    (tmp_path / "f").symlink_to("input")
    write_atomically(tmp_path / "f", b"new")
    assert (tmp_path / "input").read_bytes() == b"input"
    assert not (tmp_path / "f").is_symlink()


def test_a_hard_link_to_an_input_is_not_written_through(tmp_path):
    (tmp_path / "input").write_bytes(b"input")
    (tmp_path / "f").hardlink_to(tmp_path / "input")
    write_atomically(tmp_path / "f", b"new")
    assert (tmp_path / "input").read_bytes() == b"input"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing/f", "the folder does not exist"),
        ("file/f", "a part of the path is a file, not a folder"),
        ("folder", "a folder of that name"),
        ("x" * 300, "the name is too long"),
        ("loop/f", "too many symbolic links"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_with_what_to_do(place, message, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "g").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = names(tmp_path)
    with pytest.raises(OutputError, match=message) as caught:
        write_atomically(tmp_path / place, b"x")
    assert "; " in str(caught.value)
    assert names(tmp_path) == before


def test_publishing_makes_folders_and_moves(tmp_path):
    (tmp_path / "staged").write_bytes(b"new")
    publish(tmp_path / "staged", tmp_path / "out" / "split=train" / "f")
    assert (tmp_path / "out" / "split=train" / "f").read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


def test_publishing_replaces_what_was_there(tmp_path):
    for name in "ab":
        (tmp_path / f"staged-{name}").write_text(name)
        (tmp_path / name).write_bytes(b"old")
    publish_all([(tmp_path / f"staged-{name}", tmp_path / name) for name in "ab"])
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]


def test_a_staged_file_that_is_gone_is_an_error_even_over_an_old_one(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(OutputError, match="does not exist"):
        publish(tmp_path / "staged", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_file_where_a_folder_must_be_is_said(tmp_path):
    (tmp_path / "out").touch()
    (tmp_path / "staged").touch()
    with pytest.raises(OutputError, match=r"in the way|not a folder"):
        publish(tmp_path / "staged", tmp_path / "out" / "f")


def test_only_what_killed_writers_left_is_removed(tmp_path):
    for name in (".f.1a-00.partial", "f.partial", ".hidden", "f"):
        (tmp_path / name).touch()
    (tmp_path / ".d.partial").mkdir()
    assert remove_partials(tmp_path) == 1
    assert names(tmp_path) == [".d.partial", ".hidden", "f", "f.partial"]


def test_syncing_tells_the_size(tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    assert sync_file(tmp_path / "f") == 5
    sync_directory(tmp_path)


# The staging area.


def test_units_are_recorded_and_found_again(tmp_path):
    with StagingArea(tmp_path / "out") as area:
        assert area.finished_units() == {}
        area.part_path("p.parquet").write_bytes(b"part")
        area.record_unit("b.1", {"parts": ["p.parquet"], "rows": 3})
        area.record_unit("a", {})
    with StagingArea(tmp_path / "out") as area:
        assert area.finished_units() == {"a": {}, "b.1": {"parts": ["p.parquet"], "rows": 3}}
        assert area.part_path("p.parquet").read_bytes() == b"part"
        area.forget_unit("b.1")
        assert list(area.finished_units()) == ["a"]


def test_a_record_that_cannot_be_read_counts_as_none(tmp_path):
    with StagingArea(tmp_path) as area:
        area.record_unit("good", {"rows": 1})
        (area.units / "cut.json").write_bytes(b'{"rows": ')
        (area.units / "list.json").write_bytes(b"[]")
        (area.units / "binary.json").write_bytes(b"\xff\xfe\x00")
        assert area.finished_units() == {"good": {"rows": 1}}


def test_a_cleared_area_is_gone_and_can_be_made_again(tmp_path):
    area = StagingArea(tmp_path)
    area.record_unit("a", {})
    area.clear()
    assert names(tmp_path) == []
    with StagingArea(tmp_path) as again:
        assert again.finished_units() == {}


def test_two_runs_cannot_write_to_one_output(tmp_path):
    with StagingArea(tmp_path), pytest.raises(OutputError, match=f"another run \\(process {os.getpid()}\\) is writing"):
        StagingArea(tmp_path)
    StagingArea(tmp_path).close()


def test_a_lock_dies_with_its_process(tmp_path):
    program = f"""
        import os, signal
        from pathlib import Path
        from datacheck.publishing.staging import StagingArea
        area = StagingArea(Path({str(tmp_path)!r}))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -9
    StagingArea(tmp_path).close()


def test_a_worker_that_outlives_its_run_does_not_hold_the_lock(tmp_path):
    program = f"""
        import os, signal, time
        from pathlib import Path
        from datacheck.publishing.staging import StagingArea
        area = StagingArea(Path({str(tmp_path)!r}))
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
        StagingArea(tmp_path).close()
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_forked_workers_leave_the_lock_with_their_run(tmp_path):
    with StagingArea(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        worker = os.fork()
        if worker == 0:
            os._exit(0)
        os.waitpid(worker, 0)
        with pytest.raises(OutputError, match="another run"):
            StagingArea(tmp_path)


def test_several_units_are_recorded_at_once(tmp_path):
    with StagingArea(tmp_path) as area:
        area.record_units({"a": {"rows": 1}, "b": {"rows": 2}})
        assert area.finished_units() == {"a": {"rows": 1}, "b": {"rows": 2}}


def test_an_area_removes_what_a_killed_run_left(tmp_path):
    with StagingArea(tmp_path) as area:
        leftovers = [folder / ".x.1-2.partial" for folder in (tmp_path, area.folder, area.parts, area.units)]
    for path in leftovers:
        path.touch()
    with StagingArea(tmp_path):
        assert not any(path.exists() for path in leftovers)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / ".datacheck").mkdir()
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".datacheck" / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match="symbolic link"):
        StagingArea(tmp_path)
    assert (tmp_path / "victim").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\0b"])
def test_names_that_leave_the_area_are_refused(name, tmp_path):
    with StagingArea(tmp_path) as area:
        with pytest.raises(OutputError, match="cannot name a part"):
            area.part_path(name)
        with pytest.raises(OutputError, match="cannot name a part"):
            area.record_unit(name, {})


def test_an_output_that_is_a_file_is_said(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match=r"not a folder|in the way"):
        StagingArea(tmp_path / "out")


# Names of parts, and outputs that would touch inputs.


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "../../x.csv",
        "..",
        "/",
        "",
        "a\0b",
        "é" * 300,
        "x" * 5000,
        "a b;rm -rf.npy",
        ".hidden",
        "\udcff",
        "C:\\x",
    ],
)
def test_a_part_name_is_a_plain_file_name(uri):
    name = safe_part_name(uri, 12)
    assert name.isascii()
    assert name == Path(name).name
    assert not name.startswith(".")
    assert len(name) < 120
    assert name.endswith("-00012")
    assert name == safe_part_name(uri, 12)


def test_part_names_differ_where_inputs_or_units_do():
    uris = ["a/x.csv", "b/x.csv", "a/x.npy", "a/x", "A/x.csv", "x.csv", "a//x.csv"]
    assert len({safe_part_name(uri, unit) for uri in uris for unit in (0, 1, 10, 100_000)}) == 28


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("data/raw", "elsewhere"):
        Path(folder).mkdir(parents=True)
    Path("data/raw/a.csv").write_text("a")
    Path("elsewhere/hard.csv").hardlink_to("data/raw/a.csv")
    Path("elsewhere/soft.csv").symlink_to("../data/raw/a.csv")
    Path("elsewhere/folder").symlink_to("../data")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "source", "message"),
    [
        ("data/raw/a.csv", "data/raw/a.csv", "is the input"),
        ("data/../data/raw/./a.csv", "data/raw/a.csv", "is the input"),
        ("elsewhere/hard.csv", "data/raw/a.csv", "is the input"),
        ("elsewhere/soft.csv", "data/raw/a.csv", "is the input"),
        ("data/raw/a.csv", "elsewhere/soft.csv", "is the input"),
        ("data", "data", "is the input"),
        ("data/out", "data", "lies inside the input"),
        ("data/new/deeper/out", "data", "lies inside the input"),
        ("elsewhere/folder/new/out", "data", "lies inside the input"),
        ("data/out", "elsewhere/folder", "lies inside the input"),
        ("data", "data/raw/a.csv", "holds the input"),
        ("elsewhere/folder/raw", "data/raw/a.csv", "holds the input"),
        (".", "data", "holds the input"),
    ],
)
def test_an_output_that_would_touch_an_input_is_refused(output, source, message, tree):
    for place in (output, tree / output):
        with pytest.raises(OutputError, match=message):
            check_output_outside_inputs(place, ["elsewhere/nothing", source])


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("out", "data"),
        ("data-out", "data"),
        ("data/out", "data/raw"),
        ("data/raw/b.csv", "data/raw/a.csv"),
        ("out", "missing.csv"),
    ],
)
def test_an_output_beside_the_inputs_is_fine(output, source, tree):
    check_output_outside_inputs(output, [source])
