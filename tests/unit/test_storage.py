"""The storage protocol and the local file system."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from datacheck.storage import storage_of
from datacheck.storage.local import LocalStorage
from datacheck.storage.ranges import RangeFile

LOCAL = LocalStorage()


def test_a_path_is_local_whatever_it_holds(tmp_path: Path) -> None:
    assert isinstance(storage_of(str(tmp_path)), LocalStorage)
    assert isinstance(storage_of("odd://name"), LocalStorage)


def test_a_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = LOCAL.stat(str(path)).fingerprint
    assert before == LOCAL.stat(str(path)).fingerprint
    path.write_bytes(b"four")
    assert LOCAL.stat(str(path)).fingerprint != before


def test_a_hard_link_changes_only_the_proof(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    os.utime(path, ns=(0, 0))
    before = LOCAL.stat(str(path)).fingerprint
    os.utime(path, ns=(0, 0))
    after = LOCAL.stat(str(path)).fingerprint
    assert before == after
    assert before.proof != after.proof or before.ctime_ns == after.ctime_ns


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 9000])
def test_ranges_are_read_and_mapped_alike(tmp_path: Path, offset: int) -> None:
    content = bytes(range(256)) * 64
    (tmp_path / "a").write_bytes(content)
    with LOCAL.open(str(tmp_path / "a")) as file:
        assert file.read_at(offset, 500) == content[offset : offset + 500] == bytes(file.map(offset, 500))
        assert file.read(3) == content[:3]


def test_a_folder_is_listed_by_name_with_links_followed(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "c").symlink_to("b")
    (tmp_path / "d").symlink_to("gone")
    found = [(entry.name, entry.is_folder, entry.is_link) for entry in LOCAL.list(str(tmp_path))]
    assert found == [("a", False, False), ("b", True, False), ("c", True, True), ("d", False, True)]
    assert LOCAL.folder_key(str(tmp_path / "b")) == LOCAL.folder_key(str(tmp_path / "c"))


def test_a_created_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with LOCAL.create(str(target)) as file:
        file.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"


def test_a_created_file_leaves_nothing_behind_on_an_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError), LOCAL.create(str(tmp_path / "a")) as file:
        file.write(3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_put_replaces_or_refuses_a_file_that_exists(tmp_path: Path) -> None:
    target = str(tmp_path / "a")
    LOCAL.put(target, b"1", if_absent=True)
    with pytest.raises(FileExistsError):
        LOCAL.put(target, b"2", if_absent=True)
    assert Path(target).read_bytes() == b"1"
    LOCAL.put(target, b"3")
    assert Path(target).read_bytes() == b"3"
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_moved_files_get_the_folders_that_they_need(tmp_path: Path) -> None:
    (tmp_path / "staged").write_bytes(b"1")
    LOCAL.move_all([(str(tmp_path / "staged"), str(tmp_path / "x/y/final"))])
    assert (tmp_path / "x/y/final").read_bytes() == b"1"
    with pytest.raises(FileNotFoundError):
        LOCAL.move_all([(str(tmp_path / "staged"), str(tmp_path / "x/y/final"))])


def test_a_lock_is_exclusive_until_it_is_released(tmp_path: Path, run_python: Callable[[str], str]) -> None:
    path = str(tmp_path / "lock")
    lock = LOCAL.lock(path)
    program = (
        "from datacheck.storage.local import LocalStorage\n"
        f"try: LocalStorage().lock({path!r})\n"
        "except BlockingIOError as error: print(error.filename2)\n"
    )
    assert run_python(program).strip() == str(os.getpid())
    lock.release()
    lock.release()
    assert run_python(program).strip() == ""


def test_a_lock_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        LOCAL.lock(str(tmp_path / "lock"))


def test_deleting_what_is_gone_does_nothing(tmp_path: Path) -> None:
    LOCAL.delete(str(tmp_path / "gone"))
    LOCAL.delete_folder(str(tmp_path / "gone"))


@pytest.mark.parametrize("num_first", [0, 64 << 10])
def test_the_end_of_a_file_is_asked_for_once(num_first: int) -> None:
    content = random.Random(0).randbytes(300_001)
    asked: list[tuple[int, int]] = []

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return content[start:stop]

    file = RangeFile(len(content), content[:num_first], fetch)
    assert [file.read_at(300_001 - length, length) for length in (8, 3000, 64 << 10)] == [
        content[-8:],
        content[-3000:],
        content[-(64 << 10) :],
    ]
    file.seek(-100, 2)
    assert file.read() == content[-100:]
    assert asked == [(300_001 - (64 << 10), 300_001)]
    assert file.read_at(200_000, 200_000) == content[200_000:]
    file.seek(0)
    assert file.read() == content
