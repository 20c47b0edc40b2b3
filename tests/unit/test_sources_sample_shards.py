"""MDS and LitData shards: samples by their index, whatever their encodings, and a finding where shard and index disagree."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import inspect, read_batches

import datacheck
from datacheck.errors import OutputError
from datacheck.sources import ReadOptions, get_source

NAN = np.nan


def found(path: Path) -> list[tuple[str, str | None, int]]:
    return [(one.code, one.field, one.num_violations) for one in datacheck.scan(path).findings]


def shard_bytes(samples: list[bytes]) -> bytes:
    start = 4 * (len(samples) + 2)
    places = np.cumsum([start, *map(len, samples)]).astype("<u4")
    return struct.pack("<I", len(samples)) + places.tobytes() + b"".join(samples)


def sample(values: list[bytes], fixed: list[bool]) -> bytes:
    sizes = [len(value) for value, is_fixed in zip(values, fixed, strict=True) if not is_fixed]
    return struct.pack(f"<{len(sizes)}I", *sizes) + b"".join(values)


def write_mds(folder: Path, columns: dict[str, str], rows: list[list[bytes]], name: str = "shard.00000.mds") -> Path:
    sizes = {"int": 8, "float32": 4, "ndarray:float32:2,2": 16}
    fixed = [kind in sizes for kind in columns.values()]
    content = shard_bytes([sample(row, fixed) for row in rows])
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    raw = {"basename": name, "bytes": len(content), "hashes": {"sha1": hashlib.sha1(content).hexdigest()}}
    shard = {
        "column_names": list(columns),
        "column_encodings": list(columns.values()),
        "column_sizes": [sizes.get(kind) for kind in columns.values()],
        "format": "mds",
        "raw_data": raw,
        "zip_data": None,
        "samples": len(rows),
    }
    (folder / "index.json").write_text(json.dumps({"shards": [shard], "version": 2}))
    return folder


def f4(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def test_samples_of_every_encoding_are_seen(tmp_path: Path) -> None:
    columns = {
        "n": "int", "x": "float32", "fixed": "ndarray:float32:2,2", "free": "ndarray", "typed": "ndarray:float32",
        "t": "str", "j": "json", "d": "str_float", "p": "pkl",
    }  # fmt: skip
    rows = []
    for index in range(50):
        bad = NAN if index == 7 else float(index)
        free = bytes([34, (2 << 2) | 0, 1, 2]) + f4(1, bad)
        typed = bytes([(1 << 2) | 1]) + struct.pack("<H", 3) + f4(1, 2, bad)
        words = b'{"a": [NaN]}' if index == 7 else b'{"a": [1.5]}'
        fixed = [struct.pack("<q", index), f4(bad), f4(1, 2, bad, 4)]
        rows.append([*fixed, free, typed, b"ab", words, str(bad).encode(), b"\x80\x04"])
    write_mds(tmp_path / "m", columns, rows)
    report = datacheck.scan(tmp_path / "m")
    assert report.num_rows == 50
    places = {
        one.field: (one.code, one.examples[0].row, one.examples[0].index) for one in report.findings if one.examples
    }
    assert places == {
        "x": ("DC101", 7, ()),
        "fixed": ("DC101", 7, (1, 0)),
        "free[]": ("DC101", 7, (1,)),
        "typed[]": ("DC101", 7, (2,)),
        "j.a[]": ("DC101", 7, (0,)),
        "d": ("DC101", 7, ()),
    }
    assert [(one.code, one.field) for one in report.findings if not one.examples] == [("DC005", "p")]


@pytest.mark.parametrize("batch_samples", [3, 1 << 16])
def test_json_of_another_type_and_missing_keys_are_found(
    batch_samples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.sample_shards._MAX_BATCH_SAMPLES", batch_samples)
    texts = [b'{"a": 1.5, "b": 1}'] * 3 + [b'{"a": "x", "b": 1}'] * 3 + [b'{"a": 2, "b": 1}', b'{"a": 2}', b"3"]
    folder = write_mds(tmp_path / "m", {"j": "json"}, [[text] for text in texts])
    assert sorted(found(folder)) == [("DC012", "j", 1), ("DC012", "j.a", 3), ("DC108", "j.b", 1)]


def test_a_sample_that_does_not_fit_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    rows = [[f4(1.0), b"ab"] for _ in range(20)]
    folder = write_mds(tmp_path / "m", {"x": "float32", "t": "str"}, rows)
    path = folder / "shard.00000.mds"
    content = bytearray(path.read_bytes())
    place = struct.unpack_from("<I", content, 4 + 4 * 5)[0]
    content[place : place + 4] = b"\xff" * 4
    path.write_bytes(content)
    report = datacheck.scan(folder)
    assert [(one.code, one.num_violations) for one in report.findings] == [("DC901", 1), ("DC305", 1)]
    assert report.findings[1].examples[0].row == 5
    assert "its sha1 is not the one in index.json" in report.findings[0].message
    assert report.num_rows == 20


def test_a_compressed_shard_is_read_and_one_of_another_size_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_mds(tmp_path / "m", {"x": "float32"}, [[f4(NAN)], [f4(1)]])
    raw = (folder / "shard.00000.mds").read_bytes()
    packed = pa.compress(raw, "zstd", asbytes=True)
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0]["zip_data"] = {"basename": "shard.00000.mds.zstd", "bytes": len(packed), "hashes": {}}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "shard.00000.mds").rename(folder / "shard.00000.mds.zstd")
    (folder / "shard.00000.mds.zstd").write_bytes(packed)
    # It is never in memory as a whole.
    monkeypatch.setattr("datacheck.sources.base.MAX_BYTES_AT_ONCE", 16)
    assert found(folder) == [("DC101", "x", 1)]
    for content in (bytes(1 << 20), raw[:-1], raw + b"\0"):
        (folder / "shard.00000.mds.zstd").write_bytes(pa.compress(content, "zstd", asbytes=True))
        assert [code for code, *_ in found(folder)] == ["DC901"]


def test_samples_that_are_all_the_whole_file_are_a_bomb(tmp_path: Path) -> None:
    num_samples, size = 2_100, 40_000
    folder = write_mds(tmp_path / "m", {"x": "bytes"}, [[b""]] * num_samples)
    path = folder / "shard.00000.mds"
    places = np.tile(np.array([0, size], "<u4"), num_samples // 2 + 1)[: num_samples + 1]
    content = (struct.pack("<I", num_samples) + places.tobytes()).ljust(size, b"\0")
    path.write_bytes(content)
    assert [code for code, *_ in found(folder)][-1] == "DC904"


def test_samples_of_no_bytes_are_read_in_batches_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.sample_shards._MAX_BATCH_SAMPLES", 4)
    folder = write_mds(tmp_path / "m", {"t": "str"}, [[b""]] * 10)
    (unit,) = get_source("mds").inspect(str(folder / "shard.00000.mds"), ReadOptions()).units
    assert [batch.num_rows for batch in get_source("mds").read(unit)] == [4, 4, 2]


@pytest.mark.parametrize("missing", ["index.json", "shard.00000.mds"])
def test_a_missing_index_or_shard_is_a_finding(missing: str, tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "m", {"x": "float32"}, [[f4(1)]])
    (folder / "shard.00001.mds").write_bytes(b"left over")
    (folder / missing).unlink()
    codes = [code for code, *_ in found(folder)]
    assert "DC911" in codes
    assert codes.count("DC912") == (missing != "index.json")


MIXED = {"n": "int", "x": "float32", "free": "ndarray", "t": "str", "j": "json", "d": "str_decimal", "img": "jpeg"}


def mixed_rows(num_rows: int = 12) -> list[list[bytes]]:
    """Samples of several encodings, of which every fourth has a NaN in ``x`` and in ``free``."""
    rows = []
    for index in range(num_rows):
        bad = NAN if index % 4 == 1 else float(index)
        free = bytes([34, (2 << 2) | 0, 1, 2]) + f4(1, bad)
        fixed = [struct.pack("<q", index), f4(bad), free, b"t%d" % index]
        rows.append([*fixed, b'{"a":  [1.50]}', b"1.10", b"\xff\xd8 not decoded"])
    return rows


def published_samples(folder: Path) -> list[bytes]:
    """The bytes of each sample of a dataset, by its index alone."""
    samples = []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        content = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(content) == shard["raw_data"]["bytes"]
        places = struct.unpack_from(f"<{shard['samples'] + 1}I", content, 4)
        header = json.loads(content[4 * (shard["samples"] + 2) : places[0]])
        assert header == {key: value for key, value in shard.items() if key in header}
        samples += [content[start:stop] for start, stop in itertools.pairwise(places)]
    return samples


def run_mds(path: Path, output: Path, *, workers: int = 1, format: str | None = None, **pipeline: Any) -> Any:  # noqa: A002
    target = {"path": str(output), **({} if format is None else {"format": format})}
    clean = [{"action": "report", "codes": "DC601"}, *pipeline.pop("clean", [])]
    settings = {"version": 1, "otherwise": "drop_row", "inputs": {"train": str(path)}, "output": target, "clean": clean}
    output.with_suffix(".yaml").write_text(json.dumps({**settings, **pipeline}))
    return datacheck.run(output.with_suffix(".yaml"), workers=workers)


def test_kept_samples_are_copied_and_an_index_names_the_shards(tmp_path: Path) -> None:
    rows = mixed_rows()
    folder = write_mds(tmp_path / "m", MIXED, rows)
    sizes = [MIXED[name] in ("int", "float32") for name in MIXED]
    kept = [sample(row, sizes) for index, row in enumerate(rows) if index % 4 != 1]
    report = run_mds(folder, tmp_path / "out", otherwise="quarantine")
    assert [report.totals()[name] for name in ("num_kept", "num_quarantined")] == [9, 3]
    assert published_samples(tmp_path / "out" / "train") == kept
    quarantined = pq.read_table(next((tmp_path / "out" / "quarantine" / "train").iterdir())).to_pydict()
    assert (quarantined["n"], quarantined["row"]) == ([1, 5, 9], [1, 5, 9])
    assert np.isnan(quarantined["x"]).all()


def test_a_repaired_field_is_encoded_anew_and_the_others_stay(tmp_path: Path) -> None:
    rows = mixed_rows()
    folder = write_mds(tmp_path / "m", MIXED, rows)
    run_mds(
        folder, tmp_path / "out", clean=[{"action": "nan_to_num", "nan": 7}, {"action": "drop_field", "fields": "d"}]
    )
    names = [name for name in MIXED if name != "d"]
    for row in rows:
        if np.isnan(np.frombuffer(row[1], "<f4")[0]):
            row[1:3] = f4(7), row[2][:4] + f4(1, 7)
        del row[5]
    expected = [sample(row, [MIXED[name] in ("int", "float32") for name in names]) for row in rows]
    assert published_samples(tmp_path / "out" / "train") == expected


def test_any_number_of_workers_publishes_the_same_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shards = []
    for number in range(3):
        write_mds(folder, MIXED, mixed_rows(5 + number), name=f"shard.{number:05}.mds")
        shards += json.loads((folder / "index.json").read_text())["shards"]
    (folder / "index.json").write_text(json.dumps({"shards": shards, "version": 2}))
    contents = []
    for workers in (1, 3):
        output = tmp_path / f"out{workers}"
        run_mds(folder, output, workers=workers)
        contents.append({path.name: path.read_bytes() for path in (output / "train").iterdir()})
    assert len(contents[0]) == 4
    assert contents[0] == contents[1]


def test_a_shard_of_which_nothing_is_kept_is_not_published(tmp_path: Path) -> None:
    folder = write_mds(tmp_path / "m", {"x": "float32"}, [[f4(NAN)]])
    report = run_mds(folder, tmp_path / "out")
    assert [report.totals()[name] for name in ("num_kept", "num_dropped")] == [0, 1]
    assert not (tmp_path / "out" / "train").exists()


def test_rows_of_other_formats_become_samples(tmp_path: Path) -> None:
    table = pa.table(
        {
            "x": pa.array([1.5, 2.5], pa.float32()),
            "ids": pa.array([[1, 2, 3], [4]], pa.list_(pa.int64())),
            "pair": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)),
            "text": ["a", "\u00e9"],
            "raw": [b"\0", b""],
            "deep": [{"a": [None]}, {"a": [1]}],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    run_mds(tmp_path / "t.parquet", tmp_path / "out", format="mds", otherwise="report")
    (shard,) = json.loads((tmp_path / "out" / "train" / "index.json").read_text())["shards"]
    kinds = dict(zip(shard["column_names"], shard["column_encodings"], strict=True))
    expected = ["float32", "ndarray:int64", "ndarray:float64:2", "str", "bytes", "json"]
    assert kinds == dict(zip(table.column_names, expected, strict=True))
    info = inspect(next((tmp_path / "out" / "train").glob("*.mds")))
    (batch,) = read_batches(info)
    read = {
        column.name: column.data.tolist() if isinstance(column.data, np.ndarray) else column.data.to_pylist()
        for column in batch.columns
    }
    assert read == table.to_pydict()


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pa.array([1.5, None]), "MDS cannot hold the null in 'x'; impute it or drop the row, or write parquet"),
        (pa.array([True]), "column 'x' is bool; MDS has no encoding for it: cast it, or write parquet"),
    ],
)
def test_what_mds_cannot_hold_is_refused(column: pa.Array, problem: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": column}), tmp_path / "t.parquet")
    with pytest.raises(OutputError, match=problem):
        run_mds(tmp_path / "t.parquet", tmp_path / "out", format="mds", otherwise="report")


def write_litdata(folder: Path, data_format: list[str], rows: list[list[bytes]], **config: Any) -> Path:
    folder.mkdir()
    content = shard_bytes([sample(row, [False] * len(row)) for row in rows])
    (folder / "chunk-0-0.bin").write_bytes(content)
    spec = json.dumps([1, {"type": "builtins.dict", "context": json.dumps([f"f{i}" for i in range(len(data_format))])}])
    record = {
        "chunks": [{"filename": "chunk-0-0.bin", "chunk_bytes": len(content), "chunk_size": len(rows), "dim": None}],
        "config": {
            "data_format": data_format,
            "data_spec": spec,
            "compression": None,
            "item_loader": "PyTreeLoader",
            **config,
        },
    }
    (folder / "index.json").write_text(json.dumps(record))
    return folder


def test_chunks_of_litdata_are_read(tmp_path: Path) -> None:
    header = struct.pack("<4I", 0, 2, 1, 2)
    rows = [[f4(1, NAN), header + f4(2, 3), struct.pack("<d", np.inf), struct.pack("<q", 3), b"ab", b"\x80\x04"]] * 3
    kinds = ["no_header_tensor:0", "tensor", "float", "int", "str", "pickle"]
    folder = write_litdata(tmp_path / "l", kinds, rows)
    assert found(folder) == [("DC005", "f5", 1), ("DC101", "f0[]", 3), ("DC102", "f2", 3)]
    assert datacheck.scan(tmp_path).num_rows == 3
    (folder / "chunk-0-0.bin").unlink()
    assert [code for code, *_ in found(folder)] == ["DC911"]


@pytest.mark.parametrize(
    "config", [{"compression": "zstd"}, {"item_loader": "TokensLoader"}, {"data_format": ["no_header_tensor:99"]}]
)
def test_what_is_not_known_of_litdata_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    folder = write_litdata(tmp_path / "l", ["float"], [[struct.pack("<d", 1.0)]])
    record = json.loads((folder / "index.json").read_text())
    record["config"] |= config
    (folder / "index.json").write_text(json.dumps(record))
    assert [code for code, *_ in found(folder)] == ["DC901"]


def test_numbers_in_json_have_no_dtype_that_could_differ_between_shards(tmp_path: Path) -> None:
    index: list[Any] = []
    for number, value in enumerate((b"1", b"1.5")):
        write_mds(tmp_path / "d", {"j": "json"}, [[b'{"a": %s}' % value]], f"shard.{number:05}.mds")
        index += json.loads((tmp_path / "d/index.json").read_text())["shards"]
    (tmp_path / "d/index.json").write_text(json.dumps({"shards": index, "version": 2}))
    assert found(tmp_path / "d") == []
