"""Reports as text, and their round trip through files."""

from __future__ import annotations

import json
import re

import pytest

from datacheck.findings import Example, Finding
from datacheck.reports.accounts import InputAccount, RepairTotal
from datacheck.reports.formats import render
from datacheck.reports.report import Report
from datacheck.reports.run_report import RunReport
from datacheck.reports.text import format_size, render_finding

NAN = Finding("DC101", "train.parquet", "x", 3, 4096, tuple(Example(row, 2, (), "nan") for row in (17, 90, 91)))
EMPTY = Finding("DC306", "empty.npy", None, 1, 1, detail="look at what wrote it")
BROKEN = Finding("DC901", "b.parquet", None, 1, 1, detail="its magic is wrong; write it again")


def test_a_finding_is_one_line_with_code_counts_and_location() -> None:
    line = "DC101 3 of 4,096 values are NaN in 'x' (train.parquet, row group 2, rows 17, 90, 91)"
    assert render_finding(NAN) == line
    assert render_finding(EMPTY).startswith("DC306 warning: ")


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (Report((), 1, 1, 10, 2.0), "no findings in 1 file, 1 row, 10 bytes (2.00 s, 5 bytes/s)"),
        (Report((NAN,), 2, 4096, 1536, 0.0), "1 error in 2 files, 4,096 rows, 1.5 KiB (0.00 s)"),
        (Report((EMPTY,), 1, 0, 3, 0.0), "0 errors, 1 warning in 1 file, 0 rows, 3 bytes (0.00 s)"),
        (Report((NAN, BROKEN, EMPTY), 3, 5, 3, 0.0), "2 errors, 1 warning in 3 files, 5 rows, 3 bytes (0.00 s)"),
    ],
)
def test_a_report_ends_with_a_summary(report: Report, text: str) -> None:
    assert report.summary() == text
    has_rows = any(example.row is not None for finding in report.findings for example in finding.examples)
    assert str(report).splitlines()[-1] == text + ("; rows are counted from 0" if has_rows else "")
    assert len(str(report).splitlines()) == len(report.findings) + 1


def test_only_errors_make_a_report_not_ok() -> None:
    assert Report((EMPTY,)).ok
    assert not Report((EMPTY, NAN)).ok


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (9 << 50, "9,216.0 TiB"),
    ],
)
def test_sizes_have_units(size: int, words: str) -> None:
    assert format_size(size) == words


def account(split: str, status: str = "cleaned", **counts: int) -> InputAccount:
    outputs = [{"path": f"{split}/x.npy", "kind": "rows", "num_rows": 1, "row_start": 0, "num_read": 1, "num_bytes": 1}]
    repairs = [RepairTotal("impute", "x", 2), RepairTotal("clip", None, 1)]
    return InputAccount(split, f"{split}.npy", status, None, [], **counts, repairs=repairs, outputs=outputs)


def run_report(**changes: object) -> RunReport:
    accounts = (
        account("train", num_read=10, num_kept=7, num_dropped=2, num_quarantined=1),
        account("train", num_read=5, num_kept=5),
        account("val", num_read=1000, num_kept=1000),
    )
    values = {"findings": (NAN,), "num_files": 3, "num_rows": 1015, "num_bytes": 1 << 20, "seconds": 1.0}
    return RunReport(**{**values, "name": "n", "output": "out", "accounts": accounts, **changes})  # type: ignore[arg-type]


def test_a_run_shows_where_the_rows_of_each_split_went() -> None:
    lines = str(run_report()).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("train ", "val ", "all "))}
    assert rows == {
        "train": ["15", "12", "2", "1"],
        "val": ["1,000", "1,000", "0", "0"],
        "all": ["1,015", "1,012", "2", "1"],
    }
    assert "values repaired by impute: x 6" in lines
    assert "values repaired by clip: the array 3" in lines
    assert lines[-1] == "published to out: 3 files, 1,012 rows, 3 bytes (1.00 s)"


def test_a_run_sums_findings_by_field_and_lists_broken_files() -> None:
    other = Finding("DC101", "val.parquet", "x", 4, 100, ())
    shown = str(run_report(findings=(NAN, BROKEN, other)))
    assert "DC901 cannot be read: its magic is wrong; write it again (b.parquet)" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("DC101")]
    assert line.split() == ["DC101", "nan", "x", "7", "4,196", "2", "files"]


def test_a_run_sums_unconvertible_values_and_lists_unconvertible_columns() -> None:
    values = [Finding("DC003", f"{name}.csv", "x", 2, 50, (Example(7, None, (), "?"),)) for name in "ab"]
    column = Finding("DC003", "c.csv", "x", 1, 1, detail="string where the schema says float32")
    lines = str(run_report(findings=(*values, column))).splitlines()
    (summed,) = [line.split() for line in lines if line.startswith("DC003") and "c.csv" not in line]
    assert summed == ["DC003", "dtype", "x", "4", "100", "2", "files"]
    assert any("c.csv" in line for line in lines)


