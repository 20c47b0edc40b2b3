"""Atomic writes on the local file system, and the errors that explain what failed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datacheck.errors import OutputError
from datacheck.storage.local import LocalStorage
from datacheck.storage.os_errors import output_errors

LOCAL = LocalStorage()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(error: BaseException, tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_bytes(b"old")
    expected = OSError if isinstance(error, OSError) else error
    with pytest.raises(expected), LOCAL.create(str(target)) as file:  # noqa: PT012 - it must fail inside
        file.write(b"half")
        raise error
    assert names(tmp_path) == ["f"]
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_to_an_input_is_replaced_and_not_written_through(link: object, tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"input")
    link(tmp_path / "f", tmp_path / "input")  # type: ignore[operator]
    LOCAL.put(str(tmp_path / "f"), b"new")
    assert (tmp_path / "input").read_bytes() == b"input"
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "f").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/f", "the folder does not exist"),
        ("file/f", "a part of the path is a file, not a folder"),
        ("folder", "a folder of that name"),
        ("x" * 300, "the name is too long"),
        ("loop/f", "too many symbolic links"),
    ],
)
def test_an_error_says_why_and_suggests_a_fix(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "g").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = names(tmp_path)
    with pytest.raises(OutputError, match=message) as caught, output_errors(name):
        LOCAL.put(str(tmp_path / name), b"x")
    assert "; " in str(caught.value)
    assert names(tmp_path) == before


def test_a_name_that_is_too_long_fails_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"), LOCAL.create(str(tmp_path / ("x" * 300))):
        raise AssertionError("the block ran")


def test_moves_replace_existing_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"staged-{name}").write_text(name)
        (tmp_path / name).write_bytes(b"old")
    LOCAL.move_all([(str(tmp_path / f"staged-{name}"), str(tmp_path / name)) for name in "ab"])
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]


def test_a_missing_staged_file_is_an_error_even_if_the_final_one_exists(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        LOCAL.move_all([(str(tmp_path / "staged"), str(tmp_path / "f"))])
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_file_where_a_folder_must_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    (tmp_path / "staged").touch()
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        LOCAL.move_all([(str(tmp_path / "staged"), str(tmp_path / "out" / "f"))])


def test_only_partial_files_are_removed(tmp_path: Path) -> None:
    for name in (".f.1a-00.partial", "f.partial", ".hidden", "f"):
        (tmp_path / name).touch()
    (tmp_path / ".d.partial").mkdir()
    assert LOCAL.remove_partials(str(tmp_path)) == 1
    assert names(tmp_path) == [".d.partial", ".hidden", "f", "f.partial"]


def test_only_an_empty_folder_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "f").touch()
    for name in ("empty", "full", "missing"):
        LOCAL.delete_empty_folder(str(tmp_path / name))
    assert names(tmp_path) == ["full"]


def test_a_small_file_that_is_held_is_read_from_memory_until_its_path_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    uri = str(path)
    LOCAL.hold(uri, 10)
    before = LOCAL.stat(uri)
    path.write_bytes(b"changed")
    assert LOCAL.stat(uri, recent=True) == before != LOCAL.stat(uri)
    with LOCAL.open(uri, recent=True) as file, LOCAL.open(uri) as now:
        assert (file.read(3), file.read_at(8, 5), bytes(file.map(2, 3) or b"")) == (b"012", b"89", b"234")
        assert now.read() == b"changed"
    # What opens the path itself reads the new version, and must be told that there is one.
    assert LOCAL.local_path(uri) == uri
    assert LOCAL.held(uri) is None
    assert LOCAL.stat(uri, recent=True) != before


def test_only_regular_files_up_to_a_size_are_held_and_only_one_by_the_thread_that_asked(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"12")
    other.write_bytes(b"123")
    for path in (other, tmp_path, tmp_path / "missing", tmp_path / "\0"):
        LOCAL.hold(str(path), 2)
        assert LOCAL.held(str(path)) is None
    LOCAL.hold(str(one), 2)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(LOCAL.held, str(one)).result() is None
    assert LOCAL.held(str(one)) == b"12"
    LOCAL.hold(str(other), 3)
    assert (LOCAL.held(str(one)), LOCAL.held(str(other))) == (None, b"123")
    LOCAL.release()
    assert LOCAL.held(str(other)) is None
