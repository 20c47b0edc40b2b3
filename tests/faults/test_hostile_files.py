"""Broken and hostile files: an error that says what is wrong, at once, in little memory, and never code that runs."""

from __future__ import annotations

import os
import random
import struct
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from source_files import FORMATS, Format, inspect, join, make_table, parameters, read_batches, read_table

from datacheck.codes import CODES
from datacheck.errors import SourceError
from datacheck.formats import BUILT_IN, known_suffixes
from datacheck.sources import ReadOptions, source_for

every_format = pytest.mark.parametrize("form", parameters())
#: Of images and audio, a file that is none is a finding about its one row.
# Any bytes may be token ids.
_MEDIA = {
    suffix for record in BUILT_IN.values() if record.is_sample or record.shares_suffix for suffix in record.suffixes
}
#: Those are folders.
_FOLDERS = {suffix for record in BUILT_IN.values() if record.folder for suffix in record.suffixes}
every_suffix = pytest.mark.parametrize("suffix", sorted(set(known_suffixes()) - _MEDIA - _FOLDERS))
#: Nothing in such a file says how many rows it has, so that a cut between two of them cannot be seen.
_UNCOUNTED = {"avro", "tfrecord"}


def read_or_code(path: Path) -> tuple[str, dict[str | None, np.ndarray[Any, Any]]]:
    """No code and the data, or the code of an error and none; every leaf of the data has been looked at."""
    try:
        batches = read_batches(inspect(path))
        for batch in batches:
            for column in batch.columns:
                if column.problem:  # a finding on this column, and the others are read
                    return "DC901", {}
                assert all(len(leaf) >= 0 for leaf in column.leaves())
    except SourceError as error:
        return error.code, {}
    return "", join(batches)


def code_of(path: Path, options: ReadOptions | None = None) -> str:
    """The code of the error that reading a file ends in."""
    with pytest.raises(SourceError) as caught:
        read_batches(inspect(path, options))
    assert caught.value.uri == str(path)
    assert caught.value.problem
    assert caught.value.remedy
    return caught.value.code


