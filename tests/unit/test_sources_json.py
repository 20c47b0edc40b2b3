"""JSON Lines and JSON lists: what each kind of line and value becomes, whatever the units."""

from __future__ import annotations

import gzip
import json
import math
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from job_files import quarantine_of, write_pipeline
from source_files import inspect, read_batches, shrink_units

import datacheck
from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources import ReadOptions, get_source, json_columns
from datacheck.sources.json_list import read_elements

pytest.importorskip("msgspec")
NAN, INF = math.nan, math.inf


def write(path: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_bytes("".join(f"{text}\n" for text in texts).encode("utf-8", "surrogatepass"))
    return path


def found(path: Path, schema: Any = None) -> dict[tuple[str, str | None], tuple[int, list[int | None]]]:
    """By code and field, the number of violations and the rows of the examples."""
    report = datacheck.scan(path, schema)
    return {
        (one.code, one.field): (one.num_violations, [example.row for example in one.examples])
        for one in report.findings
    }


def test_nan_infinity_null_and_a_missing_key_are_four_things(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.jsonl", {"x": NAN}, {"x": INF}, {"x": -INF}, {"x": None}, {"y": 1}, {"x": 1.5}, '{"x": 1e999}'
    )
    assert found(path) == {
        ("DC101", "x"): (1, [0]),
        ("DC102", "x"): (2, [1, 6]),
        ("DC103", "x"): (1, [2]),
        ("DC104", "x"): (1, [3]),
        ("DC108", "x"): (1, [4]),
        ("DC108", "y"): (6, [0, 1, 2, 3, 5]),
    }


def test_nested_and_ragged_values_go_by_their_path(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.jsonl",
        {"m": [{"s": [1.0, NAN]}, {"s": []}], "d": {"e": {"f": None}}},
        {"m": [], "d": None},
        {"m": [{"s": None}, {}], "d": {"e": {"f": 2}}},
    )
    assert found(path) == {
        ("DC101", "m[].s[]"): (1, [0]),
        ("DC105", "m[].s"): (1, [2]),
        ("DC108", "m[].s"): (1, [2]),
        ("DC104", "d.e.f"): (1, [0]),
        ("DC105", "d"): (1, [1]),
    }
    (example,) = next(one for one in datacheck.scan(path).findings if one.code == "DC101").examples
    assert (example.index, example.line) == ((0, 1), 1)


def test_the_schema_decides_whether_a_key_may_be_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"a": 1, "m": {"s": 1}}, {"m": {}}, {"a": None, "m": {"s": 2}})
    fields = {"a": {"dtype": "int64"}, "m.s": {"dtype": "int64", "nullable": True}, "z": {"dtype": "float32"}}
    assert found(path, {"fields": fields}) == {
        ("DC107", "a"): (1, [1]),
        ("DC104", "a"): (1, [2]),
        ("DC107", "z"): (3, [0, 1, 2]),
    }
    optional = {name: {**field, "required": False} for name, field in fields.items()}
    assert found(path, {"fields": optional}) == {("DC104", "a"): (1, [2])}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"x": 1', "not JSON"),
        ('{"x": nan}', "not JSON"),
        ("[1, 2]", "expected an object, got a list"),
        ("5", "expected an object, got a number"),
        ('{"x": 1}{"x": 2}', "not JSON: Extra data"),
        ('{"x": "\\ud800"}', "surrogate"),
        ('{"x": "\udcff"}', "not UTF-8"),
        ('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"x": ' + "9" * 5000 + "}", "not JSON"),
        ("\0\0\0", "not JSON"),
    ],
)
def test_a_bad_line_is_one_finding_and_the_others_are_read(line: str, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"x": 1}, "", line, {"x": NAN})
    report = datacheck.scan(path)
    bad, nan = sorted(report.findings, key=lambda one: one.code, reverse=True)
    assert (bad.code, bad.num_violations, bad.examples[0].row, bad.examples[0].line) == ("DC305", 1, 1, 3)
    assert problem in bad.detail
    assert (nan.code, nan.examples[0].row, nan.examples[0].line) == ("DC101", 2, 4)
    assert report.num_rows == 3


def test_one_reason_is_not_said_of_all_bad_lines(tmp_path: Path) -> None:
    (finding,) = datacheck.scan(write(tmp_path / "x.jsonl", {"x": 1}, "[1, 2]", "not JSON")).findings
    assert finding.message.startswith("2 of 3 records are not valid, the first: expected an object, got a list (")


