"""TFRecord without TensorFlow: every record that is whole, both checksums, and a copy of what is kept."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_files import example, shrink_units, tfrecord_bytes

import datacheck
from datacheck import ReadOptions

pytest.importorskip("google_crc32c")
pytest.importorskip("google.protobuf")
NAN = float("nan")


def examples(number: int, seed: int = 0) -> list[bytes]:
    """Records with a scalar, a fixed and a ragged list of floats, and text; NaN and infinities among them."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(number):
        vector = random.standard_normal(4).astype(np.float32)
        vector[random.random(4) < 0.05] = NAN
        ragged = random.standard_normal(int(random.integers(0, 5))).astype(np.float32)
        ragged[random.random(len(ragged)) < 0.05] = np.inf
        made.append(example(n=index, vector=vector, ragged=ragged, text=b"ab"))
    return made


def found(path: Path, **options: Any) -> list[tuple[str, str | None, int]]:
    return [(one.code, one.field, one.num_violations) for one in datacheck.scan(path, **options).findings]


def test_the_frame_is_that_of_tensorflow(tmp_path: Path) -> None:
    # A record that TensorFlow wrote: b"hello".
    written = bytes.fromhex("0500000000000000ea b2043e 68656c6c6f 61ccfd6b".replace(" ", ""))
    data = tfrecord_bytes([b"hello"])
    assert (len(data), data[:8], data[12:17]) == (21, written[:8], written[12:17])


