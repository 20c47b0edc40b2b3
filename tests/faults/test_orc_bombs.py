"""ORC files whose statistics, lengths or footers lie: refused before Arrow decodes them, in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import datacheck
from datacheck.sources.orc_stripes import _decompress_chunk, _lz4_size, read_tail, takes_more
from datacheck.storage.registry import open_file
from tests.faults.test_memory_bombs import MAX_PEAK_MIB, _run_and_measure

orc = pytest.importorskip("pyarrow.orc")

MIB = 1 << 20
#: Kinds of types, of streams, and encodings.
BYTE, INT, STRING, LIST, MAP, STRUCT = 1, 3, 7, 10, 11, 12
PRESENT, DATA, LENGTH, DICTIONARY_DATA = 0, 1, 2, 3
DIRECT, DICTIONARY, DIRECT_V2, DICTIONARY_V2 = 0, 1, 2, 3
ROW_TYPE = (STRUCT, [1], ["s"])


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _message(fields: Iterable[tuple[int, int | str | bytes]]) -> bytes:
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(_varint(number << 3) + _varint(value))
        else:
            data = value.encode() if isinstance(value, str) else value
            parts.append(_varint(number << 3 | 2) + _varint(len(data)) + data)
    return b"".join(parts)


def _compress(data: bytes, size: int = 256 << 10) -> bytes:
    parts = []
    for start in range(0, len(data), size):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        chunk = deflate.compress(data[start : start + size]) + deflate.flush()
        parts += [(len(chunk) << 1).to_bytes(3, "little"), chunk]
    return b"".join(parts)


def _write_orc(
    path: Path,
    types: Sequence[tuple[int, Sequence[int], Sequence[str]]],
    streams: Sequence[tuple[int, int, bytes]] = (),
    encodings: Sequence[tuple[int, int]] = (),
    *,
    num_rows: int = 1,
    index_bytes: int = 0,
    statistics: Sequence[bytes] = (),
    postscript: Mapping[int, int] = {},
) -> None:
    """A file of one stripe, whose streams are ``(kind, column, bytes)`` and encodings ``(kind, size of dictionary)``."""
    packed = [(kind, column, _compress(data)) for kind, column, data in streams]
    body = b"".join(data for _, _, data in packed)
    stripe_footer = _compress(
        _message(
            [(1, _message([(1, kind), (2, column), (3, len(data))])) for kind, column, data in packed]
            + [(2, _message([(1, kind), (2, size)])) for kind, size in encodings]
        )
    )
    stripe = _message([(1, 3), (2, index_bytes), (3, len(body)), (4, len(stripe_footer)), (5, num_rows)])
    type_messages = [
        _message([(1, kind), *((2, child) for child in children), *((3, name) for name in names)])
        for kind, children, names in types
    ]
    footer = _compress(
        _message(
            [(1, 3), (2, len(body) + len(stripe_footer) + 3), (3, stripe)]
            + [(4, message) for message in type_messages]
            + [(6, num_rows), *((7, message) for message in statistics), (8, 0)]
        )
    )
    numbers = {1: len(footer), 2: 1, 3: 256 << 10, 5: 0, 6: 6} | postscript
    tail = _message([*sorted(numbers.items()), (8000, "ORC")])
    path.write_bytes(b"ORC" + body + stripe_footer + footer + tail + bytes([len(tail)]))


def _repeat(value: int, num_values: int) -> bytes:
    """Runs of version 2 of one value: deltas of 0."""
    runs, rest = divmod(num_values, 512)
    run = b"\xc1\xff" + _varint(value) + b"\0"
    last = bytes([0xC0 | (rest - 1) >> 8, (rest - 1) & 255]) + _varint(value) + b"\0" if rest else b""
    return run * runs + last


def _lying(num_rows: int, total: int) -> list[bytes]:
    strings = _message([(3, total << 1)])
    return [_message([(1, num_rows)]), _message([(1, num_rows), (4, strings)])]


def _dictionary(path: Path, statistics: Sequence[bytes] = (), num_rows: int = 3500) -> None:
    streams = [(DATA, 1, _repeat(0, num_rows)), (LENGTH, 1, _repeat(MIB, 1)), (DICTIONARY_DATA, 1, b"x" * MIB)]
    encodings = [(DIRECT, 0), (DICTIONARY_V2, 1)]
    _write_orc(path, [ROW_TYPE, (STRING, [], [])], streams, encodings, num_rows=num_rows, statistics=statistics)


def _direct(path: Path, lengths: bytes, num_rows: int) -> None:
    streams = [(DATA, 1, b"x"), (LENGTH, 1, lengths)]
    _write_orc(path, [ROW_TYPE, (STRING, [], [])], streams, [(DIRECT, 0), (DIRECT_V2, 0)], num_rows=num_rows)


def _dictionary_size(path: Path) -> None:
    streams = [(DATA, 1, _repeat(0, 1)), (LENGTH, 1, _repeat(1, 512)), (DICTIONARY_DATA, 1, b"x" * 512)]
    _write_orc(path, [ROW_TYPE, (STRING, [], [])], streams, [(DIRECT, 0), (DICTIONARY_V2, 1 << 29)])


def _lists(path: Path, kind: int = LIST) -> None:
    children = [(BYTE, [], [])] * (1 if kind == LIST else 2)
    streams = [(LENGTH, 1, _repeat(1 << 29, 1))]
    streams += [(DATA, column, b"\x7f\0" * (1 << 21)) for column in range(2, 2 + len(children))]
    types = [ROW_TYPE, (kind, [2, 3][: len(children)], []), *children]
    _write_orc(path, types, streams, [(DIRECT, 0), (DIRECT_V2, 0), *[(DIRECT, 0)] * len(children)])


def _bytes_in_rows(path: Path) -> None:
    num_rows = 550 << 20
    streams = [(DATA, 1, b"\x7f\0" * (5 << 20))]
    _write_orc(path, [ROW_TYPE, (BYTE, [], [])], streams, [(DIRECT, 0), (DIRECT, 0)], num_rows=num_rows)


def _types(path: Path, *types: tuple[int, Sequence[int], Sequence[str]]) -> None:
    _write_orc(path, types, [], [(DIRECT, 0)] * len(types))


BOMBS = {
    "statistics absent": (_dictionary, "DC904"),
    "statistics lie": (lambda p: _dictionary(p, _lying(3500, 10)), "DC904"),
    "lengths of text lie": (lambda p: _direct(p, _repeat(1 << 32, 1), 1), "DC904"),
    "lengths that wrap around": (lambda p: _direct(p, _repeat((1 << 64) - 1, 3) + _repeat(4, 1), 4), "DC901"),
    "a length below 0": (lambda p: _direct(p, b"\xc0\x02\x05\x0b", 3), "DC901"),
    "a dictionary that claims its size": (_dictionary_size, "DC904"),
    "lists": (_lists, "DC904"),
    "maps": (lambda p: _lists(p, MAP), "DC904"),
    "integers of a byte": (_bytes_in_rows, "DC904"),
    "a type that is its own part": (lambda p: _types(p, ROW_TYPE, (LIST, [1], [])), "DC901"),
    "a part of two types": (
        lambda p: _types(p, *[(STRUCT, [n, n], ["a", "b"]) for n in range(1, 60)], (INT, [], [])),
        "DC901",
    ),
    "deep types": (lambda p: _types(p, ROW_TYPE, *[(LIST, [n], []) for n in range(2, 9000)], (INT, [], [])), "DC901"),
    "large blocks": (lambda p: _write_orc(p, [ROW_TYPE, (INT, [], [])], postscript={3: 1 << 40}), "DC901"),
    "blocks of 0 bytes": (lambda p: _write_orc(p, [ROW_TYPE, (INT, [], [])], postscript={3: 0}), "DC901"),
    "a large footer": (lambda p: _write_orc(p, [ROW_TYPE, (INT, [], [])], statistics=[b""] * (8 << 20)), "DC901"),
    "a footer longer than the file": (lambda p: _write_orc(p, [ROW_TYPE], postscript={1: 1 << 62}), "DC901"),
    "a method of compression without a decompressor": (
        lambda p: _write_orc(p, [ROW_TYPE, (INT, [], [])], postscript={2: 3}),
        "DC901",
    ),
    "absurd stripes": (lambda p: _write_orc(p, [ROW_TYPE, (INT, [], [])], index_bytes=1 << 50), "DC901"),
    "absurd rows": (lambda p: _write_orc(p, [ROW_TYPE, (INT, [], [])], num_rows=1 << 62), "DC904"),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak of a process from /proc")
def test_files_that_lie_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    for name, (write, _) in BOMBS.items():
        write(tmp_path / f"{name}.orc")
    found, _, peak = _run_and_measure(tmp_path)
    assert found == ["DC901", "DC904"]
    assert peak < MAX_PEAK_MIB
    findings = datacheck.scan(tmp_path).findings
    assert {Path(finding.uri).stem: finding.code for finding in findings} == {
        name: code for name, (_, code) in BOMBS.items()
    }


def test_a_small_file_of_the_same_make_is_read(tmp_path: Path) -> None:
    _dictionary(tmp_path / "a.orc", _lying(9, 10), 9)
    _direct(tmp_path / "b.orc", _repeat(0, 5) + _repeat(1, 1), 6)
    report = datacheck.scan([tmp_path / "a.orc", tmp_path / "b.orc"])
    assert (report.findings, report.num_rows) == ((), 15)


def _table() -> pa.Table:
    num_rows, rng = 2_000, np.random.default_rng(0)
    words = [f"w{number}" * (number % 7 + 1) for number in range(20)]
    return pa.table(
        {
            "number": rng.normal(size=num_rows),
            "byte": rng.integers(0, 99, num_rows).astype("i1"),
            "decimal": pa.array([Decimal(number) for number in range(num_rows)], pa.decimal128(20, 2)),
            "words": [words[number] if number % 9 else None for number in rng.integers(0, 20, num_rows)],
            "one long": ["a"] * (num_rows - 1) + ["x" * 100_000],
            "random": ["x" * int(length) for length in rng.pareto(1, num_rows) * 5 % 3000],
            "bytes": [rng.bytes(number % 40) for number in range(num_rows)],
            "lists": [[1.5] * (number % 9) if number % 5 else None for number in range(num_rows)],
            "nested": [[[words[number % 9]] * (number % 3)] * (number % 4) for number in range(num_rows)],
            "maps": pa.array([[("k", n)] * (n % 4) for n in range(num_rows)], pa.map_(pa.string(), pa.int64())),
            "structs": [
                {"a": n, "b": {"c": f"t{n % 5}", "d": [n] * (n % 3)}} if n % 7 else None for n in range(num_rows)
            ],
        }
    )


@pytest.mark.parametrize("version", ["0.11", "0.12"])
@pytest.mark.parametrize("compression", ["uncompressed", "zlib", "snappy", "lz4", "zstd"])
def test_the_bound_of_ordinary_files_is_near_what_they_hold(compression: str, version: str, tmp_path: Path) -> None:
    path, table = tmp_path / "x.orc", _table()
    for dictionary in (0.0, 1.0):
        options = {"compression": compression, "file_version": version, "dictionary_key_size_threshold": dictionary}
        for name in table.column_names:
            orc.write_table(table.select([name]), path, **options)
            with open_file(str(path)) as file:
                tail = read_tail(file, 1 << 30)
                [stripe] = tail.stripes
                sizes = [table[name].nbytes * factor for factor in (0.9, 5)]
                bounds = [
                    takes_more(file, tail, stripe, [0], int(size) + extra)
                    for size, extra in zip(sizes, (0, 1000), strict=True)
                ]
            assert bounds == [True, False], (name, dictionary)


@pytest.mark.parametrize("size", [(4 << 20) - 1, 4 << 20, (4 << 20) + 1, 7 << 20])
def test_chunks_of_lz4_above_four_mebibytes_are_decompressed(size: int) -> None:
    content = np.random.default_rng(0).bytes(size // 2) + bytes(size - size // 2)
    chunk = bytes(pa.Codec("lz4_raw").compress(content))
    assert _decompress_chunk(chunk, 4, 7 << 20) == content
    if size > 4 << 20:
        with pytest.raises(ValueError, match="of which there are 4,194,305 at most"):
            _decompress_chunk(chunk + bytes(pa.Codec("lz4_raw").compress(content)), 4, (4 << 20) + 1)


@pytest.mark.parametrize("size", [0, 1, 17, 300, 5000, 70_000])
@pytest.mark.parametrize("kind", ["equal", "random", "words"])
def test_the_size_of_a_block_of_lz4_is_that_of_its_content(size: int, kind: str) -> None:
    random = np.random.default_rng(size)
    content = {"equal": bytes(size), "random": random.bytes(size), "words": (b"some words and more " * size)[:size]}[
        kind
    ]
    assert _lz4_size(bytes(pa.Codec("lz4_raw").compress(content))) == size
    with pytest.raises(ValueError, match="cut off"):
        _lz4_size(b"\xf0" + b"\xff" * 9)
