"""Files of a few bytes that would take gigabytes: read or refused in a child process whose memory is bounded."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

#: Prints the codes found and the peak of the process in MiB.
_SCAN = """
import json, sys
import datacheck
report = datacheck.scan(sys.argv[1], workers=2)
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


def _arrow_dictionary(path: Path) -> None:
    _write_arrow(path, pa.DictionaryArray.from_arrays(pa.array(np.zeros(6000, "i1")), pa.array([LONG])))


def _arrow_dictionary_of_lists(path: Path) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1 << 18, "f4")), 1 << 18)
    _write_arrow(path, pa.DictionaryArray.from_arrays(pa.array(np.zeros(3000, "i2")), lists))


def _arrow_runs(path: Path) -> None:
    _write_arrow(path, pa.RunEndEncodedArray.from_arrays(pa.array([1 << 23], pa.int32()), pa.array(["x" * 1000])))


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


BOMBS: dict[str, tuple[str, Callable[[Path], None], set[str]]] = {
    "parquet, one long string": (".parquet", _parquet_dictionary, set()),
    "parquet, one long string and its type": (".parquet", lambda p: _parquet_dictionary(p, store_schema=True), set()),
    "parquet, long strings in lists": (".parquet", _parquet_nested_dictionary, set()),
    "arrow dictionary": (".arrow", _arrow_dictionary, set()),
    "arrow dictionary of lists": (".arrow", _arrow_dictionary_of_lists, set()),
    "arrow runs": (".arrow", _arrow_runs, set()),
    "arrow, one compressed batch": (".arrow", _arrow_one_batch, {"DC904"}),
    "arrow, a negative length": (".arrow", _arrow_negative_length, {"DC901"}),
    "safetensors header": (".safetensors", _safetensors_header, {"DC904"}),
    "torch, shared lists": (".pt", _torch_shared_lists, {"DC904"}),
}


def parameters() -> list[object]:
    return [
        pytest.param(*bomb, id=name, marks=[pytest.mark.torch] if name.startswith("torch") else [])
        for name, bomb in BOMBS.items()
    ]


@pytest.mark.parametrize(("suffix", "write", "codes"), parameters())
def test_no_file_takes_more_than_a_gibibyte(
    suffix: str, write: Callable[[Path], None], codes: set[str], tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    write(path)
    done = subprocess.run(
        [sys.executable, "-c", _SCAN, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found, num_rows, peak = json.loads(done.stdout)
    assert set(found) == codes
    assert num_rows > 0 or codes
    assert peak < MAX_PEAK_MIB
