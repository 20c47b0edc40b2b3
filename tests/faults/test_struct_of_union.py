"""A struct with nulls that holds a union: one of Arrow's functions ends the process for it, so it is written in a child."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.ipc as ipc

_WRITE = """
import sys
import pyarrow as pa
from datacheck.batch import Batch
from datacheck.sinks.arrow import ArrowSink
union = pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])])
struct = pa.StructArray.from_arrays([union], ["u"], mask=pa.array([False, True, False]))
batch = Batch.from_arrow(pa.RecordBatch.from_arrays([struct], ["s"]), 0)
writer = ArrowSink().open(sys.argv[1], batch)
writer.write(batch)
writer.close()
"""


def test_a_struct_that_holds_a_union_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    command = [sys.executable, "-c", _WRITE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert ipc.open_file(path).read_all()["s"].to_pylist() == [{"u": 1}, None, {"u": 3}]