@pytest.mark.parametrize("seed", range(3))
def test_counts_rows_and_indices_equal_numpy(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = examples(700, seed)
    path = tmp_path / "a.tfrecord"
    path.write_bytes(tfrecord_bytes(records))
    random = np.random.default_rng(seed)
    expected: dict[str, list[tuple[int, int]]] = {"DC101": [], "DC102": []}
    for index in range(700):
        vector = random.standard_normal(4)
        expected["DC101"] += [(index, int(place)) for place in np.flatnonzero(random.random(4) < 0.05)]
        ragged = random.standard_normal(int(random.integers(0, 5)))
        expected["DC102"] += [(index, int(place)) for place in np.flatnonzero(random.random(len(ragged)) < 0.05)]
        del vector
    whole = datacheck.scan(path)
    shrink_units(monkeypatch, 4096, 1024)
    for report in (whole, datacheck.scan(path, workers=3)):
        assert report.num_rows == 700
        findings = {one.field: one for one in report.findings if one.code != "DC008"}
        for field in ("vector[]", "ragged[]"):
            one = findings.pop(field)
            places = expected[one.code]
            assert (one.field, one.num_violations, one.num_rows) == (
                field,
                len(places),
                len({row for row, _ in places}),
            )
            assert [(shown.row, *shown.index) for shown in one.examples] == places[:5]
        assert not findings


def test_a_record_with_a_wrong_checksum_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    records = [example(x=float(index)) for index in range(100)]
    content = bytearray(tfrecord_bytes(records))
    size = len(content) // 100
    content[37 * size + 20] ^= 1
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    (finding,) = datacheck.scan(path).findings
    assert (finding.code, finding.num_violations, finding.examples[0].row) == ("DC305", 1, 37)
    assert f"at {37 * size:,} in the file" in finding.message
    assert found(path, options=ReadOptions(verify_checksums=False)) in ([], [("DC305", None, 1)])


@pytest.mark.parametrize("damage", ["length", "cut", "cut in a header"])
def test_records_before_the_place_where_a_file_is_lost_are_checked(damage: str, tmp_path: Path) -> None:
    records = [example(x=NAN if index == 3 else float(index)) for index in range(100)]
    content = bytearray(tfrecord_bytes(records))
    size = len(content) // 100
    if damage == "length":
        content[50 * size] ^= 1
    else:
        del content[50 * size + (20 if damage == "cut" else 5) :]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    report = datacheck.scan(path)
    assert [(one.code, one.field) for one in report.findings] == [("DC101", "x"), ("DC901", None)]
    assert report.num_rows == 50


def test_a_length_of_all_bits_allocates_nothing(tmp_path: Path) -> None:
    from google_crc32c import value

    from datacheck.sources.tfrecord import masked_crc

    length = struct.pack("<Q", 2**63)
    for name, pack in (("a.tfrecord", bytes), ("b.tfrecord.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(length + struct.pack("<I", masked_crc(length, value)) + bytes(100)))
        assert [code for code, *_ in found(tmp_path / name)] == ["DC904"]


def test_features_that_are_missing_or_of_another_type_are_named(tmp_path: Path) -> None:
    records = [example(x=1.0, y=1), example(x=2.0), example(x=3, y=3), example(x=[4.0, 5.0], y=4)] + [
        example(x=6.0, y=1)
    ] * 300
    records = records[4:] + records[:4]
    (tmp_path / "a.tfrecord").write_bytes(tfrecord_bytes(records))
    assert found(tmp_path / "a.tfrecord") == [("DC012", "x", 2), ("DC108", "y", 1)]


def test_sequences_are_lists_of_lists(tmp_path: Path) -> None:
    from datacheck.sources.tf_example import sequence_class

    made = sequence_class()()
    made.context.feature["id"].int64_list.value.append(7)
    for values in ([1.0], [2.0, NAN]):
        made.feature_lists.feature_list["frames"].feature.add().float_list.value.extend(values)
    (tmp_path / "a.tfrecord").write_bytes(tfrecord_bytes([made.SerializeToString()] * 2))
    (finding,) = datacheck.scan(tmp_path / "a.tfrecord").findings
    assert (finding.field, finding.num_violations, finding.examples[0].index) == ("frames[][]", 2, (1, 1))


def test_records_of_another_kind_are_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(tfrecord_bytes([b"\x80\x04pickle\x00"] * 3))
    assert [(code, field) for code, field, _ in found(tmp_path / "a.tfrecord")] == [("DC008", "record")]


def test_parts_numbered_after_the_suffix_are_found(tmp_path: Path) -> None:
    (tmp_path / "train.tfrecord-00000-of-00002").write_bytes(tfrecord_bytes([example(x=NAN)]))
    codes = {code for code, *_ in found(tmp_path)}
    assert codes == {"DC101", "DC911"}


def test_a_run_copies_what_it_keeps_and_serializes_what_it_repairs(tmp_path: Path) -> None:
    records = examples(300)
    content = bytearray(tfrecord_bytes(records))
    (tmp_path / "a.tfrecord").write_bytes(content)
    (tmp_path / "p.yaml").write_text(
        "version: 1\ninputs: {train: a.tfrecord}\noutput: {path: out}\n"
        "clean: [{codes: DC101, action: drop_row}, {codes: DC102, action: nan_to_num, posinf: 9}]\n"
    )
    assert datacheck.run(tmp_path / "p.yaml").ok
    (written,) = (tmp_path / "out" / "train").glob("*.tfrecord")
    assert found(written) == [("DC008", "text", 1)]
    kept = _frames(written.read_bytes())
    original = set(records)
    changed = [one for one in kept if one not in original]
    assert 0 < len(changed) < len(kept) < 300
    assert all(b"\x00\x00\x10\x41" in one for one in changed)  # 9.0


def _frames(content: bytes) -> list[bytes]:
    frames, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        frames.append(content[at + 12 : at + 12 + length])
        at += length + 16
    return frames


def test_a_table_is_written_as_examples(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {"x": [1.5, None], "n": [1, 2], "t": ["a", "b"], "l": [[1.0, 2.0], []]}
    types = {"x": pa.float32(), "n": pa.int32(), "t": pa.string(), "l": pa.list_(pa.float32())}
    pq.write_table(
        pa.table({name: pa.array(values, types[name]) for name, values in table.items()}), tmp_path / "a.parquet"
    )
    (tmp_path / "p.yaml").write_text(
        "version: 1\ninputs: {train: a.parquet}\noutput: {path: out, format: tfrecord}\n"
        "schema: {fields: {x: {nullable: true}}}\n"
    )
    assert datacheck.run(tmp_path / "p.yaml").ok
    (written,) = (tmp_path / "out" / "train").glob("*.tfrecord")
    assert _frames(written.read_bytes())[0] == example(x=1.5, n=1, t=b"a", l=[1.0, 2.0])
