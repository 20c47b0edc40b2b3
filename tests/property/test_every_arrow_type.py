"""Every Arrow type, in every nesting, is checked or reported: in memory, in files and streams, and where a row is removed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.arrow_layouts import decode, decoded_bytes, take_rows
from datacheck.arrow_leaves import walk_arrow

NUM_ROWS = 4


def _flat_types() -> Iterator[pa.DataType]:
    """One type of each kind that pyarrow can make without arguments, and of those that need some."""
    names = {name.removeprefix("is_") for name in dir(pa.types)}
    for name in sorted(names | {"bool_", "bool8", "json_", "month_day_nano_interval", "uuid"}):
        try:
            kind = getattr(pa, name, str)()
        except TypeError:
            continue
        if isinstance(kind, pa.DataType):
            yield kind
    for unit in ("s", "ms", "us", "ns"):
        yield from (pa.timestamp(unit), pa.timestamp(unit, "UTC"), pa.duration(unit))
    yield from (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.binary(3))
    yield from (pa.decimal32(5, 2), pa.decimal64(10, 2), pa.decimal128(20, 3), pa.decimal256(50, 4))
    yield pa.opaque(pa.string_view(), "kind", "vendor")


def array_of(kind: pa.DataType) -> pa.Array:
    """Some rows of a flat type, one of them null."""
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if pa.types.is_null(storage):
        array = pa.nulls(NUM_ROWS)
    elif pa.types.is_fixed_size_binary(storage) or "binary" in str(storage):
        width = storage.byte_width if pa.types.is_fixed_size_binary(storage) else 3
        array = pa.array([b"a" * width, None, b"b" * width, b"a" * width], storage)
    elif "string" in str(storage):
        array = pa.array(["a", None, "b", "a"], storage)
    elif pa.types.is_interval(storage):
        array = pa.array([(1, 2, 3), None, (4, 5, 6), (1, 2, 3)], storage)
    else:
        array = (
            pa.array([0, None, 1, 0], pa.int64()).cast(pa.int32()).cast(storage, safe=False)
            if (pa.types.is_integer(storage) or pa.types.is_floating(storage) or pa.types.is_boolean(storage))
            else _from_integers(storage)
        )
    return pa.ExtensionArray.from_storage(kind, array) if storage is not kind else array


def _from_integers(kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        return pa.array(["0.5", None, "1.5", "0.5"]).cast(pa.decimal128(12, 2)).cast(kind, safe=False)
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array([0, None, 86_400_000 if kind == pa.date64() else 1, 0], width).view(kind)


def _in_union(array: pa.Array) -> pa.Array:
    codes = pa.array([0] * NUM_ROWS, pa.int8())
    return pa.UnionArray.from_sparse(codes, [array])


#: Ways to nest an array into another of as many rows.
NESTINGS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "dictionary": lambda a: pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 3], pa.int32()), a),
    "runs": lambda a: pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3, 4], pa.int32()), a),
    "struct": lambda a: pa.StructArray.from_arrays([a], ["x"], mask=pa.array([False, True, False, False])),
    "list": lambda a: pa.ListArray.from_arrays(pa.array([0, 1, None, 2, 4], pa.int32()), a),
    "large list": lambda a: pa.LargeListArray.from_arrays(pa.array([0, 1, None, 2, 4], pa.int64()), a),
    "list view": lambda a: pa.ListViewArray.from_arrays(
        pa.array([0, 2, 0, 1], pa.int32()), pa.array([1, 2, 0, 3], pa.int32()), a
    ),
    "fixed list": lambda a: pa.FixedSizeListArray.from_arrays(a, 1, mask=pa.array([False, True, False, False])),
    "map": lambda a: pa.MapArray.from_arrays(pa.array([0, 1, 2, 2, 4], pa.int32()), pa.array(list("abcd")), a),
    "union": _in_union,
}

FLAT = {str(kind): array_of(kind) for kind in _flat_types()}


def _cases() -> dict[str, pa.Array]:
    cases = dict(FLAT)
    cases |= {f"{name} of {kind}": nest(array) for name, nest in NESTINGS.items() for kind, array in FLAT.items()}
    choose = random.Random(11)
    names = list(NESTINGS)
    for outer in names:
        for inner in names:
            for kind in choose.sample(sorted(FLAT), 4):
                cases[f"{outer} of {inner} of {kind}"] = NESTINGS[outer](NESTINGS[inner](FLAT[kind]))
    return cases


CASES = _cases()


def _is_known(report: Any) -> bool:
    """Whether the column was checked (and nothing found) or reported as not checked, and the one NaN was found."""
    codes = [finding.code for finding in report.findings]
    return codes.count("DC101") == 1 and set(codes) <= {"DC101", "DC005", "DC008", "DC104", "DC105", "DC106"}


def _table(array: pa.Array) -> pa.Table:
    return pa.table({"x": array, "nan": [1.0, float("nan"), 2.0, 3.0]})


def _is_stored(table: pa.Table, path: Path) -> bool:
    try:
        with ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
        return bool(ipc.open_file(path).read_all().schema == table.schema)
    except (pa.ArrowException, OSError):
        return False  # pyarrow itself does not write it, or not read it back


def test_the_types_are_those_that_pyarrow_has() -> None:
    assert len(FLAT) > 40
    assert len(CASES) > 700


@pytest.mark.slow
@pytest.mark.parametrize("start", range(8))
def test_every_type_is_checked_or_reported_in_memory_in_files_and_in_streams(start: int, tmp_path: Path) -> None:
    for name, array in list(CASES.items())[start::8]:
        table = _table(array)
        assert _is_known(datacheck.scan(table)), name
        if not _is_stored(table, tmp_path / "x.arrow"):
            continue
        with ipc.new_stream(tmp_path / "x.arrows", table.schema) as writer:
            writer.write_table(table)
        for path in ("x.arrow", "x.arrows"):
            report = datacheck.scan(tmp_path / path)
            assert _is_known(report), (name, path, report.findings)
        try:
            pq.write_table(table, tmp_path / "x.parquet")
            pq.read_table(tmp_path / "x.parquet")
        except (pa.ArrowException, OSError):
            continue
        report = datacheck.scan(tmp_path / "x.parquet")
        assert _is_known(report), (name, report.findings)


def test_rows_of_every_type_can_be_taken_and_no_value_changes() -> None:
    for name, array in CASES.items():
        for rows in ([0, 2, 3], [3, 1], [], [0, 0, 2]):
            taken = take_rows(array, np.array(rows, np.int64))
            taken.validate(full=True)
            assert taken.type == array.type, name
            try:
                values = array.to_pylist()
            except (pa.ArrowException, TypeError, KeyError, ValueError):
                continue
            assert taken.to_pylist() == [values[row] for row in rows], name


def test_decoding_changes_no_value_and_every_type_can_be_measured() -> None:
    for name, array in CASES.items():
        for part in (array, array[1:3]):
            assert decode(part).to_pylist() == part.to_pylist(), name
            assert decoded_bytes(part) >= 0
            assert list(walk_arrow("x", part)), name


def test_values_that_views_repeat_count_each_time() -> None:
    texts = pa.array(["a" * 100, "b" * 10, None, "c" * 50], pa.string_view())
    assert [decoded_bytes(part) for part in (texts, texts[1:], texts[3:])] == [160, 60, 50]
    starts, sizes = pa.array([0, 1, 2, 0], pa.int32()), pa.array([1, 1, 2, 4], pa.int32())
    lists = pa.ListViewArray.from_arrays(starts, sizes, pa.array([1.0, 2, 3, 4]))
    assert decoded_bytes(lists) == 8 * 16
    assert decoded_bytes(lists[:3]) == 0
    assert decoded_bytes(pa.StructArray.from_arrays([lists], ["x"])) == 8 * 16


@pytest.mark.parametrize("nesting", ["", *NESTINGS])
def test_a_run_removes_a_row_of_any_type(nesting: str, tmp_path: Path) -> None:
    for name in ("string_view", "binary_view", "double", "string", "decimal256(50, 4)"):
        array = NESTINGS[nesting](FLAT[name]) if nesting else FLAT[name]
        folder = tmp_path / name.split("(")[0]
        folder.mkdir()
        if not _is_stored(_table(array), folder / "x.arrow"):
            continue
        rules = "[{action: drop_row, codes: DC101}, {action: report, codes: DC104}]"
        pipeline = f"version: 1\ninputs: {{all: x.arrow}}\nclean: {rules}\noutput: {{path: out}}\n"
        (folder / "p.yaml").write_text(pipeline)
        datacheck.run(folder / "p.yaml")
        (part,) = (folder / "out").rglob("*.arrow")
        written = ipc.open_file(part).read_all()["x"].combine_chunks()
        assert written.to_pylist() == take_rows(array, np.array([0, 2, 3])).to_pylist(), name


def test_each_distinct_value_is_judged_once_and_every_row_is_counted() -> None:
    values = pa.array([1.0, float("nan"), None])
    for array in (
        pa.DictionaryArray.from_arrays(pa.array([1, 0, 1, None, 2], pa.int8()), values),
        pc.run_end_encode(pa.array([float("nan"), 1.0, float("nan"), None, None])),
    ):
        (leaf,) = walk_arrow("x", array, distinct=True)
        assert len(leaf) == 5
        assert len(leaf.values) < 5
        assert leaf.num_nulls == 2
        report = datacheck.scan(pa.table({"x": array}), {"fields": {"x": {"nullable": True, "le": 0}}})
        found = {finding.code: finding for finding in report.findings}
        assert found["DC101"].num_violations == 2
        assert [example.row for example in found["DC101"].examples] == [0, 2]
        assert (found["DC202"].num_violations, found["DC202"].num_checked) == (1, 3)