def test_a_value_of_another_type_is_named_and_the_others_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"x": 1}, {"x": "NaN"}, {"x": [2]}, {"x": NAN}, {"x": True})
    assert found(path) == {("DC012", "x"): (3, [1, 2, 4]), ("DC101", "x"): (1, [3])}
    message = datacheck.scan(path).findings[0].message
    assert "3 of 5 values in 'x' are of another type: lists and booleans and strings among numbers" in message


def test_integers_are_exact_and_floats_are_as_wide_as_the_schema_says(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"i": 2**63, "b": 10**30, "f": 1e39}, {"i": 1, "b": -1, "f": 1})
    (batch,) = read_batches(inspect(path))
    values = {column.name: column.data.to_pylist() for column in batch.columns}  # type: ignore[union-attr]
    assert values == {"i": [2**63, 1], "b": [10**30, -1], "f": [1e39, 1.0]}
    assert found(path) == {}
    assert found(path, {"fields": {"f": {"dtype": "float32"}}}) == {("DC102", "f"): (1, [0])}


def test_times_are_text_until_a_schema_says_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"t": "2020-01-01T00:00:00"}, {"t": "soon"})
    assert found(path) == {}
    assert ("DC003", "t") in found(path, {"fields": {"t": {"dtype": "timestamp[s]"}}})


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"x": 1}\r\n\r\n{"x": NaN}\r\n')
    assert found(path) == {("DC101", "x"): (1, [1])}


def test_lines_that_are_no_objects_are_one_column(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [1, 2], [NAN], None)
    assert found(path) == {("DC101", "value[]"): (1, [1]), ("DC105", "value"): (1, [2])}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a,b\n1,2\n3,4\n", "none of its first 3 lines is JSON"),
        (b'[\n {"x": 1},\n {"x": 2}\n]\n', "a list over several lines"),
        ('{"x": 1}\n'.encode("utf-16"), "UTF-16"),
        (bytes(100), "zero bytes"),
    ],
)
def test_a_file_that_is_no_json_lines_is_refused_as_a_whole(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(SourceError, match=problem) as caught:
        inspect(tmp_path / "x.jsonl")
    assert caught.value.code == "DC901"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_truncated_compressed_file_is_said_to_be(suffix: str, tmp_path: Path) -> None:
    content = b"".join(b'{"x": %d}\n' % random.Random(7).randrange(10**9) for _ in range(20_000))
    packed = gzip.compress(content) if suffix == ".gz" else pa.compress(content, "zstd", asbytes=True)
    whole = tmp_path / f"whole.jsonl{suffix}"
    whole.write_bytes(packed + packed)
    assert sum(batch.num_rows for batch in read_batches(inspect(whole))) == 40_000
    cut = tmp_path / f"cut.jsonl{suffix}"
    cut.write_bytes(packed[: len(packed) // 2])
    assert [one.code for one in datacheck.scan(cut).findings] == ["DC901"]


def test_a_long_line_is_one_finding_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datacheck.sources.json_lines.MAX_LINE_BYTES", 3000)
    monkeypatch.setattr("datacheck.sources.json_lines.BLOCK_BYTES", 1000)
    path = write(tmp_path / "x.jsonl", {"x": 1}, {"x": "a" * 10_000}, {"x": NAN}, {"x": "b" * 5000})
    assert found(path) == {("DC305", None): (2, [1, 3]), ("DC101", "x"): (1, [2])}


def test_records_with_few_keys_in_common_take_memory_by_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_columns, "MAX_SLOTS", 5000)
    path = write(tmp_path / "x.jsonl", *({f"k{index}": float(index), "z": NAN} for index in range(300)))
    batches = read_batches(inspect(path))
    assert all(len(batch.columns) * batch.num_rows <= 5000 for batch in batches)
    assert sum(batch.num_rows for batch in batches) == 300
    assert found(path)["DC101", "z"][0] == 300


def test_an_object_with_very_many_keys_is_a_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_columns, "MAX_STRUCT_KEYS", 10)
    path = write(
        tmp_path / "x.jsonl", *({"m": {f"k{row}{index}": float(index) for index in range(9)}} for row in range(9))
    )
    assert found(path) == {}
    write(path, {"m": {f"k{index}": 1.0 for index in range(11)}}, {"m": {"bad": NAN}})
    assert found(path) == {("DC101", "m[].value"): (1, [1])}


# Lists


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_is_cut_into_its_elements_wherever_its_blocks_end(step: int, indent: int | None) -> None:
    values = [{"a": 'x"]\\', "b": [1, {"c": "},{"}]}, [], {}, "a,b", 5, None, {"\\": '\\"'}]
    text = json.dumps(values, indent=indent).encode()
    blocks = (text[start : start + step] for start in range(0, len(text), step))
    elements = [json.loads(line) for block in read_elements(blocks, 10**6, is_list=True) for line in block.lines()]
    assert elements == values


@pytest.mark.parametrize(
    ("content", "rows"), [("[]", 0), ("[ ]\n", 0), ('{"a": 1}', 1), ('[{"a": 1}]', 1), ('{"a": 1}\n{"a": 2}\n', 2)]
)
def test_a_json_file_is_a_list_or_lines_or_one_record(content: str, rows: int, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    assert sum(batch.num_rows for batch in read_batches(inspect(tmp_path / "x.json"))) == rows


def test_a_list_that_is_cut_off_is_a_finding_and_its_elements_are_read(tmp_path: Path) -> None:
    text = json.dumps([{"x": 1.0}, {"x": NAN}, {"x": 2.0}])
    (tmp_path / "x.json").write_text(text[:-4])
    assert found(tmp_path / "x.json") == {("DC101", "x"): (1, [1]), ("DC305", None): (1, [2])}
    (tmp_path / "x.json").write_text(text + " [1]")
    assert found(tmp_path / "x.json") == {("DC101", "x"): (1, [1]), ("DC305", None): (1, [3])}


def test_descriptions_in_a_folder_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"x": 1})
    (tmp_path / "config.json").write_text(json.dumps([{"x": NAN}]))
    (tmp_path / "notes.json").write_text(json.dumps({"x": NAN}, indent=1))
    (tmp_path / "names.json").write_text(json.dumps(["cat", "dog"]))
    assert {code for code, _ in found(tmp_path)} == {"DC913"}
    (tmp_path / "more.json").write_text(json.dumps([{"x": NAN}]))
    assert ("DC101", "x") in found(tmp_path)


