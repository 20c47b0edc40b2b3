"""Traps of formats that were met with real writers and readers, and that no test of one format has."""

from __future__ import annotations

import gzip
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import datacheck

NAN = float("nan")


def found(data: Any, schema: Any = None) -> list[tuple[str, str | None, int, int]]:
    findings = datacheck.scan(data, schema).findings
    return [(one.code, one.field, one.num_violations, one.num_checked) for one in findings]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_every_frame_of_a_compressed_file_is_read(suffix: str, tmp_path: Path) -> None:
    """Some libraries end after the first one, without an error."""
    pytest.importorskip("msgspec")
    pack = gzip.compress if suffix == "gz" else lambda data: pa.compress(data, "zstd", asbytes=True)
    frames = [b'{"x": 1.0}\n' * 3, b'{"x": NaN}\n']
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(b"".join(map(pack, frames)))
    assert found(tmp_path / f"a.jsonl.{suffix}") == [("DC101", "x", 1, 4)]


def test_what_readers_of_json_disagree_about(tmp_path: Path) -> None:
    pytest.importorskip("msgspec")
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": Inf}\n{"x": 1e39}\n{"x": 1, "x": 2}\n{"x": 1, "t": "2020-01-01"}\n')
    # Inf is no JSON and no word of Python's; 1e39 overflows where float32 is asked for; most readers keep the last of two.
    counts = {(code, field): number for code, field, number, _ in found(path)}
    assert counts == {("DC305", None): 1, ("DC016", "x"): 1, ("DC108", "t"): 2}
    assert ("DC102", "x", 1, 3) in found(path, {"fields": {"x": {"dtype": "float32"}}})
    (tmp_path / "times.jsonl").write_text('{"t": "2020-01-01"}\n{"t": "2020-01-01T00:00:00+02:00"}\n')
    assert datacheck.infer(tmp_path / "times.jsonl").fields["t"].dtype == "string"


def test_a_pretty_printed_record_is_no_json_lines(tmp_path: Path) -> None:
    pytest.importorskip("msgspec")
    (tmp_path / "a.jsonl").write_text(json.dumps({"x": NAN}, indent=1))
    (finding,) = datacheck.scan(tmp_path / "a.jsonl").findings
    assert (finding.code, "one whole record on each line" in finding.message) == ("DC901", True)


def test_links_in_an_hdf5_file_lead_to_no_value_twice(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.array([1, NAN])
        file["b"] = file["a"]
        file["group/again"], file["group/cycle"] = h5py.SoftLink("/a"), h5py.SoftLink("/group")
    assert found(tmp_path / "a.h5") == [("DC101", "a", 1, 2)]


def test_a_dataset_of_hugging_face_is_checked_as_it_is_stored(tmp_path: Path) -> None:
    """Whatever the format that was set, and before NaN becomes null or null becomes NaN on the way to the model."""
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("msgspec")
    kinds = {"x": datasets.Value("float16"), "a": datasets.Array2D((2, 2), "float32")}
    blocks = [[[1.0, 2.0], [3.0, value]] for value in (1.0, NAN)]
    held = datasets.Dataset.from_dict({"x": [NAN, None], "a": blocks}, features=datasets.Features(kinds))
    expected = [("DC101", "x", 1, 1), ("DC104", "x", 1, 2), ("DC101", "a[][]", 1, 8)]
    for data in (held, held.with_format("numpy"), held.to_iterable_dataset()):
        assert found(data) == expected
    assert found(held.select([1])) == [("DC104", "x", 1, 1), ("DC101", "a[][]", 1, 4)]
    held.select_columns("x").to_json(tmp_path / "a.jsonl")
    assert found(tmp_path / "a.jsonl")[0][0] in ("DC104", "DC105")


DAMAGED_AVRO = {
    "cut between blocks": ("", range(3), 0),
    "cut inside a block": ("the file ends inside the block at byte {3:,}", range(3), 0),
    "mark": (
        "the block at byte {2:,} does not end where its header says; nothing up to byte {4:,} was read",
        (0, 1),
        4,
    ),
    "length": (
        "the block at byte {2:,} does not end where its header says; nothing up to byte {3:,} was read",
        (0, 1),
        3,
    ),
    "negative": ("the block at byte {2:,} does not end where its header says", (0, 1), 3),
    "data": ("the block of 125 records at byte {2:,} is damaged (Error -3 while decompressing data", (0, 1), 3),
    "first length": ("the block at byte {0:,} does not end where its header says", (), 1),
    "last mark": ("the file ends inside the block at byte {last:,}", None, 0),
}


@pytest.mark.parametrize("damage", DAMAGED_AVRO)
def test_a_damaged_avro_block_is_named_and_the_others_are_read(damage: str, tmp_path: Path) -> None:
    """The format has no count of its records: a cut between two blocks leaves a whole file, as the documentation says."""
    fastavro = pytest.importorskip("fastavro")
    schema = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "double"}]}
    path = tmp_path / "a.avro"
    records = [{"x": float(row) if row < 1990 else math.nan} for row in range(2000)]
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, sync_interval=1000, codec="deflate")
    with path.open("rb") as file:
        blocks = [(block.offset, block.num_records) for block in fastavro.block_reader(file)]
    starts, counts = zip(*blocks, strict=True)
    content = bytearray(path.read_bytes())
    if damage.startswith("cut"):
        del content[starts[3] + (20 if "inside" in damage else 0) :]
    elif damage.endswith("mark"):
        content[(starts[3] if damage == "mark" else len(content)) - 5] ^= 1
    elif damage == "negative":
        content[starts[2] + 2] |= 1
    else:
        content[(starts[0] if "first" in damage else starts[2]) + (20 if damage == "data" else 2)] ^= 255
    path.write_bytes(content)
    problem, before, after = DAMAGED_AVRO[damage]
    kept = [*counts[:-1]] if before is None else [counts[one] for one in before] + ([*counts[after:]] if after else [])
    report = datacheck.scan(path)
    unreadable = [one.message for one in report.findings if one.code == "DC901"]
    assert len(unreadable) == bool(problem)
    assert problem.format(*starts, last=starts[-1]) in "".join(unreadable)
    assert report.num_rows == sum(kept)
    nan = [example.row for one in report.findings if one.code == "DC101" for example in one.examples]
    if after:
        # A block of which the header is intact has its records counted.
        assert nan[0] == 1990 - (0 if damage == "data" else sum(counts) - sum(kept))


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("a.array_record", "ArrayRecord", "copy its records to TFRecord"),
        ("a.array_record-00000-of-00002", "ArrayRecord", "copy its records to TFRecord"),
        ("a.beton", "FFCV", "read the dataset that it was written from"),
        ("a.pkl", "pickle", "save its arrays as .npy or .npz"),
        ("a.gpickle", "pickled graph", "save the edge index and the features as .npz"),
    ],
)
def test_a_format_that_is_not_read_says_how_to_convert_it(name: str, what: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps([1, 2]))
    for path in (tmp_path / name, tmp_path):
        (finding,) = datacheck.scan(path).findings
        assert (finding.code, f"is {what}, which" in finding.message, fix in finding.message) == ("DC909", True, True)
