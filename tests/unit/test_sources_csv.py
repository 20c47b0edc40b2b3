"""CSV: types of the whole file, NaN apart from null, and every line accounted for."""

from __future__ import annotations

import csv
import gzip
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from source_files import inspect, read_batches, shrink_units

from datacheck.batch import Batch
from datacheck.errors import SourceError, UsageError
from datacheck.sources import ReadOptions, expand_inputs, text_parsing


def read(path: Path, text: str | bytes, **options: Any) -> list[Batch]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_batches(inspect(path, ReadOptions(**options)))


def column(batches: list[Batch], name: str = "x") -> pa.ChunkedArray:
    return pa.chunked_array([one.data for batch in batches for one in batch.columns if one.name == name])


def with_words(batches: list[Batch], name: str = "x") -> list[Any]:
    """The values of a column, with the words that do not convert in their places."""
    found: list[Any] = []
    for one in (one for batch in batches for one in batch.columns if one.name == name):
        bad = np.zeros(len(one), bool) if one.unconvertible is None else one.unconvertible
        words = one.data if one.words is None else one.words
        found += [words[row].as_py() if bad[row] else one.data[row].as_py() for row in range(len(one))]
    return found


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
        (["2020-01-02 10:00:00.5", "3018-01-02 10:00:00.5"], pa.timestamp("us"), None),
        (["2020-01-02T10:00:00.5Z", "3018-01-02T10:00:00.5Z"], pa.timestamp("us", "UTC"), None),
        (["2020-01-02 10:00:00.5", "3018-01-02 10:00:00.123456789"], pa.string(), None),
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
    expected = {"2.5": pa.float64(), "NaN": pa.float64()}.get(last, pa.int64())
    assert values.type == expected
    assert len(values) == 501
    assert len(batches) > 5
    assert values[0].as_py() == pa.array(["7"]).cast(expected)[0].as_py()


