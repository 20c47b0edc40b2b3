"""WebDataset shards: what a walk over the headers finds that readers pass by, and what a run copies."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import quarantine_of, write_pipeline
from source_files import inspect, read_batches

import datacheck
from datacheck.sinks.tar import _samples
from datacheck.sources import tar as tar_module
from datacheck.sources.tar_members import checksum_of

pytest.importorskip("msgspec")


def npy(values: Any, dtype: str = "float32") -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(values, dtype))
    return stream.getvalue()


def tar_bytes(members: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 17
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def make_members(num_samples: int) -> list[tuple[str, bytes]]:
    members = []
    for index in range(num_samples):
        members += [
            (f"d/{index:04d}.npy", npy([index, index + 0.5])),
            (f"d/{index:04d}.cls", str(index % 3).encode()),
            (f"d/{index:04d}.json", json.dumps({"score": index / 2}).encode()),
        ]
    return members


def found(path: Path, schema: Any = None) -> list[tuple[str, str | None, int]]:
    return sorted((one.code, one.field or "", one.num_violations) for one in datacheck.scan(path, schema).findings)


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_clean_shard_is_read_by_sample_and_suffix(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tar", tar_bytes(make_members(20)))
    assert found(path) == []
    (batch,) = read_batches(inspect(path))
    assert batch.names == ["__key__", "npy", "cls", "json"]
    values = {column.name: column.data.to_pylist() for column in batch.columns}  # type: ignore[union-attr]
    assert values["__key__"][7] == "d/0007"
    assert values["npy"][7] == [7.0, 7.5]
    assert values["cls"][7] == 1
    assert values["json"][7] == {"score": 3.5}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_values_are_checked_in_every_kind_of_archive(form: int, suffix: str, tmp_path: Path) -> None:
    name = f"{'long' * 40}\u00e9" if form != tarfile.USTAR_FORMAT else "x"
    members = [*make_members(3), (f"{name}.npy", npy([1, np.nan])), (f"{name}.json", b'{"score": Infinity}')]
    content = tar_bytes(members, form)
    path = save(tmp_path / f"a{suffix}", gzip.compress(content) if suffix.endswith("gz") else content)
    assert found(path) == [("DC101", "npy[]", 1), ("DC102", "json.score", 1), ("DC108", "cls", 1)]
    (batch,) = read_batches(inspect(path))
    assert batch.columns[0].data[3].as_py() == name


def test_a_cut_between_two_members_is_found(tmp_path: Path) -> None:
    content = tar_bytes(make_members(8))
    archive = tarfile.open(fileobj=io.BytesIO(content))  # noqa: SIM115
    cut = archive.getmembers()[12].offset
    path = save(tmp_path / "a.tar", content[:cut])
    with tarfile.open(path) as same:
        assert len(same.getmembers()) == 12  # and not a word
    report = datacheck.scan(path)
    assert [one.code for one in report.findings] == ["DC901"]
    assert "no end mark" in report.findings[0].message
    assert report.num_rows == 4


@pytest.mark.parametrize("where", ["header", "data"])
def test_a_cut_inside_a_member_is_found_and_the_samples_before_it_are_read(where: str, tmp_path: Path) -> None:
    content = tar_bytes(make_members(8))
    member = tarfile.open(fileobj=io.BytesIO(content)).getmembers()[12]  # noqa: SIM115
    cut = member.offset + 100 if where == "header" else member.offset_data + 3
    report = datacheck.scan(save(tmp_path / "a.tar", content[:cut]))
    assert [one.code for one in report.findings] == ["DC901"]
    assert report.num_rows == 4


def test_a_damaged_header_and_a_hole_of_zeros_and_an_appended_archive_are_found(tmp_path: Path) -> None:
    content = tar_bytes(make_members(8))
    offset = tarfile.open(fileobj=io.BytesIO(content)).getmembers()[12].offset  # noqa: SIM115
    damaged = bytearray(content)
    damaged[offset : offset + 100] = random.Random(1).randbytes(100)
    report = datacheck.scan(save(tmp_path / "a.tar", bytes(damaged)))
    assert "header of a member is damaged" in report.findings[0].message
    assert report.num_rows == 4
    hole = content[:offset] + bytes(1024) + content[offset:]
    report = datacheck.scan(save(tmp_path / "b.tar", hole))
    assert "after the end of the archive" in report.findings[0].message
    assert report.num_rows == 8
    report = datacheck.scan(save(tmp_path / "c.tar", content + content.replace(b"d/0", b"e/0").replace(b"", b"", 0)))
    assert {one.code for one in report.findings} == {"DC901"}


def test_a_size_that_is_a_lie_takes_no_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x.npy")
    info.size = 1 << 60
    path = save(tmp_path / "a.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    assert [one.code for one in datacheck.scan(path).findings] == ["DC901"]


def test_members_of_one_key_that_lie_apart_are_found(tmp_path: Path) -> None:
    first, *rest = make_members(4)
    path = save(tmp_path / "a.tar", tar_bytes([first, *rest[2:], *rest[:2]]))
    assert ("DC013", "__key__", 1) in found(path)
    path = save(tmp_path / "b.tar", tar_bytes([*make_members(2), ("d/0001.npy", npy([1]))]))
    assert ("DC013", "npy", 1) in found(path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.npy", npy([1, 2])[:-3], "header says"),
        ("x.npy", b"\x80\x04pickle", "cannot be decoded: the header of 'npy' does not begin"),
        ("x.json", b"{", "cannot be decoded: Expecting"),
        ("x.cls", b"cat", "cannot be decoded: invalid literal"),
        ("x.txt", b"\xff\xfe", "cannot be decoded: 'utf-8' codec"),
    ],
)
def test_a_member_that_cannot_be_decoded_is_named(name: str, content: bytes, problem: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.tar", tar_bytes([*make_members(3), (name, content)]))
    (finding,) = [
        one for one in datacheck.scan(path).findings if one.code in ("DC601", "DC107") or one.field == "json.score"
    ]
    assert (finding.field, finding.examples[0].row) == (name.partition(".")[2], 3)
    assert finding.num_checked == (1 if name.endswith(".txt") else 4)
    assert problem in finding.message


def test_json_of_another_type_is_found_where_it_fills_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_module, "_MAX_ROWS", 4)
    texts = [b'{"a": 1}'] * 4 + [b'{"a": "1"}'] * 4 + [b"2"] * 4
    path = save(tmp_path / "a.tar", tar_bytes([(f"{number:02}.json", text) for number, text in enumerate(texts)]))
    assert found(path) == [("DC012", "json", 4), ("DC012", "json.a", 4)]


def test_code_is_not_looked_into_and_links_are_not_followed(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
        info = tarfile.TarInfo("b.pkl")
        info.size = 20
        archive.addfile(info, io.BytesIO(b"\x80\x04" + bytes(18)))
    path = save(tmp_path / "a.tar", stream.getvalue())
    codes = {(one.code, one.field) for one in datacheck.scan(path).findings}
    assert {("DC601", "txt"), ("DC008", "pkl")} <= codes


@pytest.mark.parametrize("num_blocks", [0, 2, None])
def test_sparse_members_are_named_and_those_after_them_are_read(num_blocks: int | None, tmp_path: Path) -> None:
    """As GNU tar writes them: blocks of a map between the header and the data, or keys in a header of POSIX."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("GNUSparseFile.17/x.npy" if num_blocks is None else "x.npy")
        info.size = 1000
        if num_blocks is None:
            info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "x.npy", "GNU.sparse.realsize": "99999"}
            archive.addfile(info, io.BytesIO(bytes(1000)))
        else:
            header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
            header[156:157], header[482] = b"S", num_blocks > 0
            header[148:156] = b"%06o\0 " % checksum_of(bytes(header))
            blocks = [bytes(504) + bytes([number + 1 < num_blocks]) + bytes(7) for number in range(num_blocks)]
            stream.write(b"".join([bytes(header), *blocks, bytes(1024)]))
        archive.addfile(tarfile.TarInfo("y.npy"))
    before = stream.getvalue()
    path = save(tmp_path / "a.tar", before[: before.rindex(b"y.npy")] + tar_bytes([("y.npy", npy([1.0, np.nan]))]))
    report = datacheck.scan(path)
    assert {one.code: one.num_checked for one in report.findings} == {"DC101": 2, "DC601": 2}
    assert [one.examples[0].member for one in report.findings if one.code == "DC601"] == ["x.npy"]
    assert "sparse" in next(one.message for one in report.findings if one.code == "DC601")


