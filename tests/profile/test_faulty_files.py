"""What is wrong with the files themselves is said by everything that reads them, not only by a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from job_files import run_command, write_table

import datacheck
from datacheck.findings import Finding
from datacheck.profile.infer.infer import infer_with_notes

pytest.importorskip("scipy")

#: One word among numbers, and one line that is no row. All numbers differ, so that nothing leaks.
CSV = "a,b\n{0}1,{0}.5\n{0}2\n{0}3,calm\n{0}4,{0}4.5\n"


def listed(findings: Sequence[Finding]) -> set[tuple[str, str, str | None, int, int]]:
    return {
        (one.code, Path(one.uri).name, one.field, one.num_violations, one.num_checked)
        for one in findings
        if one.code in ("DC007", "DC012", "DC305", "DC316", "DC317", "DC911", "DC913")
    }


def write_faulty(folder: Path, first: int) -> Path:
    """Text, JSON with a value of another type, shards of which one is missing, a file that lacks a field, an odd file."""
    folder.mkdir()
    (folder / "text.csv").write_text(CSV.format(first))
    lines = [f'{{"n": {first + number}}}\n' for number in range(5)]
    (folder / "lines.jsonl").write_text("".join([*lines, '{"n": "many"}\n']))
    for number in (0, 2):
        columns = {"x": np.arange(3.0) + first + 100 * number, "y": np.arange(3) + first}
        write_table(folder / f"part-{number:05}-of-00003.parquet", columns)
    for number in range(4):
        columns = {"p": np.arange(3) + first + 10 * number, "q": np.arange(3.0) - first - 10 * number}
        if number == 1:
            del columns["q"]
        write_table(folder / "tables" / f"{number}.parquet", columns)
    (folder / "notes.pkl").write_bytes(b"x")
    return folder


def test_infer_and_compare_say_what_a_scan_says_of_the_files(tmp_path: Path) -> None:
    train, test = write_faulty(tmp_path / "train", 1000), write_faulty(tmp_path / "test", 7000)
    expected = listed(datacheck.scan(train).findings)
    assert {code for code, *_ in expected} == {"DC007", "DC012", "DC305", "DC316", "DC911", "DC913"}
    found = infer_with_notes(train, with_list=True)
    assert listed(found.listed) == expected
    compared = datacheck.compare(train, test, drift=False).findings
    assert listed([one for one in compared if one.uri.startswith(str(train))]) == expected
    assert len(listed([one for one in compared if one.uri.startswith(str(test))])) == len(expected)
    lines = [one.examples[0].line for one in compared if one.code in ("DC007", "DC305")]
    assert lines == [4, 3, 4, 3]


@pytest.mark.slow
def test_the_commands_print_and_fail(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV.format(1))
    (tmp_path / "b.csv").write_text(CSV.format(5))
    done = run_command("compare", "a.csv", "b.csv", "--no-drift", cwd=tmp_path)
    assert done.returncode == 1
    assert "DC007 1 of 3 values in 'b' are not numeric, such as 'calm' (b.csv, row 2, line 4)" in done.stdout
    assert (
        run_command("compare", "a.csv", "b.csv", "--no-drift", "--ignore", "DC007,DC305", cwd=tmp_path).returncode == 0
    )
    done = run_command("schema", "infer", "a.csv", cwd=tmp_path)
    assert "DC007 1 of 3 values in 'b' are not numeric, such as 'calm' (a.csv, row 2, line 4)" in done.stderr


def test_infer_in_python_warns(tmp_path: Path) -> None:
    write_table(tmp_path / "part-00000-of-00002.parquet", {"x": np.arange(3.0)})
    with pytest.warns(UserWarning, match=r"DC911 .*1 of 2 parts is missing: 'part-00001-of-00002.parquet'"):
        datacheck.infer(tmp_path)


def test_words_that_the_schema_takes_for_missing_are_no_findings_of_compare(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV.format(1).replace("12\n", ""))
    (tmp_path / "b.csv").write_text(CSV.format(5).replace("52\n", ""))
    schema = {"missing": ["calm"], "fields": {"b": {"dtype": "float64", "nullable": True}}}
    report = datacheck.compare(tmp_path / "a.csv", tmp_path / "b.csv", drift=False, schema=schema)
    assert report.findings == ()


def test_a_column_of_nulls_has_no_values_that_a_rule_could_judge() -> None:
    table = pa.table({"a": pa.nulls(3)})
    for rule in ({"ge": 1}, {"isin": ["x"]}, {"str_matches": "x"}, {"min_length": 2}, {"not_blank": True}):
        assert datacheck.scan(table, {"fields": {"a": {**rule, "nullable": True}}}).findings == ()
    schema = {"fields": {"a": {"dtype": "float32", "nullable": True, "ge": 0}}}
    assert [one.code for one in datacheck.scan(table, schema).findings] == ["DC003"]


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint16"])
def test_integers_that_are_all_null_have_a_schema(dtype: str) -> None:
    assert datacheck.infer(pa.table({"a": pa.nulls(4, getattr(pa, dtype)())})).fields["a"].dtype == dtype