# An oracle

VALUES: list[Any] = [1.5, -2.0, NAN, INF, -INF, None, 3]


def make_records(choose: random.Random, count: int) -> Iterator[str]:
    for _ in range(count):
        kind = choose.random()
        if kind < 0.05:
            yield choose.choice(["", "  ", "\t"])
        elif kind < 0.1:
            yield choose.choice(["{", "nope", '{"x": }', "[1]"])
        else:
            record: dict[str, Any] = {"text": choose.choice(["a", "\u00e9\n", 'say "x":'])}
            if choose.random() < 0.9:
                record["x"] = choose.choice(VALUES)
            if choose.random() < 0.9:
                record["l"] = [choose.choice(VALUES) for _ in range(choose.randrange(4))]
            yield json.dumps(record, ensure_ascii=choose.random() < 0.5)


def count_of(lines: list[str]) -> tuple[Counter[tuple[str, str | None]], dict[tuple[str, str | None], list[int]]]:
    """What a scan must find, by Python's own parser: violations and the rows that have them."""
    counts: Counter[tuple[str, str | None]] = Counter()
    rows: dict[tuple[str, str | None], list[int]] = {}

    def add(code: str, field: str | None, row: int) -> None:
        counts[code, field] += 1
        if row not in (of_code := rows.setdefault((code, field), [])):
            of_code.append(row)

    def add_value(field: str, value: Any, row: int) -> None:
        if value is None:
            add("DC104", field, row)
        elif math.isnan(value):
            add("DC101", field, row)
        elif math.isinf(value):
            add("DC102" if value > 0 else "DC103", field, row)

    for row, line in enumerate(line for line in lines if line.strip()):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            add("DC305", None, row)
            continue
        for field in ("x", "l"):
            if field not in record:
                add("DC108", field, row)
        if "x" in record:
            add_value("x", record["x"], row)
        for value in record.get("l", ()):
            add_value("l[]", value, row)
    return counts, rows


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_random_files_give_what_pythons_parser_gives_for_any_units_and_workers(
    seed: int, packed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ['{"text": "first", "x": 1, "l": []}', *make_records(random.Random(seed), 400)]
    content = "\n".join(lines).encode()
    path = tmp_path / f"x.jsonl{packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    counts, rows = count_of(lines)
    shrink_units(monkeypatch, 4096, 1500)
    for workers in (1, 4):
        report = datacheck.scan(path, workers=workers)
        assert report.num_rows == sum(bool(line.strip()) for line in lines)
        assert {(one.code, one.field): one.num_violations for one in report.findings} == counts
        for one in report.findings:
            examples = list(dict.fromkeys(example.row for example in one.examples))
            expected = rows[one.code, one.field]
            # Which records lack a key that all of a batch lack is only counted.
            assert set(examples) <= set(expected) if one.code == "DC108" else examples == expected[: len(examples)]
            numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
            assert all(example.line == numbers[example.row or 0] for example in one.examples)


# Cleaning


def read_lines(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.rglob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]


@pytest.mark.parametrize("workers", [1, 4])
def test_kept_lines_are_copied_byte_for_byte_and_the_others_accounted_for(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = random.Random(3)
    lines = ['{"text":   "first", "x": 1, "l": []}', *make_records(choose, 300)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    shrink_units(monkeypatch, 4096, 1500)
    rules = [
        {"action": "drop_row", "codes": ["DC101", "DC102", "DC103", "DC104"], "fields": "x"},
        {"action": "report", "codes": ["DC1"]},
    ]
    report = datacheck.run(write_pipeline(tmp_path, "in", rules), workers=workers)
    filled = [line for line in lines if line.strip()]
    _, rows = count_of(lines)
    bad = set(rows["DC305", None])
    dropped = {row for (code, field), some in rows.items() if field == "x" and code != "DC108" for row in some}
    assert list(report.totals().values()) == [len(filled), len(filled) - len(bad | dropped), len(dropped), len(bad)]
    kept = [f"{line}\n".encode() for row, line in enumerate(filled) if row not in bad | dropped]
    assert read_lines(tmp_path / "out" / "data") == kept or read_lines(tmp_path / "out") == kept


@pytest.mark.parametrize(("codes", "num_kept"), [("DC1", 2), (["DC1", "DC108"], 1)])
def test_a_rule_for_a_prefix_leaves_records_that_lack_a_key(codes: object, num_kept: int, tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", '{"x": 1.0, "note": "a"}', '{"x": NaN, "note": "b"}', '{"x": 2.0}')
    report = datacheck.run(write_pipeline(tmp_path, ["x.jsonl"], [{"action": "quarantine", "codes": codes}]))
    assert [report.totals()[name] for name in ("num_kept", "num_quarantined")] == [num_kept, 3 - num_kept]


def test_a_repaired_line_keeps_what_was_not_repaired(tmp_path: Path) -> None:
    lines = [
        '{"id": 12345678901234567890123, "x": NaN, "m": {"a": 1.0, "s": null}, "t": "\u00e9"}',
        '{"id":1,"x":2,  "m": {}}',
        '{"id": 2, "m": {"s": NaN, "o": "k"}}',
    ]
    write(tmp_path / "x.jsonl", *lines)
    rules = [
        {"action": "impute", "strategy": "constant", "value": 0.5, "fields": ["x", "m.s"], "codes": ["DC101", "DC104"]},
    ]
    assert datacheck.run(write_pipeline(tmp_path, ["x.jsonl"], rules)).ok
    assert [line.decode() for line in read_lines(tmp_path / "out")] == [
        '{"id": 12345678901234567890123, "x": 0.5, "m": {"a": 1.0, "s": 0.5}, "t": "\u00e9"}\n',
        f"{lines[1]}\n",
        '{"id": 2, "m": {"s": 0.5, "o": "k"}}\n',
    ]


def test_dropped_fields_leave_the_line_and_quarantined_records_are_whole(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", {"a": 1, "b": 2}, {"a": "x", "b": 3}, {"a": 4})
    rules = [{"action": "drop_field", "fields": "b"}]
    datacheck.run(write_pipeline(tmp_path, ["x.jsonl"], rules))
    assert read_lines(tmp_path / "out") == [b'{"a": 1}\n', b'{"a": 4}\n']
    aside = quarantine_of(tmp_path / "out")
    assert aside is not None
    assert aside["record"].to_pylist() == [b'{"a": "x", "b": 3}\n']


def test_an_inferred_schema_accepts_what_it_was_inferred_from(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.jsonl",
        *({"a": index, "m": {"s": index / 2}, **({"o": "x"} if index % 2 else {})} for index in range(20)),
    )
    assert found(path, datacheck.infer(path)) == {}


def test_a_batch_that_is_cut_keeps_what_is_absent_where_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"l": [{"a": 1}, {}]}, {"l": [{}]}, {"l": []}, {"l": [{"a": None}]})
    (batch,) = read_batches(inspect(path))

    def absent(part: Batch) -> list[bool]:
        leaf = next(leaf for leaf in part.columns[0].leaves() if leaf.path == "l[].a")
        return [] if leaf.absent is None else leaf.absent.tolist()

    assert absent(batch) == [False, True, True, False]
    assert absent(batch.take(np.array([1, 3]))) == [True, False]
    assert absent(batch.slice(0, 2)) == [False, True, True]
    assert [fault.rows.tolist() for fault in batch.take(np.array([1, 3])).faults] == [[0]]


def test_only_wanted_keys_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"a": 1, "b": NAN}, {"b": 2})
    (batch,) = read_batches(inspect(path, ReadOptions(columns=("a",))))
    assert batch.names == ["a"]


def test_keys_that_never_repeat_are_refused_before_they_take_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.json_lines.MAX_KEYS", 200)
    path = write(tmp_path / "x.jsonl", *({f"k{index}": 1} for index in range(300)))
    assert [one.code for one in datacheck.scan(path).findings] == ["DC904"]
    monkeypatch.setattr(json_columns, "MAX_PATHS", 500)
    path = write(tmp_path / "y.jsonl", {f"k{row}": {f"x{index}": 1 for index in range(20)} for row in range(30)})
    assert [one.code for one in datacheck.scan(path).findings] == ["DC904"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.json"])
def test_a_large_file_is_read_in_bounded_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.dumps({"text": "x" * 300, "v": [0.5] * 20})
    lines = f"{record}\n" * 20_000 if name != "x.json" else "[" + f"{record},\n" * 19_999 + f"{record}]"
    content = lines.encode()
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    shrink_units(monkeypatch, 1 << 20, 1 << 16)
    source, info = get_source(name.split(".")[1]), inspect(tmp_path / name)
    tracemalloc.start()
    assert sum(batch.num_rows for unit in info.units for batch in source.read(unit)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(content) / 4


@pytest.mark.parametrize("lines", [[[], []], [[{"x": 1}], [], []], [[], [{"x": 1}]]])
def test_empty_lists_have_no_objects_that_lack_a_key(
    lines: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch, 16)
    path = tmp_path / "boxes.jsonl"
    path.write_text("\n".join(json.dumps({"boxes": boxes}) for boxes in lines))
    schema = {"fields": {"boxes[].x": {"ge": 0}}}
    assert not datacheck.scan(path, schema=schema).findings
    path.write_text(path.read_text() + "\n" + json.dumps({"boxes": [{"y": 1}]}))
    assert "DC107" in {finding.code for finding in datacheck.scan(path, schema=schema).findings}


@pytest.mark.parametrize("first", [0, 8], ids=["from the first line", "after the first block"])
@pytest.mark.parametrize(("value", "other"), [(1.5, "x"), ([1], 1), ({"y": 1}, "x"), (True, 0)])
def test_a_type_that_changes_with_a_unit_is_found(
    first: int, value: object, other: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch, 512, 256)
    path = tmp_path / "x.jsonl"
    records = [{"x": None if number < first else value, "z": f"{number:020}"} for number in range(40)]
    units = inspect(write(path, *records)).units
    changed = units[1].row_start
    records[changed:] = [{"x": other, "z": record["z"]} for record in records[changed:]]
    assert inspect(write(path, *records)).units[1].row_start == changed
    found = {one.field: one for one in datacheck.scan(path).findings if one.code == "DC012"}
    counts = (changed - first, len(records) - changed)
    assert {name: one.num_violations for name, one in found.items()} == {"x": counts[1] if not first else min(counts)}
    assert found["x"].num_checked == sum(counts)


@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
def test_values_of_another_type_are_found_however_the_file_is_cut_into_batches(
    block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.json_lines.BLOCK_BYTES", block_bytes)
    records = [{"x": number if number < 30 else str(number), "m": {"y": [1.5]}} for number in range(50)]
    # The last line has no line end.
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, [*records, {"x": {}, "m": {"y": ["z"]}}])))
    found = {one.field: one.num_violations for one in datacheck.scan(tmp_path / "x.jsonl").findings}
    assert found == {"x": 21, "m.y[]": 1}