@pytest.mark.parametrize(
    ("dtype", "cells", "kind", "values"),
    [
        ("float32", ["1", "2.5"], pa.float32(), [1.0, 2.5]),
        ("int8", ["1", "2"], pa.int8(), [1, 2]),
        ("int8", ["1", "300"], pa.int8(), [1, "300"]),
        ("int32", ["1", "2.5"], pa.int32(), [1, "2.5"]),
        ("float32", ["1", "x"], pa.float32(), [1.0, "x"]),
        ("float32", ["x", "", "y"], pa.float32(), ["x", None, "y"]),
        ("float16", ["1", "2.5", ""], pa.float16(), [1.0, 2.5, None]),
        ("float16", ["1", "70000"], pa.float16(), [1.0, "70000"]),
        ("float16", ["1", "1e300"], pa.float16(), [1.0, "1e300"]),
        ("float32", ["inf", "1e39"], pa.float32(), [np.inf, "1e39"]),
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
def test_a_given_dtype_is_used_and_words_that_do_not_convert_are_kept(
    path: Path, dtype: str, cells: list[str], kind: pa.DataType, values: list[Any] | None
) -> None:
    batches = read(path, "x,y\n" + "".join(f"{cell},z\n" for cell in cells), dtypes=(("x", dtype),))
    assert column(batches).type == kind
    assert values is None or with_words(batches) == values


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
    (batch,) = read(tmp_path / "x.tsv", "x\ty\na,5\t2\n")
    assert [one.data.to_pylist() for one in batch.columns] == [["a,5"], [2]]
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
        (b"x,y\n1," + b"2" * 5000, "longer than"),
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
    ("cells", "kind", "values"),
    [
        (["1", "2.5", "oops"], pa.float64(), [1, 2.5, "oops"]),
        (["oops", "1", "2", "inf", ""], pa.float64(), ["oops", 1, 2, np.inf, None]),
        (["1.5", "-", "inf", "2"], pa.float64(), [1.5, "-", np.inf, 2]),
        (["1", "2", "x", "9007199254740993"], pa.int64(), [1, 2, "x", 9007199254740993]),
        (["x", "1", "NA", "18446744073709551615"], pa.uint64(), ["x", 1, None, 18446744073709551615]),
        (["1,5", "2,5"], pa.float64(), ["1,5", "2,5"]),
        (["1", "x", "y"], pa.string(), ["1", "x", "y"]),
        (["a", "b"], pa.string(), ["a", "b"]),
        (["true", "1", "oops"], pa.string(), ["true", "1", "oops"]),
        (["2020-01-01", "x"], pa.string(), ["2020-01-01", "x"]),
        (["192.168.100.100", "10.0.0.1"], pa.string(), None),
        ([*["7"] * 40, "oops", *["2.5"] * 40], pa.float64(), [*[7] * 40, "oops", *[2.5] * 40]),
    ],
)
def test_a_column_of_mostly_numbers_is_numeric_and_its_words_are_known(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cells: list[str],
    kind: pa.DataType,
    values: list[Any] | None,
    block_bytes: int,
) -> None:
    shrink_units(monkeypatch, 1 << 20, block_bytes)
    text = "x;y\n" + "".join(f"{cell};z\n" for cell in cells)
    batches = read(path, text, csv_delimiter=";")
    assert column(batches).type == kind
    assert values is None or with_words(batches) == values
    has_words = values is None or any(isinstance(value, str) for value in values)
    assert column([batch.as_read() for batch in batches]).type == (pa.string() if has_words else kind)
    said = read(path, text, csv_delimiter=";", dtypes=(("x", "string"),))
    assert column(said).type == pa.string()


@pytest.mark.parametrize("block_bytes", [1 << 20, 64])
@pytest.mark.parametrize(
    ("text", "rows", "bad"),
    [
        ('a,b\n1,2\n3,"4\n5,6\n7,8\n', [(0, 2), (2, 4), (3, 5)], [(1, 3)]),
        ('a,b\n1,2\n3,"4\n5,6\n7,"8\n9,0\n', [(0, 2), (2, 4), (4, 6)], [(1, 3), (3, 5)]),
        ('a,b\n1,"x\ny"\n3,4\n\n5,6,7\n8,9', [(0, 2), (1, 4), (3, 7)], [(2, 6)]),
        ('a,b\r\n1,"2"\r\n\r\n3,4\r\n', [(0, 2), (1, 4)], []),
        ("a,b\r1,2\r3,4\r", [(0, 2), (1, 3)], []),
        ('a,b\n1,x"y\n2,"x""\ny"\n3,"z"\n', [(0, 2), (1, 3), (2, 5)], []),
        ('a,b\n1,"', [], [(0, 2)]),
    ],
)
def test_every_line_is_a_row_or_malformed_and_rows_know_their_lines(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    rows: list[tuple[int, int]],
    bad: list[tuple[int, int]],
    block_bytes: int,
) -> None:
    shrink_units(monkeypatch, 1 << 20, block_bytes)
    batches = read(path, text)
    found = [
        (int(row), batch.line_of(int(row))) for batch in batches for row in batch.file_rows(np.arange(batch.num_rows))
    ]
    assert found == rows
    assert [(line.row, line.line) for batch in batches for line in batch.malformed] == bad


@pytest.mark.parametrize("seed", range(20))
def test_lines_and_rows_agree_with_a_plain_reader(path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shrink_units(monkeypatch, 1 << 20, int(rng.integers(40, 400)))
    cells = ["1", "2.5", '"a"', '"a\nb"', '"a,b"', '"a""b"', '""', 'a"b', "", '"x\r\ny"', '"', '"a"b']
    weights = np.array(
        [5, 5, 3, 2, 2, 2, 1, 1, 1, 1, 0, 0] if seed % 2 else [5, 5, 3, 1, 1, 1, 1, 1, 1, 0, 0.3, 1], float
    )
    end = str(rng.choice(["\n", "\r\n"]))
    lines = [",".join(rng.choice(cells, 3, p=weights / weights.sum())) for _ in range(60)]
    text = end.join(["x,y,z", *lines]) + str(rng.choice(["", end]))
    batches = read(path, text)
    numbers = [int(row) for batch in batches for row in batch.file_rows(np.arange(batch.num_rows))]
    malformed = [line for batch in batches for line in batch.malformed]
    assert sorted([*numbers, *(line.row for line in malformed)]) == list(range(len(numbers) + len(malformed)))
    if seed % 2:
        reader = csv.reader(io.StringIO(text, newline=""))
        next(reader)
        starts, expected, line = [], [], reader.line_num + 1
        for record in reader:
            starts.append(line)
            expected.append(record)
            line = reader.line_num + 1
        assert not malformed
        assert [
            batch.line_of(int(row)) for batch in batches for row in batch.file_rows(np.arange(batch.num_rows))
        ] == starts
        said = read(path, text, dtypes=tuple((name, "string") for name in "xyz"), csv_null_values=())
        assert list(map(list, zip(*(column(said, name).to_pylist() for name in "xyz"), strict=True))) == expected


@pytest.mark.parametrize(
    ("name", "content", "options", "columns"),
    [
        ("x.csv", "x;y\n1,5;a\n2;b\n", {"csv_delimiter": ";", "csv_decimal": ","}, {"x": [1.5, 2.0], "y": ["a", "b"]}),
        ("x.tsv", "x\ty\n1,234\t1\n1,234,567.5\t2\n7\t3\n", {"csv_thousands": ","}, {"x": [1234, 1234567.5, 7]}),
        (
            "x.csv",
            "x;y\n1.234,5;a\n",
            {"csv_delimiter": ";", "csv_decimal": ",", "csv_thousands": "."},
            {"x": [1234.5]},
        ),
        ("x.csv", "x,y\n'1,5',2\n", {"csv_quote": "'", "csv_decimal": ","}, {"x": [1.5], "y": [2]}),
        ("x.csv", 'x,y\n"a,b"\n', {"csv_quote": ""}, {"x": ['"a'], "y": ['b"']}),
        ("x.csv", "1,2\n3,4\n", {"csv_header": False}, {"column_0": [1, 3], "column_1": [2, 4]}),
        ("x.csv", '# it\'s "\nx,y\n# c,"\n1,2\n#"\n3,"4"\n', {"csv_comment": "#"}, {"x": [1, 3], "y": [2, 4]}),
        ("x.csv", " 1  2.5 \n\n3\t4\n", {"csv_delimiter": "whitespace", "csv_header": False}, {"column_1": [2.5, 4.0]}),
        ("x.csv", "x y\n1 2\n", {"csv_delimiter": "whitespace"}, {"x": [1], "y": [2]}),
        ("x.txt", "# a b\n1.5e+00 2\n3 4 # last\n", {}, {"column_0": [1.5, 3.0], "column_1": [2, 4]}),
        ("x.txt", "1,2\n3,4\n", {}, {"column_0": [1, 3], "column_1": [2, 4]}),
        ("x.txt", "a b\n1 2\n", {"csv_delimiter": "whitespace"}, {"a": [1], "b": [2]}),
    ],
)
def test_options_say_how_a_text_table_is_written(
    tmp_path: Path, name: str, content: str, options: dict[str, Any], columns: dict[str, list[Any]]
) -> None:
    batches = read(tmp_path / name, content, **options)
    assert {key: column(batches, key).to_pylist() for key in columns} == columns
    assert not any(batch.malformed for batch in batches)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_an_encoding_is_decoded(path: Path, encoding: str) -> None:
    (batch,) = read(path, "é,y\nü,2\n".encode(encoding), csv_encoding=encoding)
    assert [one.data.to_pylist() for one in batch.columns] == [["ü"], [2]]
    assert batch.names == ["é", "y"]


@pytest.mark.parametrize(
    "options",
    [
        {"csv_delimiter": ";;"},
        {"csv_decimal": ";"},
        {"csv_thousands": "."},
        {"csv_encoding": "no such encoding"},
        {"csv_quote": ","},
        {"csv_comment": "é"},
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        ReadOptions(**options)


def test_text_that_is_no_table_of_numbers_is_read_only_if_it_is_said_how(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a table of numbers") as caught:
        read(tmp_path / "x.txt", "two words\nhere too\n")
    assert caught.value.code == "DC909"
    (tmp_path / "labels.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert [Path(file.uri).name for file in expand_inputs(tmp_path)] == ["labels.txt"]


def test_a_type_is_found_with_few_conversions_a_column(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    parse = text_parsing.parse

    def counted(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
        calls.append(kind)
        return parse(column, kind)

    monkeypatch.setattr(text_parsing, "parse", counted)
    cells = ["0.5", "7", "a", "2020-01-02", "true"]
    read(path, ",".join(f"c{index}" for index in range(100)) + "\n" + ",".join(cells * 20) + "\n")
    assert len(calls) <= 4 * 100


def test_a_file_name_in_a_fix_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path / "$(touch X).csv", "x,y\n1,é\n".encode("latin-1"))
    assert f"'{tmp_path}/$(touch X).csv'" in caught.value.remedy


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


def test_the_columns_of_a_wide_table_are_parsed_some_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datacheck.sources.csv._MAX_PARSED_COLUMNS", 2)
    parsed: list[int] = []
    read_csv = pa_csv.read_csv

    def spy(*args: Any, convert_options: Any, **options: Any) -> pa.Table:
        parsed.append(len(convert_options.include_columns))
        return read_csv(*args, convert_options=convert_options, **options)

    monkeypatch.setattr("datacheck.sources.csv.pa_csv.read_csv", spy)
    (batch,) = read(path, 'a,b,c,d,e\n1,2.5,x,NA,5\n1,2\n3,4,"NA",true,7\n')
    assert [column.data.to_pylist() for column in batch.columns] == [
        [1, 3], [2.5, 4.0], ["x", "NA"], [None, True], [5, 7],
    ]  # fmt: skip
    assert [(line.row, line.problem) for line in batch.malformed] == [(1, "2 cells instead of 5")]
    assert set(parsed) == {1, 2}