def test_images_in_a_shard_are_looked_into(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(stream, "JPEG")
    whole = stream.getvalue()
    members = [("a.jpg", whole), ("b.jpg", whole[:-100]), ("c.jpg", b"<html>")]
    path = save(tmp_path / "a.tar", tar_bytes(members))
    assert found(path) == [("DC601", "jpg", 2)]
    schema = {"fields": {"jpg.width": {"dtype": "int64", "ge": 33, "required": False}}}
    assert ("DC201", "jpg.width", 1) in found(path, schema)


# An oracle, and runs


def make_dirty(seed: int, count: int = 300) -> tuple[list[tuple[str, bytes]], dict[tuple[str, str], set[int]]]:
    """Members, and the rows of each fault by code and field."""
    choose = random.Random(seed)
    members: list[tuple[str, bytes]] = []
    rows: dict[tuple[str, str], set[int]] = {}
    for row in range(count):
        values = [choose.choice([1.0, 2.0, 3.0]) for _ in range(choose.randrange(1, 5))]
        if choose.random() < 0.1:
            values[0] = np.nan
            rows.setdefault(("DC101", "npy[]"), set()).add(row)
        content = npy(values)
        if choose.random() < 0.05:
            content = content[:-2]
            rows.get(("DC101", "npy[]"), set()).discard(row)
            rows.setdefault(("DC601", "npy"), set()).add(row)
        members.append((f"{row:05d}.npy", content))
        if choose.random() < 0.9:
            members.append((f"{row:05d}.cls", b"1"))
        else:
            rows.setdefault(("DC108", "cls"), set()).add(row)
        score: Any = choose.choice([1, 0.5])
        if choose.random() < 0.1:
            score = None
            rows.setdefault(("DC104", "json.s"), set()).add(row)
        members.append((f"{row:05d}.json", json.dumps({"s": score}).encode()))
    return members, rows


@pytest.mark.parametrize("seed", range(4))
def test_random_shards_give_what_was_put_into_them(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members, rows = make_dirty(seed)
    save(tmp_path / "a.tar", tar_bytes(members))
    save(tmp_path / "b.tar", tar_bytes(members))
    monkeypatch.setattr(tar_module, "TARGET_BATCH_BYTES", 20_000)
    for workers in (1, 4):
        report = datacheck.scan(tmp_path, workers=workers)
        assert report.num_rows == 600
        counts = {(one.code, one.field, Path(one.uri).name): one.num_violations for one in report.findings}
        assert counts == {(*key, name): len(some) for key, some in rows.items() for name in ("a.tar", "b.tar")}
        for one in report.findings:
            assert {example.row for example in one.examples} <= rows[one.code, one.field or ""]


@pytest.mark.parametrize("workers", [1, 4])
def test_kept_samples_are_copied_byte_for_byte(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members, rows = make_dirty(7)
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "a.tar", tar_bytes(members))
    monkeypatch.setattr(tar_module, "TARGET_BATCH_BYTES", 20_000)
    rules = [{"action": "drop_row", "codes": ["DC101"]}]
    report = datacheck.run(write_pipeline(tmp_path, ["in"], rules), workers=workers)
    dropped = rows["DC101", "npy[]"]
    aside = (rows["DC601", "npy"] | rows["DC104", "json.s"]) - dropped
    assert list(report.totals().values()) == [300, 300 - len(dropped | aside), len(dropped), len(aside)]
    kept = [(name, content) for name, content in members if int(name[:5]) not in dropped | aside]
    (path,) = (tmp_path / "out" / "data").glob("*.tar")
    assert path.read_bytes() == tar_bytes(kept)[: len(path.read_bytes())]
    with tarfile.open(path) as archive:
        assert [one.name for one in archive.getmembers()] == [name for name, _ in kept]
    records = quarantine_of(tmp_path / "out")
    assert records is not None
    assert len(records["record"]) == len(aside)


def test_a_repaired_member_is_written_anew_and_the_others_are_copied(tmp_path: Path) -> None:
    members = [
        ("a.npy", npy([[1, np.nan], [3, 4]])),
        ("a.json", b'{"s":  null, "t": 1}'),
        ("a.cls", b" 2 "),
        ("a.bin", b"z"),
    ]
    members += [("b.npy", npy([1])), ("b.json", b'{"s": 5, "t": 1}'), ("b.cls", b"1"), ("b.bin", b"")]
    save(tmp_path / "a.tar", tar_bytes(members))
    rules = [
        {
            "action": "impute",
            "strategy": "constant",
            "value": 7,
            "fields": ["npy[]", "json.s"],
            "codes": ["DC101", "DC104"],
        },
        {"action": "drop_field", "fields": "bin"},
    ]
    assert datacheck.run(write_pipeline(tmp_path, ["a.tar"], rules)).ok
    (path,) = (tmp_path / "out").rglob("*.tar")
    with tarfile.open(path) as archive:
        contents = {one.name: archive.extractfile(one).read() for one in archive.getmembers()}  # type: ignore[union-attr]
    assert list(contents) == ["a.npy", "a.json", "a.cls", "b.npy", "b.json", "b.cls"]
    assert contents["b.json"] == b'{"s": 5, "t": 1}'
    assert np.load(io.BytesIO(contents["a.npy"])).tolist() == [[1.0, 7.0], [3.0, 4.0]]
    assert json.loads(contents["a.json"]) == {"s": 7, "t": 1}
    assert contents["a.cls"] == b" 2 "
    assert found(path) == []


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_it_reads_what_webdataset_reads(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    path = save(
        tmp_path / "a.tar",
        tar_bytes([*make_members(12), ("x/y.z/k.tar.npy", npy([1])), (".hidden", b""), ("plain", b"")]),
    )
    theirs = [
        (sample["__key__"], sorted(name for name in sample if not name.startswith("__")))
        for sample in webdataset.WebDataset(str(path), shardshuffle=False)
    ]
    (batch,) = read_batches(inspect(path))
    ours = []
    for row in range(batch.num_rows):
        names = [column.name for column in batch.columns[1:] if column.data[row].is_valid]  # type: ignore[union-attr]
        ours.append((batch.columns[0].data[row].as_py(), sorted(map(str, names))))
    assert ours == theirs


def test_a_finding_names_the_sample_and_its_member(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(12):
            array = io.BytesIO()
            np.save(array, np.array([np.nan if number in (3, 8) else 0.0, 1.0], np.float32))
            score = b'{"score": NaN}' if number == 5 else b'{"score": 1.0}'
            for suffix, content in (("npy", array.getvalue()), ("meta.json", score)):
                info = tarfile.TarInfo(f"train/n{number:02}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    report = datacheck.scan(path)
    assert [finding.message for finding in report.findings] == [
        f"2 of 24 values are NaN in 'npy[]' ({path}, rows 3, 8, members train/n03.npy, train/n08.npy)",
        f"1 of 12 values are NaN in 'meta.json.score' ({path}, row 5, member train/n05.meta.json)",
    ]
    assert datacheck.Report.from_dict(report.to_dict()).findings == report.findings


def test_suffixes_of_every_sample_are_refused_as_names_with_dots(tmp_path: Path) -> None:
    members = [(f"{index:04d}.{index}.txt", b"a") for index in range(1200)]
    (finding,) = datacheck.scan(save(tmp_path / "a.tar", tar_bytes(members))).findings
    assert finding.code == "DC904"
    assert "1,000 suffixes in 1,200 samples (a suffix begins at the first dot of a name)" in finding.message
    report = datacheck.scan(save(tmp_path / "b.tar", tar_bytes(members[:900])))
    assert "DC904" not in {one.code for one in report.findings}


def test_large_samples_are_copied_once_on_their_way_to_an_output(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tar", tar_bytes([("a.bin", bytes(1 << 21)), ("b.txt", b"1")]))
    (batch,) = read_batches(inspect(path))
    assert batch.raw is not None
    tracemalloc.start()
    try:
        array = batch.raw.array
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()
    first, second = _samples(array)
    assert first is not None
    assert second is not None
    assert [bytes(first), bytes(second)] == array.to_pylist()
    assert np.frombuffer(first, np.uint8).ctypes.data == array.buffers()[2].address
