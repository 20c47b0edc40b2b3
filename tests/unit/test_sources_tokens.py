"""Token bins: raw, of llm.c and of Megatron; the signs of a wrong dtype, and what a run leaves out."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import write_pipeline
from source_files import inspect, read_batches, shrink_units

import datacheck
from datacheck.sources import base, tokens
from datacheck.sources.detect import format_of

RANDOM = np.random.default_rng(3)
SCHEMA = {"fields": {"tokens": {"dtype": "uint16", "lt": 50257}}}


def found(path: Path, schema: Any = None) -> list[tuple[str, str | None, int]]:
    return sorted((one.code, one.field or "", one.num_violations) for one in datacheck.scan(path, schema).findings)


def ids(count: int, high: int = 50257, dtype: str = "<u2") -> np.ndarray[Any, Any]:
    return RANDOM.integers(0, high, count).astype(dtype)


def megatron(path: Path, sequences: list[np.ndarray[Any, Any]], documents: list[int], code: int = 8) -> Path:
    """Write a ``.bin`` and its ``.idx`` as Megatron does; ``documents`` are the first sequences of each, and the end."""
    path.write_bytes(b"".join(one.tobytes() for one in sequences))
    lengths = np.array([len(one) for one in sequences])
    pointers = (np.cumsum(lengths) - lengths) * (sequences[0].itemsize if sequences else 2)
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, code, len(lengths), len(documents))
    parts = [
        head,
        lengths.astype("<i4").tobytes(),
        pointers.astype("<i8").tobytes(),
        np.array(documents, "<i8").tobytes(),
    ]
    path.with_suffix(".idx").write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("workers", [1, 4])
def test_ids_beyond_the_vocabulary_are_counted_exactly(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = ids(20_000, 50_300)
    values.tofile(tmp_path / "train.bin")
    shrink_units(monkeypatch)
    report = datacheck.scan(tmp_path, SCHEMA, workers=workers)
    (finding,) = report.findings
    bad = np.flatnonzero(values >= 50257)
    assert (finding.code, finding.num_violations, finding.num_checked) == ("DC204", len(bad), 20_000)
    assert [example.row for example in finding.examples] == bad[:5].tolist()


def test_the_dtype_is_that_of_the_schema(tmp_path: Path) -> None:
    ids(1000, 128_256, "<u4").tofile(tmp_path / "x.bin")
    schema = {"fields": {"tokens": {"dtype": "uint32", "lt": 128_256}}}
    assert found(tmp_path / "x.bin", schema) == []
    assert found(tmp_path / "x.bin", SCHEMA)[0][0] in ("DC015", "DC204")


def test_a_wrong_width_is_seen_though_no_id_is_out_of_range(tmp_path: Path) -> None:
    ids(1000, dtype="<i4").tofile(tmp_path / "x.bin")
    assert found(tmp_path / "x.bin", SCHEMA) == [("DC015", "tokens", 1)]
    ids(1000).tofile(tmp_path / "y.bin")
    assert ("DC015", "tokens", 1) in found(tmp_path / "y.bin", {"fields": {"tokens": {"dtype": "uint32"}}})


def test_a_vocabulary_that_the_dtype_cannot_hold_needs_no_look_at_the_ids(tmp_path: Path) -> None:
    ids(1000).tofile(tmp_path / "x.bin")
    assert found(tmp_path / "x.bin", {"fields": {"tokens": {"lt": 128_256}}}) == [("DC014", "tokens", 1)]
    assert found(tmp_path / "x.bin", {"fields": {"tokens": {"lt": 65_536}}}) == []


def test_a_file_that_was_cut_inside_an_id_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(ids(1000).tobytes()[:-1])
    assert found(tmp_path / "x.bin") == [("DC901", "", 1)]


@pytest.mark.parametrize(("magic", "dtype"), [(20240520, "<u2"), (20240801, "<u4")])
def test_the_header_of_llm_c_is_read_and_compared(magic: int, dtype: str, tmp_path: Path) -> None:
    header = np.zeros(256, "<i4")
    header[:3] = magic, 1, 500
    content = header.tobytes() + ids(500, dtype=dtype).tobytes()
    (tmp_path / "any.bin").write_bytes(content)
    assert found(tmp_path) == []
    assert inspect(tmp_path / "any.bin").num_rows == 500
    (tmp_path / "any.bin").write_bytes(content[:-400])
    assert found(tmp_path) == [("DC901", "", 1)]


def test_other_files_called_bin_are_what_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "pytorch_model.bin")
    assert format_of(str(tmp_path / "pytorch_model.bin")).name == "npy"
    (tmp_path / "text.bin").write_text("a,b\n1,2\n")
    assert found(tmp_path / "text.bin") == [("DC909", "", 1)]
    ids(10).tofile(tmp_path / "train.bin")
    assert {(code, field) for code, field, _ in found(tmp_path)} == {("DC913", "")}


# Megatron


def test_sequences_are_rows_and_know_their_document(tmp_path: Path) -> None:
    sequences = [ids(number) for number in (5, 0, 7, 3)]
    path = megatron(tmp_path / "data.bin", sequences, [0, 2, 4])
    assert found(tmp_path) == []
    (batch,) = read_batches(inspect(path))
    assert batch.columns[0].data.to_pylist() == [one.tolist() for one in sequences]  # type: ignore[union-attr]
    assert batch.columns[1].data.to_pylist() == [0, 0, 1, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize("damage", ["short bin", "long bin", "short index", "pointer", "documents", "dtype"])
def test_an_index_that_does_not_fit_its_bin_is_refused(damage: str, tmp_path: Path) -> None:
    path = megatron(tmp_path / "data.bin", [ids(50), ids(60)], [0, 1, 2])
    index = bytearray(path.with_suffix(".idx").read_bytes())
    if damage == "short bin":
        path.write_bytes(path.read_bytes()[:-2])
    elif damage == "long bin":
        path.write_bytes(path.read_bytes() + b"ab")
    elif damage == "short index":
        del index[-3:]
    elif damage == "pointer":
        index[34 + 8 + 8] ^= 1
    elif damage == "documents":
        index[-8] = 1
    else:
        index[17] = 77
    path.with_suffix(".idx").write_bytes(index)
    assert found(path) == [("DC901", "", 1)]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_run_leaves_bad_sequences_out_and_writes_an_index_that_fits(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [ids(int(number), 50_257) for number in RANDOM.integers(1, 60, 400)]
    bad = set(RANDOM.choice(400, 30, replace=False).tolist())
    for index in bad:
        sequences[index][0] = 60_000
    starts = [0, *sorted(RANDOM.choice(np.arange(1, 400), 150, replace=False).tolist()), 400]
    (tmp_path / "in").mkdir()
    megatron(tmp_path / "in" / "data.bin", sequences, starts)
    for module in (tokens, base):
        monkeypatch.setattr(module, "TARGET_UNIT_BYTES", 4000)
        monkeypatch.setattr(module, "TARGET_BATCH_BYTES", 1000)
    (tmp_path / "schema.yaml").write_text("version: 1\nfields:\n  'tokens[]': {dtype: uint16, lt: 50257}\n")
    pipeline = write_pipeline(tmp_path, ["in"], [{"action": "drop_row", "codes": "DC204"}], schema="schema.yaml")
    report = datacheck.run(pipeline, workers=workers)
    assert list(report.totals().values()) == [400, 370, 30, 0]
    kept = [one.tolist() for index, one in enumerate(sequences) if index not in bad]
    written: list[Any] = []
    for path in sorted((tmp_path / "out" / "data").glob("*.bin")):
        for batch in read_batches(inspect(path)):
            written += batch.columns[0].data.to_pylist()  # type: ignore[union-attr]
    assert written == kept
    assert found(tmp_path / "out" / "data", tmp_path / "schema.yaml") == []
