"""CSV: types of the whole file, NaN apart from null, and every line accounted for."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from source_files import inspect, read_batches, shrink_units

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources import ReadOptions


def read(path: Path, text: str | bytes, **options: Any) -> list[Batch]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_batches(inspect(path, ReadOptions(**options)))


def column(batches: list[Batch], name: str = "x") -> pa.ChunkedArray:
    return pa.chunked_array([one.data for batch in batches for one in batch.columns if one.name == name])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.csv"


@pytest.mark.parametrize("spelling", ["NaN", "nan", "-nan", "NAN", "1.#QNAN", "-1.#IND", ' "NaN" '.strip()])
def test_nan_is_read_as_nan_and_not_as_null(path: Path, spelling: str) -> None:
    values = column(read(path, f"x,y\n1.5,a\n{spelling},b\n,c\n"))
    assert values.type == pa.float64()
    assert values.null_count == 1
    assert np.isnan(values.to_numpy()[1])
    assert values[1].is_valid


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        ("inf", np.inf),
        ("-inf", -np.inf),
        ("Infinity", np.inf),
        ("+inf", np.inf),
        ("1.#INF", np.inf),
        ("-1.#INF", -np.inf),
    ],
)
def test_infinities_are_read_as_what_they_are(path: Path, spelling: str, value: float) -> None:
    assert column(read(path, f"x,y\n1.5,a\n{spelling},b\n")).to_pylist() == [1.5, value]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "2"], pa.int64(), [1, 2]),
        (["1", "", "3"], pa.int64(), [1, None, 3]),
        (["1", "NA", "null"], pa.int64(), [1, None, None]),
        (["1", "2.5"], pa.float64(), [1.0, 2.5]),
        (["1", "x"], pa.string(), ["1", "x"]),
        (["18446744073709551615", "1"], pa.uint64(), [18446744073709551615, 1]),
        (["-1", "99999999999999999999"], pa.float64(), [-1.0, 1e20]),
        (["true", "FALSE"], pa.bool_(), [True, False]),
        (["true", "2"], pa.string(), ["true", "2"]),
        (["2020-01-02", "2020-01-03"], pa.date32(), None),
        (["2020-01-02", "2020-01-03 10:00:00"], pa.timestamp("s"), None),
        (["2020-01-02 10:00:00.5"], pa.timestamp("ns"), None),
        (["2020-01-02T10:00:00Z"], pa.timestamp("ns", "UTC"), None),
        (["", ""], pa.null(), [None, None]),
        ([" 1.5 ", "2"], pa.float64(), [1.5, 2.0]),
        (['"1"', '""'], pa.int64(), [1, None]),
        (['"a"', '""', ""], pa.string(), ["a", "", None]),
        (["0x10", "1.5"], pa.string(), ["0x10", "1.5"]),
        (['"a\nb"', '"c""d"', '"e,f"'], pa.string(), ["a\nb", 'c"d', "e,f"]),
    ],
)
@pytest.mark.parametrize("block_bytes", [1 << 20, 64])
def test_a_column_has_the_narrowest_type_that_holds_all_of_it(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cells: list[str],
    kind: pa.DataType,
    values: list[Any] | None,
    block_bytes: int,
) -> None:
    shrink_units(monkeypatch, 1 << 20, block_bytes)
    text = "x,y\n" + "".join(f"{cell},z\n" for cell in cells)
    found = column(read(path, text))
    assert found.type == kind
    assert values is None or found.to_pylist() == values


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("last", ["2.5", "word", "0x1F", "NaN", ""])
def test_what_stands_in_the_last_line_decides_with_the_first(
    path: Path, monkeypatch: pytest.MonkeyPatch, held: bool, last: str
) -> None:
    shrink_units(monkeypatch, 1 << 30 if held else 100, 200)
    batches = read(path, "x,y\n" + "7,a\n" * 500 + f"{last},a\n")
    values = column(batches)
    expected = {"2.5": pa.float64(), "NaN": pa.float64(), "word": pa.string()}.get(last, pa.int64())
    assert values.type == expected
    assert len(values) == 501
    assert len(batches) > 5
    assert values[0].as_py() == pa.array(["7"]).cast(expected)[0].as_py()


@pytest.mark.parametrize(
    ("dtype", "cells", "kind", "values"),
    [
        ("float32", ["1", "2.5"], pa.float32(), [1.0, 2.5]),
        ("int8", ["1", "2"], pa.int8(), [1, 2]),
        ("int8", ["1", "300"], pa.string(), ["1", "300"]),
        ("int32", ["1", "2.5"], pa.string(), ["1", "2.5"]),
        ("float32", ["1", "x"], pa.string(), ["1", "x"]),
        ("float16", ["1", "2.5", ""], pa.float16(), [1.0, 2.5, None]),
        ("float16", ["1", "70000"], pa.string(), ["1", "70000"]),
        ("float16", ["1", "1e300"], pa.string(), ["1", "1e300"]),
        ("float32", ["inf", "1e39"], pa.string(), ["inf", "1e39"]),
        ("float16", ["inf", "nan"], pa.float16(), None),
        ("bfloat16", ["1", "2.5"], pa.float32(), [1.0, 2.5]),
        ("string", ["1", "2"], pa.string(), ["1", "2"]),
        ("bool", ["1", "0"], pa.bool_(), [True, False]),
        ("timestamp[us]", ["2020-01-02", ""], pa.timestamp("us"), None),
        ("timestamp[us, tz=UTC]", ["2020-01-02T10:00:00Z"], pa.timestamp("us", "UTC"), None),
        ("decimal128(10, 2)", ["1.25"], pa.decimal128(10, 2), None),
        ("list<float64>", ["1"], pa.int64(), [1]),
        ("no such dtype", ["1"], pa.int64(), [1]),
    ],
)
def test_a_dtype_that_is_said_is_taken_unless_a_value_is_none_of_it(
    path: Path, dtype: str, cells: list[str], kind: pa.DataType, values: list[Any] | None
) -> None:
    found = column(read(path, "x,y\n" + "".join(f"{cell},z\n" for cell in cells), dtypes=(("x", dtype),)))
    assert found.type == kind
    assert values is None or found.to_pylist() == values


@pytest.mark.parametrize("block_bytes", [1 << 20, 200, 64])
def test_a_line_that_is_no_row_is_counted_where_it_stands(
    path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    shrink_units(monkeypatch, 1 << 20, block_bytes)
    lines = ["x,y"] + [f"{row},a" for row in range(200)]
    bad = {0: "short", 17: "1,2,3", 18: "4,5,6,7", 120: "", 199: "last,but,one"}
    for row, text in bad.items():
        lines[row + 1] = text
    del bad[120]
    batches = read(path, "\r\n".join(lines))
    malformed = [line for batch in batches for line in batch.malformed]
    # The empty line is none, so that what follows it stands one row earlier.
    expected = {row - (row > 120): text for row, text in bad.items()}
    assert {line.row: line.text for line in malformed} == expected
    assert [line.problem for line in malformed][:2] == ["1 cell instead of 2", "3 cells instead of 2"]
    rows = np.concatenate([batch.file_rows(np.arange(batch.num_rows)) for batch in batches])
    assert sorted([*rows.tolist(), *expected]) == list(range(199))
    values = column(batches).to_pylist()
    assert all(value == row + (row >= 120) for row, value in zip(rows.tolist(), values, strict=True))


def test_the_text_of_a_line_that_is_no_row_is_bounded(path: Path) -> None:
    batches = read(path, "x,y\n" + "z" * 5000 + "\n1,2\n")
    (line,) = [line for batch in batches for line in batch.malformed]
    assert line.text == "z" * 1000


def test_lines_that_are_all_no_rows_leave_none(path: Path) -> None:
    batches = read(path, "a title\nx,y\n1,2\n")
    assert sum(batch.num_rows for batch in batches) == 0
    assert sum(len(batch.malformed) for batch in batches) == 2


def test_an_empty_line_is_a_cell_in_a_table_of_one_column_only(path: Path) -> None:
    assert column(read(path, "\n\nx\n1\n\n2\n")).to_pylist() == [1, None, 2]
    assert column(read(path, "\n\nx,y\n1,1\n\n2,2\n")).to_pylist() == [1, 2]


@pytest.mark.parametrize("text", ["x,y\n", "x,y", "\ufeffx,y\r\n"])
def test_a_header_alone_is_a_table_of_no_rows(path: Path, text: str) -> None:
    (batch,) = read(path, text)
    assert batch.num_rows == 0
    assert batch.names == ["x", "y"]


def test_names_are_taken_as_they_stand(path: Path) -> None:
    (batch,) = read(path, '\ufeff"a\nb",1, c ,NA,\n1,2,3,4,5\n')
    assert batch.names == ["a\nb", "1", " c ", "NA", ""]
    assert [one.data.to_pylist() for one in batch.columns] == [[1], [2], [3], [4], [5]]


def test_a_tsv_and_another_delimiter_are_split_where_they_say(tmp_path: Path) -> None:
    (batch,) = read(tmp_path / "x.tsv", "x\ty\n1,5\t2\n")
    assert [one.data.to_pylist() for one in batch.columns] == [["1,5"], [2]]
    (batch,) = read(tmp_path / "x.csv", "x;y\n1;2\n", csv_delimiter=";")
    assert batch.names == ["x", "y"]


def test_null_values_are_those_that_are_said(path: Path) -> None:
    values = column(read(path, "x,y\n-999,a\n1,b\nNA,c\n", csv_null_values=("-999", "NA")))
    assert values.to_pylist() == [None, 1, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,é\n".encode("latin-1"), "not UTF-8: byte 6 is 0xe9"),
        ("é,y\n1,2\n".encode("latin-1"), "not UTF-8: byte 0 is 0xe9"),
        ("x,y\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"x,y\n1,\x002\n", "zero bytes"),
        (b"\n\n\n", "no header"),
        (b'x,y\n1,"never closed\n' + b"2,3\n" * 2000, "longer than"),
    ],
)
def test_what_is_no_csv_says_why(path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, message: str) -> None:
    shrink_units(monkeypatch, 4096, 1024)
    with pytest.raises(SourceError, match=message) as caught:
        read(path, text)
    assert caught.value.code == "DC901"


def test_a_gzipped_file_is_bounded_as_it_expands(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"x\n" + b"0\n" * (1 << 20)))
    assert sum(batch.num_rows for batch in read_batches(inspect(path))) == 1 << 20
    with pytest.raises(SourceError) as caught:
        read_batches(inspect(path, ReadOptions(max_expanded_bytes=1 << 20)))
    assert caught.value.code == "DC904"


@pytest.mark.parametrize("block_bytes", [1 << 20, 64])
@pytest.mark.parametrize(
    ("cells", "mostly"),
    [
        (["1", "2.5", "oops"], True),
        (["oops", "1", "2", "nan", ""], True),
        (["1.5", "-", "inf", "2"], True),
        (["1", "x", "y"], False),
        (["a", "b"], False),
        (["1", "2"], False),
        (["true", "1", "oops"], False),
        (["2020-01-01", "x"], False),
        ([*["7"] * 40, "oops", *["2.5"] * 40], True),
    ],
)
def test_a_column_of_numbers_that_few_words_make_text_is_known(
    path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[str], mostly: bool, block_bytes: int
) -> None:
    shrink_units(monkeypatch, 1 << 20, block_bytes)
    text = "x,y\n" + "".join(f"{cell},z\n" for cell in cells)
    batches = read(path, text)
    assert {batch.columns[0].is_mostly_numbers for batch in batches} == {mostly}
    assert not any(batch.columns[1].is_mostly_numbers for batch in batches)
    said = read(path, text, dtypes=(("x", "string"),))
    assert not any(one.is_mostly_numbers for batch in said for one in batch.columns)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a;b;c\n1;2;3\n", "3 columns separated by ';'"),
        ("a;b\n1,5;2,5\n", "2 columns separated by ';'"),
        ("a\tb\n1\t2\n", r"2 columns separated by '\t'"),
        ('a|b\n"x|y"|2\n', "2 columns separated by '|'"),
        ("a;b\n", "2 columns separated by ';'"),
        ("a;b\n1;2;3\n", ""),
        ("tags\nx;y\n", ""),
        ("a\n1\n", ""),
        ("a,b;c\n1,2;3\n", ""),
    ],
)
def test_a_file_with_another_delimiter_says_so(path: Path, text: str, seen: str) -> None:
    if not seen:
        assert len(read(path, text)[0].names) == len(text.splitlines()[0].split(","))
        return
    with pytest.raises(SourceError, match=re.escape(seen)) as caught:
        read(path, text)
    assert caught.value.code == "DC901"
    assert "csv_delimiter" in caught.value.remedy