@pytest.mark.parametrize("form", parameters(name for name, form in FORMATS.items() if not form.is_text))
def test_a_file_that_is_cut_short_is_never_taken_for_the_whole(form: Format, tmp_path: Path) -> None:
    path, table = tmp_path / f"data{form.suffix}", make_table(400)
    form.write(path, table)
    whole = path.read_bytes()
    choose = random.Random(1)
    cuts = {0, 1, 4, 8, 12, len(whole) - 1, len(whole) - 4, len(whole) - 8, len(whole) - 9, len(whole) // 2}
    cuts |= {choose.randrange(len(whole)) for _ in range(40)}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        code, read = read_or_code(path)
        if code:
            assert code == ("DC907" if cut == 0 else "DC901"), cut
        for name, values in table.items() if not code else ():
            found = read[name]
            expected = values[: len(found)] if form.suffix.split(".")[1] in _UNCOUNTED else values
            np.testing.assert_array_equal(found, expected, err_msg=f"cut at {cut}")


@every_format
def test_damage_anywhere_is_an_error_or_other_values_and_nothing_else(form: Format, tmp_path: Path) -> None:
    path = tmp_path / f"data{form.suffix}"
    form.write(path, make_table(60))
    whole = path.read_bytes()
    choose = random.Random(2)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(choose.randint(1, 3)):
            damaged[choose.randrange(len(whole))] = choose.randrange(256)
        path.write_bytes(damaged)
        assert read_or_code(path)[0] in ("", *CODES)


@pytest.mark.parametrize("new", [ipc.new_file, ipc.new_stream])
def test_damaged_offsets_of_an_arrow_file_are_never_followed(new: Callable[..., object], tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    table = pa.table(
        {
            "text": ["ab", None, "c"] * 20,
            "lists": [[1.0], None, [2.0, 3.0]] * 20,
            "words": pa.array(["a", "b", "c"] * 20).dictionary_encode(),
            "deep": [[["a"], []], [], None] * 20,
        }
    )
    with new(path, table.schema) as writer:  # type: ignore[attr-defined]
        writer.write_table(table)
    whole = path.read_bytes()
    choose = random.Random(3)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[choose.randrange(len(whole))] ^= 1 << choose.randrange(8)
        path.write_bytes(damaged)
        assert read_or_code(path)[0] in ("", "DC901", "DC904")


@every_suffix
def test_no_bytes_at_all(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.touch()
    assert code_of(path) == "DC907"


@every_suffix
def test_what_is_not_there_is_no_file_or_may_not_be_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    assert code_of(path) == "DC902"
    path.mkdir()
    assert code_of(path) == "DC902"
    path.rmdir()
    os.mkfifo(path)
    assert code_of(path) == "DC902"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(3))
    path.chmod(0)
    assert code_of(path) == "DC902"


@every_suffix
@pytest.mark.parametrize("content", [b"\x00" * 4096, b"<!DOCTYPE html><html>" * 40, os.urandom(2048)])
def test_what_is_of_no_format_at_all(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    if suffix in (".csv", ".tsv") and content.startswith(b"<"):
        pytest.skip("a page is a text of one column")
    if suffix == ".tar" and not any(content):
        pytest.skip("an archive without members")
    expected = "DC909" if ".txt" in suffix else "DC911" if ".mds" in suffix else "DC901"  # a shard without its index
    assert code_of(path) == expected


def test_a_name_that_says_nothing_is_told_which_do(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("hello")
    with pytest.raises(SourceError, match=r"known suffixes: .*\.safetensors .* and \d+ more$") as caught:
        source_for(str(path))
    assert caught.value.code == "DC909"
    packed = tmp_path / "x.npy.gz"
    packed.write_bytes(b"\x1f\x8b")
    with pytest.raises(SourceError, match="unpack it first"):
        source_for(str(packed))


def test_a_pickled_npy_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([_Runs(tmp_path / "ran")], object), allow_pickle=True)
    assert code_of(path) == "DC903"
    assert not (tmp_path / "ran").exists()


class _Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickled_member_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([_Runs(tmp_path / "ran")], object))
    assert code_of(path) == "DC903"
    assert not (tmp_path / "ran").exists()


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pt_that_asks_to_run_code_does_not_run_it(zipped: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(3), "b": _Runs(tmp_path / "ran")}, path, _use_new_zipfile_serialization=zipped)
    assert code_of(path) == "DC903"
    assert not (tmp_path / "ran").exists()


@pytest.mark.torch
def test_a_pickle_named_pt_is_not_run_either(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import pickle

    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps(_Runs(tmp_path / "ran"), protocol=2))
    assert code_of(path) == "DC903"
    assert not (tmp_path / "ran").exists()


def _bomb(path: Path, num_members: int = 1) -> None:
    """Members of 64 MiB of zeros each."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (16777216,)}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(num_members):
            with archive.open(f"a{index}.npy", "w") as member:
                member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
                for _ in range(64):
                    member.write(bytes(1 << 20))


def test_a_zip_bomb_is_refused_before_it_is_expanded(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    _bomb(path)
    tracemalloc.start()
    started = time.perf_counter()
    assert code_of(path) == "DC904"
    assert code_of(path, ReadOptions(max_expansion_ratio=10**6, max_expanded_bytes=1 << 20)) == "DC904"
    assert time.perf_counter() - started < 1
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_bomb_that_is_wanted_is_expanded_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    _bomb(path)
    options = ReadOptions(max_expansion_ratio=10**6)
    tracemalloc.start()
    source = source_for(str(path))
    rows = sum(batch.num_rows for unit in inspect(path, options).units for batch in source.read(unit))
    assert rows == 1 << 24
    assert tracemalloc.get_traced_memory()[1] < 56 << 20
    tracemalloc.stop()


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **{f"a{index}": np.zeros(1) for index in range(50)})
    assert code_of(path, ReadOptions(max_members=49)) == "DC904"


def _patch_central_directory(path: Path, offset: int, value: bytes) -> None:
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02") + offset
    data[start : start + len(value)] = value
    path.write_bytes(data)


def test_members_that_share_their_bytes_are_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(100), b=np.zeros(100))
    _patch_central_directory(path, 42, bytes(4))
    assert code_of(path) in ("DC901", "DC904")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("claimed", [10, 10**6, 2**32 - 2])
def test_a_member_that_lies_about_its_size_is_caught(save: Callable[..., None], claimed: int, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    save(path, a=np.zeros(100))
    _patch_central_directory(path, 24, struct.pack("<I", claimed))
    assert code_of(path) in ("DC901", "DC904")


def test_an_encrypted_member_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(100))
    _patch_central_directory(path, 8, b"\x01\x00")
    assert code_of(path) == "DC905"


def test_a_method_that_cannot_be_bounded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", bytes(100_000))
    assert code_of(path) == "DC901"


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(3))
    with zipfile.ZipFile(path) as archive:
        content = archive.read("a.npy")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.npy", content)
    assert code_of(path) == "DC901"


def test_encrypted_parquet_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PARE" + bytes(100) + b"PARE")
    assert code_of(path) == "DC905"


def test_parquet_with_an_encrypted_column_is_said_to_be(tmp_path: Path) -> None:
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):  # type: ignore[misc,name-defined]
        def __init__(self, config: object) -> None:
            encryption.KmsClient.__init__(self)

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
            return key_bytes

        def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
            return wrapped_key

    factory = encryption.CryptoFactory(Keys)
    configuration = encryption.EncryptionConfiguration(
        footer_key="k", column_keys={"k": ["x"]}, plaintext_footer=True, data_key_length_bits=128
    )
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), configuration)
    path = tmp_path / "x.parquet"
    table = pa.table({"x": [1.0, 2.0]})
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    assert code_of(path) == "DC905"


def test_two_columns_of_one_name_are_both_read(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1.0, 2.0]), pa.array([3.0, 4.0])], names=["x", "x"])
    pq.write_table(table, tmp_path / "x.parquet")
    with ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "x.csv").write_text("x,x\n1.0,3.0\n2.0,4.0\n")
    for suffix in (".parquet", ".arrow", ".csv"):
        (batch,) = read_batches(inspect(tmp_path / f"x{suffix}"))
        assert batch.names == ["x", "x"]
        assert [column.data.to_pylist() for column in batch.columns] == [[1.0, 2.0], [3.0, 4.0]]


def test_rows_that_take_no_bytes_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    schema = pa.schema([("nothing", pa.null())])
    with ipc.new_file(path, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([pa.nulls(1 << 26)], schema=schema))
    assert code_of(path) == "DC904"


def test_feather_of_the_first_version_is_told_from_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.feather"
    path.write_bytes(b"FEA1" + bytes(100) + b"FEA1")
    with pytest.raises(SourceError, match=r"Feather V1.*version=2"):
        inspect(path)


def test_a_stream_that_was_never_closed_is_not_taken_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.arrows"
    FORMATS["stream"].write(path, make_table(400))
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(SourceError, match="no end mark"):
        inspect(path)
    path.write_bytes(whole + whole)
    with pytest.raises(SourceError, match="bytes follow the end"):
        inspect(path)


@pytest.mark.torch
@pytest.mark.parametrize("num_rows", [10**8, 10**13])
def test_a_tensor_that_repeats_one_value_without_end_is_refused(num_rows: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.ones(1).expand(num_rows), tmp_path / "x.pt")
    assert code_of(tmp_path / "x.pt") == "DC904"


@pytest.mark.torch
def test_a_structure_that_holds_itself_ends(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    loop: list[object] = [torch.ones(2)]
    loop.append(loop)
    torch.save(loop, tmp_path / "loop.pt")
    assert set(read_table(tmp_path / "loop.pt")) == {"0"}
    many: object = torch.ones(2)
    for _ in range(60):
        many = [many, many]
    torch.save(many, tmp_path / "many.pt")
    assert code_of(tmp_path / "many.pt") == "DC904"


@pytest.mark.torch
def test_a_tensor_that_reaches_into_its_neighbours_bytes_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(1000), "b": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            # Both the storage and the shape claim 1,256 values.
            archive.writestr(name, content.replace(b"\xe8\x03", b"\xe8\x04") if name.endswith("data.pkl") else content)
    assert code_of(path) == "DC901"


@pytest.mark.torch
def test_files_of_torch_are_loaded_by_many_threads_at_once(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pt"
    torch.save(torch.utils.data.TensorDataset(torch.arange(5)), path)
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(10):
                assert read_table(path)["tensors.0"].tolist() == list(range(5))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