def test_a_run_with_violations_left_or_unread_inputs_is_not_ok() -> None:
    left = account("train", num_read=1, num_kept=1)
    left.left_by_code.update({"DC202": 3})
    report = run_report(accounts=(left,))
    assert not report.ok
    assert "left in the output by a report rule: DC202 3" in str(report)
    report = run_report(accounts=(account("train"), account("val", "unreadable")))
    assert not report.ok
    assert "1 input could not be read and left out of the output" in str(report)
    report = run_report(accounts=(), failed={"DC101": 5})
    assert not report.ok
    assert "stopped by a fail rule (DC101 5)" in str(report)
    assert "nothing was published" in str(report)


def test_a_run_that_resolved_all_findings_is_ok() -> None:
    assert run_report().ok


@pytest.mark.parametrize("format_", ["sarif", "junit", "github", "gitlab", "markdown"])
@pytest.mark.parametrize("code", ["DC101", "DC202"])
def test_ci_formats_have_errors_exactly_if_the_run_is_not_ok(format_: str, code: str) -> None:
    one = account("train", num_read=4, num_kept=4)
    found = (Finding("DC101", "train.npy", "x", 3, 4), Finding("DC202", "x.npy", "x", 3, 4))
    pair = InputAccount("val", "pair", "cleaned", {"a": "x.npy", "b": "y.npy"})
    done = run_report(findings=found, accounts=(one, pair))
    (pair if code == "DC202" else one).left_by_code[code] = 3
    left = run_report(findings=found, accounts=(one, pair))
    stopped = run_report(findings=found, accounts=(), failed={code: 3})
    unread = run_report(findings=(Finding("DC901", "train.npy"),), accounts=(account("train", "unreadable"),))
    assert [report.ok for report in (left, stopped, unread)] == [False] * 3
    marks = {
        "sarif": r'"level": "error",',
        "junit": r"<failure ",
        "github": r"^::error",
        "gitlab": r'"severity": "critical"',
        "markdown": r"^\| DC\d{3} [a-z-]+ \|",
    }

    def num_errors(report: RunReport) -> int:
        return len(re.findall(marks[format_], render(report, format_), re.MULTILINE))

    assert num_errors(left) == 1
    assert num_errors(stopped) == 2
    assert num_errors(unread) == 1
    (pair if code == "DC202" else one).left_by_code.clear()
    assert num_errors(done) == 0
    assert json.loads(render(done, "json"))["findings"][0]["severity"] == "error"


def test_a_run_report_round_trips_through_its_manifest() -> None:
    report = run_report()
    manifest = report.to_manifest("sha256:0", {"fields": {}}, None)
    assert report.to_manifest("sha256:0", {"fields": {}}, None) == manifest
    read = RunReport.from_manifest(json.loads(manifest), "out")
    assert (read.findings, read.accounts, read.totals()) == (report.findings, report.accounts, report.totals())
    assert not read.is_new
    assert "nothing to do: the output of these inputs is already in out" in str(read)


def test_names_from_data_are_escaped_in_text() -> None:
    evil = "\x1b[31m\n\u202e"
    finding = Finding("DC302", evil, evil, 1, 1, (Example(0, 0, (), evil),), rule=evil, detail=evil)
    spoiled = account("train", num_read=1, num_kept=1)
    spoiled.repairs.append(RepairTotal("impute", evil, 1))
    for report in (Report((finding,)), run_report(findings=(finding,), accounts=(spoiled,), output=evil)):
        assert not {"\x1b", "\u202e"} & set(str(report))
        assert json.loads(report.to_json(), parse_constant=pytest.fail)["findings"][0]["uri"] == evil


def test_findings_are_a_table_of_arrow_and_of_pandas() -> None:
    hostile = Finding("DC101", "b\udcff.parquet", None, 1, 2, (Example(None, None, (3,), "nan"),))
    table = Report((NAN, EMPTY, hostile)).to_arrow()
    assert table["code"].to_pylist() == ["DC101", "DC306", "DC101"]
    assert table["rows"].to_pylist() == [[17, 90, 91], [], []]
    assert table["values"].to_pylist() == [["nan"] * 3, [], ["nan"]]
    assert table["uri"].to_pylist()[2] == "b\\udcff.parquet"
    assert table["severity"].to_pylist() == ["error", "warning", "error"]
    frame = Report((NAN, EMPTY, hostile)).to_pandas()
    assert list(frame.columns) == table.column_names == list(Report().to_pandas().columns)
    assert frame["num_violations"].tolist() == [3, 1, 1]
    assert frame["field"].tolist() == ["x", None, None]
    assert frame.loc[0, "rows"] == [17, 90, 91]
    assert Report().to_arrow().schema == table.schema
