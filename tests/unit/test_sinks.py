"""The common suite of all sinks: values round-trip bit for bit, and the same batches give the same bytes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from sink_files import (
    FORMATS,
    PATTERNS,
    batches,
    bits,
    read_arrays,
    read_table,
    same,
    special,
    template,
    write,
)

from datacheck.batch import Batch, Column
from datacheck.errors import OutputError, UsageError
from datacheck.sinks import get_sink, sink_formats


@pytest.mark.parametrize("dtype", sorted(PATTERNS))
@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt != "csv"])
def test_floats_round_trip_bit_for_bit(fmt, dtype, tmp_path):
    path = write(fmt, tmp_path / "part", [Column(None, special(dtype))])
    read = read_arrays(fmt, path)["array"]
    assert read.dtype == dtype
    assert np.array_equal(bits(read), bits(special(dtype)))


@pytest.mark.parametrize("dtype", sorted(PATTERNS))
@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt != "csv"])
def test_multidimensional_arrays_keep_their_shape_and_bits(fmt, dtype, tmp_path):
    values = np.resize(special(dtype), (7, 3, 2))
    path = write(fmt, tmp_path / "part", [Column(None, values)])
    read = read_arrays(fmt, path)["array"]
    assert read.shape == values.shape
    assert np.array_equal(bits(read), bits(values))


PLAIN_DTYPES = ("bool", "int8", "int64", "uint16", "uint64", "float64")
TIMES = ("datetime64[ns]", "timedelta64[s]")


@pytest.mark.parametrize(
    ("fmt", "dtype"),
    [(fmt, dtype) for fmt in FORMATS for dtype in PLAIN_DTYPES]
    + [(fmt, dtype) for fmt in FORMATS if fmt != "safetensors" for dtype in TIMES],
)
def test_plain_dtypes_round_trip(fmt, dtype, tmp_path):
    values = np.arange(-3, 6).astype("int64").astype(dtype)
    path = write(fmt, tmp_path / "part", [Column("x", values)])
    if fmt == "csv":
        assert same(read_table(fmt, path, x=pa.array(values).type).column("x"), pa.array(values))
    else:
        (found,) = read_arrays(fmt, path).values()
        assert found.dtype == values.dtype
        assert np.array_equal(found, values)


@pytest.mark.parametrize("layout", ["big-endian", "Fortran", "strided", "reversed", "0-d"])
@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt != "csv"])
def test_memory_layouts_do_not_matter(fmt, layout, tmp_path):
    values = np.resize(special("float32"), (8, 4))
    given = {
        "big-endian": values.astype(">f4"),
        "Fortran": np.asfortranarray(values),
        "strided": np.repeat(values, 2, axis=1)[:, ::2],
        "reversed": values[::-1],
        "0-d": np.array(-0.0, np.float32),
    }[layout]
    if layout == "0-d":
        writer = get_sink(fmt).open(str(tmp_path / "part"), Batch((Column(None, given.reshape(1)[:0]),), 0))
        writer.write(Batch((Column(None, given),), 1))
        writer.close()
        given = given.reshape(1)
    else:
        write(fmt, tmp_path / "part", [Column(None, given)])
    read = read_arrays(fmt, tmp_path / "part")["array"]
    assert np.array_equal(bits(read.astype("<f4")), bits(given.astype("<f4")))


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_part_without_rows_reads_back_empty(fmt, tmp_path):
    column = Column("x", np.zeros(0, np.float32))
    path = write(fmt, tmp_path / "part", [column])
    (read,) = read_arrays(fmt, path).values()
    assert read.shape == (0,)


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_part_has_the_same_bytes_in_any_storage(fmt, tmp_path, memory):
    columns = [Column("x", np.arange(9.0)), Column("y", np.arange(9))][: 1 if fmt == "npy" else 2]
    path = write(fmt, tmp_path / "part", columns)
    empty = template(Batch(tuple(columns), 9))
    for end in ("close", "abort"):
        writer = get_sink(fmt).open(f"memory://{end}", empty)
        for batch in batches(*columns):
            writer.write(batch)
        getattr(writer, end)()
    assert memory.files == {"memory://close": path.read_bytes()}


@pytest.mark.parametrize("fmt", FORMATS)
def test_abort_leaves_no_file(fmt, tmp_path):
    writer = get_sink(fmt).open(str(tmp_path / "part"), Batch((Column("x", np.zeros(0)),), 0))
    writer.write(Batch((Column("x", np.arange(4.0)),), 4))
    writer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fmt", FORMATS)
def test_abort_after_close_removes_the_part(fmt, tmp_path):
    writer = get_sink(fmt).open(str(tmp_path / "part"), Batch((Column("x", np.zeros(0)),), 0))
    writer.close()
    assert (tmp_path / "part").exists()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_part_appears_when_it_is_closed(fmt, tmp_path):
    writer = get_sink(fmt).open(str(tmp_path / "part"), Batch((Column("x", np.zeros(0)),), 0))
    writer.write(Batch((Column("x", np.arange(4.0)),), 4))
    assert not (tmp_path / "part").exists()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_closed_part_refuses_more_batches(fmt, tmp_path):
    batch = Batch((Column("x", np.arange(4.0)),), 4)
    writer = get_sink(fmt).open(str(tmp_path / "part"), template(batch))
    assert writer.close() == writer.close()
    with pytest.raises(OutputError, match="after it was closed"):
        writer.write(batch)
    assert (tmp_path / "part").exists()


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_dtype_change_between_batches_is_refused_and_leaves_no_file(fmt, tmp_path):
    writer = get_sink(fmt).open(str(tmp_path / "part"), Batch((Column("x", np.zeros(0, np.float32)),), 0))
    writer.write(Batch((Column("x", np.zeros(3, np.float32)),), 3))
    with pytest.raises(OutputError, match=r"'x' changes from .* within the output"):
        writer.write(Batch((Column("x", np.zeros(3, np.float64)),), 3))
    assert list(tmp_path.iterdir()) == []


REFUSED = [
    ("npy", [Column("x", np.zeros(2)), Column("y", np.zeros(2))], r"npy holds one array, got 2 columns.*npz"),
    ("npy", [Column("x", pa.array(["a", "b"]))], r"'x' is string; .*parquet and arrow"),
    ("npy", [Column("x", pa.array([[1], []]))], r"'x' is list<.*parquet and arrow"),
    ("npy", [Column("x", np.array([1, "a"], object))], r"'x' is an array of Python objects"),
    ("npz", [Column("x", np.zeros(2)), Column("x", np.zeros(2))], r"two arrays named 'x'"),
    ("npz", [Column("a\0b", np.zeros(2))], r"named 'a\\x00b'"),
    ("npz", [Column("\udcff", np.zeros(2))], r"not valid Unicode"),
    ("safetensors", [Column("x", np.zeros(2, np.complex128))], r"'x' is complex128; .*npy, npz"),
    ("safetensors", [Column("__metadata__", np.zeros(2))], r"'__metadata__'"),
    ("safetensors", [Column("x", pa.array([1, 2], pa.timestamp("s", "UTC")))], r"'x' is timestamp"),
    ("csv", [Column("x", np.zeros((2, 3)))], r"'x' is an array of shape \(3,\) per row; .*npy"),
    ("csv", [Column("x", pa.array([[1], []]))], r"'x' is list<.*parquet and arrow"),
    ("csv", [Column("x", pa.array([b"a", b"b"]))], r"'x' is binary; .*parquet and arrow"),
    ("csv", [Column("x", np.zeros(2, np.uint16), "bfloat16")], r"'x' is bfloat16; .*safetensors"),
    ("parquet", [Column("y", np.zeros(2)), Column("x", np.zeros(2, np.complex64))], r"'x' is complex64.*npy and npz"),
    ("parquet", [Column("x", np.zeros((2, 0)))], r"'x' is float64 of shape \(rows, 0\).*npy and npz"),
    ("parquet", [Column("x", pa.array([(1, 2, 3)] * 2, pa.month_day_nano_interval()))], r"'x' is month_day.*arrow can"),
    ("arrow", [Column("x", np.zeros(2, [("a", "f4")]))], r"npy and npz can"),
    ("arrow", [Column("x", np.zeros(2), problem="it is pickled")], r"'x' is not readable \(it is pickled\)"),
]


@pytest.mark.parametrize(("fmt", "columns", "message"), REFUSED)
def test_an_unsupported_column_is_refused_with_a_format_that_supports_it(fmt, columns, message, tmp_path):
    with pytest.raises(OutputError, match=message):
        write(fmt, tmp_path / "part", columns)
    assert list(tmp_path.iterdir()) == []


def test_the_formats_are_listed():
    # JSON has no NaN and one type of numbers: what it writes is tested on its own.
    # So is what copies files and records that it is given.
    assert {*FORMATS, "audio", "image", "jsonl", "mds", "megatron", "tar", "tfrecord"} <= set(sink_formats())


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_sink_has_its_format_and_suffix(fmt):
    sink = get_sink(fmt)
    assert (sink.format, sink.suffix) == (fmt, f".{fmt}")


@pytest.mark.parametrize("fmt", ["pt", "pth", "pkl"])
def test_formats_that_execute_code_are_not_written(fmt):
    with pytest.raises(OutputError, match="write safetensors"):
        get_sink(fmt)


def test_an_unknown_format_suggests_the_nearest():
    with pytest.raises(OutputError, match="'parqet'; did you mean 'parquet'"):
        get_sink("parqet")


def test_an_unknown_option_suggests_the_nearest():
    with pytest.raises(UsageError, match="unknown option 'compresion'; did you mean 'compression'"):
        get_sink("parquet", {"compresion": "zstd"})


@pytest.mark.parametrize("form", sink_formats())
def test_an_unknown_option_of_any_format_is_an_error_that_names_it(form: str) -> None:
    with pytest.raises(UsageError, match=f"output format {form}: unknown option 'zzz'"):
        get_sink(form, {"zzz": 1})


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        ("parquet", {"compression": "zst"}),
        ("arrow", {"compression": "gzip"}),
        ("parquet", {"compression": 5}),
        ("arrow", {"metadata": {"a": 1}}),
        ("parquet", {"metadata": "a"}),
        ("csv", {"delimiter": None}),
        ("csv", {"delimiter": "\n"}),
        ("csv", {"delimiter": ";;"}),
    ],
)
def test_an_invalid_option_is_refused(fmt, options):
    with pytest.raises(UsageError):
        get_sink(fmt, options)


SCRIPT = """
    import hashlib, sys
    from pathlib import Path
    import numpy as np, pyarrow as pa
    from datacheck.batch import Batch, Column
    from datacheck.sinks import get_sink
    rng = np.random.default_rng(5)
    for fmt in sys.argv[2:]:
        columns = [Column("x", rng.standard_normal((3000, 2) if fmt in ("npz", "safetensors") else 3000))]
        if fmt != "npy":
            columns.append(Column("y", rng.integers(0, 9, 3000)))
        if fmt in ("parquet", "arrow", "csv"):
            columns.append(Column("z", pa.array(rng.random(3000), mask=rng.random(3000) < 0.3)))
            columns.append(Column("k", pa.array([f"v{i % 7}" for i in range(3000)]).dictionary_encode()))
        whole = Batch(tuple(columns), 3000)
        path = Path(sys.argv[1]) / fmt
        writer = get_sink(fmt).open(str(path), whole.take(np.arange(0)))
        for start in range(0, 3000, 700):
            writer.write(whole.take(np.arange(start, min(start + 700, 3000))))
        writer.close()
        print(fmt, hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_the_same_batches_give_the_same_bytes_in_two_processes(tmp_path):
    outputs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / name), *FORMATS]
        outputs.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(outputs[0].splitlines()) == len(FORMATS)
    assert outputs[0] == outputs[1]
