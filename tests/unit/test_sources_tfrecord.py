"""TFRecord without TensorFlow: every record that is whole, both checksums, and a copy of what is kept."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import example, shrink_units, tfrecord_bytes

import datacheck
from datacheck import ReadOptions
from datacheck.errors import OutputError
from datacheck.sources.tf_example import ExampleColumns, example_class, layout_of, sequence_class
from datacheck.sources.tf_template import read_by_template

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
    (tmp_path / "a.tfrecord").write_bytes(tfrecord_bytes([sequence([1.0], [2.0, NAN])] * 2))
    (finding,) = datacheck.scan(tmp_path / "a.tfrecord").findings
    assert (finding.field, finding.num_violations, finding.examples[0].index) == ("frames[][]", 2, (1, 1))


def sequence(*steps: Sequence[float], words: Sequence[bytes] = ()) -> bytes:
    made = sequence_class()()
    made.context.feature["id"].int64_list.value.append(7)
    for step in steps:
        made.feature_lists.feature_list["frames"].feature.add().float_list.value.extend(step)
    for word in words:
        made.feature_lists.feature_list["words"].feature.add().bytes_list.value.append(word)
    return bytes(made.SerializeToString())


def test_steps_are_repaired_where_they_are_and_other_records_are_copied(tmp_path: Path) -> None:
    words = [b"a", b"b"]
    records = [sequence([1.0], [2.0, NAN], words=words), sequence(words=words), sequence([3.0], words=words)]
    (tmp_path / "a.tfrecord").write_bytes(tfrecord_bytes(records))
    (tmp_path / "p.yaml").write_text(
        "version: 1\ninputs: {train: a.tfrecord}\noutput: {path: out}\n"
        "clean: [{codes: DC101, action: impute, strategy: constant, value: 0.5}, {codes: DC108, action: report}]\n"
    )
    assert datacheck.run(tmp_path / "p.yaml").ok
    (written,) = (tmp_path / "out" / "train").glob("*.tfrecord")
    first, *others = _frames(written.read_bytes())
    parse = sequence_class().FromString
    assert parse(first) == parse(sequence([1.0], [2.0, 0.5], words=words))
    assert others == records[1:]


def test_ragged_lists_of_lists_become_steps(tmp_path: Path) -> None:
    pytest.importorskip("msgspec")
    pipeline = "version: 1\ninputs: {train: a.jsonl}\noutput: {path: out, format: tfrecord}\nclean: []\n"
    (tmp_path / "p.yaml").write_text(pipeline)
    (tmp_path / "a.jsonl").write_text('{"x": [[1, 2], [3]]}\n')
    assert datacheck.run(tmp_path / "p.yaml").ok
    (written,) = (tmp_path / "out" / "train").glob("*.tfrecord")
    steps = sequence_class().FromString(*_frames(written.read_bytes())).feature_lists.feature_list["x"].feature
    assert [list(step.int64_list.value) for step in steps] == [[1, 2], [3]]
    for text, problem in (
        ('{"x": [1, null]}', "cannot hold the nulls in 'x'"),
        ('{"x": [[[1], []]]}', "cannot hold 'x'"),
    ):
        (tmp_path / "a.jsonl").write_text(text)
        (tmp_path / "p.yaml").write_text(pipeline.replace("[]", "[{codes: DC1, action: report}]"))
        with pytest.raises(OutputError, match=problem):
            datacheck.run(tmp_path / "p.yaml", overwrite=True)


def test_records_of_another_kind_are_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(tfrecord_bytes([b"\x80\x04pickle\x00"] * 3))
    assert [(code, field) for code, field, _ in found(tmp_path / "a.tfrecord")] == [("DC008", "record")]


def test_parts_numbered_after_the_suffix_are_found(tmp_path: Path) -> None:
    (tmp_path / "train.tfrecord-00000-of-00002").write_bytes(tfrecord_bytes([example(x=NAN)]))
    codes = {code for code, *_ in found(tmp_path)}
    assert codes == {"DC101", "DC911"}


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_compressed_records_are_read_whatever_the_name(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """The option of TensorFlow for it leaves the name as it is."""
    (tmp_path / "a.tfrecord").write_bytes(pack(tfrecord_bytes([example(x=NAN)])))
    assert [code for code, *_ in found(tmp_path)] == ["DC101"]


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


# Records that differ in their values only


def example_of(features: dict[str, Any]) -> bytes:
    made = example_class()()
    for name, (kind, values) in features.items():
        getattr(made.features.feature[name], kind).value.extend(values)
    return made.SerializeToString(deterministic=True)


def built(records: list[bytes], *, at_once: bool) -> list[Any]:
    builder = ExampleColumns(layout_of(records[:4]), None)
    parsed = builder.add_all(records) if at_once else [builder.add(record) for record in records]
    columns, faults = builder.columns()
    described = [(fault.code, fault.field, fault.rows.tolist()) for fault in faults]
    return [parsed, [(column.name, column.data.type, column.data.to_pylist()) for column in columns], described]


@given(data=st.data(), num_records=st.integers(1, 12), is_regular=st.booleans())
def test_reading_all_at_once_is_reading_one_by_one(data: st.DataObject, num_records: int, is_regular: bool) -> None:
    lengths = {"floats": data.draw(st.integers(1, 3)), "ids": data.draw(st.integers(1, 3)), "raw": 1}
    floats = st.floats(width=32, allow_nan=False)
    records = []
    for _ in range(num_records):
        counts = lengths if is_regular else {name: data.draw(st.integers(0, 2)) for name in lengths}
        ids = st.integers(0, 127) if is_regular else st.integers(-(2**63), 2**63 - 1)
        raw = st.binary(min_size=3, max_size=3 if is_regular else 5)
        sizes = {"floats": floats, "ids": ids, "raw": raw}
        kinds = {"floats": "float_list", "ids": "int64_list", "raw": "bytes_list"}
        drawn = {
            name: (kinds[name], data.draw(st.lists(values, min_size=counts[name], max_size=counts[name])))
            for name, values in sizes.items()
        }
        records.append(example_of({name: one for name, one in drawn.items() if one[1]}))
    if is_regular:
        assert read_by_template(records) is not None
    assert built(records, at_once=True) == built(records, at_once=False)


@pytest.mark.parametrize("at", range(0, 60, 3))
def test_a_damaged_record_among_equal_ones_is_seen(at: int) -> None:
    whole = [example_of({"x": ("float_list", [1.0, 2.0]), "label": ("int64_list", [3])}) for _ in range(5)]
    at %= len(whole[0])
    whole[3] = whole[3][:at] + bytes([whole[3][at] ^ 0x90]) + whole[3][at + 1 :]
    assert built(whole, at_once=True) == built(whole, at_once=False)


@pytest.mark.parametrize("kind", ["features", "values of bytes", "one value", "no example"])
def test_a_record_that_would_take_much_more_once_it_is_parsed_is_refused_before_it_is(
    kind: str, tmp_path: Path
) -> None:
    record = {
        "features": lambda: example(**{f"f{index}": b"" for index in range(9000)}),
        "values of bytes": lambda: example(f=[b""] * 50_000),
        "one value": lambda: example(f=bytes(300_000)),
        "no example": lambda: b"\xff" * 300_000,
    }[kind]()
    path = tmp_path / "a.tfrecord"
    path.write_bytes(tfrecord_bytes([record]))
    assert len(record) < 1 << 19
    (finding,) = datacheck.scan(path, options=ReadOptions(max_expanded_bytes=1 << 20)).findings
    assert finding.code == "DC904"
    assert "the record at byte 0, parsed, would take" in finding.message
    assert {code for code, _, _ in found(path, options=ReadOptions(max_expanded_bytes=1 << 26))} <= {"DC008"}


def test_a_large_record_of_numbers_is_no_more_than_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(tfrecord_bytes([example(x=np.ones(100_000, np.float32), y=b"\0" * 100_000)]))
    assert [code for code, _, _ in found(path, options=ReadOptions(max_expanded_bytes=5 << 20))] == ["DC008"]


def test_features_of_every_record_cannot_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(tfrecord_bytes([example(**{f"f{index}": 1.0}) for index in range(300)]))
    shrink_units(monkeypatch, 1 << 20, 256)
    report = datacheck.scan(path, options=ReadOptions(max_members=1000))
    (finding,) = [one for one in report.findings if one.code == "DC904"]
    assert "it has more than 100 features" in finding.message
    assert "DC904" not in {code for code, _, _ in found(path)}
