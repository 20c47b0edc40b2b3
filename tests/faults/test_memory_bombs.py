"""Files of a few bytes that would take gigabytes: read or refused in a child process whose memory is bounded."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.sources import get_source, tfrecord
from datacheck.sources.base import ReadOptions

#: Prints the codes found and the peak of the process in MiB.
_SCAN = """
import json, sys
import datacheck
from datacheck.jobs.executors import isolated
isolated.may_crash = lambda _: False  # the process whose peak is measured reads the file
paths = sys.argv[1:]
report = datacheck.scan(paths[0], workers=2) if len(paths) == 1 else datacheck.compare(*paths, workers=2)
lines = open("/proc/self/status").read().splitlines()
peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10
print(json.dumps([sorted({finding.code for finding in report.findings}), report.num_rows, peak]))
"""
MAX_PEAK_MIB = 1024
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak of a process from /proc")
LONG = "x" * (1 << 20)


def _write_arrow(path: Path, array: pa.Array, compression: str | None = None) -> None:
    batch = pa.RecordBatch.from_arrays([array], ["s"])
    with ipc.new_file(path, batch.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_batch(batch)


def _parquet_dictionary(path: Path, *, store_schema: bool = False) -> None:
    array = pa.DictionaryArray.from_arrays(pa.array(np.zeros(6000, "i4")), pa.array([LONG], pa.large_string()))
    pq.write_table(pa.table({"s": array}), path, compression="zstd", store_schema=store_schema)


def _parquet_nested_dictionary(path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3000, "i4")), pa.array([LONG], pa.large_string()))
    array = pa.ListArray.from_arrays(pa.array(np.arange(0, 3001, 3), pa.int32()), words)
    pq.write_table(pa.table({"s": array}), path, compression="zstd", store_schema=False)


def _parquet_long_lists(path: Path) -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 1 << 25], pa.int32()), pa.array(np.zeros(1 << 25, "f4")))
    pq.write_table(pa.table({"s": pa.chunked_array([lists] * 8)}), path)


def _hdf5_shared_lists(path: Path) -> None:
    """Rows of variable length that are all one list of 2 MiB in the heap of the file."""
    import h5py

    kind = h5py.vlen_dtype(np.dtype("f4"))
    with h5py.File(path, "w") as file:
        one = file.create_dataset("one", (1,), kind)
        one[0] = np.zeros(1 << 19, "f4")
        many = file.create_dataset("many", (600,), kind, chunks=(600,))
        # Each value is the length of a list and its place in the heap.
        place = one.id.get_offset()
        file.flush()
        with path.open("rb") as raw:
            raw.seek(place)
            reference = raw.read(16)
        many.id.write_direct_chunk((0,), reference * 600)
        del file["one"]


def _arrow_dictionary(path: Path) -> None:
    _write_arrow(path, pa.DictionaryArray.from_arrays(pa.array(np.zeros(6000, "i1")), pa.array([LONG])))


def _arrow_dictionary_of_lists(path: Path) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1 << 18, "f4")), 1 << 18)
    _write_arrow(path, pa.DictionaryArray.from_arrays(pa.array(np.zeros(3000, "i2")), lists))


def _arrow_runs(path: Path) -> None:
    _write_arrow(path, pa.RunEndEncodedArray.from_arrays(pa.array([1 << 23], pa.int32()), pa.array(["x" * 1000])))


def _arrow_views(path: Path) -> None:
    """1,500 views of one text of 1 MiB."""
    array = pa.array([LONG], pa.string_view())
    view, text = array.buffers()[1], array.buffers()[2]
    _write_arrow(
        path, pa.Array.from_buffers(pa.string_view(), 1500, [None, pa.py_buffer(bytes(view)[:16] * 1500), text])
    )


def _arrow_list_views(path: Path) -> None:
    starts, sizes = np.zeros(400, "i4"), np.full(400, 1 << 20, "i4")
    values = pa.array(np.zeros(1 << 20, "f4"))
    _write_arrow(path, pa.ListViewArray.from_arrays(pa.array(starts), pa.array(sizes), values), "zstd")


def _arrow_one_batch(path: Path) -> None:
    _write_arrow(path, pa.array(np.zeros((3 << 26) + 1, "f8")), "lz4")


def _arrow_negative_length(path: Path) -> None:
    small = pa.RecordBatch.from_arrays([pa.array(np.zeros(4096))], ["x"])
    with ipc.new_file(path, small.schema, options=ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(small)
    data = path.read_bytes()
    at = data.rindex(struct.pack("<q", 4096 * 8))
    path.write_bytes(data[:at] + struct.pack("<q", -(3 << 31)) + data[at + 8 :])


def _safetensors_header(path: Path) -> None:
    header = b'{"__metadata__":{},"a":[' + b"[]," * 8_000_000 + b"[]]}"
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def _torch_shared_lists(path: Path) -> None:
    structure: list[object] = [1.0, 1]
    for _ in range(40):
        structure = [structure] * 3_000
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(structure, protocol=2))
        for name, content in (("byteorder", "little"), ("version", "3\n"), (".data/serialization_id", "1" * 40)):
            archive.writestr(f"a/{name}", content)


def _image_of_floats(path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((8000, 8000), "f4")).save(path, compression="tiff_deflate")


def _json_of_empty_lists(path: Path) -> None:
    path.write_text('{"a": 1}\n{"a": [' + "[]," * 20_000_000 + "[]]}\n")


def _orc_of_long_texts(path: Path) -> None:
    orc = pytest.importorskip("pyarrow.orc")
    orc.write_table(pa.table({"s": [LONG] * 1500}), path, compression="zstd")


def _parquet_chunks(path: Path) -> None:
    """A footer of 5.4 MB with 1,800,000 column chunks that say nothing but where their file begins."""
    chunks = b"\x19\xfc" + _varint(90_000) + b"\x26\x00\x00" * 90_000
    schema = b"\x19\x2c" + b"\x48\x01r\x15\x02\x00" + b"\x15\x02\x25\x02\x18\x01a\x00"
    groups = b"\x19\xfc" + _varint(20) + (chunks + b"\x16\x00\x16\x00\x00") * 20
    footer = b"\x15\x02" + schema + b"\x16\x00" + groups + b"\x00"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _avro_of_long_texts(path: Path) -> None:
    fastavro = pytest.importorskip("fastavro")
    schema = {"type": "record", "name": "r", "fields": [{"name": "s", "type": "string"}]}
    with path.open("wb") as file:
        fastavro.writer(file, schema, ({"s": LONG} for _ in range(600)), codec="deflate", sync_interval=1 << 31)


def _tar_of_long_arrays(path: Path) -> None:
    """Three members of 250 MiB."""
    content = io.BytesIO()
    np.save(content, np.ones((250 << 18) - 32, "f4"))
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name in ("0.npy", "1.npy", "2.npy"):
            member = tarfile.TarInfo(name)
            member.size = content.tell()
            archive.addfile(member, io.BytesIO(content.getbuffer()))


def _text_of_many_columns(path: Path) -> None:
    path.write_text("," * 1_000_000 + "\n")


def _run_and_measure(*paths: Path) -> tuple[list[str], int, int]:
    """The codes that a scan finds, or a comparison of two files, the number of rows, and the peak in MiB."""
    command = [sys.executable, "-c", _SCAN, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found, num_rows, peak = json.loads(done.stdout)
    return found, num_rows, peak


BOMBS: dict[str, tuple[str, Callable[[Path], None], set[str]]] = {
    "parquet, one long string": (".parquet", _parquet_dictionary, set()),
    "parquet, one long string and its type": (".parquet", lambda p: _parquet_dictionary(p, store_schema=True), set()),
    "parquet, long strings in lists": (".parquet", _parquet_nested_dictionary, set()),
    "parquet, lists of equal values": (".parquet", _parquet_long_lists, {"DC904"}),
    "hdf5, one list many times": (".h5", _hdf5_shared_lists, set()),
    "arrow dictionary": (".arrow", _arrow_dictionary, set()),
    "arrow dictionary of lists": (".arrow", _arrow_dictionary_of_lists, set()),
    "arrow runs": (".arrow", _arrow_runs, set()),
    "arrow, views of one text": (".arrow", _arrow_views, set()),
    "arrow, lists that overlap": (".arrow", _arrow_list_views, set()),
    "arrow, one compressed batch": (".arrow", _arrow_one_batch, {"DC904"}),
    "arrow, a negative length": (".arrow", _arrow_negative_length, {"DC901"}),
    "safetensors header": (".safetensors", _safetensors_header, {"DC904"}),
    "tiff of floats": (".tiff", _image_of_floats, {"DC603"}),
    "json, a line of empty lists": (".jsonl", _json_of_empty_lists, {"DC305"}),
    "parquet, column chunks": (".parquet", _parquet_chunks, {"DC904"}),
    "orc of long texts": (".orc", _orc_of_long_texts, {"DC904"}),
    "avro, one block": (".avro", _avro_of_long_texts, {"DC904"}),
    "csv of a million columns": (".csv", _text_of_many_columns, {"DC904"}),
    "tar of long arrays": (".tar.gz", _tar_of_long_arrays, set()),
    "torch, shared lists": (".pt", _torch_shared_lists, {"DC904"}),
}


def parameters() -> list[object]:
    return [
        pytest.param(*bomb, id=name, marks=[pytest.mark.torch] if name.startswith("torch") else [])
        for name, bomb in BOMBS.items()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "write", "codes"), parameters())
def test_no_file_takes_more_than_a_gibibyte(
    suffix: str, write: Callable[[Path], None], codes: set[str], tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    write(path)
    found, num_rows, peak = _run_and_measure(path)
    assert set(found) == codes
    assert num_rows > 0 or codes
    assert peak < MAX_PEAK_MIB


def _arrow_views_in_lists(path: Path) -> None:
    """100 GB of text by 100,000 views of one."""
    view, text = pa.array([LONG], pa.string_view()).buffers()[1:]
    views = pa.Array.from_buffers(pa.string_view(), 100_000, [None, pa.py_buffer(bytes(view)[:16] * 100_000), text])
    _write_arrow(path, pa.ListArray.from_arrays(pa.array(np.arange(0, 100_001, 10), pa.int32()), views))


def _arrow_dictionary_without_end(path: Path) -> None:
    _write_arrow(path, pa.DictionaryArray.from_arrays(pa.array(np.zeros(1 << 17, "i1")), pa.array([LONG])))


def _arrow_list_views_without_end(path: Path) -> None:
    starts, sizes = np.zeros(1 << 17, "i4"), np.full(1 << 17, 1 << 18, "i4")
    values = pa.array(np.zeros(1 << 18, "f4"))
    _write_arrow(path, pa.ListViewArray.from_arrays(pa.array(starts), pa.array(sizes), values))


def _write_avro(path: Path, schema: dict[str, object], num_records: int, data: bytes, num_blocks: int = 0) -> None:
    """A file of one block or, compressed, of several that are equal."""
    pytest.importorskip("fastavro")
    text = json.dumps(schema).encode()
    metadata = b"" if not num_blocks else _varint(20) + b"avro.codec" + _varint(14) + b"deflate"
    head = b"Obj\x01" + _varint(2 * (2 if num_blocks else 1)) + metadata
    header = head + _varint(22) + b"avro.schema" + _varint(2 * len(text)) + text + b"\0" + b"s" * 16
    if num_blocks:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = deflate.compress(data) + deflate.flush()
    block = _varint(2 * num_records) + _varint(2 * len(data)) + data + b"s" * 16
    path.write_bytes(header + block * max(num_blocks, 1))


def _avro_fields_without_end(path: Path) -> None:
    """24 types, each of which holds the one before twice."""
    kind: dict[str, object] = {"type": "record", "name": "r0", "fields": [{"name": "a", "type": "null"}]}
    for number in range(1, 24):
        fields = [{"name": "a", "type": kind}, {"name": "b", "type": f"r{number - 1}"}]
        kind = {"type": "record", "name": f"r{number}", "fields": fields}
    _write_avro(path, kind, 1, b"\0")


def _avro_of_a_long_symbol(path: Path) -> None:
    kind = {"type": "enum", "name": "e", "symbols": ["x" * (1 << 20)]}
    _write_avro(path, {"type": "record", "name": "r", "fields": [{"name": "a", "type": kind}]}, 4096, bytes(4096))


def _avro_of_short_items(path: Path) -> None:
    fields = [{"name": "a", "type": {"type": "array", "items": ["null", "long"]}}]
    num_items = 12 << 20
    _write_avro(
        path, {"type": "record", "name": "r", "fields": fields}, 1, _varint(2 * num_items) + bytes(num_items + 1)
    )


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        pytest.param(".arrow", _arrow_views_in_lists, id="views in lists"),
        pytest.param(".arrow", _arrow_dictionary_without_end, id="dictionary"),
        pytest.param(".arrow", _arrow_list_views_without_end, id="lists that overlap"),
        pytest.param(".avro", _avro_fields_without_end, id="types of types"),
        pytest.param(".avro", _avro_of_a_long_symbol, id="a long symbol"),
        pytest.param(".avro", _avro_of_short_items, id="short items"),
    ],
)
def test_what_would_decode_to_far_too_much_is_refused(
    suffix: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / f"x{suffix}")
    (finding,) = datacheck.scan(tmp_path / f"x{suffix}").findings
    assert finding.code == "DC904"


def _avro_of_nulls(path: Path) -> None:
    fields = [{"name": "a", "type": ["null", "long"]}]
    _write_avro(path, {"type": "record", "name": "r", "fields": fields}, 1 << 16, bytes(1 << 16), num_blocks=2)


def _tfrecords_of_nothing(path: Path) -> None:
    pytest.importorskip("google.protobuf")
    crc32c = pytest.importorskip("google_crc32c").value
    path.write_bytes(gzip.compress(tfrecord.frame(b"", crc32c) * 80_000))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.avro", _avro_of_nulls),
        ("x.tfrecord.gz", _tfrecords_of_nothing),
        ("x.jsonl.gz", lambda path: path.write_bytes(gzip.compress(b"{}\n" * 100_000))),
        ("x.json.gz", lambda path: path.write_bytes(gzip.compress(b"[" + b"{}," * 100_000 + b"{}]"))),
    ],
)
def test_rows_that_hardly_take_a_byte_of_the_file_are_bounded(
    name: str, write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.error_translation.HARMLESS_RECORDS", 1 << 16)
    write(tmp_path / name)
    (finding,) = datacheck.scan(tmp_path / name).findings
    assert finding.code == "DC904"
    assert "for each byte" in finding.message
    trusted = datacheck.scan(tmp_path / name, options=ReadOptions(max_expansion_ratio=1 << 20))
    assert trusted.num_rows > 1 << 16


@pytest.mark.parametrize(
    ("name", "code"),
    [("x.tar", "DC601"), ("_delta_log/00000000000000000000.json", "DC904"), ("metadata/v1.metadata.json", "DC904")],
)
def test_lists_of_empty_lists_are_refused_before_they_are_parsed(
    name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.json_values.MAX_BYTES_AT_ONCE", 1 << 20)
    text = b'{"a": [' + b"[]," * 6000 + b"[]]}"
    path = tmp_path / "table" / name
    path.parent.mkdir(parents=True)
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo("0.json")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    else:
        path.write_bytes(text)
    (finding,) = datacheck.scan(path if path.suffix == ".tar" else tmp_path / "table").findings
    assert finding.code == code
    assert "its values would take about 1,200," in finding.message


@pytest.mark.slow
@pytest.mark.parametrize(("num_rows", "codes"), [(3 << 20, {"DC310"}), (1 << 22, {"DC904"})])
def test_rows_of_a_few_bytes_are_compared_in_bounded_memory(num_rows: int, codes: set[str], tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    path = tmp_path / "x.arrow"
    ones = pa.RunEndEncodedArray.from_arrays(pa.array([num_rows], pa.int32()), pa.array([1.0]))
    batch = pa.RecordBatch.from_arrays([ones] * 5, list("abcde"))
    with ipc.new_file(path, batch.schema) as writer:
        writer.write_batch(batch)
    found, _, peak = _run_and_measure(path, path)
    assert set(found) == codes
    assert peak < MAX_PEAK_MIB


@pytest.mark.parametrize("suffix", [".orc", ".parquet"])
def test_equal_values_in_lists_count_before_they_are_decoded(suffix: str, tmp_path: Path) -> None:
    orc = pytest.importorskip("pyarrow.orc")
    path, num_values = tmp_path / f"x{suffix}", 1 << 20
    lists = pa.ListArray.from_arrays(pa.array([0, num_values], pa.int32()), pa.array(np.zeros(num_values, "i1")))
    (orc if suffix == ".orc" else pq).write_table(pa.table({"s": lists}), path)
    reports = [datacheck.scan(path, options=ReadOptions(max_expanded_bytes=limit)) for limit in (1 << 23, 1 << 25)]
    assert [[finding.code for finding in report.findings] for report in reports] == [["DC904"], []]


def test_rows_of_lists_with_long_texts_are_written_again_without_decoding_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.parquet.MAX_REPEATED_BYTES", 1 << 20)
    monkeypatch.setattr("datacheck.sources.parquet.DECODED_BATCH_BYTES", 2 << 20)
    words = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(300, "i4")), pa.array(["x" * (1 << 16)], pa.large_string())
    )
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, 301, 3), pa.int32()), words)
    pq.write_table(pa.table({"s": lists}), tmp_path / "x.parquet", compression="zstd", store_schema=False)
    source = get_source("parquet")
    (unit,) = source.inspect(str(tmp_path / "x.parquet"), ReadOptions()).units
    arrays = [batch.columns[0].data for batch in source.read(unit)]
    assert pa.chunked_array(arrays).to_pylist() == [["x" * (1 << 16)] * 3] * 100
    assert max(array.get_total_buffer_size() for array in arrays) < 4 << 20
