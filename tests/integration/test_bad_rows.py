"""``datacheck rows`` prints exactly the rows that NumPy finds, and reads no further than it has to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from job_files import run_command, write_table

import datacheck
from datacheck.errors import SourceError, UsageError
from datacheck.findings import Finding
from datacheck.jobs.bad_rows import find_bad_rows


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, np.ndarray]:
    generator = np.random.default_rng(4)
    values = generator.random(3_000).astype(np.float32)
    values[generator.random(3_000) < 0.02] = np.nan
    table = pa.table({"n": np.arange(3_000), "x": values, "list": pa.array([[1.0, np.nan]] + [[2.0]] * 2_999)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=500)
    return tmp_path / "x.parquet", values


def test_it_finds_the_rows_of_numpy(data: tuple[Path, np.ndarray]) -> None:
    path, values = data
    found = list(find_bad_rows([path], codes=["DC101"], fields=["x"]))
    assert [one.row for one in found] == np.flatnonzero(np.isnan(values)).tolist()
    assert {one.values["x"] for one in found} == {"nan"}
    assert all(one.values["n"] == str(one.row) for one in found)


def test_a_row_with_several_violations_is_one(data: tuple[Path, np.ndarray]) -> None:
    path, values = data
    rule = {
        "version": 1,
        "fields": {"x": {"le": 0.5}, "n": {}, "list": {}},
        "checks": [{"expr": "n != 0", "name": "zero"}],
    }
    found = {one.row: one.found for one in find_bad_rows([path], rule)}
    assert set(found[0]) >= {("DC101", "list[]"), ("DC302", "zero")}
    expected = np.flatnonzero(np.isnan(values) | (values > 0.5))
    assert sorted(found) == sorted({0, *expected.tolist()})


def test_only_as_much_is_read_as_is_asked_for(data: tuple[Path, np.ndarray]) -> None:
    path, _ = data
    (path.parent / "y.parquet").write_bytes(b"PAR1 not a file")
    found = find_bad_rows([path, path.parent / "y.parquet"])
    assert next(found).row == 0


def test_a_prefix_stands_for_its_codes_about_rows(data: tuple[Path, np.ndarray]) -> None:
    path, values = data
    found = [one.row for one in find_bad_rows([path], codes=["DC1"])]
    assert found == sorted({0, *np.flatnonzero(np.isnan(values)).tolist()})


@pytest.mark.parametrize("code", ["DC999", "DC301", "DC004", "DC0"])
def test_a_code_that_is_not_about_rows_is_an_error(code: str, data: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(UsageError, match=code):
        list(find_bad_rows([data[0]], codes=[code]))


@pytest.mark.slow
def test_the_command_prints_a_table_or_json_lines(data: tuple[Path, np.ndarray]) -> None:
    path, values = data
    done = run_command("rows", path.name, "--field", "x", "--limit", "3", cwd=path.parent)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["file", "row", "found", "x", "n", "list"]
    assert [int(line.split()[1]) for line in lines[1:4]] == np.flatnonzero(np.isnan(values))[:3].tolist()
    assert lines[4] == "the first 3; --limit 0 prints all"
    done = run_command("rows", path.name, "--field", "x", "--limit", "0", "--format", "jsonl", cwd=path.parent)
    rows = [json.loads(line)["row"] for line in done.stdout.splitlines()]
    assert rows == np.flatnonzero(np.isnan(values)).tolist()


def test_hostile_names_and_values_are_escaped(tmp_path: Path) -> None:
    write_table(tmp_path / "x.parquet", {"\x1b[31m": np.array([np.nan]), "t": ["\x1b]0;gone\x07"]})
    done = run_command("rows", "x.parquet", cwd=tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout


def test_clean_data_has_no_bad_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "x.parquet", {"x": np.ones(3)})
    done = run_command("rows", "x.parquet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "no bad rows\n")


def test_lines_of_text_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x,y\n1,2\n,4\n")
    done = run_command("rows", "x.csv", cwd=tmp_path)
    assert done.stdout.splitlines()[1].split()[:4] == ["x.csv", "1", "3", "DC104"]


@pytest.mark.parametrize(
    ("name", "content", "schema", "expected"),
    [
        ("x.csv", b"x,y\n1,2\n1,2,3\n,4\n1\n", None, [(1, "DC305"), (2, "DC104"), (3, "DC305")]),
        ("x.csv", b"x,y\n-,2\n", {"fields": {"x": {"dtype": "float64"}}, "missing": ["-"]}, [(0, "DC104")]),
        ("x.jsonl", b'{"x": NaN}\n{"x": \n{"x": 1}\n', None, [(0, "DC101"), (1, "DC305")]),
        ("x.jpg", b"<html>", None, [(0, "DC601")]),
        ("x.parquet", [b"\x89PNG\r\n\x1a\n", b"<html>"], None, [(0, "DC601"), (1, "DC601")]),
    ],
)
def test_it_finds_what_a_scan_finds(
    name: str, content: Any, schema: Any, expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    pytest.importorskip("PIL")
    path = tmp_path / name
    if isinstance(content, list):
        write_table(path, {"image": content})
    else:
        path.write_bytes(content)
    found = [(one.row, code) for one in find_bad_rows(path, schema) for code, _ in one.found]
    assert found == expected
    assert {one.code for one in datacheck.scan(path, schema).findings} == {code for _, code in expected}
    only = expected[0][1]
    assert [one.row for one in find_bad_rows(path, schema, codes=[only])] == [
        row for row, code in found if code == only
    ]


@pytest.mark.parametrize(("field", "is_clean"), [((), False), (("--field", "u"), False), (("--field", "x"), True)])
def test_what_could_not_be_checked_is_said_and_fails(field: tuple[str, ...], is_clean: bool, tmp_path: Path) -> None:
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1.0, 2.0]), pa.array(["a", "b"])])
    batch = pa.record_batch([union, pa.array([1.0, 2.0])], names=["u", "x"])
    with pa.ipc.new_file(tmp_path / "x.arrow", batch.schema) as writer:
        writer.write_batch(batch)
    done = run_command("rows", "x.arrow", *field, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (
        (0, "no bad rows\n") if is_clean else (1, "no bad rows in what could be checked\n")
    )
    assert ("DC005 'u' could not be checked" in done.stderr) is not is_clean


def test_rows_are_found_beside_what_cannot_be_read(data: tuple[Path, np.ndarray]) -> None:
    path, values = data
    damaged = path.parent / "a.parquet"
    pq.write_table(pq.read_table(path), damaged, row_group_size=500, write_page_checksum=True, compression="none")
    content = bytearray(damaged.read_bytes())
    content[pq.ParquetFile(damaged).metadata.row_group(2).column(1).data_page_offset + 500] ^= 1
    damaged.write_bytes(content)
    (path.parent / "b.npy").write_bytes(b"not an array")
    unchecked: list[Finding] = []
    found = list(find_bad_rows([damaged, path.parent / "b.npy", path], fields=["x"], unchecked=unchecked))
    expected = np.flatnonzero(np.isnan(values)).tolist()
    assert [one.row for one in found if one.uri == str(path)] == expected
    assert [one.row for one in found if one.uri != str(path)] == [row for row in expected if row // 500 != 2]
    assert [one.code for one in unchecked] == ["DC901", "DC901"]
    assert "row group 2, column 'x'" in unchecked[0].message


def test_what_nobody_foresaw_names_the_file(data: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("of a library")

    monkeypatch.setattr("datacheck.jobs.bad_rows.coerce_batch", fail)
    with pytest.raises(SourceError, match=r"x\.parquet.*ZeroDivisionError"):
        list(find_bad_rows([data[0]]))


@pytest.mark.parametrize(("name", "text"), [("x.jsonl", "\n".join), ("x.json", lambda lines: f"[{', '.join(lines)}]")])
def test_values_of_another_type_are_shown_as_they_are(name: str, text: Any, tmp_path: Path) -> None:
    records = [{"x": number if number < 50 else f"word {number - 50}", "m": {"y": 1}} for number in range(90)]
    (tmp_path / name).write_text(text(map(json.dumps, [*records, {"x": 1, "m": {"y": "z"}}])))
    found = list(find_bad_rows(tmp_path / name))
    assert [one.row for one in found] == list(range(50, 91))
    assert [one.values["x"] for one in found] == [*(f"word {number}" for number in range(40)), "1"]
    assert found[-1].values["m"] == "{'y': 'z'}"


@pytest.mark.parametrize("is_wrong", [True, False])
def test_errors_in_label_files_are_reported_beside_the_rows(is_wrong: bool, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.arange(48, dtype=np.uint8).reshape(8, 6)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(f"0 0.5 0.5 {1.5 if is_wrong else 0.5} 0.5\n")
    record = {"id": 1, "file_name": "a.png", "width": 9 if is_wrong else 6, "height": 8}
    (tmp_path / "a.json").write_text(json.dumps({"images": [record], "annotations": [], "categories": []}))
    done = run_command("rows", tmp_path)
    assert (done.returncode, done.stdout.strip()) == (int(is_wrong), "no bad rows")
    if is_wrong:
        assert "label files have errors, which are in no row:" in done.stderr
        assert "a.txt:1" in done.stderr
        assert "9 x 8 pixels" in done.stderr
        assert "what could not be read" not in done.stderr
        done = run_command("rows", tmp_path, "--where", "DC601")
    assert (done.returncode, done.stderr) == (0, "")
