"""Archives of too many members are refused before zipfile makes an object for each."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

import datacheck
from datacheck.errors import SourceError
from datacheck.sources.archive import open_zip
from datacheck.storage import open_file


def archive_of(path: Path, num_members: int, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(num_members):
            archive.writestr(f"{number}.npy", b"")
        archive.comment = comment
    return path


@pytest.mark.parametrize("comment", [b"", b"written by hand" * 400])
@pytest.mark.parametrize("num_members", [0, 1, 9, 10])
def test_an_archive_within_the_limit_is_opened(num_members: int, comment: bytes, tmp_path: Path) -> None:
    path = archive_of(tmp_path / "x.npz", num_members, comment)
    with open_file(str(path)) as file, open_zip(file, 10) as archive:
        assert len(archive.infolist()) == num_members


@pytest.mark.parametrize("comment", [b"", b"written by hand" * 400])
@pytest.mark.parametrize("num_members", [11, 70_000])  # the second needs the records of zip64
def test_an_archive_beyond_the_limit_is_refused(num_members: int, comment: bytes, tmp_path: Path) -> None:
    path = archive_of(tmp_path / "x.npz", num_members, comment)
    with open_file(str(path)) as file, pytest.raises(SourceError, match="more than 10 members"), open_zip(file, 10):
        pass


def test_an_archive_that_lies_about_the_number_of_its_members_is_refused(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "x.npz", 50)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2H", content, content.rindex(b"PK\x05\x06") + 8, 1, 1)
    path.write_bytes(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert len(archive.infolist()) == 50, "zipfile goes by the length of the directory"
    with open_file(str(path)) as file, pytest.raises(SourceError, match="more than 10 members"), open_zip(file, 10):
        pass


@pytest.mark.slow
def test_a_scan_refuses_it_in_little_memory(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "x.npz", 100_001)
    tracemalloc.start()
    try:
        (finding,) = datacheck.scan(path).findings
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert finding.code == "DC904"
    assert "100,000 members" in finding.message
    assert peak < 5 * path.stat().st_size
